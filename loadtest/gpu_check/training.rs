//! Updates of each kind of stage, and what arithmetic they ask for.

use anyhow::{Result, anyhow};
use serde_json::{Value, json};
use tutti::model::{DeviceChoice, Shape};
use tutti::train::bench::{self, Options};
use tutti::train::config::Products;
use tutti::train::parallel::STACK_BYTES;

/// Target tokens a second of each stage, with either kind of products. On a GPU "f32" are products in TF32.
///
/// # Errors
/// What the network or the device answers with.
pub fn speeds(
    shape: &Shape,
    device: DeviceChoice,
    batch_tokens: usize,
    updates: usize,
) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for (name, products) in [("f32", Products::F32), ("bf16", Products::Bf16)] {
        let options = Options {
            shape: shape.clone(),
            products,
            batch_tokens,
            sentence_tokens: 14,
            dropout: 0.1,
            device,
            updates,
            seed: 1,
        };
        let thread =
            std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || bench::run(&options))?;
        let measured = thread.join().map_err(|_| anyhow!("the training thread panicked"))??;
        all.extend(measured.iter().map(|m| {
            json!({
                "stage": m.stage,
                "products": name,
                "tokens_per_second": m.tokens_per_second,
                "seconds_per_update": m.seconds_per_update,
                "operations_per_token": operations(shape, m.stage),
            })
        }));
    }
    Ok(all)
}

/// Of one target token and as much source, where the stage asks for as much: a multiply-add is two, and
/// the backward pass takes twice what the forward pass takes. Padding is not counted, and attention's own
/// products, some percent, are left out.
fn operations(shape: &Shape, stage: &str) -> Option<f64> {
    let (d, ffn) = (shape.d_model as f64, shape.ffn as f64);
    let encoder = shape.encoder_layers as f64 * (4.0 * d * d + 2.0 * d * ffn);
    let decoder = shape.decoder_layers as f64 * (8.0 * d * d + 2.0 * d * ffn);
    // Scores over the vocabulary only where something is to be said: half the places of a CMLM.
    let said = match stage {
        "ar" => 1.0,
        "cmlm" => 0.5,
        _ => return None,
    };
    Some(3.0 * 2.0 * (encoder + decoder + said * d * shape.vocab as f64))
}
