//! Measures the quality of a network on parallel text, for each number of decoding steps or each beam width. Used by
//! `train evaluate` and by validation during a run.

use std::time::Instant;

use serde::Serialize;

use crate::Result;
use crate::decode::{
    DecodeOptions, Decoding, SearchOptions, Steps, Translator, search_passages, translate_passages_with,
};
use crate::eval::{Repetition, corpus_bleu, corpus_chrf};
use crate::model::Network;
use crate::text::{Passage, Reader, Tokenizer};
use crate::train::data::test_set::TestSet;

/// The scores of one decoding.
#[derive(Clone, Debug, Serialize)]
pub struct DecodingScores {
    #[serde(flatten)]
    pub decoding: Decoding,
    /// Cased, detokenized sacreBLEU of the final output, in which equal neighbours are merged (except those that an
    /// Imputer or a beam search intends).
    pub bleu: f64,
    /// BLEU before equal neighbours are merged.
    pub bleu_uncollapsed: f64,
    pub chrf: f64,
    /// Share of output tokens that equal the one before, before merging.
    pub repetition_rate: f64,
    pub sentences_per_second: f64,
}

/// The translations of a whole test set, and their scores.
pub struct Evaluation {
    pub scores: DecodingScores,
    pub texts: Vec<String>,
}

/// Translates the set like texts of users, with protected spans and splitting of long sentences, and scores it. The
/// score without merging covers only words, without spans. `max_batch_tokens` limits the padded tokens of a batch.
///
/// # Errors
/// Those of the network and the tokenizer.
pub fn evaluate<T: Translator>(
    translator: &T,
    reader: &Reader,
    set: &TestSet,
    steps: Steps,
    length_beam: usize,
    max_batch_tokens: usize,
) -> Result<Evaluation> {
    let options = DecodeOptions { steps, length_beam, max_batch_tokens, collapse: true };
    evaluate_with(Decoding::Steps(steps), reader, set, |passages, written| {
        translate_passages_with(translator, passages, &options, |i, found| written.add(i, &found.tokens))
    })
}

/// Translates the set by beam search and scores it. Equal neighbours are intended there and not merged.
///
/// # Errors
/// Those of the network and the tokenizer.
pub fn evaluate_search(
    network: &Network,
    reader: &Reader,
    set: &TestSet,
    options: &SearchOptions,
) -> Result<Evaluation> {
    evaluate_with(Decoding::Beam(options.beam.max(1)), reader, set, |passages, written| {
        search_passages(network, passages, options, |i, _, found| written.add(i, &found.hypothesis.tokens))
    })
}

/// Collects the tokens that a network writes in the first round.
struct Written<'a> {
    tokenizer: &'a Tokenizer,
    repetition: Repetition,
    /// The parts of each text.
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
) -> Result<Evaluation> {
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

/// Scores `texts`, and `plain`, in which equal neighbours are not merged.
fn score(
    decoding: Decoding,
    texts: Vec<String>,
    plain: &[String],
    repetition: Repetition,
    seconds: f64,
    set: &TestSet,
) -> Evaluation {
    fn pairs<'a>(texts: &'a [String], set: &'a TestSet) -> impl Iterator<Item = (&'a str, &'a str)> {
        texts.iter().map(String::as_str).zip(set.references.iter().map(String::as_str))
    }
    let scores = DecodingScores {
        decoding,
        bleu: corpus_bleu(pairs(&texts, set)).score,
        bleu_uncollapsed: corpus_bleu(pairs(plain, set)).score,
        chrf: corpus_chrf(pairs(&texts, set)),
        repetition_rate: repetition.rate(),
        sentences_per_second: set.len() as f64 / seconds.max(1e-9),
    };
    Evaluation { scores, texts }
}
