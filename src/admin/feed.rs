//! Answers that go on: NDJSON and server-sent events, fed by a task that ends with the client or the daemon.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::body::{Bytes, Frame};
use serde::Serialize;
use tokio::sync::mpsc;

use super::Admin;
use super::problem::Problem;

/// Chunks that may wait for a slow client; then its feeder waits.
const CHUNKS_WAITING: usize = 16;
/// A silent stream shows a sign of life this often, so that proxies keep it.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How a stream is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// One JSON object per line.
    Lines,
    /// Server-sent events.
    Events,
}

impl Format {
    /// What the client accepts; lines unless it asks for events.
    pub fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if accept.contains("text/event-stream") { Self::Events } else { Self::Lines }
    }

    fn media_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Lines => "application/x-ndjson",
            Self::Events => "text/event-stream",
        })
    }

    /// Writes one item.
    pub fn write(self, out: &mut Vec<u8>, id: Option<u64>, kind: Option<&str>, item: &impl Serialize) {
        use std::io::Write as _;
        // Writing to a Vec cannot fail, and the shapes always serialise.
        if self == Self::Lines {
            let _ = serde_json::to_writer(&mut *out, item);
            out.push(b'\n');
            return;
        }
        if let Some(id) = id {
            let _ = writeln!(out, "id: {id}");
        }
        if let Some(kind) = kind {
            let _ = writeln!(out, "event: {kind}");
        }
        out.extend_from_slice(b"data: ");
        let _ = serde_json::to_writer(&mut *out, item);
        out.extend_from_slice(b"\n\n");
    }

    /// A sign of life; lines have none, as readers would take it for an item.
    pub fn keep_alive(self) -> Option<&'static [u8]> {
        (self == Self::Events).then_some(b": still here\n\n")
    }
}

/// Where a feeder writes.
pub(crate) struct Feeder {
    chunks: mpsc::Sender<Bytes>,
}

impl Feeder {
    /// Hands over a chunk; `false` once nobody reads any more.
    pub async fn send(&self, chunk: Vec<u8>) -> bool {
        chunk.is_empty() || self.chunks.send(chunk.into()).await.is_ok()
    }

    /// Resolves once nobody reads any more.
    pub async fn closed(&self) {
        self.chunks.closed().await;
    }
}

/// A whole answer in the given format.
pub(crate) fn whole(format: Format, text: Vec<u8>) -> Response {
    respond(format, Body::from(text))
}

/// An answer that goes on: `feed` runs until it ends, the client leaves or the daemon stops.
///
/// # Errors
/// Too many streams are followed already.
pub(crate) fn follow<F, Fut>(admin: &Admin, format: Format, feed: F) -> Result<Response, Problem>
where
    F: FnOnce(Feeder) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let permit = admin.followers().try_acquire_owned().map_err(|_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "queue_full", "too many streams are followed already")
            .hint("end one, or ask without follow")
            .header(header::RETRY_AFTER, "5")
    })?;
    let (chunks, waiting) = mpsc::channel(CHUNKS_WAITING);
    let feed = feed(Feeder { chunks });
    let stop = admin.stop.clone();
    tokio::spawn(async move {
        let _permit = permit;
        tokio::select! {
            () = feed => {}
            () = stop.cancelled() => {}
        }
    });
    Ok(respond(format, Body::new(Chunks(waiting))))
}

fn respond(format: Format, body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, format.media_type());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The reading end as a body.
struct Chunks(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_id_kind_and_data_and_a_line_is_one_line() {
        let mut out = Vec::new();
        Format::Events.write(&mut out, Some(7), Some("x"), &serde_json::json!({"text": "a\nb"}));
        assert_eq!(String::from_utf8(out).unwrap(), "id: 7\nevent: x\ndata: {\"text\":\"a\\nb\"}\n\n");
        let mut out = Vec::new();
        Format::Lines.write(&mut out, Some(7), Some("x"), &1);
        assert_eq!(out, b"1\n");
    }
}
