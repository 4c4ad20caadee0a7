//! A recipe file: from TOML to the core's `Recipe`.
//!
//! Only files that belong to root (or the daemon's own user) and that no one else may write to are read: whoever writes
//! a recipe decides what the daemon runs. Deliberately absent: the strict sandbox; a recipe that wants it is refused.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use nbs_core::name::RuntimeName;
use nbs_core::recipe::{Adapter, Listen, Recipe};
use nbs_core::spec::Limits;
use nbs_core::template::{Placeholder, Template, TemplateError};
use nbs_core::unit::Sandbox;
use nix::unistd::Uid;

use super::catalogue::Catalogue;
use super::file::unreadable;
use super::parse;
use super::problem::{Origin, Problem};
use super::reader::{Complaint, Given, Notes, Reader};
use super::value::{Kind, Table, Value, parse_file};
use super::{recipe_host, recipe_part, recipe_paths, recipe_probe, recipe_shared, trust};
use nbs_core::nearest::nearest;

/// Bytes of one recipe file. The longest seen was 6 KiB; a bigger one is no recipe.
const FILE_MAX: u64 = 1 << 20;

/// Loads every recipe of a directory. A bad file is told and hides no other.
pub fn load_recipes(dir: &Path) -> (BTreeMap<RuntimeName, Arc<Recipe>>, Vec<Problem>) {
    let catalogue = Catalogue::open(dir);
    let problems = catalogue.problems();
    ((*catalogue.recipes()).clone(), problems)
}

/// Loads one recipe file; no recipe if one of the problems is an error.
pub fn load_recipe_file(file: &Path) -> (Option<Recipe>, Vec<Problem>) {
    load_as(file, Uid::effective().as_raw())
}

/// The same for a daemon that runs as this user.
pub(super) fn load_as(file: &Path, daemon_uid: u32) -> (Option<Recipe>, Vec<Problem>) {
    let table = match read_trusted(file, daemon_uid) {
        Ok(table) => table,
        Err(problems) => return (None, problems),
    };
    let notes = Notes::default();
    let recipe = read(table, file, daemon_uid, &notes);
    let (_, problems) = notes.finish();
    (recipe.filter(|_| !problems.iter().any(Problem::is_error)), problems)
}

/// Reads the file that was checked, not one that took its place in between.
fn read_trusted(file: &Path, daemon_uid: u32) -> Result<Table, Vec<Problem>> {
    let fail = |error: io::Error| vec![unreadable(file, &error)];
    let refuse = |c: Complaint| vec![Problem::error(Origin::of_file(file), "", c.text, c.hint)];
    // A pipe would block at the opening, so what is no file is told before it.
    if !std::fs::metadata(file).map_err(fail)?.is_file() {
        return Err(refuse(Complaint::new("this is not a file", "remove it")));
    }
    let opened = File::open(file).map_err(fail)?;
    let meta = opened.metadata().map_err(fail)?;
    if let Some(mistrust) = trust::mistrust(&meta, daemon_uid) {
        return Err(refuse(mistrust));
    }
    if meta.len() > FILE_MAX {
        return Err(refuse(Complaint::new("this is too big for a recipe", "write at most 1 MiB")));
    }
    let mut text = String::new();
    opened.take(FILE_MAX).read_to_string(&mut text).map_err(fail)?;
    parse_file(file, &text)
}

/// The templates of a recipe as they are read, for checks across keys.
#[derive(Debug, Default)]
pub(super) struct Templates(RefCell<Vec<Given<Template>>>);

impl Templates {
    /// Takes a text with placeholders.
    pub fn take(&self, reader: &mut Reader<'_>, key: &str) -> Option<Given<Template>> {
        let given = reader.parsed(key, template)?;
        self.0.borrow_mut().push(given.clone());
        Some(given)
    }

    /// Takes a path with placeholders.
    pub fn take_path(&self, reader: &mut Reader<'_>, key: &str) -> Option<Given<Template>> {
        let given = reader.parsed(key, path_template)?;
        self.0.borrow_mut().push(given.clone());
        Some(given)
    }

