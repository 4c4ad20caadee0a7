//! What an error of Redis means, and what to do about it.

use std::fmt;

use redis::RedisError;

/// What is wrong, as far as it matters to whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Nobody listens there, or the name is not known.
    Refused,
    /// No answer in time.
    Timeout,
    /// The connection broke.
    Lost,
    /// Wrong or missing password.
    Auth,
    /// The user may not do this.
    NotAllowed,
    /// TLS did not come about.
    Tls,
    /// The settings cannot be used: URL, password file, CA file.
    Settings,
    /// An unsupported version.
    TooOld,
    /// A replica, or a cut-off master.
    ReadOnly,
    /// Out of memory.
    Full,
    /// It starts and reads its data.
    Loading,
    /// It cannot save, and therefore takes no writes.
    CannotSave,
    /// A script of somebody's blocks it, or too many clients are connected.
    Busy,
    /// The stream or its group is not there.
    NoGroup,
    /// The key holds another type.
    WrongType,
    /// The script is not known.
    NoScript,
    /// Anything else it says.
    Other,
}

impl Cause {
    /// What to do; empty where nobody has to do anything.
    fn remedy(self) -> &'static str {
        match self {
            Self::Refused => "is Redis running, and is the URL right? It is tried again by itself",
            Self::Timeout | Self::Lost => "it is tried again by itself",
            Self::Auth => "set user and password in the URL or in redis.password_file; both sides need an ACL user",
            Self::NotAllowed => "compare the ACL of this user with docs/redis.md",
            Self::Tls => "compare redis:// or rediss:// with the port, and the CA file with the server's certificate",
            Self::Settings => "correct the setting; it is tried again by itself",
            Self::TooOld => "install Redis 6.2 or newer, or Valkey",
            Self::ReadOnly => "point the URL at the primary",
            Self::Full => "raise maxmemory of Redis or free some; nbsupervisor needs few MB",
            Self::Loading => "it is tried again by itself",
            Self::CannotSave => "Redis cannot write its snapshot: look at its disk, or at stop-writes-on-bgsave-error",
            Self::Busy => "look at CLIENT LIST and at scripts of other users of this Redis",
            Self::NoGroup | Self::WrongType | Self::NoScript | Self::Other => "",
        }
    }

    /// Whether the connection is of no use any more.
    pub(super) fn severs(self) -> bool {
        use Cause::{Auth, Busy, Loading, Lost, ReadOnly, Refused, Settings, Tls, TooOld};
        matches!(self, Refused | Lost | Auth | Tls | Settings | TooOld | ReadOnly | Loading | Busy)
    }

    /// Whether it is about the server and not about the one command.
    pub(super) fn is_servers(self) -> bool {
        self.severs() || matches!(self, Self::Timeout | Self::Full | Self::CannotSave)
    }

    /// Whether only commands that write are refused for it.
    pub(super) fn is_of_writes(self) -> bool {
        matches!(self, Self::Full | Self::CannotSave | Self::ReadOnly)
    }

    /// Whether somebody has to do something about it that does not pass by itself.
    pub(super) fn wants_somebody(self) -> bool {
        matches!(
            self,
            Self::Auth | Self::Tls | Self::Settings | Self::TooOld | Self::ReadOnly | Self::Full | Self::CannotSave
        )
    }
}

/// An error with its meaning. Display says what happened and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Its meaning.
    pub cause: Cause,
    /// What Redis or the system said.
    pub text: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause.remedy() {
            "" => f.write_str(&self.text),
            remedy => write!(f, "{}; {remedy}", self.text),
        }
    }
}

impl std::error::Error for Trouble {}

impl Trouble {
    pub(super) fn new(cause: Cause, text: impl Into<String>) -> Self {
        Self { cause, text: text.into() }
    }

    /// What the library's error means.
    pub(super) fn of(error: &RedisError) -> Self {
        let text = shortened(&error.to_string());
        let cause = match error.code().map(by_code) {
            Some(cause) if cause != Cause::Other => cause,
            _ if error.kind() == redis::ErrorKind::AuthenticationFailed => Cause::Auth,
            Some(_) => by_words(&text),
            None if error.is_connection_refusal() => Cause::Refused,
            None if is_tls(&text) => Cause::Tls,
            None if text.contains("lookup") => Cause::Refused,
            None if error.is_timeout() => Cause::Timeout,
            None if error.kind() == redis::ErrorKind::InvalidClientConfig => Cause::Settings,
            None if error.is_io_error() || error.is_unrecoverable_error() => Cause::Lost,
            None => Cause::Other,
        };
        Self { cause, text }
    }
}

fn by_code(code: &str) -> Cause {
    match code {
        "WRONGPASS" | "NOAUTH" | "DENIED" => Cause::Auth,
        "NOPERM" => Cause::NotAllowed,
        "READONLY" | "MASTERDOWN" | "NOREPLICAS" => Cause::ReadOnly,
        "OOM" => Cause::Full,
        "LOADING" => Cause::Loading,
        "MISCONF" => Cause::CannotSave,
        "BUSY" => Cause::Busy,
        "NOGROUP" => Cause::NoGroup,
        "WRONGTYPE" => Cause::WrongType,
        "NOSCRIPT" => Cause::NoScript,
        _ => Cause::Other,
    }
}

/// Errors from within a script carry the code in their text, in older versions behind others.
fn by_words(text: &str) -> Cause {
    let codes = ["WRONGTYPE", "READONLY", "OOM", "MISCONF", "NOPERM", "NOSCRIPT", "NOGROUP"];
    let found = codes.into_iter().find(|code| text.contains(code));
    match found {
        Some(code) => by_code(code),
        None if text.contains("max number of clients") => Cause::Busy,
        None if text.contains("can't run this command or subcommand") || text.contains("No permissions") => {
            Cause::NotAllowed
        }
        None => Cause::Other,
    }
}

fn is_tls(text: &str) -> bool {
    ["certificate", "corrupt message", "InvalidContentType", "HandshakeFailure", "tls", "TLS"]
        .iter()
        .any(|word| text.contains(word))
}

fn shortened(text: &str) -> String {
    text.replace(['\r', '\n'], " ").chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_names_its_remedy_once() {
        let trouble = Trouble::new(Cause::ReadOnly, "READONLY: no");
        assert_eq!(trouble.to_string(), "READONLY: no; point the URL at the primary");
        assert_eq!(Trouble::new(Cause::Other, "ERR").to_string(), "ERR");
    }

    #[test]
    fn errors_of_the_system_are_told_apart() {
        let of = |kind| Trouble::of(&std::io::Error::from(kind).into()).cause;
        assert_eq!(of(std::io::ErrorKind::ConnectionRefused), Cause::Refused);
        assert_eq!(of(std::io::ErrorKind::NotFound), Cause::Refused);
        assert_eq!(of(std::io::ErrorKind::BrokenPipe), Cause::Lost);
        assert_eq!(of(std::io::ErrorKind::TimedOut), Cause::Timeout);
        let tls = std::io::Error::other("invalid peer certificate: UnknownIssuer");
        assert_eq!(Trouble::of(&tls.into()).cause, Cause::Tls);
    }

    #[test]
    fn an_error_from_within_a_script_keeps_its_meaning() {
        let old = "ERR: Error running script (call to f_1): @user_script:1: WRONGTYPE Operation against a key";
        assert_eq!(by_words(old), Cause::WrongType);
        assert_eq!(by_words("ERR: @user_script: 4: -OOM command not allowed"), Cause::Full);
        assert_eq!(by_words("ERR: syntax error"), Cause::Other);
    }
}
