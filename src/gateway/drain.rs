//! Leaving: whoever is served is served to the end, whoever comes is served once, and then nobody is there.
//!
//! The listener is not closed here: under systemd the next daemon goes on with it. Idle connections are closed at once,
//! the others after their present answer. What is still open when the time is over is cut: endless streams and tunnels.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::guests::Stage;
use super::{Inner, listen};

/// How long a task may take to notice that it is cut.
const NOTICE: Duration = Duration::from_millis(500);
/// How long before the end those who are held are sent away, so that they get an answer.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How a gateway ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut because the time was over.
    pub cut: usize,
}

/// Serves what is there and what still comes, until nobody is there or the time is over.
pub async fn drain(gateway: &Arc<Inner>, listener: &TcpListener) -> Drained {
    let time = gateway.options.drain_timeout;
    let end = Instant::now() + time;
    let _ = gateway.drain_end.set(end - LAST_WORDS.min(time / 2));
    gateway.leaving.cancel();
    gateway.guests.announce(Stage::Draining);
    loop {
        let empty = CancellationToken::new();
        let watch = async {
            emptied(gateway, end).await;
            empty.cancel();
        };
        tokio::join!(watch, listen::accept(gateway, listener, &empty));
        // One who knocked at the last moment is let in; only when nobody did is the house empty.
        match timeout(Duration::ZERO, listener.accept()).await {
            Ok(Ok((stream, peer))) if Instant::now() < end => listen::admit(gateway, stream, peer),
            _ => break,
        }
    }
    let cut = gateway.guests.count();
    gateway.guests.announce(Stage::Cut);
    emptied(gateway, Instant::now() + NOTICE).await;
    Drained { cut }
}

/// Resolves when nobody is there, or at `end`.
async fn emptied(gateway: &Arc<Inner>, end: Instant) {
    let guests = &gateway.guests;
    loop {
        let mut left = std::pin::pin!(guests.someone_left());
        left.as_mut().enable();
        if guests.count() == 0 || timeout_at(end, left).await.is_err() {
            return;
        }
    }
}
