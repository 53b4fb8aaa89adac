//! Translated files until they are downloaded: in memory, limited in bytes and age.

use std::time::Duration;

use axum::body::Bytes;
use moka::sync::Cache;
use uuid::Uuid;

const MAX_BYTES: u64 = 64 << 20;
const MAX_AGE: Duration = Duration::from_secs(30 * 60);

#[derive(Clone, Debug)]
pub struct StoredFile {
    /// File name, safe in a header.
    pub name: String,
    pub media_type: &'static str,
    pub bytes: Bytes,
    /// Number of characters of the original document.
    pub characters: usize,
}

/// The store. It drops the oldest files when new ones need space.
pub struct Files(Cache<String, StoredFile>);

impl Default for Files {
    fn default() -> Self {
        let size = |_: &String, file: &StoredFile| u32::try_from(file.bytes.len() + 1024).unwrap_or(u32::MAX);
        Self(Cache::builder().weigher(size).max_capacity(MAX_BYTES).time_to_live(MAX_AGE).build())
    }
}

impl Files {
    /// Stores a file. Returns its id, which cannot be guessed and ends with the file's name.
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
