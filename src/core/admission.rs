//! The start queue: who may start now.
//!
//! Laws: one turn at a time per app; no more turns in an environment than it has slots; a visitor before an operator
//! before a boot, then first come first served; a turn ends by a report, by its deadline, or because it is cancelled, and
//! by nothing else. Deliberately absent: what a turn is used for, and any clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::id::Seq;
use crate::name::{AppId, EnvironmentName};
use crate::time::{Mono, Now, Wall};
use crate::view::{Priority, QueueView};

/// What waits or has its turn.
pub type Place = (AppId, EnvironmentName);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    ticket: u64,
    priority: Priority,
    since: Wall,
    not_before: Mono,
    turn_timeout: Duration,
    start: Seq,
}

impl Waiting {
    fn rank(&self) -> Rank {
        (std::cmp::Reverse(self.priority), self.ticket)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Granted {
    start: Seq,
    number: u64,
    at: Mono,
    deadline: Mono,
}

/// Tells who is served before whom.
type Rank = (std::cmp::Reverse<Priority>, u64);
type Line = BTreeMap<Rank, Place>;

/// A turn that was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// For which instance.
    pub place: Place,
    /// For which start.
    pub start: Seq,
    /// Grows with each turn.
    pub number: u64,
    /// When it ends by itself.
    pub deadline: Mono,
}

/// The queue of one entry.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    waiting: BTreeMap<Place, Waiting>,
    /// The order of service in each environment where anybody waits: best first. Kept beside `waiting`, so that a grant
    /// costs no walk over the queue, and none over those that wait for a full environment.
    order: BTreeMap<EnvironmentName, Line>,
    granted: BTreeMap<Place, Granted>,
    /// The ends of granted turns, earliest first.
    deadlines: BTreeSet<(Mono, Place)>,
    /// The apps that have a turn. One each, but for what was found after a restart.
    starting: BTreeMap<AppId, usize>,
    slots_taken: BTreeMap<EnvironmentName, u32>,
    tickets: u64,
    turns: u64,
    /// Turns that have ended since the last look.
    ended: Vec<(Place, u64)>,
    /// Requests that were given back and wait a moment.
    paused: BTreeSet<(Mono, Place)>,
    /// How long starts took lately, per environment: for the ETA only.
    typical: BTreeMap<EnvironmentName, Duration>,
}

impl Admission {
    /// Asks for a turn. Asking again keeps the place, raises the priority if the new one is higher, and takes the new start.
    pub fn request(&mut self, place: Place, start: Seq, priority: Priority, turn_timeout: Duration, now: Now) {
        if let Some(waiting) = self.waiting.get_mut(&place) {
            waiting.start = start;
            waiting.turn_timeout = turn_timeout;
            if priority > waiting.priority {
                let former = waiting.rank();
                waiting.priority = priority;
                let line = self.order.entry(place.1.clone()).or_default();
                line.remove(&former);
                line.insert(waiting.rank(), place);
            }
            return;
        }
        self.tickets += 1;
        let ticket = self.tickets;
        let waiting = Waiting { ticket, priority, since: now.wall, not_before: now.mono, turn_timeout, start };
        self.order.entry(place.1.clone()).or_default().insert(waiting.rank(), place.clone());
        self.waiting.insert(place, waiting);
    }

    /// Raises the priority of what waits. Whether anything of that app waits.
    pub fn raise(&mut self, app: &AppId, priority: Priority, now: Now) -> bool {
        let places: Vec<(Place, Seq, Duration)> = self
            .waiting
            .iter()
            .filter(|((name, _), _)| name == app)
            .map(|(place, waiting)| (place.clone(), waiting.start, waiting.turn_timeout))
            .collect();
        for (place, start, timeout) in &places {
            self.request(place.clone(), *start, priority, *timeout, now);
        }
        !places.is_empty()
    }

    /// Withdraws a request. A turn that was granted for an earlier start goes on: that start may be in flight.
    pub fn withdraw(&mut self, place: &Place) {
        self.unqueue(place);
    }

    /// Withdraws a request. A granted turn is ended.
    pub fn cancel(&mut self, place: &Place) {
        self.unqueue(place);
        self.release(place);
    }

