//! Which of an app's environments serves a visitor.
//!
//! What a request names counts first, then what the visitor named before, then what the app's spec says. An environment
//! with `serve = false` gets no visitors, and one that the app is leaving gets them only when there is no other.
//! Deliberately absent: whether the instance that was found serves now (the gate), and how far away it is (the gateway
//! tells it as a `Road`).

use crate::name::EnvironmentName;
use crate::phase::Status;
use crate::spec::ProxyChoice;
use crate::time::Mono;
use crate::view::{AppView, InstanceView};
use std::time::Duration;

/// The parameter of a target that names an environment.
pub const QUERY: &str = "__environment";
/// What the names of cookies begin with that remember an environment; the app's ID follows.
pub const COOKIE: &str = "nbs_env_";
/// The cookie of somebody who is signed in to the web console. Browsers send it to every port of a host, so the gateway
/// must know it: no app may see it.
pub const CONSOLE_COOKIE: &str = "nbs_console";
/// The cookie that remembers the app whose page was served last.
pub const APP_COOKIE: &str = "nbs_app";

/// What a request says about the environment it wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wish {
    /// Named by this very request, as it was written.
    pub named: Option<String>,
    /// Named by an earlier one and remembered. One that does not serve the app is no wish.
    pub remembered: Option<String>,
}

/// How visitors get to an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Road {
    /// It is this daemon's own: to the app itself.
    Here {
        /// Requests under way.
        in_flight: usize,
        /// Whether it is to get no new starts.
        draining: bool,
    },
    /// To its gateway.
    There {
        /// Requests under way.
        in_flight: usize,
        /// Whether it is to get no new starts.
        draining: bool,
    },
    /// Its gateway has just failed and is left alone for a while.
    Resting,
    /// Nobody knows where its gateway is.
    Unknown,
}

/// What the gateway knows of its ways.
pub trait Roads {
    /// The way to an environment.
    fn road(&self, environment: &EnvironmentName) -> Road;
    /// A number that is another one each time, for equals to take turns.
    fn spin(&self) -> usize;
}

/// Every environment is this daemon's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllHere;

impl Roads for AllHere {
    fn road(&self, _: &EnvironmentName) -> Road {
        Road::Here { in_flight: 0, draining: false }
    }

    fn spin(&self) -> usize {
        0
    }
}

/// What became of the choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice<'a> {
    /// This instance.
    One(&'a InstanceView),
    /// The app serves nobody anywhere.
    Nobody,
    /// The visitor must say which; `serving` lists them.
    Ask,
    /// The request names an environment that does not serve this app.
    Elsewhere,
}

/// The instances that get visitors, in the order of their environments.
pub fn serving(app: &AppView) -> impl Iterator<Item = &InstanceView> {
    let serves = |instance: &&InstanceView| {
        app.spec.placements.get(&instance.environment).is_none_or(|placement| placement.serve)
    };
    let stays = app.instances.iter().filter(serves).any(|instance| !instance.leaving);
    app.instances.iter().filter(serves).filter(move |instance| !stays || !instance.leaving)
}

/// Chooses.
pub fn choose<'a>(app: &'a AppView, wish: &Wish, roads: &impl Roads) -> Choice<'a> {
    let at = |name: &str| serving(app).find(|instance| instance.environment.as_str() == name);
    if let Some(name) = &wish.named {
        return at(name).map_or(Choice::Elsewhere, Choice::One);
    }
    let mut all = serving(app);
    let Some(first) = all.next() else { return Choice::Nobody };
    if all.next().is_none() {
        return Choice::One(first);
    }
    if let Some(instance) = wish.remembered.as_deref().and_then(at) {
        return Choice::One(instance);
    }
    match &app.spec.proxy.choice {
        ProxyChoice::Required => Choice::Ask,
        ProxyChoice::Environment(name) => at(name.as_str()).map_or(Choice::Ask, Choice::One),
        ProxyChoice::Spread => spread(app, roads).map_or(Choice::Nobody, Choice::One),
    }
}

/// The instance that serves best; of those that serve equally well the one whose environment has the least to do.
fn spread<'a>(app: &'a AppView, roads: &impl Roads) -> Option<&'a InstanceView> {
    let mut best: Vec<&InstanceView> = Vec::new();
    let mut least = (u8::MAX, usize::MAX);
    for instance in serving(app) {
        let rank = rank(instance, roads.road(&instance.environment));
        if rank < least {
            least = rank;
            best.clear();
        }
        if rank == least {
            best.push(instance);
        }
    }
    match best.len() {
        0 | 1 => best.pop(),
        // Nobody serves, and all that is known of them is their status.
        _ if least.0 >= WAITS => {
            let status = Status::summary(best.iter().map(|instance| instance.status));
            best.iter().find(|instance| instance.status == status).copied()
        }
        equals => Some(best[roads.spin() % equals]),
    }
}

/// Whether an instance serves, as far as this daemon can tell.
pub fn serves(instance: &InstanceView, roads: &impl Roads) -> bool {
    rank(instance, roads.road(&instance.environment)).0 < WAITS
}

