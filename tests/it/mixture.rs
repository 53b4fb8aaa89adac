//! A run on several corpora with a validation text for each domain, through the public functions.

use std::fs;
use std::sync::atomic::AtomicBool;

use serde_json::Value;
use tutti::train::config::{Augment, Config, CorpusConfig, ValidationConfig};
use tutti::train::stages::parallel;
use tutti::train::update::run::End;

use crate::training::{Toy, assert_same_checkpoint};

fn config(toy: &Toy, output: &str, updates: u64) -> Config {
    let mut config = toy.config(output, &format!("updates = {updates}\ndropout = 0.1"));
    let corpus = |name: &str, weight, cap| CorpusConfig {
        name: name.into(),
        source: vec!["en".into()],
        target: vec!["de".into()],
        weight,
        cap,
        max_pairs: (name == "few").then_some(7),
        max_repeats: None,
    };
    config.data.source.clear();
    config.data.target.clear();
    config.data.corpora = vec![corpus("all", 0.6, None), corpus("few", 0.4, Some(2.0))];
    config.data.augment = Some(Augment { upper_case: 0.2, typos: 0.5, ..Augment::default() });
    let domain = |name: &str, target: &str| ValidationConfig {
        name: name.into(),
        source: "en".into(),
        target: target.into(),
    };
    (config.data.valid_source, config.data.valid_target) = (None, None);
    config.data.validation = vec![domain("one", "de"), domain("two", "en")];
    config
}

#[test]
fn a_run_on_a_mixture_resumes_exactly_and_logs_every_domain() {
    let toy = Toy::new();
    let run = |output: &str, updates: u64| {
        parallel::run(&config(&toy, output, updates), &AtomicBool::new(false)).unwrap()
    };
    assert_eq!(run("straight", 8), End::Finished);
    run("stopped", 3);
    run("stopped", 6);
    for late in [5, 6] {
        let _ = fs::remove_dir_all(toy.checkpoint("stopped", late));
    }
    run("stopped", 8);
    assert_same_checkpoint(&toy.checkpoint("straight", 8), &toy.checkpoint("stopped", 8));

    let text = fs::read_to_string(toy.path("straight/log.jsonl")).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |name: &str| events.iter().find(|event| event["event"] == name).unwrap();
    let start = of("start");
    assert_eq!((&start["pairs"], &start["skipped"]["surplus"]), (&37.into(), &23.into()));
    assert_eq!(start["corpora"][0]["sampled"], 30);
    assert_eq!(start["corpora"][1]["sampled"], 14, "bounded by its cap");
    let valid = of("valid");
    let score = |of: &Value, name: &str| of["scores"][0][name].as_f64().unwrap();
    let names: Vec<&str> =
        valid["domains"].as_array().unwrap().iter().map(|domain| domain["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["one", "two"]);
    for name in ["bleu", "chrf"] {
        let mean = (score(&valid["domains"][0], name) + score(&valid["domains"][1], name)) / 2.0;
        assert!((score(valid, name) - mean).abs() < 1e-9);
    }
}
