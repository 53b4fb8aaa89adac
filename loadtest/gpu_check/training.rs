//! Updates of each kind of stage, and what arithmetic they ask for.

use anyhow::{Result, anyhow};
use serde_json::{Value, json};
use tutti::model::{DeviceChoice, Shape};
use tutti::train::config::Products;
use tutti::train::update::bench::{self, Options};
use tutti::train::update::ranks::STACK_BYTES;

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
            measure_product: true,
            stages: Vec::new(),
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
                "matrix_share": m.matrix_share,
            })
        }));
    }
    Ok(all)
}
