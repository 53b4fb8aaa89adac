//! The validation texts of a run, one for each domain.

use crate::Result;
use crate::train::config::{Data, ValidationConfig};
use crate::train::data::test_set::TestSet;

pub struct Domain {
    /// `valid` for a single validation text.
    pub name: String,
    pub set: TestSet,
}

impl Domain {
    /// Reads the first `sentences` lines of each validation text.
    ///
    /// # Errors
    /// A file that cannot be read, is empty or has another number of lines than its partner.
    pub fn read_all(data: &Data, sentences: usize) -> Result<Vec<Self>> {
        let read = |ValidationConfig { name, source, target }| {
            Ok(Self { name, set: TestSet::read(&source, &target, sentences)? })
        };
        data.validation_sets().into_iter().map(read).collect()
    }
}
