//! One host that runs: its token, what it needs first, and its list.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use nbs_core::name::AppId;
use nbs_core::observation::Fact;
use nbs_core::shared::{HostPlan, Listed, Request};
use serde_json::Value;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::call::{self, Trouble};
use crate::ask::{json, words};

/// Members of one host that are being started or stopped at one time. A host is one process.
const AT_ONCE: usize = 4;
/// Attempts of a request that has no answer.
const TRIES: u32 = 3;
/// Pause after the first of them; doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(300);
/// Pause between two looks at whether something took effect.
const LOOK: Duration = Duration::from_millis(250);
/// Pause before what a host needs is tried again.
const SETUP_AGAIN: Duration = Duration::from_secs(10);
/// Lists in a row that cannot be read until it is said in the log.
const SILENT_LISTS: u32 = 3;

/// Whether a host can have members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Prepared {
    /// Not yet.
    No,
    /// It can.
    Yes,
    /// Not as it is.
    Failed(Trouble),
}

/// How a host has an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Running,
    Stopped,
    Failed(Option<String>),
    /// Nothing that is asked of it now would be heard.
    Busy,
    /// A status that the recipe does not know.
    Other,
}

/// A host that runs.
pub(super) struct Host {
    pub(super) plan: Arc<HostPlan>,
    /// Cancelled when it ends.
    pub(super) ended: CancellationToken,
    pub(super) pace: Semaphore,
    token: Mutex<Option<String>>,
    prepared: watch::Sender<Prepared>,
}

impl Host {
    pub(super) fn new(plan: Arc<HostPlan>) -> Self {
        Self {
            plan,
            ended: CancellationToken::new(),
            pace: Semaphore::new(AT_ONCE),
            token: Mutex::new(None),
            prepared: watch::Sender::new(Prepared::No),
        }
    }

