//! What an Imputer's slots say together: the likeliest translation, each with all fillings that mean it (prefix search,
//! Graves et al. 2006), in place of the likeliest filling.
//!
//! A word that may stand in either of two slots has half a probability in each, and the blank may win in both; with
//! their sum the word wins. A language model may have its say (shallow fusion): slots are filled side by side, so that
//! one half of a word may come from one translation and the other half from another.

use std::iter;

use super::ctc::{Lattice, Slot, symbol_at, symbols};
use crate::model::{Context, LanguageModel};

/// Translations that are kept from slot to slot, and how many with a language model. More gain nothing
/// (config/train/README.md).
const WIDTH: usize = 4;
const WIDTH_WITH_LM: usize = 8;

/// ln 1/2, and a little for rounding.
const HALF: f32 = -0.69;

/// What a slot may say and the log-probability of each; of a slot that is written, its token and 0. What is left
/// out is impossible. No token stands there twice.
pub type TopK = Vec<(u32, f32)>;

/// The likeliest translation found, filled into the slots in its likeliest way, with what each slot gives for it: so
/// that reading the slots ([`super::slots::ctc_collapse`]) says the translation. Deterministic; of equal ones that which was
/// likelier a slot before. Where the slots alone are more than half sure, `lm` is not asked.
pub fn prefix_beam_search(slots: &[TopK], blank: u32, lm: Option<&LanguageModel>) -> Vec<(u32, f32)> {
    let surest: Vec<_> =
        slots.iter().map(|slot| best_of(slot).unwrap_or((blank, f32::NEG_INFINITY))).collect();
    // More than half of all fillings: nothing else can be as likely.
    if surest.iter().map(|&(_, log_prob)| log_prob).sum::<f32>() > HALF {
        return surest;
    }
    let translation = match lm {
        None => search(slots, blank, &NoLm, WIDTH),
        Some(lm) => search(slots, blank, lm, WIDTH_WITH_LM),
    };
    if collapses_to(&surest, &translation, blank) {
        return surest;
    }
    let symbols = symbols(&translation, blank);
    let score = |slot: &TopK, symbol: u32| {
        slot.iter().find(|&&(token, _)| token == symbol).map_or(f32::NEG_INFINITY, |&(_, log_prob)| log_prob)
    };
    let scores: Vec<Vec<f32>> =
        slots.iter().map(|slot| symbols.iter().map(|&symbol| score(slot, symbol)).collect()).collect();
    let free = scores.iter().map(|scores| Slot::Free(scores)).collect();
    let Some(path) = Lattice::new(&translation, &symbols, free).best_path() else {
        return surest; // nothing is possible
    };
    let filled = path.into_iter().map(|state| symbol_at(state, &translation, blank));
    slots.iter().zip(filled).map(|(slot, token)| (token, score(slot, token))).collect()
}

fn collapses_to(filling: &[(u32, f32)], translation: &[u32], blank: u32) -> bool {
    let tokens = filling.iter().map(|&(token, _)| token);
    let before = iter::once(blank).chain(tokens.clone());
    let words = tokens.zip(before).filter(|&(token, before)| token != blank && token != before);
    words.map(|(token, _)| token).eq(translation.iter().copied())
}

fn best_of(slot: &TopK) -> Option<(u32, f32)> {
    slot.iter().copied().reduce(|best, other| if other.1 > best.1 { other } else { best })
}

/// What has its say beside the slots.
trait PrefixScorer {
    type Context: Copy;

    fn start(&self) -> Self::Context;

    /// What a token is token_score behind a context, and the context behind it.
    fn next(&self, context: Self::Context, token: u32) -> (f32, Self::Context);

    /// What it is token_score that a translation ends.
    fn end(&self, context: Self::Context) -> f32;

    /// No token is token_score more.
    fn max_token_score(&self) -> f32;
}

/// None has.
struct NoLm;

impl PrefixScorer for NoLm {
    type Context = ();

    fn start(&self) {}

    fn next(&self, (): (), _: u32) -> (f32, ()) {
        (0.0, ())
    }

    fn end(&self, (): ()) -> f32 {
        0.0
    }

    fn max_token_score(&self) -> f32 {
        0.0
    }
}

impl PrefixScorer for LanguageModel {
    type Context = Context;

    fn start(&self) -> Context {
        self.start()
    }

    fn next(&self, context: Context, token: u32) -> (f32, Context) {
        let (log_prob, context) = self.next(context, token);
        (self.fusion().token_score(log_prob), context)
    }

    fn end(&self, context: Context) -> f32 {
        self.fusion().end(self.end(context))
    }

    fn max_token_score(&self) -> f32 {
        self.fusion().max_token_score()
    }
}

/// A translation, or the beginning of one, as the last token and what stands before it.
struct Node<C> {
    parent: usize,
    token: u32,
    children: Vec<usize>,
    spoken: LmState<C>,
}

/// What a voice says of a beginning.
#[derive(Clone, Copy)]
struct LmState<C> {
    token_score: f32,
    context: C,
}

/// All beginnings that were ever kept, each once.
struct Tree<C>(Vec<Node<C>>);

