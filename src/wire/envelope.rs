//! The envelopes that messages travel in between hosts: their JSON, and the exact text that is signed.
//!
//! Decides how an envelope is written, what a badly written one is answered, and how large one may be. The record inside
//! is a string (`body`), so that the bytes that were signed are the bytes that are parsed. Deliberately absent: any
//! cryptography (the room `security`), what a body means, and whether a message comes twice.

use std::borrow::Cow;
use std::fmt;

use nbs_core::name::EnvironmentName;
use serde::{Deserialize, Serialize};

use crate::wire::hex;

/// The version that is written and read.
pub const VERSION: u64 = 1;
/// No envelope is larger than this, in bytes of its JSON.
pub const LIMIT: usize = 1 << 20;
/// What a signed text begins with: nothing else that is ever signed by these keys does.
const CANONICAL: &str = "nbs:v1";
/// What `env` says of a message to every environment.
const EVERYBODY: &str = "*";

/// Why an envelope is not believed, or cannot be made. One sentence, never with the body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// It is above `LIMIT`; nothing of it was parsed.
    #[error("the message has {bytes} bytes, more than the {LIMIT} that are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It is not JSON, or no object.
    #[error("the message is no JSON object")]
    NotJson,
    /// It was written by another version.
    #[error(
        "the message has version {found}, this nbsupervisor reads version {VERSION}; use versions that fit together"
    )]
    Version {
        /// Its version.
        found: u64,
    },
    /// A field is missing, of another type, or cannot be.
    #[error("the message is no envelope: {field} is missing or malformed")]
    Shape {
        /// Which.
        field: &'static str,
    },
    /// It is of a kind that was not expected here.
    #[error("the message is of kind {found:?}, which is not expected here")]
    Kind {
        /// Its kind, shortened.
        found: String,
    },
    /// It belongs to another environment.
    #[error("the message belongs to environment {found:?}, not to this one")]
    Environment {
        /// Its environment, shortened.
        found: String,
    },
    /// Signature or MAC do not fit.
    #[error("the message is forged or was made with another key; the key files of entry and worker must fit together")]
    Forged,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$vdoc])* $variant),+
        }

        impl $name {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its word.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }

            /// The kind of a word, if it is one of those that are expected.
            pub(crate) fn expect(word: &str, expected: &[Self]) -> Result<Self, EnvelopeError> {
                let found = expected.iter().copied().find(|kind| kind.as_str() == word);
                found.ok_or_else(|| EnvelopeError::Kind { found: short(word) })
            }
        }
    };
}

words!(
    /// What a worker tells, under the MAC of its environment.
    MacKind {
        /// What became of apps; read by the entry.
        Report = "report",
        /// The worker is alive; stands in its lease.
        Beat = "beat",
        /// Which environment this is and where.
        Registration = "registration",
        /// Alive, for other readers.
        Heartbeat = "heartbeat",
        /// What host and apps consume.
        Usage = "usage",
    }
);

words!(
    /// What the entry says, under its signature.
    SignedKind {
        /// Something to do, once.
        Order = "order",
        /// What should be there of an app.
        Intent = "intent",
        /// Everybody is asked to say what there is.
        RollCall = "roll_call",
        /// Who the entry is.
        Entry = "entry",
    }
);

impl SignedKind {
    /// Whether one message may go to every environment. What moves an app has one address, or it could be shown to
    /// another host that was not meant.
    pub fn may_be_for_everybody(self) -> bool {
        matches!(self, Self::RollCall | Self::Entry)
    }
}

/// One life of an entry: 128 random bits, as 32 hexadecimal digits. Zero: none is known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Session(pub u128);

impl Session {
    /// No session is known yet.
    pub const NONE: Self = Self(0);

    /// Reads exactly 32 lower-case digits.
    pub fn parse(text: &str) -> Option<Self> {
        digits::<16>(text).map(|bytes| Self(u128::from_be_bytes(bytes)))
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Whom a signed message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// The worker of this environment.
    One(EnvironmentName),
    /// Every worker.
    Everybody,
}

impl Address {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::One(name) => name.as_str(),
            Self::Everybody => EVERYBODY,
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, EnvelopeError> {
        match text {
            EVERYBODY => Ok(Self::Everybody),
            name => environment(name).map(Self::One),
        }
    }
}

/// A worker's message.
#[derive(Serialize, Deserialize)]
pub(crate) struct MacShape<'a> {
    pub(crate) v: u64,
    #[serde(borrow)]
    pub(crate) env: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) kind: Cow<'a, str>,
    pub(crate) n: u64,
    #[serde(borrow)]
    pub(crate) session: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) body: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) mac: Cow<'a, str>,
}

impl MacShape<'_> {
    /// What the MAC is over. No field but the last can contain the bar between them.
    pub(crate) fn canonical(&self) -> String {
        format!("{CANONICAL}|{}|{}|{}|{}|{}", self.kind, self.env, self.session, self.n, self.body)
    }
}

/// A message of the entry.
#[derive(Serialize, Deserialize)]
pub(crate) struct SignedShape<'a> {
    pub(crate) v: u64,
    #[serde(borrow)]
    pub(crate) env: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) kind: Cow<'a, str>,
    pub(crate) epoch: u64,
    #[serde(borrow)]
    pub(crate) entry: Cow<'a, str>,
    pub(crate) issued_ms: u64,
    #[serde(borrow)]
    pub(crate) body: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) sig: Cow<'a, str>,
}

