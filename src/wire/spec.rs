//! An app's spec as JSON (and TOML, which has the same keys): read, changed by a merge patch, and shown.
//!
//! Decides how a spec is written and which values are well formed. Deliberately absent: whether its runtime and
//! environments exist (the fleet), and `reuse`, which belongs to the request and is taken out before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nbs_core::limits::{BODY_MAX, SPEC_ENTRIES_MAX, SPEC_VALUE_MAX};
use nbs_core::name::{AppId, EnvironmentName, NameError, RuntimeName};
use nbs_core::quantity::{ByteSize, CpuQuota, QuantityError, format_duration, parse_duration};
use nbs_core::secret::SecretText;
use nbs_core::spec::{AppSpec, Hosting, Limits, Placement, ProxyChoice, ProxySettings, StartMode};
use serde_json::{Map, Value, json};

pub use crate::wire::field::FieldError;
use crate::wire::field::{Fields, Walk, join, kind, meant_by, quoted, shown, texts};

mod database;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

/// The keys of a spec.
pub const KEYS: &[&str] = &[
    "name",
    "title",
    "runtime",
    "hosting",
    "environments",
    "start_mode",
    "idle_stop",
    "auto_upgrade",
    "database",
    "domains",
    "env",
    "secrets",
    "limits",
    "proxy",
    "labels",
    "placements",
];

/// Bytes of the name of a variable, secret or label. Longer ones are mistakes, and every listing shows them.
const KEY_MAX: usize = 128;
/// Bytes of a title.
const TITLE_MAX: usize = 256;
/// Variables that the supervisor itself gives to an app.
const RESERVED: &[&str] = &["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"];
const RESERVED_PREFIXES: &[&str] = &["NBS_", "NBSUPERVISOR_"];

/// What a spec gets that does not say it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecDefaults {
    /// `[local]` in standalone; none elsewhere, where a spec must name its environments.
    pub environments: Option<BTreeSet<EnvironmentName>>,
}

/// Reads a spec.
///
/// # Errors
/// Every fault of the value, not only the first.
pub fn parse_spec(value: &Value, defaults: &SpecDefaults) -> Result<AppSpec, Vec<FieldError>> {
    let mut walk = Walk::default();
    let spec = read(&mut walk, value, defaults);
    match spec {
        Some(spec) if walk.is_clean() => Ok(spec),
        _ => Err(walk.into_errors()),
    }
}

/// Changes a spec by a JSON merge patch (RFC 7396): null takes away, what is absent stays, lists are replaced whole.
///
/// # Errors
/// The patch is no object or changes the name, or every fault of the spec that it would make.
pub fn patch_spec(current: &AppSpec, patch: &Value, defaults: &SpecDefaults) -> Result<AppSpec, Vec<FieldError>> {
    let mut walk = Walk::default();
    if !patch.is_object() {
        walk.invalid("", format!("the body is {}, not an object", kind(patch)), "write an object: { … }");
        return Err(walk.into_errors());
    }
    if let Some(name) = patch.get("name").filter(|name| name.as_str() != Some(current.name.as_str())) {
        let detail = format!("{} is not {}: the name of an app cannot be changed", shown(name), current.name);
        walk.invalid("name", detail, "leave name out, or create a new app and remove this one");
    }
    let mut merged = write(current, |secret| Value::from(secret.expose()));
    database::replaced(&mut merged, patch);
    merge(&mut merged, patch);
    // The name was judged above; a wrong one must not be judged twice.
    merged["name"] = Value::from(current.name.as_str());
    let spec = read(&mut walk, &merged, defaults);
    match spec {
        Some(spec) if walk.is_clean() => Ok(spec),
        _ => Err(walk.into_errors()),
    }
}

/// Shows a spec. Secrets are write-only: their names stand with null, as does a password.
pub fn render_spec(spec: &AppSpec) -> Value {
    write(spec, |_| Value::Null)
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(map) = target else { return };
    for (key, change) in changes {
        if change.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.as_str()).or_insert(Value::Null), change);
        }
    }
}

