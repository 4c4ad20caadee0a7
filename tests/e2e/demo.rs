//! The demo as a newcomer meets it: it says where things are, they are there, and nothing is left afterwards.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::daemon::binary;
use crate::eventually::eventually;

/// A demo that a test started, in a temporary directory of its own.
struct Demo {
    child: Child,
    temp: tempfile::TempDir,
}

impl Demo {
    fn start() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let file = |name: &str| fs::File::create(temp.path().join(name)).unwrap();
        let mut command = Command::new(binary());
        command.arg("demo").env("TMPDIR", temp.path()).stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
        let demo = Self { child: command.spawn().unwrap(), temp };
        eventually("the demo told everything", Duration::from_secs(30), || {
            let out = demo.out();
            if out.contains("static is running") { Ok(()) } else { Err(format!("{out}\n{}", demo.err())) }
        });
        demo
    }

    fn out(&self) -> String {
        fs::read_to_string(self.temp.path().join("out")).unwrap()
    }

    fn err(&self) -> String {
        fs::read_to_string(self.temp.path().join("err")).unwrap()
    }

    /// Its throw-away directories.
    fn directories(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.temp.path()).unwrap().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    }

    fn url(&self, app: &str) -> String {
        let out = self.out();
        let line = out.lines().find(|line| line.trim_start().starts_with(app)).unwrap_or_else(|| panic!("{out}"));
        line.split_whitespace().nth(1).unwrap().to_string()
    }

    /// A command as the demo suggests it.
    fn cli(&self, arguments: &[&str]) -> String {
        let out = self.out();
        let alias = out.split("alias nbs='").nth(1).and_then(|rest| rest.split('\'').next()).expect("an alias");
        let mut words = alias.split(' ');
        let output = Command::new(words.next().unwrap()).args(words).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn pid(&self, app: &str) -> Option<i32> {
        let app: Value = serde_json::from_str(&self.cli(&["--output", "json", "app", "show", app])).unwrap();
        app["instances"][0]["pid"].as_i64().map(|pid| pid as i32)
    }

    /// Every process whose environment names the demo's directory.
    fn processes(&self) -> Vec<String> {
        let dir = self.temp.path().display().to_string();
        let own = self.child.id().to_string();
        let entries = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let of_demo = |pid: &String| {
            let environ = fs::read(Path::new("/proc").join(pid).join("environ")).unwrap_or_default();
            String::from_utf8_lossy(&environ).contains(&dir)
        };
        entries.filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()) && *pid != own).filter(of_demo).collect()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in self.processes() {
            let _ = kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL);
        }
    }
}

fn visit(url: &str) -> String {
    let rest = url.strip_prefix("http://").unwrap();
    let (address, path) = rest.split_at(rest.find('/').unwrap());
    let Ok(mut stream) = TcpStream::connect(address) else { return "no connection".into() };
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn the_demo_shows_what_it_promises_and_leaves_nothing() {
    let mut demo = Demo::start();
    assert_eq!(demo.directories().len(), 1);
    assert!(visit(&demo.url("static")).starts_with("HTTP/1.1 200"));
    assert!(visit(&demo.url("hello")).starts_with("HTTP/1.1 200"), "the first visit starts it");

    let pid = demo.pid("static").expect("it runs");
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    eventually("it is back", Duration::from_secs(20), || match demo.pid("static") {
        Some(other) if other != pid && visit(&demo.url("static")).starts_with("HTTP/1.1 200") => Ok(()),
        other => Err(format!("{other:?}")),
    });

    eventually("its end is explained", Duration::from_secs(20), || {
        let why = demo.cli(&["app", "why", "crasher"]);
        let told = why.contains("exited with status") && why.contains("→") && why.contains("giving up");
        if told { Ok(()) } else { Err(why) }
    });
    assert!(demo.cli(&["runtime", "check"]).contains("3 recipes"), "{}", demo.cli(&["runtime", "check"]));
    assert_eq!(demo.err(), "", "its output is clean");

    kill(Pid::from_raw(demo.child.id() as i32), Signal::SIGINT).unwrap();
    let mut status = None;
    eventually("it has ended", Duration::from_secs(30), || {
        status = demo.child.try_wait().unwrap();
        status.map(|_| ()).ok_or_else(|| demo.out())
    });
    assert_eq!(status.and_then(|status| status.code()), Some(0), "{}", demo.err());
    assert!(demo.out().ends_with("Done; nothing is left.\n"), "{}", demo.out());
    assert_eq!(demo.directories(), Vec::<PathBuf>::new());
    assert_eq!(demo.processes(), Vec::<String>::new());
}
