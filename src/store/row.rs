//! From changes to statements: what is written, into which table.

use nbs_core::id::Seq;
use nbs_core::record::{AppRow, Change};
use rusqlite::{CachedStatement, Connection, params};
use serde::{Deserialize, Serialize};

use crate::ports::TokenRow;
use crate::security::Sealer;
use crate::wire::hex;
use crate::wire::record::{self, RowError};

/// One row to be, or not to be any more.
pub(crate) enum Write {
    App { name: String, seq: i64, body: String },
    Operation { seq: i64, id: String, app: String, ended: bool, body: String },
    Event { seq: i64, app: Option<String>, body: String },
    Key { actor: String, key: String, at: i64, body: String },
    Boot { boot: String },
    Instance { app: String, body: String },
    ForgetInstance { app: String },
    AddToken { name: String, body: String },
    RemoveToken { name: String },
    Fact { kind: Kind, name: String, body: String },
    ForgetFact { kind: Kind, name: String },
}

/// The kinds of rows in the table `facts`. A further kind is a step of the schema: an unknown one is damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The last reign of the entry; nameless.
    Epoch,
    /// The last name of the daemon's own environment; nameless.
    Own,
    /// Who the worker follows; nameless.
    Follows,
    /// An environment, by its name.
    Environment,
    /// A turn, by its app.
    Grant,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Epoch, Self::Own, Self::Follows, Self::Environment, Self::Grant];

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Epoch => "epoch",
            Self::Own => "own",
            Self::Follows => "follows",
            Self::Environment => "environment",
            Self::Grant => "grant",
        }
    }
}

/// The engine's numbers have a sign.
fn signed(number: u64) -> Result<i64, RowError> {
    i64::try_from(number).map_err(|_| RowError::Damaged(format!("the number {number} is too large for the record")))
}

/// The highest number of a command that an app's row knows of.
fn highest(row: &AppRow) -> Seq {
    let placed = row.placements.iter().map(|placement| placement.start_seq.max(placement.since));
    placed.fold(row.intent_seq, Seq::max)
}

/// FNV-1a over the body: any single changed byte changes it. The sum finds damage; it is no defence against an enemy.
pub(crate) fn sum(body: &str) -> i64 {
    let mix = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    body.bytes().fold(0xcbf2_9ce4_8422_2325, mix).cast_signed()
}

impl Write {
    pub(crate) fn of(change: &Change, sealer: &Sealer) -> Result<Self, RowError> {
        Ok(match change {
            Change::App(row) => Self::App {
                name: row.spec.name.to_string(),
                seq: signed(highest(row).0)?,
                body: record::write_app(row, sealer)?,
            },
            Change::Operation(row) => Self::Operation {
                seq: signed(row.view.seq.0)?,
                id: row.view.id.to_string(),
                app: row.view.app.to_string(),
                ended: row.view.status.has_ended(),
                body: record::write_operation(row)?,
            },
            Change::Event(row) => Self::Event {
                seq: signed(row.seq)?,
                app: row.app.as_ref().map(ToString::to_string),
                body: record::write_event(row)?,
            },
            Change::Key(row) => Self::Key {
                actor: row.actor.clone(),
                key: row.key.clone(),
                at: signed(row.at.0)?,
                body: record::write_key(row)?,
            },
            Change::Boot(boot) => Self::Boot { boot: boot.clone() },
            Change::Instance(row) => {
                Self::Instance { app: row.app.to_string(), body: record::write_instance(row, sealer)? }
            }
            Change::ForgetInstance(app) => Self::ForgetInstance { app: app.to_string() },
            Change::Reign(epoch) => Self::fact(Kind::Epoch, "", record::write_epoch(*epoch)?),
            Change::OwnEnvironment(name) => Self::fact(Kind::Own, "", record::write_own_environment(name)?),
            Change::Follow(reign) => Self::fact(Kind::Follows, "", record::write_reign(reign)?),
            Change::Environment(row) => {
                Self::fact(Kind::Environment, row.name.as_str(), record::write_environment(row)?)
            }
            Change::ForgetEnvironment(name) => Self::ForgetFact { kind: Kind::Environment, name: name.to_string() },
            Change::Grant(row) => Self::fact(Kind::Grant, row.app.as_str(), record::write_grant(row)?),
            Change::GrantEnd(app) => Self::ForgetFact { kind: Kind::Grant, name: app.to_string() },
        })
    }

    fn fact(kind: Kind, name: &str, body: String) -> Self {
        Self::Fact { kind, name: name.into(), body }
    }

    pub(crate) fn add_token(token: &TokenRow) -> Result<Self, RowError> {
        Ok(Self::AddToken { name: token.name.clone(), body: write_token(token)? })
    }

