//! Bundles whose matrices have 8 bits: q8 inference gives the same bits as with the f16 bundle that they were made of,
//! f32 inference nearly the same. Damaged scales are refused.

use std::collections::BTreeMap;
use std::process::Command;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use tutti::decode::{DecodeOptions, Hypothesis, Steps, translate};
use tutti::model::quantized::QuantizedCanvas;
use tutti::model::{DecoderAttention, Lengths, NormPlace, Padded, Positions, Stored};
use tutti::nn::Mode;
use tutti::train::bundle::calibrate::{Calibration, calibrate};

use super::*;
use crate::toy::Toy;

const SOURCE: [u32; 6] = [1, 9, 40, 77, 300, 2];
const CANVAS: [u32; 5] = [1, 4, 30, 4, 2];
const WANTED: [usize; 3] = [1, 2, 3];

/// A matrix and a vector of the file.
const MATRIX: &str = "encoder.layers.0.attention.output.weight";
const SCALE: &str = "encoder.layers.0.attention.output.weight.scale";
const VECTOR: &str = "length.bias";

/// A plain network, one with all other variants, and an Imputer.
fn shapes() -> [Shape; 3] {
    let plain = config().shape;
    let other = Shape {
        norm: NormPlace::Post,
        positions: Positions::Concat,
        decoder_attention: DecoderAttention::WholeThenCausal,
        decoder_layers: 2,
        ..plain.clone()
    };
    let imputer = Shape { lengths: Lengths::Ctc, length_classes: 0, max_positions: 32, ..plain.clone() };
    [plain, other, imputer]
}

/// A bundle of this shape in `f16`, and a copy of it in `en-de`, in 8 bits.
fn copied(shape: Shape) -> (TempDir, [Bundle; 2]) {
    let root = tempfile::tempdir().expect("a folder");
    let dir = root.path().join("f16");
    let weights = Spec::initial(&shape, 1, &Device::Cpu).expect("weights");
    let scores = vec![Score { steps: 1, bleu: 20.0, chrf: 50.0 }];
    let config = Config { scores, ..Config::new(shape, "en", "de") };
    Bundle::save(&dir, &config, &TOKENIZER, &weights, "# A model\n").expect("save");
    let bundle = Bundle::open(&dir).expect("open");
    calibrate(&bundle, Calibration::NONE, Some(Stored::Q8), &root.path().join("en-de")).expect("a copy");
    let copy = open(&root).expect("a bundle");
    (root, [bundle, copy])
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The log-probabilities of length classes, and the best tokens of a canvas with theirs, as bits.
fn predictions(bundle: &Bundle) -> (Vec<u32>, Vec<(u32, u32)>) {
    let network = bundle.quantized(false).expect("a network");
    let (keys, lengths) = network.encode_sentences(&[SOURCE.as_slice()]).expect("an encoder pass").remove(0);
    let canvas = QuantizedCanvas { ids: &CANVAS, wanted: &WANTED, keys: &keys };
    let best = network.predict_top::<3>(&[canvas]).expect("a decoder pass");
    let best = best.into_iter().flatten().map(|(token, log_prob)| (token, log_prob.to_bits()));
    (bits(&lengths), best.collect())
}

fn translations(bundle: &Bundle, steps: u8) -> Vec<Vec<Hypothesis>> {
    let network = InferenceModel::open(bundle, &Backend::cpu().with_dtype(Dtype::Q8)).expect("a network");
    let options = DecodeOptions::new(Steps::new(steps).expect("steps"));
    translate(&network, &[SOURCE.to_vec(), vec![1, 50, 60, 2]], &options).expect("translations")
}

/// The logits of a canvas in f32.
fn logits(bundle: &Bundle) -> Vec<f32> {
    let network = bundle.network(&Backend::cpu()).expect("a network");
    let mode = Mode::inference();
    let row = |ids: &[u32]| Padded::new([ids].into_iter(), 0, &Device::Cpu).expect("a batch");
    let source = row(&SOURCE);
    let states = network.encode(&source, &mode).expect("an encoder pass");
    let memory = network.memory(&states, &source.lengths, &mode).expect("keys and values");
    let decoded = network.decode(&row(&CANVAS), &memory, &mode).expect("a decoder pass");
    let chosen = network.select(&decoded, vec![1, 2, 3]).expect("rows");
    values(&network.logits(&chosen, &mode).expect("logits"))
}

#[test]
fn a_copy_in_eight_bits_gives_the_same_bits_in_q8_and_nearly_the_same_logits_in_f32() {
    for shape in shapes() {
        let (_root, [own, copy]) = copied(shape.clone());
        assert_eq!((own.stored, copy.stored), (Stored::F16, Stored::Q8));
        assert_eq!(predictions(&own), predictions(&copy), "{shape:?}");
        for steps in [1, 3] {
            assert_eq!(translations(&own, steps), translations(&copy, steps), "{shape:?}");
        }
        let (before, after) = (logits(&own), logits(&copy));
        let largest = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest > 0.0 && largest < 0.25, "{largest}: {shape:?}");
    }
}

