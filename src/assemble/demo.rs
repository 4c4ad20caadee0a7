//! The demo: a standalone supervisor in a throw-away directory with real sample apps, gone with Ctrl-C.
//!
//! Needs the binary and what any Debian has; an app whose server is not there is left out and named.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use nbs_core::command::{Action, Command, Verdict};
use nbs_core::name::AppId;
use nbs_core::secret::SecretText;
use serde_json::json;

use crate::assemble::{Daemon, Failure, log, new_operation_id, refuse, runtime};
use crate::clock::SystemClock;
use crate::config::{Loaded, Sources};
use crate::lifecycle::signal::Signals;
use crate::ports::Clock;
use crate::wire::spec::{SpecDefaults, parse_spec};

/// How long an app may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an app may take to start before the demo says so and goes on.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The ports a first user would expect; others are taken when these are busy.
const GATEWAY_PORT: u16 = 13000;
const ADMIN_PORT: u16 = 13001;
/// In the throw-away directory.
const CONFIG_FILE: &str = "nbsupervisor.toml";

/// A sample app: its files, what it needs, and what to try with it.
struct Sample {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
    recipe: &'static str,
    program: &'static str,
    start_mode: &'static str,
    try_it: &'static str,
}

const SAMPLES: &[Sample] = &[
    Sample {
        name: "static",
        files: &[
            ("index.html", include_str!("../../examples/static/index.html")),
            ("style.css", include_str!("../../examples/static/style.css")),
        ],
        recipe: include_str!("../../examples/static/static.toml"),
        program: "/usr/bin/python3",
        start_mode: "with-supervisor",
        try_it: "a static site; runs from the beginning",
    },
    Sample {
        name: "hello",
        files: &[("hello.py", include_str!("../../examples/hello/hello.py"))],
        recipe: include_str!("../../examples/hello/hello.toml"),
        program: "/usr/bin/python3",
        start_mode: "on-first-visit",
        try_it: "a page and an echo WebSocket; your first visit starts it",
    },
    Sample {
        name: "crasher",
        files: &[("crasher.sh", include_str!("../../examples/crasher/crasher.sh"))],
        recipe: include_str!("../../examples/crasher/crasher.toml"),
        program: "/bin/sh",
        start_mode: "with-supervisor",
        try_it: "fails a second after each start: watch the growing delay, then `app why`",
    },
];

/// A directory that is removed with its owner.
struct Throwaway(PathBuf);

impl Throwaway {
    fn make() -> Result<Self, Failure> {
        let template = std::env::temp_dir().join("nbsupervisor-demo-XXXXXX");
        let dir = nix::unistd::mkdtemp(&template)
            .map_err(|error| Failure::new(format!("cannot make a directory in {}: {error}", template.display())))?;
        Ok(Self(dir))
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs the demo until Ctrl-C.
pub fn demo() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => refuse(&failure),
    }
}

fn run() -> Result<(), Failure> {
    let signals = Signals::install().map_err(|error| Failure::new(format!("cannot take signals over: {error}")))?;
    let dir = Throwaway::make()?;
    let (present, absent): (Vec<&Sample>, Vec<&Sample>) =
        SAMPLES.iter().partition(|sample| Path::new(sample.program).exists());
    for sample in &present {
        lay_out(&dir.0, sample).map_err(|error| Failure::new(format!("cannot lay out {}: {error}", sample.name)))?;
    }
    let loaded = configuration(&dir.0)?;
    let _telemetry = log(&loaded.config)?;
    runtime()?.block_on(async {
        let daemon = Daemon::start(&loaded.config, signals.stop()).await?;
        for sample in &present {
            create(&daemon, sample).await?;
        }
        tell(&dir.0.join(CONFIG_FILE), &daemon, &present, &absent);
        report_starts(&daemon, &present, &signals).await;
        daemon.until_stopped(&signals).await;
        say("\nStopping the sample apps …");
        stop_all(&daemon, &present).await;
        daemon.end().await
    })?;
    say("Done; nothing is left.");
    Ok(())
}

/// The demo's own talk goes to standard output, the daemon's log to standard error.
#[expect(clippy::print_stdout, reason = "this is what the user asked to see")]
fn say(text: &str) {
    println!("{text}");
}

/// Writes a sample's files, and its recipe with the directory they were written to.
fn lay_out(dir: &Path, sample: &Sample) -> io::Result<()> {
    let home = dir.join("examples").join(sample.name);
    fs::create_dir_all(&home)?;
    fs::create_dir_all(dir.join("recipes"))?;
    for (name, content) in sample.files {
        fs::write(home.join(name), content)?;
    }
    let own = format!("app_dir = {}", json!(home.display().to_string()));
    let recipe: Vec<&str> =
        sample.recipe.lines().map(|line| if line.starts_with("app_dir = ") { own.as_str() } else { line }).collect();
    fs::write(dir.join("recipes").join(format!("{}.toml", sample.name)), recipe.join("\n") + "\n")
}

