//! Stored instances of the worker's ledger.
//!
//! Version 2 knows what was asked for on the host itself; a reader of version 1 would start again what it stopped.

use nbs_core::database::Made;
use nbs_core::id::{Epoch, Generation, Run, Seq};
use nbs_core::name::{AppId, RuntimeName};
use nbs_core::observation::Identity;
use nbs_core::phase::Phase;
use nbs_core::recipe::Adapter;
use nbs_core::record::{LedgerGoal, LedgerRow, UpgradeNote};
use nbs_core::time::Wall;
use serde::{Deserialize, Serialize};

use crate::wire::record::{
    Cipher, DropShape, LocalShape, Place, ReasonShape, RowError, RunShape, name, read, word, write,
};

const VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
struct InstanceShape {
    v: u32,
    app: String,
    epoch: u64,
    generation: u64,
    intent_seq: u64,
    goal: GoalShape,
    run: String,
    run_generation: u64,
    /// Rows from before there was a choice have none.
    #[serde(default = "process")]
    adapter: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made_in: Option<String>,
    hooks_done: u32,
    hook_begun: bool,
    #[serde(default)]
    in_turn: bool,
    /// Whether its database has a role of its own, where one was prepared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    own_role: Option<bool>,
    port: Option<u16>,
    identity: Option<IdentityShape>,
    phase: String,
    since: u64,
    reason: Option<ReasonShape>,
    restarts: u32,
    last_log: Vec<String>,
    #[serde(default)]
    turn: u64,
    #[serde(default)]
    local: Option<LocalShape>,
    #[serde(default)]
    shelved: Option<RunShape>,
    /// Not in rows of versions before it, which knew no upgrades.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upgrade: Option<UpgradeShape>,
}

#[derive(Serialize, Deserialize, Default)]
struct UpgradeShape {
    begun: u64,
    steps: u32,
    done: u64,
    asked: u64,
    installed: Option<String>,
}

impl UpgradeShape {
    fn of(note: &UpgradeNote) -> Self {
        Self {
            begun: note.begun.0,
            steps: note.steps,
            done: note.done.0,
            asked: note.asked.0,
            installed: note.installed.clone(),
        }
    }

    fn into_note(self) -> UpgradeNote {
        UpgradeNote {
            begun: Seq(self.begun),
            steps: self.steps,
            done: Seq(self.done),
            asked: Seq(self.asked),
            installed: self.installed,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "be", rename_all = "lowercase")]
enum GoalShape {
    Run(RunShape),
    Stop,
    Remove {
        purge_data: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        drop: Option<DropShape>,
    },
}

#[derive(Serialize, Deserialize)]
struct IdentityShape {
    pid: u32,
    start_ticks: u64,
    boot: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    invocation: Option<String>,
}

fn process() -> String {
    Adapter::Process.as_str().into()
}

/// The shelved goal has secrets of its own: an older spec may have others.
fn shelf(app: &AppId) -> Place<'_> {
    Place { kind: "shelved", app }
}

/// Writes an instance of the worker's ledger. A turn is not kept: after a restart of the daemon it must be granted again.
///
/// # Errors
/// The cipher refused.
pub fn write_instance(row: &LedgerRow, cipher: &dyn Cipher) -> Result<String, RowError> {
    let place = Place { kind: "instance", app: &row.app };
    let goal = match &row.goal {
        LedgerGoal::Run(goal) => GoalShape::Run(RunShape::of(goal, cipher, place)?),
        LedgerGoal::Stop => GoalShape::Stop,
        LedgerGoal::Remove { purge_data, drop } => GoalShape::Remove {
            purge_data: *purge_data,
            drop: drop.as_ref().map(|drop| DropShape::of(drop, cipher, place)).transpose()?,
        },
    };
    let identity = row.identity.as_ref().map(|identity| IdentityShape {
        pid: identity.pid,
        start_ticks: identity.start_ticks,
        boot: identity.boot.clone(),
        invocation: identity.invocation.clone(),
    });
    write(&InstanceShape {
        v: VERSION,
        app: row.app.to_string(),
        epoch: row.epoch.0,
        generation: row.generation.0,
        intent_seq: row.intent_seq.0,
        goal,
        run: row.run.to_string(),
        run_generation: row.run_generation.0,
        adapter: row.adapter.as_str().into(),
        made_in: row.made_in.as_ref().map(ToString::to_string),
        hooks_done: row.hooks_done,
        hook_begun: row.hook_begun,
        in_turn: row.in_turn,
        own_role: row.database.map(|made| made.own_role),
        port: row.port,
        identity,
        phase: row.phase.as_str().into(),
        since: row.since.0,
        reason: row.reason.as_ref().map(ReasonShape::of),
        restarts: row.restarts,
        last_log: row.last_log.clone(),
        turn: row.turn,
        local: row.local.as_ref().map(LocalShape::of),
        upgrade: Some(&row.upgrade).filter(|note| **note != UpgradeNote::default()).map(UpgradeShape::of),
        shelved: row.shelved.as_ref().map(|goal| RunShape::of(goal, cipher, shelf(&row.app))).transpose()?,
    })
}

/// Reads an instance of the worker's ledger.
///
/// # Errors
/// The row is damaged or newer, or its secrets are not for it.
pub fn read_instance(text: &str, cipher: &dyn Cipher) -> Result<LedgerRow, RowError> {
    let shape: InstanceShape = read(text, VERSION)?;
    let app = name(AppId::parse(&shape.app))?;
    let place = Place { kind: "instance", app: &app };
    let goal = match shape.goal {
        GoalShape::Run(run) => LedgerGoal::Run(run.into_goal(cipher, place, None)?),
        GoalShape::Stop => LedgerGoal::Stop,
        GoalShape::Remove { purge_data, drop } => {
            LedgerGoal::Remove { purge_data, drop: drop.map(|drop| drop.into_drop(cipher, place)).transpose()? }
        }
    };
    let identity = shape.identity.map(|i| Identity {
        pid: i.pid,
        start_ticks: i.start_ticks,
        boot: i.boot,
        invocation: i.invocation,
    });
    let shelved = shape.shelved.map(|run| run.into_goal(cipher, shelf(&app), None)).transpose()?;
    Ok(LedgerRow {
        epoch: Epoch(shape.epoch),
        generation: Generation(shape.generation),
        intent_seq: Seq(shape.intent_seq),
        goal,
        run: word("run", &shape.run, Run::parse(&shape.run))?,
        run_generation: Generation(shape.run_generation),
        adapter: word("adapter", &shape.adapter, Adapter::parse(&shape.adapter))?,
        made_in: shape.made_in.map(|text| name(RuntimeName::parse(&text))).transpose()?,
        hooks_done: shape.hooks_done,
        hook_begun: shape.hook_begun,
        in_turn: shape.in_turn,
        database: shape.own_role.map(|own_role| Made { own_role }),
        port: shape.port,
        identity,
        phase: word("phase", &shape.phase, Phase::parse(&shape.phase))?,
        since: Wall(shape.since),
        reason: shape.reason.map(ReasonShape::into_reason).transpose()?,
        restarts: shape.restarts,
        last_log: shape.last_log,
        turn: shape.turn,
        local: shape.local.map(LocalShape::into_local).transpose()?,
        shelved,
        upgrade: shape.upgrade.unwrap_or_default().into_note(),
        app,
    })
}
