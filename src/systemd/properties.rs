//! What a transient unit is given: from a launch to the properties of `StartTransientUnit`.
//!
//! Pure: the same launch at the same site gives the same properties. Deliberately absent: sending them (`bus.rs`), the text
//! of the environment file (`envfile.rs`), finding the program, and what the sandbox consists of (`nbs_core::sandbox`).

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use nbs_core::launch::Launch;
use nbs_core::name::AppId;
use nbs_core::reason::{Reason, ReasonCode};
use nbs_core::recipe::Listen;
use nbs_core::restart::{RestartPolicy, RestartWhen};
use nbs_core::sandbox;
use nbs_core::unit::{SLICE, UnitPlan, UnitValue};
use zbus::Variant;

/// Which systemd is asked, and who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    /// The manager of the system; else the one of a user.
    pub(crate) system: bool,
    /// Instance ID of this daemon.
    pub(crate) instance: &'a str,
    /// Such as 252.
    pub(crate) systemd_version: u32,
    /// The app's environment, as a file that only root (or the daemon's own user) may read.
    pub(crate) env_file: &'a Path,
}

/// Properties by name, in the order in which systemd is to take them.
pub(crate) type Properties = Vec<(Cow<'static, str>, Variant<'static>)>;

/// Where systemd keeps the directories of `StateDirectory` and `RuntimeDirectory`.
const STATE: &str = "/var/lib";
const RUNTIME: &str = "/run";
/// Longest name of a user (utmp has room for no more).
const USER_NAME_MAX: usize = 31;
/// Since this version the pause between restarts can grow.
pub(super) const RESTART_STEPS_SINCE: u32 = 254;
/// Since this version a command with flags is written down so that it can be read back.
const EXEC_FLAGS_SINCE: u32 = 254;
/// What systemd takes for a clean end where the recipe speaks of a failure: nobody asked for it.
const FORCE_RESTART: [i32; 4] = [1, 2, 13, 15];

/// The properties of an instance's unit. `program` is the file that was found for `launch.argv[0]`.
///
/// # Errors
/// `bad_user`: a user of systemd's making could not write to the app's directories where they are.
/// `systemd_unavailable`: the launch is not for a unit.
pub(crate) fn of(launch: &Launch, program: &Path, site: &Site<'_>) -> Result<Properties, Reason> {
    let plan = plan(launch)?;
    let mut list = List::default();
    list.put("Description", format!("{} (nbsupervisor, {})", launch.app, plan.environment));
    list.put("Type", if launch.notify { "notify" } else { "exec" });
    // Any child could otherwise name itself the main process (MAINPID=), and what is supervised would be its choice.
    list.put("NotifyAccess", if launch.notify { "main" } else { "none" });
    common(&mut list, launch, plan, program, &launch.argv, site)?;
    // The socket lives there. Not kept over a restart: an app then never meets its own stale socket, and a kept one
    // of a dynamic user would lie under /run/private.
    if let Some(relative) = run_directory(launch, site)? {
        list.put("RuntimeDirectory", vec![relative]);
        list.put("RuntimeDirectoryMode", 0o750u32);
    }
    restart(&mut list, &plan.restart, site.systemd_version);
    list.put("TimeoutStartUSec", timeout(plan.start_timeout));
    list.put("KillMode", "mixed");
    list.put("KillSignal", plan.stop.0.first().map_or(15, |(signal, _)| signal.0));
    list.put("TimeoutStopUSec", timeout(plan.stop.0.iter().map(|(_, time)| *time).sum()));
    // A process killed for memory ends the unit, with the result oom-kill, which is a failure and restarted as one.
    list.put("OOMPolicy", "stop");
    finish(list, launch, plan, site)
}

