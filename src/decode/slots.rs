//! The slots of an Imputer's canvas (Saharia et al. 2020, arXiv 2004.07437): which of them a pass fills, and the
//! tokens that they collapse to.

use super::Prediction;
use crate::text::Specials;

/// Returns the most certain masked slot of every block of `block` neighbouring slots, as ascending indices into
/// `wanted`; ties go to the lower slot. `wanted` are the masked slots, ascending, with one prediction each. Blocks
/// without a masked slot contribute nothing. `block` counts as at least 1.
pub fn argmax_per_block(wanted: &[usize], predictions: &[Prediction], block: usize) -> Vec<usize> {
    let block = block.max(1);
    let mut best_of_blocks: Vec<usize> = Vec::new();
    for (i, (&slot, prediction)) in wanted.iter().zip(predictions).enumerate() {
        match best_of_blocks.last_mut() {
            Some(best) if wanted[*best] / block == slot / block => {
                if prediction.log_prob.total_cmp(&predictions[*best].log_prob).is_gt() {
                    *best = i;
                }
            }
            _ => best_of_blocks.push(i),
        }
    }
    best_of_blocks
}

/// The token that a prediction writes to a slot. A predicted mask counts as a blank.
pub fn imputed_token(predicted: u32, specials: &Specials) -> u32 {
    if predicted == specials.mask { specials.blank() } else { predicted }
}

/// Collapses slots to tokens and their log-probabilities (CTC, Graves et al. 2006): a run of one token becomes that
/// token with the run's highest log-probability; blanks and masks are dropped.
pub fn ctc_collapse(slots: &[u32], log_probs: &[f32], specials: &Specials) -> (Vec<u32>, Vec<f32>) {
    let (mut tokens, mut best): (Vec<u32>, Vec<f32>) = (Vec::new(), Vec::new());
    let mut before = specials.blank();
    for (&token, &log_prob) in slots.iter().zip(log_probs) {
        if token != specials.blank() && token != specials.mask {
            match best.last_mut() {
                Some(best) if before == token => *best = best.max(log_prob),
                _ => {
                    tokens.push(token);
                    best.push(log_prob);
                }
            }
        }
        before = token;
    }
    (tokens, best)
}

#[cfg(test)]
mod tests;
