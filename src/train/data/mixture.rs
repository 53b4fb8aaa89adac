//! Corpora that are sampled by weight.
//!
//! An epoch is long enough to use each pair of each corpus at least once at the shares given by the weights; a small
//! corpus is repeated up to its cap. Within an epoch a pair is used ⌊c⌋ or ⌈c⌉ times, where c is the mean of its
//! corpus.
//!
//! The order of an epoch is a pure function of seed and epoch. It is cut into parts of a bounded number of pairs. A
//! part is augmented, encoded and batched as a whole, again as a pure function of seed and number. So the position in
//! the data is a part and a batch, and memory holds the text only once.

use std::path::Path;
use std::sync::Arc;

use super::augment::Augmenter;
use super::lines::Lines;
use super::template::Templates;
use crate::text::Tokenizer;
use crate::text::spans::Languages;
use crate::train::config::{Augment, CorpusConfig, Data, LengthLimit, OnBadLine};
use crate::train::data::batches::{BatchPlan, PairLengths};
use crate::train::data::corpus::{Corpus, Pair};
use crate::train::observe::event::{Share, Skipped};
use crate::train::rng::Rng;
use crate::{Error, Result};

/// Pairs of a part, before sentences are joined. Enough for batches of equal length; one part is in memory, and two more
/// for each thread that prepares parts.
const PART: usize = 1 << 16;

/// All training text of a run, and how often each corpus is sampled.
pub struct Mixture {
    corpora: Vec<Weighted>,
    tokenizer: Arc<Tokenizer>,
    languages: Languages,
    limit: LengthLimit,
    augment: Augment,
    pub skipped: Skipped,
    part_size: usize,
}

struct Weighted {
    name: String,
    source: Lines,
    target: Lines,
    /// Number of pairs sampled in an epoch.
    sampled: usize,
}

/// The batches of one part of an epoch.
pub struct EpochPart {
    pub pairs: Vec<Pair>,
    pub plan: BatchPlan,
}

impl Mixture {
    /// Reads the corpora. Sentences beyond `limit` are bad lines.
    ///
    /// # Errors
    /// A file that cannot be read or has another number of lines than its partner; a bad line under
    /// [`OnBadLine::Error`]; a corpus without usable pairs.
    pub fn read(
        corpora: &[CorpusConfig],
        data: &Data,
        limit: LengthLimit,
        tokenizer: Arc<Tokenizer>,
    ) -> Result<Self> {
        let mut skipped = Skipped::default();
        let read = |corpus| Weighted::read(corpus, data.on_bad_line, limit, &tokenizer, &mut skipped);
        let mut read: Vec<Weighted> = corpora.iter().map(read).collect::<Result<_>>()?;
        let total: f64 = corpora.iter().map(|corpus| corpus.weight).sum();
        let of_epoch = |(weighted, corpus): (&Weighted, &CorpusConfig)| {
            weighted.source.len() as f64 * total / corpus.weight
        };
        let epoch = read.iter().zip(corpora).map(of_epoch).fold(0.0, f64::max);
        for (weighted, corpus) in read.iter_mut().zip(corpora) {
            let wanted = epoch * corpus.weight / total;
            let capped = corpus.cap.map_or(f64::INFINITY, |cap| cap * weighted.source.len() as f64);
            weighted.sampled = (wanted.min(capped).round() as usize).max(1);
        }
        let augment = data.augment.unwrap_or(Augment::NONE);
        let languages = Languages::new(&data.source_lang, &data.target_lang);
        let mixture = Self { corpora: read, tokenizer, languages, limit, augment, skipped, part_size: PART };
        let (pairs, sampled) = (mixture.pairs(), mixture.sampled());
        let max_pairs = u32::MAX as usize;
        if pairs > max_pairs || sampled > max_pairs {
            return Err(Error::Config(format!(
                "the corpora have {pairs} pairs, and {sampled} are sampled in an epoch; at most {max_pairs} are \
                 supported: change weights, or set a cap"
            )));
        }
        Ok(mixture)
    }

    /// Number of usable pairs, without repeats.
    pub fn pairs(&self) -> usize {
        self.corpora.iter().map(|corpus| corpus.source.len()).sum()
    }

    /// Number of pairs of an epoch, repeats included.
    pub fn sampled(&self) -> usize {
        self.corpora.iter().map(|corpus| corpus.sampled).sum()
    }

