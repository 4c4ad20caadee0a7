//! Accepts connections and serves the router on each: bounded in number, in header time and in the time to drain.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::auth::{Peer, unix_actor};

/// Connections served at once per listener; more wait in the kernel. Twice the followers, so that commands get through.
const CONNECTIONS_MAX: usize = 512;
/// Time to send a request's head, idle time between two requests included.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request's head and of the write buffer.
const BUFFER_MAX: usize = 64 << 10;
/// Time for open requests at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who may use the unix socket.
#[derive(Debug, Clone, Copy)]
pub struct UnixAccess {
    /// The daemon's own user, who may everything beside root and the group.
    pub own_uid: u32,
}

/// By which names the TCP listener is reached.
#[derive(Debug, Clone, Default)]
pub struct TcpAccess {
    /// Names from `admin.listen` that are no addresses; IP addresses and localhost always count.
    pub names: Vec<String>,
}

/// What is served, and how long.
#[derive(Clone)]
pub struct House {
    /// The routes of all rooms.
    pub router: Router,
    /// Ends listeners and connections.
    pub stop: CancellationToken,
}

/// Serves the unix socket until `House::stop`, then drains.
pub async fn serve_unix(house: House, listener: UnixListener, access: UnixAccess) {
    serve(
        house,
        || async {
            let (stream, _) = listener.accept().await?;
            let credentials = stream.peer_cred()?;
            Ok((stream, credentials))
        },
        move |credentials| async move {
            let (uid, gid) = (credentials.uid(), credentials.gid());
            let known = (uid == 0).then(|| Some("root".to_string()));
            let actor = match known {
                Some(actor) => actor,
                None => tokio::task::spawn_blocking(move || unix_actor(uid, gid, access.own_uid)).await.ok().flatten(),
            };
            Peer::Unix { uid, actor }
        },
    )
    .await;
}

/// Serves TCP until `House::stop`, then drains.
pub async fn serve_tcp(house: House, listener: TcpListener, access: TcpAccess) {
    let names: Arc<[String]> = access.names.into();
    serve(
        house,
        || async {
            let (stream, address) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // A follower whose host vanished is found out, rather than kept for ever.
            let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
            Ok((stream, address))
        },
        move |address| {
            let names = names.clone();
            async move { Peer::Tcp { address, names } }
        },
    )
    .await;
}

async fn serve<S, C, A, AF, P, PF>(house: House, mut accept: A, peer: P)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C: Send + 'static,
    A: FnMut() -> AF,
    AF: Future<Output = std::io::Result<(S, C)>>,
    P: Fn(C) -> PF,
    PF: Future<Output = Peer> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    loop {
        // Both branches are cancel-safe: a permit or a connection is taken whole or not at all.
        let accepted = tokio::select! {
            () = house.stop.cancelled() => break,
            accepted = async {
                let permit = permits.clone().acquire_owned().await;
                (accept().await, permit)
            } => accepted,
        };
        match accepted {
            (Ok((stream, who)), Ok(permit)) => {
                let peer = peer(who);
                let house = house.clone();
                connections.spawn(async move { connection(house, stream, peer.await, permit).await });
            }
            (Err(error), _) => {
                tracing::warn!(%error, "an admin connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            (_, Err(_)) => break,
        }
    }
    connections.close();
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, connections.wait()).await;
}

/// One connection to its end. `_permit` is given back with it.
async fn connection<S>(house: House, stream: S, peer: Peer, _permit: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(house.router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(BUFFER_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    // An error here is the client's: it went away or spoke no HTTP. There is nobody left to tell.
    tokio::select! {
        _ = served.as_mut() => {}
        () = house.stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(DRAIN_TIMEOUT, served).await;
        }
    }
}
