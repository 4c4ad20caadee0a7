//! Bad input: an error that names field, value and remedy, the documented code, and nothing changed.

use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::recipes::SLEEPER;

/// What must not change by bad input.
fn snapshot(daemon: &Daemon) -> Value {
    let mut apps = daemon.request("GET", "/api/v1/apps", None).body;
    for app in apps["apps"].as_array_mut().unwrap() {
        for instance in app["instances"].as_array_mut().unwrap() {
            instance["age_ms"] = Value::Null;
            instance["usage"] = Value::Null;
        }
    }
    json!({ "apps": apps, "operations": daemon.request("GET", "/api/v1/operations", None).body })
}

struct Case {
    what: &'static str,
    request: Request,
    status: u16,
    code: &'static str,
    field: Option<&'static str>,
    says: &'static [&'static str],
}

fn create(change: impl FnOnce(&mut Value)) -> Request {
    let mut spec = json!({ "name": "new", "runtime": "sleeper", "start_mode": "manual" });
    change(&mut spec);
    ("POST", "/api/v1/apps", spec.to_string())
}

type Request = (&'static str, &'static str, String);

fn case(
    what: &'static str,
    request: Request,
    status: u16,
    code: &'static str,
    field: Option<&'static str>,
    says: &'static [&'static str],
) -> Case {
    Case { what, request, status, code, field, says }
}

/// Specs with something wrong in them.
fn bad_specs() -> Vec<Case> {
    vec![
        case(
            "a wrong app ID",
            create(|s| s["name"] = json!("New App")),
            400,
            "invalid",
            Some("name"),
            &["New App", "lower-case"],
        ),
        case(
            "an unknown runtime",
            create(|s| s["runtime"] = json!("sleper")),
            400,
            "runtime_unknown",
            Some("runtime"),
            &["sleper", "sleeper"],
        ),
        case(
            "an unknown key",
            create(|s| s["start_mod"] = json!("x")),
            400,
            "unknown_field",
            Some("start_mod"),
            &["start_mode"],
        ),
        case(
            "a nested unknown key",
            create(|s| s["limits"] = json!({ "memroy_max": "1G" })),
            400,
            "unknown_field",
            Some("limits.memroy_max"),
            &["memory_max"],
        ),
        case(
            "a size",
            create(|s| s["limits"] = json!({ "memory_max": "1 gig" })),
            400,
            "invalid",
            Some("limits.memory_max"),
            &["1 gig", "512M"],
        ),
        case(
            "a duration",
            create(|s| s["proxy"] = json!({ "hold_timeout": "30" })),
            400,
            "invalid",
            Some("proxy.hold_timeout"),
            &["30", "30s"],
        ),
        case(
            "shared hosting",
            create(|s| s["hosting"] = json!("shared")),
            400,
            "invalid",
            Some("hosting"),
            &["one process", "[shared]"],
        ),
        case(
            "a database where there is no server",
            create(|s| s["database"] = json!({ "mode": "new-database" })),
            400,
            "invalid",
            Some("database.server"),
            &["no database server", "[database.servers.default]"],
        ),
        case("a duplicate name", create(|s| s["name"] = json!("old")), 409, "already_exists", Some("name"), &["old"]),
    ]
}

/// Requests that are wrong as such.
fn bad_requests() -> Vec<Case> {
    vec![
        case(
            "JSON that ends early",
            ("POST", "/api/v1/apps", "{\"name\": \"x\"".into()),
            400,
            "invalid",
            None,
            &["line 1"],
        ),
        case(
            "a body over the limit",
            ("POST", "/api/v1/apps", format!("{{\"name\": \"{}\"}}", "x".repeat(1 << 20))),
            413,
            "too_large",
            None,
            &["1"],
        ),
        case("no such app", ("POST", "/api/v1/apps/nobody/start", String::new()), 404, "not_found", None, &["nobody"]),
        case(
            "an unknown environment",
            create(|s| s["environments"] = json!(["moon"])),
            400,
            "invalid",
            Some("environments"),
            &["moon"],
        ),
        case(
            "a PATCH without If-Match",
            ("PATCH", "/api/v1/apps/old", "{}".into()),
            428,
            "precondition_required",
            None,
            &["If-Match"],
        ),
    ]
}

