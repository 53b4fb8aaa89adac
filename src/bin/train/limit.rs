//! Stops a run before it is complete, because of Ctrl-C or `--minutes`.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

static STOP: AtomicBool = AtomicBool::new(false);
static TIME_LIMIT_REACHED: AtomicBool = AtomicBool::new(false);

/// EX_TEMPFAIL of sysexits.h: the same command continues later.
const TIME_LIMIT_STATUS: u8 = 75;

/// A flag that is set by the first Ctrl-C, or `minutes` from now. The second Ctrl-C ends the program.
pub fn stop_flag(minutes: Option<f64>) -> Result<&'static AtomicBool> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("saving, then stopping; press Ctrl-C again to stop now");
    })?;
    if let Some(minutes) = minutes {
        let time = Duration::try_from_secs_f64(minutes * 60.0)
            .with_context(|| format!("--minutes must be 0 or more, not {minutes}"))?;
        let stop = move || {
            TIME_LIMIT_REACHED.store(true, Ordering::Relaxed);
            STOP.store(true, Ordering::Relaxed);
        };
        if time.is_zero() {
            stop();
        } else {
            // The thread ends with the program.
            thread::Builder::new().name("limit".into()).spawn(move || {
                thread::sleep(time);
                stop();
            })?;
        }
    }
    Ok(&STOP)
}

/// Prints why the run has stopped. Returns the exit status.
pub fn interrupted(what: &str) -> ExitCode {
    if TIME_LIMIT_REACHED.load(Ordering::Relaxed) {
        eprintln!("{what} after --minutes; the same command continues from here");
        return TIME_LIMIT_STATUS.into();
    }
    eprintln!("{what}; the same command continues from here");
    ExitCode::SUCCESS
}
