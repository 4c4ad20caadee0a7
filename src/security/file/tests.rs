use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

const FLEET: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn name(text: &str) -> EnvironmentName {
    EnvironmentName::parse(text).unwrap()
}

fn fleet() -> FleetKey {
    FleetKey::new(Secret::parse(FLEET).unwrap())
}

/// A directory with one key file of mode 0600.
struct Place(tempfile::TempDir);

impl Place {
    fn with(text: impl AsRef<[u8]>) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.file(), text).unwrap();
        place.mode(0o600)
    }

    fn mode(self, mode: u32) -> Self {
        fs::set_permissions(self.file(), Permissions::from_mode(mode)).unwrap();
        self
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("x.key")
    }

    fn refusal(&self) -> String {
        let error = KeyFile::read(&self.file()).unwrap_err();
        assert_eq!(error.kind, KeyErrorKind::Refused, "{error}");
        assert!(error.to_string().contains(&self.file().display().to_string()) && !error.remedy.is_empty(), "{error}");
        error.cause
    }
}

#[test]
fn what_was_written_reads_back_and_tells_which_it_is() {
    let place = Place::with(fleet().to_text().as_str());
    assert!(matches!(KeyFile::read(&place.file()), Ok(KeyFile::Fleet(key)) if key.to_text() == fleet().to_text()));
    let place = Place::with(fleet().export(&name("env_a")).as_str()).mode(0o400);
    let Ok(KeyFile::Worker(key)) = KeyFile::read(&place.file()) else { panic!("no worker's key") };
    assert_eq!(key.environment_name().as_str(), "env_a");
    assert_eq!(key.to_text(), fleet().export(&name("env_a")));
}

#[test]
fn remarks_blank_lines_and_spaces_do_not_matter() {
    let text = format!("\n  # a remark\r\n\tfleet=\"{}\"  \n\n", FLEET.to_uppercase());
    assert!(matches!(KeyFile::read(&Place::with(text).file()), Ok(KeyFile::Fleet(_))));
}

#[test]
fn a_file_that_others_can_read_or_change_is_refused() {
    for mode in [0o640, 0o604, 0o644, 0o660, 0o601, 0o610, 0o666, 0o777] {
        let cause = Place::with(fleet().to_text().as_str()).mode(mode).refusal();
        assert!(cause.contains(&format!("{mode:04o}")), "{cause}");
    }
    for mode in [0o600, 0o400, 0o700] {
        let place = Place::with(fleet().to_text().as_str()).mode(mode);
        assert!(KeyFile::read(&place.file()).is_ok(), "{mode:o}");
    }
}

#[test]
fn a_file_of_another_user_is_refused() {
    let path = Path::new("x.key");
    for (owner, own) in [(0, 0), (0, 7), (7, 7)] {
        assert_eq!(closed(path, owner, own, 0o600), Ok(()), "{owner} {own}");
    }
    for (owner, own) in [(7, 0), (7, 8)] {
        let error = closed(path, owner, own, 0o600).unwrap_err();
        assert!(error.cause.contains("belongs to user 7") && error.remedy.contains("chown"), "{error}");
    }
    if rustix::process::geteuid().is_root() {
        // Only root can give a file away.
        let place = Place::with(fleet().to_text().as_str());
        std::os::unix::fs::chown(place.file(), Some(12345), None).unwrap();
        assert!(place.refusal().contains("12345"));
    }
}

#[test]
fn what_is_no_regular_file_is_refused_and_nothing_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&pipe).status().unwrap();
    assert!(made.success());
    for path in [pipe.as_path(), dir.path(), Path::new("/dev/null")] {
        let error = KeyFile::read(path).unwrap_err();
        assert!(error.cause.contains("regular file"), "{error}");
    }
}

#[test]
fn a_link_leads_to_the_file_that_is_checked() {
    let place = Place::with(fleet().to_text().as_str());
    let link = place.0.path().join("link");
    symlink(place.file(), &link).unwrap();
    assert!(KeyFile::read(&link).is_ok());
    let place = place.mode(0o644);
    assert!(KeyFile::read(&place.0.path().join("link")).is_err());
}

