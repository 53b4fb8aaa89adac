//! The synchronous driver: a list of sentences in, their candidate translations out. `tutti
//! translate`, validation and evaluation use it; the server's engine has its own loop, because
//! there sentences come and go between passes.

use super::{Beam, Encoded, Hypothesis, Row, Steps, Translator, apply_all};
use crate::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeOptions {
    pub steps: Steps,
    /// How many lengths are tried for a sentence; 0 counts as 1.
    pub length_beam: usize,
    /// Rows times longest row of a batch, on either side. A row that is longer goes alone.
    pub max_batch_tokens: usize,
    /// Join equal neighbours at the end.
    pub collapse: bool,
}

impl DecodeOptions {
    /// A beam of one, batches of 4096 padded tokens.
    pub fn new(steps: Steps) -> Self {
        Self { steps, length_beam: 1, max_batch_tokens: 4096, collapse: true }
    }
}

/// Translates `sources` (`bos x1..xn eos` each); the candidates of each, best first, in the order of
/// `sources`. A source without words (`bos eos`, or less) has the empty translation.
///
/// # Errors
/// [`Error::TooLarge`] for a source above the network's limit, before anything is computed; and
/// whatever the network answers with.
pub fn translate<T: Translator>(
    translator: &T,
    sources: &[Vec<u32>],
    options: &DecodeOptions,
) -> Result<Vec<Vec<Hypothesis>>> {
    let limit = translator.limits().source_tokens;
    if let Some(long) = sources.iter().find(|source| source.len() > limit) {
        return Err(Error::TooLarge { what: "tokens of a sentence", size: long.len(), limit });
    }
    let mut done = vec![vec![Hypothesis::default()]; sources.len()];
    let mut order: Vec<usize> = (0..sources.len()).filter(|&i| sources[i].len() > 2).collect();
    order.sort_by_key(|&i| sources[i].len());
    for batch in batches(&order, |&i| sources[i].len(), options.max_batch_tokens) {
        let texts: Vec<&[u32]> = batch.iter().map(|&i| sources[i].as_slice()).collect();
        for (&i, hypotheses) in batch.iter().zip(translate_batch(translator, &texts, options)?) {
            done[i] = hypotheses;
        }
    }
    Ok(done)
}

fn translate_batch<T: Translator>(
    translator: &T,
    sources: &[&[u32]],
    options: &DecodeOptions,
) -> Result<Vec<Vec<Hypothesis>>> {
    let encoded = translator.encode(sources)?;
    if encoded.len() != sources.len() {
        return Err(Error::Model(format!("{} sentences encoded of {}", encoded.len(), sources.len())));
    }
    let rules = translator.rules();
    let start = |e: &Encoded<_>| Beam::new(&e.outline, options.length_beam, options.steps, &rules);
    let mut beams = encoded.iter().map(start).collect::<Result<Vec<_>>>()?;
    while beams.iter().any(|beam| !beam.finished()) {
        let rows: Vec<_> = beams.iter().zip(&encoded).flat_map(|(b, e)| b.rows(&e.memory)).collect();
        let mut answers = Vec::with_capacity(rows.len());
        for part in batches(&rows, |row: &Row<_>| row.canvas.len(), options.max_batch_tokens) {
            let answer = translator.decode(part)?;
            if answer.len() != part.len() {
                return Err(Error::Model(format!("{} answers for {} rows", answer.len(), part.len())));
            }
            answers.extend(answer);
        }
        let mut answers = answers.as_slice();
        let own = beams.iter_mut().map(|beam| {
            let (own, rest) = answers.split_at(beam.live().count());
            answers = rest;
            (beam, own)
        });
        apply_all(own.collect()).into_iter().collect::<Result<()>>()?;
    }
    Ok(beams.into_iter().map(|beam| beam.finish(options.collapse)).collect())
}

/// Cuts `items` into runs whose count times longest length stays within `budget`; an item above it
/// makes a run of its own.
pub(super) fn batches<I>(
    items: &[I],
    length: impl Fn(&I) -> usize,
    budget: usize,
) -> impl Iterator<Item = &[I]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut longest = 0;
        let fits = |(i, item): &(usize, &I)| {
            longest = longest.max(length(item));
            (i + 1) * longest <= budget
        };
        let count = rest.iter().enumerate().take_while(fits).count().max(1).min(rest.len());
        let (batch, after) = rest.split_at(count);
        rest = after;
        (!batch.is_empty()).then_some(batch)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decode::fake::FakeTranslator;

    fn source(inner: &[u32]) -> Vec<u32> {
        [&[1], inner, &[2]].concat()
    }

    fn options(steps: u8) -> DecodeOptions {
        DecodeOptions::new(Steps::new(steps).unwrap())
    }

    #[test]
    fn one_step_is_one_pass_and_more_steps_say_something_else() {
        let fake = FakeTranslator::new();
        let sources = vec![source(&[10, 11, 12, 13, 14, 15, 16, 17])];
        let one = translate(&fake, &sources, &options(1)).unwrap();
        assert_eq!(fake.counts().passes(), 1);
        let four = translate(&fake, &sources, &options(4)).unwrap();
        assert_eq!(fake.counts().passes(), 1 + 4);
        assert_ne!(one[0][0].tokens, four[0][0].tokens);
    }

    #[test]
    fn a_source_without_words_is_translated_by_nothing() {
        let fake = FakeTranslator::new();
        let done = translate(&fake, &[source(&[]), source(&[9]), vec![]], &options(2)).unwrap();
        assert_eq!(done[0], [Hypothesis::default()]);
        assert_eq!(done[1][0].tokens.len(), 1);
        assert_eq!(done[2], [Hypothesis::default()]);
    }

    #[test]
    fn a_source_above_the_limit_is_refused_before_any_work() {
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
        let done = translate(&fake, &[source(&[9, 10, 11])], &DecodeOptions { length_beam: 3, ..options(1) })
            .unwrap();
        assert_eq!(done[0].len(), 3);
        assert!(done[0].windows(2).all(|pair| pair[0].score >= pair[1].score));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn batching_changes_neither_order_nor_answers_and_keeps_its_budget(
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
}
