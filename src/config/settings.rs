//! The typed configuration: every key, its default and its check.
//!
//! Mode and role are in `mode`, the addresses of Redis in `redis_settings`, those of database servers in
//! `database_settings`.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nbs_core::database::Servers;
use nbs_core::name::EnvironmentName;
use nbs_core::network::Network;
use nbs_core::quantity::ByteSize;
use nbs_core::recipe::Adapter;

use super::database_settings::{self, DatabaseKeys};
use super::mode::{self, Mode, Role};
use super::problem::{Origin, Problem};
use super::reader::{Notes, Reader};
use super::redis_settings::{self, RedisKeys, RedisSettings};
use super::sources::Standard;
use super::value::Table;
use super::{parse, web};

/// The configuration of a daemon, valid as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What the operator called this daemon.
    pub mode: Mode,
    /// What it does, which follows from the mode and the adapter variables.
    pub role: Role,
    /// Record, ledger, app data.
    pub state_dir: PathBuf,
    /// The daemon's own sockets; vanishes with it.
    pub runtime_dir: PathBuf,
    /// Sockets of apps; outlives the daemon.
    pub apps_run_dir: PathBuf,
    /// Recipes.
    pub recipes_dir: PathBuf,
    /// `TZ` of apps that name none.
    pub time_zone: Option<String>,
    /// Admin API.
    pub admin: AdminSettings,
    /// Gateway.
    pub gateway: GatewaySettings,
    /// This environment; of no meaning for an entry without apps of its own.
    pub environment: EnvironmentSettings,
    /// Redis; there if the role uses it, and only then.
    pub redis: Option<RedisSettings>,
    /// Where databases of apps are made; empty if the role runs none.
    pub databases: Servers,
    /// The keys of the fleet.
    pub security: SecuritySettings,
    /// Usage samples.
    pub usage: UsageSettings,
    /// The apps' log files.
    pub logs: LogsSettings,
    /// The daemon's own log.
    pub log: LogSettings,
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSettings {
    /// The unix socket.
    pub socket: PathBuf,
    /// The TCP address; none = off. Port 0 picks one, written to `<runtime_dir>/admin.addr`.
    pub listen: Option<SocketAddr>,
}

/// `[gateway]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewaySettings {
    /// The address; none = off. Port 0 picks one, written to `<runtime_dir>/gateway.addr`.
    pub listen: Option<SocketAddr>,
    /// How long a request waits for an app that starts.
    pub hold_timeout: Duration,
    /// Whose `X-Forwarded-*` are believed.
    pub trusted_proxies: Vec<Network>,
    /// How long running requests may take to end when the daemon stops.
    pub drain_timeout: Duration,
    /// How long a connection to an app may take.
    pub connect_timeout: Duration,
    /// How long an app may take until the head of its answer; none = no bound.
    pub response_timeout: Option<Duration>,
    /// Parts of `User-Agent` (case does not matter) of callers that never wake an app; in lower case.
    pub bots: Vec<String>,
}

/// `[environment]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentSettings {
    /// Its name.
    pub name: EnvironmentName,
    /// Where it is reached: scheme, host and port, without a slash at the end. Always there on a worker.
    pub url: Option<String>,
    /// Where an entry's gateway reaches it, if elsewhere; the same form.
    pub proxy_url: Option<String>,
    /// What runs apps whose recipe names no adapter; none = systemd where it is PID 1, else the process adapter.
    pub adapter: Option<Adapter>,
    /// Starts at the same time.
    pub concurrent_starts: usize,
    /// Pause between two records of its heartbeat.
    pub heartbeat_interval: Duration,
    /// Ports for apps.
    pub port_range: RangeInclusive<u16>,
    /// After how long without an entry a worker starts what is queued by itself; none = never.
    pub start_without_entry_after: Option<Duration>,
}

/// `[security]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecuritySettings {
    /// The fleet key of an entry, or the key of a worker.
    pub fleet_key_file: PathBuf,
}

/// `[usage]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageSettings {
    /// Pause between two samples; none = off.
    pub interval: Option<Duration>,
}

