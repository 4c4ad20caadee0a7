//! What gateways tell each other about a request that one passes on to the other.
//!
//! Only a gateway that was given a key of its own believes the header, and what it does not believe it refuses: a request
//! that was meant for one app must not be guessed to be for another. Everybody else takes the header off. Deliberately
//! absent: how the header is made and checked (`security::hop`).

use std::sync::Arc;

use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use nbs_core::gate::Code;
use nbs_core::name::{AppId, EnvironmentName};

use super::Inner;
use crate::ports::Clock;
use crate::security::EnvironmentKeys;
use crate::security::hop::{HEADER, Hop, HopError};

/// Names the app, authenticated.
pub const HOP: HeaderName = HeaderName::from_static(HEADER);
/// Who sent it here, so that what comes back is noticed.
pub const FROM: HeaderName = HeaderName::from_static("x-nbs-from");
/// Proves that a gateway has the environment's key.
pub const PONG: HeaderName = HeaderName::from_static("x-nbs-pong");
/// What the entry asks a gateway to find out whether it is the right one.
pub const PING_TARGET: &str = "/__nbs/ping";
/// The app that such a question is for; together with the target no app's request.
const PING_APP: &str = "nbs-ping";

/// Looks up the keys of an environment.
pub type HopKeys = Arc<dyn Fn(&EnvironmentName) -> Option<EnvironmentKeys> + Send + Sync>;

/// What it takes to send visitors to other environments.
#[derive(Clone)]
pub struct HopSender {
    /// The keys of every environment.
    pub keys: HopKeys,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What it takes to believe the gateway that sends visitors here.
#[derive(Clone)]
pub struct HopReceiver {
    /// The keys of this environment.
    pub keys: EnvironmentKeys,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What a gateway is to others. By default nothing: it neither sends visitors to other hosts nor believes another gateway.
#[derive(Clone, Default)]
pub struct Hops {
    /// Given at the entry.
    pub sender: Option<HopSender>,
    /// Given at a worker.
    pub receiver: Option<HopReceiver>,
}

/// Where a request comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum Came {
    /// From a visitor, or somebody in front of this gateway who knows nothing of it.
    Outside,
    /// From the entry's gateway, for this app.
    Relayed(AppId),
    /// From the entry, which wants to know who is here.
    Ping,
}

/// Tells where a request comes from. `target` is its path and query.
///
/// # Errors
/// It claims what is not so, or has come back to where it was sent from; the text says why.
pub fn judge<B>(gateway: &Inner, request: &Request<B>, target: &str) -> Result<Came, (Code, String)> {
    let Some(text) = request.headers().get(HOP) else { return Ok(Came::Outside) };
    if request.headers().get(FROM) == Some(gateway.ways.mark()) {
        let text =
            "the URL of this environment leads back to the entry; set ENVIRONMENT_PROXY_URL on the environment's host";
        return Err((Code::AppEnvironmentUnavailable, text.into()));
    }
    let Some(receiver) = &gateway.receiver else { return Ok(Came::Outside) };
    let refused = |error: HopError| (Code::HopRefused, error.to_string());
    let hop = Hop::parse(text.to_str().unwrap_or_default()).map_err(refused)?;
    let now = receiver.clock.now().wall.0;
    let app = hop.check(&receiver.keys, now, request.method().as_str(), target).map_err(refused)?;
    Ok(if app.as_str() == PING_APP && target == PING_TARGET { Came::Ping } else { Came::Relayed(app.clone()) })
}

/// The app in a ping's header.
pub fn ping_app() -> Option<AppId> {
    AppId::parse(PING_APP).ok()
}

/// The answer to a ping: proves that its sender knows the environment's key, by the header that was sent.
pub fn pong<B>(gateway: &Inner, request: &Request<B>) -> Response<hyper::body::Bytes> {
    let mut response = Response::new(hyper::body::Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let sent = request.headers().get(HOP).and_then(|header| header.to_str().ok());
    if let (Some(receiver), Some(sent), Some(app)) = (&gateway.receiver, sent, ping_app())
        && let Ok(proof) = HeaderValue::try_from(receiver.keys.hop_header(&app, 0, "PONG", sent))
    {
        response.headers_mut().insert(PONG, proof);
    }
    response
}

/// Whether an answer comes from one who knows the environment's key and has seen this very header.
pub fn is_pong<B>(keys: &EnvironmentKeys, sent: &str, response: &Response<B>) -> bool {
    let proof = response.headers().get(PONG).and_then(|proof| proof.to_str().ok());
    let proof = proof.and_then(|proof| Hop::parse(proof).ok());
    proof.is_some_and(|proof| proof.check(keys, 0, "PONG", sent).is_ok_and(|app| app.as_str() == PING_APP))
}
