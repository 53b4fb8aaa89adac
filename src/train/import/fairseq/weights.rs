//! Converts the tensors of a fairseq CMLM.

use std::collections::{HashMap, HashSet};

use candle_core::{Device, Tensor};

use super::vocabulary::{EmbeddingRow, FAIRSEQ_SPECIALS, Vocabulary};
use crate::Result;
use crate::model::Tensors;
use crate::model::{Positions, Shape};

/// fairseq's first position; the rows below it belong to padding.
const FIRST_POSITION: usize = 2;

/// Low enough to have no probability, and representable in f16.
const NEVER: f32 = -10_000.0;

/// Tensors by fairseq's names, and which of them were used.
pub(super) struct FairseqTensors {
    tensors: HashMap<String, Tensor>,
    taken: HashSet<String>,
}

impl FairseqTensors {
    pub(super) fn new(tensors: HashMap<String, Tensor>) -> Self {
        Self { tensors, taken: HashSet::new() }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor.
    pub(super) fn dims(&self, name: &str) -> Result<&[usize], String> {
        self.tensors.get(name).map(Tensor::dims).ok_or_else(|| format!("tensor {name:?} is missing"))
    }

    /// Number of layers of `encoder` or `decoder`.
    pub(super) fn layers(&self, side: &str) -> usize {
        (0..).take_while(|i| self.has(&format!("{side}.layers.{i}.fc1.weight"))).count()
    }

    /// Takes a tensor, which must have this shape.
    pub(super) fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, String> {
        let found = self.dims(name)?;
        if found != shape {
            return Err(format!("tensor {name:?} has shape {found:?}, expected {shape:?}"));
        }
        self.taken.insert(name.to_owned());
        Ok(self.tensors[name].clone())
    }

    /// Marks a tensor that is not needed as used.
    pub(super) fn ignore(&mut self, name: &str) {
        self.taken.insert(name.to_owned());
    }

    /// Refuses unused tensors, since the network would compute something else.
    pub(super) fn require_all_taken(&self) -> Result<(), String> {
        let mut left: Vec<&String> = self.tensors.keys().filter(|name| !self.taken.contains(*name)).collect();
        left.sort();
        match left.first() {
            None => Ok(()),
            Some(name) => {
                let count = left.len();
                Err(format!("tensor {name:?} is not part of a supported CMLM ({count} such tensors)"))
            }
        }
    }
}

/// Parameters of [`convert`].
pub(super) struct Conversion<'a> {
    pub shape: &'a Shape,
    pub vocabulary: &'a Vocabulary,
    /// Factor of token embeddings before positions are added: √d or 1.
    pub scale: f64,
    /// Of encoder and decoder.
    pub learned_positions: [bool; 2],
}

