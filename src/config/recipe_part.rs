//! The parts of a recipe that are no probe: hooks, stop steps, restart policy, limits.

use std::time::Duration;

use nbs_core::directive::{self, Raw};
use nbs_core::quantity::{ByteSize, CpuQuota, parse_duration};
use nbs_core::recipe::{Hook, StopSteps, Upkeep};
use nbs_core::restart::{RestartPolicy, RestartWhen};
use nbs_core::signal::Signal;
use nbs_core::spec::Limits;
use nbs_core::template::Template;
use nbs_core::unit::UnitSetting;

use super::parse;
use super::problem::Origin;
use super::reader::{Complaint, Given, Reader};
use super::recipe::Templates;
use super::value::{Kind, Value};
use nbs_core::nearest::nearest;

/// A migration of a big database takes minutes; the recipe says so if it takes longer.
const HOOK_TIMEOUT: Duration = Duration::from_secs(600);
/// A process that had ten seconds for its first signal gets as many for a short form without a timeout.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Nobody waits a day for an app to start, to stop or to migrate.
const DAY: Duration = Duration::from_secs(86_400);

/// Takes a duration of at most a day.
pub fn duration(reader: &mut Reader<'_>, key: &str, least: Duration) -> Option<Given<Duration>> {
    reader.parsed(key, parse::duration(least..=DAY))
}

/// Takes a list of hooks.
pub fn hooks(top: &mut Reader<'_>, templates: &Templates, key: &str) -> Vec<Hook> {
    let mut hooks = Vec::new();
    for mut table in top.tables(key) {
        if !table.has("command") {
            let place = Given { value: (), key: table.key("command"), origin: table.origin() };
            let hint = "write { command = [\"/usr/bin/program\"] }";
            table.notes().complain(&place, Complaint::new("it is missing", hint));
        }
        let command = templates.take_argv(&mut table, "command");
        let timeout = duration(&mut table, "timeout", Duration::from_millis(1));
        hooks.extend(command.map(|command| Hook {
            command: command.value,
            timeout: timeout.map_or(HOOK_TIMEOUT, |given| given.value),
        }));
        table.finish();
    }
    hooks
}

fn signal(text: &str) -> Result<Signal, Complaint> {
    const USUAL: [&str; 6] = ["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2"];
    Signal::parse(text).ok_or_else(|| {
        let near = nearest(text, USUAL).unwrap_or("SIGTERM");
        Complaint::new(format!("{text:?} is not a signal"), format!("write a signal's name, such as {near}"))
    })
}

/// Takes the stop steps, in the long or the short form.
pub fn stop(top: &mut Reader<'_>) -> StopSteps {
    let Some(mut table) = top.table("stop") else { return StopSteps::default() };
    let short = table.has("signal") || table.has("timeout");
    let steps = table.take("steps");
    let first = table.parsed("signal", signal);
    let timeout = duration(&mut table, "timeout", Duration::ZERO);
    let steps = match steps {
        Some(steps) if short => {
            let hint = "keep either steps, or signal and timeout";
            table.notes().complain(&steps, Complaint::new("signal and timeout are the short form of it", hint));
            StopSteps::default()
        }
        Some(steps) => stop_steps(&table, &steps),
        None => {
            let signal = first.map_or(Signal::TERM, |given| given.value);
            StopSteps(vec![(signal, timeout.map_or(STOP_TIMEOUT, |given| given.value))])
        }
    };
    table.finish();
    steps
}

fn stop_steps(table: &Reader<'_>, steps: &Given<Value>) -> StopSteps {
    let items = table.items(steps).unwrap_or_default();
    let complain = |about: &Given<Value>, text: &str| {
        let hint = "write [[\"SIGTERM\", \"10s\"], [\"SIGINT\", \"5s\"]]";
        table.notes().complain(about, Complaint::new(text, hint));
    };
    if items.is_empty() && matches!(steps.value.kind, Kind::List(_)) {
        complain(steps, "there is no step in it");
    }
    let mut found = Vec::new();
    for item in &items {
        match &item.value.kind {
            Kind::List(pair) => match pair.iter().map(|value| &value.kind).collect::<Vec<_>>()[..] {
                [Kind::Text(name), Kind::Text(time)] => match step(name, time) {
                    Ok(step) => found.push(step),
                    Err(complaint) => table.notes().complain(item, complaint),
                },
                _ => complain(item, "this is not a signal and a duration"),
            },
            _ => complain(item, "this is not a signal and a duration"),
        }
    }
    StopSteps(found)
}

fn step(name: &str, time: &str) -> Result<(Signal, Duration), Complaint> {
    Ok((signal(name)?, parse::duration(Duration::ZERO..=DAY)(time)?))
}

