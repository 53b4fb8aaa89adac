//! The speed of an update: tokens per second, and floating-point operations per second compared with a large matrix
//! product.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};

use crate::Result;
use crate::nn::gemm::Precision;
use crate::nn::ops::{self, Activation, operations};

/// Number of repetitions, of which the fastest counts; one more runs first to warm up.
const TIMES: usize = 5;

/// A large matrix product, computed as in training, with which updates are compared.
#[derive(Debug)]
pub struct LargeProduct {
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    precision: Precision,
}

impl LargeProduct {
    /// # Errors
    /// Those of the device, such as too little memory.
    pub fn new(device: &Device, precision: Precision) -> Result<Self> {
        // Large enough that launching and the bias do not matter.
        let (rows, input, out) = if device.is_cpu() { (512, 512, 1024) } else { (4096, 4096, 4096) };
        // Random values: a GPU at its power limit is faster with equal numbers.
        let values = |shape: (usize, usize)| Tensor::rand(-1f32, 1f32, shape, device);
        let (x, weight) = (values((rows, input))?, values((out, input))?);
        Ok(Self { x, weight, bias: Tensor::zeros(out, DType::F32, device)?, precision })
    }

    /// Floating-point operations per second; a multiply-add counts as two. Takes the fastest of several products:
    /// milliseconds on a GPU or with AMX, a tenth of a second on a slow CPU core.
    ///
    /// # Errors
    /// Those of the device.
    pub fn rate(&self) -> Result<f64> {
        let device = self.x.device();
        let mut best = f64::INFINITY;
        for time in 0..=TIMES {
            device.synchronize()?;
            let begin = Instant::now();
            ops::linear(&self.x, &self.weight, &self.bias, Activation::None, self.precision)?;
            device.synchronize()?;
            if time > 0 {
                best = best.min(begin.elapsed().as_secs_f64());
            }
        }
        let multiply_adds = self.x.elem_count() * self.weight.dim(0)?;
        Ok(2.0 * multiply_adds as f64 / best.max(1e-9))
    }
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
