//! A place in an app's log: the journal's cursor of an entry, and where the entry has several lines, how many of them.
//!
//! Written `CURSOR` behind a whole entry, `CURSOR#LINES` within one.

use nbs_core::name::AppId;

use crate::ports::LogError;

/// The journal's cursors have about 130 bytes.
const LENGTH_MAX: usize = 512;
/// What is shown of something that is no cursor.
const SHOWN_MAX: usize = 80;

/// A place behind a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The journal's cursor of the entry.
    pub entry: String,
    /// Lines of the entry that are before this place; all of them if `None`.
    pub lines: Option<usize>,
}

impl Cursor {
    /// The place behind a whole entry.
    pub fn behind(entry: String) -> Self {
        Self { entry, lines: None }
    }

    /// Reads what a client gives back. Whether the journal knows the place is not decided here.
    pub fn parse(app: &AppId, text: &str) -> Result<Self, LogError> {
        let wrong = || LogError::BadCursor { app: app.clone(), cursor: shown(Some(text)) };
        let (entry, lines) = match text.split_once('#') {
            Some((entry, lines)) => (entry, Some(lines.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'=' || byte == b';';
        if entry.is_empty() || text.len() > LENGTH_MAX || !entry.bytes().all(good) {
            return Err(wrong());
        }
        Ok(Self { entry: entry.into(), lines })
    }

    /// How many of the entry's lines come before this place.
    pub fn skip(&self) -> usize {
        self.lines.unwrap_or(usize::MAX)
    }
}

/// As a client gets it: the place behind line `number` of `count`.
pub fn behind_line(entry: &str, number: usize, count: usize) -> String {
    if number == count { entry.into() } else { format!("{entry}#{number}") }
}

/// What was given, shortened.
pub fn shown(text: Option<&str>) -> String {
    text.unwrap_or_default().chars().take(SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let app = AppId::parse("crm").unwrap();
        let entry = "s=710b;i=37;b=aee4;m=7021bd4a;t=660ea194e14c6;x=b433";
        assert_eq!(Cursor::parse(&app, &behind_line(entry, 3, 3)).unwrap(), Cursor::behind(entry.into()));
        let within = Cursor::parse(&app, &behind_line(entry, 2, 3)).unwrap();
        assert_eq!((within.entry.as_str(), within.skip()), (entry, 2));
    }

    #[test]
    fn what_is_no_cursor_is_refused_with_its_beginning() {
        let app = AppId::parse("crm").unwrap();
        let long = "s".repeat(600);
        for text in ["", "#1", "s=1#", "s=1#x", "s=1 --file=/etc/shadow", "--help", "s=1\n", "ä", &long] {
            let error = Cursor::parse(&app, text).unwrap_err();
            let LogError::BadCursor { cursor, .. } = error else { panic!("{error}") };
            assert!(text.starts_with(&cursor) && cursor.len() <= 80);
        }
    }
}
