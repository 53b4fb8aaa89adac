//! The stored glossaries of all dialects, and the `glossary` parameter of a request. They are in memory, so a
//! restart deletes them; their number and size are limited.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use serde_json::Value;
use uuid::Uuid;

use super::error::ApiError;
use super::params::Params;
use crate::glossary::Glossary;

const MAX_GLOSSARIES: usize = 100;

/// Maximum size of all stored glossaries. A large one takes about 50 MB when it is compiled.
const MAX_BYTES: usize = 256 << 20;

#[derive(Clone, Debug)]
pub struct Stored {
    pub name: String,
    pub created: SystemTime,
    /// The languages as the client wrote them.
    pub source: String,
    pub target: String,
    pub glossary: Arc<Glossary>,
}

#[derive(Debug)]
pub struct Glossaries {
    stored: RwLock<BTreeMap<String, Stored>>,
    max_bytes: usize,
}

impl Default for Glossaries {
    fn default() -> Self {
        Self { stored: RwLock::default(), max_bytes: MAX_BYTES }
    }
}

impl Glossaries {
    /// # Errors
    /// [`ApiError::Quota`] if the limit of glossaries or of their memory is reached.
    pub fn put(&self, stored: Stored) -> Result<String, ApiError> {
        let mut all = self.stored.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_GLOSSARIES {
            return Err(ApiError::Quota { what: "glossaries", size: all.len() + 1, limit: MAX_GLOSSARIES });
        }
        let size = stored.glossary.bytes() + all.values().map(|each| each.glossary.bytes()).sum::<usize>();
        if size > self.max_bytes {
            return Err(ApiError::Quota { what: "bytes of all glossaries", size, limit: self.max_bytes });
        }
        let id = Uuid::new_v4().to_string();
        all.insert(id.clone(), stored);
        Ok(id)
    }

    /// # Errors
    /// [`ApiError::Unknown`] for an unknown id.
    pub fn get(&self, id: &str) -> Result<Stored, ApiError> {
        let all = self.stored.read().unwrap_or_else(PoisonError::into_inner);
        all.get(id).cloned().ok_or_else(|| unknown(id))
    }

    /// # Errors
    /// [`ApiError::Unknown`] for an unknown id.
    pub fn remove(&self, id: &str) -> Result<(), ApiError> {
        let mut all = self.stored.write().unwrap_or_else(PoisonError::into_inner);
        all.remove(id).map(drop).ok_or_else(|| unknown(id))
    }

    pub fn all(&self) -> Vec<(String, Stored)> {
        let all = self.stored.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(id, stored)| (id.clone(), stored.clone())).collect()
    }
}

fn unknown(id: &str) -> ApiError {
    ApiError::Unknown { kind: "glossary", id: id.to_owned() }
}

/// The `glossary` of a request: terms with their translations, or the id of a stored one.
///
/// # Errors
/// 400 for anything else and for terms that [`Glossary::new`] refuses, 404 for an unknown id.
pub fn of_request(params: &Params, stored: &Glossaries) -> Result<Option<Arc<Glossary>>, ApiError> {
    match params.get("glossary") {
        None => Ok(None),
        // In a form or a query, a map is JSON text.
        Some(Value::String(text)) if text.trim_start().starts_with('{') => match serde_json::from_str(text) {
            Ok(Value::Object(map)) => of_map(&map).map(Some),
            _ => Err(ApiError::invalid("glossary parameter is not valid JSON")),
        },
        Some(Value::String(id)) => Ok(Some(stored.get(id)?.glossary)),
        Some(Value::Object(map)) => of_map(map).map(Some),
        Some(_) => Err(ApiError::invalid("glossary parameter is neither a map of terms nor an id")),
    }
}

/// # Errors
/// 400 for a translation that is not a string and for terms that [`Glossary::new`] refuses.
pub fn of_map(map: &serde_json::Map<String, Value>) -> Result<Arc<Glossary>, ApiError> {
    let terms = map.iter().map(|(term, translation)| match translation {
        Value::String(translation) => Ok((term.clone(), translation.clone())),
        _ => Err(ApiError::invalid(format!("glossary: the translation of {term:?} is not a string"))),
    });
    Ok(Arc::new(Glossary::new(terms.collect::<Result<Vec<_>, _>>()?)?))
}

#[cfg(test)]
mod tests;
