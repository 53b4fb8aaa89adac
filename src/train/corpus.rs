//! Parallel text from files to token ids: line n of the source pairs with line n of the target.
//!
//! A file is plain UTF-8 or gzip, told apart by its first bytes. A line that cannot be used is an error
//! that names file and line, or is skipped and counted, as the configuration says; a pair of files of
//! unequal length is always an error, since nobody can tell which lines still belong together.
//! Files are read with any function from words to ids; only the two ways to read a configuration's
//! whole text know of a tokenizer.

use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::batches::Lengths as PairLengths;
use super::config::Data;
use super::ctc::slots_needed;
use crate::model::Lengths;
use crate::text::Tokenizer;
use crate::{Error, Result};

/// Two sentences that translate each other, each `bos x1..xn eos`, n ≥ 1. The target is empty where only
/// source text was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub source: Vec<u32>,
    pub target: Vec<u32>,
}

/// What becomes of a line that is empty, not UTF-8, or too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadLine {
    #[default]
    Error,
    /// Leave the pair out and count it.
    Skip,
}

/// Pairs that were left out, by the reason met first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    pub empty: usize,
    pub invalid_utf8: usize,
    pub too_long: usize,
    /// Of an Imputer: targets that have no place in the slots of their sources.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unaligned: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Skipped {
    pub fn total(&self) -> usize {
        self.empty + self.invalid_utf8 + self.too_long + self.unaligned
    }
}

#[derive(Clone, Debug, Default)]
pub struct Corpus {
    pub pairs: Vec<Pair>,
    pub skipped: Skipped,
}

/// Why a line cannot be used.
enum Bad {
    Empty,
    InvalidUtf8,
    /// Its length in tokens.
    TooLong(usize),
    Encoding(Error),
}

impl Corpus {
    /// Reads and encodes a pair of files, in parallel. `encode` gives `bos x1..xn eos`; a sentence of
    /// more than `max_tokens` ids, `bos` and `eos` counted, is a bad line.
    ///
    /// Errors: a file that cannot be read, unequal numbers of lines, a bad line under
    /// [`OnBadLine::Error`] (the first one), and whatever `encode` answers.
    pub fn read(
        source: &Path,
        target: &Path,
        max_tokens: usize,
        on_bad_line: OnBadLine,
        encode: impl Fn(&str) -> Result<Vec<u32>> + Sync,
    ) -> Result<Self> {
        let (source_text, target_text) = (read_bytes(source)?, read_bytes(target)?);
        let (source_lines, target_lines) = (split_lines(&source_text), split_lines(&target_text));
        require_equal_counts((source, source_lines.len()), (target, target_lines.len()))?;

        let encode_line = |line: &[u8]| encode_line(line, max_tokens, &encode);
        let encoded: Vec<Result<Pair, (&Path, Bad)>> = source_lines
            .par_iter()
            .zip(&target_lines)
            .map(|(s, t)| {
                let source = encode_line(s).map_err(|bad| (source, bad))?;
                let target = encode_line(t).map_err(|bad| (target, bad))?;
                Ok(Pair { source, target })
            })
            .collect();

        let mut corpus = Self { pairs: Vec::with_capacity(encoded.len()), skipped: Skipped::default() };
        for (index, result) in encoded.into_iter().enumerate() {
            match result {
                Ok(pair) => corpus.pairs.push(pair),
                Err((path, bad)) => corpus.meet(bad, on_bad_line, path, index + 1, max_tokens)?,
            }
        }
        Ok(corpus)
    }

    /// All training text of a configuration, encoded; a sentence of more than `max_tokens` is a bad line.
    pub fn read_all(data: &Data, max_tokens: usize, tokenizer: &Tokenizer) -> Result<Self> {
        let mut corpus = Self::default();
        for (source, target) in data.train_files() {
            let encode = |text: &str| tokenizer.encode(text);
            corpus.extend(Self::read(&source, &target, max_tokens, data.on_bad_line, encode)?);
        }
        Ok(corpus)
    }