    pub fn shares(&self) -> Vec<Share> {
        let share = |corpus: &Weighted| Share {
            name: corpus.name.clone(),
            pairs: corpus.source.len(),
            sampled: corpus.sampled,
        };
        self.corpora.iter().map(share).collect()
    }

    /// Number of parts of an epoch.
    pub fn parts(&self) -> u64 {
        self.sampled().div_ceil(self.part_size) as u64
    }

    /// The pairs of epoch `epoch`, in order, as indices over all corpora.
    pub(super) fn order(&self, rng: &Rng, epoch: u64) -> Vec<u32> {
        let mut rng = rng.fork("mixture", epoch);
        let mut order = Vec::with_capacity(self.sampled());
        let mut first = 0;
        for corpus in &self.corpora {
            let (pairs, sampled) = (corpus.source.len(), corpus.sampled);
            for _ in 0..sampled / pairs {
                order.extend(first..first + pairs as u32);
            }
            order.extend(rng.sample(sampled % pairs, pairs).into_iter().map(|index| first + index as u32));
            first += pairs as u32;
        }
        rng.shuffle(&mut order);
        order
    }

    /// Makes part `number`, counted over all epochs. `order` belongs to its epoch.
    ///
    /// # Errors
    /// Those of the tokenizer; a pair that is longer than a batch.
    pub(super) fn part(
        &self,
        order: &[u32],
        number: u64,
        rng: &Rng,
        batch_tokens: usize,
    ) -> Result<EpochPart> {
        let begin = (number % self.parts()) as usize * self.part_size;
        let entries = &order[begin.min(order.len())..(begin + self.part_size).min(order.len())];
        let texts: Vec<(&str, &str)> = entries.iter().map(|&entry| self.text(entry)).collect();
        let Self { augment, tokenizer, languages, limit, .. } = self;
        let augmenter = Augmenter { rates: *augment, tokenizer, languages, limit: *limit };
        let draws = rng.fork("augment", number);
        let mut pairs = Vec::with_capacity(texts.len());
        let mut at = 0;
        while at < texts.len() {
            let (pair, used) = augmenter.pair(&texts[at..], &mut draws.fork("pair", at as u64))?;
            pairs.push(pair);
            at += used;
        }
        let length = |pair: &Pair| PairLengths { source: pair.source.len(), target: pair.target.len() };
        let lengths: Vec<PairLengths> = pairs.iter().map(length).collect();
        let plan = BatchPlan::new(&lengths, batch_tokens, rng, number)?;
        Ok(EpochPart { pairs, plan })
    }

    /// The text of a pair, by its index over all corpora.
    fn text(&self, entry: u32) -> (&str, &str) {
        let mut index = entry as usize;
        for corpus in &self.corpora {
            if index < corpus.source.len() {
                return (corpus.source.get(index), corpus.target.get(index));
            }
            index -= corpus.source.len();
        }
        ("", "")
    }

    #[cfg(test)]
    pub(super) fn in_parts_of(self, part_size: usize) -> Self {
        Self { part_size, ..self }
    }
}

impl Weighted {
    fn read(
        corpus: &CorpusConfig,
        on_bad_line: OnBadLine,
        limit: LengthLimit,
        tokenizer: &Tokenizer,
        skipped: &mut Skipped,
    ) -> Result<Self> {
        let (mut source, mut target) = (Lines::default(), Lines::default());
        let (max_pairs, max_repeats) = (corpus.max_pairs.unwrap_or(usize::MAX), corpus.max_repeats);
        let mut templates = Templates::default();
        let mut surplus = 0;
        for (source_file, target_file) in corpus.files(Path::new("")) {
            let keep = |s: &str, t: &str| {
                let repeats = max_repeats.is_some_and(|max| templates.count(s) > max);
                if repeats || source.len() >= max_pairs {
                    surplus += 1;
                    return;
                }
                source.push(s);
                target.push(t);
            };
            let encode = |text: &str| tokenizer.encode(text);
            let files = (source_file.as_path(), target_file.as_path());
            skipped.add(&Corpus::read_texts(files, limit, on_bad_line, encode, keep)?);
        }
        skipped.surplus += surplus;
        if source.len() == 0 {
            return Err(Error::Config(format!("corpus {} has no usable pairs", corpus.name)));
        }
        source.shrink();
        target.shrink();
        Ok(Self { name: corpus.name.clone(), source, target, sampled: 0 })
    }
}

#[cfg(test)]
mod tests;
