//! `[shared]` of a recipe: how several apps run in one process, and what is asked of that process.

use std::collections::BTreeMap;
use std::time::Duration;

use nbs_core::database::Database;
use nbs_core::name::{RuntimeName, ServerName};
use nbs_core::order::Select;
use nbs_core::recipe::{Check, Listen, Ready};
use nbs_core::shared::{Body, Call, Expect, HOST, Listing, Login, Method, Setup, Shared, host_of};
use nbs_core::template::Template;

use super::parse;
use super::reader::{Complaint, Given, Reader};
use super::recipe::{Templates, template};
use super::recipe_part::{duration, limits};
use super::recipe_probe;
use super::value::{Kind, Value};

/// A host on the same machine answers within milliseconds; one that is busy with itself may take a while.
const ANSWER: Duration = Duration::from_secs(30);
/// How long an app may take to stop in its host.
const STOP: Duration = Duration::from_secs(60);
/// How long a host may take to prepare itself, for each step.
const SETUP: Duration = Duration::from_secs(120);
/// How often a host is asked for its apps.
const INTERVAL: Duration = Duration::from_secs(5);
/// Below it, asking is a load of its own.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The configured server that makes the host process's own database.
const SERVER: &str = "default";
/// A path may hold what the gateway and logs show.
const IN_PATH: &str = "hand it over in headers or body";

/// Takes `[shared]`; `None` if there is none or it is too wrong to go on, which is noted.
pub fn shared(
    top: &mut Reader<'_>,
    templates: &Templates,
    runtime: Option<&Given<RuntimeName>>,
    listen: Listen,
) -> Option<Shared> {
    let mut table = top.table("shared")?;
    let place = Given { value: (), key: table.path().to_string(), origin: table.origin() };
    if listen == Listen::None {
        let hint = "set listen, so that the process can be asked";
        table.notes().complain(&place, Complaint::new("the process that apps share listens nowhere", hint));
    }
    let host = runtime.and_then(|given| host_of(&given.value));
    if let Some(given) = runtime.filter(|_| host.is_none()) {
        let text = format!("{} is too long a name for a runtime with [shared]", given.value);
        table.notes().complain(given, Complaint::new(text, format!("use at most {} letters", 63 - HOST.len())));
    }
    let headers = headers(&mut table, templates);
    let mut calls = Calls { templates, headers };
    let shared = Shared {
        host: host.or_else(|| host_of(&RuntimeName::parse("nameless").ok()?))?,
        env: super::recipe::variables(&mut table, "env", templates),
        database: table.parsed("database", database).and_then(|given| given.value),
        limits: limits(&mut table, "limits").value,
        select: select(&mut table),
        login: login(&mut table, &mut calls),
        setup: setup(&mut table, &mut calls),
        list: list(&mut table, &mut calls)?,
        create: calls.take(&mut table, "create"),
        update: calls.take(&mut table, "update"),
        start: calls.need(&mut table, "start")?,
        stop_timeout: STOP,
        stop: calls.need(&mut table, "stop")?,
        remove: calls.take(&mut table, "remove"),
        upgrade: calls.take(&mut table, "upgrade"),
        ready: ready(&mut table, templates, listen)?,
        alive: recipe_probe::alive(&mut table, templates, listen).filter(|alive| matches!(alive.check, Check::Http(_))),
        version: recipe_probe::version(&mut table, templates, listen),
    };
    table.finish();
    Some(Shared { stop_timeout: shared.stop.timeout, ..shared })
}

fn database(text: &str) -> Result<Option<Database>, Complaint> {
    let server = ServerName::parse(SERVER)?;
    match parse::word(text, "a database mode", &["none", "new-database", "new-schema"].map(|word| (word, word)))? {
        "new-database" => Ok(Some(Database::New { server })),
        "new-schema" => Ok(Some(Database::Schema { server })),
        _ => Ok(None),
    }
}

/// Takes headers, which may have placeholders.
fn headers(table: &mut Reader<'_>, templates: &Templates) -> BTreeMap<String, Template> {
    let Some(mut table) = table.table("headers") else { return BTreeMap::new() };
    let mut headers = BTreeMap::new();
    for (name, given) in table.take_rest() {
        if Select::by_header(&name).is_none() {
            let hint = "name one such as X-App; Host, Content-Length and the like are HTTP's own";
            table.notes().complain(&given, Complaint::new(format!("{name:?} is no header to set"), hint));
            continue;
        }
        if let Some(template) = leaf(&table, templates, &given) {
            headers.insert(name, template);
        }
    }
    headers
}

/// A text with placeholders, wherever it stands.
fn leaf(table: &Reader<'_>, templates: &Templates, given: &Given<Value>) -> Option<Template> {
    let Kind::Text(text) = &given.value.kind else {
        let text = format!("{} is {}, not a text", given.value.kind, given.value.kind.type_name());
        table.notes().complain(given, Complaint::new(text, "write it in quotes"));
        return None;
    };
    match template(text) {
        Ok(template) => {
            templates.keep(given.with(template.clone()));
            Some(template)
        }
        Err(complaint) => {
            table.notes().complain(given, complaint);
            None
        }
    }
}

