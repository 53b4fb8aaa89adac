//! Errors in a run's input are reported before training.

use std::fs;
use std::path::Path;

use crate::pipeline::{configure, run, toy};
use crate::toy::Toy;

/// Most of these would otherwise appear only when their stage starts, or at the first validation.
#[test]
fn what_is_wrong_is_told_by_name_before_the_first_stage_begins() {
    let second_line = |toy: &Toy, file: &str, line: &[u8]| {
        let text = fs::read(toy.path(file)).unwrap();
        let lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
        fs::write(toy.path(file), [&lines[..1], &[line], &lines[2..]].concat().join(&b'\n')).unwrap();
    };
    let refused = |settings: &str, spoil: &dyn Fn(&Toy), parts: &[&str]| {
        let toy = Toy::new();
        for (file, text) in [("valid.en", "a man sleeps.\n"), ("valid.de", "ein Mann schläft.\n")] {
            fs::write(toy.path(file), text).unwrap();
        }
        spoil(&toy);
        let valid = ["valid_source", "valid_target"].iter().zip(["en", "de"]);
        let edit = |text: String, (key, language): (&&str, &str)| {
            let before = format!("{key} = \"{language}\"");
            text.replace(&before, &format!("{key} = \"valid.{language}\""))
        };
        configure(&toy, "run", "updates = 2");
        let file = toy.path("run.toml");
        let text = valid.fold(fs::read_to_string(&file).unwrap(), edit);
        fs::write(&file, text + settings).unwrap();
        let (success, said) = run(&toy, "run", &[]);
        assert!(!success && !toy.path("run/tokenizer.json").exists(), "{said}");
        for part in parts {
            assert!(said.contains(part), "{said:?} does not say {part:?}");
        }
    };
    refused("", &|toy| second_line(toy, "en", b" "), &["/en:2:", "empty"]);
    refused("", &|toy| second_line(toy, "de", b"\xff"), &["/de:2:", "not valid UTF-8"]);
    let short = |toy: &Toy| fs::write(toy.path("de"), "der Hund.\n").unwrap();
    refused("", &short, &["/de:2:", "the file ends after 1 lines", "/en has 30"]);
    let longer = |toy: &Toy| fs::write(toy.path("valid.de"), "ein Mann\nschläft.\n").unwrap();
    refused("", &longer, &["/valid.en:2:", "ends after 1 lines", "/valid.de has 2"]);
    refused("", &|toy| second_line(toy, "valid.en", b"\xff"), &["/valid.en:2:", "not valid UTF-8"]);
    refused("", &|toy| fs::remove_file(toy.path("valid.en")).unwrap(), &["/valid.en", "No such file"]);
    refused("[dims]\nteacher = \"nowhere\"\n", &|_| (), &["nowhere", "no such folder"]);
    // An Imputer of another size and vocabulary, from English to German.
    let other = format!("{:?}", Path::new(env!("CARGO_MANIFEST_DIR")).join("models/en-de"));
    refused(&format!("[distill]\nteacher = {other}\n"), &|_| (), &["en-de", "`train ar`"]);
    refused(&format!("[dims]\nlength_beam = 2\nteacher = {other}\n"), &|_| (), &["dims.length_beam"]);
    refused(&format!("init = {other}\n"), &|_| (), &["en-de", "its shape is"]);
    refused(&format!("[ar]\ninit = {other}\n"), &|_| (), &["en-de", "its shape is"]);
    refused("[imputer]\n[dims]\nlength_beam = 2\n", &|_| (), &["run.toml", "dims.length_beam"]);
    refused("[distill]\nmarian = \"nowhere\"\n", &|_| (), &["nowhere/config.json", "Hugging Face"]);
    refused("[dims]\ntemprature = 1.0\n", &|_| (), &["run.toml", "temprature", "`temperature`"]);
    let order = "[pipeline]\nstages = [\"dims\", \"parallel\"]\n";
    refused(order, &|_| (), &["run.toml", "pipeline.stages has dims before parallel"]);
}

#[test]
fn a_teacher_that_finishes_no_sentence_is_reported_before_training() {
    let toy = toy(&["run"]);
    let (success, said) = run(&toy, "run", &["ar.updates=1"]);
    assert!(!success && said.contains("run/distilled") && said.contains("were dropped"), "{said}");
    assert!(!toy.path("run/checkpoints").exists() && !toy.path("run/distilled/manifest.json").exists());
}

#[test]
fn a_validation_line_that_is_too_long_is_split() {
    let toy = toy(&["run"]);
    let long = "the dog sleeps ".repeat(20);
    fs::write(toy.path("valid.en"), format!("a man sleeps.\n{long}\n")).unwrap();
    fs::write(toy.path("valid.de"), "ein Mann schläft.\nzu lang\n").unwrap();
    let (success, said) = run(&toy, "run", &["data.valid_source=valid.en", "data.valid_target=valid.de"]);
    assert!(success, "{said}");
    let log = fs::read_to_string(toy.path("run/log.jsonl")).unwrap();
    assert!(log.contains("\"event\":\"valid\"") && log.contains("\"sentences\":2"), "{log}");
}

#[test]
fn a_checkpoint_of_another_shape_is_named_and_stays_as_it_is() {
    let toy = Toy::new();
    toy.run("run", 2);
    let file = toy.checkpoint("run", 2).join("model.safetensors");
    let before = fs::read(&file).unwrap();
    let mut config = toy.config("run", "updates = 4");
    config.model.ffn = 128;
    let stop = std::sync::atomic::AtomicBool::new(false);
    let refused = tutti::train::stages::parallel::run(&config, &stop).unwrap_err().to_string();
    assert!(refused.contains("update-00000002") && refused.contains("shape [64"), "{refused}");
    assert!(fs::read(&file).unwrap() == before && !toy.checkpoint("run", 4).exists());
}
