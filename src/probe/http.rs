//! Asks over HTTP/1.1 on the instance's own address: one fresh connection per question.
//!
//! The body is read only when the recipe looks into it, and never further than `BODY_MAX`. Deliberately absent: redirects
//! (`status 302` is an answer like any other) and TLS.

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use nbs_core::launch::Address;
use nbs_core::observation::Answer;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use super::tcp::{self, Connection};
use super::{json, words};

/// Bytes of an answer's body that are looked at.
const BODY_MAX: usize = 64 << 10;
/// Bytes of an answer's head, and of what is buffered at once.
const HEAD_MAX: usize = 16 << 10;

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

/// An answer, its body cut at `BODY_MAX`.
#[derive(Debug, Default)]
pub(super) struct Response {
    pub status: u16,
    pub body: Vec<u8>,
    pub cut: bool,
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
    let host = match address {
        Some(Address::Port(port)) => format!("127.0.0.1:{port}"),
        _ => "localhost".to_string(),
    };
    let request = Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, "nbsupervisor-probe")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("{path:?} is no path: {error}"))?;
    match tcp::connect(address).await? {
        Connection::Tcp(stream) => exchange(stream, request, with_body).await,
        Connection::Unix(stream) => exchange(stream, request, with_body).await,
    }
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>, with_body: bool) -> Result<Response, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_MAX).handshake(TokioIo::new(stream)).await.map_err(|e| say(&e))?;
    let story = async {
        let answer = sender.send_request(request).await.map_err(|e| say(&e))?;
        let mut response = Response { status: answer.status().as_u16(), ..Response::default() };
        let mut body = answer.into_body();
        while with_body && !response.cut {
            let Some(frame) = body.frame().await else { break };
            let frame = frame.map_err(|_| "the answer broke off".to_string())?;
            let Some(data) = frame.data_ref() else { continue };
            let room = BODY_MAX - response.body.len();
            response.cut = data.len() > room;
            response.body.extend_from_slice(&data[..data.len().min(room)]);
        }
        Ok(response)
    };
    // The connection is driven here, not by a task of its own: dropping this future leaves nothing behind.
    let driver = async {
        let _ = connection.await;
        std::future::pending::<std::convert::Infallible>().await
    };
    tokio::select! {
        biased;
        response = story => response,
        never = driver => match never {},
    }
}

fn say(error: &hyper::Error) -> String {
    if error.is_parse() || error.is_parse_too_large() {
        return words::tame(&format!("the answer is not HTTP: {error}"), words::SEEN_MAX);
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return "the connection was closed without an answer".to_string();
    }
    let io = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    io.map_or_else(|| words::tame(&error.to_string(), words::SEEN_MAX), words::of_io)
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
