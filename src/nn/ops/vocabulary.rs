//! The best token of each row with its log-probability, without a softmax in memory.

use candle_core::{D, Result, Tensor};
use rayon::prelude::*;

use super::cpu::{exp, max, sum_by, with_values};

/// For each row of `logits [rows, vocabulary]`: the best token among those from `forbidden` upwards
/// (specials are the lowest ids) and its log-probability among them. Ties go to the lower id.
pub fn best_tokens(logits: &Tensor, forbidden: usize) -> Result<Vec<(u32, f32)>> {
    let (_, vocabulary) = logits.dims2()?;
    if !logits.device().is_cpu() {
        return plain(logits, forbidden);
    }
    with_values(logits, |logits| {
        logits
            .par_chunks(vocabulary)
            .map(|row| {
                pulp::Arch::new().dispatch(|| {
                    let allowed = &row[forbidden..];
                    let top = max(allowed);
                    let best = allowed.iter().position(|&v| v == top).unwrap_or(0);
                    ((best + forbidden) as u32, -sum_by(allowed, |v| exp(v - top)).ln())
                })
            })
            .collect()
    })
}

/// Log-probabilities of each row of `scores [rows, classes]`, on the host. Each row on its own.
pub fn log_softmax(scores: &Tensor) -> Result<Vec<Vec<f32>>> {
    let mut rows: Vec<Vec<f32>> = scores.to_vec2()?;
    for row in &mut rows {
        let top = max(row);
        let log_sum = top + sum_by(row, |v| exp(v - top)).ln();
        row.iter_mut().for_each(|v| *v -= log_sum);
    }
    Ok(rows)
}

/// The best tokens in stock ops.
pub(super) fn plain(logits: &Tensor, forbidden: usize) -> Result<Vec<(u32, f32)>> {
    let allowed = logits.narrow(1, forbidden, logits.dim(1)? - forbidden)?.contiguous()?;
    let log_probs = candle_nn::ops::log_softmax(&allowed, D::Minus1)?;
    let best: Vec<u32> = log_probs.argmax(D::Minus1)?.to_vec1()?;
    let score: Vec<f32> = log_probs.max(D::Minus1)?.to_vec1()?;
    Ok(best.into_iter().zip(score).map(|(b, s)| (b + forbidden as u32, s)).collect())
}
