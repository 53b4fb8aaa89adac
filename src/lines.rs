//! `tutti translate`: one output line for each input line, for files and pipes of any length.
//!
//! The lines that have arrived are one batch: files are translated in large batches, typed lines one by one. A
//! line may contain several sentences, which are split as in the server.

use std::io::{BufRead, BufReader, Read, Write};

use crate::decode::{DecodeOptions, Translator, translate_passages};
use crate::text::{Passage, ReadOptions, Reader, continues, is_open};
use crate::{Error, Result};

/// Size of the input buffer: several thousand lines.
const BUFFER_BYTES: usize = 1 << 17;

/// Translates `input` to `output`, line by line; if the last line has no line end, its translation has none. If lines
/// are joined, a sentence that continues over several lines becomes one line. Each of `columns` is a translation of
/// the line; columns are separated by tabs. A line that cannot be translated is copied unchanged, in one column, and
/// `on_bad_line` is called with its number, from 1, and the reason.
///
/// # Errors
/// [`Error::Io`] for input and output, and the errors of the network.
pub fn translate_lines<T: Translator>(
    input: impl Read,
    mut output: impl Write,
    translator: &T,
    reader: &Reader,
    options: ReadOptions,
    columns: &[DecodeOptions],
    mut on_bad_line: impl FnMut(usize, &str),
) -> Result<()> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    let mut number = 0;
    loop {
        let lines = take_lines(&mut input, options)?;
        if lines.is_empty() {
            return Ok(());
        }
        let taken = lines.len();
        let lines = numbered(lines, number + 1, options);
        let mut texts = Vec::with_capacity(lines.len());
        for (number, line) in &lines {
            texts.push(text_of(line).map_err(|reason| on_bad_line(*number, &reason)).ok());
        }
        let mut translated = Vec::with_capacity(columns.len());
        for options in columns {
            let mut passages: Vec<Passage> = texts.iter().flatten().map(|text| reader.read(text)).collect();
            translate_passages(translator, &mut passages, options)?;
            translated.push(passages.into_iter());
        }
        write_lines(&mut output, &lines, &texts, translated).map_err(Error::io("<stdout>"))?;
        number += taken;
    }
}

/// A line without its end, or why it cannot be translated.
fn text_of(line: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(line).map_err(|error| format!("is not valid UTF-8 ({error})"))?;
    Ok(text.strip_suffix('\n').unwrap_or(text))
}

/// `columns` contain a passage for each line that can be translated.
fn write_lines(
    output: &mut impl Write,
    lines: &[(usize, Vec<u8>)],
    texts: &[Option<&str>],
    mut columns: Vec<impl Iterator<Item = Passage>>,
) -> std::io::Result<()> {
    let several = columns.len() > 1;
    for ((_, line), text) in lines.iter().zip(texts) {
        if text.is_none() {
            output.write_all(line)?;
            continue;
        }
        for (i, column) in columns.iter_mut().enumerate() {
            // A translation may contain any character, but must stay in its line and column.
            let text = column.next().map(|passage| passage.text().replace('\n', " ")).unwrap_or_default();
            let text = if several { text.replace('\t', " ") } else { text };
            write!(output, "{}{text}", if i == 0 { "" } else { "\t" })?;
        }
        if line.ends_with(b"\n") {
            output.write_all(b"\n")?;
        }
    }
    output.flush()
}

/// Numbers the lines from `first`. If lines are joined, a line that continues a sentence is appended to the line
/// before.
fn numbered(lines: Vec<Vec<u8>>, first: usize, options: ReadOptions) -> Vec<(usize, Vec<u8>)> {
    let mut numbered: Vec<(usize, Vec<u8>)> = Vec::with_capacity(lines.len());
    let mut open = false;
    for (number, line) in (first..).zip(lines) {
        let joins = open && std::str::from_utf8(&line).is_ok_and(continues);
        open = options.join_lines && ends_open(&line);
        match numbered.last_mut().filter(|_| joins) {
            Some((_, before)) => {
                before.truncate(before.trim_ascii_end().len());
                before.push(b' ');
                before.extend(line);
            }
            None => numbered.push((number, line)),
        }
    }
    numbered
}

fn ends_open(line: &[u8]) -> bool {
    std::str::from_utf8(line).is_ok_and(is_open)
}

/// Waits for one line, then takes all lines that have arrived completely. If lines are joined, waits for the lines
/// that may continue the last one. Line ends are kept.
fn take_lines(input: &mut BufReader<impl Read>, options: ReadOptions) -> Result<Vec<Vec<u8>>> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line).map_err(Error::io("<stdin>"))? == 0 {
            return Ok(lines);
        }
        let incomplete = options.join_lines && ends_open(&line);
        lines.push(line);
        if !incomplete && !input.buffer().contains(&b'\n') {
            return Ok(lines);
        }
    }
}
