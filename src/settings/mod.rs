//! Reads and validates the [`Settings`] of the server.
//!
//! There are three sources, and the later one overrides the earlier: a TOML file, the environment (`TUTTI_<KEY>`),
//! flags. A key has the same name in all three (`listen`, `TUTTI_LISTEN`, `--listen` or `--set listen=…`). They
//! are merged into `Raw`, which refuses unknown keys, and validated into [`Settings`], so that no other module has
//! to check a value.
//!
//! The module does not depend on clap: the command line passes pairs of strings.

mod models;
mod ranges;
mod raw;
mod reference;

use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::error::Kind;
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Value};
use serde::{Deserialize, Serialize};

use crate::decode::Steps;
use crate::{Error, Result, engine, files, keys};

pub use models::ModelSettings;
use raw::Raw;
pub use reference::reference;

/// Prefix of all variables that tutti reads. Containers set `PORT` and `HOSTNAME` for other purposes.
pub const ENV_PREFIX: &str = "TUTTI_";

/// Variable with the path of the TOML file. Not a key of the file; the command line reads it.
pub const ENV_CONFIG: &str = "TUTTI_CONFIG";

/// Keys that were renamed, as pairs of old and new name. The old names work for one more version.
const RENAMED: [(&str, &str); 1] = [("max_passed_over", "max_overtakes_per_step")];

/// Keys whose values may be fractions.
const FRACTIONS: [&str; 1] = ["otlp_ratio"];

/// Flags for the parts of `listen`. They are not keys of the file and have no variables: Kubernetes sets `TUTTI_PORT`.
pub const HOST: &str = "host";
pub const PORT: &str = "port";

/// Largest number of compute threads.
const MAX_THREADS: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// The validated settings of the server.
#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: SocketAddr,
    /// Separate address for probes and metrics.
    pub admin_listen: Option<SocketAddr>,
    /// At least one.
    pub models: Vec<ModelSettings>,
    /// Whether a bundle's shortlist is used.
    pub shortlist: bool,
    /// Whether a bundle's language model is used.
    pub lm: bool,
    /// A `tracing` filter, such as `info` or `tutti=debug`.
    pub log: String,
    pub log_format: LogFormat,
    pub http: HttpSettings,
    pub engine: engine::Options,
    /// One warning for each renamed key that was used.
    pub warnings: Vec<String>,
    raw: Raw,
}

/// Limits and timeouts of HTTP.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    pub max_body_bytes: usize,
    /// Whether each request is logged.
    pub access_log: bool,
    /// Collector of spans, such as `http://collector:4318`; `None` for no spans.
    pub otlp_endpoint: Option<String>,
    /// Share of requests with spans, 0 to 1, if the client does not decide it.
    pub otlp_ratio: f64,
    /// The file of API keys; `None` if requests need no key.
    pub api_keys: Option<PathBuf>,
    /// Origins of pages that may use the API from a browser; `None` for any.
    pub cors_origins: Option<Vec<String>>,
    /// Prefix of every path, such as `/translator`, without a slash at its end; empty for none.
    pub url_prefix: String,
    /// Whether a text that is in another language or script than the model's source is returned unchanged.
    pub keep_other_languages: bool,
    /// Number of texts in a request.
    pub max_texts: usize,
    /// Number of characters in all texts of a request.
    pub max_text_chars: usize,
    /// Number of requests in progress, counted from the last byte of their body; more are answered with 429.
    pub max_concurrent_requests: usize,
    /// Number of open connections; 0 for as many as the limit of open files allows.
    pub max_connections: usize,
    /// Largest number of steps; the bundle may allow fewer.
    pub max_steps: Steps,
    pub max_length_beam: usize,
    /// 0 for the default of the model.
    pub default_length_beam: usize,
    /// Time from the head of the request to its answer; `deadline_ms` can only shorten it.
    pub request_timeout: Duration,
    /// Time for the head of a request, from its first byte.
    pub header_timeout: Duration,
    /// Time for the body of a request, from the end of its head.
    pub body_timeout: Duration,
    /// Time that a connection may be idle.
    pub idle_timeout: Duration,
    /// Time after the signal in which requests are still accepted while `/readyz` answers 503.
    pub shutdown_delay: Duration,
    /// Time after that in which accepted requests may finish.
    pub drain_timeout: Duration,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self::from_raw(&Raw::default())
    }
}

