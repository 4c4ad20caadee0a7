//! Loading the configuration as a whole: order, origin's variables, exact messages, what `config show` prints.

#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nbsupervisor::config::{ConfigError, Loaded, Problem, RedisAddress, Role, Sources, load, places};

/// A directory with a configuration of its own.
struct Place {
    dir: tempfile::TempDir,
    variables: BTreeMap<String, String>,
    set: Vec<String>,
}

impl Place {
    fn new(main: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("nbsupervisor.toml"), main).unwrap();
        Self { dir, variables: BTreeMap::new(), set: Vec::new() }
    }

    fn drop_in(self, name: &str, text: &str) -> Self {
        let dir = self.dir.path().join("nbsupervisor.d");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(name), text).unwrap();
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    fn set(mut self, flag: &str) -> Self {
        self.set.push(flag.into());
        self
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        load(&Sources {
            config_file: Some(self.dir.path().join("nbsupervisor.toml")),
            variables: self.variables.clone(),
            set: self.set.clone(),
            uid: nix::unistd::geteuid().as_raw(),
        })
    }

    fn path(&self) -> String {
        format!("{}/", self.dir.path().display())
    }

    /// The problems, with the directory's own path left out.
    fn problems(&self) -> Vec<String> {
        let found = match self.load() {
            Ok(loaded) => loaded.warnings,
            Err(ConfigError(problems)) => problems,
        };
        found.iter().map(|problem| problem.to_string().replace(&self.path(), "")).collect()
    }

    fn shown(&self, key: &str) -> String {
        let loaded = self.load().unwrap();
        let setting = loaded.settings.iter().find(|setting| setting.key == key).unwrap();
        format!("{} # {}", setting.value, setting.origin).replace(&self.path(), "")
    }
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let config = Place::new("").load().unwrap().config;
    assert_eq!(config.mode.as_str(), "standalone");
    assert_eq!(config.gateway.listen, Some("0.0.0.0:13000".parse().unwrap()));
    assert_eq!(config.admin.listen, Some("127.0.0.1:13001".parse().unwrap()));
    assert_eq!(config.admin.socket, config.runtime_dir.join("admin.sock"));
    assert_eq!(config.environment.name.as_str(), "local");
    assert_eq!(config.environment.port_range, 20000..=29999);
    assert_eq!(config.environment.concurrent_starts, 2);
    assert_eq!(config.gateway.hold_timeout.as_secs(), 30);
    assert_eq!(config.usage.interval.map(|i| i.as_secs()), Some(10));
    assert_eq!((config.logs.max_size.0, config.logs.keep), (16 << 20, 2));
}

#[test]
fn root_and_others_have_their_own_directories() {
    let sources = |uid, variables: &[(&str, &str)]| Sources {
        variables: variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        set: vec!["recipes_dir=/nowhere".into()],
        uid,
        config_file: None,
    };
    let places = [("HOME", "/home/ada"), ("XDG_RUNTIME_DIR", "/run/user/7")];
    let config = load(&sources(7, &places)).unwrap().config;
    assert_eq!(config.state_dir, Path::new("/home/ada/.local/state/nbsupervisor"));
    assert_eq!(config.apps_run_dir, Path::new("/run/user/7/nbsupervisor-apps"));
    let loaded = load(&sources(0, &[("NBSUPERVISOR_RUNTIME_DIR", "/tmp/x/")])).unwrap();
    assert_eq!(loaded.config.admin.socket, Path::new("/tmp/x/admin.sock"));
    assert_eq!(loaded.config.apps_run_dir, Path::new("/run/nbsupervisor-apps"));
}

