//! Loading the configuration as a whole: order, origin's variables, exact messages, what `config show` prints.

#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nbsupervisor::config::{ConfigError, Loaded, Sources, load};

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
        .variable("ENVIRONMENT_URL", "http://ada:s3cret@10.0.0.2:13000/")
        .variable("ENVIRONMENT_PROXY_URL", "http://10.0.0.3")
        .variable("NBSUPERVISOR_LOG", "debug")
        .variable("TZ", "Asia/Shanghai");
    let loaded = place.load().unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.environment.name.as_str(), "env_a");
    assert_eq!(loaded.config.environment.url.as_deref(), Some("http://ada:s3cret@10.0.0.2:13000"));
    assert_eq!(loaded.config.time_zone.as_deref(), Some("Asia/Shanghai"));
    assert_eq!(loaded.config.log.level, "debug");
    assert_eq!(place.shown("environment.name"), "\"env_a\" # variable ENVIRONMENT_NAME");
    assert_eq!(place.shown("environment.url"), "\"http://ada:***@10.0.0.2:13000/\" # variable ENVIRONMENT_URL");
    assert!(!loaded.show().contains("s3cret"));
}

#[test]
fn the_origins_variables_are_checked() {
    type Variables<'a> = &'a [(&'a str, &'a str)];
    let cases: &[(Variables<'_>, &[&str])] = &[
        (
            &[("APP_MODE", "supervisor")],
            &["variable APP_MODE: mode: mode supervisor is not available yet; write standalone"],
        ),
        (&[("APP_MODE", "workre")], &["variable APP_MODE: mode: \"workre\" is not a mode; did you mean worker?"]),
        (
            &[("APP_PROCESS_ADAPTER", "remote")],
            &["variable APP_PROCESS_ADAPTER: remote (through Redis) is not available yet; write local or unset it"],
        ),
        (
            &[("APP_DISCOVERY_ADAPTER", "remot")],
            &["variable APP_DISCOVERY_ADAPTER: \"remot\" is no value of it; did you mean remote?"],
        ),
        (&[("APP_COMMAND_ADAPTER", "redis")], &["variable APP_COMMAND_ADAPTER: redis is not available yet; unset it"]),
        (
            &[("APP_COMMAND_ADAPTER", "rabbit")],
            &["variable APP_COMMAND_ADAPTER: \"rabbit\" is no value of it; there is redis"],
        ),
        (
            &[("APP_COMMAND_ADPATER", "redis")],
            &[
                "variable APP_COMMAND_ADPATER: this is the misspelling of APP_COMMAND_ADAPTER in the origin's documents; write APP_COMMAND_ADAPTER",
                "variable APP_COMMAND_ADPATER: redis is not available yet; unset it",
            ],
        ),
        (
            &[("APP_COMMAND_ADPATER", "redis"), ("APP_COMMAND_ADAPTER", "local")],
            &[
                "variable APP_COMMAND_ADPATER: it is \"redis\", but APP_COMMAND_ADAPTER is \"local\"; keep APP_COMMAND_ADAPTER only",
            ],
        ),
        (
            &[("APP_COMMAND_ADPATER", "redis"), ("APP_COMMAND_ADAPTER", "redis")],
            &["variable APP_COMMAND_ADAPTER: redis is not available yet; unset it"],
        ),
        (
            &[("APP_SUPERVISOR_REDIS_URL", "redis://:pw@h")],
            &["variable APP_SUPERVISOR_REDIS_URL: redis: Redis is not available yet; remove it"],
        ),
        (
            &[("ENVIRONMENT_NAME", "_a")],
            &[
                "variable ENVIRONMENT_NAME: environment.name: \"_a\" is not an environment name; use a letter or digit, then at most 62 of A-Z, a-z, 0-9, _, . and -",
            ],
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
            "nbsupervisor.toml:15: redis: Redis is not available yet; remove it",
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
