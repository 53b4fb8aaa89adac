//! An n-gram language model of the target language in back-off form (Katz 1987): the probability of a token after the
//! two before it. An Imputer fills its slots independently of each other and may mix two translations; together with
//! such a model it prefers text that is probable as a whole.
//!
//! The probability of `w` after `u v` is that of the trigram `u v w` if there is one, otherwise the back-off weight
//! of `u v` times the probability of `w` after `v`, which is found in the same way.
//!
//! An optional file of a bundle (`lm.safetensors`), written by `train lm`:
//!
//! * unigrams, one for each token of the vocabulary: `unigram.log_probs`, `unigram.backoffs`, and in `bigram.counts`
//!   the number of bigrams that start with each;
//! * bigrams, sorted by their first and then their second token: `bigram.tokens` (the second), `bigram.log_probs`,
//!   `bigram.backoffs`, and in `trigram.counts` the number of trigrams that start with each;
//! * trigrams likewise: `trigram.tokens` and `trigram.log_probs`;
//! * `fusion` `[weight, bonus, penalty]` ([`Fusion`]).
//!
//! Log-probabilities are u8, in units of −1/12.

use std::collections::BTreeMap;
use std::fmt;

use safetensors::Dtype;

use super::rows;
use crate::text::Specials;
use crate::{Error, Result};

/// Unit of the stored log-probabilities, whose range is 0 to −21.25.
const STEP: f32 = 1.0 / 12.0;

/// Weights of shallow fusion. A token adds `weight · ln p + bonus` to the network's score, but not less than
/// `-penalty`. The bonus offsets that every further token lowers the score; the penalty limits the cost of tokens
/// that are rare in the language model's text, such as names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fusion {
    pub weight: f32,
    pub bonus: f32,
    /// At least 0; infinity for no limit.
    pub penalty: f32,
}

impl Fusion {
    /// The score of a token with log-probability `log_prob`.
    pub fn token_score(self, log_prob: f32) -> f32 {
        (self.weight * log_prob + self.bonus).max(-self.penalty)
    }

    /// Upper bound of [`token_score`](Self::token_score).
    pub fn max_token_score(self) -> f32 {
        self.token_score(0.0)
    }

    /// The score of ending a translation.
    pub fn end(self, log_prob: f32) -> f32 {
        self.weight * log_prob
    }
}

/// The tokens before the next one, as far as the model uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    last: u32,
    /// Index of the bigram of the last two tokens, if it exists.
    bigram: Option<u32>,
}

/// An n-gram language model; see the module. Every token, eos included, has a probability after every other.
#[derive(Clone, PartialEq)]
pub struct LanguageModel {
    fusion: Fusion,
    unigrams: Grams,
    bigrams: Grams,
    trigrams: Grams,
}

/// All n-grams of one length, grouped by their first tokens.
#[derive(Clone, Default, PartialEq)]
struct Grams {
    /// The last token of each, ascending within a group; empty for unigrams, whose index is the token.
    tokens: Vec<u16>,
    log_probs: Vec<u8>,
    /// Back-off weight of each; empty for trigrams.
    backoffs: Vec<u8>,
    /// For each, the index of its first continuation among the n-grams that are one token longer; then the end of the
    /// last. Empty for trigrams.
    starts: Vec<u32>,
}

/// An n-gram with its probability (not logarithmic).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gram<const N: usize> {
    pub tokens: [u32; N],
    pub prob: f64,
    /// Factor for the probability of a token that was not seen after this n-gram.
    pub backoff: f64,
}

impl LanguageModel {
    /// Builds a model from the unigrams of a whole vocabulary and from bigrams and trigrams in ascending order of
    /// tokens. The first two tokens of every trigram must be one of the bigrams.
    ///
    /// # Errors
    /// [`Error::Config`] if the order is wrong or a bigram is missing, for more than 65,535 tokens, and for a fusion
    /// that is not finite.
    pub fn new(
        fusion: Fusion,
        unigrams: &[Gram<1>],
        bigrams: &[Gram<2>],
        trigrams: &[Gram<3>],
    ) -> Result<Self> {
        let invalid = |reason: &str| Error::Config(format!("the language model: {reason}"));
        let narrow = |token: u32| u16::try_from(token).map_err(|_| invalid("has a token above 65,535"));
        let vocab = u32::try_from(unigrams.len()).map_err(|_| invalid("has too many tokens"))?;
        let continuations = |counts: Vec<usize>| starts(counts).ok_or_else(|| invalid("is too large"));
        let by_first = count_by(bigrams.iter().map(|gram| gram.tokens[0]), 0..vocab)
            .ok_or_else(|| invalid("bigrams are not in order"))?;
        let by_bigram = count_by(
            trigrams.iter().map(|gram| [gram.tokens[0], gram.tokens[1]]),
            bigrams.iter().map(|gram| gram.tokens),
        )
        .ok_or_else(|| invalid("trigrams are not in order, or without a bigram"))?;
        let this = Self {
            fusion,
            unigrams: Grams {
                tokens: Vec::new(),
                log_probs: unigrams.iter().map(|gram| code(gram.prob)).collect(),
                backoffs: unigrams.iter().map(|gram| code(gram.backoff)).collect(),
                starts: continuations(by_first)?,
            },
            bigrams: Grams {
                tokens: bigrams.iter().map(|gram| narrow(gram.tokens[1])).collect::<Result<_>>()?,
                log_probs: bigrams.iter().map(|gram| code(gram.prob)).collect(),
                backoffs: bigrams.iter().map(|gram| code(gram.backoff)).collect(),
                starts: continuations(by_bigram)?,
            },
            trigrams: Grams {
                tokens: trigrams.iter().map(|gram| narrow(gram.tokens[2])).collect::<Result<_>>()?,
                log_probs: trigrams.iter().map(|gram| code(gram.prob)).collect(),
                ..Grams::default()
            },
        };
        this.check().map_err(|reason| invalid(&reason))?;
        Ok(this)
    }

