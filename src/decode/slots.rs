//! The slots of an Imputer's canvas (Saharia et al. 2020, arXiv 2004.07437): which of them a pass writes, and which tokens they
//! collapse to.

use super::Prediction;
use crate::text::Specials;

/// The most certain of every `block` neighbouring slots, as indices into `wanted`,
/// ascending; ties at the lower slot. `wanted` are the masked slots, ascending, that `predictions` answer. A block
/// without a masked slot has none. `block` counts as at least 1.
pub fn argmax_per_block(wanted: &[usize], predictions: &[Prediction], block: usize) -> Vec<usize> {
    let block = block.max(1);
    let mut surest: Vec<usize> = Vec::new();
    for (i, (&slot, prediction)) in wanted.iter().zip(predictions).enumerate() {
        match surest.last_mut() {
            Some(best) if wanted[*best] / block == slot / block => {
                if prediction.log_prob.total_cmp(&predictions[*best].log_prob).is_gt() {
                    *best = i;
                }
            }
            _ => surest.push(i),
        }
    }
    surest
}

/// The token that a prediction writes to a slot: a predicted mask counts as a blank.
pub fn imputed_token(predicted: u32, specials: &Specials) -> u32 {
    if predicted == specials.mask { specials.blank() } else { predicted }
}

/// The tokens that slots collapse to, with their log-probabilities: a run of one token becomes that token with its highest
/// log-probability, blanks and masks are dropped (CTC, Graves et al. 2006).
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
