//! A toy language to train on: thirty sentences, a small network, runs of a few updates.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use tutti::model::Bundle;
use tutti::text::Tokenizer;
use tutti::train::config::Config;
use tutti::train::stages::dims;
use tutti::train::stages::parallel;
use tutti::train::update::run::End;

const SUBJECTS: [(&str, &str); 6] = [
    ("the dog", "der Hund"),
    ("the cat", "die Katze"),
    ("a man", "ein Mann"),
    ("a woman", "eine Frau"),
    ("the child", "das Kind"),
    ("my friend", "mein Freund"),
];
const VERBS: [(&str, &str); 5] = [
    ("sleeps", "schläft"),
    ("eats bread", "isst Brot"),
    ("sees the sea", "sieht das Meer"),
    ("goes home", "geht nach Hause"),
    ("reads a book", "liest ein Buch"),
];

/// A run in a folder of its own.
pub struct Toy {
    folder: tempfile::TempDir,
}

impl Toy {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mut en, mut de) = (String::new(), String::new());
        for (s, t) in SUBJECTS {
            for (v, w) in VERBS {
                en += &format!("{s} {v}.\n");
                de += &format!("{t} {w}.\n");
            }
        }
        fs::write(folder.path().join("en"), en).unwrap();
        fs::write(folder.path().join("de"), de).unwrap();
        let toy = Self { folder };
        let lines: Vec<String> = ["en", "de"]
            .iter()
            .flat_map(|f| tutti::train::data::corpus::read_lines(&toy.path(f)).unwrap())
            .collect();
        let tokenizer = Tokenizer::train(lines.iter().map(String::as_str), 320).unwrap();
        tokenizer.save(toy.path("tokenizer.json")).unwrap();
        toy
    }

    /// A run that starts from a bundle and learns almost nothing.
    pub fn begin(&self, output: &str, init: &str, more: &str) -> tutti::Result<End> {
        let mut config = self.config(output, &format!("updates = 1\n{more}"));
        (config.train.learning_rate, config.train.init) = (1e-12, Some(self.path(init)));
        parallel::run(&config, &AtomicBool::new(false))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn config(&self, output: &str, more: &str) -> Config {
        let text = format!(
            r#"
            output = "{output}"
            [data]
            root = "{root}"
            source = "en"
            target = "de"
            valid_source = "en"
            valid_target = "de"
            source_lang = "en"
            target_lang = "de"
            max_tokens_per_sentence = 32
            [tokenizer]
            vocab_size = 320
            path = "{tokenizer}"
            [model]
            encoder_layers = 1
            decoder_layers = 1
            d_model = 32
            ffn = 64
            heads = 2
            max_positions = 32
            [train]
            batch_tokens = 96
            accumulate = 2
            learning_rate = 3e-3
            warmup = 5
            ema_decay = 0.9
            validate_every = 4
            checkpoint_every = 3
            keep_last = 9
            log_every = 1
            valid_sentences = 5
            {more}
            "#,
            output = self.path(output).display(),
            root = self.folder.path().display(),
            tokenizer = self.path("tokenizer.json").display(),
        );
        let file = self.path(&format!("{output}.toml"));
        fs::write(&file, text).unwrap();
        Config::read(&file, &[]).unwrap()
    }

    pub fn run(&self, output: &str, updates: u64) -> End {
        let config = self.config(output, &format!("updates = {updates}"));
        parallel::run(&config, &AtomicBool::new(false)).unwrap()
    }

    /// A teacher with very little training, which is enough to distil its steps.
    pub fn with_teacher() -> Self {
        let toy = Self::new();
        toy.run("teacher", 12);
        toy
    }

    /// The configuration of a student in its own folder.
    pub fn student(&self, output: &str, settings: &str) -> Config {
        let own = self.path(output);
        let more = format!("updates = 12\n[dims]\noutput = \"{}\"\n{settings}", own.display());
        self.config("teacher", &more)
    }

    pub fn distil(&self, output: &str, settings: &str) -> End {
        dims::run(&self.student(output, settings), &AtomicBool::new(false)).unwrap()
    }

    /// The values of a key in one kind of event in a run's log.
    pub fn logged(&self, output: &str, event: &str, key: &str) -> Vec<f64> {
        let text = fs::read_to_string(self.path(output).join("log.jsonl")).unwrap();
        let events = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        events.filter(|e| e["event"] == event).map(|e| e[key].as_f64().unwrap()).collect()
    }

    pub fn checkpoint(&self, output: &str, update: u64) -> PathBuf {
        self.path(output).join(format!("checkpoints/update-{update:08}"))
    }
}

pub fn assert_same_file(a: &Path, b: &Path) {
    assert!(fs::read(a).unwrap() == fs::read(b).unwrap(), "{} and {} differ", a.display(), b.display());
}

/// safetensors writes tensors in a fixed order, so equal weights give equal bytes.
pub fn assert_same_checkpoint(a: &Path, b: &Path) {
    for file in ["model.safetensors", "ema.safetensors", "optimizer.safetensors"] {
        assert_same_file(&a.join(file), &b.join(file));
    }
    let position = |folder: &Path| {
        let text = fs::read_to_string(folder.join("state.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["position"].clone()
    };
    assert_eq!(position(a), position(b));
}

/// With these sections of the configuration: eight updates at once, and the same stopped after the third, killed
/// after the fourth, and continued.
pub fn assert_resumes_exactly(toy: &Toy, sections: &str) {
    let run = |output: &str, updates: u64| {
        let config = toy.config(output, &format!("updates = {updates}\ndropout = 0.1\n{sections}"));
        parallel::run(&config, &AtomicBool::new(false)).unwrap()
    };
    assert_eq!(run("straight", 8), End::Finished);
    run("stopped", 3);
    run("stopped", 6);
    for late in [5, 6] {
        let _ = fs::remove_dir_all(toy.checkpoint("stopped", late));
    }
    run("stopped", 8);
    assert_same_checkpoint(&toy.checkpoint("straight", 8), &toy.checkpoint("stopped", 8));
    let bundle = |run| toy.path(run).join("bundle").join(Bundle::WEIGHTS);
    assert_same_file(&bundle("straight"), &bundle("stopped"));
}