    /// Reads the output of [`Self::to_bytes`] for a vocabulary of `vocab` tokens.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn from_bytes(bytes: &[u8], vocab: usize) -> Result<Self, String> {
        let file = rows::open(bytes)?;
        let codes = |name| Ok::<_, String>(rows::row(&file, name, Dtype::U8)?.to_vec());
        let words = |name| Ok::<_, String>(rows::words(rows::row(&file, name, Dtype::U16)?));
        let continuations = |name| {
            let counts = words(name)?.into_iter().map(usize::from).collect();
            starts(counts).ok_or_else(|| format!("tensor {name:?} counts too many"))
        };
        let unigrams = Grams {
            tokens: Vec::new(),
            log_probs: codes("unigram.log_probs")?,
            backoffs: codes("unigram.backoffs")?,
            starts: continuations("bigram.counts")?,
        };
        let bigrams = Grams {
            tokens: words("bigram.tokens")?,
            log_probs: codes("bigram.log_probs")?,
            backoffs: codes("bigram.backoffs")?,
            starts: continuations("trigram.counts")?,
        };
        let trigrams = Grams {
            tokens: words("trigram.tokens")?,
            log_probs: codes("trigram.log_probs")?,
            ..Grams::default()
        };
        let fusion = match rows::row(&file, "fusion", Dtype::F32)?.as_chunks().0 {
            &[weight, bonus, penalty] => {
                let [weight, bonus, penalty] = [weight, bonus, penalty].map(f32::from_le_bytes);
                Fusion { weight, bonus, penalty }
            }
            other => return Err(format!("tensor \"fusion\" has {} numbers, expected 3", other.len())),
        };
        if unigrams.log_probs.len() != vocab {
            return Err(format!("is for {} tokens, the model has {vocab}", unigrams.log_probs.len()));
        }
        let this = Self { fusion, unigrams, bigrams, trigrams };
        this.check()?;
        Ok(this)
    }

    /// Serializes the model. `metadata` describes how it was made.
    ///
    /// # Errors
    /// Those of the safetensors library.
    pub fn to_bytes(&self, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
        // Each count is at most the size of the vocabulary, which fits u16.
        let counts = |grams: &Grams| -> Vec<u8> {
            let count = |pair: &[u32]| ((pair[1] - pair[0]) as u16).to_le_bytes();
            grams.starts.windows(2).flat_map(count).collect()
        };
        let (uni, bi, tri) = (&self.unigrams, &self.bigrams, &self.trigrams);
        let Fusion { weight, bonus, penalty } = self.fusion;
        let rows = [
            ("unigram.log_probs", Dtype::U8, uni.log_probs.clone()),
            ("unigram.backoffs", Dtype::U8, uni.backoffs.clone()),
            ("bigram.counts", Dtype::U16, counts(uni)),
            ("bigram.tokens", Dtype::U16, rows::bytes_of(&bi.tokens)),
            ("bigram.log_probs", Dtype::U8, bi.log_probs.clone()),
            ("bigram.backoffs", Dtype::U8, bi.backoffs.clone()),
            ("trigram.counts", Dtype::U16, counts(bi)),
            ("trigram.tokens", Dtype::U16, rows::bytes_of(&tri.tokens)),
            ("trigram.log_probs", Dtype::U8, tri.log_probs.clone()),
            ("fusion", Dtype::F32, [weight, bonus, penalty].iter().flat_map(|v| v.to_le_bytes()).collect()),
        ];
        rows::serialize(&rows, metadata).map_err(|e| Error::Config(format!("the language model: {e}")))
    }

    fn check(&self) -> Result<(), String> {
        let vocab = self.unigrams.log_probs.len();
        if vocab <= Specials::NAMES.len() || vocab > usize::from(u16::MAX) {
            return Err(format!("is for {vocab} tokens"));
        }
        for (name, grams, longer) in
            [("unigram", &self.unigrams, &self.bigrams), ("bigram", &self.bigrams, &self.trigrams)]
        {
            let count = grams.log_probs.len();
            if grams.backoffs.len() != count || grams.starts.len() != count + 1 {
                return Err(format!("its {name} tensors are not of one length"));
            }
            if grams.starts.last().map(|&end| end as usize) != Some(longer.tokens.len())
                || longer.log_probs.len() != longer.tokens.len()
            {
                return Err(format!("the counts of its {name}s do not match their continuations"));
            }
            let ascending =
                |pair: &[u32]| longer.tokens[pair[0] as usize..pair[1] as usize].is_sorted_by(|a, b| a < b);
            if !grams.starts.windows(2).all(ascending) {
                return Err(format!("the continuations of its {name}s are not in order"));
            }
            let predicted = |&token: &u16| {
                token == Specials::default().eos as u16
                    || (Specials::NAMES.len()..vocab).contains(&token.into())
            };
            if let Some(token) = longer.tokens.iter().find(|&token| !predicted(token)) {
                return Err(format!("token {token} cannot occur in a translation"));
            }
        }
        let Fusion { weight, bonus, penalty } = self.fusion;
        if !(weight.is_finite() && weight >= 0.0 && bonus.is_finite() && penalty >= 0.0) {
            return Err(format!(
                "weight {weight}, bonus {bonus}, penalty {penalty}: they must be numbers, the first and the last at least 0"
            ));
        }
        Ok(())
    }

    pub fn fusion(&self) -> Fusion {
        self.fusion
    }

    /// Number of bigrams and trigrams.
    pub fn sizes(&self) -> [usize; 2] {
        [self.bigrams.tokens.len(), self.trigrams.tokens.len()]
    }

    /// The context at the start of a sentence.
    pub fn start(&self) -> Context {
        Context { last: Specials::default().bos, bigram: None }
    }

    /// Returns ln p of `token` after `context`, and the context that follows. A token outside the vocabulary has the
    /// lowest log-probability.
    pub fn next(&self, context: Context, token: u32) -> (f32, Context) {
        let bigram = self.unigrams.find(context.last, token, &self.bigrams);
        let log_prob = match context.bigram.map(|two| (two, self.bigrams.find(two, token, &self.trigrams))) {
            Some((_, Some(trigram))) => self.trigrams.log_prob(trigram),
            Some((two, None)) => self.bigrams.backoff(two) + self.after_one(context.last, token, bigram),
            None => self.after_one(context.last, token, bigram),
        };
        (log_prob, Context { last: token, bigram })
    }

    /// ln p of the end of a sentence.
    pub fn end(&self, context: Context) -> f32 {
        self.next(context, Specials::default().eos).0
    }

    fn after_one(&self, last: u32, token: u32, bigram: Option<u32>) -> f32 {
        match bigram {
            Some(bigram) => self.bigrams.log_prob(bigram),
            None => self.unigrams.backoff(last) + self.unigrams.log_prob(token),
        }
    }
}

