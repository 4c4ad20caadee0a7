//! The scripts that run inside Redis, each a decision that must not be torn apart.
//!
//! What they find in a key may be garbage: a key of another type is deleted, a record that is none counts as missing.
//! They compare the clear fields beside a signed record; whether the record is genuine is judged here, by whoever is
//! refused, and a forged one is then overwritten by force. A script that Redis has forgotten is sent again.

use std::sync::LazyLock;

use redis::{Cmd, Value};

use crate::redis_bus::link::Link;
use crate::redis_bus::stream::text;
use crate::redis_bus::trouble::{Cause, Trouble};

/// What every script begins with.
const PRELUDE: &str = r"
local function heal(key, wanted)
  local kind = redis.call('TYPE', key)
  if type(kind) == 'table' then kind = kind['ok'] end
  if kind ~= wanted and kind ~= 'none' then redis.call('DEL', key) end
  return kind == wanted
end
local function text(key)
  if heal(key, 'string') then return redis.call('GET', key) end
  return false
end
local function whole(n)
  if type(n) == 'number' and n >= 0 and n < 9007199254740000 and n == math.floor(n) then return n end
  return nil
end
local function record(value)
  if not value then return nil end
  local ok, r = pcall(cjson.decode, value)
  if ok and type(r) == 'table' and type(r.owner) == 'string' and whole(r.epoch) then return r end
  return nil
end
";

/// KEYS entry, entry:lease; ARGV owner, epoch, value, lease ms, force.
const CLAIM: &str = r"
local value = text(KEYS[1])
local r = record(value)
if ARGV[5] ~= '1' and r and (r.owner ~= ARGV[1] or r.epoch > tonumber(ARGV[2])) then
  return {0, value, redis.call('PTTL', KEYS[2])}
end
redis.call('SET', KEYS[1], ARGV[3])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[4])
if r then return {1, 1} end
return {1, 0}
";

/// What `order` and `intent` ask first.
const FENCE: &str = r"
local r = record(text(KEYS[1]))
if not r then return {2} end
if r.owner ~= ARGV[1] or r.epoch ~= tonumber(ARGV[2]) then return {0, r.owner} end
";

/// KEYS entry, stream[, start lock]; ARGV owner, epoch, maxlen, message[, lock value, lock ms].
const ORDER: &str = r"
if #KEYS == 3 then
  local l = record(text(KEYS[3]))
  if l and l.owner ~= ARGV[1] and redis.call('PTTL', KEYS[3]) > 0 then return {3, l.owner} end
  redis.call('SET', KEYS[3], ARGV[5], 'PX', ARGV[6])
end
heal(KEYS[2], 'stream')
return {1, redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'm', ARGV[4])}
";

/// KEYS entry, intents; ARGV owner, epoch, app, message or nothing.
const INTENT: &str = r"
heal(KEYS[2], 'hash')
if ARGV[4] == '' then redis.call('HDEL', KEYS[2], ARGV[3]) else redis.call('HSET', KEYS[2], ARGV[3], ARGV[4]) end
return {1}
";

/// KEYS start lock; ARGV owner, epoch, turn.
const UNLOCK: &str = r"
local l = record(text(KEYS[1]))
if l and l.owner == ARGV[1] and l.epoch == tonumber(ARGV[2]) and l.turn == tonumber(ARGV[3]) then
  redis.call('DEL', KEYS[1])
end
return {1}
";

/// KEYS lease, epoch; ARGV owner, epoch (0 = take over), host, message, ms, force.
const LEASE: &str = r"
local value = text(KEYS[1])
local l = record(value)
local epoch = tonumber(ARGV[2])
if l and ARGV[6] ~= '1' then
  if l.owner ~= ARGV[1] then return {0, value} end
  if epoch > 0 and l.epoch > epoch then return {4, value} end
end
local top = whole(tonumber(text(KEYS[2]) or '0')) or 0
if epoch == 0 then
  if l and l.owner == ARGV[1] and l.epoch > top then top = l.epoch end
  epoch = top + 1
end
if epoch > top then redis.call('SET', KEYS[2], string.format('%.0f', epoch)) end
local lease = {owner = ARGV[1], epoch = epoch, host = ARGV[3], m = ARGV[4]}
redis.call('SET', KEYS[1], cjson.encode(lease), 'PX', ARGV[5])
return {1, string.format('%.0f', epoch)}
";

/// A script and the name that Redis knows it by.
pub(super) struct Script {
    source: String,
    hash: String,
}

impl Script {
    fn new(parts: &[&str]) -> Self {
        let source = parts.concat();
        let hash = redis::Script::new(&source).get_hash().to_string();
        Self { source, hash }
    }

    /// The command that runs it.
    pub(super) fn call(&self, keys: &[&str], arguments: &[&str]) -> Cmd {
        self.command("EVALSHA", &self.hash, keys, arguments)
    }

    fn command(&self, verb: &str, script: &str, keys: &[&str], arguments: &[&str]) -> Cmd {
        let mut cmd = redis::cmd(verb);
        cmd.arg(script).arg(keys.len()).arg(keys).arg(arguments);
        cmd
    }

    /// Runs it; if Redis does not know it, its text is sent.
    pub(super) async fn run(&self, link: &Link, keys: &[&str], arguments: &[&str]) -> Result<Answer, Trouble> {
        match link.ask(&self.call(keys, arguments)).await {
            Err(trouble) if trouble.cause == Cause::NoScript => {
                Answer::read(&link.ask(&self.command("EVAL", &self.source, keys, arguments)).await?)
            }
            other => Answer::read(&other?),
        }
    }
}

/// What a script returns: a number, and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) code: i64,
    pub(super) rest: Vec<String>,
}

impl Answer {
    pub(super) fn read(value: &Value) -> Result<Self, Trouble> {
        let parts = match value {
            Value::Array(parts) => parts.as_slice(),
            _ => &[],
        };
        match parts.split_first() {
            Some((Value::Int(code), rest)) => {
                Ok(Self { code: *code, rest: rest.iter().map(|part| text(part).unwrap_or_default()).collect() })
            }
            _ => Err(Trouble::new(Cause::Other, "a script was answered with something else")),
        }
    }

    pub(super) fn part(&self, at: usize) -> &str {
        self.rest.get(at).map_or("", String::as_str)
    }
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $($part:ident)+;)+) => {
        $($(#[$doc])* pub(super) static $name: LazyLock<Script> = LazyLock::new(|| Script::new(&[PRELUDE, $($part),+]));)+
    };
}

scripts! {
    /// Who the entry is.
    CLAIM_SCRIPT = CLAIM;
    /// An order, if this entry reigns and nobody else starts the app.
    ORDER_SCRIPT = FENCE ORDER;
    /// What should be, if this entry reigns.
    INTENT_SCRIPT = FENCE INTENT;
    /// A start lock of one's own goes.
    UNLOCK_SCRIPT = UNLOCK;
    /// Who the worker of an environment is.
    LEASE_SCRIPT = LEASE;
}
