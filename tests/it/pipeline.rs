//! `train run` from outside: the built program on a toy corpus, killed, resumed, and with invalid input.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tutti::model::Bundle;
use tutti::train::stages::distill::Manifest;
use tutti::train::update::checkpoint::Checkpoint;

use crate::toy::{Toy, assert_same_file};

const STAGES: [&str; 5] = ["tokenizer", "ar", "distill", "parallel", "dims"];

/// Settings of a whole toy run: about twenty checkpoints, three bundles, distilled text in five chunks.
const SETTINGS: &str = "
    updates = 12
    [ar]
    updates = 40
    [distill]
    beam = 2
    chunk = 7
    repeated_ngram = 0
    [dims]
    updates = 9
    validate_every = 4
    checkpoint_every = 2
";

fn train(toy: &Toy, output: &str, sets: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
    // The environment of the machine must not affect the test.
    command.env_clear().args(["run", "--config"]).arg(toy.path(&format!("{output}.toml")));
    command.args(sets.iter().flat_map(|set| ["--set", set]));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A toy whose runs have separate tokenizers.
pub fn toy(outputs: &[&str]) -> Toy {
    let toy = Toy::new();
    for output in outputs {
        configure(&toy, output, SETTINGS);
    }
    toy
}

pub fn configure(toy: &Toy, output: &str, settings: &str) {
    toy.config(output, settings);
    let file = toy.path(&format!("{output}.toml"));
    let shared = toy.path("tokenizer.json").display().to_string();
    let own = toy.path(output).join("tokenizer.json").display().to_string();
    fs::write(&file, fs::read_to_string(&file).unwrap().replace(&shared, &own)).unwrap();
}

/// Runs to the end. Returns whether it succeeded, and its messages.
pub fn run(toy: &Toy, output: &str, sets: &[&str]) -> (bool, String) {
    said(train(toy, output, sets).output().unwrap())
}

fn said(output: Output) -> (bool, String) {
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

fn run_well(toy: &Toy, output: &str, sets: &[&str]) -> String {
    let (success, said) = run(toy, output, sets);
    assert!(success, "{said}");
    said
}

fn record(folder: &Path, stage: &str) -> Option<Value> {
    let text = fs::read(folder.join(format!("stages/{stage}.json"))).ok()?;
    Some(serde_json::from_slice(&text).unwrap())
}

/// Everything in a run's folder under its final name is complete.
fn assert_nothing_is_half_written(folder: &Path) {
    for bundle in ["bundle", "ar/bundle", "dims/bundle"].map(|name| folder.join(name)) {
        if bundle.exists() {
            Bundle::open(&bundle).unwrap();
        }
    }
    if folder.join("tokenizer.json").exists() {
        tutti::text::Tokenizer::load(folder.join("tokenizer.json")).unwrap();
    }
    if folder.join("distilled/manifest.json").exists() {
        let kept = Manifest::read(&folder.join("distilled")).unwrap().kept;
        for file in ["distilled/train.en", "distilled/train.de"] {
            assert_eq!(fs::read_to_string(folder.join(file)).unwrap().lines().count(), kept);
        }
    }
    for store in ["checkpoints", "ar/checkpoints", "dims/checkpoints"].map(|name| folder.join(name)) {
        for entry in fs::read_dir(store).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with("update-") {
                Checkpoint::load(&path, &candle_core::Device::Cpu).unwrap();
            }
        }
    }
    for stage in STAGES {
        for (path, _) in record(folder, stage).iter().flat_map(|r| r["outputs"].as_object().unwrap()) {
            assert!(Path::new(path).exists(), "{stage} is complete, but {path} is not there");
        }
    }
}

/// Vocabulary, distilled text, bundles and last checkpoints equal those of the undisturbed run, byte for byte.
fn assert_same_result(toy: &Toy, output: &str) {
    let checkpoints =
        ["checkpoints/update-00000012", "ar/checkpoints/update-00000040", "dims/checkpoints/update-00000009"];
    let parts = ["model.safetensors", "ema.safetensors", "optimizer.safetensors"];
    let checkpoints = checkpoints.iter().flat_map(|at| parts.map(|part| format!("{at}/{part}")));
    let others = [
        "tokenizer.json",
        "ar/bundle/model.safetensors",
        "distilled/train.en",
        "distilled/train.de",
        "distilled/manifest.json",
        "bundle/model.safetensors",
        "dims/bundle/model.safetensors",
    ];
    for file in checkpoints.chain(others.map(String::from)) {
        assert_same_file(&toy.path("straight").join(&file), &toy.path(output).join(&file));
    }
}

/// The same values in every run of the tests.
fn moments() -> impl Iterator<Item = f64> {
    let mut rng = tutti::train::rng::Rng::from_seed(10);
    std::iter::from_fn(move || Some((rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64))
}

/// Starts a run and kills it after `time`. Returns whether it was still running.
fn kill_after(mut command: Command, time: Duration) -> bool {
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let id = child.id();
    let (ended, wait) = mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let status = child.wait().unwrap();
        // The process was killed.
        let _ = ended.send(());
        status
    });
    if wait.recv_timeout(time).is_err() {
        // It may end just now, which is not an error.
        let _ = Command::new("sh").arg("-c").arg(format!("kill -KILL {id}")).stderr(Stdio::null()).status();
    }
    let status = waiter.join().unwrap();
    assert!(status.success() || status.code().is_none(), "{status}");
    !status.success()
}

