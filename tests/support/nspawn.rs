//! What a test machine stands on: its disk and its network (`Ground`, which outlives a reboot) and the container that
//! is booted on them (`Container`, one per boot).
//!
//! Everything hangs on a pipe from the test's process to one that holds the ground: when it closes, for whatever reason,
//! that one kills what runs in the machine's control group and takes the mounts and the network with it. So a test that
//! is killed leaves nothing either. Deliberately absent: what happens inside the machine.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::eventually::eventually;

/// Where each machine's disk is mounted. The mounts are private to the machine, so that all can have the same place.
const MOUNT: &str = "/var/cache/nbsupervisor-tests/mount";
/// Orderly boots take half a second; this is for a busy host.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// From the word `poweroff` to the end of the container; systemd gives each service up to 90 s.
const POWEROFF_LIMIT: Duration = Duration::from_secs(120);

/// Makes and keeps mounts, network and control group: an overlay in memory over the read-only root file system, and a
/// loopback. The group is the machine's own because containers of the same group would share those of their units.
const HOLD: &str = r#"
mkdir "$3"
ip link set lo up
mkdir -p "$1" /run/systemd/nspawn
mount -t tmpfs -o mode=755 machine "$1"
mount -t tmpfs nspawn /run/systemd/nspawn
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" root "$1/root"
echo held
cat
echo 1 >"$3/cgroup.kill"
while grep -q '^populated 1' "$3/cgroup.events"; do sleep 0.01; done
find "$3" -depth -type d -exec rmdir {} \;
"#;

/// Boots in the machine's control group.
const BOOT: &str = r#"
echo $$ >"$1/cgroup.procs"
shift
exec systemd-nspawn "$@"
"#;

/// A machine's disk and network.
pub struct Ground {
    holder: Child,
    name: String,
    cgroup: PathBuf,
    shown: Vec<String>,
}

