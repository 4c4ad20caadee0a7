//! Visitors of an app that crashes or is restarted under them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use serde_json::json;

use crate::daemon::Daemon;
use crate::eventually::eventually;
use crate::recipes::WEB;

const VISITORS: usize = 4;
const ROUNDS: usize = 8;

/// What visitors saw: first lines of answers, and how many of each.
#[derive(Default)]
struct Seen {
    lines: Mutex<BTreeMap<String, usize>>,
    served: AtomicUsize,
    stop: AtomicBool,
}

impl Seen {
    /// Visits again and again, each time over a new connection, until told to stop.
    fn visit(&self, address: &str) {
        while !self.stop.load(SeqCst) {
            let line = get(address);
            if line == "200" {
                self.served.fetch_add(1, SeqCst);
            }
            *self.lines.lock().unwrap().entry(line).or_default() += 1;
        }
    }

    /// Waits until some more visitors were served.
    fn more(&self) {
        let before = self.served.load(SeqCst);
        eventually("more visitors are served", Duration::from_secs(40), || {
            let served = self.served.load(SeqCst) - before;
            if served >= 3 * VISITORS { Ok(()) } else { Err(format!("{served} of {:?}", self.lines.lock().unwrap())) }
        });
    }
}

/// One visit: `200`, or what was answered instead.
fn get(address: &str) -> String {
    let (read, text) = ask(address, "/apps/site/hello.txt");
    match text.strip_prefix("HTTP/1.1 200 ") {
        Some(rest) if rest.ends_with("first light\n") => "200".into(),
        // The app died between the head of its answer and the end: nobody can take back what was sent.
        Some(_) => "broken off".into(),
        None => format!("{read:?} {text}"),
    }
}

fn ask(address: &str, target: &str) -> (std::io::Result<usize>, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    (read, String::from_utf8_lossy(&answer).into_owned())
}

/// A daemon with one app.
fn site() -> Daemon {
    let daemon = Daemon::start(&[WEB]);
    daemon.cli_ok(&["app", "create", "site", "--runtime", "web", "--start-mode", "manual"]);
    daemon.cli_ok(&["app", "start", "site"]);
    fs::write(daemon.dir().join("state/apps/site/hello.txt"), "first light\n").unwrap();
    daemon
}

/// Has visitors come while `disturb` is done, round after round; what they saw.
fn under_visitors(daemon: &Daemon, mut disturb: impl FnMut()) -> BTreeMap<String, usize> {
    let (seen, address) = (Seen::default(), daemon.gateway());
    std::thread::scope(|scope| {
        for _ in 0..VISITORS {
            scope.spawn(|| seen.visit(&address));
        }
        let rounds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..ROUNDS {
                seen.more();
                disturb();
            }
            seen.more();
        }));
        seen.stop.store(true, SeqCst);
        if let Err(panic) = rounds {
            std::panic::resume_unwind(panic);
        }
    });
    seen.lines.into_inner().unwrap()
}

#[test]
fn a_crash_with_a_quick_restart_is_not_seen_by_visitors() {
    let daemon = site();
    let lines = under_visitors(&daemon, || {
        let pid = daemon.app_pid("site");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
        eventually("it is back with another pid", Duration::from_secs(20), || {
            let app = daemon.app("site");
            let back = app["status"] == "running" && app["instances"][0]["pid"] != json!(pid);
            if back { Ok(()) } else { Err(app.to_string()) }
        });
    });
    println!("{lines:?}");
    let broken_off = lines.get("broken off").copied().unwrap_or(0);
    assert!(broken_off <= ROUNDS * VISITORS, "one answer per visitor and crash at most: {lines:?}");
    assert!(lines.keys().all(|line| line == "200" || line == "broken off"), "{lines:?}\n{}", daemon.log());
}

#[test]
fn a_restart_holds_visitors_and_fails_none() {
    let daemon = site();
    let lines = under_visitors(&daemon, || {
        let pid = daemon.app_pid("site");
        daemon.cli_ok(&["app", "restart", "site"]);
        assert_ne!(daemon.app_pid("site"), pid, "it was restarted");
    });
    println!("{lines:?}");
    let broken_off = lines.get("broken off").copied().unwrap_or(0);
    assert!(broken_off <= ROUNDS * VISITORS, "one answer per visitor and restart at most: {lines:?}");
    assert!(lines.keys().all(|line| line == "200" || line == "broken off"), "{lines:?}\n{}", daemon.log());
}

#[test]
fn the_paths_of_a_recipe_are_known_to_the_gateway() {
    let paths = "shared_paths = [\"/assets/\"]\npaths = [{ path = \"/files/\", rewrite = \"/assets/\" }]\n";
    let recipe = format!("{paths}{}", WEB.1);
    let daemon = Daemon::start(&[(WEB.0, &recipe)]);
    daemon.cli_ok(&["app", "create", "site", "--runtime", "web", "--start-mode", "manual"]);
    daemon.cli_ok(&["app", "start", "site"]);
    let assets = daemon.dir().join("state/apps/site/assets");
    fs::create_dir(&assets).unwrap();
    fs::write(assets.join("hello.txt"), "first light\n").unwrap();
    let get = |target| ask(&daemon.gateway(), target).1;
    for target in ["/assets/hello.txt", "/files/site/hello.txt", "/apps/site/assets/hello.txt"] {
        let answer = get(target);
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("first light\n"), "{target}: {answer}");
    }
    for target in ["/files/other/hello.txt", "/hello.txt"] {
        assert!(get(target).contains("APP_NOT_FOUND"), "{target}");
    }
    daemon.cli_ok(&["app", "stop", "site"]);
    assert!(get("/files/site/hello.txt").contains("APP_STOPPED"));
    assert!(get("/assets/hello.txt").contains("APP_NOT_FOUND"), "nobody has it");
}
