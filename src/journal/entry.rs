//! One line of `journalctl --output=json` as an entry, and whose it is.
//!
//! A field is a string, an array of bytes where it is no clean UTF-8, null, or an array of those where it was given several
//! times. Deliberately absent: the meaning of fields that are not needed here.

use std::fmt;

use nbs_core::name::AppId;
use nbs_core::time::Wall;
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use super::query::{self, DROPPED_ID};
use super::{Scope, cursor};
use crate::ports::LogLine;

/// Bytes of one line that a reader gets.
pub const LINE_MAX: usize = 64 << 10;

/// An entry of the journal.
#[derive(Debug, Default, Deserialize)]
pub struct Entry {
    #[serde(rename = "__CURSOR", default)]
    cursor: Option<String>,
    #[serde(rename = "__REALTIME_TIMESTAMP", default)]
    micros: Option<String>,
    #[serde(rename = "_SYSTEMD_UNIT", default)]
    unit: Field,
    #[serde(rename = "_SYSTEMD_USER_UNIT", default)]
    user_unit: Field,
    #[serde(rename = "_SYSTEMD_OWNER_UID", default)]
    owner: Field,
    #[serde(rename = "_SYSTEMD_INVOCATION_ID", default)]
    invocation: Field,
    #[serde(rename = "_TRANSPORT", default)]
    transport: Field,
    #[serde(rename = "MESSAGE_ID", default)]
    message_id: Field,
    #[serde(rename = "N_DROPPED", default)]
    dropped: Field,
    #[serde(rename = "OBJECT_SYSTEMD_UNIT", default)]
    object: Field,
    #[serde(rename = "OBJECT_SYSTEMD_USER_UNIT", default)]
    user_object: Field,
    #[serde(rename = "MESSAGE", default)]
    message: Field,
    #[serde(rename = "EXIT_CODE", default)]
    exit_code: Field,
    #[serde(rename = "EXIT_STATUS", default)]
    exit_status: Field,
    #[serde(rename = "UNIT_RESULT", default)]
    unit_result: Field,
    #[serde(rename = "INVOCATION_ID", default)]
    about: Field,
    #[serde(rename = "USER_INVOCATION_ID", default)]
    user_about: Field,
    /// Bytes of a line that was too long to be read whole.
    #[serde(skip)]
    too_long: Option<u64>,
}

/// The values of a field.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Field(Vec<Vec<u8>>);

impl Field {
    /// The value of a field that has one.
    fn one(&self) -> Option<&str> {
        match self.0.as_slice() {
            [value] => std::str::from_utf8(value).ok(),
            _ => None,
        }
    }
}

