//! Writes files and folders atomically: after a crash they are complete or unchanged.
//!
//! Everything is written next to its destination under another name (`.NAME.unfinished`), flushed to the disk and
//! renamed. Two writers of one path at a time are not supported.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Writes a file, creates its folder if necessary, and waits until it is on the disk. After an error the old content
/// is unchanged.
///
/// # Errors
/// [`Error::Io`] with `path`.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let unfinished = sibling_temp(path, "unfinished")?;
    fs::create_dir_all(parent(path)).map_err(Error::io(path))?;
    let written = File::create(&unfinished).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    });
    if written.is_err() {
        // The write has failed already; a second error adds nothing.
        let _ = fs::remove_file(&unfinished);
    }
    written.map_err(Error::io(path))?;
    sync(parent(path))
}

/// The content of a file. Folders, pipes and devices are refused, because reading one may never end.
///
/// # Errors
/// [`Error::Io`] with the path; of kind `NotFound` if it does not exist.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let content = fs::metadata(path).and_then(|found| {
        if !found.is_file() {
            return Err(std::io::Error::new(ErrorKind::InvalidInput, "is not a regular file"));
        }
        fs::read(path)
    });
    content.map_err(Error::io(path))
}

/// The content of a text file.
///
/// # Errors
/// As [`read`], and for text that is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    let invalid = |error| std::io::Error::new(ErrorKind::InvalidData, error);
    String::from_utf8(read(path)?).map_err(|error| Error::io(path)(invalid(error)))
}

/// Locks a folder until the returned file is dropped or the process ends. With `shared`, other processes may share
/// the lock. `by` describes the other process in the error.
///
/// # Errors
/// [`Error::Bundle`] while another process holds the lock.
pub fn lock(folder: &Path, shared: bool, by: &str) -> Result<File> {
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let file = File::open(folder).map_err(Error::io(folder))?;
    let locked = if shared { file.try_lock_shared() } else { file.try_lock() };
    unless_busy(locked, folder, by)?;
    Ok(file)
}

/// Locks a folder that [`replace_folder`] may replace: the lock is on the file `.NAME.lock` beside it, which stays.
/// `None` where nobody may create that file; nobody can replace the folder there.
///
/// # Errors
/// As [`lock`].
pub fn lock_beside(folder: &Path, by: &str) -> Result<Option<File>> {
    let file = lock_file(folder)?;
    if let Some(file) = &file {
        unless_busy(file.try_lock(), folder, by)?;
    }
    Ok(file)
}

/// Like [`lock_beside`], but waits while another process holds the lock. Calls `waiting` before it waits.
///
/// # Errors
/// [`Error::Io`] if the file beside the folder cannot be created.
pub fn wait_beside(folder: &Path, waiting: impl FnOnce()) -> Result<Option<File>> {
    let file = lock_file(folder)?;
    if let Some(file) = &file
        && matches!(file.try_lock(), Err(TryLockError::WouldBlock))
    {
        waiting();
        while file.lock().is_err_and(|error| error.kind() == ErrorKind::Interrupted) {}
    }
    Ok(file)
}

fn unless_busy(locked: Result<(), TryLockError>, folder: &Path, by: &str) -> Result<()> {
    match locked {
        Err(TryLockError::WouldBlock) => {
            Err(Error::bundle(folder, format!("{by} is using this folder; wait until it has finished")))
        }
        // Some network file systems do not support locks. There is no protection then.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

/// The file of [`lock_beside`]. A folder has the same one under each of its names.
fn lock_file(folder: &Path) -> Result<Option<File>> {
    let path = sibling_temp(&folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf()), "lock")?;
    fs::create_dir_all(parent(&path)).map_err(Error::io(&path))?;
    match File::options().write(true).create(true).truncate(false).open(&path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
            Ok(None)
        }
        Err(error) => Err(Error::io(&path)(error)),
    }
}

/// Waits until a file, or the entries of a folder, are on the disk.
pub fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io(path))
}

/// The folder of a path; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Free space of the file system of `folder`, in bytes; `None` if unknown.
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

/// SHA-256 of a file, in hexadecimal.
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

/// SHA-256 of the concatenated checksums of files, in hexadecimal.
///
/// # Errors
/// As [`checksum`].
pub fn checksum_of_all(paths: impl IntoIterator<Item = PathBuf>) -> Result<String> {
    let parts = paths.into_iter().map(|path| checksum(&path)).collect::<Result<Vec<_>>>()?;
    Ok(digest(parts.concat().as_bytes()))
}

/// SHA-256 of bytes, in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a folder and replaces the one at `dir`, if there is one. At every moment one of the two exists, complete.
/// `fill` writes the files of the new folder; they are on the disk before the folders are exchanged.
///
/// # Errors
/// Those of `fill`, and [`Error::Io`] if a folder cannot be created or moved. `dir` is unchanged then.
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
    // By now this is the old folder, or an incomplete new one.
    let removed = remove(&fresh);
    placed.and(removed)
}

/// The folder that has the content of `dir`. It differs from `dir` only between the two renames of
/// [`replace_folder`], on systems that cannot exchange names.
pub fn resolve_current(dir: &Path) -> PathBuf {
    match sibling_temp(dir, "replaced") {
        Ok(aside) if !dir.exists() && aside.is_dir() => aside,
        _ => dir.to_path_buf(),
    }
}

/// Removes a folder atomically: after a crash it is complete or gone.
pub fn remove_folder(dir: &Path) -> Result<()> {
    let unfinished = sibling_temp(dir, "unfinished")?;
    remove(&unfinished)?;
    fs::rename(dir, &unfinished).map_err(Error::io(dir))?;
    remove(&unfinished)
}

/// Repairs the state of an interrupted [`replace_folder`] or [`remove_folder`] in `parent`.
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

/// Repairs the state of a crash between the two renames.
fn recover(dir: &Path, aside: &Path) -> Result<()> {
    if aside.exists() && !dir.exists() {
        fs::rename(aside, dir).map_err(Error::io(dir))?;
    }
    remove(aside)
}

/// Exchanges two folders in one step, so that `dir` always exists.
#[cfg(target_os = "linux")]
fn exchange(fresh: &Path, dir: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, fresh, CWD, dir, RenameFlags::EXCHANGE)?)
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Old kernels return ENOSYS, some file systems EINVAL.
fn can_not_exchange(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput)
}

fn swap_in_two_steps(fresh: &Path, dir: &Path, aside: &Path) -> Result<()> {
    fs::rename(dir, aside).map_err(Error::io(dir))?;
    fs::rename(fresh, dir).map_err(|error| {
        // If this fails, `resolve_current` finds the old folder under its other name.
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

/// Removes a folder, or a link to one, if it exists.
fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io(folder)(error)),
        _ => Ok(()),
    }
}

/// `.NAME.SUFFIX` in the same folder, so that a rename stays on one file system.
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
