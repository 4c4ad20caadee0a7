//! A network of several hosts: each has a network namespace with `eth0`, and all are joined by a switch in the test's
//! own process, which gives each cable its weather (`link`).
//!
//! The namespaces have no names and the cables no device outside them, so nets never meet each other or the host, every
//! net can use the same addresses, and all of it ends with the test's process, however that ends. Deliberately absent:
//! what the hosts are.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::link::{Fate, Link, Weather};

/// How often a port looks whether the net still stands.
const LOOK: Duration = Duration::from_millis(100);
/// Frames under way on a slow cable; more are lost, as in a full buffer.
const UNDER_WAY: usize = 4096;
/// The longest frame: nobody has a larger MTU, and a TAP device without offloading sends no larger ones.
const FRAME: usize = 2048;
/// Where a place's own disk is mounted, private to the place.
const DISK: &str = "/var/cache/nbsupervisor-tests/mount";

/// A switch with its cables.
pub struct Net {
    seed: u64,
    switch: Arc<Switch>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Switch {
    ports: RwLock<Vec<Arc<Port>>>,
    off: AtomicBool,
}

/// Where a host is plugged in.
struct Port {
    tap: File,
    hardware: [u8; 6],
    link: Link,
}

/// A host's place in the net.
#[derive(Clone)]
pub struct Cable {
    address: Ipv4Addr,
    port: Arc<Port>,
}

impl Cable {
    /// The host's address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Gives it other weather.
    pub fn set(&self, weather: Weather) {
        self.port.link.set(weather);
    }

    /// How many frames it has swallowed.
    pub fn lost(&self) -> u64 {
        self.port.link.lost()
    }
}

impl Net {
    /// A switch without cables; loss follows the seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, switch: Arc::default(), threads: Vec::new() }
    }

