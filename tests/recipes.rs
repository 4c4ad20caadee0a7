//! Recipes as files: their meaning, exact messages for mistakes, whose files are trusted, and the catalogue over time.

#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use nbs_core::name::RuntimeName;
use nbs_core::paths::AppPath;
use nbs_core::quantity::ByteSize;
use nbs_core::recipe::{Adapter, Check, FailedIf, HookId, HookKind, Listen, Recipe, VersionProbe};
use nbs_core::restart::RestartWhen;
use nbs_core::signal::Signal;
use nbsupervisor::config::{Catalogue, Problem, load_recipe_file, load_recipes};

#[path = "recipes/shared.rs"]
mod shared;

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        path
    }

    /// Problems as text, with the directory's own path left out.
    fn texts(&self, problems: &[Problem]) -> Vec<String> {
        let own = format!("{}/", self.0.path().display());
        problems.iter().map(|problem| problem.to_string().replace(&own, "")).collect()
    }
}

fn load(text: &str) -> (Option<Recipe>, Vec<Problem>, Dir) {
    let dir = Dir::new();
    let (recipe, problems) = load_recipe_file(&dir.write("a.toml", text));
    (recipe, problems, dir)
}

fn good(text: &str) -> Recipe {
    let (recipe, problems, _) = load(text);
    recipe.unwrap_or_else(|| panic!("{problems:?}"))
}

/// The errors of a recipe with these lines after its name and command (lines 1 and 2).
fn errors(lines: &str) -> Vec<String> {
    let (recipe, problems, dir) = load(&format!("name = \"a\"\ncommand = [\"/bin/sh\"]\n{lines}\n"));
    let errors: Vec<Problem> = problems.into_iter().filter(Problem::is_error).collect();
    assert_eq!(recipe.is_none(), !errors.is_empty());
    dir.texts(&errors)
}

const FULL: &str = r#"
name = "nocobase"
description = "NocoBase"
command = ["/usr/bin/node", "{app_dir}/index.js", "--port={port}"]
working_dir = "{app_dir}"
app_dir = "/opt/{app}"
adapter = "process"
environment = { APP_PORT = "{port}", APP_KEY = "{secret.jwt}", DB = "{secret.DB}" }
listen = "port"
strip_prefix = true
user = "root"
group = "root"
ready = { http = "/api/__health_check", expect_body = "ok", status = 200, progress = "error.message", failed_if = { "error.code" = "APP_ERROR", for = "20s" }, interval = "1s", timeout = "3m" }
version = { http = "/api/app:getInfo", json = "data.version" }
alive = { http = "/alive", interval = "10s", timeout = "2s", failures = 2 }
prepare = [{ command = ["/bin/true", "{app}"], timeout = "1m" }]
backup = [{ command = ["/bin/true"], timeout = "5m" }]
upgrade = [{ command = ["/bin/true"] }]
installed = { exec = ["/bin/cat", "{app_dir}/version"] }
stop = { steps = [["SIGTERM", "10s"], ["INT", "5s"]] }
restart = { policy = "always", delay = "2s", max_delay = "1m", burst = 3, window = "5m", reset_after = "30s", on_file = "{state_dir}/storage/.upgrading" }
limits = { memory_max = "1G", cpu_quota = "200%", tasks_max = 512 }
max_limits = { memory_max = 2147483648 }
paths = ["/v/apps/", { path = "/files/", rewrite = "/files/main/" }]
shared_paths = ["/assets/", "/global.css"]
page_paths = ["/api/", "/ws"]
app_id_pattern = "^[a-z_]+$"
sandbox = "none"
"#;

