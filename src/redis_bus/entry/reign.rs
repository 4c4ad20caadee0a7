//! Claims to be the entry, again and again, and says how that went.
//!
//! A record of another entry stops this one only if it is genuine; a forged or garbage one is overwritten. What is
//! genuine but of an earlier reign than the one that this entry has held since is somebody's replay. A record that is
//! gone means that Redis was wiped: a new session then parts what was said before from what is said now.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nbs_core::fleet::Bus;
use nbs_core::id::{Epoch, Reign};
use nbs_core::limits;
use tokio_util::sync::CancellationToken;

use crate::ports::News;
use crate::redis_bus::entry::shared::{Shared, Standing};
use crate::redis_bus::scripts::{CLAIM_SCRIPT, ORDER_SCRIPT};
use crate::redis_bus::trouble::{Cause, Trouble};
use crate::redis_bus::{LEASE, keys, random};
use crate::security::envelope::{SignedKind, signed};
use crate::wire::envelope::Address;
use crate::wire::record::RowError;
use crate::wire::redis::{
    EntryRecord, EntryValue, RollCall, read_entry, read_entry_value, write_entry, write_entry_value, write_roll_call,
};

/// Pause between two looks at a claim that another entry holds.
const FENCED_PAUSE: Duration = limits::LEASE_RENEW;

/// Calls after another entry was pushed aside, one with each renewal.
const CALLS: u8 = 3;

/// What became of a claim.
enum Outcome {
    /// Redis holds it. `fresh`: nothing was there before.
    Held { fresh: bool },
    /// Another entry reigns.
    Fenced { epoch: Epoch, why: String },
    /// This entry has reigned at a later epoch than it knows.
    Ahead(Epoch),
}

#[derive(PartialEq)]
enum Told {
    Nothing,
    Up,
    Down,
    Fenced(String),
}

struct Claimant<'a> {
    shared: &'a Shared,
    beat: u64,
    told: Told,
    /// The reign under which a claim was held in this life.
    held: Option<Reign>,
    /// How often everybody is still to be called.
    calls: u8,
    /// An epoch that the record is to pass before the next claim by force.
    above: Option<Epoch>,
}

