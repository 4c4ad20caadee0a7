//! What the user reads: data on stdout, talk on stderr. A reader that goes away (`| head`) ends the run silently.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use anstream::ColorChoice;
use comfy_table::{Table, presets};
use nbs_core::quantity::format_duration;
use serde_json::value::RawValue;

use super::exit::{Exit, Failure, Outcome};

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// The API's own JSON, for programs.
    Json,
}

/// The way to the user.
#[derive(Debug)]
pub struct Out {
    /// How data is written.
    pub format: Format,
    quiet: bool,
    progress: bool,
}

impl Out {
    /// Opens it.
    pub fn new(format: Format, no_color: bool, quiet: bool) -> Self {
        if no_color {
            ColorChoice::Never.write_global();
        }
        Self { format, quiet, progress: !quiet && io::stderr().is_terminal() }
    }

    /// Whether programs read.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes data.
    ///
    /// # Errors
    /// Nobody reads any more (which ends the run with 0), or the output is full.
    pub fn data(&self, text: impl AsRef<[u8]>) -> Outcome {
        let mut out = io::stdout().lock();
        let bytes = text.as_ref();
        let end: &[u8] = if bytes.is_empty() || bytes.ends_with(b"\n") { b"" } else { b"\n" };
        out.write_all(bytes).and_then(|()| out.write_all(end)).and_then(|()| out.flush()).map_err(written)
    }

    /// Writes a table, or what to do next where there is nothing.
    ///
    /// # Errors
    /// As `data`.
    pub fn table(&self, header: &[&str], rows: Vec<Vec<String>>, empty: &str) -> Outcome {
        if rows.is_empty() {
            self.say(empty);
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header.iter().copied()).add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 3));
        }
        self.data(table.trim_fmt())
    }

    /// Talks, unless told to be quiet.
    pub fn say(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.clear();
            let _ = writeln!(anstream::stderr(), "{}", text.as_ref());
        }
    }

    /// Warns, quiet or not.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.clear();
        let _ = writeln!(anstream::stderr(), "\x1b[33mwarning:\x1b[0m {}", text.as_ref());
    }

    /// Tells a failure, quiet or not.
    pub fn fail(&self, failure: &Failure) {
        if failure.text.is_empty() {
            return;
        }
        self.clear();
        let mut err = anstream::stderr().lock();
        let _ = writeln!(err, "\x1b[31merror:\x1b[0m {}", failure.text);
        if let Some(hint) = &failure.hint {
            let _ = writeln!(err, " hint: {hint}");
        }
    }

    /// Shows where a wait is, on a terminal only; the next line takes its place.
    pub fn progress(&self, text: &str) {
        if self.progress {
            let text: String = text.chars().take(110).collect();
            let _ = write!(io::stderr(), "\r\x1b[K{text}");
        }
    }

    /// Whether progress is shown.
    pub fn shows_progress(&self) -> bool {
        self.progress
    }

    fn clear(&self) {
        if self.progress {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }

    /// Asks; without somebody to ask, says how to answer beforehand.
    ///
    /// # Errors
    /// Nobody can answer, or the answer was no.
    pub fn confirm(&self, question: &str, yes: bool) -> Outcome {
        if yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::usage(format!("{question} nobody can answer here"), "say --yes if that is meant"));
        }
        let _ = write!(io::stderr(), "{question} [y/N] ");
        let mut answer = String::new();
        let _ = io::stdin().lock().read_line(&mut answer);
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Failure::new(Exit::Refused, "nothing was changed")),
        }
    }
}

/// An age or a length of time for people: whole seconds.
pub fn seconds(ms: u64) -> String {
    format_duration(Duration::from_secs(ms / 1000))
}

/// So many of a thing, in its right number.
pub fn count(number: impl Into<u64>, thing: &str) -> String {
    let number = number.into();
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Joins pages: one array under `key`, and no further cursor.
pub fn join_pages(key: &str, items: &[Box<RawValue>]) -> String {
    let items: Vec<&str> = items.iter().map(|item| item.get()).collect();
    format!("{{\"{key}\":[{}],\"next_cursor\":null}}", items.join(","))
}

/// A closed pipe is the reader's wish, no failure.
fn written(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::told(Exit::Done),
        _ => Failure::new(Exit::Failed, format!("the output cannot be written: {error}")),
    }
}