#[test]
fn a_full_recipe_means_what_it_says() {
    let recipe = good(FULL);
    assert_eq!((recipe.name.as_str(), recipe.description.as_str()), ("nocobase", "NocoBase"));
    assert_eq!((recipe.command.len(), recipe.listen, recipe.strip_prefix), (3, Listen::Port, true));
    assert_eq!(recipe.adapter, Some(Adapter::Process));
    assert_eq!(recipe.secrets_needed(), ["DB"]);
    let Check::Http(http) = &recipe.ready.check else { panic!("{:?}", recipe.ready) };
    assert_eq!((http.status, http.expect_body.as_deref()), (Some(200), Some("ok")));
    assert_eq!(http.progress.as_deref(), Some("error.message"));
    let failed_if =
        FailedIf { path: "error.code".into(), equals: "APP_ERROR".into(), persists: Duration::from_secs(20) };
    assert_eq!(http.failed_if, Some(failed_if));
    let seconds = |duration: Duration| duration.as_secs();
    let ready = &recipe.ready;
    assert_eq!([ready.interval, ready.timeout, ready.max_timeout].map(seconds), [1, 180, 720]);
    let alive = recipe.alive.unwrap();
    assert_eq!((seconds(alive.interval), seconds(alive.timeout), alive.failures), (10, 2, 2));
    assert!(matches!(recipe.version, Some(VersionProbe::Http { json, .. }) if json == "data.version"));
    assert_eq!((recipe.prepare.len(), seconds(recipe.prepare[0].timeout)), (1, 60));
    let upkeep = &recipe.upkeep;
    assert_eq!((upkeep.steps(), upkeep.upgrade_timeout().map(seconds)), (2, Some(900)));
    let second_step = HookId { kind: HookKind::Upgrade, index: 0 };
    assert_eq!((upkeep.step(1).map(|(hook, _)| hook), upkeep.step(2)), (Some(second_step), None));
    assert_eq!(upkeep.installed.as_ref().map(Vec::len), Some(2));
    assert!(upkeep.restart_on_file.is_some());
    let second = Duration::from_secs;
    assert_eq!(recipe.stop.0, [(Signal::TERM, second(10)), (Signal(2), second(5))]);
    assert_eq!((recipe.restart.policy, recipe.restart.burst), (RestartWhen::Always, 3));
    assert_eq!(recipe.limits.tasks_max, Some(512));
    assert_eq!(recipe.max_limits.memory_max, Some(ByteSize(2 << 30)));
    let files = AppPath { path: "/files/".into(), rewrite: Some("/files/main/".into()) };
    assert_eq!(recipe.paths.naming, [AppPath { path: "/v/apps/".into(), rewrite: None }, files]);
    assert_eq!(
        (recipe.paths.shared, recipe.paths.page),
        (texts(&["/assets/", "/global.css"]), texts(&["/api/", "/ws"]))
    );
    assert_eq!(recipe.app_id_pattern.as_deref(), Some("^[a-z_]+$"));
}

