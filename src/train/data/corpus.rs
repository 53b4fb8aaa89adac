//! Reads parallel text into token ids. Line n of the source file pairs with line n of the target file.
//!
//! A file is plain UTF-8 or gzip, recognized by its first bytes. An unusable line is either an error that names file
//! and line, or is skipped and counted, as configured. Files of unequal length are always an error, because it is
//! unknown which lines belong together.

use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use rayon::prelude::*;

use crate::decode::ctc::slots_needed;
use crate::model::Lengths;
use crate::text::Tokenizer;
use crate::train::config::{Data, LengthLimit, OnBadLine};
use crate::train::data::batches;
use crate::train::observe::event::Skipped;
use crate::{Error, Result};

/// A sentence and its translation, each `bos x1..xn eos` with n ≥ 1. The target is empty if only source text was
/// read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub source: Vec<u32>,
    pub target: Vec<u32>,
}

impl Pair {
    /// The target without bos and eos.
    pub fn inner_target(&self) -> &[u32] {
        inner(&self.target)
    }

    /// Number of slots of an Imputer's canvas for the source.
    pub fn slots(&self) -> usize {
        Lengths::SLOTS_PER_TOKEN * self.source.len()
    }

    /// Smallest number of slots for the target.
    pub fn slots_needed(&self) -> usize {
        slots_needed(self.inner_target())
    }

    /// Whether the target fits the slots of its source, if that is required.
    pub fn fits(&self, limit: LengthLimit) -> bool {
        !limit.in_slots || self.slots_needed() <= self.slots()
    }
}

/// A sentence without bos and eos.
pub fn inner(sentence: &[u32]) -> &[u32] {
    sentence.get(1..sentence.len().saturating_sub(1)).unwrap_or_default()
}

#[derive(Clone, Debug, Default)]
pub struct Corpus {
    pub pairs: Vec<Pair>,
    pub skipped: Skipped,
}

/// A usable pair of lines, or the file with a bad line and the reason.
type UsableLines<'a> = Result<(&'a str, &'a str), (&'a Path, LineError)>;

/// Why a line cannot be used.
enum LineError {
    Empty,
    InvalidUtf8,
    /// Length in tokens.
    TooLong(usize),
    /// Slots that the target needs, and slots that its source has.
    Unaligned(usize, usize),
    Encoding(Error),
}

impl Corpus {
    /// Reads and encodes a pair of files, in parallel. `encode` returns `bos x1..xn eos`; sentences beyond the limit
    /// `limit` are bad lines.
    ///
    /// # Errors
    /// A file that cannot be read, unequal numbers of lines, the first bad line under [`OnBadLine::Error`], and the
    /// errors of `encode`.
    pub fn read(
        source: &Path,
        target: &Path,
        limit: LengthLimit,
        on_bad_line: OnBadLine,
        encode: impl Fn(&str) -> Result<Vec<u32>> + Sync,
    ) -> Result<Self> {
        let (source_text, target_text) = (read_bytes(source)?, read_bytes(target)?);
        let (source_lines, target_lines) = (split_lines(&source_text), split_lines(&target_text));
        require_equal_counts((source, source_lines.len()), (target, target_lines.len()))?;

        let encode_line = |line: &[u8]| encode_line(line, limit.tokens, &encode);
        let encoded: Vec<Result<Pair, (&Path, LineError)>> = source_lines
            .par_iter()
            .zip(&target_lines)
            .map(|(s, t)| {
                let source = encode_line(s).map_err(|bad| (source, bad))?;
                let pair = Pair { source, target: encode_line(t).map_err(|bad| (target, bad))? };
                let unaligned = || (target, LineError::Unaligned(pair.slots_needed(), pair.slots()));
                if pair.fits(limit) { Ok(pair) } else { Err(unaligned()) }
            })
            .collect();

        let mut corpus = Self { pairs: Vec::with_capacity(encoded.len()), skipped: Skipped::default() };
        for (index, result) in encoded.into_iter().enumerate() {
            match result {
                Ok(pair) => corpus.pairs.push(pair),
                Err((path, bad)) => {
                    corpus.record_bad_line(bad, on_bad_line, path, index + 1, limit.tokens)?
                }
            }
        }
        Ok(corpus)
    }

