//! Listeners outlive the daemon, and only as long as the configuration wants them.

use std::fs;
use std::net::TcpStream;

use crate::host::{Host, answer, ask, ask_unix};

const ANY: &[&str] = &["gateway.listen=127.0.0.1:0", "admin.listen=127.0.0.1:0"];

#[test]
fn who_knocks_while_no_daemon_runs_is_served_by_the_next_one() {
    let mut host = Host::new();
    for end in [Host::kill9 as fn(&mut Host), Host::stop] {
        host.start(ANY, &[]);
        let names = host.kept();
        assert_eq!(names.len(), 3, "each listener is kept once: {names:?}");
        assert!(names[0] == "admin-tcp" && names[1].starts_with("admin-unix-") && names[2] == "gateway", "{names:?}");
        let (gateway, admin, socket) =
            (host.address("gateway.addr"), host.address("admin.addr"), host.path("run/admin.sock"));
        end(&mut host);
        let visitors = [ask(&gateway, "/apps/nobody/"), ask(&gateway, "/nowhere")];
        let (over_tcp, over_unix) = (ask(&admin, "/healthz"), ask_unix(&socket, "/readyz"));
        host.start(ANY, &[]);
        assert_eq!((host.address("gateway.addr"), host.address("admin.addr")), (gateway, admin));
        for visitor in visitors {
            let answer = answer(visitor);
            assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        }
        assert!(answer(over_tcp).starts_with("HTTP/1.1 200"));
        assert!(answer(over_unix).starts_with("HTTP/1.1 200"));
        host.stop();
    }
}

#[test]
fn a_listener_that_the_configuration_no_longer_wants_is_closed() {
    let mut host = Host::new();
    host.start(ANY, &[]);
    let (gateway, admin) = (host.address("gateway.addr"), host.address("admin.addr"));
    host.stop();
    let moved = gateway.replace("127.0.0.1", "0.0.0.0");
    host.start(&[&format!("gateway.listen={moved}"), "admin.listen="], &[]);
    assert_eq!(host.address("gateway.addr"), moved, "the same port could be bound on all addresses");
    let names = host.kept();
    assert!(names.len() == 2 && names[0].starts_with("admin-unix-") && names[1] == "gateway", "{names:?}");
    assert!(TcpStream::connect(admin).is_err(), "nobody listens there any more");
    assert!(answer(ask(&gateway, "/nowhere")).starts_with("HTTP/1.1 404"));
}

#[test]
fn a_socket_file_that_is_gone_is_made_anew() {
    let mut host = Host::new();
    host.start(ANY, &[]);
    let before = host.kept();
    host.stop();
    fs::remove_file(host.path("run/admin.sock")).unwrap();
    host.start(ANY, &[]);
    assert!(answer(ask_unix(&host.path("run/admin.sock"), "/readyz")).starts_with("HTTP/1.1 200"));
    let after = host.kept();
    assert!(after.len() == 3 && after[1] != before[1], "{before:?} {after:?}");
}

#[test]
fn the_daemon_passes_no_listener_on() {
    let mut host = Host::new();
    host.start(ANY, &[]);
    host.stop();
    host.start(ANY, &[]);
    for entry in fs::read_dir(format!("/proc/{}/fdinfo", host.pid())).unwrap() {
        let entry = entry.unwrap();
        let number: u32 = entry.file_name().to_str().unwrap().parse().unwrap();
        let target = fs::read_link(format!("/proc/{}/fd/{number}", host.pid())).unwrap_or_default();
        if number < 3 || !target.to_string_lossy().starts_with("socket:") {
            continue;
        }
        let info = fs::read_to_string(entry.path()).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let flags = u32::from_str_radix(flags, 8).unwrap();
        assert_ne!(flags & 0o2_000_000, 0, "descriptor {number} ({}) would be inherited", target.display());
    }
}
