use super::*;

#[test]
fn slots_are_expected_twice_as_many_as_source_tokens() {
    let lengths = Limits { source_tokens: 64, target_tokens: 64, has_blanks: false };
    assert_eq!(
        (lengths.estimated_canvas_len(12), lengths.estimated_canvas_len(100), lengths.default_length_beam()),
        (12, 64, 2)
    );
    let slots = Limits { source_tokens: 64, target_tokens: 128, has_blanks: true };
    assert_eq!(
        (slots.estimated_canvas_len(12), slots.estimated_canvas_len(100), slots.default_length_beam()),
        (24, 128, 1)
    );
}
