//! Which app a request is for, from its head alone, and what of the head goes on to the app.
//!
//! The target is cut, never decoded and never written anew: what is not a selector reaches the app byte for byte, be it
//! `%2e`, `//` or `..`. An app ID is compared as it stands, so `/apps/%63rm` is nobody's; only the paths that a recipe adds
//! are decoded, as the apps behind them do. Deliberately absent: whether the app exists (the caller looks it up), domains,
//! paths that name no app (`shared_path`) and the choice among environments (`choice`; what names one is a selector too,
//! and goes like the others).

use std::borrow::Cow;

use crate::choice;
use crate::name::AppId;
use crate::paths::{self, Paths, Rules};
use crate::view::AppView;

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

/// What routing asks of apps and recipes.
pub trait Known {
    /// What the recipes say.
    fn rules(&self) -> &Rules;
    /// An app.
    fn app(&self, id: &str) -> Option<&AppView>;
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
    /// A path that its recipe adds.
    RecipePath,
    /// `?__appName=<app>`
    Query,
    /// `X-App: <app>`
    Header,
    /// Nothing in the head: it asks for what belongs to a page.
    Guess,
}

/// Who gets a request, as far as its head depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Receiver<'r> {
    /// It expects its paths without `/apps/<app>`.
    pub strip: bool,
    /// It is one process with several apps, which is told the app in a header.
    pub shared: bool,
    /// The paths of its recipe.
    pub paths: Option<&'r Paths>,
}

/// A named app, and the target without what named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection<'a> {
    /// The name as given; one that is no app ID is the name of no app.
    pub app: Cow<'a, str>,
    /// What named it.
    pub how: How,
    path: &'a str,
    /// Bytes of `path` before the app's ID, of a recipe's path.
    own: usize,
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
pub fn route<'a>(head: &Head<'a>, known: &impl Known) -> Route<'a> {
    let (path, query) = parts(head.target);
    let select = |app, how, own, cut| {
        let query_selects = query.is_some_and(has_selector);
        Route::App(Selection { app, how, path, own, cut, query, query_selects })
    };
    if let Some((app, rest)) = path.strip_prefix(APPS).and_then(segment) {
        return match rest {
            "" if AppId::parse(app).is_ok() => {
                let query = query.map(|query| format!("?{query}")).unwrap_or_default();
                Route::Redirect { app, location: format!("{APPS}{app}/{query}") }
            }
            _ => select(app.into(), How::Path, 0, path.len() - rest.len()),
        };
    }
    if let Some((app, rest)) = path.strip_prefix(API_APP).and_then(segment) {
        return select(app.into(), How::ApiPath, 0, path.len() - rest.len());
    }
    let rules = known.rules();
    for own in rules.naming(path) {
        let Some((app, rest)) = segment(&path[own.len()..]) else { continue };
        let app = paths::decoded(app).map_or(Cow::Borrowed(app), Cow::Owned);
        if known.app(&app).is_some_and(|app| rules.lists(&app.spec.runtime, own)) {
            return select(app, How::RecipePath, own.len(), path.len() - rest.len());
        }
    }
    if let Some(app) = query.and_then(app_name) {
        return select(app.into(), How::Query, 0, 0);
    }
    match head.x_app.map(str::trim) {
        Some(app) if !app.is_empty() => select(app.into(), How::Header, 0, 0),
        _ => Route::Nowhere,
    }
}

