//! The README and the pages that it links to agree with the programs: commands, flags, paths, links, endpoints,
//! metrics, and the answers of the default model.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tutti::http::ROUTES;

use crate::operations::{repository, series, words};

const MAX_LINES: usize = 250;

/// Pages for readers that are checked like the README.
const PAGES: [&str; 9] = [
    "loadtest/README.md",
    "config/kubernetes/README.md",
    "src/http/CLIENTS.md",
    "src/nn/device/README.md",
    "models/de-en/README.md",
    "models/de-en/TRAINING.md",
    "models/en-de/README.md",
    "models/en-de/TRAINING.md",
    "config/train/README.md",
];

/// Programs that a reader has, or installs with what the page says.
const OTHERS: [&str; 19] = [
    "cargo",
    "curl",
    "docker",
    "kubectl",
    "echo",
    "export",
    "git",
    "mkdir",
    "cp",
    "tar",
    "cd",
    "awk",
    "zcat",
    "head",
    "paste",
    "loadtest/gpu_pack.sh",
    "tests/image/run.sh",
    "tests/kubernetes/run.sh",
    ".ci/run",
];

/// Folders whose paths in a command must exist.
const FOLDERS: [&str; 6] = ["config/", "models/", "loadtest/", "src/", "tests/", ".ci/"];

pub fn read(path: &str) -> String {
    let path = repository(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn pages() -> Vec<String> {
    let notes = fs::read_dir(repository("config/train/notes")).unwrap();
    let notes =
        notes.map(|entry| format!("config/train/notes/{}", entry.unwrap().file_name().to_str().unwrap()));
    std::iter::once("README.md".to_owned()).chain(PAGES.map(str::to_owned)).chain(notes).collect()
}

/// One command of a `console` block with the lines of output below it.
pub struct Example {
    pub command: String,
    pub output: Vec<String>,
}

pub fn examples(page: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let (mut inside, mut continued) = (false, false);
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
            continued = false;
        } else if inside {
            match (line.strip_prefix("$ "), examples.last_mut()) {
                (Some(command), _) => {
                    examples.push(Example { command: command.to_owned(), output: Vec::new() });
                    continued = line.ends_with('\\');
                }
                (None, Some(last)) if continued => {
                    last.command.push('\n');
                    last.command.push_str(line.trim());
                    continued = line.ends_with('\\');
                }
                (None, Some(last)) => last.output.push(line.to_owned()),
                (None, None) => panic!("a console block begins with output: {line}"),
            }
        }
    }
    examples
}

/// The words of a command line, without comments; `&&`, `|`, `;` and `&` are words of their own.
fn split(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut quoted) = (Vec::new(), String::new(), None, false);
    let mut characters = command.chars().peekable();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(end), _) if c == end => quote = None,
            (Some(_), _) => word.push(c),
            (None, '\'' | '"') => (quote, quoted) = (Some(c), true),
            (None, '\\') => {
                characters.next_if_eq(&'\n');
            }
            (None, '#') if word.is_empty() => break,
            (None, c) if c.is_whitespace() || c == ';' => {
                if !word.is_empty() || quoted {
                    words.push(std::mem::take(&mut word));
                }
                quoted = false;
                if c == ';' {
                    words.push(";".into());
                }
            }
            (None, c) => word.push(c),
        }
    }
    if !word.is_empty() || quoted {
        words.push(word);
    }
    words
}

/// The parts of a command line that are commands of their own, without variables that are set.
pub fn commands(line: &str) -> Vec<Vec<String>> {
    let words = split(line);
    let parts = words.split(|word| matches!(word.as_str(), "&&" | "|" | ";" | "&"));
    let sets = |word: &String| {
        word.split_once('=')
            .is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_' || c == 'q'))
    };
    parts
        .map(|part| part.iter().skip_while(|word| sets(word)).cloned().collect::<Vec<_>>())
        .filter(|part| !part.is_empty())
        .collect()
}

/// The help of a program's subcommand, or the program's own where there is none of that name.
#[derive(Default)]
struct Helps(BTreeMap<Vec<String>, Option<String>>);