impl Entry {
    /// Reads a line; `None` if it is no entry.
    pub fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(line).ok().filter(|entry| entry.cursor.is_some())
    }

    /// What is known of an entry of which only the beginning and the end were kept.
    pub fn too_long(head: &[u8], tail: &[u8], bytes: u64) -> Self {
        let find = |name: &str| value_in(head, name).or_else(|| value_in(tail, name));
        let field = |name: &str| Field(find(name).map(String::into_bytes).into_iter().collect());
        Self {
            cursor: find("__CURSOR"),
            micros: find("__REALTIME_TIMESTAMP"),
            unit: field("_SYSTEMD_UNIT"),
            user_unit: field("_SYSTEMD_USER_UNIT"),
            owner: field("_SYSTEMD_OWNER_UID"),
            invocation: field("_SYSTEMD_INVOCATION_ID"),
            too_long: Some(bytes),
            ..Self::default()
        }
    }

    /// The journal's cursor of this entry.
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// When journald got it.
    pub fn at(&self) -> Option<Wall> {
        self.micros.as_ref()?.parse::<u64>().ok().map(|micros| Wall(micros / 1000))
    }

    /// How a unit's main process ended, in an entry of systemd's that says so.
    pub fn exit(&self) -> Option<(&str, i32)> {
        Some((self.exit_code.one()?, self.exit_status.one()?.parse().ok()?))
    }

    /// The result of a unit's life, in an entry of systemd's that says so.
    pub fn unit_result(&self) -> Option<&str> {
        self.unit_result.one()
    }

    /// The life of a unit that an entry of systemd's is about.
    pub fn about(&self) -> Option<&str> {
        self.about.one().or_else(|| self.user_about.one())
    }

    /// Which life of its unit wrote it, if journald knew.
    pub fn invocation(&self) -> Option<&str> {
        self.invocation.one()
    }

    /// The unit that wrote it, in this scope.
    pub fn unit(&self, scope: Scope) -> Option<&str> {
        match scope {
            Scope::System => self.unit.one(),
            Scope::User { uid } => {
                let own = self.owner.one().and_then(|owner| owner.parse().ok()) == Some(uid);
                self.user_unit.one().filter(|_| own)
            }
        }
    }

    /// The lines of this entry, if it belongs into the app's log: what instance and hooks wrote, and journald's word
    /// about what it dropped.
    pub fn lines(&self, app: &AppId, scope: Scope) -> Vec<LogLine> {
        let texts = if self.unit(scope).is_some_and(|unit| query::is_of(app, unit)) {
            self.texts()
        } else {
            self.dropped_of(app, scope).into_iter().collect()
        };
        let (at, count) = (self.at(), texts.len());
        let place = |number| self.cursor().map(|entry| cursor::behind_line(entry, number + 1, count));
        texts.into_iter().enumerate().map(|(number, text)| LogLine { at, text, cursor: place(number) }).collect()
    }

    /// The message as lines.
    pub fn texts(&self) -> Vec<String> {
        if let Some(bytes) = self.too_long {
            return vec![format!("… a message of about {} KiB is left out …", bytes >> 10)];
        }
        self.message.0.iter().flat_map(|value| split(value)).collect()
    }

    fn dropped_of(&self, app: &AppId, scope: Scope) -> Option<String> {
        let object = match scope {
            Scope::System => &self.object,
            Scope::User { .. } => &self.user_object,
        };
        // Only journald itself has this transport; the other fields anybody could send.
        let journald = self.transport.one() == Some("driver") && self.message_id.one() == Some(DROPPED_ID);
        if !journald || !object.one().is_some_and(|unit| query::is_of(app, unit)) {
            return None;
        }
        let count =
            self.dropped.one().filter(|count| count.bytes().all(|byte| byte.is_ascii_digit())).unwrap_or("some");
        Some(format!("… {count} lines were dropped by the journal: they came faster than its rate limit …"))
    }
}

fn split(message: &[u8]) -> Vec<String> {
    let message = message.strip_suffix(b"\n").unwrap_or(message);
    message.split(|byte| *byte == b'\n').map(|line| text(line, LINE_MAX)).collect()
}

fn text(line: &[u8], max: usize) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut text = String::from_utf8_lossy(&line[..line.len().min(max)]).into_owned();
    cut(&mut text, max);
    text
}

/// Shortens a text to so many bytes.
pub fn cut(text: &mut String, max: usize) {
    text.truncate(text.floor_char_boundary(max));
}

/// The value of a simple field in a piece of JSON. Within a string a quote is escaped, so `"NAME":"` is never text.
fn value_in(piece: &[u8], name: &str) -> Option<String> {
    let key = format!("\"{name}\":\"");
    let at = piece.windows(key.len()).position(|window| window == key.as_bytes())? + key.len();
    let length = piece[at..].iter().position(|byte| *byte == b'"')?;
    String::from_utf8(piece[at..at + length].to_vec()).ok()
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, null, bytes, or an array of them")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Field, E> {
        Ok(Field(vec![text.as_bytes().to_vec()]))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Field, E> {
        Ok(Field::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Field, A::Error> {
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        while let Some(item) = items.next_element()? {
            match item {
                Item::Byte(byte) => bytes.push(byte),
                Item::Values(more) => values.extend(more),
            }
        }
        if !bytes.is_empty() {
            values.push(bytes);
        }
        Ok(Field(values))
    }
}

/// An element of a field that is an array.
enum Item {
    Byte(u8),
    Values(Vec<Vec<u8>>),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a byte, a string, null or bytes")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Item, E> {
        u8::try_from(number).map(Item::Byte).map_err(|_| E::custom("a byte is at most 255"))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Item, E> {
        // Some versions print bytes as signed numbers.
        i8::try_from(number).map(|byte| Item::Byte(byte.cast_unsigned())).map_err(|_| E::custom("no byte"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Item, E> {
        Ok(Item::Values(vec![text.as_bytes().to_vec()]))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Item, E> {
        Ok(Item::Values(Vec::new()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Item, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = items.next_element()? {
            bytes.push(byte);
        }
        Ok(Item::Values(vec![bytes]))
    }
}

#[cfg(test)]
mod tests;