    /// Ends a turn well or badly, when it was granted for `start` or an earlier one; learns how long it took.
    pub fn finish(&mut self, place: &Place, start: Seq, now: Mono) {
        let Some(granted) = self.granted.get(place).filter(|granted| granted.start <= start) else { return };
        let took = now.since(granted.at);
        let typical = self.typical.entry(place.1.clone()).or_insert(took);
        *typical = (*typical * 7 + took) / 8;
        self.release(place);
    }

    /// Takes a turn back and puts the request at the head of its priority, not to be served before `not_before`.
    pub fn give_back(&mut self, place: &Place, priority: Priority, turn_timeout: Duration, now: Now, pause: Duration) {
        let Some(granted) = self.granted.get(place) else { return };
        let start = granted.start;
        self.release(place);
        self.request(place.clone(), start, priority, turn_timeout, now);
        if let Some(waiting) = self.waiting.get_mut(place) {
            waiting.not_before = now.mono.after(pause);
            self.paused.insert((waiting.not_before, place.clone()));
        }
    }

    /// Ends every turn whose deadline has come, and returns them.
    pub fn expire(&mut self, now: Mono) -> Vec<Place> {
        let over: Vec<Place> = self
            .deadlines
            .iter()
            .take_while(|(deadline, _)| *deadline <= now)
            .map(|(_, place)| place.clone())
            .collect();
        for place in &over {
            self.release(place);
        }
        over
    }

    /// Grants the next turn that can be granted. `slots`: of an environment that is there.
    pub fn grant(&mut self, now: Mono, slots: impl Fn(&EnvironmentName) -> Option<u32>) -> Option<Grant> {
        let free = |environment: &EnvironmentName| {
            let taken = self.slots_taken.get(environment).copied().unwrap_or(0);
            slots(environment).is_some_and(|slots| taken < slots)
        };
        let may_go = |place: &Place| {
            !self.starting.contains_key(&place.0)
                && self.waiting.get(place).is_some_and(|waiting| waiting.not_before <= now)
        };
        let firsts = self.order.iter().filter(|(environment, _)| free(environment));
        let firsts = firsts.filter_map(|(_, line)| line.iter().find(|(_, place)| may_go(place)));
        let (_, place) = firsts.min_by_key(|(rank, _)| **rank)?;
        let place = place.clone();
        let waiting = self.unqueue(&place)?;
        let deadline = now.after(waiting.turn_timeout);
        let number = self.next_turn();
        self.take_slot(place.clone(), Granted { start: waiting.start, number, at: now, deadline });
        Some(Grant { place, start: waiting.start, number, deadline })
    }

    /// Takes note of a start that is in flight already, found after a restart of the entry.
    pub fn adopt(&mut self, place: Place, start: Seq, turn_timeout: Duration, now: Mono) {
        if self.granted.contains_key(&place) {
            return;
        }
        self.unqueue(&place);
        let number = self.next_turn();
        self.take_slot(place, Granted { start, number, at: now, deadline: now.after(turn_timeout) });
    }