    /// Takes an argument vector; one of nothing is refused.
    pub fn take_argv(&self, reader: &mut Reader<'_>, key: &str) -> Option<Given<Vec<Template>>> {
        let texts = reader.texts(key)?;
        if texts.value.first().is_none_or(|program| program.value.is_empty()) {
            let complaint = Complaint::new("there is no program in it", "write [\"/usr/bin/program\", \"argument\"]");
            reader.notes().complain(&texts, complaint);
            return None;
        }
        let parsed = texts.value.iter().filter_map(|text| match template(&text.value) {
            Ok(template) => {
                self.0.borrow_mut().push(text.with(template.clone()));
                Some(template)
            }
            Err(complaint) => {
                reader.notes().complain(text, complaint);
                None
            }
        });
        Some(texts.with(parsed.collect()))
    }

    /// Keeps one that was read elsewhere.
    pub fn keep(&self, given: Given<Template>) {
        self.0.borrow_mut().push(given);
    }

    /// Placeholders that have no value in a recipe of this kind.
    fn check(&self, listen: Listen, has_app_dir: bool, notes: &Notes) {
        for given in self.0.borrow().iter() {
            for hole in given.value.placeholders() {
                let hint = match hole {
                    // Arguments and directories can be read by every user of the host: in /proc, and of a unit over D-Bus.
                    secret if secret.is_secret() && !hides_secrets(&given.key) => {
                        let text = format!("{{{hole}}} would be shown to every user of the host here");
                        let hint = "hand it over in [environment], and let the program read its variable";
                        notes.complain(given, Complaint::new(text, hint));
                        continue;
                    }
                    Placeholder::Port | Placeholder::Socket if of_shared_app(&given.key) => {
                        "an app that shares a process has no address of its own; leave it out"
                    }
                    Placeholder::Port if !listen.needs_port() => "set listen = \"port\" (or \"fd\")",
                    Placeholder::Socket if listen != Listen::Unix => "set listen = \"unix\"",
                    Placeholder::AppDir if !has_app_dir => "set app_dir",
                    _ => continue,
                };
                notes.complain(given, Complaint::new(format!("{{{hole}}} has no value here"), hint));
            }
        }
    }
}

/// Whether what stands under a key is seen by the program alone.
fn hides_secrets(key: &str) -> bool {
    let carried = [".headers.", ".body", "shared.env."].iter().any(|part| key.contains(part));
    key.starts_with("environment.") || key.ends_with(".http") || (key.starts_with("shared.") && carried)
        // A path is judged where it is read.
        || (key.starts_with("shared.") && is_request(key))
}

fn is_request(key: &str) -> bool {
    let last = key.rsplit('.').next().unwrap_or_default();
    nbs_core::shared::Method::ALL.iter().any(|method| method.key() == last)
}

/// Whether a key is about one of several apps in a process.
fn of_shared_app(key: &str) -> bool {
    let part = key.strip_prefix("shared.").and_then(|rest| rest.split('.').next()).unwrap_or_default();
    matches!(part, "create" | "update" | "start" | "stop" | "remove" | "upgrade" | "ready" | "alive" | "version")
}

/// Parses a text with placeholders.
pub(super) fn template(text: &str) -> Result<Template, Complaint> {
    if text.contains('\0') {
        return Err(Complaint::new("there is a NUL byte in it", "remove it"));
    }
    Template::parse(text).map_err(|error| match error {
        TemplateError::Unknown(name) => {
            let hint = match nearest(&name, Placeholder::names()) {
                Some(right) => format!("did you mean {{{right}}}?"),
                None => {
                    let all: Vec<String> =
                        Placeholder::names().chain(["env.NAME", "secret.NAME"]).map(|n| format!("{{{n}}}")).collect();
                    format!("there is {}", all.join(", "))
                }
            };
            Complaint::new(format!("unknown placeholder {{{name}}}"), hint)
        }
        unbalanced @ TemplateError::Unbalanced(_) => Complaint::new(unbalanced.to_string(), ""),
    })
}

/// The same for a path, which must not depend on where the daemon was started.
fn path_template(text: &str) -> Result<Template, Complaint> {
    if !text.starts_with(['/', '{']) {
        return Err(Complaint::new(format!("{text:?} is not an absolute path"), "begin it with / or a placeholder"));
    }
    template(text)
}