/// `[logs]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogsSettings {
    /// A file is rotated above this size.
    pub max_size: ByteSize,
    /// Rotated files that are kept.
    pub keep: usize,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// A level, or `target=level` parts, comma-separated.
    pub level: String,
    /// Where and how it is written.
    pub format: LogFormat,
}

/// How the daemon's own log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// To the journal when stderr is connected to it, else as text.
    Auto,
    /// To the journal.
    Journal,
    /// As text on stderr.
    Text,
}

/// User agents of health checkers and crawlers.
const BOTS: &[&str] = &[
    "bot/",
    "googlebot",
    "bingbot",
    "crawler",
    "spider",
    "kube-probe",
    "elb-healthchecker",
    "googlehc",
    "prometheus",
    "blackbox-exporter",
    "uptime-kuma",
    "uptimerobot",
    "pingdom",
    "zabbix",
    "nagios",
    "check_http",
    "haproxy",
    "consul health check",
];

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const NOTHING: Duration = Duration::ZERO;
const MILLISECOND: Duration = Duration::from_millis(1);

/// What names files, which are read only where the role needs what is in them.
#[derive(Debug)]
pub struct Later {
    redis: RedisKeys,
    databases: DatabaseKeys,
}

/// Reads the merged table, and looks at no other file. What is wrong is noted, and its default taken, so that all of it is
/// found. What the role needs beyond single keys is left to `complete`.
pub fn read(table: Table, standard: &Standard, is_root: bool, notes: &Notes) -> (Config, Later) {
    let mut top = Reader::new(table, notes);
    let (mode, role) = mode::read(&mut top);
    let state_dir = directory(&mut top, "state_dir", &standard.state_dir);
    let runtime_dir = directory(&mut top, "runtime_dir", &standard.runtime_dir);
    let apps_run_dir = if is_root { "/run/nbsupervisor-apps".into() } else { with_suffix(&runtime_dir, "-apps") };
    let later = Later {
        redis: redis_settings::read(top.group("redis")),
        databases: database_settings::read(top.group("database")),
    };
    let config = Config {
        mode,
        role,
        apps_run_dir: directory(&mut top, "apps_run_dir", &apps_run_dir),
        recipes_dir: directory(&mut top, "recipes_dir", &standard.config_dir.join("runtimes.d")),
        time_zone: top.setting("time_zone", "", parse::time_zone),
        admin: admin(top.group("admin"), &runtime_dir),
        gateway: gateway(top.group("gateway")),
        environment: environment(top.group("environment")),
        redis: None,
        databases: Servers::new(),
        security: security(top.group("security"), &standard.config_dir),
        usage: usage(top.group("usage")),
        logs: logs(top.group("logs")),
        log: log(top.group("log")),
        state_dir,
        runtime_dir,
    };
    top.finish();
    check_together(&config, notes);
    (config, later)
}

/// Adds what depends on the role: what it needs and has not, and Redis and database servers with the files that hold
/// their secrets.
pub fn complete(config: &mut Config, later: Later, notes: &Notes) {
    mode::check_needs(config.role, notes);
    if config.role == Role::Worker {
        let environment = &config.environment;
        mode::check_addresses(environment.url.as_deref(), environment.proxy_url.as_deref(), notes);
    }
    if config.role.uses_redis() {
        config.redis = later.redis.resolve(notes);
    }
    if config.role.runs_apps() {
        config.databases = later.databases.resolve(notes);
    }
}

fn admin(mut group: Reader<'_>, runtime_dir: &Path) -> AdminSettings {
    let socket = runtime_dir.join("admin.sock");
    let settings = AdminSettings {
        socket: group.setting("socket", &socket.to_string_lossy(), parse::socket),
        listen: group.setting("listen", "127.0.0.1:13001", parse::listen),
    };
    group.finish();
    settings
}

