//! Accepting connections, and the life of one.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::guests::{Guest, Stage, TICK, Watched};
use super::headers::Peer;
use super::serve::{Visit, serve};
use super::{Inner, upgrade};

/// Pause after the system refused to give another connection: it does until some other is closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long, and for how many bytes, an answered client may go on sending before its connection is reset.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

/// A peer that is silent for this long is asked whether it is still there, four times.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Has the kernel find out about peers that vanished: a tunnel may be silent for ever, so nothing here would. Accepted
/// sockets inherit it from the listener. Not every system can; without it vanished peers stay until they write.
pub fn watch_peers(socket: &impl AsFd) {
    let _ = sockopt::set_socket_keepalive(socket, true);
    let _ = sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE);
    let _ = sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL);
    let _ = sockopt::set_tcp_keepcnt(socket, 4);
}

/// Accepts until `until` is cancelled.
pub async fn accept(gateway: &Arc<Inner>, listener: &TcpListener, until: &CancellationToken) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            () = until.cancelled() => return,
            _ = tick.tick(), if gateway.is_busy() => gateway.sweep(),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => admit(gateway, stream, peer),
                Err(error) if is_about_one(&error) => {}
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
}

/// Whether an error concerns only the connection that was to be accepted.
fn is_about_one(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Gives a new connection its task.
pub fn admit(gateway: &Arc<Inner>, stream: TcpStream, peer: SocketAddr) {
    // Only costs latency where it fails.
    let _ = stream.set_nodelay(true);
    let guest = gateway.guests.enter();
    let id = gateway.counters.connections.fetch_add(1, Relaxed);
    let trusted = gateway.options.trusted_proxies.iter().any(|network| network.contains(peer.ip()));
    let visit = Visit::new(gateway.clone(), guest.limits().clone(), Peer::new(peer.ip(), trusted), id);
    tokio::spawn(attend(stream, visit, guest));
}

/// The life of a connection.
async fn attend(stream: TcpStream, visit: Arc<Visit>, mut guest: Guest) {
    let gateway = visit.gateway.clone();
    let limits = visit.limits.clone();
    let header_timeout = gateway.options.header_timeout;
    // One that comes while the gateway drains is served once and told to close.
    let late = gateway.guests.stage() >= Stage::Draining;
    let service = {
        let visit = visit.clone();
        service_fn(move |request| serve(visit.clone(), request))
    };
    let io = TokioIo::new(Watched::new(stream, limits.clone()));
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_header_size(gateway.options.header_max)
        .keep_alive(!late)
        .serve_connection(io, service)
        .with_upgrades();
    let mut told = late;
    let ended = poll_fn(|cx| {
        let stage = guest.stage(cx);
        if stage == Stage::Cut || limits.write_is_stuck() || limits.head_is_late(header_timeout) {
            return Poll::Ready(false);
        }
        // First what has already arrived: a request that waits in the socket is answered, not cut.
        let polled = Pin::new(&mut connection).poll(cx);
        if polled.is_pending() && stage == Stage::Closing && !told {
            told = true;
            Pin::new(&mut connection).graceful_shutdown();
            return Pin::new(&mut connection).poll(cx).map(|_| true);
        }
        polled.map(|_| true)
    })
    .await;
    if let Some(granted) = visit.granted() {
        drop((connection, visit, limits));
        tokio::spawn(upgrade::tunnel(granted, guest, gateway));
    } else if let Some(parts) = connection.into_parts().filter(|_| ended) {
        drop((visit, limits));
        let stream = parts.io.into_inner().stream;
        let _ = tokio::time::timeout(LINGER, linger(stream)).await;
    }
}

/// Reads and forgets what a client still sends after its last answer: closing with unread bytes would reset the
/// connection, and the client might never see the answer.
async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut buffer = [0; 4 << 10];
    let mut read = 0;
    while read < LINGER_BYTES {
        match stream.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(more) => read += more,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && read > 0 => {
                if stream.readable().await.is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}
