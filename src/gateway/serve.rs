//! The story of a request: route, choice, gate, then forward, relay, tunnel, hold, page or refusal.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, StatusCode, Uri};
use nbs_core::choice::Wish;
use nbs_core::gate::{self, Code, Decision, Visitor};
use nbs_core::route::{Head, How, Known, Route, Selection, route};
use nbs_core::shared_path::{self, Found};
use nbs_core::view::{AppView, InstanceView};
use tokio::time::Instant;

use super::Inner;
use super::body::{Answer, Upload};
use super::choose;
use super::guests::{Limits, Stage};
use super::headers::{self, Peer};
use super::hold::Ended;
use super::hop::{self, Came};
use super::memory;
use super::page::{self, Waiting};
use super::pool::Link;
use super::retry::Trip;
use super::upgrade::{self, Granted};
use super::ways::{Load, Map};
use crate::entry::FleetView;

/// How long a request that another gateway has passed on waits for an app that is about to serve: a crash is over by then,
/// and that gateway has the rest of the patience.
const RELAYED_HOLD: Duration = Duration::from_secs(2);

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
    load: Option<Load>,
}

impl Turn {
    fn begin(visit: Arc<Visit>) -> Self {
        visit.limits.head_arrived();
        visit.requests.fetch_add(1, Relaxed);
        visit.gateway.counters.requests.fetch_add(1, Relaxed);
        visit.gateway.counters.in_flight.fetch_add(1, Relaxed);
        Self { visit, load: None }
    }

    /// The connection it came over.
    pub fn visit(&self) -> &Visit {
        &self.visit
    }

    /// Counts it where it goes, and no longer where it went before.
    pub fn bear(&mut self, load: Load) {
        self.load = Some(load);
    }

    /// It is counted nowhere any more, or elsewhere.
    pub fn unload(&mut self) -> Option<Load> {
        self.load.take()
    }

    /// Keeps a connection for the next request.
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

/// What a request asks for: settled once, however long it waits and wherever it is sent.
pub struct Asked<'a> {
    /// The app, and its part of the target.
    pub selection: Selection<'a>,
    /// The target as it came.
    pub uri: &'a Uri,
    /// The environment.
    pub wish: Wish,
    /// Whether the entry's gateway sent it here.
    pub relayed: bool,
    /// Whether the client reads pages.
    pub html: bool,
}

impl Asked<'_> {
    /// The app's name, as it was given.
    pub fn name(&self) -> &str {
        &self.selection.app
    }

    /// Path and query as they came.
    pub fn target(&self) -> &str {
        target_of(self.uri)
    }

    /// What happens to the request, as things are now.
    pub fn decide<'v>(&self, gateway: &Inner, app: Option<&'v AppView>, visitor: Visitor, held: usize) -> Decision<'v> {
        self.decide_in(gateway, &gateway.entry.view(), app, visitor, held)
    }

    fn decide_in<'v>(
        &self,
        gateway: &Inner,
        fleet: &FleetView,
        app: Option<&'v AppView>,
        visitor: Visitor,
        held: usize,
    ) -> Decision<'v> {
        let decision = gate::decide(app, &self.wish, &Map { ways: &gateway.ways, fleet }, visitor, held);
        match decision {
            // Whoever takes no commands wakes nobody: to wait would be in vain. And a guess is no reason to wake anybody.
            Decision::Hold { wake: true, code } | Decision::Page { wake: true, code }
                if fleet.read_only.is_some() || self.selection.how == How::Guess =>
            {
                Decision::Refuse(code)
            }
            decision => decision,
        }
    }

    /// The instance that the request is for, as things are now.
    fn instance<'v>(&self, gateway: &Inner, app: Option<&'v AppView>) -> Option<&'v InstanceView> {
        gate::instance(app?, &self.wish, &Map { ways: &gateway.ways, fleet: &gateway.entry.view() })
    }

    /// Who asks.
    pub fn visitor<B>(&self, gateway: &Inner, request: &Request<B>) -> Visitor {
        if self.relayed {
            Visitor::Relayed
        } else if is_bot(gateway, request.headers()) {
            Visitor::Bot
        } else if headers::wants_upgrade(request.headers()) {
            Visitor::Upgrade
        } else if self.html {
            Visitor::Browser
        } else {
            Visitor::Client
        }
    }
}

fn target_of(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", PathAndQuery::as_str)
}

