//! `nbsupervisor key`, through the real binary: what is written where, with which mode, and what is never overwritten.

#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nbs_core::name::EnvironmentName;
use nbsupervisor::security::{FleetKey, KeyFile, WorkerKey};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn keep(&self, name: &str, text: &str) -> PathBuf {
        let file = self.file(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        file
    }
}

fn key(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nbsupervisor")).arg("key").args(arguments).output().unwrap()
}

/// What was said on stdout and stderr by a run that ended with this code.
fn expect(arguments: &[&str], code: i32) -> (String, String) {
    let output = key(arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\nstdout: {out}\nstderr: {err}");
    (out, err)
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn fleet(path: &Path) -> FleetKey {
    match KeyFile::read(path).unwrap() {
        KeyFile::Fleet(key) => key,
        KeyFile::Worker(_) => panic!("a worker's key"),
    }
}

#[test]
fn a_new_fleet_key_goes_to_standard_output_or_to_a_closed_file() {
    let place = Place::new();
    let (printed, err) = expect(&["generate"], 0);
    assert!(err.contains("fleet.key") && !err.contains("fleet = "), "{err}");
    let first = fleet(&place.keep("printed.key", &printed));
    let file = place.file("fleet.key");
    let (out, err) = expect(&["generate", "--to", shown(&file)], 0);
    assert!(out.is_empty() && err.contains(shown(&file)), "{out}{err}");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
    let second = fleet(&file);
    assert!(first.to_text() != second.to_text(), "two keys are one");
    assert!(!err.contains(second.to_text().split('"').nth(1).unwrap()), "{err}");
}

#[test]
fn a_key_is_never_overwritten() {
    let place = Place::new();
    let file = place.file("fleet.key");
    expect(&["generate", "--to", shown(&file)], 0);
    let before = fs::read_to_string(&file).unwrap();
    let (_, err) = expect(&["generate", "--to", shown(&file)], 4);
    assert!(err.contains(shown(&file)) && err.contains("never overwritten") && err.contains("hint:"), "{err}");
    let (_, err) = expect(&["export-worker", "env_a", "--key", shown(&file), "--to", shown(&file)], 4);
    assert!(err.contains("never overwritten"), "{err}");
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
    let (_, err) = expect(&["generate", "--to", shown(&place.file("no/fleet.key"))], 1);
    assert!(err.contains("does not exist") && err.contains("install -d"), "{err}");
    assert_eq!(fs::read_dir(place.0.path()).unwrap().count(), 1);
}

#[test]
fn a_worker_gets_the_key_of_its_environment_and_no_more() {
    let place = Place::new();
    let (file, env) = (place.file("fleet.key"), EnvironmentName::parse("env_a").unwrap());
    expect(&["generate", "--to", shown(&file)], 0);
    let (printed, _) = expect(&["export-worker", "env_a", "--key", shown(&file)], 0);
    let worker = place.file("worker.key");
    let (out, _) = expect(&["export-worker", "env_a", "--key", shown(&file), "--to", shown(&worker)], 0);
    assert!(out.is_empty(), "{out}");
    assert_eq!(fs::metadata(&worker).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_to_string(&worker).unwrap(), printed);
    let fleet = fleet(&file);
    assert!(!printed.contains(fleet.to_text().split('"').nth(1).unwrap()), "the fleet key went out");
    let (key, warning) = WorkerKey::read(&worker, &env).unwrap();
    assert!(warning.is_none());
    assert!(key.verifier().verify(b"m", &fleet.signer().sign(b"m")));
    assert!(fleet.environment(&env).check_mac(b"m", &key.keys().mac(b"m")));
    let (other, _) = expect(&["export-worker", "env_b", "--key", shown(&file)], 0);
    assert!(other != printed);
    // From a worker's key no other can be made.
    let (_, err) = expect(&["export-worker", "env_b", "--key", shown(&worker)], 4);
    assert!(err.contains("worker of environment env_a"), "{err}");
}

#[test]
fn what_cannot_be_exported_is_told_with_what_to_do() {
    let place = Place::new();
    let missing = place.file("fleet.key");
    let (_, err) = expect(&["export-worker", "env_a", "--key", shown(&missing)], 3);
    assert!(err.contains(shown(&missing)) && err.contains("key generate"), "{err}");
    let (_, err) = expect(&["export-worker", "env a", "--key", shown(&missing)], 2);
    assert!(err.contains("\"env a\" is not an environment name") && err.contains("hint:"), "{err}");
    expect(&["export-worker"], 2);
    expect(&["generate", "--to", shown(&missing)], 0);
    fs::set_permissions(&missing, fs::Permissions::from_mode(0o644)).unwrap();
    let (out, err) = expect(&["export-worker", "env_a", "--key", shown(&missing)], 4);
    assert!(out.is_empty() && err.contains("0644") && err.contains("chmod 600"), "{err}");
    let text = "fleet = \"beefbeef\"\n";
    let (_, err) = expect(&["export-worker", "env_a", "--key", shown(&place.keep("bad.key", text))], 4);
    assert!(err.contains("line 1: fleet: it is not 64 hexadecimal digits") && !err.contains("beef"), "{err}");
}

#[test]
fn help_completions_and_manual_know_the_verbs() {
    let (help, _) = expect(&["--help"], 0);
    assert!(help.contains("generate") && help.contains("export-worker"), "{help}");
    let (help, _) = expect(&["export-worker", "--help"], 0);
    assert!(help.contains("security.fleet_key_file") && help.contains("--to <FILE>"), "{help}");
    for words in [&["man", "key", "export-worker"][..], &["completions", "bash"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_nbsupervisor")).args(words).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).replace("\\-", "-");
        assert!(output.status.success() && text.contains("export-worker"), "{words:?}");
    }
}
