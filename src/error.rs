//! Every error of the crate in one enum. `http` gives each its status, its code and the words of a dialect.

use std::path::{Path, PathBuf};
use std::time::Duration;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request cannot be understood; the text says what to change.
    #[error("{0}")]
    InvalidRequest(String),
    /// The language or the pair is not served.
    #[error("{0}")]
    UnsupportedLanguage(String),
    /// A sentence or a request above a limit; never cut silently.
    #[error("{what} ({size}) exceeds the limit ({limit})")]
    TooLarge { what: &'static str, size: usize, limit: usize },
    #[error("the queue is full, try again in {} s", retry_after.as_secs().max(1))]
    QueueFull { retry_after: Duration },
    #[error(
        "Slowdown: the translation would not be done by its deadline, try again in {} s",
        retry_after.as_secs().max(1)
    )]
    DeadlineUnreachable { retry_after: Duration },
    #[error("the server is shutting down")]
    Draining,
    #[error("the model is not ready yet")]
    NotReady,
    #[error("the deadline of {} ms passed before the translation was done", .0.as_millis())]
    DeadlineExceeded(Duration),
    /// The model thread is gone; the process is about to exit.
    #[error("the engine stopped: {0}")]
    EngineDead(String),

    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// A bundle whose content is wrong: names the file and what was expected.
    #[error("{}: {reason}", path.display())]
    Bundle { path: PathBuf, reason: String },
    /// A line of a text that cannot be used. Lines count from 1.
    #[error("{}:{line}: {reason}", path.display())]
    Data { path: PathBuf, line: usize, reason: String },
    /// A setting or a training configuration that does not hold together.
    #[error("configuration: {0}")]
    Config(String),
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The network broke the contract of `decode::Translator`.
    #[error("the network broke its contract: {0}")]
    Model(String),
    /// What a GPU or its driver answered, and what to do about it.
    #[error("device: {0}")]
    Device(String),
    /// A GPU without room for so many more bytes.
    #[error(
        "device: no memory for {bytes} more bytes, {free} are free; end other programs on this GPU, use a \
         smaller model or --device cpu"
    )]
    DeviceMemory { bytes: usize, free: usize },
    #[error("tensor: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// The text for a terminal: the causes of an error in one line, each once. Some errors quote their cause
/// already.
pub fn in_one_line(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
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