async fn answer(visit: Arc<Visit>, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let turn = Turn::begin(visit);
    if request.method() == Method::CONNECT {
        return Ok(own(turn, page::refusal(Code::MethodNotAllowed, &Code::MethodNotAllowed.sentence(""), false)));
    }
    // The target must outlive the request that is taken apart.
    let uri = request.uri().clone();
    let target = target_of(&uri);
    let fleet = turn.visit.gateway.entry.view();
    let html = is_browser(&request);
    match hop::judge(&turn.visit.gateway, &request, target) {
        Ok(Came::Outside) => {}
        Ok(Came::Relayed(app)) => {
            let selection = Selection::named(app.as_str(), target, &*fleet);
            // Who relays has chosen already.
            let asked = Asked { selection, uri: &uri, wish: Wish::default(), relayed: true, html };
            return Ok(Box::pin(visit_app(turn, request, asked, fleet)).await);
        }
        Ok(Came::Ping) => {
            let pong = hop::pong(&turn.visit.gateway, &request);
            return Ok(own(turn, pong));
        }
        Err((code, text)) => return Ok(own(turn, page::refusal(code, &text, html))),
    }
    let x_app = headers::x_app(request.headers()).map(str::to_owned);
    match route(&Head { target, host: None, x_app: x_app.as_deref() }, &*fleet) {
        Route::App(selection) => {
            let app = fleet.app(&selection.app);
            let (wish, cookie) = choose::wish(request.headers(), target, app);
            let asked = Asked { selection, uri: &uri, wish, relayed: false, html };
            let page = memory::page(&request, &asked, &fleet);
            let mut response = visit_app(turn, request, asked, fleet).await;
            let page = page.filter(|_| memory::is_page(&response));
            for cookie in cookie.into_iter().chain(page) {
                response.headers_mut().append(header::SET_COOKIE, cookie);
            }
            Ok(response)
        }
        Route::Redirect { app, location } => {
            let known = fleet.apps.contains_key(app);
            if known { Ok(own(turn, page::redirect(&location))) } else { Ok(not_found(turn, app, html)) }
        }
        Route::Nowhere => Ok(Box::pin(guess(turn, request, &uri, fleet)).await),
    }
}

/// A request that names no app: it may belong to a page of one.
async fn guess(turn: Turn, request: Request<Incoming>, uri: &Uri, fleet: Arc<FleetView>) -> Response<Answer> {
    let (html, target) = (is_browser(&request), target_of(uri));
    let roads = Map { ways: &turn.visit.gateway.ways, fleet: &fleet };
    let wish = |app: &AppView| choose::wish(request.headers(), target, Some(app)).0;
    let blind = memory::blind(&request, uri.path());
    let (app, wish) = match shared_path::find(&blind, &*fleet, &roads, wish) {
        None => return not_found(turn, "", html),
        Some(Found::App(app)) => (app, wish(app)),
        Some(Found::Instance(app, instance)) => {
            (app, Wish { named: Some(instance.environment.to_string()), remembered: None })
        }
    };
    let selection = Selection::guessed(&app.spec.name, target);
    let asked = Asked { selection, uri, wish, relayed: false, html };
    let is_contested = shared_path::is_contested(uri.path(), &*fleet);
    let mut response = visit_app(turn, request, asked, fleet).await;
    if is_contested {
        response.headers_mut().append(header::VARY, HeaderValue::from_static("Referer, Cookie"));
    }
    response
}

/// There is no such app.
pub fn not_found(turn: Turn, app: &str, html: bool) -> Response<Answer> {
    own(turn, page::refusal(Code::AppNotFound, &Code::AppNotFound.sentence(app), html))
}

/// A request for an app.
async fn visit_app(
    turn: Turn,
    request: Request<Incoming>,
    asked: Asked<'_>,
    fleet: Arc<FleetView>,
) -> Response<Answer> {
    let app = fleet.app(&asked.selection.app);
    // The way of nearly every request, taken before anything is asked that matters only to the others.
    let decision = asked.decide_in(&turn.visit.gateway, &fleet, app, Visitor::Client, 0);
    match (decision, app) {
        (Decision::Proceed { .. } | Decision::Relay { .. }, Some(app)) => {
            proceed(turn, request, &asked, app, decision).await
        }
        _ => {
            drop(fleet);
            Box::pin(wait(turn, request, &asked)).await
        }
    }
}

/// A request for an app that does not serve now.
async fn wait(turn: Turn, request: Request<Incoming>, asked: &Asked<'_>) -> Response<Answer> {
    let visitor = asked.visitor(&turn.visit.gateway, &request);
    match settle(turn, asked, visitor, Instant::now()).await {
        ControlFlow::Continue((turn, app)) => {
            let decision = asked.decide(&turn.visit.gateway, Some(&app), visitor, 0);
            proceed(turn, request, asked, &app, decision).await
        }
        ControlFlow::Break(answer) => answer,
    }
}

