//! What the gateway remembers for a visitor, in cookies that no app gets to see: the environment of an app, and the app
//! whose page came last. The second one finds the app of what a page asks for without naming it, where browsers do not
//! tell the page's address.

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use nbs_core::choice;
use nbs_core::route::Known;
use nbs_core::shared_path::Blind;

use super::headers;
use super::serve::Asked;
use crate::entry::FleetView;

/// What a request says that names no app.
pub fn blind<'a, B>(request: &'a Request<B>, path: &'a str) -> Blind<'a> {
    let headers = request.headers();
    let is_socket = headers::wants_upgrade(headers);
    Blind {
        path,
        reads: *request.method() == Method::GET || *request.method() == Method::HEAD,
        is_socket,
        referer: headers.get(header::REFERER).and_then(|referer| referer.to_str().ok()),
        remembered: app(headers),
    }
}

/// The cookie that remembers an app from its page on, if pages of its kind ask for anything without naming it and the
/// visitor does not bring it already.
pub fn page<B>(request: &Request<B>, asked: &Asked<'_>, fleet: &FleetView) -> Option<HeaderValue> {
    if !asked.html || fleet.rules().is_empty() {
        return None;
    }
    let view = fleet.app(asked.name())?;
    let name = view.spec.name.as_str();
    let is_asked = fleet.rules().paths(&view.spec.runtime)?.is_asked_blindly();
    let is_news = app(request.headers()) != Some(name);
    (is_asked && is_news).then(|| cookie(choice::APP_COOKIE, name)).flatten()
}

/// Whether an answer is a page of an app, or tells that the visitor has it.
pub fn is_page<B>(response: &Response<B>) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_html = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    response.status() == StatusCode::NOT_MODIFIED || (response.status().is_success() && is_html)
}

/// A cookie that lasts until the browser is closed.
pub fn cookie(name: &str, value: &str) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax")).ok()
}

fn app(headers: &HeaderMap) -> Option<&str> {
    pairs(headers).find_map(|pair| pair.strip_prefix(choice::APP_COOKIE)?.strip_prefix('='))
}

/// The environment that a visitor chose for an app.
pub fn environment<'a>(headers: &'a HeaderMap, app: &str) -> Option<&'a str> {
    pairs(headers).find_map(|pair| pair.strip_prefix(choice::COOKIE)?.strip_prefix(app)?.strip_prefix('='))
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|value| value.split(';')).map(str::trim)
}

/// Takes the daemon's own cookies off: an app has no use for its choices, and must not see who is signed in to the console.
pub fn strip_cookies(headers: &mut HeaderMap) {
    let is_ours = |pair: &&[u8]| {
        let pair = pair.trim_ascii_start();
        let app = pair.strip_prefix(choice::APP_COOKIE.as_bytes());
        let begins = [choice::COOKIE, choice::CONSOLE_COOKIE].iter().any(|mark| pair.starts_with(mark.as_bytes()));
        begins || app.is_some_and(|rest| rest.starts_with(b"="))
    };
    let has_ours =
        |value: &'_ HeaderValue| -> bool { value.as_bytes().split(|byte| *byte == b';').any(|pair| is_ours(&pair)) };
    if !headers.get_all(header::COOKIE).iter().any(has_ours) {
        return;
    }
    let mut kept = Vec::new();
    for value in headers.get_all(header::COOKIE) {
        let rest: Vec<&[u8]> = value.as_bytes().split(|byte| *byte == b';').filter(|pair| !is_ours(pair)).collect();
        if !rest.is_empty() {
            kept.extend(HeaderValue::from_bytes(rest.join(&b';').trim_ascii_start()).ok());
        }
    }
    headers.remove(header::COOKIE);
    for value in kept {
        headers.append(header::COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_cookies_go_and_others_stay_as_they_are() {
        for (sent, kept) in [
            (vec!["a=b; nbs_env_crm=env_a;c=\"d\""], vec!["a=b;c=\"d\""]),
            (vec!["nbs_env_crm=env_a; a=b"], vec!["a=b"]),
            (vec!["nbs_app=crm; nbs_apps=x"], vec!["nbs_apps=x"]),
            (vec!["nbs_env_crm=env_a", "x=nbs_env_"], vec!["x=nbs_env_"]),
            (vec!["a=nbs_env_crm"], vec!["a=nbs_env_crm"]),
            (vec!["nbs_console=00ff; a=b"], vec!["a=b"]),
        ] {
            let mut headers = HeaderMap::new();
            for value in &sent {
                headers.append(header::COOKIE, HeaderValue::from_static(value));
            }
            strip_cookies(&mut headers);
            assert_eq!(headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(), kept, "{sent:?}");
        }
    }

    #[test]
    fn the_cookie_of_another_app_is_no_wish() {
        let mut headers = HeaderMap::new();
        let text = "nbs_env_crm2=a;  nbs_env_crm=b; nbs_env_erp=c; nbs_app_=x; nbs_app=hr";
        headers.append(header::COOKIE, HeaderValue::from_static(text));
        assert_eq!(environment(&headers, "crm"), Some("b"));
        assert_eq!(environment(&headers, "hr"), None);
        assert_eq!(app(&headers), Some("hr"));
    }
}