/// What `[restart]` says.
#[derive(Debug, Default)]
pub struct Restart {
    /// After an end that nobody asked for.
    pub policy: RestartPolicy,
    /// The file by which a running app asks for it.
    pub on_file: Option<Template>,
}

/// Takes the restart policy.
pub fn restart(top: &mut Reader<'_>, templates: &Templates) -> Restart {
    let usual = RestartPolicy::default();
    let Some(mut table) = top.table("restart") else { return Restart::default() };
    let on_file = templates.take_path(&mut table, "on_file").map(|given| given.value);
    let policies =
        [("never", RestartWhen::Never), ("on-failure", RestartWhen::OnFailure), ("always", RestartWhen::Always)];
    let policy = table.parsed("policy", |text| parse::word(text, "a restart policy", &policies));
    let delay = duration(&mut table, "delay", Duration::ZERO).map_or(usual.delay, |given| given.value);
    let max_delay = duration(&mut table, "max_delay", Duration::ZERO);
    if let Some(max) = max_delay.as_ref().filter(|max| max.value < delay) {
        table.notes().complain(max, Complaint::new("it is below delay", "raise it, or lower delay"));
    }
    let policy = RestartPolicy {
        policy: policy.map_or(usual.policy, |given| given.value),
        delay,
        max_delay: max_delay.map_or(usual.max_delay.max(delay), |given| given.value),
        burst: table.integer("burst", 0..=10_000).map_or(usual.burst, |given| given.value as u32),
        window: duration(&mut table, "window", Duration::from_millis(1)).map_or(usual.window, |given| given.value),
        reset_after: duration(&mut table, "reset_after", Duration::ZERO).map_or(usual.reset_after, |given| given.value),
    };
    table.later("turn", "a restart in its turn");
    table.finish();
    Restart { policy, on_file }
}

/// Takes what keeps an app up to date.
pub fn upkeep(top: &mut Reader<'_>, templates: &Templates, restart_on_file: Option<Template>) -> Upkeep {
    let given = top.has("backup").then(|| Given { value: (), key: "backup".into(), origin: top.origin() });
    let backup = hooks(top, templates, "backup");
    let upgrade = hooks(top, templates, "upgrade");
    if let Some(place) = given.filter(|_| upgrade.is_empty()) {
        top.notes().warn(
            &place,
            "it runs before the steps of an upgrade, and there are none",
            "add upgrade, or remove it",
        );
    }
    let installed = top.table("installed").and_then(|mut table| {
        let argv = templates.take_argv(&mut table, "exec");
        if argv.is_none() && !table.has("exec") {
            let place = Given { value: (), key: table.key("exec"), origin: table.origin() };
            let hint = "write exec = [\"/usr/bin/program\", \"--version\"]";
            table.notes().complain(&place, Complaint::new("it is missing", hint));
        }
        table.finish();
        argv.map(|given| given.value)
    });
    Upkeep { backup, upgrade, installed, restart_on_file }
}

/// Takes a table of limits.
pub fn limits(top: &mut Reader<'_>, key: &str) -> Given<Limits> {
    let Some(mut table) = top.table(key) else {
        return Given { value: Limits::default(), key: key.into(), origin: Origin::Default };
    };
    let origin = table.origin();
    let limits = Limits {
        memory_max: table.parsed_number("memory_max", |text| Ok(ByteSize::parse(text)?)).map(|given| given.value),
        cpu_quota: table.parsed("cpu_quota", |text| Ok(CpuQuota::parse(text)?)).map(|given| given.value),
        tasks_max: table.integer("tasks_max", 1..=4_194_304).map(|given| given.value as u64),
        io_weight: table.integer("io_weight", 1..=10_000).map(|given| given.value as u32),
    };
    table.finish();
    Given { value: limits, key: key.into(), origin }
}

/// Takes the raw properties of the unit.
pub fn unit(top: &mut Reader<'_>) -> Vec<UnitSetting> {
    let Some(mut table) = top.table("unit") else { return Vec::new() };
    let mut settings = Vec::new();
    for (name, given) in table.take_rest() {
        match directive::read(&name, &raw(&given.value)) {
            Ok(setting) => settings.push(setting),
            Err(fault) => table.notes().complain(&given, Complaint::new(fault.text, fault.hint)),
        }
    }
    settings
}

fn raw(value: &Value) -> Raw {
    match &value.kind {
        Kind::Text(text) => Raw::Text(text.clone()),
        Kind::Integer(number) => Raw::Integer(*number),
        Kind::Boolean(flag) => Raw::Boolean(*flag),
        Kind::List(items) => Raw::List(items.iter().map(raw).collect()),
        Kind::Other(_) | Kind::Table(_) => Raw::Other,
    }
}

/// Parses a duration without bounds of its own.
pub fn any_duration(text: &str) -> Result<Duration, Complaint> {
    Ok(parse_duration(text)?)
}
