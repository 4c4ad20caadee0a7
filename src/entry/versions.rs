//! Which versions the apps of a runtime report, environment by environment. Counted as apps are shown: environments are
//! listed every few seconds, and a fleet has many apps to ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use nbs_core::name::{EnvironmentName, RuntimeName};
use nbs_core::view::AppView;

/// How many instances of a runtime report each version.
type Counts = BTreeMap<RuntimeName, BTreeMap<String, usize>>;

/// Versions of all environments, cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Versions(imbl::OrdMap<EnvironmentName, Arc<Counts>>);

impl Versions {
    /// The version that a runtime has in an environment, if all of its apps there that report one agree.
    pub fn agreed(&self, environment: &EnvironmentName, runtime: &RuntimeName) -> Option<&str> {
        let reported = self.0.get(environment)?.get(runtime)?;
        let mut versions = reported.keys();
        versions.next().filter(|_| versions.next().is_none()).map(String::as_str)
    }

    /// An app is shown otherwise than before.
    pub(super) fn replace(&mut self, before: Option<&AppView>, now: Option<&AppView>) {
        let reported = |view| -> Vec<_> { Option::into_iter(view).flat_map(reports).collect() };
        let (before, now) = (reported(before), reported(now));
        if before != now {
            before.into_iter().for_each(|report| self.subtract(report));
            now.into_iter().for_each(|report| self.add(report));
        }
    }

    fn add(&mut self, (environment, runtime, version): Reported<'_>) {
        let counts = Arc::make_mut(self.0.entry(environment.clone()).or_default());
        let reported = counts.entry(runtime.clone()).or_default();
        *reported.entry(version.to_string()).or_default() += 1;
    }

    fn subtract(&mut self, (environment, runtime, version): Reported<'_>) {
        let Some(counts) = self.0.get_mut(environment).map(Arc::make_mut) else { return };
        let Some(reported) = counts.get_mut(runtime) else { return };
        if let Some(count) = reported.get_mut(version) {
            *count -= 1;
        }
        reported.retain(|_, count| *count > 0);
        counts.retain(|_, reported| !reported.is_empty());
        if counts.is_empty() {
            self.0.remove(environment);
        }
    }
}

/// A version, with the runtime that reports it and where.
type Reported<'a> = (&'a EnvironmentName, &'a RuntimeName, &'a str);

fn reports(app: &AppView) -> impl Iterator<Item = Reported<'_>> {
    app.instances.iter().filter_map(|instance| {
        let version = instance.report.as_ref()?.version.as_deref()?;
        Some((&instance.environment, &app.spec.runtime, version))
    })
}
