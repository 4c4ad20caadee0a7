//! From systemd's shapes to ours: object paths, signals, properties.
//!
//! Only what is wanted is looked at. Of the properties of a `Snapshot` all but `LogExtraFields`, which never changes, come
//! in signals with their values; none of them is only said to be out of date (`tests/systemd_bus/units.rs` checks it).

use std::collections::HashMap;
use std::time::Duration;

use nbs_core::id::Run;
use nbs_core::name::AppId;
use zbus::message::Message;
use zbus::{Array, OwnedObjectPath, Variant};

use super::super::snapshot::{Changed, Marker, Snapshot};
use super::Listed;
use crate::wire::hex;

/// Where all units are.
const UNITS: &str = "/org/freedesktop/systemd1/unit/";
/// How the names of our units begin.
const OURS: &str = "nbs-";
/// The same in an object path.
const OUR_PATHS: &str = "/org/freedesktop/systemd1/unit/nbs_2d";

/// Properties with their values, as a call or a signal brings them.
type Properties<'a> = HashMap<&'a str, Variant<'a>>;

/// The object path of a unit: all but letters and digits become `_` and two hexadecimal digits.
pub(super) fn path_of(unit: &str) -> String {
    let mut path = String::with_capacity(UNITS.len() + unit.len() + 16);
    path.push_str(UNITS);
    for (at, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (byte.is_ascii_digit() && at > 0) {
            path.push(char::from(byte));
        } else {
            path.push('_');
            path.push_str(&hex::encode(&[byte]));
        }
    }
    path
}

/// The unit of an object path, if it is one of ours.
pub(super) fn our_unit(path: &str) -> Option<String> {
    if !path.starts_with(OUR_PATHS) {
        return None;
    }
    let mut parts = path.strip_prefix(UNITS)?.split('_');
    let mut name = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        name.extend(hex::decode(digits)?);
        name.extend(rest.as_bytes());
    }
    String::from_utf8(name).ok()
}

/// Whether a unit's name is one of ours.
pub(super) fn is_ours(unit: &str) -> bool {
    unit.starts_with(OURS)
}

/// What a `PropertiesChanged` brought.
pub(super) fn changed(message: &Message) -> zbus::Result<Changed> {
    let body = message.body();
    let (_interface, properties, _invalid) = body.deserialize::<(&str, Properties<'_>, Vec<&str>)>()?;
    Ok(picked(&properties))
}

/// The unit that the answer to `GetAll` shows; `None` if it is only a name without a unit behind it.
pub(super) fn snapshot(message: &Message) -> zbus::Result<Option<Snapshot>> {
    let body = message.body();
    let properties = body.deserialize::<Properties<'_>>()?;
    if text(&properties, "LoadState").as_deref() == Some("not-found") && active(&properties).is_none_or(is_nothing) {
        return Ok(None);
    }
    let mut snapshot = Snapshot::default().with(picked(&properties));
    snapshot.repairs = text(&properties, "Restart").is_some_and(|restart| restart != "no");
    snapshot.notify = text(&properties, "Type").as_deref() == Some("notify");
    let delay = properties.get("RestartUSec").and_then(|value| u64::try_from(value).ok());
    snapshot.restart_delay = Duration::from_micros(delay.unwrap_or_default());
    snapshot.marker = properties.get("LogExtraFields").and_then(marker);
    Ok(Some(snapshot))
}

fn active<'a>(properties: &'a Properties<'_>) -> Option<&'a str> {
    properties.get("ActiveState").and_then(|value| <&str>::try_from(value).ok())
}

fn is_nothing(active: &str) -> bool {
    active == "inactive"
}

fn text(properties: &Properties<'_>, key: &str) -> Option<String> {
    properties.get(key).and_then(|value| <&str>::try_from(value).ok()).map(str::to_string)
}

/// The properties that a `Changed` has.
fn picked(properties: &Properties<'_>) -> Changed {
    let signed = |key| properties.get(key).and_then(|value| i32::try_from(value).ok());
    let long = |key| properties.get(key).and_then(|value| u64::try_from(value).ok());
    let number = |key| properties.get(key).and_then(|value| u32::try_from(value).ok());
    Changed {
        active: text(properties, "ActiveState"),
        sub: text(properties, "SubState"),
        result: text(properties, "Result"),
        main_pid: number("MainPID"),
        exec_code: signed("ExecMainCode"),
        exec_status: signed("ExecMainStatus"),
        exec_started: long("ExecMainStartTimestamp"),
        restarts: number("NRestarts"),
        status_text: text(properties, "StatusText"),
        invocation: properties.get("InvocationID").map(invocation),
    }
}

/// 32 hexadecimal digits; nothing if the unit was never started.
pub(super) fn invocation(value: &Variant<'_>) -> String {
    let bytes = bytes(value);
    if bytes.iter().all(|byte| *byte == 0) { String::new() } else { hex::encode(&bytes) }
}

fn bytes(value: &Variant<'_>) -> Vec<u8> {
    let Variant::Array(array) = value else { return Vec::new() };
    array.iter().filter_map(|byte| u8::try_from(byte).ok()).collect()
}

fn marker(value: &Variant<'_>) -> Option<Marker> {
    let Variant::Array(fields) = value else { return None };
    let field = |fields: &Array<'_>, key: &str| {
        let all = fields.iter().map(bytes);
        all.filter_map(|field| String::from_utf8(field).ok())
            .find_map(|field| field.strip_prefix(key)?.strip_prefix('=').map(str::to_string))
    };
    Some(Marker {
        instance: field(fields, "NBS_INSTANCE")?,
        app: AppId::parse(&field(fields, "NBS_APP")?).ok()?,
        run: Run::parse(&field(fields, "NBS_RUN")?)?,
        port: field(fields, "NBS_PORT").and_then(|port| port.parse().ok()),
    })
}

