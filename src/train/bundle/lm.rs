//! Learns an n-gram [`LanguageModel`]: trigrams with interpolated modified Kneser-Ney smoothing (Chen and Goodman
//! 1998).
//!
//! A shorter n-gram is counted by the number of different tokens before it; at the start of a sentence, by its
//! occurrences. The same text gives the same file.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use crate::model::{Bundle, Fusion, Gram, LanguageModel};
use crate::text::{Specials, Tokenizer};
use crate::train::config::LengthLimit;
use crate::train::config::OnBadLine;
use crate::train::data::augment::spans::cut_alone;
use crate::train::data::corpus::Corpus;
use crate::{Error, Result, files};

/// Options of [`language_model`].
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub fusion: Fusion,
    /// Drops trigrams that occur no more often than this; 0 drops none.
    pub prune: u32,
}

/// Statistics of a new language model.
#[derive(Clone, Copy, Debug)]
pub struct LmStats {
    pub sentences: usize,
    pub skipped: usize,
    pub bigrams: usize,
    pub trigrams: usize,
    pub bytes: usize,
}

/// Learns a language model from text in the target language, plain or gzip, one sentence a line, and writes it into
/// the bundle. Lines that are empty, not UTF-8 or too long for the model are skipped.
///
/// # Errors
/// A file that cannot be read, no usable sentence, or a bundle that is not an Imputer's.
pub fn language_model(bundle: &Bundle, texts: &[PathBuf], options: Options) -> Result<LmStats> {
    let shape = &bundle.config.shape;
    if !shape.has_blanks() {
        let kind = bundle.config.architecture.name();
        let reason = format!("is of architecture {kind}; only an imputer uses a language model");
        return Err(Error::bundle(&bundle.dir, reason));
    }
    let encode = |text: &str| encode_like_output(text, &bundle.tokenizer);
    let mut corpus = Corpus::default();
    for text in texts {
        corpus.extend(Corpus::read_text(
            text,
            LengthLimit::tokens(shape.max_positions),
            OnBadLine::Skip,
            encode,
        )?);
    }
    let (sentences, skipped) = (corpus.pairs.len(), corpus.skipped.total());
    if sentences == 0 {
        let reason = format!("has no usable line ({skipped} skipped)");
        return Err(Error::Data { path: texts.first().cloned().unwrap_or_default(), line: 1, reason });
    }
    let sentences_of = corpus.pairs.iter().map(|pair| pair.source.as_slice());
    let lm = learn(sentences_of, shape.vocab, options)?;
    let checksums = texts.iter().map(|text| files::checksum(text)).collect::<Result<Vec<_>>>()?;
    let metadata = BTreeMap::from([
        ("prune".to_owned(), options.prune.to_string()),
        ("text_checksums".to_owned(), checksums.join(" ")),
    ]);
    let bytes = lm.to_bytes(&metadata)?;
    files::write(&bundle.dir.join(Bundle::LM), &bytes)?;
    let [bigrams, trigrams] = lm.sizes();
    Ok(LmStats { sentences, skipped, bigrams, trigrams, bytes: bytes.len() })
}

/// Encodes a sentence as the network writes it: spans become reserved tokens, if the tokenizer has them.
fn encode_like_output(text: &str, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    if tokenizer.reserved() == 0 {
        tokenizer.encode(text)
    } else {
        cut_alone(text).encode_reserved(0, tokenizer)
    }
}

