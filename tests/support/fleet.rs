//! A fleet as an administrator sets one up: an entry host, worker hosts, a Redis host and a street where visitors are.
//!
//! Each host is a booted Debian with the installed product, configured by /etc/default/nbsupervisor in the origin's
//! variables; keys travel as the documents say. When a test fails, the records of all of them are kept. Deliberately
//! absent: what a test does with it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::eventually::eventually;
use crate::machine::{DAEMON, Machine, Suite, Visitor};
use crate::net::{Cable, Net, Place};
use crate::redis_host::RedisHost;

/// Where the fleet key is, or the worker's.
pub const KEY: &str = "/etc/nbsupervisor/fleet.key";
/// Where the package's unit reads the variables from.
const VARIABLES: &str = "/etc/default/nbsupervisor";
/// The port of every gateway.
const GATEWAY: u16 = 13000;
/// Until a fleet that was switched on is complete.
const JOIN_LIMIT: Duration = Duration::from_secs(60);
/// A visitor looks at a page so long before the next click.
const LOOK_AT_IT: Duration = Duration::from_millis(20);

/// What a fleet consists of.
pub struct Plan<'a> {
    /// Which Debian.
    pub suite: Suite,
    /// The names of the environments.
    pub workers: &'a [&'a str],
    /// What runs there, as file and text.
    pub recipes: &'a [(&'a str, &'a str)],
    /// What of this system the hosts can read, each with its path there.
    pub shown: &'a [(&'a str, &'a str)],
    /// Redis' password.
    pub password: Option<&'a str>,
    /// What chance follows.
    pub seed: u64,
}

/// A host of the fleet.
pub struct Host {
    /// `entry`, or the environment's name.
    pub name: String,
    /// It.
    pub machine: Machine,
    /// Its cable.
    pub cable: Cable,
}

impl Host {
    fn address(&self) -> Ipv4Addr {
        self.cable.address()
    }
}

/// A process of an app, as its host's systemd knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    pub app: String,
    pub environment: String,
    pub pid: u32,
    pub invocation: String,
    pub restarts: String,
}

/// All of it.
pub struct Fleet {
    pub entry: Host,
    pub workers: Vec<Host>,
    pub redis: RedisHost,
    street: Place,
    net: Net,
}

impl Fleet {
    /// Booted hosts with the product installed and configured; no daemon runs.
    pub fn hosts(plan: &Plan<'_>) -> Self {
        let mut net = Net::new(plan.seed);
        let redis = RedisHost::start_with(&mut net, plan.password, &[]);
        let street = Place::new();
        net.plug(street.pid());
        let names = ["entry"].iter().chain(plan.workers);
        let machines: Vec<Machine> = std::thread::scope(|scope| {
            let boots: Vec<_> = names.clone().map(|name| scope.spawn(move || prepared(plan, name))).collect();
            boots.into_iter().map(|boot| boot.join().expect("a host boots and takes the package")).collect()
        });
        let mut hosts = names.zip(machines).map(|(name, machine)| {
            let cable = net.plug(machine.network());
            Host { name: (*name).into(), machine, cable }
        });
        let entry = hosts.next().expect("the entry is the first");
        let workers = hosts.collect();
        let fleet = Self { entry, workers, redis, street, net };
        let url = fleet.redis.url();
        write_variables(&fleet.entry.machine, &entry_variables(&url));
        for worker in &fleet.workers {
            write_variables(&worker.machine, &worker_variables(&url, &worker.name, worker.address()));
        }
        fleet
    }

    /// A fleet whose workers have joined.
    pub fn start(plan: &Plan<'_>) -> Self {
        let fleet = Self::hosts(plan);
        fleet.join();
        fleet
    }

    /// Switches all of it on, and waits until the workers have joined.
    pub fn join(&self) {
        self.switch_on(&self.entry);
        for worker in &self.workers {
            self.hand_over_key(worker);
            self.switch_on(worker);
        }
        for worker in &self.workers {
            self.wait_environment(&worker.name, "available");
        }
    }

    /// The network, for more hosts in it.
    pub fn net(&mut self) -> &mut Net {
        &mut self.net
    }

    /// One more host beside the fleet, booted, with the product installed.
    pub fn another(&mut self, plan: &Plan<'_>, name: &str) -> Host {
        let machine = prepared(plan, name);
        let cable = self.net.plug(machine.network());
        Host { name: name.into(), machine, cable }
    }

    /// Enables and starts a host's daemon.
    pub fn switch_on(&self, host: &Host) {
        host.machine.ok(&["systemctl", "enable", "--now", "nbsupervisor"]);
    }

    /// What the entry's command line gives out for an environment becomes that host's key file.
    pub fn hand_over_key(&self, worker: &Host) {
        self.entry.machine.wait("the entry has made the fleet key", JOIN_LIMIT, |machine| {
            if machine.run(&["test", "-s", KEY]).status.success() { Ok(()) } else { Err("no file".into()) }
        });
        let key = self.entry.machine.ok(&["nbsupervisor", "key", "export-worker", &worker.name]);
        worker.machine.write_secret(KEY, format!("{key}\n"));
    }

