//! An entry's gateway and the gateways of its environments, each with a desk of its own.

use std::sync::Arc;
use std::time::Duration;

use nbs_core::intent::Intent;
use nbs_core::launch::Address;
use nbs_core::name::{EnvironmentName, RuntimeName};
use nbs_core::order::{Registration, RuntimeSummary};
use nbs_core::paths::Paths;
use nbs_core::phase::Status;
use nbs_core::recipe::{Adapter, Listen};
use nbs_core::spec::{Limits, ProxyChoice};
use nbs_core::time::{Mono, Wall};
use nbs_core::view::{AppView, EnvironmentView, Presence};
use nbsupervisor::clock::SystemClock;
use nbsupervisor::gateway::{HopReceiver, HopSender, Hops, Options};
use nbsupervisor::ports::Clock;
use nbsupervisor::security::{EnvironmentKeys, FleetKey};

use crate::house::*;

pub fn environment(text: &str) -> EnvironmentName {
    EnvironmentName::parse(text).unwrap()
}

/// An app in several environments.
pub fn wide(app: &str, choice: ProxyChoice, instances: &[(&str, Status)]) -> AppView {
    let mut view = resting(app, Status::Running, Intent::Run);
    let pattern = view.instances.remove(0);
    for (name, status) in instances {
        let mut instance = pattern.clone();
        (instance.environment, instance.status) = (environment(name), *status);
        view.instances.push(instance);
    }
    let mut spec = (*view.spec).clone();
    spec.proxy.choice = choice;
    spec.environments = instances.iter().map(|(name, _)| environment(name)).collect();
    view.spec = Arc::new(spec);
    view
}

/// An environment with a URL.
pub fn at(name: &str, url: String, is_local: bool) -> EnvironmentView {
    EnvironmentView {
        registration: Arc::new(Registration {
            environment: environment(name),
            version: "0".into(),
            boot: "b".into(),
            concurrent_starts: 1,
            runtimes: Default::default(),
            host: "h".into(),
            url: Some("http://192.0.2.1:1".into()),
            proxy_url: Some(url),
            capacity: None,
            databases: Default::default(),
            follows: None,
        }),
        heard_at: Wall(0),
        heard: Mono::default(),
        presence: Presence::Available,
        draining: false,
        is_local,
        proxy: None,
        instances: 1,
    }
}

/// The same with a recipe.
pub fn with_recipe(mut view: EnvironmentView, runtime: &str, paths: Paths) -> EnvironmentView {
    let name = RuntimeName::parse(runtime).unwrap();
    let summary = RuntimeSummary {
        name: name.clone(),
        description: String::new(),
        adapter: Adapter::Process,
        listen: Listen::Port,
        strip_prefix: false,
        max_limits: Limits::default(),
        paths,
        app_id_pattern: None,
        needs_database: false,
        secrets_needed: Vec::new(),
        turn_timeout: Duration::from_secs(1),
        shared: None,
        upgrade_timeout: None,
    };
    Arc::make_mut(&mut view.registration).runtimes.insert(name, summary);
    view
}

pub struct Fleet {
    key: Arc<FleetKey>,
    pub entry: House,
}

impl Fleet {
    pub async fn open() -> Self {
        let key = Arc::new(FleetKey::generate().unwrap());
        let keys = key.clone();
        let sender = HopSender { keys: Arc::new(move |name| Some(keys.environment(name))), clock: clock() };
        let hops = Hops { sender: Some(sender), receiver: None };
        Self { key, entry: House::open_at(0, short(), hops).await }
    }

    pub fn keys(&self, name: &str) -> EnvironmentKeys {
        self.key.environment(&environment(name))
    }

    /// The gateway of an environment, on a port that was somebody's before, or any.
    pub async fn worker(&self, name: &str, port: u16) -> House {
        let receiver = HopReceiver { keys: self.keys(name), clock: clock() };
        House::open_at(port, short(), Hops { sender: None, receiver: Some(receiver) }).await
    }

    /// A worker on which `crm` runs and says who it is, ahead of what it was asked.
    pub async fn worker_with_app(&self, name: &'static str, port: u16) -> House {
        let worker = self.worker(name, port).await;
        let address = app(move |request| async move {
            let mut answer = mirror(request).await;
            answer.headers_mut().insert("x-served-by", name.parse().unwrap());
            answer
        });
        worker.show(vec![there(name, address.await)]);
        worker
    }
}

/// The app `crm` as the worker of an environment shows it.
pub fn there(name: &str, address: Address) -> AppView {
    let mut view = running("crm", address, true);
    view.instances[0].environment = environment(name);
    view
}

pub fn url(house: &House) -> String {
    format!("http://127.0.0.1:{}", house.port)
}

pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

fn short() -> Options {
    Options { drain_timeout: Duration::from_millis(200), ..Options::default() }
}
