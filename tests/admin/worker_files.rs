//! `env add`, through the real binary: the files of a worker are those that a worker's daemon takes.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nbs_core::name::EnvironmentName;
use nbsupervisor::config::{Mode, Sources, load};
use nbsupervisor::security::WorkerKey;

struct Entry(tempfile::TempDir);

impl Entry {
    fn new(config: &str) -> Self {
        let entry = Self(tempfile::tempdir().unwrap());
        let key = entry.run_plain(&["key", "generate", "--to", entry.path("fleet.key").to_str().unwrap()]);
        assert!(key.status.success(), "{key:?}");
        let text = format!("{config}\n[security]\nfleet_key_file = \"{}\"\n", entry.path("fleet.key").display());
        fs::write(entry.path("config.toml"), text).unwrap();
        fs::set_permissions(entry.path("config.toml"), fs::Permissions::from_mode(0o600)).unwrap();
        entry
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run_plain(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_nbsupervisor")).env_clear().args(arguments).output().unwrap()
    }

    fn run(&self, arguments: &[&str], code: i32) -> (String, String) {
        let config = self.path("config.toml");
        let all: Vec<&str> =
            ["--config", config.to_str().unwrap()].into_iter().chain(arguments.iter().copied()).collect();
        let output = self.run_plain(&all);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\nstdout: {out}\nstderr: {err}");
        (out, err)
    }
}

const CONFIG: &str = "mode = \"supervisor\"\n[redis]\nurl = \"redis://ann:p%2Fw@10.0.0.1:6379/2\"\n";
const ADD: [&str; 5] = ["env", "add", "env_b", "--url", "http://10.0.0.3:13000"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    ADD.iter().copied().chain(more.iter().copied()).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn written_files_make_a_worker() {
    let entry = Entry::new(CONFIG);
    let directory = entry.path("env_b");
    let proxy = "http://192.168.0.3:13000";
    let more = ["--proxy-url", proxy, "--to", directory.to_str().unwrap(), "--show-secrets"];
    let (out, err) = entry.run(&with(&more), 0);
    let files = [directory.join("nbsupervisor.default"), directory.join("fleet.key")];
    for file in &files {
        assert!(out.contains(file.to_str().unwrap()), "{out}");
        assert_eq!(mode(file), 0o600);
    }
    assert!(err.contains("apt install") && err.contains("systemctl enable --now nbsupervisor"), "{err}");
    // The daemon there reads its variables from that file.
    let text = fs::read_to_string(&files[0]).unwrap();
    let pairs = text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_once('=').unwrap());
    let variables = pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let config_file = Some(PathBuf::from("/dev/null"));
    let worker = load(&Sources { config_file, variables, set: Vec::new(), uid: 0 }).unwrap().config;
    assert_eq!((worker.mode, worker.environment.name.as_str()), (Mode::Worker, "env_b"));
    assert_eq!(worker.environment.url.as_deref(), Some("http://10.0.0.3:13000"));
    assert_eq!(worker.environment.proxy_url.as_deref(), Some(proxy));
    let redis = worker.redis.unwrap();
    assert_eq!((redis.cache.password.as_ref().unwrap().expose(), redis.cache.database), ("p/w", 2));
    assert_eq!(redis.cache, redis.command);
    let (_, warning) = WorkerKey::read(&files[1], &EnvironmentName::parse("env_b").unwrap()).unwrap();
    assert!(warning.is_none());
    // Nothing is written over.
    let (_, err) = entry.run(&with(&more), 4);
    assert!(err.contains("is there already"), "{err}");
}

#[test]
fn secrets_are_shown_only_when_that_is_asked_for() {
    let entry = Entry::new(CONFIG);
    let (out, err) = entry.run(&ADD, 0);
    assert!(
        out.contains("ENVIRONMENT_URL=http://10.0.0.3:13000\n") && out.contains("redis://ann:***@10.0.0.1"),
        "{out}"
    );
    assert!(!out.contains("p%2Fw") && !out.contains("key = \"") && out.contains("key export-worker env_b"), "{out}");
    assert!(err.contains("--show-secrets"), "{err}");
    let (out, err) = entry.run(&with(&["--show-secrets"]), 0);
    assert!(out.contains("redis://ann:p%2Fw@10.0.0.1:6379/2") && out.contains("key = \""), "{out}");
    assert!(!err.contains("--show-secrets"), "{err}");
    let (key, _) = entry.run(&["key", "export-worker", "env_b"], 0);
    assert!(out.contains(key.trim_end()), "the key is not that of `key export-worker`: {out}");
    let (out, _) = entry.run(&with(&["--output", "json"]), 0);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["files"][0]["path"], "/etc/default/nbsupervisor");
    assert_eq!(
        (&json["files"][1]["path"], &json["files"][1]["mode"]),
        (&"/etc/nbsupervisor/fleet.key".into(), &"0600".into())
    );
    assert!(json["commands"].as_array().is_some_and(|commands| commands.len() > 3), "{json}");
}

#[test]
fn what_would_make_no_worker_is_refused() {
    let entry = Entry::new(CONFIG);
    let (_, err) = entry.run(&["env", "add", "env b", "--url", "http://10.0.0.3:13000"], 2);
    assert!(err.contains("\"env b\" is not an environment name"), "{err}");
    let (_, err) = entry.run(&["env", "add", "env_b", "--url", "10.0.0.3"], 2);
    assert!(err.contains("no worker env_b can be made") && err.contains("hint:"), "{err}");
    entry.run(&["env", "add", "env_b"], 2);
    fs::remove_file(entry.path("fleet.key")).unwrap();
    let (_, err) = entry.run(&ADD, 3);
    assert!(err.contains("fleet.key"), "{err}");

    let alone = Entry::new("mode = \"standalone\"\n");
    let (_, err) = alone.run(&ADD, 4);
    assert!(err.contains("this host has no workers") && err.contains("APP_MODE=supervisor"), "{err}");
}

#[test]
fn an_address_that_only_the_entry_reaches_is_warned_of() {
    let entry = Entry::new("mode = \"supervisor\"\n[redis]\nurl = \"redis://127.0.0.1:6379\"\n");
    let (_, err) = entry.run(&ADD, 0);
    assert!(err.contains("on its own host"), "{err}");
}
