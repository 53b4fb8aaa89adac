use serde_json::Value;

use super::*;
use crate::decode::Decoding;
use crate::train::observe::event::{Sample, Stop, Train, Valid, ValidationScore};

fn lines(path: &Path) -> Vec<Result<Value, serde_json::Error>> {
    std::fs::read_to_string(path).unwrap().lines().map(serde_json::from_str).collect()
}

#[test]
fn every_event_is_one_line_with_its_name_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/log.jsonl");
    let mut log = Log::open(&path).unwrap();
    log.write(&Event::Train(Train {
        update: 20,
        epoch: 0,
        loss: f64::NAN,
        hidden_loss: None,
        length_loss: Some(2.5),
        gradient_norm: 1.0,
        learning_rate: 1e-4,
        tokens_per_second: 900.0,
        matrix_share: 0.5,
        padding_share: 0.05,
    }))
    .unwrap();
    let sample = Sample {
        decoding: Decoding::Beam(4),
        source: "two\nlines".into(),
        reference: "zwei".into(),
        translation: "\"zwei\"".into(),
    };
    let scores = vec![ValidationScore { decoding: Decoding::Beam(4), bleu: 12.25, chrf: 40.0 }];
    let samples = vec![sample];
    log.write(&Event::Valid(Valid {
        update: 20,
        seconds: 1.5,
        sentences: 1,
        scores,
        domains: Vec::new(),
        samples,
    }))
    .unwrap();

    let lines: Vec<Value> = lines(&path).into_iter().map(|line| line.unwrap()).collect();
    assert_eq!((&lines[0]["event"], &lines[0]["update"]), (&"train".into(), &20.into()));
    assert!(lines[0]["loss"].is_null() && lines[0]["time_seconds"].as_f64().unwrap() > 1e9);
    assert_eq!((&lines[1]["event"], &lines[1]["scores"][0]["bleu"]), (&"valid".into(), &12.25.into()));
    assert!(lines[0].get("hidden_loss").is_none(), "only a stage with a teacher has one");
    assert_eq!(lines[1]["samples"][0]["source"], "two\nlines");
    assert_eq!(lines.len(), 2);
}

#[test]
fn a_resumed_run_continues_after_an_incomplete_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.jsonl");
    let stop = |update| Event::Stop(Stop { update, reason: "interrupted".into() });
    Log::open(&path).unwrap().write(&stop(1)).unwrap();
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"event\": \"tr").unwrap();
    Log::open(&path).unwrap().write(&stop(2)).unwrap();
    let lines = lines(&path);
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0].as_ref().unwrap()["update"], 1);
    assert!(lines[1].is_err());
    assert_eq!(lines[2].as_ref().unwrap()["update"], 2);
}

#[test]
fn working_time_counts_killed_runs_but_not_the_breaks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.jsonl");
    assert_eq!(seconds_at_work(&path).unwrap(), 0.0);
    let event = |name: &str, time: f64| format!("{{\"time_seconds\":{time},\"event\":\"{name}\"}}\n");
    let text = [
        event("start", 10.0),
        event("train", 13.0),
        "{\"time_seconds\": 1".into(), // killed while writing
        "\n".into(),
        event("start", 100.0),
        event("train", 101.0),
        event("stop", 105.0),
    ];
    std::fs::write(&path, text.concat()).unwrap();
    assert_eq!(seconds_at_work(&path).unwrap(), 8.0);
}
