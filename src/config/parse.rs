//! From a text in the configuration to its meaning, one function for each kind of value.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use nbs_core::quantity::{ByteSize, format_duration, parse_duration};
use nbs_core::recipe::Adapter;

use super::reader::Complaint;
use super::settings::LogFormat;
use super::web;
use nbs_core::nearest::suggestion;
use nbs_core::network::Network;

/// The longest path of a unix socket that Linux takes, its final NUL aside.
pub const SOCKET_PATH_MAX: usize = 107;

/// One of a few words.
pub fn word<T: Copy>(text: &str, what: &str, words: &[(&str, T)]) -> Result<T, Complaint> {
    match words.iter().find(|(word, _)| *word == text) {
        Some((_, meaning)) => Ok(*meaning),
        None => {
            let hint = suggestion(text, words.iter().map(|(word, _)| *word));
            Err(Complaint::new(format!("{:?} is not {what}", web::mask(text)), hint))
        }
    }
}

pub fn log_format(text: &str) -> Result<LogFormat, Complaint> {
    word(text, "a format", &[("auto", LogFormat::Auto), ("journal", LogFormat::Journal), ("text", LogFormat::Text)])
}

pub fn adapter_or_auto(text: &str) -> Result<Option<Adapter>, Complaint> {
    let known = [("auto", None), ("systemd", Some(Adapter::Systemd)), ("process", Some(Adapter::Process))];
    word(text, "an adapter", &known)
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// `info`, or `info,nbsupervisor::gateway=debug`.
pub fn log_level(text: &str) -> Result<String, Complaint> {
    for part in text.split(',').map(str::trim) {
        let (target, level) = part.rsplit_once('=').unwrap_or(("", part));
        if !LEVELS.contains(&level.to_lowercase().as_str()) {
            return Err(Complaint::new(format!("{level:?} is not a level"), suggestion(level, LEVELS)));
        }
        if !target.chars().all(|c| c.is_ascii_alphanumeric() || "_:-".contains(c)) {
            let hint = "write a module's path, such as nbsupervisor::gateway=debug";
            return Err(Complaint::new(format!("{target:?} is not a target"), hint));
        }
    }
    Ok(text.to_string())
}

pub fn directory(text: &str) -> Result<PathBuf, Complaint> {
    absolute(text, "a directory", "write an absolute path, such as /var/lib/nbsupervisor")
}

pub fn socket(text: &str) -> Result<PathBuf, Complaint> {
    if text.len() > SOCKET_PATH_MAX {
        let hint = format!("write a path of at most {SOCKET_PATH_MAX} bytes");
        return Err(Complaint::new(format!("{text:?} is too long for a unix socket"), hint));
    }
    absolute(text, "a socket's path", "write an absolute path, such as /run/nbsupervisor/admin.sock")
}

fn absolute(text: &str, what: &str, hint: &str) -> Result<PathBuf, Complaint> {
    let path = PathBuf::from(text);
    if path.is_absolute() && !text.contains('\0') {
        // A slash at the end would make `<dir>-apps` another directory.
        Ok(path.components().collect())
    } else {
        Err(Complaint::new(format!("{text:?} is not {what}"), hint))
    }
}

/// An address to listen on; the empty text is none.
pub fn listen(text: &str) -> Result<Option<SocketAddr>, Complaint> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let hint = "write ADDRESS:PORT, such as 127.0.0.1:13001 or [::]:13001, or \"\" for off";
        Complaint::new(format!("{text:?} is not an address to listen on"), hint)
    })
}

pub fn network(text: &str) -> Result<Network, Complaint> {
    Network::parse(text).ok_or_else(|| {
        let hint = "write an IP address or a network, such as 10.0.0.0/8";
        Complaint::new(format!("{text:?} is not a network"), hint)
    })
}