    /// The host of an environment.
    pub fn worker(&self, environment: &str) -> &Host {
        let found = self.workers.iter().find(|worker| worker.name == environment);
        found.unwrap_or_else(|| panic!("{environment} is no environment of this fleet"))
    }

    // --- what the entry shows

    /// Waits until `env list` on the entry shows an environment with a status.
    pub fn wait_environment(&self, environment: &str, status: &str) {
        self.entry.machine.wait(&format!("{environment} is {status}"), JOIN_LIMIT, |machine| {
            let list = machine.cli(&["env", "list"]);
            let all = list["environments"].as_array().cloned().unwrap_or_default();
            let seen = all.iter().find(|shown| shown["name"] == environment);
            if seen.is_some_and(|seen| seen["status"] == status) { Ok(()) } else { Err(format!("{list:#}")) }
        });
    }

    /// Makes an app from the entry and waits until it runs wherever it should.
    pub fn app_create(&self, name: &str, runtime: &str, environments: &[&str]) {
        self.app_made(name, runtime, environments, "with-supervisor");
        self.wait_running(name, environments);
    }

    /// Makes an app from the entry.
    pub fn app_made(&self, name: &str, runtime: &str, environments: &[&str], start_mode: &str) {
        let mut arguments = vec!["app", "create", name, "--runtime", runtime, "--start-mode", start_mode];
        arguments.extend(environments.iter().flat_map(|environment| ["--environment", environment]));
        self.entry.machine.cli(&arguments);
    }

    /// Waits until the entry shows an app running in each of these environments.
    pub fn wait_running(&self, app: &str, environments: &[&str]) {
        self.entry.machine.wait(&format!("{app} runs in {environments:?}"), JOIN_LIMIT, |machine| {
            let shown = machine.app(app);
            let runs = |environment: &&str| instance(&shown, environment)["status"] == "running";
            if environments.iter().all(runs) { Ok(()) } else { Err(format!("{shown:#}")) }
        });
    }

    /// Gives a command; the ID of the operation if it was accepted.
    pub fn send(&self, action: &str, app: &str) -> Option<String> {
        let output = self.entry.machine.run(&["nbsupervisor", "--output", "json", "app", action, app, "--no-wait"]);
        if !output.status.success() {
            return None;
        }
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        Some(answer["id"].as_str().unwrap_or_else(|| panic!("an operation without ID: {answer:#}")).into())
    }

    /// What became of an operation, if the entry is there to say so.
    pub fn operation(&self, id: &str) -> Option<Value> {
        self.entry.machine.admin_try(&format!("/api/v1/operations/{id}")).map(|answer| answer.json())
    }

    /// Whether each app is as it should be, by the entry's word and by each host's systemd; else what is not.
    pub fn observed_is_intended(&self) -> Result<(), String> {
        let answer = self.entry.machine.admin_try("/api/v1/apps?limit=200").ok_or("the entry does not answer")?;
        let list = answer.json();
        assert_eq!(list["next_cursor"], Value::Null, "all apps are on one page");
        for app in list["apps"].as_array().ok_or("no apps")? {
            let name = app["name"].as_str().unwrap_or_default();
            let (status, state) = if app["intent"] == "run" { ("running", "active") } else { ("stopped", "inactive") };
            for shown in app["instances"].as_array().ok_or("no instances")? {
                let environment = shown["environment"].as_str().unwrap_or_default();
                let real = self.worker(environment).machine.unit_property(&unit(name), "ActiveState");
                // A unit that gave up is gone just as well.
                let real = if real == "failed" { "inactive" } else { &real };
                if shown["status"] != status || real != state {
                    let reason = &shown["reason"]["text"];
                    return Err(format!(
                        "{name} in {environment} should be {status}; shown {}, unit {real}, {reason}",
                        shown["status"]
                    ));
                }
            }
        }
        Ok(())
    }

    /// The present life of an app in an environment, as that host's systemd has it.
    pub fn life(&self, app: &str, environment: &str) -> Life {
        let (machine, unit) = (&self.worker(environment).machine, unit(app));
        Life {
            app: app.into(),
            environment: environment.into(),
            pid: machine.pid_of_unit(&unit),
            invocation: machine.invocation_of(&unit),
            restarts: machine.unit_property(&unit, "NRestarts"),
        }
    }

    // --- visitors

    /// A visitor in the street, who asks the entry's gateway for a path again and again.
    pub fn visitor(&self, path: &str) -> Visitor {
        Visitor::start_at(self.street.pid(), self.gateway(), path, LOOK_AT_IT)
    }

    /// A process in the street's network.
    pub fn street(&self) -> u32 {
        self.street.pid()
    }

