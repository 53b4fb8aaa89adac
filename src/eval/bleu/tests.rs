use super::*;
use crate::eval::testing::recorded::{CASES, TOKENS_13A};

#[test]
fn bleu_equals_sacrebleu_on_recorded_cases() {
    for case in CASES {
        let bleu = corpus_bleu(case.pairs.iter().copied());
        assert!((bleu.score - case.bleu).abs() < 1e-9, "{}: {} is not {}", case.name, bleu.score, case.bleu);
    }
}

#[test]
fn tokens_equal_sacrebleus_on_recorded_lines() {
    for (line, tokens) in TOKENS_13A {
        assert_eq!(tokenize_13a(line).join(" "), *tokens, "{line}");
    }
}

#[test]
fn a_perfect_translation_scores_100_and_nothing_scores_0() {
    let text = "The quick brown fox jumps.";
    assert!((corpus_bleu([(text, text)]).score - 100.0).abs() < 1e-9);
    assert_eq!(corpus_bleu([("", text)]).score, 0.0);
    assert_eq!(corpus_bleu([]).score, 0.0);
}

#[test]
fn the_corpus_is_the_sum_of_its_sentences() {
    let one = BleuStats::of("a b c d", "a b c e");
    let two = BleuStats::of("x y", "x z w");
    let sum = one + two;
    assert_eq!(sum.correct, [4, 2, 1, 0]);
    assert_eq!(sum.total, [6, 4, 2, 1]);
    assert_eq!((sum.hypothesis_tokens, sum.reference_tokens), (6, 7));
    assert_eq!(sum.score(), corpus_bleu([("x y", "x z w"), ("a b c d", "a b c e")]));
}
