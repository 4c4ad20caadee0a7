//! Streams that outlive a restart of the daemon: opened again until the user ends the run.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::Session;
use super::exit::{Exit, Outcome};

/// Between two tries to reach a daemon that is gone.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// A line longer than this is cut: it is no line of ours.
const LINE_MAX: usize = 1 << 20;

/// Opens a stream; waits for a daemon that cannot be reached, but not at first.
///
/// # Errors
/// The daemon says no.
pub async fn open(session: &mut Session, path: &str, accept: &str, headers: &[(&str, String)]) -> Outcome<Incoming> {
    loop {
        match session.client.stream(path, accept, headers).await {
            Err(failure) if failure.exit == Exit::Unreachable => tokio::time::sleep(AGAIN_AFTER).await,
            other => return other,
        }
    }
}

/// The lines of a stream.
pub struct Lines {
    body: Incoming,
    waiting: Vec<u8>,
    read: usize,
}

impl Lines {
    /// Reads a body by lines.
    pub fn new(body: Incoming) -> Self {
        Self { body, waiting: Vec::new(), read: 0 }
    }

    /// The next line without its end; `None` at the end of the stream, however it came.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            let rest = &self.waiting[self.read..];
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&rest[..end]).into_owned();
                self.read += end + 1;
                return Some(line);
            }
            self.waiting.drain(..self.read);
            self.read = 0;
            if self.waiting.len() > LINE_MAX {
                return None;
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.waiting.extend_from_slice(&data);
            }
        }
    }

    /// Whether another line is there already.
    pub fn has_more(&self) -> bool {
        self.waiting[self.read..].contains(&b'\n')
    }
}
