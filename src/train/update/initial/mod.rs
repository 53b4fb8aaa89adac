//! The initial weights of a run.

mod grow;

use std::path::Path;

use candle_core::{DType, Tensor};

use crate::model::Tensors;
use crate::model::{Backend, Bundle, DecoderAttention, Lengths, Positions, Refresh, Shape, Spec};
use crate::text::{Specials, Tokenizer};
use crate::{Error, Result};
use grow::{OF_TOKENS, TokenMap, require_growth, silence_new_layers};

/// Tables with one row for each position.
pub const POSITIONS: [&str; 2] = ["encoder.positions.weight", "decoder.positions.weight"];

/// How a run converts the bundle that it begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InitConversion {
    /// No conversion.
    Itself,
    /// CMLM to Imputer: the length head is dropped, and each slot begins with the position at the same fraction of
    /// the sentence.
    Imputer,
    /// Imputer to CMLM or autoregressive model: the length head is seeded, and each position begins with the first of
    /// its slots.
    FromImputer,
    /// CMLM to CMLMC with the same output (nearly the same if norms follow sublayers): the CMLM's attention comes
    /// first, the causal one after it adds nothing yet, and joining token and position gives their sum.
    Cmlmc,
}

impl InitConversion {
    fn of(bundle: &Bundle, shape: &Shape) -> Self {
        let own = &bundle.config.shape;
        let switches = |s: &Shape| (s.decoder_attention, s.positions == Positions::Concat, s.refresh);
        let none = (DecoderAttention::Whole, false, Refresh::Masked);
        if shape.has_blanks() && !own.has_blanks() {
            Self::Imputer
        } else if own.has_blanks() && !shape.has_blanks() {
            Self::FromImputer
        } else if switches(own) == none && switches(shape) != none {
            Self::Cmlmc
        } else {
            Self::Itself
        }
    }

    /// The bundle's shape with the parts that the conversion changes.
    fn shape(self, own: &Shape, wanted: &Shape) -> Shape {
        let (own, wanted) = (own.clone(), wanted.clone());
        match self {
            Self::Itself => own,
            Self::Imputer | Self::FromImputer => {
                Shape { lengths: wanted.lengths, length_classes: wanted.length_classes, ..own }
            }
            Self::Cmlmc => Shape {
                decoder_attention: wanted.decoder_attention,
                positions: if wanted.positions == Positions::Concat {
                    wanted.positions
                } else {
                    own.positions
                },
                refresh: wanted.refresh,
                ..own
            },
        }
    }
}

/// The seeded initial weights or, if `init` names a bundle, its weights, converted if necessary. Positions beyond
/// those of the bundle keep their seeded values. With another tokenizer, a token begins with the mean of the bundle's
/// tokens that spell it. Layers that the bundle lacks follow its own and add nothing at first.
///
/// # Errors
/// A bundle of a shape or tokenizer that the run cannot begin with.
pub fn initial(
    init: Option<&Path>,
    shape: &Shape,
    tokenizer: &Tokenizer,
    seed: u64,
    backend: &Backend,
) -> Result<Tensors> {
    let mut tensors = Spec::initial(shape, seed, backend.device())?;
    let Some(path) = init else { return Ok(tensors) };
    let bundle = Bundle::open(path)?;
    require_shape(&bundle, shape)?;
    let becomes = InitConversion::of(&bundle, shape);
    let tokens = TokenMap::between(tokenizer, &bundle.tokenizer)?;
    let own = &bundle.config.shape;
    let moves = shape.decoder_attention != own.decoder_attention;
    for (name, values) in bundle.tensors() {
        let name = if moves { in_front(name) } else { name.clone() };
        // The new network lacks at most the length head.
        let Some(seeded) = tensors.get(&name) else { continue };
        let values = match &tokens {
            Some(tokens) if OF_TOKENS.contains(&name.as_str()) => tokens.rows(values, seeded)?,
            _ => values.to_device(backend.device())?,
        };
        let begun = match name.as_str() {
            "decoder.positions.weight" if becomes == InitConversion::Imputer => stretched(&values, seeded)?,
            "decoder.positions.weight" if becomes == InitConversion::FromImputer => {
                continued(&first_slots(&values)?, seeded)?
            }
            name if POSITIONS.contains(&name) => continued(&values, seeded)?,
            "output.bias" if matches!(becomes, InitConversion::Imputer | InitConversion::FromImputer) => {
                // The specials keep their seeded values: the mask, which is never predicted, and the
                // blank.
                let specials = Specials::NAMES.len();
                let rest = values.narrow(0, specials, values.dim(0)? - specials)?;
                Tensor::cat(&[&seeded.narrow(0, 0, specials)?, &rest], 0)?
            }
            _ => values,
        };
        tensors.insert(name, begun);
    }
    silence_new_layers(&mut tensors, own, shape)?;
    if moves {
        silence_causal(&mut tensors, shape)?;
    }
    if shape.positions != own.positions {
        join_as_summed(&mut tensors, own, backend)?;
    }
    Ok(tensors)
}

