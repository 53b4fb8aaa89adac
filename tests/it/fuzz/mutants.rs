//! Damaged files in numbers: TEST_MUTANTS of each kind (40, by default).

use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tutti::decode::{DecodeOptions, InferenceModel, Steps, translate_passages};
use tutti::model::{Backend, Bundle, Dtype};
use tutti::train::import::fairseq::{Import, import};

use super::edits::{edited, random_edits};
use crate::bundle::sealed::{SEALED, sealed};

fn count() -> usize {
    std::env::var("TEST_MUTANTS").map_or(40, |count| count.parse().expect("a number"))
}

/// What a bundle makes of a few sentences, if it opens.
pub fn translations(folder: &Path) -> tutti::Result<Vec<String>> {
    let bundle = Bundle::open(folder)?;
    let network = InferenceModel::open(&bundle, &Backend::cpu().with_dtype(Dtype::Q8))?;
    tutti::known::check(&network, &bundle)?;
    let reader = bundle.reader();
    let mut passages = ["Where is the train station?", "She has never been there.", "It is nice."]
        .map(|text| reader.read(text));
    let steps = Steps::new(bundle.config.default_steps).expect("a bundle that opens has steps");
    translate_passages(&network, &mut passages, &DecodeOptions::new(steps))?;
    Ok(passages.iter().map(|passage| passage.text()).collect())
}

#[test]
fn no_damaged_bundle_is_accepted_that_changes_an_answer() {
    let root = sealed();
    let folder = root.path().join("en-de");
    let originals = SEALED.map(|name| std::fs::read(folder.join(name)).unwrap());
    let expected = translations(&folder).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(25);
    let (mut refused, mut accepted) = (0, 0);
    while refused + accepted < count() {
        let index = random.random_range(0..SEALED.len());
        let damaged = edited(&originals[index], &random_edits(&mut random));
        if damaged == originals[index] {
            continue;
        }
        let path = folder.join(SEALED[index]);
        std::fs::write(&path, damaged).unwrap();
        match translations(&folder) {
            Ok(answer) => {
                accepted += 1;
                assert_eq!(
                    answer, expected,
                    "a damaged {} is accepted and answers differently",
                    SEALED[index]
                );
            }
            Err(_) => refused += 1,
        }
        std::fs::write(&path, &originals[index]).unwrap();
    }
    println!(
        "{refused} of {} damaged bundles refused, {accepted} accepted with the same answers",
        refused + accepted
    );
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fairseq").join(name)
}

const PICKLE: &str = "data.pkl";

/// The whole checkpoint, and the pickle in it.
pub fn checkpoint_and_pickle() -> (Vec<u8>, Vec<u8>) {
    let checkpoint = std::fs::read(data("cmlm.pt")).unwrap();
    let mut archive = zip::ZipArchive::new(Cursor::new(checkpoint.clone())).unwrap();
    let names = archive.file_names().filter_map(Result::ok).map(|name| name.into_owned());
    let name = names.into_iter().find(|name| name.ends_with(PICKLE)).unwrap();
    let mut pickle = Vec::new();
    archive.by_name(&name).unwrap().read_to_end(&mut pickle).unwrap();
    (checkpoint, pickle)
}

/// The checkpoint with another pickle in it; its sums are right.
fn with_pickle(checkpoint: &[u8], pickle: &[u8]) -> Vec<u8> {
    let mut old = zip::ZipArchive::new(Cursor::new(checkpoint)).unwrap();
    let mut new = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..old.len() {
        let mut file = old.by_index(index).unwrap();
        let name = file.name().unwrap().into_owned();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        let stored =
            zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        new.start_file(&name, stored).unwrap();
        new.write_all(if name.ends_with(PICKLE) { pickle } else { &bytes }).unwrap();
    }
    new.finish().unwrap().into_inner()
}

/// # Errors
/// What the import says.
pub fn import_changed(checkpoint: &[u8], pickle: &[u8], folder: &Path) -> tutti::Result<()> {
    let path = folder.join("changed.pt");
    std::fs::write(&path, with_pickle(checkpoint, pickle)).unwrap();
    import(&Import {
        checkpoint: path,
        dict: data("dict.txt"),
        codes: data("codes"),
        output: folder.join("bundle"),
        source_lang: None,
        target_lang: None,
    })
}

/// Bytes of address space that an import may have.
const LIMIT_KIB: usize = 1 << 20;

#[test]
fn a_damaged_pickle_takes_no_memory_and_breaks_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (checkpoint, pickle) = checkpoint_and_pickle();
    let run = |pickle: &[u8]| {
        let path = folder.path().join("changed.pt");
        std::fs::write(&path, with_pickle(&checkpoint, pickle)).unwrap();
        let command = format!("ulimit -v {LIMIT_KIB}; exec \"$0\" \"$@\"");
        Command::new("sh")
            .args(["-c", &command, env!("CARGO_BIN_EXE_train"), "import", "fairseq", "--checkpoint"])
            .arg(&path)
            .arg("--dict")
            .arg(data("dict.txt"))
            .arg("--codes")
            .arg(data("codes"))
            .arg("--output")
            .arg(folder.path().join("bundle"))
            .env("RAYON_NUM_THREADS", "1")
            .output()
            .unwrap()
    };
    let whole = run(&pickle);
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    let mut random = ChaCha8Rng::seed_from_u64(26);
    let (mut refused, mut accepted) = (0, 0);
    for _ in 0..count() {
        let damaged = edited(&pickle, &random_edits(&mut random));
        let output = run(&damaged);
        // Neither a panic (101) nor a signal, which is what a failed allocation ends with.
        match output.status.code() {
            Some(0) => accepted += 1,
            Some(1) => refused += 1,
            _ => panic!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)),
        }
    }
    println!(
        "{refused} of {} damaged pickles refused, {accepted} accepted; none took 1 GiB",
        refused + accepted
    );
}
