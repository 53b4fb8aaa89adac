//! Quality of a network on parallel text, for each number of decoding steps or each width of a beam:
//! `train evaluate`, and the validation inside a run.

use std::time::Instant;

use serde::Serialize;

use crate::Result;
use crate::decode::{
    DecodeOptions, Decoding, Search, Steps, Translator, search_passages, translate_passages_with,
};
use crate::eval::{Repetition, corpus_bleu, corpus_chrf};
use crate::model::Network;
use crate::text::{Passage, Reader, Tokenizer};
use crate::train::data::test_set::TestSet;

/// What was measured at one number of steps, or one width of the beam.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    #[serde(flatten)]
    pub decoding: Decoding,
    /// Cased, detokenised sacreBLEU of what every user gets: equal neighbours joined, unless they are meant.
    pub bleu: f64,
    /// BLEU where equal neighbours are left standing in the output.
    pub bleu_uncollapsed: f64,
    pub chrf: f64,
    /// Share of output tokens that equal the one before, before any are joined.
    pub repetition_rate: f64,
    pub sentences_per_second: f64,
}

/// Translations of a whole test set at one number of steps.
pub struct Translated {
    pub measured: Measured,
    pub texts: Vec<String>,
}

/// Translates the set as users' texts are translated, with their protected spans and over-long sentences, and scores
/// it. Where equal neighbours are left standing, words alone are scored, without spans. Batches are bounded by
/// `max_batch_tokens` padded tokens.
///
/// # Errors
/// What the network and the tokenizer answer with.
pub fn evaluate<T: Translator>(
    translator: &T,
    reader: &Reader,
    set: &TestSet,
    steps: Steps,
    length_beam: usize,
    max_batch_tokens: usize,
) -> Result<Translated> {
    let options = DecodeOptions { steps, length_beam, max_batch_tokens, collapse: true };
    evaluate_with(Decoding::Steps(steps), reader, set, |passages, written| {
        translate_passages_with(translator, passages, &options, |i, found| written.add(i, &found.tokens))
    })
}

/// Translates the set from left to right and scores it. Equal neighbours are not joined: a beam search means what it
/// writes twice.
///
/// # Errors
/// What the network and the tokenizer answer with.
pub fn evaluate_search(
    network: &Network,
    reader: &Reader,
    set: &TestSet,
    options: &Search,
) -> Result<Translated> {
    evaluate_with(Decoding::Beam(options.beam.max(1)), reader, set, |passages, written| {
        search_passages(network, passages, options, |i, _, found| written.add(i, &found.hypothesis.tokens))
    })
}

/// The tokens that a network writes at first.
struct Written<'a> {
    tokenizer: &'a Tokenizer,
    repetition: Repetition,
    /// Of each text.
    parts: Vec<Vec<String>>,
}

impl Written<'_> {
    fn add(&mut self, text: usize, tokens: &[u32]) -> Result<()> {
        self.repetition = self.repetition + Repetition::of(tokens);
        self.parts[text].push(self.tokenizer.decode(tokens)?);
        Ok(())
    }
}

fn evaluate_with(
    decoding: Decoding,
    reader: &Reader,
    set: &TestSet,
    translate: impl FnOnce(&mut [Passage], &mut Written<'_>) -> Result<()>,
) -> Result<Translated> {
    let begin = Instant::now();
    let mut passages: Vec<Passage> = set.sources.iter().map(|source| reader.read(source)).collect();
    let mut written = Written {
        tokenizer: reader.tokenizer(),
        repetition: Repetition::default(),
        parts: vec![Vec::new(); set.len()],
    };
    translate(&mut passages, &mut written)?;
    let seconds = begin.elapsed().as_secs_f64();
    let texts = passages.iter().map(Passage::text).collect();
    let plain: Vec<String> = written.parts.into_iter().map(|parts| parts.join(" ")).collect();
    Ok(score(decoding, texts, &plain, written.repetition, seconds, set))
}

/// The scores of `texts`, and of `plain`, in which equal neighbours are left standing.
fn score(
    decoding: Decoding,
    texts: Vec<String>,
    plain: &[String],
    repetition: Repetition,
    seconds: f64,
    set: &TestSet,
) -> Translated {
    fn pairs<'a>(texts: &'a [String], set: &'a TestSet) -> impl Iterator<Item = (&'a str, &'a str)> {
        texts.iter().map(String::as_str).zip(set.references.iter().map(String::as_str))
    }
    let measured = Measured {
        decoding,
        bleu: corpus_bleu(pairs(&texts, set)).score,
        bleu_uncollapsed: corpus_bleu(pairs(plain, set)).score,
        chrf: corpus_chrf(pairs(&texts, set)),
        repetition_rate: repetition.rate(),
        sentences_per_second: set.len() as f64 / seconds.max(1e-9),
    };
    Translated { measured, texts }
}
