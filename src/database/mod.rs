//! Databases of apps on PostgreSQL: made before an app starts, dropped with it, and watched in between.
//!
//! What is made is decided in the core, from what is there (`look`) and what the server's own user may do. Every statement
//! holds names and texts only as PostgreSQL's own quoting makes them, so no name can become a second statement. Every
//! wait has an end. Deliberately absent: retries (the core decides), other dialects, and TLS.

mod fault;
mod look;
mod make;
mod session;
mod watch;

use std::sync::Arc;

use nbs_core::database::{Endpoint, Failure, Made, Make, Plan, Watch, What};
use nbs_core::limits::DATABASE_TIMEOUT;
use tokio::sync::{Semaphore, mpsc};

use crate::ports::{BoxFuture, DatabaseMaker, DatabaseNews};
use fault::Fault;
use session::Session;
use watch::Watches;

/// Plans under way at one time. Each holds two connections, and a server has a hundred for everybody.
const AT_ONCE: usize = 8;

/// Makes databases of this host's apps.
pub struct Databases {
    at_once: Arc<Semaphore>,
    watches: Watches,
}

impl Databases {
    /// Nothing is watched yet; `news` is told what is found.
    pub fn new(news: mpsc::Sender<DatabaseNews>) -> Self {
        Self { at_once: Arc::new(Semaphore::new(AT_ONCE)), watches: Watches::new(news) }
    }

    /// Does one of a few things at a time, and gives up after a while.
    async fn bounded<T>(
        &self,
        plan: &Plan,
        work: impl Future<Output = Result<T, Outcome>> + Send,
    ) -> Result<T, Failure> {
        let work = async {
            let _permit = self.at_once.acquire().await;
            tokio::time::timeout(DATABASE_TIMEOUT, work).await.unwrap_or(Err(Fault::late(DATABASE_TIMEOUT).into()))
        };
        work.await.map_err(|outcome| match outcome {
            Outcome::Decided(failure) => failure,
            Outcome::Fault(fault) => fault.failure(&plan.server),
        })
    }
}

/// Why something was not done: the core said so, or the server.
enum Outcome {
    Decided(Failure),
    Fault(Fault),
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        Self::Decided(failure)
    }
}

impl From<Fault> for Outcome {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl DatabaseMaker for Databases {
    fn prepare<'a>(&'a self, plan: &'a Plan) -> BoxFuture<'a, Result<Made, Failure>> {
        Box::pin(self.bounded(plan, async {
            match &plan.what {
                What::Check { login, schema } => {
                    let session = Session::open(login).await?;
                    look::has_schema(&session, schema.as_deref()).await?;
                    Ok(Made { own_role: true })
                }
                What::Make(make) => prepare(make).await,
            }
        }))
    }

    fn drop_all<'a>(&'a self, plan: &'a Plan) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(self.bounded(plan, async {
            match &plan.what {
                What::Check { .. } => Ok(()),
                What::Make(make) => Ok(make::drop_all(make).await?),
            }
        }))
    }

    fn watch(&self, watch: Watch) {
        self.watches.begin(watch);
    }

    fn unwatch(&self, endpoint: &Endpoint) {
        self.watches.end(endpoint);
    }
}

async fn prepare(make: &Make) -> Result<Made, Outcome> {
    if let Some(made) = make.made {
        match look::is_ours(make, made).await {
            Ok(true) => return Ok(made),
            Err(fault) if fault.is_passing() => return Err(fault.into()),
            // Something is other than at the last start; the server's own user finds out what.
            Ok(false) | Err(_) => {}
        }
    }
    make::make(make).await
}
