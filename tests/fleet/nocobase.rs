//! NocoBase itself in several environments: an entry, two workers, and a PostgreSQL that both reach.
//!
//! `./test nocobase` runs it, and no other tier: the installation (`tests/nocobase/run install`) is large, and a start
//! takes the better part of a minute. The workers see that installation and this system's Node, and have the recipe of
//! examples/ as it stands there. Deliberately absent: what NocoBase does on one host (`tests/nocobase/run`).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fleet::{Fleet, Plan, instance, unit, worker_variables, write_variables};
use crate::machine::{Suite, Visitor};
use crate::postgres_host::PostgresHost;
use crate::socket;

/// First starts on empty databases, one after another, on a machine that has other things to do.
const STARTS: Duration = Duration::from_secs(900);
/// Until all is as it was after a fault.
const AGAIN: Duration = Duration::from_secs(60);
/// From one answer to the next request.
const LOOK_AT_IT: Duration = Duration::from_millis(20);
/// What the app of both environments is asked for; where its process is its own, that knows no names.
const BY_NAME: &str = "/api/__app/two/app:getInfo";
const ALONE: &str = "/api/app:getInfo";
/// Stands in the web client's page and nowhere else.
const PAGE_MARK: &str = "__nocobase_public_path__";
/// Where each app has to run: one in one environment, the other in both.
const PLACES: [(&str, &str); 3] = [("one", "env_a"), ("two", "env_a"), ("two", "env_b")];
const HOST_UNIT: &str = "nbs-host-nocobase.service";
const EMAIL: &str = "admin@nocobase.local";
const PASSWORD: &str = "only-for-this-run";

/// A unit's process, the ID of its life, and how often systemd started it again.
type Life = (u32, String, String);

/// A fleet with NocoBase, and the server of its databases.
struct Site {
    fleet: Fleet,
    database: PostgresHost,
    version: String,
    begun: Instant,
}

impl Site {
    fn new() -> Self {
        let cache = std::env::var("NBS_CACHE").unwrap_or_else(|_| "/var/cache/nbsupervisor-tests".into());
        let installed = format!("{cache}/nocobase");
        let is_there = std::path::Path::new(&installed).join(".installed").exists();
        assert!(is_there, "no NocoBase in {installed}: say tests/nocobase/run install");
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/nocobase/nocobase.toml");
        let recipe = std::fs::read_to_string(example).unwrap();
        let mut fleet = Fleet::hosts(&Plan {
            suite: Suite::Bookworm,
            workers: &["env_a", "env_b"],
            recipes: &[("nocobase.toml", &recipe)],
            shown: &[("/usr/bin/node", "/usr/bin/node"), (&installed, "/opt/nocobase")],
            password: None,
            seed: 5,
        });
        let database = PostgresHost::start(fleet.net());
        let mut version = String::new();
        for worker in &fleet.workers {
            let mut variables = worker_variables(&fleet.redis.url(), &worker.name, worker.cable.address());
            variables.extend(database.variables());
            write_variables(&worker.machine, &variables);
            worker.machine.ok(&["useradd", "--system", "nocobase"]);
            let package = "require('/opt/nocobase/node_modules/@nocobase/app/package.json').version";
            version = worker.machine.ok(&["/usr/bin/node", "-p", package]);
        }
        fleet.entry.machine.write_secret("/root/password", PASSWORD);
        fleet.join();
        Self { fleet, database, version, begun: Instant::now() }
    }

    /// A line of what was seen when, for whoever reads along.
    fn note(&self, what: &str) {
        println!("{:6.1} s  {what}", self.begun.elapsed().as_secs_f64());
    }

    /// Makes an app that does not run yet.
    fn create(&self, app: &str, arguments: &[&str]) {
        let fixed =
            ["app", "create", app, "--runtime", "nocobase", "--database", "new-database", "--start-mode", "manual"];
        self.fleet.entry.machine.cli(&[&fixed, arguments].concat());
    }

