//! What changes in a head between client and app.
//!
//! Hop-by-hop headers concern one connection and go, those that `Connection` names included. What tells an app where a
//! request came from is written here, and believed from a client only if it is a trusted proxy; `X-Request-Id` likewise,
//! so that nobody can plant one in an app's log. Everything else passes as it is.

use std::fmt::Write as _;
use std::net::IpAddr;

use hyper::Uri;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use nbs_core::name::AppId;
use nbs_core::order::Select;

use super::choose::X_APP_ENVIRONMENT;
use super::hop;

const X_APP: HeaderName = HeaderName::from_static("x-app");
const X_HOSTNAME: HeaderName = HeaderName::from_static("x-hostname");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// What the app's paths were cut by.
pub const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// Names a request in logs on both sides.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Hop-by-hop headers, besides those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 7] = [
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
];

/// Headers by which an untrusted client could lie about where it comes from.
const CLAIMS: [HeaderName; 9] = [
    FORWARDED_FOR,
    FORWARDED_PROTO,
    FORWARDED_HOST,
    FORWARDED_PORT,
    FORWARDED_PREFIX,
    header::FORWARDED,
    X_REAL_IP,
    X_HOSTNAME,
    REQUEST_ID,
];

/// Who sent a request.
#[derive(Debug)]
pub struct Peer {
    address: IpAddr,
    text: HeaderValue,
    trusted: bool,
}

impl Peer {
    /// The other end of a connection; `trusted`: whether it is a proxy whose word counts.
    pub fn new(address: IpAddr, trusted: bool) -> Self {
        let address = address.to_canonical();
        let text = HeaderValue::try_from(address.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        Self { address, text, trusted }
    }
}

/// Removes hop-by-hop headers. Returns the protocol that an upgrade asks for or grants.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) -> Option<HeaderValue> {
    if !headers.keys().any(|name| *name == header::CONNECTION || HOP_BY_HOP.contains(name)) {
        return None;
    }
    let mut upgrades = false;
    let mut named: Vec<HeaderName> = Vec::new();
    for token in headers.get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')) {
        let token = token.trim();
        if token.eq_ignore_ascii_case("upgrade") {
            upgrades = true;
        } else if !["keep-alive", "close", "te", ""].iter().any(|known| token.eq_ignore_ascii_case(known)) {
            named.extend(HeaderName::try_from(token).ok());
        }
    }
    let trailers = headers
        .get(header::TE)
        .is_some_and(|te| te.to_str().is_ok_and(|te| te.split(',').any(|t| t.trim().eq_ignore_ascii_case("trailers"))));
    let upgrade = headers.get(header::UPGRADE).filter(|_| upgrades).cloned();
    headers.remove(header::CONNECTION);
    // A client that wants to hide from the app what routing relies on only harms itself, but bodies need their length.
    for name in named.iter().filter(|name| **name != header::CONTENT_LENGTH && **name != header::HOST) {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    upgrade
}

/// Asks for an upgrade, or grants one.
pub fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

/// Turns a client's headers into the app's, hop-by-hop ones aside. `relayed`: the entry's gateway sent them, whose word
/// counts. `fresh_id` makes a request ID when one is needed.
pub fn to_app(headers: &mut HeaderMap, uri: &Uri, peer: &Peer, relayed: bool, fresh_id: impl FnOnce() -> HeaderValue) {
    for name in [X_APP, X_APP_ENVIRONMENT, hop::HOP, hop::FROM, header::EXPECT] {
        headers.remove(name);
    }
    if !relayed && !peer.trusted && headers.keys().any(|name| CLAIMS.contains(name)) {
        for name in CLAIMS {
            headers.remove(name);
        }
    }
    headers.reserve(6);
    // Of an absolute target the authority counts, not the header.
    if let Some(authority) = uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str().rsplit('@').next().unwrap_or_default())
    {
        headers.insert(header::HOST, host);
    }
    let host = match headers.get(header::HOST) {
        Some(host) => Some(host.clone()),
        None => {
            headers.insert(header::HOST, HeaderValue::from_static("localhost"));
            None
        }
    };
    append(headers, header::FORWARDED, &forwarded(peer, host.as_ref()), ", ");
    append(headers, FORWARDED_FOR, &peer.text, ", ");
    if let Some(host) = host {
        headers.entry(FORWARDED_HOST).or_insert(host);
    }
    headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    if headers.get(REQUEST_ID).is_none_or(|id| id.len() > 128) {
        headers.insert(REQUEST_ID, fresh_id());
    }
}

/// Tells the app what its paths were cut by: after what it was told before this gateway.
pub fn set_prefix(headers: &mut HeaderMap, prefix: &str) {
    if let Ok(prefix) = HeaderValue::from_str(prefix) {
        append(headers, FORWARDED_PREFIX, &prefix, "");
    }
}

