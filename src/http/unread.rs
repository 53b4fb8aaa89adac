//! Discards request bodies that no handler read. A response may be sent before the body has arrived: for a wrong
//! path, a full queue, a body that is too large. The rest of the body must not be read as the next request, so a
//! limited part of it is read and discarded, for a limited time. If more is left, the response has `Connection:
//! close`.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use tokio::time::timeout;

/// Number of bytes that are discarded to keep the connection open.
const DRAINED_BYTES: u64 = 256 << 10;

/// Longest time that a response waits for them.
const DRAINED_WITHIN: Duration = Duration::from_millis(100);

/// Answers the request, and discards what is left of its body.
pub(super) async fn finish(request: Request, next: Next) -> Response {
    // With `Expect: 100-continue` the client sends its body only when it is read.
    let expects_continue = request.headers().contains_key(header::EXPECT);
    let (parts, body) = request.into_parts();
    let rest = Arc::new(Mutex::new(Rest { body, ended: false, started: false }));
    let borrowed = Body::new(BorrowedBody(rest.clone()));
    let mut response = next.run(Request::from_parts(parts, borrowed)).await;
    let complete = {
        let rest = lock(&rest);
        rest.ended || rest.body.is_end_stream()
    };
    if !complete && !drained(&rest, expects_continue).await {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Reads a limited part of the body. Returns whether it has ended.
async fn drained(rest: &Mutex<Rest>, expects_continue: bool) -> bool {
    {
        let rest = lock(rest);
        if rest.body.size_hint().lower() > DRAINED_BYTES || (expects_continue && !rest.started) {
            return false;
        }
    }
    let mut read: u64 = 0;
    let to_the_end = async {
        loop {
            match poll_fn(|cx| lock(rest).poll(cx)).await {
                None => return true,
                Some(Err(_)) => return false,
                Some(Ok(frame)) => read += frame.data_ref().map_or(0, |data| data.len() as u64),
            }
            if read > DRAINED_BYTES {
                return false;
            }
        }
    };
    timeout(DRAINED_WITHIN, to_the_end).await.unwrap_or(false)
}

/// The value is consistent even if a thread panicked with the lock.
fn lock(rest: &Mutex<Rest>) -> MutexGuard<'_, Rest> {
    rest.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Rest {
    body: Body,
    started: bool,
    ended: bool,
}

impl Rest {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.started = true;
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.ended |= matches!(frame, Poll::Ready(None));
        frame
    }
}

/// A body that a handler reads; the rest can be read later.
struct BorrowedBody(Arc<Mutex<Rest>>);

impl HttpBody for BorrowedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        lock(&self.0).poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.0).body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.0).body.size_hint()
    }
}
