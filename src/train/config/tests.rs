use super::*;

const SMALL: &str = r#"
output = "run"

[data]
root = "corpus"
source = "a.en.gz"
target = ["a.de.gz"]
valid_source = "v.en"
valid_target = "v.de"
source_lang = "en"
target_lang = "de"

[tokenizer]
vocab_size = 8000
path = "run/tokenizer.json"
"#;

fn read(text: &str, overrides: &[&str]) -> Result<Config> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("small.toml");
    std::fs::write(&path, text).unwrap();
    let overrides: Vec<String> = overrides.iter().map(|&o| o.to_owned()).collect();
    Config::read(&path, &overrides)
}

fn error(text: &str, overrides: &[&str]) -> String {
    read(text, overrides).unwrap_err().to_string()
}

#[test]
fn a_missing_key_has_its_default() {
    let config = read(SMALL, &[]).unwrap();
    assert_eq!((config.model, config.train), (Model::default(), Train::default()));
    let files = config.data.train_files();
    assert_eq!(files, [("corpus/a.en.gz".into(), "corpus/a.de.gz".into())]);
    let sets = config.data.validation_sets();
    let valid =
        ValidationConfig { name: "valid".into(), source: "corpus/v.en".into(), target: "corpus/v.de".into() };
    assert_eq!(sets, [valid]);
    assert_eq!(config.data.mixture(), None);
}

#[test]
fn an_unknown_key_is_named_with_file_and_line() {
    let text = format!("{SMALL}\n[train]\nlearnig_rate = 1e-3\n");
    let error = error(&text, &[]);
    assert!(error.contains("small.toml") && error.contains("learnig_rate"), "{error}");
    assert!(error.contains("line 18") && error.contains("did you mean `learning_rate`?"), "{error}");
}

#[test]
fn a_device_has_the_same_names_as_on_the_server() {
    let device = |name: &str| read(SMALL, &[&format!("train.device={name}")]).unwrap().train.device;
    for name in ["auto", "cpu", "cuda:1"] {
        assert_eq!(device(name), name.parse().unwrap());
        assert_eq!(String::from(device(name)), name);
    }
    assert_eq!(device("cuda"), "cuda:0".parse().unwrap());
    let unknown = error(&format!("{SMALL}\n[train]\ndevice = \"tpu\"\n"), &[]);
    assert!(unknown.contains("tpu") && unknown.contains("cuda:0") && unknown.contains("line"), "{unknown}");
}

#[test]
fn a_missing_key_and_a_wrong_type_are_named() {
    let missing = error(&SMALL.replace("vocab_size = 8000\n", ""), &[]);
    assert!(missing.contains("vocab_size"), "{missing}");
    let wrong = error(&SMALL.replace("\"a.en.gz\"", "7"), &[]);
    assert!(wrong.contains("a path or a list of paths"), "{wrong}");
}

#[test]
fn overrides_replace_values_of_the_file() {
    let overrides =
        ["train.updates=100", "data.source_lang=fr", "train.betas=[0.8, 0.9]", "data.source = [\"b.en\"]"];
    let config = read(SMALL, &overrides).unwrap();
    assert_eq!((config.train.updates, config.train.betas), (100, (0.8, 0.9)));
    assert_eq!((config.data.source_lang.as_str(), config.data.source), ("fr", vec!["b.en".into()]));
}

#[test]
fn an_override_that_does_not_fit_is_named() {
    for (wrong, reason) in [
        ("train.updats=1", "updats"),
        ("trian.updates=1", "did you mean `train`?"),
        ("train.seed.low=1", "seed is a value"),
        ("train.updates", "KEY=VALUE"),
        ("train.updates=soon", "soon"),
    ] {
        let error = error(SMALL, &[wrong]);
        assert!(error.contains(&format!("--set {wrong}")) && error.contains(reason), "{error}");
    }
}

