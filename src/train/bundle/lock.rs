//! The lock of a bundle: two commands never change it at the same time. It outlasts the folder, which is replaced when
//! a bundle is written again.

use std::fs::File;
use std::path::Path;

use crate::{Result, files};

/// Locks a bundle until the file is dropped. Take the lock before reading anything. `None` where the folder cannot be
/// replaced.
///
/// # Errors
/// [`Error::Bundle`](crate::Error::Bundle) while another command holds the lock.
pub fn lock(folder: &Path) -> Result<Option<File>> {
    files::lock_beside(folder, "another `train` command")
}

/// Like [`lock`], but waits for the other command. For the end of a long run, which must not fail because somebody
/// measures the old bundle.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) if there can be no lock.
pub fn wait(folder: &Path) -> Result<Option<File>> {
    let waiting = || eprintln!("{}: waits until another `train` command has finished", folder.display());
    files::wait_beside(folder, waiting)
}