/// What a request carries.
fn body(table: &Reader<'_>, templates: &Templates, given: &Given<Value>) -> Option<Body<Template>> {
    Some(match &given.value.kind {
        Kind::Text(_) => Body::Text(leaf(table, templates, given)?),
        Kind::Integer(number) => Body::Integer(*number),
        Kind::Boolean(flag) => Body::Boolean(*flag),
        Kind::List(_) => {
            let items = table.items(given)?;
            Body::List(items.iter().filter_map(|item| body(table, templates, item)).collect())
        }
        Kind::Table(map) => {
            let pair = |(key, entry): (&String, &super::value::Entry)| {
                let path = format!("{}.{key}", given.key);
                let item = Given { key: path, origin: entry.value.origin.clone(), value: entry.value.clone() };
                Some((key.clone(), body(table, templates, &item)?))
            };
            Body::Table(map.iter().filter_map(pair).collect())
        }
        Kind::Other(_) => {
            let text = format!("{} cannot be sent", given.value.kind);
            table.notes().complain(given, Complaint::new(text, "write a text, a whole number, true or false"));
            return None;
        }
    })
}

/// What all requests of one recipe have in common.
struct Calls<'t> {
    templates: &'t Templates,
    /// Sent with each of them.
    headers: BTreeMap<String, Template>,
}

impl Calls<'_> {
    fn take(&mut self, table: &mut Reader<'_>, key: &str) -> Option<Call> {
        let mut table = table.table(key)?;
        let call = self.call(&mut table, ANSWER);
        table.finish();
        call
    }

    /// The same for one that must be there.
    fn need(&mut self, table: &mut Reader<'_>, key: &str) -> Option<Call> {
        if !table.has(key) {
            missing(table, key, &format!("write {key} = {{ post = \"/apps/{{app}}/{key}\" }}"));
        }
        let mut table = table.table(key)?;
        let call = self.call(&mut table, if key == "stop" { STOP } else { ANSWER });
        table.finish();
        call
    }

    /// The keys of a request, of a table that may have others.
    fn call(&mut self, table: &mut Reader<'_>, timeout: Duration) -> Option<Call> {
        let keys: Vec<&str> = Method::ALL.iter().map(|method| method.key()).collect();
        let asked = recipe_probe::one_of(table, &keys, true);
        let method = Method::ALL.iter().copied().find(|method| Some(method.key()) == asked);
        let path = method.and_then(|method| self.path(table, method));
        for key in keys.iter().filter(|key| Some(**key) != asked) {
            drop(table.take(key));
        }
        let mut all = self.headers.clone();
        all.extend(headers(table, self.templates));
        let body = table.take("body").and_then(|given| body(table, self.templates, &given));
        let expect = expect(table);
        let timeout = duration(table, "timeout", Duration::from_millis(1)).map_or(timeout, |given| given.value);
        Some(Call { method: method?, path: path?, headers: all, body, expect, timeout })
    }

    fn path(&mut self, table: &mut Reader<'_>, method: Method) -> Option<Template> {
        let given = table.parsed(method.key(), template)?;
        let starts_right = given.value.render(|_| Some("/".into())).is_ok_and(|text| text.starts_with('/'));
        if !starts_right {
            let hint = "write a path on the host's own address, such as \"/apps\"";
            table.notes().complain(&given, Complaint::new("this is not a path", hint));
            return None;
        }
        if let Some(hole) = given.value.placeholders().find(|hole| hole.is_secret()) {
            let text = format!("{{{hole}}} would be shown with the path");
            table.notes().complain(&given, Complaint::new(text, IN_PATH));
        }
        self.templates.keep(given.clone());
        Some(given.value)
    }
}

fn missing(table: &Reader<'_>, key: &str, hint: &str) {
    let place = Given { value: (), key: table.key(key), origin: table.origin() };
    table.notes().complain(&place, Complaint::new("it is missing", hint));
}

/// Takes what makes an answer a good one, in its own table.
fn expect(table: &mut Reader<'_>) -> Expect {
    let Some(mut table) = table.table("expect") else { return Expect::default() };
    let mut status = Vec::new();
    if let Some(given) = table.take("status") {
        let one = [given.clone()];
        let items = match &given.value.kind {
            Kind::List(_) => table.items(&given).unwrap_or_default(),
            _ => one.to_vec(),
        };
        for item in items {
            match item.value.kind {
                Kind::Integer(number) if (100..=599).contains(&number) => status.push(number as u16),
                _ => {
                    let text = format!("{} is no status", item.value.kind);
                    table.notes().complain(&item, Complaint::new(text, "write numbers such as [200, 409]"));
                }
            }
        }
    }
    let json = json_equals(&mut table);
    table.finish();
    Expect { status, json }
}