impl SignedShape<'_> {
    /// What the signature is over. No field but the last can contain the bar between them.
    pub(crate) fn canonical(&self) -> String {
        let Self { kind, env, entry, epoch, issued_ms, body, .. } = self;
        format!("{CANONICAL}|{kind}|{env}|{entry}|{epoch}|{issued_ms}|{body}")
    }
}

/// Whether a text can be an entry's ID: 1 to 128 printable ASCII characters without spaces, and without the bar that parts
/// the fields of what is signed.
pub fn is_entry_id(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'|';
    (1..=128).contains(&text.len()) && text.bytes().all(fits)
}

pub(crate) fn environment(text: &str) -> Result<EnvironmentName, EnvelopeError> {
    EnvironmentName::parse(text).map_err(|_| EnvelopeError::Shape { field: "env" })
}

/// The bytes of exactly twice as many lower-case digits: there is one way to write them.
pub(crate) fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    let is_lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    let bytes = (is_lower && text.len() == 2 * N).then(|| hex::decode(text)).flatten()?;
    bytes.try_into().ok()
}

/// A foreign text, short enough for a log line.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

pub(crate) fn write(shape: &impl Serialize) -> Result<String, EnvelopeError> {
    let text = serde_json::to_string(shape).map_err(|_| EnvelopeError::NotJson)?;
    within_limit(&text)?;
    Ok(text)
}

/// Reads an envelope: its size first, then its version, then the rest. Fields that are not known are passed over; the
/// canonical text does not have them, so nothing may follow from them.
pub(crate) fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, EnvelopeError> {
    within_limit(text)?;
    // An array would be read as the fields in their order.
    if !text.trim_start().starts_with('{') {
        return Err(EnvelopeError::NotJson);
    }
    match serde_json::from_str::<VersionShape>(text) {
        Ok(VersionShape { v: Some(VERSION) }) => {}
        Ok(VersionShape { v: Some(found) }) => return Err(EnvelopeError::Version { found }),
        Ok(VersionShape { v: None }) => return Err(EnvelopeError::Shape { field: "v" }),
        Err(error) if error.is_data() => return Err(EnvelopeError::Shape { field: "v" }),
        Err(_) => return Err(EnvelopeError::NotJson),
    }
    serde_json::from_str(text).map_err(|error| EnvelopeError::Shape { field: field_of(&error) })
}

fn within_limit(text: &str) -> Result<(), EnvelopeError> {
    if text.len() > LIMIT { Err(EnvelopeError::TooLarge { bytes: text.len() }) } else { Ok(()) }
}

#[derive(Deserialize)]
struct VersionShape {
    #[serde(default)]
    v: Option<u64>,
}

/// The field that serde names; of a value of another type it names none.
fn field_of(error: &serde_json::Error) -> &'static str {
    const FIELDS: &[&str] = &["env", "kind", "n", "session", "body", "mac", "epoch", "entry", "issued_ms", "sig"];
    let text = error.to_string();
    FIELDS.iter().copied().find(|field| text.contains(&format!("field `{field}`"))).unwrap_or("a field")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(text: &str) -> EnvelopeError {
        read::<MacShape<'_>>(text).err().unwrap()
    }

    #[test]
    fn a_bad_envelope_is_told_by_what_is_wrong_with_it() {
        let shape = |field| EnvelopeError::Shape { field };
        for (text, error) in [
            ("", EnvelopeError::NotJson),
            ("nonsense", EnvelopeError::NotJson),
            ("[1]", EnvelopeError::NotJson),
            ("7", EnvelopeError::NotJson),
            ("{\"v\":1", EnvelopeError::NotJson),
            ("{}", shape("v")),
            ("{\"v\":\"1\"}", shape("v")),
            ("{\"v\":-1}", shape("v")),
            ("{\"v\":0}", EnvelopeError::Version { found: 0 }),
            ("{\"v\":2,\"env\":7}", EnvelopeError::Version { found: 2 }),
            ("{\"v\":1}", shape("env")),
            ("{\"v\":1,\"env\":\"a\"}", shape("kind")),
            ("{\"v\":1,\"env\":7}", shape("a field")),
            ("{\"v\":1,\"env\":\"a\",\"env\":\"a\"}", shape("env")),
        ] {
            assert_eq!(refused(text), error, "{text}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_parsed() {
        let body = |bytes: usize| "[".repeat(bytes);
        assert_eq!(refused(&body(LIMIT)), EnvelopeError::NotJson);
        assert_eq!(refused(&body(LIMIT + 1)), EnvelopeError::TooLarge { bytes: LIMIT + 1 });
    }

    #[test]
    fn an_entry_id_cannot_hold_what_parts_the_fields() {
        assert!(is_entry_id("a1B2-c.d_e:f/\"\\@") && is_entry_id(&"x".repeat(128)));
        for bad in ["", "a|b", "a b", "é", "a\n", &"x".repeat(129)] {
            assert!(!is_entry_id(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_session_has_one_way_to_be_written() {
        let text = "000000000000000000000000000000ff";
        assert_eq!(Session::parse(text), Some(Session(255)));
        assert_eq!(Session(255).to_string(), text);
        assert_eq!(Session::parse("00000000000000000000000000000000"), Some(Session::NONE));
        for bad in ["", "ff", "000000000000000000000000000000FF", "0000000000000000000000000000000ff", "+f"] {
            assert_eq!(Session::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text: String) {
            prop_assert!(read::<SignedShape<'_>>(&text).is_err());
        }
    }
}
