//! Quality of a network on parallel text, for each number of decoding steps or each width of a beam:
//! `train evaluate`, and the validation inside a run.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::corpus::{read_lines, require_equal_counts};
use crate::decode::{DecodeOptions, Hypothesis, Search, Steps, Translator, search, translate};
use crate::eval::{Repetition, corpus_bleu, corpus_chrf};
use crate::model::Network;
use crate::text::Tokenizer;
use crate::{Error, Result};

/// Text to translate and what it should become, line by line; the source also as ids.
pub struct TestSet {
    pub sources: Vec<String>,
    pub references: Vec<String>,
    ids: Vec<Vec<u32>>,
}

impl TestSet {
    pub fn new(sources: Vec<String>, references: Vec<String>, tokenizer: &Tokenizer) -> Result<Self> {
        let ids = sources.iter().map(|s| tokenizer.encode(s)).collect::<Result<_>>()?;
        Ok(Self { sources, references, ids })
    }

    /// Reads the first `count` lines of a pair of files.
    pub fn read(source: &Path, target: &Path, count: usize, tokenizer: &Tokenizer) -> Result<Self> {
        let (mut sources, mut references) = (read_lines(source)?, read_lines(target)?);
        require_equal_counts((source, sources.len()), (target, references.len()))?;
        sources.truncate(count);
        references.truncate(count);
        Self::new(sources, references, tokenizer)
    }

    /// As [`TestSet::read`], for a network that takes sentences of up to `limit` tokens, `bos` and `eos`
    /// counted: what it could not be validated with is told before it is trained.
    pub fn read_within(
        source: &Path,
        target: &Path,
        count: usize,
        tokenizer: &Tokenizer,
        limit: usize,
    ) -> Result<Self> {
        let set = Self::read(source, target, count, tokenizer)?;
        let wrong = |line, reason| Err(Error::Data { path: source.to_path_buf(), line, reason });
        match set.ids.iter().enumerate().find(|(_, ids)| ids.len() > limit) {
            _ if set.is_empty() => wrong(1, "the file has no lines to validate with".into()),
            None => Ok(set),
            Some((index, ids)) => {
                let reason =
                    format!("the sentence has {} tokens, the network takes up to {limit}", ids.len());
                wrong(index + 1, reason)
            }
        }
    }

    pub fn len(&self) -> usize {
        self.sources.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }
}

/// How a network is made to translate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decoding {
    /// In so many parallel passes.
    Steps(Steps),
    /// From left to right, with so many candidates.
    Beam(usize),
}

/// How a parallel model is validated inside a run: in one step, and in four.
pub fn validated_steps() -> Vec<Decoding> {
    [1, 4].into_iter().filter_map(Steps::new).map(Decoding::Steps).collect()
}

impl Decoding {
    /// What follows the `@` in the name of a score: `4`, `beam4`.
    pub fn tag(self) -> String {
        match self {
            Self::Steps(steps) => steps.to_string(),
            Self::Beam(beam) => format!("beam{beam}"),
        }
    }
}

impl fmt::Display for Decoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(steps) if *steps == Steps::ONE => write!(f, "1 step"),
            Self::Steps(steps) => write!(f, "{steps} steps"),
            Self::Beam(beam) => write!(f, "beam {beam}"),
        }
    }
}

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

/// Translates the set and scores it. Batches are bounded by `max_batch_tokens` padded tokens.
pub fn evaluate<T: Translator>(
    translator: &T,
    tokenizer: &Tokenizer,
    set: &TestSet,
    steps: Steps,
    length_beam: usize,
    max_batch_tokens: usize,
) -> Result<Translated> {
    // Equal neighbours are left standing, so that one decoding serves both scores.
    let options = DecodeOptions { steps, length_beam, max_batch_tokens, collapse: false };
    let begin = Instant::now();
    let hypotheses = translate(translator, &set.ids, &options)?;
    let seconds = begin.elapsed().as_secs_f64();
    let best = hypotheses.into_iter().map(|h| h.into_iter().next().unwrap_or_default()).collect();
    let joins = !translator.limits().has_blanks;
    measure(Decoding::Steps(steps), best, joins, seconds, tokenizer, set)
}

/// Translates the set from left to right and scores it. What a beam search says twice it means twice: its
/// equal neighbours are not joined.
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

/// Scores one translation of each sentence of the set; `joins` where equal neighbours are a mistake.
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
    let score = |texts: &[String]| {
        corpus_bleu(texts.iter().map(String::as_str).zip(set.references.iter().map(String::as_str))).score
    };
    let bleu_uncollapsed = score(&plain);
    let texts = joined;
    let pairs = texts.iter().map(String::as_str).zip(set.references.iter().map(String::as_str));
    let measured = Measured {
        decoding,
        bleu: score(&texts),
        bleu_uncollapsed,
        chrf: corpus_chrf(pairs),
        repetition_rate: repetition.rate(),
        sentences_per_second: set.len() as f64 / seconds.max(1e-9),
    };
    Ok(Translated { measured, texts })
}
