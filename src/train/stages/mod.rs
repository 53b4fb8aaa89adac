//! The stages of training, one file each; the pipeline that runs them in order; and what several of them share.

pub mod ar;
pub mod dims;
pub mod distill;
pub mod parallel;
pub mod pipeline;
pub mod tokenizer;

use std::path::PathBuf;

use crate::Result;
use crate::decode::{Decoding, Steps};
use crate::model::{Lengths, Shape, Tensors};
use crate::train::config::{Config, Data, Train, distilled_files};
use crate::train::objective::Objective;
use crate::train::update::checkpoint::average;
use crate::train::update::initial::POSITIONS;
use crate::train::update::run::Run;
use distill::Manifest;

/// Classes of the length head: a translation may be up to 64 tokens shorter or 63 longer than its source.
const LENGTH_CLASSES: usize = 128;

/// The shape of a configuration with `vocab` tokens, without the changes of `[cmlmc]` and `[imputer]`.
pub(crate) fn plain_shape(config: &Config, vocab: usize) -> Result<Shape> {
    let m = &config.model;
    let shape = Shape {
        encoder_layers: m.encoder_layers,
        decoder_layers: m.decoder_layers,
        d_model: m.d_model,
        ffn: m.ffn,
        heads: m.heads,
        vocab,
        max_positions: m.max_positions,
        length_classes: LENGTH_CLASSES,
        norm: m.norm,
        ..Shape::default()
    };
    shape.validate()?;
    Ok(shape)
}

/// The weights of a finished run: the mean of its best checkpoints if `train.average_best` is set, otherwise those it
/// publishes.
pub(crate) fn outcome<O: Objective>(run: &Run<'_, O>, train: &Train) -> Result<Tensors> {
    let best = run.best(train.average_best)?;
    if best.is_empty() { Ok(run.published().clone()) } else { mean(&best) }
}

/// The mean weights of several checkpoints, or of their moving averages if all have one.
pub(crate) fn mean(checkpoints: &[PathBuf]) -> Result<Tensors> {
    let paths: Vec<PathBuf> = checkpoints.iter().map(|c| c.join("ema.safetensors")).collect();
    average(if paths.iter().all(|p| p.exists()) { &paths } else { checkpoints })
}

/// Removes positions that no training sentence can reach, so that the server splits longer sentences instead of using
/// untrained positions.
pub(crate) fn trimmed(
    shape: Shape,
    weights: &Tensors,
    max_tokens_per_sentence: usize,
) -> Result<(Shape, Tensors)> {
    let slots = if shape.has_blanks() { Lengths::SLOTS_PER_TOKEN } else { 1 };
    let max_positions = shape.max_positions.min(slots * max_tokens_per_sentence);
    let mut weights = weights.clone();
    for name in POSITIONS {
        if let Some(table) = weights.get_mut(name) {
            *table = table.narrow(0, 0, max_positions)?;
        }
    }
    Ok((Shape { max_positions, ..shape }, weights))
}

/// Checks that the distilled text of `data`, if any, is complete and unmodified.
///
/// # Errors
/// The folder, and what to do.
pub fn require_finished(data: &Data) -> Result<()> {
    let Some(folder) = &data.distilled else { return Ok(()) };
    Manifest::read(folder)?.verify(&distilled_files(folder, &data.source_lang, &data.target_lang))
}

/// How a parallel model is validated during a run: with one step and with four.
pub fn validated_steps() -> Vec<Decoding> {
    [1, 4].into_iter().filter_map(Steps::new).map(Decoding::Steps).collect()
}
