//! Where a Redis is and how one gets in: URL, password file, certificate authority.
//!
//! Files are read at each connection, so a changed password needs no restart. Deliberately absent: keeping connections
//! (`link`).

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, TlsCertificates};

/// Unacknowledged data is given up after this long.
const USER_TIMEOUT: Duration = Duration::from_secs(10);
/// A password is not longer than this many bytes.
const PASSWORD_MAX: usize = 4096;

/// One Redis. Two are equal if the same connection would be made to both.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    url: String,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    shown: String,
}

/// Why a server cannot be asked at all. Each says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// The URL is none.
    #[error(
        "the Redis URL cannot be used ({cause}); write redis://host:6379/0, rediss://user@host:6380 or redis+unix:///path/redis.sock"
    )]
    Url {
        /// What is wrong with it.
        cause: String,
    },
    /// A file cannot be read or used.
    #[error("{what} {file} cannot be used: {cause}")]
    File {
        /// `the Redis password file`, `the CA file`.
        what: &'static str,
        /// Which.
        file: PathBuf,
        /// Why.
        cause: String,
    },
    /// A CA file for a connection without TLS.
    #[error("a CA file is given, but {url} is not encrypted; write rediss://, or leave the CA file out")]
    CaWithoutTls {
        /// Without password.
        url: String,
    },
}

impl Server {
    /// Takes a URL (`redis://`, `rediss://`, `redis+unix://`; `valkey` for `redis` likewise), a file with the password and
    /// a file with the certificates to trust instead of the system's. The files are read later.
    ///
    /// # Errors
    /// The URL is none, or does not fit the CA file.
    pub fn new(url: &str, password_file: Option<PathBuf>, ca_file: Option<PathBuf>) -> Result<Self, ServerError> {
        let info = info(url)?;
        let shown = shown(&info);
        if ca_file.is_some() && !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            return Err(ServerError::CaWithoutTls { url: shown });
        }
        Ok(Self { url: url.into(), password_file, ca_file, shown })
    }

    /// Its URL without user and password.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Whether the connection is encrypted.
    pub(super) fn is_tls(&self) -> bool {
        self.shown.starts_with("rediss://")
    }

    /// Everything that a connection needs.
    pub(super) fn client(&self) -> Result<Client, ServerError> {
        let info = info(&self.url)?;
        let mut redis = info.redis_settings().clone().set_skip_set_lib_name();
        if let Some(file) = &self.password_file {
            redis = redis.set_password(password(file)?);
        }
        let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(5)).with_interval(Duration::from_secs(2));
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(keepalive.with_retries(3))
            .set_user_timeout(USER_TIMEOUT);
        let is_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        let info = info.set_redis_settings(redis).set_tcp_settings(tcp);
        if is_tls {
            use_ring();
        }
        let built = match &self.ca_file {
            Some(file) => {
                let bad = |cause: String| ServerError::File { what: "the CA file", file: file.clone(), cause };
                let root_cert = Some(std::fs::read(file).map_err(|error| bad(error.to_string()))?);
                Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })
                    .map_err(|error| bad(error.to_string()))?
            }
            None => Client::open(info).map_err(|error| ServerError::Url { cause: error.to_string() })?,
        };
        Ok(built)
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

/// TLS has one provider of ciphers per process; whoever comes first installs it.
fn use_ring() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that there is one already, which will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

fn info(url: &str) -> Result<ConnectionInfo, ServerError> {
    // The library's own message may repeat the URL, and with it the password.
    let bad = |cause: &str| ServerError::Url { cause: cause.into() };
    if redis::parse_redis_url(url).is_none() {
        return Err(bad("it has no scheme that is known"));
    }
    let info = url.into_connection_info().map_err(|error| ServerError::Url { cause: error.category().into() })?;
    let insecure = matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. });
    if insecure { Err(bad("#insecure would trust anybody; give a CA file instead")) } else { Ok(info) }
}

fn shown(info: &ConnectionInfo) -> String {
    let host = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_string() };
    let place = match info.addr() {
        ConnectionAddr::Tcp(name, port) => format!("redis://{}:{port}", host(name)),
        ConnectionAddr::TcpTls { host: name, port, .. } => format!("rediss://{}:{port}", host(name)),
        ConnectionAddr::Unix(path) => format!("redis+unix://{}", path.display()),
        _ => "redis".into(),
    };
    match info.redis_settings().db() {
        0 => place,
        db => format!("{place}, database {db}"),
    }
}

fn password(file: &Path) -> Result<String, ServerError> {
    let bad = |cause: String| ServerError::File { what: "the Redis password file", file: file.into(), cause };
    let text = std::fs::read_to_string(file).map_err(|error| bad(error.to_string()))?;
    let password = text.trim_end_matches(['\n', '\r']);
    match password {
        "" => Err(bad("it is empty".into())),
        long if long.len() > PASSWORD_MAX => Err(bad("it is too long for a password".into())),
        _ if password.contains('\n') => Err(bad("it has more than one line".into())),
        _ => Ok(password.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for (url, shown) in [
            ("redis://:geheim@h:6379/0", "redis://h:6379"),
            ("rediss://user:geheim@h/3", "rediss://h:6379, database 3"),
            ("redis+unix:///run/r.sock?pass=geheim", "redis+unix:///run/r.sock"),
            ("redis://[::1]:7", "redis://[::1]:7"),
        ] {
            let server = Server::new(url, None, None).unwrap();
            assert_eq!((server.shown(), format!("{server:?}").as_str()), (shown, shown));
        }
    }

    #[test]
    fn a_bad_url_is_refused_without_repeating_it() {
        for url in ["", "geheim", "http://geheim", "redis://:geheim@", "redis://h/geheim", "rediss://geheim/#insecure"]
        {
            let error = Server::new(url, None, None).unwrap_err().to_string();
            assert!(!error.contains("geheim") && error.contains("redis://host"), "{url}: {error}");
        }
        let error = Server::new("redis://h", None, Some("ca.pem".into())).unwrap_err();
        assert_eq!(error, ServerError::CaWithoutTls { url: "redis://h:6379".into() });
    }

    #[test]
    fn a_password_file_holds_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            password(&file).map_err(|error| error.to_string())
        };
        assert_eq!(read("word\n"), Ok("word".into()));
        for bad in ["", "\n", "a\nb\n", &"x".repeat(PASSWORD_MAX + 1)] {
            assert!(read(bad).unwrap_err().contains(&file.display().to_string()));
        }
    }
}
