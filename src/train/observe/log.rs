//! The log of a run as JSON lines, for programs. [`progress`](crate::train::observe::progress) is for people.
//!
//! Events are only appended, one a line with its time, so a resumed run continues in the same file.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::train::observe::event::Event;
use crate::train::observe::tensorboard::Events;
use crate::{Error, Result};

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
    /// Receives all events, too.
    mirror: Option<Events>,
}

impl Log {
    /// Opens `path` to append. Creates the file and its folder.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        let file = OpenOptions::new().create(true).append(true).read(true).open(path);
        let mut log = Self { file: file.map_err(Error::io(path))?, path: path.to_path_buf(), mirror: None };
        log.end_cut_line().map_err(Error::io(path))?;
        Ok(log)
    }

    /// Sends all further events to TensorBoard, too.
    pub fn mirrored(self, events: Events) -> Self {
        Self { mirror: Some(events), ..self }
    }

    /// Appends one line, in a single write. A loss that is not a number becomes `null`.
    pub fn write(&mut self, event: &Event) -> Result<()> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let time_seconds = (since.as_secs_f64() * 1e3).round() / 1e3;
        let line = serde_json::to_string(&Line { time_seconds, event });
        let line = line.map_err(std::io::Error::from).map_err(Error::io(&self.path))?;
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(Error::io(&self.path))?;
        self.mirror.as_mut().map_or(Ok(()), |events| events.write_event(event))
    }

    /// Ends an incomplete line of a run that was killed while writing.
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

/// Total working time of a run, from its log: from each start to the last event before the next start, so that runs
/// that were killed count, too. 0 for a missing log.
pub fn seconds_at_work(path: &Path) -> Result<f64> {
    let text = match std::fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0.0),
        text => text.map_err(Error::io(path))?,
    };
    let (mut total, mut last) = (0.0, None);
    for line in text.split(|&byte| byte == b'\n') {
        // An incomplete line is skipped.
        let Ok(Head { time_seconds, event }) = serde_json::from_slice(line) else { continue };
        if let (Some(last), true) = (last, event != "start") {
            total += f64::max(time_seconds - last, 0.0);
        }
        last = Some(time_seconds);
    }
    Ok(total)
}

/// The fields of every line.
#[derive(Deserialize)]
struct Head {
    time_seconds: f64,
    event: String,
}

#[cfg(test)]
mod tests;
