//! The names, help texts, buckets and labels of all metrics. To add one, add a field to [`Families`] and a line to its
//! table, count it in `engine_metrics.rs` or `http_metrics.rs`, and run `cargo test metrics`.

use prometheus::core::Collector;
use prometheus::{
    CounterVec, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// 0.5 ms to 10 s, with most buckets where translations should be (1 to 100 ms).
pub const HTTP_SECONDS: [f64; 24] = [
    0.0005, 0.001, 0.002, 0.003, 0.004, 0.005, 0.0065, 0.008, 0.01, 0.0125, 0.015, 0.02, 0.025, 0.03, 0.04,
    0.05, 0.065, 0.08, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];
/// 50 µs to 5 s, for parts of a translation.
pub const STAGE_SECONDS: [f64; 18] = [
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 5.0,
];
pub const BATCH_ROWS: [f64; 12] = [1.0, 2.0, 3.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0, 128.0, 256.0];
pub const BATCH_TOKENS: [f64; 12] =
    [16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0];
pub const STEPS: [f64; 10] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 16.0, 32.0];

/// All families, registered.
pub struct Families {
    pub requests: IntCounterVec,
    pub request_seconds: HistogramVec,
    pub queue_depth: IntGaugeVec,
    pub running_items: IntGaugeVec,
    pub tokenizing_items: IntGaugeVec,
    pub oldest_age: GaugeVec,
    pub queue_wait: HistogramVec,
    pub tokenize_seconds: HistogramVec,
    pub encode_seconds: HistogramVec,
    pub pass_seconds: HistogramVec,
    pub batch_rows: HistogramVec,
    pub batch_padded_tokens: HistogramVec,
    pub steps_used: HistogramVec,
    pub tokens: IntCounterVec,
    pub rejected: IntCounterVec,
    pub busy: CounterVec,
    pub passes: IntCounterVec,
    pub out_of_memory: IntCounterVec,
    pub coalesced: IntCounterVec,
    pub cache: IntCounterVec,
    pub lowered: IntCounterVec,
    pub degrade_level: IntGaugeVec,
    pub model_info: IntGaugeVec,
    pub ready: IntGauge,
    pub repairs: IntCounterVec,
    pub warmup: GaugeVec,
    pub build_info: IntGaugeVec,
}

impl Families {
    #[rustfmt::skip] // a table: name, help, labels
    pub fn register(registry: &Registry) -> Self {
        let r = registry;
        let model: &[&str] = &["model"];
        Self {
            requests: counters(r, "tutti_http_requests_total", "Requests answered", &["route", "code"]),
            request_seconds: histograms(r, "tutti_http_request_duration_seconds", "Time from the head of a request to the end of its answer", &["route"], &HTTP_SECONDS),
            queue_depth: gauges(r, "tutti_queue_depth", "Sentences admitted that the model thread has not taken yet", model),
            running_items: gauges(r, "tutti_running_items", "Sentences that the model thread has taken and not finished", model),
            tokenizing_items: gauges(r, "tutti_tokenizing_items", "Texts that wait for the tokenizer or are being tokenized", model),
            oldest_age: keep(r, GaugeVec::new(Opts::new("tutti_queue_oldest_age_seconds", "Age of the oldest sentence in the queue"), model)),
            queue_wait: histograms(r, "tutti_queue_wait_seconds", "Time from admission until the model thread takes a sentence", model, &STAGE_SECONDS),
            tokenize_seconds: histograms(r, "tutti_tokenize_seconds", "Splitting and tokenizing one request", model, &STAGE_SECONDS),
            encode_seconds: histograms(r, "tutti_encode_seconds", "One call of the encoder", model, &STAGE_SECONDS),
            pass_seconds: histograms(r, "tutti_decode_pass_seconds", "One decoder pass over a batch", model, &STAGE_SECONDS),
            batch_rows: histograms(r, "tutti_batch_rows", "Canvases in a decoder pass", model, &BATCH_ROWS),
            batch_padded_tokens: histograms(r, "tutti_batch_padded_tokens", "Tokens of a decoder pass with padding, source and target", model, &BATCH_TOKENS),
            steps_used: histograms(r, "tutti_steps_used", "Decoding steps that a sentence took", model, &STEPS),
            tokens: counters(r, "tutti_tokens_total", "Tokens computed: source for each encoding, target for each decoder pass", &["model", "side", "kind"]),
            rejected: counters(r, "tutti_rejected_total", "Sentences not translated", &["reason"]),
            busy: keep(r, CounterVec::new(Opts::new("tutti_device_busy_seconds_total", "Time the model computed; its rate is the saturation, 0 to 1"), &["model", "kind"])),
            passes: counters(r, "tutti_model_passes_total", "Calls of the network", &["model", "kind"]),
            out_of_memory: counters(r, "tutti_device_out_of_memory_total", "Times that the device had too little memory and the work was made smaller: at the start the largest pass, later a batch", model),
            repairs: counters(r, "tutti_text_repairs_total", "Sentences translated again with more effort, and texts with a sentence in pieces or with a translation that is short, long or uncertain", &["model", "kind"]),
            coalesced: counters(r, "tutti_coalesced_total", "Sentences that shared the translation of an identical one in flight", model),
            cache: counters(r, "tutti_cache_lookups_total", "Sentences looked up in the cache of translations", &["model", "result"]),
            lowered: counters(r, "tutti_steps_lowered_total", "Sentences that got fewer steps than requested", &["model", "reason"]),
            degrade_level: gauges(r, "tutti_degrade_level", "How often steps are halved because of load; 0 for never", model),
            model_info: gauges(r, "tutti_model_info", "The loaded model; always 1", &["model", "checksum", "dtype", "device"]),
            ready: keep(r, IntGauge::new("tutti_ready", "1 while the server accepts requests, else 0")),
            warmup: keep(r, GaugeVec::new(Opts::new("tutti_warmup_seconds", "Duration of the model's warm-up"), model)),
            build_info: gauges(r, "tutti_build_info", "The running build; always 1", &["version"]),
        }
    }
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    keep(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    keep(registry, IntGaugeVec::new(Opts::new(name, help), labels))
}

fn histograms(registry: &Registry, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
    keep(registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
}

/// Registers a family. It panics on an invalid name, label or bucket; all are constants of this file, so that every test
/// and every start would fail.
fn keep<C: Collector + Clone + 'static>(registry: &Registry, family: prometheus::Result<C>) -> C {
    let family = family.expect("a metric of this file is well formed");
    register(registry, family.clone());
    family
}

pub fn register(registry: &Registry, collector: impl Collector + 'static) {
    registry.register(Box::new(collector)).expect("each metric of this file is registered once");
}
