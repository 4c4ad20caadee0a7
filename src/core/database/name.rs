//! Names on a server, and the mark that tells whose a thing is.

use crate::name::{AppId, EnvironmentName};
use crate::secret::SecretText;
use crate::shared::HOST;

/// Bytes of a name on a server; PostgreSQL cuts longer ones off without an error.
pub const NAME_MAX: usize = 63;
/// Characters of an app's secret that are its public mark; the others are the password.
const MARK_LENGTH: usize = 16;
/// A secret shorter than this would leave too little of it.
const SECRET_MIN: usize = 48;

/// Database, schema and role of an app: its ID. A process that hosts several apps is another one in each environment.
pub fn name_of(app: &AppId, environment: &EnvironmentName) -> String {
    match app.as_str().strip_prefix(HOST) {
        Some(runtime) => fitting(&format!("nbs_host_{runtime}_{environment}")),
        None => fitting(app.as_str()),
    }
}

/// A name that fits: one that is too long ends in a number that follows from the whole of it.
pub fn fitting(name: &str) -> String {
    if name.len() <= NAME_MAX {
        return name.into();
    }
    let tail = format!("_{:016x}", fnv(name.as_bytes()));
    let head = name.floor_char_boundary(NAME_MAX - tail.len());
    format!("{}{tail}", &name[..head])
}

/// FNV-1a: told apart, not kept secret.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What follows from an app's secret for databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Stands as a comment on what is the app's: another supervisor's app of the same name has another one.
    pub text: String,
    /// The password of its role.
    pub password: SecretText,
}

impl Mark {
    /// The two parts of a secret, which share no character: the mark tells nothing of the password.
    pub fn of(app: &AppId, secret: &SecretText) -> Option<Self> {
        let text = secret.expose();
        let (mark, password) = text.split_at_checked(MARK_LENGTH).filter(|_| text.len() >= SECRET_MIN)?;
        Some(Self { text: format!("nbsupervisor:{app}:{mark}"), password: SecretText::new(password) })
    }
}

/// A text as a part of a URL.
pub fn url_part(text: &str) -> String {
    let mut part = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => part.push(char::from(byte)),
            other => part.push_str(&format!("%{other:02X}")),
        }
    }
    part
}
