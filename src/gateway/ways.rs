//! The ways to the gateways of other environments: where each is, how it fares, and how much is on it.
//!
//! What a request meets on a way is noted here, and judged by `nbs_core::choice::Health`. Each gateway does so for itself:
//! what one host cannot reach, another may. Deliberately absent: any question that nobody asked for (`reach` asks, and
//! only tells the entry), and the choice among ways (`choice`).

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::header::HeaderValue;
use nbs_core::choice::{Health, Road, Roads};
use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::time::Mono;
use nbs_core::view::EnvironmentView;

use super::hop::HopSender;
use crate::entry::FleetView;
use crate::security::EnvironmentKeys;

/// How long connecting to another gateway may take, if apps are not given less.
pub const CONNECT: Duration = Duration::from_secs(3);
/// Failures of a way within this time after one that was told are not told again.
const TOLD: Duration = Duration::from_secs(10);

/// Where a gateway listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Endpoint {
    /// Reads `http://host:port`.
    ///
    /// # Errors
    /// It is anything else; the text says what, and the remedy.
    pub fn parse(url: &str) -> Result<Self, String> {
        let bad = |why: &str| {
            format!(
                "{url:?} {why}; set ENVIRONMENT_PROXY_URL (or ENVIRONMENT_URL) of the environment to http://HOST:PORT"
            )
        };
        let Some(rest) = url.strip_prefix("http://") else {
            return Err(bad("is not an address of plain HTTP, which is what gateways speak among themselves"));
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return Err(bad("is more than a host and a port, and requests travel with their paths unchanged"));
        }
        let authority: hyper::http::uri::Authority = authority.parse().map_err(|_| bad("names no host"))?;
        let host = authority.host().trim_matches(['[', ']']).to_string();
        if host.is_empty() || authority.as_str().ends_with(':') {
            return Err(bad("names no host"));
        }
        Ok(Self { host, port: authority.port_u16().unwrap_or(80) })
    }
}

/// The way to one environment's gateway at one address.
pub struct Way {
    /// Which environment.
    pub environment: EnvironmentName,
    /// Where its gateway listens.
    pub endpoint: Endpoint,
    url: String,
    keys: EnvironmentKeys,
    in_flight: Arc<AtomicUsize>,
    /// Whether `health` has anything to tell.
    ill: AtomicBool,
    health: Mutex<Health>,
    told: Mutex<Option<Mono>>,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Way({} at {})", self.environment, self.url)
    }
}

