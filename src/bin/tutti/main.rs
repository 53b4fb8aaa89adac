//! The server and its tools: `tutti [serve]`, `translate`, `bench`, `check`, `key`, `health`, `completions`, `man`.
//! Code that can be tested without a command line is in the library.

mod bench;
mod load;
mod manual;
mod model;
mod serve;
mod translate;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};
use tutti::http;
use tutti::keys::renamed_arguments;

use serve::Serve;

/// Translation server with parallel decoding. Without a command, it serves.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Serve translations over HTTP.
    Serve(Serve),
    /// Translate standard input to standard output: line by line, or a document with --format.
    Translate(translate::Translate),
    /// Measure the engine without HTTP.
    Bench(bench::Bench),
    /// Check settings and model without serving.
    Check(Serve),
    /// Create an API key: print the key on standard output, and its entry for the file of keys on standard error.
    Key {
        /// Name of the client in logs.
        name: String,
    },
    /// Check whether the server with these settings is ready; for containers without curl.
    Health(Serve),
    /// Print completions for a shell.
    Completions(manual::Completions),
    /// Print the manual page, or write one for each command.
    Man(manual::Man),
}

/// Flags that were renamed. The old names work for one more version.
const RENAMED: [(&str, &str); 1] = [("--max-batch-tokens", "--batch-tokens")];

fn main() -> ExitCode {
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    for warning in renamed_arguments(arguments, &RENAMED) {
        eprintln!("warning: {warning}");
    }
    match run(Cli::parse()) {
        Ok(code) => code,
        // One line without a backtrace: most errors are about a setting or a file.
        Err(error) => {
            eprintln!("tutti: {}", tutti::error::in_one_line(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        None => serve::serve(&cli.serve),
        Some(Command::Serve(arguments)) => serve::serve(&arguments),
        Some(Command::Translate(arguments)) => return translate::run(&arguments),
        Some(Command::Bench(arguments)) => bench::run(&arguments),
        Some(Command::Check(arguments)) => serve::check(&arguments),
        Some(Command::Health(arguments)) => serve::health(&arguments),
        Some(Command::Key { name }) => new_key(&name),
        Some(Command::Completions(arguments)) => manual::completions(Cli::command(), &arguments),
        Some(Command::Man(arguments)) => manual::man(Cli::command(), &arguments),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn new_key(name: &str) -> Result<()> {
    let (key, entry) = http::new_key(name);
    println!("{key}");
    eprint!("{entry}");
    Ok(())
}
