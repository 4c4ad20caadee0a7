//! A visitor who asks a gateway for a page again and again, from a network of the test's choice, and counts.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How many failures are kept word by word.
const KEPT: usize = 10;
/// Longer than any drain; a request that takes this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a visitor fared.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests answered with 200 and a whole body.
    pub good: u64,
    /// All others.
    pub bad: u64,
    /// The first of the others, in words.
    pub failures: Vec<String>,
    /// The longest that a good answer took.
    pub slowest: Duration,
}

/// A visitor at work.
pub struct Visitor {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    thread: Option<JoinHandle<Tally>>,
}

impl Visitor {
    /// Starts asking at a port of the network of the process `neighbour`, without a pause.
    pub fn start(neighbour: u32, port: u16, path: &str) -> Self {
        Self::start_at(neighbour, (Ipv4Addr::LOCALHOST, port).into(), path, Duration::ZERO)
    }

    /// Starts asking at an address, from the network of the process `neighbour`, with a pause after each answer.
    pub fn start_at(neighbour: u32, gateway: SocketAddr, path: &str, pause: Duration) -> Self {
        let (stop, good) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let network = File::open(format!("/proc/{neighbour}/ns/net")).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let (stopped, counted) = (stop.clone(), good.clone());
        let thread = std::thread::spawn(move || {
            // Only this thread moves.
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(network.as_fd(), kind).unwrap();
            let mut tally = Tally::default();
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                match ask(gateway, &request) {
                    Ok(()) => {
                        tally.good += 1;
                        counted.store(tally.good, Ordering::Relaxed);
                        tally.slowest = tally.slowest.max(begun.elapsed());
                    }
                    Err(failure) => {
                        tally.bad += 1;
                        if tally.failures.len() < KEPT {
                            tally.failures.push(failure);
                        }
                    }
                }
                std::thread::sleep(pause);
            }
            tally
        });
        Self { stop, good, thread: Some(thread) }
    }

    /// How many good answers there were up to now.
    pub fn good(&self) -> u64 {
        self.good.load(Ordering::Relaxed)
    }

    /// Lets the last request end, and tells.
    pub fn finish(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("a visitor finishes once").join().unwrap()
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One request over a connection of its own; good is 200 with as many bytes as it announced.
fn ask(gateway: SocketAddr, request: &str) -> Result<(), String> {
    let failed = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let mut stream = TcpStream::connect_timeout(&gateway, PATIENCE).map_err(failed("connect"))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed("set_read_timeout"))?;
    stream.write_all(request.as_bytes()).map_err(failed("send"))?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).map_err(failed("receive"))?;
    let text = String::from_utf8_lossy(&raw);
    let Some((head, _)) = text.split_once("\r\n\r\n") else { return Err(format!("no whole head: {text:?}")) };
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(text.chars().take(400).collect());
    }
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let body = raw.len() - head.len() - 4;
    match length {
        Some(length) if body == length => Ok(()),
        None if text.ends_with("0\r\n\r\n") => Ok(()),
        _ => Err(format!("the body is cut off after {body} bytes: {head}")),
    }
}
