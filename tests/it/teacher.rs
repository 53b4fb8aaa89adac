//! From an autoregressive teacher to distilled text and a model trained on it, on a toy corpus.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use tutti::decode::{InferenceModel, SearchOptions};
use tutti::model::{Architecture, Backend, Bundle};
use tutti::text::Tokenizer;
use tutti::train::config::Config;
use tutti::train::data::test_set::TestSet;
use tutti::train::measure::evaluate::evaluate_search;
use tutti::train::stages::distill::{self, Manifest, Shard};
use tutti::train::stages::{ar, parallel};
use tutti::train::update::run::End;

use crate::toy::{Toy, assert_same_checkpoint, assert_same_file};

static GOES_ON: AtomicBool = AtomicBool::new(false);

fn teach(config: &Config) -> End {
    ar::run(config, &GOES_ON).unwrap()
}

/// A teacher in `<output>/ar`, after this number of updates.
fn with_teacher(updates: u64) -> (Toy, Config) {
    let toy = Toy::new();
    let config = toy
        .config("run", &format!("updates = {updates}\n[distill]\nchunk = 7\nbeam = 2\nrepeated_ngram = 0"));
    assert_eq!(teach(&config), End::Finished);
    (toy, config)
}

fn distil(config: &Config, shard: &str) -> End {
    distill::run(config, shard.parse().unwrap(), &GOES_ON).unwrap()
}

fn refused(config: &Config) -> String {
    distill::run(config, Shard::WHOLE, &GOES_ON).unwrap_err().to_string()
}