#[test]
fn the_later_source_wins() {
    let place = Place::new("[gateway]\nlisten = \"1.1.1.1:1\"\nbots = [\"a\", \"b\"]\nhold_timeout = \"1s\"\n")
        .drop_in("20.toml", "[gateway]\nlisten = \"3.3.3.3:3\"\n")
        .drop_in("10.toml", "gateway.listen = \"2.2.2.2:2\"\ngateway.bots = [\"C\"]\n")
        .drop_in("30.toml.off", "nonsense")
        .drop_in(".40.toml", "nonsense");
    assert_eq!(place.shown("gateway.listen"), "\"3.3.3.3:3\" # nbsupervisor.d/20.toml:2");
    assert_eq!(place.shown("gateway.bots"), "[\"C\"] # nbsupervisor.d/10.toml:2");
    assert_eq!(place.shown("gateway.hold_timeout"), "\"1s\" # nbsupervisor.toml:4");
    assert_eq!(place.load().unwrap().config.gateway.bots, ["c"]);
    let place = place.variable("NBSUPERVISOR_GATEWAY__LISTEN", "4.4.4.4:4");
    assert_eq!(place.shown("gateway.listen"), "\"4.4.4.4:4\" # variable NBSUPERVISOR_GATEWAY__LISTEN");
    let place = place.set("gateway.listen=5.5.5.5:5").set("gateway.listen = ");
    assert_eq!(place.shown("gateway.listen"), "\"\" # --set gateway.listen");
    assert_eq!(place.load().unwrap().config.gateway.listen, None);
}

#[test]
fn variables_and_flags_may_be_toml_or_plain() {
    let place = Place::new("")
        .variable("NBSUPERVISOR_ENVIRONMENT__CONCURRENT_STARTS", "7")
        .variable("NBSUPERVISOR_ENVIRONMENT__NAME", "007")
        .variable("NBSUPERVISOR_LOGS__KEEP", "")
        .variable("NBSUPERVISOR_SOCKET", "/for/the/command/line")
        .set("gateway.trusted_proxies=[\"10.0.0.0/8\", \"::1\"]")
        .set("admin.listen=\"\"")
        .set("mode=standalone");
    let config = place.load().unwrap().config;
    assert_eq!(config.environment.concurrent_starts, 7);
    assert_eq!(config.environment.name.as_str(), "007");
    assert!(config.gateway.trusted_proxies[0].contains("10.1.2.3".parse().unwrap()));
    assert_eq!((config.admin.listen, config.logs.keep), (None, 2));
}

#[test]
fn the_origins_variables_work() {
    let place = Place::new("mode = \"standalone\"\n")
        .variable("APP_MODE", "standalone")
        .variable("APP_DISCOVERY_ADAPTER", "local")
        .variable("APP_PROCESS_ADAPTER", "local")
        .variable("APP_SUPERVISOR_REDIS_URL", "")
        .variable("APP_COMMAND_ADAPTER", "")
        .variable("ENVIRONMENT_NAME", "env_a")
        .variable("ENVIRONMENT_URL", "http://10.0.0.2:13000/")
        .variable("ENVIRONMENT_PROXY_URL", "http://10.0.0.3")
        .variable("NBSUPERVISOR_LOG", "debug")
        .variable("TZ", "Asia/Shanghai");
    let loaded = place.load().unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.environment.name.as_str(), "env_a");
    assert_eq!(loaded.config.environment.url.as_deref(), Some("http://10.0.0.2:13000"));
    assert_eq!(loaded.config.time_zone.as_deref(), Some("Asia/Shanghai"));
    assert_eq!(loaded.config.log.level, "debug");
    assert_eq!(place.shown("environment.name"), "\"env_a\" # variable ENVIRONMENT_NAME");
    assert_eq!(place.shown("environment.url"), "\"http://10.0.0.2:13000/\" # variable ENVIRONMENT_URL");
}