/// A request under way, struck out when dropped.
#[derive(Debug)]
pub struct Load(Arc<AtomicUsize>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Way {
    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_open(&self, now: Mono) -> bool {
        !self.ill.load(Relaxed) || self.health().allows(now)
    }

    /// The keys that both ends share.
    pub fn keys(&self) -> &EnvironmentKeys {
        &self.keys
    }

    /// The address, as it was given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Counts a request.
    pub fn load(&self) -> Load {
        self.in_flight.fetch_add(1, Relaxed);
        Load(self.in_flight.clone())
    }
}

/// All ways.
pub struct Ways {
    sender: Option<HopSender>,
    ways: Mutex<HashMap<EnvironmentName, Arc<Way>>>,
    here: Arc<AtomicUsize>,
    turns: AtomicUsize,
    /// Marks what this gateway has sent, so that it knows what comes back to itself.
    mark: HeaderValue,
}

impl Ways {
    /// Ways for one who may send; none leads anywhere for one who may not.
    pub fn new(sender: Option<HopSender>, nonce: u64) -> Self {
        let mark = HeaderValue::try_from(format!("{nonce:016x}")).unwrap_or(HeaderValue::from_static("0"));
        Self { sender, ways: Mutex::default(), here: Arc::default(), turns: AtomicUsize::new(0), mark }
    }

    fn ways(&self) -> MutexGuard<'_, HashMap<EnvironmentName, Arc<Way>>> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there may be any.
    pub fn lead_anywhere(&self) -> bool {
        self.sender.is_some()
    }

    /// What this gateway marks its requests with.
    pub fn mark(&self) -> &HeaderValue {
        &self.mark
    }

    /// The way to an environment.
    ///
    /// # Errors
    /// There is none; the text says why, and the remedy.
    pub fn way(&self, view: &EnvironmentView) -> Result<Arc<Way>, String> {
        let environment = &view.registration.environment;
        let Some(sender) = &self.sender else {
            return Err("this daemon sends no visitors to other hosts: only an entry does".into());
        };
        let Some(url) = view.registration.target() else {
            return Err(format!("environment {environment} has named no URL; set ENVIRONMENT_URL on its host"));
        };
        let mut ways = self.ways();
        let known = ways.get(environment);
        if let Some(way) = known.filter(|way| way.url == url) {
            return Ok(way.clone());
        }
        let endpoint = Endpoint::parse(url)?;
        let in_flight = known.map(|way| way.in_flight.clone()).unwrap_or_default();
        let Some(keys) = (sender.keys)(environment) else {
            return Err(format!("there is no key for environment {environment}; check security.fleet_key_file"));
        };
        let way = Arc::new(Way {
            environment: environment.clone(),
            endpoint,
            url: url.to_string(),
            keys,
            in_flight,
            ill: AtomicBool::new(false),
            health: Mutex::default(),
            told: Mutex::default(),
        });
        ways.insert(environment.clone(), way.clone());
        Ok(way)
    }

    /// Counts a request to an app of this host.
    pub fn load_here(&self) -> Load {
        self.here.fetch_add(1, Relaxed);
        Load(self.here.clone())
    }

    /// The header that names an app to the gateway at the end of a way.
    pub fn header(&self, way: &Way, app: &AppId, method: &str, target: &str) -> Option<HeaderValue> {
        let now = self.sender.as_ref()?.clock.now().wall.0;
        HeaderValue::try_from(way.keys.hop_header(app, now, method, target)).ok()
    }

    /// Takes a way for one request; `false`: it rests, or another request is trying it.
    pub fn take(&self, way: &Way) -> bool {
        !way.ill.load(Relaxed) || way.health().take(self.now(), CONNECT)
    }

    /// A request could not be brought over.
    pub fn failed(&self, way: &Way, why: &str) {
        let now = self.now();
        way.ill.store(true, Relaxed);
        way.health().failed(now, RandomState::new().build_hasher().finish());
        let mut told = way.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|at| now.since(at) >= TOLD) {
            *told = Some(now);
            drop(told);
            tracing::warn!(environment = %way.environment, url = way.url,
                "the gateway of environment {} failed: {why}; visitors are kept from it until it is back", way.environment);
        }
    }

    /// A request was answered.
    pub fn answered(&self, way: &Way) {
        if way.ill.load(Relaxed) && way.health().answered() {
            way.ill.store(false, Relaxed);
            tracing::info!(environment = %way.environment, "the gateway of environment {} is back", way.environment);
        }
    }

    /// Forgets the ways to environments that are gone.
    pub fn sweep(&self, fleet: &FleetView) {
        if self.lead_anywhere() {
            self.ways().retain(|environment, _| fleet.environments.contains_key(environment));
        }
    }

    fn now(&self) -> Mono {
        self.sender.as_ref().map_or(Mono::default(), |sender| sender.clock.now().mono)
    }
}

/// The ways as they are in one snapshot.
pub struct Map<'a> {
    /// All ways.
    pub ways: &'a Ways,
    /// The snapshot.
    pub fleet: &'a FleetView,
}

impl Roads for Map<'_> {
    fn road(&self, environment: &EnvironmentName) -> Road {
        let ways = self.ways;
        let here = |draining| Road::Here { in_flight: ways.here.load(Relaxed), draining };
        match self.fleet.environments.get(environment) {
            None => here(false),
            Some(view) if view.is_local => here(view.draining),
            Some(view) => match ways.way(view) {
                Err(_) => Road::Unknown,
                Ok(way) if way.is_open(ways.now()) => {
                    Road::There { in_flight: way.in_flight.load(Relaxed), draining: view.draining }
                }
                Ok(_) => Road::Resting,
            },
        }
    }

    fn spin(&self) -> usize {
        self.ways.turns.fetch_add(1, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_host_and_a_port() {
        for (url, host, port) in [
            ("http://10.0.0.2:13000", "10.0.0.2", 13000),
            ("http://worker-a.example/", "worker-a.example", 80),
            ("http://[::1]:81", "::1", 81),
        ] {
            assert_eq!(Endpoint::parse(url), Ok(Endpoint { host: host.into(), port }), "{url}");
        }
        for bad in
            ["https://a:1", "a:1", "http://", "http://a:", "http://a/b", "http://u@a", "http://a:70000", "http://a?b"]
        {
            let error = Endpoint::parse(bad).unwrap_err();
            assert!(error.contains(&format!("{bad:?}")) && error.contains("ENVIRONMENT_PROXY_URL"), "{error}");
        }
    }
}