fn with(config: &Config, change: impl FnOnce(&mut Config)) -> Config {
    let mut config = config.clone();
    change(&mut config);
    config
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_teacher_that_is_stopped_and_resumed_equals_one_that_is_not() {
    let toy = Toy::new();
    teach(&toy.config("whole", "updates = 9"));
    teach(&toy.config("parts", "updates = 5"));
    teach(&toy.config("parts", "updates = 9"));
    let last = |run: &str| toy.path(run).join("ar/checkpoints/update-00000009");
    assert_same_checkpoint(&last("whole"), &last("parts"));
}

#[test]
fn a_teacher_learns_the_toy_language_and_its_text_teaches_a_parallel_model() {
    let (toy, config) = with_teacher(300);
    let bundle = Bundle::open(&toy.path("run/ar/bundle")).unwrap();
    assert_eq!(bundle.config.architecture, Architecture::Ar);
    let network = bundle.network(&Backend::cpu()).unwrap();
    let set = TestSet::read(&toy.path("en"), &toy.path("de"), usize::MAX).unwrap();
    for beam in [1, 4] {
        let done = evaluate_search(&network, &bundle.reader(), &set, &SearchOptions::new(beam)).unwrap();
        assert!(done.scores.bleu > 90.0, "beam {beam}: {}", done.scores.bleu);
    }

    assert_eq!(distil(&config, "1/1"), End::Finished);
    let manifest = Manifest::read(&toy.path("run/distilled")).unwrap();
    assert_eq!(manifest.kept + manifest.dropped.values().sum::<usize>(), 30);
    let (sources, targets) = (lines(&toy.path("run/distilled/train.en")), toy.path("run/distilled/train.de"));
    let targets = lines(&targets);
    assert_eq!((sources.len(), targets.len()), (manifest.kept, manifest.kept));
    let own = sources.iter().position(|line| line == "the dog sleeps.").unwrap();
    assert_eq!(targets[own], "der Hund schläft.");

    let student = with(&config, |config| {
        config.output = toy.path("student");
        config.data.distilled = Some(toy.path("run/distilled"));
        config.train.init = Some(toy.path("run/ar/bundle"));
        config.train.updates = 4;
    });
    assert_eq!(parallel::run(&student, &GOES_ON).unwrap(), End::Finished);
    assert!(Bundle::open(&toy.path("student/bundle")).is_ok());
}

#[test]
fn shards_and_stops_give_the_text_of_one_run() {
    let (toy, config) = with_teacher(40);
    distil(&config, "1/1");
    let parts = with(&config, |config| {
        config.distill.get_or_insert_default().output = Some(toy.path("parts"));
    });
    assert_eq!(distil(&parts, "2/2"), End::Finished);
    assert!(!toy.path("parts/manifest.json").exists(), "the first half is not there yet");
    let stopped = distill::run(&parts, Shard::WHOLE, &AtomicBool::new(true)).unwrap();
    assert_eq!(stopped, End::Interrupted);
    assert_eq!(distil(&parts, "1/2"), End::Finished);
    for file in ["train.en", "train.de", "manifest.json"] {
        assert_same_file(&toy.path("run/distilled").join(file), &toy.path("parts").join(file));
    }
}

#[test]
fn a_marian_model_translates_in_the_place_of_the_teacher() {
    let toy = Toy::new();
    let sentences =
        ["who has the key ?", "where is the train station ?", "the train is late .", "who has 7 keys ?"];
    fs::write(toy.path("en"), sentences.map(|s| format!("{s}\n")).concat().repeat(3)).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/marian");
    let config = toy.config("run", "updates = 1\n[distill]\nchunk = 5\nbeam = 4\nrepeated_ngram = 0");
    let config = with(&config, |c| c.distill.get_or_insert_default().marian = Some(folder.clone()));
    assert_eq!(distil(&config, "2/2"), End::Finished);
    assert!(!toy.path("run/distilled/manifest.json").exists(), "the first half is not there yet");
    let stopped = distill::run(&config, Shard::WHOLE, &AtomicBool::new(true)).unwrap();
    assert_eq!(stopped, End::Interrupted);
    assert_eq!(distil(&config, "1/2"), End::Finished);
    let manifest = Manifest::read(&toy.path("run/distilled")).unwrap();
    let (english, german) =
        (lines(&toy.path("run/distilled/train.en")), lines(&toy.path("run/distilled/train.de")));
    assert_eq!((manifest.kept, english.len(), german.len()), (12, 12, 12));
    assert_eq!(english[..4], sentences);
    assert_eq!(german[0], "wer hat den schlüssel ?");
    assert_eq!(german[..4], german[4..8], "whatever stands in the chunk");
    let text = fs::read_to_string(toy.path("run/distilled/manifest.json")).unwrap();
    assert_eq!(text.matches("\"beam\": 4").count(), 1, "{text}");
    assert!(
        text.contains(&tutti::train::import::marian::checksum(&folder).unwrap()),
        "all that decides the text"
    );

    let error =
        refused(&with(&config, |c| c.distill.get_or_insert_default().marian = Some(toy.path("none"))));
    assert!(error.contains("none/config.json") && error.contains("Hugging Face"), "{error}");
}

#[test]
fn text_of_another_plan_is_not_mixed_with_this_one() {
    let (toy, config) = with_teacher(40);
    distil(&config, "1/1");
    let error = refused(&with(&config, |c| c.distill.get_or_insert_default().beam = 3));
    assert!(error.contains("distilled") && error.contains("distill.output"), "{error}");
    fs::write(toy.path("en"), "the sea\n".repeat(30)).unwrap();
    assert!(refused(&config).contains("other sources"));
}

#[test]
fn a_broken_chunk_is_named_and_can_be_made_again() {
    let (toy, config) = with_teacher(40);
    distil(&config, "1/1");
    let text = fs::read(toy.path("run/distilled/train.de")).unwrap();
    fs::remove_file(toy.path("run/distilled/manifest.json")).unwrap();
    let chunk = toy.path("run/distilled/chunks/000001.jsonl");
    fs::write(&chunk, "{\"target\":\"x\"}\n").unwrap();
    let error = refused(&config);
    assert!(error.contains("000001.jsonl:1") && error.contains("remove the file"), "{error}");
    fs::remove_file(&chunk).unwrap();
    distil(&config, "1/1");
    assert_eq!(fs::read(toy.path("run/distilled/train.de")).unwrap(), text);
}

#[test]
fn modified_text_is_not_used_and_is_written_again() {
    let (toy, config) = with_teacher(40);
    distil(&config, "1/1");
    let target = toy.path("run/distilled/train.de");
    let text = fs::read(&target).unwrap();
    let student = with(&toy.config("student", "updates = 1"), |c| {
        c.data.distilled = Some(toy.path("run/distilled"));
    });
    for spoil in [|path: &Path| fs::write(path, "Hallo.\n"), |path: &Path| fs::remove_file(path)] {
        spoil(&target).unwrap();
        let error = parallel::run(&student, &GOES_ON).unwrap_err().to_string();
        assert!(error.contains("train.de"), "{error}");
        distil(&config, "1/1");
        assert_eq!(fs::read(&target).unwrap(), text);
    }
}

#[test]
fn text_that_is_not_finished_is_not_trained_on() {
    let toy = Toy::new();
    let config = with(&toy.config("run", "updates = 2"), |c| c.data.distilled = Some(toy.path("nothing")));
    let error = parallel::run(&config, &GOES_ON).unwrap_err().to_string();
    assert!(error.contains("nothing") && error.contains("train distill"), "{error}");
}

#[test]
fn a_parallel_model_is_no_teacher_and_a_teacher_is_not_served() {
    let (toy, config) = with_teacher(2);
    let teacher = Bundle::open(&toy.path("run/ar/bundle")).unwrap();
    let error = InferenceModel::open(&teacher, &Backend::cpu()).unwrap_err().to_string();
    assert!(error.contains("ar") && error.contains("cmlm"), "{error}");
    toy.run("run", 2);
    let parallel = toy.path("run/bundle");
    let error = refused(&with(&config, |c| c.distill.get_or_insert_default().teacher = Some(parallel)));
    assert!(error.contains("cmlm") && error.contains("train ar"), "{error}");
}

#[test]
fn a_run_starts_only_from_a_bundle_of_its_sizes_with_any_tokenizer() {
    let (toy, config) = with_teacher(2);
    let init = toy.path("run/ar/bundle");
    let begin = |change: fn(&mut Config)| {
        let config = with(&config, |c| {
            c.output = toy.path("next");
            c.train.init = Some(init.clone());
            c.train.updates = 1;
            change(c);
        });
        parallel::run(&config, &GOES_ON).map_err(|e| e.to_string())
    };
    let error = begin(|c| c.model.ffn = 128).unwrap_err();
    assert!(error.contains("ffn: 64") && error.contains("ffn: 128"), "{error}");
    let text = fs::read_to_string(toy.path("tokenizer.json")).unwrap();
    let shouted: Vec<String> = lines(&toy.path("de")).iter().map(|line| line.to_uppercase()).collect();
    let other = Tokenizer::train(shouted.iter().map(String::as_str), 320).unwrap();
    other.save(toy.path("tokenizer.json")).unwrap();
    assert_eq!(begin(|_| ()), Ok(End::Finished));
    fs::remove_dir_all(toy.path("next")).unwrap();
    fs::write(toy.path("tokenizer.json"), text).unwrap();
    // Positions that the bundle does not have get new values.
    assert_eq!(begin(|c| c.model.max_positions = 40), Ok(End::Finished));
}

#[test]
fn a_teacher_is_the_mean_of_its_best_checkpoints_if_configured() {
    let toy = Toy::new();
    let bundle = |run: &str| Bundle::open(&toy.path(run).join("ar/bundle")).unwrap().checksum;
    teach(&toy.config("last", "updates = 9"));
    teach(&toy.config("mean", "updates = 9\naverage_best = 2"));
    let last = |run: &str| toy.path(run).join("ar/checkpoints/update-00000009");
    assert_same_checkpoint(&last("last"), &last("mean"));
    assert_ne!(bundle("last"), bundle("mean"));
}
