//! The addresses of environments: `http://HOST:PORT` and nothing behind it, and how a URL is shown without its secrets.
//!
//! A visitor's path and `Host` travel unchanged to a worker, so an address with a path of its own could not be honoured.
//! Deliberately absent: asking whether anything answers there.

use std::net::{IpAddr, Ipv6Addr};

use super::reader::Complaint;

/// A URL without its final slash; the empty text is none.
pub fn address(text: &str) -> Result<Option<String>, Complaint> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |what: &str, hint: &str| Err(Complaint::new(format!("{:?} {what}", mask(text)), hint));
    let usual = "write http://HOST:PORT, such as http://10.0.0.2:13000";
    let rest = match text.split_once("://") {
        Some(("http" | "https", rest)) => rest,
        _ => return wrong("is not a URL", usual),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    // A password with a slash in it looks like a path, so this comes first, and it is told without the text.
    if rest.contains('@') {
        let text = "a user or password in it would be seen by every host of the fleet";
        return Err(Complaint::new(text, usual));
    }
    if !matches!(tail, "" | "/") {
        return wrong("has something behind the host", usual);
    }
    let Some((host, port)) = split_host(authority) else { return wrong("is not a URL", usual) };
    if host.is_empty() || port.is_some_and(|port| !matches!(port.parse::<u16>(), Ok(1..))) {
        return wrong("is not a URL", usual);
    }
    if !is_host(host) {
        return wrong("has no host that could be", usual);
    }
    if is_wildcard(host) {
        return wrong("means every address of a host, which nobody can connect to", usual);
    }
    Ok(Some(text.trim_end_matches('/').to_string()))
}

/// `host:port` in its parts; the brackets of an IPv6 address stay. `None` if a bracket is not closed.
pub fn split_host(authority: &str) -> Option<(&str, Option<&str>)> {
    let end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    match &authority[end..] {
        "" => Some((&authority[..end], None)),
        port => Some((&authority[..end], Some(port.strip_prefix(':')?))),
    }
}

/// Whether it is a name, an IPv4 address, or an IPv6 address in brackets.
pub fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || "-._".contains(c)),
    }
}

/// Whether it stands for every address of a host.
pub fn is_wildcard(host: &str) -> bool {
    ip(host).is_some_and(|address| address.is_unspecified())
}

fn ip(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Whether an address that was checked is one with TLS.
pub fn is_https(url: &str) -> bool {
    url.starts_with("https://")
}

/// Whether an address that was checked leads to the host itself.
pub fn is_loopback(url: &str) -> bool {
    let host = url.split_once("://").and_then(|(_, rest)| split_host(rest)).map_or("", |(host, _)| host);
    ip(host).map_or(host.eq_ignore_ascii_case("localhost"), |address| address.is_loopback())
}

/// A text that may be a URL, with everything that may be a user or a password replaced by `***`.
pub fn mask(text: &str) -> String {
    let start = text.find("://").map_or(0, |at| at + 3);
    // The last @ of all: a password that was not encoded may hold any character.
    match text.rfind('@').filter(|at| *at >= start) {
        Some(at) => format!("{}***{}", &text[..start], &text[at..]),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        address(text).unwrap_err().text
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        assert_eq!(address("http://10.0.0.2:13000/"), Ok(Some("http://10.0.0.2:13000".into())));
        assert_eq!(address("https://[fd00::1]:80"), Ok(Some("https://[fd00::1]:80".into())));
        assert_eq!(address("http://env-a.example"), Ok(Some("http://env-a.example".into())));
        assert_eq!(address(""), Ok(None));
        for bad in
            ["10.0.0.2:13000", "http://", "http://:80", "http://a:port", "http://a b", "ftp://a", "http://a:99999"]
        {
            assert!(address(bad).is_err(), "{bad}");
        }
        for bad in ["http://a:0", "http://a:", "http://[::1", "http://[::1]80", "http://[x]", "http://fd00::1"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_honoured_is_refused() {
        for bad in ["http://a/base", "http://a?x=1", "http://a#x", "http://a//"] {
            assert_eq!(complaint(bad), format!("{bad:?} has something behind the host"));
        }
        for bad in ["http://0.0.0.0:13000", "http://[::]:80"] {
            assert!(complaint(bad).ends_with("means every address of a host, which nobody can connect to"), "{bad}");
        }
    }

    #[test]
    fn no_password_comes_into_a_message() {
        for bad in [
            "http://ada:s3cret@host",
            "http://:s3c/ret@host",
            "ada:s3cret@host",
            "ftp://ada:s3cret@h",
            "https://s3cret@x:y",
        ] {
            let complaint = address(bad).unwrap_err();
            assert!(!complaint.text.contains("s3c") && !complaint.hint.contains("s3c"), "{complaint:?}");
        }
        assert_eq!(mask("http://ada:secret@host/x"), "http://***@host/x");
        assert_eq!(mask("redis://:se/cr@et@host/x"), "redis://***@host/x");
        assert_eq!(mask("http://host/x"), "http://host/x");
    }

    #[test]
    fn loopback_is_known() {
        for own in
            ["http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:1", "http://localhost:1", "http://LocalHost"]
        {
            assert!(is_loopback(own), "{own}");
        }
        for other in ["http://10.0.0.1:1", "http://[fd00::1]:1", "http://localhost.example"] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
