//! A host's cable, with weather: whole, cut, slow or lossy.
//!
//! A cut is a black hole: frames vanish, nobody is told, established connections simply hear nothing more, as with a
//! dead switch. Decides the fate of each frame, and of loss by a seed, so that a run can be repeated. It is done in the
//! test's own process because not every kernel has netem. Deliberately absent: who is connected with whom (`net`).

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a cable does to frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Nothing.
    Fair,
    /// None passes, in either direction.
    Cut,
    /// Each frame that the host sends comes so much later, as `tc qdisc add dev eth0 root netem delay` would have it.
    Late(Duration),
    /// So many of a hundred are lost, in each direction.
    Lossy(u64),
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Passes,
    PassesAfter(Duration),
    IsLost,
}

/// A cable.
#[derive(Debug)]
pub struct Link {
    weather: Mutex<(Weather, Dice)>,
    lost: AtomicU64,
}

impl Link {
    /// A whole one.
    pub fn new(seed: u64) -> Self {
        Self { weather: Mutex::new((Weather::Fair, Dice::new(seed))), lost: AtomicU64::new(0) }
    }

    /// From now on.
    pub fn set(&self, weather: Weather) {
        self.weather.lock().unwrap().0 = weather;
    }

    /// How many frames it has swallowed up to now.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// What becomes of a frame that the host sends.
    pub fn of_host(&self) -> Fate {
        self.fate(true)
    }

    /// What becomes of a frame that is sent to the host.
    pub fn to_host(&self) -> Fate {
        self.fate(false)
    }

    fn fate(&self, sent_by_host: bool) -> Fate {
        let mut held = self.weather.lock().unwrap();
        let (weather, dice) = &mut *held;
        let fate = match *weather {
            Weather::Fair => Fate::Passes,
            Weather::Cut => Fate::IsLost,
            Weather::Late(delay) if sent_by_host => Fate::PassesAfter(delay),
            Weather::Late(_) => Fate::Passes,
            Weather::Lossy(percent) if dice.roll(100) < percent => Fate::IsLost,
            Weather::Lossy(_) => Fate::Passes,
        };
        if fate == Fate::IsLost {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        fate
    }
}

/// Numbers that look like chance and are the same for the same seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `sides`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}
