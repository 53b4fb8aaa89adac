//! Serves one connection. hyper reads requests and writes responses; the socket around it adds two guarantees:
//!
//! * A connection is closed only when its socket contains no unread data, so that every request that was sent is
//!   answered. hyper's graceful shutdown closes idle connections at once.
//! * After the last response, data from the client is read and discarded for a moment. Otherwise the kernel would
//!   answer it with a reset, and the client would lose a response that it has not read yet.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};

use super::connections::{ConnectionState, Registered};

/// For how long, and how many bytes, are read after the last response on a connection.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 << 20;

/// Response for clients above the limit of connections.
const REJECTION: &str = concat!(
    "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n",
    "connection: close\r\ncontent-length: 90\r\n\r\n",
    r#"{"error":"Slowdown: too many connections, try again in 1 s","code":"too_many_connections"}"#
);

/// Serves requests until the client disconnects or the connection is to be closed.
pub(super) async fn run<S>(stream: TcpStream, server: http1::Builder, service: S, registered: Registered)
where
    S: Service<Request<Incoming>, Response = Response<Body>> + Unpin,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // Responses are small and written at once, so Nagle's algorithm would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let state = &registered.state;
    let socket = Socket { stream, state: state.clone(), lingering: None };
    let service = Observed { service, state: state.clone() };
    let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(socket), service));
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            () = state.signalled() => if state.is_cut() { return },
        }
    };
    // Disconnected clients are normal.
    if let Err(error) = ended {
        tracing::debug!(%error, "connection");
    }
}

/// Sends a 503 response and closes the connection.
pub(super) async fn reject(stream: TcpStream) {
    let state = Arc::new(ConnectionState::default());
    let mut socket = Socket { stream, state, lingering: None };
    let rejected = async {
        socket.write_all(REJECTION.as_bytes()).await?;
        socket.shutdown().await
    };
    if let Ok(Err(error)) = timeout(2 * LINGER, rejected).await {
        tracing::debug!(%error, "connection");
    }
}

/// A socket that reports what happens on it, and reads as ended when the connection is to be closed.
struct Socket {
    stream: TcpStream,
    state: Arc<ConnectionState>,
    lingering: Option<Lingering>,
}

/// Time and bytes that are left for reading after the last response.
struct Lingering {
    time: Pin<Box<Sleep>>,
    bytes: usize,
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        match &read {
            Poll::Ready(Ok(())) if buf.filled().len() > before => self.state.received(),
            Poll::Ready(_) => {}
            // No bytes: the end of the stream.
            Poll::Pending if self.state.closes_now() => return Poll::Ready(Ok(())),
            Poll::Pending => {}
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.state.wrote(written.is_pending());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            // No client waits for a response on an idle connection.
            if self.state.closes_now() {
                return Poll::Ready(Ok(()));
            }
        }
        let Self { stream, lingering, .. } = &mut *self;
        let lingering =
            lingering.get_or_insert_with(|| Lingering { time: Box::pin(sleep(LINGER)), bytes: LINGER_BYTES });
        let mut scratch = [0; 16 << 10];
        while lingering.bytes > 0 && lingering.time.as_mut().poll(cx).is_pending() {
            let mut scratch = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut scratch)) {
                Ok(()) if !scratch.filled().is_empty() => {
                    lingering.bytes = lingering.bytes.saturating_sub(scratch.filled().len());
                }
                // The client has closed its side or has disconnected: it needs no more.
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.state.wrote(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A service that reports when a request begins and when its response has been written.
struct Observed<S> {
    service: S,
    state: Arc<ConnectionState>,
}

impl<S> Service<Request<Incoming>> for Observed<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>>,
{
    type Response = Response<Answer>;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.state.begin_answer();
        let busy = Busy(self.state.clone());
        Answering { future: Box::pin(self.service.call(request)), busy: Some(busy) }
    }
}

/// Reports the end of the response when it is dropped.
struct Busy(Arc<ConnectionState>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.end_answer();
    }
}

struct Answering<F> {
    future: Pin<Box<F>>,
    busy: Option<Busy>,
}

impl<F, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = Result<Response<Answer>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.future.as_mut().poll(cx))?;
        let busy = self.busy.take();
        Poll::Ready(Ok(response.map(|body| Answer { body, _busy: busy })))
    }
}

/// The body of a response.
struct Answer {
    body: Body,
    _busy: Option<Busy>,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        hyper::body::Body::size_hint(&self.body)
    }
}