/// How far away an instance is that serves: less is better, and it does not depend on what goes on.
pub(crate) fn distance(instance: &InstanceView, roads: &impl Roads) -> (u8, bool) {
    let road = roads.road(&instance.environment);
    (rank(instance, road).0, !matches!(road, Road::Here { .. }))
}

/// From here on an instance does not serve.
const WAITS: u8 = 5;

/// How well an instance serves: less is better.
fn rank(instance: &InstanceView, road: Road) -> (u8, usize) {
    match (instance.status, road) {
        (Status::Running, Road::Here { in_flight, draining }) if instance.target().is_some() => {
            (u8::from(draining) * 2, in_flight)
        }
        (Status::Running, Road::There { in_flight, draining }) => (u8::from(draining) * 2, in_flight),
        (Status::Unknown, Road::There { in_flight, draining }) => (1 + u8::from(draining) * 2, in_flight),
        // It is about to serve, or a visit makes it.
        (Status::Running | Status::Unknown | Status::Error | Status::NotFound, _) => (WAITS + 1, 0),
        _ => (WAITS, 0),
    }
}

/// The shortest time that a way is left alone after a failure.
pub const REST_MIN: Duration = Duration::from_millis(250);
/// The longest.
pub const REST_MAX: Duration = Duration::from_secs(15);

/// What requests have told of a way. Nobody is sent over one that has just failed; when its rest is over the next request
/// tries it, and the others stay away until that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    failures: u32,
    until: Mono,
}

impl Health {
    /// Whether a request may be sent now.
    pub fn allows(&self, now: Mono) -> bool {
        self.failures == 0 || self.until <= now
    }

    /// Takes the way: a way that is on trial is not taken by a second one before the trial can have ended, `limit` from
    /// now. `false`: it rests.
    pub fn take(&mut self, now: Mono, limit: Duration) -> bool {
        if self.failures == 0 {
            return true;
        }
        if self.until > now {
            return false;
        }
        self.until = now.after(limit);
        true
    }

    /// It failed, and rests: twice as long each time, up to a quarter less by `random` so that gateways do not return all
    /// at once. Says whether it was well before.
    pub fn failed(&mut self, now: Mono, random: u64) -> bool {
        let rest = (REST_MIN * 2_u32.saturating_pow(self.failures.min(16))).min(REST_MAX);
        let less = rest / 4 * (random % 1_000) as u32 / 1_000;
        self.failures = self.failures.saturating_add(1);
        self.until = now.after(rest.saturating_sub(less).max(REST_MIN));
        self.failures == 1
    }