#[test]
fn the_origins_variables_are_checked() {
    type Variables<'a> = &'a [(&'a str, &'a str)];
    let cases: &[(Variables<'_>, &[&str])] = &[
        (
            &[("APP_MODE", "supervisor")],
            &[
                "variable APP_MODE: redis.url: an entry without apps of its own needs it; set APP_SUPERVISOR_REDIS_URL, such as redis://10.0.0.1:6379",
            ],
        ),
        (&[("APP_MODE", "workre")], &["variable APP_MODE: mode: \"workre\" is not a mode; did you mean worker?"]),
        (
            &[("APP_PROCESS_ADAPTER", "remote"), ("APP_SUPERVISOR_REDIS_URL", "redis://:pw@h")],
            &[
                "variable APP_PROCESS_ADAPTER: process_adapter: a standalone daemon uses no Redis; write local or unset it, or set APP_MODE to supervisor or worker",
            ],
        ),
        (
            &[("APP_DISCOVERY_ADAPTER", "remot"), ("APP_PROCESS_ADAPTER", "remote")],
            &["variable APP_DISCOVERY_ADAPTER: discovery_adapter: \"remot\" is not an adapter; did you mean remote?"],
        ),
        (
            &[("APP_COMMAND_ADAPTER", "rabbit"), ("APP_MODE", "worker")],
            &["variable APP_COMMAND_ADAPTER: command_adapter: \"rabbit\" is not an adapter; there is redis"],
        ),
        (
            &[("APP_COMMAND_ADPATER", "redis")],
            &[
                "variable APP_COMMAND_ADPATER: this is the misspelling of APP_COMMAND_ADAPTER in the origin's documents, and is taken for it; write APP_COMMAND_ADAPTER",
                "variable APP_COMMAND_ADPATER: command_adapter: a standalone daemon uses no Redis; unset it, or set APP_MODE to supervisor or worker",
            ],
        ),
        (
            &[("APP_COMMAND_ADPATER", "redis"), ("APP_COMMAND_ADAPTER", "local")],
            &[
                "variable APP_COMMAND_ADPATER: it is \"redis\", but APP_COMMAND_ADAPTER is \"local\"; keep APP_COMMAND_ADAPTER only",
                "variable APP_COMMAND_ADAPTER: command_adapter: \"local\" is not an adapter; there is redis",
            ],
        ),
        (
            &[("APP_COMMAND_ADPATER", ""), ("APP_COMMAND_ADAPTER", "redis")],
            &[
                "variable APP_COMMAND_ADAPTER: command_adapter: a standalone daemon uses no Redis; unset it, or set APP_MODE to supervisor or worker",
            ],
        ),
        (
            &[("APP_SUPERVISOR_REDIS_URL", "redis://:pw@h")],
            &[
                "variable APP_SUPERVISOR_REDIS_URL: redis.url: a standalone daemon does not use it; remove it, or set APP_MODE to supervisor or worker",
            ],
        ),
        (
            &[("ENVIRONMENT_NAME", "_a")],
            &[
                "variable ENVIRONMENT_NAME: environment.name: \"_a\" is not an environment name; use a letter or digit, then at most 62 of A-Z, a-z, 0-9, _, . and -",
            ],
        ),
        (
            &[("NBSUPERVISOR_REDIS_URL", "redis://:pw@h")],
            &["variable NBSUPERVISOR_REDIS_URL: redis_url: unknown key; did you mean redis.url?"],
        ),
        (
            &[("NBSUPERVISOR_GATEWAY__LISETN", "1.1.1.1:1")],
            &["variable NBSUPERVISOR_GATEWAY__LISETN: gateway.lisetn: unknown key; did you mean gateway.listen?"],
        ),
    ];
    for (variables, expected) in cases {
        let place = variables.iter().fold(Place::new(""), |place, (name, value)| place.variable(name, value));
        assert_eq!(place.problems(), *expected, "{variables:?}");
    }
}

#[test]
fn every_mistake_is_told_in_one_run_with_file_line_and_remedy() {
    let main = r#"mod = "standalone"
state_dir = "var/lib"
[gateway]
listen = "13000"
hold_timeout = 30
hold_timeot = "30s"
trusted_proxies = ["10.0.0.1", "host"]
[environment]
concurrent_starts = "2"
port_range = "29999"
[usage]
interval = "10"
[logs]
max_size = "1 gig"
[redis]
url = "redis://"
[log]
level = "loud"
format = "josn"
"#;
    assert_eq!(
        Place::new(main).problems(),
        [
            "nbsupervisor.toml:1: mod: unknown key; did you mean mode?",
            "nbsupervisor.toml:2: state_dir: \"var/lib\" is not a directory; write an absolute path, such as /var/lib/nbsupervisor",
            "nbsupervisor.toml:4: gateway.listen: \"13000\" is not an address to listen on; write ADDRESS:PORT, such as 127.0.0.1:13001 or [::]:13001, or \"\" for off",
            "nbsupervisor.toml:5: gateway.hold_timeout: \"30\" is not a duration; write 500ms, 30s, 5m or 1h 30m",
            "nbsupervisor.toml:6: gateway.hold_timeot: unknown key; did you mean gateway.hold_timeout?",
            "nbsupervisor.toml:7: gateway.trusted_proxies[1]: \"host\" is not a network; write an IP address or a network, such as 10.0.0.0/8",
            "nbsupervisor.toml:9: environment.concurrent_starts: \"2\" is a text, not a number; write a whole number from 1 to 10000, without quotes",
            "nbsupervisor.toml:10: environment.port_range: \"29999\" is not a range of ports; write LOW-HIGH, such as 20000-29999",
            "nbsupervisor.toml:12: usage.interval: \"10\" is not a duration; write 500ms, 30s, 5m or 1h 30m",
            "nbsupervisor.toml:14: logs.max_size: \"1 gig\" is not a size; write 1G, 512M or a number of bytes",
            "nbsupervisor.toml:16: redis.url: this is not a URL of Redis: there is no host; write redis://USER:PASSWORD@HOST:PORT/DATABASE, with all but the host left out as needed",
            "nbsupervisor.toml:18: log.level: \"loud\" is not a level; there is off, error, warn, info, debug, trace",
            "nbsupervisor.toml:19: log.format: \"josn\" is not a format; there is auto, journal, text",
        ]
    );
}

#[test]
fn files_and_flags_that_cannot_be_read_are_told() {
    let place = Place::new("mode = \n");
    assert_eq!(place.problems().len(), 1);
    assert!(place.problems()[0].starts_with("nbsupervisor.toml:1: this is not TOML: "), "{:?}", place.problems());
    let place = Place::new("").set("nonsense").set("a..b=1");
    assert_eq!(
        place.problems(),
        [
            "--set nonsense: this is not KEY=VALUE; write --set table.key=value, such as --set gateway.listen=0.0.0.0:80",
            "--set a..b=1: this is not KEY=VALUE; write --set table.key=value, such as --set gateway.listen=0.0.0.0:80",
        ]
    );
    let place = Place::new("");
    fs::remove_file(place.dir.path().join("nbsupervisor.toml")).unwrap();
    assert_eq!(place.problems(), ["nbsupervisor.toml: no such file; check the path"]);
}

#[test]
fn keys_are_checked_against_each_other() {
    let place = Place::new("[gateway]\nlisten = \"127.0.0.1:20001\"\n");
    assert_eq!(
        place.problems(),
        [
            "nbsupervisor.toml:2: gateway.listen: port 20001 lies within environment.port_range, which belongs to apps; choose a port outside of it"
        ]
    );
    let place = place.set("admin.listen=127.0.0.1:20001").set("environment.port_range=1-2");
    assert_eq!(
        place.problems(),
        ["--set admin.listen: admin.listen: 127.0.0.1:20001 is the address of the gateway too; choose another port"]
    );
    let place = Place::new("runtime_dir = \"/run/x\"\napps_run_dir = \"/run/x/apps\"\n");
    assert_eq!(
        place.problems(),
        [
            "nbsupervisor.toml:2: apps_run_dir: /run/x/apps lies within runtime_dir, which vanishes with the daemon; choose a directory beside runtime_dir"
        ]
    );
}

#[test]
fn show_prints_every_key_with_its_place() {
    let place = Place::new("[gateway]\nhold_timeout = \"5s\"\n").set("logs.keep=9");
    let text = place.load().unwrap().show().replace(&place.path(), "");
    let line = |key: &str| text.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap().to_string();
    let squeeze = |line: String| line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(squeeze(line("gateway.hold_timeout")), "gateway.hold_timeout = \"5s\" # nbsupervisor.toml:2");
    assert_eq!(squeeze(line("logs.keep")), "logs.keep = 9 # --set logs.keep");
    assert_eq!(squeeze(line("usage.interval")), "usage.interval = \"10s\" # default");
    // What is shown is itself a configuration that gives the same.
    let again = Place::new(&text);
    assert_eq!(again.load().unwrap().config, place.load().unwrap().config);
}

/// The rows of the table of docs/configuration.md whose header begins so.
fn documented(header: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = fs::read_to_string(path).unwrap();
    let table = text.lines().skip_while(|line| !line.starts_with(header)).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
    table.map(cells).filter(|row: &Vec<String>| !row[0].starts_with("---")).collect()
}

const ADDRESSES: [(&str, &str); 3] =
    [("redis.url", "redis://h"), ("environment.name", "env_a"), ("environment.url", "http://10.0.0.2:13000")];

#[test]
fn the_table_of_modes_and_adapters_has_every_combination_and_each_is_so() {
    let rows = documented("| `APP_MODE` | `APP_DISC");
    let (header, rows) = rows.split_first().unwrap();
    let mut tried = std::collections::BTreeSet::new();
    for row in rows {
        let options: Vec<Vec<&str>> = row[..4].iter().map(|cell| cell.split(", ").collect()).collect();
        let combinations = options.iter().fold(vec![Vec::new()], |all, cell| {
            all.iter().flat_map(|before| cell.iter().map(move |value| [&before[..], &[*value]].concat())).collect()
        });
        for values in combinations {
            assert!(tried.insert(values.join(" ")), "{values:?} stands in the table twice");
            let given = header.iter().zip(&values).filter(|(_, value)| **value != "unset");
            let place = given.fold(Place::new(""), |place, (name, value)| place.variable(name, value));
            // What the role needs is there: this table is about the combination alone.
            let place = ADDRESSES.iter().fold(place, |place, (key, value)| place.set(&format!("{key}={value}")));
            let found = match place.load() {
                Ok(loaded) => loaded.config.role.as_str().to_string(),
                Err(ConfigError(problems)) => {
                    let errors = problems.iter().filter(|problem| problem.is_error());
                    let mut reasons: Vec<&str> = errors.map(|problem| problem.text.as_str()).collect();
                    reasons.dedup();
                    format!("refused: {}", reasons.join("; "))
                }
            };
            assert_eq!(found, row[4], "{values:?}");
        }
    }
    assert_eq!(tried.len(), 4 * 3 * 3 * 2, "modes (and none), twice three words for adapters, and commands");
}

/// Variables that make a role.
fn of_role(role: Role) -> Place {
    match role {
        Role::Standalone => Place::new(""),
        Role::Entry => Place::new("").variable("APP_MODE", "supervisor"),
        Role::EntryWithApps => {
            Place::new("").variable("APP_MODE", "supervisor").variable("APP_PROCESS_ADAPTER", "local")
        }
        Role::Worker => Place::new("").variable("APP_MODE", "worker"),
    }
}

#[test]
fn the_table_of_what_a_role_needs_is_so() {
    let rows = documented("| role |");
    let (header, rows) = rows.split_first().unwrap();
    assert_eq!(rows.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), Role::ALL.map(Role::as_str));
    let samples: BTreeMap<&str, &str> = ADDRESSES
        .into_iter()
        .chain([("redis.command_url", "redis://h/1"), ("environment.proxy_url", "http://h")])
        .collect();
    for (row, role) in rows.iter().zip(Role::ALL) {
        let about = |place: Place, key: &str| -> Vec<Problem> {
            let problems = match place.load() {
                Ok(loaded) => loaded.warnings,
                Err(ConfigError(problems)) => problems,
            };
            problems.into_iter().filter(|problem| problem.key == key).collect()
        };
        for (key, need) in header.iter().zip(row).skip(1) {
            let with = about(of_role(role).set(&format!("{key}={}", samples[key.as_str()])), key);
            let without = about(of_role(role), key);
            let found = match (&with[..], &without[..]) {
                ([], [missing]) if missing.is_error() => "needed",
                ([useless], []) if !useless.is_error() => "not used",
                ([], []) => "may be set",
                other => panic!("{role:?} {key}: {other:?}"),
            };
            assert_eq!(found, need, "{role:?} {key}");
        }
    }
}

