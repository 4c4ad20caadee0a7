//! The gateway's own answers: the waiting page, small error pages, and error bodies in NocoBase's shape.
//!
//! Pages are whole in themselves and ask for nothing but themselves again. All that comes from an app or a client is
//! escaped.

use std::fmt::Write as _;

use hyper::Response;
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use nbs_core::choice;
use nbs_core::gate::{self, Code};
use nbs_core::view::{AppView, InstanceView};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:0;display:grid;place-items:center;min-height:100vh;\
background:#f6f7f9;color:#1f2328}main{max-width:32rem;padding:2rem;text-align:center}h1{font-size:1.25rem;margin:0 0 .5rem}\
p{margin:.25rem 0;color:#57606a;overflow-wrap:anywhere}i{display:inline-block;width:1.5rem;height:1.5rem;margin:1rem;\
border:3px solid #d0d7de;border-top-color:#0969da;border-radius:50%;animation:t 1s linear infinite}\
@keyframes t{to{transform:rotate(1turn)}}@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}\
p{color:#8d96a0}}";

/// Asks for the page again; goes on as soon as the answer is no longer the waiting page. `<noscript>` does it without.
const SCRIPT: &str = "(function(){function again(){fetch(location.href,{headers:{Accept:'text/html'},cache:'no-store',\
credentials:'same-origin',redirect:'manual'}).then(function(r){if(!r.headers.get('X-App-Waiting')){location.reload();return}\
return r.text().then(function(t){var m=new DOMParser().parseFromString(t,'text/html').querySelector('main');\
if(m)document.querySelector('main').replaceWith(m);setTimeout(again,1000)})}).catch(function(){setTimeout(again,2000)})}\
setTimeout(again,1000)})()";

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'self'";

/// What the waiting page tells.
#[derive(Debug, Clone, Copy)]
pub struct Waiting<'a> {
    /// The app.
    pub app: &'a AppView,
    /// Its instance that the visitor is to meet.
    pub instance: Option<&'a InstanceView>,
    /// Its place in the start queue and how many wait, itself included.
    pub place: Option<(usize, usize)>,
    /// Why it waits.
    pub code: Code,
}

impl Waiting<'_> {
    /// The page: a 503, so that neither caches nor crawlers take it for the app.
    pub fn response(&self) -> Response<Bytes> {
        let title = self.app.spec.title.as_deref().unwrap_or(self.app.spec.name.as_str());
        let instance = self.instance;
        let status = instance.map_or(self.app.status, |instance| instance.status);
        let mut text = format!("<main><h1>{} is starting</h1><i></i><p>Status: {status}</p>", Html(title));
        if let Some((place, all)) = self.place {
            let _ = write!(text, "<p>Place {place} of {all} in the start queue</p>");
        }
        if let Some(progress) = instance.and_then(gate::progress) {
            let _ = write!(text, "<p>{}</p>", Html(progress));
        }
        text.push_str("<p>This page continues by itself.</p></main>");
        let refresh = "<noscript><meta http-equiv=\"refresh\" content=\"3\"></noscript>";
        let body = document(title, refresh, &format!("{text}<script>{SCRIPT}</script>"));
        let mut response = answer(self.code, "text/html; charset=utf-8", body);
        let headers = response.headers_mut();
        headers.insert("x-app-waiting", HeaderValue::from_static(status.as_str()));
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("3"));
        response
    }
}

/// A refusal: `message` is a sentence for people.
pub fn refusal(code: Code, message: &str, html: bool) -> Response<Bytes> {
    let mut response = if html {
        let status = code.status();
        let body = format!("<main><h1>{}</h1><p>{status} {}</p></main>", Html(message), code.as_str());
        answer(code, "text/html; charset=utf-8", document(code.as_str(), "", &body))
    } else {
        let maintaining = code.is_maintaining();
        let body = format!(
            "{{\"error\":{{\"status\":{},\"code\":\"{}\",\"message\":\"{}\",\"maintaining\":{maintaining}}}}}",
            code.status(),
            code.as_str(),
            Json(message)
        );
        answer(code, "application/json; charset=utf-8", body)
    };
    if let Some(seconds) = code.retry_after() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The question which environment a visitor wants. `target`: what was asked for.
pub fn choice(app: &AppView, target: &str, html: bool) -> Response<Bytes> {
    let name = app.spec.name.as_str();
    if !html {
        let message = format!(
            "{}, by the header X-App-Environment or by ?{}=: {}",
            Code::EnvironmentRequired.sentence(name),
            choice::QUERY,
            names(app)
        );
        return refusal(Code::EnvironmentRequired, &message, false);
    }
    let title = app.spec.title.as_deref().unwrap_or(name);
    let mut text = format!("<main><h1>{}</h1><p>Choose an environment.</p>", Html(title));
    let join = if target.contains('?') { '&' } else { '?' };
    for instance in choice::serving(app) {
        let (environment, status) = (&instance.environment, instance.status);
        let link = format!("{target}{join}{}={environment}", choice::QUERY);
        let _ = write!(text, "<p><a href=\"{}\">{environment}</a> ({status})</p>", Html(&link));
    }
    text.push_str("</main>");
    answer(Code::EnvironmentRequired, "text/html; charset=utf-8", document(title, "", &text))
}

/// An environment was named that does not serve the app.
pub fn elsewhere(app: &AppView, named: &str, html: bool) -> Response<Bytes> {
    let (name, named) = (&app.spec.name, named.chars().take(64).collect::<String>());
    let message = match names(app) {
        none if none.is_empty() => format!("application {name} has visitors in no environment"),
        names => format!("application {name} has no visitors in environment {named:?}; name one of: {names}"),
    };
    refusal(Code::AppNotFound, &message, html)
}

fn names(app: &AppView) -> String {
    choice::serving(app).map(|instance| instance.environment.as_str()).collect::<Vec<_>>().join(", ")
}

/// The way to where the client should have asked.
pub fn redirect(location: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = hyper::StatusCode::TEMPORARY_REDIRECT;
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn answer(code: Code, kind: &'static str, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() =
        hyper::StatusCode::from_u16(code.status()).unwrap_or(hyper::StatusCode::SERVICE_UNAVAILABLE);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if kind.starts_with("text/html") {
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    }
    response
}

fn document(title: &str, head: &str, body: &str) -> String {
    let title = Html(title);
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title>{head}<style>{STYLE}</style></head><body>{body}</body></html>"
    )
}

/// Text inside HTML.
struct Html<'a>(&'a str);

impl std::fmt::Display for Html<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            other => f.write_char(other),
        })
    }
}

/// Text inside a JSON string.
struct Json<'a>(&'a str);

impl std::fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '"' => f.write_str("\\\""),
            '\\' => f.write_str("\\\\"),
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c)),
            other => f.write_char(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_is_escaped() {
        assert_eq!(Html("<a href='x'>&\"").to_string(), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
        let body = refusal(Code::AppError, "a \"b\"\n\\", false).into_body();
        let text = String::from_utf8(body.to_vec()).unwrap();
        let wanted = r#"{"error":{"status":503,"code":"APP_ERROR","message":"a \"b\"\u000a\\","maintaining":true}}"#;
        assert_eq!(text, wanted);
    }
}
