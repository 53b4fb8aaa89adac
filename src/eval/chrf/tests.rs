use super::*;
use crate::eval::testing::recorded::CASES;

#[test]
fn chrf_equals_sacrebleu_on_recorded_cases() {
    for case in CASES {
        let chrf = corpus_chrf(case.pairs.iter().copied());
        assert!((chrf - case.chrf).abs() < 1e-9, "{}: {chrf} is not {}", case.name, case.chrf);
    }
}

#[test]
fn white_space_does_not_count_and_nothing_scores_0() {
    assert!((corpus_chrf([("a b  cdefg", "abcdefg")]) - 100.0).abs() < 1e-9);
    assert_eq!(corpus_chrf([("", "abc")]), 0.0);
    assert_eq!(corpus_chrf([]), 0.0);
}

#[test]
fn the_corpus_is_the_sum_of_its_sentences() {
    let sum = ChrfStats::of("ab", "ac") + ChrfStats::of("x", "xy");
    assert_eq!(sum.hypothesis, [3, 1, 0, 0, 0, 0]);
    assert_eq!(sum.reference, [4, 2, 0, 0, 0, 0]);
    assert_eq!(sum.matched, [2, 0, 0, 0, 0, 0]);
}
