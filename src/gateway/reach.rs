//! Whether the gateways of other environments are reached, asked again and again.
//!
//! The question is one that only the right gateway can answer: whoever else listens behind the URL is told apart. What
//! comes out is for operators, who read it in `env show`; visitors are brought by what requests themselves meet (`ways`),
//! so that a probe that is slow or lost keeps nobody out. Deliberately absent: apps.

use std::future::poll_fn;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::{Request, Response, StatusCode, header};
use nbs_core::view::EnvironmentView;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::body::Upload;
use super::hop;
use super::pool::{Link, Target};
use super::ways::Way;
use crate::ports::News;

/// How often an environment is asked; each round up to a tenth later, so that many gateways do not ask in step.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long one question may take, connecting included.
const LIMIT: Duration = Duration::from_secs(5);
/// Questions that may be under way at once.
const AT_ONCE: usize = 16;

/// Asks until `shutdown`, or until nobody listens any more.
pub async fn watch(gateway: &Arc<Inner>, news: &mpsc::Sender<News>, shutdown: &CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            heard = round(gateway, news) => if !heard { return },
        }
        let later = RandomState::new().build_hasher().finish() % 1_000;
        let pause = INTERVAL + INTERVAL / 10 * later as u32 / 1_000;
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Asks everyone once, and tells what differs from what the entry shows. `false`: nobody listens.
async fn round(gateway: &Arc<Inner>, news: &mpsc::Sender<News>) -> bool {
    let fleet = gateway.entry.view();
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut asked = JoinSet::new();
    for view in fleet.environments.values().filter(|view| !view.is_local).cloned() {
        let (gateway, permits) = (gateway.clone(), permits.clone());
        asked.spawn(async move {
            let _permit = permits.acquire_owned().await;
            let answer = ask(&gateway, &view).await;
            (view, answer)
        });
    }
    drop(fleet);
    while let Some(result) = asked.join_next().await {
        let Ok((view, answer)) = result else { continue };
        let environment = view.registration.environment.clone();
        if view.proxy.as_ref() != Some(&answer) && news.send(News::Proxy(environment, answer)).await.is_err() {
            return false;
        }
    }
    true
}

/// Asks one. The text of an error says what failed and what to do.
async fn ask(gateway: &Inner, view: &EnvironmentView) -> Result<(), String> {
    let way = gateway.ways.way(view)?;
    match tokio::time::timeout(LIMIT, ping(gateway, &way)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!(
            "{} did not answer within {} s; see to it that the host is up and that no firewall is in between",
            way.url(),
            LIMIT.as_secs()
        )),
    }
}

async fn ping(gateway: &Inner, way: &Arc<Way>) -> Result<(), String> {
    let url = way.url();
    let mut link = Link::open(&Arc::new(Target::There(way.clone()))).await.map_err(|error| unreached(url, &error))?;
    let header = hop::ping_app().and_then(|app| gateway.ways.header(way, &app, "GET", hop::PING_TARGET));
    let Some(header) = header else { return Err(format!("no header can be made for environment {}", way.environment)) };
    let request = Request::get(hop::PING_TARGET)
        .header(header::HOST, way.endpoint.host.as_str())
        .header(hop::HOP, header.clone())
        .header(hop::FROM, gateway.ways.mark().clone())
        .body(Upload::Empty)
        .map_err(|error| format!("{url} cannot be asked: {error}"))?;
    let mut sent = pin!(link.sender.try_send_request(request));
    let response = poll_fn(|cx| {
        let ended = link.drive(cx);
        match sent.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Poll::Ready(answer.ok()),
            Poll::Pending if ended => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    let Some(response) = response else {
        return Err(format!("{url} gave no answer in HTTP; set ENVIRONMENT_PROXY_URL to where its gateway listens"));
    };
    judge(way, header.to_str().unwrap_or_default(), &response)
}

fn judge<B>(way: &Way, sent: &str, response: &Response<B>) -> Result<(), String> {
    let (url, environment) = (way.url(), &way.environment);
    match response.status() {
        StatusCode::NO_CONTENT if hop::is_pong(way.keys(), sent, response) => Ok(()),
        StatusCode::FORBIDDEN => Err(format!(
            "the gateway at {url} does not believe this entry: its key is not that of environment {environment}, or the \
             clocks differ by more than a minute; make a key file with `nbsupervisor key export-worker {environment}` and \
             check the time on both hosts"
        )),
        status => Err(format!(
            "{url} answers {}, but not as the gateway of environment {environment}; set ENVIRONMENT_PROXY_URL on that \
             environment's host to where its own gateway listens, and see to it that nothing in between drops the header {}",
            status.as_u16(),
            hop::HOP
        )),
    }
}

fn unreached(url: &str, error: &io::Error) -> String {
    format!(
        "{url} cannot be reached: {error}; see to it that the daemon runs there and that its gateway listens on an address \
         that this host reaches, or set ENVIRONMENT_PROXY_URL"
    )
}