    /// The source side alone, for a stage whose teacher writes the targets: they are empty.
    pub fn read_sources(data: &Data, max_tokens: usize, tokenizer: &Tokenizer) -> Result<Self> {
        let mut corpus = Self::default();
        for path in data.source.iter().map(|path| data.root.join(path)) {
            let text = read_bytes(&path)?;
            let encode = |line: &&[u8]| encode_line(line, max_tokens, &|text: &str| tokenizer.encode(text));
            let encoded: Vec<Result<Vec<u32>, Bad>> = split_lines(&text).par_iter().map(encode).collect();
            for (index, result) in encoded.into_iter().enumerate() {
                match result {
                    Ok(source) => corpus.pairs.push(Pair { source, target: Vec::new() }),
                    Err(bad) => corpus.meet(bad, data.on_bad_line, &path, index + 1, max_tokens)?,
                }
            }
        }
        Ok(corpus)
    }

    /// Appends another corpus.
    pub fn extend(&mut self, other: Self) {
        self.pairs.extend(other.pairs);
        self.skipped.empty += other.skipped.empty;
        self.skipped.invalid_utf8 += other.skipped.invalid_utf8;
        self.skipped.too_long += other.skipped.too_long;
        self.skipped.unaligned += other.skipped.unaligned;
    }

    /// Leaves out, and counts, the pairs whose target has more to say than the slots of its source can hold.
    pub fn align(&mut self) {
        let before = self.pairs.len();
        self.pairs.retain(|pair| {
            let inner = pair.target.get(1..pair.target.len().saturating_sub(1)).unwrap_or_default();
            slots_needed(inner) <= Lengths::SLOTS_PER_TOKEN * pair.source.len()
        });
        self.skipped.unaligned += before - self.pairs.len();
    }

    /// The length of each pair, as batches are planned by.
    pub fn lengths(&self) -> Vec<PairLengths> {
        self.pairs.iter().map(|p| PairLengths { source: p.source.len(), target: p.target.len() }).collect()
    }

    fn meet(&mut self, bad: Bad, policy: OnBadLine, path: &Path, line: usize, max: usize) -> Result<()> {
        let (counter, reason) = match bad {
            Bad::Encoding(error) => return Err(error),
            Bad::Empty => (&mut self.skipped.empty, "the line is empty".to_owned()),
            Bad::InvalidUtf8 => (&mut self.skipped.invalid_utf8, "the line is not valid UTF-8".to_owned()),
            Bad::TooLong(size) => (
                &mut self.skipped.too_long,
                format!("the sentence has {size} tokens, more than max_tokens_per_sentence ({max})"),
            ),
        };
        *counter += 1;
        match policy {
            OnBadLine::Error => Err(Error::Data { path: path.to_path_buf(), line, reason }),
            OnBadLine::Skip => Ok(()),
        }
    }
}

fn encode_line(
    line: &[u8],
    max_tokens: usize,
    encode: &impl Fn(&str) -> Result<Vec<u32>>,
) -> Result<Vec<u32>, Bad> {
    let text = std::str::from_utf8(line).map_err(|_| Bad::InvalidUtf8)?.trim();
    if text.is_empty() {
        return Err(Bad::Empty);
    }
    let tokens = encode(text).map_err(Bad::Encoding)?;
    match tokens.len() {
        0..3 => Err(Bad::Empty), // bos and eos, and nothing that the tokenizer sees between them
        size if size > max_tokens => Err(Bad::TooLong(size)),
        _ => Ok(tokens),
    }
}

/// The files of a pair with their numbers of lines: which of them ends too early, if one does.
pub fn require_equal_counts(a: (&Path, usize), b: (&Path, usize)) -> Result<()> {
    let (short, long) = if a.1 < b.1 { (a, b) } else { (b, a) };
    if short.1 == long.1 {
        return Ok(());
    }
    Err(Error::Data {
        path: short.0.to_path_buf(),
        line: short.1 + 1,
        reason: format!("the file ends after {} lines, but {} has {}", short.1, long.0.display(), long.1),
    })
}

