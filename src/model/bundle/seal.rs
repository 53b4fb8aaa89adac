//! Checksums of a bundle's files, kept in its `config.json`: a copy that was cut or changed on its way is refused,
//! not served. They guard against accidents, not against somebody who writes new ones.

use std::collections::BTreeMap;
use std::path::Path;

use super::Bundle;
use crate::model::Config;
use crate::{Error, Result, files};

/// Files that a translation depends on; the last two may be missing.
const SEALED: [&str; 4] = [Bundle::WEIGHTS, Bundle::TOKENIZER, Bundle::SHORTLIST, Bundle::LM];

/// What the files of a folder should be.
pub(super) struct Seal<'a> {
    pub dir: &'a Path,
    pub config: &'a Config,
    /// Of `config.json`, as it was read.
    pub text: &'a str,
    /// The file that is not looked at; [`Bundle::CONFIG`] for all of them.
    pub left: Option<&'a str>,
}

impl Seal<'_> {
    /// # Errors
    /// [`Error::Bundle`] for a `config.json` that is not as it was written.
    pub fn check_config(&self) -> Result<()> {
        if self.config.files.is_empty() {
            return Ok(());
        }
        let known = |file: &str| file == Bundle::CONFIG || SEALED.contains(&file);
        if let Some(file) = self.config.files.keys().find(|file| !known(file)) {
            return self.compare(Bundle::CONFIG, "of known files", &format!("of {file}"));
        }
        let expected = self.config.files.get(Bundle::CONFIG).map_or("missing", String::as_str);
        self.compare(Bundle::CONFIG, expected, &digest_without(self.text, expected))
    }

    /// # Errors
    /// [`Error::Bundle`] for a file that is not as it was written.
    pub fn check(&self, file: &str, bytes: &[u8]) -> Result<()> {
        match self.config.files.get(file) {
            Some(expected) => self.compare(file, expected, &files::digest(bytes)),
            None if self.config.files.is_empty() => Ok(()),
            None => self.compare(file, "missing", &files::digest(bytes)),
        }
    }

    fn compare(&self, file: &str, expected: &str, found: &str) -> Result<()> {
        if expected == found || self.left == Some(Bundle::CONFIG) || self.left == Some(file) {
            return Ok(());
        }
        let reason = format!(
            "its SHA-256 is {found}, but the one in {} is {expected}: copy the bundle again, or, if the change is \
             meant, run `train seal --model {}`",
            Bundle::CONFIG,
            self.dir.display()
        );
        Err(Error::bundle(self.dir.join(file), reason))
    }
}

/// Of the text of a `config.json`, without its own checksum.
fn digest_without(text: &str, own: &str) -> String {
    if own.is_empty() {
        files::digest(text.as_bytes())
    } else {
        files::digest(text.replace(own, "").as_bytes())
    }
}

/// Writes `config` with the checksums of the files that are in the folder.
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
