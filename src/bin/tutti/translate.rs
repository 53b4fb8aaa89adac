//! `tutti translate`: turns flags into options, and prints messages on the terminal.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use tutti::decode::{DecodeOptions, InferenceModel, Steps, Translator};
use tutti::documents::translate_document;
use tutti::flags::BackendFlags;
use tutti::formats::{Format, Markup};
use tutti::lines::translate_lines;
use tutti::model::Bundle;
use tutti::settings::compute_threads;
use tutti::text::ReadOptions;

use super::model::Place;

/// Number of bad lines that are reported; further ones are only counted.
const MAX_REPORTED_LINES: usize = 10;

#[derive(Args)]
pub struct Translate {
    /// Folder of a bundle, or the name of a built-in model; if missing, the first built-in model, en-de
    #[arg(long, env = "TUTTI_MODEL")]
    model: Option<PathBuf>,
    /// Number of decoding steps; several, such as `--steps 1,4`, print one column each, separated by tabs
    /// [default: that of the model]
    #[arg(long, value_delimiter = ',')]
    steps: Vec<u8>,
    /// Number of target lengths to try [default: that of the model]
    #[arg(long)]
    length_beam: Option<usize>,
    /// Padded tokens in a batch, of the source or of the canvases alone (the server's max_batch_tokens counts both sides
    /// together)
    #[arg(long, alias = "max-batch-tokens", default_value_t = 4096)]
    batch_tokens: usize,
    /// Number of compute threads; 0 for one for each core
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Join wrapped lines: a sentence that continues over several lines becomes one line
    #[arg(long)]
    join_lines: bool,
    #[command(flatten)]
    backend: BackendFlags,
    /// Translate a whole document instead of lines, and keep its tags, code, keys and time stamps: text, html, xml,
    /// markdown, po, srt, json or xliff
    #[arg(long)]
    format: Option<Format>,
    /// The same as --format html
    #[arg(long, conflicts_with = "format")]
    html: bool,
}

/// Fails if a line could not be translated, with a message for each; the others are translated.
pub fn run(arguments: &Translate) -> Result<ExitCode> {
    let threads = compute_threads(arguments.threads)?.get();
    // The current thread is one of them.
    rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build_global()?;
    let bundle = Place::of(arguments.model.as_deref().unwrap_or(Path::new(""))).open()?;
    let max_steps = bundle.config.max_steps;
    ensure!(arguments.length_beam != Some(0), "--length-beam must be at least 1");
    let network = InferenceModel::open(&bundle, &arguments.backend.backend()?)?;
    let numbers = match arguments.steps.as_slice() {
        [] => &[bundle.config.default_steps],
        numbers => numbers,
    };
    let columns = numbers
        .iter()
        .map(|&steps| {
            ensure!((1..=max_steps).contains(&steps), "--steps must be 1 to {max_steps} for {}", bundle.name);
            let steps = Steps::new(steps).context("--steps must be at least 1")?;
            Ok(DecodeOptions {
                length_beam: arguments.length_beam.unwrap_or_else(|| network.limits().default_length_beam()),
                max_batch_tokens: arguments.batch_tokens,
                ..DecodeOptions::new(steps)
            })
        })
        .collect::<Result<Vec<_>>>()?;

    let format = if arguments.html { Some(Format::Markup(Markup::html())) } else { arguments.format.clone() };
    let reading = ReadOptions { join_lines: arguments.join_lines };
    match format {
        Some(format) => whole_document(&format, &network, &bundle, reading, &columns),
        None => lines(&network, &bundle, reading, &columns),
    }
}

fn whole_document(
    format: &Format,
    network: &InferenceModel,
    bundle: &Bundle,
    reading: ReadOptions,
    columns: &[DecodeOptions],
) -> Result<ExitCode> {
    let [options] = columns else {
        bail!("--format needs a single number of steps: a document has no columns")
    };
    let source = io::read_to_string(io::stdin().lock()).context("cannot read the document")?;
    let translation = translate_document(&source, format, network, &bundle.reader(), reading, options)?;
    match io::stdout().lock().write_all(translation.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write"),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn lines(
    network: &InferenceModel,
    bundle: &Bundle,
    reading: ReadOptions,
    columns: &[DecodeOptions],
) -> Result<ExitCode> {
    let mut bad_lines = 0;
    let on_bad_line = |line: usize, reason: &str| {
        bad_lines += 1;
        if bad_lines <= MAX_REPORTED_LINES {
            eprintln!("tutti: line {line}: {reason}; it is copied without translation");
        }
    };
    let (input, output) = (io::stdin().lock(), io::stdout().lock());
    match translate_lines(input, output, network, &bundle.reader(), reading, columns, on_bad_line) {
        // The program that reads the output, such as `head`, has closed the pipe.
        Err(tutti::Error::Io { source, .. }) if source.kind() == ErrorKind::BrokenPipe => {}
        ended => ended?,
    }
    if bad_lines == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("tutti: {bad_lines} lines were not translated");
    Ok(ExitCode::FAILURE)
}
