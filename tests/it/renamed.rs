//! Names of the last version that still work: each prints a warning with the new name.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use serde_json::Value;

use crate::pipeline::{run, toy};
use crate::process::{bundle, tutti};

/// Old name, new name, and a command that uses the old one.
const RENAMED: [(&str, &str, &[&str]); 4] = [
    (
        "max_passed_over",
        "max_overtakes_per_step",
        &["check", "--model", "tiny", "--set", "max_passed_over=3"],
    ),
    ("--max-batch-tokens", "--batch-tokens", &["translate", "--model", "tiny", "--max-batch-tokens", "64"]),
    ("cmlm", "parallel", &["cmlm", "--config", "none.toml"]),
    ("cmlm", "parallel", &["average", "--stage", "cmlm", "--config", "none.toml", "--output", "mean"]),
];

#[test]
fn an_old_name_works_with_a_warning() {
    let folder = bundle();
    for (old, new, arguments) in RENAMED {
        let mut command = match arguments[0] {
            "check" | "translate" => tutti(&folder),
            _ => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
                command.env_clear().current_dir(folder.path());
                command
            }
        };
        let output = command.args(arguments).stdin(std::process::Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let warning =
            format!("warning: {old} is now called {new}; the next version will refuse the old name\n");
        assert!(said.contains(&warning), "{arguments:?}: {said}");
        // `train` gets as far as reading its file.
        let works = output.status.success() || said.contains("none.toml: No such file");
        assert!(works, "{arguments:?}: {said}");
    }
}

#[test]
fn a_value_that_equals_an_old_name_gets_no_warning() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
    // `cmlm` is still the name of a network that `bench` measures.
    let output = command.env_clear().args(["bench", "--stages", "cmlm", "--help"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn a_run_that_an_older_version_began_continues() {
    let toy = toy(&["run"]);
    let (success, said) = run(&toy, "run", &["pipeline.stages=[\"tokenizer\", \"parallel\"]"]);
    assert!(success, "{said}");
    let new = toy.path("run/stages/parallel.json");
    let mut complete: Value = serde_json::from_slice(&fs::read(&new).unwrap()).unwrap();
    complete["stage"] = "cmlm".into();
    let mut begun = complete.clone();
    let keys = ["stage", "digest", "inputs", "seconds"];
    begun.as_object_mut().unwrap().retain(|key, _| keys.contains(&key.as_str()));
    for (file, record, outcome) in
        [("cmlm.json", complete, "already complete"), ("cmlm.begun.json", begun, "continues")]
    {
        let old = toy.path("run/stages").join(file);
        fs::write(&old, record.to_string()).unwrap();
        fs::remove_file(&new).unwrap();
        let (success, said) = run(&toy, "run", &["pipeline.stages=[\"tokenizer\", \"cmlm\"]"]);
        assert!(success && said.contains(&format!("parallel: {outcome}")), "{said}");
        assert!(said.contains("warning: pipeline.stages: cmlm is now called parallel; "), "{said}");
        assert!(new.exists() && !old.exists());
    }
}

#[test]
fn every_old_name_in_the_sources_is_tested_here() {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut pairs = Vec::new();
    for file in [
        "src/settings/mod.rs",
        "src/bin/tutti/main.rs",
        "src/bin/train/main.rs",
        "src/train/config/pipeline.rs",
    ] {
        let text = fs::read_to_string(format!("{root}/{file}")).unwrap();
        let (_, list) = text.split_once("const RENAMED: [(&str, &str); ").expect(file);
        let (list, _) = list.split_once("];\n").unwrap();
        let names: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
        pairs.extend(names.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())));
    }
    let mut tested: Vec<_> = RENAMED.iter().map(|(old, new, _)| (old.to_string(), new.to_string())).collect();
    pairs.dedup();
    tested.dedup();
    assert_eq!(pairs, tested);
}

#[test]
fn an_argument_that_is_not_utf_8_is_an_error_without_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
    command.env_clear().current_dir(folder.path()).args(["run", "--config"]);
    let output = command.arg(OsStr::from_bytes(b"r\xff.toml")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("train: ") && said.contains("No such file"), "{said}");
}

#[test]
fn an_error_in_training_is_one_line_without_a_backtrace() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["parallel", "--config", "none.toml"][..],
        &["evaluate", "--model", "none", "--source", "a", "--reference", "b"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
        command.env_clear().env("RUST_BACKTRACE", "1").current_dir(folder.path()).args(arguments);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("train: ") && said.contains("none"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
