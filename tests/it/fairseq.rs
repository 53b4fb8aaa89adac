//! Imported fairseq checkpoints compute the same results. `tests/data/fairseq` has tiny checkpoints in fairseq's
//! format, and the results of a reference implementation (`make.py`).

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tutti::decode::{DecodeOptions, InferenceModel, Steps, Translator, translate};
use tutti::model::{Backend, Bundle, Dtype, Lengths, Network, NormPlace, Padded, Positions, Refresh};
use tutti::nn::Mode;
use tutti::nn::ops;
use tutti::train::import::fairseq::{Import, import};

/// Input and output of the reference, in fairseq's ids.
#[derive(Deserialize)]
struct Case {
    text: String,
    source: Vec<u32>,
    canvas: Vec<u32>,
    /// For each position of the canvas.
    logits: Vec<Vec<f32>>,
    /// Log-probabilities.
    lengths: Vec<f32>,
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fairseq").join(name)
}

fn cases(name: &str) -> Vec<Case> {
    let text = fs::read_to_string(data("recorded.json")).unwrap();
    let mut recorded: std::collections::HashMap<String, Vec<Case>> = serde_json::from_str(&text).unwrap();
    recorded.remove(name).unwrap()
}

fn job(checkpoint: PathBuf, folder: &Path) -> Import {
    Import {
        checkpoint,
        dict: data("dict.txt"),
        codes: data("codes"),
        output: folder.join("bundle"),
        source_lang: None,
        target_lang: None,
    }
}

fn imported(name: &str) -> (tempfile::TempDir, Bundle) {
    let folder = tempfile::tempdir().unwrap();
    let job = job(data(&format!("{name}.pt")), folder.path());
    import(&job).unwrap();
    let bundle = Bundle::open(&job.output).unwrap();
    (folder, bundle)
}

/// fairseq has `<s> <pad> </s> <unk>` and then the dictionary; tutti has pad, bos, eos, unk, mask and then the
/// dictionary.
fn ours(fairseq: u32) -> u32 {
    match fairseq {
        0 => 1,
        1 => 0,
        2 | 3 => fairseq,
        word => word + 1,
    }
}

fn row(ids: &[u32]) -> Padded {
    Padded::new([ids].into_iter(), 0, &candle_core::Device::Cpu).unwrap()
}

fn assert_near(got: f32, want: f32, tolerance: f32, what: &str) {
    assert!((got - want).abs() < tolerance, "{what}: {got}, not {want}");
}

fn predicts_what_was_recorded(name: &str, tolerance: f32) {
    let (_folder, bundle) = imported(name);
    let network: Network = bundle.network(&Backend::cpu()).unwrap();
    let mode = Mode::inference();
    for case in cases(name) {
        let source = bundle.tokenizer.encode(&case.text).unwrap();
        // An intermediate piece has its own id, but fairseq does not know it.
        let dict = ours(case.logits[0].len() as u32);
        let known: Vec<u32> = source.iter().map(|&id| if id >= dict { 3 } else { id }).collect();
        assert_eq!(known, case.source.iter().map(|&id| ours(id)).collect::<Vec<_>>(), "{}", case.text);

        let source = row(&source);
        let states = network.encode(&source, &mode).unwrap();
        let lengths = network.length_logits(&states, &source.lengths, &mode).unwrap().unwrap();
        for (got, want) in ops::log_softmax(&lengths).unwrap()[0].iter().zip(&case.lengths) {
            assert_near(*got, *want, tolerance, "length");
        }
        // On a canvas, fairseq's unknown token is the mask.
        let canvas = case.canvas.iter().map(|&id| if id == 3 { 4 } else { ours(id) }).collect::<Vec<_>>();
        let memory = network.memory(&states, &source.lengths, &mode).unwrap();
        let decoded = network.decode(&row(&canvas), &memory, &mode).unwrap().get(0).unwrap();
        let logits: Vec<Vec<f32>> = network.logits(&decoded, &mode).unwrap().to_vec2().unwrap();
        for (got, want) in logits.iter().zip(&case.logits) {
            for (fairseq, want) in (0u32..).zip(want) {
                let what = format!("{name}, {}, logit of {fairseq}", case.text);
                assert_near(got[ours(fairseq) as usize], *want, tolerance, &what);
            }
        }
    }
}

#[test]
fn an_imported_cmlm_predicts_the_same_as_in_fairseq() {
    predicts_what_was_recorded("cmlm", 1e-4);
    let shape = imported("cmlm").1.config.shape;
    assert_eq!((shape.norm, shape.positions), (NormPlace::Post, Positions::Scaled));
    assert_eq!((shape.lengths, shape.refresh), (Lengths::Offset, Refresh::Masked));
}

