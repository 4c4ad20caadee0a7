//! `[redis]`: two addresses, for the cache and for commands, with who we are there.
//!
//! A user and a password may stand in the URL, as the origin has it, or beside it, the password in a file of its own. A
//! message never shows a URL that was not understood: no one can tell which part of it is the password. Deliberately
//! absent: connecting, and reading the CA's certificates.

use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nbs_core::secret::SecretText;

use super::problem::{Origin, Problem};
use super::reader::{Complaint, Notes, Reader};
use super::{parse, web};

/// The port where the URL names none.
const PORT: u16 = 6379;
/// A password is no longer than this; a longer file is another one, given by mistake.
const PASSWORD_MAX: u64 = 4096;

/// `[redis]` of a daemon that uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// Leases, registrations, usage, heartbeats, cache.
    pub cache: RedisTarget,
    /// Orders, reports, intents, start locks, the entry's lease. Equal to `cache` unless set otherwise.
    pub command: RedisTarget,
    /// Certificates (PEM) that `rediss://` is checked with instead of the public ones.
    pub ca_file: Option<PathBuf>,
}

/// A Redis server, and who we are there. Display shows no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisTarget {
    /// Where it is.
    pub address: RedisAddress,
    /// The number of the database.
    pub database: u32,
    /// The ACL user; none = the default one.
    pub username: Option<String>,
    /// The password; none = no authentication.
    pub password: Option<SecretText>,
}

/// Where a Redis server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisAddress {
    /// Over TCP.
    Tcp {
        /// A name or an IP address, an IPv6 address without its brackets.
        host: String,
        /// The port.
        port: u16,
        /// Whether it is spoken to with TLS, which always checks the certificate.
        tls: bool,
    },
    /// Over a unix socket.
    Unix(PathBuf),
}

impl RedisTarget {
    fn uses_tls(&self) -> bool {
        matches!(self.address, RedisAddress::Tcp { tls: true, .. })
    }
}

impl fmt::Display for RedisTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.username.as_deref().unwrap_or_default();
        match &self.address {
            RedisAddress::Tcp { host, port, tls } => {
                f.write_str(if *tls { "rediss://" } else { "redis://" })?;
                match (&self.username, &self.password) {
                    (_, Some(_)) => write!(f, "{user}:***@")?,
                    (Some(_), None) => write!(f, "{user}@")?,
                    (None, None) => {}
                }
                if host.contains(':') {
                    write!(f, "[{host}]:{port}")?
                } else {
                    write!(f, "{host}:{port}")?
                }
                if self.database == 0 { Ok(()) } else { write!(f, "/{}", self.database) }
            }
            RedisAddress::Unix(path) => {
                let database = (self.database != 0).then(|| format!("db={}", self.database));
                let user = self.username.as_ref().map(|user| format!("user={user}"));
                let password = self.password.as_ref().map(|_| "pass=***".to_string());
                let query: Vec<String> = database.into_iter().chain(user).chain(password).collect();
                let mark = if query.is_empty() { "" } else { "?" };
                write!(f, "redis+unix://{}{mark}{}", path.display(), query.join("&"))
            }
        }
    }
}

/// `[redis]` as it stands, before it is known whether the role uses it.
#[derive(Debug)]
pub struct RedisKeys {
    url: Option<RedisTarget>,
    command_url: Option<RedisTarget>,
    username: Option<String>,
    command_username: Option<String>,
    password_file: Option<PathBuf>,
    command_password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

/// Reads the table.
pub fn read(mut group: Reader<'_>) -> RedisKeys {
    let keys = RedisKeys {
        url: group.setting_shown("url", "", url, shown),
        command_url: group.setting_shown("command_url", "", url, shown),
        username: group.setting("username", "", username),
        command_username: group.setting("command_username", "", username),
        password_file: group.setting("password_file", "", parse::optional_file),
        command_password_file: group.setting("command_password_file", "", parse::optional_file),
        ca_file: group.setting("ca_file", "", parse::optional_file),
    };
    group.finish();
    keys
}

impl RedisKeys {
    /// Puts addresses and credentials together and reads the files. `None` if there is no address; whoever needs one
    /// is told elsewhere. What is wrong is noted.
    pub fn resolve(self, notes: &Notes) -> Option<RedisSettings> {
        let holds = |target: &Option<RedisTarget>| target.as_ref().is_some_and(|target| target.password.is_some());
        warn_of_readers("redis.url", holds(&self.url), "redis.password_file", notes);
        warn_of_readers("redis.command_url", holds(&self.command_url), "redis.password_file", notes);
        let general = Credentials::read(self.username, "redis.password_file", self.password_file, notes);
        let of_commands =
            Credentials::read(self.command_username, "redis.command_password_file", self.command_password_file, notes);
        let bare = self.url?;
        let cache = general.over("redis.url", bare.clone(), notes);
        // Without an address of their own commands go where the cache is, perhaps as somebody else.
        let command = match self.command_url {
            Some(own) if own.password.is_some() => of_commands.over("redis.command_url", own, notes),
            Some(own) => of_commands.or(&general).over("redis.command_url", own, notes),
            None if of_commands.is_empty() => cache.clone(),
            None => of_commands.over("redis.url", RedisTarget { username: None, password: None, ..bare }, notes),
        };
        if let Some(file) = &self.ca_file {
            check_ca(file, cache.uses_tls() || command.uses_tls(), notes);
        }
        Some(RedisSettings { cache, command, ca_file: self.ca_file })
    }
}

/// A user and a password that stand beside the URL.
#[derive(Debug, Clone)]
struct Credentials {
    username: Option<String>,
    password: Option<SecretText>,
}

impl Credentials {
    fn read(username: Option<String>, file_key: &str, file: Option<PathBuf>, notes: &Notes) -> Self {
        Self { username, password: file.and_then(|file| read_password_file(file_key, &file, notes)) }
    }

