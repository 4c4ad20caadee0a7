//! Which app a request is for, from its head alone, and what of the head goes on to the app.
//!
//! The target is cut, never decoded and never written anew: what is not a selector reaches the app byte for byte, be it
//! `%2e`, `//` or `..`. An app ID is compared as it stands, so `%63rm` is nobody's. Deliberately absent: whether the app
//! exists (the caller looks it up), domains, shared paths and the choice among environments (`choice`; what names one is a
//! selector too, and goes like the others).

use std::borrow::Cow;

use crate::choice;
use crate::name::AppId;

/// What a request's head says about the app it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head<'a> {
    /// Path and query as the client wrote them; of an absolute target what follows the authority.
    pub target: &'a str,
    /// The `Host`. Not asked yet: no app has a domain of its own.
    pub host: Option<&'a str>,
    /// The header `X-App`.
    pub x_app: Option<&'a str>,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route<'a> {
    /// To an app, should there be one of that name.
    App(Selection<'a>),
    /// `/apps/<app>` lacks its slash, without which relative links would lead elsewhere.
    Redirect {
        /// Which app; follows the rule of app IDs.
        app: &'a str,
        /// Where to.
        location: String,
    },
    /// Nothing names an app.
    Nowhere,
}

/// What named the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// `/apps/<app>/…`
    Path,
    /// `/api/__app/<app>/…`
    ApiPath,
    /// `?__appName=<app>`
    Query,
    /// `X-App: <app>`
    Header,
}

/// A named app, and the target without what named it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection<'a> {
    /// The name as given; one that is no app ID is the name of no app.
    pub app: &'a str,
    /// What named it.
    pub how: How,
    path: &'a str,
    /// Bytes of `path` that are the prefix (`/apps/<app>`) or precede the app's own part (`/api/__app/<app>`).
    cut: usize,
    query: Option<&'a str>,
    query_selects: bool,
}

const APPS: &str = "/apps/";
const API: &str = "/api";
const API_APP: &str = "/api/__app/";
const APP_NAME: &str = "__appName";

/// Finds the app. The first that names one wins: path, query, header.
pub fn route<'a>(head: &Head<'a>) -> Route<'a> {
    let (path, query) = match head.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (head.target, None),
    };
    let named = query.and_then(app_name);
    let select = |app, how, cut| {
        Route::App(Selection { app, how, path, cut, query, query_selects: query.is_some_and(has_selector) })
    };
    if let Some((app, rest)) = path.strip_prefix(APPS).and_then(segment) {
        return match rest {
            "" if AppId::parse(app).is_ok() => {
                let query = query.map(|query| format!("?{query}")).unwrap_or_default();
                Route::Redirect { app, location: format!("{APPS}{app}/{query}") }
            }
            _ => select(app, How::Path, path.len() - rest.len()),
        };
    }
    if let Some((app, rest)) = path.strip_prefix(API_APP).and_then(segment) {
        return select(app, How::ApiPath, path.len() - rest.len());
    }
    if let Some(app) = named {
        return select(app, How::Query, 0);
    }
    match head.x_app.map(str::trim) {
        Some(app) if !app.is_empty() => select(app, How::Header, 0),
        _ => Route::Nowhere,
    }
}

/// The environment that a target names.
pub fn environment(target: &str) -> Option<&str> {
    value(target.split_once('?')?.1, choice::QUERY)
}

impl<'a> Selection<'a> {
    /// What goes on to an app that somebody has named who need not guess: the target loses what selects this app.
    pub fn named(app: &'a str, target: &'a str) -> Self {
        match route(&Head { target, host: None, x_app: Some(app) }) {
            Route::App(selection) if selection.app == app => selection,
            _ => {
                let (path, query) = match target.split_once('?') {
                    Some((path, query)) => (path, Some(query)),
                    None => (target, None),
                };
                let query_selects = query.is_some_and(has_selector);
                Self { app, how: How::Header, path, cut: 0, query, query_selects }
            }
        }
    }

