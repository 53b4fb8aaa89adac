//! `tutti translate`: a line in, a line out, for files and pipes of any length.
//!
//! Takes whatever lines are there (late binding, as in the engine): a file goes in large batches, what
//! somebody types is answered line by line. A line may hold several sentences; they are taken apart as
//! the server does it.

use std::io::{BufRead, BufReader, Read, Write};

use crate::decode::{DecodeOptions, Translator, translate_passages};
use crate::text::{Passage, ReadOptions, Reader, continues, is_open};
use crate::{Error, Result};

/// What is read at once; some thousand lines.
const BUFFER_BYTES: usize = 1 << 17;

/// Translates `input` to `output`, as many lines as there were, the last with or without its end as it
/// came; where lines are joined, a sentence that continues over several lines comes out in one. Several `columns` are
/// several translations of each line, with a tab between them. A line that cannot be translated comes back as it is, in
/// one column; `on_bad_line` gets its number, from 1, and why.
///
/// # Errors
/// [`Error::Io`] for reading and writing, and what the network answers with.
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

/// `columns` have a passage for each line that is a text.
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
            // The model may write any byte; a line stays a line, and a column a column.
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

/// Each line with its number, from `first` on. Where lines are joined, one that continues the sentence of the line
/// before it is appended to that.
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

/// Waits for one line, then takes those that have already arrived in full, and where lines are joined, those that may
/// belong to the last one. Ends are kept.
fn take_lines(input: &mut BufReader<impl Read>, options: ReadOptions) -> Result<Vec<Vec<u8>>> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line).map_err(Error::io("<stdin>"))? == 0 {
            return Ok(lines);
        }
        let waits = options.join_lines && ends_open(&line);
        lines.push(line);
        if !waits && !input.buffer().contains(&b'\n') {
            return Ok(lines);
        }
    }
}
