//! After a restart of the daemon: the units that are there, beside those that the ledger expects.
//!
//! A unit is ours if its marker names this daemon's state directory. One of the expected life is alive, whatever it does
//! just now: what happened to it meanwhile is told as facts, right after. Leftover commands are ended, as nobody waits
//! for them any more. Foreign units are never touched.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use nbs_core::name::AppId;
use nbs_core::recipe::Adapter;
use nbs_core::unit::{app_of_unit, unit_name};

use super::bus::{BusError, Listed};
use super::each::each;
use super::snapshot::{Marker, Snapshot};
use super::state::Told;
use super::tracked::Tracked;
use super::{Inner, command, end, watch};
use crate::ports::{Found, Known};

/// How long the start of the daemon waits for systemd when the ledger expects units.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause between attempts to reach it.
const RETRY: Duration = Duration::from_millis(100);
/// Units read at once.
const READS_AT_ONCE: usize = 32;

pub(super) async fn adopt(inner: &Arc<Inner>, known: Vec<Known>) -> Found {
    command::forget_files(&inner.run_root);
    let deadline = if known.is_empty() { Duration::from_secs(2) } else { PATIENCE };
    let units = match tokio::time::timeout(deadline, list(inner)).await {
        Ok(units) => units,
        Err(_) => {
            tracing::error!(
                expected = known.len(),
                connected = inner.bus.is_connected(),
                "systemd does not answer; its units are taken to be as the ledger says until it does"
            );
            return assumed(inner, known);
        }
    };
    let mut expected: HashMap<AppId, Known> = known.into_iter().map(|known| (known.app.clone(), known)).collect();
    let mut found = Found::default();
    for (name, unit) in read_all(inner, units).await {
        let Some(unit) = unit else {
            // There, and not to be read: to take it for gone would mean to start it a second time.
            let known = app_of_unit(&name).and_then(|app| expected.remove(&app));
            found.alive.extend(known.map(|known| assume(inner, known)));
            continue;
        };
        let Some(marker) = unit.marker.clone().filter(|marker| marker.instance == inner.instance) else { continue };
        if name != unit_name(&marker.app) {
            if command::is_command(&name) {
                let inner = inner.clone();
                tokio::spawn(async move { end::remove_unit(&inner, &name, |_| true).await });
            }
            continue;
        }
        match expected.remove(&marker.app) {
            Some(known) if known.run == marker.run => found.alive.push(take_up(inner, known, unit)),
            _ => found.strays.push(stray(inner, &marker, &unit)),
        }
    }
    found
}

async fn list(inner: &Arc<Inner>) -> Vec<Listed> {
    loop {
        let listed: Result<Vec<Listed>, BusError> = inner.bus.list("nbs-*.service").await;
        match listed {
            Ok(units) => return units,
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

/// Every unit as it is; `None` where systemd did not say.
async fn read_all(inner: &Arc<Inner>, units: Vec<Listed>) -> Vec<(String, Option<Snapshot>)> {
    let ours = |name: &str| app_of_unit(name).is_some() || command::is_command(name);
    let names = units.into_iter().map(|unit| unit.unit).filter(|name| ours(name));
    let read = each(names, READS_AT_ONCE, |name| {
        let inner = inner.clone();
        async move {
            match inner.bus.read(&name).await {
                Ok(unit) => unit.map(|unit| (name, Some(unit))),
                Err(error) => {
                    tracing::warn!(unit = name, error = %error.text, "a unit could not be read");
                    Some((name, None))
                }
            }
        }
    });
    read.await.into_iter().flatten().collect()
}

/// Watches a unit of the expected life, and lets what happened since it was known be told.
fn take_up(inner: &Arc<Inner>, known: Known, unit: Snapshot) -> Known {
    let before = known.identity.as_ref().and_then(|identity| identity.invocation.clone());
    let same = before.as_ref().is_none_or(|before| *before == unit.invocation);
    let identity = inner.identity(unit.main_pid, Some(unit.invocation.clone()));
    // As if the worker had been told of the process that the ledger knows.
    let restarts = if same { unit.restarts } else { unit.restarts.saturating_sub(1) };
    let told = Told::Alive { pid: unit.main_pid, restarts, ready: false };
    let former = Snapshot { invocation: before.unwrap_or_default(), ..unit.clone() };
    let tracked = Tracked::new(known.run, former, told, unit.notify, unit.restart_delay);
    inner.units.watch(&known.app, tracked);
    inner.see(&known.app, true, |_| unit);
    Known { identity: Some(identity), ..known }
}

fn stray(inner: &Arc<Inner>, marker: &Marker, unit: &Snapshot) -> Known {
    let identity = inner.identity(unit.main_pid, Some(unit.invocation.clone()));
    Known {
        app: marker.app.clone(),
        run: marker.run,
        identity: Some(identity),
        adapter: Adapter::Systemd,
        port: marker.port,
    }
}

/// Nobody can be asked: what the ledger says goes until the bus is back, when every unit is read.
fn assumed(inner: &Arc<Inner>, known: Vec<Known>) -> Found {
    let boot = |known: &Known| known.identity.as_ref().is_none_or(|identity| identity.boot == inner.boot);
    let alive = known.into_iter().filter(boot).map(|known| assume(inner, known)).collect();
    Found { alive, strays: Vec::new() }
}

/// Takes a life for what the ledger says; the next look at its unit tells what it really is.
fn assume(inner: &Arc<Inner>, known: Known) -> Known {
    let identity = known.identity.as_ref();
    let pid = identity.map_or(0, |identity| identity.pid);
    let invocation = identity.and_then(|identity| identity.invocation.clone()).unwrap_or_default();
    let seen = Snapshot { invocation, main_pid: pid, ..Snapshot::default() };
    let told = Told::Alive { pid, restarts: 0, ready: false };
    inner.units.watch(&known.app, Tracked::new(known.run, seen, told, false, Duration::ZERO));
    let (inner, app) = (inner.clone(), known.app.clone());
    tokio::spawn(async move { watch::reread(&inner, &app).await });
    known
}
