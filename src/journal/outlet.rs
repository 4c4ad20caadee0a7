//! Hands lines to a reader that may be slow.
//!
//! Decides what a slow one loses: nothing while it catches up within `PATIENCE` (the journal is on disk, `journalctl` waits),
//! then whole lines until it has read half of what waits for it, and one line says how many.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, timeout_at};

use super::ask::notice;
use crate::ports::LogLine;

/// Lines that wait for the reader.
pub const CHANNEL: usize = 256;
/// How long a reader may be behind.
const PATIENCE: Duration = Duration::from_secs(5);

/// The reader is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// The way to one reader.
#[derive(Debug)]
pub struct Outlet {
    sender: mpsc::Sender<LogLine>,
    /// Since when there was always something waiting.
    behind: Option<Instant>,
    dropped: u64,
    /// The place behind the last dropped line.
    last: Option<String>,
}

impl Outlet {
    /// A way that has dropped nothing yet.
    pub fn new(sender: mpsc::Sender<LogLine>) -> Self {
        Self { sender, behind: None, dropped: 0, last: None }
    }

    /// Resolves once the reader is gone.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Hands over a line that must not be dropped, however long it takes.
    pub async fn give_surely(&mut self, line: LogLine) -> Result<(), Gone> {
        self.sender.send(line).await.map_err(|_| Gone)
    }

    /// Hands over a line, or drops it.
    pub async fn give(&mut self, line: LogLine) -> Result<(), Gone> {
        if self.sender.capacity() == self.sender.max_capacity() {
            self.behind = None;
        }
        if self.dropped > 0 {
            self.drop_line(line);
            return self.try_say();
        }
        match self.sender.try_send(line) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(_)) => Err(Gone),
            Err(TrySendError::Full(line)) => {
                let since = *self.behind.get_or_insert_with(Instant::now);
                match timeout_at(since + PATIENCE, self.sender.clone().reserve_owned()).await {
                    Ok(Ok(permit)) => {
                        permit.send(line);
                        Ok(())
                    }
                    Ok(Err(_)) => Err(Gone),
                    Err(_) => {
                        self.drop_line(line);
                        Ok(())
                    }
                }
            }
        }
    }

    /// While no line comes: tells the reader what was dropped once it has caught up, and resolves when it is gone.
    pub async fn tend(&mut self) -> Gone {
        while self.dropped > 0 {
            // Cancelled, it leaves everything as it was.
            let room = self.sender.reserve_many(CHANNEL / 2).await.map(drop);
            if room.is_err() || self.try_say().is_err() {
                return Gone;
            }
        }
        self.sender.closed().await;
        Gone
    }

    fn try_say(&mut self) -> Result<(), Gone> {
        if self.sender.is_closed() {
            return Err(Gone);
        }
        if self.sender.capacity() >= CHANNEL / 2 {
            let line = said(self.dropped, self.last.take());
            self.sender.try_send(line).map_err(|_| Gone)?;
            (self.dropped, self.behind) = (0, None);
        }
        Ok(())
    }

    fn drop_line(&mut self, line: LogLine) {
        self.dropped += 1;
        self.last = line.cursor.or(self.last.take());
    }
}

fn said(count: u64, last: Option<String>) -> LogLine {
    LogLine {
        cursor: last, ..notice(format!("… {count} lines were dropped: they came faster than they were read …"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: usize) -> LogLine {
        LogLine { cursor: Some(format!("s={number}")), ..notice(number.to_string()) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_catches_up_loses_nothing() {
        let (sender, mut receiver) = mpsc::channel(CHANNEL);
        let mut outlet = Outlet::new(sender);
        let reader = tokio::spawn(async move {
            let mut seen = Vec::new();
            while let Some(line) = receiver.recv().await {
                // 400 lines a second are slower than they come, and the burst is over in time.
                tokio::time::sleep(Duration::from_micros(2500)).await;
                seen.push(line);
            }
            seen
        });
        for number in 0..1500 {
            outlet.give(line(number)).await.unwrap();
        }
        drop(outlet);
        assert_eq!(reader.await.unwrap(), (0..1500).map(line).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stands_still_is_told_once_how_much_it_missed() {
        let (sender, mut receiver) = mpsc::channel(CHANNEL);
        let mut outlet = Outlet::new(sender);
        let began = Instant::now();
        for number in 0..1000 {
            outlet.give(line(number)).await.unwrap();
        }
        assert_eq!(began.elapsed().as_secs(), PATIENCE.as_secs(), "it was waited for once");
        let mut seen = Vec::new();
        receiver.recv_many(&mut seen, CHANNEL).await;
        assert_eq!(seen, (0..256).map(line).collect::<Vec<_>>());
        assert!(tokio::time::timeout(Duration::from_secs(1), outlet.tend()).await.is_err(), "the reader is there");
        outlet.give(line(1000)).await.unwrap();
        let told = receiver.recv().await.unwrap();
        assert_eq!(told.text, "… 744 lines were dropped: they came faster than they were read …");
        assert_eq!(told.cursor.as_deref(), Some("s=999"), "going on from there repeats nothing");
        assert_eq!(receiver.recv().await.unwrap(), line(1000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_left_is_noticed() {
        let (sender, receiver) = mpsc::channel(CHANNEL);
        let mut outlet = Outlet::new(sender);
        drop(receiver);
        assert_eq!(outlet.give(line(1)).await, Err(Gone));
        outlet.closed().await;
    }
}