    /// Gives the network namespace of a process an `eth0` with the next address.
    pub fn plug(&mut self, process: u32) -> Cable {
        let number = self.switch.ports.read().unwrap().len() as u8 + 1;
        let (address, hardware) = (Ipv4Addr::new(10, 77, 0, number), [2, 0, 10, 77, 0, number]);
        let tap = tap_of(process);
        let [a, b, c, d, e, f] = hardware;
        let orders = format!(
            "link set eth0 address {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}\n\
             link set eth0 up\naddr add {address}/24 dev eth0\n"
        );
        let mut ip = inside(process, &["net"]);
        let mut ip = ip.args(["ip", "-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        ip.stdin.take().unwrap().write_all(orders.as_bytes()).unwrap();
        assert!(ip.wait().unwrap().success(), "eth0 of {address} was not set up: see the messages of ip");
        let link = Link::new(self.seed.wrapping_add(u64::from(number)));
        let port = Arc::new(Port { tap, hardware, link });
        self.switch.ports.write().unwrap().push(port.clone());
        let (late, waiting) = sync_channel(UNDER_WAY);
        let (switch, own) = (self.switch.clone(), port.clone());
        self.threads.push(std::thread::spawn(move || switch.forward(&own, &late)));
        let (switch, own) = (self.switch.clone(), port.clone());
        self.threads.push(std::thread::spawn(move || switch.forward_late(&own, &waiting)));
        Cable { address, port }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.switch.off.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Switch {
    /// Takes what a host sends to whom it is for, until the net goes.
    fn forward(&self, from: &Port, late: &SyncSender<(Instant, Vec<u8>)>) {
        let mut frame = [0; FRAME];
        let look = rustix::time::Timespec { tv_sec: 0, tv_nsec: LOOK.as_nanos() as i64 };
        while !self.off.load(Ordering::Relaxed) {
            let _ = poll(&mut [PollFd::new(&from.tap, PollFlags::IN)], Some(&look));
            // The device goes with its namespace, and reading it is an error then: only the net's end ends this.
            let Ok(length) = (&from.tap).read(&mut frame) else { continue };
            match from.link.of_host() {
                Fate::Passes => self.deliver(from, &frame[..length]),
                Fate::PassesAfter(delay) => drop(late.try_send((Instant::now() + delay, frame[..length].to_vec()))),
                Fate::IsLost => {}
            }
        }
    }

    /// The same for frames that a slow cable held back.
    fn forward_late(&self, from: &Port, waiting: &Receiver<(Instant, Vec<u8>)>) {
        while let Ok((due, frame)) = waiting.recv() {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            self.deliver(from, &frame);
        }
    }

    fn deliver(&self, from: &Port, frame: &[u8]) {
        let Some(to) = frame.get(..6) else { return };
        let to_all = to[0] & 1 == 1;
        for port in self.ports.read().unwrap().iter() {
            let meant = to_all || port.hardware == to;
            if meant && port.hardware != from.hardware && port.link.to_host() == Fate::Passes {
                // A host that is off takes none.
                let _ = (&port.tap).write(frame);
            }
        }
    }
}

/// The request that names a TAP device, as the kernel lays it out.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// `TUNSETIFF`.
const SET: rustix::ioctl::Opcode = rustix::ioctl::opcode::write::<i32>(b'T', 202);
/// Whole Ethernet frames, and nothing in front of them: `IFF_TAP | IFF_NO_PI`.
const FRAMES: u16 = 0x0002 | 0x1000;

/// Makes `eth0` in the network namespace of a process; its other end is the file. It goes away with the file.
fn tap_of(process: u32) -> File {
    let namespace = File::open(format!("/proc/{process}/ns/net")).unwrap();
    let thread = std::thread::spawn(move || {
        // Only this thread moves, and the device belongs to the namespace of who opened it.
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).unwrap();
        let mut options = OpenOptions::new();
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let tap = options.read(true).write(true).custom_flags(nonblock).open("/dev/net/tun").unwrap();
        let mut request = Request { name: [0; 16], flags: FRAMES, rest: [0; 22] };
        request.name[..4].copy_from_slice(b"eth0");
        #[expect(unsafe_code, reason = "no crate offers this request safely")]
        // SAFETY: the kernel reads and writes one `ifreq`, which `Request` is as long as; all bit patterns are values.
        unsafe {
            rustix::ioctl::ioctl(&tap, rustix::ioctl::Setter::<SET, Request>::new(request)).unwrap();
        }
        tap
    });
    thread.join().expect("a TAP device: /dev/net/tun is needed")
}

const _: () = assert!(size_of::<Request>() == 40);

/// A command in some namespaces (`net`, `mnt`, `pid`) of a process, not yet run.
fn inside(process: u32, kinds: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    for kind in kinds {
        command.arg(match *kind {
            "mnt" => format!("--mount=/proc/{process}/ns/mnt"),
            "pid" => format!("--pid=/proc/{process}/ns/pid_for_children"),
            kind => format!("--{kind}=/proc/{process}/ns/{kind}"),
        });
    }
    command.arg("--").stdin(Stdio::null());
    command
}

/// Makes the disk and the loopback of a place and keeps them. It is the place's first process: all others end with it.
const HOLD: &str = r#"
ip link set lo up
mkdir -p "$1"
mount -t tmpfs -o mode=755 place "$1"
echo held
cat
"#;

/// A host without an operating system of its own: network, process tree and a small disk in memory, for programs of this
/// system. All of it, running programs included, ends with the value and with the test's process.
pub struct Place {
    holder: Child,
}

impl Place {
    /// An empty one.
    pub fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "--"]);
        command.args(["sh", "-euc", HOLD, "sh", DISK]).stdin(Stdio::piped()).stdout(Stdio::piped());
        // A signal to the test's group, such as that of a time limit, must not reach the one that tidies up.
        command.process_group(0);
        let mut holder = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "held\n", "no namespaces for a place: see the messages of unshare, ip and mount");
        Self { holder }
    }

    /// A process in its network.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// Its disk, as programs in the place see it.
    pub fn disk(&self) -> PathBuf {
        DISK.into()
    }

    /// A program in it, not yet run.
    pub fn command(&self, program: &str) -> Command {
        let mut command = inside(self.pid(), &["net", "mnt", "pid"]);
        command.arg(program);
        command
    }

    /// Runs a program to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments[0]).args(&arguments[1..]).output().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
