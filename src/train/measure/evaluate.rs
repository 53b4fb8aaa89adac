//! Measures the quality of a network on parallel text, for each number of decoding steps or each beam width. Used by
//! `train evaluate` and by validation during a run.

use std::time::Instant;

use serde::Serialize;

use crate::Result;
use crate::decode::{
    DecodeOptions, Decoding, Hypothesis, Search, Steps, Translator, search, translate,
    translate_passages_with,
};
use crate::eval::{Repetition, corpus_bleu, corpus_chrf};
use crate::model::Network;
use crate::text::{Passage, Reader, Tokenizer};
use crate::train::data::test_set::TestSet;

/// The scores of one decoding.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
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
pub struct Translated {
    pub measured: Measured,
    pub texts: Vec<String>,
}

/// Translates the set and scores it. `max_batch_tokens` limits the padded tokens of a batch.
pub fn evaluate<T: Translator>(
    translator: &T,
    tokenizer: &Tokenizer,
    set: &TestSet,
    steps: Steps,
    length_beam: usize,
    max_batch_tokens: usize,
) -> Result<Translated> {
    // Without merging, so that one decoding serves both scores.
    let options = DecodeOptions { steps, length_beam, max_batch_tokens, collapse: false };
    let begin = Instant::now();
    let hypotheses = translate(translator, &set.ids, &options)?;
    let seconds = begin.elapsed().as_secs_f64();
    let best = hypotheses.into_iter().map(|h| h.into_iter().next().unwrap_or_default()).collect();
    let joins = !translator.limits().has_blanks;
    measure(Decoding::Steps(steps), best, joins, seconds, tokenizer, set)
}

/// Translates the set like texts of users, with protected spans and splitting of long sentences, and scores it. The
/// score without merging covers only words, without spans.
pub fn evaluate_texts<T: Translator>(
    translator: &T,
    reader: &Reader,
    tokenizer: &Tokenizer,
    set: &TestSet,
    steps: Steps,
    length_beam: usize,
    max_batch_tokens: usize,
) -> Result<Translated> {
    let options = DecodeOptions { steps, length_beam, max_batch_tokens, collapse: true };
    let begin = Instant::now();
    let mut passages: Vec<Passage> = set.sources.iter().map(|source| reader.read(source)).collect();
    let mut repetition = Repetition::default();
    let mut plain = vec![Vec::new(); set.len()];
    translate_passages_with(translator, &mut passages, &options, |i, hypothesis| {
        repetition = repetition + Repetition::of(&hypothesis.tokens);
        plain[i].push(tokenizer.decode(&hypothesis.tokens)?);
        Ok(())
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    let texts = passages.iter().map(Passage::text).collect();
    let plain: Vec<String> = plain.into_iter().map(|parts| parts.join(" ")).collect();
    Ok(score(Decoding::Steps(steps), texts, &plain, repetition, seconds, set))
}

/// Translates the set by beam search and scores it. Equal neighbours are intended there and not merged.
pub fn evaluate_search(
    network: &Network,
    tokenizer: &Tokenizer,
    set: &TestSet,
    options: &Search,
) -> Result<Translated> {
    let begin = Instant::now();
    let found = search(network, &set.ids, options)?;
    let seconds = begin.elapsed().as_secs_f64();
    let best = found.into_iter().map(|found| found.hypothesis).collect();
    measure(Decoding::Beam(options.beam.max(1)), best, false, seconds, tokenizer, set)
}

/// Scores one translation for each sentence. `joins` says whether equal neighbours are merged.
fn measure(
    decoding: Decoding,
    hypotheses: Vec<Hypothesis>,
    joins: bool,
    seconds: f64,
    tokenizer: &Tokenizer,
    set: &TestSet,
) -> Result<Translated> {
    let mut repetition = Repetition::default();
    let (mut plain, mut joined) = (Vec::new(), Vec::new());
    for hypothesis in hypotheses {
        repetition = repetition + Repetition::of(&hypothesis.tokens);
        plain.push(tokenizer.decode(&hypothesis.tokens)?);
        let hypothesis = if joins { hypothesis.collapsed() } else { hypothesis };
        joined.push(tokenizer.decode(&hypothesis.tokens)?);
    }
    let plain = set.join(&plain);
    Ok(score(decoding, set.join(&joined), &plain, repetition, seconds, set))
}

/// Scores `texts`, and `plain`, in which equal neighbours are not merged.
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
