//! Files and bundles that stages hand over, with their checksums.

use std::path::{Path, PathBuf};

use crate::model::Bundle;
use crate::train::import::marian;
use crate::{Result, files};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Artifact {
    File(PathBuf),
    /// A model's folder. What it is known by are weights and vocabulary: a card that is edited or a
    /// score that is recorded makes no other model.
    Bundle(PathBuf),
    /// A Marian model's folder, known by all that it is read from.
    Marian(PathBuf),
}

impl Artifact {
    /// What every checksum begins with.
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
