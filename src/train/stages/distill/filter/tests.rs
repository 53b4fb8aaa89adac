use super::*;
use crate::decode::Hypothesis;

fn found(tokens: &[u32]) -> SearchResult {
    let hypothesis = Hypothesis { tokens: tokens.to_vec(), ..Hypothesis::default() };
    SearchResult { hypothesis, finished: true }
}

fn because(tokens: &[u32], source: usize) -> Option<&'static str> {
    drop_reason(&found(tokens), source, &Settings::default())
}

#[test]
fn each_reason_to_drop_a_translation_has_its_name() {
    let many: Vec<u32> = (10..30).collect();
    assert_eq!(because(&many, 12), None);
    assert_eq!(because(&many, 9), Some("length_ratio"));
    assert_eq!(because(&many[..9], 20), Some("length_ratio"));
    assert_eq!(because(&many[..5], 1), None, "four tokens more are never too many");
    assert_eq!(because(&[], 2), Some("empty"));
    assert_eq!(because(&[7, 8, 9, 10, 5, 7, 8, 9, 10], 9), Some("repeated_ngram"));
    assert_eq!(because(&[7, 7, 7, 7], 4), None);
    assert_eq!(because(&[7, 7, 7, 7, 7], 5), Some("repeated_ngram"));
    let unfinished = SearchResult { finished: false, ..found(&many) };
    assert_eq!(drop_reason(&unfinished, 20, &Settings::default()), Some("unfinished"));
}

#[test]
fn repeats_may_be_allowed() {
    let settings = Settings { repeated_ngram: 0, ..Settings::default() };
    assert_eq!(drop_reason(&found(&[7; 9]), 9, &settings), None);
}