#[test]
fn invalid_values_are_refused_by_key() {
    for (set, reason) in [
        ("model.heads=0", "model.heads must be at least 1, not 0"),
        ("model.heads=3", "model.d_model (256) is not a multiple of model.heads (3)"),
        ("train.dropout=1.0", "train.dropout must be at least 0 and less than 1, not 1"),
        ("train.dropout=nan", "train.dropout must be at least 0 and less than 1, not NaN"),
        ("train.learning_rate=inf", "train.learning_rate must be more than 0, not inf"),
        ("train.eps=0.0", "train.eps must be more than 0, not 0"),
        ("imputer.blank_penalty=inf", "imputer.blank_penalty must be a finite number, not inf"),
        ("train.clip=-1.0", "train.clip must be 0 or more, not -1"),
        (
            "train.batch_tokens=100",
            "train.batch_tokens must be at least data.max_tokens_per_sentence (256), not 100",
        ),
        ("train.ranks=2", "train.accumulate (1) is not a multiple of train.ranks (2)"),
        ("train.ranks=0", "train.ranks must be at least 1, not 0"),
        ("train.average_best=6", "train.average_best must be at most train.keep_best (5), not 6"),
        ("train.cooldown=20000", "train.cooldown must be at most train.updates (10000), not 20000"),
        ("data.max_tokens_per_sentence=500", "must be at most model.max_positions (256), not 500"),
        ("data.target=[\"x\", \"y\"]", "data.source has 1 files, data.target 2"),
        ("data.target_lang=\"\"", "data.target_lang: \"\" is not a language code"),
        ("data.source_lang=\"de_AT\"", "data.source_lang: \"de_AT\" is not a language code"),
        ("dims.lm=true", "dims.lm needs dims.target = \"text\""),
        ("tokenizer.vocab_size=200", "tokenizer.vocab_size must be at least 300, not 200"),
    ] {
        let error = error(SMALL, &[set]);
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn the_written_form_reads_back_equal() {
    let config = read(SMALL, &["train.seed=7"]).unwrap();
    assert_eq!(read(&config.to_toml().unwrap(), &[]).unwrap(), config);
}

#[test]
fn the_configurations_in_the_repository_are_valid() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/train");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    assert!(!files.is_empty());
    for file in files {
        Config::read(&file, &[]).unwrap();
    }
}

#[test]
fn the_settings_of_dims_have_their_defaults_and_their_names() {
    assert_eq!(read(SMALL, &[]).unwrap().dims, None);
    let read = |settings: &str| read(&format!("{SMALL}\n[dims]\n{settings}"), &[]).unwrap();
    let config = read("");
    let dims = config.dims.clone().unwrap();
    assert_eq!(dims, Dims::default());
    assert_eq!(dims.decay(), 0.9992, "as published");
    assert_eq!(dims.teacher(&config.output), Path::new("run/bundle"));
    assert_eq!(dims.output(&config.output), Path::new("run/dims"));
    let second = read("mask = \"full\"\nsteps = 4\nema = false\nupdates = 7").dims.unwrap();
    assert_eq!((second.mask, second.steps, second.decay()), (Mask::Full, 4, 0.0));
    let train = second.train(&config.train);
    assert_eq!((train.updates, train.dropout, train.ema_decay), (7, 0.0, 0.0));
    assert_eq!((train.seed, train.batch_tokens), (config.train.seed, config.train.batch_tokens));
}

#[test]
fn the_teacher_of_dims_follows_at_the_configured_decay() {
    let decay = |ema: &str, updates: u64| {
        let text = format!("{SMALL}\n[dims]\nema = {ema}\nupdates = {updates}\n");
        read(&text, &[]).unwrap().dims.unwrap().decay()
    };
    assert_eq!(decay("true", 500), 0.9992);
    assert_eq!(decay("0.9", 500), 0.9);
    // 1 / (1 - d) is 8 % of 500 updates, 40.
    assert!((decay("\"auto\"", 500) - 0.975).abs() < 1e-12);
    assert_eq!(decay("\"auto\"", 3), 0.5);
    let wrong = error(&format!("{SMALL}\n[dims]\nema = \"slowly\"\n"), &[]);
    assert!(wrong.contains("true, false, a decay between 0 and 1, or \"auto\""), "{wrong}");
    let wrong = error(&format!("{SMALL}\n[dims]\ntarget = \"text\"\nlm = true\nrounds = 2\n"), &[]);
    assert!(wrong.contains("dims.lm needs dims.rounds = 1"), "{wrong}");
    let wrong = error(&format!("{SMALL}\n[dims]\nema = 1.5\n"), &[]);
    assert!(wrong.contains("dims.ema must be at least 0 and less than 1, not 1.5"), "{wrong}");
}

#[test]
fn only_the_last_of_several_rounds_is_scaled() {
    let dims = Dims { rounds: 3, output_scale: 0.7, ..Dims::default() };
    let scales = [1, 2, 3].map(|number| dims.round(number, Path::new("run")).output_scale);
    assert_eq!(scales, [1.0, 1.0, 0.7]);
    assert_eq!(Dims { rounds: 1, ..dims }.round(1, Path::new("run")).output_scale, 0.7);
}

#[test]
fn only_the_unsupervised_stage_needs_no_targets() {
    let bare = SMALL.replace("target = [\"a.de.gz\"]\n", "");
    let error = error(&bare, &[]);
    assert!(error.contains("data.source has 1 files, data.target 0"), "{error}");
    let config = read(&format!("{bare}\n[dims]\nunsupervised = true\n"), &[]).unwrap();
    assert_eq!(read(&config.to_toml().unwrap(), &[]).unwrap(), config);
}

#[test]
fn the_best_students_can_be_averaged_only_if_they_are_kept() {
    let text = format!("{SMALL}\n[dims]\naverage_best = 3\n");
    assert_eq!(read(&text, &[]).unwrap().dims.unwrap().average_best, 3);
    let wrong = error(&text, &["train={ keep_best = 2 }"]);
    assert!(wrong.contains("dims.average_best must be at most train.keep_best (2), not 3"), "{wrong}");
}

#[test]
fn the_stages_of_a_pipeline_are_in_order_and_unique() {
    let read = |stages: &str| read(&format!("{SMALL}\n[pipeline]\nstages = {stages}\n"), &[]);
    let config = read("[\"tokenizer\", \"dims\"]").unwrap();
    assert_eq!(config.pipeline.unwrap().stages, [StageName::Tokenizer, StageName::Dims]);
    for (stages, reason) in [
        ("[]", "pipeline.stages is empty"),
        ("[\"parallel\", \"tokenizer\"]", "pipeline.stages has parallel before tokenizer"),
        ("[\"parallel\", \"cmlm\"]", "pipeline.stages names parallel twice"),
        ("[\"paralel\"]", "unknown variant `paralel`"),
    ] {
        let error = read(stages).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn the_old_name_of_a_stage_works_with_a_warning() {
    let with = |stages: &str| format!("{SMALL}\n[pipeline]\nstages = {stages}\n");
    let old = read(&with("[\"cmlm\"]"), &[]).unwrap();
    assert_eq!(old.pipeline.as_ref().unwrap().stages, [StageName::Parallel]);
    assert_eq!(old.warnings.len(), 1);
    assert!(old.warnings[0].starts_with("pipeline.stages: cmlm is now called parallel"));
    assert!(read(&old.to_toml().unwrap(), &[]).unwrap().warnings.is_empty());
    for file in ["[\"dims\"]", "[\"cmlm\"]"] {
        let set = read(&with(file), &["pipeline.stages=[\"cmlm\"]"]).unwrap();
        assert_eq!(set.warnings, old.warnings, "{file}");
    }
}

#[test]
fn an_empty_section_is_the_published_cmlmc_and_each_part_has_its_key() {
    let read = |settings: &str| read(&format!("{SMALL}\n[cmlmc]\n{settings}"), &[]).map(|c| c.cmlmc.unwrap());
    let published = read("").unwrap();
    assert_eq!(published, Cmlmc::default());
    let plain = crate::model::Shape::default();
    let shape = published.shape(plain.clone());
    assert_eq!(shape.decoder_attention, crate::model::DecoderAttention::WholeThenCausal);
    assert_eq!(shape.positions, crate::model::Positions::Concat);
    assert_eq!(shape.refresh, crate::model::Refresh::All);
    let off = "causal_attention = false\nconcat_positions = false\ncorrected = 0.0\nmasked_source = 0.0";
    assert_eq!(read(off).unwrap().shape(plain.clone()), plain);
    let error = read("corrected = 1.5").unwrap_err().to_string();
    assert!(error.contains("cmlmc.corrected must be 0 to 1, not 1.5"), "{error}");
    let error = read("correctd = 0.1").unwrap_err().to_string();
    assert!(error.contains("correctd"), "{error}");
}

/// The same run with corpora and validation sets instead of single files.
fn mixed() -> String {
    let files =
        "source = \"a.en.gz\"\ntarget = [\"a.de.gz\"]\nvalid_source = \"v.en\"\nvalid_target = \"v.de\"\n";
    let more = r#"
[[data.corpora]]
name = "docs"
source = ["d.en", "e.en"]
target = ["d.de", "e.de"]
weight = 0.8
cap = 2
max_repeats = 5
[[data.corpora]]
name = "ui"
source = "u.en"
target = "u.de"
[[data.validation]]
name = "docs"
source = "dv.en"
target = "dv.de"
[[data.validation]]
name = "ui"
source = "uv.en"
target = "uv.de"
[data.augment]
typos = 0.0
"#;
    SMALL.replace(files, "") + more
}

#[test]
fn corpora_validation_sets_and_augmentation_are_read_and_written() {
    let config = read(&mixed(), &[]).unwrap();
    let corpora = config.data.mixture().unwrap();
    assert_eq!(corpora[0].source, [PathBuf::from("corpus/d.en"), "corpus/e.en".into()]);
    assert_eq!((corpora[0].cap, corpora[1].weight, corpora[1].max_repeats), (Some(2.0), 1.0, None));
    assert_eq!(config.data.original_files().len(), 3);
    assert_eq!(config.data.source_files().len(), 3);
    let sets = config.data.validation_sets();
    assert_eq!((sets[1].name.as_str(), &sets[1].target), ("ui", &PathBuf::from("corpus/uv.de")));
    assert_eq!(config.data.augment, Some(Augment { typos: 0.0, ..Augment::default() }));
    assert_eq!(read(&config.to_toml().unwrap(), &[]).unwrap(), config);
}

#[test]
fn augmentation_makes_a_mixture_of_a_single_corpus() {
    let config = read(&format!("{SMALL}\n[data.augment]\n"), &[]).unwrap();
    let corpora = config.data.mixture().unwrap();
    assert_eq!(corpora.len(), 1);
    assert_eq!(corpora[0].files(Path::new("")), config.data.train_files());
}

#[test]
fn invalid_corpora_are_refused_by_name() {
    let text = mixed();
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        error(&text.replace(from, to), &[])
    };
    for (from, to, reason) in [
        (
            "name = \"ui\"\nsource = \"u.en\"",
            "name = \"docs\"\nsource = \"u.en\"",
            "data.corpora names docs twice",
        ),
        (
            "name = \"ui\"\nsource = \"uv.en\"",
            "name = \"docs\"\nsource = \"uv.en\"",
            "data.validation names docs twice",
        ),
        ("target = [\"d.de\", \"e.de\"]", "target = \"d.de\"", "docs: source has 2 files, target 1"),
        ("weight = 0.8", "weight = 0.0", "docs: weight must be more than 0"),
        ("cap = 2", "cap = -1.0", "docs: cap must be more than 0"),
        ("max_repeats = 5", "max_repeats = 0", "docs: max_repeats must be at least 1, not 0"),
        ("typos = 0.0", "typos = 1.5", "data.augment.typos must be 0 to 1, not 1.5"),
        ("source_lang", "valid_source = \"x\"\nsource_lang", "must be given together"),
        ("source_lang", "valid_source = \"x\"\nvalid_target = \"y\"\nsource_lang", "are both given"),
        ("source_lang", "source = \"x\"\nsource_lang", "replaces data.source"),
        ("source_lang", "distilled = \"x\"\nsource_lang", "replaces data.source"),
    ] {
        let error = changed(from, to);
        assert!(error.contains(reason), "{error}");
    }
    let unsupervised = error(&format!("{text}\n[dims]\nunsupervised = true\n"), &[]);
    assert!(unsupervised.contains("dims.unsupervised needs data.source"), "{unsupervised}");
}