/// Learns from sentences `bos x1..xn eos`, n ≥ 1, with a vocabulary of `vocab` tokens.
fn learn<'a>(
    sentences: impl Iterator<Item = &'a [u32]> + Clone,
    vocab: usize,
    options: Options,
) -> Result<LanguageModel> {
    let Specials { bos, eos, .. } = Specials::default();
    let windows = |sentence: &'a [u32]| sentence.windows(3).map(|w| [w[0], w[1], w[2]]);
    let trigrams = counted(sentences.clone().flat_map(windows).collect());
    let first = sentences.filter_map(|sentence| Some([bos, *sentence.get(1)?]));
    let bigrams = counted(first.chain(trigrams.iter().map(|&([_, v, w], _)| [v, w])).collect());
    let unigrams = counted(bigrams.iter().map(|&([_, w], _)| [w]).collect());

    // The tokens that can follow: words, and the end of a sentence.
    let candidates: Vec<u32> =
        (0..vocab as u32).filter(|&t| t == eos || t >= Specials::NAMES.len() as u32).collect();
    let unigrams = smoothed(&unigrams, 0, |_| 1.0 / candidates.len() as f64);
    let rest = unigrams.backoff(&[]) / candidates.len() as f64;
    let mut unigram_probs = vec![0.0; vocab];
    candidates.iter().for_each(|&token| unigram_probs[token as usize] = rest);
    unigrams.probs.iter().for_each(|&([token], prob)| unigram_probs[token as usize] = prob);

    let bigrams = smoothed(&bigrams, 0, |[_, w]| unigram_probs[w as usize]);
    let bigram_probs: HashMap<[u32; 2], f64> = bigrams.probs.iter().copied().collect();
    // Each bigram at the end of a trigram was counted as a bigram, too.
    let trigrams =
        smoothed(&trigrams, options.prune, |[_, v, w]| bigram_probs.get(&[v, w]).copied().unwrap_or(0.0));

    let unigram = |(token, &prob): (usize, &f64)| {
        let tokens = [token as u32];
        Gram { tokens, prob, backoff: bigrams.backoff(&tokens) }
    };
    let bigram =
        |&(tokens, prob): &([u32; 2], f64)| Gram { tokens, prob, backoff: trigrams.backoff(&tokens) };
    let trigram = |&(tokens, prob): &([u32; 3], f64)| Gram { tokens, prob, backoff: 1.0 };
    LanguageModel::new(
        options.fusion,
        &unigram_probs.iter().enumerate().map(unigram).collect::<Vec<_>>(),
        &bigrams.probs.iter().map(bigram).collect::<Vec<_>>(),
        &trigrams.probs.iter().map(trigram).collect::<Vec<_>>(),
    )
}

/// n-grams with their counts, ascending.
fn counted<const N: usize>(mut grams: Vec<[u32; N]>) -> Vec<([u32; N], u32)> {
    grams.sort_unstable();
    grams.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u32)).collect()
}

/// n-grams of one length, ascending, with the probability of the last token given those before it.
struct Smoothed<const N: usize> {
    probs: Vec<([u32; N], f64)>,
    backoffs: HashMap<Vec<u32>, f64>,
}

impl<const N: usize> Smoothed<N> {
    /// The probability left for tokens not seen after `before`; 1 if none was seen.
    fn backoff(&self, before: &[u32]) -> f64 {
        self.backoffs.get(before).copied().unwrap_or(1.0)
    }
}

/// Smooths counts, which ascend by tokens: a discount of each count is redistributed in proportion to `shorter`, the
/// probability of the last token given one token less. n-grams with counts up to `prune` are dropped, and all of
/// their counts redistributed.
fn smoothed<const N: usize>(
    counts: &[([u32; N], u32)],
    prune: u32,
    shorter: impl Fn([u32; N]) -> f64,
) -> Smoothed<N> {
    let discounts = Discounts::of(counts.iter().map(|&(_, count)| count));
    let (mut probs, mut backoffs) = (Vec::new(), HashMap::new());
    let before = |(tokens, _): &([u32; N], u32)| tokens[..N - 1].to_vec();
    for group in counts.chunk_by(|a, b| a.0[..N - 1] == b.0[..N - 1]) {
        let total: f64 = group.iter().map(|&(_, count)| f64::from(count)).sum();
        let own = |count: u32| (f64::from(count) - discounts.of_count(count)) / total;
        let kept = || group.iter().filter(|&&(_, count)| count > prune);
        let backoff = (1.0 - kept().map(|&(_, count)| own(count)).sum::<f64>()).max(0.0);
        backoffs.insert(before(&group[0]), backoff);
        probs.extend(kept().map(|&(tokens, count)| (tokens, own(count) + backoff * shorter(tokens))));
    }
    Smoothed { probs, backoffs }
}

/// Discounts of counts 1, 2, and 3 or more.
struct Discounts([f64; 3]);

impl Discounts {
    /// The estimates of Chen and Goodman, from the numbers of n-grams with counts 1 to 4. For texts too small for
    /// that, half of the index each, as in KenLM.
    fn of(counts: impl Iterator<Item = u32>) -> Self {
        let mut numbers = [0.0f64; 4];
        counts
            .filter_map(|count| numbers.get_mut((count as usize).checked_sub(1)?).map(|n| *n += 1.0))
            .count();
        let y = numbers[0] / (numbers[0] + 2.0 * numbers[1]);
        let discount = |k: usize| k as f64 - (k + 1) as f64 * y * numbers[k] / numbers[k - 1];
        let discounts = [discount(1), discount(2), discount(3)];
        let usable = discounts.iter().enumerate().all(|(i, d)| *d > 0.0 && *d < (i + 1) as f64);
        Self(if usable { discounts } else { [0.5, 1.0, 1.5] })
    }

    fn of_count(&self, count: u32) -> f64 {
        self.0[(count as usize).clamp(1, 3) - 1]
    }
}

#[cfg(test)]
mod tests;
