//! Reading streams by a group: taking, acknowledging, and making the group anew.
//!
//! What is in a stream may be garbage, so answers are taken apart by hand. There is one consumer for each group, under a
//! fixed name: what a former life of the daemon took and did not finish is its own, and is read first.

use redis::{Cmd, Value};

use crate::redis_bus::link::Link;
use crate::redis_bus::trouble::{Cause, Trouble};
use crate::redis_bus::{BLOCK, COMMAND};

/// Messages taken at once.
const COUNT: usize = 128;

/// A message in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: String,
    /// Fields and values that are text; none if the stream has dropped it meanwhile.
    pub(super) fields: Vec<(String, String)>,
}

impl Message {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A stream, as one group reads it.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    key: String,
    group: &'static str,
    /// Whether what was taken earlier has been read.
    caught_up: bool,
}

impl Reader {
    pub(super) fn new(key: &str, group: &'static str) -> Self {
        Self { key: key.into(), group, caught_up: false }
    }

    /// What was taken and not acknowledged is to be read again.
    pub(super) fn rewind(&mut self) {
        self.caught_up = false;
    }

    /// The next messages; none if nothing came for a while. The group is made if it is not there.
    pub(super) async fn next(&mut self, link: &Link) -> Result<Vec<Message>, Trouble> {
        match self.read(link).await {
            Err(trouble) if trouble.cause == Cause::NoGroup => {
                self.make_group(link).await?;
                Ok(Vec::new())
            }
            Err(trouble) if trouble.cause == Cause::WrongType => {
                link.ask(redis::cmd("DEL").arg(&self.key)).await?;
                self.make_group(link).await?;
                Ok(Vec::new())
            }
            Err(trouble) => {
                self.rewind();
                Err(trouble)
            }
            Ok(messages) => {
                self.caught_up |= messages.is_empty();
                Ok(messages)
            }
        }
    }

    async fn read(&self, link: &Link) -> Result<Vec<Message>, Trouble> {
        let mut cmd = redis::cmd("XREADGROUP");
        cmd.arg("GROUP").arg(self.group).arg(self.group).arg("COUNT").arg(COUNT);
        let limit = match self.caught_up {
            true => {
                cmd.arg("BLOCK").arg(BLOCK.as_millis() as u64);
                BLOCK + std::time::Duration::from_secs(1)
            }
            false => COMMAND,
        };
        cmd.arg("STREAMS").arg(&self.key).arg(if self.caught_up { ">" } else { "0" });
        Ok(messages(&link.wait(&cmd, limit).await?))
    }

    async fn make_group(&mut self, link: &Link) -> Result<(), Trouble> {
        let mut cmd = redis::cmd("XGROUP");
        cmd.arg("CREATE").arg(&self.key).arg(self.group).arg("0").arg("MKSTREAM");
        self.caught_up = false;
        match link.ask(&cmd).await {
            // Somebody was faster.
            Err(trouble) if trouble.text.contains("BUSYGROUP") => Ok(()),
            other => other.map(drop),
        }
    }

    /// The command that says that messages were handed over.
    pub(super) fn acknowledge(&self, ids: &[String]) -> Cmd {
        let mut cmd = redis::cmd("XACK");
        cmd.arg(&self.key).arg(self.group).arg(ids);
        cmd
    }
}

/// Takes the answer of a read of one stream apart.
fn messages(answer: &Value) -> Vec<Message> {
    let Value::Array(streams) = answer else { return Vec::new() };
    let Some(Value::Array(stream)) = streams.first() else { return Vec::new() };
    let Some(Value::Array(entries)) = stream.get(1) else { return Vec::new() };
    entries.iter().filter_map(message).collect()
}

fn message(entry: &Value) -> Option<Message> {
    let Value::Array(parts) = entry else { return None };
    let id = parts.first().and_then(text)?;
    let fields = match parts.get(1) {
        Some(Value::Array(fields)) => {
            let pairs = fields.chunks_exact(2);
            pairs.filter_map(|pair| Some((text(&pair[0])?, text(&pair[1])?))).collect()
        }
        _ => Vec::new(),
    };
    Some(Message { id, fields })
}

/// A text, if it is one.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        Value::Okay => Some("OK".into()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(bytes: &[u8]) -> Value {
        Value::BulkString(bytes.to_vec())
    }

    #[test]
    fn garbage_in_a_stream_is_read_as_messages_without_the_fields_that_are_no_text() {
        let fields = Value::Array(vec![bulk(b"m"), bulk(b"\xff"), bulk(b"e"), bulk(b"env_a"), bulk(b"odd")]);
        let kept = Value::Array(vec![bulk(b"1-1"), fields]);
        let dropped = Value::Array(vec![bulk(b"1-2"), Value::Nil]);
        let answer = Value::Array(vec![Value::Array(vec![bulk(b"key"), Value::Array(vec![kept, dropped])])]);
        let messages = messages(&answer);
        assert_eq!(messages.len(), 2);
        assert_eq!((messages[0].field("e"), messages[0].field("m")), (Some("env_a"), None));
        assert_eq!(messages[1], Message { id: "1-2".into(), fields: Vec::new() });
    }

    #[test]
    fn an_answer_of_another_shape_has_no_messages() {
        for answer in [Value::Nil, Value::Int(1), Value::Array(vec![Value::Nil]), Value::Array(vec![])] {
            assert_eq!(messages(&answer), Vec::new());
        }
    }
}
