//! A request whose app, or the gateway in front of it, has just died.
//!
//! The gateway learns of a crash before anyone: for some milliseconds the entry still shows a life that is over, and the
//! next one is about to begin. A request that nobody has answered waits for that news and then does what the gate says,
//! so that a crash with a quick restart is not seen by a visitor. One whose environment cannot be reached goes to another
//! at once, if the choice was the gateway's. It is sent again only if nothing of it was written, or if it is safe to
//! repeat and this is its first repetition: a request that kills its app must not kill it again and again.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, Uri};
use nbs_core::gate::{Code, Decision, Visitor};
use nbs_core::name::AppId;
use nbs_core::route::{How, Receiver};
use nbs_core::shared_path::Apps;
use nbs_core::view::{AppView, InstanceView};
use tokio::time::Instant;

use super::Inner;
use super::body::{Answer, Upload};
use super::headers;
use super::hop;
use super::outcome::Failure;
use super::pool::{Target, To};
use super::serve::{self, Asked, Turn};
use super::ways::Way;
use super::{forward, page, upgrade};

/// How long the view may take to show what a broken connection has told already, and a browser may hang before it gets
/// the waiting page.
const NEWS: Duration = Duration::from_secs(1);
/// Other gateways that a request is brought to, one after another.
const RELAYS_MAX: usize = 3;

/// A request that brought no answer.
pub struct Missed {
    /// Why.
    pub failure: Failure,
    /// Whose.
    pub turn: Turn,
    /// What it was sent to.
    pub target: Arc<Target>,
    /// The request, if it may be sent again.
    pub again: Option<Request<Upload>>,
    /// Whether it was written.
    pub written: bool,
    /// Whether it went over a connection that had been kept, and that the other side was free to close.
    pub kept: bool,
}

/// What stays the same however often a request is sent.
pub struct Trip<'a> {
    /// Of which app.
    pub app: &'a AppId,
    /// What is asked of it.
    pub asked: &'a Asked<'a>,
    /// What the app's paths were cut by before this gateway.
    pub prefix: Option<HeaderValue>,
    /// Whether its head was written for one receiver already.
    pub dressed: bool,
    /// The header by which that receiver was told the app.
    pub selector: Option<HeaderName>,
    /// The client's socket, if it asks for an upgrade.
    pub promise: Option<OnUpgrade>,
}