    /// Reads a pair of files like [`read`](Self::read), and passes the text of each usable pair to `keep`, in order.
    /// Encodes one block of lines at a time, so that the tokens of a large corpus are never all in memory.
    pub fn read_texts(
        (source, target): (&Path, &Path),
        limit: LengthLimit,
        on_bad_line: OnBadLine,
        encode: impl Fn(&str) -> Result<Vec<u32>> + Sync,
        mut keep: impl FnMut(&str, &str),
    ) -> Result<Skipped> {
        const BLOCK: usize = 1 << 16;
        let (source_text, target_text) = (read_bytes(source)?, read_bytes(target)?);
        let (source_lines, target_lines) = (split_lines(&source_text), split_lines(&target_text));
        require_equal_counts((source, source_lines.len()), (target, target_lines.len()))?;
        let mut corpus = Self::default();
        let mut number = 0;
        for (sources, targets) in source_lines.chunks(BLOCK).zip(target_lines.chunks(BLOCK)) {
            let usable: Vec<UsableLines<'_>> = sources
                .par_iter()
                .zip(targets)
                .map(|(s, t)| {
                    let source_ids = encode_line(s, limit.tokens, &encode).map_err(|bad| (source, bad))?;
                    let target_ids = encode_line(t, limit.tokens, &encode).map_err(|bad| (target, bad))?;
                    let pair = Pair { source: source_ids, target: target_ids };
                    if !pair.fits(limit) {
                        return Err((target, LineError::Unaligned(pair.slots_needed(), pair.slots())));
                    }
                    let text =
                        |line| std::str::from_utf8(line).map(str::trim).map_err(|_| LineError::InvalidUtf8);
                    Ok((text(s).map_err(|bad| (source, bad))?, text(t).map_err(|bad| (target, bad))?))
                })
                .collect();
            for result in usable {
                number += 1;
                match result {
                    Ok((source, target)) => keep(source, target),
                    Err((path, bad)) => {
                        corpus.record_bad_line(bad, on_bad_line, path, number, limit.tokens)?
                    }
                }
            }
        }
        Ok(corpus.skipped)
    }

    /// Reads and encodes all training text of a configuration. Sentences beyond `limit` are bad lines.
    pub fn read_all(data: &Data, limit: LengthLimit, tokenizer: &Tokenizer) -> Result<Self> {
        let mut corpus = Self::default();
        for (source, target) in data.train_files() {
            let encode = |text: &str| tokenizer.encode(text);
            corpus.extend(Self::read(&source, &target, limit, data.on_bad_line, encode)?);
        }
        Ok(corpus)
    }

    /// Reads only the source side; targets are empty. For stages whose teacher writes the targets.
    pub fn read_sources(data: &Data, limit: LengthLimit, tokenizer: &Tokenizer) -> Result<Self> {
        let mut corpus = Self::default();
        for path in data.source_files() {
            let encode = |text: &str| tokenizer.encode(text);
            corpus.extend(Self::read_text(&path, limit, data.on_bad_line, encode)?);
        }
        Ok(corpus)
    }

    /// Reads one text as sources, like [`read`](Self::read); targets are empty.
    pub fn read_text(
        path: &Path,
        limit: LengthLimit,
        on_bad_line: OnBadLine,
        encode: impl Fn(&str) -> Result<Vec<u32>> + Sync,
    ) -> Result<Self> {
        let text = read_bytes(path)?;
        let encode = |line: &&[u8]| encode_line(line, limit.tokens, &encode);
        let encoded: Vec<Result<Vec<u32>, LineError>> = split_lines(&text).par_iter().map(encode).collect();
        let mut corpus = Self::default();
        for (index, result) in encoded.into_iter().enumerate() {
            match result {
                Ok(source) => corpus.pairs.push(Pair { source, target: Vec::new() }),
                Err(bad) => corpus.record_bad_line(bad, on_bad_line, path, index + 1, limit.tokens)?,
            }
        }
        Ok(corpus)
    }

    /// Appends another corpus.
    pub fn extend(&mut self, other: Self) {
        self.pairs.extend(other.pairs);
        self.skipped.add(&other.skipped);
    }

