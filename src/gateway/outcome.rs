//! Why a request did not reach its app or brought no answer back, what the client is told, and what the log is.
//!
//! A request that was answered leaves no line. An app that cannot be reached leaves one at once, and then one per
//! interval that says how many more there were: a thousand visitors a second must not fill a disk.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::Request;
use nbs_core::gate::Code;
use nbs_core::name::AppId;
use tokio::time::Instant;

use super::body::Upload;

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// No connection.
    Connect(io::Error),
    /// A connection took too long.
    ConnectTimeout,
    /// The connection was closed before a byte of the request was written; here it is again.
    Unsent(Box<Request<Upload>>),
    /// The connection was closed before an answer. The app may have done what it was asked.
    Closed,
    /// What came was no HTTP.
    Broken(&'static str),
    /// No answer in time.
    AnswerTimeout,
    /// The client stopped sending its body.
    UploadTimeout,
    /// The gateway of its environment has just failed, and is left alone.
    Resting,
}

impl Failure {
    /// What the client is told.
    pub fn code(&self) -> Code {
        match self {
            Self::Connect(_) | Self::Unsent(_) | Self::Closed | Self::Broken(_) => Code::UpstreamConnect,
            Self::ConnectTimeout | Self::AnswerTimeout => Code::UpstreamTimeout,
            Self::UploadTimeout => Code::RequestTimeout,
            Self::Resting => Code::AppEnvironmentUnavailable,
        }
    }

    /// The particulars, for people. Tells nothing of addresses: visitors read it.
    pub fn detail(&self) -> String {
        match self {
            Self::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused => "connection refused".into(),
            Self::Connect(error) => error.kind().to_string(),
            Self::ConnectTimeout => "no connection in time".into(),
            Self::Unsent(_) => "connection closed".into(),
            Self::Closed => "connection closed before an answer".into(),
            Self::Broken(what) => (*what).into(),
            Self::AnswerTimeout => "no answer in time".into(),
            Self::UploadTimeout => "no further piece of the body in time".into(),
            Self::Resting => "its gateway failed a moment ago".into(),
        }
    }

    /// Whether it tells that the other end is not there, and not merely slow.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::ConnectTimeout | Self::Unsent(_) | Self::Closed | Self::Broken(_))
    }
}

/// How long further failures of an app are counted before they are told.
const INTERVAL: Duration = Duration::from_secs(10);

/// What is going wrong with which app.
#[derive(Debug, Default)]
pub struct Complaints {
    apps: Mutex<HashMap<AppId, Complaint>>,
}

#[derive(Debug)]
struct Complaint {
    since: Instant,
    more: u64,
    last: String,
}

impl Complaints {
    fn apps(&self) -> MutexGuard<'_, HashMap<AppId, Complaint>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request brought no answer.
    pub fn note(&self, app: &AppId, failure: &Failure) {
        let (code, detail) = (failure.code(), failure.detail());
        // That one is the client's doing.
        if code == Code::RequestTimeout {
            tracing::debug!(%app, code = code.as_str(), "{detail}");
            return;
        }
        let mut apps = self.apps();
        if let Some(complaint) = apps.get_mut(app) {
            complaint.more += 1;
            complaint.last = detail;
            return;
        }
        apps.insert(app.clone(), Complaint { since: Instant::now(), more: 0, last: String::new() });
        drop(apps);
        tracing::warn!(%app, code = code.as_str(), "a request brought no answer: {detail}");
    }

    /// Tells what was counted; forgets apps that have had no failure for an interval.
    pub fn sweep(&self) {
        let now = Instant::now();
        let mut told = Vec::new();
        self.apps().retain(|app, complaint| {
            if now.duration_since(complaint.since) < INTERVAL {
                return true;
            }
            complaint.since = now;
            let more = std::mem::take(&mut complaint.more);
            if more > 0 {
                told.push((app.clone(), more, std::mem::take(&mut complaint.last)));
            }
            more > 0
        });
        for (app, more, last) in told {
            let seconds = INTERVAL.as_secs();
            tracing::warn!(%app, more, "{more} more requests brought no answer within {seconds} s, the last: {last}");
        }
    }

    /// Whether there is nothing to tell any more.
    pub fn is_empty(&self) -> bool {
        self.apps().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn further_failures_are_counted_and_a_quiet_app_is_forgotten() {
        let complaints = Complaints::default();
        let app = AppId::parse("crm").unwrap();
        complaints.note(&app, &Failure::UploadTimeout);
        assert!(complaints.is_empty(), "a slow client is no complaint about the app");
        for _ in 0..5 {
            complaints.note(&app, &Failure::Closed);
        }
        assert_eq!(complaints.apps()[&app].more, 4);
        complaints.sweep();
        assert_eq!(complaints.apps()[&app].more, 4, "the interval is not over");
        tokio::time::advance(INTERVAL).await;
        complaints.sweep();
        assert_eq!(complaints.apps()[&app].more, 0);
        tokio::time::advance(INTERVAL).await;
        complaints.sweep();
        assert!(complaints.is_empty());
    }
}
