//! What a Redis says of itself: version, role, what it does when memory is short.

use std::collections::BTreeMap;

use crate::redis_bus::trouble::{Cause, Trouble};

/// The oldest version that knows everything that is asked.
const VERSION_MIN: (u32, u32) = (6, 2);

/// What matters of `INFO`; what it does not say is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// `7.0.15`; Valkey says here which Redis it is like.
    pub version: Option<String>,
    /// `master` or `slave`.
    pub role: Option<String>,
    /// `noeviction`, or what is thrown away when memory is short.
    pub policy: Option<String>,
    /// Bytes it may use; 0 = all.
    pub maxmemory: Option<u64>,
    /// Whether each write is kept on disk.
    pub appends: Option<bool>,
}

impl Facts {
    pub(super) fn read(info: &str) -> Self {
        let lines: BTreeMap<&str, &str> = info.lines().filter_map(|line| line.trim().split_once(':')).collect();
        let line = |name: &str| lines.get(name).map(|value| value.to_string());
        Self {
            version: line("redis_version"),
            role: line("role"),
            policy: line("maxmemory_policy"),
            maxmemory: line("maxmemory").and_then(|value| value.parse().ok()),
            appends: line("aof_enabled").map(|value| value == "1"),
        }
    }

    pub(super) fn check(&self) -> Result<(), Trouble> {
        let number = |part: Option<&str>| part.and_then(|part| part.parse::<u32>().ok());
        let Some(version) = &self.version else { return Ok(()) };
        let mut parts = version.split('.');
        let (Some(major), Some(minor)) = (number(parts.next()), number(parts.next())) else { return Ok(()) };
        match (major, minor) < VERSION_MIN {
            true => Err(Trouble::new(Cause::TooOld, format!("this Redis has version {version}"))),
            false => Ok(()),
        }
    }

    /// What an operator should know of the settings, in one sentence.
    pub(super) fn advice(&self) -> Option<String> {
        let policy = self.policy.as_deref().filter(|policy| *policy != "noeviction")?;
        (self.maxmemory.unwrap_or(0) > 0).then(|| {
            format!(
                "Redis throws keys away when memory is short (maxmemory-policy {policy}): leases and orders may vanish, \
                 and environments then look lost; set maxmemory-policy noeviction"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\n# Memory\r\nmaxmemory:100\r\nmaxmemory_policy:allkeys-lru\r\n\
                        # Persistence\r\naof_enabled:0\r\n# Replication\r\nrole:master\r\n";

    #[test]
    fn what_redis_says_of_itself_is_read() {
        let facts = Facts::read(INFO);
        assert_eq!(facts.version.as_deref(), Some("7.0.15"));
        assert_eq!((facts.role.as_deref(), facts.appends, facts.maxmemory), (Some("master"), Some(false), Some(100)));
        assert_eq!(Facts::read("nonsense"), Facts::default());
    }

    #[test]
    fn an_old_version_is_refused_by_its_number() {
        let with = |version: &str| Facts { version: Some(version.into()), ..Facts::default() }.check();
        for version in ["6.2.0", "7.0.15", "8.2", "255.255.255", "unstable"] {
            assert_eq!(with(version), Ok(()), "{version}");
        }
        for version in ["6.0.16", "5.0.7", "2.8.4"] {
            let trouble = with(version).unwrap_err();
            assert_eq!(trouble.cause, Cause::TooOld);
            assert!(trouble.to_string().contains(version), "{trouble}");
        }
    }

    #[test]
    fn a_policy_that_may_throw_keys_away_is_told() {
        assert!(Facts::read(INFO).advice().unwrap().contains("allkeys-lru"));
        let facts = |info: &str| Facts::read(&INFO.replace("allkeys-lru", info)).advice();
        assert_eq!(facts("noeviction"), None);
        assert_eq!(
            Facts::read(&INFO.replace("maxmemory:100", "maxmemory:0")).advice(),
            None,
            "nothing is ever thrown away"
        );
    }
}
