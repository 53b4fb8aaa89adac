//! The initial weights of a run.

use std::path::Path;

use candle_core::{DType, Tensor};

use crate::model::Tensors;
use crate::model::{Backend, Bundle, DecoderAttention, Lengths, Positions, Refresh, Shape, Spec};
use crate::text::{Specials, Tokenizer};
use crate::{Error, Result};

/// Tables that are as long as the longest sentence.
pub const POSITIONS: [&str; 2] = ["encoder.positions.weight", "decoder.positions.weight"];

/// What a run makes of a bundle that it begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InitConversion {
    /// A network of its own shape.
    Itself,
    /// An Imputer, of a CMLM: without its length head, and each slot begins with the position that lies as far into the
    /// sentence.
    Imputer,
    /// A CMLMC, of a CMLM, that says what the CMLM says (with norms after sublayers: nearly): the CMLM's attention is the one in
    /// front, the causal one behind it adds nothing yet, and tokens and places are joined as they were summed.
    Cmlmc,
}

impl InitConversion {
    fn of(bundle: &Bundle, shape: &Shape) -> Self {
        let own = &bundle.config.shape;
        let switches = |s: &Shape| (s.decoder_attention, s.positions == Positions::Concat, s.refresh);
        let none = (DecoderAttention::Whole, false, Refresh::Masked);
        if shape.has_blanks() && !own.has_blanks() {
            Self::Imputer
        } else if switches(own) == none && switches(shape) != none {
            Self::Cmlmc
        } else {
            Self::Itself
        }
    }

    /// The bundle's shape but for what changes on the way.
    fn shape(self, own: &Shape, wanted: &Shape) -> Shape {
        let (own, wanted) = (own.clone(), wanted.clone());
        match self {
            Self::Itself => own,
            Self::Imputer => Shape { lengths: wanted.lengths, length_classes: wanted.length_classes, ..own },
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

/// Seeded values or, where `init` names a bundle, its weights. Positions that the bundle does not have begin with
/// seeded values all the same.
///
/// An Imputer or a CMLMC may begin with a CMLM.
///
/// Errors: a bundle of another shape or tokenizer.
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
    if bundle.tokenizer.to_json()? != tokenizer.to_json()? {
        let reason = "its tokenizer is not this run's; set tokenizer.path to the bundle's own tokenizer.json";
        return Err(Error::bundle(path, reason));
    }
    let own = &bundle.config.shape;
    let moves = shape.decoder_attention != own.decoder_attention;
    for (name, values) in bundle.tensors() {
        let name = if moves { in_front(name) } else { name.clone() };
        // What is missing is a length head.
        let Some(seeded) = tensors.get(&name) else { continue };
        let values = values.to_device(backend.device())?;
        let begun = match name.as_str() {
            "decoder.positions.weight" if becomes == InitConversion::Imputer => stretched(&values, seeded)?,
            name if POSITIONS.contains(&name) => continued(&values, seeded)?,
            "output.bias" if becomes == InitConversion::Imputer => {
                // Of the mask, which is never said, and of the blank.
                let specials = Specials::NAMES.len();
                let rest = values.narrow(0, specials, values.dim(0)? - specials)?;
                Tensor::cat(&[&seeded.narrow(0, 0, specials)?, &rest], 0)?
            }
            _ => values,
        };
        tensors.insert(name, begun);
    }
    if moves {
        silence_causal(&mut tensors, shape)?;
    }
    if shape.positions != own.positions {
        join_as_summed(&mut tensors, own, backend)?;
    }
    Ok(tensors)
}

/// A CMLMC's causal attentions add nothing.
fn silence_causal(tensors: &mut Tensors, shape: &Shape) -> Result<()> {
    for layer in 0..shape.decoder_layers {
        if let Some(output) = tensors.get_mut(&format!("decoder.layers.{layer}.attention.output.weight")) {
            *output = output.zeros_like()?;
        }
    }
    Ok(())
}

/// A CMLMC's tokens and places are joined as a network of shape `own` sums them.
fn join_as_summed(tensors: &mut Tensors, own: &Shape, backend: &Backend) -> Result<()> {
    let scale = if own.positions == Positions::Scaled { (own.d_model as f64).sqrt() } else { 1.0 };
    let one = (Tensor::eye(own.d_model, DType::F32, backend.device())? * scale)?;
    let both = Tensor::cat(&[&one, &one], 1)?;
    for side in ["encoder", "decoder"] {
        tensors.insert(format!("{side}.join.weight"), both.clone());
    }
    Ok(())
}

/// A self-attention of a CMLM's decoder is that in front of a CMLMC's.
fn in_front(name: &str) -> String {
    match name.starts_with("decoder.layers.") {
        true => name.replace(".attention", ".whole_attention"),
        false => name.into(),
    }
}

/// Errors: a bundle that a run of this shape cannot begin with.
pub fn require_shape(bundle: &Bundle, shape: &Shape) -> Result<()> {
    let own = &bundle.config.shape;
    let alike = InitConversion::of(bundle, shape).shape(own, shape);
    if (Shape { max_positions: shape.max_positions, ..alike }) == *shape {
        return Ok(());
    }
    let reason = format!(
        "its shape is {own:?}, but this run's is {shape:?}; a run can begin with a bundle of its own shape, and an \
         imputer or a cmlmc with a cmlm of its sizes"
    );
    Err(Error::bundle(&bundle.dir, reason))
}

/// The rows of `values`, and behind them those of `seeded`: as many as that has.
fn continued(values: &Tensor, seeded: &Tensor) -> Result<Tensor> {
    let (own, wanted) = (values.dim(0)?, seeded.dim(0)?);
    if own >= wanted {
        return Ok(values.narrow(0, 0, wanted)?.contiguous()?);
    }
    Ok(Tensor::cat(&[values, &seeded.narrow(0, own, wanted - own)?], 0)?)
}

/// Each row of `values` once for each slot of a token, and behind them those of `seeded`.
fn stretched(values: &Tensor, seeded: &Tensor) -> Result<Tensor> {
    let rows: Vec<u32> = (0..(values.dim(0)? * Lengths::SLOTS_PER_TOKEN) as u32)
        .map(|slot| slot / Lengths::SLOTS_PER_TOKEN as u32)
        .collect();
    let rows = Tensor::new(rows, values.device())?;
    continued(&values.index_select(&rows, 0)?, seeded)
}