    fn next_turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }

    /// The turns that have ended since the last call, each with its number.
    pub fn take_ended(&mut self) -> Vec<(Place, u64)> {
        std::mem::take(&mut self.ended)
    }

    /// Withdraws everything of an environment.
    pub fn forget(&mut self, environment: &EnvironmentName) {
        let of = |place: &&Place| place.1 == *environment;
        let places: Vec<Place> = self.waiting.keys().chain(self.granted.keys()).filter(of).cloned().collect();
        for place in places {
            self.cancel(&place);
        }
    }

    /// The environments that instances wait in.
    pub fn environments(&self) -> impl Iterator<Item = &EnvironmentName> {
        self.order.keys()
    }

    /// Whether an instance waits for its turn.
    pub fn is_waiting(&self, place: &Place) -> bool {
        self.waiting.contains_key(place)
    }

    /// The start that an instance has its turn for.
    pub fn turn_of(&self, place: &Place) -> Option<Seq> {
        self.granted.get(place).map(|granted| granted.start)
    }

    /// The number of the turn that an instance has.
    pub fn turn_number(&self, place: &Place) -> Option<u64> {
        self.granted.get(place).map(|granted| granted.number)
    }

    /// When something may change by time alone: the end of a turn, or of a pause.
    pub fn next_deadline(&self, now: Mono) -> Option<Mono> {
        let turn = self.deadlines.first().map(|(deadline, _)| *deadline);
        let pause = self.paused.iter().map(|(at, _)| *at).find(|at| *at > now);
        turn.into_iter().chain(pause).min()
    }

    /// The queue in the order of service.
    pub fn view(&self) -> Vec<QueueView> {
        let mut ahead: BTreeMap<&EnvironmentName, usize> = BTreeMap::new();
        let entry = |place: &Place, position: usize| {
            let waiting = self.waiting.get(place)?;
            let own =
                self.starting.contains_key(&place.0).then(|| self.granted.keys().find(|(app, _)| *app == place.0));
            let own = own.flatten();
            let typical = self.typical.get(&place.1);
            Some(QueueView {
                app: place.0.clone(),
                environment: place.1.clone(),
                position,
                waits_for: own.map_or_else(|| "slot".to_string(), |(_, environment)| environment.to_string()),
                since: waiting.since,
                eta_ms: typical.map(|typical| typical.as_millis() as u64 * position as u64),
                priority: waiting.priority,
            })
        };
        let mut views = Vec::new();
        let mut order: Vec<(&Rank, &Place)> = self.order.values().flatten().collect();
        order.sort_unstable_by_key(|(rank, _)| **rank);
        for (_, place) in order {
            let position = ahead.entry(&place.1).or_insert(0);
            *position += 1;
            views.extend(entry(place, *position));
        }
        views
    }

    fn take_slot(&mut self, place: Place, granted: Granted) {
        self.deadlines.insert((granted.deadline, place.clone()));
        *self.starting.entry(place.0.clone()).or_insert(0) += 1;
        *self.slots_taken.entry(place.1.clone()).or_insert(0) += 1;
        self.granted.insert(place, granted);
    }

    fn unqueue(&mut self, place: &Place) -> Option<Waiting> {
        let waiting = self.waiting.remove(place)?;
        if let Some(line) = self.order.get_mut(&place.1) {
            line.remove(&waiting.rank());
            if line.is_empty() {
                self.order.remove(&place.1);
            }
        }
        self.paused.remove(&(waiting.not_before, place.clone()));
        Some(waiting)
    }

    fn release(&mut self, place: &Place) {
        let Some(granted) = self.granted.remove(place) else { return };
        self.deadlines.remove(&(granted.deadline, place.clone()));
        self.ended.push((place.clone(), granted.number));
        if let Some(taken) = self.slots_taken.get_mut(&place.1) {
            *taken = taken.saturating_sub(1);
        }
        if let Some(turns) = self.starting.get_mut(&place.0) {
            *turns -= 1;
            if *turns == 0 {
                self.starting.remove(&place.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(app: &str, environment: &str) -> Place {
        (AppId::parse(app).unwrap(), EnvironmentName::parse(environment).unwrap())
    }

    fn now(seconds: u64) -> Now {
        Now { mono: Mono(Duration::from_secs(seconds)), wall: Wall(seconds * 1000) }
    }

    const TURN: Duration = Duration::from_secs(60);

    fn ask(queue: &mut Admission, place: Place, priority: Priority) {
        queue.request(place, Seq(1), priority, TURN, now(0));
    }

    #[test]
    fn a_visitor_goes_before_an_operator_before_a_boot() {
        let mut queue = Admission::default();
        ask(&mut queue, place("a", "x"), Priority::Boot);
        ask(&mut queue, place("b", "x"), Priority::Operator);
        ask(&mut queue, place("c", "x"), Priority::Visitor);
        ask(&mut queue, place("d", "x"), Priority::Visitor);
        let order: Vec<String> =
            std::iter::from_fn(|| queue.grant(Mono::default(), |_| Some(9))).map(|g| g.place.0.to_string()).collect();
        assert_eq!(order, ["c", "d", "b", "a"]);
    }

    #[test]
    fn an_app_starts_in_one_environment_after_another() {
        let mut queue = Admission::default();
        ask(&mut queue, place("a", "x"), Priority::Operator);
        ask(&mut queue, place("a", "y"), Priority::Operator);
        let first = queue.grant(Mono::default(), |_| Some(9)).unwrap().place;
        assert_eq!(queue.grant(Mono::default(), |_| Some(9)), None);
        assert_eq!(queue.view()[0].waits_for, "x");
        queue.finish(&first, Seq(1), Mono(Duration::from_secs(8)));
        assert_eq!(queue.view()[0].eta_ms, None, "nothing is known of y yet");
        assert_eq!(queue.grant(Mono::default(), |_| Some(9)).unwrap().place, place("a", "y"));
    }

    #[test]
    fn a_turn_ends_by_its_deadline() {
        let mut queue = Admission::default();
        ask(&mut queue, place("a", "x"), Priority::Operator);
        ask(&mut queue, place("b", "x"), Priority::Operator);
        queue.grant(Mono::default(), |_| Some(1)).unwrap();
        assert_eq!(queue.grant(Mono(TURN), |_| Some(1)), None);
        assert_eq!(queue.next_deadline(Mono::default()), Some(Mono(TURN)));
        assert_eq!(queue.expire(Mono(TURN)), [place("a", "x")]);
        assert!(queue.grant(Mono(TURN), |_| Some(1)).is_some());
    }

    #[test]
    fn what_is_given_back_waits_its_pause() {
        let mut queue = Admission::default();
        ask(&mut queue, place("a", "x"), Priority::Operator);
        queue.grant(Mono::default(), |_| Some(1)).unwrap();
        queue.give_back(&place("a", "x"), Priority::Operator, TURN, now(0), Duration::from_secs(1));
        assert_eq!(queue.grant(Mono::default(), |_| Some(1)), None);
        assert_eq!(queue.next_deadline(Mono::default()), Some(now(1).mono));
        assert!(queue.grant(now(1).mono, |_| Some(1)).is_some());
    }

    #[test]
    fn an_environment_that_is_not_there_gets_no_turn() {
        let mut queue = Admission::default();
        ask(&mut queue, place("a", "x"), Priority::Operator);
        assert_eq!(queue.grant(Mono::default(), |_| None), None);
    }

    proptest! {
        /// Whatever happens, the two laws hold: one turn per app, no more turns than slots.
        #[test]
        fn the_laws_hold(steps in prop::collection::vec((0u8..5, 0u8..4, 0u8..3, 0u8..3), 1..200)) {
            let mut queue = Admission::default();
            for (i, (what, app, environment, priority)) in steps.into_iter().enumerate() {
                let place = place(["a", "b", "c", "d"][app as usize], ["x", "y", "z"][environment as usize]);
                let priority = [Priority::Boot, Priority::Operator, Priority::Visitor][priority as usize];
                let at = now(i as u64);
                match what {
                    0 => queue.request(place, Seq(i as u64), priority, TURN, at),
                    1 => queue.cancel(&place),
                    2 => queue.finish(&place, Seq(u64::MAX), at.mono),
                    3 => queue.give_back(&place, priority, TURN, at, Duration::from_secs(2)),
                    _ => { queue.grant(at.mono, |_| Some(2)); }
                }
                let apps: Vec<_> = queue.granted.keys().map(|(app, _)| app.clone()).collect();
                let distinct: std::collections::BTreeSet<_> = apps.iter().collect();
                prop_assert_eq!(apps.len(), distinct.len());
                for (environment, taken) in &queue.slots_taken {
                    prop_assert!(*taken <= 2);
                    prop_assert_eq!(*taken as usize, queue.granted.keys().filter(|(_, e)| e == environment).count());
                }
                prop_assert_eq!(queue.order.values().map(BTreeMap::len).sum::<usize>(), queue.waiting.len());
                prop_assert_eq!(queue.deadlines.len(), queue.granted.len());
                prop_assert_eq!(queue.starting.values().sum::<usize>(), queue.granted.len());
                prop_assert!(queue.paused.len() <= queue.waiting.len());
            }
        }
    }
}
