//! A request whose app has just died.
//!
//! The gateway learns of a crash before anyone: for some milliseconds the entry still shows a life that is over, and the
//! next one is about to begin. A request that nobody has answered waits for that news and then does what the gate says,
//! so that a crash with a quick restart is not seen by a visitor. It is sent again only if nothing of it was written, or
//! if it is safe to repeat and this is its first repetition: a request that kills its app must not kill it again and again.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response};
use nbs_core::gate::{self, Decision, Visitor};
use nbs_core::launch::Address;
use nbs_core::name::AppId;
use nbs_core::view::{AppView, InstanceView};
use tokio::time::Instant;

use super::body::{Answer, Upload};
use super::outcome::Failure;
use super::pool::Target;
use super::serve::{self, Turn};
use super::{forward, page, upgrade};

/// How long the view may take to show what a broken connection has told already, and a browser may hang before it gets
/// the waiting page.
const NEWS: Duration = Duration::from_secs(1);

/// A request that brought no answer.
pub struct Missed {
    /// Why.
    pub failure: Failure,
    /// Whose.
    pub turn: Turn,
    /// The life of the app that it was for.
    pub target: Arc<Target>,
    /// The request, if it may be sent again.
    pub again: Option<Request<Upload>>,
    /// Whether it was written.
    pub written: bool,
}

/// What stays the same however often a request is sent.
pub struct Trip<'a> {
    /// To which app.
    pub app: &'a AppId,
    /// Whether its head was written for an app that expects its paths without the prefix.
    pub strip: bool,
    /// Whether the client reads pages.
    pub html: bool,
    /// The client's socket, if it asks for an upgrade.
    pub promise: Option<OnUpgrade>,
}

impl Trip<'_> {
    /// Sends a request to an instance.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn go(
        &mut self,
        turn: Turn,
        instance: &InstanceView,
        address: &Address,
        request: Request<Upload>,
    ) -> Result<Response<Answer>, Box<Missed>> {
        if self.promise.is_some() {
            Box::pin(upgrade::switch(turn, self.app, instance, address, request, &mut self.promise)).await
        } else {
            forward::forward(turn, self.app, instance, address, request).await
        }
    }

    /// Waits for the app's next life and sends the request there, if it may be; else says what went wrong.
    pub async fn retry(mut self, mut missed: Box<Missed>) -> Response<Answer> {
        let arrived = Instant::now();
        let mut repeated = false;
        loop {
            // It may be sent to one life after it was written to another, not to a third.
            let Some(request) = missed.again.take().filter(|_| !(missed.written && repeated)) else {
                return self.give_up(*missed);
            };
            repeated |= missed.written;
            let visitor = serve::visitor(&missed.turn.visit().gateway, &request);
            if !self.await_news(&missed).await {
                return self.give_up(*missed);
            }
            tracing::debug!(app = %self.app, "{}; waits for the app's next life", missed.failure.detail());
            let (turn, view) = match serve::settle(missed.turn, self.app.as_str(), visitor, self.html, arrived).await {
                ControlFlow::Continue(settled) => settled,
                ControlFlow::Break(answer) => return answer,
            };
            let Decision::Proceed { instance, address, strip } = gate::decide(Some(&view), Visitor::Client, 0) else {
                return serve::not_found(turn, self.app.as_str(), self.html);
            };
            if strip != self.strip {
                let (failure, target) = (missed.failure, missed.target);
                return self.give_up(Missed { failure, turn, target, again: None, written: false });
            }
            match self.go(turn, instance, address, request).await {
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
        let is_over = |view: Option<&AppView>| match gate::decide(view, Visitor::Client, 0) {
            Decision::Proceed { instance, address, .. } => !missed.target.is(instance, address),
            Decision::Hold { wake, .. } | Decision::Page { wake, .. } => wake,
            Decision::Refuse(_) => true,
        };
        let Some(view) = gateway.holds.watch(self.app, until, is_over).await else {
            return false;
        };
        match gate::decide(view.as_deref(), Visitor::Client, 0) {
            Decision::Proceed { instance, address, .. } => !missed.target.is(instance, address),
            _ => true,
        }
    }

    fn give_up(&self, missed: Missed) -> Response<Answer> {
        let Missed { failure, turn, .. } = missed;
        let gateway = &turn.visit().gateway;
        gateway.count_failure(self.app, &failure);
        let code = failure.code();
        let message = format!("{}: {}", code.sentence(self.app.as_str()), failure.detail());
        serve::own(turn, page::refusal(code, &message, self.html))
    }
}