/// `json` and `equals`, which go together.
fn json_equals(table: &mut Reader<'_>) -> Option<(String, String)> {
    match (table.has("json"), table.has("equals")) {
        (true, false) => missing(table, "equals", "write the text that must stand there, such as equals = \"true\""),
        (false, true) => missing(table, "json", "write the path to look at, such as json = \"data.enabled\""),
        _ => {}
    }
    let (json, equals) = (table.text("json"), table.text("equals"));
    Some((json?.value, equals?.value))
}

fn select(table: &mut Reader<'_>) -> Option<Select> {
    let mut table = table.table("select")?;
    let select = table.parsed("header", |text| {
        let hint = "name one such as X-App";
        Select::by_header(text).ok_or_else(|| Complaint::new(format!("{text:?} is no header to set"), hint))
    });
    if select.is_none() {
        missing(&table, "header", "write header = \"X-App\"");
    }
    table.finish();
    select.map(|given| given.value)
}

fn login(table: &mut Reader<'_>, calls: &mut Calls<'_>) -> Option<Login<Call>> {
    let mut table = table.table("login")?;
    let call = calls.call(&mut table, ANSWER);
    if !table.has("token") {
        missing(&table, "token", "write the path to it in the answer, such as token = \"data.token\"");
    }
    let token = table.text("token");
    let header = table.parsed("header", |text| {
        let known = Select::by_header(text).map(|select| select.header);
        known.ok_or_else(|| Complaint::new(format!("{text:?} is no header to set"), "write header = \"Authorization\""))
    });
    let value = table.parsed("value", |text| match text.matches("{token}").count() {
        1 => Ok(text.to_string()),
        _ => Err(Complaint::new(
            format!("{text:?} does not have {{token}} in it once"),
            "write value = \"Bearer {token}\"",
        )),
    });
    table.finish();
    Some(Login {
        call: call?,
        token: token?.value,
        header: header.map_or_else(|| "Authorization".into(), |given| given.value),
        value: value.map_or_else(|| "Bearer {token}".into(), |given| given.value),
    })
}

fn setup(table: &mut Reader<'_>, calls: &mut Calls<'_>) -> Vec<Setup<Call>> {
    let mut steps = Vec::new();
    for mut table in table.tables("setup") {
        let call = calls.call(&mut table, SETUP);
        if !table.has("done") {
            missing(&table, "done", "write how to see that it is done: done = { get = \"/status\" }");
        }
        let done = table.table("done").and_then(|mut table| {
            let mut done = calls.call(&mut table, ANSWER)?;
            if let Some(json) = json_equals(&mut table) {
                done.expect.json = Some(json);
            }
            table.finish();
            Some(done)
        });
        table.finish();
        if let (Some(call), Some(done)) = (call, done) {
            let timeout = call.timeout;
            steps.push(Setup { call: Call { timeout: timeout.min(ANSWER), ..call }, done, timeout });
        }
    }
    steps
}

fn list(table: &mut Reader<'_>, calls: &mut Calls<'_>) -> Option<Listing<Call>> {
    if !table.has("list") {
        missing(table, "list", "write list = { get = \"/apps\", running = [\"running\"], stopped = [\"stopped\"] }");
    }
    let mut table = table.table("list")?;
    let call = calls.call(&mut table, ANSWER);
    let words = |table: &mut Reader<'_>, key: &str| -> Vec<String> {
        let given = table.texts(key).map(|given| given.value).unwrap_or_default();
        given.into_iter().map(|word| word.value).collect()
    };
    let text = |table: &mut Reader<'_>, key: &str, usual: &str| {
        table.text(key).map_or_else(|| usual.to_string(), |given| given.value)
    };
    if !table.has("running") {
        missing(&table, "running", "write the statuses of an app that runs, such as running = [\"running\"]");
    }
    let listing = call.map(|call| Listing {
        call,
        items: text(&mut table, "items", ""),
        name: text(&mut table, "name", "name"),
        status: text(&mut table, "status", "status"),
        message: table.text("message").map(|given| given.value),
        running: words(&mut table, "running"),
        stopped: words(&mut table, "stopped"),
        failed: words(&mut table, "failed"),
        busy: words(&mut table, "busy"),
        interval: duration(&mut table, "interval", INTERVAL_MIN).map_or(INTERVAL, |given| given.value),
    });
    if listing.is_none() {
        // Its other keys are no mistakes, only its request is.
        drop(table.take_rest());
    }
    table.finish();
    listing
}

/// Readiness of one app: only a request can tell, as the process and its port are everybody's.
fn ready(table: &mut Reader<'_>, templates: &Templates, listen: Listen) -> Option<Ready> {
    if !table.has("ready") {
        missing(table, "ready", "write how one app is asked: ready = { http = \"/apps/{app}/health\" }");
        return None;
    }
    let place = Given { value: (), key: table.key("ready"), origin: table.origin() };
    let ready = recipe_probe::ready(table, templates, listen);
    if !matches!(ready.check, Check::Http(_)) {
        let hint = "write ready = { http = \"/apps/{app}/health\" }";
        table.notes().complain(&place, Complaint::new("one app of several can only be asked by http", hint));
        return None;
    }
    Some(ready)
}
