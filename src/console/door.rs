//! The door: who is there, did they mean it, and what a browser may do with the pages.
//!
//! Over the unix socket the peer is known. Over TCP somebody signs in with an admin token and gets a session cookie that
//! scripts cannot read and other sites cannot send. Cookies do not tell ports apart, so an app on the same host counts
//! as the same site: therefore every form carries a word that only its page knows, beside the check of `Origin`.

use axum::extract::{FromRequest, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Form};
use nbs_core::choice::CONSOLE_COOKIE;
use serde::Deserialize;

use super::Console;
use super::layout::{self, Fault};
use super::session::{LIFETIME, Secret, Session};
use crate::admin::{Actor, Caller, Peer, Subject, audit};
use crate::wire::api::problem::Problem;

/// Nothing but our own files, and nobody around us.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// Bytes of a token that is typed in; ours have 68.
const TOKEN_MAX: usize = 512;

/// Somebody who may look and act.
#[derive(Clone)]
pub(crate) struct Visitor {
    /// Who acts.
    pub actor: Actor,
    /// Stands in their forms.
    pub form: Secret,
    /// None over the unix socket.
    pub session: Option<Session>,
}

/// Lets somebody in who is known, and sends everybody else to sign in.
pub(crate) async fn guard(State(console): State<Console>, mut request: Request, next: Next) -> Response {
    match visitor(&console, request.extensions().get::<Peer>(), request.headers()).await {
        Ok(Some(visitor)) => {
            request.extensions_mut().insert(visitor);
            next.run(request).await
        }
        Ok(None) if request.method() == Method::GET && !super::live::wanted(request.headers()) => {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            let path = super::scene::encode(path);
            layout::see(&if path == "%2F" {
                "/console/sign-in".into()
            } else {
                format!("/console/sign-in?next={path}")
            })
        }
        Ok(None) => Fault::new(StatusCode::UNAUTHORIZED, "You are not signed in", "sign in, then do it again")
            .back("/console/sign-in")
            .into_response(),
        Err(fault) => fault.into_response(),
    }
}

/// Who a request is of; nobody if they have to sign in.
async fn visitor(console: &Console, peer: Option<&Peer>, headers: &HeaderMap) -> Result<Option<Visitor>, Fault> {
    let address = match console.api().caller(peer, headers)? {
        Caller::Known(actor) => return Ok(Some(Visitor { actor, form: console.form().clone(), session: None })),
        Caller::Unknown(address) => address,
    };
    let now = console.now().mono;
    let found = cookies(headers).find_map(|given| console.sessions().find(given, now));
    let Some(session) = found else { return Ok(None) };
    if !console.api().holds(&session.badge).await? {
        console.sessions().end(&session, now);
        return Ok(None);
    }
    Ok(Some(Visitor { actor: session.badge.actor(address), form: session.form.clone(), session: Some(session) }))
}

/// What the browser keeps for us. An app on the same host can add cookies of the same name, so there may be several.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = pairs.flat_map(|value| value.split(';')).map(str::trim);
    pairs.filter_map(|pair| pair.strip_prefix(CONSOLE_COOKIE)?.strip_prefix('='))
}

impl Console {
    /// Whether somebody may still look: neither out of time, nor signed out, nor without their token.
    pub(super) async fn lasts(&self, visitor: &Visitor) -> bool {
        let Some(session) = &visitor.session else { return true };
        // A record that cannot be read at this moment takes nothing away from anybody.
        self.sessions().lasts(session, self.now().mono) && self.api().holds(&session.badge).await.unwrap_or(true)
    }
}

/// A form that was sent by a page of ours.
pub(crate) struct Posted(Vec<(String, String)>);

impl Posted {
    /// A field; nothing counts as absent.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|text| !text.is_empty())
    }

    /// Every value of a field.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl FromRequest<Console> for Posted {
    type Rejection = Fault;

    async fn from_request(request: Request, console: &Console) -> Result<Self, Fault> {
        let visitor = request.extensions().get::<Visitor>().cloned();
        let form = Posted(read(request, console).await?);
        let is_ours = visitor.is_some_and(|visitor| form.text("form").is_some_and(|given| visitor.form.is(given)));
        let detail = "This form does not come from a page of yours, or the page is older than your sign-in";
        let stale =
            || Fault::new(StatusCode::FORBIDDEN, detail, "load the page again and repeat it; nothing was changed");
        is_ours.then_some(form).ok_or_else(stale)
    }
}

