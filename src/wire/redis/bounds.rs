//! How much of a message is believed at most. Each bound is far above what is honest, and what is above it is refused.

use nbs_core::limits::{
    LAST_LOG_LINE_MAX, LAST_LOG_LINES, PLACEMENTS_MAX, RECIPE_PATH_LEN_MAX, RECIPE_PATHS_MAX, SPEC_ENTRIES_MAX,
};
use nbs_core::order::{InstanceReport, LocalOverride, Registration, RuntimeSummary};
use nbs_core::paths::Paths;
use nbs_core::reason::Reason;
use nbs_core::spec::AppSpec;

use crate::wire::record::RowError;

/// Bytes of a body. No envelope holds more.
pub const MESSAGE_MAX: usize = 1 << 20;
/// Bytes of a text for people: a reason, a description, a note.
const TEXT_MAX: usize = 4 << 10;
/// Bytes of a version, a boot, a host's name, an actor.
pub(super) const SHORT_MAX: usize = 256;
/// Bytes of a URL or a path.
const PLACE_MAX: usize = 4 << 10;
/// Notes of one instance.
const NOTES_MAX: usize = 64;
/// Database servers of one host.
const DATABASES_MAX: usize = 64;
/// Recipes of one host.
const RUNTIMES_MAX: usize = 1_000;

pub(super) fn size(text: &str) -> Result<(), RowError> {
    at_most("the message", text.len(), MESSAGE_MAX, "bytes")
}

/// Refuses a text that is too long.
pub(super) fn text(field: &str, text: &str, max: usize) -> Result<(), RowError> {
    at_most(field, text.len(), max, "bytes")
}

pub(super) fn entries(field: &str, count: usize, max: usize) -> Result<(), RowError> {
    at_most(field, count, max, "entries")
}

fn at_most(field: &str, count: usize, max: usize, unit: &str) -> Result<(), RowError> {
    if count <= max {
        return Ok(());
    }
    Err(RowError::Damaged(format!("{field} has {count} {unit}, more than the {max} that are allowed")))
}

fn some(field: &str, value: Option<&str>, max: usize) -> Result<(), RowError> {
    value.map_or(Ok(()), |value| text(field, value, max))
}

/// Cuts a text between two characters.
pub(super) fn clip(text: &mut String, max: usize) {
    text.truncate(text.floor_char_boundary(max));
}

fn clip_all(texts: &mut Vec<String>, count: usize, max: usize) {
    texts.truncate(count);
    texts.iter_mut().for_each(|text| clip(text, max));
}

/// Cuts what is for people, so that a long word never keeps a report from being told.
pub(super) fn clip_report(report: &mut InstanceReport) {
    let optional = [&mut report.version, &mut report.progress, &mut report.upgrade.installed];
    optional.into_iter().flatten().for_each(|text| clip(text, TEXT_MAX));
    clip_all(&mut report.last_log, LAST_LOG_LINES, LAST_LOG_LINE_MAX);
    clip_all(&mut report.notes, NOTES_MAX, TEXT_MAX);
    if let Some(Reason { text, .. }) = &mut report.reason {
        clip(text, TEXT_MAX);
    }
    if let Some(LocalOverride { actor, .. }) = &mut report.local {
        clip(actor, SHORT_MAX);
    }
}

pub(super) fn report(report: &InstanceReport) -> Result<(), RowError> {
    some("version", report.version.as_deref(), TEXT_MAX)?;
    some("progress", report.progress.as_deref(), TEXT_MAX)?;
    some("installed", report.upgrade.installed.as_deref(), TEXT_MAX)?;
    some("reason", report.reason.as_ref().map(|reason| reason.text.as_str()), TEXT_MAX)?;
    some("actor", report.local.as_ref().map(|local| local.actor.as_str()), SHORT_MAX)?;
    some("address", report.address.as_ref().map(ToString::to_string).as_deref(), PLACE_MAX)?;
    entries("last_log", report.last_log.len(), LAST_LOG_LINES)?;
    report.last_log.iter().try_for_each(|line| text("last_log", line, LAST_LOG_LINE_MAX))?;
    entries("notes", report.notes.len(), NOTES_MAX)?;
    report.notes.iter().try_for_each(|note| text("notes", note, TEXT_MAX))
}

pub(super) fn clip_runtime(summary: &mut RuntimeSummary) {
    clip(&mut summary.description, TEXT_MAX);
}

pub(super) fn runtimes<'a>(all: impl ExactSizeIterator<Item = &'a RuntimeSummary>) -> Result<(), RowError> {
    entries("runtimes", all.len(), RUNTIMES_MAX)?;
    for summary in all {
        text("description", &summary.description, TEXT_MAX)?;
        some("app_id_pattern", summary.app_id_pattern.as_deref(), TEXT_MAX)?;
        paths(&summary.paths)?;
        entries("secrets_needed", summary.secrets_needed.len(), SPEC_ENTRIES_MAX)?;
        let of_shared = summary.shared.iter().flat_map(|shared| &shared.secrets_needed);
        entries("shared.secrets_needed", of_shared.clone().count(), SPEC_ENTRIES_MAX)?;
        let mut names = summary.secrets_needed.iter().chain(of_shared);
        names.try_for_each(|name| text("secrets_needed", name, SHORT_MAX))?;
    }
    Ok(())
}

fn paths(paths: &Paths) -> Result<(), RowError> {
    let naming = paths.naming.iter().flat_map(|own| [Some(&own.path), own.rewrite.as_ref()]).flatten();
    for (field, count) in
        [("paths", paths.naming.len()), ("shared_paths", paths.shared.len()), ("page_paths", paths.page.len())]
    {
        entries(field, count, RECIPE_PATHS_MAX)?;
    }
    naming.chain(&paths.shared).chain(&paths.page).try_for_each(|path| text("paths", path, RECIPE_PATH_LEN_MAX))
}

pub(super) fn clip_registration(registration: &mut Registration) {
    clip(&mut registration.host, SHORT_MAX);
    registration.runtimes.values_mut().for_each(clip_runtime);
}

pub(super) fn registration(registration: &Registration) -> Result<(), RowError> {
    text("version", &registration.version, SHORT_MAX)?;
    text("boot", &registration.boot, SHORT_MAX)?;
    text("host", &registration.host, SHORT_MAX)?;
    some("url", registration.url.as_deref(), PLACE_MAX)?;
    some("proxy_url", registration.proxy_url.as_deref(), PLACE_MAX)?;
    entries("databases", registration.databases.len(), DATABASES_MAX)?;
    registration.databases.values().try_for_each(|at| text("database host", &at.host, SHORT_MAX))?;
    runtimes(registration.runtimes.values())
}

/// The counts of a spec; its texts are bounded by the message.
pub(super) fn spec(spec: &AppSpec) -> Result<(), RowError> {
    entries("environments", spec.environments.len(), PLACEMENTS_MAX)?;
    entries("env", spec.env.len(), SPEC_ENTRIES_MAX)?;
    entries("secrets", spec.secrets.len(), SPEC_ENTRIES_MAX)?;
    entries("labels", spec.labels.len(), SPEC_ENTRIES_MAX)?;
    entries("placements", spec.placements.len(), PLACEMENTS_MAX)?;
    spec.placements.values().try_for_each(|placement| entries("env", placement.env.len(), SPEC_ENTRIES_MAX))
}
