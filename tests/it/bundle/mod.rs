//! Bundles on disk: what is saved can be opened, and every error names the file, the tensor or key, and what was
//! expected. No content of a bundle causes a panic.

pub mod sealed;
mod shortlist;
mod stored;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;
use tutti::Error;
use tutti::decode::InferenceModel;
use tutti::known;
use tutti::model::{Backend, Bundle, Config, Dtype, Score, Shape, Shortlist, Spec};
use tutti::text::Tokenizer;
use tutti::train::bundle::shortlist::{Options, shortlist};

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let corpus = [
        "Where is the train station?",
        "Wo ist der Bahnhof?",
        "The weather is nice today, isn't it?",
        "Das Wetter ist heute schön, nicht wahr?",
        "She has never been there before.",
        "Sie ist noch nie dort gewesen.",
    ];
    Tokenizer::train(corpus.iter(), 320).expect("a tokenizer")
});

fn config() -> Config {
    let shape: Shape = "enc=1,dec=1,d=16,ffn=16,heads=2,positions=16".parse().expect("a shape");
    let shape = Shape { vocab: TOKENIZER.vocab_size(), length_classes: 8, ..shape };
    Config::new(shape, "en", "de")
}

fn weights(seed: u64) -> HashMap<String, Tensor> {
    Spec::initial(&config().shape, seed, &Device::Cpu).expect("weights")
}

/// A temporary folder with a complete bundle in `en-de`.
fn saved() -> TempDir {
    let root = tempfile::tempdir().expect("a folder");
    Bundle::save(&root.path().join("en-de"), &config(), &TOKENIZER, &weights(1), "# A model\n")
        .expect("save");
    root
}

fn open(root: &TempDir) -> tutti::Result<Bundle> {
    Bundle::open(&root.path().join("en-de"))
}

/// The error of opening an invalid bundle; it must name `file` and contain all of `parts`.
#[track_caller]
fn assert_refused(root: &TempDir, file: &str, parts: &[&str]) {
    let error = open(root).map(|b| b.name).expect_err("a broken bundle");
    assert!(matches!(error, Error::Bundle { .. } | Error::Io { .. }), "{error:?}");
    let message = error.to_string();
    let path = self::file(root, file);
    assert!(message.contains(&*path.to_string_lossy()), "{message:?} does not name {file}");
    for part in parts {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

fn file(root: &TempDir, name: &str) -> std::path::PathBuf {
    root.path().join("en-de").join(name)
}

/// A bundle with the changed weights.
fn with_weights(change: impl FnOnce(&mut HashMap<String, Tensor>)) -> TempDir {
    let (root, mut tensors) = (saved(), weights(1));
    change(&mut tensors);
    let bytes = safetensors::serialize(&tensors, None).expect("safetensors");
    fs::write(file(&root, Bundle::WEIGHTS), bytes).expect("write");
    root
}

/// A bundle with a changed `config.json`.
fn with_config(change: impl FnOnce(&mut Value)) -> TempDir {
    let root = saved();
    let path = file(&root, Bundle::CONFIG);
    let mut value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("json");
    change(&mut value);
    fs::write(&path, value.to_string()).expect("write");
    root
}

/// A bundle with a changed safetensors header, whose length is corrected.
fn with_header(change: impl FnOnce(&mut Value)) -> TempDir {
    let root = saved();
    let path = file(&root, Bundle::WEIGHTS);
    let bytes = fs::read(&path).expect("read");
    let (header, data) = bytes[8..].split_at(header_length(&bytes));
    let mut value = serde_json::from_slice(header).expect("json");
    change(&mut value);
    let header = value.to_string();
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat();
    fs::write(&path, bytes).expect("write");
    root
}

fn header_length(bytes: &[u8]) -> usize {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|t| t.to_vec1()).expect("values")
}

fn contents(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_is_saved_is_what_is_opened() {
    let root = saved();
    let bundle = open(&root).expect("open");
    assert_eq!(bundle.name, "en-de");
    assert_eq!(bundle.config, config());
    assert_eq!(bundle.tokenizer.encode("Wo?").expect("ids"), TOKENIZER.encode("Wo?").expect("ids"));
    assert_eq!(fs::read_to_string(file(&root, Bundle::CARD)).expect("card"), "# A model\n");
    let given = weights(1);
    assert_eq!(bundle.tensors().len(), given.len());
    for (name, tensor) in &given {
        let rounded = tensor.to_dtype(DType::F16).and_then(|t| t.to_dtype(DType::F32)).expect("f16");
        assert_eq!(values(&bundle.tensors()[name]), values(&rounded), "{name}");
    }
    assert!(bundle.network(&Backend::cpu()).is_ok());
    assert_eq!(bundle.checksum, open(&root).expect("open").checksum);
    assert_eq!(contents(root.path()), ["en-de"]);
}

#[test]
fn saving_over_a_bundle_replaces_it_whole() {
    let root = saved();
    let before = open(&root).expect("open").checksum;
    fs::write(file(&root, "notes.txt"), "of the old one").expect("write");
    let dir = root.path().join("en-de");
    Bundle::save(&dir, &config(), &TOKENIZER, &weights(2), "# Another\n").expect("save");
    assert_ne!(open(&root).expect("open").checksum, before);
    assert_eq!(contents(root.path()), ["en-de"]);
    assert_eq!(contents(&dir), [Bundle::CARD, Bundle::CONFIG, Bundle::WEIGHTS, Bundle::TOKENIZER]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&dir).expect("metadata").permissions().mode() & 0o777, 0o755);
    }
}