/// Makes the causal attentions of a CMLMC add nothing.
fn silence_causal(tensors: &mut Tensors, shape: &Shape) -> Result<()> {
    for layer in 0..shape.decoder_layers {
        if let Some(output) = tensors.get_mut(&format!("decoder.layers.{layer}.attention.output.weight")) {
            *output = output.zeros_like()?;
        }
    }
    Ok(())
}

/// Makes a CMLMC join tokens and positions by their sum, as a network of shape `own` does.
fn join_as_summed(tensors: &mut Tensors, own: &Shape, backend: &Backend) -> Result<()> {
    let scale = if own.positions == Positions::Scaled { (own.d_model as f64).sqrt() } else { 1.0 };
    let one = (Tensor::eye(own.d_model, DType::F32, backend.device())? * scale)?;
    let both = Tensor::cat(&[&one, &one], 1)?;
    for side in ["encoder", "decoder"] {
        tensors.insert(format!("{side}.join.weight"), both.clone());
    }
    Ok(())
}

/// The name in a CMLMC of a tensor of a CMLM: self-attentions of the decoder come first there.
fn in_front(name: &str) -> String {
    match name.starts_with("decoder.layers.") {
        true => name.replace(".attention", ".whole_attention"),
        false => name.into(),
    }
}

/// # Errors
/// A bundle that a run of this shape cannot begin with.
pub fn require_shape(bundle: &Bundle, shape: &Shape) -> Result<()> {
    let own = &bundle.config.shape;
    let converted = InitConversion::of(bundle, shape).shape(own, shape);
    let Shape { max_positions, vocab, encoder_layers, decoder_layers, .. } = *shape;
    let reason = if (Shape { max_positions, vocab, encoder_layers, decoder_layers, ..converted }) == *shape {
        match require_growth(own, shape) {
            Ok(()) => return Ok(()),
            Err(reason) => reason,
        }
    } else {
        format!(
            "its shape is {own:?}, but this run's is {shape:?}; a run can begin with a bundle of its own shape, with \
             fewer layers or another vocabulary, an imputer or a cmlmc with a cmlm of its sizes, and a cmlm or an \
             autoregressive model with an imputer of its sizes"
        )
    };
    Err(Error::bundle(&bundle.dir, reason))
}

/// The rows of `values`, continued with those of `seeded` up to the number that it has.
fn continued(values: &Tensor, seeded: &Tensor) -> Result<Tensor> {
    let (own, wanted) = (values.dim(0)?, seeded.dim(0)?);
    if own >= wanted {
        return Ok(values.narrow(0, 0, wanted)?.contiguous()?);
    }
    Ok(Tensor::cat(&[values, &seeded.narrow(0, own, wanted - own)?], 0)?)
}

/// Each row of `values`, repeated for every slot of a token, continued with the rows of `seeded`.
fn stretched(values: &Tensor, seeded: &Tensor) -> Result<Tensor> {
    let rows: Vec<u32> = (0..(values.dim(0)? * Lengths::SLOTS_PER_TOKEN) as u32)
        .map(|slot| slot / Lengths::SLOTS_PER_TOKEN as u32)
        .collect();
    let rows = Tensor::new(rows, values.device())?;
    continued(&values.index_select(&rows, 0)?, seeded)
}

/// The row of the first slot of each token.
fn first_slots(values: &Tensor) -> Result<Tensor> {
    let rows: Vec<u32> = (0..values.dim(0)? as u32).step_by(Lengths::SLOTS_PER_TOKEN).collect();
    Ok(values.index_select(&Tensor::new(rows, values.device())?, 0)?)
}

#[cfg(test)]
mod tests;
