//! What runs apps on this host: child processes everywhere, and units where systemd is PID 1.

use std::sync::Arc;

use nbs_core::recipe::Adapter;

use super::Failure;
use crate::config::Config;
use crate::journal::{self, Journal};
use crate::lifecycle::directories;
use crate::ports::{CommandRunner, Enclosure, LogReader, ObservationSender, ProcessControl};
use crate::process::{self, Processes};
use crate::shared::SharedApps;
use crate::systemd::{self, NoSystemd, Units};
use crate::worker::{Adapters, Host};

/// The adapter for recipes that name none.
pub(super) fn chosen(config: &Config) -> Adapter {
    let own = || if is_usable() { Adapter::Systemd } else { Adapter::Process };
    config.environment.adapter.unwrap_or_else(own)
}

/// Units need a manager that takes them from us: the system's for root, else one of the user's own.
fn is_usable() -> bool {
    Units::is_booted() && (is_root() || user_manager().is_some_and(|path| path.exists()))
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn scope() -> journal::Scope {
    let uid = nix::unistd::geteuid();
    if uid.is_root() { journal::Scope::System } else { journal::Scope::User { uid: uid.as_raw() } }
}

fn user_manager() -> Option<std::path::PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty())?;
    Some(std::path::Path::new(&runtime).join("systemd"))
}

/// Opens all of them.
pub(super) fn open(
    config: &Config,
    instance: &str,
    boot: &str,
    sender: &ObservationSender,
) -> Result<Adapters, Failure> {
    let process = |enclosure| -> Result<Host, Failure> {
        let processes = Arc::new(processes(config, instance, boot, enclosure, sender)?);
        Ok(Host { control: processes.clone(), runner: processes.clone(), logs: processes })
    };
    let journal =
        Arc::new(Journal::new(journal::Options { scope: scope(), program: "journalctl".into(), directory: None }));
    let logs: Arc<dyn LogReader> = journal.clone();
    if !Units::is_booted() {
        let absent = Arc::new(NoSystemd::new(sender.clone()));
        let systemd = Host { control: absent.clone(), runner: absent, logs };
        return Ok(with_shared(process(None)?, systemd, sender));
    }
    let options = systemd::Options {
        instance_id: instance.to_string(),
        boot: boot.to_string(),
        run_root: config.apps_run_dir.clone(),
        state_root: directories::of_apps(&config.state_dir),
        user: !is_root(),
        lines: journal,
    };
    let units = Arc::new(Units::new(options, sender.clone()));
    let enclosure = is_usable().then(|| Arc::new(units.scopes(is_service())) as Arc<dyn Enclosure>);
    let (control, runner): (Arc<dyn ProcessControl>, Arc<dyn CommandRunner>) = (units.clone(), units);
    Ok(with_shared(process(enclosure)?, Host { control, runner, logs }, sender))
}

/// Apps that share a process have no commands and no log of their own.
fn with_shared(process: Host, systemd: Host, sender: &ObservationSender) -> Adapters {
    let members = SharedApps::new(sender.clone());
    let shared = Host { control: Arc::new(members.clone()), ..process.clone() };
    Adapters { process, systemd, shared, hosts: Arc::new(members) }
}

/// Whether the daemon is a service itself: then its own control group ends with it, and apps must not be in it.
fn is_service() -> bool {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    groups.lines().any(|line| line.ends_with(".service"))
}

fn processes(
    config: &Config,
    instance: &str,
    boot: &str,
    enclosure: Option<Arc<dyn Enclosure>>,
    sender: &ObservationSender,
) -> Result<Processes, Failure> {
    let options = process::Options {
        instance_id: instance.to_string(),
        log_dir: config.state_dir.join("logs"),
        log_max_bytes: config.logs.max_size.0,
        log_keep: u32::try_from(config.logs.keep).unwrap_or(u32::MAX),
        shim: "/proc/self/exe".into(),
        boot: boot.to_string(),
        run_root: config.apps_run_dir.clone(),
        state_root: directories::of_apps(&config.state_dir),
    };
    let dir = options.log_dir.clone();
    Processes::new(options, enclosure, sender.clone())
        .map_err(|error| Failure::new(format!("cannot make the directory {}: {error}", dir.display())))
}
