//! Stored apps.
//!
//! Version 2 gives each environment of the app its own intent and start; version 1 had one for all of them.

use nbs_core::id::{Generation, Seq};
use nbs_core::intent::Intent;
use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::record::{AppLife, AppRow, PlacementRow};
use nbs_core::spec::AppSpec;
use nbs_core::time::Wall;
use serde::{Deserialize, Serialize};

use crate::wire::record::goal::{open_some, seal_some};
use crate::wire::record::{Cipher, Place, RowError, name, read, word, write};
use crate::wire::stored_spec::SpecShape;

const VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
struct AppShape {
    v: u32,
    generation: u64,
    intent_seq: u64,
    #[serde(default)]
    placements: Option<Vec<PlacementShape>>,
    created_at: u64,
    life: String,
    #[serde(default)]
    purge_data: bool,
    jwt: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    db_secret: Option<String>,
    spec: SpecShape,
}

#[derive(Serialize, Deserialize)]
struct PlacementShape {
    environment: String,
    #[serde(flatten)]
    intent: IntentShape,
    since: u64,
    #[serde(default)]
    leaving: bool,
}

#[derive(Serialize, Deserialize)]
struct IntentShape {
    intent: String,
    #[serde(default)]
    awake: bool,
    start_seq: u64,
}

impl PlacementShape {
    fn of(row: &PlacementRow) -> Self {
        Self {
            environment: row.environment.to_string(),
            intent: IntentShape {
                intent: row.intent.as_str().into(),
                awake: row.intent == Intent::OnDemand { awake: true },
                start_seq: row.start_seq.0,
            },
            since: row.since.0,
            leaving: row.leaving,
        }
    }

    fn into_row(self) -> Result<PlacementRow, RowError> {
        Ok(PlacementRow {
            environment: name(EnvironmentName::parse(&self.environment))?,
            intent: self.intent.intent()?,
            start_seq: Seq(self.intent.start_seq),
            since: Seq(self.since),
            leaving: self.leaving,
        })
    }
}

impl IntentShape {
    fn intent(&self) -> Result<Intent, RowError> {
        match self.intent.as_str() {
            "run" => Ok(Intent::Run),
            "stop" => Ok(Intent::Stop),
            "on-demand" => Ok(Intent::OnDemand { awake: self.awake }),
            other => word("intent", other, None),
        }
    }

    /// A row of version 1: every environment of the spec has its one intent, and had it before any command that counts.
    fn everywhere(&self, spec: &AppSpec) -> Result<Vec<PlacementRow>, RowError> {
        let intent = self.intent()?;
        let place = |environment: &EnvironmentName| PlacementRow {
            environment: environment.clone(),
            intent,
            start_seq: Seq(self.start_seq),
            since: Seq(0),
            leaving: false,
        };
        Ok(spec.environments.iter().map(place).collect())
    }
}

/// Writes an app.
///
/// # Errors
/// The cipher refused.
pub fn write_app(row: &AppRow, cipher: &dyn Cipher) -> Result<String, RowError> {
    let place = Place { kind: "app", app: &row.spec.name };
    let (life, purge_data) = match row.life {
        AppLife::Kept => ("kept", false),
        AppLife::Removing { purge_data } => ("removing", purge_data),
        AppLife::Removed => ("removed", false),
    };
    write(&AppShape {
        v: VERSION,
        generation: row.generation.0,
        intent_seq: row.intent_seq.0,
        placements: Some(row.placements.iter().map(PlacementShape::of).collect()),
        created_at: row.created_at.0,
        life: life.into(),
        purge_data,
        jwt: place.seal(cipher, "jwt", &row.jwt)?,
        db_secret: seal_some(cipher, place, &row.db_secret)?,
        spec: SpecShape::of(&row.spec, cipher, place)?,
    })
}

/// Reads an app.
///
/// # Errors
/// The row is damaged or newer, or its secrets are not for it.
pub fn read_app(text: &str, cipher: &dyn Cipher) -> Result<AppRow, RowError> {
    let shape: AppShape = read(text, VERSION)?;
    let app = name(AppId::parse(&shape.spec.name))?;
    let place = Place { kind: "app", app: &app };
    let life = match shape.life.as_str() {
        "kept" => AppLife::Kept,
        "removing" => AppLife::Removing { purge_data: shape.purge_data },
        "removed" => AppLife::Removed,
        other => return word("life", other, None),
    };
    let spec = shape.spec.into_spec(cipher, place)?;
    let placements = match (shape.v, shape.placements) {
        (..2, _) => read::<IntentShape>(text, VERSION)?.everywhere(&spec)?,
        (_, Some(placements)) => placements.into_iter().map(PlacementShape::into_row).collect::<Result<_, _>>()?,
        (_, None) => return Err(RowError::Damaged("it says of no environment what should be there".into())),
    };
    Ok(AppRow {
        generation: Generation(shape.generation),
        jwt: place.open(cipher, "jwt", &shape.jwt)?,
        db_secret: open_some(cipher, place, shape.db_secret.as_deref())?,
        intent_seq: Seq(shape.intent_seq),
        placements,
        created_at: Wall(shape.created_at),
        life,
        spec: spec.into(),
    })
}
