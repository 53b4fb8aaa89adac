//! Latency, throughput, launches, and what the hardware must do at least.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tutti::bench::{self, Measurement, Until};
use tutti::decode::{InferenceModel, Steps};
use tutti::model::{Backend, Dtype, Shape, Spec};
use tutti::settings::one_for_each_core;

/// Inner tokens of sources and targets.
const LENGTHS: [usize; 2] = [12, 25];

fn plan(shape: &Shape, seconds: f64, steps: &[u8], batch: usize) -> Result<bench::Plan> {
    let steps = steps.iter().map(|&steps| Steps::new(steps).context("no steps"));
    Ok(bench::Plan {
        lengths: LENGTHS.map(|length| (length, length)).into(),
        steps: steps.collect::<Result<_>>()?,
        length_beam: 1,
        batch,
        until: Until::Elapsed(Duration::from_secs_f64(seconds)),
        threads: one_for_each_core(),
        vocabulary: u32::try_from(shape.vocab)?,
    })
}

fn measured(shape: &Shape, backend: &Backend, plan: &bench::Plan) -> Result<Vec<Measurement>> {
    Ok(bench::run(plan, || InferenceModel::random(shape, 1, backend), |_| {})?)
}

/// One sentence at a time.
///
/// # Errors
/// What the network answers with.
pub fn latencies(shape: &Shape, backend: &Backend, seconds: f64) -> Result<Vec<Measurement>> {
    measured(shape, backend, &plan(shape, seconds, &[1, 2, 4, 10], 1)?)
}

/// A full house, one step.
///
/// # Errors
/// What the network answers with.
pub fn throughputs(
    shape: &Shape,
    backend: &Backend,
    seconds: f64,
    batches: &[usize],
) -> Result<Vec<Measurement>> {
    let mut all = Vec::new();
    for &batch in batches {
        // The latency at batch 1 was measured already: only little time goes there.
        all.extend(measured(shape, backend, &plan(shape, seconds, &[1], batch)?)?);
    }
    Ok(all)
}

/// Of one sentence of 25 tokens: kernels and products that the host launches for encoder and one decoder
/// pass, with graphs and without.
///
/// # Errors
/// What the network answers with.
#[cfg(feature = "cuda")]
pub fn launches(shape: &Shape, backend: &Backend) -> Result<Value> {
    use candle_core::Device;
    use tutti::model::device::{DeviceCanvas, DeviceNetwork};
    use tutti::nn::device::{Element, cuda::Cuda};

    let Some(number) = backend.gpu() else { return Ok(Value::Null) };
    let tensors = Spec::initial(shape, 1, &Device::Cpu)?;
    let ids: Vec<u32> = vec![7; 27];
    let wanted: Vec<usize> = (1..26).collect();
    let mut found = Vec::new();
    for graphs in [false, true] {
        let cuda = Cuda::open(number, Element::Bf16)?;
        let cuda = if graphs { cuda } else { cuda.without_graphs() };
        let network = DeviceNetwork::new(cuda, shape, &tensors, Element::Bf16)?;
        network.warm_up()?;
        let before = network.counts();
        let (keys, _) = network.encode_sentences(&[&ids])?.remove(0);
        network.predict(&[DeviceCanvas { ids: &ids, wanted: &wanted, keys: &keys }])?;
        let after = network.counts();
        found.push(json!({
            "graphs": graphs,
            "launches": after.launches - before.launches,
            "replays": after.replays - before.replays,
            "inside_replays": after.replayed_launches - before.replayed_launches,
        }));
    }
    Ok(Value::Array(found))
}

/// There are none without a GPU.
#[cfg(not(feature = "cuda"))]
pub fn launches(shape: &Shape, _: &Backend) -> Result<Value> {
    Spec::of(shape)?;
    Ok(Value::Null)
}

/// What one sentence of each length takes in one step: multiply-adds times two, and bytes of weights that are
/// read once.
pub fn floors(shape: &Shape, dtype: Dtype) -> Value {
    let (d, ffn) = (shape.d_model as f64, shape.ffn as f64);
    let (encoder, decoder) = (shape.encoder_layers as f64, shape.decoder_layers as f64);
    let bytes = match dtype {
        Dtype::F32 => 4.0,
        Dtype::Bf16 | Dtype::F16 => 2.0,
        Dtype::Q8 => 1.0,
    };
    let of_encoder = encoder * (4.0 * d * d + 2.0 * d * ffn) + decoder * 2.0 * d * d;
    let of_decoder = decoder * (6.0 * d * d + 2.0 * d * ffn) + d * shape.vocab as f64;
    let floors = LENGTHS.map(|inner| {
        let rows = inner as f64 + 2.0;
        // Scores and mixing of every pair of positions, two products each.
        let attention = (encoder + 2.0 * decoder) * 2.0 * rows * rows * d;
        json!({
            "tokens": inner,
            "operations": 2.0 * (rows * (of_encoder + of_decoder) + attention),
            "weight_bytes": bytes * (of_encoder + of_decoder),
        })
    });
    Value::Array(floors.into())
}