    /// Asks until there is an answer, a few times.
    pub(super) async fn ask(&self, request: &Request) -> Result<Value, Trouble> {
        let mut attempt = 0;
        loop {
            match self.ask_once(request).await {
                Err(Trouble::Silent(_)) if attempt + 1 < TRIES => {
                    self.pause(jittered(FIRST_PAUSE * 2u32.pow(attempt), &request.path, attempt)).await?;
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    async fn ask_once(&self, request: &Request) -> Result<Value, Trouble> {
        let story = async {
            let token = self.token(None).await?;
            match self.send(request, token.as_deref()).await {
                // It may have run out: one more login, and the same again.
                Err(Trouble::Unauthorized(_)) if token.is_some() => {
                    let fresh = self.token(token.as_deref()).await?;
                    self.send(request, fresh.as_deref()).await
                }
                answer => answer,
            }
        };
        tokio::select! {
            biased;
            () = self.ended.cancelled() => Err(Trouble::Ended),
            answer = story => answer,
        }
    }

    async fn send(&self, request: &Request, token: Option<&str>) -> Result<Value, Trouble> {
        let login = self.plan.login.as_ref();
        let value =
            login.zip(token).map(|(login, token)| (login.header.as_str(), login.value.replace("{token}", token)));
        let header = value.as_ref().map(|(name, value)| (*name, value.as_str()));
        call::send(&self.plan.address, request, header).await
    }

    /// The token, asked for if there is none, or none but the `spent` one.
    async fn token(&self, spent: Option<&str>) -> Result<Option<String>, Trouble> {
        let Some(login) = &self.plan.login else { return Ok(None) };
        // Whoever comes while another one signs in waits for that token.
        let mut token = self.token.lock().await;
        if token.is_none() || token.as_deref() == spent {
            *token = None;
            let answer = call::send(&self.plan.address, &login.call, None).await?;
            let found = json::text_at(&answer, &login.token).filter(|text| !text.is_empty());
            let none = || Trouble::Refused(format!("{} answered without a token at {}", login.call, login.token));
            *token = Some(found.ok_or_else(none)?);
        }
        Ok(token.clone())
    }

    /// Every app that it has.
    pub(super) async fn list(&self) -> Result<HashMap<String, State>, Trouble> {
        let answer = self.ask(&self.plan.list.call).await?;
        self.read(&answer)
    }

    fn read(&self, answer: &Value) -> Result<HashMap<String, State>, Trouble> {
        let list = &self.plan.list;
        let place = || if list.items.is_empty() { "its body".to_string() } else { list.items.clone() };
        let refused = |what: String| Trouble::Refused(format!("{} answered, but {what}", list.call));
        let items = json::at(answer, &list.items).and_then(Value::as_array);
        let items = items.ok_or_else(|| refused(format!("{} is no list", place())))?;
        let mut found = HashMap::with_capacity(items.len());
        for item in items {
            let name = json::text_at(item, &list.name);
            let name = name.ok_or_else(|| refused(format!("an item of {} has no {}", place(), list.name)))?;
            let status = json::text_at(item, &list.status).unwrap_or_default();
            let is = |known: &[String]| known.contains(&status);
            let state = if is(&list.running) {
                State::Running
            } else if is(&list.failed) {
                let message = list.message.as_ref().and_then(|path| json::text_at(item, path));
                State::Failed(message.map(|text| words::tame(&text, words::SEEN_MAX)).filter(|text| !text.is_empty()))
            } else if is(&list.busy) {
                State::Busy
            } else if is(&list.stopped) {
                State::Stopped
            } else {
                State::Other
            };
            found.insert(name, state);
        }
        Ok(found)
    }

    /// How it has an app; none: it does not have it.
    pub(super) async fn state_of(&self, app: &AppId) -> Result<Option<State>, Trouble> {
        Ok(self.list().await?.remove(app.as_str()))
    }

    /// Waits as long as an app is busy, and says how it is then; at the end of `patience` it is told as it is.
    pub(super) async fn settled(&self, app: &AppId, patience: Duration) -> Result<Option<State>, Trouble> {
        let quiet = async {
            loop {
                match self.state_of(app).await? {
                    Some(State::Busy) => self.pause(LOOK).await?,
                    state => return Ok(state),
                }
            }
        };
        timeout(patience, quiet).await.unwrap_or(Ok(Some(State::Busy)))
    }

    /// Waits; ends early when the host does.
    pub(super) async fn pause(&self, time: Duration) -> Result<(), Trouble> {
        tokio::select! {
            biased;
            () = self.ended.cancelled() => Err(Trouble::Ended),
            () = sleep(time) => Ok(()),
        }
    }

    /// Waits until it can have members.
    pub(super) async fn prepared(&self) -> Result<(), Trouble> {
        let mut prepared = self.prepared.subscribe();
        let answer = async {
            match &*prepared.wait_for(|prepared| *prepared != Prepared::No).await.map_err(|_| Trouble::Ended)? {
                Prepared::Failed(trouble) => Err(trouble.clone()),
                Prepared::Yes | Prepared::No => Ok(()),
            }
        };
        tokio::select! {
            biased;
            () = self.ended.cancelled() => Err(Trouble::Ended),
            answer = answer => answer,
        }
    }

    async fn prepare(&self) -> Result<(), Trouble> {
        for step in &self.plan.setup {
            if self.ask(&step.done).await.is_ok() {
                continue;
            }
            self.ask(&step.call).await?;
            let done = async {
                loop {
                    match self.ask_once(&step.done).await {
                        Ok(_) => return Ok(()),
                        Err(Trouble::Ended) => return Err(Trouble::Ended),
                        Err(_) => self.pause(LOOK).await?,
                    }
                }
            };
            let late = || Trouble::Refused(format!("{} was sent, and is not done after {:?}", step.call, step.timeout));
            timeout(step.timeout, done).await.map_err(|_| late())??;
        }
        Ok(())
    }
}

/// Prepares a host, then asks for its list again and again, until it ends.
pub(super) async fn look_after(inner: Weak<Inner>, host: Arc<Host>) {
    while let Err(trouble) = host.prepare().await {
        if trouble == Trouble::Ended {
            return;
        }
        tracing::warn!(host = %host.plan.host, why = %trouble.clone().reason(&host.plan.host), "a host cannot be prepared");
        host.prepared.send_replace(Prepared::Failed(trouble));
        if host.pause(jittered(SETUP_AGAIN, "setup", 0)).await.is_err() {
            return;
        }
    }
    host.prepared.send_replace(Prepared::Yes);
    let mut silent = 0;
    loop {
        if host.pause(host.plan.list.interval).await.is_err() {
            return;
        }
        let Some(inner) = inner.upgrade() else { return };
        let before = inner.desk().changes_of(&host.plan.host);
        match host.list().await {
            Ok(list) => {
                if silent >= SILENT_LISTS {
                    tracing::info!(host = %host.plan.host, "a host tells its list again");
                }
                silent = 0;
                inner.compare(&host, &before, &list).await;
            }
            Err(Trouble::Ended) => return,
            Err(trouble) => {
                silent += 1;
                if silent == SILENT_LISTS {
                    let why = trouble.reason(&host.plan.host);
                    tracing::warn!(host = %host.plan.host, %why, "a host does not tell its list; its apps are left as they are");
                }
            }
        }
    }
}

impl super::Desk {
    /// How often each member at rest was changed: a list says nothing about those that changed meanwhile.
    fn changes_of(&self, host: &AppId) -> HashMap<AppId, u64> {
        let members = self.members.iter().filter(|(_, member)| member.is_of(host));
        members.filter_map(|(app, member)| Some((app.clone(), member.at_rest()?))).collect()
    }
}

impl Inner {
    /// Tells what a list says otherwise than it should.
    async fn compare(&self, host: &Host, before: &HashMap<AppId, u64>, list: &HashMap<String, State>) {
        let mut facts = Vec::new();
        {
            let desk = self.desk();
            for (app, changes) in before {
                let Some(member) = desk.members.get(app).filter(|member| member.at_rest() == Some(*changes)) else {
                    continue;
                };
                let listed = match (member.runs(), list.get(app.as_str())) {
                    (true, None | Some(State::Stopped)) => Listed::Stopped,
                    (true, Some(State::Failed(words))) => Listed::Failed(words.clone()),
                    (false, Some(State::Running)) => Listed::Running,
                    _ => continue,
                };
                facts.push((app.clone(), member.run(), Fact::Listed(listed)));
            }
        }
        for (app, run, fact) in facts.into_iter().filter(|_| !host.ended.is_cancelled()) {
            self.tell(&app, run, fact).await;
        }
    }
}

/// Half of a pause for sure, and of the rest a part that differs from one asker to the other.
fn jittered(pause: Duration, who: &str, attempt: u32) -> Duration {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    (who, attempt).hash(&mut hasher);
    pause / 2 + pause.mul_f64((hasher.finish() % 1000) as f64 / 2000.0)
}
