//! `train tokenizer`: learns the vocabulary of both languages from the training text.

use std::sync::atomic::AtomicBool;

use crate::Result;
use crate::text::Tokenizer;
use crate::train::config::Config;
use crate::train::data::corpus::read_usable_lines;
use crate::train::update::run::End;

/// Learns the vocabulary and writes it to `config.tokenizer.path`. It takes seconds, so it does not check the stop
/// flag.
///
/// # Errors
/// A file that cannot be read or written, or a line that is not UTF-8 (unless `data.on_bad_line` is `skip`).
pub fn run(config: &Config, _: &AtomicBool) -> Result<End> {
    let mut lines = Vec::new();
    for (source, target) in config.data.original_files() {
        lines.extend(read_usable_lines(&source, config.data.on_bad_line)?);
        lines.extend(read_usable_lines(&target, config.data.on_bad_line)?);
    }
    let tokenizer = Tokenizer::train_with_reserved(
        lines.iter().map(String::as_str),
        config.tokenizer.vocab_size,
        config.tokenizer.reserved,
    )?;
    tokenizer.save(&config.tokenizer.path)?;
    Ok(End::Finished)
}