/// The properties of a command's unit: a hook or a probe, as the app's user, in its sandbox and environment. With `output`
/// it writes to that file and not to the journal, and systemd says nothing of it: a probe is asked again and again.
///
/// It has no runtime directory: that would be taken away with it, from under the app.
///
/// # Errors
/// As for [`of`].
pub(crate) fn of_command(
    launch: &Launch,
    argv: &[String],
    program: &Path,
    time: Duration,
    output: Option<&Path>,
    site: &Site<'_>,
) -> Result<Properties, Reason> {
    let plan = plan(launch)?;
    let mut list = List::default();
    list.put("Description", format!("command of {} (nbsupervisor, {})", launch.app, plan.environment));
    list.put("Type", "oneshot");
    common(&mut list, launch, plan, program, argv, site)?;
    if let Some(file) = output {
        list.0.retain(|(name, _)| !name.starts_with("Standard"));
        list.put("StandardInput", "null");
        list.put("StandardOutputFile", path(file)?);
        list.put("StandardErrorFile", path(file)?);
        list.put("LogLevelMax", 0i32);
    }
    list.put("Restart", "no");
    // Its end stays to be read, and no status is an alarm in the journal: what it means is ours to say.
    list.put("RemainAfterExit", true);
    list.put("SuccessExitStatus", ((1..=255).collect::<Vec<i32>>(), Vec::<i32>::new()));
    list.put("TimeoutStartUSec", timeout(time));
    // It had its time; nobody waits for it a second time.
    list.put("KillMode", "control-group");
    list.put("KillSignal", 9);
    list.put("TimeoutStopUSec", timeout(Duration::from_secs(5)));
    finish(list, launch, plan, site)
}

/// The properties of a scope around a process that is to become an app, and whatever that starts.
pub(crate) fn of_scope(launch: &Launch, pid: u32) -> Properties {
    let mut list = List::default();
    list.put("Description", format!("{} (nbsupervisor)", launch.app));
    list.put("Slice", SLICE);
    list.put("PIDs", vec![pid]);
    // The app may divide its group; systemd leaves alone what is below.
    list.put("Delegate", true);
    list.put("CollectMode", "inactive-or-failed");
    limits(&mut list, launch);
    list.0
}

fn plan(launch: &Launch) -> Result<&UnitPlan, Reason> {
    let none = || Reason::new(ReasonCode::BadRecipe, format!("{} is not to run as a unit of systemd", launch.app));
    launch.unit.as_deref().ok_or_else(none)
}

/// What an instance and its commands have in common.
fn common(
    list: &mut List,
    launch: &Launch,
    plan: &UnitPlan,
    program: &Path,
    argv: &[String],
    site: &Site<'_>,
) -> Result<(), Reason> {
    list.put("Slice", SLICE);
    exec_start(list, path(program)?, argv, site.systemd_version);
    list.put("WorkingDirectory", path(&launch.cwd)?);
    // Every variable goes this way: properties are readable for every user of the host.
    list.put("EnvironmentFiles", vec![(path(site.env_file)?, false)]);
    identity(list, launch, site)?;
    limits(list, launch);
    list.put("StandardInput", "null");
    list.put("StandardOutput", "journal");
    list.put("StandardError", "journal");
    list.put("SyslogIdentifier", launch.app.to_string());
    list.put("LogExtraFields", marker(launch, plan, site));
    Ok(())
}

/// The command, so that `$` in an argument arrives as it is.
///
/// The flag against expansion is the right way where a unit that has it survives a `daemon-reload`. systemd 252 writes
/// down what it cannot read back (`ExecStartEx=`), and the unit would have no command then; there a doubled `$` does it.
/// What it cannot read back even so are `$` and `;`: after a `daemon-reload` they arrive with a backslash (docs/sandbox.md).
fn exec_start(list: &mut List, program: String, argv: &[String], version: u32) {
    if version >= EXEC_FLAGS_SINCE {
        list.put("ExecStartEx", vec![(program, argv.to_vec(), vec!["no-env-expand".to_string()])]);
    } else {
        let argv: Vec<String> = argv.iter().map(|argument| argument.replace('$', "$$")).collect();
        list.put("ExecStart", vec![(program, argv, false)]);
    }
}

