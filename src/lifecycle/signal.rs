//! Signals: SIGTERM or SIGINT asks for a graceful stop, a later one ends the process at once, SIGHUP asks for a reload.
//!
//! The later one works even if the runtime hangs, because a thread of its own acts on it. What comes within a second of the
//! first one is the same wish: some callers signal a process and its group, and fingers tremble.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals as Incoming};
use signal_hook::low_level;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Signals within this time of the first one say nothing new.
const ONE_WISH: Duration = Duration::from_secs(1);

/// The signals of this process. Dropping it ends its thread.
#[derive(Debug)]
pub struct Signals {
    stop: CancellationToken,
    reload: Arc<Notify>,
    first: Arc<AtomicI32>,
    handle: Handle,
}

impl Signals {
    /// Takes the signals over. Once for a process, before the runtime gets busy.
    ///
    /// # Errors
    /// The kernel refuses a handler, or the thread cannot be started.
    pub fn install() -> io::Result<Self> {
        let mut incoming = Incoming::new([SIGTERM, SIGINT, SIGHUP])?;
        let signals = Self {
            stop: CancellationToken::new(),
            reload: Arc::new(Notify::new()),
            first: Arc::new(AtomicI32::new(0)),
            handle: incoming.handle(),
        };
        let (stop, reload, first) = (signals.stop.clone(), signals.reload.clone(), signals.first.clone());
        let handle = incoming.handle();
        thread::Builder::new().name("signals".into()).spawn(move || {
            let (mut asked, mut heeded) = (false, false);
            loop {
                for signal in incoming.wait() {
                    if signal == SIGHUP {
                        reload.notify_one();
                    } else if asked {
                        // The status is the one that a shell gives a process that died of the signal.
                        low_level::exit(128 + signal);
                    } else {
                        asked = true;
                        let _ = first.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
                        stop.cancel();
                        break;
                    }
                }
                if handle.is_closed() {
                    return;
                }
                if asked && !heeded {
                    heeded = true;
                    thread::sleep(ONE_WISH);
                    incoming.pending().for_each(drop);
                }
            }
        })?;
        Ok(signals)
    }

    /// Cancelled when a graceful stop is asked for.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Notified when a reload is asked for. Several requests at once are one.
    pub fn reload(&self) -> Arc<Notify> {
        self.reload.clone()
    }

    /// The name of the signal that asked for the stop.
    pub fn stopped_by(&self) -> Option<&'static str> {
        match self.first.load(Ordering::Relaxed) {
            SIGTERM => Some("SIGTERM"),
            SIGINT => Some("SIGINT"),
            _ => None,
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::*;

    /// Not a test of its own: the process that the tests below send signals to.
    #[test]
    fn a_daemon_of_signals() {
        if std::env::var_os("NBS_TEST_CHILD").is_none() {
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let signals = Signals::install().unwrap();
        println!("ready");
        runtime.block_on(async {
            let (stop, reload) = (signals.stop(), signals.reload());
            loop {
                tokio::select! {
                    () = reload.notified() => println!("reload"),
                    () = stop.cancelled() => break,
                }
            }
        });
        println!("stop {}", signals.stopped_by().unwrap());
        if std::env::var("NBS_TEST_CHILD").unwrap() == "hangs" {
            // Until the test, which holds the other end, is gone.
            drop(std::io::stdin().read_line(&mut String::new()));
        }
        std::process::exit(0);
    }

    struct Daemon {
        child: Child,
        /// Waiting for a child closes its input unless it was taken out.
        _stdin: Option<ChildStdin>,
        lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    }

    impl Daemon {
        fn start(how: &str) -> Self {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "lifecycle::signal::tests::a_daemon_of_signals", "--nocapture"])
                .env("NBS_TEST_CHILD", how)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut daemon = Self { _stdin: child.stdin.take(), child, lines };
            daemon.expect("ready");
            daemon
        }

        fn expect(&mut self, wanted: &str) {
            let found = self.lines.by_ref().map(Result::unwrap).find(|line| line.ends_with(wanted));
            assert!(found.is_some(), "the daemon did not say {wanted:?}");
        }

        fn send(&self, signal: Signal) {
            kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
        }

        fn end(mut self) -> ExitStatus {
            self.child.wait().unwrap()
        }
    }

    #[test]
    fn the_first_signal_asks_for_a_stop_and_hangup_for_a_reload() {
        let mut daemon = Daemon::start("ends");
        daemon.send(Signal::SIGHUP);
        daemon.expect("reload");
        daemon.send(Signal::SIGTERM);
        daemon.expect("stop SIGTERM");
        assert_eq!(daemon.end().code(), Some(0));
    }

    #[test]
    fn a_later_signal_ends_a_process_that_hangs() {
        let mut daemon = Daemon::start("hangs");
        daemon.send(Signal::SIGINT);
        daemon.expect("stop SIGINT");
        let status = loop {
            daemon.send(Signal::SIGTERM);
            if let Some(status) = daemon.child.try_wait().unwrap() {
                break status;
            }
            thread::yield_now();
        };
        assert_eq!((status.code(), status.signal()), (Some(143), None));
    }

    #[test]
    fn two_signals_at_once_are_one_wish() {
        let mut daemon = Daemon::start("ends");
        daemon.send(Signal::SIGINT);
        daemon.send(Signal::SIGINT);
        daemon.send(Signal::SIGTERM);
        daemon.expect("stop SIGINT");
        assert_eq!(daemon.end().code(), Some(0));
    }
}