#[test]
fn a_run_that_is_killed_at_ten_random_moments_gives_the_same_weights() {
    let toy = toy(&["straight", "killed"]);
    let begin = Instant::now();
    run_well(&toy, "straight", &[]);
    let mut whole = begin.elapsed();

    let folder = toy.path("killed");
    let (mut kills, mut moments) = (0, moments());
    while kills < 10 {
        // Starting up takes part of the time; most times are too short for the whole run.
        let time = whole.mul_f64(0.1 + 0.5 * moments.next().unwrap());
        if kill_after(train(&toy, "killed", &[]), time) {
            kills += 1;
        } else {
            // Finished too early: check this run and start another one. The kill may have been delayed.
            whole = whole.mul_f64(0.8);
            assert_same_result(&toy, "killed");
            fs::remove_dir_all(&folder).unwrap();
        }
        assert_nothing_is_half_written(&folder);
    }
    run_well(&toy, "killed", &[]);
    assert_same_result(&toy, "killed");
    let names: BTreeSet<String> =
        fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    // A bundle's lock stays: to remove it would let two commands hold different files.
    let left = |name: &String| name.starts_with('.') && name != ".bundle.lock";
    assert!(!names.iter().any(left), "left over: {names:?}");
}

#[test]
fn a_stage_is_skipped_until_its_inputs_or_its_output_change() {
    let toy = toy(&["run"]);
    run_well(&toy, "run", &[]);
    let folder = toy.path("run");
    let weights = fs::read(folder.join("bundle/model.safetensors")).unwrap();
    let before = STAGES.map(|stage| record(&folder, stage).unwrap());
    assert!(before[1]["seconds"].as_f64().unwrap() > 0.0, "{}", before[1]);
    assert!(!before[1]["machine"]["processor"].as_str().unwrap().is_empty());

    let again = run_well(&toy, "run", &["train.log_every=3", "train.keep_last=8"]);
    assert_eq!(again.matches("already complete, took").count(), 5, "{again}");
    assert_eq!(STAGES.map(|stage| record(&folder, stage).unwrap()), before);

    // A modified output is made again; later stages are not affected.
    fs::write(folder.join("bundle/model.safetensors"), "half").unwrap();
    let mended = run_well(&toy, "run", &[]);
    assert!(
        mended.contains("parallel: continues, because") && mended.contains("dims: already complete"),
        "{mended}"
    );
    assert_eq!(fs::read(folder.join("bundle/model.safetensors")).unwrap(), weights);
    assert_eq!(fs::read(folder.join("superseded/parallel-1/bundle/model.safetensors")).unwrap(), b"half");

    // The same holds for modified text.
    let text = fs::read(folder.join("distilled/train.de")).unwrap();
    fs::write(folder.join("distilled/train.de"), "Hallo.\n").unwrap();
    let mended = run_well(&toy, "run", &[]);
    assert!(
        mended.contains("distill: continues, because") && mended.contains("parallel: already complete"),
        "{mended}"
    );
    assert_eq!(fs::read(folder.join("distilled/train.de")).unwrap(), text);

    // A setting that affects only how a bundle is written needs no further update.
    let checkpoints = || fs::read_dir(folder.join("dims/checkpoints")).unwrap().count();
    let (before, student) = (checkpoints(), fs::read(folder.join("dims/bundle/model.safetensors")).unwrap());
    let softer = run_well(&toy, "run", &["dims.output_scale=0.5"]);
    assert!(
        softer.contains("dims: its output is written again") && softer.contains("dims.output_scale"),
        "{softer}"
    );
    assert!(checkpoints() == before && !folder.join("dims/superseded/dims-1/checkpoints").exists());
    assert_ne!(fs::read(folder.join("dims/bundle/model.safetensors")).unwrap(), student);

    // A setting of the last stage does not affect earlier stages.
    let dims = run_well(&toy, "run", &["dims.temperature=1.0"]);
    assert!(dims.contains("parallel: already complete"), "{dims}");
    assert!(dims.contains("dims: starts over") && dims.contains("dims.temperature: 0.5 → 1.0"), "{dims}");
    for made in ["bundle/model.safetensors", "checkpoints", "log.jsonl"] {
        assert!(
            folder.join("dims/superseded/dims-2").join(made).exists(),
            "what goes together stays together"
        );
    }

    // Changed text affects all stages.
    let text = fs::read_to_string(toy.path("de")).unwrap();
    fs::write(toy.path("de"), text.replace("Hund", "Dackel")).unwrap();
    let all = run_well(&toy, "run", &["dims.temperature=1.0"]);
    assert_eq!(all.matches("starts over").count(), 5, "{all}");
    assert!(all.contains("data.target[0] has changed"), "{all}");
    assert_ne!(fs::read(folder.join("bundle/model.safetensors")).unwrap(), weights);
}