/// Fields of its journal: whose it is, for readers of the log and for the daemon itself.
fn marker(launch: &Launch, plan: &UnitPlan, site: &Site<'_>) -> Vec<Vec<u8>> {
    let fields = [
        ("NBS_INSTANCE", site.instance.to_string()),
        ("NBS_APP", launch.app.to_string()),
        ("NBS_ENVIRONMENT", plan.environment.to_string()),
        ("NBS_GENERATION", plan.generation.to_string()),
        ("NBS_RUN", launch.run.to_string()),
    ];
    let port = launch.port().map(|port| ("NBS_PORT", port.to_string()));
    fields.into_iter().chain(port).map(|(name, value)| format!("{name}={value}").into_bytes()).collect()
}

/// Whose it is on the host, and its data directory.
///
/// The manager of a user can take no other user and keeps its state elsewhere: there the adapter makes the directories.
fn identity(list: &mut List, launch: &Launch, site: &Site<'_>) -> Result<(), Reason> {
    if !site.system {
        return Ok(());
    }
    let relative = launch.state_dir.strip_prefix(STATE).ok().filter(|rest| !rest.as_os_str().is_empty());
    match &launch.user {
        Some(user) => list.put("User", user.clone()),
        None if relative.is_none() => {
            let dir = launch.state_dir.display();
            let text = format!(
                "a user made by systemd cannot own {dir}: set user in the recipe, or put the state directory under {STATE}"
            );
            return Err(Reason::new(ReasonCode::BadUser, text));
        }
        None => {
            list.put("DynamicUser", true);
            // Named, so that the commands of an app are of the same user as the app.
            list.put("User", dynamic_user(&launch.app));
        }
    }
    if let Some(group) = &launch.group {
        list.put("Group", group.clone());
    }
    if let Some(relative) = relative {
        list.put("StateDirectory", vec![path(relative)?]);
        list.put("StateDirectoryMode", 0o700u32);
    }
    Ok(())
}

