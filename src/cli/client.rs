//! The way to the daemon: HTTP/1 over its unix socket, or over TCP with a token. One connection, used again.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};

use super::exit::{Exit, Failure, Outcome, of_status};
use crate::wire::api::problem::Problem;

/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for an answer; the daemon's own limit is 70 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(80);
/// Pause before a request whose connection broke is sent once more.
const AGAIN_AFTER: Duration = Duration::from_millis(300);

/// Where the daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// On this host.
    Unix(PathBuf),
    /// Host and port.
    Tcp(String),
}

impl Target {
    /// Reads `http://HOST[:PORT]`.
    ///
    /// # Errors
    /// It is another kind of URL.
    pub fn parse(url: &str) -> Outcome<Self> {
        let wrong = |hint: &str| Failure::usage(format!("{url:?} cannot be used as --url"), hint);
        if url.starts_with("https://") {
            return Err(wrong("the daemon speaks plain HTTP; go through `ssh -L 13001:127.0.0.1:13001 HOST`"));
        }
        let authority = url.strip_prefix("http://").ok_or_else(|| wrong("write http://HOST:13001"))?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.is_empty() || authority.contains(['/', '?', '@', ' ']) {
            return Err(wrong("write http://HOST:13001 and nothing after it"));
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        Ok(Self::Tcp(if has_port { authority.into() } else { format!("{authority}:13001") }))
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        let (place, hint) = match self {
            Self::Unix(path) => {
                let hint = match error.kind() {
                    io::ErrorKind::PermissionDenied => "become root or a member of group nbsupervisor",
                    _ => {
                        "is it running? `systemctl status nbsupervisor`, or `nbsupervisor daemon` in another terminal; --socket names another one"
                    }
                };
                (path.display().to_string(), hint)
            }
            Self::Tcp(authority) => {
                (format!("http://{authority}"), "is it running, and is admin.listen reachable from here?")
            }
        };
        Failure::new(Exit::Unreachable, format!("the daemon cannot be reached at {place}: {error}")).hint(hint)
    }
}

/// An answer that is no error.
#[derive(Debug)]
pub struct Answer {
    /// The body as it came.
    pub text: Bytes,
}

impl Answer {
    /// Reads the body.
    ///
    /// # Errors
    /// It is not what this version knows.
    pub fn parse<T: DeserializeOwned>(&self) -> Outcome<T> {
        serde_json::from_slice(&self.text).map_err(|error| {
            Failure::new(Exit::Failed, format!("the daemon's answer cannot be read: {error}"))
                .hint("are command and daemon of the same version? `nbsupervisor status` shows the daemon's")
        })
    }
}

/// The way to the daemon.
pub struct Client {
    target: Target,
    token: Option<String>,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// Names the daemon; nothing is connected yet.
    pub fn new(target: Target, token: Option<String>) -> Self {
        Self { target, token, sender: None }
    }

    /// Another way to the same daemon.
    pub fn another(&self) -> Self {
        Self::new(self.target.clone(), self.token.clone())
    }

    /// Asks.
    ///
    /// # Errors
    /// The daemon cannot be reached, or says no.
    pub async fn get(&mut self, path: &str) -> Outcome<Answer> {
        self.send(Method::GET, path, None, &[]).await
    }

    /// Asks and reads.
    ///
    /// # Errors
    /// As `get`.
    pub async fn read<T: DeserializeOwned>(&mut self, path: &str) -> Outcome<T> {
        self.get(path).await?.parse()
    }

    /// Changes something. An idempotency key goes along, so it is sent again safely if the connection breaks.
    ///
    /// # Errors
    /// As `get`.
    pub async fn change(&mut self, method: Method, path: &str, body: Option<&Value>) -> Outcome<Answer> {
        self.send(method, path, body, &[]).await
    }