#[test]
fn another_kind_of_model_is_not_the_one_that_is_there() {
    let toy = toy(&["run"]);
    let run = |more: &[&str]| {
        let stages = "pipeline.stages=[\"tokenizer\", \"parallel\"]";
        run_well(&toy, "run", &[&[stages], more].concat())
    };
    run(&[]);
    for kind in ["imputer.mask=block", "imputer.mask=full", "cmlmc.corrected=0.3"] {
        let told = run(&[kind]);
        assert!(told.contains("parallel: starts over"), "{kind}: {told}");
        assert!(run(&[kind]).contains("parallel: already complete"));
    }
}

#[test]
fn what_nobody_knows_the_making_of_is_used_or_left_alone_but_never_replaced() {
    let toy = toy(&["run"]);
    fs::create_dir_all(toy.path("run")).unwrap();
    let tokenizer = toy.path("run/tokenizer.json");
    fs::copy(toy.path("tokenizer.json"), &tokenizer).unwrap();
    let before = fs::read(&tokenizer).unwrap();
    let (success, said) = run(&toy, "run", &[]);
    assert!(!success && said.contains("tokenizer.json") && said.contains("no record"), "{said}");
    assert_eq!(fs::read(&tokenizer).unwrap(), before);
    assert!(!toy.path("run/checkpoints").exists());

    let said = run_well(&toy, "run", &["pipeline.stages=[\"parallel\"]"]);
    assert!(said.contains("parallel: done") && !said.contains("dims"), "{said}");
    assert_eq!(fs::read(&tokenizer).unwrap(), before);
}

#[test]
fn a_second_run_in_the_same_folder_is_refused_while_the_first_is_at_work() {
    let toy = toy(&["run"]);
    fs::create_dir_all(toy.path("run")).unwrap();
    let first = fs::File::open(toy.path("run")).unwrap();
    first.lock().unwrap();
    let (success, said) = run(&toy, "run", &[]);
    assert!(!success && said.contains("another `train` command is using"), "{said}");
    drop(first);
    run_well(&toy, "run", &["pipeline.stages=[\"tokenizer\"]"]);
}

