//! What can go wrong between us and systemd, sorted by what a caller can do about it.
//!
//! Deliberately absent: what follows from a kind (the adapter knows what it asked for).

use std::fmt;
use std::io::ErrorKind;

use zbus::DBusError as _;

/// What a caller can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BusErrorKind {
    /// A unit of this name is loaded, or a unit file of this name is on disk.
    UnitExists,
    /// There is no such unit.
    NoSuchUnit,
    /// systemd does not know a property, or not with this value.
    BadProperty,
    /// This user may not do it.
    AccessDenied,
    /// No bus, no systemd on it, or the answer was lost with the connection: it may or may not have been done.
    Unavailable,
    /// No answer in time: it may or may not have been done.
    TimedOut,
    /// A limit of the bus or of systemd is reached; later it may work.
    TooMany,
    /// Anything else.
    Other,
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BusError {
    /// What it means for the caller.
    pub(crate) kind: BusErrorKind,
    /// The operation, the unit and systemd's own words.
    pub(crate) text: String,
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for BusError {}

impl BusError {
    /// `what` continues "could not".
    pub(super) fn new(kind: BusErrorKind, what: &str, cause: &str) -> Self {
        let remedy = match kind {
            BusErrorKind::AccessDenied => {
                "; run the daemon as root, or allow its user org.freedesktop.systemd1.manage-units in polkit"
            }
            _ => "",
        };
        Self { kind, text: format!("could not {what}: {}{remedy}", cause.trim_end_matches('.')) }
    }

    pub(super) fn of(what: &str, error: &zbus::Error) -> Self {
        if let Some((name, message)) = named(error) {
            return Self::new(kind_of(&name), what, if message.is_empty() { &name } else { &message });
        }
        let kind = match error {
            zbus::Error::InputOutput(io) if io.kind() == ErrorKind::TimedOut => BusErrorKind::TimedOut,
            zbus::Error::InputOutput(_) | zbus::Error::Connection(..) | zbus::Error::Handshake(_) => {
                BusErrorKind::Unavailable
            }
            _ => BusErrorKind::Other,
        };
        Self::new(kind, what, &error.to_string())
    }
}

/// The name and the words of an error that came as an answer.
pub(super) fn named(error: &zbus::Error) -> Option<(String, String)> {
    match error {
        zbus::Error::MethodError(name, message, _) => Some((name.to_string(), message.clone().unwrap_or_default())),
        zbus::Error::FDO(fdo) => match &**fdo {
            zbus::fdo::Error::ZBus(inner) => named(inner),
            fdo => Some((fdo.name().to_string(), fdo.description().unwrap_or_default().to_string())),
        },
        _ => None,
    }
}

/// Sorts errors by name. What systemd 252 and 257 were seen to answer, both the same:
///
/// | asked | name | words |
/// | --- | --- | --- |
/// | a property that it does not know | `DBus.Error.PropertyReadOnly` | Cannot set property X, or unknown property. |
/// | a value of another type | `System.Error.ENXIO` | Failed to set unit properties: Unexpected message contents |
/// | a value that it does not take | `DBus.Error.InvalidArgs` | Invalid KillMode setting: softly |
/// | a slice that is none | `DBus.Error.InvalidArgs` | Invalid unit name 'no slice' |
/// | a name that is none, or of a kind that cannot be transient | `DBus.Error.InvalidArgs` | Invalid unit name or type. |
/// | a unit that is loaded (running, failed), on disk or masked | `systemd1.UnitExists` | Unit X was already loaded or has a fragment file. |
/// | to stop, signal, reset or find a unit that is not there | `systemd1.NoSuchUnit` | Unit X not loaded. |
/// | a signal that is none | `DBus.Error.InvalidArgs` | Signal number out of range. |
/// | by another user, without polkit | `DBus.Error.AccessDenied` | Permission denied |
///
/// By another user with polkit it is `DBus.Error.InteractiveAuthorizationRequired`, as its source says; that was not
/// seen here. While systemd or the bus goes: `DBus.Error.NoReply`, or a closed connection.
fn kind_of(name: &str) -> BusErrorKind {
    use BusErrorKind as K;
    if let Some(short) = name.strip_prefix("org.freedesktop.systemd1.") {
        return match short {
            "UnitExists" => K::UnitExists,
            "NoSuchUnit" | "LoadFailed" => K::NoSuchUnit,
            "BadUnitSetting" => K::BadProperty,
            _ => K::Other,
        };
    }
    match name.strip_prefix("org.freedesktop.DBus.Error.").unwrap_or(name) {
        "System.Error.ENXIO"
        | "System.Error.EINVAL"
        | "InvalidArgs"
        | "PropertyReadOnly"
        | "InvalidSignature"
        | "UnknownProperty" => K::BadProperty,
        "AccessDenied" | "InteractiveAuthorizationRequired" | "AuthFailed" => K::AccessDenied,
        "NoReply" | "Disconnected" | "ServiceUnknown" | "NameHasNoOwner" | "NoServer" => K::Unavailable,
        "Timeout" | "TimedOut" => K::TimedOut,
        "LimitsExceeded" | "NoMemory" => K::TooMany,
        short if short.starts_with("Spawn.") => K::Unavailable,
        _ => K::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_operation_unit_cause_and_remedy() {
        let refused = zbus::Error::FDO(Box::new(zbus::fdo::Error::AccessDenied("Permission denied".into())));
        let error = BusError::of("start nbs-app-crm.service", &refused);
        assert_eq!(error.kind, BusErrorKind::AccessDenied);
        assert!(
            error.text.starts_with("could not start nbs-app-crm.service: Permission denied; run the daemon as root")
        );
        assert_eq!(kind_of("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"), BusErrorKind::AccessDenied);
    }

    #[test]
    fn a_lost_answer_is_no_refusal() {
        use zbus::fdo::Error as Fdo;
        let kind = |error: zbus::Error| BusError::of("x", &error).kind;
        let io = |kind: ErrorKind| zbus::Error::InputOutput(std::sync::Arc::new(kind.into()));
        assert_eq!(kind(io(ErrorKind::TimedOut)), BusErrorKind::TimedOut);
        assert_eq!(kind(io(ErrorKind::BrokenPipe)), BusErrorKind::Unavailable);
        assert_eq!(kind(zbus::Error::FDO(Box::new(Fdo::NoReply("gone".into())))), BusErrorKind::Unavailable);
        assert_eq!(kind(zbus::Error::FDO(Box::new(Fdo::LimitsExceeded("many".into())))), BusErrorKind::TooMany);
        assert_eq!(kind(zbus::Error::MissingField), BusErrorKind::Other);
    }
}
