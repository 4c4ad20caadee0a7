//! Word to systemd (or whoever set `NOTIFY_SOCKET`). Without that variable every call does nothing.
//!
//! Deliberately absent: unsetting the variable. That is not safe once threads run, and children get an environment of
//! their own anyway.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;

/// Tells that the daemon is ready, and its status line. Also ends a reload.
///
/// # Errors
/// The socket cannot be written to.
pub fn ready(status: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&one_line(status))])
}

/// Tells the status line that `systemctl status` shows.
///
/// # Errors
/// The socket cannot be written to.
pub fn status(text: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Status(&one_line(text))])
}

/// Tells that a reload began; `ready` tells its end. systemd wants the moment along with it.
///
/// # Errors
/// The socket cannot be written to.
pub fn reloading() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])
}

/// How often a start that takes long asks for more time, how much it asks for, and how often at most.
const START_ASK: Duration = Duration::from_secs(10);
const START_MORE: Duration = Duration::from_secs(30);
const START_ASKS: u32 = 60;

/// Carries a start through: as long as it is under way systemd is asked for more time, for ten minutes at most.
pub async fn starting<T>(start: impl Future<Output = T>) -> T {
    let mut start = std::pin::pin!(start);
    for _ in 0..START_ASKS {
        if let Ok(done) = tokio::time::timeout(START_ASK, start.as_mut()).await {
            return done;
        }
        let more = NotifyState::ExtendTimeoutUsec(START_MORE.as_micros() as u32);
        let _ = sd_notify::notify(&[more, NotifyState::Status("looks for the apps of an earlier daemon")]);
    }
    start.await
}

/// Tells that the daemon is about to end.
///
/// # Errors
/// The socket cannot be written to.
pub fn stopping(status: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))])
}

/// A status is one line; a line break would begin another assignment.
fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

/// systemd's watchdog: it ends the daemon unless it is petted in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watchdog {
    /// How often to pet it: a third of the time that systemd waits, so that one late round is forgiven.
    pub interval: Duration,
}

impl Watchdog {
    /// The watchdog, if systemd set one for this process.
    pub fn of_process() -> Option<Self> {
        sd_notify::watchdog_enabled().map(|limit| Self { interval: limit / 3 })
    }

    /// Tells that the daemon lives. Only who has just seen it work may say so, never a bare timer.
    ///
    /// # Errors
    /// The socket cannot be written to.
    pub fn pet(&self) -> io::Result<()> {
        sd_notify::notify(&[NotifyState::Watchdog])
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::{Command, Stdio};

    use super::*;

    /// Not a test of its own: the process that talks in the test below.
    #[test]
    fn a_daemon_that_talks() {
        if std::env::var_os("NBS_TEST_CHILD").is_none() {
            return;
        }
        reloading().unwrap();
        ready("2 apps\nREADY=0").unwrap();
        Watchdog::of_process().unwrap().pet().unwrap();
        stopping("bye").unwrap();
    }

    #[test]
    fn systemd_is_told_each_step() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let ended = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "lifecycle::notify::tests::a_daemon_that_talks"])
            .envs([("NBS_TEST_CHILD", "1"), ("WATCHDOG_USEC", "4000000")])
            .env("NOTIFY_SOCKET", &path)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(ended.success());
        let next = || {
            let mut buffer = [0; 4096];
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).trim_end().to_string()
        };
        let reload = next();
        let moment = reload.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(moment.parse::<u64>().unwrap() > 0);
        assert_eq!(next(), "READY=1\nSTATUS=2 apps READY=0");
        assert_eq!(next(), "WATCHDOG=1");
        assert_eq!(next(), "STOPPING=1\nSTATUS=bye");
    }

    #[test]
    fn without_a_socket_nothing_happens() {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            assert!(ready("x").is_ok());
        }
    }
}
