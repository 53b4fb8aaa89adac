//! `train`: everything that produces weights. Thin: it reads the command line and calls the library.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Parser, Subcommand};
use tutti::decode::{Loaded, Search, Steps};
use tutti::model::{Architecture, Backend, Bundle, Dtype, Score, Shape};
use tutti::train::allocator;
use tutti::train::ar;
use tutti::train::bench::{self, Options};
use tutti::train::checkpoint::Store;
use tutti::train::cmlm;
use tutti::train::config::{Config, Products};
use tutti::train::dims;
use tutti::train::distill::{self, Manifest, Shard};
use tutti::train::evaluate::{Decoding, Measured, TestSet, evaluate, evaluate_search};
use tutti::train::run::End;
use tutti::train::{fairseq, pipeline, report, vocabulary};

/// Train translation models for tutti
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Go through all stages of a run that are not done yet, from text to student
    Run(RunArgs),
    /// Learn the vocabulary of both languages from the training text
    Tokenizer(RunArgs),
    /// Train an autoregressive teacher; goes on from the last checkpoint
    Ar(RunArgs),
    /// Translate the training text with the autoregressive teacher; goes on where it was stopped
    Distill(DistillArgs),
    /// Train a CMLM; goes on from the last checkpoint in the output folder
    Cmlm(RunArgs),
    /// Distil several decoding steps of a trained model into one; goes on from the last checkpoint
    Dims(RunArgs),
    /// Write a bundle with the mean weights of several checkpoints
    Average(AverageArgs),
    /// Take over a model that was trained elsewhere
    #[command(subcommand)]
    Import(ImportFrom),
    /// Measure how fast an update is, for each kind of stage, on random text and weights
    Bench(BenchArgs),
    /// Score a bundle on parallel text, at each number of steps
    Evaluate(EvaluateArgs),
    /// Compare bundles on parallel text: quality, latency and significance, as a table and a plot
    Report(ReportArgs),
}

#[derive(Args)]
struct RunArgs {
    /// The run, as a TOML file (see config/train/)
    #[arg(long)]
    config: PathBuf,
    /// Another value for a key of the file: --set train.updates=100
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

#[derive(Args)]
struct DistillArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Do the i-th of n parts of the work; the parts of all machines are put together in one folder
    #[arg(long, value_name = "I/N", default_value = "1/1")]
    shard: Shard,
}

#[derive(Args)]
struct AverageArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Whose checkpoints
    #[arg(long, value_enum, default_value_t = Averaged::Cmlm)]
    stage: Averaged,
    /// Take so many checkpoints with the best validation scores
    #[arg(long, default_value_t = 5, conflicts_with = "checkpoints")]
    best: usize,
    /// Take these checkpoint folders instead
    #[arg(long, num_args = 1..)]
    checkpoints: Vec<PathBuf>,
    /// Folder of the bundle
    #[arg(long)]
    output: PathBuf,
}

#[derive(Subcommand)]
enum ImportFrom {
    /// A CMLM, CMLMC or DiMS checkpoint of fairseq
    Fairseq(FairseqArgs),
}

