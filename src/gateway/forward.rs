//! A request's way to its app, or to the gateway in front of it, and the answer's way back.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use hyper::body::{Body, Incoming};
use hyper::{Method, Request, Response, Version};

use super::body::{Answer, Forwarded, Upload};
use super::headers;
use super::outcome::Failure;
use super::pool::{Link, Target, To};
use super::retry::Missed;
use super::serve::{Turn, Visit};
use super::ways;

/// Sends a request. The head is the app's already, or the other gateway's.
///
/// A kept connection may turn out to be closed. Then the request goes over a fresh one: if nothing of it was written, or
/// if it has no body and asking twice is the same as asking once.
///
/// # Errors
/// There is no answer; the failure says why.
pub async fn forward(turn: Turn, to: To<'_>, mut request: Request<Upload>) -> Result<Response<Answer>, Box<Missed>> {
    let (target, kept) = turn.visit().gateway.pool.take(to);
    let mut written = false;
    if let Some(mut link) = kept {
        let spare = repeatable(&request).then(|| copy(&request));
        match exchange(&mut link, request, turn.visit()).await {
            Ok((response, upload_done)) => return Ok(answer(response, link, upload_done, turn)),
            Err(Failure::Unsent(back)) => request = *back,
            Err(failure) => match spare.filter(|_| matches!(failure, Failure::Closed)) {
                Some(spare) => (request, written) = (spare, true),
                None => {
                    return Err(Box::new(Missed { failure, turn, target, again: None, written: true, kept: true }));
                }
            },
        }
    }
    match fresh(&target, request, turn.visit()).await {
        Ok((response, link, upload_done)) => Ok(answer(response, link, upload_done, turn)),
        Err((failure, again)) => {
            written |= matches!(failure, Failure::Closed);
            Err(Box::new(Missed { failure, turn, target, again: again.map(|again| *again), written, kept: false }))
        }
    }
}

/// Why there is no answer, and the request if it may be sent again.
pub type Failed = (Failure, Option<Box<Request<Upload>>>);

/// Sends a request over a connection of its own.
///
/// # Errors
/// There is no answer; the failure says why. Without a connection nothing was sent, whatever the request. One that was
/// sent may be sent again if it asks for nothing but an answer.
pub async fn fresh(
    target: &Arc<Target>,
    request: Request<Upload>,
    visit: &Visit,
) -> Result<(Response<Incoming>, Box<Link>, bool), Failed> {
    let limit = visit.gateway.options.connect_timeout;
    let abroad = matches!(**target, Target::There(_));
    let limit = if abroad { limit.min(ways::CONNECT) } else { limit };
    let mut link = match tokio::time::timeout(limit, Link::open(target)).await {
        Ok(Ok(link)) => link,
        Ok(Err(error)) => return Err((Failure::Connect(error), Some(Box::new(request)))),
        // An app of this host that takes no connection in time would not take the next one either.
        Err(_) => return Err((Failure::ConnectTimeout, abroad.then(|| Box::new(request)))),
    };
    let spare = safe(&request).then(|| Box::new(copy(&request)));
    match exchange(&mut link, request, visit).await {
        Ok((response, upload_done)) => Ok((response, link, upload_done)),
        Err(Failure::Unsent(back)) => Err((Failure::Connect(io::ErrorKind::ConnectionReset.into()), Some(back))),
        Err(Failure::Closed) => Err((Failure::Closed, spare)),
        Err(failure) => Err((failure, None)),
    }
}

/// Whether a request asks for nothing but an answer.
fn safe(request: &Request<Upload>) -> bool {
    let method = request.method();
    request.body().is_end_stream() && (*method == Method::GET || *method == Method::HEAD || *method == Method::OPTIONS)
}

/// Whether asking twice is the same as asking once.
fn repeatable(request: &Request<Upload>) -> bool {
    let method = request.method();
    safe(request) || (request.body().is_end_stream() && (*method == Method::PUT || *method == Method::DELETE))
}

fn copy(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::Empty);
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy
}

/// Writes the request and reads the head of the answer, driving the connection meanwhile. Also tells whether the whole
/// request was written by then.
async fn exchange(
    link: &mut Link,
    mut request: Request<Upload>,
    visit: &Visit,
) -> Result<(Response<Incoming>, bool), Failure> {
    *request.version_mut() = Version::HTTP_11;
    let upload = request.body().progress();
    let upload_done = || upload.as_ref().is_none_or(|upload| upload.is_done());
    let limits = &visit.limits;
    limits.await_answer(visit.gateway.options.response_timeout);
    let mut sent = pin!(link.sender.try_send_request(request));
    let answer = std::future::poll_fn(|cx| {
        let ended = link.drive(cx);
        // The connection gives it what it waits for, in the line above; nobody need be woken for it.
        match sent.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
            Poll::Ready(Err(mut error)) => Poll::Ready(Err(match error.take_message() {
                Some(request) => Failure::Unsent(Box::new(request)),
                None => plain(error.error()),
            })),
            Poll::Pending if ended => Poll::Ready(Err(Failure::Closed)),
            Poll::Pending if limits.answer_is_late() => {
                Poll::Ready(Err(if upload_done() { Failure::AnswerTimeout } else { Failure::UploadTimeout }))
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    limits.answered();
    Ok((answer?, upload_done()))
}

/// What went wrong.
fn plain(error: &hyper::Error) -> Failure {
    if error.is_parse() { Failure::Broken("its answer is no HTTP") } else { Failure::Closed }
}

/// Makes the client's answer of the app's.
pub fn answer(response: Response<Incoming>, link: Box<Link>, upload_done: bool, turn: Turn) -> Response<Answer> {
    let (mut parts, incoming) = response.into_parts();
    headers::strip_hop_by_hop(&mut parts.headers);
    // The client speaks with the gateway, whatever an app of old speaks.
    parts.version = Version::HTTP_11;
    let link = if upload_done {
        Some(link)
    } else {
        // An early answer: the rest of the client's body must not wait until the client reads the answer.
        tokio::spawn(link.finish());
        None
    };
    Response::from_parts(parts, Answer::Forwarded(Forwarded::new(incoming, link, turn)))
}