    fn is_empty(&self) -> bool {
        self.username.is_none() && self.password.is_none()
    }

    fn or(self, other: &Self) -> Self {
        if self.is_empty() { other.clone() } else { self }
    }

    /// Lays them over what the URL says.
    fn over(&self, key: &str, mut target: RedisTarget, notes: &Notes) -> RedisTarget {
        if self.password.is_some() && target.password.is_some() {
            let text = "the URL holds a password, and a file holds one too";
            notes.problem(Problem::error(Origin::Default, key, text, "take it out of the URL"));
        }
        target.username = self.username.clone().or(target.username);
        target.password = self.password.clone().or(target.password);
        let file_failed = notes.has_error("redis.password_file") || notes.has_error("redis.command_password_file");
        if target.username.is_some() && target.password.is_none() && !file_failed {
            let hint = "write redis://USER:PASSWORD@HOST, or set redis.password_file or redis.command_password_file";
            notes.problem(Problem::error(Origin::Default, key, "there is a user and no password", hint));
        }
        target
    }
}

/// Reads a file that holds a password alone. What is wrong is noted.
pub(super) fn read_password_file(key: &str, file: &Path, notes: &Notes) -> Option<SecretText> {
    match password(file) {
        Ok((password, meta)) => {
            if meta.permissions().mode() & 0o004 != 0 {
                let text = format!("everybody on this host may read {}", file.display());
                notes.problem(Problem::warning(Origin::Default, key, text, "chmod o-r it"));
            }
            Some(password)
        }
        Err(complaint) => {
            notes.problem(Problem::error(Origin::Default, key, complaint.text, complaint.hint));
            None
        }
    }
}

/// A password in a file or on a command line that everybody reads is no secret. `file_key`: what could be set instead.
pub(super) fn warn_of_readers(key: &str, has_password: bool, file_key: &str, notes: &Notes) {
    if !has_password {
        return;
    }
    let instead = format!("set {file_key} instead");
    match notes.origin_of(key) {
        Origin::Flag(_) => {
            let text = "it holds a password, and everybody on this host may read command lines";
            notes.problem(Problem::warning(Origin::Default, key, text, instead));
        }
        Origin::File { file, .. } if fs::metadata(&file).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0) => {
            let text = "it holds a password, and everybody on this host may read the file";
            notes.problem(Problem::warning(Origin::Default, key, text, format!("chmod o-r it, or {instead}")));
        }
        _ => {}
    }
}

fn password(file: &Path) -> Result<(SecretText, Metadata), Complaint> {
    let failed = |error: std::io::Error| {
        Complaint::new(format!("{} cannot be read: {error}", file.display()), "write the password alone into it")
    };
    let wrong = |what: &str| {
        Err(Complaint::new(format!("{} {what}", file.display()), "write the password alone into it, on one line"))
    };
    let meta = fs::metadata(file).map_err(failed)?;
    if !meta.is_file() || meta.len() > PASSWORD_MAX {
        return wrong("is not a file with a password");
    }
    let text = fs::read_to_string(file).map_err(failed)?;
    let password = text.trim_end_matches(['\n', '\r']);
    match password {
        "" => wrong("is empty"),
        _ if password.contains(['\n', '\0']) => wrong("has more than one line"),
        _ => Ok((SecretText::new(password), meta)),
    }
}

fn check_ca(file: &Path, is_used: bool, notes: &Notes) {
    let key = "redis.ca_file";
    if !is_used {
        let text = "no address begins with rediss://, so nothing is checked with it";
        notes.problem(Problem::warning(Origin::Default, key, text, "write rediss://, or remove it"));
    }
    let complaint = match fs::read_to_string(file) {
        Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => return,
        Ok(_) => format!("{} holds no certificate", file.display()),
        Err(error) => format!("{} cannot be read: {error}", file.display()),
    };
    notes.problem(Problem::error(Origin::Default, key, complaint, "name a file with certificates in PEM"));
}

fn username(text: &str) -> Result<Option<String>, Complaint> {
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Complaint::new(format!("{text:?} is not a user of Redis"), "write a name without spaces"));
    }
    Ok((!text.is_empty()).then(|| text.to_string()))
}

