use super::*;

fn with_typo(typo: Typo, text: &str) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    typo(&mut chars, &mut Rng::from_seed(1));
    chars.into_iter().collect()
}

#[test]
fn each_typo_matches_its_name() {
    assert_eq!(with_typo(char_swap, "ab"), "ba");
    assert_eq!(with_typo(missing_char, "aa"), "a");
    assert_eq!(with_typo(similar_char, "o"), "0");
    assert_eq!(with_typo(skipped_space, "a b"), "ab");
    assert_eq!(with_typo(random_space, "ab"), "a b");
    assert_eq!(with_typo(repeated_char, "1 b"), "1 bb");
    assert_eq!(with_typo(unichar, "soon"), "son");
    let nearby = with_typo(nearby_char, "Q");
    assert!(["W", "A"].contains(&nearby.as_str()), "{nearby}");
    let extra = with_typo(extra_char, "q");
    assert!(["qw", "qa"].contains(&extra.as_str()), "{extra}");
}

#[test]
fn text_without_a_place_for_a_typo_stays() {
    for typo in TYPOS {
        for text in ["", "12 345", "日", "a"] {
            let longer = with_typo(typo, text).chars().count().abs_diff(text.chars().count());
            assert!(longer <= 1);
        }
        assert_eq!(with_typo(typo, "12 345 - 6"), "12 345 - 6");
        assert_eq!(with_typo(typo, ""), "");
    }
}
