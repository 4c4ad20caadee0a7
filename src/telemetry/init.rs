//! Sets up the log of this process, once.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use tracing::dispatcher::{self, Dispatch};
use tracing::field::{Field, Value as FieldValue};
use tracing::{Event, warn};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;

use super::relay::{QUEUE, Record, Relay, Sink, Value, WallClock};
use super::text::Text;

/// Where the log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To the journal when stderr is connected to it, else to stderr.
    Auto,
    /// To the journal.
    Journal,
    /// To stderr, as text.
    Text,
}

/// Why the log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is none.
    #[error("{level:?} is not a log level: write info, or info,nbsupervisor::gateway=debug")]
    Level {
        /// What was given.
        level: String,
        /// What the filter said.
        source: tracing_subscriber::filter::ParseError,
    },
    /// No journal.
    #[error("the journal cannot be reached: set log.format = \"text\"")]
    Journal(#[source] io::Error),
    /// No thread.
    #[error("the log's thread cannot be started")]
    Thread(#[source] io::Error),
    /// There is a log already.
    #[error("the log was set up before")]
    Twice,
}

/// The log while it is kept. Dropping it waits a second at most for lines that are not yet written.
pub struct Telemetry {
    relay: Relay,
    journal: bool,
}

impl Telemetry {
    /// Whether the log goes to the journal.
    pub fn is_journal(&self) -> bool {
        self.journal
    }

    /// Waits until everything logged so far is written, at most a second.
    pub fn flush(&self) -> bool {
        self.relay.flush(Duration::from_secs(1))
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Sets up the log. `level` is a level, or comma-separated `target=level` parts; `journal_stream` is the value of
/// `JOURNAL_STREAM`; `clock` tells the time of each line of text.
///
/// # Errors
/// The level is none, the journal was asked for and is not there, or there is a log already.
pub fn init(
    level: &str,
    destination: Destination,
    journal_stream: Option<&str>,
    clock: WallClock,
) -> Result<Telemetry, TelemetryError> {
    let filter = filter(level)?;
    let wanted = match destination {
        Destination::Journal => true,
        Destination::Text => false,
        Destination::Auto => journal_stream.is_some_and(stderr_is),
    };
    let journal = match (wanted.then(|| Journal::connect(filter.clone())), destination) {
        (Some(Err(error)), Destination::Journal) => return Err(error),
        // A journal that cannot be reached is no reason to say nothing at all.
        (Some(Err(_)), _) | (None, _) => None,
        (Some(Ok(journal)), _) => Some(journal),
    };
    let is_journal = journal.is_some();
    let relay = match journal {
        Some(journal) => Relay::start(journal, QUEUE, clock),
        None => Relay::start(Text { colour: io::stderr().is_terminal(), last: clock() }, QUEUE, clock),
    };
    let relay = relay.map_err(TelemetryError::Thread)?;
    let subscriber = tracing_subscriber::registry().with(filter).with(relay.clone());
    dispatcher::set_global_default(Dispatch::new(subscriber)).map_err(|_| TelemetryError::Twice)?;
    Ok(Telemetry { relay, journal: is_journal })
}

/// The parser takes a blank for a part of a name, so `info, zbus=debug` would say other than it reads.
fn filter(level: &str) -> Result<Targets, TelemetryError> {
    let parts: Vec<&str> = level.split(',').map(str::trim).collect();
    parts.join(",").parse().map_err(|source| TelemetryError::Level { level: level.into(), source })
}

/// Whether stderr is the stream that `JOURNAL_STREAM=DEVICE:INODE` names. The variable alone is not enough: a shell
/// started from a service inherits it, and writes to a terminal.
fn stderr_is(journal_stream: &str) -> bool {
    let own = io::stderr().as_fd().try_clone_to_owned().and_then(|fd| File::from(fd).metadata());
    let named = journal_stream.split_once(':');
    match (own, named) {
        (Ok(own), Some((device, inode))) => device.parse() == Ok(own.dev()) && inode.parse() == Ok(own.ino()),
        _ => false,
    }
}

/// Hands records to the journal. Its layer takes events, so a record is made an event again, on the writer's thread.
struct Journal {
    dispatch: Dispatch,
}

impl Journal {
    /// `filter` is the global one: with another one here, each disabled event would ask both anew.
    fn connect(filter: Targets) -> Result<Self, TelemetryError> {
        let layer = tracing_journald::layer()
            .map_err(TelemetryError::Journal)?
            .with_syslog_identifier("nbsupervisor".into())
            .with_field_prefix(Some("NBS".into()))
            .with_priority_mappings(PriorityMappings {
                error: Priority::Error,
                warn: Priority::Warning,
                info: Priority::Informational,
                debug: Priority::Debug,
                trace: Priority::Debug,
            });
        Ok(Self { dispatch: Dispatch::new(tracing_subscriber::registry().with(filter).with(layer)) })
    }
}

/// The most fields that one event of `tracing` has.
const FIELDS_MAX: usize = 32;

impl Sink for Journal {
    fn write(&mut self, record: &Record) {
        let Some((first, _)) = record.fields.first() else { return };
        let shown: Vec<Option<tracing::field::DisplayValue<&Value>>> = record
            .fields
            .iter()
            .map(|(_, value)| matches!(value, Value::Shown(_)).then(|| tracing::field::display(value)))
            .collect();
        let mut values: [(&Field, Option<&dyn FieldValue>); FIELDS_MAX] = [(first, None); FIELDS_MAX];
        for (place, ((field, value), shown)) in values.iter_mut().zip(record.fields.iter().zip(&shown)) {
            let value: Option<&dyn FieldValue> = match value {
                Value::Signed(number) => Some(number),
                Value::Unsigned(number) => Some(number),
                Value::Boolean(flag) => Some(flag),
                Value::Text(text) => Some(text),
                Value::Shown(_) => shown.as_ref().map(|shown| shown as &dyn FieldValue),
            };
            *place = (field, value);
        }
        let set = record.metadata.fields().value_set(&values);
        dispatcher::with_default(&self.dispatch, || Event::dispatch(record.metadata, &set));
    }

    fn dropped(&mut self, count: u64) {
        dispatcher::with_default(&self.dispatch, || {
            warn!(count, "{count} log lines dropped: they come faster than they are written");
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use nbs_core::time::Wall;
    use tracing_subscriber::layer::{Context, Layer};

    use super::*;

    #[test]
    fn the_journal_is_used_only_if_stderr_is_connected_to_it() {
        let own = File::from(io::stderr().as_fd().try_clone_to_owned().unwrap()).metadata().unwrap();
        assert!(stderr_is(&format!("{}:{}", own.dev(), own.ino())));
        for other in [format!("{}:{}", own.dev(), own.ino() + 1), "".into(), "1".into(), "a:b".into()] {
            assert!(!stderr_is(&other), "{other}");
        }
    }

    #[derive(Clone, Default)]
    struct Again(Arc<Mutex<Vec<String>>>);

    impl<S: tracing::Subscriber> Layer<S> for Again {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            struct Fields(String);
            impl tracing::field::Visit for Fields {
                fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                    self.0.push_str(&format!(" {field}={value:?}"));
                }
            }
            let mut fields = Fields(event.metadata().level().to_string());
            event.record(&mut fields);
            self.0.lock().unwrap().push(fields.0);
        }
    }

    #[test]
    fn the_journals_layer_meets_each_event_with_all_its_fields() {
        let again = Again::default();
        let journal = Journal { dispatch: Dispatch::new(tracing_subscriber::registry().with(again.clone())) };
        let relay = Relay::start(journal, 8, Arc::new(|| Wall(0))).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(relay.clone()), || {
            warn!(app = "crm", pid = 7u32, back = -1, ok = true, cause = %"x y", "went {}", "away");
            tracing::info!("plain");
        });
        assert!(relay.flush(Duration::from_secs(10)));
        let lines = again.0.lock().unwrap().clone();
        assert_eq!(lines, ["WARN message=went away app=\"crm\" pid=7 back=-1 ok=true cause=x y", "INFO message=plain"]);
    }

    #[test]
    fn blanks_between_the_parts_of_a_level_mean_nothing() {
        let filter = filter("warn , nbsupervisor::gateway=debug").unwrap();
        assert!(filter.would_enable("nbsupervisor::gateway", &tracing::Level::DEBUG));
        assert!(filter.would_enable("nbsupervisor::entry", &tracing::Level::WARN));
        assert!(!filter.would_enable("nbsupervisor::entry", &tracing::Level::INFO));
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        let error = init("a=b=c", Destination::Text, None, Arc::new(|| Wall(0))).err().unwrap();
        assert!(error.to_string().starts_with("\"a=b=c\" is not a log level"), "{error}");
    }
}