fn read(table: Table, file: &Path, daemon_uid: u32, notes: &Notes) -> Option<Recipe> {
    let mut top = Reader::new(table, notes);
    let templates = Templates::default();
    let name = required(&mut top, file, "name", |top| top.parsed("name", |text| Ok(RuntimeName::parse(text)?)));
    let command = required(&mut top, file, "command", |top| templates.take_argv(top, "command"));
    let working_dir = templates.take_path(&mut top, "working_dir");
    let app_dir = top.parsed("app_dir", app_dir);
    let listen = top.parsed("listen", listen).map_or(Listen::None, |given| given.value);
    let user = top.parsed("user", account);
    let group = top.parsed("group", account);
    let adapter = top.parsed("adapter", self::adapter);
    let sandbox = top.parsed("sandbox", self::sandbox);
    check_adapter(adapter.as_ref(), sandbox.as_ref(), listen, notes);
    let limits = recipe_part::limits(&mut top, "limits");
    let max_limits = recipe_part::limits(&mut top, "max_limits");
    check_limits(&limits, &max_limits, notes);
    let restart = recipe_part::restart(&mut top, &templates);
    let recipe = Recipe {
        name: name.as_ref().map_or_else(nameless, |given| given.value.clone()),
        description: top.text("description").map(|given| given.value).unwrap_or_default(),
        command: command.as_ref().map(|given| given.value.clone()).unwrap_or_default(),
        working_dir: working_dir.as_ref().map(|given| given.value.clone()),
        adapter: adapter.as_ref().map(|given| given.value),
        environment: variables(&mut top, "environment", &templates),
        listen,
        strip_prefix: top.boolean("strip_prefix").is_some_and(|given| given.value),
        user: user.as_ref().map(|given| given.value.clone()),
        group: group.as_ref().map(|given| given.value.clone()),
        ready: recipe_probe::ready(&mut top, &templates, listen),
        alive: recipe_probe::alive(&mut top, &templates, listen),
        version: recipe_probe::version(&mut top, &templates, listen),
        prepare: recipe_part::hooks(&mut top, &templates, "prepare"),
        stop: recipe_part::stop(&mut top),
        restart: restart.policy,
        limits: limits.value,
        max_limits: max_limits.value,
        paths: recipe_paths::paths(&mut top),
        app_id_pattern: top.parsed("app_id_pattern", app_id_pattern).map(|given| given.value),
        app_dir: app_dir.map(|given| given.value),
        sandbox: sandbox.as_ref().map(|given| given.value).unwrap_or_default(),
        unit: recipe_part::unit(&mut top),
        shared: recipe_shared::shared(&mut top, &templates, name.as_ref(), listen).map(Arc::new),
        upkeep: recipe_part::upkeep(&mut top, &templates, restart.on_file),
    };
    top.finish();
    templates.check(recipe.listen, recipe.app_dir.is_some(), notes);
    let program = templates.0.borrow().iter().find(|given| given.key == "command[0]").cloned();
    let by_systemd = recipe.adapter_on(host_adapter()) == Adapter::Systemd;
    recipe_host::check(file, (daemon_uid, by_systemd), program, working_dir, user, group, notes);
    (name.is_some() && command.is_some()).then_some(recipe)
}

/// What runs an app on this host if its recipe does not say: units where systemd is the init system.
fn host_adapter() -> Adapter {
    match Path::new("/run/systemd/system").is_dir() {
        true => Adapter::Systemd,
        false => Adapter::Process,
    }
}

/// Stands in for a name that could not be read while the rest of the file is checked; such a recipe is never returned.
fn nameless() -> RuntimeName {
    RuntimeName::parse("nameless").unwrap_or_else(|error| unreachable!("{error}"))
}

/// Takes a key that must be there.
fn required<'n, T>(
    top: &mut Reader<'n>,
    file: &Path,
    key: &str,
    take: impl Fn(&mut Reader<'n>) -> Option<Given<T>>,
) -> Option<Given<T>> {
    if !top.has(key) {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().to_string();
        let hint = match key {
            "name" => format!("write name = {stem:?}"),
            _ => format!("write {key} = [\"/usr/bin/program\", \"argument\"]"),
        };
        top.notes().problem(Problem::error(Origin::of_file(file), key, "it is missing", hint));
    }
    take(top)
}

