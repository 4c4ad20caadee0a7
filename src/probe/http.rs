//! Asks over HTTP/1.1 on the instance's own address: one fresh connection per question.
//!
//! The body is read only when the recipe looks into it, and never further than `BODY_MAX`. Deliberately absent: redirects
//! (`status 302` is an answer like any other) and TLS.

use http_body_util::Full;
use hyper::Method;
use nbs_core::launch::Address;
use nbs_core::observation::Answer;
use serde_json::Value;

use crate::ask::http::{self, Response};
use crate::ask::{json, words};

/// Bytes of an answer's body that are looked at.
const BODY_MAX: usize = 64 << 10;

/// What is wanted of an answer; the fields of `Question::Http`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub status: Option<u16>,
    pub expect_body: Option<&'a str>,
    pub progress: Option<&'a str>,
    pub failed_if: Option<(&'a str, &'a str)>,
}

impl Wanted<'_> {
    fn looks_into_body(&self) -> bool {
        self.expect_body.is_some() || self.progress.is_some() || self.failed_if.is_some()
    }
}

/// Asks and judges.
pub(super) async fn ask(address: Option<&Address>, path: &str, wanted: Wanted<'_>) -> Answer {
    match get(address, path, wanted.looks_into_body()).await {
        Ok(response) => judge(&wanted, &response),
        Err(saw) => Answer::NotYet { saw, progress: None, failed: false },
    }
}

/// Fetches a path.
pub(super) async fn get(address: Option<&Address>, path: &str, with_body: bool) -> Result<Response, String> {
    let request = http::request(Method::GET, path, address, "nbsupervisor-probe")
        .body(Full::default())
        .map_err(|error| format!("{path:?} is no path: {error}"))?;
    http::send(address, request, if with_body { BODY_MAX } else { 0 }).await
}

/// What an answer means. `failed_if` is looked at first: an app may well say with status 200 that it failed.
fn judge(wanted: &Wanted<'_>, response: &Response) -> Answer {
    let parsed = match wanted.progress.is_some() || wanted.failed_if.is_some() {
        true => serde_json::from_slice::<Value>(&response.body).ok(),
        false => None,
    };
    let text_at = |path: &str| parsed.as_ref().and_then(|root| json::text_at(root, path));
    let progress = wanted.progress.and_then(text_at).map(|text| words::tame(&text, words::SEEN_MAX));
    let progress = progress.filter(|text| !text.is_empty());
    if let Some((path, equals)) = wanted.failed_if
        && text_at(path).as_deref() == Some(equals)
    {
        let saw = words::tame(&format!("status {}, {path} is {equals}", response.status), words::SEEN_MAX);
        return Answer::NotYet { saw, progress, failed: true };
    }
    let not_yet = |saw| Answer::NotYet { saw, progress, failed: false };
    let status_fits = match wanted.status {
        Some(status) => response.status == status,
        None => (200..300).contains(&response.status),
    };
    if !status_fits {
        return not_yet(format!("status {}", response.status));
    }
    match wanted.expect_body {
        Some(body) if response.cut || response.body != body.as_bytes() => not_yet(other_body(response, body)),
        _ => Answer::Ready,
    }
}

fn other_body(response: &Response, wanted: &str) -> String {
    let seen = words::tame(&String::from_utf8_lossy(&response.body[..response.body.len().min(256)]), 60);
    let more = if response.cut { "…" } else { "" };
    format!("status {}, but the body is {seen:?}{more}, not {:?}", response.status, words::tame(wanted, 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Wanted<'static> = Wanted { status: None, expect_body: None, progress: None, failed_if: None };

    fn answer(status: u16, body: &str) -> Response {
        Response { status, body: body.into(), cut: false }
    }

    #[test]
    fn without_a_wanted_status_every_2xx_will_do() {
        for (status, ready) in [(200, true), (204, true), (199, false), (302, false), (503, false)] {
            assert_eq!(judge(&ANY, &answer(status, "")) == Answer::Ready, ready, "{status}");
        }
        let wanted = Wanted { status: Some(302), ..ANY };
        assert_eq!(judge(&wanted, &answer(302, "")), Answer::Ready);
        assert_ne!(judge(&wanted, &answer(200, "")), Answer::Ready);
    }

    #[test]
    fn the_body_is_compared_exactly() {
        let wanted = Wanted { expect_body: Some("ok"), ..ANY };
        assert_eq!(judge(&wanted, &answer(200, "ok")), Answer::Ready);
        for other in ["ok\n", "OK", "", "<html>"] {
            assert!(matches!(judge(&wanted, &answer(200, other)), Answer::NotYet { .. }), "{other:?}");
        }
        let cut = Response { cut: true, ..answer(200, "ok") };
        assert!(matches!(judge(&wanted, &cut), Answer::NotYet { .. }));
    }

    #[test]
    fn progress_and_failure_come_from_the_json() {
        let wanted = Wanted { progress: Some("error.message"), failed_if: Some(("error.code", "APP_ERROR")), ..ANY };
        let busy = judge(&wanted, &answer(503, r#"{"error":{"code":"APP_COMMANDING","message":"load plugin 1/77"}}"#));
        let progress = Some("load plugin 1/77".to_string());
        assert_eq!(busy, Answer::NotYet { saw: "status 503".into(), progress: progress.clone(), failed: false });
        let failed = judge(&wanted, &answer(200, r#"{"error":{"code":"APP_ERROR","message":"load plugin 1/77"}}"#));
        let saw = "status 200, error.code is APP_ERROR".to_string();
        assert_eq!(failed, Answer::NotYet { saw, progress, failed: true });
        let none = judge(&wanted, &answer(503, "not json"));
        assert_eq!(none, Answer::NotYet { saw: "status 503".into(), progress: None, failed: false });
    }
}
