//! What a request says about the environment it wants.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use nbs_core::choice::{self, Wish};
use nbs_core::route;
use nbs_core::view::AppView;

use super::memory;

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
        let cookie = served.and_then(|app| memory::cookie(&format!("{}{}", choice::COOKIE, app.spec.name), name));
        return (Wish { named: Some(name.to_string()), remembered: None }, cookie);
    }
    // One environment is no choice: nearly every request ends here without a look at its cookies.
    let Some(app) = app.filter(|app| app.instances.len() > 1) else { return (Wish::default(), None) };
    (Wish { named: None, remembered: memory::environment(headers, app.spec.name.as_str()).map(str::to_string) }, None)
}
