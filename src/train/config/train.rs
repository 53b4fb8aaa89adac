//! `[train]`: settings shared by all training stages.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::DeviceChoice;
use crate::nn::gemm::Precision;
use crate::{Error, Result};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Train {
    pub seed: u64,
    /// `cpu`, `cuda:0` (or another number), or `auto`: the first suitable GPU, otherwise the CPU. Also used for
    /// distillation. Repeated runs on one kind of device give the same weights; on another kind they may differ.
    pub device: DeviceChoice,
    /// Bundle with the initial weights of a new run of `train parallel`; it may have fewer layers and another
    /// tokenizer. An Imputer and a CMLM can begin with each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    pub dropout: f64,
    pub label_smoothing: f64,
    /// Weight of the length head's loss.
    pub length_loss_weight: f64,
    /// Padded tokens of the longer side in one micro-batch.
    pub batch_tokens: usize,
    /// Micro-batches for each update.
    pub accumulate: usize,
    /// Number of GPUs that share the micro-batches of an update: `device` and the following ones. Must divide
    /// `accumulate`. The weights are those of a single GPU, up to the order of sums, and a run may continue with
    /// another number. On the CPU, number of threads.
    #[serde(skip_serializing_if = "Train::alone")]
    pub ranks: usize,
    pub updates: u64,
    /// Learning rate at the end of the warm-up.
    pub learning_rate: f64,
    pub warmup: u64,
    /// Number of last updates over which the learning rate falls linearly to zero; 0 for none.
    pub cooldown: u64,
    pub weight_decay: f64,
    /// Largest global norm of the gradient; 0 for no clipping.
    pub clip: f64,
    pub betas: (f64, f64),
    pub eps: f64,
    /// The run fails after this many updates in a row without a finite gradient.
    pub max_skips_in_a_row: u32,
    /// Number type of the operands of matrix products.
    pub products: Products,
    /// Decay of the moving average of the weights; 0 for none.
    pub ema_decay: f64,
    /// In updates, like the next two keys.
    pub validate_every: u64,
    pub checkpoint_every: u64,
    pub log_every: u64,
    pub keep_last: usize,
    pub keep_best: usize,
    /// Number of sentences translated at each validation, from the start of the file.
    pub valid_sentences: usize,
    /// The run ends after this many validations in a row without a higher BLEU (of one step, or of greedy search); 0
    /// for never.
    pub patience: u64,
    /// The bundle gets the mean weights of this many checkpoints with the best validation scores; 0 for the last
    /// weights.
    pub average_best: usize,
    /// Whether to write TensorBoard event files.
    pub tensorboard: bool,
}

/// Number type of the operands of matrix products. Weights, sums and everything else stay f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Products {
    F32,
    /// On a CPU, AMX or AVX512-BF16, whichever is faster, or f32 without either. On a GPU its tensor cores, where
    /// `f32` means TF32.
    Bf16,
}

impl FromStr for Products {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            other => Err(Error::Config(format!("products {other:?} is unknown; expected f32 or bf16"))),
        }
    }
}

impl From<Products> for Precision {
    fn from(products: Products) -> Self {
        match products {
            Products::F32 => Self::F32,
            Products::Bf16 => Self::Bf16,
        }
    }
}

impl Default for Train {
    fn default() -> Self {
        Self {
            seed: 1,
            device: DeviceChoice::Cpu,
            init: None,
            dropout: 0.1,
            label_smoothing: 0.1,
            length_loss_weight: 0.1,
            batch_tokens: 4096,
            accumulate: 1,
            ranks: 1,
            updates: 10_000,
            learning_rate: 1.2e-3,
            warmup: 800,
            cooldown: 0,
            weight_decay: 0.01,
            clip: 1.0,
            betas: (0.9, 0.98),
            eps: 1e-8,
            max_skips_in_a_row: 5,
            products: Products::F32,
            ema_decay: 0.0,
            validate_every: 500,
            checkpoint_every: 500,
            log_every: 20,
            keep_last: 2,
            keep_best: 5,
            valid_sentences: 500,
            patience: 0,
            average_best: 0,
            tensorboard: true,
        }
    }
}

impl Train {
    fn alone(ranks: &usize) -> bool {
        *ranks == 1
    }
}
