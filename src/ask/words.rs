//! Words of apps and of the system, made fit to be shown: one line, bounded, nothing that moves a terminal's cursor.

use std::io;

/// Characters of an app's progress or of what was seen of its answer.
pub const SEEN_MAX: usize = 200;

/// Drops control characters and surrounding white space, and cuts after `max` characters.
pub fn tame(text: &str, max: usize) -> String {
    let plain: String = text.trim().chars().filter(|c| !c.is_control()).take(max).collect();
    plain.trim_end().to_string()
}

/// An error of the system without its number.
pub fn of_io(error: &io::Error) -> String {
    let text = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_string(),
        io::ErrorKind::ConnectionReset => "connection reset".to_string(),
        io::ErrorKind::NotFound => "the socket is not there".to_string(),
        _ => error.to_string(),
    };
    let end = text.find(" (os error").unwrap_or(text.len());
    tame(&text[..end], SEEN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_apps_words_cannot_move_the_cursor() {
        assert_eq!(tame(" \u{1b}[2Jload\nplugin\t ", 200), "[2Jloadplugin");
        assert_eq!(tame("äbc def", 4), "äbc");
    }

    #[test]
    fn an_error_has_no_number() {
        assert_eq!(of_io(&io::Error::from_raw_os_error(111)), "connection refused");
        assert_eq!(of_io(&io::Error::from_raw_os_error(13)), "Permission denied");
    }
}
