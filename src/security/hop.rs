//! How a gateway in front of another tells it which app a request is for, so that it need not guess.
//!
//! Decides the header's text and when it is believed: the right key, this very request, and a clock that differs by no
//! more than a minute. Deliberately absent: routes and requests (the gateway), and remembering what was seen: within
//! that minute a header can be used again, for the same method and target.

use nbs_core::name::AppId;

use crate::security::keys::EnvironmentKeys;
use crate::wire::envelope::digits;
use crate::wire::hex;

/// The header's name, as HTTP compares it.
pub const HEADER: &str = "x-nbs-hop";
/// How far the clocks of two hosts may differ, in milliseconds.
pub const TOLERANCE_MS: u64 = 60_000;
/// No header is longer: an app ID, a number and a MAC fit well.
const LIMIT: usize = 256;
const VERSION: &str = "v1";

/// Why a header is not believed. One sentence, without the MAC.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HopError {
    /// It is not what a gateway of this version writes.
    #[error("the header {HEADER} is malformed; only a gateway of nbsupervisor may set it")]
    Malformed,
    /// Its time is too far from this host's.
    #[error(
        "the header {HEADER} is {difference_ms} ms from this host's clock; see to it that both hosts have the right time"
    )]
    Clock {
        /// The distance.
        difference_ms: u64,
    },
    /// The MAC does not fit.
    #[error(
        "the header {HEADER} is forged or was made with another key; the key files of entry and worker must fit together"
    )]
    Forged,
}

/// A header that was read and not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    app: AppId,
    unix_ms: u64,
    mac: [u8; 32],
}

impl Hop {
    /// Reads `v1 <app> <unix_ms> <mac>`.
    ///
    /// # Errors
    /// It is written in another way.
    pub fn parse(text: &str) -> Result<Self, HopError> {
        let mut parts = text.split(' ');
        let (version, app, time, mac) = (parts.next(), parts.next(), parts.next(), parts.next());
        let (Some(VERSION), Some(app), Some(time), Some(mac), None) = (version, app, time, mac, parts.next()) else {
            return Err(HopError::Malformed);
        };
        let is_number = text.len() <= LIMIT && time.bytes().all(|byte| byte.is_ascii_digit());
        let time = if is_number { time.parse().ok() } else { None };
        match (AppId::parse(app), time, digits(mac)) {
            (Ok(app), Some(unix_ms), Some(mac)) => Ok(Self { app, unix_ms, mac }),
            _ => Err(HopError::Malformed),
        }
    }

    /// The app, once the header is known to be the entry's. `target` is path and query as they came.
    ///
    /// # Errors
    /// It is too old or too new, or was not made for this request by this environment's key.
    pub fn check(&self, keys: &EnvironmentKeys, now_ms: u64, method: &str, target: &str) -> Result<&AppId, HopError> {
        // The MAC first: what a stranger says of the time is not worth telling.
        if !keys.check_hop(&self.app, self.unix_ms, method, target, &self.mac) {
            return Err(HopError::Forged);
        }
        let difference_ms = now_ms.abs_diff(self.unix_ms);
        if difference_ms > TOLERANCE_MS { Err(HopError::Clock { difference_ms }) } else { Ok(&self.app) }
    }
}

impl EnvironmentKeys {
    /// The header for a request that is passed on: to which app, when, and what it asks for.
    pub fn hop_header(&self, app: &AppId, unix_ms: u64, method: &str, target: &str) -> String {
        let mac = hex::encode(&self.hop_mac(app, unix_ms, method, target));
        format!("{VERSION} {app} {unix_ms} {mac}")
    }

    /// The MAC in that header.
    pub fn hop_mac(&self, app: &AppId, unix_ms: u64, method: &str, target: &str) -> [u8; 32] {
        self.hop_key().mac(&self.hop_canonical(app, unix_ms, method, target))
    }

    /// Whether a MAC fits, in a time that does not tell where it differs.
    pub fn check_hop(&self, app: &AppId, unix_ms: u64, method: &str, target: &str, mac: &[u8; 32]) -> bool {
        // Only in a method could a bar be taken for the one behind it; those of HTTP that are in use have none.
        !method.contains('|') && self.hop_key().check_mac(&self.hop_canonical(app, unix_ms, method, target), mac)
    }

