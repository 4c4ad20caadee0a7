//! The story of a request: route, gate, then forward, tunnel, hold, page or refusal.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, StatusCode, Uri};
use nbs_core::gate::{self, Code, Decision, Visitor};
use nbs_core::route::{Head, Route, Selection, route};
use nbs_core::view::AppView;
use tokio::time::Instant;

use super::Inner;
use super::body::{Answer, Upload};
use super::guests::{Limits, Stage};
use super::headers::{self, Peer};
use super::hold::Ended;
use super::page::{self, Waiting};
use super::pool::Link;
use super::retry::Trip;
use super::upgrade::{self, Granted};

/// A client's connection, as its requests see it.
pub struct Visit {
    /// The gateway.
    pub gateway: Arc<Inner>,
    /// By when it must get further.
    pub limits: Arc<Limits>,
    peer: Peer,
    id: u64,
    requests: AtomicU64,
    granted: Mutex<Option<Granted>>,
}

impl Visit {
    /// A new connection; `id` differs from every other's.
    pub fn new(gateway: Arc<Inner>, limits: Arc<Limits>, peer: Peer, id: u64) -> Arc<Self> {
        limits.await_head(gateway.options.header_timeout);
        Arc::new(Self { gateway, limits, peer, id, requests: AtomicU64::new(0), granted: Mutex::default() })
    }

    /// Remembers an upgrade that the app has granted.
    pub fn grant(&self, granted: Granted) {
        *self.granted.lock().unwrap_or_else(PoisonError::into_inner) = Some(granted);
    }

    /// The granted upgrade.
    pub fn granted(&self) -> Option<Granted> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A name for the present request: this run of the gateway, the connection, the request.
    fn request_id(&self) -> HeaderValue {
        let mut text = String::with_capacity(32);
        let _ = write!(text, "{:016x}-{:x}-{:x}", self.gateway.nonce, self.id, self.requests.load(Relaxed));
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("0"))
    }
}

/// One request from its head to the last byte of its answer.
pub struct Turn {
    visit: Arc<Visit>,
}

impl Turn {
    fn begin(visit: Arc<Visit>) -> Self {
        visit.limits.head_arrived();
        visit.requests.fetch_add(1, Relaxed);
        visit.gateway.counters.requests.fetch_add(1, Relaxed);
        visit.gateway.counters.in_flight.fetch_add(1, Relaxed);
        Self { visit }
    }

    /// The connection it came over.
    pub fn visit(&self) -> &Visit {
        &self.visit
    }

    /// Keeps a connection to an app for the next request.
    pub fn keep(&self, link: Box<Link>) {
        self.visit.gateway.pool.put(link);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.visit.gateway.counters.in_flight.fetch_sub(1, Relaxed);
        self.visit.limits.await_head(self.visit.gateway.options.header_timeout);
    }
}

