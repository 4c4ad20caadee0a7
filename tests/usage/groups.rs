//! Usage by control groups: real ones, made here below the mounted hierarchy (which takes root), and for controllers that
//! the kernel at hand may not have in it, a directory with the files as a kernel with controllers wrote them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nbsupervisor::usage::{AppUsage, MemorySource, Subject, UsageHandle, UsageSampler};
use tokio::time::Instant;

use crate::eventually::{eventually, let_time_pass};
use crate::pause::pause;
use crate::{DEAR, Tree, app, app_count, cost};

/// A group for the groups of one test, as systemd's slices are. Emptied and removed at the end.
struct Slice {
    mount: PathBuf,
    name: String,
}

impl Slice {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = table.lines().find(|line| line.contains(" - cgroup2 "));
        let line = line.expect("no cgroup2 is mounted; mount -t cgroup2 none DIRECTORY");
        let mount = PathBuf::from(line.split(' ').nth(4).unwrap());
        let name = format!("nbs-test-{}-{}.slice", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        fs::create_dir(mount.join(&name)).expect("groups can only be made by root");
        Self { mount, name }
    }

    fn dir(&self) -> PathBuf {
        self.mount.join(&self.name)
    }

    fn group(&self, name: &str) -> PathBuf {
        let path = self.dir().join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    fn has_memory(&self) -> bool {
        fs::read_to_string(self.dir().join("cgroup.controllers")).unwrap().contains("memory")
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        let _ = fs::write(self.dir().join("cgroup.kill"), "1");
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !remove(&self.dir()) && std::time::Instant::now() < deadline {
            let_time_pass(Duration::from_millis(5), "the kernel empties the groups");
        }
    }
}

/// Removes a group with those in it.
fn remove(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    fs::remove_dir(group).is_ok()
}

/// A program that says that it is up, in this group from its first instruction on.
fn inside(group: &Path, script: &str) -> Tree {
    let mut command = Command::new("/bin/sh");
    let enter = "echo $$ > \"$0/cgroup.procs\" && exec python3 -S -c \"$1\"";
    command.args(["-c", enter]).arg(group).arg(script);
    Tree::of(command)
}

/// CPU time of a group, as the kernel counts it.
fn micros(group: &Path) -> u64 {
    let text = fs::read_to_string(group.join("cpu.stat")).unwrap();
    text.lines().next().unwrap().rsplit_once(' ').unwrap().1.parse().unwrap()
}

const BUSY: &str = "print('up', flush=True)\nwhile True: pass";
const IDLE: &str = "import sys\nprint('up', flush=True)\nsys.stdin.read()";

async fn sampled(sampler: &mut UsageSampler, handle: &UsageHandle, name: &str, pid: u32) -> AppUsage {
    sampler.sample(vec![Subject::alone(app(name), pid)]).await;
    handle.of(&app(name)).expect("it runs, so it has figures")
}

/// A child that was adopted by init and is in a group within the app's; and one that was taken out of the group.
fn family(slice: &Slice, group: &Path) -> Tree {
    let inner = group.join("inner");
    fs::create_dir(&inner).unwrap();
    let stranger = slice.group("stranger");
    let script = format!(
        "
import subprocess, threading
block = bytearray(64 << 20)
for i in range(0, len(block), 4096): block[i] = 1
for _ in range(3): threading.Thread(target=threading.Event().wait, daemon=True).start()
def child(group):
    orphan = \"(setsid sh -c 'echo away; exec sleep 600 >/dev/null' &)\"
    shell = subprocess.Popen(['/bin/sh', '-c', 'echo $$ > ' + group + '/cgroup.procs && ' + orphan], stdout=subprocess.PIPE)
    assert shell.stdout.readline() == b'away\\n' and shell.wait() == 0
child('{}')
child('{}')
{BUSY}",
        inner.display(),
        stranger.display(),
    );
    inside(group, &script)
}

#[tokio::test]
async fn an_apps_own_group_tells_cpu_and_who_belongs_to_it() {
    let slice = Slice::new();
    let group = slice.group("nbs-app-crm.service");
    let tree = family(&slice, &group);
    let mut sampler = UsageSampler::new();
    let handle = sampler.handle();
    let usage = sampled(&mut sampler, &handle, "crm", tree.0.id()).await;
    assert_eq!(usage.tasks, 5, "four threads and the process within, not the one outside");
    let source = if slice.has_memory() { MemorySource::Cgroup } else { MemorySource::ProcRss };
    assert_eq!(usage.memory_source, source);
    assert!((64 << 20..256 << 20).contains(&usage.memory_bytes), "{}", usage.memory_bytes);
    assert_eq!(usage.pressure.is_some(), group.join("cpu.pressure").exists());
    assert_eq!(usage.io_read_bytes.is_some(), group.join("io.stat").exists());

    // However busy the machine is: the share lies between what was used within and around the samples.
    let (around, began) = (micros(&group), Instant::now());
    sampled(&mut sampler, &handle, "crm", tree.0.id()).await;
    let (within, ended) = (micros(&group), Instant::now());
    let used = || if micros(&group) > within + 200_000 { Ok(()) } else { Err(micros(&group)) };
    eventually("a fifth of a second of CPU", Duration::from_secs(60), used);
    let (within, shorter) = (micros(&group) - within, ended.elapsed());
    let cpu = f64::from(sampled(&mut sampler, &handle, "crm", tree.0.id()).await.cpu_percent) / 100.0;
    let (around, longer) = (micros(&group) - around, began.elapsed());
    let share = |micros: u64, time: Duration| micros as f64 / 1e6 / time.as_secs_f64();
    let (least, most) = (share(within, longer), share(around, shorter));
    assert!((least * 0.99..=most * 1.01).contains(&cpu), "{least} {cpu} {most}");
}

#[tokio::test]
async fn a_group_of_another_name_is_not_the_apps() {
    let slice = Slice::new();
    let tree = family(&slice, &slice.group("nbs-app-other.service"));
    let mut sampler = UsageSampler::new();
    let handle = sampler.handle();
    let usage = sampled(&mut sampler, &handle, "crm", tree.0.id()).await;
    assert_eq!((usage.tasks, usage.memory_source), (4, MemorySource::ProcRss), "its tree; who was adopted is unknown");
    assert_eq!((usage.pressure, usage.io_read_bytes), (None, None));
}

#[tokio::test]
async fn a_process_that_is_moved_into_its_scope_is_found_there() {
    let slice = Slice::new();
    let tree = Tree::start(IDLE);
    let mut sampler = UsageSampler::new();
    let handle = sampler.handle();
    assert_eq!(sampled(&mut sampler, &handle, "crm", tree.0.id()).await.pressure, None);
    let scope = slice.group("nbs-proc-crm:9.scope");
    fs::write(scope.join("cgroup.procs"), tree.0.id().to_string()).unwrap();
    let usage = sampled(&mut sampler, &handle, "crm", tree.0.id()).await;
    assert_eq!(usage.pressure.is_some(), scope.join("cpu.pressure").exists());
    assert_eq!(usage.tasks, 1);
}

#[tokio::test]
async fn a_new_start_begins_anew_whatever_the_old_one_used() {
    let slice = Slice::new();
    let group = slice.group("nbs-app-crm.service");
    let mut sampler = UsageSampler::new();
    let handle = sampler.handle();
    let busy = inside(&group, BUSY);
    sampled(&mut sampler, &handle, "crm", busy.0.id()).await;
    let used = || if micros(&group) > 500_000 { Ok(()) } else { Err(micros(&group)) };
    eventually("half a second of CPU", Duration::from_secs(60), used);
    drop(busy);

    // In the same group, as when some process of it lived on. The counter goes on, the app's share does not.
    let again = inside(&group, IDLE);
    pause(Duration::from_millis(300), "a life over which a share says something").await;
    let cpu = sampled(&mut sampler, &handle, "crm", again.0.id()).await.cpu_percent;
    assert!(cpu < 100.0, "{cpu}: that of its forerunner is in it");
    drop(again);

    // In a new group of the same name.
    eventually("an empty group can be removed", Duration::from_secs(10), || fs::remove_dir(&group));
    sampler.sample(vec![Subject::alone(app("crm"), u32::MAX)]).await;
    assert_eq!(handle.of(&app("crm")), None);
    fs::create_dir(&group).unwrap();
    let third = inside(&group, IDLE);
    sampled(&mut sampler, &handle, "crm", third.0.id()).await;
    pause(Duration::from_millis(200), "the length of what is measured").await;
    let cpu = sampled(&mut sampler, &handle, "crm", third.0.id()).await.cpu_percent;
    assert!(cpu < 20.0, "{cpu}");
}

/// What Linux 6.1 wrote of a group with all controllers, in a virtual machine.
const CAPTURED: &str = include_str!("controllers.txt");
/// What stands in it.
const CPU: u64 = 11_209_726;
const MEMORY_CURRENT: u64 = 27_148_288;
const INACTIVE_FILE: u64 = 7_475_200;
const TASKS: u32 = 3;
const READ: u64 = 262_144_000;
const WRITTEN: u64 = 126_353_408;
const PRESSURE: (f32, f32, f32) = (2.33, 0.0, 2.7);

/// A directory tree with the group of this path in it, with the captured files.
fn captured(path: &str, pid: u32) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let group = root.path().join(path);
    fs::create_dir_all(&group).unwrap();
    for part in CAPTURED.split("=== ").skip(1) {
        let (name, text) = part.split_once('\n').unwrap();
        fs::write(group.join(name), text).unwrap();
    }
    fs::write(group.join("cgroup.procs"), format!("{pid}\n")).unwrap();
    root
}

