//! Beam search with an autoregressive network: each pass adds one token to every candidate. Teachers translate with
//! it, because a parallel model learns best from a teacher's translations. A beam of one is greedy search.
//!
//! The result for a sentence does not depend on the other sentences in its batch.

use super::Hypothesis;
use super::translate::batches;
use crate::model::{Memory, Network, Padded, Past};
use crate::nn::gemm::Precision;
use crate::nn::{Mode, ops};
use crate::text::Specials;
use crate::{Error, Result};

/// Options of [`search`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchOptions {
    /// Number of candidates kept for each sentence; 0 counts as 1.
    pub beam: usize,
    /// Exponent α of the length normalization: a candidate's score is its log-probability divided by `(tokens +
    /// eos)^α`.
    pub length_penalty: f32,
    /// Upper bound of a batch: beam × sentences × longest source. A single sentence above it makes its own batch.
    pub max_batch_tokens: usize,
    /// Precision of the matrix products.
    pub precision: Precision,
}

impl SearchOptions {
    pub fn new(beam: usize) -> Self {
        Self { beam, length_penalty: 1.0, max_batch_tokens: 4096, precision: Precision::F32 }
    }
}

/// The result of [`search`] for one sentence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SearchResult {
    /// Without bos and eos; its score is normalized by length.
    pub hypothesis: Hypothesis,
    /// Whether the network predicted eos within the length limit.
    pub finished: bool,
}

/// Returns the best translation of each of `sources` (`bos x1..xn eos`), in order. A source without words has the
/// empty translation.
///
/// A translation has at most twice the tokens of its source plus ten, and at most as many as the network has
/// positions. One that reaches the limit is cut there, and `finished` is false.
///
/// # Errors
/// Before anything is computed: [`Error::TooLarge`] for a source above the network's limit, [`Error::Model`] for an
/// id outside the vocabulary.
pub fn search(network: &Network, sources: &[Vec<u32>], options: &SearchOptions) -> Result<Vec<SearchResult>> {
    let (limit, vocabulary) = (network.shape().max_positions, network.shape().vocab);
    if let Some(long) = sources.iter().find(|source| source.len() > limit) {
        return Err(Error::TooLarge { what: "tokens of a sentence", size: long.len(), limit });
    }
    if let Some(id) = sources.iter().flatten().find(|&&id| id as usize >= vocabulary) {
        return Err(Error::Model(format!("token {id} is outside the vocabulary of {vocabulary}")));
    }
    let empty = SearchResult { finished: true, ..SearchResult::default() };
    let mut done = vec![empty; sources.len()];
    let mut order: Vec<usize> = (0..sources.len()).filter(|&i| sources[i].len() > 2).collect();
    order.sort_by_key(|&i| sources[i].len());
    let beam = options.beam.max(1);
    for batch in batches(&order, |&i| beam * sources[i].len(), options.max_batch_tokens) {
        let texts: Vec<&[u32]> = batch.iter().map(|&i| sources[i].as_slice()).collect();
        for (&i, found) in batch.iter().zip(search_batch(network, &texts, beam, options)?) {
            done[i] = found;
        }
    }
    Ok(done)
}

/// A candidate that has not ended.
#[derive(Clone, Debug)]
struct ActiveCandidate {
    tokens: Vec<u32>,
    log_probs: Vec<f32>,
    /// Sum of `log_probs`; minus infinity for an unused place in the beam.
    sum: f32,
}

/// The beam of one sentence.
#[derive(Debug)]
struct SentenceSearch {
    /// Index in the batch.
    index: usize,
    /// Largest number of inner tokens.
    max_tokens: usize,
    /// One for each place of the beam.
    active: Vec<ActiveCandidate>,
    finished: Vec<Hypothesis>,
}

/// A token that could follow an active candidate.
struct Continuation {
    row: usize,
    token: u32,
    log_prob: f32,
    sum: f32,
}

impl SentenceSearch {
    fn new(index: usize, max_tokens: usize, beam: usize) -> Self {
        let place = |i| ActiveCandidate {
            tokens: Vec::new(),
            log_probs: Vec::new(),
            // All candidates start equal, so only the first one is expanded.
            sum: if i == 0 { 0.0 } else { f32::NEG_INFINITY },
        };
        Self { index, max_tokens, active: (0..beam).map(place).collect(), finished: Vec::new() }
    }

    /// Extends the candidates by their best next tokens. Returns, for each new active candidate, the index of the one
    /// that it extends.
    fn advance(&mut self, top: &[Vec<(u32, f32)>], eos: u32, length_penalty: f32) -> Vec<usize> {
        let beam = self.active.len();
        let mut candidates: Vec<Continuation> = Vec::new();
        for (row, (active, top)) in self.active.iter().zip(top).enumerate() {
            let follow =
                |&(token, log_prob): &_| Continuation { row, token, log_prob, sum: active.sum + log_prob };
            candidates.extend(top.iter().map(follow).filter(|c| c.sum.is_finite()));
        }
        candidates.sort_by(|a, b| b.sum.total_cmp(&a.sum)); // stable: ties keep the better row, then the token's rank
        let (mut next, mut origins) = (Vec::with_capacity(beam), Vec::with_capacity(beam));
        for (rank, candidate) in candidates.iter().enumerate() {
            let ActiveCandidate { mut tokens, mut log_probs, .. } = self.active[candidate.row].clone();
            if candidate.token == eos {
                // An end counts only if it is among the best `beam` continuations.
                if rank < beam {
                    let score = candidate.sum / ((tokens.len() + 1) as f32).powf(length_penalty);
                    self.finished.push(Hypothesis { tokens, token_log_probs: log_probs, score });
                }
            } else if next.len() < beam {
                tokens.push(candidate.token);
                log_probs.push(candidate.log_prob);
                origins.push(candidate.row);
                next.push(ActiveCandidate { tokens, log_probs, sum: candidate.sum });
            }
        }
        while next.len() < beam {
            let filler = ActiveCandidate { sum: f32::NEG_INFINITY, ..self.active[0].clone() };
            next.push(ActiveCandidate { tokens: [filler.tokens, vec![eos]].concat(), ..filler });
            origins.push(0);
        }
        self.active = next;
        origins
    }