/// The fields of a form, in bounded size and time.
async fn read(request: Request, console: &Console) -> Result<Vec<(String, String)>, Fault> {
    let read = Form::<Vec<(String, String)>>::from_request(request, console);
    match tokio::time::timeout(layout::ANSWER_TIMEOUT, read).await {
        Ok(Ok(Form(pairs))) => Ok(pairs),
        Ok(Err(error)) => Err(Fault::new(error.status(), error.body_text(), "load the page again and repeat it")),
        Err(_) => {
            let detail = "The form did not arrive in time";
            Err(Fault::new(StatusCode::REQUEST_TIMEOUT, detail, "nothing was changed; send it again"))
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct SignIn {
    next: Option<String>,
}

/// `GET /console/sign-in`.
pub(crate) async fn sign_in_page(
    State(console): State<Console>,
    peer: Option<Extension<Peer>>,
    Query(query): Query<SignIn>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let next = own_page(query.next.as_deref());
    match visitor(&console, peer.as_deref(), &headers).await? {
        Some(_) => Ok(layout::see(next)),
        None => Ok(layout::sign_in(next, None)),
    }
}

/// `POST /console/sign-in`.
pub(crate) async fn sign_in(
    State(console): State<Console>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Fault> {
    let Caller::Unknown(address) = console.api().caller(peer.as_deref(), &headers)? else {
        return Ok(layout::see("/"));
    };
    let Some(origin) = headers.get(header::ORIGIN) else {
        // Whoever could send this form from elsewhere would sign somebody in as themselves. Browsers always say it.
        let detail = "The sign-in says not from which page it comes";
        return Err(Fault::new(StatusCode::FORBIDDEN, detail, "sign in with a browser; programs use the API"));
    };
    let form = Posted(read(request, &console).await?);
    let next = own_page(form.text("next"));
    let token = form.text("token").map(str::trim).filter(|token| token.len() <= TOKEN_MAX).unwrap_or_default();
    let Some(badge) = console.api().token(token).await? else {
        return Ok(layout::sign_in(
            next,
            Some("This token is not known here. Was it revoked, or cut off when copied?"),
        ));
    };
    audit(&badge.actor(address), "sign_in", Subject::Token(&badge.name), "done", "");
    let secret = console.sessions().begin(badge, console.now().mono);
    let mut response = layout::see(next);
    let secure = origin.as_bytes().starts_with(b"https://");
    response.headers_mut().extend(cookie(secret.as_str(), LIFETIME.as_secs(), secure));
    Ok(response)
}

/// `POST /console/sign-out`.
pub(crate) async fn sign_out(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    _: Posted,
) -> Response {
    if let Some(session) = &visitor.session {
        console.sessions().end(session, console.now().mono);
        audit(&visitor.actor, "sign_out", Subject::Token(&session.badge.name), "done", "");
    }
    let mut response = layout::see("/console/sign-in");
    response.headers_mut().extend(cookie("", 0, false));
    response
}

fn cookie(value: &str, seconds: u64, secure: bool) -> Option<(header::HeaderName, HeaderValue)> {
    let secure = if secure { "; Secure" } else { "" };
    let text = format!("{CONSOLE_COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::try_from(text).ok().map(|value| (header::SET_COOKIE, value))
}

/// Where a sign-in leads: to a page of the console, whatever a link may say.
pub(crate) fn own_page(next: Option<&str>) -> &str {
    let is_own = |path: &&str| {
        let known = *path == "/" || path.starts_with("/?") || path.starts_with("/console/");
        known && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
    };
    next.filter(is_own).unwrap_or("/")
}

/// What a browser may do with our answers.
pub(crate) async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    // Not `no-referrer`: with that, browsers send forms with `Origin: null`.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

impl From<Box<Problem>> for Fault {
    fn from(problem: Box<Problem>) -> Self {
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(status, problem.detail, problem.hint.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_leads_to_own_pages_only() {
        for own in ["/", "/?q=a%20b", "/console/apps/crm", "/console/queue"] {
            assert_eq!(own_page(Some(own)), own);
        }
        for foreign in ["//evil.example", "/\\evil.example", "https://evil.example", "/console/\r\nX: y", "/other", ""]
        {
            assert_eq!(own_page(Some(foreign)), "/", "{foreign}");
        }
    }

    #[test]
    fn our_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=b; nbs_console=x;nbs_console2=y"));
        headers.append(header::COOKIE, HeaderValue::from_static("nbs_console=z"));
        assert_eq!(cookies(&headers).collect::<Vec<_>>(), ["x", "z"]);
    }
}