pub(super) async fn run(shared: &Shared, shutdown: &CancellationToken) {
    let mut claimant = Claimant { shared, beat: 0, told: Told::Nothing, held: None, calls: 1, above: None };
    let mut standing = shared.standing.subscribe();
    loop {
        let reign = shared.standing().reign;
        let pause = claimant.turn().await;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = shared.claim.notified() => {}
            // The fleet goes on under another epoch.
            Ok(_) = standing.wait_for(|now| now.reign != reign) => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

impl Claimant<'_> {
    /// One claim and what follows. Returns the pause before the next.
    async fn turn(&mut self) -> Duration {
        let standing = self.shared.standing();
        let force = self.above.is_some_and(|above| standing.reign.epoch > above);
        match self.claim(&standing, force).await {
            Ok(Outcome::Held { fresh }) => self.hold(&standing, fresh).await,
            Ok(Outcome::Fenced { epoch, why }) => {
                self.set_reigns(false);
                self.held = None;
                if self.shared.promoting.swap(false, Ordering::Relaxed) {
                    self.above = Some(epoch);
                    self.shared.tell(News::Bus(Bus::Ahead(epoch))).await;
                    // With an epoch above the other's already, there is no new one to wait for.
                    return if standing.reign.epoch > epoch { Duration::ZERO } else { FENCED_PAUSE };
                }
                if self.told != Told::Fenced(why.clone()) {
                    tracing::warn!("this entry only watches: {why}");
                    self.told = Told::Fenced(why.clone());
                    self.shared.tell(News::Bus(Bus::Fenced(why))).await;
                }
                FENCED_PAUSE
            }
            Ok(Outcome::Ahead(epoch)) => {
                self.set_reigns(false);
                tracing::warn!(
                    epoch = epoch.0,
                    "Redis knows a later reign of this entry than its record; it goes on above it"
                );
                self.shared.tell(News::Bus(Bus::Ahead(epoch))).await;
                FENCED_PAUSE
            }
            Err(_) => {
                if self.told != Told::Down {
                    self.told = Told::Down;
                    self.shared.tell(News::Bus(Bus::Down)).await;
                }
                self.shared.links.command.pause().await
            }
        }
    }

    async fn hold(&mut self, standing: &Standing, fresh: bool) -> Duration {
        let wiped = fresh && self.held.is_some();
        // The entry before reads reports until it looks at its claim: what it takes away is asked for again.
        self.calls = if self.above.take().is_some() { CALLS } else { self.calls };
        self.shared.promoting.store(false, Ordering::Relaxed);
        if self.held.as_ref() != Some(&standing.reign) {
            (self.held, self.calls) = (Some(standing.reign.clone()), self.calls.max(1));
        }
        if wiped {
            tracing::warn!("Redis has lost what it held; everything is told again");
            self.calls = self.calls.max(1);
            if let Some(session) = random::session() {
                self.shared.standing.send_modify(|standing| standing.session = session);
            }
            self.shared.tell(News::Bus(Bus::Wiped)).await;
            // The record in Redis still names the former session.
            self.shared.claim.notify_one();
            return limits::LEASE_RENEW;
        }
        self.set_reigns(true);
        if self.told != Told::Up {
            self.told = Told::Up;
            self.shared.tell(News::Bus(Bus::Up)).await;
        }
        if self.calls > 0 && self.roll_call(standing).await.is_ok() {
            self.calls -= 1;
        }
        limits::LEASE_RENEW
    }

    fn set_reigns(&self, reigns: bool) {
        self.shared.standing.send_if_modified(|standing| std::mem::replace(&mut standing.reigns, reigns) != reigns);
    }

    async fn claim(&mut self, standing: &Standing, force: bool) -> Result<Outcome, Trouble> {
        let link = &self.shared.links.command;
        self.shared.time.measure(link).await?;
        let answer = self.send_claim(standing, force).await?;
        if answer.code == 1 {
            return Ok(Outcome::Held { fresh: answer.part(0) != "1" });
        }
        if let Some(outcome) = self.judge(standing, answer.part(0), answer.part(1)) {
            return Ok(outcome);
        }
        let answer = self.send_claim(standing, true).await?;
        match answer.code {
            1 => Ok(Outcome::Held { fresh: false }),
            _ => Err(Trouble::new(Cause::Other, "a claim by force was refused")),
        }
    }

    async fn send_claim(
        &mut self,
        standing: &Standing,
        force: bool,
    ) -> Result<crate::redis_bus::scripts::Answer, Trouble> {
        self.beat += 1;
        let Standing { reign, session, .. } = standing;
        let now = self.shared.time.now();
        let options = &self.shared.options;
        let record = EntryRecord {
            entry: reign.entry.clone(),
            epoch: reign.epoch,
            session: *session,
            beat: self.beat,
            at_ms: now,
            address: options.address.clone(),
            version: options.version.clone(),
        };
        let unusable = |error: RowError| Trouble::new(Cause::Other, error.to_string());
        let body = write_entry(&record).map_err(unusable)?;
        let signed = self.shared.sign(reign, Address::Everybody, SignedKind::Entry, now, body);
        let signed = signed.map_err(|error| Trouble::new(Cause::Other, error.to_string()))?;
        let value = EntryValue { owner: reign.entry.clone(), epoch: reign.epoch, signed };
        let value = write_entry_value(&value).map_err(unusable)?;
        let (epoch, lease) = (reign.epoch.to_string(), LEASE.as_millis().to_string());
        let force = if force { "1" } else { "0" };
        let arguments = [reign.entry.as_str(), &epoch, &value, &lease, force];
        CLAIM_SCRIPT.run(&self.shared.links.command, &[keys::ENTRY, keys::ENTRY_LEASE], &arguments).await
    }

    /// What a record that is in the way means; none: it is not genuine, or is of the past.
    fn judge(&self, standing: &Standing, value: &str, lease_ms: &str) -> Option<Outcome> {
        let refused = |why: &str| {
            self.shared.alarm.refused(keys::ENTRY, why);
            None
        };
        let Ok(claim) = read_entry_value(value) else { return refused("it is no record of an entry") };
        let verifier = self.shared.signer.verifier();
        let message = match signed::open(&verifier, None, &[SignedKind::Entry], &claim.signed) {
            Ok(message) => message,
            Err(error) => {
                self.shared.alarm.envelope(keys::ENTRY, &error);
                return None;
            }
        };
        if message.entry != claim.owner.as_str() || message.epoch != claim.epoch {
            return refused("what is signed differs from what stands beside it");
        }
        let ours = &standing.reign;
        if message.entry == ours.entry.as_str() {
            return (message.epoch > ours.epoch).then_some(Outcome::Ahead(message.epoch));
        }
        if self.held.is_some() && message.epoch < ours.epoch {
            return refused("it is a record of an earlier reign of another entry");
        }
        let place = read_entry(&message.body).map(|record| record.address).unwrap_or_default();
        let alive = lease_ms.parse::<i64>().is_ok_and(|ms| ms > 0);
        let how = if alive { "reigns" } else { "reigned last and is silent" };
        let why = format!(
            "entry {} on {place} {how} (epoch {}) and this one is read-only: give commands there, and stop this daemon",
            message.entry, message.epoch
        );
        Some(Outcome::Fenced { epoch: message.epoch, why })
    }

    /// Asks everybody who is known to say what there is.
    async fn roll_call(&self, standing: &Standing) -> Result<(), Trouble> {
        let (entry, epoch) = (standing.reign.entry.as_str(), standing.reign.epoch.to_string());
        let maxlen = keys::ORDERS_KEPT.to_string();
        for environment in self.shared.known() {
            let names = keys::EnvironmentKeyNames::of(&environment);
            let call = RollCall { session: standing.session };
            let body = write_roll_call(call).map_err(|error| Trouble::new(Cause::Other, error.to_string()))?;
            let (to, now) = (Address::One(environment), self.shared.time.now());
            let Ok(message) = self.shared.sign(&standing.reign, to, SignedKind::RollCall, now, body) else { continue };
            let arguments = [entry, &epoch, &maxlen, &message];
            ORDER_SCRIPT.run(&self.shared.links.command, &[keys::ENTRY, &names.orders], &arguments).await?;
        }
        Ok(())
    }
}