/// Answers a request.
///
/// # Errors
/// None: there is always an answer.
pub async fn serve(visit: Arc<Visit>, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let gateway = visit.gateway.clone();
    let mut response = answer(visit, request).await?;
    // Told along with an answer, a client does not send its next request into a connection that is being closed.
    if gateway.guests.stage() >= Stage::Draining && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

async fn answer(visit: Arc<Visit>, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let turn = Turn::begin(visit);
    if request.method() == Method::CONNECT {
        return Ok(refuse(turn, Code::MethodNotAllowed, "", None, false));
    }
    // The target must outlive the request that is taken apart.
    let uri = request.uri().clone();
    let x_app = headers::x_app(request.headers()).map(str::to_owned);
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let html = || is_browser(&request);
    match route(&Head { target, host: None, x_app: x_app.as_deref() }) {
        Route::App(selection) => Ok(visit_app(turn, request, &uri, selection).await),
        Route::Redirect { app, location } => {
            let known = turn.visit.gateway.entry.view().apps.contains_key(app);
            if known { Ok(own(turn, page::redirect(&location))) } else { Ok(not_found(turn, app, html())) }
        }
        Route::Nowhere => Ok(not_found(turn, "", html())),
    }
}

/// There is no such app.
pub fn not_found(turn: Turn, app: &str, html: bool) -> Response<Answer> {
    refuse(turn, Code::AppNotFound, app, None, html)
}

/// A request for an app.
async fn visit_app(turn: Turn, request: Request<Incoming>, uri: &Uri, selection: Selection<'_>) -> Response<Answer> {
    let fleet = turn.visit.gateway.entry.view();
    let app = fleet.apps.get(selection.app).map(Arc::as_ref);
    // The way of nearly every request, taken before anything is asked that matters only to the others.
    if let decision @ Decision::Proceed { .. } = gate::decide(app, Visitor::Client, 0) {
        return proceed(turn, request, uri, selection, app, decision).await;
    }
    drop(fleet);
    Box::pin(wait(turn, request, uri, selection)).await
}

/// A request for an app that does not serve now.
async fn wait(turn: Turn, request: Request<Incoming>, uri: &Uri, selection: Selection<'_>) -> Response<Answer> {
    let visitor = visitor(&turn.visit.gateway, &request);
    match settle(turn, selection.app, visitor, is_browser(&request), Instant::now()).await {
        ControlFlow::Continue((turn, app)) => {
            let decision = gate::decide(Some(&app), visitor, 0);
            proceed(turn, request, uri, selection, Some(&app), decision).await
        }
        ControlFlow::Break(answer) => answer,
    }
}

/// Waits as the gate says, for a request that arrived when it did. Goes on with an app that serves, or ends with an
/// answer.
pub async fn settle(
    turn: Turn,
    name: &str,
    visitor: Visitor,
    html: bool,
    arrived: Instant,
) -> ControlFlow<Response<Answer>, (Turn, Arc<AppView>)> {
    let visit = turn.visit.clone();
    let gateway = &visit.gateway;
    loop {
        let fleet = gateway.entry.view();
        let view = fleet.apps.get(name).cloned();
        drop(fleet);
        let held = view.as_ref().map_or(0, |app| gateway.holds.count(&app.spec.name));
        let decision = gate::decide(view.as_deref(), visitor, held);
        let app = match (&decision, &view) {
            (Decision::Proceed { .. }, Some(app)) => return ControlFlow::Continue((turn, app.clone())),
            (Decision::Hold { .. } | Decision::Page { .. }, Some(app)) => app,
            (Decision::Refuse(code), view) => {
                return ControlFlow::Break(refuse(turn, *code, name, view.as_deref(), html));
            }
            (_, None) => return ControlFlow::Break(not_found(turn, name, html)),
        };
        if let Decision::Hold { wake: true, .. } | Decision::Page { wake: true, .. } = decision {
            gateway.holds.wake(&app.spec.name);
        }
        let Decision::Hold { code, .. } = decision else {
            return ControlFlow::Break(waiting_page(turn, app, decision).await);
        };
        let until = arrived + app.spec.proxy.hold_timeout.unwrap_or(gateway.options.hold_timeout);
        let until = || gateway.drain_end().map_or(until, |end| until.min(end));
        match gateway.holds.wait(&app.spec.name, visitor, until).await {
            Ended::Moved => {}
            Ended::Full => return ControlFlow::Break(refuse(turn, Code::HoldFull, name, None, html)),
            Ended::TimeOver(last) => {
                let code = match gate::decide(last.as_deref(), visitor, 0) {
                    Decision::Hold { code, .. } => code,
                    _ => code,
                };
                return ControlFlow::Break(refuse(turn, code, name, last.as_deref(), html));
            }
        }
    }
}

/// The page for browsers that wait.
async fn waiting_page(turn: Turn, app: &AppView, decision: Decision<'_>) -> Response<Answer> {
    let (Decision::Page { code, .. } | Decision::Hold { code, .. } | Decision::Refuse(code)) = decision else {
        return not_found(turn, app.spec.name.as_str(), true);
    };
    let place = match code {
        Code::AppQueued => turn.visit.gateway.holds.place_in_queue(&app.spec.name).await,
        _ => None,
    };
    own(turn, Waiting { app, place, code }.response())
}

/// Sends a request on to an app that serves.
async fn proceed(
    turn: Turn,
    mut request: Request<Incoming>,
    uri: &Uri,
    selection: Selection<'_>,
    app: Option<&AppView>,
    decision: Decision<'_>,
) -> Response<Answer> {
    let (Some(app), Decision::Proceed { instance, address, strip }) = (app, decision) else {
        return not_found(turn, selection.app, false);
    };
    let html = is_browser(&request);
    let visit = turn.visit.clone();
    let upgrades = headers::wants_upgrade(request.headers()) && request.body().is_end_stream();
    let promise = upgrades.then(|| upgrade::promise(&mut request));
    let (mut parts, incoming) = request.into_parts();
    parts.extensions.clear();
    let protocol = headers::strip_hop_by_hop(&mut parts.headers);
    let promise = promise.filter(|_| protocol.is_some());
    let prefix = if strip { selection.prefix() } else { None };
    headers::to_app(&mut parts.headers, uri, &visit.peer, prefix, || visit.request_id());
    if uri.scheme().is_some() || !selection.is_untouched(strip) {
        match PathAndQuery::try_from(&*selection.target(strip)) {
            Ok(target) => parts.uri = Uri::from(target),
            Err(_) => return not_found(turn, selection.app, html),
        }
    }
    let upload = Upload::new(incoming, &visit.limits, visit.gateway.options.response_timeout);
    let mut request = Request::from_parts(parts, upload);
    if promise.is_some()
        && let Some(protocol) = protocol
    {
        headers::set_upgrade(request.headers_mut(), protocol);
    }
    let mut trip = Trip { app: &app.spec.name, strip, html, promise };
    match trip.go(turn, instance, address, request).await {
        Ok(answer) => answer,
        Err(missed) => Box::pin(trip.retry(missed)).await,
    }
}

/// Who asks.
pub fn visitor<B>(gateway: &Inner, request: &Request<B>) -> Visitor {
    if is_bot(gateway, request.headers()) {
        Visitor::Bot
    } else if headers::wants_upgrade(request.headers()) {
        Visitor::Upgrade
    } else if is_browser(request) {
        Visitor::Browser
    } else {
        Visitor::Client
    }
}

fn is_browser<B>(request: &Request<B>) -> bool {
    (*request.method() == Method::GET || *request.method() == Method::HEAD) && headers::accepts_html(request.headers())
}

fn is_bot(gateway: &Inner, headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).map(|agent| agent.as_bytes().to_ascii_lowercase());
    let Some(agent) = agent else {
        return false;
    };
    let says = |bot: &String| !bot.is_empty() && agent.windows(bot.len()).any(|part| part == bot.as_bytes());
    gateway.options.bots.iter().any(says)
}

fn refuse(turn: Turn, code: Code, name: &str, app: Option<&AppView>, html: bool) -> Response<Answer> {
    own(turn, page::refusal(code, &gate::sentence(code, name, app), html))
}

/// Gives one of the gateway's own answers. One that is given while the gateway drains asks to come back soon.
pub fn own(turn: Turn, response: Response<Bytes>) -> Response<Answer> {
    let (mut parts, body) = response.into_parts();
    parts.headers.insert(headers::REQUEST_ID, turn.visit.request_id());
    if turn.visit.gateway.guests.stage() >= Stage::Draining && parts.headers.contains_key(header::RETRY_AFTER) {
        parts.headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    }
    let body = if body.is_empty() { None } else { Some(body) };
    Response::from_parts(parts, Answer::Own(body, turn))
}