    /// Starts both apps and waits until they run; what was seen in the queue, and in which statuses.
    ///
    /// No app may be on its way in two environments at once.
    fn start_all(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        for app in ["one", "two"] {
            assert!(self.fleet.send("start", app).is_some(), "{app} is told to start");
        }
        let (mut queued, mut statuses) = (BTreeSet::new(), BTreeSet::new());
        self.fleet.entry.machine.wait("both apps run where they should", STARTS, |machine| {
            let queue = machine.cli(&["queue"]);
            let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
            for entry in queue["queue"].as_array().into_iter().flatten() {
                queued.insert(format!("{} in {}", text(&entry["app"]), text(&entry["environment"])));
            }
            let shown = ["one", "two"].map(|app| machine.app(app));
            let status = |app: &str, environment: &str| {
                text(&instance(&shown[usize::from(app == "two")], environment)["status"])
            };
            let seen = PLACES.map(|(app, environment)| status(app, environment));
            for ((app, environment), status) in PLACES.iter().zip(&seen) {
                if statuses.insert(format!("{app} in {environment} {status}")) {
                    self.note(&format!("{app} in {environment} is {status}"));
                }
            }
            let on_its_way = |status: &&String| matches!(status.as_str(), "preparing" | "initializing");
            assert!(seen[1..].iter().filter(on_its_way).count() < 2, "two starts at once: {:#}", shown[1]);
            if seen.iter().all(|status| status == "running") { Ok(()) } else { Err(format!("{shown:#?}")) }
        });
        self.note(&format!("all run; seen in the queue: {queued:?}"));
        (queued, statuses)
    }

    /// Page, interface and WebSocket of an app, from the street; a session's token.
    fn visit(&self, app: &str, environment: Option<&str>, password: &str) -> String {
        let choice: Vec<String> = environment.map(|name| format!("X-App-Environment: {name}")).into_iter().collect();
        let headers: Vec<&str> = choice.iter().map(String::as_str).collect();
        let page = self.fleet.visit(&format!("/apps/{app}/admin/"), &[&headers[..], &["Accept: text/html"]].concat());
        assert!(page.0 == 200 && page.1.contains(PAGE_MARK), "{app} in {environment:?}: {page:?}");
        let info = self.fleet.visit(&format!("/api/__app/{app}/app:getInfo"), &headers);
        assert_eq!((info.0, &json(&info.1)["data"]["version"]), (200, &self.version.clone().into()), "{}", info.1);
        let token = self.sign_in(app, environment, password);
        self.socket(app, environment, &token);
        token
    }

    /// Calls the app's interface with a body.
    fn post(&self, app: &str, environment: Option<&str>, action: &str, token: &str, body: &Value) -> (u16, Value) {
        let (choice, body) = (format!("X-App-Environment: {}", environment.unwrap_or_default()), body.to_string());
        let session = format!("Authorization: Bearer {token}");
        let mut arguments = vec!["-H", "Content-Type: application/json", "-H", "X-Authenticator: basic", "-d", &body];
        if environment.is_some() {
            arguments.extend(["-H", &choice]);
        }
        if !token.is_empty() {
            arguments.extend(["-H", &session]);
        }
        let (status, text) = self.fleet.curl(&format!("/api/__app/{app}/{action}"), &arguments);
        (status, json(&text))
    }

    fn sign_in(&self, app: &str, environment: Option<&str>, password: &str) -> String {
        let body = serde_json::json!({ "account": EMAIL, "password": password });
        let (status, answer) = self.post(app, environment, "auth:signIn", "", &body);
        assert_eq!(status, 200, "{app} in {environment:?}: {answer:#}");
        answer["data"]["token"].as_str().unwrap().to_string()
    }

    /// Over the app's WebSocket, its own token is good.
    fn socket(&self, app: &str, environment: Option<&str>, token: &str) {
        let choice = environment.map(|name| format!("&__environment={name}")).unwrap_or_default();
        let head = format!("/ws?__appName={app}{choice} HTTP/1.1");
        let text = serde_json::json!({ "type": "auth:token", "payload": { "token": token, "authenticator": "basic" } });
        let (street, gateway) = (self.fleet.street(), self.fleet.gateway());
        let heard = socket::ask(street, gateway, &head, &text.to_string(), "authorized");
        heard.unwrap_or_else(|came| panic!("{app} in {environment:?} has no WebSocket: {came}"));
    }

