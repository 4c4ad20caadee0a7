//! One request, one connection, one bounded answer.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use nbs_core::launch::Address;
use tokio::io::{AsyncRead, AsyncWrite};

use super::tcp::{self, Connection};
use super::words;

/// Bytes of an answer's head, and of what is buffered at once.
const HEAD_MAX: usize = 16 << 10;

/// An answer, its body cut where the asker said.
#[derive(Debug, Default)]
pub struct Response {
    /// Status.
    pub status: u16,
    /// Body, as far as it was read.
    pub body: Vec<u8>,
    /// Whether there was more of it.
    pub cut: bool,
}

/// A request with the headers that every one has.
pub fn request(method: Method, path: &str, address: Option<&Address>, agent: &str) -> hyper::http::request::Builder {
    let host = match address {
        Some(Address::Port(port)) => format!("127.0.0.1:{port}"),
        _ => "localhost".to_string(),
    };
    let request = Request::builder().method(method).uri(path);
    request.header(HOST, host).header(USER_AGENT, agent).header(CONNECTION, "close")
}

/// Sends a request and reads at most `body_max` bytes of the answer's body.
///
/// # Errors
/// Why there is no answer, in words.
pub async fn send(
    address: Option<&Address>,
    request: Request<Full<Bytes>>,
    body_max: usize,
) -> Result<Response, String> {
    match tcp::connect(address).await? {
        Connection::Tcp(stream) => exchange(stream, request, body_max).await,
        Connection::Unix(stream) => exchange(stream, request, body_max).await,
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>, body_max: usize) -> Result<Response, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_MAX).handshake(TokioIo::new(stream)).await.map_err(|e| say(&e))?;
    let story = async {
        let answer = sender.send_request(request).await.map_err(|e| say(&e))?;
        let mut response = Response { status: answer.status().as_u16(), ..Response::default() };
        let mut body = answer.into_body();
        while body_max > 0 && !response.cut {
            let Some(frame) = body.frame().await else { break };
            let frame = frame.map_err(|_| "the answer broke off".to_string())?;
            let Some(data) = frame.data_ref() else { continue };
            let room = body_max - response.body.len();
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
