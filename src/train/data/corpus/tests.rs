use std::io::Write;
use std::path::PathBuf;

use super::*;

/// One id for each word, its number of bytes, so that tests can recognize words.
fn encode(text: &str) -> Result<Vec<u32>> {
    let words = text.split_whitespace().map(|word| 100 + word.len() as u32);
    Ok([1].into_iter().chain(words).chain([2]).collect())
}

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new(source: &[u8], target: &[u8]) -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::write(files.source(), source).unwrap();
        std::fs::write(files.target(), target).unwrap();
        files
    }

    fn source(&self) -> PathBuf {
        self.dir.path().join("text.en")
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("text.de")
    }

    fn read(&self, on_bad_line: OnBadLine) -> Result<Corpus> {
        Corpus::read(&self.source(), &self.target(), LengthLimit::tokens(6), on_bad_line, encode)
    }

    fn error(&self) -> String {
        self.read(OnBadLine::Error).unwrap_err().to_string()
    }
}

#[test]
fn lines_pair_up_in_order() {
    let corpus = Files::new(b"a bb\nccc\r\n", b"dddd\nee f").read(OnBadLine::Error).unwrap();
    assert_eq!(
        corpus.pairs,
        [
            Pair { source: vec![1, 101, 102, 2], target: vec![1, 104, 2] },
            Pair { source: vec![1, 103, 2], target: vec![1, 102, 101, 2] },
        ]
    );
    assert_eq!(corpus.lengths()[0], batches::PairLengths { source: 4, target: 3 });
    assert_eq!(corpus.skipped.total(), 0);
}

#[test]
fn gzip_reads_like_plain_text_whatever_the_name() {
    let files = Files::new(b"", "grün\nrot\n".as_bytes());
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(b"green\nred\n").unwrap();
    std::fs::write(files.source(), packed.finish().unwrap()).unwrap();
    assert_eq!(files.read(OnBadLine::Error).unwrap().pairs.len(), 2);
    assert_eq!(read_lines(&files.source()).unwrap(), ["green", "red"]);
}

#[test]
fn a_cut_gzip_file_is_an_error_that_names_it() {
    let files = Files::new(&[0x1f, 0x8b, 8, 0, 0], b"a\n");
    assert!(files.error().contains("text.en"));
}

#[test]
fn unequal_lengths_are_an_error_even_when_bad_lines_are_skipped() {
    let error = Files::new(b"a\nb\nc\n", b"a\nb\n").read(OnBadLine::Skip).unwrap_err().to_string();
    assert!(error.contains("text.de:3:") && error.contains("2 lines"), "{error}");
    assert!(error.contains("text.en has 3"), "{error}");
}

#[test]
fn a_bad_line_is_named_by_file_and_line() {
    let empty = Files::new(b"a\n \n", b"a\nb\n").error();
    assert!(empty.contains("text.en:2:") && empty.contains("empty"), "{empty}");
    let invalid = Files::new(b"a\nb\n", b"\xff\nb\n").error();
    assert!(invalid.contains("text.de:1:") && invalid.contains("UTF-8"), "{invalid}");
    let long = Files::new(b"a b c d\n", b"a b c d e\n").error();
    assert!(long.contains("text.de:1:") && long.contains("7 tokens"), "{long}");
}

#[test]
fn skipping_counts_each_reason_and_keeps_the_rest_aligned() {
    let files = Files::new(b"a\n\nccc\ndddd\n\xff\n", b"a\nb\na b c d e f\ndddd\ne\n");
    let corpus = files.read(OnBadLine::Skip).unwrap();
    assert_eq!(corpus.skipped, Skipped { empty: 1, invalid_utf8: 1, too_long: 1, unaligned: 0, surplus: 0 });
    let sources: Vec<u32> = corpus.pairs.iter().map(|p| p.source[1]).collect();
    let targets: Vec<u32> = corpus.pairs.iter().map(|p| p.target[1]).collect();
    assert_eq!(sources, [101, 104]);
    assert_eq!(sources, targets);
}

#[test]
fn a_target_that_does_not_fit_the_slots_of_its_source_is_a_bad_line() {
    // A source of one word has six slots; repeats need a blank between them.
    let files = Files::new(b"a\na\na\na\n", b"a bb a bb a bb\na a a\na a a a\na bb a bb a a\n");
    let read = |in_slots, policy| {
        Corpus::read(&files.source(), &files.target(), LengthLimit { tokens: 9, in_slots }, policy, encode)
    };
    assert_eq!(read(false, OnBadLine::Error).unwrap().pairs.len(), 4);
    let corpus = read(true, OnBadLine::Skip).unwrap();
    assert_eq!((corpus.pairs.len(), corpus.skipped.unaligned, corpus.skipped.total()), (2, 2, 2));
    let error = read(true, OnBadLine::Error).unwrap_err().to_string();
    assert!(error.contains("text.de:3:") && error.contains("7 slots") && error.contains('6'), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    let files = Files::new(b"a\n", b"a\n");
    std::fs::remove_file(files.target()).unwrap();
    assert!(files.error().contains("text.de"));
}

#[test]
fn an_error_of_the_tokenizer_is_not_skipped() {
    let files = Files::new(b"a\n", b"b\n");
    let fails = |_: &str| Err(Error::Tokenizer("broken".into()));
    let read = Corpus::read(&files.source(), &files.target(), LengthLimit::tokens(6), OnBadLine::Skip, fails);
    assert!(read.unwrap_err().to_string().contains("broken"));
}
