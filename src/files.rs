//! Writes files and folders atomically: they are there whole or not at all, whenever the machine stops.
//!
//! Everything is written next to its place under another name (`.NAME.unfinished`), flushed to the disk and renamed. Two writers of one
//! path at a time are not supported. Knows no content.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Writes a file and waits until it is on the disk; makes the folder where it is not there. A failure
/// leaves what stood there.
///
/// # Errors
/// [`Error::Io`] with the path that was asked for.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let unfinished = sibling_temp(path, "unfinished")?;
    fs::create_dir_all(parent(path)).map_err(Error::io(path))?;
    let written = File::create(&unfinished).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    });
    if written.is_err() {
        // What could not be finished is of no use; that it cannot be removed either is no further news.
        let _ = fs::remove_file(&unfinished);
    }
    written.map_err(Error::io(path))?;
    sync(parent(path))
}

/// The content of a file. A folder, a pipe or a device is refused: reading one may never end.
///
/// # Errors
/// [`Error::Io`] with the path; of kind `NotFound` where there is nothing.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let content = fs::metadata(path).and_then(|found| {
        if !found.is_file() {
            return Err(std::io::Error::new(ErrorKind::InvalidInput, "is not a regular file"));
        }
        fs::read(path)
    });
    content.map_err(Error::io(path))
}

/// The same as text.
///
/// # Errors
/// As [`read`], and for what is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    let invalid = |error| std::io::Error::new(ErrorKind::InvalidData, error);
    String::from_utf8(read(path)?).map_err(|error| Error::io(path)(invalid(error)))
}

/// A folder that this process alone writes to, for as long as the answer lives and however the process ends; with
/// `shared`, together with others that share it. `by` says what the other one may be.
///
/// # Errors
/// [`Error::Bundle`] while another process writes there.
pub fn lock(folder: &Path, shared: bool, by: &str) -> Result<File> {
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let file = File::open(folder).map_err(Error::io(folder))?;
    let locked = if shared { file.try_lock_shared() } else { file.try_lock() };
    match locked {
        Err(TryLockError::WouldBlock) => {
            Err(Error::bundle(folder, format!("{by} is at work in this folder")))
        }
        // Some network file systems lock no folders. Whoever uses one is on its own.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Waits until a file, or the names in a folder, are on the disk.
pub fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io(path))
}

/// The folder of a path, `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What may still be written where `folder` lies, in bytes; `None` if the system does not say.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let disk = rustix::fs::statvfs(folder).ok()?;
        disk.f_bavail.checked_mul(disk.f_frsize)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = folder;
        None
    }
}

/// SHA-256 of a file, in hex.
pub fn checksum(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&digest.finalize())),
            Ok(count) => digest.update(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io(path)(error)),
        }
    }
}

/// SHA-256 of the checksums of files, one after the other, in hex.
///
/// # Errors
/// As [`checksum`].
pub fn checksum_of_all(paths: impl IntoIterator<Item = PathBuf>) -> Result<String> {
    let parts = paths.into_iter().map(|path| checksum(&path)).collect::<Result<Vec<_>>>()?;
    Ok(digest(parts.concat().as_bytes()))
}

/// SHA-256 of bytes, in hex.
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a folder and puts it in the place of the one at `dir`, if there is one: at every moment one
/// of the two is there, whole. `fill` is given the new folder, and the files that it leaves are on the
/// disk before the places change.
///
/// # Errors
/// What `fill` answers, [`Error::Io`] for what cannot be made or moved. What stood at `dir` is then
/// still there.
pub fn replace_folder(dir: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let (fresh, aside) = (sibling_temp(dir, "unfinished")?, sibling_temp(dir, "replaced")?);
    fs::create_dir_all(parent(dir)).map_err(Error::io(parent(dir)))?;
    recover(dir, &aside)?;
    remove(&fresh)?;
    fs::create_dir(&fresh).map_err(Error::io(&fresh))?;
    let placed = fill(&fresh).and_then(|()| sync_all(&fresh)).and_then(|()| {
        if !dir.exists() {
            return fs::rename(&fresh, dir).map_err(Error::io(dir));
        }
        match exchange(&fresh, dir) {
            Ok(()) => Ok(()),
            Err(error) if can_not_exchange(&error) => swap_in_two_steps(&fresh, dir, &aside),
            Err(error) => Err(Error::io(dir)(error)),
        }
    });
    if placed.is_ok() {
        sync(parent(dir))?;
        remove(&aside)?;
    }
    // Now the old one, or what could not be finished.
    let removed = remove(&fresh);
    placed.and(removed)
}

/// Where the content of a folder is that [`replace_folder`] writes: there, but for the moment between
/// two renames, on a system that cannot exchange names.
pub fn resolve_current(dir: &Path) -> PathBuf {
    match sibling_temp(dir, "replaced") {
        Ok(aside) if !dir.exists() && aside.is_dir() => aside,
        _ => dir.to_path_buf(),
    }
}

/// Removes a folder so that, whenever the machine stops, it is there whole or not at all.
pub fn remove_folder(dir: &Path) -> Result<()> {
    let unfinished = sibling_temp(dir, "unfinished")?;
    remove(&unfinished)?;
    fs::rename(dir, &unfinished).map_err(Error::io(dir))?;
    remove(&unfinished)
}

/// Repairs what [`replace_folder`] and [`remove_folder`] left in `parent` when they were interrupted.
pub fn recover_all(parent: &Path) -> Result<()> {
    for entry in fs::read_dir(parent).map_err(Error::io(parent))? {
        let path = entry.map_err(Error::io(parent))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix('.'));
        if name.is_some_and(|name| name.ends_with(".unfinished")) {
            remove(&path)?;
        } else if let Some(name) = name.and_then(|name| name.strip_suffix(".replaced")) {
            recover(&parent.join(name), &path)?;
        }
    }
    Ok(())
}

/// Puts right what was left by a machine that died between the two renames.
fn recover(dir: &Path, aside: &Path) -> Result<()> {
    if aside.exists() && !dir.exists() {
        fs::rename(aside, dir).map_err(Error::io(dir))?;
    }
    remove(aside)
}

/// One step for the file system: no moment without a folder at `dir`.
#[cfg(target_os = "linux")]
fn exchange(fresh: &Path, dir: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, fresh, CWD, dir, RenameFlags::EXCHANGE)?)
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// An old kernel answers ENOSYS, some file systems EINVAL.
fn can_not_exchange(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput)
}

fn swap_in_two_steps(fresh: &Path, dir: &Path, aside: &Path) -> Result<()> {
    fs::rename(dir, aside).map_err(Error::io(dir))?;
    fs::rename(fresh, dir).map_err(|error| {
        // The old one is found where it is even if it cannot be moved back.
        let _ = fs::rename(aside, dir);
        Error::io(dir)(error)
    })
}

fn sync_all(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        sync(&entry.map_err(Error::io(folder))?.path())?;
    }
    sync(folder)
}

/// Removes a folder, or a link to one; that there is none is fine.
fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io(folder)(error)),
        _ => Ok(()),
    }
}

/// `.NAME.SUFFIX` in the same folder: a rename never crosses file systems.
fn sibling_temp(path: &Path, suffix: &str) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| {
        let reason = std::io::Error::new(ErrorKind::InvalidInput, "the path does not end in a name");
        Error::io(path)(reason)
    })?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".");
    hidden.push(suffix);
    Ok(path.with_file_name(hidden))
}

#[cfg(test)]
mod tests;
