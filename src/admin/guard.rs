//! What every request passes before its route: is the caller's origin right, who is it, is the query known, and in what
//! time must the answer come.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Admin;
use super::auth::{self, Actor, Peer};
use super::input::Params;
use super::problem::Problem;
use super::routes;

/// Time for any answer but a long poll. Commands are decided in milliseconds; the rest is a slow disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for an answer that may wait 60 s by itself.
const LONG_ANSWER_TIMEOUT: Duration = Duration::from_secs(70);

/// Probes of monitors: nothing in them is a secret.
fn is_open(request: &Request) -> bool {
    matches!(request.uri().path(), "/healthz" | "/readyz")
}

/// Lets a request through, or answers it.
pub(crate) async fn guard(State(admin): State<Admin>, mut request: Request, next: Next) -> Response {
    if is_open(&request) {
        return next.run(request).await;
    }
    let peer = request.extensions().get::<Peer>().cloned();
    let actor = match admit(&admin, peer, request.headers()).await {
        Ok(actor) => actor,
        Err(problem) => return problem.into_response(),
    };
    request.extensions_mut().insert(actor);
    next.run(request).await
}

/// Checks the query of somebody who was let in, and bounds the time until the answer.
pub(crate) async fn prepare(mut request: Request, next: Next) -> Response {
    if is_open(&request) {
        return next.run(request).await;
    }
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = path.and_then(|path| routes::find(request.method().as_str(), &path));
    if let Some(route) = route {
        match Params::parse(request.uri(), &route.known()) {
            Ok(params) => request.extensions_mut().insert(params),
            Err(problem) => return problem.into_response(),
        };
    }
    let limit = if route.is_some_and(|route| route.waits()) { LONG_ANSWER_TIMEOUT } else { ANSWER_TIMEOUT };
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "there was no answer in time")
            .hint("a change may still take effect: look at GET /api/v1/operations, or repeat it with the same Idempotency-Key")
            .into_response(),
    }
}

async fn admit(admin: &Admin, peer: Option<Peer>, headers: &HeaderMap) -> Result<Actor, Problem> {
    match peer {
        Some(Peer::Unix { actor: Some(actor), uid }) => Ok(Actor { name: actor, peer: format!("unix uid {uid}") }),
        Some(Peer::Unix { uid, actor: None }) => Err(stranger(uid)),
        Some(Peer::Tcp { address, names }) => {
            check_origin(headers, &names)?;
            auth::token_actor(admin.tokens(), admin.entry.record(), headers, address).await
        }
        None => Err(nobody()),
    }
}

/// A user of this host who may not act.
pub(super) fn stranger(uid: u32) -> Problem {
    forbidden(format!("user {uid} may not use this socket"), "become root or a member of group nbsupervisor")
}

/// A request that came through no listener.
pub(super) fn nobody() -> Problem {
    forbidden("nobody knows who asks".into(), "use the unix socket or the TCP listener")
}

/// Refuses DNS rebinding (a foreign name that resolves to us) and cross-site requests.
pub(super) fn check_origin(headers: &HeaderMap, names: &[String]) -> Result<(), Problem> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST).unwrap_or_default();
    if !host_allowed(host, names) {
        let detail = format!("{host:?} is not a name of this daemon");
        return Err(forbidden(detail, "use an IP address, localhost or the name in admin.listen").field("Host"));
    }
    if let Some(origin) = text(header::ORIGIN) {
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if !authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host)) {
            let detail = format!("requests from the site {origin:?} are refused");
            return Err(forbidden(detail, "leave the Origin header out, or ask from the same site").field("Origin"));
        }
    }
    Ok(())
}

fn host_allowed(host: &str, names: &[String]) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => address,
            Some((address, port)) if port.starts_with(':') => address,
            _ => return false,
        },
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    bare.parse::<IpAddr>().is_ok()
        || bare.eq_ignore_ascii_case("localhost")
        || names.iter().any(|name| name.eq_ignore_ascii_case(bare))
}

fn forbidden(detail: String, hint: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "forbidden", detail).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        check_origin(&headers, &["admin.example.com".into()]).is_ok()
    }

    #[test]
    fn only_own_names_are_answered() {
        for good in ["127.0.0.1:13001", "127.0.0.1", "localhost:13001", "[::1]:13001", "[::1]", "admin.example.com:1"] {
            assert!(verdict(good, None), "{good}");
        }
        for bad in ["evil.example.com", "evil.example.com:13001", "", "localhost.evil.com", "[evil]:1", "[::1]x"] {
            assert!(!verdict(bad, None), "{bad}");
        }
    }

    #[test]
    fn an_origin_must_be_the_same_site() {
        assert!(verdict("127.0.0.1:13001", Some("http://127.0.0.1:13001")));
        for bad in ["http://evil.example.com", "null", "http://127.0.0.1:9", "ftp://127.0.0.1:13001"] {
            assert!(!verdict("127.0.0.1:13001", Some(bad)), "{bad}");
        }
    }
}
