//! Compares with the results of transformers on the same folder (tests/data/marian/make.py).

use serde::Deserialize;

use super::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/marian")
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Recorded {
    Case(Case),
    Decoded { ids: Vec<u32>, text: String },
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    prefix: Vec<u32>,
    logits: Vec<f32>,
    greedy: Found,
    beam: Found,
}

#[derive(Deserialize)]
struct Found {
    tokens: Vec<u32>,
    finished: bool,
}

fn recorded() -> Vec<Recorded> {
    serde_json::from_slice(&std::fs::read(folder().join("recorded.json")).unwrap()).unwrap()
}

fn cases() -> Vec<Case> {
    let case = |recorded| if let Recorded::Case(case) = recorded { Some(case) } else { None };
    recorded().into_iter().filter_map(case).collect()
}

#[test]
fn ids_and_text_equal_those_of_transformers() {
    let marian = Marian::open(&folder()).unwrap();
    for recorded in recorded() {
        match recorded {
            Recorded::Case(case) => assert_eq!(marian.encode(&case.text).unwrap(), case.ids, "{}", case.text),
            Recorded::Decoded { ids, text } => assert_eq!(marian.decode(&ids), text),
        }
    }
    assert_eq!(marian.encode(" \u{3000} ").unwrap(), [0], "an empty text has only eos");
}

#[test]
fn scores_are_those_of_transformers() {
    let marian = Marian::open(&folder()).unwrap();
    for case in cases() {
        let mut model = marian.model.clone();
        let memory = encoded(&mut model, &case.ids).unwrap();
        // Three rows, to see that they are independent; twice, to see that no state remains.
        let prefixes = [[6, 7, 8], [case.prefix[1], case.prefix[2], case.prefix[3]], [9, 9, 9]];
        let prefixes: Vec<&[u32]> = prefixes.iter().map(|p| p.as_slice()).collect();
        for _ in 0..2 {
            let logits = &marian.logits(&mut model, &memory, &prefixes).unwrap()[1];
            for (a, b) in logits.iter().zip(&case.logits) {
                assert!((a - b).abs() < 1e-4, "{}: {a} {b}", case.text);
            }
            assert_eq!(logits.len(), case.logits.len());
        }
    }
}

#[test]
fn translations_are_those_of_transformers_in_any_batch() {
    let marian = Marian::open(&folder()).unwrap();
    let sources: Vec<Vec<u32>> = cases().into_iter().map(|case| case.ids).collect();
    for beam in [1, 4] {
        let found = marian.search(&sources, &SearchOptions::new(beam)).unwrap();
        for ((found, case), source) in found.iter().zip(cases()).zip(&sources) {
            let expected = if beam == 1 { case.greedy } else { case.beam };
            assert_eq!(found.hypothesis.tokens, expected.tokens, "{} with a beam of {beam}", case.text);
            assert_eq!(found.finished, expected.finished);
            assert_eq!(
                &marian.search(std::slice::from_ref(source), &SearchOptions::new(beam)).unwrap()[0],
                found
            );
        }
    }
    let empty = marian.search(&[vec![0]], &SearchOptions::new(2)).unwrap();
    assert!(empty[0].finished && empty[0].hypothesis.tokens.is_empty());
    let long = marian.search(&[vec![5; 41]], &SearchOptions::new(2)).unwrap_err().to_string();
    assert!(long.contains("41") && long.contains("40"), "{long}");
}

#[test]
fn neither_padding_nor_unknown_words_are_ever_generated() {
    let marian = Marian::open(&folder()).unwrap();
    let (pad, unknown) = (marian.config.pad_token_id as usize, marian.unknown as usize);
    let mut logits = vec![0.0; marian.config.vocab_size];
    (logits[pad], logits[unknown], logits[7], logits[5]) = (9.0, 8.0, 2.0, 1.0);
    let found = |count| marian.top(&logits, count).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(found(3), [7, 5, 0], "ties to the lower id");
    let all = found(logits.len());
    assert_eq!(all.len(), logits.len() - 2);
    assert!(!all.contains(&(pad as u32)) && !all.contains(&(unknown as u32)));
}

/// A copy of the folder.
fn copy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "source.spm", "vocab.json"] {
        std::fs::copy(folder().join(name), dir.path().join(name)).unwrap();
    }
    dir
}

fn refused(dir: &Path) -> String {
    Marian::open(dir).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn pickled_weights_are_read_if_there_are_no_others() {
    assert!(weights(&folder()).ends_with("model.safetensors") && folder().join("pytorch_model.bin").exists());
    let dir = copy();
    std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    std::fs::copy(folder().join("pytorch_model.bin"), dir.path().join("pytorch_model.bin")).unwrap();
    let plain = copy();
    let (pickled, plain) = (Marian::open(dir.path()).unwrap(), Marian::open(plain.path()).unwrap());
    let sources = vec![cases()[0].ids.clone()];
    let options = SearchOptions::new(2);
    assert_eq!(pickled.search(&sources, &options).unwrap(), plain.search(&sources, &options).unwrap());
    let path = dir.path().join("pytorch_model.bin");
    let bytes = std::fs::read(&path).unwrap();
    for end in [0, 10, bytes.len() / 2] {
        std::fs::write(&path, &bytes[..end]).unwrap();
        assert!(refused(dir.path()).contains("pytorch_model.bin"));
    }
}

#[test]
fn a_missing_file_is_named_with_the_expected_files() {
    for name in ["config.json", "model.safetensors", "source.spm", "vocab.json"] {
        let dir = copy();
        std::fs::remove_file(dir.path().join(name)).unwrap();
        let error = refused(dir.path());
        assert!(
            error.contains(name) && error.contains("is missing") && error.contains("Hugging Face"),
            "{error}"
        );
    }
}

#[test]
fn another_file_is_refused_by_name() {
    let change = |name: &str, from: &str, to: &str| {
        let dir = copy();
        let path = dir.path().join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let error = refused(dir.path());
        assert!(error.contains(name) || name == "config.json", "{error}");
        error
    };
    assert!(change("config.json", "\"marian\"", "\"t5\"").contains("type \"t5\""));
    assert!(change("config.json", "\"d_model\": 16", "\"d_model\": 17").contains("even"));
    assert!(
        change("config.json", "\"encoder_attention_heads\": 2", "\"encoder_attention_heads\": 0")
            .contains("heads")
    );
    assert!(
        change("config.json", "\"encoder_ffn_dim\": 24", "\"encoder_ffn_dim\": 25")
            .contains("model.safetensors")
    );
    assert!(change("config.json", "\"eos_token_id\": 0", "\"eos_token_id\": 9999").contains("outside"));
    assert!(change("vocab.json", "\"<unk>\": 1", "\"<unk>\": 4096").contains("4096"));
    assert!(change("vocab.json", "\"<unk>\"", "\"<other>\"").contains("<unk>"));
    assert!(change("vocab.json", "\"<pad>\": 62", "\"<pad>\": 61").contains("<pad> as 61"));
    assert!(change("vocab.json", "\"<pad>\"", "\"<other>\"").contains("no token <pad>"));
    assert!(change("vocab.json", "\"</s>\": 0", "\"</s>\": 2").contains("</s> as 2"));
    for (name, expected) in
        [("source.spm", "not a SentencePiece model"), ("model.safetensors", "model.safetensors")]
    {
        let dir = copy();
        let bytes = std::fs::read(dir.path().join(name)).unwrap();
        std::fs::write(dir.path().join(name), &bytes[..bytes.len() / 2]).unwrap();
        assert!(refused(dir.path()).contains(expected), "{name}: {}", refused(dir.path()));
    }
}
