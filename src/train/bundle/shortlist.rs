//! Learns a [`Shortlist`]: the target tokens that each source token is translated to, by IBM Model 1 (Brown et al.
//! 1993) with expectation maximization over parallel text.
//!
//! Counts are summed in the order of the text, so the same text gives the same file.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crate::model::{Bundle, Shortlist};
use crate::text::spans::Languages;
use crate::train::config::LengthLimit;
use crate::train::config::OnBadLine;
use crate::train::data::augment::spans::cut;
use crate::train::data::corpus::{Corpus, Pair, inner};
use crate::{Error, Result, files};

/// Options of [`shortlist`].
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Number of candidates of each source token, the most probable ones.
    pub per_token: usize,
    /// Number of target tokens that every sentence may use, the most frequent ones.
    pub common: usize,
    pub iterations: usize,
}

/// Statistics of a new shortlist.
#[derive(Clone, Copy, Debug)]
pub struct ShortlistStats {
    pub pairs: usize,
    pub skipped: usize,
    /// Mean number of candidates of a sentence of the text.
    pub candidates: f64,
    pub bytes: usize,
}

/// Learns a shortlist from parallel text, plain or gzip, and writes it into the bundle. Pairs with a line that is
/// empty, not UTF-8 or too long for the model are skipped.
///
/// # Errors
/// A file that cannot be read, unequal numbers of lines, no usable pair, or an option of 0.
pub fn shortlist(bundle: &Bundle, source: &Path, target: &Path, options: Options) -> Result<ShortlistStats> {
    let Options { per_token, common, iterations } = options;
    for (name, value) in [("per-token", per_token), ("common", common), ("iterations", iterations)] {
        if value == 0 {
            return Err(Error::Config(format!("--{name} must be at least 1, not 0")));
        }
    }
    let encode = |text: &str| bundle.tokenizer.encode(text);
    let limit = LengthLimit::tokens(bundle.config.shape.source_limit());
    let Corpus { mut pairs, skipped } = Corpus::read(source, target, limit, OnBadLine::Skip, encode)?;
    if pairs.is_empty() {
        let reason = format!("has no usable pair of lines ({} skipped)", skipped.total());
        return Err(Error::Data { path: source.to_path_buf(), line: 1, reason });
    }
    let (read, tokenizer, vocab) = (pairs.len(), &bundle.tokenizer, bundle.config.shape.vocab);
    pairs.extend(with_reserved(bundle, (source, target), limit)?);
    // A reserved token is a candidate only if the source contains it.
    let reserved = |token: &u32| tokenizer.reserved_index(*token).is_some();
    let mut lists = Lexicon::learn(&pairs, vocab, iterations).best(per_token + tokenizer.reserved());
    for list in &mut lists {
        list.retain(|token| !reserved(token));
        list.truncate(per_token);
    }
    let mut frequent = most_frequent(&pairs, vocab, common + tokenizer.reserved());
    frequent.retain(|token| !reserved(token));
    frequent.truncate(common);
    let shortlist = Shortlist::new(&frequent, &lists)?;
    let candidates: usize = pairs.iter().map(|pair| shortlist.candidates(&pair.source).len()).sum();
    let metadata = BTreeMap::from([
        ("per_token".to_owned(), per_token.to_string()),
        ("common".to_owned(), common.to_string()),
        ("iterations".to_owned(), iterations.to_string()),
        ("source_checksum".to_owned(), files::checksum(source)?),
        ("target_checksum".to_owned(), files::checksum(target)?),
    ]);
    let bytes = shortlist.to_bytes(&metadata)?;
    files::write(&bundle.dir.join(Bundle::SHORTLIST), &bytes)?;
    Ok(ShortlistStats {
        pairs: read,
        skipped: skipped.total(),
        candidates: candidates as f64 / pairs.len() as f64,
        bytes: bytes.len(),
    })
}

