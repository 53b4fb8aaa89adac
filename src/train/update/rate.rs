//! The speed of an update: tokens per second, and floating-point operations per second compared with a large matrix
//! product.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};

use crate::Result;
use crate::nn::gemm::Precision;
use crate::nn::ops::{self, Activation, operations};

/// Number of repetitions, of which the fastest counts; one more runs first to warm up.
const TIMES: usize = 5;

/// Floating-point operations per second of a large product, computed as in training; a multiply-add counts as two.
/// Takes the fastest of several products: milliseconds on a GPU, a tenth of a second on a CPU core.
pub fn matrix_rate(device: &Device, precision: Precision) -> Result<f64> {
    // Large enough that launching and the bias do not matter.
    let (rows, input, out) = if device.is_cpu() { (512, 512, 1024) } else { (4096, 4096, 4096) };
    // Random values: a GPU at its power limit is faster with equal numbers.
    let values = |shape: (usize, usize)| Tensor::rand(-1f32, 1f32, shape, device);
    let (x, weight) = (values((rows, input))?, values((out, input))?);
    let bias = Tensor::zeros(out, DType::F32, device)?;
    let mut best = f64::INFINITY;
    for time in 0..=TIMES {
        device.synchronize()?;
        let begin = Instant::now();
        ops::linear(&x, &weight, &bias, Activation::None, precision)?;
        device.synchronize()?;
        if time > 0 {
            best = best.min(begin.elapsed().as_secs_f64());
        }
    }
    Ok(2.0 * (rows * input * out) as f64 / best.max(1e-9))
}

/// Tokens and operations since [`Throughput::take`] was last called.
#[derive(Debug)]
pub struct Throughput {
    since: Instant,
    tokens: usize,
    /// The operations of this thread when the measurement began.
    operations: u64,
}

/// Rates per second.
pub struct Rates {
    pub tokens: f64,
    /// Floating-point operations of this thread's products.
    pub operations: f64,
}

impl Throughput {
    pub fn start() -> Self {
        Self { since: Instant::now(), tokens: 0, operations: operations() }
    }

    pub fn add(&mut self, tokens: usize) {
        self.tokens += tokens;
    }

    /// The rates since the last call. After a pause that should not count, start a new [`Throughput`].
    pub fn take(&mut self) -> Rates {
        let finished = std::mem::replace(self, Self::start());
        let seconds = finished.since.elapsed().as_secs_f64().max(1e-9);
        let operations = self.operations - finished.operations;
        Rates { tokens: finished.tokens as f64 / seconds, operations: operations as f64 / seconds }
    }
}

#[cfg(test)]
mod tests;