/// # Errors
/// A tensor that is missing, has another shape, is not shared or is not used.
pub(super) fn convert(source: &mut FairseqTensors, conversion: &Conversion) -> Result<Tensors, String> {
    let shape = conversion.shape;
    let (d, ffn) = (shape.d_model, shape.ffn);
    let mut out = Tensors::new();
    let embedding = shared_embedding(source, conversion)?;
    let rows = conversion.vocabulary.rows.iter();
    let bias: Vec<f32> = rows
        .map(|row| if *row == EmbeddingRow::Unused || *row == EmbeddingRow::Unknown { NEVER } else { 0.0 })
        .collect();
    put(&mut out, "embedding.weight", rearranged(&embedding, &conversion.vocabulary.rows))?;
    put(&mut out, "output.bias", Tensor::from_vec(bias, shape.vocab, &Device::Cpu))?;
    let length = source.take("decoder.embed_length.weight", &[shape.length_classes, d])?;
    put(&mut out, "length.weight", Ok(length))?;
    put(&mut out, "length.bias", Tensor::zeros(shape.length_classes, candle_core::DType::F32, &Device::Cpu))?;
    for (side, layers, learned) in [
        ("encoder", shape.encoder_layers, conversion.learned_positions[0]),
        ("decoder", shape.decoder_layers, conversion.learned_positions[1]),
    ] {
        input(source, &mut out, side, learned, conversion)?;
        if source.has(&format!("{side}.layer_norm.weight")) {
            norm(source, &mut out, &format!("{side}.layer_norm"), &format!("{side}.norm"), d)?;
        }
        for layer in 0..layers {
            let theirs = |name: &str| format!("{side}.layers.{layer}.{name}");
            let ours = |name: &str| format!("{side}.layers.{layer}.{name}");
            let mut attentions = vec![("self_attn", "attention")];
            if source.has(&theirs("self_attn_unmasked_layer_norm.weight")) {
                attentions.push(("self_attn_unmasked", "whole_attention"));
            }
            for (from, to) in attentions {
                let [q, k, v] = projections(source, &theirs(from), d)?;
                put_linear(&mut out, &ours(&format!("{to}.qkv")), &[q, k, v])?;
                linear(
                    source,
                    &mut out,
                    &theirs(&format!("{from}.out_proj")),
                    &ours(&format!("{to}.output")),
                    d,
                    d,
                )?;
                norm(
                    source,
                    &mut out,
                    &theirs(&format!("{from}_layer_norm")),
                    &ours(&format!("{to}_norm")),
                    d,
                )?;
            }
            if side == "decoder" {
                let [q, k, v] = projections(source, &theirs("encoder_attn"), d)?;
                put_linear(&mut out, &ours("cross.query"), &[q])?;
                put_linear(&mut out, &ours("cross.key_value"), &[k, v])?;
                linear(source, &mut out, &theirs("encoder_attn.out_proj"), &ours("cross.output"), d, d)?;
                norm(source, &mut out, &theirs("encoder_attn_layer_norm"), &ours("cross_norm"), d)?;
            }
            linear(source, &mut out, &theirs("fc1"), &ours("feed_forward.inner"), d, ffn)?;
            linear(source, &mut out, &theirs("fc2"), &ours("feed_forward.outer"), ffn, d)?;
            norm(source, &mut out, &theirs("final_layer_norm"), &ours("feed_forward_norm"), d)?;
        }
    }
    source.require_all_taken()?;
    Ok(out)
}

type Linear = (Tensor, Tensor);

fn put(out: &mut Tensors, name: &str, tensor: candle_core::Result<Tensor>) -> Result<(), String> {
    let tensor = tensor.and_then(|t| t.contiguous()).map_err(|e| format!("{name}: {e}"))?;
    out.insert(name.to_owned(), tensor);
    Ok(())
}

fn put_linear(out: &mut Tensors, name: &str, parts: &[Linear]) -> Result<(), String> {
    let (weights, biases): (Vec<&Tensor>, Vec<&Tensor>) = parts.iter().map(|(w, b)| (w, b)).unzip();
    put(out, &format!("{name}.weight"), Tensor::cat(&weights, 0))?;
    put(out, &format!("{name}.bias"), Tensor::cat(&biases, 0))
}

fn linear(
    source: &mut FairseqTensors,
    out: &mut Tensors,
    theirs: &str,
    ours: &str,
    inputs: usize,
    outputs: usize,
) -> Result<(), String> {
    let weight = source.take(&format!("{theirs}.weight"), &[outputs, inputs])?;
    let bias = source.take(&format!("{theirs}.bias"), &[outputs])?;
    put_linear(out, ours, &[(weight, bias)])
}

fn norm(
    source: &mut FairseqTensors,
    out: &mut Tensors,
    theirs: &str,
    ours: &str,
    d: usize,
) -> Result<(), String> {
    for part in ["weight", "bias"] {
        let tensor = source.take(&format!("{theirs}.{part}"), &[d])?;
        put(out, &format!("{ours}.{part}"), Ok(tensor))?;
    }
    Ok(())
}

/// Queries, keys and values of an attention. fairseq stores them separately or, in old versions, in one tensor.
fn projections(source: &mut FairseqTensors, name: &str, d: usize) -> Result<[Linear; 3], String> {
    let packed = format!("{name}.in_proj_weight");
    if source.has(&packed) {
        let weight = source.take(&packed, &[3 * d, d])?;
        let bias = source.take(&format!("{name}.in_proj_bias"), &[3 * d])?;
        let part = |i: usize| -> candle_core::Result<Linear> {
            Ok((weight.narrow(0, i * d, d)?, bias.narrow(0, i * d, d)?))
        };
        let parts = [part(0), part(1), part(2)].map(|part| part.map_err(|e| e.to_string()));
        let [q, k, v] = parts;
        return Ok([q?, k?, v?]);
    }
    let mut part = |which: &str| -> Result<Linear, String> {
        let weight = source.take(&format!("{name}.{which}_proj.weight"), &[d, d])?;
        Ok((weight, source.take(&format!("{name}.{which}_proj.bias"), &[d])?))
    };
    Ok([part("q")?, part("k")?, part("v")?])
}

