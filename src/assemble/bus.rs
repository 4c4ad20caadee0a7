//! What the two sides need to speak with Redis: servers, keys, figures.

use std::collections::BTreeMap;
use std::fmt::Write;

use nbs_core::name::{AppId, EnvironmentName};
use tracing::warn;

use super::Failure;
use crate::config::{Config, RedisAddress, RedisSettings, RedisTarget};
use crate::entry::EntryHandle;
use crate::redis_bus::worker::UsageSource;
use crate::redis_bus::{Server, Servers};
use crate::security::{FleetKey, WorkerKey};
use crate::usage::UsageHandle;
use crate::wire::api::usage::AppUsage;
use crate::wire::redis::{HostUsage, Usage};

/// The servers of the configuration.
pub(super) fn servers(settings: &RedisSettings) -> Result<Servers, Failure> {
    let server = |target: &RedisTarget| {
        // A CA belongs to encrypted links only; the other URL may be a plain one.
        let tls = matches!(target.address, RedisAddress::Tcp { tls: true, .. });
        let ca_file = settings.ca_file.clone().filter(|_| tls);
        Server::new(&url(target), None, ca_file).map_err(|error| Failure::of(&error))
    };
    Ok(Servers { cache: server(&settings.cache)?, command: server(&settings.command)? })
}

/// The target as the client library reads it. Holds the password; it is not shown.
fn url(target: &RedisTarget) -> String {
    let user = target.username.as_deref().map(encoded).unwrap_or_default();
    let password = target.password.as_ref().map(|password| encoded(password.expose()));
    match &target.address {
        RedisAddress::Tcp { host, port, tls } => {
            let scheme = if *tls { "rediss" } else { "redis" };
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            let who = match password {
                Some(password) => format!("{user}:{password}@"),
                None if user.is_empty() => String::new(),
                None => format!("{user}@"),
            };
            format!("{scheme}://{who}{host}:{port}/{}", target.database)
        }
        RedisAddress::Unix(path) => {
            let mut url = format!("redis+unix://{}?db={}", path.display(), target.database);
            if !user.is_empty() {
                url.push_str(&format!("&user={user}"));
            }
            if let Some(password) = password {
                url.push_str(&format!("&pass={password}"));
            }
            url
        }
    }
}

/// Percent-encoded but for what is safe anywhere in a URL.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            // Writing to a text cannot fail.
            _ => _ = write!(out, "%{byte:02X}"),
        }
    }
    out
}

/// The fleet's key; made now if this is the entry's first start with Redis.
pub(super) fn fleet_key(config: &Config) -> Result<FleetKey, Failure> {
    let file = &config.security.fleet_key_file;
    let (key, made) = FleetKey::read_or_generate(file).map_err(|error| Failure::of(&error))?;
    if made {
        tracing::info!(
            "made the fleet key {}; `nbsupervisor key export-worker ENVIRONMENT` makes the file of each worker",
            file.display()
        );
    }
    Ok(key)
}

/// The key of this worker's environment.
pub(super) fn worker_key(config: &Config) -> Result<WorkerKey, Failure> {
    let read = WorkerKey::read(&config.security.fleet_key_file, &config.environment.name);
    let (key, warning) = read.map_err(|error| Failure::of(&error))?;
    if let Some(warning) = warning {
        warn!("{warning}");
    }
    Ok(key)
}

/// The figures of this host, as they are published.
pub(super) struct Published {
    pub(super) usage: UsageHandle,
    pub(super) entry: EntryHandle,
    pub(super) environment: EnvironmentName,
}

impl UsageSource for Published {
    fn usage(&self) -> Option<Usage> {
        let host = self.usage.host();
        let view = self.entry.view();
        let running = view.apps.iter().filter(|(_, app)| app.process_in(&self.environment).is_some());
        let apps: BTreeMap<AppId, AppUsage> = running
            .filter_map(|(name, _)| Some((name.clone(), super::sources::figures(&self.usage.of(name)?))))
            .collect();
        let host = HostUsage {
            cpu_percent: Some(super::sources::percent(host.cpu_percent)),
            memory_bytes: Some(host.memory_used),
            memory_total: Some(host.memory_total),
            cpus: Some(host.cpus),
            pressure: host.pressure.map(super::sources::shown),
        };
        Some(Usage { at_ms: 0, host, apps })
    }

    fn measured(&self) -> tokio::sync::watch::Receiver<u64> {
        self.usage.sampled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nbs_core::secret::SecretText;

    #[test]
    fn a_password_with_any_sign_arrives_whole() {
        let mut target = RedisTarget {
            address: RedisAddress::Tcp { host: "::1".into(), port: 6379, tls: false },
            database: 3,
            username: Some("nbs".into()),
            password: Some(SecretText::new("a:b@c/ü%")),
        };
        assert_eq!(url(&target), "redis://nbs:a%3Ab%40c%2F%C3%BC%25@[::1]:6379/3");
        target.address = RedisAddress::Unix("/run/r.sock".into());
        assert_eq!(url(&target), "redis+unix:///run/r.sock?db=3&user=nbs&pass=a%3Ab%40c%2F%C3%BC%25");
    }
}