fn write(spec: &AppSpec, secret: impl Fn(&SecretText) -> Value) -> Value {
    let secrets: Map<String, Value> = spec.secrets.iter().map(|(name, text)| (name.clone(), secret(text))).collect();
    let placements: Map<String, Value> = spec
        .placements
        .iter()
        .map(|(name, placement)| (name.to_string(), json!({ "env": texts(&placement.env), "serve": placement.serve })))
        .collect();
    let choice = match &spec.proxy.choice {
        ProxyChoice::Required => "required",
        ProxyChoice::Spread => "spread",
        ProxyChoice::Environment(name) => name.as_str(),
    };
    json!({
        "name": spec.name.as_str(),
        "title": spec.title,
        "runtime": spec.runtime.as_str(),
        "hosting": spec.hosting.as_str(),
        "environments": spec.environments.iter().map(EnvironmentName::as_str).collect::<Vec<_>>(),
        "start_mode": spec.start_mode.as_str(),
        "idle_stop": null,
        "auto_upgrade": spec.auto_upgrade,
        "database": database::write(spec.database.as_ref(), &secret),
        "domains": [],
        "env": texts(&spec.env),
        "secrets": secrets,
        "limits": {
            "memory_max": spec.limits.memory_max.map(|size| size.to_string()),
            "cpu_quota": spec.limits.cpu_quota.map(|quota| quota.to_string()),
            "tasks_max": spec.limits.tasks_max,
            "io_weight": spec.limits.io_weight,
        },
        "proxy": { "choice": choice, "hold_timeout": spec.proxy.hold_timeout.map(exact_duration) },
        "labels": texts(&spec.labels),
        "placements": placements,
    })
}

/// A duration that reads back as the same one; `format_duration` alone drops what people need not see.
fn exact_duration(duration: Duration) -> String {
    let text = format_duration(duration);
    if parse_duration(&text) == Ok(duration) {
        return text;
    }
    let micros = duration.as_micros();
    if micros.is_multiple_of(1_000_000) {
        format!("{}s", micros / 1_000_000)
    } else if micros.is_multiple_of(1000) {
        format!("{}ms", micros / 1000)
    } else {
        format!("{micros}us")
    }
}

fn read(walk: &mut Walk, value: &Value, defaults: &SpecDefaults) -> Option<AppSpec> {
    if !value.is_object() {
        walk.invalid("", format!("the body is {}, not an object", kind(value)), "write an object: { \"name\": … }");
        return None;
    }
    let fields = walk.object("", Some(value), KEYS);
    let name = required(walk, fields.get("name"), "an app ID such as \"crm\"", AppId::parse);
    let runtime = required(walk, fields.get("runtime"), "one of `nbsupervisor runtime list`", RuntimeName::parse);
    let (path, title) = fields.get("title");
    let title = walk.parsed(&path, title, read_title);
    let (path, hosting) = fields.get("hosting");
    let hosting = walk.parsed(&path, hosting, read_hosting).unwrap_or_default();
    refuse_what_is_to_come(walk, &fields);
    let (path, mode) = fields.get("start_mode");
    let start_mode = walk.parsed(&path, mode, read_start_mode).unwrap_or(StartMode::OnFirstVisit);
    let environments = read_environments(walk, fields.get("environments"), defaults);
    let env = read_variables(walk, fields.get("env"));
    let secrets = read_secrets(walk, fields.get("secrets"), &env);
    let database = database::read(walk, fields.get("database"));
    let limits = read_limits(walk, fields.get("limits"));
    let proxy = read_proxy(walk, fields.get("proxy"), environments.as_ref());
    let labels = read_labels(walk, fields.get("labels"));
    let (path, upgrade) = fields.get("auto_upgrade");
    let auto_upgrade = walk.flag(&path, upgrade).unwrap_or(false);
    let placements = read_placements(walk, fields.get("placements"), environments.as_ref(), &secrets);
    let spec = AppSpec {
        name: name?,
        title,
        runtime: runtime?,
        hosting,
        environments: environments?,
        start_mode,
        env,
        secrets,
        database,
        limits,
        proxy,
        labels,
        auto_upgrade,
        placements,
    };
    check_total(walk, &spec);
    Some(spec)
}

type Field<'v> = (String, Option<&'v Value>);
/// Detail and hint.
type Fault = (String, String);

fn required<T>(
    walk: &mut Walk,
    (path, value): Field<'_>,
    hint: &str,
    parse: impl FnOnce(&str) -> Result<T, NameError>,
) -> Option<T> {
    if value.is_none_or(Value::is_null) {
        walk.invalid(path.as_str(), format!("{path} is missing"), format!("give {hint}"));
        return None;
    }
    walk.parsed(&path, value, |text| parse(text).map_err(name_fault))
}