/// A limit in kilobytes for each file, instead of a full disk. Needs only `sh`.
fn with_file_limit(command: &Command, kilobytes: u32) -> Command {
    let mut limited = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", 2 * kilobytes);
    limited.arg("-c").arg(script).arg("sh").arg(command.get_program()).args(command.get_args());
    limited.stdin(Stdio::null()).stderr(Stdio::piped());
    limited
}

#[test]
fn a_full_disk_is_an_error_that_names_the_file_and_damages_nothing() {
    let toy = toy(&["run", "straight"]);
    run_well(&toy, "straight", &[]);
    let folder = toy.path("run");
    run_well(&toy, "run", &["pipeline.stages=[\"tokenizer\"]"]);
    // The log fits, but a checkpoint does not.
    let full = with_file_limit(&train(&toy, "run", &[]), 24);
    let (success, error) = said({ full }.output().unwrap());
    assert!(!success && error.contains("model.safetensors"), "{error}");
    assert_nothing_is_half_written(&folder);
    assert!(!folder.join("bundle").exists());

    // The output of the first stage exists, but the log of the second does not fit.
    run_well(&toy, "run", &["pipeline.stages=[\"tokenizer\", \"ar\", \"distill\", \"parallel\"]"]);
    fs::create_dir_all(folder.join("dims")).unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.join("dims/log.jsonl")).unwrap();
    fs::write(folder.join("stages/dims.begun.json"), begun_dims(&toy)).unwrap();
    let (success, error) = run(&toy, "run", &[]);
    assert!(!success && error.contains("dims/log.jsonl") && error.contains("No space left"), "{error}");
    assert_nothing_is_half_written(&folder);

    fs::remove_file(folder.join("dims/log.jsonl")).unwrap();
    run_well(&toy, "run", &[]);
    assert_same_result(&toy, "run");
}

/// The record of a stage that was started: its inputs are those of the other run.
fn begun_dims(toy: &Toy) -> Vec<u8> {
    let mut value = record(&toy.path("straight"), "dims").unwrap();
    let object = value.as_object_mut().unwrap();
    object.retain(|key, _| ["stage", "digest", "inputs", "seconds"].contains(&key.as_str()));
    serde_json::to_vec(&value).unwrap()
}

#[test]
fn a_run_out_of_time_says_so_and_the_same_command_continues() {
    let toy = toy(&["limited", "straight"]);
    let limited = |minutes: &str| {
        let mut command = train(&toy, "limited", &[]);
        let output = command.args(["--minutes", minutes]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, said) = limited("0");
    assert_eq!(status, Some(75), "{said}");
    assert!(said.contains("after --minutes") && said.contains("continues"), "{said}");
    // However often it is interrupted.
    let calls = (0..200).map(|_| limited("0.01").0).take_while(|&status| status == Some(75)).count();
    let (status, said) = limited("60");
    assert_eq!(status, Some(0), "{calls} calls: {said}");

    run_well(&toy, "straight", &[]);
    let weights = |run: &str| toy.path(run).join("dims/bundle").join(Bundle::WEIGHTS);
    assert_same_file(&weights("limited"), &weights("straight"));

    let (status, said) = limited("nan");
    assert!(status == Some(1) && said.contains("--minutes must be 0 or more, not NaN"), "{said}");
}

#[test]
fn a_missing_gpu_is_an_error_and_auto_uses_the_cpu() {
    // A machine with a GPU cannot test this.
    let toy = toy(&["gpu"]);
    if tutti::model::Backend::choose("cuda:0".parse().unwrap(), "f32".parse().unwrap()).is_ok() {
        return;
    }
    let (success, said) = run(&toy, "gpu", &["train.device=cuda:0", "train.tensorboard=false"]);
    assert!(!success && said.contains("train.device"), "{said}");
    let said = run_well(&toy, "gpu", &["train.device=auto"]);
    assert!(said.contains("computing on the CPU"), "{said}");
    let config = fs::read_to_string(toy.path("gpu.toml")).unwrap();
    assert!(!config.contains("device"), "the default is the CPU");
    assert!(run_well(&toy, "gpu", &[]).contains("already complete"), "another device does not make it again");
}
