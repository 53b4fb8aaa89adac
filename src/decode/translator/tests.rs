use super::*;

#[test]
fn slots_are_expected_twice_as_many_as_source_tokens() {
    let lengths = Limits { source_tokens: 64, target_tokens: 64, has_blanks: false };
    assert_eq!((lengths.expected(12), lengths.expected(100), lengths.usual_beam()), (12, 64, 2));
    let slots = Limits { source_tokens: 64, target_tokens: 128, has_blanks: true };
    assert_eq!((slots.expected(12), slots.expected(100), slots.usual_beam()), (24, 128, 1));
}
