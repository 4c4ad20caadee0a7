//! What must survive: the rows of the entry's record and of the worker's ledger, and the changes to them.
//!
//! Memory is these rows plus what can be derived or observed again. A command is decided into changes, the changes are
//! committed, and only then answered.

use crate::database::Made;
use crate::id::{Epoch, Generation, OperationId, Reign, Run, Seq};
use crate::intent::Intent;
use crate::name::{AppId, EnvironmentName, RuntimeName};
use crate::observation::Identity;
use crate::order::{DropGoal, LocalOverride, Registration, RunGoal};
use crate::phase::Phase;
use crate::reason::Reason;
use crate::recipe::Adapter;
use crate::secret::SecretText;
use crate::spec::AppSpec;
use crate::time::Wall;
use crate::view::{EventView, OperationView};
use std::sync::Arc;

/// An app in the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRow {
    /// What it is.
    pub spec: Arc<AppSpec>,
    /// Version of the spec.
    pub generation: Generation,
    /// Its generated secret.
    pub jwt: SecretText,
    /// Its secret for databases: mark and password on the server follow from it, so it stays when the app is removed. Empty
    /// in rows from before there were databases, until the spec is changed.
    pub db_secret: SecretText,
    /// Last accepted command.
    pub intent_seq: Seq,
    /// Where it is, in the order of names: the spec's environments, and those that it is leaving.
    pub placements: Vec<PlacementRow>,
    /// When it was made.
    pub created_at: Wall,
    /// How far out it is.
    pub life: AppLife,
    /// An upgrade that has not ended well yet. Until then the app runs nowhere else.
    pub upgrade: Option<UpgradeRow>,
    /// A move that is under way.
    pub moving: Option<Box<MoveRow>>,
    /// The version on disk when it last ran.
    pub installed: Option<String>,
}

/// An upgrade of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeRow {
    /// The start that it is part of.
    pub seq: Seq,
    /// Where its steps run.
    pub environment: EnvironmentName,
    /// Everything else of the app is stopped, and the steps may run.
    pub go: bool,
    /// Nobody asked for it: another version was found on disk.
    pub automatic: bool,
}

/// A move of an app, with the way back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveRow {
    /// The command that asked for it.
    pub seq: Seq,
    /// The spec before it.
    pub former: Arc<AppSpec>,
    /// Where the app was before it.
    pub placements: Vec<PlacementRow>,
    /// Why it is on its way back, if it is.
    pub back: Option<String>,
}

/// An app in one environment, in the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementRow {
    /// Where.
    pub environment: EnvironmentName,
    /// What should be there.
    pub intent: Intent,
    /// Last command that asked for a (re)start there.
    pub start_seq: Seq,
    /// The command that put the app there.
    pub since: Seq,
    /// The spec names this environment no more; what is there must go before the app starts elsewhere.
    pub leaving: bool,
}

impl AppRow {
    /// What should be, over all its environments: the most that any of them should do.
    pub fn intent(&self) -> Intent {
        let rank = |intent: &Intent| match intent {
            Intent::Stop => 0,
            Intent::OnDemand { awake: false } => 1,
            Intent::OnDemand { awake: true } => 2,
            Intent::Run => 3,
        };
        let stays = self.placements.iter().filter(|placement| !placement.leaving);
        stays.map(|placement| placement.intent).max_by_key(rank).unwrap_or(Intent::Stop)
    }

    /// Its place in one environment.
    pub fn placement(&self, environment: &EnvironmentName) -> Option<&PlacementRow> {
        self.placements.iter().find(|placement| placement.environment == *environment)
    }

    /// The same, to change.
    pub fn placement_mut(&mut self, environment: &EnvironmentName) -> Option<&mut PlacementRow> {
        self.placements.iter_mut().find(|placement| placement.environment == *environment)
    }
}

/// An environment in the record of the entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentRow {
    /// Its name.
    pub name: EnvironmentName,
    /// What it last said of itself.
    pub registration: Registration,
    /// Whether it is to get no new starts.
    pub draining: bool,
    /// When it was last heard, for display.
    pub heard_at: Wall,
}

/// A turn of an app with several environments. Kept, so that an entry that comes back does not grant another one beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRow {
    /// Which app.
    pub app: AppId,
    /// Where.
    pub environment: EnvironmentName,
    /// For which start.
    pub start_seq: Seq,
}

/// Whether an app is there, going, or gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppLife {
    /// There.
    Kept,
    /// Being removed.
    Removing {
        /// Whether its data goes too.
        purge_data: bool,
    },
    /// Gone; the row remains so that its name is not reused silently and its generation continues.
    Removed,
}

/// An operation in the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationRow {
    /// What readers see.
    pub view: OperationView,
    /// For a start: the (re)start it waits for.
    pub start_seq: Seq,
}

