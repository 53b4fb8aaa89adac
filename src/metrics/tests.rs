use std::time::Duration;

use prometheus_parse::{Sample, Scrape, Value};

use super::families::{BATCH_ROWS, BATCH_TOKENS, HTTP_SECONDS, STAGE_SECONDS, STEPS};
use super::*;

fn scrape(metrics: &Metrics) -> Scrape {
    Scrape::parse(metrics.render().lines().map(|line| Ok(line.to_owned()))).unwrap()
}

fn samples<'a>(scrape: &'a Scrape, name: &'a str) -> impl Iterator<Item = &'a Sample> {
    scrape.samples.iter().filter(move |sample| sample.metric == name)
}

#[test]
fn every_series_starts_at_zero() {
    let metrics = Metrics::new();
    let (_, _) = (metrics.http(&["/translate"]), metrics.engine("en-de"));
    let scrape = scrape(&metrics);
    for (name, series) in [
        ("tutti_http_requests_total", 2 * (CODES.len() + 1)),
        ("tutti_queue_depth", 1),
        ("tutti_running_items", 1),
        ("tutti_tokenizing_items", 1),
        ("tutti_queue_oldest_age_seconds", 1),
        ("tutti_tokens_total", 4),
        ("tutti_rejected_total", 7),
        ("tutti_device_busy_seconds_total", 2),
        ("tutti_model_passes_total", 2),
        ("tutti_device_out_of_memory_total", 1),
        ("tutti_text_repairs_total", 5),
        ("tutti_ready", 1),
        ("tutti_warmup_seconds", 1),
    ] {
        let found: Vec<_> = samples(&scrape, name).collect();
        assert_eq!(found.len(), series, "{name}");
        for sample in found {
            assert!(matches!(sample.value, Value::Counter(0.0) | Value::Gauge(0.0)), "{sample:?}");
        }
    }
    for (name, series) in [
        ("tutti_http_request_duration_seconds", 2),
        ("tutti_queue_wait_seconds", 1),
        ("tutti_tokenize_seconds", 1),
        ("tutti_encode_seconds", 1),
        ("tutti_decode_pass_seconds", 1),
        ("tutti_batch_rows", 1),
        ("tutti_batch_padded_tokens", 1),
        ("tutti_steps_used", 1),
    ] {
        let found = samples(&scrape, name).filter(|sample| matches!(sample.value, Value::Histogram(_)));
        assert_eq!(found.count(), series, "{name}");
    }
}

#[test]
fn buckets_ascend_and_infos_are_one() {
    for buckets in [&HTTP_SECONDS[..], &STAGE_SECONDS, &BATCH_ROWS, &BATCH_TOKENS, &STEPS] {
        assert!(buckets.is_sorted_by(|a, b| a < b));
    }
    let metrics = Metrics::new();
    metrics.engine("en-de").describe("ab12", "f32", "cpu");
    let text = metrics.render();
    let info = "tutti_model_info{checksum=\"ab12\",device=\"cpu\",dtype=\"f32\",model=\"en-de\"} 1\n";
    assert!(text.contains(info), "{text}");
    assert!(text.contains(concat!("tutti_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1\n")));
}

#[test]
fn dropping_a_guard_decreases_its_gauge_even_in_a_panic() {
    let metrics = Metrics::new();
    let engine = metrics.engine("en-de");
    let outer = engine.tokenizing(3);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _inner = engine.tokenizing(4);
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(panicked.is_err());
    assert_eq!(engine.tokenizing_items.get(), 3);
    drop(outer);
    assert_eq!(engine.tokenizing_items.get(), 0);
}

#[test]
fn requests_count_under_their_route_and_unknown_routes_and_codes_under_other() {
    let metrics = Metrics::new();
    let http = metrics.http(&["/translate"]);
    http.request("/translate", 200, Duration::from_millis(3));
    http.request("/translate", 418, Duration::from_millis(3));
    http.request("/wp-login.php", 404, Duration::from_millis(3));
    http.rejected(Rejected::TooLong, 2);
    http.set_ready(true);
    let text = metrics.render();
    for line in [
        "tutti_http_requests_total{code=\"200\",route=\"/translate\"} 1\n",
        "tutti_http_requests_total{code=\"other\",route=\"/translate\"} 1\n",
        "tutti_http_requests_total{code=\"404\",route=\"other\"} 1\n",
        "tutti_http_request_duration_seconds_count{route=\"/translate\"} 2\n",
        "tutti_rejected_total{reason=\"too_long\"} 2\n",
        "tutti_ready 1\n",
    ] {
        assert!(text.contains(line), "{line}");
    }
}

#[test]
fn two_registries_share_no_series() {
    let (one, other) = (Metrics::new(), Metrics::new());
    one.http(&[]).set_ready(true);
    assert!(other.render().contains("tutti_ready 0\n"));
}

#[cfg(target_os = "linux")]
#[test]
fn process_metrics_are_included() {
    assert!(Metrics::new().render().contains("process_resident_memory_bytes "));
}
