//! What was typed becomes one validated [`Settings`].
//!
//! Three sources, the later wins: a TOML file, the environment (`TUTTI_<KEY>`), flags. A key has one
//! name in all three (`listen`, `TUTTI_LISTEN`, `--listen` or `--set listen=…`). First everything is
//! merged into `Raw`, where unknown keys are refused by name; then [`Settings`] is built from it or
//! an error says which key does not hold. Code past this module cannot meet an invalid value.
//!
//! This module must know nothing of clap: the command line hands over pairs of strings.

mod reference;

use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Value};
use serde::{Deserialize, Serialize};

use crate::decode::Steps;
use crate::model::{DeviceChoice, DtypeChoice};
use crate::{Error, Result, engine};

pub use reference::reference;

/// The variables that tutti reads start with this, all of them: containers set bare `PORT` and
/// `HOSTNAME` for their own purposes.
pub const ENV_PREFIX: &str = "TUTTI_";

/// Names the TOML file; read by the command line, not a key of the file.
pub const ENV_CONFIG: &str = "TUTTI_CONFIG";

/// Keys that have another name by now. The old ones work for one more version.
const RENAMED: [(&str, &str); 1] = [("max_passed_over", "max_overtakes_per_step")];

/// Flags for a part of `listen`, not keys of the file. They have no variables: Kubernetes sets `TUTTI_PORT`.
pub const HOST: &str = "host";
pub const PORT: &str = "port";

/// Everything that may be typed, with its default. `config/server.toml` documents each key.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    listen: String,
    model: PathBuf,
    threads: usize,
    device: String,
    dtype: String,
    shortlist: bool,
    lm: bool,
    log: String,
    log_format: LogFormat,
    max_body_bytes: usize,
    url_prefix: String,
    keep_other_languages: bool,
    max_texts: usize,
    max_text_chars: usize,
    max_concurrent_requests: usize,
    max_steps: u8,
    max_length_beam: usize,
    default_length_beam: usize,
    request_timeout_ms: u64,
    header_timeout_ms: u64,
    shutdown_delay_ms: u64,
    drain_timeout_ms: u64,
    max_queue_items: usize,
    max_queue_tokens: usize,
    max_batch_tokens: usize,
    max_batch_rows: usize,
    max_delay_us: u64,
    lookahead: usize,
    max_overtakes_per_step: u32,
}

impl Default for Raw {
    fn default() -> Self {
        let engine = engine::Options::default();
        Self {
            listen: "127.0.0.1:8080".into(),
            model: PathBuf::new(),
            threads: 0,
            device: "auto".into(),
            dtype: "auto".into(),
            shortlist: true,
            lm: true,
            log: "info".into(),
            log_format: LogFormat::Text,
            max_body_bytes: 4 << 20,
            url_prefix: String::new(),
            keep_other_languages: true,
            max_texts: 256,
            max_text_chars: 100_000,
            max_concurrent_requests: 1024,
            max_steps: 20,
            max_length_beam: 10,
            default_length_beam: 0,
            request_timeout_ms: 30_000,
            header_timeout_ms: 75_000,
            shutdown_delay_ms: 0,
            drain_timeout_ms: 20_000,
            max_queue_items: engine.max_queue_items,
            max_queue_tokens: engine.max_queue_tokens,
            max_batch_tokens: 0,
            max_batch_rows: 0,
            max_delay_us: engine.max_delay.as_micros() as u64,
            lookahead: 0,
            max_overtakes_per_step: engine.max_overtakes_per_step,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// What the server runs with. Every value holds.
#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: SocketAddr,
    /// The bundle's folder; empty for the one that is built in.
    pub model: PathBuf,
    pub device: DeviceChoice,
    pub dtype: DtypeChoice,
    /// Whether a bundle's shortlist is used.
    pub shortlist: bool,
    /// Whether a bundle's language model is used.
    pub lm: bool,
    /// A `tracing` filter, such as `info` or `tutti=debug`.
    pub log: String,
    pub log_format: LogFormat,
    pub http: HttpSettings,
    pub engine: engine::Options,
    /// What the log should say about old names.
    pub warnings: Vec<String>,
    raw: Raw,
}

/// What `http` may accept and for how long.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    pub max_body_bytes: usize,
    /// Before every path, such as `/translator`; empty for none. No slash at its end.
    pub url_prefix: String,
    /// A text that is detected to be in another language than the model's source, or is in another
    /// script, is given back as it is.
    pub keep_other_languages: bool,
    /// Texts in one request.
    pub max_texts: usize,
    /// Characters over all texts of one request.
    pub max_text_chars: usize,
    /// Translations in progress, from the first byte of the request on; above it 429.
    pub max_concurrent_requests: usize,
    /// The bundle may allow fewer.
    pub max_steps: Steps,
    pub max_length_beam: usize,
    /// 0 for what is usual with the model.
    pub default_length_beam: usize,
    /// From the head of the request to its answer; `deadline_ms` can only shorten it.
    pub request_timeout: Duration,
    /// For a client to send the head of a request, also on an idle connection.
    pub header_timeout: Duration,
    /// After the signal, how long requests are still accepted while `/readyz` says 503.
    pub shutdown_delay: Duration,
    /// After that, how long accepted requests may take to finish.
    pub drain_timeout: Duration,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self::from_raw(&Raw::default())
    }
}

