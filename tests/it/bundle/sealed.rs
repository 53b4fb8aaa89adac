//! Sealed bundles: checksums and the known sentence.

use tutti::model::{Fusion, Lengths};
use tutti::train::bundle::lm::{self, language_model};

use super::*;

/// Every file of a sealed bundle that affects a translation.
pub const SEALED: [&str; 5] =
    [Bundle::CONFIG, Bundle::WEIGHTS, Bundle::TOKENIZER, Bundle::SHORTLIST, Bundle::LM];

/// A bundle with all of them: an Imputer's, because no other has a language model.
pub fn sealed() -> TempDir {
    let root = tempfile::tempdir().expect("a folder");
    let shape = Shape { lengths: Lengths::Ctc, length_classes: 0, max_positions: 32, ..config().shape };
    let weights = Spec::initial(&shape, 1, &Device::Cpu).expect("weights");
    let config = Config::new(shape, "en", "de");
    Bundle::save(&root.path().join("en-de"), &config, &TOKENIZER, &weights, "# A model\n").expect("save");
    let texts = ["source", "target"].map(|name| root.path().join(name));
    let lines = "Where is the train station?\n";
    texts.iter().for_each(|path| fs::write(path, lines).expect("text"));
    let options = Options { per_token: 4, common: 4, iterations: 1 };
    shortlist(&open(&root).expect("open"), &texts[0], &texts[1], options).expect("a shortlist");
    let fusion = Fusion { weight: 0.6, bonus: 2.8, penalty: 1.0 };
    let options = lm::Options { fusion, prune: 0 };
    language_model(&open(&root).expect("open"), &texts[1..], options).expect("a language model");
    known::seal(&open(&root).expect("open"), Some("Where?")).expect("seal");
    root
}

#[test]
fn a_sealed_bundle_is_refused_if_any_bit_is_flipped() {
    let root = sealed();
    let bundle = open(&root).expect("a sealed bundle");
    assert!(bundle.is_sealed() && bundle.shortlist.is_some() && bundle.lm.is_some());
    assert_eq!(bundle.config.known.as_ref().expect("a known sentence").source, "Where?");
    let mut random = 1_u64;
    for name in SEALED {
        let path = file(&root, name);
        let whole = fs::read(&path).expect("read");
        for _ in 0..60 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (byte, bit) = ((random >> 33) as usize % whole.len(), (random >> 30) % 8);
            let mut flipped = whole.clone();
            flipped[byte] ^= 1 << bit;
            fs::write(&path, flipped).expect("write");
            assert!(open(&root).is_err(), "{name}: bit {bit} of byte {byte} was flipped, and nobody noticed");
        }
        fs::write(&path, whole).expect("write");
    }
    open(&root).expect("it is whole again");
}

#[test]
fn what_is_changed_on_purpose_is_sealed_again_and_says_how() {
    let root = sealed();
    let path = file(&root, Bundle::CONFIG);
    let text =
        fs::read_to_string(&path).expect("read").replace("\"default_steps\": 4", "\"default_steps\": 3");
    fs::write(&path, text).expect("write");
    assert_refused(&root, Bundle::CONFIG, &["SHA-256", "train seal --model"]);
    let changed = Bundle::open_unsealed(&root.path().join("en-de")).expect("its checksums are not looked at");
    known::seal(&changed, None).expect("seal");
    let bundle = open(&root).expect("it holds");
    assert_eq!(
        (bundle.config.default_steps, bundle.config.known.expect("kept").source),
        (3, "Where?".into())
    );

    open(&root)
        .expect("open")
        .record_scores(vec![Score { steps: 1, bleu: 39.79, chrf: 58.36 }])
        .expect("record");
    assert_eq!(open(&root).expect("sealed again").config.scores.len(), 1);
    // The shortlist is read before the language model.
    for (name, command) in [(Bundle::LM, "train lm"), (Bundle::SHORTLIST, "train shortlist")] {
        fs::remove_file(file(&root, name)).expect("remove");
        assert_refused(&root, name, &["is missing", command]);
    }
}

#[test]
fn the_known_sentence_detects_a_machine_that_computes_something_else() {
    let root = sealed();
    let mut bundle = open(&root).expect("open");
    let network = InferenceModel::open(&bundle, &Backend::cpu().with_dtype(Dtype::Q8)).expect("a network");
    known::check(&network, &bundle).expect("the same machine");
    if let Some(known) = &mut bundle.config.known {
        known.translation = "Etwas ganz anderes.".into();
    }
    let error = known::check(&network, &bundle).expect_err("another translation").to_string();
    assert!(error.contains("Etwas ganz anderes."), "{error}");
    bundle.config.known = None;
    known::check(&network, &bundle).expect("older bundles have none");
}
