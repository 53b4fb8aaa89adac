//! `tutti translate`: a line in, a line out, for files and pipes of any length.
//!
//! Takes whatever lines are there (late binding, as in the engine): a file goes in large batches, what
//! somebody types is answered line by line. A line may hold several sentences; they are taken apart as
//! the server does it.

use std::io::{BufRead, BufReader, Read, Write};

use crate::decode::{DecodeOptions, Translator, translate};
use crate::text::{Document, Tokenizer};
use crate::{Error, Result};

/// What is read at once; some thousand lines.
const BUFFER_BYTES: usize = 1 << 17;

/// Translates `input` to `output`, as many lines as there were, the last with or without its end as it
/// came. Several `columns` are several translations of each line, with a tab between them. A line that
/// cannot be translated comes back as it is, in one column; `on_bad_line` gets its number, from 1, and why.
///
/// # Errors
/// [`Error::Io`] for reading and writing, and what the network answers with.
pub fn translate_lines<T: Translator>(
    input: impl Read,
    mut output: impl Write,
    translator: &T,
    tokenizer: &Tokenizer,
    columns: &[DecodeOptions],
    mut on_bad_line: impl FnMut(usize, &str),
) -> Result<()> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    let mut number = 0;
    loop {
        let lines = take_lines(&mut input)?;
        if lines.is_empty() {
            return Ok(());
        }
        let mut documents = Vec::with_capacity(lines.len());
        for (line, number) in lines.iter().zip(number + 1..) {
            let read = read_line(line, tokenizer, translator.limits().source_tokens);
            documents.push(read.map_err(|reason| on_bad_line(number, &reason)).ok());
        }
        let good: Vec<&Document> = documents.iter().flatten().collect();
        let translated = columns
            .iter()
            .map(|options| Ok(translate_documents(&good, translator, tokenizer, options)?.into_iter()))
            .collect::<Result<Vec<_>>>()?;
        write_lines(&mut output, &lines, &documents, translated).map_err(Error::io("<stdout>"))?;
        number += lines.len();
    }
}

/// A line without its end, or why it cannot be translated.
fn read_line(line: &[u8], tokenizer: &Tokenizer, limit: usize) -> Result<Document, String> {
    let text = std::str::from_utf8(line).map_err(|error| format!("is not valid UTF-8 ({error})"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    Document::read(text, tokenizer, limit).map_err(|error| error.to_string())
}

/// All documents in one go, in their order.
fn translate_documents<T: Translator>(
    documents: &[&Document],
    translator: &T,
    tokenizer: &Tokenizer,
    options: &DecodeOptions,
) -> Result<Vec<String>> {
    let sentences = documents.iter().flat_map(|document| document.sentences());
    let sources: Vec<Vec<u32>> = sentences.cloned().collect();
    let mut best = translate(translator, &sources, options)?
        .into_iter()
        .map(|hypotheses| hypotheses.into_iter().next().unwrap_or_default());
    let translated = documents.iter().map(|document| {
        let own = best.by_ref().take(document.sentences().len());
        let translations =
            own.map(|hypothesis| tokenizer.decode(&hypothesis.tokens)).collect::<Result<Vec<_>>>()?;
        Ok(document.rejoin(&translations))
    });
    translated.collect()
}

fn write_lines(
    output: &mut impl Write,
    lines: &[Vec<u8>],
    documents: &[Option<Document>],
    mut columns: Vec<impl Iterator<Item = String>>,
) -> std::io::Result<()> {
    let several = columns.len() > 1;
    for (line, document) in lines.iter().zip(documents) {
        if document.is_none() {
            output.write_all(line)?;
            continue;
        }
        for (i, column) in columns.iter_mut().enumerate() {
            // The model may write any byte; a line stays a line, and a column a column.
            let text = column.next().unwrap_or_default().replace('\n', " ");
            let text = if several { text.replace('\t', " ") } else { text };
            write!(output, "{}{text}", if i == 0 { "" } else { "\t" })?;
        }
        if line.ends_with(b"\n") {
            output.write_all(b"\n")?;
        }
    }
    output.flush()
}

/// Waits for one line, then takes those that have already arrived in full. Ends are kept.
fn take_lines(input: &mut BufReader<impl Read>) -> Result<Vec<Vec<u8>>> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line).map_err(Error::io("<stdin>"))? == 0 {
            return Ok(lines);
        }
        lines.push(line);
        if !input.buffer().contains(&b'\n') {
            return Ok(lines);
        }
    }
}