#[test]
fn a_copy_in_eight_bits_differs_only_in_the_matrices_of_its_layers() {
    let (root, [own, copy]) = copied(config().shape);
    for (name, tensor) in own.tensors() {
        let (before, after) = (values(tensor), values(&copy.tensors()[name]));
        if tensor.dims().len() == 2 && name.contains(".layers.") {
            assert_ne!(before, after, "{name}");
            let step = before.iter().fold(0.0, |top: f32, v| top.max(v.abs())) / 127.0;
            assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() <= 0.501 * step), "{name}");
        } else {
            assert_eq!(bits(&before), bits(&after), "{name}");
        }
    }
    assert_eq!(copy.config.scores, own.config.scores);
    let card = fs::read_to_string(file(&root, Bundle::CARD)).expect("card");
    assert!(card.starts_with("# A model\n") && card.ends_with("stored in q8.\n"), "{card}");
}

#[test]
fn further_copies_keep_eight_bits_unless_another_type_is_asked_for() {
    let (root, [_, first]) = copied(config().shape);
    let weights = |bundle: &Bundle| fs::read(bundle.dir.join(Bundle::WEIGHTS)).expect("weights");
    let copy = |name: &str, calibration: Calibration, stored: Option<Stored>| {
        let dir = root.path().join(name);
        calibrate(&first, calibration, stored, &dir).expect("a copy");
        Bundle::open(&dir).expect("open")
    };
    assert!(weights(&copy("same", Calibration::NONE, None)) == weights(&first));
    let scaled = copy("scaled", Calibration { scale: 0.5, ..Calibration::NONE }, None);
    assert_eq!((scaled.stored, scaled.config.scores.len()), (Stored::Q8, 0));
    assert_eq!(bits(&values(&scaled.tensors()[MATRIX])), bits(&values(&first.tensors()[MATRIX])));
    let wide = copy("wide", Calibration::NONE, Some(Stored::F16));
    assert_eq!(wide.stored, Stored::F16);
    assert!(weights(&wide).len() > weights(&first).len());

    let (own, sealed) = (root.path().join("f16"), root.path().join("sealed"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
    command.args(["calibrate", "--stored", "q8", "--model"]).arg(own).arg("--output").arg(&sealed);
    let output = command.output().expect("a process");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let sealed = Bundle::open(&sealed).expect("open");
    assert!(sealed.is_sealed() && weights(&sealed) == weights(&first));
}

#[test]
fn a_bundle_in_eight_bits_can_be_a_start_and_a_teacher() {
    let toy = Toy::new();
    toy.run("teacher", 2);
    let (teacher, small) = (Bundle::open(&toy.path("teacher/bundle")).expect("open"), toy.path("small"));
    calibrate(&teacher, Calibration::NONE, Some(Stored::Q8), &small).expect("a copy");
    toy.begin("again", "small", "").expect("a run");
    toy.distil("student", &format!("updates = 1\nteacher_dtype = \"q8\"\nteacher = \"{}\"", small.display()));
    let small = Bundle::open(&small).expect("open");
    let again = Bundle::open(&toy.path("again/bundle")).expect("open");
    assert_eq!((small.stored, again.stored), (Stored::Q8, Stored::F16));
    let [begun, ended] = [&small, &again].map(|bundle| values(&bundle.tensors()[MATRIX]));
    assert!(begun.iter().zip(&ended).all(|(a, b)| (a - b).abs() < 1e-3));
    Bundle::open(&toy.path("student/bundle")).expect("open");
}

#[test]
fn weights_that_are_not_finite_are_not_stored_in_eight_bits() {
    let root = tempfile::tempdir().expect("a folder");
    for value in [f32::NAN, f32::INFINITY] {
        let mut weights = weights(1);
        let mut matrix = vec![0.5; 16 * 16];
        matrix[20] = value;
        weights.insert(MATRIX.into(), Tensor::from_vec(matrix, (16, 16), &Device::Cpu).expect("a tensor"));
        let dir = root.path().join("en-de");
        let refused =
            Bundle::save_as(&dir, &config(), &TOKENIZER, &weights, "", Stored::Q8).expect_err("refused");
        let message = refused.to_string();
        assert!(message.contains(MATRIX) && message.contains("finite"), "{message}");
        assert!(!dir.exists());
    }
}

/// The tensors of a file by name: type, shape and bytes.
type Parts = BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)>;

/// A bundle in 8 bits whose file was changed.
fn with_parts(change: impl FnOnce(&mut Parts)) -> TempDir {
    let (root, _) = copied(config().shape);
    let path = file(&root, Bundle::WEIGHTS);
    let bytes = fs::read(&path).expect("read");
    let whole = SafeTensors::deserialize(&bytes).expect("safetensors");
    let part = |view: TensorView<'_>| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
    let mut parts: Parts = whole.iter().map(|(name, view)| (name.to_owned(), part(view))).collect();
    change(&mut parts);
    let views = parts.iter().map(|(name, (dtype, shape, data))| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), data).expect("a view"))
    });
    let changed = safetensors::serialize(views, None).expect("safetensors");
    fs::write(&path, changed).expect("write");
    root
}