impl Helps {
    fn of(&mut self, program: &str, subcommands: &[&str]) -> Option<String> {
        let key: Vec<String> = [program].iter().chain(subcommands).map(|word| (*word).to_owned()).collect();
        let help = || {
            let output = Command::new(program).args(subcommands).arg("--help").output().unwrap();
            output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
        };
        self.0.entry(key).or_insert_with(help).clone()
    }

    /// What is wrong with the arguments of one of our programs.
    fn check(&mut self, program: &str, arguments: &[String]) -> Result<(), String> {
        let subcommands: Vec<&str> = arguments
            .iter()
            .map(String::as_str)
            .take_while(|word| word.chars().all(|c| c.is_ascii_lowercase()))
            .take(2)
            .collect();
        let known = (0..=subcommands.len()).rev().find_map(|n| self.of(program, &subcommands[..n]));
        let help = known.ok_or("has no --help")?;
        if let Some(first) = subcommands.first()
            && self.of(program, &[first]).is_none()
        {
            return Err(format!("has no subcommand {first}"));
        }
        let inside = |c: char| c.is_ascii_alphanumeric() || c == '-';
        check_flags(arguments, |flag| help.split(|c| !inside(c)).any(|word| word == flag))
    }
}

fn check_flags(arguments: &[String], known: impl Fn(&str) -> bool) -> Result<(), String> {
    let flags = arguments.iter().filter(|word| word.starts_with("--") && word.len() > 2);
    match flags.map(|flag| flag.split('=').next().unwrap_or_default()).find(|flag| !known(flag)) {
        Some(flag) => Err(format!("has no flag {flag}")),
        None => Ok(()),
    }
}

/// What is wrong with one command.
fn check(command: &[String], helps: &mut Helps) -> Result<(), String> {
    for word in command {
        let path = word.strip_prefix("./").unwrap_or(word);
        if FOLDERS.iter().any(|folder| path.starts_with(folder)) && !repository(path).exists() {
            return Err(format!("{path} does not exist"));
        }
    }
    let (program, arguments) = command.split_first().ok_or("is empty")?;
    let (tutti, train) = (env!("CARGO_BIN_EXE_tutti"), env!("CARGO_BIN_EXE_train"));
    match program.as_str() {
        "taskset" => check(&arguments[2..], helps),
        "tutti" | "target/release/tutti" => helps.check(tutti, arguments),
        "train" | "target/release/train" => helps.check(train, arguments),
        "target/release/examples/loadtest" => check_loadtest(arguments),
        "python3" => {
            let script = arguments.first().ok_or("names no script")?;
            let text = read(script);
            check_flags(&arguments[1..], |flag| text.contains(&format!("\"{flag}\"")))
        }
        "cargo" if arguments.first().is_some_and(|word| word == "run") => {
            let at = arguments.iter().position(|word| word == "--").unwrap_or(arguments.len());
            let (cargo, own) = (&arguments[..at], arguments.get(at + 1..).unwrap_or_default());
            match cargo
                .iter()
                .rposition(|word| word == "--bin" || word == "--example")
                .and_then(|i| cargo.get(i + 1))
            {
                None => helps.check(tutti, own),
                Some(name) if name == "train" => helps.check(train, own),
                Some(name) if name == "loadtest" => check_loadtest(own),
                Some(name) => Err(format!("runs {name}, which this test does not know")),
            }
        }
        other if OTHERS.contains(&other) => Ok(()),
        other => Err(format!("uses {other}, which this test does not know")),
    }
}

/// Flags of `loadtest` are fields of its arguments.
fn check_loadtest(arguments: &[String]) -> Result<(), String> {
    let sources: String =
        ["main", "overhead", "overload", "soak", "restarts", "rolling", "fuzz", "autoscale/mod"]
            .iter()
            .map(|name| read(&format!("loadtest/{name}.rs")))
            .collect();
    check_flags(arguments, |flag| {
        flag == "--help"
            || sources.contains(&format!("    {}: ", flag.trim_start_matches('-').replace('-', "_")))
    })
}

