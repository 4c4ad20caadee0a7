//! Who is signed in: sessions in memory, bounded in number and in time.
//!
//! Of a session its hash is kept, as of tokens, and hashes are compared in constant time. A session is as good as the
//! token that it began with: when that is revoked, it ends. Deliberately absent: anything on disk. A restart of the
//! daemon signs everybody out.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nbs_core::time::Mono;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::admin::Badge;

/// A working day and a bit.
pub(crate) const LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);
/// More than people look after one daemon; then the oldest session ends.
const SESSIONS_MAX: usize = 256;

/// 256 random bits in hexadecimal, for a browser to keep.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// A new one.
    pub(crate) fn random() -> Self {
        let mut bytes = [0; 32];
        // A Linux that has booted always has random bytes; without them nobody may be let in by a guess.
        getrandom::fill(&mut bytes).expect("the system gives random bytes");
        Self(bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Compares in a time that tells nothing.
    pub(crate) fn is(&self, given: &str) -> bool {
        hash(&self.0).ct_eq(&hash(given)).into()
    }
}

/// Somebody who is signed in.
#[derive(Clone)]
pub(crate) struct Session {
    /// By which token.
    pub badge: Badge,
    /// Stands in every form of theirs: no other site can know it.
    pub form: Secret,
    key: [u8; 32],
    until: Mono,
}

/// Everybody who is signed in, oldest first.
#[derive(Default)]
pub(crate) struct Sessions {
    all: Mutex<VecDeque<Session>>,
}

impl Sessions {
    /// Lets somebody in; what their browser is to keep.
    pub(crate) fn begin(&self, badge: Badge, now: Mono) -> Secret {
        let secret = Secret::random();
        let key = hash(secret.as_str());
        let mut all = self.lock(now);
        if all.len() >= SESSIONS_MAX {
            all.pop_front();
        }
        all.push_back(Session { badge, form: Secret::random(), key, until: now.after(LIFETIME) });
        secret
    }

    /// The session of a browser that keeps that.
    pub(crate) fn find(&self, given: &str, now: Mono) -> Option<Session> {
        let key = hash(given);
        // Every one is compared, so that the time taken tells nothing of which it was.
        let all = self.lock(now);
        all.iter()
            .fold(None, |found, session| if session.key.ct_eq(&key).into() { Some(session.clone()) } else { found })
    }

    /// Whether it has not ended.
    pub(crate) fn lasts(&self, session: &Session, now: Mono) -> bool {
        self.lock(now).iter().any(|other| other.key.ct_eq(&session.key).into())
    }

    /// Ends one.
    pub(crate) fn end(&self, session: &Session, now: Mono) {
        self.lock(now).retain(|other| !bool::from(other.key.ct_eq(&session.key)));
    }

    /// All that have not run out.
    fn lock(&self, now: Mono) -> MutexGuard<'_, VecDeque<Session>> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        while all.front().is_some_and(|oldest| oldest.until <= now) {
            all.pop_front();
        }
        all
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str) -> Badge {
        Badge { name: name.into(), hash: [7; 32] }
    }

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    #[test]
    fn a_session_lasts_its_time_and_not_longer() {
        let sessions = Sessions::default();
        let secret = sessions.begin(token("ann"), at(10));
        let last = 9 + LIFETIME.as_secs();
        let found = sessions.find(secret.as_str(), at(last)).unwrap();
        assert_eq!(found.badge.name, "ann");
        assert!(sessions.find("", at(last)).is_none() && sessions.find("x", at(last)).is_none());
        assert!(sessions.find(secret.as_str(), at(last + 1)).is_none() && !sessions.lasts(&found, at(last + 1)));
    }

    #[test]
    fn who_signs_out_is_out_and_others_stay() {
        let sessions = Sessions::default();
        let (ann, bob) = (sessions.begin(token("ann"), at(0)), sessions.begin(token("bob"), at(0)));
        let session = sessions.find(ann.as_str(), at(1)).unwrap();
        sessions.end(&session, at(1));
        assert!(sessions.find(ann.as_str(), at(1)).is_none() && !sessions.lasts(&session, at(1)));
        assert!(sessions.find(bob.as_str(), at(1)).is_some());
    }

    #[test]
    fn of_too_many_the_oldest_goes() {
        let sessions = Sessions::default();
        let first = sessions.begin(token("first"), at(0));
        let second = sessions.begin(token("second"), at(0));
        for _ in 2..=SESSIONS_MAX {
            sessions.begin(token("more"), at(0));
        }
        assert!(sessions.find(first.as_str(), at(0)).is_none());
        assert!(sessions.find(second.as_str(), at(0)).is_some());
    }

    #[test]
    fn secrets_differ_and_are_known_as_a_whole_only() {
        let (one, other) = (Secret::random(), Secret::random());
        assert!(one != other && one.is(one.as_str()) && !one.is(other.as_str()) && !one.is(&one.as_str()[1..]));
    }
}