#[test]
fn a_worker_tells_everything_that_it_lacks() {
    assert_eq!(
        of_role(Role::Worker).problems(),
        [
            "variable APP_MODE: redis.url: a worker needs it; set APP_SUPERVISOR_REDIS_URL, such as redis://10.0.0.1:6379",
            "variable APP_MODE: environment.name: a worker needs it; set ENVIRONMENT_NAME to a name that no other worker has, such as env_a",
            "variable APP_MODE: environment.url: a worker needs it; set ENVIRONMENT_URL to where the entry reaches this host's gateway, such as http://10.0.0.2:13000",
        ]
    );
}

#[test]
fn a_command_line_finds_the_daemon_without_what_its_role_needs() {
    let place = of_role(Role::Worker).set("runtime_dir=/run/x").set("redis.password_file=/nowhere/secret");
    let sources = Sources {
        config_file: Some(place.dir.path().join("nbsupervisor.toml")),
        variables: place.variables.clone(),
        set: place.set.clone(),
        uid: 0,
    };
    assert_eq!(places(&sources).unwrap().socket, Path::new("/run/x/admin.sock"));
    assert!(places(&Sources { set: vec!["runtime_dir=x".into()], ..sources }).is_err());
}

/// A worker that is complete, with more keys.
fn worker(keys: &[&str]) -> Place {
    let complete = ADDRESSES.iter().map(|(key, value)| format!("{key}={value}"));
    let place = complete.fold(of_role(Role::Worker), |place, flag| place.set(&flag));
    keys.iter().fold(place, |place, flag| place.set(flag))
}