/// A row of `ListUnitsByPatterns`: name, description, load, active, sub, whom it follows, path, and job: number, kind,
/// path.
type Row<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str, &'a str, OwnedObjectPath, u32, &'a str, OwnedObjectPath);

/// The units of a list.
pub(super) fn listed(message: &Message) -> zbus::Result<Vec<Listed>> {
    let body = message.body();
    let rows = body.deserialize::<Vec<Row<'_>>>()?;
    let listed = rows.into_iter().map(|(name, _, load, active, sub, _, _, job, _, _)| Listed {
        unit: name.into(),
        load: load.into(),
        active: active.into(),
        sub: sub.into(),
        job_pending: job != 0,
    });
    Ok(listed.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_unit() {
        let unit = "nbs-app-crm_2.é.service";
        assert_eq!(path_of(unit), format!("{UNITS}nbs_2dapp_2dcrm_5f2_2e_c3_a9_2eservice"));
        assert_eq!(our_unit(&path_of(unit)).as_deref(), Some(unit));
        assert_eq!(path_of("0a"), format!("{UNITS}_30a"));
        for foreign in ["dbus_2eservice", "nbs", "nbs_2d_g0", "nbs_2d_2", "nbs_2d_é", "nbs_2d_ff"] {
            assert_eq!(our_unit(&format!("{UNITS}{foreign}")), None, "{foreign}");
        }
        assert_eq!(our_unit("/org/freedesktop/systemd1/job/nbs_2d"), None);
    }

    #[test]
    fn a_marker_is_whole_or_none() {
        let fields =
            |fields: &[&str]| Variant::from(fields.iter().map(|field| field.as_bytes().to_vec()).collect::<Vec<_>>());
        let whole = fields(&["NBS_APP=crm", "NBS_RUN=7.2", "NBS_PORT=20001", "NBS_INSTANCE=/var/lib/nbsupervisor"]);
        let run = Run::parse("7.2").unwrap();
        let app = AppId::parse("crm").unwrap();
        assert_eq!(
            marker(&whole),
            Some(Marker { instance: "/var/lib/nbsupervisor".into(), app, run, port: Some(20001) })
        );
        assert_eq!(marker(&fields(&["NBS_APP=crm", "NBS_RUN=7.2"])), None);
        assert_eq!(marker(&fields(&["NBS_APP=crm", "NBS_RUN=x", "NBS_INSTANCE=i"])), None);
        assert_eq!(marker(&fields(&[])), None);
    }
}