    /// It brought an answer. Says whether it was ill before.
    pub fn answered(&mut self) -> bool {
        std::mem::take(self).failures > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::tests::{app, report};
    use crate::intent::Intent;
    use crate::spec::Placement;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    /// An app in environments with a status each.
    fn wide(choice: ProxyChoice, instances: &[(&str, Status)]) -> AppView {
        let mut view = app(Status::Running, Intent::Run);
        let pattern = view.instances.remove(0);
        for (environment, status) in instances {
            let mut instance = pattern.clone();
            instance.environment = EnvironmentName::parse(environment).unwrap();
            instance.status = *status;
            instance.report = Some(Arc::new(report(&view.spec.name)));
            view.instances.push(instance);
        }
        let mut spec = (*view.spec).clone();
        spec.proxy.choice = choice;
        view.spec = Arc::new(spec);
        view
    }

    fn without_visitors(view: &mut AppView, environment: &str) {
        let mut spec = (*view.spec).clone();
        let placement = Placement { serve: false, ..Placement::default() };
        spec.placements.insert(EnvironmentName::parse(environment).unwrap(), placement);
        view.spec = Arc::new(spec);
    }

    fn wish(named: Option<&str>, remembered: Option<&str>) -> Wish {
        Wish { named: named.map(Into::into), remembered: remembered.map(Into::into) }
    }

    fn chosen<'a>(choice: Choice<'a>) -> &'a str {
        match choice {
            Choice::One(instance) => instance.environment.as_str(),
            Choice::Ask => "?",
            Choice::Elsewhere => "!",
            Choice::Nobody => "-",
        }
    }

    struct Map(BTreeMap<&'static str, Road>, usize);

    impl Roads for Map {
        fn road(&self, environment: &EnvironmentName) -> Road {
            self.0.get(environment.as_str()).copied().unwrap_or(Road::Unknown)
        }
        fn spin(&self) -> usize {
            self.1
        }
    }

    const RUNS: Status = Status::Running;

    fn there(in_flight: usize) -> Road {
        Road::There { in_flight, draining: false }
    }

    #[test]
    fn request_then_memory_then_spec() {
        let two = [("a", RUNS), ("b", RUNS)];
        let named = ProxyChoice::Environment(EnvironmentName::parse("b").unwrap());
        for (choice, named, remembered, expected) in [
            (ProxyChoice::Required, None, None, "?"),
            (ProxyChoice::Required, Some("a"), Some("b"), "a"),
            (ProxyChoice::Required, None, Some("b"), "b"),
            (ProxyChoice::Required, None, Some("gone"), "?"),
            (ProxyChoice::Required, Some("gone"), Some("b"), "!"),
            (ProxyChoice::Spread, None, None, "a"),
            (ProxyChoice::Spread, Some("b"), None, "b"),
            (named.clone(), None, None, "b"),
            (named.clone(), None, Some("a"), "a"),
            (named, Some("A"), None, "!"),
        ] {
            let view = wide(choice.clone(), &two);
            let found = choose(&view, &wish(named, remembered), &AllHere);
            assert_eq!(chosen(found), expected, "{choice:?} {named:?} {remembered:?}");
        }
    }

    #[test]
    fn one_serving_environment_needs_no_choice_and_one_without_visitors_is_none() {
        let mut view = wide(ProxyChoice::Required, &[("a", RUNS), ("jobs", RUNS)]);
        without_visitors(&mut view, "jobs");
        assert_eq!(chosen(choose(&view, &Wish::default(), &AllHere)), "a");
        assert_eq!(chosen(choose(&view, &wish(Some("jobs"), None), &AllHere)), "!");
        without_visitors(&mut view, "a");
        assert_eq!(chosen(choose(&view, &Wish::default(), &AllHere)), "-");
    }

    #[test]
    fn an_environment_that_the_app_leaves_gets_visitors_only_while_there_is_no_other() {
        let mut view = wide(ProxyChoice::Required, &[("a", RUNS), ("b", Status::Queued)]);
        view.instances[0].leaving = true;
        assert_eq!(chosen(choose(&view, &Wish::default(), &AllHere)), "b");
        view.instances.truncate(1);
        assert_eq!(chosen(choose(&view, &Wish::default(), &AllHere)), "a");
    }

    #[test]
    fn spread_prefers_who_serves_then_who_has_least_to_do_and_equals_take_turns() {
        let draining = Road::There { in_flight: 0, draining: true };
        let local = Road::Here { in_flight: 1, draining: false };
        for (instances, roads, expected) in [
            ([("a", RUNS), ("b", RUNS)], [there(1), there(1)], ["a", "b"]),
            ([("a", RUNS), ("b", RUNS)], [there(3), there(1)], ["b", "b"]),
            ([("a", RUNS), ("b", RUNS)], [there(3), local], ["b", "b"]),
            ([("a", RUNS), ("b", RUNS)], [Road::Resting, there(9)], ["b", "b"]),
            ([("a", RUNS), ("b", RUNS)], [draining, there(9)], ["b", "b"]),
            ([("a", Status::Unknown), ("b", RUNS)], [there(0), there(9)], ["b", "b"]),
            ([("a", Status::Unknown), ("b", RUNS)], [there(0), draining], ["a", "a"]),
            ([("a", Status::Initializing), ("b", Status::Unknown)], [there(0), there(9)], ["b", "b"]),
            ([("a", Status::Error), ("b", Status::Stopped)], [there(0), there(0)], ["b", "b"]),
            ([("a", Status::Stopped), ("b", Status::Initializing)], [there(0), there(0)], ["b", "b"]),
            ([("a", RUNS), ("b", RUNS)], [Road::Resting, Road::Unknown], ["a", "a"]),
        ] {
            let view = wide(ProxyChoice::Spread, &instances);
            for (spin, expected) in expected.into_iter().enumerate() {
                let roads = Map([("a", roads[0]), ("b", roads[1])].into(), spin);
                let found = choose(&view, &Wish::default(), &roads);
                assert_eq!(chosen(found), expected, "{instances:?} {:?}", roads.0);
            }
        }
    }

    #[test]
    fn a_way_that_failed_rests_longer_each_time_and_is_tried_by_one() {
        let (mut health, limit) = (Health::default(), Duration::from_secs(3));
        let mut now = Mono(Duration::from_secs(100));
        assert!(health.allows(now) && health.take(now, limit) && health.take(now, limit));
        let mut rests = Vec::new();
        for _ in 0..10 {
            assert_eq!(health.failed(now, 0), rests.is_empty());
            assert!(!health.allows(now) && !health.take(now, limit));
            let begun = now;
            while !health.allows(now) {
                now = now.after(Duration::from_millis(1));
            }
            rests.push(now.0 - begun.0);
            assert!(health.take(now, limit) && !health.take(now, limit), "one tries it");
        }
        assert_eq!((rests[0], rests[1], rests[9]), (REST_MIN, REST_MIN * 2, REST_MAX));
        assert!(health.answered() && !health.answered() && health.take(now, limit));
    }

    #[test]
    fn rests_differ_by_up_to_a_quarter() {
        let now = Mono(Duration::from_secs(1));
        for random in [0, 1, 999, u64::MAX] {
            let mut health = Health { failures: 8, until: now };
            health.failed(now, random);
            let rest = health.until.0 - now.0;
            assert!(rest <= REST_MAX && rest >= REST_MAX * 3 / 4, "{random}: {rest:?}");
        }
    }
}