#[test]
fn the_address_of_a_worker_is_one_that_the_entry_can_use() {
    assert_eq!(worker(&[]).problems(), [""; 0]);
    let https = "an entry that speaks https to a worker is not available yet";
    let cases: &[(&[&str], &[&str])] = &[
        (
            &["environment.url=https://a.example"],
            &[&format!(
                "--set environment.url: environment.url: {https}; write http://, or set ENVIRONMENT_PROXY_URL to an address with http://"
            )],
        ),
        (&["environment.url=https://a.example", "environment.proxy_url=http://10.0.0.2:13000"], &[]),
        (
            &["environment.proxy_url=https://10.0.0.2"],
            &[&format!("--set environment.proxy_url: environment.proxy_url: {https}; write http://")],
        ),
        (
            &["environment.url=http://127.0.0.1:13000"],
            &[
                "--set environment.url: environment.url: \"http://127.0.0.1:13000\" is reached from this host only; write an address that the entry reaches, unless the entry runs on this host",
            ],
        ),
        (
            &["environment.url=http://10.0.0.2/base"],
            &[
                "--set environment.url: environment.url: \"http://10.0.0.2/base\" has something behind the host; write http://HOST:PORT, such as http://10.0.0.2:13000",
            ],
        ),
        (
            &["environment.url=http://ada:s3cret@h"],
            &[
                "--set environment.url: environment.url: a user or password in it would be seen by every host of the fleet; write http://HOST:PORT, such as http://10.0.0.2:13000",
            ],
        ),
    ];
    for (keys, expected) in cases {
        assert_eq!(worker(keys).problems(), *expected, "{keys:?}");
    }
}

