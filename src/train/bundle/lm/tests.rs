use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const VOCAB: usize = 14;
const OPTIONS: Options = Options { fusion: Fusion { weight: 0.5, bonus: 2.0, penalty: 1.0 }, prune: 0 };

fn learnt(sentences: &[Vec<u32>], prune: u32) -> LanguageModel {
    let sentences: Vec<Vec<u32>> =
        sentences.iter().map(|inner| [&[1], inner.as_slice(), &[2]].concat()).collect();
    learn(sentences.iter().map(Vec::as_slice), VOCAB, Options { prune, ..OPTIONS }).unwrap()
}

fn prob(lm: &LanguageModel, before: &[u32], token: u32) -> f64 {
    let context = before.iter().fold(lm.start(), |context, &token| lm.next(context, token).1);
    f64::from(lm.next(context, token).0).exp()
}

#[test]
fn probabilities_are_those_of_the_formula_on_a_text_that_is_counted_by_hand() {
    // 7 8 | 7 8 | 9 8: too small a text to estimate discounts from, so they are 0.5, 1 and 1.5.
    let lm = learnt(&[vec![7, 8], vec![7, 8], vec![9, 8]], 0);
    // Number of different tokens before each: 7 and 9 follow the start, 8 follows 7 and 9, the end follows 8. Ten
    // tokens are possible.
    let rest = (3.0 * 0.5 + 1.0) / 5.0;
    let (eight, end) = ((2.0 - 1.0) / 5.0 + rest / 10.0, (1.0 - 0.5) / 5.0 + rest / 10.0);
    // 7 8 occurs only after the start; so does 9 8.
    let eight_behind_seven = 0.5 + 0.5 * eight;
    // At the start of a sentence occurrences count: 7 twice, 9 once.
    let first = (2.0 - 1.0) / 3.0 + (1.0 + 0.5) / 3.0 * end; // of 7, which is as probable alone as the end
    let close = |found: f64, right: f64| assert!((found / right).ln().abs() < 0.13, "{found} for {right}");
    close(prob(&lm, &[], 7), first);
    close(prob(&lm, &[7], 8), (2.0 - 1.0) / 2.0 + 1.0 / 2.0 * eight_behind_seven);
    close(prob(&lm, &[9, 7], 8), eight_behind_seven);
    close(prob(&lm, &[], 11), (1.0 + 0.5) / 3.0 * rest / 10.0);
    assert_eq!(lm.sizes(), [5, 4]);
    assert_eq!(
        learnt(&[vec![7, 8], vec![7, 8], vec![9, 8]], 1).sizes(),
        [5, 2],
        "7 8 and its end, twice each"
    );
}

#[test]
fn spans_are_counted_as_the_reserved_tokens_that_the_network_writes() {
    let text = "Hallo {name}, es ist 18:30 Uhr.";
    let with = Tokenizer::train_with_reserved([text].iter(), 320, 32).unwrap();
    let written = encode_like_output(text, &with).unwrap();
    let reserved: Vec<usize> = written.iter().filter_map(|&id| with.reserved_index(id)).collect();
    assert_eq!(reserved, [0, 1]);
    assert_eq!(with.decode(&written).unwrap(), "Hallo , es ist  Uhr.");
    let without = Tokenizer::train([text].iter(), 288).unwrap();
    assert_eq!(encode_like_output(text, &without).unwrap(), without.encode(text).unwrap());
}

#[test]
fn discounts_are_the_published_ones_where_there_is_enough_text() {
    let counts = [1; 40].into_iter().chain([2; 12]).chain([3; 6]).chain([4; 4]).chain([9; 5]);
    let Discounts(found) = Discounts::of(counts);
    let y = 40.0 / (40.0 + 2.0 * 12.0);
    assert_eq!(found, [1.0 - 2.0 * y * 12.0 / 40.0, 2.0 - 3.0 * y * 6.0 / 12.0, 3.0 - 4.0 * y * 4.0 / 6.0]);
    assert_eq!(Discounts::of([1, 1, 2, 5].into_iter()).0, [0.5, 1.0, 1.5]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_probabilities_of_the_next_token_sum_to_one(
        sentences in prop::collection::vec(prop::collection::vec(5u32..VOCAB as u32, 1..6), 1..30),
        before in prop::collection::vec(5u32..VOCAB as u32, 0..4),
        prune in 0u32..3,
    ) {
        let lm = learnt(&sentences, prune);
        let all = (5..VOCAB as u32).chain([2]);
        let sum: f64 = all.map(|token| prob(&lm, &before, token)).sum();
        prop_assert!((sum - 1.0).abs() < 0.14, "{} after {:?}", sum, before); // logarithms are in twelfths
    }

    #[test]
    fn counting_counts(grams in prop::collection::vec([0u32..3, 0u32..3], 0..40)) {
        let mut right = BTreeMap::new();
        grams.iter().for_each(|&gram| *right.entry(gram).or_insert(0) += 1);
        prop_assert_eq!(counted(grams), right.into_iter().collect::<Vec<_>>());
    }
}