#[derive(Args)]
struct FairseqArgs {
    /// The checkpoint, model.pt
    #[arg(long)]
    checkpoint: PathBuf,
    /// The dictionary of both languages, dict.txt
    #[arg(long)]
    dict: PathBuf,
    /// The codes of subword-nmt or fastBPE that the text was cut into pieces with
    #[arg(long)]
    codes: PathBuf,
    /// Language code; the checkpoint's own where left out
    #[arg(long)]
    source: Option<String>,
    /// Language code; the checkpoint's own where left out
    #[arg(long)]
    target: Option<String>,
    /// Folder of the bundle
    #[arg(long)]
    output: PathBuf,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Averaged {
    Cmlm,
    Dims,
}

#[derive(Args, Clone)]
struct BenchArgs {
    /// Shape of the networks
    #[arg(long, default_value = "enc=3,dec=3,d=256,ffn=1024,heads=4,vocab=8000")]
    shape: Shape,
    /// What the operands of products are rounded to: f32 or bf16
    #[arg(long, default_value = "bf16")]
    products: Products,
    /// Padded tokens of a batch
    #[arg(long, default_value_t = 2048)]
    batch_tokens: usize,
    /// Tokens of a sentence, on average
    #[arg(long, default_value_t = 14)]
    sentence_tokens: usize,
    #[arg(long, default_value_t = 0.1)]
    dropout: f32,
    /// Updates of each stage
    #[arg(long, default_value_t = 10)]
    updates: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct EvaluateArgs {
    /// Folder of the bundle
    #[arg(long, default_value = "models/en-de")]
    model: PathBuf,
    /// Text to translate, a sentence a line
    #[arg(long)]
    source: PathBuf,
    /// What it should become, line by line
    #[arg(long)]
    reference: PathBuf,
    /// Numbers of decoder passes
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,10")]
    steps: Vec<u8>,
    /// Widths of the beam, for an autoregressive model, which has no steps
    #[arg(long, value_delimiter = ',', default_value = "1,4")]
    beam: Vec<usize>,
    /// Lengths tried for each sentence
    #[arg(long, default_value_t = 3)]
    length_beam: usize,
    /// Padded tokens of a batch
    #[arg(long, default_value_t = 2048)]
    batch_tokens: usize,
    /// q8 (eight bits, as the server computes) or f32
    #[arg(long, default_value = "q8")]
    dtype: Dtype,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Record the scores in the bundle's config.json, where /info reads them
    #[arg(long)]
    record: bool,
}

#[derive(Args)]
struct ReportArgs {
    /// Folder of a bundle, or NAME=FOLDER; once for each model, the first is what others are compared with
    #[arg(long = "model", value_name = "[NAME=]FOLDER", required = true)]
    models: Vec<String>,
    /// Text to translate, a sentence a line
    #[arg(long)]
    source: PathBuf,
    /// What it should become, line by line
    #[arg(long)]
    reference: PathBuf,
    /// Only so many sentences, from the head of the files
    #[arg(long)]
    sentences: Option<usize>,
    /// Numbers of decoder passes
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,10")]
    steps: Vec<u8>,
    /// Lengths tried for each sentence
    #[arg(long = "length-beam", value_delimiter = ',', default_value = "1,3,5")]
    length_beams: Vec<usize>,
    /// Widths of the beam, for an autoregressive model, which has no steps
    #[arg(long = "beam", value_delimiter = ',', default_value = "1,4")]
    beams: Vec<usize>,
    /// BLEU by source length too: the longest source of each bucket but the last, in words
    #[arg(long, value_delimiter = ',')]
    buckets: Vec<usize>,
    /// Bootstrap samples, for intervals and significance
    #[arg(long, default_value_t = 1000)]
    resamples: usize,
    /// Of the samples
    #[arg(long, default_value_t = 12345)]
    seed: u64,
    /// Sentences that are timed one by one
    #[arg(long, default_value_t = 200)]
    timed_sentences: usize,
    /// How often each of them is timed; the median counts
    #[arg(long, default_value_t = 3)]
    timing_rounds: usize,
    /// Padded tokens of a batch, where quality is measured
    #[arg(long, default_value_t = 2048)]
    batch_tokens: usize,
    /// q8 (eight bits, as the server computes) or f32
    #[arg(long, default_value = "q8")]
    dtype: Dtype,
    /// Gets report.md, quality.svg and report.json
    #[arg(long)]
    output: PathBuf,
}

/// candle's backward pass recurses once for each op of the tape.
const STACK_BYTES: usize = 256 << 20;

fn main() -> Result<()> {
    let cli = Cli::parse();
    allocator::keep_freed_memory();
    let work = std::thread::Builder::new().name("train".into()).stack_size(STACK_BYTES);
    let thread = work.spawn(move || match cli.command {
        Command::Run(args) => stage(&args, pipeline::run, |config| config.output.clone()),
        Command::Tokenizer(args) => stage(&args, vocabulary::run, |config| config.tokenizer.path.clone()),
        Command::Ar(args) => {
            stage(&args, ar::run, |config| ar_settings(config).output(&config.output).join("bundle"))
        }
        Command::Distill(args) => distill_text(&args),
        Command::Cmlm(args) => stage(&args, cmlm::run, |config| config.output.join("bundle")),
        Command::Dims(args) => stage(&args, dims::run, |config| dims_output(config).join("bundle")),
        Command::Average(args) => average_bundle(&args),
        Command::Import(ImportFrom::Fairseq(args)) => import_fairseq(args),
        Command::Bench(args) => bench_updates(&args),
        Command::Evaluate(args) => evaluate_bundle(&args),
        Command::Report(args) => report_models(args),
    })?;
    thread.join().map_err(|_| anyhow!("the training thread panicked; its message stands above"))?
}

type Stage = fn(&Config, &AtomicBool) -> tutti::Result<End>;

/// What the first Ctrl-C sets; the second one ends the program.
fn stop_flag() -> Result<&'static AtomicBool> {
    static STOP: AtomicBool = AtomicBool::new(false);
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("saving what is begun, then stopping; once more to stop at once");
    })?;
    Ok(&STOP)
}