#[test]
fn redis_has_two_addresses_and_who_we_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let (general, of_commands) = (dir.path().join("a"), dir.path().join("b"));
    fs::write(&general, "s3cret-a\n").unwrap();
    fs::write(&of_commands, "s3cret-b").unwrap();
    for file in [&general, &of_commands] {
        fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    let general = format!("redis.password_file={}", general.display());
    let of_commands = format!("redis.command_password_file={}", of_commands.display());
    let who = |keys: &[&str]| {
        let redis = worker(keys).load().unwrap().config.redis.unwrap();
        [redis.cache, redis.command].map(|target| {
            let RedisAddress::Tcp { host, .. } = target.address else { panic!("no TCP") };
            let (user, password) = (target.username.unwrap_or_default(), target.password);
            format!("{host} {user} {}", password.as_ref().map_or("", |password| password.expose()))
        })
    };
    assert_eq!(who(&[]), ["h  ", "h  "]);
    assert_eq!(who(&["redis.username=ada", &general]), ["h ada s3cret-a", "h ada s3cret-a"]);
    let other = "redis.command_url=redis://c";
    assert_eq!(who(&[other, "redis.username=ada", &general]), ["h ada s3cret-a", "c ada s3cret-a"]);
    assert_eq!(who(&["redis.command_url=redis://x:own@c", &general]), ["h  s3cret-a", "c x own"]);
    assert_eq!(who(&["redis.command_url=redis://:own@c", "redis.command_username=bob"]), ["h  ", "c bob own"]);
    let both = ["redis.username=ada", &general, "redis.command_username=bob", &of_commands];
    assert_eq!(who(&both), ["h ada s3cret-a", "h bob s3cret-b"]);
    assert_eq!(
        worker(&["redis.url=redis://:s3cret@h", &general]).problems().last().unwrap(),
        "--set redis.url: redis.url: the URL holds a password, and a file holds one too; take it out of the URL"
    );
    assert_eq!(
        worker(&["redis.username=ada"]).problems(),
        [
            "--set redis.url: redis.url: there is a user and no password; write redis://USER:PASSWORD@HOST, or set redis.password_file or redis.command_password_file"
        ]
    );
    assert_eq!(
        worker(&["redis.ca_file=/nowhere/ca.pem", "redis.url=rediss://h"]).problems(),
        [
            "--set redis.ca_file: redis.ca_file: /nowhere/ca.pem cannot be read: No such file or directory (os error 2); name a file with certificates in PEM"
        ]
    );
}