fn name_fault(error: NameError) -> Fault {
    (format!("{} is not {}", quoted(&error.value), error.kind), error.rule.into())
}

fn quantity_fault(error: QuantityError) -> Fault {
    (format!("{} is not a {}", quoted(&error.value), error.kind), error.hint.into())
}

fn read_title(text: &str) -> Result<String, Fault> {
    if text.len() > TITLE_MAX || text.chars().any(char::is_control) {
        let hint = format!("write one line of at most {TITLE_MAX} bytes");
        return Err((format!("{} is too long for a title or not one line", quoted(text)), hint));
    }
    Ok(text.into())
}

fn read_start_mode(text: &str) -> Result<StartMode, Fault> {
    StartMode::parse(text).ok_or_else(|| {
        let words: Vec<&str> = StartMode::ALL.iter().map(|mode| mode.as_str()).collect();
        (format!("{} is not a start mode", quoted(text)), format!("write {}", words.join(", ")))
    })
}

fn read_hosting(text: &str) -> Result<Hosting, Fault> {
    Hosting::parse(text)
        .ok_or_else(|| (format!("{} is not a way of hosting", quoted(text)), "write dedicated or shared".into()))
}

/// Settings of the contract that this version knows by name only. What asks for nothing is accepted.
fn refuse_what_is_to_come(walk: &mut Walk, fields: &Fields<'_>) {
    let (path, idle) = fields.get("idle_stop");
    if let Some(idle) = idle.filter(|idle| !idle.is_null()) {
        not_yet(walk, &path, &shown(idle), "leave it out");
    }
    let (path, domains) = fields.get("domains");
    if walk.list(&path, domains).is_some_and(|domains| !domains.is_empty()) {
        not_yet(walk, &path, "a list of domains", "leave it empty; the app is reached at /apps/<name>/");
    }
}

fn not_yet(walk: &mut Walk, path: &str, value: &str, hint: &str) {
    walk.invalid(path, format!("{path}: {value} is not available yet"), hint);
}

fn read_environments(
    walk: &mut Walk,
    (path, value): Field<'_>,
    defaults: &SpecDefaults,
) -> Option<BTreeSet<EnvironmentName>> {
    const HINT: &str = "name at least one of `nbsupervisor env list`";
    if value.is_none_or(Value::is_null) {
        if defaults.environments.is_none() {
            walk.invalid(path.as_str(), format!("{path} is missing"), HINT);
        }
        return defaults.environments.clone();
    }
    let items = walk.list(&path, value)?;
    if items.is_empty() {
        walk.invalid(path.as_str(), "an empty list: the app would run nowhere", HINT);
        return None;
    }
    let mut names = BTreeSet::new();
    let mut all_well = true;
    for (path, item) in &items {
        if item.is_null() {
            walk.invalid(path.as_str(), "null is not an environment name", HINT);
        }
        match walk.parsed(path, Some(item), |text| EnvironmentName::parse(text).map_err(name_fault)) {
            Some(name) => drop(names.insert(name)),
            None => all_well = false,
        }
    }
    all_well.then_some(names)
}

/// Why a text cannot be the name of a variable.
fn variable_name_fault(name: &str) -> Option<Fault> {
    let well_formed = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !well_formed || name.len() > KEY_MAX {
        let hint = format!("use a letter or _, then letters, digits and _, at most {KEY_MAX}");
        return Some((format!("{} is not the name of a variable", quoted(name)), hint));
    }
    let reserved = RESERVED.contains(&name) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    reserved.then(|| {
        let hint = "choose another name; NOTIFY_SOCKET, LISTEN_FDS, LISTEN_PID, NBS_* and NBSUPERVISOR_* are reserved";
        (format!("{name} is set by the supervisor"), hint.into())
    })
}

/// What is wrong with a text as a value, in words that do not show it.
fn value_fault(value: &Value) -> Option<Fault> {
    match value {
        Value::String(text) if text.contains('\0') => {
            Some(("the value contains a NUL character".into(), "take it out; no variable can hold one".into()))
        }
        Value::String(text) if text.len() > SPEC_VALUE_MAX => Some((
            format!("the value has {} bytes, more than {SPEC_VALUE_MAX}", text.len()),
            "shorten it, or put it in a file of the app".into(),
        )),
        Value::String(_) => None,
        other => Some((format!("the value is {}, not a text", kind(other)), "write it in quotes".into())),
    }
}