fn distill_text(args: &DistillArgs) -> Result<()> {
    let stop = stop_flag()?;
    let config = Config::read(&args.run.config, &args.run.overrides)?;
    let folder = config.distill.clone().unwrap_or_default().output(&config.output);
    match (distill::run(&config, args.shard, stop)?, Manifest::read(&folder)) {
        (End::Interrupted, _) => eprintln!("stopped; the same command goes on from here"),
        (End::Finished, Err(_)) => {
            eprintln!("done with this shard; {} waits for the others", folder.join("chunks").display());
        }
        (End::Finished, Ok(manifest)) => {
            let reasons: Vec<String> =
                manifest.dropped.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
            let Manifest { kept, .. } = manifest;
            eprintln!("done: {}: {kept} pairs; dropped: {}", folder.display(), reasons.join(", "));
        }
    }
    Ok(())
}

/// Runs a stage until it is done or Ctrl-C; `output` is the stage's folder.
fn stage(args: &RunArgs, run: Stage, output: fn(&Config) -> PathBuf) -> Result<()> {
    let stop = stop_flag()?;
    let config = Config::read(&args.config, &args.overrides)?;
    match run(&config, stop)? {
        End::Finished => eprintln!("done: {}", output(&config).display()),
        End::Interrupted => eprintln!("saved; the same command goes on from here"),
    }
    Ok(())
}

fn ar_settings(config: &Config) -> tutti::train::config::Ar {
    config.ar.clone().unwrap_or_default()
}

fn dims_output(config: &Config) -> PathBuf {
    config.dims.clone().unwrap_or_default().output(&config.output)
}

fn average_bundle(args: &AverageArgs) -> Result<()> {
    let config = Config::read(&args.run.config, &args.run.overrides)?;
    let train = &config.train;
    let paths = if args.checkpoints.is_empty() {
        let output = match args.stage {
            Averaged::Cmlm => config.output.clone(),
            Averaged::Dims => dims_output(&config),
        };
        let store = Store::open(&output.join("checkpoints"), train.keep_last, train.keep_best)?;
        store.best(args.best)?
    } else {
        args.checkpoints.clone()
    };
    if paths.is_empty() {
        bail!("no validated checkpoint under {}; name some with --checkpoints", config.output.display());
    }
    match args.stage {
        Averaged::Cmlm => cmlm::write_average(&config, &paths, &args.output)?,
        Averaged::Dims => dims::write_average(&config, &paths, &args.output)?,
    }
    let names: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    eprintln!("{}: mean of {}", args.output.display(), names.join(", "));
    Ok(())
}

fn import_fairseq(args: FairseqArgs) -> Result<()> {
    let FairseqArgs { checkpoint, dict, codes, source: source_lang, target: target_lang, output } = args;
    fairseq::import(&fairseq::Import {
        checkpoint,
        dict,
        codes,
        output: output.clone(),
        source_lang,
        target_lang,
    })?;
    eprintln!("done: {}", output.display());
    Ok(())
}

fn bench_updates(args: &BenchArgs) -> Result<()> {
    let BenchArgs { shape, products, batch_tokens, sentence_tokens, dropout, updates, seed, json } =
        args.clone();
    let options = Options { shape, products, batch_tokens, sentence_tokens, dropout, updates, seed };
    let measured = bench::run(&options)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&measured)?);
        return Ok(());
    }
    println!("| stage | target tokens/s, median | best | s per update |\n|---|---|---|---|");
    for m in measured {
        let (rate, best) = (m.tokens_per_second, m.best_tokens_per_second);
        println!("| {} | {rate:.0} | {best:.0} | {:.3} |", m.stage, m.seconds_per_update);
    }
    Ok(())
}

