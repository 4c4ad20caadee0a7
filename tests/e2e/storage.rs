//! A disk that is full and a record that is damaged: told as such, and never the end of an app.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::daemon::Daemon;
use crate::eventually::eventually;
use crate::recipes::SLEEPER;

/// A small disk over a daemon's state directory.
struct Disk(std::path::PathBuf);

impl Disk {
    /// None only where `NBS_SKIP` names tmpfs: elsewhere a test that cannot run has failed.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        if std::env::var("NBS_SKIP").is_ok_and(|skipped| skipped.split([',', ' ']).any(|word| word == "tmpfs")) {
            eprintln!("skipped, as NBS_SKIP names tmpfs");
            return None;
        }
        fs::create_dir_all(at).unwrap();
        let options = format!("size={size},mode=700");
        match Command::new("mount").args(["-t", "tmpfs", "-o", &options, "nbs-test"]).arg(at).output() {
            Ok(output) if output.status.success() => Some(Self(at.to_path_buf())),
            other => panic!("this test mounts a tmpfs, as root; NBS_SKIP=tmpfs leaves it out: {other:?}"),
        }
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("ballast")).unwrap();
        let page = [1u8; 4096];
        while file.write_all(&page).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_commands_and_stops_no_app() {
    let temp = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(&temp.path().join("state"), "8m") else { return };
    let mut daemon = Daemon::prepare(temp.path().to_path_buf(), &[SLEEPER], &[]);
    daemon.launch();
    for name in ["a", "b"] {
        daemon.cli_ok(&["app", "create", name, "--runtime", "sleeper", "--start-mode", "manual"]);
        daemon.cli_ok(&["app", "start", name]);
    }
    disk.fill();
    let refused = eventually_full(&daemon);
    assert!(refused["hint"].as_str().is_some_and(|hint| hint.contains("free some space")), "{refused}");
    let output = daemon.cli(&["app", "stop", "a"]);
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && talk.contains("record.db") && talk.contains("free some space"), "{talk}");
    assert_eq!(daemon.status("a"), "running", "the refused stop changed nothing");

    let pid = daemon.app_pid("b");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually("a crashed app is restarted on a full disk", Duration::from_secs(20), || {
        let app = daemon.app("b");
        let back = app["status"] == "running" && app["instances"][0]["pid"] != json!(pid);
        if back { Ok(()) } else { Err(format!("{app:#}\n{}", daemon.log())) }
    });

    disk.free();
    eventually("commands are taken again", Duration::from_secs(20), || {
        let answer = daemon.request("POST", "/api/v1/apps/a/stop", Some(json!({})));
        if matches!(answer.status, 200 | 202) { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    daemon.wait_status("a", "stopped");
    assert_eq!(daemon.status("b"), "running");
    drop(daemon);
}

/// Commands until one does not fit any more: SQLite has some room in the pages that it holds.
fn eventually_full(daemon: &Daemon) -> serde_json::Value {
    let mut told = serde_json::Value::Null;
    eventually("a command is refused for want of space", Duration::from_secs(30), || {
        let body = json!({ "name": "c", "runtime": "sleeper", "start_mode": "manual", "reuse": true });
        let answer = daemon.request("POST", "/api/v1/apps", Some(body));
        if answer.status == 507 {
            assert_eq!(answer.body["code"], "storage_full", "{answer:?}");
            told = answer.body;
            return Ok(());
        }
        let answer = daemon.request("DELETE", "/api/v1/apps/c", None);
        if answer.status == 507 {
            told = answer.body;
            return Ok(());
        }
        Err(format!("{answer:?}"))
    });
    told
}

#[test]
fn a_damaged_record_is_refused_with_its_name_and_apps_run_on() {
    let mut daemon = Daemon::start(&[SLEEPER]);
    daemon.cli_ok(&["app", "create", "a", "--runtime", "sleeper", "--start-mode", "manual"]);
    daemon.cli_ok(&["app", "start", "a"]);
    let pid = daemon.app_pid("a");
    daemon.kill9();
    let record = daemon.dir().join("state/record.db");
    let sound = fs::read(&record).unwrap();
    fs::write(&record, b"this was a record once\n").unwrap();
    for side in ["-wal", "-shm"] {
        let _ = fs::remove_file(record.with_file_name(format!("record.db{side}")));
    }
    daemon.spawn();
    let status = daemon.wait();
    assert!(!status.success());
    let log = daemon.log();
    let last = log.lines().last().unwrap_or_default();
    for part in [&*record.display().to_string(), "damaged", "move it away"] {
        assert!(last.contains(part), "{part} is not in the last line of {log}");
    }
    assert_eq!(fs::read(&record).unwrap(), b"this was a record once\n", "it is left as it was");
    assert_ne!(sound, b"", "there was one");
    assert!(daemon.marked().contains_key(&pid), "the app runs on");
}