    /// The same with further headers.
    ///
    /// # Errors
    /// As `get`.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, String)],
    ) -> Outcome<Answer> {
        let key = (method != Method::GET).then(random_key).transpose()?;
        let mut headers: Vec<(&str, String)> = headers.to_vec();
        headers.extend(key.map(|key| ("idempotency-key", key)));
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let mut again = true;
        loop {
            let request = self.request(&method, path, bytes.clone(), &headers)?;
            match self.try_once(request).await {
                Ok(response) => return collect(response).await,
                Err(Broken::Late) => {
                    return Err(Failure::new(Exit::TimedOut, "the daemon did not answer in time")
                        .hint("`nbsupervisor ops` shows what became of commands"));
                }
                Err(Broken::Connection(_)) if again => {
                    again = false;
                    self.sender = None;
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                Err(Broken::Connection(error)) => return Err(self.target.unreachable(&error)),
                Err(Broken::Connect(error)) => return Err(self.target.unreachable(&error)),
            }
        }
    }

    /// Opens a stream; `accept` is its media type.
    ///
    /// # Errors
    /// As `get`.
    pub async fn stream(&mut self, path: &str, accept: &str, headers: &[(&str, String)]) -> Outcome<Incoming> {
        let mut headers: Vec<(&str, String)> = headers.to_vec();
        headers.push(("accept", accept.into()));
        let request = self.request(&Method::GET, path, Bytes::new(), &headers)?;
        self.sender = None;
        let response = self.try_once(request).await.map_err(|broken| match broken {
            Broken::Late => self.target.unreachable(&io::ErrorKind::TimedOut.into()),
            Broken::Connect(error) | Broken::Connection(error) => self.target.unreachable(&error),
        })?;
        if !response.status().is_success() {
            collect(response).await?;
            return Err(Failure::new(Exit::Failed, "the daemon gave no stream"));
        }
        Ok(response.into_body())
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        body: Bytes,
        headers: &[(&str, String)],
    ) -> Outcome<Request<Full<Bytes>>> {
        let host = match &self.target {
            Target::Unix(_) => "localhost",
            Target::Tcp(authority) => authority,
        };
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let wrong = |error| Failure::new(Exit::Usage, format!("the request cannot be made: {error}"));
        request.body(Full::new(body)).map_err(wrong)
    }

    async fn try_once(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Broken> {
        let mut sender = match self.sender.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => {
                let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect(&self.target)).await;
                connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(Broken::Connect)?
            }
        };
        let broken = |error: hyper::Error| Broken::Connection(io::Error::other(error.to_string()));
        sender.ready().await.map_err(broken)?;
        let response = tokio::time::timeout(ANSWER_TIMEOUT, sender.send_request(request)).await;
        let response = response.map_err(|_| Broken::Late)?.map_err(broken)?;
        self.sender = Some(sender);
        Ok(response)
    }
}

enum Broken {
    /// There is no connection.
    Connect(io::Error),
    /// There was one, and it broke before the answer.
    Connection(io::Error),
    /// The answer did not come.
    Late,
}

async fn connect(target: &Target) -> io::Result<SendRequest<Full<Bytes>>> {
    match target {
        Target::Unix(path) => shake(UnixStream::connect(path).await?).await,
        Target::Tcp(authority) => {
            let stream = TcpStream::connect(authority.as_str()).await?;
            stream.set_nodelay(true)?;
            shake(stream).await
        }
    }
}

async fn shake<S>(stream: S) -> io::Result<SendRequest<Full<Bytes>>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Ends with the sender and its last body; an error shows there too.
    tokio::spawn(connection);
    Ok(sender)
}

async fn collect(response: Response<Incoming>) -> Outcome<Answer> {
    let status = response.status();
    let cut = |error| Failure::new(Exit::Unreachable, format!("the daemon's answer was cut off: {error}"));
    let text = response.into_body().collect().await.map_err(cut)?.to_bytes();
    if status.is_success() {
        return Ok(Answer { text });
    }
    match serde_json::from_slice::<Problem>(&text) {
        Ok(problem) => Err(problem.into()),
        Err(_) => Err(Failure::new(of_status(status.as_u16()), format!("the daemon answered {status}"))),
    }
}

fn random_key() -> Outcome<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(Exit::Failed, format!("the system gives no random bytes: {error}")))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

/// Encodes a text for a path or a query.
pub fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// Joins a path and the parts of a query that are there.
pub fn with_query(path: &str, query: &[(&str, Option<String>)]) -> String {
    let parts: Vec<String> = query
        .iter()
        .filter_map(|(key, value)| value.as_ref().map(|value| format!("{key}={}", encode(value))))
        .collect();
    if parts.is_empty() { path.into() } else { format!("{path}?{}", parts.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_host_and_port() {
        assert_eq!(Target::parse("http://10.0.0.2"), Ok(Target::Tcp("10.0.0.2:13001".into())));
        assert_eq!(Target::parse("http://a.example:9/"), Ok(Target::Tcp("a.example:9".into())));
        for bad in ["10.0.0.2", "https://a", "http://", "http://a/b", "http://u@a"] {
            assert_eq!(Target::parse(bad).map_err(|failure| failure.exit), Err(Exit::Usage), "{bad}");
        }
    }

    #[test]
    fn a_query_is_encoded_and_holds_what_is_there() {
        let query = [("q", Some("a b&c".to_string())), ("x", None)];
        assert_eq!(with_query("/p", &query), "/p?q=a%20b%26c");
        assert_eq!(with_query("/p", &[("x", None)]), "/p");
    }
}
