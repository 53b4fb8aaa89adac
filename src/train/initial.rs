//! Where a new run begins.

use std::path::Path;

use candle_core::Tensor;

use super::checkpoint::Tensors;
use crate::model::{Backend, Bundle, Lengths, Shape, Spec};
use crate::text::{Specials, Tokenizer};
use crate::{Error, Result};

/// Tables that are as long as the longest sentence.
pub const POSITIONS: [&str; 2] = ["encoder.positions.weight", "decoder.positions.weight"];

/// Seeded values or, where `init` names a bundle, its weights. Positions that the bundle does not have begin with
/// seeded values all the same.
///
/// An Imputer may begin with a CMLM: it leaves out the length head, and each of its slots begins with the
/// position that lies as far into the sentence.
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
    let becomes_imputer = becomes_imputer(&bundle, shape);
    if bundle.tokenizer.to_json()? != tokenizer.to_json()? {
        let reason = "its tokenizer is not this run's; set tokenizer.path to the bundle's own tokenizer.json";
        return Err(Error::bundle(path, reason));
    }
    for (name, values) in bundle.tensors() {
        // What is missing is a length head.
        let Some(seeded) = tensors.get(name) else { continue };
        let values = values.to_device(backend.device())?;
        let begun = match name.as_str() {
            "decoder.positions.weight" if becomes_imputer => stretched(&values, seeded)?,
            name if POSITIONS.contains(&name) => continued(&values, seeded)?,
            "output.bias" if becomes_imputer => {
                // Of the mask, which is never said, and of the blank.
                let specials = Specials::NAMES.len();
                let rest = values.narrow(0, specials, values.dim(0)? - specials)?;
                Tensor::cat(&[&seeded.narrow(0, 0, specials)?, &rest], 0)?
            }
            _ => values,
        };
        tensors.insert(name.clone(), begun);
    }
    Ok(tensors)
}

fn becomes_imputer(bundle: &Bundle, shape: &Shape) -> bool {
    shape.has_blanks() && !bundle.config.shape.has_blanks()
}

/// Errors: a bundle that a run of this shape cannot begin with.
pub fn require_shape(bundle: &Bundle, shape: &Shape) -> Result<()> {
    let own = &bundle.config.shape;
    let alike = if becomes_imputer(bundle, shape) {
        Shape { lengths: shape.lengths, length_classes: shape.length_classes, ..own.clone() }
    } else {
        own.clone()
    };
    if (Shape { max_positions: shape.max_positions, ..alike }) == *shape {
        return Ok(());
    }
    let reason = format!(
        "its shape is {own:?}, but this run's is {shape:?}; a run can begin with a bundle of its own shape, and an \
         imputer with a cmlm of its sizes"
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