#[test]
fn bad_requests_name_field_value_and_remedy_and_change_nothing() {
    let daemon = Daemon::start(&[SLEEPER]);
    let old = json!({ "name": "old", "runtime": "sleeper", "start_mode": "manual" });
    assert_eq!(daemon.request("POST", "/api/v1/apps", Some(old)).status, 201);
    let before = snapshot(&daemon);
    for Case { what, request: (method, path, body), status, code, field, says } in
        bad_specs().into_iter().chain(bad_requests())
    {
        let answer = daemon.try_request(method, path, Some(&body)).unwrap();
        let text = answer.body.to_string();
        assert_eq!((answer.status, answer.body["code"].as_str()), (status, Some(code)), "{what}: {text}");
        if let Some(field) = field {
            assert_eq!(answer.body["field"], field, "{what}: {text}");
        }
        assert!(says.iter().all(|word| text.contains(word)), "{what}: {says:?} in {text}");
        assert!(answer.body["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{what} has a remedy: {text}");
        assert_eq!(snapshot(&daemon), before, "{what} changed something");
    }
    let stale = daemon.try_request_with("PATCH", "/api/v1/apps/old", "If-Match: \"7\"\r\n", Some("{}")).unwrap();
    assert_eq!((stale.status, stale.body["code"].as_str()), (409, Some("generation_conflict")), "{}", stale.body);
    assert_eq!(snapshot(&daemon), before);
}

/// A recipe that cannot be carried out: the start fails with the reason code, its text and a remedy.
#[test]
fn a_start_that_cannot_be_carried_out_tells_why() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = port.local_addr().unwrap().port();
    let recipe = |name: &str, rest: &str| format!("name = \"{name}\"\nlisten = \"none\"\n{rest}\n");
    let recipes = [
        ("absent.toml", recipe("absent", "command = [\"/no/such/program\"]")),
        ("nodir.toml", recipe("nodir", "command = [\"/bin/sleep\", \"9\"]\nworking_dir = \"/no/such/dir\"")),
        ("nouser.toml", recipe("nouser", "command = [\"/bin/sleep\", \"9\"]\nuser = \"nobody-of-that-name\"")),
        ("noexec.toml", recipe("noexec", "command = [\"/etc/hostname\"]")),
        ("port.toml", "name = \"port\"\ncommand = [\"/bin/sleep\", \"9\"]\nlisten = \"port\"".to_string()),
    ];
    let recipes: Vec<(&str, &str)> = recipes.iter().map(|(file, text)| (*file, text.as_str())).collect();
    let range = format!("environment.port_range=\"{taken}-{taken}\"");
    let daemon = Daemon::start_with(&recipes, &[&range]);
    let cases = [
        ("absent", "missing_binary", "/no/such/program"),
        ("nodir", "bad_working_directory", "/no/such/dir"),
        ("nouser", "bad_user", "nobody-of-that-name"),
        ("noexec", "not_executable", "/etc/hostname"),
        ("port", "port_in_use", "port"),
    ];
    for (runtime, code, says) in cases {
        let name = format!("x-{runtime}");
        daemon.cli_ok(&["app", "create", &name, "--runtime", runtime, "--start-mode", "manual"]);
        let output = daemon.cli(&["app", "start", &name]);
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{runtime}: {talk}");
        let reason = daemon.app(&name)["instances"][0]["reason"].clone();
        assert_eq!(reason["code"], code, "{runtime}: {reason}");
        assert!(reason["text"].as_str().unwrap().contains(says), "{runtime}: {reason}");
        assert!(!reason["remedy"].as_str().unwrap().is_empty(), "{runtime}: {reason}");
        assert!(talk.contains(says), "{runtime}: {talk}");
    }
}

#[test]
fn a_file_that_names_a_runtime_that_is_not_there_is_applied_not_even_in_part() {
    let daemon = Daemon::start(&[SLEEPER]);
    let file = daemon.dir().join("apps.toml");
    let text = "[[app]]\nname = \"good\"\nruntime = \"sleeper\"\n\n[[app]]\nname = \"new\"\nruntime = \"sleper\"\n";
    std::fs::write(&file, text).unwrap();
    for extra in [&["--dry-run"][..], &[]] {
        let path = file.display().to_string();
        let mut arguments = vec!["apply", "-f", &path];
        arguments.extend(extra);
        let output = daemon.cli(&arguments);
        assert_eq!(output.status.code(), Some(4));
        let talk = String::from_utf8_lossy(&output.stderr);
        assert!(talk.contains("apps.toml: new: runtime: there is no runtime sleper"), "{talk}");
        assert!(daemon.request("GET", "/api/v1/apps", None).body["apps"].as_array().unwrap().is_empty());
    }
}