#[test]
fn what_would_not_open_is_not_saved_and_leaves_the_old_bundle() {
    let root = saved();
    let before = open(&root).expect("open").checksum;
    let dir = root.path().join("en-de");
    let save = |change: &dyn Fn(&mut HashMap<String, Tensor>), config: &Config| {
        let mut tensors = weights(2);
        change(&mut tensors);
        Bundle::save(&dir, config, &TOKENIZER, &tensors, "").map_err(|e| e.to_string())
    };
    let bias = |value: f32| {
        move |t: &mut HashMap<String, Tensor>| {
            t.insert("length.bias".into(), Tensor::full(value, 8, &Device::Cpu).expect("a tensor"));
        }
    };
    let mut other_vocabulary = config();
    other_vocabulary.shape.vocab += 16;
    for (what, refused) in [
        ("length.bias", save(&bias(f32::NAN), &config())),
        ("length.bias", save(&bias(1e6), &config())), // beyond f16
        ("output.bias", save(&|t| drop(t.remove("output.bias")), &config())),
        ("320", save(&|_| (), &other_vocabulary)),
    ] {
        let message = refused.expect_err(what);
        assert!(message.contains(what), "{message}");
    }
    assert_eq!(open(&root).expect("open").checksum, before);
    assert_eq!(contents(root.path()), ["en-de"]);
}

#[test]
fn a_missing_file_is_named() {
    for name in [Bundle::CONFIG, Bundle::TOKENIZER, Bundle::WEIGHTS] {
        let root = saved();
        fs::remove_file(file(&root, name)).expect("remove");
        assert_refused(&root, name, &[]);
    }
    let root = tempfile::tempdir().expect("a folder");
    let error = open(&root).map(|b| b.name).expect_err("nothing there").to_string();
    assert!(error.contains("en-de") && error.contains("no such folder"), "{error}");
}

#[test]
fn weights_cut_anywhere_are_refused() {
    let root = saved();
    let path = file(&root, Bundle::WEIGHTS);
    let bytes = fs::read(&path).expect("read");
    let header = 8 + header_length(&bytes);
    let some = (0..bytes.len()).step_by(bytes.len() / 40);
    for end in (0..12).chain(header - 3..header + 3).chain(some).chain([bytes.len() - 1]) {
        fs::write(&path, &bytes[..end]).expect("write");
        assert_refused(&root, Bundle::WEIGHTS, &["safetensors"]);
    }
    fs::write(&path, [&bytes[..], &[0]].concat()).expect("write");
    assert_refused(&root, Bundle::WEIGHTS, &["safetensors"]);
}