fn configuration(dir: &Path) -> Result<Loaded, Failure> {
    let path = |name: &str| json!(dir.join(name).display().to_string());
    let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).map_or(0, |_| port);
    // In a file, so that every command finds all of it by --config. The log keeps to errors: that sample apps of root run
    // as root would be the first thing a newcomer reads.
    let text = [
        format!("state_dir = {}", path("state")),
        format!("runtime_dir = {}", path("run")),
        format!("apps_run_dir = {}", path("apps")),
        format!("recipes_dir = {}", path("recipes")),
        format!("gateway.listen = \"127.0.0.1:{}\"", free(GATEWAY_PORT)),
        format!("admin.listen = \"127.0.0.1:{}\"", free(ADMIN_PORT)),
        // Its apps go with it, and nothing of it may stay on the host.
        "environment.adapter = \"process\"".to_string(),
        "log.level = \"error\"".to_string(),
        "log.format = \"text\"\n".to_string(),
    ];
    let file = dir.join(CONFIG_FILE);
    fs::write(&file, text.join("\n"))
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", file.display())))?;
    // The caller's environment must not reach into the demo.
    let sources = Sources {
        config_file: Some(file),
        variables: Default::default(),
        set: vec![],
        uid: nix::unistd::geteuid().as_raw(),
    };
    crate::config::load(&sources).map_err(|error| Failure::of(&error))
}

async fn create(daemon: &Daemon, sample: &Sample) -> Result<(), Failure> {
    let environment = daemon.entry.view().environments.keys().next().cloned();
    let defaults = SpecDefaults { environments: environment.map(|name| [name].into()) };
    let body = json!({ "name": sample.name, "runtime": sample.name, "start_mode": sample.start_mode });
    let spec = parse_spec(&body, &defaults).map_err(|errors| Failure::new(format!("{}: {errors:?}", sample.name)))?;
    let action =
        Action::Create { spec: spec.into(), jwt: SecretText::new(""), db_secret: SecretText::new(""), reuse: false };
    match submit(daemon, sample, action).await? {
        Verdict::Denied(denied) => Err(Failure::new(denied)),
        Verdict::Accepted(_) | Verdict::AlreadySo(_) | Verdict::Repeated(_) | Verdict::Planned(_) => Ok(()),
    }
}

async fn submit(daemon: &Daemon, sample: &Sample, action: Action) -> Result<Verdict, Failure> {
    let app = AppId::parse(sample.name).map_err(Failure::new)?;
    let id = new_operation_id(SystemClock::new().now());
    let command = Command { app, action, actor: "demo".into(), id, idempotency: None, environments: None };
    daemon.entry.submit(command).await.map_err(Failure::new)
}

fn tell(config: &Path, daemon: &Daemon, present: &[&Sample], absent: &[&Sample]) {
    let gateway = daemon.doors.gateway_url().unwrap_or_default();
    let program = std::env::current_exe().map_or_else(|_| "nbsupervisor".into(), |path| path.display().to_string());
    say("nbsupervisor demo: a standalone supervisor with sample apps. Ctrl-C ends it and removes everything.\n");
    for sample in present {
        let web = sample.recipe.contains("listen = \"port\"") || sample.recipe.contains("listen = \"unix\"");
        let url = if web { format!("{gateway}/apps/{}/", sample.name) } else { String::new() };
        say(&format!("  {:<8} {:<40} {}", sample.name, url, sample.try_it));
    }
    for sample in absent {
        say(&format!("  {:<8} left out: {} is not installed", sample.name, sample.program));
    }
    say("\nIn another terminal:\n");
    say(&format!("  alias nbs='{program} --config {}'", config.display()));
    say("  nbs app list                 what runs");
    say("  nbs app show hello           one app, with pid and usage");
    say("  kill -9 PID                  an app's main process: see it come back");
    say("  nbs app logs -f crasher      what it writes");
    say("  nbs app why crasher          why it is not well");
    say("  nbs events -f                what happens\n");
}

/// Says how the apps that start by themselves got on.
async fn report_starts(daemon: &Daemon, present: &[&Sample], signals: &Signals) {
    for sample in present.iter().filter(|sample| sample.start_mode == "with-supervisor") {
        let Ok(app) = AppId::parse(sample.name) else { continue };
        let running = |view: Option<&nbs_core::view::AppView>| {
            view.is_some_and(|view| view.status == nbs_core::phase::Status::Running)
        };
        let wait = daemon.entry.wait_app(&app, START_TIMEOUT, running);
        let stop = signals.stop();
        tokio::select! {
            view = wait => {
                let status = view.map_or("not there", |view| view.status.as_str());
                say(&format!("{} is {status}", sample.name));
            }
            () = stop.cancelled() => return,
        }
    }
}

/// Stops every sample app and waits until nothing of it is left.
async fn stop_all(daemon: &Daemon, present: &[&Sample]) {
    let mut operations = Vec::new();
    for sample in present {
        if let Ok(Verdict::Accepted(operation)) = submit(daemon, sample, Action::Stop).await {
            operations.push(operation.id);
        }
    }
    for id in operations {
        daemon.entry.wait_operation(id, STOP_TIMEOUT).await;
    }
}
