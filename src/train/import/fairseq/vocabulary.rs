//! Converts fairseq's vocabulary to a tokenizer: `dict.txt` lists the tokens, the codes (subword-nmt 0.2 or fastBPE)
//! are the merges.
//!
//! In `dict.txt`, a piece that does not end its word is marked with `@@`; in the codes, and in tutti's tokenizer, a
//! piece that ends its word is marked with `</w>`. Pieces that occur only as steps of merges and not in `dict.txt`
//! are unknown tokens.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::text::{END_OF_WORD, Specials, Tokenizer};
use crate::{Error, Result};

/// Marks a piece that does not end its word.
const CONTINUED: &str = "@@";

/// `<s> <pad> </s> <unk>`, which fairseq puts before the tokens of a dictionary.
pub const FAIRSEQ_SPECIALS: usize = 4;

/// The row of fairseq's embedding for an id of tutti.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EmbeddingRow {
    /// A token of fairseq.
    Token(usize),
    /// Not a token, but may occur in a source: has the row of the unknown token.
    Unknown,
    /// Pads the vocabulary to a multiple of 16.
    Unused,
}

pub struct Vocabulary {
    pub tokenizer: Tokenizer,
    /// For each id.
    pub rows: Vec<EmbeddingRow>,
    /// Number of rows of fairseq's embedding.
    pub fairseq_size: usize,
}

impl Vocabulary {
    /// # Errors
    /// [`Error::Data`] for an invalid line, by file and line.
    pub fn read(dict: &Path, codes: &Path) -> Result<Self> {
        let read = |path: &Path| std::fs::read_to_string(path).map_err(Error::io(path));
        let tokens = tokens(&read(dict)?, dict)?;
        let merges = merges(&read(codes)?, codes)?;

        // pad, bos, eos, unk, mask; fairseq's mask is its unknown token.
        let mut rows: Vec<EmbeddingRow> = [1, 0, 2, 3, 3].map(EmbeddingRow::Token).into();
        let mut pieces: Vec<String> = Specials::NAMES.map(str::to_owned).into();
        let mut known: HashMap<String, usize> = pieces.iter().cloned().zip(0..).collect();
        for (index, token) in tokens.iter().enumerate() {
            let piece = piece(token);
            if known.insert(piece.clone(), index).is_some() {
                let reason = format!("{token:?} occurs twice, or is the name of a special token");
                return Err(Error::Data { path: dict.to_path_buf(), line: index + 1, reason });
            }
            rows.push(EmbeddingRow::Token(FAIRSEQ_SPECIALS + index));
            pieces.push(piece);
        }
        let mut seen: HashSet<String> = known.into_keys().collect();
        for (left, right) in &merges {
            for piece in [left.clone(), right.clone(), format!("{left}{right}")] {
                if seen.insert(piece.clone()) {
                    rows.push(EmbeddingRow::Unknown);
                    pieces.push(piece);
                }
            }
        }
        while !pieces.len().is_multiple_of(Tokenizer::VOCABULARY_MULTIPLE) {
            // Splitting at spaces cannot produce this word.
            pieces.push(format!("<unused {}>", pieces.len()));
            rows.push(EmbeddingRow::Unused);
        }
        let fairseq_size = FAIRSEQ_SPECIALS + tokens.len();
        Ok(Self { tokenizer: Tokenizer::of_pieces(&pieces, merges)?, rows, fairseq_size })
    }
}

/// The spelling of a dictionary token in the codes.
fn piece(token: &str) -> String {
    match token.strip_suffix(CONTINUED).filter(|start| !start.is_empty()) {
        Some(start) => start.to_owned(),
        None => format!("{token}{END_OF_WORD}"),
    }
}

/// Reads lines of a token and its count, in the order of ids.
fn tokens(text: &str, path: &Path) -> Result<Vec<String>> {
    let token = |(index, line): (usize, &str)| {
        let line = line.strip_suffix("#fairseq:overwrite").map_or(line, str::trim_end);
        match line.rsplit_once(' ') {
            Some((token, count)) if !token.is_empty() && count.parse::<u64>().is_ok() => Ok(token.to_owned()),
            _ => {
                let reason = format!("{line:?} is not a token and its count");
                Err(Error::Data { path: path.to_path_buf(), line: index + 1, reason })
            }
        }
    };
    text.lines().enumerate().map(token).collect()
}

/// Pairs in the order in which they are merged, each once.
fn merges(text: &str, path: &Path) -> Result<Vec<(String, String)>> {
    let mut merges = Vec::new();
    let mut seen = HashSet::new();
    for (index, line) in text.lines().enumerate() {
        let wrong = |reason: String| Error::Data { path: path.to_path_buf(), line: index + 1, reason };
        if let Some(version) = line.strip_prefix("#version:") {
            if version.trim() != "0.2" {
                return Err(wrong(format!(
                    "codes of version {} are not supported; expected 0.2",
                    version.trim()
                )));
            }
            continue;
        }
        let parts: Vec<&str> = line.split(' ').collect();
        match parts.as_slice() {
            [left, right] if index > 0 => {
                if seen.insert((left.to_string(), right.to_string())) {
                    merges.push((left.to_string(), right.to_string()));
                }
            }
            [left, right, count] if count.parse::<u64>().is_ok() => {
                if seen.insert((left.to_string(), right.to_string())) {
                    merges.push((left.to_string(), right.to_string()));
                }
            }
            _ => {
                let reason = format!(
                    "{line:?} is not a merge: expected codes of subword-nmt with a line #version: 0.2, or of fastBPE"
                );
                return Err(wrong(reason));
            }
        }
    }
    Ok(merges)
}

#[cfg(test)]
mod tests;
