//! The texts that a run is validated with, one for each domain.

use std::sync::Arc;

use crate::Result;
use crate::text::Tokenizer;
use crate::train::config::{Data, ValidationConfig};
use crate::train::data::test_set::TestSet;

pub struct Domain {
    /// `valid` where a run has only one.
    pub name: String,
    pub set: TestSet,
}

impl Domain {
    /// Reads the first `sentences` lines of each text that a run is validated with. A line that is too long for the
    /// network, which takes `limit` tokens, is split as the server splits it.
    ///
    /// # Errors
    /// A file that cannot be read, does not fit its partner or is empty.
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
