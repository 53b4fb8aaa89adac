//! The validation texts of a run, one for each domain.

use std::sync::Arc;

use crate::Result;
use crate::text::Tokenizer;
use crate::train::config::{Data, ValidationConfig};
use crate::train::data::test_set::TestSet;

pub struct Domain {
    /// `valid` for a single validation text.
    pub name: String,
    pub set: TestSet,
}

impl Domain {
    /// Reads the first `sentences` lines of each validation text. Lines that exceed the network's `limit` in tokens
    /// are split like in the server.
    ///
    /// # Errors
    /// A file that cannot be read, is empty or has another number of lines than its partner.
    pub fn read_all(
        data: &Data,
        sentences: usize,
        tokenizer: &Arc<Tokenizer>,
        limit: usize,
    ) -> Result<Vec<Self>> {
        let languages = (data.source_lang.as_str(), data.target_lang.as_str());
        let read = |ValidationConfig { name, source, target }| {
            let set = TestSet::read_within(&source, &target, sentences, tokenizer, languages, limit)?;
            Ok(Self { name, set })
        };
        data.validation_sets().into_iter().map(read).collect()
    }
}