/// The embedding shared by source, target and output.
fn shared_embedding(source: &mut FairseqTensors, conversion: &Conversion) -> Result<Tensor, String> {
    const ENCODER: &str = "encoder.embed_tokens.weight";
    let size = [conversion.vocabulary.fairseq_size, conversion.shape.d_model];
    let found = source.dims(ENCODER)?.to_vec();
    if found != size {
        return Err(format!(
            "tensor {ENCODER:?} has shape {found:?}, but the dict has {} tokens and {FAIRSEQ_SPECIALS} special ones: expected {size:?}",
            conversion.vocabulary.fairseq_size - FAIRSEQ_SPECIALS
        ));
    }
    let embedding = source.take(ENCODER, &size)?;
    for name in ["decoder.embed_tokens.weight", "decoder.output_projection.weight"] {
        if !source.has(name) {
            continue;
        }
        let other = source.take(name, &size)?;
        let same = (&embedding - &other).and_then(|d| d.abs()?.max_all()?.to_scalar::<f32>());
        if !same.is_ok_and(|difference| difference == 0.0) {
            return Err(format!(
                "tensor {name:?} differs from {ENCODER:?}: only models with --share-all-embeddings are supported"
            ));
        }
    }
    Ok(embedding)
}

/// fairseq's rows in the order of tutti's ids.
fn rearranged(embedding: &Tensor, rows: &[EmbeddingRow]) -> candle_core::Result<Tensor> {
    const UNKNOWN: usize = 3;
    let index: Vec<u32> = rows
        .iter()
        .map(|row| match row {
            EmbeddingRow::Token(index) => *index as u32,
            EmbeddingRow::Unknown | EmbeddingRow::Unused => UNKNOWN as u32,
        })
        .collect();
    embedding.index_select(&Tensor::from_vec(index, rows.len(), &Device::Cpu)?, 0)
}

/// Converts the position embeddings of the encoder or the decoder.
fn input(
    source: &mut FairseqTensors,
    out: &mut Tensors,
    side: &str,
    learned: bool,
    conversion: &Conversion,
) -> Result<(), String> {
    let (shape, d) = (conversion.shape, conversion.shape.d_model);
    source.ignore(&format!("{side}.version"));
    source.ignore(&format!("{side}.embed_positions._float_tensor"));
    let table = if learned {
        let name = format!("{side}.embed_positions.weight");
        let count = source.dims(&name)?[0];
        let table = source.take(&name, &[count, d])?;
        table.narrow(0, FIRST_POSITION, shape.max_positions)
    } else {
        sinusoidal(shape.max_positions, d)
    };
    // tutti scales the sum of tokens and positions, fairseq only the tokens.
    let divisor = if shape.positions == Positions::Scaled { conversion.scale } else { 1.0 };
    put(out, &format!("{side}.positions.weight"), table.and_then(|table| table / divisor))?;
    if shape.positions != Positions::Concat {
        return Ok(());
    }
    let weight = source.take(&format!("{side}.PEfc.weight"), &[d, 2 * d])?;
    let bias = source.take(&format!("{side}.PEfc.bias"), &[d])?;
    let scaled = || {
        let (tokens, places) = (weight.narrow(1, 0, d)?, weight.narrow(1, d, d)?);
        Tensor::cat(&[&(tokens * conversion.scale)?, &places], 1)
    };
    put(out, &format!("{side}.join.weight"), scaled())?;
    put(out, &format!("{side}.join.bias"), Ok(bias))
}

/// fairseq's table of sines and cosines, from its first position on.
fn sinusoidal(count: usize, d: usize) -> candle_core::Result<Tensor> {
    let half = d / 2;
    let step = 10_000f64.ln() / (half as f64 - 1.0);
    let value = |place: usize, channel: usize| {
        let angle = (place + FIRST_POSITION) as f64 * (-(step * (channel % half) as f64)).exp();
        if channel < half { angle.sin() as f32 } else { angle.cos() as f32 }
    };
    let values = (0..count).flat_map(|place| (0..d).map(move |channel| value(place, channel)));
    Tensor::from_vec(values.collect::<Vec<f32>>(), (count, d), &Device::Cpu)
}
