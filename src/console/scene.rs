//! What every page needs: who looks, the daemon at a glance, and the way to ask the API for more.

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, header};
use hyper::body::Bytes;
use maud::{Markup, html};
use nbs_core::time::Now;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Console;
use super::door::Visitor;
use crate::admin::Refused;
use crate::wire::api::app::App;
use crate::wire::api::daemon::Status;
use crate::wire::api::log::LogLine;
use crate::wire::api::runtime::RuntimeList;

/// One look at the daemon by one visitor.
pub(crate) struct Scene {
    pub console: Console,
    pub visitor: Visitor,
    pub status: Status,
    pub now: Now,
    /// What the browser calls this host.
    host: String,
    /// Runtimes whose apps listen nowhere.
    silent: Vec<String>,
}

impl Console {
    pub(super) fn now(&self) -> Now {
        (self.api().admin().now)()
    }
}

impl Scene {
    /// Looks.
    ///
    /// # Errors
    /// What the API answered.
    pub(crate) async fn open(console: &Console, visitor: &Visitor, headers: &HeaderMap) -> Result<Self, Refused> {
        let status = console.api().get(&visitor.actor, "/api/v1/status").await?;
        let known: RuntimeList = console.api().get(&visitor.actor, "/api/v1/runtimes").await?;
        let silent = known.runtimes.into_iter().filter(|runtime| runtime.listen == "none").map(|runtime| runtime.name);
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        // Behind a bracket ends an IPv6 address, and what follows the last colon elsewhere is a port.
        let bare = match host.rfind(']') {
            Some(end) => &host[..=end],
            None => host.split(':').next().unwrap_or(host),
        };
        Ok(Self {
            console: console.clone(),
            visitor: visitor.clone(),
            status,
            now: console.now(),
            host: bare.to_string(),
            silent: silent.collect(),
        })
    }

    /// Asks the API for something to show.
    ///
    /// # Errors
    /// What the API answered.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refused> {
        self.console.api().get(&self.visitor.actor, path).await
    }

    /// The newest lines of an app's log.
    ///
    /// # Errors
    /// What the API answered.
    pub(crate) async fn log(&self, app: &str, lines: usize) -> Result<Vec<LogLine>, Refused> {
        let path = format!("/api/v1/apps/{app}/logs?lines={lines}");
        let text = ask(&self.console, &self.visitor, Method::GET, &path, None, None).await?;
        Ok(text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }

    /// Whether something can be changed here.
    pub(crate) fn may_act(&self) -> bool {
        self.status.read_only.is_none()
    }

    /// What every form carries.
    pub(crate) fn form(&self) -> Markup {
        html! { input type="hidden" name="form" value=(self.visitor.form.as_str()); }
    }

    /// Where visitors of an app go, if it has any. A gateway that listens everywhere is reached where this page was.
    pub(crate) fn visit(&self, app: &App) -> Option<String> {
        let runtime = app.spec["runtime"].as_str().unwrap_or_default();
        let base =
            self.status.gateway_url.as_deref().filter(|_| !self.silent.iter().any(|silent| silent == runtime))?;
        let everywhere = base.strip_prefix("http://0.0.0.0:").or_else(|| base.strip_prefix("http://[::]:"));
        Some(match everywhere {
            Some(port) => format!("http://{}:{port}{}", self.host, app.url),
            None => format!("{base}{}", app.url),
        })
    }
}

/// Has the API change something for somebody; `key` makes it safe to send twice.
///
/// # Errors
/// What the API answered.
pub(crate) async fn ask(
    console: &Console,
    visitor: &Visitor,
    method: Method,
    path: &str,
    body: Option<&Value>,
    key: Option<&str>,
) -> Result<Bytes, Refused> {
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let mut request = Request::new(body);
    *request.method_mut() = method;
    // Names in paths were checked, and what is typed is encoded; a path that cannot be is met by "not found".
    *request.uri_mut() = path.parse().unwrap_or_default();
    if let Some(key) = key.and_then(|key| key.parse().ok()) {
        request.headers_mut().insert("idempotency-key", key);
    }
    console.api().ask(&visitor.actor, request).await
}

/// A text as a part of a path or query.
pub(crate) fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_cannot_leave_its_place_in_a_query() {
        assert_eq!(encode("a b&limit=9/..?#é"), "a%20b%26limit%3D9%2F..%3F%23%C3%A9");
    }
}