impl Ground {
    /// A fresh disk over a root file system, and a network of its own. Some files and folders of this system, each with
    /// its path in the machine, can be read there.
    pub fn new(root_fs: &Path, shown: &[(&str, &str)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("nbs-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let cgroup = unified().join(&name);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--propagation", "private", "--", "sh", "-euc", HOLD, "sh", MOUNT]);
        command.arg(root_fs).arg(&cgroup).stdin(Stdio::piped()).stdout(Stdio::piped());
        // A signal to the test's group, such as that of a time limit, must not reach the one that tidies up.
        command.process_group(0);
        let mut holder = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "held\n", "no disk and network for a machine: see the messages of unshare, ip and mount");
        let shown = shown.iter().map(|(here, there)| format!("--bind-ro={here}:{there}")).collect();
        Self { holder, name, cgroup, shown }
    }

    /// A process that is in the machine's mounts and network, but not in the machine.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// A command of the host's, run where the machine's disk is seen at `root()`.
    pub fn beside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.pid())).arg("--").arg(program).stdin(Stdio::null());
        command
    }

    /// The machine's disk, for `beside`.
    pub fn root(&self) -> PathBuf {
        Path::new(MOUNT).join("root")
    }

    /// Its control group on the host.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Makes the disk as large as what is on it, or as large as the host's memory allows.
    pub fn full(&self, full: bool) {
        // What is written between the look and the change makes the size too small, which is refused: then again.
        const SIZE: &str = r#"
for _ in $(seq 50); do
  used=$(df --output=used -B4096 "$1" | tail -n 1)
  if [ "$2" = full ]; then size=$((used * 4096)); else size=50%; fi
  if mount -o "remount,size=$size" "$1"; then exit 0; fi
done
exit 1
"#;
        let mut command = self.beside("sh");
        let status = command.args(["-euc", SIZE, "sh", MOUNT, if full { "full" } else { "roomy" }]).status().unwrap();
        assert!(status.success(), "the disk's size was not changed: see the messages of mount");
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// A booted machine.
pub struct Container {
    nspawn: Child,
    console: fs::File,
    cgroup: PathBuf,
    init: u32,
}

impl Container {
    /// Boots, and waits until systemd says that it is done.
    pub fn boot(ground: &Ground) -> Self {
        let console = tempfile::tempfile().unwrap();
        // nsenter and the shell replace themselves, so this process's ID is nspawn's in the end.
        let mut command = ground.beside("sh");
        command.args(["-euc", BOOT, "sh"]).arg(&ground.cgroup);
        command.args(["--quiet", "--register=no", "--keep-unit", "--boot", "--console=pipe"]);
        command.arg(format!("--machine={}", ground.name)).arg("--directory").arg(ground.root());
        command.arg(format!("--network-namespace-path=/proc/{}/ns/net", ground.pid())).args(&ground.shown);
        command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        command.stdout(console.try_clone().unwrap()).stderr(console.try_clone().unwrap());
        let nspawn = command.spawn().unwrap();
        let mut container = Self { nspawn, console, cgroup: ground.cgroup.clone(), init: 0 };
        eventually("the machine has booted", BOOT_LIMIT, || container.look());
        container
    }

    fn look(&mut self) -> Result<(), String> {
        if let Some(status) = self.nspawn.try_wait().unwrap() {
            panic!("systemd-nspawn ended with {status}:\n{}", self.console());
        }
        let init = init_below(self.nspawn.id()).ok_or_else(|| format!("no systemd yet\n{}", self.console()))?;
        let mut ask = Command::new("nsenter");
        ask.args(["-t", &init.to_string(), "-a", "systemctl", "is-system-running"]).stdin(Stdio::null());
        let output = ask.output().unwrap();
        match String::from_utf8_lossy(&output.stdout).trim() {
            "running" | "degraded" => {
                self.init = init;
                Ok(())
            }
            other => Err(format!("{other} {}\n{}", String::from_utf8_lossy(&output.stderr), self.console())),
        }
    }

    /// The machine's systemd, as the host numbers it.
    pub fn init(&self) -> u32 {
        self.init
    }

    /// What it wrote to its console.
    pub fn console(&self) -> String {
        // Opened anew: a position of its own, so that the writers' is not moved.
        let raw = fs::read(format!("/proc/self/fd/{}", self.console.as_raw_fd())).unwrap_or_default();
        String::from_utf8_lossy(&raw).into_owned()
    }

    /// Waits until the machine, told to do so, has switched itself off.
    pub fn wait_off(&mut self) {
        eventually("the machine is off", POWEROFF_LIMIT, || match self.nspawn.try_wait().unwrap() {
            Some(_) => Ok(()),
            None => Err(self.console()),
        });
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Ok(None) = self.nspawn.try_wait() {
            // The machine's systemd and with it every process inside; nspawn follows, and sees to what it left. Before
            // that group is made, there is only nspawn itself.
            let inside = fs::write(self.cgroup.join("payload/cgroup.kill"), "1");
            let _ = inside.or_else(|_| fs::write(self.cgroup.join("cgroup.kill"), "1"));
        }
        let _ = self.nspawn.wait();
    }
}

/// The hierarchy that machines use: the whole tree where the host has version 2 only.
fn unified() -> PathBuf {
    let mixed = Path::new("/sys/fs/cgroup/unified");
    if mixed.exists() { mixed.into() } else { "/sys/fs/cgroup".into() }
}

/// The systemd that is PID 1 of a container, below the nspawn process. Before it is systemd it is a part of nspawn that
/// still sees the host; asking there would ask the host.
fn init_below(nspawn: u32) -> Option<u32> {
    let children = |pid: u32| fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let pids = |text: &str| text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()).collect::<Vec<_>>();
    let sons = pids(&children(nspawn));
    let below = sons.iter().flat_map(|son| pids(&children(*son))).chain(sons.iter().copied()).collect::<Vec<_>>();
    below.into_iter().find(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line("Name:").trim() == "systemd" && line("NSpid:").split_whitespace().last() == Some("1")
    })
}
