//! What the loops of the worker's side have in common: connections, keys, whom the worker follows.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nbs_core::id::{EntryId, Epoch, Reign};
use nbs_core::name::EnvironmentName;
use nbs_core::order::Registration;
use tokio::sync::{Notify, mpsc, watch};

use crate::ports::{Clock, Word};
use crate::redis_bus::Links;
use crate::redis_bus::alarm::Alarm;
use crate::redis_bus::clock::RedisClock;
use crate::redis_bus::keys::EnvironmentKeyNames;
use crate::redis_bus::worker::{Options, Tenure};
use crate::security::envelope::{MacKind, Session, SignedKind, mac, signed};
use crate::security::{EnvironmentKeys, Verifier, WorkerKey};
use crate::wire::envelope::EnvelopeError;

/// The entry, as last seen.
#[derive(Debug, Clone, Default)]
struct Followed {
    reign: Option<Reign>,
    /// The highest number of its record in this reign.
    beat: u64,
}

pub(super) struct Shared {
    pub(super) links: Links,
    pub(super) options: Options,
    pub(super) alarm: Alarm,
    pub(super) time: RedisClock,
    pub(super) environment: EnvironmentName,
    pub(super) names: EnvironmentKeyNames,
    pub(super) keys: EnvironmentKeys,
    pub(super) verifier: Verifier,
    pub(super) tenure: watch::Sender<Tenure>,
    pub(super) session: watch::Sender<Session>,
    /// The record of the entry is to be looked at now.
    pub(super) look: Notify,
    /// The entry called everybody: all is to be told again.
    pub(super) called: AtomicBool,
    /// The registration; none before the worker's loop said what it has.
    pub(super) registration: watch::Sender<Option<Registration>>,
    words: mpsc::Sender<Word>,
    followed: Mutex<Followed>,
}

impl Shared {
    pub(super) fn new(
        options: Options,
        key: WorkerKey,
        follows: Option<Reign>,
        words: mpsc::Sender<Word>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let environment = key.environment_name().clone();
        Self {
            links: Links::new(&options.servers, "worker"),
            alarm: Alarm::default(),
            time: RedisClock::new(clock),
            names: EnvironmentKeyNames::of(&environment),
            environment,
            keys: key.keys(),
            verifier: key.verifier(),
            tenure: watch::Sender::default(),
            session: watch::Sender::new(Session::NONE),
            look: Notify::new(),
            called: AtomicBool::new(false),
            registration: watch::Sender::default(),
            words,
            followed: Mutex::new(Followed { reign: follows, beat: 0 }),
            options,
        }
    }

    pub(super) fn holds(&self) -> bool {
        matches!(*self.tenure.borrow(), Tenure::Held { .. })
    }

    /// Wraps a message of this worker.
    pub(super) fn wrap(&self, kind: MacKind, body: String) -> Result<String, EnvelopeError> {
        let session = *self.session.borrow();
        mac::wrap(&self.keys, &mac::Message { kind, n: self.time.number(), session, body })
    }

    /// Opens what the entry says; what is not its is told and refused.
    pub(super) fn open(&self, kinds: &[SignedKind], key: &str, text: &str) -> Option<signed::Message> {
        let opened = signed::open(&self.verifier, Some(&self.environment), kinds, text);
        opened.map_err(|error| self.alarm.envelope(key, &error)).ok()
    }

    pub(super) fn followed(&self) -> Option<Reign> {
        self.lock().reign.clone()
    }

    /// Whether a reign is the one that is followed, or a later one, which is followed from now on. An earlier reign, or
    /// another entry in the same, is not.
    pub(super) fn follow(&self, message: &signed::Message) -> bool {
        self.follow_at(message, 0)
    }

    /// Takes up a record of the entry: of the reign that is followed, and not older than what was seen of it.
    pub(super) fn follow_record(&self, message: &signed::Message, beat: u64) -> bool {
        self.follow_at(message, beat)
    }

    fn follow_at(&self, message: &signed::Message, beat: u64) -> bool {
        let Some(entry) = EntryId::parse(&message.entry) else { return false };
        let reign = Reign { epoch: message.epoch, entry };
        let mut followed = self.lock();
        let seen = followed.reign.as_ref().map_or(Epoch(0), |seen| seen.epoch);
        if reign.epoch < seen || (reign.epoch == seen && followed.reign.as_ref().is_some_and(|seen| *seen != reign)) {
            return false;
        }
        if followed.reign.as_ref() != Some(&reign) {
            *followed = Followed { reign: Some(reign), beat };
            return true;
        }
        if beat > 0 && beat < followed.beat {
            return false;
        }
        followed.beat = followed.beat.max(beat);
        true
    }

    /// Passes a word to the worker's loop, which ends only with the daemon.
    pub(super) async fn say(&self, word: Word) {
        let _ = self.words.send(word).await;
    }

    fn lock(&self) -> MutexGuard<'_, Followed> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