/// The well formed entries of an object of texts; the others are noted.
fn entries<'v>(
    walk: &mut Walk,
    (path, value): Field<'v>,
    name_fault: impl Fn(&str) -> Option<Fault>,
) -> Vec<(String, &'v str)> {
    let Some(map) = walk.map(&path, value) else { return Vec::new() };
    if map.len() > SPEC_ENTRIES_MAX {
        let detail = format!("{} entries are more than {SPEC_ENTRIES_MAX}", map.len());
        walk.invalid(path.as_str(), detail, "leave some out, or put them in a file of the app");
        return Vec::new();
    }
    let mut found = Vec::new();
    for (name, value) in map {
        match (name_fault(name).or_else(|| value_fault(value)), value) {
            (None, Value::String(text)) => found.push((name.clone(), text.as_str())),
            (Some(fault), _) => walk.fault(&join(&path, name), fault),
            (None, _) => {}
        }
    }
    found
}

fn read_variables(walk: &mut Walk, field: Field<'_>) -> BTreeMap<String, String> {
    entries(walk, field, variable_name_fault).into_iter().map(|(name, text)| (name, text.to_owned())).collect()
}

fn read_secrets(walk: &mut Walk, field: Field<'_>, env: &BTreeMap<String, String>) -> BTreeMap<String, SecretText> {
    let path = field.0.clone();
    let read = entries(walk, field, variable_name_fault);
    for name in read.iter().map(|(name, _)| name).filter(|name| env.contains_key(*name)) {
        walk.invalid(join(&path, name), format!("{name} is in env too"), "keep it in one of the two");
    }
    read.into_iter().map(|(name, text)| (name, SecretText::new(text))).collect()
}

fn read_labels(walk: &mut Walk, field: Field<'_>) -> BTreeMap<String, String> {
    let label_fault = |name: &str| {
        let letters = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'/');
        let well_formed = name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.bytes().all(letters);
        (!well_formed || name.len() > KEY_MAX).then(|| {
            let hint = format!("use a letter or digit, then letters, digits, _ . - and /, at most {KEY_MAX}");
            (format!("{} is not the name of a label", quoted(name)), hint)
        })
    };
    let path = field.0.clone();
    let read = entries(walk, field, label_fault);
    for (name, text) in read.iter().filter(|(_, text)| text.chars().any(char::is_control)) {
        let detail = format!("{} contains a control character", quoted(text));
        walk.invalid(join(&path, name), detail, "write a label on one line");
    }
    read.into_iter().map(|(name, text)| (name, text.to_owned())).collect()
}

fn read_limits(walk: &mut Walk, (path, value): Field<'_>) -> Limits {
    let fields = walk.object(&path, value, &["memory_max", "cpu_quota", "tasks_max", "io_weight"]);
    let (path, memory) = fields.get("memory_max");
    let memory_max = match memory {
        Some(Value::Number(number)) => {
            let parsed = ByteSize::parse(&number.to_string()).ok().filter(|_| number.is_u64());
            if parsed.is_none() {
                let hint = "write 1G, 512M or a number of bytes";
                walk.invalid(path, format!("{number} is not a size"), hint);
            }
            parsed
        }
        other => walk.parsed(&path, other, |text| ByteSize::parse(text).map_err(quantity_fault)),
    };
    let (path, quota) = fields.get("cpu_quota");
    let cpu_quota = match quota {
        Some(Value::Number(number)) => {
            let hint = format!("write a percentage of one CPU, such as \"{number}%\"");
            walk.invalid(path, format!("{number} is not a CPU quota"), hint);
            None
        }
        other => walk.parsed(&path, other, |text| CpuQuota::parse(text).map_err(quantity_fault)),
    };
    let (path, tasks) = fields.get("tasks_max");
    let tasks_max = tasks.and_then(Value::as_u64).filter(|count| *count > 0);
    if let Some(tasks) = tasks.filter(|tasks| !tasks.is_null() && tasks_max.is_none()) {
        let detail = format!("{} is not a number of tasks", shown(tasks));
        walk.invalid(path, detail, "write a whole number from 1, without quotes");
    }
    let (path, weight) = fields.get("io_weight");
    let io_weight = weight.and_then(Value::as_u64).filter(|weight| (1..=10_000).contains(weight));
    if let Some(weight) = weight.filter(|weight| !weight.is_null() && io_weight.is_none()) {
        let detail = format!("{} is not a weight", shown(weight));
        walk.invalid(path, detail, "write a whole number from 1 to 10000, without quotes; 100 is usual");
    }
    Limits { memory_max, cpu_quota, tasks_max, io_weight: io_weight.map(|weight| weight as u32) }
}