    /// What was written in one environment is read in another, in the same session: one database, one secret.
    fn shares(&self, token: &str) {
        let body = serde_json::json!({ "nickname": "Written in A", "username": "written_in_a", "password": PASSWORD });
        let (status, made) = self.post("two", Some("env_a"), "users:create", token, &body);
        assert_eq!(status, 200, "{made:#}");
        let session = format!("Authorization: Bearer {token}");
        let headers = ["X-App-Environment: env_b", "X-Authenticator: basic", &session];
        let read = self.fleet.visit("/api/__app/two/users:list?pageSize=100", &headers);
        assert!(read.0 == 200 && read.1.contains("written_in_a"), "{read:?}");
    }

    /// Kills one environment's daemon: no process of an app is touched. Somebody asks the app of both environments there
    /// all the while, without a gateway, for `direct`; perhaps a visitor asks the entry for an app `elsewhere`.
    fn kill_daemon(&self, environment: &str, direct: &str, elsewhere: Option<&str>, lives: impl Fn() -> Vec<Life>) {
        let before = lives();
        assert!(before.iter().all(|life| life.0 != 0), "{before:?}");
        let machine = &self.fleet.worker(environment).machine;
        let address = instance(&self.fleet.entry.machine.app("two"), environment)["address"].clone();
        let address =
            address.as_str().and_then(|address| address.parse().ok()).expect("an app that runs has an address");
        let neighbour = Visitor::start_at(machine.network(), address, direct, LOOK_AT_IT);
        let visitor = elsewhere.map(|path| self.fleet.visitor(path));
        let former = machine.kill9_daemon();
        machine.wait_daemon(former);
        for (app, _) in PLACES.iter().filter(|place| place.1 == environment) {
            machine.wait(&format!("{app} runs by the word of {environment}"), AGAIN, |machine| {
                let shown = machine.app(app);
                let found = instance(&shown, environment);
                if found["status"] == "running" && found["restarts"] == 0 { Ok(()) } else { Err(format!("{shown:#}")) }
            });
        }
        self.fleet.wait_environment(environment, "available");
        assert_eq!(lives(), before);
        self.note(&format!("the daemon of {environment} killed, and back to the same processes: {before:?}"));
        for (who, tally) in [("there", Some(neighbour.finish())), ("elsewhere", visitor.map(Visitor::finish))] {
            let Some(tally) = tally else { continue };
            assert!(tally.bad == 0 && tally.good > 0, "{who}: {tally:#?}");
            self.note(&format!("meanwhile {who}: {} requests, none failed", tally.good));
        }
    }

    /// The databases that were made.
    fn databases(&self) -> String {
        let made = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY 1";
        self.database.sql(made)
    }

    /// The present life of a unit.
    fn life(&self, environment: &str, unit: &str) -> Life {
        let machine = &self.fleet.worker(environment).machine;
        (machine.pid_of_unit(unit), machine.invocation_of(unit), machine.unit_property(unit, "NRestarts"))
    }

    /// A variable of a unit's process; empty if it has none.
    fn variable(&self, environment: &str, unit: &str, name: &str) -> String {
        let machine = &self.fleet.worker(environment).machine;
        let pid = machine.pid_of_unit(unit);
        machine.shell(&format!("tr '\\0' '\\n' </proc/{pid}/environ | sed -n 's/^{name}=//p'"))
    }