/// The pairs with shared spans once more, with reserved tokens instead of the spans, as the model reads them: "Uhr" after
/// a time is then a translation of its token, too. Empty if the tokenizer has no reserved tokens.
fn with_reserved(bundle: &Bundle, files: (&Path, &Path), limit: LengthLimit) -> Result<Vec<Pair>> {
    let (config, tokenizer) = (&bundle.config, &bundle.tokenizer);
    if tokenizer.reserved() == 0 {
        return Ok(Vec::new());
    }
    let languages = Languages::new(&config.source, &config.target);
    let mut pairs = Vec::new();
    let encode = |text: &str| tokenizer.encode(text);
    Corpus::read_texts(files, limit, OnBadLine::Skip, encode, |source, target| {
        let sides = cut(&[source.to_owned(), target.to_owned()], &languages);
        if sides[0].spans() > 0 {
            pairs.push(sides.map(|side| side.encode_reserved(0, tokenizer)));
        }
    })?;
    let pair = |[source, target]: [Result<Vec<u32>>; 2]| Ok(Pair { source: source?, target: target? });
    pairs.into_iter().map(pair).collect()
}

/// Target tokens by frequency; ties go to the lower id.
fn most_frequent(pairs: &[Pair], vocab: usize, count: usize) -> Vec<u32> {
    let mut counts = vec![0u64; vocab];
    pairs.iter().flat_map(|pair| inner(&pair.target)).for_each(|&token| counts[token as usize] += 1);
    let mut tokens: Vec<u32> = (0..vocab as u32).filter(|&token| counts[token as usize] > 0).collect();
    tokens.sort_by_key(|&token| std::cmp::Reverse(counts[token as usize]));
    tokens.truncate(count);
    tokens
}

/// `p(target token | source token)` for tokens that occur together in a pair.
struct Lexicon {
    vocab: usize,
    /// Source token (`vocab` for the empty word) and target token, in the order of the text.
    links: Vec<(u32, u32)>,
    probabilities: Vec<f64>,
}

impl Lexicon {
    fn learn(pairs: &[Pair], vocab: usize, iterations: usize) -> Self {
        let none = vocab as u32;
        let mut places: HashMap<(u32, u32), u32> = HashMap::new();
        let mut links = Vec::new();
        for pair in pairs {
            for &target in inner(&pair.target) {
                for &source in inner(&pair.source).iter().chain([&none]) {
                    places.entry((source, target)).or_insert_with(|| {
                        links.push((source, target));
                        links.len() as u32 - 1
                    });
                }
            }
        }
        let mut probabilities = vec![1.0; links.len()];
        for _ in 0..iterations {
            let mut counts = vec![0.0; links.len()];
            let mut own = Vec::new();
            for pair in pairs {
                for &target in inner(&pair.target) {
                    own.clear();
                    let sources = inner(&pair.source).iter().chain([&none]);
                    own.extend(sources.map(|&source| places[&(source, target)] as usize));
                    let sum: f64 = own.iter().map(|&link| probabilities[link]).sum();
                    own.iter().for_each(|&link| counts[link] += probabilities[link] / sum);
                }
            }
            let mut sums = vec![0.0; vocab + 1];
            links.iter().zip(&counts).for_each(|(&(source, _), count)| sums[source as usize] += count);
            for ((&(source, _), count), p) in links.iter().zip(&counts).zip(&mut probabilities) {
                *p = count / sums[source as usize];
            }
        }
        Self { vocab, links, probabilities }
    }

    /// The `count` most probable target tokens of each source token; ties go to the lower id.
    fn best(&self, count: usize) -> Vec<Vec<u32>> {
        let mut lists = vec![Vec::new(); self.vocab];
        for (&(source, target), &p) in self.links.iter().zip(&self.probabilities) {
            if let Some(list) = lists.get_mut(source as usize) {
                list.push((p, target));
            }
        }
        let best = |mut list: Vec<(f64, u32)>| {
            list.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            list.into_iter().take(count).map(|(_, target)| target).collect()
        };
        lists.into_iter().map(best).collect()
    }
}

#[cfg(test)]
mod tests;