    /// The highest sequence number of a command that this row knows of.
    pub(crate) fn seq(&self) -> i64 {
        match self {
            Self::App { seq, .. } | Self::Operation { seq, .. } => *seq,
            _ => 0,
        }
    }

    /// Whether the tables that are pruned grow by it.
    pub(crate) fn grows(&self) -> bool {
        matches!(self, Self::Operation { .. } | Self::Event { .. } | Self::Key { .. })
    }

    /// Executes it within the transaction that is open. Tells whether a row was changed.
    pub(crate) fn apply(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let prepare = |sql| -> rusqlite::Result<CachedStatement<'_>> { connection.prepare_cached(sql) };
        let changed = match self {
            Self::App { name, body, .. } => prepare(
                "INSERT INTO apps (name, sum, body) VALUES (?1, ?2, ?3)
                 ON CONFLICT (name) DO UPDATE SET sum = excluded.sum, body = excluded.body",
            )?
            .execute(params![name, sum(body), body])?,
            // A number with another ID would be another operation: then nothing changes, and the writer refuses.
            Self::Operation { seq, id, app, ended, body } => prepare(
                "INSERT INTO operations (seq, id, app, ended, sum, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (seq) DO UPDATE SET ended = excluded.ended, sum = excluded.sum, body = excluded.body
                 WHERE id = excluded.id",
            )?
            .execute(params![seq, id, app, ended, sum(body), body])?,
            Self::Event { seq, app, body } => prepare(
                "INSERT INTO events (seq, app, sum, body) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (seq) DO UPDATE SET app = excluded.app, sum = excluded.sum, body = excluded.body",
            )?
            .execute(params![seq, app, sum(body), body])?,
            Self::Key { actor, key, at, body } => prepare(
                "INSERT INTO keys (actor, key, at, sum, body) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (actor, key) DO UPDATE SET at = excluded.at, sum = excluded.sum, body = excluded.body",
            )?
            .execute(params![actor, key, at, sum(body), body])?,
            Self::Boot { boot } => {
                prepare("UPDATE meta SET boot = ?1, boot_sum = ?2")?.execute(params![boot, sum(boot)])?
            }
            Self::Instance { app, body } => prepare(
                "INSERT INTO instances (app, sum, body) VALUES (?1, ?2, ?3)
                 ON CONFLICT (app) DO UPDATE SET sum = excluded.sum, body = excluded.body",
            )?
            .execute(params![app, sum(body), body])?,
            Self::ForgetInstance { app } => prepare("DELETE FROM instances WHERE app = ?1")?.execute([app])?,
            Self::AddToken { name, body } => {
                prepare("INSERT INTO tokens (name, sum, body) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO NOTHING")?
                    .execute(params![name, sum(body), body])?
            }
            Self::RemoveToken { name } => prepare("DELETE FROM tokens WHERE name = ?1")?.execute([name])?,
            Self::Fact { kind, name, body } => prepare(
                "INSERT INTO facts (kind, name, sum, body) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (kind, name) DO UPDATE SET sum = excluded.sum, body = excluded.body",
            )?
            .execute(params![kind.as_str(), name, sum(body), body])?,
            Self::ForgetFact { kind, name } => {
                prepare("DELETE FROM facts WHERE kind = ?1 AND name = ?2")?.execute([kind.as_str(), name])?
            }
        };
        Ok(changed > 0)
    }
}

/// A token's row belongs to the port, not to the core, and so its shape is here.
#[derive(Serialize, Deserialize)]
struct TokenShape {
    v: u32,
    name: String,
    hash: String,
    role: String,
    created_at: u64,
}

fn write_token(token: &TokenRow) -> Result<String, RowError> {
    let shape = TokenShape {
        v: 1,
        name: token.name.clone(),
        hash: hex::encode(&token.hash),
        role: token.role.clone(),
        created_at: token.created_at.0,
    };
    serde_json::to_string(&shape).map_err(|error| RowError::Damaged(error.to_string()))
}

pub(crate) fn read_token(body: &str) -> Result<TokenRow, RowError> {
    let damaged = || RowError::Damaged("a token cannot be read".into());
    let shape: TokenShape = serde_json::from_str(body).map_err(|_| damaged())?;
    if shape.v > 1 {
        return Err(RowError::Newer { found: shape.v, supported: 1 });
    }
    let hash = hex::decode(&shape.hash).and_then(|bytes| bytes.try_into().ok()).ok_or_else(damaged)?;
    let created_at = nbs_core::time::Wall(shape.created_at);
    Ok(TokenRow { name: shape.name, hash, role: shape.role, created_at })
}
