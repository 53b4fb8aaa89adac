//! The Rust half of `gpu_check.py`: numbers and speed of the network on a GPU, as JSON.
//!
//! The GPU's results are compared with those of the f32 network on the CPU: every wanted place of every sentence
//! and whole translations. A sentence alone must give the same bits as in a full batch. Then latencies,
//! throughput, launches and the speed of training are measured. `--device cpu` runs the same checks with the
//! CPU's number types, which tests this program where there is no GPU.

mod compare;
mod speed;
mod training;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use serde_json::json;
use tutti::decode::{InferenceModel, Steps};
use tutti::model::{Backend, Bundle, DeviceChoice, Dtype, DtypeChoice, Shape};

use crate::compare::Check;

#[derive(Parser)]
struct Cli {
    #[arg(long, default_value = "cuda:0")]
    device: DeviceChoice,
    /// A trained model, whose translations are compared.
    #[arg(long, default_value = "models/en-de")]
    model: PathBuf,
    /// Sentences in the model's source language, one a line.
    #[arg(long)]
    text: PathBuf,
    /// Of the text, how many are compared.
    #[arg(long, default_value_t = 500)]
    sentences: usize,
    /// What is timed, with random weights.
    #[arg(long, default_value = "enc=6,dec=6,d=512,ffn=2048,heads=8,vocab=8000")]
    shape: Shape,
    /// For each measurement.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    #[arg(long, value_delimiter = ',', default_value = "1,8,64,256,1024,4096")]
    batches: Vec<usize>,
    /// Padded tokens of a batch in training.
    #[arg(long, default_value_t = 16384)]
    training_tokens: usize,
    /// Updates that are timed of each kind of stage.
    #[arg(long, default_value_t = 20)]
    training_updates: usize,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let bundle = Bundle::open(&cli.model)?;
    let sources = sources(&cli, &bundle)?;
    let reference = InferenceModel::open(&bundle, &Backend::cpu())?;
    let steps = [1, 4].map(Steps::new).into_iter().flatten().collect::<Vec<_>>();
    let expected = compare::translations(&reference, &sources, &steps)?;
    let of_places = compare::places(&reference, &sources)?;

    let mut checks: Vec<Check> = Vec::new();
    for dtype in dtypes(cli.device) {
        let backend = Backend::choose(cli.device, DtypeChoice::Of(dtype))?;
        let network = InferenceModel::open(&bundle, &backend)?;
        eprintln!("checking {backend}");
        checks.extend(of_places.compared(&compare::places(&network, &sources)?, dtype));
        let found = compare::translations(&network, &sources, &steps)?;
        checks.push(compare::same_translations(&expected, &found, dtype));
        checks.extend(compare::alone_and_together(&network, &sources, &steps, dtype)?);
    }

    eprintln!("timing updates");
    let training = training::speeds(&cli.shape, cli.device, cli.training_tokens, cli.training_updates)?;
    let backend = Backend::choose(cli.device, DtypeChoice::Auto)?;
    eprintln!("timing {backend}");
    let report = json!({
        "device": backend.device_name(),
        "dtype": backend.dtype().name(),
        "shape": cli.shape,
        "sentences": sources.len(),
        "checks": checks,
        "latency": speed::latencies(&cli.shape, &backend, cli.seconds)?,
        "throughput": speed::throughputs(&cli.shape, &backend, cli.seconds, &cli.batches)?,
        "launches": speed::launches(&cli.shape, &backend)?,
        "training": training,
        "floor": speed::floors(&cli.shape, backend.dtype()),
    });
    println!("{report:#}");
    let failed = checks.iter().filter(|check| !check.passed).count();
    anyhow::ensure!(failed == 0, "{failed} of {} checks failed", checks.len());
    Ok(())
}

fn sources(cli: &Cli, bundle: &Bundle) -> Result<Vec<Vec<u32>>> {
    let file = std::fs::File::open(&cli.text).with_context(|| cli.text.display().to_string())?;
    let lines = BufReader::new(file).lines().take(cli.sentences).collect::<Result<Vec<_>, _>>()?;
    let reader = bundle.reader();
    let mut sources = Vec::new();
    for line in &lines {
        sources.extend(reader.read(line).requests()?.into_iter().map(|request| request.source));
    }
    anyhow::ensure!(!sources.is_empty(), "{} holds no sentence", cli.text.display());
    Ok(sources)
}

/// f32 first: what it fails, the others fail too.
fn dtypes(device: DeviceChoice) -> Vec<Dtype> {
    match device {
        DeviceChoice::Cpu => vec![Dtype::F32, Dtype::Q8],
        DeviceChoice::Auto | DeviceChoice::Cuda(_) => vec![Dtype::F32, Dtype::F16, Dtype::Bf16],
    }
}
