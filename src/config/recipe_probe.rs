//! The questions of a recipe: readiness, liveness, version.

use std::time::Duration;

use nbs_core::launch::PROBE_INTERVAL_MAX;
use nbs_core::limits::START_TIMEOUT;
use nbs_core::recipe::{Alive, Check, FailedIf, HttpProbe, Listen, Ready, VersionProbe};
use nbs_core::template::{Placeholder, Template};

use super::parse;
use super::reader::{Complaint, Given, Reader};
use super::recipe::Templates;
use super::recipe_part::{any_duration, duration};
use super::value::{Kind, Value};

/// Twice a second: quick enough for a person, slow enough for an app that is busy starting.
const INTERVAL: Duration = Duration::from_millis(500);
/// A connection costs an app next to nothing, and most are ready within a blink.
const TCP_INTERVAL: Duration = Duration::from_millis(50);
/// Below it, a probe is a load test.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// How long a failure must be told until it is believed.
const FAILED_FOR: Duration = Duration::from_secs(10);
const ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const ALIVE_FAILURES: i64 = 3;

/// Takes `ready`; without one, whoever listens is asked for a connection, and a job is ready once started.
pub fn ready(top: &mut Reader<'_>, templates: &Templates, listen: Listen) -> Ready {
    let usual = if listen == Listen::None { Check::Started } else { Check::Tcp };
    let mut table = top.group("ready");
    let check = check(&mut table, templates, listen, true).unwrap_or(usual);
    let interval = if check == Check::Tcp { TCP_INTERVAL } else { INTERVAL };
    let timeout = duration(&mut table, "timeout", Duration::from_millis(1)).map_or(START_TIMEOUT, |given| given.value);
    let max_timeout = table.parsed("max_timeout", any_duration);
    if let Some(max) = max_timeout.as_ref().filter(|max| max.value < timeout) {
        table.notes().complain(max, Complaint::new("it is below timeout", "raise it, or lower timeout"));
    }
    let ready = Ready {
        check,
        interval: take_interval(&mut table, interval),
        timeout,
        max_timeout: max_timeout.map_or(timeout.saturating_mul(4), |given| given.value),
    };
    table.finish();
    ready
}

/// Takes `alive`.
pub fn alive(top: &mut Reader<'_>, templates: &Templates, listen: Listen) -> Option<Alive> {
    let mut table = top.table("alive")?;
    let check = check(&mut table, templates, listen, false);
    let alive = check.map(|check| Alive {
        check,
        interval: take_interval(&mut table, ALIVE_INTERVAL),
        timeout: table
            .parsed("timeout", parse::duration(INTERVAL_MIN..=PROBE_INTERVAL_MAX))
            .map_or(ALIVE_TIMEOUT, |given| given.value),
        failures: table.integer("failures", 1..=1000).map_or(ALIVE_FAILURES, |given| given.value) as u32,
    });
    if alive.is_none() {
        // Its other keys are no mistakes, only its question is.
        for key in ["interval", "timeout", "failures"] {
            drop(table.take(key));
        }
    }
    table.finish();
    alive
}

/// Takes `version`.
pub fn version(top: &mut Reader<'_>, templates: &Templates, listen: Listen) -> Option<VersionProbe> {
    let mut table = top.table("version")?;
    let asked = one_of(&table, &["http", "exec"], true);
    let path = http_path(&mut table, templates, listen);
    let argv = templates.take_argv(&mut table, "exec");
    if asked == Some("http") && !table.has("json") {
        let place = Given { value: (), key: table.key("json"), origin: table.origin() };
        table.notes().complain(&place, Complaint::new("it is missing", "write json = \"data.version\""));
    }
    let json = table.text("json").map(|given| given.value);
    table.finish();
    match asked? {
        "http" => Some(VersionProbe::Http { path: path?, json: json? }),
        _ => Some(VersionProbe::Exec(argv?.value)),
    }
}

fn take_interval(table: &mut Reader<'_>, usual: Duration) -> Duration {
    table.parsed("interval", parse::duration(INTERVAL_MIN..=PROBE_INTERVAL_MAX)).map_or(usual, |given| given.value)
}

