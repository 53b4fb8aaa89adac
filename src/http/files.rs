//! Translated files that wait to be fetched: in memory, bounded by bytes and age.

use std::time::Duration;

use axum::body::Bytes;
use moka::sync::Cache;
use uuid::Uuid;

const MAX_BYTES: u64 = 64 << 20;
const MAX_AGE: Duration = Duration::from_secs(30 * 60);

#[derive(Clone, Debug)]
pub struct StoredFile {
    /// Safe in a header.
    pub name: String,
    pub media_type: &'static str,
    pub bytes: Bytes,
    /// Of the document that it was made from.
    pub characters: usize,
}

/// The oldest files are dropped when new ones need their space.
pub struct Files(Cache<String, StoredFile>);

impl Default for Files {
    fn default() -> Self {
        let size = |_: &String, file: &StoredFile| u32::try_from(file.bytes.len() + 1024).unwrap_or(u32::MAX);
        Self(Cache::builder().weigher(size).max_capacity(MAX_BYTES).time_to_live(MAX_AGE).build())
    }
}

impl Files {
    /// The id under which the file is found: not to be guessed, with the file's name at its end.
    pub fn put(&self, file: StoredFile) -> String {
        let id = format!("{}.{}", Uuid::new_v4(), file.name);
        self.put_as(id.clone(), file);
        id
    }

    pub fn put_as(&self, id: String, file: StoredFile) {
        self.0.insert(id, file);
    }

    pub fn get(&self, id: &str) -> Option<StoredFile> {
        self.0.get(id)
    }
}
