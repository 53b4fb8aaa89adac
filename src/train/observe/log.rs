//! The log of a run as JSON lines, for programs. [`progress`](crate::train::observe::progress) is for people.
//!
//! The file is only appended to, one event a line with its time, so a resumed run continues in the same file.

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