#[test]
fn a_missing_file_tells_how_one_is_made() {
    let error = KeyFile::read(Path::new("/nowhere/x.key")).unwrap_err();
    assert_eq!(error.kind, KeyErrorKind::Missing);
    for part in ["/nowhere/x.key", "no such file", "key generate", "export-worker"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn every_mistake_has_its_line_and_field() {
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let (zeros, small) = ("00".repeat(32), format!("01{}", "00".repeat(31)));
    for (text, cause) in [
        (String::new(), "environment is missing"),
        ("fleet = \"\"".into(), "line 1: fleet: it is not 64 hexadecimal digits"),
        (format!("fleet = \"{}\"", &FLEET[1..]), "line 1: fleet: it is not 64 hexadecimal digits"),
        (format!("fleet = \"{FLEET}00\""), "line 1: fleet: it is not 64 hexadecimal digits"),
        (format!("fleet = \"{zeros}\""), "line 1: fleet: it is a placeholder, not a random key"),
        (format!("fleet = {FLEET}"), "line 1: fleet: its value is not between two quotes"),
        (format!("fleet = \"{FLEET}\" # mine"), "line 1: fleet: its value is not between two quotes"),
        (format!("fleet = \"{FLEET}\"\nfleet = \"{FLEET}\""), "line 2: fleet stands in line 1 already"),
        (
            format!("fleet = \"{FLEET}\"\n\nkey = \"{FLEET}\""),
            "line 3: the file holds a fleet key and a worker's as well",
        ),
        (format!("# x\n{FLEET}"), "line 2: it is not a setting"),
        (format!("flet = \"{FLEET}\""), "line 1: flet is unknown"),
        (format!("{FLEET} = \"fleet\""), "line 1: it is no known setting"),
        (
            format!("environment = \"a b\"\nentry = \"{public}\"\nkey = \"{FLEET}\""),
            "line 1: environment: it is not an environment name",
        ),
        (format!("environment = \"a\"\nkey = \"{FLEET}\""), "entry is missing"),
        (format!("environment = \"a\"\nentry = \"{public}\""), "key is missing"),
        (
            format!("environment = \"a\"\nentry = \"{small}\"\nkey = \"{FLEET}\""),
            "line 2: entry: it is not a public key of 64 hexadecimal digits",
        ),
        (
            format!("environment = \"a\"\nentry = \"{public}\"\nkey = \"x\""),
            "line 3: key: it is not 64 hexadecimal digits",
        ),
    ] {
        let found = Place::with(&text).refusal();
        assert_eq!(found, cause, "{text}");
    }
    assert!(Place::with("x".repeat(4097)).refusal().contains("4096"));
    assert!(Place::with([0xff, 0xfe]).refusal().contains("not a text"));
}

#[test]
fn a_worker_with_the_fleet_key_is_warned_and_one_with_anothers_is_refused() {
    let (a, b) = (name("env_a"), name("env_b"));
    let place = Place::with(fleet().export(&a).as_str());
    let (key, warning) = WorkerKey::read(&place.file(), &a).unwrap();
    assert!(warning.is_none() && key.environment_name() == &a);
    let error = WorkerKey::read(&place.file(), &b).unwrap_err();
    assert!(error.cause.contains("env_a") && error.remedy.contains("export-worker env_b"), "{error}");
    let place = Place::with(fleet().to_text().as_str());
    let (key, warning) = WorkerKey::read(&place.file(), &a).unwrap();
    let warning = warning.unwrap();
    assert!(warning.contains("whole fleet") && warning.contains("export-worker env_a"), "{warning}");
    assert_eq!(key.to_text(), fleet().export(&a));
}

#[test]
fn an_entry_with_a_workers_key_is_refused() {
    let place = Place::with(fleet().export(&name("env_a")).as_str());
    let error = FleetKey::read(&place.file()).unwrap_err();
    assert!(error.cause.contains("worker of environment env_a"), "{error}");
}

proptest! {
    #[test]
    fn no_error_quotes_what_could_be_a_key(
        before in "[a-z_=\" ]{0,9}", key in "[0-9a-f]{40,64}", after in "[a-z_=\" ]{0,9}",
    ) {
        let text = format!("{before}{key}{after}");
        if let Err(error) = parse(Path::new("x"), &text) {
            prop_assert!(!format!("{error} {error:?}").contains(&key[..16]), "{}", error);
        }
    }
}