impl Grams {
    /// The index, among `longer`, of n-gram `at` followed by `token`.
    fn find(&self, at: u32, token: u32, longer: &Self) -> Option<u32> {
        let (start, end) = (*self.starts.get(at as usize)?, *self.starts.get(at as usize + 1)?);
        let tokens = &longer.tokens[start as usize..end as usize];
        let place = tokens.binary_search(&u16::try_from(token).ok()?).ok()?;
        Some(start + place as u32)
    }

    fn log_prob(&self, at: u32) -> f32 {
        self.log_probs.get(at as usize).map_or(-STEP * 255.0, |&code| -STEP * f32::from(code))
    }

    fn backoff(&self, at: u32) -> f32 {
        self.backoffs.get(at as usize).map_or(0.0, |&code| -STEP * f32::from(code))
    }
}

impl fmt::Debug for LanguageModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LanguageModel")
            .field("fusion", &self.fusion)
            .field("sizes", &self.sizes())
            .finish_non_exhaustive()
    }
}

fn code(prob: f64) -> u8 {
    (-prob.ln() / f64::from(STEP)).round().clamp(0.0, 255.0) as u8
}

/// Counts the `keys` of each of `groups`; both are ascending. `None` if they are not, or a key has no group.
fn count_by<K: PartialEq>(
    keys: impl Iterator<Item = K>,
    groups: impl Iterator<Item = K>,
) -> Option<Vec<usize>> {
    let mut keys = keys.peekable();
    let count = |group: K| std::iter::from_fn(|| keys.next_if_eq(&group)).count();
    let counts = groups.map(count).collect();
    keys.next().is_none().then_some(counts)
}

/// Start offsets of consecutive lists with these lengths, and the end of the last.
fn starts(counts: Vec<usize>) -> Option<Vec<u32>> {
    let ends = counts.into_iter().scan(0usize, |end, count| {
        *end = end.saturating_add(count);
        Some(u32::try_from(*end).ok())
    });
    std::iter::once(Some(0)).chain(ends).collect()
}

#[cfg(test)]
mod tests;
