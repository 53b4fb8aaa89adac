//! Checksums of a bundle's files, stored in its `config.json`. A file that was truncated or changed is refused. They
//! protect against accidents, not against an attacker, who can write new ones.

use std::collections::BTreeMap;
use std::path::Path;

use super::Bundle;
use crate::model::Config;
use crate::{Error, Result, files};

/// The files that a translation depends on; the last two are optional.
const SEALED: [&str; 4] = [Bundle::WEIGHTS, Bundle::TOKENIZER, Bundle::SHORTLIST, Bundle::LM];

/// The expected checksums of a folder.
pub(super) struct Seal<'a> {
    pub dir: &'a Path,
    pub config: &'a Config,
    /// The text of `config.json`.
    pub text: &'a str,
    /// The file that is not checked; [`Bundle::CONFIG`] disables all checks.
    pub skipped: Option<&'a str>,
}

impl Seal<'_> {
    /// # Errors
    /// [`Error::Bundle`] if `config.json` was changed.
    pub fn check_config(&self) -> Result<()> {
        if self.config.files.is_empty() {
            return Ok(());
        }
        let known = |file: &str| file == Bundle::CONFIG || SEALED.contains(&file);
        if let Some(file) = self.config.files.keys().find(|file| !known(file)) {
            return self.refuse(
                Bundle::CONFIG,
                &format!("it has a checksum of {file:?}, which is not a file of a bundle"),
            );
        }
        match self.config.files.get(Bundle::CONFIG) {
            Some(expected) => self.compare(Bundle::CONFIG, expected, &digest_without(self.text, expected)),
            None => self.refuse_unlisted(Bundle::CONFIG),
        }
    }

    /// # Errors
    /// [`Error::Bundle`] if `file` was changed.
    pub fn check(&self, file: &str, bytes: &[u8]) -> Result<()> {
        match self.config.files.get(file) {
            Some(expected) => self.compare(file, expected, &files::digest(bytes)),
            None if self.config.files.is_empty() => Ok(()),
            None => self.refuse_unlisted(file),
        }
    }

    fn compare(&self, file: &str, expected: &str, found: &str) -> Result<()> {
        if expected == found {
            return Ok(());
        }
        self.refuse(file, &format!("its SHA-256 is {found}, but {} lists {expected}", Bundle::CONFIG))
    }

    fn refuse_unlisted(&self, file: &str) -> Result<()> {
        self.refuse(file, &format!("{} has no checksum of it", Bundle::CONFIG))
    }

    /// An error, unless the file is not to be checked.
    fn refuse(&self, file: &str, what: &str) -> Result<()> {
        if self.skipped == Some(Bundle::CONFIG) || self.skipped == Some(file) {
            return Ok(());
        }
        let reason = format!(
            "{what}: copy the bundle again, or, if the change is intended, run `train seal --model {}`",
            self.dir.display()
        );
        Err(Error::bundle(self.dir.join(file), reason))
    }
}

/// The digest of a `config.json` from which its own checksum is removed.
fn digest_without(text: &str, own: &str) -> String {
    if own.is_empty() {
        files::digest(text.as_bytes())
    } else {
        files::digest(text.replace(own, "").as_bytes())
    }
}

/// Writes `config` with the checksums of the files in the folder.
pub(super) fn seal(dir: &Path, mut config: Config) -> Result<()> {
    config.files = BTreeMap::new();
    for file in SEALED {
        let path = dir.join(file);
        if path.exists() {
            config.files.insert(file.to_owned(), files::digest(&files::read(&path)?));
        }
    }
    config.files.insert(Bundle::CONFIG.to_owned(), String::new());
    let own = files::digest(config.to_json()?.as_bytes());
    config.files.insert(Bundle::CONFIG.to_owned(), own);
    files::write(&dir.join(Bundle::CONFIG), config.to_json()?.as_bytes())
}

#[cfg(test)]
mod tests;