impl Settings {
    /// Merges and validates. `environment` holds name and value (`std::env::vars()`), `flags` key and
    /// value; both may come in any order.
    ///
    /// # Errors
    /// [`Error::Config`] naming the key, or [`Error::Io`] when the file cannot be read.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self> {
        let mut figment = Figment::from(Serialized::defaults(Raw::default()));
        let mut warnings = Vec::new();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
            let in_file = |e| Error::Config(format!("{}: {}", path.display(), describe(e)));
            let keys: Dict = Figment::from(Toml::string(&text)).extract().map_err(in_file)?;
            figment = figment.merge(Serialized::globals(with_new_names(keys, &mut warnings)));
            // Read on its own first, so that a bad key is reported with the file's name.
            figment.extract::<Raw>().map_err(in_file)?;
        }
        figment =
            figment.merge(Serialized::globals(with_new_names(from_environment(environment), &mut warnings)));
        figment
            .extract::<Raw>()
            .map_err(|e| Error::Config(format!("environment ({ENV_PREFIX}*): {}", describe(e))))?;
        let (parts, flags): (Vec<_>, Vec<_>) =
            flags.into_iter().partition(|(key, _)| key == HOST || key == PORT);
        let flags: Dict = flags.into_iter().map(|(key, value)| (key, parse(&value))).collect();
        figment = figment.merge(Serialized::globals(with_new_names(flags, &mut warnings)));
        let mut raw: Raw = figment.extract().map_err(|e| Error::Config(format!("flags: {}", describe(e))))?;
        for (key, value) in parts {
            raw.listen = with_part(&raw.listen, &key, &value);
        }
        Ok(Self { warnings, ..Self::validate(raw)? })
    }

    fn validate(raw: Raw) -> Result<Self> {
        for (key, value) in [
            ("max_body_bytes", raw.max_body_bytes),
            ("max_texts", raw.max_texts),
            ("max_text_chars", raw.max_text_chars),
            ("max_concurrent_requests", raw.max_concurrent_requests),
            ("max_length_beam", raw.max_length_beam),
            ("max_queue_items", raw.max_queue_items),
            ("max_queue_tokens", raw.max_queue_tokens),
            ("request_timeout_ms", raw.request_timeout_ms as usize),
            ("header_timeout_ms", raw.header_timeout_ms as usize),
        ] {
            if value == 0 {
                return Err(Error::Config(format!("{key} must be at least 1")));
            }
        }
        if Steps::new(raw.max_steps).is_none() {
            return Err(Error::Config("max_steps must be at least 1".into()));
        }
        if raw.default_length_beam > raw.max_length_beam {
            let most = raw.max_length_beam;
            let reason =
                format!("default_length_beam must be 1 to max_length_beam ({most}), or 0 for the model's");
            return Err(Error::Config(reason));
        }
        let prefix = raw.url_prefix.trim_end_matches('/');
        let in_a_path = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
        if !(prefix.is_empty() || prefix.starts_with('/')) || !prefix.chars().all(in_a_path) {
            let reason = format!("url_prefix: {prefix:?} is not a path such as /translator");
            return Err(Error::Config(reason));
        }
        let listen = raw
            .listen
            .to_socket_addrs()
            .ok()
            .and_then(|mut addresses| addresses.next())
            .ok_or_else(|| Error::Config(format!("listen: {:?} is no host:port", raw.listen)))?;
        let threads = NonZeroUsize::new(raw.threads).unwrap_or_else(one_for_each_core);
        tracing_subscriber::EnvFilter::try_new(&raw.log)
            .map_err(|e| Error::Config(format!("log: {:?}: {e}", raw.log)))?;

        Ok(Self {
            listen,
            model: raw.model.clone(),
            device: raw.device.parse()?,
            dtype: raw.dtype.parse()?,
            shortlist: raw.shortlist,
            lm: raw.lm,
            log: raw.log.clone(),
            log_format: raw.log_format,
            http: HttpSettings::from_raw(&raw),
            engine: engine::Options {
                threads,
                max_queue_items: raw.max_queue_items,
                max_queue_tokens: raw.max_queue_tokens,
                max_batch_tokens: raw.max_batch_tokens,
                max_batch_rows: raw.max_batch_rows,
                max_delay: Duration::from_micros(raw.max_delay_us),
                lookahead: raw.lookahead,
                max_overtakes_per_step: raw.max_overtakes_per_step,
            },
            warnings: Vec::new(),
            raw,
        })
    }

    /// Every key with its effective value, for the start-up log and `check`; valid as a file.
    pub fn to_toml(&self) -> String {
        let mut effective = self.raw.clone();
        effective.threads = self.engine.threads.get();
        toml::to_string(&effective).unwrap_or_else(|e| format!("# cannot be shown: {e}\n"))
    }
}

