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

use crate::decode::ctc::slots_needed;
use crate::model::Lengths;
use crate::text::Tokenizer;
use crate::train::config::{Data, LengthLimit, OnBadLine};
use crate::train::data::batches;
use crate::train::observe::event::Skipped;
use crate::{Error, Result};

/// Two sentences that translate each other, each `bos x1..xn eos`, n ≥ 1. The target is empty where only
/// source text was read.
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

    /// Of an Imputer's canvas for the source.
    pub fn slots(&self) -> usize {
        Lengths::SLOTS_PER_TOKEN * self.source.len()
    }

    /// That the target cannot do without.
    pub fn slots_needed(&self) -> usize {
        slots_needed(self.inner_target())
    }

    /// Whether the target finds a place in the slots of its source, where it has to.
    pub fn fits(&self, room: LengthLimit) -> bool {
        !room.in_slots || self.slots_needed() <= self.slots()
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

/// Why a line cannot be used.
enum LineError {
    Empty,
    InvalidUtf8,
    /// Its length in tokens.
    TooLong(usize),
    /// Slots that the target needs, and that its source gives.
    Unaligned(usize, usize),
    Encoding(Error),
}

impl Corpus {
    /// Reads and encodes a pair of files, in parallel. `encode` gives `bos x1..xn eos`; a sentence that has no
    /// `room` is a bad line.
    ///
    /// Errors: a file that cannot be read, unequal numbers of lines, a bad line under
    /// [`OnBadLine::Error`] (the first one), and whatever `encode` answers.
    pub fn read(
        source: &Path,
        target: &Path,
        room: LengthLimit,
        on_bad_line: OnBadLine,
        encode: impl Fn(&str) -> Result<Vec<u32>> + Sync,
    ) -> Result<Self> {
        let (source_text, target_text) = (read_bytes(source)?, read_bytes(target)?);
        let (source_lines, target_lines) = (split_lines(&source_text), split_lines(&target_text));
        require_equal_counts((source, source_lines.len()), (target, target_lines.len()))?;

        let encode_line = |line: &[u8]| encode_line(line, room.tokens, &encode);
        let encoded: Vec<Result<Pair, (&Path, LineError)>> = source_lines
            .par_iter()
            .zip(&target_lines)
            .map(|(s, t)| {
                let source = encode_line(s).map_err(|bad| (source, bad))?;
                let pair = Pair { source, target: encode_line(t).map_err(|bad| (target, bad))? };
                let unaligned = || (target, LineError::Unaligned(pair.slots_needed(), pair.slots()));
                if pair.fits(room) { Ok(pair) } else { Err(unaligned()) }
            })
            .collect();

        let mut corpus = Self { pairs: Vec::with_capacity(encoded.len()), skipped: Skipped::default() };
        for (index, result) in encoded.into_iter().enumerate() {
            match result {
                Ok(pair) => corpus.pairs.push(pair),
                Err((path, bad)) => corpus.record_bad_line(bad, on_bad_line, path, index + 1, room.tokens)?,
            }
        }
        Ok(corpus)
    }

    /// Reads a pair of files as [`read`](Self::read) does, and gives the text of each pair that can be used to `keep`, in
    /// order. Only a block of lines is encoded at a time, so that the tokens of a large corpus need no memory.
    pub fn read_texts(
        (source, target): (&Path, &Path),
        room: LengthLimit,
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
            let usable: Vec<Result<(&str, &str), (&Path, Bad)>> = sources
                .par_iter()
                .zip(targets)
                .map(|(s, t)| {
                    let source_ids = encode_line(s, room.tokens, &encode).map_err(|bad| (source, bad))?;
                    let target_ids = encode_line(t, room.tokens, &encode).map_err(|bad| (target, bad))?;
                    let pair = Pair { source: source_ids, target: target_ids };
                    if !pair.fits(room) {
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
                        corpus.record_bad_line(bad, on_bad_line, path, number, room.tokens)?
                    }
                }
            }
        }
        Ok(corpus.skipped)
    }

    /// All training text of a configuration, encoded; a sentence that has no `room` is a bad line.
    pub fn read_all(data: &Data, room: LengthLimit, tokenizer: &Tokenizer) -> Result<Self> {
        let mut corpus = Self::default();
        for (source, target) in data.train_files() {
            let encode = |text: &str| tokenizer.encode(text);
            corpus.extend(Self::read(&source, &target, room, data.on_bad_line, encode)?);
        }
        Ok(corpus)
    }

    /// The source side alone, for a stage whose teacher writes the targets: they are empty.
    pub fn read_sources(data: &Data, room: LengthLimit, tokenizer: &Tokenizer) -> Result<Self> {
        let mut corpus = Self::default();
        for path in data.source_files() {
            let encode = |text: &str| tokenizer.encode(text);
            corpus.extend(Self::read_text(&path, room, data.on_bad_line, encode)?);
        }
        Ok(corpus)
    }

    /// One text alone, as sources; the targets are empty. Else as [`read`](Self::read).
    pub fn read_text(
        path: &Path,
        room: LengthLimit,
        on_bad_line: OnBadLine,
        encode: impl Fn(&str) -> Result<Vec<u32>> + Sync,
    ) -> Result<Self> {
        let text = read_bytes(path)?;
        let encode = |line: &&[u8]| encode_line(line, room.tokens, &encode);
        let encoded: Vec<Result<Vec<u32>, LineError>> = split_lines(&text).par_iter().map(encode).collect();
        let mut corpus = Self::default();
        for (index, result) in encoded.into_iter().enumerate() {
            match result {
                Ok(source) => corpus.pairs.push(Pair { source, target: Vec::new() }),
                Err(bad) => corpus.record_bad_line(bad, on_bad_line, path, index + 1, room.tokens)?,
            }
        }
        Ok(corpus)
    }

    /// Appends another corpus.
    pub fn extend(&mut self, other: Self) {
        self.pairs.extend(other.pairs);
        self.skipped.add(&other.skipped);
    }

    /// The length of each pair, as batches are planned by.
    pub fn lengths(&self) -> Vec<batches::Lengths> {
        self.pairs
            .iter()
            .map(|p| batches::Lengths { source: p.source.len(), target: p.target.len() })
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
        0..3 => Err(LineError::Empty), // bos and eos, and nothing that the tokenizer sees between them
        size if size > max_tokens => Err(LineError::TooLong(size)),
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
mod tests;