    /// Where the entry's gateway is.
    pub fn gateway(&self) -> SocketAddr {
        (self.entry.address(), GATEWAY).into()
    }

    /// One request from the street; status and body.
    pub fn visit(&self, path: &str, headers: &[&str]) -> (u16, String) {
        self.curl(path, &headers.iter().flat_map(|header| ["-H", *header]).collect::<Vec<_>>())
    }

    /// The same as curl's arguments say.
    pub fn curl(&self, path: &str, arguments: &[&str]) -> (u16, String) {
        let url = format!("http://{}:{GATEWAY}{path}", self.entry.address());
        let mut curl = vec!["curl", "-sS", "--max-time", "40", "-w", "\n%{http_code}", &url];
        curl.extend(arguments);
        let output = self.street.run(&curl);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap_or_default();
        assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
        (status.parse().unwrap(), body.into())
    }

    // --- what is left behind

    /// What Redis holds and says, into a folder.
    fn keep_redis(&self, folder: &Path) -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("redis-keys.txt"), self.redis.dump())?;
        fs::write(folder.join("redis-log.txt"), self.redis.log())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let test = std::thread::current().name().unwrap_or("main").replace("::", "-");
            let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
            let target = std::env::var_os("CARGO_TARGET_DIR").map_or(own, PathBuf::from);
            let folder = target.join("test-failures").join(test).join("redis");
            match self.keep_redis(&folder) {
                Ok(()) => eprintln!("--- what Redis held is in {}", folder.display()),
                Err(error) => eprintln!("--- what Redis held could not be written to {}: {error}", folder.display()),
            }
        }
    }
}

/// The unit of an app.
pub fn unit(app: &str) -> String {
    format!("nbs-app-{app}.service")
}

/// The instance of an app in an environment, as the admin interface shows it; null if there is none.
pub fn instance<'a>(app: &'a Value, environment: &str) -> &'a Value {
    let all = app["instances"].as_array();
    all.and_then(|all| all.iter().find(|instance| instance["environment"] == environment)).unwrap_or(&Value::Null)
}

/// What a daemon wrote to its journal since it was installed.
pub fn journal(machine: &Machine) -> String {
    machine.ok(&["journalctl", "--no-pager", "-o", "cat", "-u", DAEMON])
}

/// Waits until a daemon's journal has a line with all these words.
pub fn wait_journal(machine: &Machine, words: &[&str]) {
    eventually(&format!("the journal speaks of {words:?}"), JOIN_LIMIT, || {
        let text = journal(machine);
        let found = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        if found { Ok(()) } else { Err(text) }
    });
}

/// The variables of an entry.
pub fn entry_variables(redis: &str) -> Vec<(String, String)> {
    let mut variables = through_redis("supervisor", redis);
    variables.push(("APP_PROCESS_ADAPTER".into(), "remote".into()));
    variables
}

/// The variables of a worker.
pub fn worker_variables(redis: &str, name: &str, address: Ipv4Addr) -> Vec<(String, String)> {
    let mut variables = through_redis("worker", redis);
    let url = format!("http://{address}:{GATEWAY}");
    variables.push(("APP_PROCESS_ADAPTER".into(), "local".into()));
    variables.push(("ENVIRONMENT_NAME".into(), name.into()));
    variables.push(("ENVIRONMENT_URL".into(), url.clone()));
    variables.push(("ENVIRONMENT_PROXY_URL".into(), url));
    variables
}

/// The variables of an entry that runs apps itself.
pub fn both_variables(redis: &str, name: &str, address: Ipv4Addr) -> Vec<(String, String)> {
    let mut variables = worker_variables(redis, name, address);
    variables.retain(|(key, _)| key != "APP_MODE");
    variables.push(("APP_MODE".into(), "supervisor".into()));
    variables
}

fn through_redis(mode: &str, redis: &str) -> Vec<(String, String)> {
    let pairs = [
        ("APP_MODE", mode),
        ("APP_DISCOVERY_ADAPTER", "remote"),
        ("APP_SUPERVISOR_REDIS_URL", redis),
        ("APP_COMMAND_ADAPTER", "redis"),
        ("APP_COMMAND_REDIS_URL", redis),
    ];
    pairs.iter().map(|(key, value)| ((*key).to_string(), (*value).to_string())).collect()
}

/// Writes the file that the unit reads.
pub fn write_variables(machine: &Machine, variables: &[(String, String)]) {
    let lines: Vec<String> = variables.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    machine.write_file(VARIABLES, lines.concat());
}

/// A booted host with product and recipes.
fn prepared(plan: &Plan<'_>, name: &str) -> Machine {
    let mut machine = Machine::boot_showing(plan.suite, plan.shown);
    machine.name(name);
    machine.install();
    for (file, text) in plan.recipes {
        machine.recipe(file, text);
    }
    machine
}