/// A duration within bounds.
pub fn duration(bounds: RangeInclusive<Duration>) -> impl Fn(&str) -> Result<Duration, Complaint> {
    move |text| {
        let duration = parse_duration(text)?;
        if bounds.contains(&duration) {
            return Ok(duration);
        }
        let (low, high) = (format_duration(*bounds.start()), format_duration(*bounds.end()));
        Err(Complaint::new(format!("{text:?} is out of range"), format!("write a duration from {low} to {high}")))
    }
}

/// A duration within bounds, or `0s` for off.
pub fn duration_or_off(bounds: RangeInclusive<Duration>) -> impl Fn(&str) -> Result<Option<Duration>, Complaint> {
    let within = duration(bounds);
    move |text| match parse_duration(text)? {
        Duration::ZERO => Ok(None),
        _ => within(text).map(Some).map_err(|c| Complaint::new(c.text, format!("{}, or 0s for off", c.hint))),
    }
}

/// The size of a log file; below 64K it would rotate all the time.
pub fn log_size(text: &str) -> Result<ByteSize, Complaint> {
    let size = ByteSize::parse(text)?;
    if size < ByteSize(64 << 10) {
        return Err(Complaint::new(format!("{text:?} is too small"), "write at least 64K"));
    }
    Ok(size)
}

pub fn port_range(text: &str) -> Result<RangeInclusive<u16>, Complaint> {
    let port = |digits: &str| digits.trim().parse::<u16>().ok().filter(|port| *port > 0);
    let range = text.split_once('-').and_then(|(low, high)| Some(port(low)?..=port(high)?));
    range.filter(|range| !range.is_empty()).ok_or_else(|| {
        Complaint::new(format!("{text:?} is not a range of ports"), "write LOW-HIGH, such as 20000-29999")
    })
}

/// A time zone's name for `TZ`; the empty text is none. Which zones there are is the host's business.
pub fn time_zone(text: &str) -> Result<Option<String>, Complaint> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > 255 || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        let hint = "write a name such as Europe/Berlin or UTC";
        return Err(Complaint::new(format!("{text:?} is not a time zone"), hint));
    }
    Ok(Some(text.to_string()))
}

/// A file's path; the empty text is none.
pub fn optional_file(text: &str) -> Result<Option<PathBuf>, Complaint> {
    if text.is_empty() { Ok(None) } else { file(text).map(Some) }
}

/// A file's path.
pub fn file(text: &str) -> Result<PathBuf, Complaint> {
    absolute(text, "a file's path", "write an absolute path, such as /etc/nbsupervisor/redis.password")
}

/// A duration within bounds, or `never`.
pub fn duration_or_never(bounds: RangeInclusive<Duration>) -> impl Fn(&str) -> Result<Option<Duration>, Complaint> {
    let within = duration(bounds);
    move |text| match text {
        "never" => Ok(None),
        _ => within(text).map(Some).map_err(|c| Complaint::new(c.text, format!("{}, or never", c.hint))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_words_or_parts() {
        for good in ["info", "info,nbsupervisor::gateway=debug", "warn, hyper=off", "DEBUG"] {
            assert!(log_level(good).is_ok(), "{good}");
        }
        let complaint = log_level("inof").unwrap_err();
        assert_eq!(
            (complaint.text.as_str(), complaint.hint.as_str()),
            ("\"inof\" is not a level", "did you mean info?")
        );
    }

    #[test]
    fn port_ranges_have_two_ends() {
        assert_eq!(port_range("20000-29999"), Ok(20000..=29999));
        for bad in ["", "20000", "2-1", "0-10", "1-70000", "a-b"] {
            assert!(port_range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_duration_out_of_bounds_names_them() {
        let complaint = duration_or_off(Duration::from_secs(1)..=Duration::from_secs(60))("5m").unwrap_err();
        assert_eq!(complaint.hint, "write a duration from 1s to 1m, or 0s for off");
        assert_eq!(duration_or_off(Duration::from_secs(1)..=Duration::from_secs(60))("0s"), Ok(None));
    }
}
