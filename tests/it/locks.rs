//! Two `train` commands that write to one folder: the second is refused, and the first loses nothing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tutti::known;
use tutti::model::{Bundle, Lengths};

use crate::lm;
use crate::program::Program;
use crate::toy::{Toy, assert_same_checkpoint, assert_same_file};

const REFUSAL: &str = "another `train` command is using this folder; wait until it has finished";

fn train(command: &str) -> Command {
    let mut train = Command::new(env!("CARGO_BIN_EXE_train"));
    // The environment of the machine must not affect the test.
    train.env_clear().arg(command).stdin(Stdio::null());
    train
}

/// Runs to the end. Returns whether it succeeded, and its messages.
fn run(mut command: Command) -> (bool, String) {
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

/// `train parallel` up to an update.
fn parallel(toy: &Toy, output: &str, updates: u64) -> Command {
    let mut command = train("parallel");
    command.arg("--config").arg(toy.path(&format!("{output}.toml")));
    command.arg("--set").arg(format!("train.updates={updates}"));
    command
}

/// The update of a run's last checkpoint; 0 without one.
fn saved(toy: &Toy, output: &str) -> u64 {
    let entries = fs::read_dir(toy.path(output).join("checkpoints")).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_prefix("update-")?.parse::<u64>().ok()).max().unwrap_or(0)
}

#[test]
fn of_two_training_runs_in_one_folder_the_second_is_refused_and_the_first_loses_nothing() {
    let toy = Toy::new();
    for output in ["both", "straight"] {
        toy.config(output, ""); // writes the file
    }
    // So many updates that it cannot end before it is interrupted.
    let mut first = Program::start(parallel(&toy, "both", 1_000_000));
    first.until(|_| (saved(&toy, "both") > 0).then_some(()));
    // It keeps its lock, but need not train while the second one starts.
    first.signal("STOP");
    let (success, said) = run(parallel(&toy, "both", 5));
    let folder = toy.path("both").display().to_string();
    assert!(!success && said.contains(REFUSAL) && said.contains(&folder), "{said}");
    first.signal("INT");
    first.signal("CONT");
    assert!(first.until_ended().success(), "{}", first.log());
    assert!(first.log().contains("saved; the same command continues from here"), "{}", first.log());

    // The folder is free again, and the run continues as if there had been no second one.
    let done = saved(&toy, "both");
    let last = done + 2;
    for output in ["both", "straight"] {
        let (success, said) = run(parallel(&toy, output, last));
        assert!(success, "{said}");
    }
    assert_eq!(toy.logged("both", "start", "update"), [0.0, done as f64]);
    assert_same_checkpoint(&toy.checkpoint("both", last), &toy.checkpoint("straight", last));
    let weights = |run: &str| toy.path(run).join("bundle").join(Bundle::WEIGHTS);
    assert_same_file(&weights("both"), &weights("straight"));
}

/// The files of a folder.
fn contents(folder: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn a_bundle_that_another_command_writes_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let own = lm::bundle(&root, "en-de", Lengths::Ctc);
    let (text, other) = (lm::text(&root, &lm::TEXT), root.path().join("calibrated"));
    fs::create_dir(&other).unwrap();
    let learn = || {
        let mut command = train("lm");
        command.arg("--model").arg(&own.dir).arg("--text").arg(&text);
        command
    };
    let calibrate = || {
        let mut command = train("calibrate");
        command.args(["--blank-penalty", "0.5", "--model"]).arg(&own.dir).arg("--output").arg(&other);
        command
    };
    let commands: [(&Path, &str, &dyn Fn() -> Command); 2] =
        [(own.dir.as_path(), Bundle::LM, &learn), (other.as_path(), Bundle::WEIGHTS, &calibrate)];
    for (folder, made, command) in commands {
        let lock = File::open(folder).unwrap();
        lock.lock().unwrap();
        let before = contents(folder);
        let (success, said) = run(command());
        assert!(!success && said.contains(REFUSAL), "{said}");
        assert!(contents(folder) == before, "{} has changed", folder.display());
        // Not by closing the file: a process that another test is starting may have a copy of it.
        lock.unlock().unwrap();
        let (success, said) = run(command());
        assert!(success && folder.join(made).is_file(), "{said}");
        assert!(Bundle::open(folder).unwrap().is_sealed());
    }
}

#[test]
fn a_bundle_that_training_replaces_is_locked_beside_its_folder_and_training_waits() {
    let toy = Toy::new();
    toy.config("run", "");
    fs::create_dir_all(toy.path("run")).unwrap();
    let lock = File::create(toy.path("run/.bundle.lock")).unwrap();
    lock.lock().unwrap();
    let mut training = Program::start(parallel(&toy, "run", 2));
    training.until(|log| log.contains("waits until another `train` command has finished").then_some(()));
    let made = toy.path("run/bundle");
    assert!(!made.exists());
    lock.unlock().unwrap();
    assert!(training.until_ended().success(), "{}", training.log());
    assert!(Bundle::open(&made).unwrap().is_sealed());

    let seal = || {
        let mut command = train("seal");
        command.arg("--model").arg(&made);
        command
    };
    lock.lock().unwrap();
    let (success, said) = run(seal());
    assert!(!success && said.contains(REFUSAL), "{said}");
    lock.unlock().unwrap();
    let (success, said) = run(seal());
    assert!(success, "{said}");
}

#[test]
fn scores_of_a_bundle_that_changed_meanwhile_are_not_recorded() {
    let root = tempfile::tempdir().unwrap();
    let bundle = lm::bundle(&root, "en-de", Lengths::Ctc);
    let (source, reference) = (root.path().join("source"), root.path().join("reference"));
    fs::write(&reference, "Wo ist der Bahnhof?\n").unwrap();
    // The evaluation opens the bundle first, then waits for its source text.
    assert!(Command::new("mkfifo").arg(&source).status().unwrap().success());
    let mut command = train("evaluate");
    command.args(["--record", "--steps", "1", "--model"]).arg(&bundle.dir);
    command.arg("--source").arg(&source).arg("--reference").arg(&reference);
    let mut evaluation = Program::start(command);
    let mut options = File::options();
    // Without a reader this fails instead of waiting.
    options.write(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
    let mut pipe = evaluation.until(|_| options.open(&source).ok());
    known::seal(&bundle, None).unwrap();
    pipe.write_all(b"Where is the train station?\n").unwrap();
    drop(pipe);
    assert!(!evaluation.until_ended().success());
    assert!(evaluation.log().contains("the bundle changed while it was measured"), "{}", evaluation.log());
    assert!(Bundle::open(&bundle.dir).unwrap().config.scores.is_empty());
}

#[test]
fn a_failed_command_leaves_an_empty_folder_of_the_user_and_none_of_its_own() {
    let root = tempfile::tempdir().unwrap();
    let own = lm::bundle(&root, "en-de", Lengths::Ctc);
    let (user, new) = (root.path().join("user"), root.path().join("new"));
    fs::create_dir(&user).unwrap();
    for folder in [&user, &new] {
        let mut command = train("average");
        command.args(["--config", "none.toml", "--output"]).arg(folder);
        let (success, said) = run(command);
        assert!(!success && said.contains("none.toml"), "{said}");
        let mut command = train("lm");
        command.arg("--model").arg(&own.dir).arg("--text").arg(folder.join("none"));
        assert!(!run(command).0);
    }
    assert!(user.is_dir() && !new.exists() && own.dir.is_dir());
}