/// A remembered idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Whose key.
    pub actor: String,
    /// The key.
    pub key: String,
    /// Hash of the request.
    pub request: [u8; 32],
    /// What came of it.
    pub operation: OperationId,
    /// When.
    pub at: Wall,
}

/// An instance in the worker's ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// Which app.
    pub app: AppId,
    /// Reign of the last order.
    pub epoch: Epoch,
    /// Spec version of the last order.
    pub generation: Generation,
    /// Command of the last order.
    pub intent_seq: Seq,
    /// What it should be. `turn` is not kept.
    pub goal: LedgerGoal,
    /// The last life begun.
    pub run: Run,
    /// Spec version of that life.
    pub run_generation: Generation,
    /// Who runs it.
    pub adapter: Adapter,
    /// The runtime whose host has it among its apps, whether it runs there or not.
    pub made_in: Option<RuntimeName>,
    /// Prepare hooks that are done.
    pub hooks_done: u32,
    /// A prepare hook that was begun and has not reported its end.
    pub hook_begun: bool,
    /// Whether its start is still in the turn that the entry granted.
    pub in_turn: bool,
    /// What was found of its database when it was last prepared.
    pub database: Option<Made>,
    /// Port reserved for it.
    pub port: Option<u16>,
    /// Its process.
    pub identity: Option<Identity>,
    /// Phase when last remembered.
    pub phase: Phase,
    /// Since when.
    pub since: Wall,
    /// Why.
    pub reason: Option<Reason>,
    /// Automatic restarts since the last command.
    pub restarts: u32,
    /// Last lines before the last unwanted end.
    pub last_log: Vec<String>,
    /// The last turn that was taken, in the reign of `epoch`.
    pub turn: u64,
    /// What somebody asked for on the host itself, since the last order.
    pub local: Option<LocalOverride>,
    /// What it was to run, while it is to be stopped: shown by a host that is on its own, and what a local restart after a
    /// local stop goes on with.
    pub shelved: Option<RunGoal>,
    /// How far upgrades are.
    pub upgrade: UpgradeNote,
}

/// What the ledger remembers of the upgrades of one instance. A step that runs is `LedgerRow::hook_begun` in the phase
/// `Upgrading`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpgradeNote {
    /// The last start whose upgrade was begun. It is never begun again.
    pub begun: Seq,
    /// Its steps that are done.
    pub steps: u32,
    /// The last start whose upgrade has ended well.
    pub done: Seq,
    /// The last start for which it was asked which version is on disk.
    pub asked: Seq,
    /// The answer, if there was one.
    pub installed: Option<String>,
}

/// What an instance should be, as its worker remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerGoal {
    /// Run.
    Run(RunGoal),
    /// Be stopped.
    Stop,
    /// Be gone.
    Remove {
        /// Whether its data goes too.
        purge_data: bool,
        /// What is to be dropped on a database server.
        drop: Option<DropGoal>,
    },
}

/// A change to what must survive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An app is new or other than before.
    App(Box<AppRow>),
    /// An operation is new or further.
    Operation(Box<OperationRow>),
    /// Something happened.
    Event(Box<EventView>),
    /// An idempotency key was used.
    Key(Box<KeyRow>),
    /// The daemon has seen this boot of its own host.
    Boot(String),
    /// The entry begins this reign.
    Reign(Epoch),
    /// The name of the daemon's own environment.
    OwnEnvironment(EnvironmentName),
    /// An environment is new or other than before.
    Environment(Box<EnvironmentRow>),
    /// An environment is forgotten.
    ForgetEnvironment(EnvironmentName),
    /// A turn was granted to an app with several environments.
    Grant(GrantRow),
    /// It is over.
    GrantEnd(AppId),
    /// The worker follows this entry.
    Follow(Reign),
    /// An instance is new or other than before.
    Instance(Box<LedgerRow>),
    /// An instance is gone.
    ForgetInstance(AppId),
}

/// What a record held when it was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Every app, removed ones included.
    pub apps: Vec<AppRow>,
    /// Every operation that has not ended, and the newest that have.
    pub operations: Vec<OperationRow>,
    /// The newest events, oldest first.
    pub events: Vec<EventView>,
    /// Idempotency keys that still count.
    pub keys: Vec<KeyRow>,
    /// The highest sequence number ever given.
    pub seq: Seq,
    /// The last boot that the daemon saw.
    pub boot: Option<String>,
    /// The last reign of the entry.
    pub epoch: Epoch,
    /// The last name of the daemon's own environment.
    pub own_environment: Option<EnvironmentName>,
    /// Every environment that the entry knows.
    pub environments: Vec<EnvironmentRow>,
    /// Turns that had not ended.
    pub grants: Vec<GrantRow>,
    /// The entry that the worker follows.
    pub follows: Option<Reign>,
    /// The worker's ledger.
    pub instances: Vec<LedgerRow>,
}
