//! API keys with rate limits and quotas, from a file that contains only the hashes of the keys.
//!
//! ```toml
//! [[keys]]
//! name = "weblate"
//! sha256 = "…"                    # of the key, in hex; `tutti key NAME` creates both
//! requests_per_minute = 600       # optional
//! characters_per_day = 1000000    # optional
//! ```
//!
//! Keys are random and long, so one round of SHA-256 is enough. A key is compared with all hashes, so that the time
//! does not depend on which one matches. Keys are never logged; logs contain the name of the client.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{Error, Result, files};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The keys of a file, which can be reloaded.
pub struct Keys {
    path: PathBuf,
    clients: RwLock<Vec<Arc<Client>>>,
}

/// The owner of a key.
pub struct Client {
    key: Key,
    digest: [u8; 32],
    requests: Option<DefaultDirectRateLimiter>,
    characters: Option<DefaultDirectRateLimiter>,
}

/// Why a request is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    Missing,
    Invalid,
    TooFast { retry_after: Duration },
    Quota { retry_after: Duration },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    #[serde(default)]
    keys: Vec<Key>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    name: String,
    sha256: String,
    requests_per_minute: Option<NonZeroU32>,
    characters_per_day: Option<NonZeroU32>,
}

impl Keys {
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Config`] if it is invalid.
    pub fn open(path: &Path) -> Result<Self> {
        let clients = read(path, &[])?;
        Ok(Self { path: path.to_path_buf(), clients: RwLock::new(clients) })
    }

    /// Reloads the file. Clients whose entry is unchanged keep the remainder of their rate and quota. Returns the
    /// number of keys.
    ///
    /// # Errors
    /// As [`open`](Self::open); then the old keys are kept.
    pub fn reload(&self) -> Result<usize> {
        let clients = read(&self.path, &self.clients())?;
        let count = clients.len();
        *self.clients.write().unwrap_or_else(PoisonError::into_inner) = clients;
        Ok(count)
    }

    fn clients(&self) -> Vec<Arc<Client>> {
        self.clients.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The client with this key, if it may send a request now.
    pub fn admit(&self, key: Option<&str>) -> Result<Arc<Client>, Denied> {
        let key = key.filter(|key| !key.is_empty()).ok_or(Denied::Missing)?;
        let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let mut found = None;
        for client in self.clients.read().unwrap_or_else(PoisonError::into_inner).iter() {
            // Every hash is compared completely, for constant time.
            if bool::from(client.digest.ct_eq(&digest)) {
                found = Some(client.clone());
            }
        }
        let client = found.ok_or(Denied::Invalid)?;
        if let Some(requests) = &client.requests
            && let Err(not_until) = requests.check()
        {
            return Err(Denied::TooFast {
                retry_after: not_until.wait_time_from(DefaultClock::default().now()),
            });
        }
        Ok(client)
    }
}

impl Client {
    pub fn name(&self) -> &str {
        &self.key.name
    }

    /// Charges the characters of a request to the quota.
    pub fn charge(&self, characters: usize) -> Result<(), Denied> {
        let Some(quota) = &self.characters else { return Ok(()) };
        let Some(characters) = u32::try_from(characters).ok().and_then(NonZeroU32::new) else {
            return Ok(());
        };
        match quota.check_n(characters) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => {
                Err(Denied::Quota { retry_after: not_until.wait_time_from(DefaultClock::default().now()) })
            }
            // More characters than a whole day allows.
            Err(_) => Err(Denied::Quota { retry_after: DAY }),
        }
    }

    fn new(key: Key, path: &Path) -> Result<Self> {
        let wrong = |reason: &str| Error::Config(format!("{}: key {:?}: {reason}", path.display(), key.name));
        let digest = from_hex(&key.sha256).ok_or_else(|| wrong("sha256 is not 64 hexadecimal digits"))?;
        let characters = match key.characters_per_day {
            Some(characters) => {
                let quota = Quota::with_period(DAY / characters.get())
                    .ok_or_else(|| wrong("characters_per_day is too large"))?;
                Some(RateLimiter::direct(quota.allow_burst(characters)))
            }
            None => None,
        };
        let requests =
            key.requests_per_minute.map(|requests| RateLimiter::direct(Quota::per_minute(requests)));
        Ok(Self { key, digest, requests, characters })
    }
}

fn read(path: &Path, known: &[Arc<Client>]) -> Result<Vec<Arc<Client>>> {
    let text = files::read_text(path)?;
    let file: KeyFile = toml::from_str(&text)
        .map_err(|error| Error::Config(format!("{}: {}", path.display(), error.message())))?;
    let mut clients: Vec<Arc<Client>> = Vec::with_capacity(file.keys.len());
    for key in file.keys {
        let wrong = |reason: &str| Error::Config(format!("{}: key {:?}: {reason}", path.display(), key.name));
        if clients.iter().any(|other| other.key.name == key.name) {
            return Err(wrong("the name is used twice"));
        }
        match known.iter().find(|client| client.key == key) {
            Some(client) => clients.push(client.clone()),
            None => clients.push(Arc::new(Client::new(key, path)?)),
        }
    }
    Ok(clients)
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let bytes: Option<Vec<u8>> = (0..text.len() / 2)
        .map(|at| text.get(2 * at..2 * at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect();
    (text.len() == 64).then(|| bytes?.try_into().ok())?
}

/// Creates a key, and its entry for the file.
pub fn new_key(name: &str) -> (String, String) {
    let key = format!("tutti-{}", hex(&rand::random::<[u8; 24]>()));
    let entry = format!("[[keys]]\nname = {name:?}\nsha256 = \"{}\"\n", files::digest(key.as_bytes()));
    (key, entry)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
