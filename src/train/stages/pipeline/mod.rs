//! `train run`: runs all stages from parallel text to a student, in order, from one configuration.
//!
//! A stage whose outputs exist and whose inputs are unchanged is skipped. An interrupted stage continues. A stage
//! whose inputs have changed starts over; its old outputs are moved aside, never deleted. `stages` is the table of
//! stages, [`record`] the state of each, `preflight` the checks before the first one.

mod artifact;
mod inputs;
mod preflight;
pub mod record;
mod stages;

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::HumanDuration;

use crate::train::config::Config;
use crate::train::observe::log;
use crate::train::observe::progress::{Overall, OverallGuard};
use crate::train::update::run::End;
use crate::{Error, Result, files};
use artifact::Artifact;
use inputs::Inputs;
use record::{Records, StageStatus};
use stages::PipelineStage;

/// Runs the stages of `config.pipeline.stages` that are not complete, then `finally`, under the lock of the run's folder.
/// `stop` is checked after each update and between stages; when it is set, the run saves and ends without `finally`.
///
/// # Errors
/// Errors of the configuration, text, folders, stages and `finally`. Completed stages stay complete.
pub fn run(config: &Config, stop: &AtomicBool, finally: impl FnOnce() -> Result<()>) -> Result<End> {
    let stages = stages::of(config)?;
    let _lock = lock(&config.output, false)?;
    let end = run_stages(config, &stages, stop)?;
    if end == End::Finished {
        finally()?;
    }
    Ok(end)
}

fn run_stages(config: &Config, stages: &[PipelineStage], stop: &AtomicBool) -> Result<End> {
    preflight::check(config, stages)?;
    let records = Records::open(&config.output)?;
    let view = Overall::open(stages.iter().map(|stage| stage.work).sum());
    for (number, stage) in (1..).zip(stages) {
        view.stage(format!("stage {number} of {}, {}", stages.len(), stage.name), stage.work);
        if stop.load(Ordering::Relaxed) || run_stage(stage, &records, &view, stop)? == End::Interrupted {
            return Ok(End::Interrupted);
        }
        view.done();
    }
    Ok(End::Finished)
}

fn run_stage(
    stage: &PipelineStage,
    records: &Records,
    view: &OverallGuard,
    stop: &AtomicBool,
) -> Result<End> {
    let name = stage.name;
    let inputs = stage.inputs()?;
    let before = match records.status(stage, &inputs)? {
        StageStatus::Complete(record) => {
            view.print(format!("{name}: already complete, took {}", time(record.seconds)));
            return Ok(End::Finished);
        }
        StageStatus::InProgress { seconds } => {
            view.print(format!("{name}: continues"));
            seconds
        }
        StageStatus::OutputModified { seconds, output } => {
            view.print(format!("{name}: continues, because {} was modified", output.display()));
            // Checkpoints and logs stay, so that training need not be repeated.
            set_aside(stage, stage.outputs.iter().map(Artifact::path), view)?;
            seconds
        }
        StageStatus::Recalibrated { seconds, differences } => {
            view.print(format!(
                "{name}: its output is written again, because settings changed: {}",
                differences.join("; ")
            ));
            set_aside(stage, stage.outputs.iter().map(Artifact::path), view)?;
            seconds
        }
        StageStatus::Absent => {
            view.print(format!("{name}: starts"));
            0.0
        }
        StageStatus::Outdated(differences) => {
            view.print(format!(
                "{name}: starts over, because its inputs changed: {}",
                differences.join("; ")
            ));
            set_aside(stage, stage.places(), view)?;
            records.forget(name)?;
            0.0
        }
    };
    records.begin(name, &inputs, before)?;
    let begin = Instant::now();
    let end = (stage.run)(&stage.config, stop)?;
    let seconds = seconds(stage, before + begin.elapsed().as_secs_f64())?;
    match end {
        End::Finished => finish(stage, records, inputs, seconds, view)?,
        End::Interrupted => records.begin(name, &inputs, seconds)?,
    }
    Ok(end)
}

fn finish(
    stage: &PipelineStage,
    records: &Records,
    inputs: Inputs,
    seconds: f64,
    view: &OverallGuard,
) -> Result<()> {
    let record = records.complete(stage, inputs, seconds)?;
    let paths: Vec<String> = record.outputs.keys().map(|path| path.display().to_string()).collect();
    view.print(format!("{}: done in {}: {}", stage.name, time(seconds), paths.join(", ")));
    Ok(())
}

/// Total time of a stage: from its log, if it has one, which also covers runs that were killed.
fn seconds(stage: &PipelineStage, measured: f64) -> Result<f64> {
    Ok(stage.log().map(log::seconds_at_work).transpose()?.map_or(measured, |logged| logged.max(measured)))
}

/// Moves the output of a stage to `superseded/NAME-n/` in the same folder. Everything moved at once has the same n.
fn set_aside<'a>(
    stage: &PipelineStage,
    places: impl Iterator<Item = &'a Path>,
    view: &OverallGuard,
) -> Result<()> {
    let aside =
        |place: &Path, n: u32| files::parent(place).join("superseded").join(format!("{}-{n}", stage.name));
    let free = |n: &u32| !stage.places().any(|place| aside(place, *n).exists());
    let n = (1..).find(free).unwrap_or(u32::MAX);
    for place in places.filter(|place| place.exists()) {
        let Some(name) = place.file_name() else { continue };
        let folder = aside(place, n);
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        fs::rename(place, folder.join(name)).map_err(Error::io(place))?;
        view.print(format!("{}: kept as {}", place.display(), folder.join(name).display()));
    }
    Ok(())
}

/// Locks a folder against other commands until the file is dropped. Take the lock before reading anything.
/// `shared` is for machines that share one task.
///
/// # Errors
/// [`Error::Bundle`] while another command holds the lock.
pub fn lock(output: &Path, shared: bool) -> Result<File> {
    files::lock(output, shared, "another `train` command")
}

fn time(seconds: f64) -> HumanDuration {
    HumanDuration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}
