//! `train`: trains models. Reads the command line and calls the library.

mod arguments;
mod limit;
mod scores;
mod writing;

use std::ffi::OsStr;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use anyhow::{Result, anyhow, bail};
use arguments::{
    AverageArgs, Averaged, BenchArgs, CalibrateArgs, DistillArgs, EvaluateArgs, FairseqArgs, ImportFrom,
    InterpolateArgs, LmArgs, ReportArgs, RunArgs, SealArgs, ShortlistArgs, StageArgs,
};
use clap::{Parser, Subcommand};
use tutti::keys::renamed_arguments;
use tutti::known;
use tutti::model::{Bundle, DeviceChoice, Fusion};
use tutti::train::allocator;
use tutti::train::bundle::calibrate::{Calibration, calibrate};
use tutti::train::bundle::{lm, shortlist};
use tutti::train::config::Config;
use tutti::train::data::interpolate::{Interpolate, interpolate};
use tutti::train::import::fairseq;
use tutti::train::stages::ar;
use tutti::train::stages::dims;
use tutti::train::stages::distill::{self, Manifest};
use tutti::train::stages::parallel;
use tutti::train::stages::{pipeline, tokenizer};
use tutti::train::update::bench::{self, Options};
use tutti::train::update::checkpoint::Store;
use tutti::train::update::ranks;
use tutti::train::update::run::End;
use writing::{changing_bundle, lock_existing, seal_new, writing_bundle, writing_folder};

/// Train translation models for tutti
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run all stages that are not complete, from text to student
    Run(StageArgs),
    /// Learn the vocabulary of both languages from the training text
    Tokenizer(RunArgs),
    /// Train an autoregressive teacher; continues from the last checkpoint
    Ar(StageArgs),
    /// Translate the training text with the autoregressive teacher; continues where it was stopped
    Distill(DistillArgs),
    /// Choose for each line, among several translations, the one nearest to the reference
    Interpolate(InterpolateArgs),
    /// Train a parallel model (CMLM, CMLMC or Imputer); continues from the last checkpoint in the output folder
    #[command(alias = "cmlm")]
    Parallel(StageArgs),
    /// Distil several decoding steps of a trained model into one; continues from the last checkpoint
    Dims(StageArgs),
    /// Write a bundle with the mean weights of several checkpoints
    Average(AverageArgs),
    /// Write a copy of a bundle with calibrated logits or another number type
    Calibrate(CalibrateArgs),
    /// Import a model that was trained by another program
    #[command(subcommand)]
    Import(ImportFrom),
    /// Measure how fast an update is, for each kind of stage, on random text and weights
    Bench(BenchArgs),
    /// Learn a shortlist from parallel text, which makes translation on a CPU faster
    Shortlist(ShortlistArgs),
    /// Learn an n-gram language model of the target language for an Imputer's bundle
    Lm(LmArgs),
    /// Write the checksums of a bundle's files and a known sentence into its config.json
    Seal(SealArgs),
    /// Score a bundle on parallel text, at each number of steps
    Evaluate(EvaluateArgs),
    /// Compare bundles on parallel text: quality, latency and significance, as a table and a plot
    Report(ReportArgs),
}

