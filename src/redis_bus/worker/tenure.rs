//! Holds the environment's name, follows the entry's record, and writes what is renewed: lease, registration, heartbeat,
//! usage; and reads what should be, at first and each minute.
//!
//! A lease that is in the way counts only with a genuine and recent beat in it. One of the same daemon at a later epoch is
//! a copy of this host: two would run every app twice, so this one ends.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nbs_core::id::Epoch;
use nbs_core::limits;
use nbs_core::name::AppId;
use nbs_core::order::Registration;
use redis::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ports::Word;
use crate::redis_bus::scripts::{Answer, LEASE_SCRIPT};
use crate::redis_bus::speech;
use crate::redis_bus::stream::text;
use crate::redis_bus::trouble::{Cause, Trouble};
use crate::redis_bus::worker::shared::Shared;
use crate::redis_bus::worker::{Tenure, UsageSource};
use crate::redis_bus::{LEASE, keys};
use crate::security::envelope::{MacKind, SignedKind, mac};
use crate::wire::redis::{
    Beat, Heartbeat, Usage, read_beat, read_entry, read_entry_value, read_lease_value, write_beat, write_heartbeat,
    write_registration, write_usage,
};

/// How often figures are published where nothing is sampled. What is sampled is published at once, so that it is as fresh
/// for readers as the sample.
const USAGE: Duration = Duration::from_secs(10);
/// How long published figures stay.
const USAGE_KEPT: Duration = Duration::from_secs(60);

/// All is not told more often than this, however often it is asked for.
const TELL: Duration = Duration::from_secs(1);

struct Tenant<'a> {
    shared: &'a Shared,
    usage: &'a dyn UsageSource,
    /// Fencing number of the lease; 0: none yet.
    epoch: u64,
    renewed: Option<Instant>,
    /// When each is due next.
    all: Instant,
    /// When all was told last.
    told_all: Option<Instant>,
    heartbeat: Instant,
    figures: Instant,
    /// The registration that was written last.
    registered: Option<Registration>,
    /// That somebody else holds the name was said.
    told: bool,
}

pub(super) async fn run(shared: &Shared, usage: &dyn UsageSource, shutdown: &CancellationToken) {
    let now = Instant::now();
    let mut tenant = Tenant {
        shared,
        usage,
        epoch: 0,
        renewed: None,
        all: now,
        told_all: None,
        heartbeat: now,
        figures: now,
        registered: None,
        told: false,
    };
    let (mut registration, mut measured) = (shared.registration.subscribe(), usage.measured());
    loop {
        let pause = match tenant.turn().await {
            Ok(()) => limits::LEASE_RENEW,
            Err(_) => shared.links.cache.pause().await.max(shared.links.command.pause().await),
        };
        if let Tenure::Cloned(_) = *shared.tenure.borrow() {
            return;
        }
        let next = Instant::now() + pause;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = shared.look.notified() => break,
                Ok(()) = registration.changed() => break,
                () = tokio::time::sleep_until(next) => break,
                Ok(()) = measured.changed() => tenant.publish_sample().await,
            }
        }
    }
}

