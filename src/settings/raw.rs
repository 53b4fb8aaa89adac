//! Settings before validation.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::LogFormat;
use crate::engine;

/// All keys with their defaults. `config/server.toml` documents each.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    pub listen: String,
    pub admin_listen: String,
    pub model: PathBuf,
    pub threads: usize,
    pub device: String,
    pub dtype: String,
    pub shortlist: bool,
    pub lm: bool,
    pub log: String,
    pub log_format: LogFormat,
    pub access_log: bool,
    pub otlp_endpoint: String,
    pub otlp_ratio: f64,
    pub max_body_bytes: usize,
    pub url_prefix: String,
    pub api_keys: String,
    pub cors_origins: String,
    pub keep_other_languages: bool,
    pub max_texts: usize,
    pub max_text_chars: usize,
    pub max_concurrent_requests: usize,
    pub max_connections: usize,
    pub max_steps: u8,
    pub max_length_beam: usize,
    pub default_length_beam: usize,
    pub request_timeout_ms: u64,
    pub header_timeout_ms: u64,
    pub body_timeout_ms: u64,
    pub idle_timeout_ms: u64,
    pub shutdown_delay_ms: u64,
    pub drain_timeout_ms: u64,
    pub max_queue_items: usize,
    pub max_queue_tokens: usize,
    pub max_batch_tokens: usize,
    pub max_batch_rows: usize,
    pub max_delay_us: u64,
    pub lookahead: usize,
    pub max_overtakes_per_step: u32,
    pub degrade_above_ms: u64,
    pub degrade_below_ms: u64,
    pub coalesce: bool,
    pub cache_bytes: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<RawModel>,
}

/// One of several models. The keys for a single model are the defaults.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawModel {
    pub name: Option<String>,
    pub folder: PathBuf,
    pub device: Option<String>,
    pub dtype: Option<String>,
    pub default_steps: Option<u8>,
    pub weight: Option<u32>,
}

impl Default for Raw {
    fn default() -> Self {
        let engine = engine::Options::default();
        Self {
            listen: "127.0.0.1:8080".into(),
            admin_listen: String::new(),
            model: PathBuf::new(),
            threads: 0,
            device: "auto".into(),
            dtype: "auto".into(),
            shortlist: true,
            lm: true,
            log: "info".into(),
            log_format: LogFormat::Text,
            access_log: false,
            otlp_endpoint: String::new(),
            otlp_ratio: 1.0,
            max_body_bytes: 4 << 20,
            url_prefix: String::new(),
            api_keys: String::new(),
            cors_origins: "*".into(),
            keep_other_languages: true,
            max_texts: 256,
            max_text_chars: 100_000,
            max_concurrent_requests: 1024,
            max_connections: 0,
            max_steps: 20,
            max_length_beam: 10,
            default_length_beam: 0,
            request_timeout_ms: 30_000,
            header_timeout_ms: 10_000,
            body_timeout_ms: 30_000,
            idle_timeout_ms: 75_000,
            shutdown_delay_ms: 0,
            drain_timeout_ms: 20_000,
            max_queue_items: engine.max_queue_items,
            max_queue_tokens: engine.max_queue_tokens,
            max_batch_tokens: 0,
            max_batch_rows: 0,
            max_delay_us: engine.max_delay.as_micros() as u64,
            lookahead: 0,
            max_overtakes_per_step: engine.max_overtakes_per_step,
            degrade_above_ms: 0,
            degrade_below_ms: 0,
            coalesce: true,
            cache_bytes: 0,
            models: Vec::new(),
        }
    }
}
