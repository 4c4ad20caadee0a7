//! Leaving: whoever is served is served to the end, whoever comes is served once, and then nobody is there.
//!
//! Every answer from now on says that the connection closes. Idle connections get a moment to hear that along with one,
//! then they are closed. What is still open when the time is over is cut: endless streams and tunnels.
//!
//! The listener is not closed here. If it is kept (by systemd, for the next daemon), nobody is let in any more once those
//! who were there at the beginning are gone: who knocks then waits in the kernel for the next daemon.

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

/// How long an idle connection is left open, for a request that may be on its way.
const IDLE: Duration = Duration::from_millis(500);
/// Pause between two looks at who is still there of the old ones.
const LOOK: Duration = Duration::from_millis(20);

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
    let newcomer = gateway.guests.next();
    gateway.guests.announce(Stage::Draining);
    let old = async |limit| {
        let gone = CancellationToken::new();
        let watch = async {
            old_gone(gateway, newcomer, limit).await;
            gone.cancel();
        };
        tokio::join!(watch, listen::accept(gateway, listener, &gone));
    };
    old(Instant::now() + IDLE.min(time / 4)).await;
    gateway.guests.announce(Stage::Closing);
    if gateway.options.listener_is_kept {
        old(end - LAST_WORDS.min(time / 2)).await;
        emptied(gateway, end).await;
    } else {
        let_all_in(gateway, listener, end).await;
    }
    let cut = gateway.guests.count();
    gateway.guests.announce(Stage::Cut);
    emptied(gateway, Instant::now() + NOTICE).await;
    Drained { cut }
}

/// Serves whoever comes until nobody is there: the listener is closed after that, and those in it would be refused.
async fn let_all_in(gateway: &Arc<Inner>, listener: &TcpListener, end: Instant) {
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
            _ => return,
        }
    }
}

/// Resolves when nobody is there who came before the newcomer, or at `end`.
async fn old_gone(gateway: &Arc<Inner>, newcomer: u64, end: Instant) {
    while gateway.guests.count_before(newcomer) > 0 && Instant::now() < end {
        tokio::time::sleep(LOOK).await;
    }
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