/// Which one of these keys is there. Several, or none where one must be, are noted.
pub fn one_of<'k>(table: &Reader<'_>, keys: &[&'k str], must: bool) -> Option<&'k str> {
    let there: Vec<&'k str> = keys.iter().copied().filter(|key| table.has(key)).collect();
    let place = || Given { value: (), key: table.path().to_string(), origin: table.origin() };
    match there[..] {
        [one] => return Some(one),
        [] if must => {
            let hint = format!("write one of {}", keys.join(", "));
            table.notes().complain(&place(), Complaint::new("it asks nothing", hint));
        }
        [] => {}
        _ => {
            let text = format!("it has {} at once", there.join(" and "));
            table.notes().complain(&place(), Complaint::new(text, "keep one of them"));
        }
    }
    None
}

/// Takes the question itself; `None` if there is none or it is wrong, which is noted.
fn check(table: &mut Reader<'_>, templates: &Templates, listen: Listen, for_ready: bool) -> Option<Check> {
    let keys: &[&'static str] = if for_ready { &["http", "tcp", "notify", "exec"] } else { &["http", "tcp", "exec"] };
    let asked = one_of(table, keys, !for_ready);
    let path = http_path(table, templates, listen);
    let tcp = flag(table, "tcp");
    if let Some(tcp) = tcp.as_ref().filter(|_| listen == Listen::None) {
        needs_listen(table, tcp);
    }
    let notify = if for_ready { flag(table, "notify") } else { refuse_notify(table) };
    let argv = templates.take_argv(table, "exec");
    let http = http_details(table, path, asked == Some("http"), for_ready);
    match asked? {
        "http" => http.map(Check::Http),
        "tcp" => tcp.map(|_| Check::Tcp),
        "notify" => notify.map(|_| Check::Notify),
        _ => argv.map(|argv| Check::Exec(argv.value)),
    }
}

/// `READY=1` is said once in a life, so it cannot tell whether that life goes on.
fn refuse_notify(table: &mut Reader<'_>) -> Option<Given<bool>> {
    if table.has("notify") {
        let given = table.take("notify")?;
        table.notes().complain(&given, Complaint::new("notify tells readiness only", "use http, tcp or exec"));
    }
    None
}

/// A key that is either `true` or not there.
fn flag(table: &mut Reader<'_>, key: &str) -> Option<Given<bool>> {
    let given = table.boolean(key)?;
    if !given.value {
        table.notes().complain(&given, Complaint::new("it can only be true", "remove it"));
        return None;
    }
    Some(given)
}

fn needs_listen<T>(table: &Reader<'_>, given: &Given<T>) {
    let hint = "set listen, or use exec or notify";
    table.notes().complain(given, Complaint::new("the app listens nowhere", hint));
}

fn http_path(table: &mut Reader<'_>, templates: &Templates, listen: Listen) -> Option<Template> {
    let given = templates.take(table, "http")?;
    if listen == Listen::None {
        needs_listen(table, &given);
        return None;
    }
    let starts_right = match given.value.placeholders().next() {
        // `{public_path}` begins with a slash itself.
        Some(Placeholder::PublicPath) => true,
        _ => given.value.render(|_| Some(String::new())).is_ok_and(|text| text.starts_with('/')),
    };
    if !starts_right {
        let hint = "write a path on the app's own address, such as \"/health\"";
        table.notes().complain(&given, Complaint::new("this is not a path", hint));
        return None;
    }
    Some(given.value)
}

/// The keys that go with `http`; without it they would do nothing, and that is noted.
fn http_details(table: &mut Reader<'_>, path: Option<Template>, asked: bool, for_ready: bool) -> Option<HttpProbe> {
    let mut keys = vec!["expect_body", "status"];
    if for_ready {
        keys.extend(["progress", "failed_if"]);
    }
    if !asked {
        for key in keys {
            let there = table.has(key);
            if let Some(given) = table.take(key).filter(|_| there) {
                table.notes().complain(&given, Complaint::new("it goes with http only", "remove it"));
            }
        }
        return None;
    }
    let expect_body = table.text("expect_body").map(|given| given.value);
    let status = table.integer("status", 100..=599).map(|given| given.value as u16);
    let (progress, failed_if) =
        if for_ready { (table.text("progress").map(|given| given.value), failed_if(table)) } else { (None, None) };
    Some(HttpProbe { path: path?, status, expect_body, progress, failed_if })
}

fn failed_if(table: &mut Reader<'_>) -> Option<FailedIf> {
    let mut table = table.table("failed_if")?;
    let origin = table.origin();
    let persists = duration(&mut table, "for", Duration::ZERO).map_or(FAILED_FOR, |given| given.value);
    let rest: Vec<Given<Value>> = table.take_rest().into_iter().map(|(name, given)| under(name, given)).collect();
    let condition = match &rest[..] {
        [Given { value: Value { kind: Kind::Text(text), .. }, key, .. }] => Some((key.clone(), text.clone())),
        _ => None,
    };
    if condition.is_none() {
        let place = Given { value: (), key: table.path().to_string(), origin };
        let hint = "write { \"error.code\" = \"APP_ERROR\", for = \"10s\" }";
        table.notes().complain(&place, Complaint::new("this is not one path and its text", hint));
    }
    condition.map(|(path, equals)| FailedIf { path, equals, persists })
}

/// `error.code = "X"` without quotes around the path makes nested tables: the path is the same.
fn under(name: String, given: Given<Value>) -> Given<Value> {
    if let Kind::Table(inner) = &given.value.kind
        && let [(key, entry)] = inner.iter().collect::<Vec<_>>()[..]
    {
        return under(format!("{name}.{key}"), given.with(entry.value.clone()));
    }
    Given { key: name, ..given }
}