/// The source sentences of a configuration that can be used, as text, in their order; a sentence of more
/// than `max_tokens` is a bad line.
pub fn read_source_texts(
    data: &Data,
    max_tokens: usize,
    encode: impl Fn(&str) -> Result<Vec<u32>> + Sync,
) -> Result<(Vec<String>, Skipped)> {
    let (mut texts, mut corpus) = (Vec::new(), Corpus::default());
    for path in data.source.iter().map(|path| data.root.join(path)) {
        let bytes = read_bytes(&path)?;
        let usable = |line: &&[u8]| {
            encode_line(line, max_tokens, &encode)?;
            let text = std::str::from_utf8(line).map_err(|_| Bad::InvalidUtf8)?;
            Ok(text.trim().to_owned())
        };
        let lines: Vec<Result<String, Bad>> = split_lines(&bytes).par_iter().map(usable).collect();
        for (index, line) in lines.into_iter().enumerate() {
            match line {
                Ok(text) => texts.push(text),
                Err(bad) => corpus.meet(bad, data.on_bad_line, &path, index + 1, max_tokens)?,
            }
        }
    }
    Ok((texts, corpus.skipped))
}

/// The lines of a file, plain or gzip, as they stand: for references, and for training a tokenizer.
///
/// Errors: a file that cannot be read, a line that is not UTF-8.
pub fn read_lines(path: &Path) -> Result<Vec<String>> {
    let bytes = read_bytes(path)?;
    let owned = |(index, line): (usize, &[u8])| {
        std::str::from_utf8(line).map(str::to_owned).map_err(|_| Error::Data {
            path: path.to_path_buf(),
            line: index + 1,
            reason: "the line is not valid UTF-8".into(),
        })
    };
    split_lines(&bytes).into_iter().enumerate().map(owned).collect()
}

/// As [`read_lines`]; a line that is not UTF-8 is left out where bad lines are skipped.
pub fn read_usable_lines(path: &Path, on_bad_line: OnBadLine) -> Result<Vec<String>> {
    match on_bad_line {
        OnBadLine::Error => read_lines(path),
        OnBadLine::Skip => {
            let text = |line: &[u8]| std::str::from_utf8(line).ok().map(str::to_owned);
            Ok(split_lines(&read_bytes(path)?).into_iter().filter_map(text).collect())
        }
    }
}

/// The whole of a file, unpacked if it begins as gzip does.
fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut unpacked).map_err(Error::io(path))?;
    Ok(unpacked)
}

/// Lines without their ends (`\n` or `\r\n`); the last one may lack its end.
fn split_lines(bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = bytes.split(|&b| b == b'\n').collect();
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    lines.iter_mut().for_each(|line| *line = line.strip_suffix(b"\r").unwrap_or(line));
    lines
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::PathBuf;

    use super::*;

    /// One id a word, its number of bytes; so the tests can see which words came through.
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
            Corpus::read(&self.source(), &self.target(), 6, on_bad_line, encode)
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
        assert_eq!(corpus.lengths()[0], PairLengths { source: 4, target: 3 });
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
        assert_eq!(corpus.skipped, Skipped { empty: 1, invalid_utf8: 1, too_long: 1, unaligned: 0 });
        let sources: Vec<u32> = corpus.pairs.iter().map(|p| p.source[1]).collect();
        let targets: Vec<u32> = corpus.pairs.iter().map(|p| p.target[1]).collect();
        assert_eq!(sources, [101, 104]);
        assert_eq!(sources, targets);
    }

    #[test]
    fn what_does_not_fit_into_the_slots_is_left_out_and_counted() {
        // A source of one word has six slots.
        let pair = |words: &[u32]| Pair { source: vec![1, 9, 2], target: [&[1], words, &[2]].concat() };
        let fits = [pair(&[7, 8, 7, 8, 7, 8]), pair(&[7, 7, 7]), pair(&[7])];
        let pairs = [&fits[..], &[pair(&[7, 8, 9, 7, 8, 8]), pair(&[7, 7, 7, 7])]].concat();
        let mut corpus = Corpus { pairs, skipped: Skipped::default() };
        corpus.align();
        assert_eq!(corpus.pairs, fits);
        assert_eq!((corpus.skipped.unaligned, corpus.skipped.total()), (2, 2));
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
        let read = Corpus::read(&files.source(), &files.target(), 6, OnBadLine::Skip, fails);
        assert!(read.unwrap_err().to_string().contains("broken"));
    }
}
