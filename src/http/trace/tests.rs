use super::super::headers::TRACE_PARENT;
use super::*;

const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn the_example_of_the_specification_is_read_and_written() {
    let parent = TraceParent::parse(GIVEN).unwrap();
    assert_eq!(parent.to_string(), GIVEN);
    assert_eq!(parent.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    let headers: HeaderMap = [(TRACE_PARENT.clone(), HeaderValue::from_static(GIVEN))].into_iter().collect();
    assert_eq!(TraceParent::of_client(&headers), Some(parent));
    assert_eq!(TraceParent::of_client(&HeaderMap::new()), None);
    let own = parent.child();
    assert_eq!((own.trace, own.flags), (parent.trace, 1));
    assert_ne!(own.span, parent.span);
}

#[test]
fn without_a_collector_a_request_has_the_trace_of_its_client_or_none() {
    let traces = Traces::default();
    assert!(traces.begin(&Method::POST, "/translate", &HeaderMap::new()).is_none());
    let headers: HeaderMap = [(TRACE_PARENT.clone(), HeaderValue::from_static(GIVEN))].into_iter().collect();
    let trace = traces.begin(&Method::POST, "/translate", &headers).unwrap();
    assert_eq!(trace.id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_ne!(trace.header().unwrap(), GIVEN);
    trace.end(200);
}

#[test]
fn a_later_version_may_have_more_fields() {
    let later = GIVEN.replacen("00", "cc", 1);
    assert!(TraceParent::parse(&later).is_some());
    assert!(TraceParent::parse(&format!("{later}-what-comes-then")).is_some());
}

#[test]
fn invalid_headers_are_ignored() {
    for wrong in [
        "",
        "00",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-+1",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
    ] {
        assert_eq!(TraceParent::parse(wrong), None, "{wrong}");
    }
}