fn gateway(mut group: Reader<'_>) -> GatewaySettings {
    let settings = GatewaySettings {
        listen: group.setting("listen", "0.0.0.0:13000", parse::listen),
        hold_timeout: group.setting("hold_timeout", "30s", parse::duration(NOTHING..=HOUR)),
        trusted_proxies: group.setting_list("trusted_proxies", &[], parse::network),
        drain_timeout: group.setting("drain_timeout", "10s", parse::duration(NOTHING..=HOUR)),
        connect_timeout: group.setting("connect_timeout", "5s", parse::duration(MILLISECOND..=HOUR)),
        response_timeout: group.setting("response_timeout", "5m", parse::duration_or_off(MILLISECOND..=24 * HOUR)),
        bots: group.setting_list("bots", BOTS, |text| Ok(text.to_lowercase())),
    };
    group.finish();
    settings
}

fn environment(mut group: Reader<'_>) -> EnvironmentSettings {
    let settings = EnvironmentSettings {
        name: group.setting("name", "local", |text| Ok(EnvironmentName::parse(text)?)),
        url: group.setting("url", "", web::address),
        proxy_url: group.setting("proxy_url", "", web::address),
        adapter: group.setting("adapter", "auto", parse::adapter_or_auto),
        concurrent_starts: group.setting_integer("concurrent_starts", 2, 1..=10_000) as usize,
        heartbeat_interval: group.setting("heartbeat_interval", "2m", parse::duration(Duration::from_secs(1)..=HOUR)),
        port_range: group.setting("port_range", "20000-29999", parse::port_range),
        start_without_entry_after: group.setting(
            "start_without_entry_after",
            "never",
            parse::duration_or_never(Duration::from_secs(1)..=30 * 24 * HOUR),
        ),
    };
    group.finish();
    settings
}

fn security(mut group: Reader<'_>, config_dir: &Path) -> SecuritySettings {
    let file = config_dir.join("fleet.key");
    let settings =
        SecuritySettings { fleet_key_file: group.setting("fleet_key_file", &file.to_string_lossy(), parse::file) };
    group.finish();
    settings
}

fn usage(mut group: Reader<'_>) -> UsageSettings {
    let bounds = Duration::from_secs(1)..=60 * MINUTE;
    let settings = UsageSettings { interval: group.setting("interval", "10s", parse::duration_or_off(bounds)) };
    group.finish();
    settings
}

fn logs(mut group: Reader<'_>) -> LogsSettings {
    let settings = LogsSettings {
        max_size: group.setting("max_size", "16M", parse::log_size),
        keep: group.setting_integer("keep", 2, 0..=100) as usize,
    };
    group.finish();
    settings
}

fn log(mut group: Reader<'_>) -> LogSettings {
    let settings = LogSettings {
        level: group.setting("level", "info", parse::log_level),
        format: group.setting("format", "auto", parse::log_format),
    };
    group.finish();
    settings
}

fn directory(reader: &mut Reader<'_>, key: &str, default: &Path) -> PathBuf {
    reader.setting(key, &default.to_string_lossy(), parse::directory)
}

fn with_suffix(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// What single keys cannot tell.
fn check_together(config: &Config, notes: &Notes) {
    let range = &config.environment.port_range;
    let listeners = [("gateway.listen", config.gateway.listen), ("admin.listen", config.admin.listen)];
    for (key, address) in listeners {
        if let Some(port) = address.map(|address| address.port()).filter(|port| range.contains(port)) {
            let text = format!("port {port} lies within environment.port_range, which belongs to apps");
            notes.problem(Problem::warning(Origin::Default, key, text, "choose a port outside of it"));
        }
    }
    if let (Some(gateway), Some(admin)) = (config.gateway.listen, config.admin.listen)
        && gateway.port() != 0
        && gateway == admin
    {
        let text = format!("{admin} is the address of the gateway too");
        notes.problem(Problem::error(Origin::Default, "admin.listen", text, "choose another port"));
    }
    // Sockets of live apps in a directory that vanishes with the daemon would cut them off at its next restart.
    if config.apps_run_dir.starts_with(&config.runtime_dir) {
        let text = format!("{} lies within runtime_dir, which vanishes with the daemon", config.apps_run_dir.display());
        notes.problem(Problem::error(Origin::Default, "apps_run_dir", text, "choose a directory beside runtime_dir"));
    }
}