fn evaluate_bundle(args: &EvaluateArgs) -> Result<()> {
    let bundle = Bundle::open(&args.model)?;
    let set = TestSet::read(&args.source, &args.reference, usize::MAX, &bundle.tokenizer)?;
    if set.is_empty() {
        bail!("{} has no lines", args.source.display());
    }
    let parallel = bundle.config.architecture == Architecture::Cmlm;
    let rows =
        if parallel { evaluate_steps(args, &bundle, &set)? } else { evaluate_beams(args, &bundle, &set)? };
    let dtype = if parallel { args.dtype } else { Dtype::F32 };
    if args.json {
        let report = serde_json::json!({
            "model": bundle.name, "checksum": bundle.checksum, "sentences": set.len(),
            "length_beam": parallel.then_some(args.length_beam), "dtype": dtype.name(), "bleu_signature": tutti::eval::bleu_signature(),
            "chrf_signature": tutti::eval::chrf_signature(), "scores": rows,
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print_table(&rows);
        println!("\nBLEU {}\nchrF {}", tutti::eval::bleu_signature(), tutti::eval::chrf_signature());
        let lengths = if parallel { format!(", length beam {}", args.length_beam) } else { String::new() };
        println!("{} sentences{lengths}, {}", set.len(), dtype.name());
    }
    if args.record {
        let score = |r: &Measured| match r.decoding {
            Decoding::Steps(steps) => {
                Some(Score { steps: steps.get() as u8, bleu: round(r.bleu), chrf: round(r.chrf) })
            }
            Decoding::Beam(_) => None,
        };
        let scores: Option<Vec<Score>> = rows.iter().map(score).collect();
        bundle.record_scores(scores.context("--record: only scores by steps have a place in a bundle")?)?;
    }
    Ok(())
}

fn evaluate_steps(args: &EvaluateArgs, bundle: &Bundle, set: &TestSet) -> Result<Vec<Measured>> {
    let network = Loaded::open(bundle, &Backend::cpu().with_dtype(args.dtype))?;
    let measure = |&steps: &u8| {
        let steps = Steps::new(steps).context("--steps: a translation takes at least one pass")?;
        let done = evaluate(&network, &bundle.tokenizer, set, steps, args.length_beam, args.batch_tokens)?;
        Ok(done.measured)
    };
    args.steps.iter().map(measure).collect()
}

fn evaluate_beams(args: &EvaluateArgs, bundle: &Bundle, set: &TestSet) -> Result<Vec<Measured>> {
    let network = bundle.network(&Backend::cpu())?;
    let measure = |&beam: &usize| {
        let options = Search { max_batch_tokens: args.batch_tokens, ..Search::new(beam) };
        Ok(evaluate_search(&network, &bundle.tokenizer, set, &options)?.measured)
    };
    args.beam.iter().map(measure).collect()
}

fn round(score: f64) -> f64 {
    (score * 100.0).round() / 100.0
}

fn print_table(rows: &[Measured]) {
    println!("| decoding | BLEU | BLEU, repeats kept | chrF | repeats | sentences/s |");
    println!("|---|---|---|---|---|---|");
    for r in rows {
        println!(
            "| {} | {:.2} | {:.2} | {:.2} | {:.1} % | {:.0} |",
            r.decoding,
            r.bleu,
            r.bleu_uncollapsed,
            r.chrf,
            100.0 * r.repetition_rate,
            r.sentences_per_second
        );
    }
}

fn report_models(args: ReportArgs) -> Result<()> {
    let plan = report::Plan {
        source: args.source,
        reference: args.reference,
        sentences: args.sentences,
        steps: args.steps,
        length_beams: args.length_beams,
        beams: args.beams,
        buckets: args.buckets,
        resamples: args.resamples,
        seed: args.seed,
        timed_sentences: args.timed_sentences,
        timing_rounds: args.timing_rounds,
        batch_tokens: args.batch_tokens,
        dtype: args.dtype,
    };
    plan.validate()?;
    let open = |text: &String| match text.split_once('=') {
        Some((name, path)) => report::Model::open(Some(name), path.as_ref(), &plan),
        None => report::Model::open(None, text.as_ref(), &plan),
    };
    let models = args.models.iter().map(open).collect::<tutti::Result<Vec<_>>>()?;
    let done = report::run(&plan, &models, |row| {
        let report::Row { model, way, bleu, latency_p50_ms, .. } = row;
        eprintln!("{model}, {way}: BLEU {bleu:.2}, {latency_p50_ms:.1} ms");
    })?;
    done.write(&args.output)?;
    eprintln!("done: {}", args.output.join("report.md").display());
    Ok(())
}
