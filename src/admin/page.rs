//! A page of apps, written while it is sent.
//!
//! Decides that a list is made piece by piece: as one value, a thousand apps take 6 MiB, and a heap that was once so large
//! seldom shrinks again. Deliberately absent: what is shown of one app (wire).

use std::ops::Bound;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Bytes;
use hyper::body::{Body, Frame};
use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::phase::Status;
use nbs_core::time::Now;
use nbs_core::view::AppView;

use super::Admin;
use super::apps::usage;
use super::input::Params;
use super::problem::Problem;
use crate::entry::FleetView;
use crate::wire::api::app::App;

/// Bytes of a piece; the last app in it may take it beyond.
const PIECE: usize = 32 << 10;

/// What a page of apps is filtered by.
pub(crate) struct Filter {
    environment: Option<nbs_core::name::EnvironmentName>,
    status: Option<Status>,
    text: Option<String>,
}

impl Filter {
    pub(crate) fn of(params: &Params) -> Result<Self, Problem> {
        let status = params.text("status").map(|text| {
            let words: Vec<_> = Status::ALL.iter().map(|status| status.as_str()).collect();
            let wrong = || Problem::invalid("status", format!("{text:?} is not a status"), words.join(", "));
            Status::parse(text).ok_or_else(wrong)
        });
        Ok(Self {
            environment: params.environment("environment")?,
            status: status.transpose()?,
            text: params.text("q").map(str::to_lowercase),
        })
    }

    fn lets(&self, app: &AppView) -> bool {
        let has = |text: &String| {
            let title = app.spec.title.as_ref().map(|title| title.to_lowercase());
            app.spec.name.as_str().contains(text.as_str()) || title.is_some_and(|title| title.contains(text.as_str()))
        };
        self.status.is_none_or(|status| app.status == status)
            && self.environment.as_ref().is_none_or(|name| app.instances.iter().any(|i| i.environment == *name))
            && self.text.as_ref().is_none_or(has)
    }
}

/// How far a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// Nothing is written.
    Begin,
    /// Some apps are.
    Within,
    /// Everything is.
    End,
}

/// The body of `GET /apps`: one snapshot, whatever happens while it is read.
pub(crate) struct Page {
    pub(crate) admin: Admin,
    pub(crate) view: Arc<FleetView>,
    pub(crate) filter: Filter,
    pub(crate) now: Now,
    /// Where it goes on.
    pub(crate) after: Bound<AppId>,
    /// Apps that may follow.
    pub(crate) left: usize,
    pub(crate) place: At,
}

impl Page {
    fn piece(&mut self) -> serde_json::Result<Vec<u8>> {
        let mut text = Vec::with_capacity(PIECE + PIECE / 8);
        if self.place == At::Begin {
            text.extend_from_slice(br#"{"apps":["#);
        }
        let environment = |name: &EnvironmentName| self.view.environments.get(name).map(AsRef::as_ref);
        let mut last = None;
        let mut found = self.view.apps.range((self.after.clone(), Bound::Unbounded)).map(|(_, app)| app);
        let more = loop {
            let Some(app) = found.find(|app| self.filter.lets(app)) else { break false };
            if self.left == 0 {
                break true;
            }
            if self.place == At::Within {
                text.push(b',');
            }
            serde_json::to_writer(
                &mut text,
                &App::of(app, |instance| usage(&self.admin, &app.spec.name, instance), environment, self.now),
            )?;
            (self.place, self.left) = (At::Within, self.left - 1);
            last = Some(&app.spec.name);
            if text.len() >= PIECE {
                self.after = last.cloned().map_or(Bound::Unbounded, Bound::Excluded);
                return Ok(text);
            }
        };
        self.place = At::End;
        let cursor = match (&self.after, last) {
            (_, Some(last)) | (Bound::Excluded(last), None) if more => Some(last),
            _ => None,
        };
        text.extend_from_slice(br#"],"next_cursor":"#);
        serde_json::to_writer(&mut text, &cursor.map(AppId::as_str))?;
        text.push(b'}');
        Ok(text)
    }
}

impl Body for Page {
    type Data = Bytes;
    type Error = serde_json::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.place == At::End {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(self.piece().map(|text| Frame::data(text.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.place == At::End
    }
}
