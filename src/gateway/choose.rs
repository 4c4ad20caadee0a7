//! What a request says about the environment it wants, and how the gateway remembers it for a visitor.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use nbs_core::choice::{self, Wish};
use nbs_core::route;
use nbs_core::view::AppView;

/// Names an environment.
pub const X_APP_ENVIRONMENT: HeaderName = HeaderName::from_static("x-app-environment");

/// What a request wants of an app, and the cookie that remembers it, if it is to be remembered.
pub fn wish(headers: &HeaderMap, target: &str, app: Option<&AppView>) -> (Wish, Option<HeaderValue>) {
    let header = headers.get(X_APP_ENVIRONMENT).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(name) = header.filter(|name| !name.is_empty()) {
        return (Wish { named: Some(name.to_string()), remembered: None }, None);
    }
    if let Some(name) = route::environment(target) {
        let served = app.filter(|app| choice::serving(app).any(|instance| instance.environment.as_str() == name));
        let cookie = served.and_then(|app| cookie(app.spec.name.as_str(), name));
        return (Wish { named: Some(name.to_string()), remembered: None }, cookie);
    }
    // One environment is no choice: nearly every request ends here without a look at its cookies.
    let Some(app) = app.filter(|app| app.instances.len() > 1) else { return (Wish::default(), None) };
    (Wish { named: None, remembered: remembered(headers, app.spec.name.as_str()) }, None)
}

fn cookie(app: &str, environment: &str) -> Option<HeaderValue> {
    let text = format!("{}{app}={environment}; Path=/; HttpOnly; SameSite=Lax", choice::COOKIE);
    HeaderValue::try_from(text).ok()
}

fn remembered(headers: &HeaderMap, app: &str) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).map(str::trim);
    let value = pairs.find_map(|pair| pair.strip_prefix(choice::COOKIE)?.strip_prefix(app)?.strip_prefix('='))?;
    Some(value.to_string())
}

/// Takes the daemon's own cookies off: an app has no use for its choice, and must not see who is signed in to the console.
pub fn strip_cookies(headers: &mut HeaderMap) {
    let marks = [choice::COOKIE.as_bytes(), choice::CONSOLE_COOKIE.as_bytes()];
    let is_ours = |pair: &&[u8]| marks.iter().any(|mark| pair.trim_ascii_start().starts_with(mark));
    let pairs =
        |value: &'_ HeaderValue| -> bool { value.as_bytes().split(|byte| *byte == b';').any(|pair| is_ours(&pair)) };
    if !headers.get_all(header::COOKIE).iter().any(pairs) {
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
        headers.append(header::COOKIE, HeaderValue::from_static("nbs_env_crm2=a;  nbs_env_crm=b; nbs_env_erp=c"));
        assert_eq!(remembered(&headers, "crm").as_deref(), Some("b"));
        assert_eq!(remembered(&headers, "hr"), None);
    }
}