impl Tenant<'_> {
    async fn turn(&mut self) -> Result<(), Trouble> {
        let result = self.renew().await;
        if self.renewed.is_none_or(|at| at.elapsed() > LEASE) && self.shared.holds() {
            self.set(Tenure::Open);
        }
        if result.is_err() || !self.shared.holds() {
            return result;
        }
        let looked = self.look_at_entry().await;
        self.register().await?;
        self.publish().await?;
        looked?;
        let now = Instant::now();
        if self.shared.called.load(Ordering::Relaxed) && self.told_all.is_none_or(|at| now >= at + TELL) {
            self.all = now;
        }
        if self.all <= now {
            self.shared.called.store(false, Ordering::Relaxed);
            self.read_intents().await?;
            self.shared.say(Word::Tell).await;
            (self.all, self.told_all) = (now + limits::ANTI_ENTROPY, Some(now));
        }
        Ok(())
    }

    fn set(&self, tenure: Tenure) {
        self.shared.tenure.send_if_modified(|known| {
            let changed = *known != tenure;
            *known = tenure;
            changed
        });
    }

    async fn renew(&mut self) -> Result<(), Trouble> {
        let measured = self.shared.time.measure(&self.shared.links.command).await;
        if !self.shared.time.is_known() {
            measured?;
        }
        let taking_over = self.epoch == 0;
        let mut answer = self.ask_lease(false).await?;
        if matches!(answer.code, 0 | 4) {
            match self.judge(answer.code, answer.part(0)) {
                Some(tenure) => {
                    self.refuse(tenure);
                    return Ok(());
                }
                None => answer = self.ask_lease(true).await?,
            }
        }
        let epoch = match (answer.code, answer.part(0).parse::<u64>()) {
            (1, Ok(epoch)) => epoch,
            _ => return Err(Trouble::new(Cause::Other, "the lease was answered with something else")),
        };
        (self.epoch, self.renewed) = (epoch, Some(Instant::now()));
        if taking_over {
            // The beat is to name the epoch that the lease was given.
            self.ask_lease(false).await?;
            self.all = Instant::now();
        }
        if std::mem::take(&mut self.told) {
            tracing::info!(environment = %self.shared.environment, "this daemon holds the environment now");
        }
        self.set(Tenure::Held { epoch });
        Ok(())
    }

    async fn ask_lease(&self, force: bool) -> Result<Answer, Trouble> {
        let Shared { options, names, links, .. } = self.shared;
        let beat = Beat {
            owner: options.owner.clone(),
            epoch: Epoch(self.epoch),
            host: options.host.clone(),
            at_ms: self.shared.time.now(),
        };
        let body = write_beat(&beat).map_err(|error| Trouble::new(Cause::Other, error.to_string()))?;
        let message = self.shared.wrap(MacKind::Beat, body);
        let message = message.map_err(|error| Trouble::new(Cause::Other, error.to_string()))?;
        let (epoch, lease) = (self.epoch.to_string(), LEASE.as_millis().to_string());
        let force = if force { "1" } else { "0" };
        let arguments = [options.owner.as_str(), &epoch, &options.host, &message, &lease, force];
        LEASE_SCRIPT.run(&links.cache, &[&names.lease, &names.epoch], &arguments).await
    }

    /// What a lease that is in the way means; none: it is not genuine, or of the past.
    fn judge(&self, code: i64, value: &str) -> Option<Tenure> {
        let Shared { options, names, environment, alarm, .. } = self.shared;
        let refused = |why: &str| {
            alarm.refused(&names.lease, why);
            None
        };
        let Ok(lease) = read_lease_value(value) else { return refused("it is no lease") };
        let message = match mac::open(&self.shared.keys, &[MacKind::Beat], &lease.m) {
            Ok(message) => message,
            Err(error) => {
                alarm.envelope(&names.lease, &error);
                return None;
            }
        };
        let Ok(beat) = read_beat(&message.body) else { return refused("its beat cannot be read") };
        if beat.owner != lease.owner {
            return refused("what is proven differs from what stands beside it");
        }
        if self.shared.time.since(beat.at_ms) > LEASE {
            return refused("its beat is an old one");
        }
        if code == 4 {
            let why = format!(
                "environment {environment} was taken by a copy of this host ({}): it has the same machine-id and state \
                 directory; give the copy its own (delete its state_dir and /etc/machine-id) and another environment name",
                beat.host
            );
            return (beat.epoch.0 > self.epoch).then_some(Tenure::Cloned(why));
        }
        if beat.owner == options.owner {
            return None;
        }
        let why = format!(
            "environment {environment} is held by another daemon, on {}; stop that one, or give this one another name",
            beat.host
        );
        Some(Tenure::Refused(why))
    }

    fn refuse(&mut self, tenure: Tenure) {
        match &tenure {
            Tenure::Refused(why) if !std::mem::replace(&mut self.told, true) => {
                tracing::warn!("this worker is idle: {why}");
            }
            Tenure::Cloned(why) => tracing::error!("this worker ends: {why}"),
            _ => {}
        }
        self.epoch = 0;
        self.set(tenure);
    }

    /// Reads who the entry is. Another session than before asks for everything.
    async fn look_at_entry(&mut self) -> Result<(), Trouble> {
        let answer = match self.shared.links.command.ask(redis::cmd("GET").arg(keys::ENTRY)).await {
            Err(trouble) if trouble.cause == Cause::WrongType => return Ok(()),
            other => other?,
        };
        // Nobody is there yet, or Redis was wiped: the entry writes it again.
        let Some(value) = text(&answer) else { return Ok(()) };
        let Ok(claim) = read_entry_value(&value) else {
            self.shared.alarm.refused(keys::ENTRY, "it is no record of an entry");
            return Ok(());
        };
        let Some(message) = self.shared.open(&[SignedKind::Entry], keys::ENTRY, &claim.signed) else { return Ok(()) };
        let record = match read_entry(&message.body) {
            Ok(record) => record,
            Err(error) => {
                self.shared.alarm.body(keys::ENTRY, &error);
                return Ok(());
            }
        };
        if !self.shared.follow_record(&message, record.beat) {
            self.shared.alarm.refused(keys::ENTRY, "it is of an entry, a reign or a moment that is past");
            return Ok(());
        }
        let is_new = self.shared.session.send_if_modified(|session| {
            let changed = *session != record.session;
            *session = record.session;
            changed
        });
        if is_new {
            self.all = Instant::now();
            // The lease proves the presence in this session only with the next beat.
            self.ask_lease(false).await?;
        }
        Ok(())
    }

    async fn register(&mut self) -> Result<(), Trouble> {
        let Shared { links, names, environment, .. } = self.shared;
        let Some(registration) = self.shared.registration.borrow().clone() else { return Ok(()) };
        let is_there = links.cache.ask(redis::cmd("EXISTS").arg(&names.registration)).await?;
        let is_there = matches!(is_there, Value::Int(1..));
        if is_there && self.registered.as_ref() == Some(&registration) {
            return Ok(());
        }
        let wiped = !is_there && self.registered.is_some();
        let body = write_registration(&registration, self.shared.time.now()).ok();
        let message = body.and_then(|body| self.shared.wrap(MacKind::Registration, body).ok());
        // One that is too large to be written is too large to be told, and the worker's loop said so.
        let Some(message) = message else { return Ok(()) };
        let (mut add, mut set) = (redis::cmd("SADD"), redis::cmd("SET"));
        add.arg(keys::ENVIRONMENTS).arg(environment.as_str());
        set.arg(&names.registration).arg(message);
        for result in links.cache.ask_all(&[add, set]).await? {
            match result {
                Err(trouble) if trouble.cause == Cause::WrongType => {
                    links.cache.ask(redis::cmd("DEL").arg(keys::ENVIRONMENTS)).await?;
                }
                other => _ = other?,
            }
        }
        self.registered = Some(registration);
        if wiped {
            self.all = Instant::now();
        }
        Ok(())
    }

    /// There are new figures. What cannot be written now is written with the next renewal.
    async fn publish_sample(&mut self) {
        self.figures = Instant::now();
        if self.shared.holds() {
            let _ = self.publish().await;
        }
    }

    async fn publish(&mut self) -> Result<(), Trouble> {
        let Shared { links, names, time, options, .. } = self.shared;
        let now = Instant::now();
        let mut commands = Vec::new();
        let usage = (self.figures <= now || self.heartbeat <= now).then(|| self.usage.usage()).flatten();
        let usage = usage.map(|usage| Usage { at_ms: time.now(), ..usage });
        if let (true, Some(usage)) = (self.figures <= now, &usage) {
            let message = write_usage(usage).ok().and_then(|body| self.shared.wrap(MacKind::Usage, body).ok());
            if let Some(message) = message {
                let mut cmd = redis::cmd("SET");
                cmd.arg(&names.usage).arg(message).arg("PX").arg(USAGE_KEPT.as_millis() as u64);
                commands.push(cmd);
            }
        }
        if self.heartbeat <= now {
            let heartbeat = Heartbeat {
                at_ms: time.now(),
                version: options.version.clone(),
                instances: usage.as_ref().map_or(0, |usage| usage.apps.len() as u64),
                usage: usage.map(|usage| usage.host),
            };
            let body = write_heartbeat(&heartbeat).ok();
            if let Some(message) = body.and_then(|body| self.shared.wrap(MacKind::Heartbeat, body).ok()) {
                let mut cmd = redis::cmd("SET");
                cmd.arg(&names.heartbeat).arg(message);
                commands.push(cmd);
            }
        }
        for result in links.cache.ask_all(&commands).await? {
            result?;
        }
        if self.figures <= now {
            self.figures = now + USAGE;
        }
        if self.heartbeat <= now {
            self.heartbeat = now + options.heartbeat;
        }
        Ok(())
    }

    /// What should be, for whoever missed an order.
    async fn read_intents(&self) -> Result<(), Trouble> {
        let Shared { links, names, .. } = self.shared;
        let parts = match links.command.ask(redis::cmd("HGETALL").arg(&names.intents)).await {
            Ok(Value::Array(parts)) => parts,
            Ok(Value::Map(pairs)) => pairs.into_iter().flat_map(|(field, value)| [field, value]).collect(),
            Err(trouble) if trouble.cause == Cause::WrongType => {
                self.shared.alarm.refused(&names.intents, "it is no hash");
                return Ok(());
            }
            other => other.map(|_| Vec::new())?,
        };
        for pair in parts.chunks_exact(2) {
            let (Some(field), Some(value)) = (text(&pair[0]), text(&pair[1])) else {
                self.shared.alarm.refused(&names.intents, "it is no text");
                continue;
            };
            let Some(message) = self.shared.open(&[SignedKind::Intent], &names.intents, &value) else { continue };
            if !self.shared.follow(&message) {
                continue;
            }
            match speech::intent(&message, &self.shared.keys) {
                Ok(order) if AppId::parse(&field).is_ok_and(|app| app == order.app) => {
                    self.shared.say(Word::Intent(order)).await;
                }
                Ok(order) => {
                    self.shared.alarm.refused(&names.intents, format!("{} stands under another name", order.app))
                }
                Err(error) => self.shared.alarm.body(&names.intents, &error),
            }
        }
        Ok(())
    }
}
