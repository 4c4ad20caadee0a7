//! Who is there: peer credentials on the unix socket, bearer tokens on TCP.
//!
//! Only SHA-256 hashes of tokens are stored, and they are compared in constant time. Deliberately absent: passwords.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::problem::Problem;
use crate::ports::{Record, RecordError, TokenRow};

/// The group whose members may do everything over the unix socket.
const GROUP: &str = "nbsupervisor";

/// Tokens read from the record count this long; those made or revoked here count at once.
const TOKENS_FRESH: Duration = Duration::from_secs(5);

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(crate) enum Peer {
    /// A process on this host; the name it acts under, or that it may not.
    Unix {
        /// Its user.
        uid: u32,
        /// Its name, if it may act.
        actor: Option<String>,
    },
    /// Somebody over TCP, with the names that `Host` may have.
    Tcp {
        /// From where.
        address: SocketAddr,
        /// Configured listen names.
        names: std::sync::Arc<[String]>,
    },
}

/// Who acts, once that is known.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    /// `root`, a user's name, or `token:<name>`.
    pub name: String,
    /// From where.
    pub peer: String,
}

/// Finds out who a user of the unix socket is. May ask the system's user database, so it is called off the loop.
pub(crate) fn unix_actor(uid: u32, gid: u32, own_uid: u32) -> Option<String> {
    if uid == 0 {
        return Some("root".into());
    }
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let name = user.as_ref().map_or_else(|| format!("uid:{uid}"), |user| user.name.clone());
    if uid == own_uid {
        return Some(name);
    }
    let group = Group::from_name(GROUP).ok().flatten()?.gid;
    let member = gid == group.as_raw() || user.is_some_and(|user| is_member(&user, group));
    member.then_some(name)
}

fn is_member(user: &User, group: Gid) -> bool {
    let name = std::ffi::CString::new(user.name.as_str());
    name.ok().and_then(|name| getgrouplist(&name, user.gid).ok()).is_some_and(|groups| groups.contains(&group))
}

/// The tokens of the record, kept for a moment.
#[derive(Debug, Default)]
pub(crate) struct TokenCache {
    rows: Mutex<Option<(Instant, std::sync::Arc<Vec<TokenRow>>)>>,
}

impl TokenCache {
    /// Forgets, so that a token made or revoked counts at once.
    pub fn forget(&self) {
        *self.lock() = None;
    }

    /// Whose token that is, if anybody's.
    pub async fn find(&self, record: &dyn Record, token: &str) -> Result<Option<TokenRow>, RecordError> {
        Ok(find(&self.rows(record).await?, token).cloned())
    }

    /// Whether a token that was found earlier still counts.
    pub async fn holds(&self, record: &dyn Record, name: &str, hash: &[u8; 32]) -> Result<bool, RecordError> {
        let rows = self.rows(record).await?;
        Ok(rows.iter().any(|row| row.name == name && bool::from(row.hash.ct_eq(hash))))
    }

    async fn rows(&self, record: &dyn Record) -> Result<std::sync::Arc<Vec<TokenRow>>, RecordError> {
        let fresh = self.lock().as_ref().filter(|(at, _)| at.elapsed() < TOKENS_FRESH).map(|(_, rows)| rows.clone());
        if let Some(rows) = fresh {
            return Ok(rows);
        }
        let asked = Instant::now();
        let rows = std::sync::Arc::new(record.tokens().await?);
        *self.lock() = Some((asked, rows.clone()));
        Ok(rows)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Instant, std::sync::Arc<Vec<TokenRow>>)>> {
        self.rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Finds out whose token a request carries.
pub(crate) async fn token_actor(
    cache: &TokenCache,
    record: &dyn Record,
    headers: &HeaderMap,
    address: SocketAddr,
) -> Result<Actor, Problem> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(given) = given else { return Err(unauthorized("no token was sent", "Bearer")) };
    let token = given.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let Some((_, token)) = token else {
        return Err(unauthorized("the Authorization header is no bearer token", "Bearer"));
    };
    match cache.find(record, token.trim()).await? {
        Some(row) => Ok(Actor { name: format!("token:{}", row.name), peer: address.to_string() }),
        None => Err(unauthorized("the token is not known here", "Bearer error=\"invalid_token\"")),
    }
}

/// Compares with every row, so that the time taken tells nothing of which one it was.
fn find<'a>(rows: &'a [TokenRow], token: &str) -> Option<&'a TokenRow> {
    let hash = hash(token);
    let mut found = None;
    for row in rows {
        if bool::from(row.hash.ct_eq(&hash)) && row.role == "admin" {
            found = Some(row);
        }
    }
    found
}

/// What is stored of a token.
pub(crate) fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn unauthorized(detail: &str, challenge: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
        .hint("send `Authorization: Bearer TOKEN`; `nbsupervisor token create NAME` on the host makes one")
        .header(header::WWW_AUTHENTICATE, challenge)
}

#[cfg(test)]
mod tests {
    use nbs_core::time::Wall;

    use super::*;

    #[test]
    fn root_and_the_daemons_own_user_may_act_and_strangers_may_not() {
        assert_eq!(unix_actor(0, 0, 1234).as_deref(), Some("root"));
        assert!(unix_actor(54_321, 54_321, 54_321).is_some());
        assert_eq!(unix_actor(54_321, 54_321, 0), None);
    }

    #[test]
    fn a_token_is_found_by_its_hash_and_only_as_a_whole() {
        let row = |name: &str| TokenRow {
            name: name.into(),
            hash: hash(&format!("secret-{name}")),
            role: "admin".into(),
            created_at: Wall(0),
        };
        let rows = [row("ci"), row("dev")];
        assert_eq!(find(&rows, "secret-dev").map(|row| row.name.as_str()), Some("dev"));
        assert_eq!(find(&rows, "secret-de"), None);
        assert_eq!(find(&rows, ""), None);
    }
}