/// `{app_dir}` is filled in everywhere else, so it can lean only on what needs nothing else.
fn app_dir(text: &str) -> Result<Template, Complaint> {
    let parsed = path_template(text)?;
    let usable = |hole: &Placeholder| matches!(hole, Placeholder::App | Placeholder::Environment | Placeholder::Env(_));
    let odd = parsed.placeholders().find(|hole| !usable(hole)).cloned();
    match odd {
        Some(hole) => {
            Err(Complaint::new(format!("{{{hole}}} has no value here"), "use {app}, {environment} or {env.NAME}"))
        }
        None => Ok(parsed),
    }
}

fn listen(text: &str) -> Result<Listen, Complaint> {
    let all = [Listen::Port, Listen::Unix, Listen::Fd, Listen::None];
    parse::word(text, "a way to listen", &all.map(|listen| (listen.as_str(), listen)))
}

fn adapter(text: &str) -> Result<Adapter, Complaint> {
    parse::word(text, "an adapter", &[("process", Adapter::Process), ("systemd", Adapter::Systemd)])
}

fn sandbox(text: &str) -> Result<Sandbox, Complaint> {
    let words = [("none", Some(Sandbox::None)), ("standard", Some(Sandbox::Standard)), ("strict", None)];
    parse::word(text, "a sandbox", &words)?
        .ok_or_else(|| Complaint::new("sandbox strict is not available yet", "write standard"))
}

/// What an adapter cannot do with the rest of the recipe.
fn check_adapter(adapter: Option<&Given<Adapter>>, sandbox: Option<&Given<Sandbox>>, listen: Listen, notes: &Notes) {
    let wanted = adapter.map(|given| given.value);
    if let Some(given) = adapter.filter(|given| given.value == Adapter::Systemd && listen == Listen::Fd) {
        let text = "listen = \"fd\" is not available with systemd units yet";
        notes.complain(given, Complaint::new(text, "leave adapter out"));
    }
    let bare = wanted == Some(Adapter::Process) || (wanted.is_none() && listen == Listen::Fd);
    if let Some(given) = sandbox.filter(|given| bare && given.value != Sandbox::None) {
        notes.warn(given, "the process adapter has no sandbox", "write adapter = \"systemd\", or leave sandbox out");
    }
}

fn account(text: &str) -> Result<String, Complaint> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == ':' || c == '/';
    if text.is_empty() || text.contains(odd) {
        return Err(Complaint::new(format!("{text:?} is not the name of a user or group"), "write its name"));
    }
    Ok(text.to_string())
}

/// An unanchored pattern would let `x; crm` pass for `crm`.
fn app_id_pattern(text: &str) -> Result<String, Complaint> {
    if text.len() > 2 && text.starts_with('^') && text.ends_with('$') {
        return Ok(text.to_string());
    }
    Err(Complaint::new(format!("{text:?} is not anchored"), "begin it with ^ and end it with $"))
}

/// Takes a table of variables.
pub(super) fn variables(top: &mut Reader<'_>, key: &str, templates: &Templates) -> BTreeMap<String, Template> {
    let mut environment = BTreeMap::new();
    let Some(mut group) = top.table(key) else { return environment };
    for (name, given) in group.take_rest() {
        let first_ok = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !first_ok || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            let hint = "use letters, digits and _, and no digit first";
            group.notes().complain(&given, Complaint::new(format!("{name:?} is not a variable's name"), hint));
            continue;
        }
        match variable(&given.value) {
            Ok(template) => {
                templates.0.borrow_mut().push(given.with(template.clone()));
                environment.insert(name, template);
            }
            Err(complaint) => group.notes().complain(&given, complaint),
        }
    }
    environment
}

fn variable(value: &Value) -> Result<Template, Complaint> {
    match &value.kind {
        Kind::Text(text) => template(text),
        other => {
            let hint = match other {
                Kind::List(_) | Kind::Table(_) => "write one text in quotes".to_string(),
                scalar => format!("write \"{scalar}\", in quotes"),
            };
            Err(Complaint::new(format!("{other} is {}, not a text", other.type_name()), hint))
        }
    }
}

fn check_limits(limits: &Given<Limits>, max: &Given<Limits>, notes: &Notes) {
    if let Some((key, value, bound)) = limits.value.above(&max.value) {
        let place = Given { key: format!("limits.{key}"), ..limits.with(()) };
        let text = format!("{value} is above max_limits.{key}, which is {bound}");
        notes.complain(&place, Complaint::new(text, "lower it, or raise max_limits"));
    }
}