#[test]
fn the_readme_is_short_and_finished() {
    let lines = read("README.md").lines().count();
    assert!(lines <= MAX_LINES, "README.md has {lines} lines; at most {MAX_LINES} are read");
    for page in pages() {
        let text = read(&page);
        for mark in ["TODO", "TBD", "FIXME", "@@"] {
            assert!(!text.contains(mark), "{page} is not finished: it has {mark}");
        }
        let (begins, ends) =
            (text.matches("<!-- model:begin").count(), text.matches("<!-- model:end -->").count());
        assert_eq!(begins, ends, "{page}: a part about the model has no end");
    }
}

#[test]
fn every_command_line_is_known() {
    let mut helps = Helps::default();
    let mut wrong = Vec::new();
    for page in pages() {
        for Example { command: line, .. } in examples(&read(&page)) {
            for command in commands(&line) {
                if let Err(reason) = check(&command, &mut helps) {
                    wrong.push(format!("{page}: {reason}: {}", command.join(" ")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    for page in pages() {
        let text = read(&page);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let folder = Path::new(&page).parent().unwrap_or(Path::new(""));
            let file: PathBuf =
                if path.is_empty() { repository(&page) } else { repository("").join(folder).join(path) };
            let heading = |text: &str| {
                text.lines().filter(|line| line.starts_with('#')).any(|line| slug(line) == anchor)
            };
            if !file.exists()
                || (!anchor.is_empty() && !heading(&fs::read_to_string(&file).unwrap_or_default()))
            {
                wrong.push(format!("{page}: {target}"));
            }
        }
    }
    assert!(wrong.is_empty(), "these links lead nowhere:\n{}", wrong.join("\n"));
}

/// A heading's anchor as GitHub makes it.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn endpoints_and_metrics_of_the_readme_exist() {
    let text = read("README.md");
    let table = text.split("## API").nth(1).unwrap().split("\n## ").next().unwrap();
    let code = table
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.split(' ').find(|word| word.starts_with('/')));
    let endpoints: BTreeSet<&str> = code.collect();
    assert!(endpoints.contains("/translate") && endpoints.len() > 5, "{endpoints:?}");
    let served = |path: &str| match path.strip_suffix("/*") {
        Some(prefix) => ROUTES.iter().any(|route| route.starts_with(&format!("{prefix}/"))),
        None => ROUTES.contains(&path),
    };
    let unknown: Vec<_> = endpoints.into_iter().filter(|path| !served(path)).collect();
    assert!(unknown.is_empty(), "the server has no route {unknown:?}");
    let (named, series) = (words(&text, "tutti_"), series());
    let unknown: Vec<_> =
        named.into_iter().filter(|name| !series.iter().any(|one| one.starts_with(name))).collect();
    assert!(unknown.is_empty(), "no metric is called {unknown:?}");
}

#[test]
fn the_default_model_answers_as_the_readme_says() {
    let (mut body, mut checked) = (String::new(), 0);
    for Example { command, output } in examples(&read("README.md")) {
        let words = split(&command);
        if let Some(set) = words.first().and_then(|word| word.strip_prefix("q=")) {
            body = set.to_owned();
        }
        let Some(url) = words.iter().find(|word| word.contains("/translate")) else { continue };
        let Some(said) = output.iter().find_map(|line| line.strip_prefix("{\"translatedText\":\"")) else {
            continue;
        };
        let said = said.split('"').next().unwrap_or_default();
        let data = words.iter().position(|word| word == "-d").and_then(|i| words.get(i + 1)).unwrap();
        let request: Value = serde_json::from_str(if data == "$q" { &body } else { data }).unwrap();
        let steps = url.split_once("steps=").map(|(_, steps)| steps);
        assert_eq!(translated(request["q"].as_str().unwrap(), steps), said, "models/en-de, steps {steps:?}");
        checked += 1;
    }
    assert!(checked > 0, "the README shows no translation");
}

/// What `tutti translate` makes of a line with the default model.
fn translated(text: &str, steps: Option<&str>) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tutti"));
    command.args(["translate", "--device", "cpu", "--model"]).arg(repository("models/en-de"));
    if let Some(steps) = steps {
        command.args(["--steps", steps]);
    }
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{text}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}