#[test]
fn a_hostile_header_length_is_refused() {
    let root = saved();
    let path = file(&root, Bundle::WEIGHTS);
    let bytes = fs::read(&path).expect("read");
    let real = header_length(&bytes) as u64;
    for length in [0, 1, real - 1, real + 1, 99_999_999, 1 << 40, 1 << 63, u64::MAX - 7, u64::MAX] {
        fs::write(&path, [&length.to_le_bytes(), &bytes[8..]].concat()).expect("write");
        assert_refused(&root, Bundle::WEIGHTS, &["safetensors"]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Most flips make it invalid. A flip that does not (a tab for a space) must not change the weights.
    #[test]
    fn flipped_bytes_in_the_header_are_refused_or_harmless(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
    ) {
        static WHOLE: LazyLock<(Vec<u8>, String)> = LazyLock::new(|| {
            let root = saved();
            let weights = |b: Bundle| format!("{:?}", ordered(b.tensors()));
            (fs::read(file(&root, Bundle::WEIGHTS)).expect("read"), weights(open(&root).expect("open")))
        });
        static ROOT: LazyLock<TempDir> = LazyLock::new(saved);
        let (bytes, expected) = &*WHOLE;
        let mut flipped = bytes.clone();
        for (index, flip) in flips {
            flipped[index.index(8 + header_length(bytes))] ^= flip;
        }
        fs::write(file(&ROOT, Bundle::WEIGHTS), flipped).expect("write");
        match open(&ROOT) {
            Ok(bundle) => prop_assert_eq!(&format!("{:?}", ordered(bundle.tensors())), expected),
            Err(error) => prop_assert!(error.to_string().contains(Bundle::WEIGHTS), "{error}"),
        }
    }
}

fn ordered(tensors: &HashMap<String, Tensor>) -> std::collections::BTreeMap<&String, Vec<u32>> {
    tensors.iter().map(|(name, t)| (name, values(t).into_iter().map(f32::to_bits).collect())).collect()
}

#[test]
fn a_tensor_too_few_or_too_many_is_named() {
    let root = with_weights(|t| drop(t.remove("encoder.norm.bias")));
    assert_refused(&root, Bundle::WEIGHTS, &["encoder.norm.bias", "[16]", "missing"]);
    let root = with_weights(|t| {
        t.insert("encoder.extra".into(), t["encoder.norm.bias"].clone());
    });
    assert_refused(&root, Bundle::WEIGHTS, &["encoder.extra", "not part"]);
}

#[test]
fn a_tensor_of_another_shape_or_type_is_named_with_what_was_expected() {
    let root = with_weights(|t| {
        let transposed = t["length.weight"].t().and_then(|t| t.contiguous()).expect("transposed");
        t.insert("length.weight".into(), transposed);
    });
    assert_refused(&root, Bundle::WEIGHTS, &["length.weight", "[16, 8]", "[8, 16]"]);
    let root = with_weights(|t| {
        t.insert("length.bias".into(), Tensor::zeros(8, DType::I64, &Device::Cpu).expect("a tensor"));
    });
    assert_refused(&root, Bundle::WEIGHTS, &["length.bias", "I64", "F16"]);
}

#[test]
fn a_value_that_is_no_number_is_refused() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let root = with_weights(|t| {
            let mut bias = [0f32; 8];
            bias[5] = value;
            t.insert("length.bias".into(), Tensor::new(&bias, &Device::Cpu).expect("a tensor"));
        });
        assert_refused(&root, Bundle::WEIGHTS, &["length.bias", "finite"]);
    }
}