    /// The prefix that `target(true)` takes off.
    pub fn prefix(&self) -> Option<&'a str> {
        (self.how == How::Path).then(|| &self.path[..self.cut])
    }

    /// What the app is asked for. `strip`: whether the app expects its paths without `/apps/<app>`.
    ///
    /// No selector remains, not even one that was overruled: an app that knows them would take its own name for a
    /// stranger's.
    pub fn target(&self, strip: bool) -> Cow<'a, str> {
        let (head, path) = match self.how {
            How::Path if strip => ("", &self.path[self.cut..]),
            How::ApiPath => (API, &self.path[self.cut..]),
            How::Path | How::Query | How::Header => ("", self.path),
        };
        let query = self.query.map(|query| match self.query_selects {
            true => without_selectors(query),
            false => Some(Cow::Borrowed(query)),
        });
        match (head, query) {
            ("", None | Some(None)) => Cow::Borrowed(path),
            (head, None | Some(None)) => Cow::Owned(format!("{head}{path}")),
            (head, Some(Some(query))) => Cow::Owned(format!("{head}{path}?{query}")),
        }
    }

    /// Whether `target(strip)` is the target as the client wrote it.
    pub fn is_untouched(&self, strip: bool) -> bool {
        !self.query_selects
            && match self.how {
                How::Path => !strip,
                How::ApiPath => false,
                How::Query | How::Header => true,
            }
    }
}

/// The first segment and what follows it, slash included; none if the segment is empty.
fn segment(path: &str) -> Option<(&str, &str)> {
    let end = path.find('/').unwrap_or(path.len());
    (end > 0).then(|| path.split_at(end))
}

fn is_selector(pair: &str) -> bool {
    let is = |name| pair.strip_prefix(name).is_some_and(|rest: &str| rest.is_empty() || rest.starts_with('='));
    pair.starts_with("__") && (is(APP_NAME) || is(choice::QUERY))
}

fn has_selector(query: &str) -> bool {
    query.contains("__") && query.split('&').any(is_selector)
}

/// The first app that the query names.
fn app_name(query: &str) -> Option<&str> {
    value(query, APP_NAME)
}

/// The first value of a parameter that is not empty.
fn value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    if !query.contains(name) {
        return None;
    }
    let mut values = query.split('&').filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    values.find(|value| !value.is_empty())
}

