//! Shell completions and man pages, generated from the description of the command line.

use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Command};
use clap_complete::Shell;

#[derive(Args)]
pub struct Completions {
    /// bash, zsh, fish, elvish or powershell; for example `tutti completions bash > /etc/bash_completion.d/tutti`.
    shell: Shell,
}

#[derive(Args)]
pub struct Man {
    /// Folder for man pages, one for each command [default: print the main page]
    #[arg(long)]
    output: Option<PathBuf>,
}

pub fn completions(mut command: Command, arguments: &Completions) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "tutti", &mut script);
    print(&script)
}

pub fn man(command: Command, arguments: &Man) -> Result<()> {
    let Some(folder) = &arguments.output else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        return print(&page);
    };
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    clap_mangen::generate_to(command, folder)
        .with_context(|| format!("cannot write man pages to {}", folder.display()))
}

/// A closed standard output is not an error.
fn print(text: &[u8]) -> Result<()> {
    match io::Write::write_all(&mut io::stdout().lock(), text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