    fn done(&self) -> bool {
        let possible = self.active[0].sum.is_finite();
        // Candidates may exceed the limit by one token, so that eos can still follow the last allowed one.
        self.finished.len() >= self.active.len() || !possible || self.active[0].tokens.len() > self.max_tokens
    }

    fn best(mut self, length_penalty: f32) -> SearchResult {
        super::best_first(&mut self.finished);
        if let Some(hypothesis) = self.finished.into_iter().next() {
            return SearchResult { hypothesis, finished: true };
        }
        let Some(ActiveCandidate { mut tokens, mut log_probs, sum }) = self.active.into_iter().next() else {
            return SearchResult::default();
        };
        tokens.truncate(self.max_tokens);
        log_probs.truncate(self.max_tokens);
        let score = sum / (tokens.len().max(1) as f32).powf(length_penalty);
        let hypothesis = if sum.is_finite() {
            Hypothesis { tokens, token_log_probs: log_probs, score }
        } else {
            Hypothesis::default() // every log-probability was NaN or infinite
        };
        SearchResult { hypothesis, finished: false }
    }
}

/// [`search`] for one sentence and a network that caches nothing between passes. `best` takes the candidates'
/// tokens (all of one length) and a count, and returns that many best next tokens of each with their
/// log-probabilities.
///
/// # Errors
/// Those of `best`.
pub fn search_prefixes(
    max_tokens: usize,
    options: &SearchOptions,
    eos: u32,
    mut best: impl FnMut(&[&[u32]], usize) -> Result<Vec<Vec<(u32, f32)>>>,
) -> Result<SearchResult> {
    let beam = options.beam.max(1);
    let mut sentence = SentenceSearch::new(0, max_tokens, beam);
    while !sentence.done() {
        let prefixes: Vec<&[u32]> = sentence.active.iter().map(|active| active.tokens.as_slice()).collect();
        let top = best(&prefixes, beam + 1)?;
        sentence.advance(&top, eos, options.length_penalty);
    }
    Ok(sentence.best(options.length_penalty))
}

fn search_batch(
    network: &Network,
    sources: &[&[u32]],
    beam: usize,
    options: &SearchOptions,
) -> Result<Vec<SearchResult>> {
    let specials = network.specials();
    let mode = Mode::training(0.0, 0, options.precision);
    let source = Padded::new(sources.iter().copied(), specials.pad, network.device())?;
    let states = network.encode(&source, &mode)?;
    let mut memory: Memory = network.memory(&states, &source.lengths, &mode)?;
    // The decoder reads bos and the tokens. One position is left free, as in training.
    let limit = network.shape().max_positions - 2;
    let max_tokens = |source: &[u32]| (2 * (source.len() - 2) + 10).min(limit);
    let mut running: Vec<SentenceSearch> = sources
        .iter()
        .enumerate()
        .map(|(i, source)| SentenceSearch::new(i, max_tokens(source), beam))
        .collect();
    let mut tokens = vec![specials.bos; running.len() * beam];
    let mut past = Past::default();
    let mut done = vec![SearchResult::default(); sources.len()];
    while !running.is_empty() {
        let states = network.decode_next(&tokens, &mut past, &memory, &mode)?;
        // At most one of a candidate's tokens is eos, so `beam + 1` tokens contain `beam` that do not end it.
        let top = top_tokens(network, &states, &specials, beam + 1, &mode)?;
        let (mut rows, mut kept) = (Vec::new(), Vec::new());
        let mut unfinished = Vec::with_capacity(running.len());
        for (at, mut sentence) in running.into_iter().enumerate() {
            let origins = sentence.advance(&top[at * beam..][..beam], specials.eos, options.length_penalty);
            if sentence.done() {
                let index = sentence.index;
                done[index] = sentence.best(options.length_penalty);
            } else {
                rows.extend(origins.into_iter().map(|row| (at * beam + row) as u32));
                kept.push(at as u32);
                unfinished.push(sentence);
            }
        }
        if kept.len() < memory.lengths.len() && !kept.is_empty() {
            memory.select(&kept)?;
        }
        let unchanged = rows.len() == tokens.len() && rows.iter().zip(0..).all(|(&row, i)| row == i);
        if !unchanged && !rows.is_empty() {
            past.select(&rows)?;
        }
        running = unfinished;
        let newest = |active: &ActiveCandidate| active.tokens.last().copied().unwrap_or(specials.eos);
        tokens = running.iter().flat_map(|sentence| sentence.active.iter().map(newest)).collect();
    }
    Ok(done)
}

fn top_tokens(
    network: &Network,
    states: &candle_core::Tensor,
    specials: &Specials,
    count: usize,
    mode: &Mode,
) -> Result<Vec<Vec<(u32, f32)>>> {
    let logits = network.logits(states, mode)?;
    Ok(ops::top_tokens(&logits, specials.eos, network.forbidden(), count)?)
}

#[cfg(test)]
mod tests;
