//! The tests of the properties, without systemd.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nbs_core::directive::{self, DIRECTIVES, Raw};
use nbs_core::id::{Generation, Run};
use nbs_core::launch::Address;
use nbs_core::name::EnvironmentName;
use nbs_core::quantity::{ByteSize, CpuQuota};
use nbs_core::recipe::StopSteps;
use nbs_core::spec::Limits;
use nbs_core::unit::{Sandbox, UnitSetting};

use super::*;

pub(in crate::systemd) fn launch() -> Launch {
    let app = AppId::parse("crm").unwrap();
    Launch {
        argv: ["sleep", "1000"].map(String::from).to_vec(),
        env: BTreeMap::from([("SECRET".to_string(), "hush-hush".to_string())]),
        cwd: PathBuf::from("/var/lib/nbsupervisor/apps/crm"),
        user: None,
        group: None,
        limits: Limits {
            memory_max: Some(ByteSize(512 << 20)),
            cpu_quota: Some(CpuQuota(150)),
            tasks_max: Some(64),
            io_weight: Some(200),
        },
        listen: Listen::Unix,
        address: Some(Address::Unix(PathBuf::from("/run/nbsupervisor-apps/crm/app.sock"))),
        notify: false,
        state_dir: PathBuf::from("/var/lib/nbsupervisor/apps/crm"),
        run_dir: PathBuf::from("/run/nbsupervisor-apps/crm"),
        run: Run::default(),
        member: None,
        unit: Some(Box::new(UnitPlan {
            environment: EnvironmentName::parse("local").unwrap(),
            generation: Generation::default(),
            restart: RestartPolicy::default(),
            stop: StopSteps::default(),
            start_timeout: Duration::from_secs(60),
            sandbox: Sandbox::Standard,
            settings: Vec::new(),
        })),
        app,
    }
}

fn site(system: bool, systemd_version: u32) -> Site<'static> {
    Site { system, instance: "/var/lib/nbsupervisor", systemd_version, env_file: Path::new("/run/nbs-test.env") }
}

fn get(properties: &Properties, name: &str) -> Option<Variant<'static>> {
    let found: Vec<_> = properties.iter().filter(|(known, _)| known == name).collect();
    assert!(found.len() <= 1, "{name} is there {} times", found.len());
    found.first().map(|(_, value)| value.clone())
}

fn of_this(launch: &Launch, site: &Site<'_>) -> Properties {
    of(launch, Path::new("/usr/bin/sleep"), site).unwrap()
}

#[test]
fn no_value_of_the_environment_is_a_property() {
    let properties = of_this(&launch(), &site(true, 252));
    assert!(!format!("{properties:?}").contains("hush-hush"));
    assert_eq!(get(&properties, "Environment"), None);
}

#[test]
fn burst_failures_are_borne_and_the_delay_doubles_where_it_can() {
    let new = of_this(&launch(), &site(true, 257));
    assert_eq!(get(&new, "StartLimitBurst"), Some(6u32.into()));
    assert_eq!(get(&new, "RestartSteps"), Some(6u32.into()));
    assert_eq!(get(&new, "RestartMaxDelayUSec"), Some(60_000_000u64.into()));
    assert_eq!(get(&of_this(&launch(), &site(true, 252)), "RestartSteps"), None);
}

#[test]
fn a_directory_that_a_made_user_cannot_own_is_refused_with_the_remedy() {
    let mut elsewhere = launch();
    elsewhere.state_dir = PathBuf::from("/srv/crm");
    let reason = of(&elsewhere, Path::new("/bin/true"), &site(true, 252)).unwrap_err();
    assert_eq!(reason.code, ReasonCode::BadUser);
    assert!(reason.text.contains("/srv/crm") && reason.text.contains("set user"), "{}", reason.text);
    elsewhere.user = Some("daemon".into());
    assert!(of(&elsewhere, Path::new("/bin/true"), &site(true, 252)).is_ok());
}

#[test]
fn a_made_user_has_a_name_of_its_own_that_is_short_enough() {
    assert_eq!(dynamic_user(&AppId::parse("crm").unwrap()), "nbs-app-crm");
    let long = |end: &str| dynamic_user(&AppId::parse(&format!("{}{end}", "a".repeat(60))).unwrap());
    assert_ne!(long("1"), long("2"));
    assert!(long("1").len() <= USER_NAME_MAX);
}

#[test]
fn the_recipe_wins_over_the_sandbox() {
    let mut own = launch();
    let setting = UnitSetting { property: "PrivateTmp".into(), value: UnitValue::Bool(false) };
    own.unit.as_mut().unwrap().settings.push(setting);
    assert_eq!(get(&of_this(&own, &site(true, 252)), "PrivateTmp"), Some(false.into()));
}

#[test]
fn a_users_manager_is_asked_for_nothing_that_it_cannot_do() {
    let properties = of_this(&launch(), &site(false, 252));
    for name in ["User", "DynamicUser", "StateDirectory", "RuntimeDirectory", "ProtectSystem", "PrivateTmp"] {
        assert_eq!(get(&properties, name), None);
    }
    assert!(get(&properties, "NoNewPrivileges").is_some());
}

#[test]
fn a_command_is_of_the_apps_user_and_takes_no_directory_with_it() {
    let argv = ["true".to_string()];
    let of_command = |output| {
        of_command(&launch(), &argv, Path::new("/bin/true"), Duration::ZERO, output, &site(true, 252)).unwrap()
    };
    let list = of_command(None);
    assert_eq!(get(&list, "User"), get(&of_this(&launch(), &site(true, 252)), "User"));
    assert_eq!(get(&list, "RuntimeDirectory"), None);
    assert_eq!(get(&list, "TimeoutStartUSec"), Some(1u64.into()));
    assert_eq!(get(&list, "StandardOutput"), Some("journal".into()));
    let probe = of_command(Some(Path::new("/run/x.out")));
    assert_eq!(get(&probe, "StandardOutput"), None);
    assert_eq!(get(&probe, "StandardOutputFile"), Some("/run/x.out".into()));
}

/// What TOML makes of a sample.
fn raw(value: &toml::Value) -> Raw {
    match value {
        toml::Value::String(text) => Raw::Text(text.clone()),
        toml::Value::Integer(number) => Raw::Integer(*number),
        toml::Value::Boolean(flag) => Raw::Boolean(*flag),
        toml::Value::Array(items) => Raw::List(items.iter().map(raw).collect()),
        _ => Raw::Other,
    }
}

fn samples() -> Vec<(&'static str, UnitSetting)> {
    let read = |row: &directive::Directive| {
        let table: toml::Table = format!("v = {}", row.sample).parse().unwrap();
        (row.name, directive::read(row.name, &raw(&table["v"])).unwrap())
    };
    DIRECTIVES.iter().map(read).collect()
}

#[test]
fn every_sample_of_a_directive_is_a_value_of_it() {
    assert_eq!(samples().len(), DIRECTIVES.len());
}
