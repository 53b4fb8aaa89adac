//! The best token of each row with its log-probability, without a softmax in memory.

use candle_core::{D, Device, Result, Tensor, bail};
use rayon::prelude::*;

use super::cpu::{exp, max, sum_by, with_values};
use super::kernel_path::{KernelPath, select_path};

/// For each row of `logits [rows, vocabulary]`: the best token from `forbidden` upwards (special tokens have the lowest
/// ids) and its log-probability among these. Ties go to the lower id.
pub fn best_tokens(logits: &Tensor, forbidden: usize) -> Result<Vec<(u32, f32)>> {
    let (_, vocabulary) = logits.dims2()?;
    if select_path(logits) != KernelPath::Cpu {
        return stock(logits, forbidden);
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

/// For each row of `logits [rows, vocabulary]`: the `count` best tokens, best first, among `end` and those from
/// `forbidden` upwards, with their log-probabilities among these. Ties go to the lower id. NaN scores are ignored.
pub fn top_tokens(logits: &Tensor, end: u32, forbidden: usize, count: usize) -> Result<Vec<Vec<(u32, f32)>>> {
    let (_, vocabulary) = logits.dims2()?;
    if end as usize >= forbidden || forbidden > vocabulary {
        bail!("top_tokens: end {end} and {forbidden} forbidden tokens of {vocabulary}");
    }
    with_values(&logits.to_device(&Device::Cpu)?, |logits| {
        logits.par_chunks(vocabulary).map(|row| top_of_row(row, end, forbidden, count)).collect()
    })
}

fn top_of_row(row: &[f32], end: u32, forbidden: usize, count: usize) -> Vec<(u32, f32)> {
    let (ended, allowed) = (row[end as usize], &row[forbidden..]);
    let (top, log_sum) = pulp::Arch::new().dispatch(|| {
        let top = max(allowed).max(ended);
        (top, (sum_by(allowed, |v| exp(v - top)) + exp(ended - top)).ln())
    });
    let count = count.min(allowed.len() + 1);
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
    let mut least = f32::NEG_INFINITY;
    let tokens = (forbidden as u32..).zip(allowed.iter().copied());
    for (token, score) in std::iter::once((end, ended)).chain(tokens) {
        if score > least || best.len() < count && !score.is_nan() {
            let at = best.partition_point(|&(_, better)| better >= score);
            best.insert(at, (token, score));
            best.truncate(count);
            least = if best.len() == count { best[count - 1].1 } else { f32::NEG_INFINITY };
        }
    }
    best.iter_mut().for_each(|(_, score)| *score = *score - top - log_sum);
    best
}

/// Log-probabilities of each row of `scores [rows, classes]`, on the host.
pub fn log_softmax(scores: &Tensor) -> Result<Vec<Vec<f32>>> {
    let mut rows: Vec<Vec<f32>> = scores.to_vec2()?;
    for row in &mut rows {
        let top = max(row);
        let log_sum = top + sum_by(row, |v| exp(v - top)).ln();
        row.iter_mut().for_each(|v| *v -= log_sum);
    }
    Ok(rows)
}

/// [`best_tokens`] in stock ops.
pub(super) fn stock(logits: &Tensor, forbidden: usize) -> Result<Vec<(u32, f32)>> {
    let allowed = logits.narrow(1, forbidden, logits.dim(1)? - forbidden)?.contiguous()?;
    let log_probs = candle_nn::ops::log_softmax(&allowed, D::Minus1)?;
    let best: Vec<u32> = log_probs.argmax(D::Minus1)?.to_vec1()?;
    let score: Vec<f32> = log_probs.max(D::Minus1)?.to_vec1()?;
    Ok(best.into_iter().zip(score).map(|(b, s)| (b + forbidden as u32, s)).collect())
}