impl Settings {
    /// Merges and validates all sources. `environment` holds names and values (`std::env::vars()`), `flags` keys and
    /// values; the order does not matter.
    ///
    /// # Errors
    /// [`Error::Config`] with the name of the key, or [`Error::Io`] if the file cannot be read.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self> {
        let mut figment = Figment::from(Serialized::defaults(Raw::default()));
        let mut warnings = Vec::new();
        if let Some(path) = file {
            let text = files::read_text(path)?;
            let in_file = |e| Error::Config(format!("{}: {}", path.display(), describe(e)));
            let dict: Dict = Figment::from(Toml::string(&text)).extract().map_err(in_file)?;
            figment = figment.merge(Serialized::globals(with_new_names(dict, &mut warnings)));
            // Read separately first, so that the error for a bad key names the file.
            figment.extract::<Raw>().map_err(in_file)?;
        }
        figment =
            figment.merge(Serialized::globals(with_new_names(from_environment(environment), &mut warnings)));
        figment
            .extract::<Raw>()
            .map_err(|e| Error::Config(format!("environment ({ENV_PREFIX}*): {}", describe(e))))?;
        let (parts, flags): (Vec<_>, Vec<_>) =
            flags.into_iter().partition(|(key, _)| key == HOST || key == PORT);
        let flags: Dict = flags
            .into_iter()
            .map(|(key, value)| {
                let value = parse(&key, &value);
                (key, value)
            })
            .collect();
        figment = figment.merge(Serialized::globals(with_new_names(flags, &mut warnings)));
        let mut raw: Raw = figment.extract().map_err(|e| Error::Config(format!("flags: {}", describe(e))))?;
        for (key, value) in parts {
            raw.listen = with_part(&raw.listen, &key, &value);
        }
        Ok(Self { warnings, ..Self::validate(raw)? })
    }

    fn validate(raw: Raw) -> Result<Self> {
        ranges::check(&raw)?;
        let prefix = raw.url_prefix.trim_end_matches('/');
        let in_a_path = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
        if !(prefix.is_empty() || prefix.starts_with('/')) || !prefix.chars().all(in_a_path) {
            let reason = format!("url_prefix: {prefix:?} is not a path such as /translator");
            return Err(Error::Config(reason));
        }
        if OUTSIDE_PREFIX.contains(&prefix) {
            let reason = format!("url_prefix: {prefix} is a path of probes and metrics; choose another");
            return Err(Error::Config(reason));
        }
        origins(&raw.cors_origins)?;
        let endpoint = &raw.otlp_endpoint;
        if !endpoint.is_empty() && !endpoint.starts_with("http://") {
            return Err(Error::Config(format!(
                "otlp_endpoint: {endpoint:?} is not a URL such as http://collector:4318 (https is not supported)"
            )));
        }
        let listen = address("listen", &raw.listen)?;
        let admin_listen = match raw.admin_listen.as_str() {
            "" => None,
            set => Some(address("admin_listen", set)?),
        };
        let threads = compute_threads(raw.threads)?;
        tracing_subscriber::EnvFilter::try_new(&raw.log)
            .map_err(|e| Error::Config(format!("log: {:?}: {e}", raw.log)))?;

        Ok(Self {
            listen,
            admin_listen,
            models: models::of(&raw, threads)?,
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
                degrade: degrade(&raw)?,
                coalesce: raw.coalesce,
                cache_bytes: raw.cache_bytes,
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

/// Parses origins separated by commas; `None` for `*`.
fn origins(text: &str) -> Result<Option<Vec<String>>> {
    if text.trim() == "*" {
        return Ok(None);
    }
    let origin = |origin: &str| {
        let wrong = || {
            Error::Config(format!("cors_origins: {origin:?} is not an origin such as https://example.org"))
        };
        let host = origin.split_once("://").map(|(_, host)| host).unwrap_or_default();
        let in_a_host = |c: char| c.is_ascii_graphic() && c != '/';
        if host.is_empty() || !host.chars().all(in_a_host) { Err(wrong()) } else { Ok(origin.to_owned()) }
    };
    let origins = text.split(',').map(str::trim).filter(|text| !text.is_empty());
    Ok(Some(origins.map(origin).collect::<Result<_>>()?))
}

fn degrade(raw: &Raw) -> Result<Option<engine::DegradePolicy>> {
    let (above, below) = (raw.degrade_above_ms, raw.degrade_below_ms);
    if above == 0 {
        return Ok(None);
    }
    let below = if below == 0 { above / 4 } else { below };
    if below >= above {
        return Err(Error::Config(format!(
            "degrade_below_ms ({below}) must be less than degrade_above_ms ({above})"
        )));
    }
    let [above, below] = [above, below].map(Duration::from_millis);
    Ok(Some(engine::DegradePolicy { above, below }))
}

fn address(key: &str, value: &str) -> Result<SocketAddr> {
    let addresses = value.to_socket_addrs();
    let first = addresses.ok().and_then(|mut addresses| addresses.next());
    first.ok_or_else(|| Error::Config(format!("{key}: {value:?} is not host:port")))
}

/// Paths that are served without the prefix, so that it cannot be one of them.
const OUTSIDE_PREFIX: [&str; 6] = ["/health", "/livez", "/readyz", "/startupz", "/info", "/metrics"];

/// The default number of threads.
pub fn one_for_each_core() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// A number of compute threads; 0 means one for each core.
///
/// # Errors
/// [`Error::Config`] with the range.
pub fn compute_threads(threads: usize) -> Result<NonZeroUsize> {
    keys::in_range("threads", threads, 0, MAX_THREADS).map_err(Error::Config)?;
    Ok(NonZeroUsize::new(threads).unwrap_or_else(one_for_each_core))
}

impl HttpSettings {
    fn from_raw(raw: &Raw) -> Self {
        Self {
            max_body_bytes: raw.max_body_bytes,
            url_prefix: raw.url_prefix.trim_end_matches('/').to_owned(),
            access_log: raw.access_log,
            otlp_endpoint: (!raw.otlp_endpoint.is_empty()).then(|| raw.otlp_endpoint.clone()),
            otlp_ratio: raw.otlp_ratio,
            api_keys: (!raw.api_keys.is_empty()).then(|| PathBuf::from(&raw.api_keys)),
            cors_origins: origins(&raw.cors_origins).unwrap_or_default(),
            keep_other_languages: raw.keep_other_languages,
            max_texts: raw.max_texts,
            max_text_chars: raw.max_text_chars,
            max_concurrent_requests: raw.max_concurrent_requests,
            max_connections: raw.max_connections,
            max_steps: Steps::new(raw.max_steps).unwrap_or(Steps::ONE),
            max_length_beam: raw.max_length_beam,
            default_length_beam: raw.default_length_beam,
            request_timeout: Duration::from_millis(raw.request_timeout_ms),
            header_timeout: Duration::from_millis(raw.header_timeout_ms),
            body_timeout: Duration::from_millis(raw.body_timeout_ms),
            idle_timeout: Duration::from_millis(raw.idle_timeout_ms),
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
            let value = parse(&key, &value);
            Some((key, value))
        })
        .collect()
}

/// Replaces old names by the new ones, with a warning for each.
fn with_new_names(mut dict: Dict, warnings: &mut Vec<String>) -> Dict {
    for (old, new) in RENAMED {
        if let Some(value) = dict.remove(old) {
            warnings.push(keys::renamed(old, new));
            dict.entry(new.to_owned()).or_insert(value);
        }
    }
    dict
}

/// Whether Kubernetes sets this variable: for a Service called `tutti`, every pod of the namespace gets
/// `TUTTI_SERVICE_HOST`, `TUTTI_SERVICE_PORT[_HTTP]`, `TUTTI_PORT` and `TUTTI_PORT_8080_TCP[_…]`. They are not mistyped
/// settings.
fn set_by_kubernetes(name: &str) -> bool {
    name == "TUTTI_PORT" || name.starts_with("TUTTI_PORT_") || name.starts_with("TUTTI_SERVICE_")
}

/// Replaces the host or the port of a `host:port`. IPv6 addresses get brackets.
fn with_part(listen: &str, key: &str, value: &str) -> String {
    let (host, port) = listen.rsplit_once(':').unwrap_or((listen, "8080"));
    match key {
        PORT => format!("{host}:{value}"),
        _ if value.contains(':') && !value.starts_with('[') => format!("[{value}]:{port}"),
        _ => format!("{value}:{port}"),
    }
}

/// Reads a number or a boolean; any other value stays text. Only some keys have fractions: the name of a folder may be
/// `1.5`.
fn parse(key: &str, value: &str) -> Value {
    if FRACTIONS.contains(&key)
        && let Ok(fraction) = value.parse::<f64>()
    {
        return Value::from(fraction);
    }
    let number = value.parse::<u64>().map(Value::from);
    let truth = value.parse::<bool>().map(Value::from);
    number.or(truth).unwrap_or_else(|_| Value::from(value))
}

/// The first error of figment's chain, with its key.
fn describe(error: figment::Error) -> String {
    let key = error.path.join(".");
    match &error.kind {
        Kind::UnknownField(name, known) => keys::unknown(name, known.iter().copied(), "config/server.toml"),
        kind if key.is_empty() => kind.to_string(),
        kind => format!("{key}: {kind}"),
    }
}

#[cfg(test)]
mod tests;
