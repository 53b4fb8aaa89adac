//! `tutti bench` and `train bench` from outside.

use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{bundle, run, tutti};

const SHAPE: [&str; 2] = ["--shape", "enc=1,dec=1,d=16,ffn=32,heads=2,vocab=320,positions=64"];

/// `tutti bench` on one thread.
fn tutti_bench(folder: &TempDir, flags: &[&str]) -> Command {
    let mut command = tutti(folder);
    command.args(["bench", "--batch", "4", "--threads", "1", "--json"]).args(flags);
    command
}

fn train_bench(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
    command.env_clear().args(["bench", "--batch-tokens", "60", "--stages", "cmlm"]).args(SHAPE).args(flags);
    command
}

fn printed(command: Command) -> String {
    let output = run(command, "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(command: Command) -> Value {
    serde_json::from_str(&printed(command)).unwrap()
}

fn refusal(command: Command) -> String {
    let output = run(command, "");
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn bench_measures_random_weights_and_bundles() {
    let folder = bundle();
    for network in [SHAPE, ["--model", "tiny"]] {
        let lengths = ["--source-tokens", "5,9", "--steps", "1,2", "--seconds", "0.01"];
        let report = json(tutti_bench(&folder, &[&network[..], &lengths].concat()));
        let measurements = report["measurements"].as_array().unwrap();
        assert_eq!(measurements.len(), 4);
        for measurement in measurements {
            for number in ["latency_p50_ms", "latency_p90_ms", "sentences_per_second"] {
                assert!(measurement[number].as_f64().unwrap() > 0.0, "{report}");
            }
        }
    }
}

#[test]
fn repeats_replace_the_time() {
    let folder = bundle();
    for repeats in [1, 3] {
        let flags = ["--model", "tiny", "--source-tokens", "5", "--repeats", &repeats.to_string()];
        let report = json(tutti_bench(&folder, &flags));
        for measurement in report["measurements"].as_array().unwrap() {
            assert_eq!(measurement["latency_samples"], repeats, "{report}");
        }
    }
}

#[test]
fn repeats_that_cannot_be_are_refused() {
    let folder = bundle();
    let refused = |flags: &[&str]| refusal(tutti_bench(&folder, &[&["--model", "tiny"][..], flags].concat()));
    for repeats in ["0", "1000001"] {
        let said = refused(&["--repeats", repeats]);
        assert_eq!(said, "tutti: --repeats must be at least 1 and at most 1000000\n");
    }
    for repeats in ["three", "1.5"] {
        let said = refused(&["--repeats", repeats]);
        assert!(said.contains(&format!("invalid value '{repeats}' for '--repeats <N>'")), "{said}");
    }
    let said = refused(&["--repeats", "3", "--seconds", "1"]);
    assert!(said.contains("cannot be used with") && said.contains("'--repeats <N>'"), "{said}");
}

#[test]
fn bench_computes_with_the_instructions_asked_for() {
    let folder = bundle();
    let flags = ["--model", "tiny", "--source-tokens", "5", "--repeats", "1"];
    let of = |more: &[&str]| json(tutti_bench(&folder, &[&flags[..], more].concat()))["instructions"].clone();
    assert_eq!(of(&["--instructions", "portable"]), "portable");
    assert!(["amx", "avx512-vnni", "avx2", "portable"].contains(&of(&[]).as_str().unwrap()));
    let said = refusal(tutti_bench(&folder, &[&flags[..], &["--instructions", "sse"]].concat()));
    assert!(said.contains("expected one of amx, avx512-vnni, avx2, portable"), "{said}");
    let in_f32 = ["--dtype", "f32", "--instructions", "portable"];
    let said = refusal(tutti_bench(&folder, &[&flags[..], &in_f32].concat()));
    assert!(said.contains("--instructions is for eight bits"), "{said}");
}

#[test]
fn train_bench_does_without_the_large_product() {
    let share = |flags: &[&str]| json(train_bench(flags))[0]["matrix_share"].clone();
    assert!(share(&["--json", "--updates", "1"]).as_f64().unwrap() > 0.0);
    assert!(share(&["--json", "--updates", "1", "--no-product"]).is_null());
    let table = printed(train_bench(&["--updates", "1", "--no-product"]));
    assert!(table.ends_with(" | - |\n"), "{table}");
    let said = refusal(train_bench(&["--updates", "0"]));
    assert!(said.contains("updates is 0; it must be at least 1"), "{said}");
}
