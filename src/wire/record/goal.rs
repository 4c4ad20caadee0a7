//! Parts that several kinds of records have: what to run, why something is not well, and a word given on the host.

use nbs_core::id::Seq;
use nbs_core::order::{DropGoal, LocalAction, LocalOverride, RunGoal, Turn};
use nbs_core::reason::{Reason, ReasonCode};
use nbs_core::secret::SecretText;
use nbs_core::time::Wall;
use serde::{Deserialize, Serialize};

use crate::wire::record::{Cipher, Place, RowError, word};
use crate::wire::stored_spec::{DatabaseShape, SpecShape};

/// What to run. A turn is no part of it: who stores it must ask again, who sends it says it beside.
#[derive(Serialize, Deserialize)]
pub(crate) struct RunShape {
    start_seq: u64,
    /// Not in what versions before upgrades wrote; so is the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upgrade_seq: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    installed: Option<String>,
    jwt: String,
    /// Not in rows and words of versions before there were databases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    db_secret: Option<String>,
    spec: Box<SpecShape>,
}

impl RunShape {
    pub(crate) fn of(goal: &RunGoal, cipher: &dyn Cipher, place: Place<'_>) -> Result<Self, RowError> {
        Ok(Self {
            start_seq: goal.start_seq.0,
            upgrade_seq: Some(goal.upgrade_seq.0).filter(|seq| *seq > 0),
            installed: goal.installed.clone(),
            jwt: place.seal(cipher, "jwt", &goal.jwt)?,
            db_secret: seal_some(cipher, place, &goal.db_secret)?,
            spec: Box::new(SpecShape::of(&goal.spec, cipher, place)?),
        })
    }

    pub(crate) fn into_goal(
        self,
        cipher: &dyn Cipher,
        place: Place<'_>,
        turn: Option<Turn>,
    ) -> Result<RunGoal, RowError> {
        let spec = self.spec.into_spec(cipher, place)?;
        if spec.name != *place.app {
            return Err(RowError::Damaged(format!("it is of {} and would run {}", place.app, spec.name)));
        }
        Ok(RunGoal {
            start_seq: Seq(self.start_seq),
            upgrade_seq: Seq(self.upgrade_seq.unwrap_or_default()),
            installed: self.installed,
            jwt: place.open(cipher, "jwt", &self.jwt)?,
            db_secret: open_some(cipher, place, self.db_secret.as_deref())?,
            spec: spec.into(),
            turn,
        })
    }
}

/// A secret for databases, if there is one.
pub(crate) fn seal_some(
    cipher: &dyn Cipher,
    place: Place<'_>,
    secret: &SecretText,
) -> Result<Option<String>, RowError> {
    let there = Some(secret).filter(|secret| !secret.expose().is_empty());
    there.map(|secret| place.seal(cipher, "db_secret", secret)).transpose()
}

/// What `seal_some` wrote.
pub(crate) fn open_some(cipher: &dyn Cipher, place: Place<'_>, sealed: Option<&str>) -> Result<SecretText, RowError> {
    sealed.map_or_else(|| Ok(SecretText::new("")), |sealed| place.open(cipher, "db_secret", sealed))
}

/// What is to be dropped on a database server.
#[derive(Serialize, Deserialize)]
pub(crate) struct DropShape {
    database: DatabaseShape,
    db_secret: Option<String>,
}

impl DropShape {
    pub(crate) fn of(drop: &DropGoal, cipher: &dyn Cipher, place: Place<'_>) -> Result<Self, RowError> {
        Ok(Self {
            database: DatabaseShape::of(&drop.database, cipher, place)?,
            db_secret: seal_some(cipher, place, &drop.db_secret)?,
        })
    }

    pub(crate) fn into_drop(self, cipher: &dyn Cipher, place: Place<'_>) -> Result<DropGoal, RowError> {
        Ok(DropGoal {
            database: self.database.into_database(cipher, place)?,
            db_secret: open_some(cipher, place, self.db_secret.as_deref())?,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ReasonShape {
    pub(crate) code: String,
    pub(crate) text: String,
}

impl ReasonShape {
    pub(crate) fn of(reason: &Reason) -> Self {
        Self { code: reason.code.code().into(), text: reason.text.clone() }
    }

    pub(crate) fn into_reason(self) -> Result<Reason, RowError> {
        Ok(Reason::new(word("reason", &self.code, ReasonCode::parse(&self.code))?, self.text))
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct LocalShape {
    pub(crate) action: String,
    pub(crate) actor: String,
    pub(crate) at: u64,
}

impl LocalShape {
    pub(crate) fn of(local: &LocalOverride) -> Self {
        Self { action: local.action.as_str().into(), actor: local.actor.clone(), at: local.at.0 }
    }

    pub(crate) fn into_local(self) -> Result<LocalOverride, RowError> {
        let action = word("action", &self.action, LocalAction::parse(&self.action))?;
        Ok(LocalOverride { action, actor: self.actor, at: Wall(self.at) })
    }
}
