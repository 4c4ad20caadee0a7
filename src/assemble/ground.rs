//! What every daemon stands on, whatever its role: who it is, its record, its recipes, the time, and how its loops end.

use std::sync::Arc;

use nbs_core::id::EntryId;
use nbs_core::record::Recovered;
use nbs_core::shared::SecretSource;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Failure;
use super::sources::RecipeBook;
use crate::clock::SystemClock;
use crate::config::{Config, Role};
use crate::lifecycle::identity;
use crate::ports::{Clock, Record, RecordError};
use crate::store::Store;

/// The loops of a daemon, by name.
pub(super) type Loops = Vec<(&'static str, JoinHandle<()>)>;

/// What the sides are built on.
pub(super) struct Ground {
    /// The ID of the state directory, which marks what this daemon starts.
    pub(super) instance: String,
    /// State directory and machine: who this daemon is among others.
    pub(super) id: EntryId,
    /// This boot of the host.
    pub(super) boot: String,
    pub(super) record: Arc<dyn Record>,
    /// Where the secrets of host processes come from.
    pub(super) secrets: SecretSource,
    pub(super) recovered: Recovered,
    pub(super) recipes: Arc<RecipeBook>,
    pub(super) clock: Arc<dyn Clock>,
    /// Ends the loops.
    pub(super) end: CancellationToken,
    /// Cancelled when the daemon can no longer be trusted, or must not go on.
    pub(super) failed: CancellationToken,
}

impl Ground {
    /// Opens it. The caller holds the lock of the state directory.
    pub(super) async fn open(config: &Config) -> Result<Self, Failure> {
        let instance = identity::instance_id(&config.state_dir).map_err(|error| Failure::of(&error))?.to_string();
        let boot = identity::boot_id().map_err(|error| Failure::of(&error))?;
        let id = EntryId::parse(&format!("{instance}.{}", identity::machine_id()))
            .ok_or_else(|| Failure::new("this machine's ID is no name; see /etc/machine-id"))?;
        let store = Store::open(&config.state_dir).map_err(|error| Failure::of(&error))?;
        let secrets = SecretSource(store.secrets());
        let record: Arc<dyn Record> = Arc::new(store);
        let mut recovered = record.load().await.map_err(|error: RecordError| Failure::of(&error))?;
        let own = &config.environment.name;
        if let Some(former) = recovered.former_name(own).filter(|_| config.role.runs_apps()) {
            tracing::info!(%former, now = %own, "the environment has a new name; its apps go with it");
            let changes = recovered.rename(&former, own);
            record.commit(changes).await.map_err(|error| Failure::of(&error))?;
        }
        if config.role == Role::Entry && !recovered.instances.is_empty() {
            return Err(Failure::new(format!(
                "this host runs {} apps, and mode supervisor alone would leave them to themselves: set \
                 APP_PROCESS_ADAPTER=local with ENVIRONMENT_NAME and ENVIRONMENT_URL, so that the entry goes on hosting \
                 them, or remove them first",
                recovered.instances.len()
            )));
        }
        let recipes = Arc::new(RecipeBook::open(&config.recipes_dir));
        recipes.log_problems();
        let (end, failed) = (CancellationToken::new(), CancellationToken::new());
        let clock = Arc::new(SystemClock::new());
        Ok(Self { instance, id, boot, record, secrets, recovered, recipes, clock, end, failed })
    }

    /// Runs a loop; one that ends by a panic ends the daemon, as nothing could be trusted any more. Apps live on.
    pub(super) fn watched(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let (task, failed) = (tokio::spawn(task), self.failed.clone());
        tokio::spawn(async move {
            if let Err(error) = task.await {
                tracing::error!(name, %error, "a loop failed; the daemon ends, apps run on");
                failed.cancel();
            }
        })
    }
}
