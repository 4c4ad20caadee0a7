//! Whether a request goes on to its app, waits for it, wakes it, or is answered here.
//!
//! A browser that navigates never hangs: it gets a page that continues by itself. Other clients cannot show a page and
//! wait. Health checkers and bots neither wake an app nor wait for one. An instance in another environment is judged by
//! that environment's gateway as soon as it may run: what the entry knows of it is old news. Deliberately absent: which of
//! several environments it is (`choice`).

use crate::choice::{self, Choice, Road, Roads, Wish};
use crate::intent::Intent;
use crate::launch::Address;
use crate::limits;
use crate::phase::Status;
use crate::view::{AppView, InstanceView, reason_of};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visitor {
    /// A browser that navigates: GET or HEAD, and accepts `text/html`.
    Browser,
    /// Anyone else, a browser's POST included.
    Client,
    /// Wants another protocol, such as WebSocket.
    Upgrade,
    /// A health checker or bot.
    Bot,
    /// The entry's gateway, for a visitor of whom only that one knows what it is.
    Relayed,
}

/// The gateway's own answers. `as_str` is part of the public contract; most are NocoBase's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// No such app.
    AppNotFound,
    /// Stopped, and a visit does not start it.
    AppStopped,
    /// Waits for its turn.
    AppQueued,
    /// Database and hooks.
    AppPreparing,
    /// Started, not ready.
    AppInitializing,
    /// Ready, not routed.
    AppInitialized,
    /// Under maintenance.
    AppCommanding,
    /// Being stopped.
    AppStopping,
    /// Gave up.
    AppError,
    /// Its environment is silent.
    AppEnvironmentUnavailable,
    /// Too many requests wait for it.
    HoldFull,
    /// The app could not be reached, or broke off before it answered.
    UpstreamConnect,
    /// The app did not answer in time.
    UpstreamTimeout,
    /// The client did not send its request in time.
    RequestTimeout,
    /// `CONNECT`: this is no forward proxy.
    MethodNotAllowed,
    /// Several environments serve the app, and the visitor must say which.
    EnvironmentRequired,
    /// It claims to come from the entry's gateway and does not.
    HopRefused,
}

impl Code {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AppNotFound => "APP_NOT_FOUND",
            Self::AppStopped => "APP_STOPPED",
            Self::AppQueued => "APP_QUEUED",
            Self::AppPreparing => "APP_PREPARING",
            Self::AppInitializing => "APP_INITIALIZING",
            Self::AppInitialized => "APP_INITIALIZED",
            Self::AppCommanding => "APP_COMMANDING",
            Self::AppStopping => "APP_STOPPING",
            Self::AppError => "APP_ERROR",
            Self::AppEnvironmentUnavailable => "APP_ENVIRONMENT_UNAVAILABLE",
            Self::HoldFull => "HOLD_FULL",
            Self::UpstreamConnect => "UPSTREAM_CONNECT",
            Self::UpstreamTimeout => "UPSTREAM_TIMEOUT",
            Self::RequestTimeout => "REQUEST_TIMEOUT",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::EnvironmentRequired => "ENVIRONMENT_REQUIRED",
            Self::HopRefused => "HOP_REFUSED",
        }
    }

    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::AppNotFound => 404,
            Self::UpstreamConnect => 502,
            Self::UpstreamTimeout => 504,
            Self::RequestTimeout => 408,
            Self::MethodNotAllowed => 405,
            Self::EnvironmentRequired => 400,
            Self::HopRefused => 403,
            _ => 503,
        }
    }

    /// Seconds after which asking again may help.
    pub fn retry_after(self) -> Option<u32> {
        match self {
            Self::AppQueued | Self::AppPreparing | Self::AppInitializing | Self::AppCommanding => Some(5),
            Self::AppInitialized | Self::AppStopping | Self::HoldFull => Some(2),
            Self::AppEnvironmentUnavailable => Some(10),
            Self::AppStopped | Self::AppError => Some(60),
            _ => None,
        }
    }

    /// Whether NocoBase's clients should show the app as under maintenance.
    pub fn is_maintaining(self) -> bool {
        self.status() == 503 && self != Self::HoldFull
    }

    /// What it means, in one sentence without a full stop.
    pub fn sentence(self, app: &str) -> String {
        match self {
            Self::AppNotFound if app.is_empty() => "no application is named by this address".into(),
            Self::AppNotFound => format!("application {app} not found"),
            Self::AppStopped => format!("application {app} is stopped"),
            Self::AppQueued => format!("application {app} waits for its turn to start"),
            Self::AppPreparing => format!("application {app} is preparing, please wait patiently"),
            Self::AppInitializing => format!("application {app} is initializing"),
            Self::AppInitialized => format!("application {app} is initialized, waiting for its route"),
            Self::AppCommanding => format!("application {app} is under maintenance"),
            Self::AppStopping => format!("application {app} is stopping"),
            Self::AppError => format!("application {app} failed"),
            Self::AppEnvironmentUnavailable => {
                format!("deployment environment for application {app} is unavailable")
            }
            Self::HoldFull => format!("too many requests wait for application {app}"),
            Self::UpstreamConnect => format!("application {app} could not be reached"),
            Self::UpstreamTimeout => format!("application {app} did not answer in time"),
            Self::RequestTimeout => "the request was not sent in time".into(),
            Self::MethodNotAllowed => "this gateway opens no tunnels to other hosts".into(),
            Self::EnvironmentRequired => {
                format!("application {app} is served by several environments: name one")
            }
            Self::HopRefused => "this request does not come from the entry's gateway".into(),
        }
    }
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    /// It goes on.
    Proceed {
        /// To this instance.
        instance: &'a InstanceView,
        /// There.
        address: &'a Address,
        /// Without the prefix.
        strip: bool,
    },
    /// It goes on to the gateway of another environment.
    Relay {
        /// For this instance.
        instance: &'a InstanceView,
    },
    /// The visitor must name an environment.
    Choose,
    /// It names an environment that does not serve this app.
    Elsewhere,
    /// It waits until this decision changes or its time is over; then the code is its answer.
    Hold {
        /// Whether the app must be woken.
        wake: bool,
        /// Why it waits.
        code: Code,
    },
    /// It gets the waiting page.
    Page {
        /// Whether the app must be woken.
        wake: bool,
        /// Why it waits.
        code: Code,
    },
    /// It is answered at once.
    Refuse(Code),
}

