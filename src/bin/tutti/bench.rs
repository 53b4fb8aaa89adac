//! `tutti bench`: turns flags into a plan, and prints the result as a table or JSON.

use std::io::{self, ErrorKind, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use tutti::bench::{self, Measurement, Until};
use tutti::decode::{InferenceModel, Steps};
use tutti::flags::BackendFlags;
use tutti::model::{Bundle, Dtype, Shape};
use tutti::nn::int8::kernel::Path as Instructions;
use tutti::settings::compute_threads;

#[derive(Args)]
pub struct Bench {
    /// Folder of the bundle; without it, random weights of `--shape`.
    #[arg(long, conflicts_with = "shape")]
    model: Option<PathBuf>,
    /// Shape of a network with random weights.
    #[arg(long, default_value = "enc=3,dec=3,d=256,ffn=1024,heads=4,vocab=8000")]
    shape: Shape,
    /// Source lengths to measure, in tokens without bos and eos.
    #[arg(long, value_delimiter = ',', default_value = "12,25")]
    source_tokens: Vec<usize>,
    /// Target lengths to measure, one for each source length [default: the same].
    #[arg(long, value_delimiter = ',')]
    target_tokens: Vec<usize>,
    /// Sentences of a batch, for the throughput.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Numbers of decoding steps to measure.
    #[arg(long, value_delimiter = ',', default_value = "1,4")]
    steps: Vec<u8>,
    /// Number of target lengths to try.
    #[arg(long, default_value_t = 1)]
    length_beam: usize,
    /// Number of compute threads; 0 for one for each core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    #[command(flatten)]
    backend: BackendFlags,
    /// Compute in eight bits as a CPU with these instructions and no better ones: amx, avx512-vnni, avx2 or portable
    /// [default: the best of this CPU].
    #[arg(long, value_name = "NAME")]
    instructions: Option<Instructions>,
    /// Duration of each measurement, in seconds; each combination of length and steps needs two measurements, latency and
    /// throughput.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Measure N sentences, then N batches, one by one and without a warm-up, however long they take. With --threads 1,
    /// every run computes the same, so that its instructions can be counted.
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    repeats: Option<usize>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Bench) -> Result<()> {
    let plan = plan(arguments)?;
    let backend = arguments.backend.backend()?;
    let eight_bits = backend.dtype() == Dtype::Q8;
    if let Some(instructions) = arguments.instructions {
        ensure!(eight_bits, "--instructions is for eight bits: use --device cpu and --dtype q8");
        instructions.choose()?;
    }
    let bundle = arguments.model.as_deref().map(Bundle::open).transpose()?;
    let vocabulary = bundle.as_ref().map_or(arguments.shape.vocab, |bundle| bundle.config.shape.vocab);
    let plan = bench::Plan { vocabulary: u32::try_from(vocabulary)?, ..plan };
    let network = || match &bundle {
        Some(bundle) => InferenceModel::open(bundle, &backend),
        None => InferenceModel::random(&arguments.shape, 1, &backend),
    };
    let mut out = io::stdout().lock();
    if !arguments.json {
        // If standard output is closed, the run ends with the next line.
        writeln!(out, "{}", Row::HEAD).or_else(ignore_closed)?;
    }
    let measured = bench::run(&plan, network, |measurement| {
        if !arguments.json {
            let _ = writeln!(out, "{}", Row(measurement)).and_then(|()| out.flush());
        }
    })?;
    if arguments.json {
        let report = serde_json::json!({
            "model": model_name(arguments.model.as_deref(), &arguments.shape),
            "threads": plan.threads,
            "device": backend.device_name(),
            "dtype": backend.dtype().name(),
            "instructions": eight_bits.then(|| Instructions::best().name()),
            "measurements": measured,
        });
        writeln!(out, "{report}").or_else(ignore_closed)?;
    }
    Ok(())
}

fn plan(arguments: &Bench) -> Result<bench::Plan> {
    let sources = &arguments.source_tokens;
    let targets = if arguments.target_tokens.is_empty() { sources } else { &arguments.target_tokens };
    ensure!(sources.len() == targets.len(), "--target-tokens needs as many lengths as --source-tokens");
    let steps = arguments.steps.iter().map(|&steps| Steps::new(steps).context("--steps must be at least 1"));
    Ok(bench::Plan {
        lengths: sources.iter().copied().zip(targets.iter().copied()).collect(),
        steps: steps.collect::<Result<_>>()?,
        length_beam: arguments.length_beam,
        batch: arguments.batch,
        until: until(arguments)?,
        threads: compute_threads(arguments.threads)?,
        vocabulary: 0,
    })
}

/// Largest value of `--repeats`.
const MAX_REPEATS: usize = 1_000_000;

fn until(arguments: &Bench) -> Result<Until> {
    if let Some(repeats) = arguments.repeats {
        let repeats = NonZeroUsize::new(repeats).filter(|repeats| repeats.get() <= MAX_REPEATS);
        return Ok(Until::Repeated(
            repeats.with_context(|| format!("--repeats must be at least 1 and at most {MAX_REPEATS}"))?,
        ));
    }
    ensure!(
        arguments.seconds > 0.0 && arguments.seconds <= 3600.0,
        "--seconds must be more than 0 and at most 3600"
    );
    Ok(Until::Elapsed(Duration::from_secs_f64(arguments.seconds)))
}

fn model_name(model: Option<&Path>, shape: &Shape) -> String {
    model.map_or_else(|| format!("random {shape:?}"), |dir| dir.display().to_string())
}

/// A closed standard output is not an error.
fn ignore_closed(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

/// A row of the result table.
struct Row<'a>(&'a Measurement);

impl Row<'_> {
    const HEAD: &'static str =
        "source target steps beam   p50 ms   p90 ms  batch  sentences/s  target tokens/s";
}

impl std::fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let m = self.0;
        write!(
            f,
            "{:>6} {:>6} {:>5} {:>4} {:>8.2} {:>8.2} {:>6} {:>12.1} {:>16.0}",
            m.source_tokens,
            m.target_tokens,
            m.steps.get(),
            m.length_beam,
            m.latency_p50_ms,
            m.latency_p90_ms,
            m.batch,
            m.sentences_per_second,
            m.target_tokens_per_second
        )
    }
}
