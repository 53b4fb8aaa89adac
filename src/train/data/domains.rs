//! The texts that a run is validated with, one for each domain.

use crate::Result;
use crate::train::config::{Data, ValidationConfig};
use crate::train::data::test_set::TestSet;

pub struct Domain {
    /// `valid` where a run has only one.
    pub name: String,
    pub set: TestSet,
}

impl Domain {
    /// Reads the first `sentences` lines of each text that a run is validated with.
    ///
    /// # Errors
    /// A file that cannot be read, does not fit its partner or is empty.
    pub fn read_all(data: &Data, sentences: usize) -> Result<Vec<Self>> {
        let read = |ValidationConfig { name, source, target }| {
            Ok(Self { name, set: TestSet::read(&source, &target, sentences)? })
        };
        data.validation_sets().into_iter().map(read).collect()
    }
}