/// The instance that is meant, if one is.
pub fn instance<'a>(app: &'a AppView, wish: &Wish, roads: &impl Roads) -> Option<&'a InstanceView> {
    match choice::choose(app, wish, roads) {
        Choice::One(instance) => Some(instance),
        Choice::Nobody | Choice::Ask | Choice::Elsewhere => None,
    }
}

/// Decides. `held`: how many requests wait for this app already.
pub fn decide<'a>(
    app: Option<&'a AppView>,
    wish: &Wish,
    roads: &impl Roads,
    visitor: Visitor,
    held: usize,
) -> Decision<'a> {
    let Some(app) = app else {
        return Decision::Refuse(Code::AppNotFound);
    };
    let status = match choice::choose(app, wish, roads) {
        Choice::Ask => return Decision::Choose,
        Choice::Elsewhere => return Decision::Elsewhere,
        Choice::Nobody => app.status,
        Choice::One(instance) => match at_once(instance, roads) {
            Some(decision) => return decision,
            None => instance.status,
        },
    };
    match waiting(app, status) {
        Err(code) => Decision::Refuse(code),
        Ok((_, code)) if visitor == Visitor::Bot => Decision::Refuse(code),
        // Who wakes is for the entry to say.
        Ok((true, code)) if visitor == Visitor::Relayed => Decision::Refuse(code),
        Ok((wake, code)) if visitor == Visitor::Browser => Decision::Page { wake, code },
        Ok(_) if held >= limits::HELD_PER_APP_MAX => Decision::Refuse(Code::HoldFull),
        Ok((wake, code)) => Decision::Hold { wake, code },
    }
}

/// What happens at once, whoever asks.
fn at_once<'a>(instance: &'a InstanceView, roads: &impl Roads) -> Option<Decision<'a>> {
    let may_run = matches!(instance.status, Status::Running | Status::Unknown);
    match roads.road(&instance.environment) {
        Road::Here { .. } => {
            let (address, strip) = instance.target()?;
            Some(Decision::Proceed { instance, address, strip })
        }
        _ if !may_run => None,
        Road::There { .. } => Some(Decision::Relay { instance }),
        Road::Resting | Road::Unknown => Some(Decision::Refuse(Code::AppEnvironmentUnavailable)),
    }
}

/// Whether waiting helps: whether the app must be woken for it, and the code; else the code of the refusal.
fn waiting(app: &AppView, status: Status) -> Result<(bool, Code), Code> {
    let asleep = app.intent == Intent::OnDemand { awake: false };
    let comes_back = app.intent != Intent::Stop && !app.removing;
    let code = match status {
        Status::Stopped if comes_back => Code::AppStopped,
        Status::Stopping if comes_back => Code::AppStopping,
        Status::Stopped => return Err(Code::AppStopped),
        Status::Stopping => return Err(Code::AppStopping),
        Status::Queued => Code::AppQueued,
        Status::Preparing => Code::AppPreparing,
        Status::Initializing => Code::AppInitializing,
        Status::Initialized => Code::AppInitialized,
        Status::Commanding => Code::AppCommanding,
        Status::Error => return Err(Code::AppError),
        Status::Unknown => return Err(Code::AppEnvironmentUnavailable),
        // It runs and listens nowhere: there is nothing to visit.
        Status::Running | Status::NotFound => return Err(Code::AppNotFound),
    };
    Ok((asleep && comes_back, code))
}

