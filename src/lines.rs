//! `tutti translate`: a line in, a line out, for files and pipes of any length.
//!
//! Takes whatever lines are there (late binding, as in the engine): a file goes in large batches, what
//! somebody types is answered line by line. A line may hold several sentences; they are taken apart as
//! the server does it.

use std::io::{BufRead, BufReader, Read, Write};

use crate::decode::{DecodeOptions, Translator, translate_passages};
use crate::text::{Passage, Reader};
use crate::{Error, Result};

/// What is read at once; some thousand lines.
const BUFFER_BYTES: usize = 1 << 17;

/// Translates `input` to `output`, as many lines as there were, the last with or without its end as it
/// came.
///
/// # Errors
/// [`Error::Data`] with the number of a line that is not UTF-8, [`Error::Io`] for reading and writing, and what the network answers with.
pub fn translate_lines<T: Translator>(
    input: impl Read,
    mut output: impl Write,
    translator: &T,
    reader: &Reader,
    options: &DecodeOptions,
) -> Result<()> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    let mut number = 0;
    loop {
        let lines = take_lines(&mut input, number)?;
        if lines.is_empty() {
            return Ok(());
        }
        let texts = lines.iter().map(|line| line.strip_suffix('\n').unwrap_or(line));
        let mut passages: Vec<Passage> = texts.map(|text| reader.read(text)).collect();
        translate_passages(translator, &mut passages, options)?;
        for (line, passage) in lines.iter().zip(&passages) {
            let end = if line.ends_with('\n') { "\n" } else { "" };
            write!(output, "{}{end}", passage.text()).map_err(Error::io("<stdout>"))?;
        }
        output.flush().map_err(Error::io("<stdout>"))?;
        number += lines.len();
    }
}

/// Waits for one line, then takes those that have already arrived in full. Ends are kept.
fn take_lines(input: &mut BufReader<impl Read>, before: usize) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line).map_err(Error::io("<stdin>"))? == 0 {
            return Ok(lines);
        }
        let line = String::from_utf8(line)
            .map_err(|_| bad_line(before + lines.len() + 1, "is not valid UTF-8".into()))?;
        lines.push(line);
        if !input.buffer().contains(&b'\n') {
            return Ok(lines);
        }
    }
}

fn bad_line(line: usize, reason: String) -> Error {
    Error::Data { path: "<stdin>".into(), line, reason }
}