fn parts(target: &str) -> (&str, Option<&str>) {
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

/// The environment that a target names.
pub fn environment(target: &str) -> Option<&str> {
    value(target.split_once('?')?.1, choice::QUERY)
}

impl<'a> Selection<'a> {
    /// What goes on to an app that somebody has named who need not guess: the target loses what selects this app.
    pub fn named(app: &'a str, target: &'a str, known: &impl Known) -> Self {
        match route(&Head { target, host: None, x_app: Some(app) }, known) {
            Route::App(selection) if selection.app == app => selection,
            _ => Self::of(app.into(), How::Header, target),
        }
    }

    /// An app that the head does not name.
    pub fn guessed(app: &AppId, target: &'a str) -> Self {
        Self::of(app.as_str().to_string().into(), How::Guess, target)
    }

    fn of(app: Cow<'a, str>, how: How, target: &'a str) -> Self {
        let (path, query) = parts(target);
        Self { app, how, path, own: 0, cut: 0, query, query_selects: query.is_some_and(has_selector) }
    }

    /// The prefix that a receiver who strips does not see.
    pub fn prefix(&self) -> Option<&'a str> {
        (self.how == How::Path).then(|| &self.path[..self.cut])
    }

    /// What the receiver is asked for.
    ///
    /// No selector remains, not even one that was overruled: an app that knows them would take its own name for a
    /// stranger's.
    pub fn target(&self, to: Receiver<'_>) -> Cow<'a, str> {
        let (head, path) = match (self.how, self.rewrite(to)) {
            (How::Path, _) if to.strip => ("", &self.path[self.cut..]),
            (How::ApiPath, _) => (API, &self.path[self.cut..]),
            (_, Some(rewrite)) => (rewrite.trim_end_matches('/'), &self.path[self.cut..]),
            _ => ("", self.path),
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

    /// Whether `target(to)` is the target as the client wrote it.
    pub fn is_untouched(&self, to: Receiver<'_>) -> bool {
        !self.query_selects
            && match self.how {
                How::Path => !to.strip,
                How::ApiPath => false,
                How::RecipePath => self.rewrite(to).is_none(),
                How::Query | How::Header | How::Guess => true,
            }
    }

    /// Whether the receiver, who has several apps, could take the request for another one's.
    pub fn strays(&self, to: Receiver<'_>) -> bool {
        to.shared && paths::names_another(&self.app, &self.target(to), to.paths)
    }

    /// What stands in place of the recipe's path and the ID. A process with several apps knows them by their IDs.
    fn rewrite<'r>(&self, to: Receiver<'r>) -> Option<&'r str> {
        let paths = to.paths.filter(|_| self.how == How::RecipePath && !to.shared)?;
        paths.rewrite(&self.path[..self.own])
    }
}

/// The first segment and what follows it, slash included; none if the segment is empty.
fn segment(path: &str) -> Option<(&str, &str)> {
    let end = path.find('/').unwrap_or(path.len());
    (end > 0).then(|| path.split_at(end))
}

/// Whether a pair selects, as the most forgiving reader sees it: decoded, and of `name[0]` the name.
fn is_selector(pair: &str) -> bool {
    let name = pair.split_once('=').map_or(pair, |(name, _)| name);
    if !name.contains("__") && !name.contains('%') {
        return false;
    }
    let decoded = paths::decoded(name);
    let name = decoded.as_deref().unwrap_or(name);
    let name = name.split_once('[').map_or(name, |(name, _)| name);
    [APP_NAME, choice::QUERY].iter().any(|own| name.eq_ignore_ascii_case(own))
}

fn has_selector(query: &str) -> bool {
    (query.contains("__") || query.contains('%')) && query.split('&').any(is_selector)
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
    use crate::shared_path::tests::{Village, files};
    use proptest::prelude::*;

    const STRIP: Receiver<'static> = Receiver { strip: true, shared: false, paths: None };
    const KEEP: Receiver<'static> = Receiver { strip: false, shared: false, paths: None };

    fn of(target: &str) -> Route<'_> {
        route(&Head { target, host: None, x_app: None }, &Village::default())
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
            assert_eq!((&*selection.app, selection.how), (app, how), "{target}");
            assert_eq!(selection.target(KEEP), kept, "{target}");
            assert_eq!(selection.target(STRIP), stripped, "{target}");
            assert_eq!(selection.is_untouched(KEEP), kept == target, "{target}");
        }
    }

    #[test]
    fn the_order_is_path_query_header() {
        let village = Village::default();
        let all = |target| match route(&Head { target, host: None, x_app: Some(" hr ") }, &village) {
            Route::App(selection) => (selection.app.into_owned(), selection.how),
            other => panic!("{other:?}"),
        };
        assert_eq!(all("/apps/crm/?__appName=erp"), ("crm".into(), How::Path));
        assert_eq!(all("/api/__app/crm/?__appName=erp"), ("crm".into(), How::ApiPath));
        assert_eq!(all("/x?__appName=erp"), ("erp".into(), How::Query));
        assert_eq!(all("/x?__appName=&__appNames=erp&a__appName=erp"), ("hr".into(), How::Header));
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
            assert_eq!(selection(target).target(KEEP), kept, "{target}");
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
            let selection = Selection::named("crm", target, &Village::default());
            assert_eq!((&*selection.app, selection.how), ("crm", how), "{target}");
            assert_eq!(selection.target(STRIP), stripped, "{target}");
        }
    }

    #[test]
    fn a_recipes_path_names_its_own_apps() {
        let village = Village::with_files();
        let paths = files();
        let alone = Receiver { paths: Some(&paths), ..KEEP };
        let among = Receiver { shared: true, ..alone };
        for (target, app, alone_gets) in [
            ("/files/crm/a/b?c", "crm", "/files/main/a/b?c"),
            ("/files/%63rm/%2e", "crm", "/files/main/%2e"),
            ("/files/crm?__appName=erp", "crm", "/files/main"),
        ] {
            let Route::App(selection) = route(&Head { target, host: None, x_app: Some("erp") }, &village) else {
                panic!("{target}");
            };
            assert_eq!((&*selection.app, selection.how), (app, How::RecipePath), "{target}");
            assert_eq!(selection.target(alone), alone_gets, "{target}");
            assert!(!selection.is_untouched(alone) && selection.prefix().is_none() && !selection.strays(among));
            let kept = target.split_once('?').map_or(target, |(path, _)| path);
            assert_eq!(selection.target(among).split('?').next(), Some(kept), "{target}");
        }
        // `blog` is of a runtime without such a path, and `nobody` is nobody.
        for target in ["/files/blog/x", "/files/nobody/x", "/files/", "/files//crm"] {
            let head = Head { target, host: None, x_app: Some("blog") };
            let Route::App(selection) = route(&head, &village) else { panic!("{target}") };
            assert_eq!((&*selection.app, selection.how, &*selection.target(alone)), ("blog", How::Header, target));
        }
        assert_eq!(Selection::named("crm", "/files/crm/x", &village).target(alone), "/files/main/x");
    }

    #[test]
    fn selectors_go_however_they_are_written() {
        for (query, kept) in [
            ("a&__app%4eame=erp", "a"),
            ("%5f%5FappName=erp&b=%5f", "b=%5f"),
            ("__appName[]=erp&__appName%5b0%5D=erp&c", "c"),
            ("__APPNAME=erp&__environment[x]=b&d", "d"),
            ("x=__appName=erp&e[__appName]=1", "x=__appName=erp&e[__appName]=1"),
        ] {
            let target = format!("/apps/crm/?{query}");
            assert_eq!(selection(&target).target(KEEP), format!("/apps/crm/?{kept}"), "{query}");
        }
    }

    #[test]
    fn a_request_does_not_stray_to_another_app_of_the_process() {
        let among = Receiver { strip: true, shared: true, paths: None };
        for (target, strays) in [
            ("/apps/crm/api/__app/erp/users", true),
            ("/apps/crm/api/__app/crm/users", false),
            ("/api/__app/crm/__app/erp/users", true),
            ("/api/__app/crm/%5f%5fapp/erp/users", true),
            ("/apps/crm/../api/__app/erp/x", true),
            ("/apps/crm/apps/erp/", true),
            ("/apps/crm/x?y=/api/__app/erp/", false),
        ] {
            assert_eq!(selection(target).strays(among), strays, "{target}");
            assert!(!selection(target).strays(STRIP), "an app alone has no others: {target}");
        }
    }

    #[test]
    fn nothing_names_an_app() {
        for target in
            ["/", "", "*", "/apps", "/apps/", "/apps//", "/appsx/crm/", "/api/__app/", "/?x=__appName", "//apps/a/"]
        {
            assert_eq!(of(target), Route::Nowhere, "{target}");
        }
        let unnamed = Head { target: "/", host: None, x_app: Some("") };
        assert_eq!(route(&unnamed, &Village::default()), Route::Nowhere);
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
            let head = Head { target: &target, host: None, x_app: x_app.as_deref() };
            if let Route::App(selection) = route(&head, &Village::with_files()) {
                selection.target(STRIP);
                selection.target(KEEP);
            }
        }

        #[test]
        fn a_path_is_cut_and_nothing_else(app in "[a-z][a-z0-9_-]{0,20}", rest in "/[!->@-~]{0,40}", query in "[!-~]{0,30}") {
            prop_assume!(!query.contains("__") && !query.contains('%'));
            let target = format!("/apps/{app}{rest}?{query}");
            let selection = selection(&target);
            prop_assert_eq!(selection.target(STRIP), format!("{rest}?{query}"));
            prop_assert_eq!(selection.target(KEEP), target.as_str());
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
            prop_assert_eq!(selection(&target).target(KEEP), expected);
        }
    }
}