    /// The lengths of all pairs.
    pub fn lengths(&self) -> Vec<batches::PairLengths> {
        self.pairs
            .iter()
            .map(|p| batches::PairLengths { source: p.source.len(), target: p.target.len() })
            .collect()
    }

    fn record_bad_line(
        &mut self,
        bad: LineError,
        policy: OnBadLine,
        path: &Path,
        line: usize,
        max: usize,
    ) -> Result<()> {
        let (counter, reason) = match bad {
            LineError::Encoding(error) => return Err(error),
            LineError::Empty => (&mut self.skipped.empty, "the line is empty".to_owned()),
            LineError::InvalidUtf8 => {
                (&mut self.skipped.invalid_utf8, "the line is not valid UTF-8".to_owned())
            }
            LineError::TooLong(size) => (
                &mut self.skipped.too_long,
                format!("the sentence has {size} tokens, more than max_tokens_per_sentence ({max})"),
            ),
            LineError::Unaligned(needed, given) => (
                &mut self.skipped.unaligned,
                format!(
                    "the sentence needs {needed} slots, more than the {given} that its source has in an imputer"
                ),
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
) -> Result<Vec<u32>, LineError> {
    let text = std::str::from_utf8(line).map_err(|_| LineError::InvalidUtf8)?.trim();
    if text.is_empty() {
        return Err(LineError::Empty);
    }
    let tokens = encode(text).map_err(LineError::Encoding)?;
    match tokens.len() {
        0..3 => Err(LineError::Empty), // bos and eos without any token between them
        size if size > max_tokens => Err(LineError::TooLong(size)),
        _ => Ok(tokens),
    }
}

/// # Errors
/// [`Error::Data`] if two files, given with their numbers of lines, differ in length: names the shorter one.
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

/// The usable source sentences of a configuration, as text, in order. Sentences of more than `max_tokens` are bad
/// lines.
pub fn read_source_texts(
    data: &Data,
    max_tokens: usize,
    encode: impl Fn(&str) -> Result<Vec<u32>> + Sync,
) -> Result<(Vec<String>, Skipped)> {
    let (mut texts, mut corpus) = (Vec::new(), Corpus::default());
    for path in data.source_files() {
        let bytes = read_bytes(&path)?;
        let usable = |line: &&[u8]| {
            encode_line(line, max_tokens, &encode)?;
            let text = std::str::from_utf8(line).map_err(|_| LineError::InvalidUtf8)?;
            Ok(text.trim().to_owned())
        };
        let lines: Vec<Result<String, LineError>> = split_lines(&bytes).par_iter().map(usable).collect();
        for (index, line) in lines.into_iter().enumerate() {
            match line {
                Ok(text) => texts.push(text),
                Err(bad) => corpus.record_bad_line(bad, data.on_bad_line, &path, index + 1, max_tokens)?,
            }
        }
    }
    Ok((texts, corpus.skipped))
}

/// Reads the lines of a file, plain or gzip, unchanged: references, or text to train a tokenizer on.
///
/// # Errors
/// A file that cannot be read, or a line that is not UTF-8.
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

/// Like [`read_lines`], but with [`OnBadLine::Skip`] lines that are not UTF-8 are left out.
pub fn read_usable_lines(path: &Path, on_bad_line: OnBadLine) -> Result<Vec<String>> {
    match on_bad_line {
        OnBadLine::Error => read_lines(path),
        OnBadLine::Skip => {
            let text = |line: &[u8]| std::str::from_utf8(line).ok().map(str::to_owned);
            Ok(split_lines(&read_bytes(path)?).into_iter().filter_map(text).collect())
        }
    }
}

/// The content of a file, decompressed if it is gzip.
fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut unpacked).map_err(Error::io(path))?;
    Ok(unpacked)
}

/// Lines without their ends (`\n` or `\r\n`). The last line may have none.
fn split_lines(bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = bytes.split(|&b| b == b'\n').collect();
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    lines.iter_mut().for_each(|line| *line = line.strip_suffix(b"\r").unwrap_or(line));
    lines
}

#[cfg(test)]
mod tests;
