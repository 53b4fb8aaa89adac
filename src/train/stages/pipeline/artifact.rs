//! Files and bundles that stages exchange, with their checksums.

use std::path::{Path, PathBuf};

use crate::model::Bundle;
use crate::train::import::marian;
use crate::{Result, files};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Artifact {
    File(PathBuf),
    /// Folder of a model. Its checksum covers weights and vocabulary, since edits of the card or recorded scores do
    /// not change the model.
    Bundle(PathBuf),
    /// Folder of a Marian model. Its checksum covers all files that are read.
    Marian(PathBuf),
}

impl Artifact {
    /// Prefix of every checksum.
    pub(super) const CHECKSUM: &str = "sha256:";

    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Bundle(path) | Self::Marian(path) => path,
        }
    }

    /// # Errors
    /// [`Error::Io`](crate::Error::Io) for a missing file.
    pub fn checksum(&self) -> Result<String> {
        let digest = match self {
            Self::File(path) => files::checksum(path)?,
            Self::Bundle(path) => {
                files::checksum(&path.join(Bundle::CONFIG))?;
                files::checksum_of_all([Bundle::WEIGHTS, Bundle::TOKENIZER].map(|file| path.join(file)))?
            }
            Self::Marian(path) => marian::checksum(path)?,
        };
        Ok(format!("{}{digest}", Self::CHECKSUM))
    }
}
