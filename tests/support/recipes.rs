//! Recipes of trivial apps.

/// Lives until it is told to end; listens nowhere.
pub const SLEEPER: (&str, &str) = (
    "sleeper.toml",
    r#"
name = "sleeper"
command = ["/bin/sleep", "infinity"]
listen = "none"
stop = { signal = "SIGTERM", timeout = "5s" }
restart = { policy = "on-failure", delay = "0s", burst = 1000 }
"#,
);

/// Takes a moment until it is ready.
pub const SLOW: (&str, &str) = (
    "slow.toml",
    r#"
name = "slow"
command = ["/bin/sh", "-c", "rm -f ready; sleep 0.3; : > ready; exec sleep infinity"]
listen = "none"
ready = { exec = ["/usr/bin/test", "-e", "ready"], interval = "20ms", timeout = "10s" }
stop = { signal = "SIGTERM", timeout = "5s" }
restart = { policy = "on-failure", delay = "100ms", burst = 5 }
"#,
);

/// Ends with status 3 after it wrote a line.
pub const CRASHER: (&str, &str) = (
    "crasher.toml",
    r#"
name = "crasher"
command = ["/bin/sh", "-c", "echo about to fail; exit 3"]
listen = "none"
ready = { exec = ["/bin/false"], interval = "50ms", timeout = "10s" }
restart = { policy = "on-failure", delay = "50ms", max_delay = "100ms", burst = 2, window = "1m" }
"#,
);

/// Serves files over HTTP.
pub const WEB: (&str, &str) = (
    "web.toml",
    r#"
name = "web"
command = ["/usr/bin/python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", "{port}"]
listen = "port"
strip_prefix = true
ready = { http = "/", interval = "50ms", timeout = "20s" }
stop = { signal = "SIGTERM", timeout = "5s" }
restart = { policy = "on-failure", delay = "0s", burst = 1000 }
"#,
);