fn read_proxy(
    walk: &mut Walk,
    (path, value): Field<'_>,
    environments: Option<&BTreeSet<EnvironmentName>>,
) -> ProxySettings {
    let fields = walk.object(&path, value, &["choice", "hold_timeout"]);
    let (path, choice) = fields.get("choice");
    let choice = walk.parsed(&path, choice, |text| match text {
        "required" => Ok(ProxyChoice::Required),
        "spread" => Ok(ProxyChoice::Spread),
        name => match EnvironmentName::parse(name) {
            // Where the environments themselves are at fault, that is what is told.
            Ok(name) if environments.is_none_or(|known| known.contains(&name)) => Ok(ProxyChoice::Environment(name)),
            _ => Err((format!("{} is no choice", quoted(name)), choice_hint(name, environments))),
        },
    });
    let (path, hold) = fields.get("hold_timeout");
    let hold_timeout = match hold {
        Some(Value::Number(number)) => {
            let detail = format!("{number} is a number without a unit");
            walk.invalid(path, detail, format!("write it as \"{number}s\" if you mean seconds"));
            None
        }
        other => walk.parsed(&path, other, |text| parse_duration(text).map_err(quantity_fault)),
    };
    ProxySettings { choice: choice.unwrap_or_default(), hold_timeout }
}

fn choice_hint(given: &str, environments: Option<&BTreeSet<EnvironmentName>>) -> String {
    let names = environments.into_iter().flatten().map(EnvironmentName::as_str);
    match meant_by(given, ["required", "spread"].into_iter().chain(names)) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "write required, spread or one of the app's environments".into(),
    }
}

fn read_placements(
    walk: &mut Walk,
    (path, value): Field<'_>,
    environments: Option<&BTreeSet<EnvironmentName>>,
    secrets: &BTreeMap<String, SecretText>,
) -> BTreeMap<EnvironmentName, Placement> {
    let mut placements = BTreeMap::new();
    for (key, value) in walk.map(&path, value).into_iter().flatten() {
        let path = join(&path, key);
        let known = EnvironmentName::parse(key).ok().filter(|name| environments.is_none_or(|all| all.contains(name)));
        if known.is_none() {
            let names = environments.into_iter().flatten().map(EnvironmentName::as_str);
            let hint = match meant_by(key, names) {
                Some(meant) => format!("did you mean {meant}?"),
                None => "add it to environments, or take this placement away".into(),
            };
            walk.invalid(path.as_str(), format!("{} is not an environment of this app", quoted(key)), hint);
        }
        if value.is_null() {
            walk.invalid(path.as_str(), "null is no placement", "write an object: { … }, or leave it out");
        }
        let fields = walk.object(&path, Some(value), &["env", "serve"]);
        let env = read_variables(walk, fields.get("env"));
        for name in env.keys().filter(|name| secrets.contains_key(*name)) {
            let field = join(&join(&path, "env"), name);
            walk.invalid(field, format!("{name} is in secrets too"), "keep it in one of the two");
        }
        let (path, serve) = fields.get("serve");
        let serve = walk.flag(&path, serve).unwrap_or(true);
        placements.extend(known.map(|name| (name, Placement { env, serve })));
    }
    placements
}

/// Patches could grow a spec beyond what one request may carry; then nobody could send it back.
fn check_total(walk: &mut Walk, spec: &AppSpec) {
    let size = |map: &BTreeMap<String, String>| map.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
    let secrets: usize = spec.secrets.iter().map(|(name, text)| name.len() + text.expose().len()).sum();
    let placed: usize = spec.placements.values().map(|placement| size(&placement.env)).sum();
    let total = size(&spec.env) + size(&spec.labels) + secrets + placed;
    if total > BODY_MAX {
        let detail = format!("the spec has {total} bytes of variables, secrets and labels, more than {BODY_MAX}");
        walk.invalid("env", detail, "shorten some, or put them in a file of the app");
    }
}
