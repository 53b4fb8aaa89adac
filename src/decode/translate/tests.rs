use proptest::prelude::*;

use super::*;
use crate::decode::testing::fake::FakeTranslator;

fn source(inner: &[u32]) -> Vec<u32> {
    [&[1], inner, &[2]].concat()
}

fn options(steps: u8) -> DecodeOptions {
    DecodeOptions::new(Steps::new(steps).unwrap())
}

#[test]
fn one_step_is_one_pass_and_more_steps_change_the_text() {
    let fake = FakeTranslator::new();
    let sources = vec![source(&[10, 11, 12, 13, 14, 15, 16, 17])];
    let one = translate(&fake, &sources, &options(1)).unwrap();
    assert_eq!(fake.counts().passes(), 1);
    let four = translate(&fake, &sources, &options(4)).unwrap();
    assert_eq!(fake.counts().passes(), 1 + 4);
    assert_ne!(one[0][0].tokens, four[0][0].tokens);
}

#[test]
fn a_source_without_words_has_an_empty_translation() {
    let fake = FakeTranslator::new();
    let done = translate(&fake, &[source(&[]), source(&[9]), vec![]], &options(2)).unwrap();
    assert_eq!(done[0], [Hypothesis::default()]);
    assert_eq!(done[1][0].tokens.len(), 1);
    assert_eq!(done[2], [Hypothesis::default()]);
}

#[test]
fn a_source_above_the_limit_is_an_error_before_any_work() {
    let fake = FakeTranslator::new();
    let limit = fake.limits().source_tokens;
    let long = source(&vec![9; limit]);
    let refused = translate(&fake, &[source(&[9]), long], &options(1));
    assert!(matches!(refused, Err(Error::TooLarge { size, .. }) if size == limit + 2));
    assert_eq!(fake.counts().encode_calls(), 0);
}

#[test]
fn a_length_beam_gives_that_many_candidates_best_first() {
    let fake = FakeTranslator::new();
    let done =
        translate(&fake, &[source(&[9, 10, 11])], &DecodeOptions { length_beam: 3, ..options(1) }).unwrap();
    assert_eq!(done[0].len(), 3);
    assert!(done[0].windows(2).all(|pair| pair[0].score >= pair[1].score));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn batching_changes_no_result_and_keeps_its_budget(
        inners in proptest::collection::vec(proptest::collection::vec(5u32..400, 0..20), 0..12),
        steps in 1u8..=5,
        length_beam in 1usize..=3,
        max_batch_tokens in 24usize..200,
    ) {
        let sources: Vec<_> = inners.iter().map(|inner| source(inner)).collect();
        let options = DecodeOptions { length_beam, max_batch_tokens, ..options(steps) };
        let fake = FakeTranslator::new();
        let together = translate(&fake, &sources, &options).unwrap();
        prop_assert!(fake.counts().largest_batch_tokens() <= max_batch_tokens);
        prop_assert_eq!(together.len(), sources.len());
        for (source, hypotheses) in sources.iter().zip(&together) {
            let alone = translate(&fake, std::slice::from_ref(source), &options).unwrap();
            prop_assert_eq!(&alone[0], hypotheses);
        }
    }

    #[test]
    fn batches_lose_nothing(lengths in proptest::collection::vec(1usize..30, 0..40), budget in 0usize..90) {
        let parts: Vec<_> = batches(&lengths, |&l| l, budget).collect();
        prop_assert_eq!(parts.concat(), lengths.as_slice());
        for part in parts {
            let padded = part.len() * part.iter().max().unwrap();
            prop_assert!(padded <= budget || part.len() == 1);
        }
    }
}
