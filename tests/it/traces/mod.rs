//! Traces: a client's trace is carried on, and a collector receives a span for each stage of a request.

#[cfg(feature = "otlp")]
mod collector;

use crate::support::{Server, Setup, en_de, in_time};

const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test]
async fn a_clients_trace_comes_back_with_the_servers_span_and_nobody_elses_does() {
    let server = Server::start(Setup::default()).await;
    let ask = || server.post("/translate", &en_de("Thank you."));
    let answer = in_time(ask().header("traceparent", GIVEN).send()).await.unwrap();
    let own = answer.headers()["traceparent"].to_str().unwrap();
    assert!(own.starts_with(&format!("00-{TRACE}-")) && own.ends_with("-01") && own != GIVEN, "{own}");
    for other in [ask(), ask().header("traceparent", "00-nonsense")] {
        assert!(!in_time(other.send()).await.unwrap().headers().contains_key("traceparent"));
    }
}