#[test]
fn an_imported_cmlmc_predicts_the_same_as_in_its_fork() {
    predicts_what_was_recorded("cmlmc", 1e-4);
    let shape = imported("cmlmc").1.config.shape;
    assert_eq!((shape.positions, shape.refresh), (Positions::Concat, Refresh::All));
    assert_eq!(shape.lengths, Lengths::Absolute);
}

/// Its sines and cosines are not representable in f16.
#[test]
fn an_imported_dims_student_predicts_the_same_up_to_rounding() {
    predicts_what_was_recorded("dims", 5e-3);
    let config = imported("dims").1.config;
    assert_eq!((config.default_steps, config.shape.norm), (1, NormPlace::Pre));
    assert_eq!((config.source.as_str(), config.target.as_str()), ("en", "de"));
}

#[test]
fn an_imported_bundle_gives_the_same_translation_in_any_batch() {
    for name in ["cmlm", "cmlmc", "dims"] {
        let (_folder, bundle) = imported(name);
        let sources: Vec<Vec<u32>> =
            cases(name).iter().map(|case| bundle.tokenizer.encode(&case.text).unwrap()).collect();
        for dtype in [Dtype::F32, Dtype::Q8] {
            let network = InferenceModel::open(&bundle, &Backend::cpu().with_dtype(dtype)).unwrap();
            assert_eq!(network.refresh(), bundle.config.shape.refresh);
            let options = DecodeOptions::new(Steps::new(3).unwrap());
            let together = translate(&network, &sources, &options).unwrap();
            for (source, found) in sources.iter().zip(&together) {
                let alone = translate(&network, std::slice::from_ref(source), &options).unwrap();
                assert_eq!(&alone[0], found, "{name} {dtype:?}");
                // Only tokens of the dictionary are predicted.
                let dict = 5 + fs::read_to_string(data("dict.txt")).unwrap().lines().count() as u32;
                assert!(found[0].tokens.iter().all(|&token| (5..dict).contains(&token)));
                bundle.tokenizer.decode(&found[0].tokens).unwrap();
            }
        }
    }
}

#[test]
fn what_cannot_be_taken_over_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |job: &Import| {
        let error = import(job).unwrap_err().to_string();
        assert!(!job.output.exists());
        error
    };
    let dict = folder.path().join("dict.txt");
    fs::write(&dict, "the 9\nlow 5\n").unwrap();
    let error = refused(&Import { dict, ..job(data("cmlm.pt"), folder.path()) });
    assert!(error.contains("cmlm.pt") && error.contains("the dict has 2 tokens"), "{error}");

    // Names in a pickle are plain text with a length, so another name of the same length gives another network.
    let changed = |name: &str, from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let path = folder.path().join("changed.pt");
        fs::write(&path, with_pickle_changed(&fs::read(data(name)).unwrap(), from, to)).unwrap();
        refused(&job(path, folder.path()))
    };
    let error = changed("dims.pt", "cmlm_distill", "cmlm_unknown");
    assert!(error.contains("architecture \"cmlm_unknown\" is not supported"), "{error}");
    let error = changed("cmlm.pt", "decoder.layers.1.fc1.bias", "decoder.layers.1.fc9.bias");
    assert!(error.contains("decoder.layers.1.fc1.bias") && error.contains("missing"), "{error}");
    let error = changed("cmlm.pt", "encoder.version", "encoder.vexsion");
    assert!(error.contains("\"encoder.vexsion\" is not part of a supported CMLM"), "{error}");
    let error = changed("cmlm.pt", "encoder_attention_heads", "encoder_attention_haeds");
    assert!(error.contains("do not contain encoder_attention_heads"), "{error}");

    let path = folder.path().join("no.pt");
    fs::write(&path, b"no checkpoint").unwrap();
    let error = refused(&job(path, folder.path()));
    assert!(error.contains("no.pt") && error.contains("PyTorch"), "{error}");
    let whole = fs::read(data("cmlm.pt")).unwrap();
    let path = folder.path().join("cut.pt");
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(refused(&job(path, folder.path())).contains("cut.pt"));
}

/// A checkpoint in which `from` is replaced everywhere. Its files are stored uncompressed, and their checksums are
/// corrected.
fn with_pickle_changed(checkpoint: &[u8], from: &str, to: &str) -> Vec<u8> {
    use std::io::{Cursor, Read, Write};
    let mut old = zip::ZipArchive::new(Cursor::new(checkpoint)).unwrap();
    let mut new = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let mut found = false;
    for index in 0..old.len() {
        let mut file = old.by_index(index).unwrap();
        let name = file.name().unwrap().into_owned();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        while let Some(at) = bytes.windows(from.len()).position(|window| window == from.as_bytes()) {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            found = true;
        }
        let options =
            zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        new.start_file(name, options).unwrap();
        new.write_all(&bytes).unwrap();
    }
    assert!(found, "{from} is not in the checkpoint");
    new.finish().unwrap().into_inner()
}
