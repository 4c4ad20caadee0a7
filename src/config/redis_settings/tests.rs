//! What a URL of Redis may be, and that no part of one that is wrong comes into a message.

use super::*;

fn target(text: &str) -> RedisTarget {
    url(text).unwrap().unwrap()
}

fn tcp_address(host: &str, port: u16, tls: bool) -> RedisAddress {
    RedisAddress::Tcp { host: host.into(), port, tls }
}

#[test]
fn a_url_has_its_parts() {
    assert_eq!(url(""), Ok(None));
    let plain = target("redis://10.0.0.1");
    assert_eq!((plain.address, plain.database), (tcp_address("10.0.0.1", 6379, false), 0));
    assert_eq!((plain.username, plain.password), (None, None));
    let full = target("rediss://ada:p%40s%3As@redis.example:7000/3");
    assert_eq!((full.address, full.database), (tcp_address("redis.example", 7000, true), 3));
    assert_eq!((full.username.as_deref(), full.password), (Some("ada"), Some(SecretText::new("p@s:s"))));
    let odd = target("redis://:a:b@c%zz@[fd00::1]:1/");
    assert_eq!((odd.address, odd.password), (tcp_address("fd00::1", 1, false), Some(SecretText::new("a:b@c%zz"))));
}

#[test]
fn a_unix_socket_has_its_parts() {
    for text in ["unix:///run/redis.sock", "redis+unix:///run/redis.sock"] {
        assert_eq!(target(text).address, RedisAddress::Unix("/run/redis.sock".into()));
    }
    let full = target("redis+unix:///run/redis.sock?db=2&user=ada&pass=s3%26cret");
    assert_eq!((full.database, full.username.as_deref()), (2, Some("ada")));
    assert_eq!(full.password, Some(SecretText::new("s3&cret")));
    for bad in ["unix://run/redis.sock", "unix:///", "unix:///x?db=a", "unix:///x?s3cret", "unix:///x?password=s3cret"]
    {
        assert!(!url(bad).unwrap_err().text.contains("s3cret"), "{bad}");
    }
}

#[test]
fn what_is_shown_has_no_password_and_means_the_same_server() {
    let cases = [
        ("redis://h", "redis://h:6379"),
        ("rediss://ada:s3cret@[::1]:7/2", "rediss://ada:***@[::1]:7/2"),
        ("redis://:s3cret@h", "redis://:***@h:6379"),
        ("redis://ada@h", "redis://ada@h:6379"),
        ("unix:///run/r.sock", "redis+unix:///run/r.sock"),
        ("unix:///run/r.sock?pass=s3cret&db=1&user=ada", "redis+unix:///run/r.sock?db=1&user=ada&pass=***"),
    ];
    for (given, expected) in cases {
        assert_eq!(shown(given), expected);
        let again = target(expected);
        let first = target(given);
        assert_eq!((again.address, again.database, again.username), (first.address, first.database, first.username));
        assert!(!format!("{:?}", target(given)).contains("s3cret"));
    }
}

#[test]
fn a_url_that_is_wrong_is_told_by_its_part_and_never_shown() {
    let cases = [
        ("s3cret@h", "it begins with no scheme"),
        ("http://:s3cret@h", "its scheme is another one"),
        ("redis://", "there is no host"),
        ("redis://:s3cret@", "there is no host"),
        ("redis://:s3cret", "there is no host"),
        ("redis://h:s3cret", "the port is not a number from 1 to 65535"),
        ("redis://h:0", "the port is not a number from 1 to 65535"),
        ("redis://h/s3cret", "what is behind the host is not the number of a database"),
        ("redis://:s3/cret@h", "the user or the password has a /, ? or # in it"),
        ("redis://:s3cret#@h", "the user or the password has a /, ? or # in it"),
        ("redis://:s3cret@h?family=4", "nothing is understood behind a ?"),
        ("rediss://:s3cret@h/#insecure", "a certificate is always checked"),
        ("redis://:s3cret@0.0.0.0", "its host means every address of a host, which nobody can connect to"),
        ("redis://:s3cret@[::]:1", "its host means every address of a host, which nobody can connect to"),
        ("redis://:s3cret@a b", "the host is none that could be"),
        ("redis://:s3cret@[::1", "the part with the host is odd"),
    ];
    for (bad, part) in cases {
        let complaint = url(bad).unwrap_err();
        assert_eq!(complaint.text, format!("this is not a URL of Redis: {part}"), "{bad}");
        assert!(!complaint.hint.contains("s3") && !complaint.hint.is_empty(), "{bad}: {}", complaint.hint);
    }
    assert_eq!(url("redsi://h").unwrap_err().hint, "did you mean redis://?");
}

#[test]
fn a_url_of_any_text_is_read_or_refused() {
    for text in [
        "redis://%",
        "redis://%f",
        "redis://@",
        "redis://@@h",
        "redis://[",
        "redis://:@h",
        "unix://?",
        "://",
        "redis://%ff:x@h",
    ] {
        let _ = url(text);
    }
    assert!(url("redis://%ff:x@h").unwrap_err().text.contains("UTF-8"));
    assert_eq!(target("redis://:@h").password, None);
}
