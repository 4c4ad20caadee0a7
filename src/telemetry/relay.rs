//! Takes log events from every thread and hands them to one thread that writes, so that no caller waits for a disk, a
//! terminal or the journal.
//!
//! The queue is bounded. When it is full the line is dropped and counted, and the writer tells the count.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use nbs_core::time::Wall;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Lines waiting to be written: a burst of 2,000 commands. Its places take 50 bytes each for ever, its lines about 300.
pub const QUEUE: usize = 2048;

/// Tells the time of an event.
pub type WallClock = Arc<dyn Fn() -> Wall + Send + Sync>;

/// A field's value, detached from its event.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A signed number.
    Signed(i64),
    /// An unsigned number.
    Unsigned(u64),
    /// True or false.
    Boolean(bool),
    /// A text.
    Text(String),
    /// Anything else, as Debug (or Display) writes it.
    Shown(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signed(number) => number.fmt(f),
            Self::Unsigned(number) => number.fmt(f),
            Self::Boolean(flag) => flag.fmt(f),
            Self::Text(text) | Self::Shown(text) => f.write_str(text),
        }
    }
}

/// An event, detached from the thread it happened on.
#[derive(Debug)]
pub struct Record {
    /// When it happened.
    pub at: Wall,
    /// Level, target and place in the source.
    pub metadata: &'static Metadata<'static>,
    /// Its fields.
    pub fields: Vec<(Field, Value)>,
}

/// Writes records; used by the writer's thread only.
pub trait Sink: Send + 'static {
    /// Writes one record.
    fn write(&mut self, record: &Record);
    /// Tells that so many lines were dropped.
    fn dropped(&mut self, count: u64);
}

enum Message {
    Record(Record),
    /// Everything before it is written once this is answered.
    Flush(SyncSender<()>),
}

/// The layer that takes events. Clones feed the same queue.
#[derive(Clone)]
pub struct Relay {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
    clock: WallClock,
}

impl Relay {
    /// Starts the writer's thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(mut sink: impl Sink, length: usize, clock: WallClock) -> std::io::Result<Self> {
        let (queue, inbox) = sync_channel(length);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = dropped.clone();
        thread::Builder::new().name("log".into()).spawn(move || write_all(&inbox, &mut sink, &count))?;
        Ok(Self { queue, dropped, clock })
    }

    /// Waits until everything logged so far is written, about so long at most for a place in the queue and as long
    /// again for the writing. Returns whether it was.
    pub fn flush(&self, at_most: Duration) -> bool {
        let (done_tx, done_rx) = sync_channel(1);
        let mut message = Message::Flush(done_tx);
        for _ in 0..=at_most.as_millis() {
            match self.queue.try_send(message) {
                Ok(()) => return done_rx.recv_timeout(at_most).is_ok(),
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(back)) => message = back,
            }
            thread::sleep(Duration::from_millis(1));
        }
        false
    }
}

fn write_all(inbox: &Receiver<Message>, sink: &mut impl Sink, dropped: &AtomicU64) {
    while let Ok(message) = inbox.recv() {
        match message {
            Message::Record(record) => sink.write(&record),
            Message::Flush(done) => drop(done.send(())),
        }
        // A line is dropped only while others wait, so the count is always seen before the queue is empty.
        let count = dropped.swap(0, Ordering::Relaxed);
        if count > 0 {
            sink.dropped(count);
        }
    }
}

impl<S: Subscriber> Layer<S> for Relay {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = Fields(Vec::new());
        event.record(&mut fields);
        let record = Record { at: (self.clock)(), metadata: event.metadata(), fields: fields.0 };
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Message::Record(record)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Fields(Vec<(Field, Value)>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push((field.clone(), Value::Shown(format!("{value:?}"))));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.clone(), Value::Text(value.into())));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.push((field.clone(), Value::Signed(value)));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.push((field.clone(), Value::Unsigned(value)));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.push((field.clone(), Value::Boolean(value)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    struct Slow {
        lines: Lines,
        gate: Receiver<()>,
    }

    impl Sink for Slow {
        fn write(&mut self, record: &Record) {
            let _ = self.gate.recv();
            let fields: Vec<String> = record.fields.iter().map(|(field, value)| format!("{field}={value}")).collect();
            self.lines.0.lock().unwrap().push(fields.join(" "));
        }
        fn dropped(&mut self, count: u64) {
            self.lines.0.lock().unwrap().push(format!("{count} dropped"));
        }
    }

    #[test]
    fn a_stalled_writer_blocks_nobody_and_the_dropped_lines_are_told() {
        let (open, gate) = sync_channel(0);
        let lines = Lines::default();
        let relay = Relay::start(Slow { lines: lines.clone(), gate }, 2, Arc::new(|| Wall(0))).unwrap();
        let subscriber = tracing_subscriber::registry().with(relay.clone());
        tracing::subscriber::with_default(subscriber, || {
            // The writer is stalled all the while: a blocking relay would never come to the end of this.
            for n in 0..100u64 {
                tracing::info!(n, app = %"crm", "hello");
            }
        });
        assert!(!relay.flush(Duration::from_millis(10)));
        drop(open);
        assert!(relay.flush(Duration::from_secs(10)));
        let lines = lines.0.lock().unwrap().clone();
        assert_eq!(lines[0], "message=hello n=0 app=crm");
        let dropped: u64 = lines.iter().filter_map(|line| line.strip_suffix(" dropped")?.parse::<u64>().ok()).sum();
        let written = lines.iter().filter(|line| line.starts_with("message")).count() as u64;
        assert_eq!(dropped + written, 100, "{lines:?}");
        assert!(dropped > 0);
    }
}
