//! A host in a throw-away directory, and waiting for facts with a deadline.

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nbs_core::id::{Run, Seq};
use nbs_core::launch::Launch;
use nbs_core::name::AppId;
use nbs_core::observation::{Fact, Observation, SpawnFailure};
use nbs_core::reason::ExitOutcome;
use nbs_core::recipe::Listen;
use nbs_core::spec::Limits;
use nbsupervisor::ports::{ProcessControl, Started};
use nbsupervisor::process::{Options, Processes, boot_id};
use tokio::sync::mpsc;

use crate::pause::pause;

/// Nothing here takes longer on a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub struct Bench {
    pub dir: tempfile::TempDir,
    pub options: Options,
    pub processes: Option<Processes>,
    pub facts: mpsc::Receiver<Observation>,
    pub heard: VecDeque<Observation>,
}

pub fn app(name: &str) -> AppId {
    AppId::parse(name).unwrap()
}

pub fn run(seq: u64) -> Run {
    Run { seq: Seq(seq), attempt: 0 }
}

impl Bench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let instance = dir.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_string();
        let options = Options {
            instance_id: instance,
            log_dir: dir.path().join("log"),
            log_max_bytes: 64 << 10,
            log_keep: 2,
            shim: PathBuf::from(env!("CARGO_BIN_EXE_nbsupervisor")),
            boot: boot_id().unwrap(),
            run_root: dir.path().join("run"),
            state_root: dir.path().join("state"),
        };
        let (sender, facts) = mpsc::channel(64);
        let processes = Some(Processes::new(options.clone(), None, sender).unwrap());
        Self { dir, options, processes, facts, heard: VecDeque::new() }
    }

    /// The daemon dies and another comes; processes are left as they are.
    pub fn restart_daemon(&mut self) {
        self.processes = None;
        let (sender, facts) = mpsc::channel(64);
        (self.facts, self.heard) = (facts, VecDeque::new());
        self.processes = Some(Processes::new(self.options.clone(), None, sender).unwrap());
    }

    pub fn processes(&self) -> &Processes {
        self.processes.as_ref().unwrap()
    }

    pub fn launch(&self, name: &str, argv: &[&str]) -> Launch {
        let state_dir = self.options.state_root.join(name);
        Launch {
            app: app(name),
            run: run(1),
            argv: argv.iter().map(ToString::to_string).collect(),
            env: BTreeMap::from([("PATH".to_string(), "/usr/local/bin:/usr/bin:/bin".to_string())]),
            cwd: state_dir.clone(),
            user: None,
            group: None,
            limits: Limits::default(),
            listen: Listen::None,
            address: None,
            notify: false,
            state_dir,
            run_dir: self.options.run_root.join(name),
            unit: None,
            member: None,
        }
    }

    pub fn shell(&self, name: &str, script: &str) -> Launch {
        self.launch(name, &["/bin/sh", "-c", script])
    }

    pub async fn start(&self, launch: &Launch) -> Result<Started, SpawnFailure> {
        tokio::time::timeout(DEADLINE, self.processes().start(launch)).await.expect("start returns")
    }

    /// The first fact that `wanted` accepts; others are kept.
    pub async fn fact<T>(&mut self, wanted: impl Fn(&Observation) -> Option<T>) -> T {
        if let Some(at) = self.heard.iter().position(|fact| wanted(fact).is_some()) {
            return wanted(&self.heard.remove(at).unwrap()).unwrap();
        }
        let until = tokio::time::Instant::now() + DEADLINE;
        loop {
            let fact = tokio::time::timeout_at(until, self.facts.recv()).await;
            let fact = fact.unwrap_or_else(|_| panic!("no such fact; heard {:?}", self.heard)).unwrap();
            match wanted(&fact) {
                Some(value) => return value,
                None => self.heard.push_back(fact),
            }
        }
    }

    pub async fn exit(&mut self, name: &str, life: Run) -> (ExitOutcome, Vec<String>, bool) {
        self.fact(|seen| match &seen.fact {
            Fact::Exited { outcome, last_log, leftovers, .. } if seen.app == app(name) && seen.run == life => {
                Some((*outcome, last_log.clone(), *leftovers))
            }
            _ => None,
        })
        .await
    }

    pub async fn tree_gone(&mut self, name: &str, life: Run) {
        self.fact(|seen| (seen.app == app(name) && seen.run == life && seen.fact == Fact::TreeGone).then_some(()))
            .await;
    }

    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.options.log_dir.join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Waits until the log holds a text, and returns the log.
    pub async fn logged(&self, name: &str, text: &str) -> String {
        eventually(|| Some(self.log(name)).filter(|log| log.contains(text))).await
    }

    /// Living processes with a mark that begins like this.
    pub fn marked(&self, rest: &str) -> Vec<u32> {
        marked(&format!("{}/{rest}", self.options.instance_id))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.processes = None;
        for _ in 0..1000 {
            let left = self.marked("");
            if left.is_empty() {
                return;
            }
            for pid in left {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid.cast_signed()),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
            std::thread::yield_now();
        }
    }
}

pub fn marked(prefix: &str) -> Vec<u32> {
    let wanted = format!("NBSUPERVISOR_MARK={prefix}");
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|entry| entry.starts_with(wanted.as_bytes()))
        })
        .collect()
}

/// Waits until there is a value.
pub async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < until, "it never came true");
        pause(Duration::from_millis(5), "between two looks").await;
    }
}

/// Start time of a process, `None` once it is gone or a zombie.
pub fn alive(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    (fields[0] != "Z").then(|| fields[19].parse().unwrap())
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
