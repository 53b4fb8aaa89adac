//! A language model in a bundle: made by `train lm`, used in translation, refused if it does not fit.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use tempfile::TempDir;
use tutti::decode::{DecodeOptions, InferenceModel, Steps, Translator, translate};
use tutti::model::{Backend, Bundle, Config, Dtype, Fusion, Lengths, Shape, Spec};
use tutti::text::Tokenizer;
use tutti::train::bundle::calibrate::{Calibration, calibrate};
use tutti::train::bundle::lm::{Options, language_model};
use tutti::train::measure::report::{DecodingSetup, ReportModel, ReportPlan};

use crate::report::plan;

pub const TEXT: [&str; 4] = [
    "Wo ist der Bahnhof?",
    "Das Wetter ist heute schön.",
    "Sie ist noch nie dort gewesen.",
    "Der Bahnhof ist dort.",
];
const OPTIONS: Options = Options { fusion: Fusion { weight: 0.6, bonus: 2.8, penalty: 1.0 }, prune: 0 };

/// A bundle with random weights.
pub fn bundle(root: &TempDir, name: &str, lengths: Lengths) -> Bundle {
    let tokenizer = Tokenizer::train(TEXT.iter(), 320).unwrap();
    let shape: Shape = "enc=1,dec=1,d=16,ffn=16,heads=2,positions=32".parse().unwrap();
    let length_classes = if lengths == Lengths::Ctc { 0 } else { 8 };
    let shape = Shape { vocab: tokenizer.vocab_size(), lengths, length_classes, ..shape };
    let weights = Spec::initial(&shape, 1, &Device::Cpu).unwrap();
    let dir = root.path().join(name);
    Bundle::save(&dir, &Config::new(shape, "en", "de"), &tokenizer, &weights, "# A model\n").unwrap();
    Bundle::open(&dir).unwrap()
}

pub fn text(root: &TempDir, lines: &[&str]) -> PathBuf {
    let path = root.path().join("text");
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    path
}

fn reopened(bundle: &Bundle) -> Bundle {
    Bundle::open(&bundle.dir).unwrap()
}

#[test]
fn slots_are_read_with_it_unless_it_is_not_wanted_and_alike_in_any_batch() {
    let root = tempfile::tempdir().unwrap();
    let plain = bundle(&root, "en-de", Lengths::Ctc);
    let made = language_model(&plain, &[text(&root, &TEXT)], OPTIONS).unwrap();
    assert_eq!((made.sentences, made.skipped), (4, 0));
    let with = reopened(&plain);
    assert_eq!(with.lm.as_ref().unwrap().sizes(), [made.bigrams, made.trigrams]);
    let sources: Vec<Vec<u32>> =
        ["Wo?", "ist dort der Bahnhof", "heute"].iter().map(|s| plain.tokenizer.encode(s).unwrap()).collect();
    for dtype in [Dtype::F32, Dtype::Q8] {
        let backend = Backend::cpu().with_dtype(dtype);
        let network = InferenceModel::open(&with, &backend).unwrap();
        let without = InferenceModel::open(&with, &backend.clone().with_lm(false)).unwrap();
        assert!(network.has_lm() && network.rules().lm.is_some() && !without.has_lm());
        let alone = InferenceModel::open(&plain, &backend).unwrap();
        for steps in [1, 3] {
            let options = DecodeOptions::new(Steps::new(steps).unwrap());
            let together = translate(&network, &sources, &options).unwrap();
            for (source, found) in sources.iter().zip(&together) {
                let one = std::slice::from_ref(source);
                assert_eq!(&translate(&network, one, &options).unwrap()[0], found);
            }
            let plainly = translate(&alone, &sources, &options).unwrap();
            assert_eq!(translate(&without, &sources, &options).unwrap(), plainly);
            // Random weights are uncertain everywhere, so the language model has an effect.
            assert!(together != plainly, "{dtype:?}, {steps} steps");
        }
    }
}

#[test]
fn a_report_reads_with_it_unless_it_is_not_wanted() {
    let root = tempfile::tempdir().unwrap();
    let plain = bundle(&root, "en-de", Lengths::Ctc);
    let said = |lm: bool| {
        let plan = ReportPlan { lm, ..plan(root.path()) };
        let setup = DecodingSetup::Steps { steps: 1, length_beam: 1 };
        let translator = ReportModel::open(None, &plain.dir, &plan).unwrap().translator;
        let mut passages = [plain.reader().read("ist dort der Bahnhof")];
        translator.translate(setup, &mut passages, 256).unwrap();
        passages[0].text()
    };
    let before = said(true);
    language_model(&plain, &[text(&root, &TEXT)], OPTIONS).unwrap();
    assert_eq!(said(false), before);
    assert_ne!(said(true), before, "random weights are not sure of anything");
}

#[test]
fn the_same_text_gives_the_same_file_and_a_calibrated_bundle_keeps_it() {
    let root = tempfile::tempdir().unwrap();
    let own = bundle(&root, "en-de", Lengths::Ctc);
    let file = |dir: &Path| fs::read(dir.join(Bundle::LM)).unwrap();
    let once = [text(&root, &TEXT)];
    language_model(&own, &once, OPTIONS).unwrap();
    let first = file(&own.dir);
    language_model(&reopened(&own), &once, OPTIONS).unwrap();
    assert!(file(&own.dir) == first);
    let other = root.path().join("calibrated");
    let calibration = Calibration { scale: 1.0, blank_penalty: 0.5 };
    calibrate(&reopened(&own), calibration, None, &other).unwrap();
    assert!(file(&other) == first);
    assert!(Bundle::open(&other).unwrap().lm.is_some());
}

#[test]
fn unusable_lines_are_counted_and_a_text_without_others_writes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let own = bundle(&root, "en-de", Lengths::Ctc);
    let long = "Bahnhof ".repeat(40);
    let path = text(&root, &["", &long]);
    let error = language_model(&own, &[path], OPTIONS).unwrap_err().to_string();
    assert!(error.contains("text:1") && error.contains("2 skipped"), "{error}");
    assert!(!own.dir.join(Bundle::LM).exists());
    let made = language_model(&own, &[text(&root, &["", &long, TEXT[0]])], OPTIONS).unwrap();
    assert_eq!((made.sentences, made.skipped), (1, 2));
    let fusion = Fusion { weight: -1.0, ..OPTIONS.fusion };
    let error = language_model(&own, &[text(&root, &TEXT)], Options { fusion, ..OPTIONS }).unwrap_err();
    assert!(error.to_string().contains("at least 0"), "{error}");
}

#[test]
fn a_model_without_slots_gets_no_language_model_and_an_invalid_file_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let cmlm = bundle(&root, "cmlm", Lengths::default());
    let error = language_model(&cmlm, &[text(&root, &TEXT)], OPTIONS).unwrap_err().to_string();
    assert!(error.contains("cmlm") && error.contains("imputer"), "{error}");
    let own = bundle(&root, "en-de", Lengths::Ctc);
    language_model(&own, &[text(&root, &TEXT)], OPTIONS).unwrap();
    let path = own.dir.join(Bundle::LM);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = Bundle::open(&own.dir).unwrap_err().to_string();
    assert!(error.contains("lm.safetensors") && error.contains("`train lm` writes it again"), "{error}");
    let mended = Bundle::open_without(&own.dir, Bundle::LM).unwrap();
    language_model(&mended, &[text(&root, &TEXT)], OPTIONS).unwrap();
    assert!(reopened(&own).lm.is_some());
}