/// Threads where no number is asked for.
pub fn one_for_each_core() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

impl HttpSettings {
    fn from_raw(raw: &Raw) -> Self {
        Self {
            max_body_bytes: raw.max_body_bytes,
            url_prefix: raw.url_prefix.trim_end_matches('/').to_owned(),
            keep_other_languages: raw.keep_other_languages,
            max_texts: raw.max_texts,
            max_text_chars: raw.max_text_chars,
            max_concurrent_requests: raw.max_concurrent_requests,
            max_steps: Steps::new(raw.max_steps).unwrap_or(Steps::ONE),
            max_length_beam: raw.max_length_beam,
            default_length_beam: raw.default_length_beam,
            request_timeout: Duration::from_millis(raw.request_timeout_ms),
            header_timeout: Duration::from_millis(raw.header_timeout_ms),
            shutdown_delay: Duration::from_millis(raw.shutdown_delay_ms),
            drain_timeout: Duration::from_millis(raw.drain_timeout_ms),
        }
    }
}

/// `TUTTI_MAX_STEPS=4` becomes `max_steps = 4`.
fn from_environment(environment: impl IntoIterator<Item = (String, String)>) -> Dict {
    environment
        .into_iter()
        .filter(|(name, _)| name != ENV_CONFIG && !set_by_kubernetes(name))
        .filter_map(|(name, value)| {
            let key = name.strip_prefix(ENV_PREFIX)?.to_ascii_lowercase();
            Some((key, parse(&value)))
        })
        .collect()
}

/// Old names become the new ones, each with a warning.
fn with_new_names(mut keys: Dict, warnings: &mut Vec<String>) -> Dict {
    for (old, new) in RENAMED {
        if let Some(value) = keys.remove(old) {
            warnings
                .push(format!("{old} is now called {new}; the old name will be refused by the next version"));
            keys.entry(new.to_owned()).or_insert(value);
        }
    }
    keys
}

/// A Service called `tutti` puts `TUTTI_SERVICE_HOST`, `TUTTI_SERVICE_PORT[_HTTP]`, `TUTTI_PORT` and
/// `TUTTI_PORT_8080_TCP[_…]` into every pod of its namespace; they are nobody's typing error.
fn set_by_kubernetes(name: &str) -> bool {
    name == "TUTTI_PORT" || name.starts_with("TUTTI_PORT_") || name.starts_with("TUTTI_SERVICE_")
}

/// A `host:port` in which one of them is replaced. IPv6 addresses get their brackets.
fn with_part(listen: &str, key: &str, value: &str) -> String {
    let (host, port) = listen.rsplit_once(':').unwrap_or((listen, "8080"));
    match key {
        PORT => format!("{host}:{value}"),
        _ if value.contains(':') && !value.starts_with('[') => format!("[{value}]:{port}"),
        _ => format!("{value}:{port}"),
    }
}

/// Numbers become numbers, `true` and `false` what they say, everything else stays text.
fn parse(value: &str) -> Value {
    let number = value.parse::<u64>().map(Value::from);
    let truth = value.parse::<bool>().map(Value::from);
    number.or(truth).unwrap_or_else(|_| Value::from(value))
}

/// The first error of figment's chain, with the key it is about.
fn describe(error: figment::Error) -> String {
    let key = error.path.join(".");
    if key.is_empty() { error.kind.to_string() } else { format!("{key}: {}", error.kind) }
}

#[cfg(test)]
mod tests;