#[test]
fn a_damaged_scale_is_named_with_what_was_expected() {
    use safetensors::Dtype::{F16, F32, I8};
    let scales = |value: f32| -> Vec<u8> { [value; 16].iter().flat_map(|v| v.to_le_bytes()).collect() };
    open(&with_parts(|parts| {
        parts.insert(SCALE.into(), (F32, vec![16], scales(0.0)));
    }))
    .expect("zeros are values");

    assert_refused(&with_parts(|parts| drop(parts.remove(SCALE))), Bundle::WEIGHTS, &[SCALE, "missing"]);
    for (dtype, shape, bytes) in
        [(F32, vec![15], vec![0; 60]), (F32, vec![16, 1], vec![0; 64]), (F16, vec![16], vec![0; 32])]
    {
        let root = with_parts(|parts| drop(parts.insert(SCALE.into(), (dtype, shape, bytes))));
        assert_refused(&root, Bundle::WEIGHTS, &[SCALE, "F32 of shape [16]"]);
    }
    for value in [f32::NAN, f32::INFINITY, -0.5, f32::MAX / 100.0] {
        let root = with_parts(|parts| drop(parts.insert(SCALE.into(), (F32, vec![16], scales(value)))));
        assert_refused(&root, Bundle::WEIGHTS, &[SCALE, "expected values of 0 to"]);
    }

    let root = with_parts(|parts| drop(parts.insert(MATRIX.into(), (F16, vec![16, 16], vec![0; 512]))));
    assert_refused(&root, Bundle::WEIGHTS, &[SCALE, "not a matrix in 8 bits"]);
    let root = with_parts(|parts| {
        parts.insert("encoder.extra.scale".into(), (F32, vec![16], scales(1.0)));
    });
    assert_refused(&root, Bundle::WEIGHTS, &["encoder.extra.scale", "not a matrix in 8 bits"]);
    let root = with_parts(|parts| drop(parts.insert(VECTOR.into(), (I8, vec![8], vec![0; 8]))));
    assert_refused(&root, Bundle::WEIGHTS, &[VECTOR, "I8", "not a matrix"]);
    let root = with_parts(|parts| drop(parts.insert(MATRIX.into(), (I8, vec![16, 8], vec![0; 128]))));
    assert_refused(&root, Bundle::WEIGHTS, &[MATRIX, "[16, 8]", "[16, 16]"]);
}
