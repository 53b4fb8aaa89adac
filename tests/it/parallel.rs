//! Training with several ranks gives the weights of a single rank.

use std::sync::atomic::AtomicBool;

use tutti::model::Bundle;
use tutti::train::config::Config;
use tutti::train::stages::{ar, dims, parallel};
use tutti::train::update::run::End;

use crate::toy::{Toy, assert_same_checkpoint, assert_same_file};

type Stage = fn(&Config, &AtomicBool) -> tutti::Result<End>;

/// A run with two micro-batches for each update, shared by `ranks`.
fn shared(toy: &Toy, output: &str, ranks: usize, updates: u64) -> Config {
    let student = "[dims]\nupdates = 6\nvalidate_every = 3\ncheckpoint_every = 3\nema = 0.5\n";
    toy.config(output, &format!("ranks = {ranks}\nupdates = {updates}\n{student}"))
}

fn done(stage: Stage, config: &Config) {
    assert_eq!(stage(config, &AtomicBool::new(false)).unwrap(), End::Finished);
}

#[test]
fn two_ranks_give_the_weights_of_one_bit_for_bit() {
    let toy = Toy::new();
    for (output, ranks) in [("one", 1), ("two", 2)] {
        for stage in [parallel::run as Stage, ar::run, dims::run] {
            done(stage, &shared(&toy, output, ranks, 6));
        }
    }
    for stage in ["", "/ar", "/dims"] {
        let [one, two] = ["one", "two"].map(|run| format!("{run}{stage}"));
        assert_same_checkpoint(&toy.checkpoint(&one, 6), &toy.checkpoint(&two, 6));
        let bundle = |run: &str| toy.path(run).join("bundle").join(Bundle::WEIGHTS);
        assert_same_file(&bundle(&one), &bundle(&two));
    }
}

#[test]
fn the_log_of_two_ranks_counts_what_both_have_done() {
    let toy = Toy::new();
    for (output, ranks) in [("one", 1), ("two", 2)] {
        for stage in [parallel::run as Stage, dims::run] {
            done(stage, &shared(&toy, output, ranks, 6));
        }
    }
    for (stage, key) in [
        ("", "loss"),
        ("", "length_loss"),
        ("", "gradient_norm"),
        ("/dims", "loss"),
        ("/dims", "hidden_loss"),
    ] {
        let [one, two] = ["one", "two"].map(|run| toy.logged(&format!("{run}{stage}"), "train", key));
        assert_eq!((one.len(), two.len()), (6, 6), "{stage} {key}");
        for (one, two) in one.iter().zip(two) {
            assert!((one - two).abs() <= 1e-9 * one.abs().max(1.0), "{stage} {key}: {two}, not {one}");
        }
    }
}

#[test]
fn a_run_continues_with_another_number_of_ranks() {
    let toy = Toy::new();
    done(parallel::run, &shared(&toy, "whole", 1, 8));
    done(parallel::run, &shared(&toy, "changed", 2, 3));
    done(parallel::run, &shared(&toy, "changed", 1, 6));
    done(parallel::run, &shared(&toy, "changed", 2, 8));
    assert_same_checkpoint(&toy.checkpoint("whole", 8), &toy.checkpoint("changed", 8));
}

#[test]
fn two_ranks_that_are_interrupted_save_and_go_on() {
    let toy = Toy::new();
    done(parallel::run, &shared(&toy, "straight", 2, 6));
    done(parallel::run, &shared(&toy, "run", 2, 2));
    let more = shared(&toy, "run", 2, 6);
    assert_eq!(parallel::run(&more, &AtomicBool::new(true)).unwrap(), End::Interrupted);
    assert!(toy.checkpoint("run", 2).is_dir() && !toy.checkpoint("run", 6).exists());
    done(parallel::run, &more);
    assert_same_checkpoint(&toy.checkpoint("straight", 6), &toy.checkpoint("run", 6));
}

#[test]
fn what_one_rank_cannot_go_on_from_ends_both() {
    let toy = Toy::new();
    done(parallel::run, &shared(&toy, "run", 1, 3));
    let mut other = shared(&toy, "run", 2, 6);
    other.model.ffn *= 2;
    let refused = parallel::run(&other, &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(refused.contains("update-00000003: tensor"), "{refused}");
}
