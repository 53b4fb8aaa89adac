//! Locks and seals around everything that writes a bundle or another folder.

use std::fs::File;
use std::path::Path;

use anyhow::Result;
use tutti::known;
use tutti::model::Bundle;
use tutti::train::bundle::lock;
use tutti::train::config::Config;
use tutti::train::stages::pipeline;

use crate::dims_output;

/// Seals the new bundles of a run, and `made` if it is one.
pub fn seal_new(config: &Config, made: &Path) -> tutti::Result<()> {
    for folder in [made.to_owned(), config.output.join("bundle"), dims_output(config).join("bundle")] {
        if folder.join(Bundle::CONFIG).is_file() {
            let _lock = lock::wait(&folder)?;
            let bundle = Bundle::open_unsealed(&folder)?;
            if !bundle.is_sealed() {
                known::seal(&bundle, None)?;
            }
        }
    }
    Ok(())
}

/// Runs `write`, which writes a folder, under a lock.
pub fn writing_folder(folder: &Path, write: impl FnOnce() -> Result<()>) -> Result<()> {
    let existed = folder.exists();
    let _lock = pipeline::lock(folder, false)?;
    let written = write();
    if written.is_err() && !existed {
        // The lock has created the folder. Only an empty one is removed.
        let _ = std::fs::remove_dir(folder);
    }
    written
}

/// Runs `write`, which writes a bundle's folder, and seals the bundle, under its locks.
pub fn writing_bundle(folder: &Path, write: impl FnOnce() -> Result<()>) -> Result<()> {
    let _lock = lock::lock(folder)?;
    writing_folder(folder, || {
        write()?;
        seal(folder)
    })
}

/// Runs `change`, which changes files of a bundle, and seals the bundle, under its locks.
pub fn changing_bundle(folder: &Path, change: impl FnOnce() -> Result<()>) -> Result<()> {
    let _locks = lock_existing(folder)?;
    change()?;
    seal(folder)
}

/// The locks of a bundle that a command changes: one beside the folder, which holds if another command replaces it, and
/// one on the folder itself, which may also be that of a run. A folder that is missing is not created; opening it says so.
pub fn lock_existing(folder: &Path) -> Result<Option<(Option<File>, File)>> {
    if !folder.is_dir() {
        return Ok(None);
    }
    Ok(Some((lock::lock(folder)?, pipeline::lock(folder, false)?)))
}

fn seal(folder: &Path) -> Result<()> {
    known::seal(&Bundle::open_unsealed(folder)?, None)?;
    Ok(())
}