/// The user that systemd makes for an app: it must be one of the app alone, and no longer than a user's name may be.
fn dynamic_user(app: &AppId) -> String {
    let plain = format!("nbs-app-{app}");
    if plain.len() <= USER_NAME_MAX {
        return plain;
    }
    // FNV-1a: the same at every start, which is all that is asked of it.
    let hash = |offset: u64| {
        app.as_str().bytes().fold(offset, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    };
    format!("nbs-{:016x}", hash(0xcbf2_9ce4_8422_2325))
}

/// The directory for sockets as systemd wants it named; none where the adapter makes it.
fn run_directory(launch: &Launch, site: &Site<'_>) -> Result<Option<String>, Reason> {
    if !site.system {
        return Ok(None);
    }
    if let Some(relative) = launch.run_dir.strip_prefix(RUNTIME).ok().filter(|rest| !rest.as_os_str().is_empty()) {
        return path(relative).map(Some);
    }
    if launch.user.is_none() && launch.listen == Listen::Unix {
        let dir = launch.run_dir.display();
        let text = format!(
            "a user made by systemd cannot own {dir}: set user in the recipe, or put the run directory under {RUNTIME}"
        );
        return Err(Reason::new(ReasonCode::BadUser, text));
    }
    Ok(None)
}

fn limits(list: &mut List, launch: &Launch) {
    for accounting in ["CPUAccounting", "MemoryAccounting", "TasksAccounting", "IOAccounting"] {
        list.put(accounting, true);
    }
    let limits = &launch.limits;
    if let Some(size) = limits.memory_max {
        list.put("MemoryMax", size.0);
    }
    if let Some(quota) = limits.cpu_quota {
        list.put("CPUQuotaPerSecUSec", u64::from(quota.0) * 10_000);
    }
    if let Some(tasks) = limits.tasks_max {
        list.put("TasksMax", tasks);
    }
    if let Some(weight) = limits.io_weight {
        list.put("IOWeight", u64::from(weight));
    }
}

fn restart(list: &mut List, policy: &RestartPolicy, version: u32) {
    let word = match policy.policy {
        RestartWhen::Never => "no",
        RestartWhen::OnFailure => "on-failure",
        RestartWhen::Always => "always",
    };
    list.put("Restart", word);
    if policy.policy == RestartWhen::OnFailure {
        list.put("RestartForceExitStatus", (Vec::<i32>::new(), FORCE_RESTART.to_vec()));
    }
    // A unit that ended well would be gone at once, and its status with it.
    list.put("RemainAfterExit", policy.policy != RestartWhen::Always);
    list.put("RestartUSec", micros(policy.delay));
    if version >= RESTART_STEPS_SINCE
        && let Some(steps) = restart_steps(policy)
    {
        list.put("RestartSteps", steps);
        list.put("RestartMaxDelayUSec", micros(policy.max_delay));
    }
    list.put("StartLimitIntervalUSec", micros(policy.window));
    // The recipe counts failures that are borne, systemd counts starts: the first one comes on top.
    list.put("StartLimitBurst", policy.burst.saturating_add(1));
}

/// Steps from the first delay to the longest in which each is about twice the one before; systemd goes there in equal
/// ratios.
fn restart_steps(policy: &RestartPolicy) -> Option<u32> {
    if policy.delay.is_zero() || policy.max_delay <= policy.delay {
        return None;
    }
    let ratio = policy.max_delay.as_secs_f64() / policy.delay.as_secs_f64();
    Some((ratio.log2().round() as u32).max(1))
}

/// The sandbox, and then the recipe's own properties in place of what was there.
fn finish(mut list: List, launch: &Launch, plan: &UnitPlan, site: &Site<'_>) -> Result<Properties, Reason> {
    let dynamic = site.system && launch.user.is_none();
    for setting in sandbox::of(plan.sandbox, site.system, dynamic) {
        list.put(setting.property, variant(&setting.value));
    }
    for setting in &plan.settings {
        list.replace(&setting.property, variant(&setting.value));
    }
    Ok(list.0)
}

fn variant(value: &UnitValue) -> Variant<'static> {
    match value {
        UnitValue::Bool(flag) => (*flag).into(),
        UnitValue::I32(number) => (*number).into(),
        UnitValue::U32(number) => (*number).into(),
        UnitValue::U64(number) => (*number).into(),
        UnitValue::Text(text) => text.clone().into(),
        UnitValue::Texts(texts) => texts.clone().into(),
        UnitValue::Filter { allow, names } => (*allow, names.clone()).into(),
        UnitValue::Pairs(pairs) => pairs.clone().into(),
        UnitValue::Binds(pairs) => {
            // Bound with what is mounted below: MS_REC.
            let bind = |(source, target): &(String, String)| (source.clone(), target.clone(), false, 0x4000u64);
            pairs.iter().map(bind).collect::<Vec<_>>().into()
        }
        UnitValue::Amounts(amounts) => amounts.clone().into(),
        UnitValue::Exits { statuses, signals } => (statuses.clone(), signals.clone()).into(),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// systemd reads 0 as "for ever".
fn timeout(duration: Duration) -> u64 {
    micros(duration).max(1)
}

fn path(path: &Path) -> Result<String, Reason> {
    let odd = || Reason::new(ReasonCode::BadProperty, format!("the path {} is not UTF-8", path.display()));
    path.to_str().map(str::to_string).ok_or_else(odd)
}

#[derive(Default)]
struct List(Properties);

impl List {
    fn put(&mut self, name: &'static str, value: impl Into<Variant<'static>>) {
        self.0.push((name.into(), value.into()));
    }

    fn replace(&mut self, name: &str, value: Variant<'static>) {
        self.0.retain(|(old, _)| old != name);
        self.0.push((name.to_string().into(), value));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests;
