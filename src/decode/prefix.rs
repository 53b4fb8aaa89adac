//! Finds the most probable translation of an Imputer's slots, summed over all fillings that collapse to it (prefix
//! beam search, Graves et al. 2006).
//!
//! If a token fits two slots, each of them may hold half of its probability, so that the blank wins in both; in the
//! sum the token wins. A language model of the target (shallow fusion) prevents mixtures of two translations.

use std::iter;

use super::ctc::{Lattice, Slot, symbol_at, symbols};
use crate::model::{Context, LanguageModel};

/// Number of prefixes kept after each slot, without and with a language model. More did not improve BLEU
/// (config/train/README.md).
const WIDTH: usize = 4;
const WIDTH_WITH_LM: usize = 8;

/// ln 1/2 with a margin for rounding.
const HALF: f32 = -0.69;

/// The possible tokens of a slot with their log-probabilities, each token once. A filled slot has its token with 0.
pub type TopK = Vec<(u32, f32)>;

/// Returns one token for each slot, with its log-probability there: the best filling that collapses to the most
/// probable translation. [`super::slots::ctc_collapse`] turns it back into the translation.
///
/// Deterministic: ties go to the prefix that ranked higher one slot before. `lm` is not used if a single filling has
/// more than half of the probability.
pub fn prefix_beam_search(slots: &[TopK], blank: u32, lm: Option<&LanguageModel>) -> Vec<(u32, f32)> {
    let best_filling: Vec<_> =
        slots.iter().map(|slot| best_of(slot).unwrap_or((blank, f32::NEG_INFINITY))).collect();
    // More than half of the total probability: no other translation can have more.
    if best_filling.iter().map(|&(_, log_prob)| log_prob).sum::<f32>() > HALF {
        return best_filling;
    }
    let found = match lm {
        None => search(slots, blank, &NoLm, WIDTH, 1),
        Some(lm) => search(slots, blank, lm, WIDTH_WITH_LM, 1),
    };
    let translation = found.into_iter().next().map(|(translation, _)| translation).unwrap_or_default();
    if collapses_to(&best_filling, &translation, blank) {
        return best_filling;
    }
    filling(slots, &translation, blank).unwrap_or(best_filling)
}

/// One of several translations of the same slots, as the filling that collapses to it.
#[derive(Clone, Debug, PartialEq)]
pub struct RankedFilling {
    /// One token for each slot, with its log-probability there.
    pub filling: Vec<(u32, f32)>,
    /// Log-probability of all fillings that collapse to the translation, plus the language model's score.
    pub score: f32,
}

/// Returns up to `count` different translations, most probable first. The search keeps more prefixes than
/// [`prefix_beam_search`], so it may find a more probable translation than that.
pub fn n_best(slots: &[TopK], blank: u32, lm: Option<&LanguageModel>, count: usize) -> Vec<RankedFilling> {
    let width = WIDTH_WITH_LM.max(2 * count);
    let found = match lm {
        None => search(slots, blank, &NoLm, width, count),
        Some(lm) => search(slots, blank, lm, width, count),
    };
    let ranked = found.into_iter().filter_map(|(translation, score)| {
        Some(RankedFilling { filling: filling(slots, &translation, blank)?, score })
    });
    ranked.collect()
}

/// The most probable filling that collapses to `translation`; `None` if no filling does.
fn filling(slots: &[TopK], translation: &[u32], blank: u32) -> Option<Vec<(u32, f32)>> {
    let symbols = symbols(translation, blank);
    let score = |slot: &TopK, symbol: u32| {
        slot.iter().find(|&&(token, _)| token == symbol).map_or(f32::NEG_INFINITY, |&(_, log_prob)| log_prob)
    };
    let scores: Vec<Vec<f32>> =
        slots.iter().map(|slot| symbols.iter().map(|&symbol| score(slot, symbol)).collect()).collect();
    let free = scores.iter().map(|scores| Slot::Free(scores)).collect();
    let path = Lattice::new(translation, &symbols, free).best_path()?;
    let filled = path.into_iter().map(|state| symbol_at(state, translation, blank));
    Some(slots.iter().zip(filled).map(|(slot, token)| (token, score(slot, token))).collect())
}

fn collapses_to(filling: &[(u32, f32)], translation: &[u32], blank: u32) -> bool {
    let tokens = filling.iter().map(|&(token, _)| token);
    let before = iter::once(blank).chain(tokens.clone());
    let collapsed = tokens.zip(before).filter(|&(token, before)| token != blank && token != before);
    collapsed.map(|(token, _)| token).eq(translation.iter().copied())
}

fn best_of(slot: &TopK) -> Option<(u32, f32)> {
    slot.iter().copied().reduce(|best, other| if other.1 > best.1 { other } else { best })
}

/// Adds a score to each token of a prefix.
trait PrefixScorer {
    type Context: Copy;

    fn start(&self) -> Self::Context;

    /// Returns the score of `token` after `context`, and the context that follows.
    fn next(&self, context: Self::Context, token: u32) -> (f32, Self::Context);

    /// Returns the score of ending the translation after `context`.
    fn end(&self, context: Self::Context) -> f32;

    /// Upper bound of the token scores of [`next`](Self::next).
    fn max_token_score(&self) -> f32;
}

/// The scorer without a language model: every score is 0.
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

/// A prefix of a translation, as its last token and the prefix before it.
struct Node<C> {
    parent: usize,
    token: u32,
    children: Vec<usize>,
    lm: LmState<C>,
}

/// The language model's score and context of a prefix.
#[derive(Clone, Copy)]
struct LmState<C> {
    score: f32,
    context: C,
}

