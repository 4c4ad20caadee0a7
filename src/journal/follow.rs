//! Follows an app's log: a `journalctl --follow` as long as somebody reads, and a new one from the same place when it dies.
//!
//! `journalctl` itself goes over journald's restarts and over rotation. Deliberately absent: a reader's pace (outlet).

use std::time::Duration;

use nbs_core::name::AppId;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::Options;
use super::ask::{Arrival, Fault, Reading, notice};
use super::cursor::Cursor;
use super::entry::Entry;
use super::outlet::{Gone, Outlet};
use super::query::{self, From};
use crate::ports::LogLine;

/// Pause before the second attempt; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A child that lived so long was no failed attempt.
const STEADY: Duration = Duration::from_secs(10);
/// Attempts that failed in a row before the reader is told.
const TOLD_AFTER: u32 = 3;

/// One follower.
pub struct Follower {
    options: Options,
    app: AppId,
    /// Behind the last line that was handed over or dropped; before the first one if `None`.
    place: Option<Cursor>,
    outlet: Outlet,
    told: bool,
}

impl Follower {
    /// Goes on from a place, or from the journal's beginning.
    pub fn new(options: Options, app: AppId, place: Option<Cursor>, sender: mpsc::Sender<LogLine>) -> Self {
        Self { options, app, place, outlet: Outlet::new(sender), told: false }
    }

    /// Hands over the first lines, then each new one until the reader is gone.
    pub async fn run(mut self, shown: Vec<LogLine>) {
        for line in shown {
            if self.outlet.give_surely(line).await.is_err() {
                return;
            }
        }
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let place = self.place.clone();
            let why = match self.read().await {
                Ok(why) => why,
                Err(Gone) => return,
            };
            let progress = self.place != place || began.elapsed() >= STEADY;
            failures = if progress { 1 } else { failures + 1 };
            if failures >= TOLD_AFTER && self.tell(&why).await.is_err() {
                return;
            }
            let pause = PAUSE_MAX.min(PAUSE_FIRST.saturating_mul(1 << (failures - 1).min(16)));
            tokio::select! {
                () = self.outlet.closed() => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// Reads with one child until it ends; tells why it did.
    async fn read(&mut self) -> Result<Fault, Gone> {
        let from = From::Follow(self.place.as_ref().map(|place| place.entry.as_str()));
        let mut reading = match Reading::start(&self.options, &query::of_app(&self.options, &self.app, from)) {
            Ok(reading) => reading,
            Err(fault) => return Ok(fault),
        };
        let mut arrival = Arrival::new(self.place.as_ref());
        loop {
            let entry = tokio::select! {
                gone = self.outlet.tend() => return Err(gone),
                entry = reading.next() => entry,
            };
            let Some(entry) = entry else { break };
            self.hand_over(&entry, &mut arrival).await?;
        }
        tokio::select! {
            () = self.outlet.closed() => Err(Gone),
            end = reading.end() => Ok(end.err().unwrap_or_else(|| Fault::Other("journalctl ended".into()))),
        }
    }

    async fn hand_over(&mut self, entry: &Entry, arrival: &mut Arrival) -> Result<(), Gone> {
        let lines = arrival.lines(entry, &self.app, self.options.scope);
        if lines.is_empty() {
            return Ok(());
        }
        self.told = false;
        for line in lines {
            self.outlet.give(line).await?;
        }
        if let Some(cursor) = entry.cursor() {
            self.place = Some(Cursor::behind(cursor.into()));
        }
        Ok(())
    }

    /// Says once that there is nothing to read.
    async fn tell(&mut self, why: &Fault) -> Result<(), Gone> {
        if std::mem::replace(&mut self.told, true) {
            return Ok(());
        }
        let cause = match why {
            Fault::Seek => "the journal does not know the place to go on from",
            Fault::Other(cause) => cause,
        };
        self.outlet.give(notice(format!("… the journal cannot be read, trying again: {cause} …"))).await
    }
}