#[test]
fn weights_in_f32_and_bf16_are_read_too() {
    for dtype in [DType::F32, DType::BF16] {
        let root = with_weights(|t| {
            for tensor in t.values_mut() {
                *tensor = tensor.to_dtype(dtype).expect("a conversion");
            }
        });
        let bundle = open(&root).expect("open");
        let expected = weights(1)["length.weight"].to_dtype(dtype).and_then(|t| t.to_dtype(DType::F32));
        assert_eq!(values(&bundle.tensors()["length.weight"]), values(&expected.expect("f32")));
    }
}

#[test]
fn numbers_that_no_memory_holds_are_refused_before_they_are_allocated() {
    for shape in [json!([1u64 << 62, 4]), json!([u64::MAX, u64::MAX]), json!([1u64 << 40]), json!([-1])] {
        let root = with_header(|h| h["length.bias"]["shape"] = shape);
        assert_refused(&root, Bundle::WEIGHTS, &["safetensors"]);
    }
    let root = with_header(|h| h["length.bias"]["data_offsets"] = json!([0, u64::MAX]));
    assert_refused(&root, Bundle::WEIGHTS, &["safetensors"]);
    // The largest network that a configuration may name: a terabyte, none of which is allocated.
    let root = with_config(|c| {
        let shape = &mut c["shape"];
        (shape["encoder_layers"], shape["decoder_layers"]) = (json!(64), json!(64));
        (shape["d_model"], shape["ffn"]) = (json!(1 << 14), json!(1 << 16));
    });
    assert_refused(&root, Bundle::WEIGHTS, &["expected"]);
    for (key, value) in [("d_model", json!(u64::MAX)), ("vocab", json!(1u64 << 40)), ("heads", json!(0))] {
        let root = with_config(|c| c["shape"][key] = value);
        assert_refused(&root, Bundle::CONFIG, &[key]);
    }
}

#[test]
fn a_configuration_that_this_program_does_not_know_is_refused_by_key() {
    type Change = fn(&mut Value);
    let changes: [(Change, &[&str]); 8] = [
        (|c| c["temperature"] = json!(1), &["temperature", "unknown"]),
        (|c| c["shape"]["depth"] = json!(1), &["depth", "unknown"]),
        (|c| c["format"] = json!(2), &["format 2", "format 1"]),
        (|c| c["architecture"] = json!("ctc"), &["architecture", "ctc", "cmlm"]),
        (|c| c["default_steps"] = json!(0), &["default_steps"]),
        (|c| c["max_steps"] = json!(300), &["300"]),
        (|c| c["specials"]["mask"] = json!(7), &["specials", "mask 4"]),
        (|c| c["source"] = json!("../en"), &["../en"]),
    ];
    for (change, parts) in changes {
        assert_refused(&with_config(change), Bundle::CONFIG, parts);
    }
    let root = with_config(|c| drop(c.as_object_mut().expect("an object").remove("shape")));
    assert_refused(&root, Bundle::CONFIG, &["shape", "missing"]);
    for text in ["", "{", "[]", "\u{0}", &"[".repeat(100_000)] {
        let root = saved();
        fs::write(file(&root, Bundle::CONFIG), text).expect("write");
        assert_refused(&root, Bundle::CONFIG, &[]);
    }
    let root = saved();
    fs::write(file(&root, Bundle::CONFIG), [0xff, 0xfe]).expect("write");
    assert_refused(&root, Bundle::CONFIG, &["UTF-8"]);
}

#[test]
fn a_vocabulary_of_another_size_is_refused_with_both_numbers() {
    let root = with_config(|c| c["shape"]["vocab"] = json!(336));
    assert_refused(&root, Bundle::TOKENIZER, &["320", "336"]);
}

#[test]
fn a_tokenizer_cut_anywhere_is_refused() {
    let root = saved();
    let path = file(&root, Bundle::TOKENIZER);
    let bytes = fs::read(&path).expect("read");
    for end in (0..bytes.len() - 2).step_by(bytes.len() / 40) {
        fs::write(&path, &bytes[..end]).expect("write");
        assert_refused(&root, Bundle::TOKENIZER, &[]);
    }
}
