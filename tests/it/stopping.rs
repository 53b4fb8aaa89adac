//! When a training run ends early, and which weights it gives.

use std::fs;
use std::sync::atomic::AtomicBool;

use serde_json::Value;
use tutti::model::Bundle;
use tutti::train::stages::parallel;
use tutti::train::update::checkpoint::{Checkpoint, Store};
use tutti::train::update::run::End;

use crate::toy::{Toy, assert_same_file};

fn run(toy: &Toy, output: &str, settings: &str) -> End {
    parallel::run(&toy.config(output, settings), &AtomicBool::new(false)).unwrap()
}

/// A run with learning rate 0, so that no validation after the first improves; up to `updates`.
fn stuck(toy: &Toy, output: &str, updates: u64) -> Vec<Value> {
    let file = toy.path(&format!("{output}.toml"));
    toy.config(output, &format!("updates = {updates}\npatience = 3"));
    let text = fs::read_to_string(&file).unwrap();
    let text =
        text.replace("learning_rate = 3e-3", "learning_rate = 1e-9").replace("_every = 4", "_every = 1");
    fs::write(&file, text).unwrap();
    let config = tutti::train::config::Config::read(&file, &[]).unwrap();
    assert_eq!(parallel::run(&config, &AtomicBool::new(false)).unwrap(), End::Finished);
    let log = fs::read_to_string(toy.path(output).join("log.jsonl")).unwrap();
    log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_run_without_gain_ends_and_one_that_was_stopped_on_the_way_ends_at_the_same_update() {
    let toy = Toy::new();
    let events = stuck(&toy, "straight", 50);
    let last = events.last().unwrap();
    assert_eq!(
        (&last["event"], &last["update"], &last["reason"]),
        (&"stop".into(), &4.into(), &"no gain".into())
    );

    stuck(&toy, "stopped", 3);
    let events = stuck(&toy, "stopped", 50);
    assert_eq!(events.last().unwrap()["update"], 4);
    for file in ["model.safetensors", "ema.safetensors", "optimizer.safetensors"] {
        let [a, b] = ["straight", "stopped"].map(|run| toy.checkpoint(run, 4).join(file));
        assert_same_file(&a, &b);
    }
    let weights = |run: &str| toy.path(run).join("bundle").join(Bundle::WEIGHTS);
    assert_same_file(&weights("straight"), &weights("stopped"));

    // The run is finished: the same command does nothing.
    let again = stuck(&toy, "stopped", 50);
    assert_eq!(again.iter().filter(|event| event["event"] == "train").count(), 4);
}

#[test]
fn the_bundle_is_the_mean_of_the_best_checkpoints_if_configured() {
    let toy = Toy::new();
    run(&toy, "run", "updates = 12\naverage_best = 2\nkeep_best = 2");
    let config = toy.config("run", "updates = 12");
    let best = Store::open(&toy.path("run/checkpoints"), 9, 2).unwrap().best(2).unwrap();
    let scores =
        best.iter().map(|path| Checkpoint::load(path, &candle_core::Device::Cpu).unwrap().state.score);
    assert_eq!(scores.filter(Option::is_some).count(), 2);
    parallel::write_average(&config, &best, &toy.path("mean")).unwrap();
    let weights = |folder: &str| toy.path(folder).join(Bundle::WEIGHTS);
    assert_same_file(&weights("run/bundle"), &weights("mean"));
}

#[test]
fn a_run_writes_tensorboard_events_unless_disabled() {
    let toy = Toy::new();
    run(&toy, "told", "updates = 2");
    run(&toy, "silent", "updates = 2\ntensorboard = false");
    let files: Vec<_> =
        fs::read_dir(toy.path("told/tensorboard")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    let bytes = fs::read(&files[0]).unwrap();
    for tag in ["train/loss", "valid/bleu@1", "valid/samples"] {
        assert!(bytes.windows(tag.len()).any(|window| window == tag.as_bytes()), "{tag} is not there");
    }
    assert!(!toy.path("silent/tensorboard").exists());
}

#[test]
fn gradients_that_are_no_numbers_are_skipped_and_counted_until_there_are_too_many() {
    let toy = Toy::new();
    let file = toy.path("wild.toml");
    toy.config("wild", "updates = 50\nmax_skips_in_a_row = 3");
    let text = fs::read_to_string(&file).unwrap().replace("learning_rate = 3e-3", "learning_rate = 1e38");
    fs::write(&file, text).unwrap();
    let config = tutti::train::config::Config::read(&file, &[]).unwrap();
    let error = parallel::run(&config, &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(error.contains("not finite") && error.contains("3 updates in a row"), "{error}");
    let log = fs::read_to_string(toy.path("wild/log.jsonl")).unwrap();
    let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let skipped: Vec<Value> = events.filter(|e| e["event"] == "skip").map(|e| e["skipped"].clone()).collect();
    assert_eq!(skipped, [1, 2]);
}
