//! What a run tells programs: a log of JSON lines. People are told by [`progress`](super::progress).
//!
//! The log is only ever appended to, one event a line with its time, so a resumed run goes on in the
//! same file.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::corpus::Skipped;
use super::evaluate::Decoding;
use super::tensorboard::Events;
use crate::nn::ops::operations;
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
    pub device: String,
    /// Of a large product, floating-point operations a second: see [`matrix_rate`](super::rate::matrix_rate).
    pub matrix_rate: f64,
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
    pub scores: Vec<Score>,
    pub samples: Vec<Sample>,
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

/// Tokens a second since it was last asked.
#[derive(Debug)]
pub struct Throughput {
    since: Instant,
    tokens: usize,
    /// Asked for before.
    operations: u64,
}

/// Each a second.
pub struct Rates {
    pub tokens: f64,
    /// In floating point, of products that this thread asked for.
    pub operations: f64,
}

impl Throughput {
    pub fn start() -> Self {
        Self { since: Instant::now(), tokens: 0, operations: operations() }
    }

    pub fn add(&mut self, tokens: usize) {
        self.tokens += tokens;
    }

    /// The rates, and a new beginning; start afresh after a pause that should not count.
    pub fn take(&mut self) -> Rates {
        let finished = std::mem::replace(self, Self::start());
        let seconds = finished.since.elapsed().as_secs_f64().max(1e-9);
        let operations = self.operations - finished.operations;
        Rates { tokens: finished.tokens as f64 / seconds, operations: operations as f64 / seconds }
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
mod tests {
    use candle_core::Device;
    use serde_json::Value;

    use super::*;
    use crate::nn::gemm::Precision;
    use crate::train::rate::matrix_rate;

    fn lines(path: &Path) -> Vec<Result<Value, serde_json::Error>> {
        std::fs::read_to_string(path).unwrap().lines().map(serde_json::from_str).collect()
    }

    #[test]
    fn every_event_is_one_line_with_its_name_and_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/log.jsonl");
        let mut log = Log::open(&path).unwrap();
        log.write(&Event::Train(Train {
            update: 20,
            epoch: 0,
            loss: f64::NAN,
            hidden_loss: None,
            length_loss: Some(2.5),
            gradient_norm: 1.0,
            learning_rate: 1e-4,
            tokens_per_second: 900.0,
            matrix_share: 0.5,
            padding_share: 0.05,
        }))
        .unwrap();
        let sample = Sample {
            decoding: Decoding::Beam(4),
            source: "two\nlines".into(),
            reference: "zwei".into(),
            translation: "\"zwei\"".into(),
        };
        let scores = vec![Score { decoding: Decoding::Beam(4), bleu: 12.25, chrf: 40.0 }];
        let samples = vec![sample];
        log.write(&Event::Valid(Valid { update: 20, seconds: 1.5, sentences: 1, scores, samples })).unwrap();

        let lines: Vec<Value> = lines(&path).into_iter().map(|line| line.unwrap()).collect();
        assert_eq!((&lines[0]["event"], &lines[0]["update"]), (&"train".into(), &20.into()));
        assert!(lines[0]["loss"].is_null() && lines[0]["time_seconds"].as_f64().unwrap() > 1e9);
        assert_eq!((&lines[1]["event"], &lines[1]["scores"][0]["bleu"]), (&"valid".into(), &12.25.into()));
        assert!(lines[0].get("hidden_loss").is_none(), "only a stage with a teacher has one");
        assert_eq!(lines[1]["samples"][0]["source"], "two\nlines");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn a_resumed_run_goes_on_below_a_line_that_was_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let stop = |update| Event::Stop(Stop { update, reason: "interrupted".into() });
        Log::open(&path).unwrap().write(&stop(1)).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"event\": \"tr").unwrap();
        Log::open(&path).unwrap().write(&stop(2)).unwrap();
        let lines = lines(&path);
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0].as_ref().unwrap()["update"], 1);
        assert!(lines[1].is_err());
        assert_eq!(lines[2].as_ref().unwrap()["update"], 2);
    }

    #[test]
    fn throughput_counts_from_the_last_time_it_was_taken() {
        let mut throughput = Throughput::start();
        throughput.add(1_000);
        throughput.add(500);
        matrix_rate(&Device::Cpu, Precision::F32).unwrap();
        let rates = throughput.take();
        assert!(
            rates.tokens > 0.0 && rates.operations > 1000.0 * rates.tokens,
            "a product has more operations"
        );
        let rates = throughput.take();
        assert_eq!((rates.tokens, rates.operations), (0.0, 0.0));
    }

    #[test]
    fn time_at_work_counts_what_was_cut_short_and_not_the_breaks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        assert_eq!(seconds_at_work(&path).unwrap(), 0.0);
        let event = |name: &str, time: f64| format!("{{\"time_seconds\":{time},\"event\":\"{name}\"}}\n");
        let text = [
            event("start", 10.0),
            event("train", 13.0),
            "{\"time_seconds\": 1".into(), // killed while writing
            "\n".into(),
            event("start", 100.0),
            event("train", 101.0),
            event("stop", 105.0),
        ];
        std::fs::write(&path, text.concat()).unwrap();
        assert_eq!(seconds_at_work(&path).unwrap(), 8.0);
    }
}
