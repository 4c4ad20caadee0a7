//! Log lines for people, on stderr: `2026-11-21T03:00:00.123Z INFO  nbsupervisor::worker: started app=crm pid=4711`.

use std::fmt::Write as _;
use std::io::Write as _;

use nbs_core::time::Wall;
use tracing::Level;

use super::relay::{Record, Sink};

/// Writes text to stderr.
pub struct Text {
    /// Whether to use colours.
    pub colour: bool,
    /// When the last line was logged.
    pub last: Wall,
}

impl Sink for Text {
    fn write(&mut self, record: &Record) {
        self.last = record.at;
        let line = line(record, self.colour);
        // There is nobody to tell that stderr is gone.
        drop(std::io::stderr().write_all(line.as_bytes()));
    }

    fn dropped(&mut self, count: u64) {
        let at = time(self.last);
        let text =
            format!("{at} WARN  nbsupervisor: {count} log lines dropped: they come faster than they are written\n");
        drop(std::io::stderr().write_all(text.as_bytes()));
    }
}

/// One record as one line, whatever its texts contain.
pub fn line(record: &Record, colour: bool) -> String {
    let mut line = String::with_capacity(160);
    let paint = |code: &'static str| if colour { code } else { "" };
    let (dim, reset) = (paint("\x1b[2m"), paint("\x1b[0m"));
    let (level, level_paint) = match *record.metadata.level() {
        Level::ERROR => ("ERROR", paint("\x1b[31m")),
        Level::WARN => ("WARN ", paint("\x1b[33m")),
        Level::INFO => ("INFO ", paint("\x1b[32m")),
        Level::DEBUG => ("DEBUG", paint("\x1b[34m")),
        Level::TRACE => ("TRACE", paint("\x1b[35m")),
    };
    let target = record.metadata.target();
    line.push_str(&format!("{dim}{}{reset} {level_paint}{level}{reset} {dim}{target}:{reset}", time(record.at)));
    let message = record.fields.iter().find(|(field, _)| field.name() == "message");
    if let Some((_, message)) = message {
        line.push(' ');
        push_clean(&mut line, &message.to_string(), false);
    }
    for (field, value) in record.fields.iter().filter(|(field, _)| field.name() != "message") {
        let _ = write!(line, " {dim}{}={reset}", field.name());
        push_clean(&mut line, &value.to_string(), true);
    }
    line.push('\n');
    line
}

/// Adds a text with its control characters escaped: no value can forge a line or paint the terminal.
fn push_clean(line: &mut String, text: &str, quote: bool) {
    let quoted = quote && (text.is_empty() || text.contains(|c: char| c.is_whitespace() || c == '"' || c == '='));
    if quoted {
        line.push('"');
    }
    for c in text.chars() {
        match c {
            '"' | '\\' if quoted => line.extend(['\\', c]),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    if quoted {
        line.push('"');
    }
}

/// RFC 3339 in UTC with milliseconds.
fn time(at: Wall) -> String {
    let moment = i64::try_from(at.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    format!("{moment:.3}")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tracing_subscriber::layer::SubscriberExt;

    use super::super::relay::Relay;
    use super::*;

    struct Kept(Arc<Mutex<String>>, bool);

    impl Sink for Kept {
        fn write(&mut self, record: &Record) {
            self.0.lock().unwrap().push_str(&line(record, self.1));
        }
        fn dropped(&mut self, _: u64) {}
    }

    fn logged(colour: bool, log: impl FnOnce()) -> String {
        let kept = Arc::new(Mutex::new(String::new()));
        let relay = Relay::start(Kept(kept.clone(), colour), 8, Arc::new(|| Wall(7))).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(relay.clone()), log);
        assert!(relay.flush(Duration::from_secs(10)));
        kept.lock().unwrap().clone()
    }

    #[test]
    fn a_record_is_one_line_with_message_and_fields() {
        let text = logged(false, || {
            tracing::warn!(target: "nbsupervisor::worker", app = "crm", pid = 7, why = "a \"b\"\nc", "it\nended");
        });
        let (time, rest) = text.split_once(' ').unwrap();
        assert_eq!(time, "1970-01-01T00:00:00.007Z");
        assert_eq!(rest, "WARN  nbsupervisor::worker: it\\nended app=crm pid=7 why=\"a \\\"b\\\"\\nc\"\n");
    }

    #[test]
    fn colours_are_used_when_asked_for_only() {
        assert!(!logged(false, || tracing::info!("x")).contains('\x1b'));
        assert!(logged(true, || tracing::info!("x")).contains("\x1b[32mINFO"));
    }

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(time(Wall(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(Wall(1_795_230_000_120)), "2026-11-21T03:00:00.120Z");
        assert_eq!(time(Wall(u64::MAX)), "1970-01-01T00:00:00.000Z");
    }
}