fn main() -> ExitCode {
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    for warning in renamed_arguments(arguments, &RENAMED) {
        eprintln!("warning: {warning}");
    }
    match run(Cli::parse()) {
        Ok(code) => code,
        // One line without a backtrace: most errors are about a setting or a file.
        Err(error) => {
            eprintln!("train: {}", tutti::error::in_one_line(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    allocator::keep_freed_memory();
    let work = std::thread::Builder::new().name("train".into()).stack_size(ranks::STACK_BYTES);
    let done = |work: Result<()>| work.map(|()| ExitCode::SUCCESS);
    let thread = work.spawn(move || match cli.command {
        Command::Run(args) => run_stages(&args),
        Command::Tokenizer(run) => {
            let args = StageArgs { run, minutes: None };
            single_stage(&args, tokenizer::run, |config| config.tokenizer.path.clone())
        }
        Command::Ar(args) => {
            single_stage(&args, ar::run, |config| ar_settings(config).output(&config.output).join("bundle"))
        }
        Command::Distill(args) => distill_text(&args),
        Command::Parallel(args) => single_stage(&args, parallel::run, |config| config.output.join("bundle")),
        Command::Dims(args) => single_stage(&args, dims::run, |config| dims_output(config).join("bundle")),
        Command::Average(args) => done(writing_bundle(&args.output, || average_bundle(&args))),
        Command::Interpolate(args) => done(writing_folder(&args.output.clone(), || interpolate_texts(args))),
        Command::Calibrate(args) => done(writing_bundle(&args.output, || calibrate_bundle(&args))),
        Command::Import(ImportFrom::Fairseq(args)) => {
            done(writing_bundle(&args.output.clone(), || import_fairseq(args)))
        }
        Command::Bench(args) => done(bench_updates(&args)),
        Command::Shortlist(args) => done(changing_bundle(&args.model, || learn_shortlist(&args))),
        Command::Lm(args) => done(changing_bundle(&args.model, || learn_lm(&args))),
        Command::Seal(args) => done(seal_bundle(&args)),
        Command::Evaluate(args) => done(scores::evaluate_bundle(&args)),
        Command::Report(args) => done(writing_folder(&args.output.clone(), || scores::report_models(args))),
    })?;
    thread.join().map_err(|_| anyhow!("the training thread panicked; see its message above"))?
}

/// Commands and values of `--stage` that were renamed. The old names work for one more version.
const RENAMED: [(&str, &str); 1] = [("cmlm", "parallel")];

type Stage = fn(&Config, &AtomicBool) -> tutti::Result<End>;

/// Reads the configuration and prints a warning for each old name in it.
fn read(run: &RunArgs) -> Result<Config> {
    let config = Config::read(&run.config, &run.overrides)?;
    for warning in &config.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(config)
}

fn distill_text(args: &DistillArgs) -> Result<ExitCode> {
    let config = read(&args.stage.run)?;
    let _lock = pipeline::lock(&config.output, args.shard.is_part())?;
    let stop = limit::stop_flag(args.stage.minutes)?;
    let folder = config.distill.clone().unwrap_or_default().output(&config.output);
    match (distill::run(&config, args.shard, stop)?, Manifest::read(&folder)) {
        (End::Interrupted, _) => return Ok(limit::interrupted("stopped")),
        (End::Finished, Err(_)) => {
            eprintln!("this shard is done; {} needs the other shards", folder.join("chunks").display());
        }
        (End::Finished, Ok(manifest)) => {
            let reasons: Vec<String> =
                manifest.dropped.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
            let Manifest { kept, .. } = manifest;
            eprintln!("done: {}: {kept} pairs; dropped: {}", folder.display(), reasons.join(", "));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs all stages and seals their bundles under the lock of the run's folder, which `pipeline::run` takes.
fn run_stages(args: &StageArgs) -> Result<ExitCode> {
    let config = read(&args.run)?;
    let output = &config.output;
    stage(args.minutes, output, |stop| pipeline::run(&config, stop, || seal_new(&config, output)))
}

/// Runs a single stage and seals its bundle under the lock of the run's folder.
fn single_stage(args: &StageArgs, run: Stage, output: fn(&Config) -> PathBuf) -> Result<ExitCode> {
    let config = read(&args.run)?;
    let _lock = pipeline::lock(&config.output, false)?;
    let made = output(&config);
    // Fail before training if the bundle could not be written afterwards.
    if made.file_name() == Some(OsStr::new("bundle")) {
        Bundle::check_destination(&made)?;
    }
    stage(args.minutes, &made, |stop| {
        let end = run(&config, stop)?;
        if end == End::Finished {
            seal_new(&config, &made)?;
        }
        Ok(end)
    })
}

/// Calls `run`, which runs stages until they are complete or interrupted by `--minutes` or Ctrl-C. `made` is what it
/// makes.
fn stage(
    minutes: Option<f64>,
    made: &Path,
    run: impl FnOnce(&AtomicBool) -> tutti::Result<End>,
) -> Result<ExitCode> {
    let stop = limit::stop_flag(minutes)?;
    match run(stop)? {
        End::Finished => eprintln!("done: {}", made.display()),
        End::Interrupted => return Ok(limit::interrupted("saved")),
    }
    Ok(ExitCode::SUCCESS)
}

fn seal_bundle(args: &SealArgs) -> Result<()> {
    let _lock = lock_existing(&args.model)?;
    let known = known::seal(&Bundle::open_unsealed(&args.model)?, args.sentence.as_deref())?;
    if let Some(known) = known {
        eprintln!(
            "known sentence: {:?} becomes {:?} with steps={}",
            known.source, known.translation, known.steps
        );
    }
    eprintln!("done: {}", args.model.join(Bundle::CONFIG).display());
    Ok(())
}

fn ar_settings(config: &Config) -> tutti::train::config::Ar {
    config.ar.clone().unwrap_or_default()
}

fn dims_output(config: &Config) -> PathBuf {
    config.dims.clone().unwrap_or_default().output(&config.output)
}

fn learn_shortlist(args: &ShortlistArgs) -> Result<()> {
    let bundle = Bundle::open_without(&args.model, Bundle::SHORTLIST)?;
    let &ShortlistArgs { per_token, common, iterations, .. } = args;
    let options = shortlist::Options { per_token, common, iterations };
    let made = shortlist::shortlist(&bundle, &args.source, &args.target, options)?;
    let path = args.model.join(Bundle::SHORTLIST);
    eprintln!(
        "done: {}: {} bytes from {} pairs ({} skipped); {:.0} of {} tokens for a sentence, on average",
        path.display(),
        made.bytes,
        made.pairs,
        made.skipped,
        made.candidates,
        bundle.config.shape.vocab,
    );
    Ok(())
}

fn learn_lm(args: &LmArgs) -> Result<()> {
    let bundle = Bundle::open_without(&args.model, Bundle::LM)?;
    let &LmArgs { weight, bonus, penalty, prune, .. } = args;
    let options = lm::Options { fusion: Fusion { weight, bonus, penalty }, prune };
    let made = lm::language_model(&bundle, &args.text, options)?;
    eprintln!(
        "done: {}: {} bytes, {} bigrams and {} trigrams from {} sentences ({} skipped)",
        args.model.join(Bundle::LM).display(),
        made.bytes,
        made.bigrams,
        made.trigrams,
        made.sentences,
        made.skipped,
    );
    Ok(())
}

fn average_bundle(args: &AverageArgs) -> Result<()> {
    let config = read(&args.run)?;
    let train = &config.train;
    let paths = if args.checkpoints.is_empty() {
        let output = match args.stage {
            Averaged::Parallel => config.output.clone(),
            Averaged::Dims => dims_output(&config),
        };
        let store = Store::open(&output.join("checkpoints"), train.keep_last, train.keep_best)?;
        store.best(args.best)?
    } else {
        args.checkpoints.clone()
    };
    if paths.is_empty() {
        bail!(
            "{} has no validated checkpoint; choose checkpoints with --checkpoints",
            config.output.display()
        );
    }
    match args.stage {
        Averaged::Parallel => parallel::write_average(&config, &paths, &args.output)?,
        Averaged::Dims => dims::write_average(&config, &paths, &args.output)?,
    }
    let names: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    eprintln!("{}: mean of {}", args.output.display(), names.join(", "));
    Ok(())
}

fn interpolate_texts(args: InterpolateArgs) -> Result<()> {
    let InterpolateArgs { source, reference, candidates, min_chrf, output } = args;
    let chosen =
        interpolate(&Interpolate { source, reference, candidates, min_chrf, output: output.clone() })?;
    for candidate in &chosen.candidates {
        eprintln!("{}: {} lines", candidate.text.path.display(), candidate.chosen);
    }
    if chosen.references_kept > 0 {
        eprintln!("{}: {} lines", chosen.reference.path.display(), chosen.references_kept);
    }
    eprintln!("done: {}: {} pairs, {} lines left out", output.display(), chosen.kept, chosen.dropped);
    Ok(())
}

fn calibrate_bundle(args: &CalibrateArgs) -> Result<()> {
    let calibration = Calibration { scale: args.output_scale, blank_penalty: args.blank_penalty };
    calibrate(&Bundle::open(&args.model)?, calibration, args.stored.map(Into::into), &args.output)?;
    eprintln!("done: {}", args.output.display());
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
    let BenchArgs {
        shape,
        products,
        batch_tokens,
        sentence_tokens,
        dropout,
        device_flag,
        updates,
        no_product,
        stages,
        seed,
        json,
    } = args.clone();
    let device = device_flag.device.unwrap_or(DeviceChoice::Cpu);
    let options = Options {
        shape,
        products,
        batch_tokens,
        sentence_tokens,
        dropout,
        device,
        updates,
        measure_product: !no_product,
        stages,
        seed,
    };
    let measured = bench::run(&options)?;
    if json {
        return print(&serde_json::to_string_pretty(&measured)?);
    }
    let line = |m: &bench::StageSpeed| {
        let (rate, best) = (m.tokens_per_second, m.best_tokens_per_second);
        let share = m.matrix_share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", 100.0 * share));
        let (seconds, cpu) = (m.seconds_per_update, m.cpu_seconds_per_update.unwrap_or(f64::NAN));
        format!("\n| {} | {rate:.0} | {best:.0} | {seconds:.3} | {cpu:.3} | {share} |", m.stage)
    };
    let lines: String = measured.iter().map(line).collect();
    let head = "| stage | target tokens/s, median | best | s per update | CPU s | of the rate of one large product |";
    print(&format!("{head}\n|---|---|---|---|---|---|{lines}"))
}

/// Prints a result. A closed standard output is not an error.
fn print(text: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done?),
    }
}