/// What a code means for this app now, with the app's own words where it has some.
pub fn sentence(code: Code, name: &str, instance: Option<&InstanceView>) -> String {
    let mut text = code.sentence(name);
    let Some(instance) = instance else {
        return text;
    };
    let more = match code {
        Code::AppError => reason_of(instance).map(|reason| reason.text.as_str()),
        Code::AppPreparing | Code::AppInitializing | Code::AppCommanding => progress(instance),
        _ => None,
    };
    if let Some(more) = more {
        text.push_str(": ");
        text.push_str(more);
    }
    text
}

/// The app's own words on its progress.
pub fn progress(instance: &InstanceView) -> Option<&str> {
    instance.report.as_ref().and_then(|report| report.progress.as_deref())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::choice::AllHere;
    use crate::id::{Generation, Run, Seq};
    use crate::name::{AppId, EnvironmentName, RuntimeName};
    use crate::order::InstanceReport;
    use crate::phase::Phase;
    use crate::reason::{Reason, ReasonCode};
    use crate::recipe::Adapter;
    use crate::spec::AppSpec;
    use crate::time::{Mono, Wall};
    use std::sync::Arc;

    pub(crate) fn report(app: &AppId) -> InstanceReport {
        InstanceReport {
            app: app.clone(),
            intent_seq: Seq(1),
            run: Run::default(),
            generation: Generation(1),
            phase: Phase::Running,
            in_turn: false,
            reason: Some(Reason::new(ReasonCode::ExitStatus, "exited with status 3")),
            since: Wall(0),
            pid: Some(7),
            adapter: Adapter::Process,
            address: Some(Address::Port(20001)),
            strip_prefix: true,
            select: None,
            restarts: 0,
            next_attempt: None,
            version: None,
            progress: Some("load plugin [x], 12/77".into()),
            last_log: Vec::new(),
            notes: Vec::new(),
            local: None,
            removing: false,
            upgrade: Default::default(),
        }
    }

    pub(crate) fn app(status: Status, intent: Intent) -> AppView {
        let name = AppId::parse("crm").unwrap();
        let environment = EnvironmentName::parse("local").unwrap();
        let spec = AppSpec::minimal(name.clone(), RuntimeName::parse("node").unwrap(), environment.clone());
        let instance = InstanceView {
            intent: Intent::Run,
            leaving: false,
            environment,
            status,
            since: Wall(0),
            report: Some(Arc::new(report(&name))),
            observed_at: Wall(0),
            observed: Mono::default(),
        };
        AppView {
            spec: Arc::new(spec),
            generation: Generation(1),
            intent,
            intent_seq: Seq(1),
            status,
            removing: false,
            created_at: Wall(0),
            instances: vec![instance],
            last_operation: None,
        }
    }

    fn decide(app: Option<&AppView>, visitor: Visitor, held: usize) -> Decision<'_> {
        super::decide(app, &Wish::default(), &AllHere, visitor, held)
    }

    /// Whoever asks for another environment than this one must be sent there.
    struct Abroad(Road);

    impl Roads for Abroad {
        fn road(&self, _: &EnvironmentName) -> Road {
            self.0
        }
        fn spin(&self) -> usize {
            0
        }
    }

    const INTENTS: [Intent; 4] =
        [Intent::Run, Intent::Stop, Intent::OnDemand { awake: false }, Intent::OnDemand { awake: true }];

    /// What is expected of a status and an intent: go on, wait with a code, or be refused with one.
    fn expected(status: Status, intent: Intent) -> Option<Result<Code, Code>> {
        let back = intent != Intent::Stop;
        Some(match status {
            Status::Running => return None,
            Status::Stopped if back => Ok(Code::AppStopped),
            Status::Stopped => Err(Code::AppStopped),
            Status::Stopping if back => Ok(Code::AppStopping),
            Status::Stopping => Err(Code::AppStopping),
            Status::Queued => Ok(Code::AppQueued),
            Status::Preparing => Ok(Code::AppPreparing),
            Status::Initializing => Ok(Code::AppInitializing),
            Status::Initialized => Ok(Code::AppInitialized),
            Status::Commanding => Ok(Code::AppCommanding),
            Status::Error => Err(Code::AppError),
            Status::Unknown => Err(Code::AppEnvironmentUnavailable),
            Status::NotFound => Err(Code::AppNotFound),
        })
    }

    #[test]
    fn every_status_intent_and_visitor() {
        for &status in Status::ALL {
            for intent in INTENTS {
                let app = app(status, intent);
                let wake = intent == Intent::OnDemand { awake: false };
                for visitor in [Visitor::Browser, Visitor::Client, Visitor::Upgrade, Visitor::Bot] {
                    let decision = decide(Some(&app), visitor, 0);
                    let case = format!("{status} {intent:?} {visitor:?}");
                    match (expected(status, intent), visitor) {
                        (None, _) => {
                            assert!(matches!(decision, Decision::Proceed { strip: true, .. }), "{case}");
                        }
                        (Some(Err(code)), _) | (Some(Ok(code)), Visitor::Bot) => {
                            assert_eq!(decision, Decision::Refuse(code), "{case}");
                        }
                        (Some(Ok(code)), Visitor::Browser) => {
                            assert_eq!(decision, Decision::Page { wake, code }, "{case}");
                        }
                        (Some(Ok(code)), _) => assert_eq!(decision, Decision::Hold { wake, code }, "{case}"),
                    }
                }
            }
        }
    }

    #[test]
    fn a_full_hold_refuses_those_who_would_wait_and_nobody_else() {
        let full = limits::HELD_PER_APP_MAX;
        let starting = app(Status::Initializing, Intent::Run);
        assert_eq!(decide(Some(&starting), Visitor::Client, full), Decision::Refuse(Code::HoldFull));
        assert!(matches!(decide(Some(&starting), Visitor::Client, full - 1), Decision::Hold { .. }));
        assert!(matches!(decide(Some(&starting), Visitor::Browser, full), Decision::Page { .. }));
        let running = app(Status::Running, Intent::Run);
        assert!(matches!(decide(Some(&running), Visitor::Client, full), Decision::Proceed { .. }));
    }

    #[test]
    fn an_app_on_its_way_out_is_not_waited_for() {
        let mut leaving = app(Status::Stopping, Intent::OnDemand { awake: false });
        leaving.removing = true;
        assert_eq!(decide(Some(&leaving), Visitor::Client, 0), Decision::Refuse(Code::AppStopping));
        assert_eq!(decide(None, Visitor::Browser, 0), Decision::Refuse(Code::AppNotFound));
    }

    #[test]
    fn the_environments_own_gateway_judges_what_may_run() {
        let there = Road::There { in_flight: 0, draining: false };
        for &status in Status::ALL {
            let app = app(status, Intent::Run);
            let decide = |road| super::decide(Some(&app), &Wish::default(), &Abroad(road), Visitor::Client, 0);
            let refused = Decision::Refuse(Code::AppEnvironmentUnavailable);
            if matches!(status, Status::Running | Status::Unknown) {
                assert_eq!(decide(there), Decision::Relay { instance: &app.instances[0] });
                assert_eq!((decide(Road::Resting), decide(Road::Unknown)), (refused, refused));
            } else {
                let local = super::decide(Some(&app), &Wish::default(), &AllHere, Visitor::Client, 0);
                assert_eq!((decide(there), decide(Road::Resting)), (local, local), "{status}");
            }
        }
    }

    #[test]
    fn a_relayed_request_wakes_nothing_and_gets_no_page() {
        let decide = |app: &AppView| match decide(Some(app), Visitor::Relayed, 0) {
            Decision::Hold { wake: false, code } => Ok(code),
            Decision::Refuse(code) => Err(code),
            other => panic!("{other:?}"),
        };
        assert_eq!(decide(&app(Status::Stopped, Intent::OnDemand { awake: false })), Err(Code::AppStopped));
        assert_eq!(decide(&app(Status::Stopped, Intent::Stop)), Err(Code::AppStopped));
        assert_eq!(decide(&app(Status::Initializing, Intent::Run)), Ok(Code::AppInitializing));
    }

    #[test]
    fn several_environments_must_be_chosen_from() {
        let mut wide = app(Status::Running, Intent::Run);
        let mut second = wide.instances[0].clone();
        second.environment = EnvironmentName::parse("env_b").unwrap();
        wide.instances.push(second);
        let decide = |named: Option<&str>| {
            let wish = Wish { named: named.map(Into::into), remembered: None };
            super::decide(Some(&wide), &wish, &AllHere, Visitor::Client, 0)
        };
        assert_eq!(decide(None), Decision::Choose);
        assert_eq!(decide(Some("env_c")), Decision::Elsewhere);
        assert!(matches!(decide(Some("env_b")), Decision::Proceed { .. }));
    }

    #[test]
    fn the_sentence_carries_the_apps_own_words() {
        let starting = app(Status::Initializing, Intent::Run);
        let text = sentence(Code::AppInitializing, "crm", starting.instances.first());
        assert_eq!(text, "application crm is initializing: load plugin [x], 12/77");
        let failed = app(Status::Error, Intent::Run);
        assert_eq!(
            sentence(Code::AppError, "crm", failed.instances.first()),
            "application crm failed: exited with status 3"
        );
    }
}