#[tokio::test]
async fn with_controllers_their_figures_count_and_are_read_when_the_app_did_something() {
    let slice = Slice::new();
    let tree = inside(&slice.group("nbs-app-crm.service"), IDLE);
    let path = format!("{}/nbs-app-crm.service", slice.name);
    let root = captured(&path, tree.0.id());
    let write = |name: &str, text: &str| fs::write(root.path().join(&path).join(name), text).unwrap();
    let mut sampler = UsageSampler::with_groups_at(root.path());
    let handle = sampler.handle();
    let first = sampled(&mut sampler, &handle, "crm", tree.0.id()).await;
    assert_eq!(first.memory_source, MemorySource::Cgroup);
    assert_eq!(first.memory_bytes, MEMORY_CURRENT - INACTIVE_FILE);
    assert_eq!((first.tasks, first.io_read_bytes, first.io_write_bytes), (TASKS, Some(READ), Some(WRITTEN)));
    let pressure = first.pressure.unwrap();
    assert_eq!((pressure.cpu, pressure.memory, pressure.io), PRESSURE);

    // Under 5 ms of CPU, nothing but CPU is read; under 50 ms, no bytes and no pressure.
    write("memory.current", "300000000\n");
    write("pids.current", "77\n");
    write("io.stat", "254:0 rbytes=1 wbytes=2 rios=1 wios=1 dbytes=0 dios=0\n");
    let cpu = |more: u64| write("cpu.stat", &format!("usage_usec {}\nuser_usec 1\nsystem_usec 1\n", CPU + more));
    cpu(4_000);
    let same = sampled(&mut sampler, &handle, "crm", tree.0.id()).await;
    assert_eq!((same.memory_bytes, same.tasks, same.io_read_bytes), (first.memory_bytes, TASKS, Some(READ)));
    assert_eq!(same.pressure, first.pressure);
    cpu(9_000);
    let size = sampled(&mut sampler, &handle, "crm", tree.0.id()).await;
    assert_eq!((size.memory_bytes, size.tasks), (300_000_000 - INACTIVE_FILE, 77));
    assert_eq!(size.io_read_bytes, Some(READ));
    pause(Duration::from_millis(60), "a share of a shorter time says nothing").await;
    cpu(60_000);
    let flow = sampled(&mut sampler, &handle, "crm", tree.0.id()).await;
    assert_eq!((flow.io_read_bytes, flow.io_write_bytes), (Some(1), Some(2)));
    assert!(flow.cpu_percent > 0.0, "{}", flow.cpu_percent);

    // Three minutes later all is read, though it used nothing.
    write("memory.current", "200000000\n");
    write("io.stat", "");
    write("io.pressure", "some avg10=99.00 avg60=9.00 avg300=1.00 total=5\n");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(180)).await;
    let late = sampled(&mut sampler, &handle, "crm", tree.0.id()).await;
    tokio::time::resume();
    assert_eq!((late.cpu_percent, late.memory_bytes), (0.0, 200_000_000 - INACTIVE_FILE));
    assert_eq!((late.io_read_bytes, late.pressure.unwrap().io), (Some(0), 99.0));

    // A counter that goes back counts as nothing, and a controller that is taken away leaves the processes' sum.
    pause(Duration::from_millis(60), "a share of a shorter time says nothing").await;
    write("cpu.stat", "usage_usec 5\n");
    assert_eq!(sampled(&mut sampler, &handle, "crm", tree.0.id()).await.cpu_percent, 0.0);
    for name in ["memory.current", "pids.current", "io.stat"] {
        fs::remove_file(root.path().join(&path).join(name)).unwrap();
    }
    cpu(200_000);
    let without = sampled(&mut sampler, &handle, "crm", tree.0.id()).await;
    assert_eq!((without.memory_source, without.tasks, without.io_read_bytes), (MemorySource::ProcRss, 1, None));
    assert!(without.pressure.is_some());

    // The group is gone: what remains is the process.
    fs::remove_dir_all(root.path().join(&path)).unwrap();
    let alone = sampled(&mut sampler, &handle, "crm", tree.0.id()).await;
    assert_eq!((alone.memory_source, alone.tasks, alone.pressure), (MemorySource::ProcRss, 1, None));
}