impl Trip<'_> {
    /// Sends a request where the gate says.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn go(
        &mut self,
        mut turn: Turn,
        app: &AppView,
        decision: Decision<'_>,
        mut request: Request<Upload>,
    ) -> Result<Response<Answer>, Box<Missed>> {
        match decision {
            Decision::Proceed { instance, address, strip } => {
                if app.instances.len() > 1 {
                    turn.bear(turn.visit().gateway.ways.load_here());
                }
                let gateway = turn.visit().gateway.clone();
                if let Err(text) = self.dress_for_app(&mut request, &gateway, app, instance, strip) {
                    return Ok(serve::own(turn, page::refusal(Code::AppNotFound, &text, self.asked.html)));
                }
                self.send(turn, To::Here(&app.spec.name, instance, address), request).await
            }
            Decision::Relay { instance } => Box::pin(self.relay(turn, app, instance, request)).await,
            _ => Ok(serve::refuse(turn, Code::AppEnvironmentUnavailable, self.asked, None)),
        }
    }

    /// Sends a request to the gateway of another environment.
    async fn relay(
        &mut self,
        mut turn: Turn,
        app: &AppView,
        instance: &InstanceView,
        mut request: Request<Upload>,
    ) -> Result<Response<Answer>, Box<Missed>> {
        let gateway = turn.visit().gateway.clone();
        let fleet = gateway.entry.view();
        let way = fleet.environments.get(&instance.environment).and_then(|view| gateway.ways.way(view).ok());
        drop(fleet);
        let Some(way) = way else {
            return Ok(serve::refuse(turn, Code::AppEnvironmentUnavailable, self.asked, None));
        };
        if !gateway.ways.take(&way) {
            let target = Arc::new(Target::There(way));
            let (failure, again) = (Failure::Resting, Some(request));
            return Err(Box::new(Missed { failure, turn, target, again, written: false, kept: true }));
        }
        turn.bear(way.load());
        if self.dress_for_gateway(&mut request, &turn, app, &way).is_none() {
            return Ok(serve::refuse(turn, Code::AppEnvironmentUnavailable, self.asked, None));
        }
        match self.send(turn, To::There(&way), request).await {
            Ok(answer) => {
                gateway.ways.answered(&way);
                Ok(answer)
            }
            Err(mut missed) => {
                if missed.failure.is_absence() && !missed.kept {
                    gateway.ways.failed(&way, &missed.failure.detail());
                }
                missed.turn.unload();
                Err(missed)
            }
        }
    }

    async fn send(
        &mut self,
        turn: Turn,
        to: To<'_>,
        request: Request<Upload>,
    ) -> Result<Response<Answer>, Box<Missed>> {
        if self.promise.is_some() {
            Box::pin(upgrade::switch(turn, to, request, &mut self.promise)).await
        } else {
            forward::forward(turn, to, request).await
        }
    }

    /// Makes the head the app's: its target without selectors, and its prefix. A process with several apps is told which
    /// one is meant.
    fn dress_for_app(
        &mut self,
        request: &mut Request<Upload>,
        gateway: &Inner,
        app: &AppView,
        instance: &InstanceView,
        strip: bool,
    ) -> Result<(), String> {
        let (uri, selection) = (self.asked.uri, &self.asked.selection);
        let select = instance.report.as_ref().and_then(|report| report.select.as_ref());
        // Of nearly every request the recipe's paths need not be known.
        let fleet = (select.is_some() || selection.how == How::RecipePath).then(|| gateway.entry.view());
        let paths = fleet.as_ref().and_then(|fleet| fleet.paths(&instance.environment, &app.spec.runtime));
        let to = Receiver { strip, shared: select.is_some(), paths };
        if selection.strays(to) {
            return Err(format!("this address names another application than {}", app.spec.name));
        }
        self.undress(request);
        if uri.scheme().is_some() || !selection.is_untouched(to) {
            let target = PathAndQuery::try_from(&*selection.target(to));
            *request.uri_mut() = Uri::from(target.map_err(|_| Code::AppNotFound.sentence(selection.app.as_ref()))?);
        }
        if let Some(prefix) = selection.prefix().filter(|_| strip) {
            headers::set_prefix(request.headers_mut(), prefix);
        }
        if let Some(select) = select {
            // Without its name the process would take the request for anyone's.
            let name = headers::set_selector(request.headers_mut(), select, &app.spec.name);
            self.selector = Some(name.ok_or_else(|| format!("{:?} is no name of a header", select.header))?);
        }
        Ok(())
    }

    /// Makes the head another gateway's: the target as the client wrote it, and a header that names the app.
    fn dress_for_gateway(
        &mut self,
        request: &mut Request<Upload>,
        turn: &Turn,
        app: &AppView,
        way: &Way,
    ) -> Option<()> {
        self.undress(request);
        if self.asked.uri.scheme().is_some() {
            *request.uri_mut() = Uri::from(self.asked.uri.path_and_query()?.clone());
        }
        let ways = &turn.visit().gateway.ways;
        let target = self.asked.target();
        let header = ways.header(way, &app.spec.name, request.method().as_str(), target)?;
        request.headers_mut().insert(hop::HOP, header);
        request.headers_mut().insert(hop::FROM, ways.mark().clone());
        Some(())
    }

    /// Takes off what was put on for another receiver.
    fn undress(&mut self, request: &mut Request<Upload>) {
        if !std::mem::replace(&mut self.dressed, true) {
            return;
        }
        request.uri_mut().clone_from(self.asked.uri);
        let headers = request.headers_mut();
        for name in [headers::FORWARDED_PREFIX, hop::HOP, hop::FROM].into_iter().chain(self.selector.take()) {
            headers.remove(name);
        }
        if let Some(prefix) = &self.prefix {
            headers.insert(headers::FORWARDED_PREFIX, prefix.clone());
        }
    }

    /// Waits for the app's next life, or looks for another environment, and sends the request there, if it may be; else
    /// says what went wrong.
    pub async fn retry(mut self, mut missed: Box<Missed>) -> Response<Answer> {
        let arrived = Instant::now();
        let mut repeated = false;
        let mut relays = 0;
        loop {
            // It may be sent to one life after it was written to another, not to a third.
            let Some(request) = missed.again.take().filter(|_| !(missed.written && repeated)) else {
                return self.give_up(*missed);
            };
            repeated |= missed.written;
            let visitor = self.asked.visitor(&missed.turn.visit().gateway, &request);
            let goes_on = match &*missed.target {
                Target::Here(_) => self.await_news(&missed).await,
                Target::There(_) => {
                    relays += 1;
                    relays < RELAYS_MAX
                }
            };
            if !goes_on {
                return self.give_up(*missed);
            }
            tracing::debug!(app = %self.app, "{}; looks for another instance", missed.failure.detail());
            let (turn, view) = match serve::settle(missed.turn, self.asked, visitor, arrived).await {
                ControlFlow::Continue(settled) => settled,
                ControlFlow::Break(answer) => return answer,
            };
            let gateway = turn.visit().gateway.clone();
            let decision = self.asked.decide(&gateway, Some(&view), visitor, 0);
            match self.go(turn, &view, decision, request).await {
                Ok(answer) => return answer,
                Err(again) => missed = again,
            }
        }
    }

    /// Waits until the app serves in another life or will not serve, or has had its time for that. Says whether there is
    /// any news.
    async fn await_news(&self, missed: &Missed) -> bool {
        let gateway = &missed.turn.visit().gateway;
        let until = Instant::now() + NEWS;
        let until = gateway.drain_end().map_or(until, |end| until.min(end));
        let is_over = |view: Option<&AppView>| match self.asked.decide(gateway, view, Visitor::Client, 0) {
            Decision::Proceed { instance, address, .. } => !missed.target.is(instance, address),
            Decision::Hold { wake, .. } | Decision::Page { wake, .. } => wake,
            Decision::Refuse(_) | Decision::Relay { .. } | Decision::Choose | Decision::Elsewhere => true,
        };
        let Some(view) = gateway.holds.watch(self.app, until, is_over).await else {
            return false;
        };
        match self.asked.decide(gateway, view.as_deref(), Visitor::Client, 0) {
            Decision::Proceed { instance, address, .. } => !missed.target.is(instance, address),
            _ => true,
        }
    }

    fn give_up(&self, missed: Missed) -> Response<Answer> {
        let Missed { failure, turn, .. } = missed;
        let gateway = &turn.visit().gateway;
        gateway.count_failure(self.app, &failure);
        let code = failure.code();
        let message = format!("{}: {}", code.sentence(self.asked.name()), failure.detail());
        serve::own(turn, page::refusal(code, &message, self.asked.html))
    }
}
