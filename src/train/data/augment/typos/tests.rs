use super::*;

fn slipped(slip: Slip, text: &str) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    slip(&mut chars, &mut Rng::from_seed(1));
    chars.into_iter().collect()
}

#[test]
fn each_typo_matches_its_name() {
    assert_eq!(slipped(char_swap, "ab"), "ba");
    assert_eq!(slipped(missing_char, "aa"), "a");
    assert_eq!(slipped(similar_char, "o"), "0");
    assert_eq!(slipped(skipped_space, "a b"), "ab");
    assert_eq!(slipped(random_space, "ab"), "a b");
    assert_eq!(slipped(repeated_char, "1 b"), "1 bb");
    assert_eq!(slipped(unichar, "soon"), "son");
    let nearby = slipped(nearby_char, "Q");
    assert!(["W", "A"].contains(&nearby.as_str()), "{nearby}");
    let extra = slipped(extra_char, "q");
    assert!(["qw", "qa"].contains(&extra.as_str()), "{extra}");
}

#[test]
fn text_without_a_place_for_a_slip_stays() {
    for slip in SLIPS {
        for text in ["", "12 345", "日", "a"] {
            let longer = slipped(slip, text).chars().count().abs_diff(text.chars().count());
            assert!(longer <= 1);
        }
        assert_eq!(slipped(slip, "12 345 - 6"), "12 345 - 6");
        assert_eq!(slipped(slip, ""), "");
    }
}