const ROOT: usize = 0;

impl<C: Copy> Tree<C> {
    fn new(context: C) -> Self {
        let spoken = LmState { token_score: 0.0, context };
        Self(vec![Node { parent: ROOT, token: u32::MAX, children: Vec::new(), spoken }])
    }

    /// The token that it ends with, if it has any.
    fn last(&self, node: usize) -> Option<u32> {
        (node != ROOT).then(|| self.0[node].token)
    }

    fn child(&self, node: usize, token: u32) -> Option<usize> {
        self.0[node].children.iter().copied().find(|&child| self.0[child].token == token)
    }

    fn grow(&mut self, parent: usize, token: u32, spoken: LmState<C>) -> usize {
        let child = self.0.len();
        self.0[parent].children.push(child);
        self.0.push(Node { parent, token, children: Vec::new(), spoken });
        child
    }

    fn text(&self, mut node: usize) -> Vec<u32> {
        let mut text = Vec::new();
        while let Some(token) = self.last(node) {
            text.push(token);
            node = self.0[node].parent;
        }
        text.reverse();
        text
    }
}

/// A beginning with the log-probability of all fillings of the slots so far that mean it.
#[derive(Clone, Copy)]
struct Prefix<C> {
    at: At,
    /// Of those that end with a blank.
    blank: f32,
    /// Of those that end with its last token.
    word: f32,
    /// Their sum, once both are known.
    all: f32,
    spoken: LmState<C>,
}

impl<C> Prefix<C> {
    /// By which beginnings are compared.
    fn score(&self) -> f32 {
        self.all + self.spoken.token_score
    }
}

#[derive(Clone, Copy)]
enum At {
    Known(usize),
    /// A token more than a known one.
    New(usize, u32),
}

/// The best translation found, with `width` beginnings kept from slot to slot.
fn search<V: PrefixScorer>(slots: &[TopK], blank: u32, voice: &V, width: usize) -> Vec<u32> {
    let mut tree = Tree::new(voice.start());
    let impossible = f32::NEG_INFINITY;
    let spoken = tree.0[ROOT].spoken;
    let mut beam =
        vec![(ROOT, Prefix { at: At::Known(ROOT), blank: 0.0, word: impossible, all: 0.0, spoken })];
    for slot in slots {
        let silent = slot.iter().find(|choice| choice.0 == blank).map_or(impossible, |choice| choice.1);
        let words = || slot.iter().copied().filter(|&(token, _)| token != blank);
        let mut next: Vec<Prefix<V::Context>> = Vec::with_capacity(beam.len() * (slot.len() + 1));
        for &(node, prefix) in &beam {
            let again = words().find(|&(token, _)| tree.last(node) == Some(token));
            let word = again.map_or(impossible, |(_, log_prob)| prefix.word + log_prob);
            next.push(Prefix {
                at: At::Known(node),
                blank: prefix.all + silent,
                word,
                all: impossible,
                ..prefix
            });
        }
        // What the last of them has at least, where no more are kept.
        let least = next.iter().map(|p| log_add(p.blank, p.word) + p.spoken.token_score).reduce(f32::min);
        let floor = least.filter(|_| next.len() == width).unwrap_or(impossible);
        for &(node, prefix) in &beam {
            for (token, log_prob) in words() {
                // What is meant twice a blank sets apart.
                let before = if tree.last(node) == Some(token) { prefix.blank } else { prefix.all };
                let word = before + log_prob;
                let child = tree.child(node, token);
                let kept = child.and_then(|child| beam.iter().position(|&(kept, _)| kept == child));
                match kept {
                    Some(kept) => next[kept].word = log_add(next[kept].word, word),
                    None if word + prefix.spoken.token_score + voice.max_token_score() <= floor => {}
                    None => {
                        let at = child.map_or(At::New(node, token), At::Known);
                        let spoken = child.map_or_else(
                            || {
                                let (token_score, context) = voice.next(prefix.spoken.context, token);
                                LmState { token_score: prefix.spoken.token_score + token_score, context }
                            },
                            |child| tree.0[child].spoken,
                        );
                        next.push(Prefix { at, blank: impossible, word, all: impossible, spoken });
                    }
                }
            }
        }
        next.iter_mut().for_each(|prefix| prefix.all = log_add(prefix.blank, prefix.word));
        next.retain(|prefix| prefix.all > impossible);
        next.sort_by(|a, b| b.score().total_cmp(&a.score())); // stable
        next.truncate(width);
        beam.clear();
        for prefix in next {
            let node = match prefix.at {
                At::Known(node) => node,
                At::New(parent, token) => tree.grow(parent, token, prefix.spoken),
            };
            beam.push((node, prefix));
        }
    }
    let ended =
        beam.into_iter().map(|(node, prefix)| (node, prefix.score() + voice.end(prefix.spoken.context)));
    let best = ended.reduce(|best, other| if other.1 > best.1 { other } else { best });
    best.map(|(node, _)| tree.text(node)).unwrap_or_default()
}

/// ln(eᵃ + eᵇ)
fn log_add(a: f32, b: f32) -> f32 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f32::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

#[cfg(test)]
pub(super) mod tests;
