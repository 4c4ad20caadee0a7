//! `app logs`: the last lines, and on by `-f`, over a restart of the daemon too.

use std::collections::VecDeque;

use super::show::path;
use crate::cli::Session;
use crate::cli::client::with_query;
use crate::cli::exit::Outcome;
use crate::cli::stream::{Lines, open};
use crate::wire::api::log::LogLine;

/// Lines remembered to find the place again after the daemon was away.
const REMEMBERED: usize = 50;
/// Lines asked for then.
const MISSED: usize = 1000;
const NDJSON: &str = "application/x-ndjson";

#[derive(Debug, clap::Args)]
pub struct LogsArgs {
    /// Which app
    name: String,
    /// Go on as lines come
    #[arg(short, long)]
    follow: bool,
    /// How many lines from the end
    #[arg(short = 'n', long, value_name = "NUMBER")]
    lines: Option<usize>,
    /// Since a moment, or a duration back, such as 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Of this instance
    #[arg(long, visible_alias = "env", value_name = "NAME")]
    environment: Option<String>,
    /// Show when each line came, where the log keeps it
    #[arg(short, long)]
    timestamps: bool,
}

impl LogsArgs {
    fn query(&self, lines: Option<usize>, since: Option<&String>, follow: bool) -> String {
        self.query_after(lines, since, None, follow)
    }

    fn query_after(
        &self,
        lines: Option<usize>,
        since: Option<&String>,
        cursor: Option<&String>,
        follow: bool,
    ) -> String {
        let query = [
            ("lines", lines.map(|lines| lines.to_string())),
            ("since", since.cloned()),
            ("cursor", cursor.cloned()),
            ("environment", self.environment.clone()),
            ("follow", follow.then(|| "true".into())),
        ];
        with_query(&format!("{}/logs", path(&self.name)), &query)
    }
}

pub async fn run(session: &mut Session, args: LogsArgs) -> Outcome {
    let first = args.query(args.lines, args.since.as_ref(), args.follow);
    if !args.follow {
        let answer = session.client.get(&first).await?;
        let printed = show(session, &args, answer.text.split(|byte| *byte == b'\n'))?;
        if printed.is_empty() {
            session.out.say(format!("{} wrote nothing yet", args.name));
        }
        return Ok(());
    }
    let mut shown = Shown::default();
    // The daemon must be there at first; later it is waited for.
    let mut body = session.client.stream(&first, NDJSON, &[]).await?;
    loop {
        let mut lines = Lines::new(body);
        while let Some(line) = lines.next().await {
            let mut batch = vec![line];
            while lines.has_more() {
                batch.extend(lines.next().await);
            }
            shown.remember(show(session, &args, batch.iter().map(String::as_bytes))?);
        }
        session.out.say("the daemon went away; waiting for it …");
        if let Some(cursor) = shown.cursor.clone() {
            // The log knows the place; nothing is shown twice and nothing left out.
            body = open(session, &args.query_after(None, None, Some(&cursor), true), NDJSON, &[]).await?;
            session.out.say("the daemon is back");
            continue;
        }
        body = open(session, &args.query(Some(0), None, true), NDJSON, &[]).await?;
        session.out.say("the daemon is back");
        let answer = session.client.get(&args.query(Some(MISSED), None, false)).await?;
        let all: Vec<&[u8]> = answer.text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        let texts: Vec<String> = all.iter().map(|line| text(line)).collect();
        let from = resume_at(&texts, &shown.texts);
        shown.remember(show(session, &args, all[from..].iter().copied())?);
    }
}

/// What was shown last.
#[derive(Default)]
struct Shown {
    texts: VecDeque<String>,
    /// The place behind the last line that has one.
    cursor: Option<String>,
}

impl Shown {
    fn remember(&mut self, lines: Vec<LogLine>) {
        for line in lines {
            self.texts.push_back(line.text);
            self.cursor = line.cursor.or(self.cursor.take());
        }
        let excess = self.texts.len().saturating_sub(REMEMBERED);
        self.texts.drain(..excess);
    }
}

/// Where the lines begin that were not shown: after the last place where all remembered ones stand in a row.
fn resume_at(all: &[String], shown: &VecDeque<String>) -> usize {
    if shown.is_empty() {
        return 0;
    }
    (shown.len()..=all.len()).rev().find(|end| all[end - shown.len()..*end].iter().eq(shown.iter())).unwrap_or(0)
}

fn text(line: &[u8]) -> String {
    serde_json::from_slice::<LogLine>(line).map(|line| line.text).unwrap_or_default()
}

/// Prints lines as told, and gives them back.
fn show<'a>(session: &Session, args: &LogsArgs, lines: impl Iterator<Item = &'a [u8]>) -> Outcome<Vec<LogLine>> {
    let mut out = Vec::new();
    let mut shown = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let Ok(parsed) = serde_json::from_slice::<LogLine>(line) else { continue };
        if session.out.is_json() {
            out.extend_from_slice(line);
        } else {
            if let Some(at) = parsed.at.as_ref().filter(|_| args.timestamps) {
                out.extend_from_slice(at.as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(parsed.text.as_bytes());
        }
        out.push(b'\n');
        shown.push(parsed);
    }
    session.out.data(out)?;
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_place_is_kept_and_so_are_the_last_texts() {
        let line = |number: usize, cursor: Option<&str>| LogLine {
            at: None,
            text: number.to_string(),
            cursor: cursor.map(String::from),
        };
        let mut shown = Shown::default();
        shown.remember((0..REMEMBERED).map(|number| line(number, Some("s=1"))).collect());
        // A word of the reader's own has no place.
        shown.remember(vec![line(REMEMBERED, Some("s=2")), line(REMEMBERED + 1, None)]);
        assert_eq!(
            (shown.texts.len(), shown.texts[0].as_str(), shown.cursor.as_deref()),
            (REMEMBERED, "2", Some("s=2"))
        );
    }

    #[test]
    fn after_a_gap_the_log_goes_on_where_it_was_left() {
        let all: Vec<String> = ["a", "b", "a", "b", "c"].map(String::from).into();
        let shown = |lines: &[&str]| lines.iter().map(|line| line.to_string()).collect::<VecDeque<_>>();
        assert_eq!(resume_at(&all, &shown(&["a", "b"])), 4);
        assert_eq!(resume_at(&all, &shown(&["b", "c"])), 5);
        assert_eq!(resume_at(&all, &shown(&["x"])), 0);
        assert_eq!(resume_at(&all, &shown(&[])), 0);
    }
}