/// The query without the pairs that name an app or an environment; none if no pair is left.
fn without_selectors(query: &str) -> Option<Cow<'_, str>> {
    let mut rest = query.split('&').filter(|pair| !is_selector(pair));
    let mut kept = rest.next()?.to_string();
    for pair in rest {
        kept.push('&');
        kept.push_str(pair);
    }
    Some(Cow::Owned(kept))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(target: &str) -> Route<'_> {
        route(&Head { target, host: None, x_app: None })
    }

    fn selection(target: &str) -> Selection<'_> {
        match of(target) {
            Route::App(selection) => selection,
            other => panic!("{target}: {other:?}"),
        }
    }

    #[test]
    fn each_selector_and_what_goes_on() {
        for (target, app, how, kept, stripped) in [
            ("/apps/crm/", "crm", How::Path, "/apps/crm/", "/"),
            ("/apps/crm/x?y", "crm", How::Path, "/apps/crm/x?y", "/x?y"),
            ("/apps/crm/x?", "crm", How::Path, "/apps/crm/x?", "/x?"),
            ("/apps/crm//x/../%2e/", "crm", How::Path, "/apps/crm//x/../%2e/", "//x/../%2e/"),
            ("/apps/crm/?__appName=erp&a", "crm", How::Path, "/apps/crm/?a", "/?a"),
            ("/api/__app/crm/users:list?p=1", "crm", How::ApiPath, "/api/users:list?p=1", "/api/users:list?p=1"),
            ("/api/__app/crm", "crm", How::ApiPath, "/api", "/api"),
            ("/ws?__appName=crm", "crm", How::Query, "/ws", "/ws"),
            ("/ws?a=%20&__appName=crm&&b=+", "crm", How::Query, "/ws?a=%20&&b=+", "/ws?a=%20&&b=+"),
            ("/ws?__appName=&__appName=crm&x__appName=1", "crm", How::Query, "/ws?x__appName=1", "/ws?x__appName=1"),
            ("/apps/?__appName=crm", "crm", How::Query, "/apps/", "/apps/"),
            ("/apps//x?__appName=crm", "crm", How::Query, "/apps//x", "/apps//x"),
            ("/apps/%63rm/x", "%63rm", How::Path, "/apps/%63rm/x", "/x"),
            ("/apps/../x", "..", How::Path, "/apps/../x", "/x"),
            ("/apps/Crm", "Crm", How::Path, "/apps/Crm", ""),
        ] {
            let selection = selection(target);
            assert_eq!((selection.app, selection.how), (app, how), "{target}");
            assert_eq!(selection.target(false), kept, "{target}");
            assert_eq!(selection.target(true), stripped, "{target}");
            assert_eq!(selection.is_untouched(false), kept == target, "{target}");
        }
    }

    #[test]
    fn the_order_is_path_query_header() {
        let all = |target| match route(&Head { target, host: None, x_app: Some(" hr ") }) {
            Route::App(selection) => (selection.app, selection.how),
            other => panic!("{other:?}"),
        };
        assert_eq!(all("/apps/crm/?__appName=erp"), ("crm", How::Path));
        assert_eq!(all("/api/__app/crm/?__appName=erp"), ("crm", How::ApiPath));
        assert_eq!(all("/x?__appName=erp"), ("erp", How::Query));
        assert_eq!(all("/x?__appName=&__appNames=erp&a__appName=erp"), ("hr", How::Header));
    }

    #[test]
    fn what_names_an_environment_goes_too() {
        for (target, named, kept) in [
            ("/apps/crm/?__environment=b", Some("b"), "/apps/crm/"),
            ("/apps/crm/?a&__environment=b&__environment=c&__appName=d", Some("b"), "/apps/crm/?a"),
            ("/apps/crm/?__environment", None, "/apps/crm/"),
            ("/apps/crm/?x__environment=b&__environments=c", None, "/apps/crm/?x__environment=b&__environments=c"),
            ("/apps/crm/__environment=b", None, "/apps/crm/__environment=b"),
        ] {
            assert_eq!(environment(target), named, "{target}");
            assert_eq!(selection(target).target(false), kept, "{target}");
        }
    }

    #[test]
    fn a_named_app_is_not_guessed() {
        for (target, how, stripped) in [
            ("/apps/crm/x?y", How::Path, "/x?y"),
            ("/api/__app/crm/x", How::ApiPath, "/api/x"),
            ("/x?__appName=crm&y", How::Query, "/x?y"),
            ("/x?__appName=erp&y", How::Header, "/x?y"),
            ("/apps/erp/x", How::Header, "/apps/erp/x"),
            ("/apps/crm", How::Header, "/apps/crm"),
            ("*", How::Header, "*"),
        ] {
            let selection = Selection::named("crm", target);
            assert_eq!((selection.app, selection.how), ("crm", how), "{target}");
            assert_eq!(selection.target(true), stripped, "{target}");
        }
    }

    #[test]
    fn nothing_names_an_app() {
        for target in
            ["/", "", "*", "/apps", "/apps/", "/apps//", "/appsx/crm/", "/api/__app/", "/?x=__appName", "//apps/a/"]
        {
            assert_eq!(of(target), Route::Nowhere, "{target}");
        }
        assert_eq!(route(&Head { target: "/", host: None, x_app: Some("") }), Route::Nowhere);
    }

    #[test]
    fn a_missing_slash_is_a_redirect_that_keeps_the_query() {
        let redirect = |target| match of(target) {
            Route::Redirect { app, location } => (app.to_string(), location),
            other => panic!("{other:?}"),
        };
        assert_eq!(redirect("/apps/crm"), ("crm".into(), "/apps/crm/".into()));
        assert_eq!(redirect("/apps/crm?a=%2F&b"), ("crm".into(), "/apps/crm/?a=%2F&b".into()));
    }

    proptest! {
        #[test]
        fn any_target_is_routed_without_panic(target in "\\PC*", x_app in proptest::option::of("\\PC*")) {
            if let Route::App(selection) = route(&Head { target: &target, host: None, x_app: x_app.as_deref() }) {
                selection.target(true);
                selection.target(false);
            }
        }

        #[test]
        fn a_path_is_cut_and_nothing_else(app in "[a-z][a-z0-9_-]{0,20}", rest in "/[!->@-~]{0,40}", query in "[!-~]{0,30}") {
            prop_assume!(!query.contains("__"));
            let target = format!("/apps/{app}{rest}?{query}");
            let selection = selection(&target);
            prop_assert_eq!(selection.target(true), format!("{rest}?{query}"));
            prop_assert_eq!(selection.target(false), target.as_str());
            prop_assert_eq!(selection.prefix().map(str::to_string), Some(format!("/apps/{app}")));
        }

        #[test]
        fn only_the_pair_goes(before in proptest::collection::vec("[a-z0-9%=+]{0,8}", 0..5),
                              after in proptest::collection::vec("[a-z0-9%=+]{0,8}", 0..5)) {
            let others: Vec<_> = before.iter().chain(&after).cloned().collect();
            let mut pairs = before.clone();
            pairs.push("__appName=crm".into());
            pairs.extend(after);
            let target = format!("/x?{}", pairs.join("&"));
            let expected = if others.is_empty() { "/x".into() } else { format!("/x?{}", others.join("&")) };
            prop_assert_eq!(selection(&target).target(false), expected);
        }
    }
}
