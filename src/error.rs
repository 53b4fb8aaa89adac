//! All errors of the crate in one enum. `http` maps them to status, code and the wording of each API.

use std::path::{Path, PathBuf};
use std::time::Duration;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is invalid; the message says what to change.
    #[error("{0}")]
    InvalidRequest(String),
    /// The language or the pair is not available.
    #[error("{0}")]
    UnsupportedLanguage(String),
    /// A sentence or a request exceeds a limit. Nothing is truncated silently.
    #[error("{what} may be at most {limit}, not {size}; shorten or split the text, or lower length_beam")]
    TooLarge { what: &'static str, size: usize, limit: usize },
    #[error("the queue is full, try again in {} s", retry_after.as_secs().max(1))]
    QueueFull { retry_after: Duration },
    #[error(
        "the translation would not be done by its deadline, try again in {} s",
        retry_after.as_secs().max(1)
    )]
    DeadlineUnreachable { retry_after: Duration },
    #[error("the server is shutting down")]
    Draining,
    #[error("the model is not ready yet")]
    NotReady,
    #[error("the deadline of {} ms passed before the translation was done", .0.as_millis())]
    DeadlineExceeded(Duration),
    /// The model thread has ended; the process is about to exit.
    #[error("the engine stopped: {0}")]
    EngineDead(String),

    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// A bundle is invalid; names the file and what was expected.
    #[error("{}: {reason}", path.display())]
    Bundle { path: PathBuf, reason: String },
    /// A line of a text cannot be used. Lines count from 1.
    #[error("{}:{line}: {reason}", path.display())]
    Data { path: PathBuf, line: usize, reason: String },
    /// A setting, or the configuration of a training run, is invalid.
    #[error("configuration: {0}")]
    Config(String),
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The network violated the contract of `decode::Translator`.
    #[error("the network gave an invalid result: {0}")]
    Model(String),
    /// An error of a GPU or its driver, and what to do about it.
    #[error("device: {0}")]
    Device(String),
    /// A GPU has too little free memory.
    #[error(
        "device: {bytes} bytes are needed, but only {free} are free; end other programs on this GPU, use a \
         smaller model or --device cpu"
    )]
    DeviceMemory { bytes: usize, free: usize },
    #[error("tensor: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// An error with its causes in one line, for a terminal. Causes that are already quoted are not repeated. candle
/// appends a backtrace to its messages if `RUST_BACKTRACE` is set; that is left out.
pub fn in_one_line(error: &(dyn std::error::Error + 'static)) -> String {
    let message = |error: &dyn std::error::Error| {
        let text = error.to_string();
        text.split("\n   0: ").next().unwrap_or_default().trim_end().to_owned()
    };
    let mut line = message(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = message(error);
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

impl Error {
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { path, source }
    }

    pub fn bundle(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self::Bundle { path: path.as_ref().to_path_buf(), reason: reason.into() }
    }
}

#[cfg(test)]
mod tests;
