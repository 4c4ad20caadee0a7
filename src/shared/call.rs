//! One request to a host, and whether its answer is a good one.

use http_body_util::Full;
use hyper::Method as Verb;
use hyper::body::Bytes;
use nbs_core::launch::Address;
use nbs_core::reason::{Reason, ReasonCode};
use nbs_core::shared::{Body, Method, Request};
use serde_json::Value;
use tokio::time::timeout;

use crate::ask::{http, json, words};

/// Bytes of an answer that are read. A list of a thousand apps with what a host adds to each fits.
const BODY_MAX: usize = 8 << 20;
/// Characters of an answer that are shown.
const SHOWN_MAX: usize = 160;

/// Why nothing came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The host ended.
    Ended,
    /// There was no answer; a later request may have one.
    Silent(String),
    /// The token is not, or no more, a good one.
    Unauthorized(String),
    /// The answer is not what it should be.
    Refused(String),
}

impl Trouble {
    /// What the core is told. `host`: who was asked.
    pub(super) fn reason(self, host: &nbs_core::name::AppId) -> Reason {
        match self {
            Self::Ended => Reason::new(ReasonCode::HostEnded, format!("{host} ended")),
            Self::Silent(text) | Self::Unauthorized(text) | Self::Refused(text) => {
                Reason::new(ReasonCode::HostRefused, format!("{host}: {text}"))
            }
        }
    }
}

/// Sends a request. `token`: a header and its value.
pub(super) async fn send(address: &Address, request: &Request, token: Option<(&str, &str)>) -> Result<Value, Trouble> {
    let response = match timeout(request.timeout, exchange(address, request, token)).await {
        Err(_) => return Err(Trouble::Silent(format!("{request} had no answer within {:?}", request.timeout))),
        Ok(Err(why)) => return Err(Trouble::Silent(format!("{request}: {why}"))),
        Ok(Ok(response)) => response,
    };
    judge(request, &response)
}

async fn exchange(address: &Address, request: &Request, token: Option<(&str, &str)>) -> Result<http::Response, String> {
    let verb = match request.method {
        Method::Get => Verb::GET,
        Method::Post => Verb::POST,
        Method::Put => Verb::PUT,
        Method::Patch => Verb::PATCH,
        Method::Delete => Verb::DELETE,
    };
    let mut builder = http::request(verb, &request.path, Some(address), "nbsupervisor");
    for (name, value) in request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(token) {
        builder = builder.header(name, value);
    }
    let body = match &request.body {
        None => Full::default(),
        Some(body) => {
            if !request.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type")) {
                builder = builder.header("content-type", "application/json");
            }
            Full::new(Bytes::from(encode(body).to_string()))
        }
    };
    // What hyper says of a bad header or path could show the value.
    let request =
        builder.body(body).map_err(|_| "its path or a header has a character that HTTP forbids".to_string())?;
    http::send(Some(address), request, BODY_MAX).await
}

fn encode(body: &Body<String>) -> Value {
    match body {
        Body::Text(text) => Value::from(text.as_str()),
        Body::Integer(number) => Value::from(*number),
        Body::Boolean(flag) => Value::from(*flag),
        Body::List(items) => Value::from(items.iter().map(encode).collect::<Vec<_>>()),
        Body::Table(map) => Value::Object(map.iter().map(|(key, item)| (key.clone(), encode(item))).collect()),
    }
}

/// The answer's JSON, null where there is none, if it is a good one.
fn judge(request: &Request, response: &http::Response) -> Result<Value, Trouble> {
    let expect = &request.expect;
    let status = response.status;
    if status == 401 && !expect.status.contains(&status) {
        return Err(Trouble::Unauthorized(format!("{request} answered with status 401{}", excerpt(response))));
    }
    let fits = if expect.status.is_empty() { (200..300).contains(&status) } else { expect.status.contains(&status) };
    if !fits {
        return Err(Trouble::Refused(format!("{request} answered with status {status}{}", excerpt(response))));
    }
    if response.cut {
        return Err(Trouble::Refused(format!("{request} answered with more than {BODY_MAX} bytes")));
    }
    let parsed = serde_json::from_slice::<Value>(&response.body);
    if let Some((path, wanted)) = &expect.json {
        let found = parsed.as_ref().ok().and_then(|root| json::text_at(root, path));
        if found.as_deref() != Some(wanted) {
            let found = found.map_or_else(|| "nothing".into(), |text| format!("{:?}", words::tame(&text, 60)));
            return Err(Trouble::Refused(format!("{request} answered with {found} at {path}, not {wanted:?}")));
        }
    }
    Ok(parsed.unwrap_or(Value::Null))
}

/// What an answer that was not wanted says, where it says something to people.
fn excerpt(response: &http::Response) -> String {
    let text = String::from_utf8_lossy(&response.body[..response.body.len().min(4 * SHOWN_MAX)]);
    let text = words::tame(&text, SHOWN_MAX);
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use nbs_core::shared::Expect;

    use super::*;

    fn request(expect: Expect) -> Request {
        let (path, headers) = ("/apps".to_string(), BTreeMap::new());
        Request { method: Method::Get, path, headers, body: None, expect, timeout: Duration::from_secs(1) }
    }

    fn answer(status: u16, body: &str) -> http::Response {
        http::Response { status, body: body.into(), cut: false }
    }

    #[test]
    fn an_answer_is_good_by_its_status_and_by_what_stands_in_it() {
        let any = request(Expect::default());
        assert!(judge(&any, &answer(204, "")).is_ok());
        assert!(
            matches!(judge(&any, &answer(500, "no")), Err(Trouble::Refused(why)) if why == "GET /apps answered with status 500: no")
        );
        assert!(matches!(judge(&any, &answer(401, "")), Err(Trouble::Unauthorized(_))));
        let known = request(Expect { status: vec![404, 401], json: None });
        assert!(judge(&known, &answer(404, "")).is_ok() && judge(&known, &answer(401, "")).is_ok());
        assert!(judge(&known, &answer(200, "")).is_err());
        let there = request(Expect { status: vec![], json: Some(("data.enabled".into(), "true".into())) });
        assert!(judge(&there, &answer(200, r#"{"data":{"enabled":true}}"#)).is_ok());
        for body in [r#"{"data":{"enabled":false}}"#, "<html>", ""] {
            assert!(judge(&there, &answer(200, body)).is_err(), "{body}");
        }
    }

    #[test]
    fn values_cannot_break_out_of_a_body() {
        let body =
            Body::Table(BTreeMap::from([("a".to_string(), Body::Text("\",\"admin\":true,\"x\":\"".to_string()))]));
        let sent = encode(&body).to_string();
        let read: Value = serde_json::from_str(&sent).unwrap();
        assert_eq!(read.as_object().map(|map| map.len()), Some(1));
    }
}