/// Waits as the gate says, for a request that arrived when it did. Goes on with an app that serves, or ends with an
/// answer.
pub async fn settle(
    turn: Turn,
    asked: &Asked<'_>,
    visitor: Visitor,
    arrived: Instant,
) -> ControlFlow<Response<Answer>, (Turn, Arc<AppView>)> {
    let visit = turn.visit.clone();
    let gateway = &visit.gateway;
    let (name, html) = (asked.name(), asked.html);
    loop {
        let view = gateway.entry.view().apps.get(name).cloned();
        let held = view.as_ref().map_or(0, |app| gateway.holds.count(&app.spec.name));
        let decision = asked.decide(gateway, view.as_deref(), visitor, held);
        let app = match (&decision, &view) {
            (_, None) => return ControlFlow::Break(not_found(turn, name, html)),
            (Decision::Proceed { .. } | Decision::Relay { .. }, Some(app)) => {
                return ControlFlow::Continue((turn, app.clone()));
            }
            (Decision::Hold { .. } | Decision::Page { .. }, Some(app)) => app,
            (Decision::Refuse(code), app) => {
                return ControlFlow::Break(refuse(turn, *code, asked, app.as_deref()));
            }
            (Decision::Choose, Some(app)) => {
                return ControlFlow::Break(own(turn, page::choice(app, asked.target(), html)));
            }
            (Decision::Elsewhere, Some(app)) => {
                let named = asked.wish.named.as_deref().unwrap_or_default();
                return ControlFlow::Break(own(turn, page::elsewhere(app, named, html)));
            }
        };
        if let Decision::Hold { wake: true, .. } | Decision::Page { wake: true, .. } = decision {
            gateway.holds.wake(&app.spec.name);
        }
        let Decision::Hold { code, .. } = decision else {
            return ControlFlow::Break(waiting_page(turn, asked, app, decision).await);
        };
        let patience = app.spec.proxy.hold_timeout.unwrap_or(gateway.options.hold_timeout);
        let until = arrived + if asked.relayed { patience.min(RELAYED_HOLD) } else { patience };
        let until = || gateway.drain_end().map_or(until, |end| until.min(end));
        let waits = |view: Option<&AppView>| match asked.decide(gateway, view, visitor, 0) {
            Decision::Hold { wake, .. } => Some(wake),
            _ => None,
        };
        match gateway.holds.wait(&app.spec.name, waits, until).await {
            Ended::Moved => {}
            Ended::Full => return ControlFlow::Break(refuse(turn, Code::HoldFull, asked, None)),
            Ended::TimeOver(last) => {
                let code = match asked.decide(gateway, last.as_deref(), visitor, 0) {
                    Decision::Hold { code, .. } => code,
                    _ => code,
                };
                return ControlFlow::Break(refuse(turn, code, asked, last.as_deref()));
            }
        }
    }
}

/// The page for browsers that wait.
async fn waiting_page(turn: Turn, asked: &Asked<'_>, app: &AppView, decision: Decision<'_>) -> Response<Answer> {
    let (Decision::Page { code, .. } | Decision::Hold { code, .. } | Decision::Refuse(code)) = decision else {
        return not_found(turn, app.spec.name.as_str(), true);
    };
    let place = match code {
        Code::AppQueued => turn.visit.gateway.holds.place_in_queue(&app.spec.name).await,
        _ => None,
    };
    let instance = asked.instance(&turn.visit.gateway, Some(app));
    own(turn, Waiting { app, instance, place, code }.response())
}

/// Sends a request on to an app that serves, or to the gateway in front of it.
async fn proceed(
    turn: Turn,
    mut request: Request<Incoming>,
    asked: &Asked<'_>,
    app: &AppView,
    decision: Decision<'_>,
) -> Response<Answer> {
    let visit = turn.visit.clone();
    let upgrades = headers::wants_upgrade(request.headers()) && request.body().is_end_stream();
    let promise = upgrades.then(|| upgrade::promise(&mut request));
    let (mut parts, incoming) = request.into_parts();
    parts.extensions.clear();
    let protocol = headers::strip_hop_by_hop(&mut parts.headers);
    let promise = promise.filter(|_| protocol.is_some());
    headers::to_app(&mut parts.headers, asked.uri, &visit.peer, asked.relayed, || visit.request_id());
    memory::strip_cookies(&mut parts.headers);
    let prefix = parts.headers.get(headers::FORWARDED_PREFIX).cloned();
    let upload = Upload::new(incoming, &visit.limits, visit.gateway.options.response_timeout);
    let mut request = Request::from_parts(parts, upload);
    if promise.is_some()
        && let Some(protocol) = protocol
    {
        headers::set_upgrade(request.headers_mut(), protocol);
    }
    let mut trip = Trip { app: &app.spec.name, asked, prefix, dressed: false, selector: None, promise };
    match trip.go(turn, app, decision, request).await {
        Ok(answer) => answer,
        Err(missed) => Box::pin(trip.retry(missed)).await,
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

/// Says no, with what is known of the app.
pub fn refuse(turn: Turn, code: Code, asked: &Asked<'_>, app: Option<&AppView>) -> Response<Answer> {
    let instance = asked.instance(&turn.visit.gateway, app);
    let text = gate::sentence(code, asked.name(), instance);
    own(turn, page::refusal(code, &text, asked.html))
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