/// All prefixes that were kept after any slot, each once.
struct Tree<C>(Vec<Node<C>>);

const ROOT: usize = 0;

impl<C: Copy> Tree<C> {
    fn new(context: C) -> Self {
        let lm = LmState { score: 0.0, context };
        Self(vec![Node { parent: ROOT, token: u32::MAX, children: Vec::new(), lm }])
    }

    /// The last token; `None` for the empty prefix.
    fn last(&self, node: usize) -> Option<u32> {
        (node != ROOT).then(|| self.0[node].token)
    }

    fn child(&self, node: usize, token: u32) -> Option<usize> {
        self.0[node].children.iter().copied().find(|&child| self.0[child].token == token)
    }

    fn add_child(&mut self, parent: usize, token: u32, lm: LmState<C>) -> usize {
        let child = self.0.len();
        self.0[parent].children.push(child);
        self.0.push(Node { parent, token, children: Vec::new(), lm });
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

/// A prefix with the log-probability of all fillings of the slots so far that collapse to it.
#[derive(Clone, Copy)]
struct Prefix<C> {
    node: NodeRef,
    /// Log-probability of the fillings that end with a blank.
    blank: f32,
    /// Log-probability of the fillings that end with the prefix's last token.
    non_blank: f32,
    /// Sum of both, set after all extensions are known.
    total: f32,
    lm: LmState<C>,
}

impl<C> Prefix<C> {
    /// Rank of the prefix, higher is better.
    fn score(&self) -> f32 {
        self.total + self.lm.score
    }
}

/// A node of the [`Tree`].
#[derive(Clone, Copy)]
enum NodeRef {
    Existing(usize),
    /// A parent and the token after it, not yet in the tree.
    New(usize, u32),
}

/// Returns the `count` best translations with their scores, best first, keeping `width` prefixes after each slot.
fn search<V: PrefixScorer>(
    slots: &[TopK],
    blank: u32,
    scorer: &V,
    width: usize,
    count: usize,
) -> Vec<(Vec<u32>, f32)> {
    let mut tree = Tree::new(scorer.start());
    let impossible = f32::NEG_INFINITY;
    let lm = tree.0[ROOT].lm;
    let mut beam = vec![(
        ROOT,
        Prefix { node: NodeRef::Existing(ROOT), blank: 0.0, non_blank: impossible, total: 0.0, lm },
    )];
    for slot in slots {
        let blank_score =
            slot.iter().find(|candidate| candidate.0 == blank).map_or(impossible, |candidate| candidate.1);
        let tokens = || slot.iter().copied().filter(|&(token, _)| token != blank);
        let mut next: Vec<Prefix<V::Context>> = Vec::with_capacity(beam.len() * (slot.len() + 1));
        for &(node, prefix) in &beam {
            let repeat = tokens().find(|&(token, _)| tree.last(node) == Some(token));
            let non_blank = repeat.map_or(impossible, |(_, log_prob)| prefix.non_blank + log_prob);
            next.push(Prefix {
                node: NodeRef::Existing(node),
                blank: prefix.total + blank_score,
                non_blank,
                total: impossible,
                ..prefix
            });
        }
        // Lower bound of the worst score that will be kept, if the beam is full.
        let least = next.iter().map(|p| log_add(p.blank, p.non_blank) + p.lm.score).reduce(f32::min);
        let floor = least.filter(|_| next.len() == width).unwrap_or(impossible);
        for &(node, prefix) in &beam {
            for (token, log_prob) in tokens() {
                // A repeated token needs a blank before it.
                let before = if tree.last(node) == Some(token) { prefix.blank } else { prefix.total };
                let non_blank = before + log_prob;
                let child = tree.child(node, token);
                let kept = child.and_then(|child| beam.iter().position(|&(kept, _)| kept == child));
                match kept {
                    Some(kept) => next[kept].non_blank = log_add(next[kept].non_blank, non_blank),
                    None if non_blank + prefix.lm.score + scorer.max_token_score() <= floor => {}
                    None => {
                        let child_ref = child.map_or(NodeRef::New(node, token), NodeRef::Existing);
                        let lm = child.map_or_else(
                            || {
                                let (token_score, context) = scorer.next(prefix.lm.context, token);
                                LmState { score: prefix.lm.score + token_score, context }
                            },
                            |child| tree.0[child].lm,
                        );
                        next.push(Prefix {
                            node: child_ref,
                            blank: impossible,
                            non_blank,
                            total: impossible,
                            lm,
                        });
                    }
                }
            }
        }
        next.iter_mut().for_each(|prefix| prefix.total = log_add(prefix.blank, prefix.non_blank));
        next.retain(|prefix| prefix.total > impossible);
        next.sort_by(|a, b| b.score().total_cmp(&a.score())); // stable
        next.truncate(width);
        beam.clear();
        for prefix in next {
            let node = match prefix.node {
                NodeRef::Existing(node) => node,
                NodeRef::New(parent, token) => tree.add_child(parent, token, prefix.lm),
            };
            beam.push((node, prefix));
        }
    }
    let ended = beam.into_iter().map(|(node, prefix)| (node, prefix.score() + scorer.end(prefix.lm.context)));
    let mut ended: Vec<(usize, f32)> = ended.collect();
    ended.sort_by(|a, b| b.1.total_cmp(&a.1)); // stable
    ended.into_iter().take(count).map(|(node, score)| (tree.text(node), score)).collect()
}

/// ln(eᵃ + eᵇ)
fn log_add(a: f32, b: f32) -> f32 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f32::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

#[cfg(test)]
pub(super) mod tests;
