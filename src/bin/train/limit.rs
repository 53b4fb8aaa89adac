//! When a run is to stop before it is done: Ctrl-C, and `--minutes`.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

static STOP: AtomicBool = AtomicBool::new(false);
static TIME_IS_OVER: AtomicBool = AtomicBool::new(false);

/// EX_TEMPFAIL of sysexits.h: the same command continues later.
const TIME_IS_OVER_STATUS: u8 = 75;

/// What the first Ctrl-C sets, and the end of `minutes` from now; the second Ctrl-C ends the program.
pub fn stop_flag(minutes: Option<f64>) -> Result<&'static AtomicBool> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("saving, then stopping; press Ctrl-C again to stop now");
    })?;
    if let Some(minutes) = minutes {
        let time = Duration::try_from_secs_f64(minutes * 60.0)
            .with_context(|| format!("--minutes {minutes} is not a number of minutes"))?;
        let over = move || {
            TIME_IS_OVER.store(true, Ordering::Relaxed);
            STOP.store(true, Ordering::Relaxed);
        };
        if time.is_zero() {
            over();
        } else {
            // It ends with the program.
            thread::Builder::new().name("limit".into()).spawn(move || {
                thread::sleep(time);
                over();
            })?;
        }
    }
    Ok(&STOP)
}

/// Says why the run has stopped, and with what status the program is to end.
pub fn interrupted(what: &str) -> ExitCode {
    if TIME_IS_OVER.load(Ordering::Relaxed) {
        eprintln!("{what}: --minutes is over; the same command continues from here");
        return TIME_IS_OVER_STATUS.into();
    }
    eprintln!("{what}; the same command continues from here");
    ExitCode::SUCCESS
}
