//! What a run tells programs: a log of JSON lines. People are told by [`progress`](crate::train::observe::progress).
//!
//! The log is only ever appended to, one event a line with its time, so a resumed run goes on in the
//! same file.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::decode::Decoding;
use crate::train::observe::tensorboard::Events;
use crate::{Error, Result};

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Start(Start),
    Train(Train),
    Skip(Skip),
    Valid(Valid),
    Checkpoint(Saved),
    Stop(Stop),
}

/// A run begins, or goes on after `update` updates.
#[derive(Clone, Debug, Serialize)]
pub struct Start {
    pub update: u64,
    pub config_digest: String,
    pub parameters: usize,
    pub pairs: usize,
    pub skipped: Skipped,
    /// Of a mixture.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub corpora: Vec<Share>,
    pub device: String,
    /// Of a large product, floating-point operations a second: see `update::rate::matrix_rate`.
    pub matrix_rate: f64,
}

/// Pairs that were left out, by the reason met first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    pub empty: usize,
    pub invalid_utf8: usize,
    pub too_long: usize,
    /// Of an Imputer: targets that have no place in the slots of their sources.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unaligned: usize,
    /// Pairs beyond `max_repeats` or `max_pairs` of their corpus.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub surplus: usize,
}

/// What a corpus of a mixture gives to an epoch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    pub name: String,
    /// Usable pairs.
    pub pairs: usize,
    /// Pairs sampled in an epoch, repeats counted.
    pub sampled: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Skipped {
    pub fn total(&self) -> usize {
        self.empty + self.invalid_utf8 + self.too_long + self.unaligned + self.surplus
    }

    pub fn add(&mut self, other: &Self) {
        self.empty += other.empty;
        self.invalid_utf8 += other.invalid_utf8;
        self.too_long += other.too_long;
        self.unaligned += other.unaligned;
        self.surplus += other.surplus;
    }
}

/// Means over the updates since the event before.
#[derive(Clone, Debug, Serialize)]
pub struct Train {
    pub update: u64,
    pub epoch: u64,
    /// Of the tokens, nats per masked token: label-smoothed cross entropy, or divergence from a teacher.
    pub loss: f64,
    /// Distance to a teacher's hidden states, per masked token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_loss: Option<f64>,
    /// Of the length head, nats per sentence, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length_loss: Option<f64>,
    pub gradient_norm: f64,
    pub learning_rate: f64,
    /// Target tokens, padding not counted.
    pub tokens_per_second: f64,
    /// What the products of the updates were of the [rate](Start::matrix_rate) that a large one has, on this rank;
    /// a teacher's in eight bits are not among them.
    pub matrix_share: f64,
    /// Share of the computed tokens that are padding.
    pub padding_share: f64,
}

/// An update dropped because its gradient was not finite.
#[derive(Clone, Debug, Serialize)]
pub struct Skip {
    pub update: u64,
    pub skipped: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Valid {
    pub update: u64,
    pub seconds: f64,
    pub sentences: usize,
    /// Of several domains the mean.
    pub scores: Vec<Score>,
    /// Where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<Domain>,
    pub samples: Vec<Sample>,
}

/// One of several texts that a run is validated with.
#[derive(Clone, Debug, Serialize)]
pub struct Domain {
    pub name: String,
    pub sentences: usize,
    pub scores: Vec<Score>,
}

/// Quality at one number of decoder passes, or one width of a beam.
#[derive(Clone, Debug, Serialize)]
pub struct Score {
    #[serde(flatten)]
    pub decoding: Decoding,
    pub bleu: f64,
    pub chrf: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    #[serde(flatten)]
    pub decoding: Decoding,
    pub source: String,
    pub reference: String,
    pub translation: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Saved {
    pub update: u64,
    pub path: PathBuf,
    pub score: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Stop {
    pub update: u64,
    /// `finished`, `interrupted`, or an error's text.
    pub reason: String,
}

#[derive(Serialize)]
struct Line<'a> {
    /// Since 1970, UTC.
    time_seconds: f64,
    #[serde(flatten)]
    event: &'a Event,
}

/// The log file of a run.
#[derive(Debug)]
pub struct Log {
    file: File,
    path: PathBuf,
    /// What the log says, for TensorBoard.
    mirror: Option<Events>,
}

impl Log {
    /// Opens `path` to append; makes it, and its folder, where it is not there.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        let file = OpenOptions::new().create(true).append(true).read(true).open(path);
        let mut log = Self { file: file.map_err(Error::io(path))?, path: path.to_path_buf(), mirror: None };
        log.end_cut_line().map_err(Error::io(path))?;
        Ok(log)
    }

    /// Tells TensorBoard too, from now on.
    pub fn mirrored(self, events: Events) -> Self {
        Self { mirror: Some(events), ..self }
    }

    /// Appends one line, in one write. A loss that is not a number is written as `null`.
    pub fn write(&mut self, event: &Event) -> Result<()> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let time_seconds = (since.as_secs_f64() * 1e3).round() / 1e3;
        let line = serde_json::to_string(&Line { time_seconds, event });
        let line = line.map_err(std::io::Error::from).map_err(Error::io(&self.path))?;
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(Error::io(&self.path))?;
        self.mirror.as_mut().map_or(Ok(()), |events| events.tell(event))
    }

    /// A run that was killed while writing leaves half a line; the next event begins on a new one.
    fn end_cut_line(&mut self) -> std::io::Result<()> {
        let mut last = [0];
        if self.file.metadata()?.len() > 0 {
            self.file.seek(SeekFrom::End(-1))?;
            self.file.read_exact(&mut last)?;
            if last != *b"\n" {
                self.file.write_all(b"\n")?;
            }
        }
        Ok(())
    }
}

/// Time at work over all the times that a run was begun, by its log: from each start to the last event
/// before the next, so that a time which a kill cut short counts too. 0 for a log that is not there.
pub fn seconds_at_work(path: &Path) -> Result<f64> {
    let text = match std::fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0.0),
        text => text.map_err(Error::io(path))?,
    };
    let (mut total, mut last) = (0.0, None);
    for line in text.split(|&byte| byte == b'\n') {
        // A cut line is one event less.
        let Ok(Head { time_seconds, event }) = serde_json::from_slice(line) else { continue };
        if let (Some(last), true) = (last, event != "start") {
            total += f64::max(time_seconds - last, 0.0);
        }
        last = Some(time_seconds);
    }
    Ok(total)
}

/// What every line has.
#[derive(Deserialize)]
struct Head {
    time_seconds: f64,
    event: String,
}

#[cfg(test)]
mod tests;
