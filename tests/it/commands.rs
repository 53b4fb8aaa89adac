//! The commands of pages for readers work: settings of training are valid, and what needs neither network nor corpus
//! runs as it is written.

use tutti::train::config::Config;

use crate::operations::repository;
use crate::process::{bundle, run, tutti};
use crate::readme::{Example, commands, examples, pages, read};

/// Subcommands of `tutti` that finish fast.
const FAST: [&str; 2] = ["check", "translate"];

fn values(command: &[String], flag: &str) -> Vec<String> {
    command.windows(2).filter(|pair| pair[0] == flag).map(|pair| pair[1].clone()).collect()
}

#[test]
fn the_settings_of_every_training_command_are_valid() {
    let mut checked = 0;
    let trains = |page: &String| {
        page == "README.md" || page.starts_with("config/train/") || page.starts_with("models/")
    };
    for page in pages().iter().filter(|page| trains(page)) {
        let lines = examples(&read(page));
        for command in lines.iter().flat_map(|line| commands(&line.command)) {
            let (files, settings) = (values(&command, "--config"), values(&command, "--set"));
            for file in files.iter().filter(|_| command[0] == "train") {
                let config = Config::read(&repository(file), &settings);
                assert!(config.is_ok(), "{page}: {}: {:?}", command.join(" "), config.err());
                checked += settings.len();
            }
        }
    }
    assert!(checked > 0, "no page sets a key");
}

#[test]
fn fast_commands_of_the_readme_run_as_they_are_written() {
    let (folder, mut ran) = (bundle(), Vec::new());
    for Example { command: line, .. } in examples(&read("README.md")) {
        // A command reads this page, or what `echo` prints.
        let mut input = "<p>Thank you.</p>\n".to_owned();
        for command in commands(&line) {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            let arguments = match words.as_slice() {
                ["echo", text] => {
                    input = format!("{text}\n");
                    continue;
                }
                ["tutti", rest @ ..] | ["cargo", "run", "--release", "--", rest @ ..] => rest,
                _ => continue,
            };
            let Some(&name) = FAST.iter().find(|name| arguments.first() == Some(*name)) else { continue };
            let mut program = tutti(&folder);
            let arguments = arguments.iter().filter(|word| !word.starts_with(['<', '>']));
            program.current_dir(repository("")).args(arguments);
            let output = run(program, &input);
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
            ran.push(name);
        }
    }
    assert!(FAST.iter().all(|name| ran.contains(name)), "the README has only {ran:?}");
}
