//! Stored apps.
//!
//! Version 2 gives each environment of the app its own intent and start; version 1 had one for all of them. Upgrades and moves
//! that are under way came later, and are absent from rows that have none.

use nbs_core::id::{Generation, Seq};
use nbs_core::intent::Intent;
use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::record::{AppLife, AppRow, MoveRow, PlacementRow, UpgradeRow};
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upgrade: Option<UpgradeShape>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    moving: Option<Box<MoveShape>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    installed: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct UpgradeShape {
    seq: u64,
    environment: String,
    go: bool,
    automatic: bool,
}

#[derive(Serialize, Deserialize)]
struct MoveShape {
    seq: u64,
    former: SpecShape,
    placements: Vec<PlacementShape>,
    #[serde(default)]
    back: Option<String>,
}

/// The former spec has secrets of its own.
fn former(app: &AppId) -> Place<'_> {
    Place { kind: "former", app }
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

impl UpgradeShape {
    fn into_row(self) -> Result<UpgradeRow, RowError> {
        let environment = name(EnvironmentName::parse(&self.environment))?;
        Ok(UpgradeRow { seq: Seq(self.seq), environment, go: self.go, automatic: self.automatic })
    }
}

impl MoveShape {
    fn of(row: &MoveRow, cipher: &dyn Cipher) -> Result<Self, RowError> {
        Ok(Self {
            seq: row.seq.0,
            former: SpecShape::of(&row.former, cipher, former(&row.former.name))?,
            placements: row.placements.iter().map(PlacementShape::of).collect(),
            back: row.back.clone(),
        })
    }

    fn into_row(self, cipher: &dyn Cipher, app: &AppId) -> Result<MoveRow, RowError> {
        Ok(MoveRow {
            seq: Seq(self.seq),
            former: self.former.into_spec(cipher, former(app))?.into(),
            placements: self.placements.into_iter().map(PlacementShape::into_row).collect::<Result<_, _>>()?,
            back: self.back,
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
        upgrade: row.upgrade.as_ref().map(|upgrade| UpgradeShape {
            seq: upgrade.seq.0,
            environment: upgrade.environment.to_string(),
            go: upgrade.go,
            automatic: upgrade.automatic,
        }),
        moving: row.moving.as_ref().map(|moving| MoveShape::of(moving, cipher)).transpose()?.map(Box::new),
        installed: row.installed.clone(),
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
        upgrade: shape.upgrade.map(UpgradeShape::into_row).transpose()?,
        moving: shape.moving.map(|moving| moving.into_row(cipher, &app)).transpose()?.map(Box::new),
        installed: shape.installed,
        spec: spec.into(),
    })
}
