//! The header `traceparent` (W3C Trace Context): version, trace, span and flags in hexadecimal.

use std::fmt;

use axum::http::{HeaderMap, HeaderValue};

use super::super::headers::TRACE_PARENT;

/// One span of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    pub trace: u128,
    pub span: u64,
    pub flags: u8,
}

impl TraceParent {
    /// The client's span; `None` if the client sends no trace.
    pub fn of_client(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get(&TRACE_PARENT)?.to_str().ok()?)
    }

    /// `None` for an invalid header: then the request has no trace. Later versions may have more fields.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.trim().split('-');
        let (version, trace, span, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let version = hex(version, 2)?;
        if version == 0xff || (version == 0 && fields.next().is_some()) {
            return None;
        }
        let parent =
            Self { trace: hex(trace, 32)?, span: hex(span, 16)? as u64, flags: hex(flags, 2)? as u8 };
        (parent.trace != 0 && parent.span != 0).then_some(parent)
    }

    /// A new span in the same trace.
    pub fn child(self) -> Self {
        Self { span: rand::random::<u64>().max(1), ..self }
    }

    pub fn trace_id(self) -> String {
        format!("{:032x}", self.trace)
    }

    pub fn header(self) -> Option<HeaderValue> {
        HeaderValue::try_from(self.to_string()).ok()
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// Parses exactly `digits` lower-case digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != digits || !text.bytes().all(is_digit) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}
