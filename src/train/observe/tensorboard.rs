//! Writes the events of the log as TensorBoard event files.
//!
//! A file is a sequence of TFRecords, each an `Event` message. The messages are declared here as far as needed, with
//! the field numbers of TensorFlow's `event.proto` and `summary.proto`. Each process writes its own file, which
//! starts with the update that it continues from, so that TensorBoard drops what a killed process wrote after its
//! last checkpoint.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crc::{CRC_32_ISCSI, Crc};
use prost::Message;
use serde_json::Value;

use crate::train::observe::event;
use crate::{Error, Result};

/// An event file. Events are written immediately.
#[derive(Debug)]
pub struct Events {
    file: File,
    path: PathBuf,
}

impl Events {
    /// Creates a file in `folder`, and the folder.
    pub fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let (seconds, process) = (now().as_secs(), std::process::id());
        let name = |number| format!("events.out.tfevents.{seconds:010}.tutti.{process}.{number}");
        // Tests start several runs in one process within a second.
        let mut number = 0;
        while folder.join(name(number)).exists() {
            number += 1;
        }
        let path = folder.join(name(number));
        let file = OpenOptions::new().create_new(true).append(true).open(&path).map_err(Error::io(&path))?;
        let mut events = Self { file, path };
        events.write(0, |e| e.file_version = Some("brain.Event:2".into()))?;
        Ok(events)
    }

    /// Writes the parts of an event that TensorBoard can show.
    pub fn write_event(&mut self, event: &event::Event) -> Result<()> {
        match event {
            event::Event::Start(start) => {
                let session = SessionLog { status: SESSION_START };
                self.write(start.update + 1, |e| e.session_log = Some(session))
            }
            event::Event::Train(train) => self.summarise(train.update, scalars(train)?),
            event::Event::Skip(skip) => {
                self.summarise(skip.update, vec![scalar("train/skipped".into(), skip.skipped as f64)])
            }
            event::Event::Valid(valid) => {
                let mut values = Vec::new();
                score_curves("valid", &valid.scores, &mut values);
                for domain in &valid.domains {
                    score_curves(&format!("valid/{}", domain.name), &domain.scores, &mut values);
                }
                values.push(samples(&valid.samples));
                self.summarise(valid.update, values)
            }
            event::Event::Checkpoint(_) | event::Event::Stop(_) => Ok(()),
        }
    }

    fn summarise(&mut self, update: u64, value: Vec<SummaryValue>) -> Result<()> {
        self.write(update, |e| e.summary = Some(Summary { value }))
    }

    fn write(&mut self, step: u64, what: impl FnOnce(&mut Event)) -> Result<()> {
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        let mut event = Event { wall_time: now().as_secs_f64(), step, ..Event::default() };
        what(&mut event);
        self.file.write_all(&record(&event.encode_to_vec())).map_err(Error::io(&self.path))
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// BLEU and chrF of each decoding, as `prefix/bleu@1`.
fn score_curves(prefix: &str, scores: &[event::ValidationScore], values: &mut Vec<SummaryValue>) {
    for score in scores {
        let decoding = score.decoding.tag();
        for (name, value) in [("bleu", score.bleu), ("chrf", score.chrf)] {
            values.push(scalar(format!("{prefix}/{name}@{decoding}"), value));
        }
    }
}

/// All numbers of the event, under their names in the log.
fn scalars(train: &event::Train) -> Result<Vec<SummaryValue>> {
    let event = serde_json::to_value(train).map_err(|e| Error::Config(e.to_string()))?;
    let numbers = event.as_object().into_iter().flatten().filter(|(name, _)| *name != "update");
    Ok(numbers
        .filter_map(|(name, value)| match value {
            Value::Number(number) => Some(scalar(format!("train/{name}"), number.as_f64()?)),
            // A loss that is not a number is kept, because it is worth seeing.
            Value::Null => Some(scalar(format!("train/{name}"), f64::NAN)),
            _ => None,
        })
        .collect())
}

fn scalar(tag: String, value: f64) -> SummaryValue {
    SummaryValue { tag, simple_value: Some(value as f32), ..SummaryValue::default() }
}

/// A Markdown table for the text plugin.
fn samples(samples: &[event::Sample]) -> SummaryValue {
    let cell = |text: &str| text.replace('|', "\\|").replace(['\n', '\r'], " ");
    let mut table = String::from("| decoding | source | translation | reference |\n|---|---|---|---|\n");
    for s in samples {
        let (source, translation, reference) = (cell(&s.source), cell(&s.translation), cell(&s.reference));
        table += &format!("| {} | {source} | {translation} | {reference} |\n", s.decoding);
    }
    let plugin = PluginData { plugin_name: "text".into() };
    SummaryValue {
        tag: "valid/samples".into(),
        tensor: Some(Tensor {
            dtype: DT_STRING,
            shape: Some(TensorShape { dim: vec![Dimension { size: 1 }] }),
            string_val: vec![table.into_bytes()],
        }),
        metadata: Some(Metadata { plugin_data: Some(plugin) }),
        ..SummaryValue::default()
    }
}

/// A TFRecord: length, checksum of the length, data, checksum of the data; little endian.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let crc = |data: &[u8]| masked_crc(data).to_le_bytes();
    [length.as_slice(), &crc(&length), data, &crc(data)].concat()
}

/// CRC-32C, rotated and offset, so that checksums of data with checksums stay useful (TensorFlow's `crc32c.h`).
fn masked_crc(data: &[u8]) -> u32 {
    const CASTAGNOLI: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
    CASTAGNOLI.checksum(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// `SessionLog.SessionStatus.START`: earlier files' events of this step or later are dropped.
const SESSION_START: i32 = 1;
/// `DataType.DT_STRING`.
const DT_STRING: i32 = 7;

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<SummaryValue>,
}

#[derive(Clone, PartialEq, Message)]
struct SummaryValue {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
    #[prost(message, optional, tag = "8")]
    tensor: Option<Tensor>,
    #[prost(message, optional, tag = "9")]
    metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(message, optional, tag = "1")]
    plugin_data: Option<PluginData>,
}

#[derive(Clone, PartialEq, Message)]
struct PluginData {
    #[prost(string, tag = "1")]
    plugin_name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int32, tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<TensorShape>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    string_val: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorShape {
    #[prost(message, repeated, tag = "2")]
    dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, tag = "1")]
    size: i64,
}

#[cfg(test)]
mod tests;
