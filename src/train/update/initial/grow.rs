//! Initial weights from a bundle with another vocabulary or with fewer layers.

use candle_core::{Device, Tensor};

use crate::Result;
use crate::model::{NormPlace, Shape, Tensors};
use crate::text::Tokenizer;

/// Tensors with one row for each token.
pub(super) const OF_TOKENS: [&str; 2] = ["embedding.weight", "output.bias"];

/// The last product of each sublayer, whose result the sublayer adds to its input.
const ADDED: [&str; 4] = ["attention.output", "whole_attention.output", "cross.output", "feed_forward.outer"];

/// For each token of the run, the tokens of the bundle that spell it.
pub(super) struct TokenMap(Vec<Vec<u32>>);

impl TokenMap {
    /// `None` if both tokenizers are the same.
    ///
    /// # Errors
    /// [`crate::Error::Tokenizer`] for a tokenizer over pieces.
    pub(super) fn between(run: &Tokenizer, bundle: &Tokenizer) -> Result<Option<Self>> {
        if run.to_json()? == bundle.to_json()? {
            return Ok(None);
        }
        let pieces = (0..run.vocab_size() as u32).map(|id| bundle.pieces_of(run, id));
        Ok(Some(Self(pieces.collect::<Result<_>>()?)))
    }

    /// The rows of the run's tokens: the mean of those in `values` that spell a token, or its row in `seeded` if none
    /// does. `values` has a row for each token of the bundle and `seeded` one for each token of the run.
    pub(super) fn rows(&self, values: &Tensor, seeded: &Tensor) -> Result<Tensor> {
        // On the CPU, because a GPU adds up rows in any order.
        let (values, device) = (values.to_device(&Device::Cpu)?, seeded.device());
        let mut rows = Vec::with_capacity(self.0.len());
        for (token, pieces) in self.0.iter().enumerate() {
            rows.push(match pieces.as_slice() {
                [] => seeded.get(token)?.to_device(&Device::Cpu)?,
                pieces => values.index_select(&Tensor::new(pieces, &Device::Cpu)?, 0)?.mean(0)?,
            });
        }
        Ok(Tensor::stack(&rows, 0)?.to_device(device)?)
    }
}

/// Makes the layers that a network of shape `own` lacks add nothing, so that a longer stack computes what the
/// shorter one does.
pub(super) fn silence_new_layers(tensors: &mut Tensors, own: &Shape, shape: &Shape) -> Result<()> {
    for (side, from, to) in [
        ("encoder", own.encoder_layers, shape.encoder_layers),
        ("decoder", own.decoder_layers, shape.decoder_layers),
    ] {
        for layer in from..to {
            for product in ADDED {
                if let Some(weight) = tensors.get_mut(&format!("{side}.layers.{layer}.{product}.weight")) {
                    *weight = weight.zeros_like()?;
                }
            }
        }
    }
    Ok(())
}

/// # Errors
/// Layers cannot be added where norms follow sublayers: a sublayer that adds nothing still changes its input.
pub(super) fn require_growth(own: &Shape, shape: &Shape) -> std::result::Result<(), String> {
    let layers = |shape: &Shape| (shape.encoder_layers, shape.decoder_layers);
    let ((own_encoder, own_decoder), (encoder, decoder)) = (layers(own), layers(shape));
    if own_encoder > encoder || own_decoder > decoder {
        return Err(format!(
            "it has {own_encoder} encoder and {own_decoder} decoder layers, but this run's network has {encoder} and \
             {decoder}; a run can add layers, but not drop them"
        ));
    }
    if layers(own) != layers(shape) && shape.norm == NormPlace::Post {
        return Err("layers can be added only to a network whose norms come before its sublayers".into());
    }
    Ok(())
}