    /// Stops an app everywhere, and visits do not revive it.
    fn stop(&self, app: &str, environments: &[&str]) {
        self.fleet.entry.machine.cli(&["app", "stop", app]);
        for environment in environments {
            let header = format!("X-App-Environment: {environment}");
            let (status, body) = self.fleet.visit(&format!("/api/__app/{app}/app:getInfo"), &[&header]);
            assert_eq!((status, &json(&body)["error"]["code"]), (503, &"APP_STOPPED".into()), "{body}");
        }
        self.fleet.entry.machine.wait_app(app, "stopped");
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn apps_share_a_process_in_each_of_two_environments() {
    let site = Site::new();
    site.create("one", &["--hosting", "shared", "--environment", "env_a"]);
    site.create("two", &["--hosting", "shared", "--environment", "env_a", "--environment", "env_b"]);
    let (queued, _) = site.start_all();
    assert!(queued.contains("two in env_a") || queued.contains("two in env_b"), "{queued:?}");
    // The first account is made where the app starts first, and its password is that host's.
    let mut tokens = Vec::new();
    for (app, environment) in PLACES {
        let passwords = ["env_a", "env_b"].map(|place| site.variable(place, HOST_UNIT, "INIT_ROOT_PASSWORD"));
        let body = |password: &String| serde_json::json!({ "account": EMAIL, "password": password });
        let mut tried = passwords.iter();
        let good = tried.find(|one| site.post(app, Some(environment), "auth:signIn", "", &body(one)).0 == 200);
        tokens.push(site.visit(app, Some(environment), good.expect("the password of one of the hosts is good")));
    }
    site.note("pages, interfaces and WebSockets through the entry");
    site.shares(&tokens[1]);
    assert_eq!(site.fleet.visit("/api/__app/two/app:getInfo", &[]).0, 400, "two environments, and none was named");
    let pids = |app: &str, environment: &str| instance(&site.fleet.entry.machine.app(app), environment)["pid"].clone();
    let hosts = || ["env_a", "env_b"].map(|environment| site.life(environment, HOST_UNIT)).to_vec();
    let [a, b] = [hosts()[0].0, hosts()[1].0];
    assert_eq!(PLACES.map(|(app, environment)| pids(app, environment)), [a, a, b].map(Value::from));
    assert_eq!(site.databases(), "nbs_host_nocobase_env_a\nnbs_host_nocobase_env_b\none\ntwo");
    site.kill_daemon("env_a", BY_NAME, Some("/api/__app/two/app:getInfo?__environment=env_b"), hosts);
    site.kill_daemon("env_b", BY_NAME, Some("/api/__app/one/app:getInfo"), hosts);
    site.socket("two", Some("env_b"), &tokens[2]);
    site.stop("two", &["env_a", "env_b"]);
    site.fleet.worker("env_b").machine.wait_unit(HOST_UNIT, "inactive");
    assert_eq!(site.life("env_a", HOST_UNIT).0, a, "the other app runs on in the process");
    site.socket("one", None, &tokens[0]);
}

#[test]
fn an_app_is_split_into_one_for_visitors_and_one_for_jobs() {
    let site = Site::new();
    let account = ["--env", &format!("INIT_ROOT_EMAIL={EMAIL}"), "--secret", "INIT_ROOT_PASSWORD=@/root/password"];
    site.create("one", &[&account[..], &["--environment", "env_a"]].concat());
    site.create("two", &[&account[..], &["--environment", "env_a", "--environment", "env_b"]].concat());
    let split = ["--set", "placements.env_b.env.WORKER_MODE=*", "--set", "placements.env_b.serve=false"];
    site.fleet.entry.machine.cli(&[&["app", "edit", "two"], &split[..]].concat());
    let (queued, statuses) = site.start_all();
    assert!(queued.contains("two in env_a") || queued.contains("two in env_b"), "{queued:?}");
    assert!(statuses.iter().any(|seen| seen == "two in env_b initializing"), "{statuses:?}");
    let tokens = ["one", "two"].map(|app| site.visit(app, None, PASSWORD));
    site.note("pages, interfaces and WebSockets through the entry, without a choice");
    let refused = site.fleet.visit("/api/__app/two/app:getInfo", &["X-App-Environment: env_b"]);
    assert_eq!((refused.0, &json(&refused.1)["error"]["code"]), (404, &"APP_NOT_FOUND".into()), "{refused:?}");
    let mode = |environment: &str| site.variable(environment, &unit("two"), "WORKER_MODE");
    assert_eq!((mode("env_a").as_str(), mode("env_b").as_str()), ("", "*"));
    let keys = ["env_a", "env_b"].map(|environment| site.variable(environment, &unit("two"), "APP_KEY"));
    assert!(keys[0] == keys[1] && !keys[0].is_empty(), "one secret per app");
    assert_eq!(site.databases(), "one\ntwo");
    let lives = || PLACES.map(|(app, environment)| site.life(environment, &unit(app))).to_vec();
    // Its gateway goes with the daemon, so visitors of env_a are not asked for while that one is away.
    site.kill_daemon("env_b", ALONE, Some(BY_NAME), lives);
    site.kill_daemon("env_a", ALONE, None, lives);
    site.socket("two", None, &tokens[1]);
    site.socket("one", None, &tokens[0]);
    site.stop("two", &["env_a"]);
    assert_eq!(site.life("env_b", &unit("two")).0, 0, "the one for jobs is stopped as well");
}