/// How `config show` prints a URL that was understood.
fn shown(text: &str) -> String {
    url(text).ok().flatten().map(|target| target.to_string()).unwrap_or_default()
}

const USUAL: &str = "write redis://USER:PASSWORD@HOST:PORT/DATABASE, with all but the host left out as needed";

/// The URL of a Redis server; the empty text is none.
fn url(text: &str) -> Result<Option<RedisTarget>, Complaint> {
    if text.is_empty() {
        return Ok(None);
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(Complaint::new("this is not a URL of Redis: it begins with no scheme", USUAL));
    };
    match scheme {
        "redis" => tcp(rest, false).map(Some),
        "rediss" => tcp(rest, true).map(Some),
        "redis+unix" | "unix" => unix(rest).map(Some),
        _ => {
            let words = ["redis", "rediss", "redis+unix", "unix"];
            // It stands before the host, but whoever mixed the parts up may have put a secret there.
            let hint = match nbs_core::nearest::nearest(scheme, words) {
                Some(word) => format!("did you mean {word}://?"),
                None => format!("there is {}", words.map(|word| format!("{word}://")).join(", ")),
            };
            Err(Complaint::new("this is not a URL of Redis: its scheme is another one", hint))
        }
    }
}

fn tcp(rest: &str, tls: bool) -> Result<RedisTarget, Complaint> {
    let wrong = |what: &str, hint: &str| Err(Complaint::new(format!("this is not a URL of Redis: {what}"), hint));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    if tail.contains('@') {
        let hint = "write / as %2F, ? as %3F and # as %23 in it, or set redis.password_file";
        return wrong("the user or the password has a /, ? or # in it", hint);
    }
    if let Some((_, fragment)) = tail.split_once('#') {
        return match fragment {
            "insecure" => wrong("a certificate is always checked", "take #insecure away and set redis.ca_file"),
            _ => wrong("it has a # with something behind it", USUAL),
        };
    }
    if tail.contains('?') {
        return wrong("nothing is understood behind a ?", "take it away");
    }
    let database = match tail.trim_matches('/') {
        "" => 0,
        digits => match digits.parse() {
            Ok(number) => number,
            Err(_) => return wrong("what is behind the host is not the number of a database", USUAL),
        },
    };
    let (user, server) = authority.rsplit_once('@').unwrap_or(("", authority));
    let Some((host, port)) = web::split_host(server) else { return wrong("the part with the host is odd", USUAL) };
    if host.is_empty() {
        return wrong("there is no host", USUAL);
    }
    if !web::is_host(host) {
        return wrong("the host is none that could be", USUAL);
    }
    if web::is_wildcard(host) {
        return wrong("its host means every address of a host, which nobody can connect to", USUAL);
    }
    let port = match port.map(str::parse) {
        None => PORT,
        Some(Ok(port)) if port > 0 => port,
        Some(_) => return wrong("the port is not a number from 1 to 65535", USUAL),
    };
    let (username, password) = user.split_once(':').unwrap_or((user, ""));
    let host = host.trim_matches(['[', ']']).to_string();
    credentials(RedisAddress::Tcp { host, port, tls }, database, username, password)
}

fn unix(rest: &str) -> Result<RedisTarget, Complaint> {
    let usual = "write redis+unix:///run/redis/redis.sock, then ?db=1&user=USER&pass=PASSWORD as needed";
    let wrong = |what: &str| Err(Complaint::new(format!("this is not a URL of Redis: {what}"), usual));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.starts_with('/') || path.ends_with('/') {
        return wrong("it names no socket by an absolute path");
    }
    if path.len() > parse::SOCKET_PATH_MAX {
        return wrong("the path is too long for a socket");
    }
    let (mut database, mut username, mut password) = (0, "", "");
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("db", digits)) => match digits.parse() {
                Ok(number) => database = number,
                Err(_) => return wrong("db is not the number of a database"),
            },
            Some(("user", text)) => username = text,
            Some(("pass", text)) => password = text,
            _ => return wrong("there is only db, user and pass behind the ?"),
        }
    }
    credentials(RedisAddress::Unix(decoded(path)?.into()), database, username, password)
}

fn credentials(address: RedisAddress, database: u32, user: &str, password: &str) -> Result<RedisTarget, Complaint> {
    let some = |text: &str| -> Result<Option<String>, Complaint> { Ok((!text.is_empty()).then_some(decoded(text)?)) };
    let password = some(password)?.map(SecretText::new);
    Ok(RedisTarget { address, database, username: some(user)?, password })
}

/// `%40` is `@`. A % that begins no such code stands for itself, as other clients of Redis have it.
fn decoded(text: &str) -> Result<String, Complaint> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|byte| (*byte as char).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| {
        let hint = "encode it as UTF-8, or set redis.password_file";
        Complaint::new("this is not a URL of Redis: the user or the password is no UTF-8 once its % are decoded", hint)
    })
}

#[cfg(test)]
mod tests;