#[test]
fn what_a_recipe_leaves_out_has_its_default() {
    let job = good("name = \"job\"\ncommand = [\"/bin/sh\"]\n");
    assert_eq!((job.listen, job.ready.check.clone()), (Listen::None, Check::Started));
    assert_eq!((job.ready.timeout.as_secs(), job.ready.max_timeout.as_secs()), (300, 1200));
    assert_eq!(job.ready.interval, Duration::from_millis(500));
    assert_eq!((job.stop.0, job.alive, job.adapter), (vec![(Signal::TERM, Duration::from_secs(10))], None, None));
    for listen in ["port", "unix", "fd"] {
        let server = good(&format!("name = \"s\"\ncommand = [\"/bin/sh\"]\nlisten = \"{listen}\"\n"));
        assert_eq!((server.ready.check, server.ready.interval), (Check::Tcp, Duration::from_millis(50)));
    }
    let short = good("name = \"s\"\ncommand = [\"/bin/sh\"]\nstop = { signal = \"SIGINT\", timeout = \"5s\" }\n");
    assert_eq!(short.stop.0, [(Signal(2), Duration::from_secs(5))]);
    let unquoted = "name = \"s\"\ncommand = [\"/bin/sh\"]\nlisten = \"port\"\n[ready]\nhttp = \"{public_path}x\"\nfailed_if.error.code = \"X\"\n";
    let Check::Http(http) = good(unquoted).ready.check else { panic!() };
    assert_eq!(http.failed_if.unwrap().path, "error.code");
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

#[test]
fn paths_are_plain_and_name_apps_in_one_way() {
    assert_errors(&[
        ("paths = \"/files/\"", "paths: \"/files/\" is a text, not a list; write [\"/files/\"]"),
        ("paths = [\"files/\"]", "paths[0]: \"files/\" is not an absolute path; begin it with /"),
        ("paths = [\"/files\"]", "paths[0]: \"/files\" does not end with /; write \"/files/\""),
        ("paths = [\"/a//b/\"]", "paths[0]: \"/a//b/\" is not a plain path; write it without empty segments, . and .."),
        ("paths = [\"/a b/\"]", "paths[0]: \"/a b/\" is not a plain path; write it without %, ?, # and placeholders"),
        ("paths = [{ rewrite = \"/x/\" }]", "paths[0]: it has no path; write path = \"/files/\""),
        (
            "paths = [{ path = \"/files/\", rewrite = \"/files/{app}/\" }]",
            "paths[0].rewrite: \"/files/{app}/\" is not a plain path; write it without %, ?, # and placeholders",
        ),
        ("paths = [\"/files/\", { path = \"/files/\" }]", "paths[1]: \"/files/\" stands here twice; remove one"),
        (
            "paths = [\"/api/__app/\"]",
            "paths[0]: \"/api/__app/\" and /api/__app/ would name apps in two ways; write another path, such as /files/",
        ),
        (
            "paths = [\"/\"]",
            "paths[0]: \"/\" and /apps/ would name apps in two ways; write another path, such as /files/",
        ),
        ("shared_paths = [1]", "shared_paths[0]: 1 is a number, not a text; write \"/assets/\""),
        (
            "shared_paths = [\"/\"]",
            "shared_paths[0]: \"/\" stands for every path, also for those that are no app's; write what pages ask for, such as /assets/",
        ),
        (
            "page_paths = [\"/apps/x/\"]",
            "page_paths[0]: \"/apps/x/\" names an app by /apps/; write what pages ask for, such as /assets/",
        ),
    ]);
}

/// Each pair is the recipe's lines and the one error that follows from them.
fn assert_errors(cases: &[(&str, &str)]) {
    for (lines, expected) in cases {
        // The mistake is in the last line, or in the header of a table.
        let line = if lines.starts_with('[') { 3 } else { 2 + lines.lines().count() };
        assert_eq!(errors(lines), [format!("a.toml:{line}: {expected}")], "{lines}");
    }
}

#[test]
fn mistakes_about_upgrades_and_restarts_name_line_value_and_remedy() {
    assert_errors(&[
        ("installed = {}", "installed.exec: it is missing; write exec = [\"/usr/bin/program\", \"--version\"]"),
        (
            "restart = { on_file = \"storage/.upgrading\" }",
            "restart.on_file: \"storage/.upgrading\" is not an absolute path; begin it with / or a placeholder",
        ),
        (
            "restart = { on_file = \"/x/{secret.jwt}\" }",
            "restart.on_file: {secret.jwt} would be shown to every user of the host here; hand it over in [environment], and let the program read its variable",
        ),
    ]);
}

#[test]
fn each_mistake_names_line_value_and_remedy() {
    assert_errors(&[
        ("comand = 1", "comand: unknown key; did you mean command?"),
        ("limits = { memroy_max = \"1G\" }", "limits.memroy_max: unknown key; did you mean limits.memory_max?"),
        (
            "limits = { memory_max = \"1 gig\" }",
            "limits.memory_max: \"1 gig\" is not a size; write 1G, 512M or a number of bytes",
        ),
        (
            "limits = { cpu_quota = \"2\" }",
            "limits.cpu_quota: \"2\" is not a CPU quota; write a percentage of one CPU, such as 50% or 200%",
        ),
        (
            "max_limits = { memory_max = \"1G\" }\nlimits = { memory_max = \"2G\" }",
            "limits.memory_max: 2G is above max_limits.memory_max, which is 1G; lower it, or raise max_limits",
        ),
        ("listen = \"tcp\"", "listen: \"tcp\" is not a way to listen; there is port, unix, fd, none"),
        (
            "listen = \"fd\"\nadapter = \"systemd\"",
            "adapter: listen = \"fd\" is not available with systemd units yet; leave adapter out",
        ),
        ("sandbox = \"strict\"", "sandbox: sandbox strict is not available yet; write standard"),
        ("unit = { PrivateTmp = 1 }", "unit.PrivateTmp: 1 is not true or false; write PrivateTmp = false"),
        ("unit = { User = \"a\" }", "unit.User: nbsupervisor sets this itself; use user"),
        (
            "prepare = [{ timeout = \"5s\" }]",
            "prepare[0].command: it is missing; write { command = [\"/usr/bin/program\"] }",
        ),
        (
            "upgrade = [{ command = [] }]",
            "upgrade[0].command: there is no program in it; write [\"/usr/bin/program\", \"argument\"]",
        ),
        (
            "stop = { signal = \"SIGTREM\" }",
            "stop.signal: \"SIGTREM\" is not a signal; write a signal's name, such as SIGTERM",
        ),
        (
            "stop = { steps = [] }",
            "stop.steps: there is no step in it; write [[\"SIGTERM\", \"10s\"], [\"SIGINT\", \"5s\"]]",
        ),
        (
            "stop = { steps = [[\"SIGTERM\"]] }",
            "stop.steps[0]: this is not a signal and a duration; write [[\"SIGTERM\", \"10s\"], [\"SIGINT\", \"5s\"]]",
        ),
        (
            "stop = { steps = [[\"TERM\", \"1s\"]], signal = \"INT\" }",
            "stop.steps: signal and timeout are the short form of it; keep either steps, or signal and timeout",
        ),
        (
            "restart = { policy = \"onfailure\" }",
            "restart.policy: \"onfailure\" is not a restart policy; did you mean on-failure?",
        ),
        (
            "restart = { delay = \"5s\", max_delay = \"1s\" }",
            "restart.max_delay: it is below delay; raise it, or lower delay",
        ),
        ("restart = { turn = true }", "restart.turn: a restart in its turn is not available yet; remove it"),
        (
            "app_id_pattern = \"[a-z]+\"",
            "app_id_pattern: \"[a-z]+\" is not anchored; begin it with ^ and end it with $",
        ),
        ("user = \"a b\"", "user: \"a b\" is not the name of a user or group; write its name"),
    ]);
}

#[test]
fn placeholders_and_paths_are_checked() {
    assert_errors(&[
        ("environment = { A = \"{prot}\" }", "environment.A: unknown placeholder {prot}; did you mean {port}?"),
        (
            "environment = { A = \"{db.databse}\" }",
            "environment.A: unknown placeholder {db.databse}; did you mean {db.database}?",
        ),
        (
            "version = { exec = [\"/bin/true\", \"{db.url}\"] }",
            "version.exec[1]: {db.url} would be shown to every user of the host here; hand it over in [environment], and let the program read its variable",
        ),
        (
            "version = { exec = [\"/bin/true\", \"{secret.jwt}\"] }",
            "version.exec[1]: {secret.jwt} would be shown to every user of the host here; hand it over in [environment], and let the program read its variable",
        ),
        (
            "environment = { A = \"{x y}\" }",
            "environment.A: unknown placeholder {x y}; there is {app}, {environment}, {generation}, {port}, {socket}, {public_path}, {app_dir}, {state_dir}, {run_dir}, {heap_mb}, {db.dialect}, {db.host}, {db.port}, {db.database}, {db.schema}, {db.user}, {db.password}, {db.url}, {env.NAME}, {secret.NAME}",
        ),
        (
            "environment = { A = \"{port\" }",
            "environment.A: a brace without its partner in \"{port\" (write {{ and }} for plain braces)",
        ),
        ("environment = { A = 80 }", "environment.A: 80 is a number, not a text; write \"80\", in quotes"),
        (
            "environment = { \"A B\" = \"x\" }",
            "environment.A B: \"A B\" is not a variable's name; use letters, digits and _, and no digit first",
        ),
        (
            "environment = { A = \"{port}\" }",
            "environment.A: {port} has no value here; set listen = \"port\" (or \"fd\")",
        ),
        (
            "listen = \"port\"\nenvironment = { A = \"{socket}\" }",
            "environment.A: {socket} has no value here; set listen = \"unix\"",
        ),
        ("working_dir = \"{app_dir}/x\"", "working_dir: {app_dir} has no value here; set app_dir"),
        ("app_dir = \"/x/{app_dir}\"", "app_dir: {app_dir} has no value here; use {app}, {environment} or {env.NAME}"),
        ("working_dir = \"srv\"", "working_dir: \"srv\" is not an absolute path; begin it with / or a placeholder"),
    ]);
}

#[test]
fn questions_are_checked() {
    assert_errors(&[
        ("ready = { timeout = 30 }", "ready.timeout: \"30\" is not a duration; write 500ms, 30s, 5m or 1h 30m"),
        ("ready = { http = \"/x\" }", "ready.http: the app listens nowhere; set listen, or use exec or notify"),
        (
            "listen = \"port\"\nready = { http = \"x\" }",
            "ready.http: this is not a path; write a path on the app's own address, such as \"/health\"",
        ),
        (
            "listen = \"port\"\nready = { http = \"/x\", tcp = true }",
            "ready: it has http and tcp at once; keep one of them",
        ),
        ("listen = \"port\"\nready = { tcp = false }", "ready.tcp: it can only be true; remove it"),
        ("listen = \"port\"\nready = { status = 200 }", "ready.status: it goes with http only; remove it"),
        (
            "listen = \"port\"\nready = { http = \"/x\", failed_if = { for = \"1s\" } }",
            "ready.failed_if: this is not one path and its text; write { \"error.code\" = \"APP_ERROR\", for = \"10s\" }",
        ),
        (
            "ready = { timeout = \"10s\", max_timeout = \"5s\" }",
            "ready.max_timeout: it is below timeout; raise it, or lower timeout",
        ),
        ("ready = { interval = \"1ms\" }", "ready.interval: \"1ms\" is out of range; write a duration from 10ms to 1m"),
        (
            "alive = { notify = true, exec = [\"/x\"] }",
            "alive.notify: notify tells readiness only; use http, tcp or exec",
        ),
        ("alive = { interval = \"5s\" }", "alive: it asks nothing; write one of http, tcp, exec"),
        (
            "listen = \"port\"\nversion = { http = \"/v\" }",
            "version.json: it is missing; write json = \"data.version\"",
        ),
    ]);
}

#[test]
fn a_placeholder_is_told_with_its_own_line() {
    let (_, problems, dir) = load("name = \"a\"\ncommand = [\n  \"/bin/sh\",\n  \"{prot}\",\n]\n");
    let errors: Vec<Problem> = problems.into_iter().filter(Problem::is_error).collect();
    assert_eq!(dir.texts(&errors), ["a.toml:4: command[1]: unknown placeholder {prot}; did you mean {port}?"]);
}

#[test]
fn what_is_missing_is_told_with_what_to_write() {
    let (recipe, problems, dir) = load("listen = \"none\"\n");
    let errors: Vec<Problem> = problems.into_iter().filter(Problem::is_error).collect();
    assert!(recipe.is_none());
    assert_eq!(
        dir.texts(&errors),
        [
            "a.toml: name: it is missing; write name = \"a\"",
            "a.toml: command: it is missing; write command = [\"/usr/bin/program\", \"argument\"]",
        ]
    );
}

#[test]
fn what_the_host_lacks_is_a_warning() {
    let text = "name = \"a\"\ncommand = [\"/nonexistent/program\"]\nworking_dir = \"/nonexistent\"\nuser = \"no-such-user\"\ngroup = \"no-such-group\"\n";
    let (recipe, problems, dir) = load(text);
    assert!(recipe.is_some());
    assert_eq!(
        dir.texts(&problems),
        [
            "a.toml:2: command[0]: there is no program /nonexistent/program; install it, or correct command",
            "a.toml:3: working_dir: there is no directory /nonexistent; make it, or correct working_dir",
            "a.toml:4: user: there is no user no-such-user; make it, or correct user",
            "a.toml:5: group: there is no group no-such-group; make it, or correct group",
        ]
    );
    let (_, problems, dir) = load("name = \"a\"\ncommand = [\"/etc/passwd\"]\nuser = \"root\"\n");
    let first = dir.texts(&problems)[0].clone();
    assert_eq!(first, "a.toml:2: command[0]: /etc/passwd is not executable; chmod +x it, or correct command");
    let (_, problems, dir) = load("name = \"a\"\ncommand = [\"/bin/sh\"]\n");
    if nix::unistd::geteuid().is_root() {
        let by_systemd = std::path::Path::new("/run/systemd/system").is_dir();
        let expected: &[&str] = match by_systemd {
            true => &[],
            false => &["a.toml: user: apps of this runtime run as root; set user"],
        };
        assert_eq!(dir.texts(&problems), expected);
    }
}

#[test]
fn only_files_that_nobody_else_may_write_are_read() {
    let dir = Dir::new();
    let file = dir.write("a.toml", "name = \"a\"\ncommand = [\"/bin/sh\"]\nuser = \"root\"\n");
    for mode in [0o664, 0o646, 0o666] {
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let (recipe, problems) = load_recipe_file(&file);
        assert!(recipe.is_none());
        assert_eq!(dir.texts(&problems), [format!("a.toml: others may write to it (mode 0{mode:o}); chmod go-w it")]);
    }
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    assert!(load_recipe_file(&file).0.is_some());
    if std::os::unix::fs::chown(&file, Some(54_321), None).is_ok() {
        let (recipe, problems) = load_recipe_file(&file);
        assert!(recipe.is_none());
        assert_eq!(dir.texts(&problems), ["a.toml: it is owned by uid 54321, not by root; chown it to root"]);
    }
}

#[test]
fn a_directory_that_others_may_write_gives_no_recipes() {
    let dir = Dir::new();
    dir.write("a.toml", "name = \"a\"\ncommand = [\"/bin/sh\"]\n");
    fs::set_permissions(dir.0.path(), Permissions::from_mode(0o777)).unwrap();
    let (recipes, problems) = load_recipes(dir.0.path());
    assert!(recipes.is_empty());
    assert!(problems[0].is_error() && problems[0].text == "others may write to it (mode 0777)", "{problems:?}");
}

#[test]
fn a_broken_file_hides_no_other_and_a_name_belongs_to_one_file() {
    let dir = Dir::new();
    dir.write("a.toml", "name = \"a\"\ncommand = [\"/bin/a\"]\nuser = \"root\"\n");
    dir.write("b.toml", "name = \"b\ncommand");
    dir.write("c.toml", "name = \"a\"\ncommand = [\"/bin/sh\"]\nuser = \"root\"\n");
    dir.write("d.toml", "name = \"d\"\ncommand = [\"/bin/sh\"]\nuser = \"root\"\n");
    dir.write("e.toml.example", "nonsense");
    let (recipes, problems) = load_recipes(dir.0.path());
    let names: Vec<&str> = recipes.keys().map(RuntimeName::as_str).collect();
    assert_eq!(names, ["a", "d"]);
    let errors: Vec<Problem> = problems.into_iter().filter(Problem::is_error).collect();
    let texts = dir.texts(&errors);
    assert!(texts[0].starts_with("b.toml:1: this is not TOML: "), "{texts:?}");
    assert_eq!(
        texts.last().unwrap(),
        "c.toml: name: a.toml has the name \"a\" too, and is used; rename one of them or remove it"
    );
    let (recipes, problems) = load_recipes(&dir.0.path().join("nowhere"));
    assert!(recipes.is_empty() && !problems[0].is_error());
}

fn recipe(name: &str, description: &str) -> String {
    format!("name = \"{name}\"\ndescription = \"{description}\"\ncommand = [\"/bin/sh\"]\nuser = \"root\"\n")
}

#[test]
fn the_catalogue_follows_the_files_and_keeps_what_was_good() {
    let dir = Dir::new();
    dir.write("a.toml", &recipe("a", "one"));
    let mut catalogue = Catalogue::open(dir.0.path());
    let a = RuntimeName::parse("a").unwrap();
    let described = |catalogue: &Catalogue| catalogue.get(&a).map(|recipe| recipe.description.clone());
    assert_eq!(described(&catalogue).as_deref(), Some("one"));
    let before = catalogue.recipes();
    assert!(!catalogue.refresh(), "nothing changed");
    assert!(std::sync::Arc::ptr_eq(&before, &catalogue.recipes()));

    dir.write("a.toml", &recipe("a", "second"));
    assert!(catalogue.refresh());
    assert_eq!(described(&catalogue).as_deref(), Some("second"));

    dir.write("a.toml", "name = \"a\"\ncommand = [\"{prot}\"]\n");
    assert!(catalogue.refresh());
    assert_eq!(described(&catalogue).as_deref(), Some("second"), "the good one is kept");
    assert!(catalogue.problems().iter().any(Problem::is_error));
    assert!(!catalogue.refresh());

    // A later file of the same name, though its name sorts first, does not take it over.
    dir.write("0.toml", &recipe("a", "other"));
    assert!(catalogue.refresh());
    assert_eq!(described(&catalogue).as_deref(), Some("second"));

    fs::remove_file(dir.0.path().join("a.toml")).unwrap();
    assert!(catalogue.refresh());
    assert_eq!(described(&catalogue).as_deref(), Some("other"));
    assert!(!catalogue.problems().iter().any(Problem::is_error), "{:?}", catalogue.problems());
    assert_eq!(catalogue.file_of(&a), Some(dir.0.path().join("0.toml").as_path()));

    fs::remove_file(dir.0.path().join("0.toml")).unwrap();
    assert!(catalogue.refresh());
    assert_eq!(described(&catalogue), None);
}

#[test]
fn a_rule_about_the_whole_file_is_seen_when_its_mode_changes() {
    let dir = Dir::new();
    let file = dir.write("a.toml", &recipe("a", "one"));
    let mut catalogue = Catalogue::open(dir.0.path());
    fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    assert!(catalogue.refresh());
    assert!(catalogue.problems()[0].text.starts_with("others may write to it"));
    std::os::unix::fs::symlink("/nowhere", dir.0.path().join("gone.toml")).unwrap();
    assert!(catalogue.refresh());
    assert!(!catalogue.refresh(), "a link to nowhere is told once");
}
