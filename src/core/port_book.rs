//! Which port of the environment's range belongs to which app. Pure: whether a stranger listens on it is found out when
//! a process is started, and then the next one is tried.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::name::AppId;

/// The reservations.
#[derive(Debug, Clone)]
pub struct PortBook {
    range: RangeInclusive<u16>,
    owners: BTreeMap<u16, AppId>,
    next: u16,
}

impl PortBook {
    /// An empty book over a range.
    pub fn new(range: RangeInclusive<u16>) -> Self {
        let next = *range.start();
        Self { range, owners: BTreeMap::new(), next }
    }

    /// Keeps `wanted` for an app if that is free or its own already (an adopted app keeps a port outside the range too),
    /// else the next free one of the range.
    pub fn reserve(&mut self, app: &AppId, wanted: Option<u16>) -> Option<u16> {
        if let Some(port) = wanted
            && self.owners.get(&port).is_none_or(|owner| owner == app)
        {
            self.owners.insert(port, app.clone());
            return Some(port);
        }
        self.reserve_after(app, None)
    }

    /// Gives up `busy` and reserves another one.
    pub fn reserve_after(&mut self, app: &AppId, busy: Option<u16>) -> Option<u16> {
        if let Some(port) = busy {
            self.release(app, port);
        }
        let count = u32::from(*self.range.end()).saturating_sub(u32::from(*self.range.start())) + 1;
        for _ in 0..count {
            let port = self.next;
            self.next = if port == *self.range.end() { *self.range.start() } else { port + 1 };
            if !self.owners.contains_key(&port) && Some(port) != busy {
                self.owners.insert(port, app.clone());
                return Some(port);
            }
        }
        None
    }

    /// Gives a port back.
    pub fn release(&mut self, app: &AppId, port: u16) {
        if self.owners.get(&port) == Some(app) {
            self.owners.remove(&port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppId {
        AppId::parse(name).unwrap()
    }

    #[test]
    fn no_port_is_given_twice_and_the_range_ends() {
        let mut book = PortBook::new(100..=102);
        let given: Vec<_> = ["a", "b", "c", "d"].map(|name| book.reserve(&app(name), None)).into();
        assert_eq!(given, [Some(100), Some(101), Some(102), None]);
        book.release(&app("a"), 101);
        assert_eq!(book.reserve(&app("d"), None), None, "only its owner may release a port");
        book.release(&app("b"), 101);
        assert_eq!(book.reserve(&app("d"), None), Some(101));
    }

    #[test]
    fn an_app_keeps_its_port() {
        let mut book = PortBook::new(100..=102);
        assert_eq!(book.reserve(&app("a"), Some(102)), Some(102));
        assert_eq!(book.reserve(&app("b"), Some(102)), Some(100));
        assert_eq!(book.reserve(&app("a"), Some(102)), Some(102));
    }

    #[test]
    fn a_busy_port_is_not_tried_again_at_once() {
        let mut book = PortBook::new(100..=101);
        assert_eq!(book.reserve(&app("a"), None), Some(100));
        assert_eq!(book.reserve_after(&app("a"), Some(100)), Some(101));
        assert_eq!(book.reserve_after(&app("a"), Some(101)), Some(100));
    }
}