/// Tells a process with several apps which one is meant, and takes off all by which a client could have told another one.
/// None: the header cannot be.
pub fn set_selector(headers: &mut HeaderMap, select: &Select, app: &AppId) -> Option<HeaderName> {
    let name = HeaderName::try_from(&select.header).ok()?;
    // Programs behind CGI and its kin do not tell `_` from `-`.
    let plain = |name: &HeaderName| name.as_str().replace('_', "-");
    let own = plain(&name);
    let alike: Vec<HeaderName> =
        headers.keys().filter(|other| [own.as_str(), X_APP.as_str()].contains(&&*plain(other))).cloned().collect();
    for other in alike {
        headers.remove(other);
    }
    headers.insert(&name, HeaderValue::from_str(app.as_str()).ok()?);
    Some(name)
}

/// Adds a value to what a trusted proxy has said before.
fn append(headers: &mut HeaderMap, name: HeaderName, value: &HeaderValue, between: &str) {
    let mut earlier = headers.get_all(&name).iter();
    let Some(first) = earlier.next() else {
        headers.insert(name, value.clone());
        return;
    };
    let mut all = first.as_bytes().to_vec();
    for more in earlier.chain([value]) {
        all.extend_from_slice(between.as_bytes());
        all.extend_from_slice(more.as_bytes());
    }
    headers.insert(name, HeaderValue::from_bytes(&all).unwrap_or_else(|_| value.clone()));
}

/// An element of `Forwarded` (RFC 7239).
fn forwarded(peer: &Peer, host: Option<&HeaderValue>) -> HeaderValue {
    let mut text = String::with_capacity(96);
    let _ = match peer.address {
        IpAddr::V4(ip) => write!(text, "for={ip};"),
        IpAddr::V6(ip) => write!(text, "for=\"[{ip}]\";"),
    };
    if let Some(host) = host.and_then(|host| host.to_str().ok())
        && !host.contains(['"', '\\'])
    {
        let _ = write!(text, "host=\"{host}\";");
    }
    text.push_str("proto=http");
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("proto=http"))
}

/// The value of `X-App`, if it is text.
pub fn x_app(headers: &HeaderMap) -> Option<&str> {
    headers.get(X_APP)?.to_str().ok()
}

/// Whether the client reads `text/html`.
pub fn accepts_html(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.any(|value| value.contains("text/html"))
}

/// Whether another protocol is asked for that can be tunnelled. HTTP/2 cannot be upgraded to here.
pub fn wants_upgrade(headers: &HeaderMap) -> bool {
    let Some(upgrade) = headers.get(header::UPGRADE) else {
        return false;
    };
    let h2c = upgrade.to_str().is_ok_and(|value| value.split(',').any(|t| t.trim().eq_ignore_ascii_case("h2c")));
    let mut connection = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    !h2c && connection.any(|value| value.split(',').any(|t| t.trim().eq_ignore_ascii_case("upgrade")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn id() -> HeaderValue {
        HeaderValue::from_static("made")
    }

    #[test]
    fn hop_by_hop_goes_and_what_connection_names() {
        let mut headers = map(&[
            ("connection", "Keep-Alive, X-Secret"),
            ("connection", "x-other, content-length"),
            ("x-secret", "1"),
            ("x-other", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip, trailers"),
            ("content-length", "5"),
            ("accept", "*/*"),
        ]);
        assert_eq!(strip_hop_by_hop(&mut headers), None);
        let wanted = map(&[("te", "trailers"), ("connection", "te"), ("content-length", "5"), ("accept", "*/*")]);
        assert_eq!(headers, wanted);
    }

    #[test]
    fn strangers_are_not_believed() {
        let peer = Peer::new("9.9.9.9".parse().unwrap(), false);
        let mut headers = map(&[
            ("host", "example.com"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-prefix", "/evil"),
            ("forwarded", "for=1.1.1.1"),
            ("x-hostname", "other"),
            ("x-request-id", "planted"),
            ("x-app", "crm"),
            ("x-app-environment", "env_a"),
            ("x-nbs-hop", "v1 crm"),
            ("x-nbs-from", "me"),
        ]);
        to_app(&mut headers, &Uri::from_static("/"), &peer, false, id);
        set_prefix(&mut headers, "/apps/crm");
        let wanted = map(&[
            ("host", "example.com"),
            ("x-forwarded-for", "9.9.9.9"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "example.com"),
            ("x-forwarded-prefix", "/apps/crm"),
            ("forwarded", "for=9.9.9.9;host=\"example.com\";proto=http"),
            ("x-request-id", "made"),
        ]);
        assert_eq!(headers, wanted);
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_continued() {
        let peer = Peer::new("::1".parse().unwrap(), true);
        let mut headers = map(&[
            ("host", "inner"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "outer"),
            ("x-forwarded-prefix", "/base"),
            ("forwarded", "for=1.1.1.1"),
            ("x-request-id", "theirs"),
        ]);
        to_app(&mut headers, &Uri::from_static("http://other:81/x"), &peer, false, id);
        set_prefix(&mut headers, "/apps/crm");
        let wanted = map(&[
            ("host", "other:81"),
            ("x-forwarded-for", "1.1.1.1, ::1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "outer"),
            ("x-forwarded-prefix", "/base/apps/crm"),
            ("forwarded", "for=1.1.1.1, for=\"[::1]\";host=\"other:81\";proto=http"),
            ("x-request-id", "theirs"),
        ]);
        assert_eq!(headers, wanted);
    }
}
