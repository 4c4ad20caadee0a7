//! Small things that several pages show: a status, an age, an amount.

use std::time::Duration;

use maud::{Markup, html};
use nbs_core::time::Now;

use crate::wire::api::app::Reason;
use crate::wire::api::environment::Environment;
use crate::wire::api::operation::Operation;
use crate::wire::api::parse_time;
use crate::wire::api::usage::AppUsage;

/// A status word. Its colour says nothing that the word does not.
pub(crate) fn badge(status: &str) -> Markup {
    let tone = match status {
        "running" | "available" | "done" | "yes" => "good",
        "error" | "failed" | "unavailable" | "no" => "bad",
        "unknown" | "expired" => "doubt",
        "stopped" | "draining" => "rest",
        _ => "busy",
    };
    html! { span.badge.(tone) { (status) } }
}

/// How long, in the unit that matters.
pub(crate) fn coarse(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds @ 3600..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// How long a moment is ago.
pub(crate) fn since(text: &str, now: Now) -> Markup {
    let ago = parse_time(text).map(|at| Duration::from_millis(now.wall.0.saturating_sub(at.0)));
    html! { time datetime=(text) title=(text) { (ago.map_or_else(|| text.to_string(), coarse)) } }
}

/// An amount of memory.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut amount = bytes as f64;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && amount < 10.0);
    format!("{amount:.digits$} {}", UNITS[unit])
}

/// A share of a CPU.
pub(crate) fn percent(percent: Option<f64>) -> String {
    percent.map_or_else(|| "–".into(), |percent| format!("{percent:.1} %"))
}

/// What an app uses.
pub(crate) fn usage(usage: Option<&AppUsage>) -> Markup {
    let Some(usage) = usage else { return html! { span.faint { "–" } } };
    html! {
        span.figure { (percent(usage.cpu_percent)) " CPU" }
        " "
        span.figure title=[usage.memory_source.as_deref()] {
            (usage.memory_bytes.map_or_else(|| "–".into(), bytes))
        }
    }
}

/// What a host uses, of what it has.
pub(crate) fn host(environment: &Environment) -> Markup {
    let usage = environment.usage.as_ref();
    let has = environment.capacity.as_ref();
    let memory = usage.and_then(|usage| usage.memory_bytes).map(bytes);
    html! {
        @if let Some(usage) = usage {
            span.figure { (percent(usage.cpu_percent)) }
            span.faint { " of " @if let Some(has) = has { (has.cpus) " CPUs" } @else { "all CPUs" } }
            br;
            span.figure { (memory.as_deref().unwrap_or("–")) }
            @if let Some(has) = has { span.faint { " of " (bytes(has.memory_bytes)) } }
        } @else { span.faint { "–" } }
    }
}

/// Why something is not well, and what to do.
pub(crate) fn reason(reason: &Reason) -> Markup {
    html! { p.reason { (reason.text) } @if !reason.remedy.is_empty() { p.hint { (reason.remedy) } } }
}

/// Operations, newest first.
pub(crate) fn operations(list: &[Operation], with_app: bool, now: Now) -> Markup {
    html! {
        @if list.is_empty() { p.faint { "None yet." } } @else {
            table {
                thead { tr {
                    @if with_app { th scope="col" { "App" } }
                    th scope="col" { "What" } th scope="col" { "Where" } th scope="col" { "State" }
                    th scope="col" { "By" } th scope="col" { "Ago" }
                } }
                tbody {
                    @for operation in list { tr id={ "op-" (operation.id) } {
                        @if with_app { td data-label="App" {
                            a href={ "/console/apps/" (operation.app) } { (operation.app) }
                        } }
                        td data-label="What" { (operation.action) }
                        td data-label="Where" { (operation.environments.join(", ")) }
                        td data-label="State" {
                            (badge(&operation.status))
                            @if let Some(reason) = &operation.reason { p.reason { (reason) } }
                        }
                        td data-label="By" { (operation.actor) }
                        td data-label="Ago" { (since(&operation.created_at, now)) }
                    } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_ages_are_short() {
        let shown = [bytes(0), bytes(1023), bytes(1536), bytes(183_500_800), bytes(1 << 34)];
        assert_eq!(shown, ["0 B", "1023 B", "1.5 KiB", "175 MiB", "16 GiB"]);
        let ages = [59, 60, 3599, 3600, 172_799, 172_800].map(|seconds| coarse(Duration::from_secs(seconds)));
        assert_eq!(ages, ["59 s", "1 min", "59 min", "1 h", "47 h", "2 days"]);
    }
}