#[test]
fn a_password_is_shown_nowhere() {
    let place = worker(&[]).variable("APP_COMMAND_REDIS_URL", "rediss://bob:s3cret@c/2");
    let loaded = place.set("redis.url=redis://ada:s3cret@h").load().unwrap();
    assert!(!loaded.show().contains("s3cret") && !format!("{loaded:?}").contains("s3cret"), "{}", loaded.show());
    let shown = |key: &str| loaded.settings.iter().find(|setting| setting.key == key).unwrap().value.clone();
    assert_eq!(shown("redis.url"), "\"redis://ada:***@h:6379\"");
    assert_eq!(shown("redis.command_url"), "\"rediss://bob:***@c:6379/2\"");
    assert_eq!(
        loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "--set redis.url: redis.url: it holds a password, and everybody on this host may read command lines; set redis.password_file instead"
        ]
    );
    for wrong in [
        "redis = \"redis://ada:s3cret@h\"",
        "redis.url = [\"redis://ada:s3cret@h\"]",
        "redis.url = \"redis://ada:s3/cret@h\"",
        "mode = \"redis://ada:s3cret@h\"",
        "mode = \"worker\"\nredis.url = \"redis://ada:s3cret@h",
    ] {
        let told = Place::new(wrong).problems().join("\n");
        assert!(!told.is_empty() && !told.contains("cret"), "{told}");
    }
}

#[test]
fn show_begins_with_the_role_and_what_it_follows_from() {
    let first = |place: Place| place.load().unwrap().show().lines().next().unwrap().to_string();
    assert_eq!(first(of_role(Role::Standalone)), "# role: standalone (by default)");
    assert_eq!(
        first(of_role(Role::EntryWithApps).set("redis.url=redis://h")),
        "# role: entry that also runs apps (mode from variable APP_MODE, process_adapter from variable APP_PROCESS_ADAPTER)"
    );
    let entry = of_role(Role::Entry).set("redis.url=redis://h");
    assert_eq!(entry.shown("process_adapter"), "\"remote\" # default");
    assert_eq!(entry.shown("command_adapter"), "\"redis\" # default");
    assert_eq!(entry.shown("environment.start_without_entry_after"), "\"never\" # default");
    let text = worker(&["redis.url=redis://h/3"]).load().unwrap();
    assert_eq!(Place::new(&text.show()).load().unwrap().config, text.config);
}