    fn hop_canonical(&self, app: &AppId, unix_ms: u64, method: &str, target: &str) -> Vec<u8> {
        format!("hop|{}|{app}|{unix_ms}|{method}|{target}", self.environment_name()).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use nbs_core::name::EnvironmentName;
    use proptest::prelude::*;

    use super::*;
    use crate::security::FleetKey;
    use crate::security::secret::Secret;

    const NOW: u64 = 1_800_000_000_000;

    fn keys(environment: &str) -> EnvironmentKeys {
        let mut fleet = [7; 32];
        fleet[0] = 1;
        FleetKey::new(Secret::new(fleet)).environment(&EnvironmentName::parse(environment).unwrap())
    }

    fn app(text: &str) -> AppId {
        AppId::parse(text).unwrap()
    }

    fn header() -> String {
        keys("env_a").hop_header(&app("crm"), NOW, "GET", "/a?b=c|d")
    }

    #[test]
    fn a_header_is_believed_for_its_request_only() {
        let hop = Hop::parse(&header()).unwrap();
        assert_eq!(hop.check(&keys("env_a"), NOW, "GET", "/a?b=c|d"), Ok(&app("crm")));
        for (environment, method, target) in [
            ("env_b", "GET", "/a?b=c|d"),
            ("env_a", "POST", "/a?b=c|d"),
            ("env_a", "get", "/a?b=c|d"),
            ("env_a", "GET", "/a?b=c"),
            ("env_a", "GET", "/"),
            ("env_a", "GET|/a?b=c", "d"),
        ] {
            assert_eq!(hop.check(&keys(environment), NOW, method, target), Err(HopError::Forged), "{method} {target}");
        }
    }

    #[test]
    fn every_part_of_the_header_is_under_its_mac() {
        let good = header();
        for (part, other) in [("crm", "crn"), ("1800000000000", "1800000000001"), ("1800000000000", "01800000000000")] {
            let hop = Hop::parse(&good.replace(part, other)).unwrap();
            let checked = hop.check(&keys("env_a"), NOW, "GET", "/a?b=c|d");
            // A number that is written in another way is the same number.
            assert_eq!(checked.is_err(), other != "01800000000000", "{other}");
        }
    }

    #[test]
    fn a_minute_is_what_clocks_may_differ() {
        let hop = Hop::parse(&header()).unwrap();
        let at = |now| hop.check(&keys("env_a"), now, "GET", "/a?b=c|d");
        assert!(at(NOW + 60_000).is_ok() && at(NOW - 60_000).is_ok());
        for now in [NOW + 60_001, NOW - 60_001] {
            assert_eq!(at(now), Err(HopError::Clock { difference_ms: 60_001 }));
        }
        assert!(at(0).is_err() && at(u64::MAX).is_err());
    }

    #[test]
    fn what_is_written_in_another_way_is_malformed() {
        let good = header();
        let upper = good.replace("v1 crm", "V1 crm");
        let mac = good.rsplit(' ').next().unwrap();
        for bad in [
            String::new(),
            upper,
            good.replace("v1 ", "v2 "),
            format!(" {good}"),
            format!("{good} "),
            good.replace(' ', "  "),
            good.replace("crm", "Crm"),
            good.replace("1800000000000", "+1800000000000"),
            good.replace("1800000000000", "99999999999999999999999"),
            good[..good.len() - 1].to_owned(),
            format!("{good}0"),
            good.replace(mac, &mac.to_uppercase()),
            good.replace("180", &"0".repeat(300)),
        ] {
            assert_eq!(Hop::parse(&bad), Err(HopError::Malformed), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_change_of_the_header_is_refused(at: prop::sample::Index, byte in 0x20u8..0x7f) {
            let good = header();
            let mut bytes = good.clone().into_bytes();
            let at = at.index(bytes.len());
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            let text = String::from_utf8(bytes).unwrap();
            if let Ok(hop) = Hop::parse(&text) {
                prop_assert_eq!(hop.check(&keys("env_a"), NOW, "GET", "/a?b=c|d"), Err(HopError::Forged));
            }
        }

        #[test]
        fn no_text_makes_the_reader_panic(text: String) {
            prop_assert!(Hop::parse(&text).is_err());
        }
    }
}