#[tokio::test]
async fn a_sample_of_two_hundred_groups_is_cheap() {
    let slice = Slice::new();
    let start = |i: u32| {
        let group = slice.group(&format!("nbs-app-a{i}.service"));
        let enter = "echo $$ > \"$0/cgroup.procs\" && exec sleep 600";
        Command::new("/bin/sh").args(["-c", enter]).arg(group).spawn().unwrap()
    };
    let children: Vec<Child> = (0..app_count()).map(start).collect();
    let list: Vec<_> =
        children.iter().enumerate().map(|(i, c)| Subject::alone(app(&format!("a{i}")), c.id())).collect();
    let entered = || {
        let of = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
        match list.iter().find(|subject| of(subject.pid) != "sleep\n") {
            Some(subject) => Err(subject.app.to_string()),
            None => Ok(()),
        }
    };
    eventually("all are in their groups", Duration::from_secs(60), entered);
    let each = cost(list.clone()).await;
    let mut sampler = UsageSampler::new();
    sampler.sample(list).await;
    let known = sampler.handle().of(&app("a0")).unwrap();
    assert_eq!((known.tasks, known.pressure.is_some()), (1, Path::new("/proc/pressure/cpu").exists()));
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(each < DEAR * app_count(), "{each:?} of CPU a sample");
}
