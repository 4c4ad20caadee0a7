//! Who answers for a path that names no app: files that all apps of a runtime have alike, and what a page asks for.
//!
//! The page says whose it is: by the app in its own address, which browsers send as `Referer`, else by what the gateway
//! remembered when it served a page of an app. A shared file may then come from any instance of the same runtime and
//! version; what is not shared comes from the app itself, and what changes something only if the page's address is known.
//! Nothing here is ever served by another runtime than the page's, and nothing wakes an app. Deliberately absent: what
//! names an app (`route`); whoever does is not asked here.

use crate::choice::{self, Choice, Roads, Wish};
use crate::name::{EnvironmentName, RuntimeName};
use crate::paths::{Kind, Paths, decoded};
use crate::phase::Status;
use crate::route::{Head, Known, Route, route};
use crate::view::{AppView, InstanceView};

/// What the search asks of a snapshot.
pub trait Apps: Known {
    /// Every app, always in the same order.
    fn all(&self) -> impl Iterator<Item = &AppView>;
    /// The paths of a runtime's recipe in one environment.
    fn paths(&self, environment: &EnvironmentName, runtime: &RuntimeName) -> Option<&Paths>;
}

/// A request that names no app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Blind<'a> {
    /// Its path, without the query.
    pub path: &'a str,
    /// Whether it is a GET or HEAD.
    pub reads: bool,
    /// Whether it asks for another protocol. Such a connection is no file.
    pub is_socket: bool,
    /// The address of the page that asks.
    pub referer: Option<&'a str>,
    /// The app whose page was served last.
    pub remembered: Option<&'a str>,
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'v> {
    /// This instance. It serves.
    Instance(&'v AppView, &'v InstanceView),
    /// This app, if it serves.
    App(&'v AppView),
}

/// Finds who answers; none: nobody.
pub fn find<'v>(
    blind: &Blind<'_>,
    fleet: &'v impl Apps,
    roads: &impl Roads,
    wish: impl Fn(&AppView) -> Wish,
) -> Option<Found<'v>> {
    if fleet.rules().is_empty() || !is_plain(blind.path) {
        return None;
    }
    let reads_file = blind.reads && !blind.is_socket;
    let kind = |app: &AppView| fleet.rules().paths(&app.spec.runtime)?.kind(blind.path);
    let (app, by_page) = match blind.referer.and_then(|referer| page_of(referer, fleet)) {
        // A page of an app whose recipe says nothing of this path is no page of another one.
        Some(app) => (Some(app), true),
        None => (blind.remembered.and_then(|id| fleet.app(id)).filter(|app| kind(app).is_some()), false),
    };
    let Some(app) = app else {
        // Of two runtimes with such a file nobody can say which is meant. One without apps is none.
        let has_apps = |runtime: &&RuntimeName| fleet.all().any(|app| app.spec.runtime == **runtime);
        let mut sharing = fleet.rules().sharing(blind.path).filter(has_apps);
        let runtime = sharing.next().filter(|_| reads_file && sharing.next().is_none())?;
        return like(blind.path, runtime, None, fleet, roads);
    };
    match kind(app)? {
        Kind::Shared if !reads_file => None,
        Kind::Shared => {
            let version = match choice::choose(app, &wish(app), roads) {
                Choice::One(instance) if choice::serves(instance, roads) => {
                    return Some(Found::Instance(app, instance));
                }
                Choice::One(instance) => version(instance),
                _ => app.instances.iter().find_map(version),
            };
            like(blind.path, &app.spec.runtime, version, fleet, roads).or(Some(Found::App(app)))
        }
        Kind::Page => (by_page || blind.reads).then_some(Found::App(app)),
    }
}

/// Whether files of this path are shared by more than one runtime, so that whoever keeps an answer must keep the page's
/// address with it.
pub fn is_contested(path: &str, fleet: &impl Known) -> bool {
    fleet.rules().sharing(path).nth(1).is_some()
}

/// The app whose page has this address.
fn page_of<'v>(address: &str, known: &'v impl Known) -> Option<&'v AppView> {
    let (_, rest) = address.split_once("://")?;
    let target = &rest[rest.find('/')?..];
    let target = target.split_once('#').map_or(target, |(target, _)| target);
    match route(&Head { target, host: None, x_app: None }, known) {
        Route::App(selection) => known.app(&selection.app),
        Route::Redirect { app, .. } => known.app(app),
        Route::Nowhere => None,
    }
}

/// The instance that serves best of those that run the same; always the same one while nothing changes, so that a page's
/// files come from one version.
fn like<'v>(
    path: &str,
    runtime: &RuntimeName,
    wanted: Option<&str>,
    fleet: &'v impl Apps,
    roads: &impl Roads,
) -> Option<Found<'v>> {
    let shares =
        |environment| fleet.paths(environment, runtime).is_some_and(|own| own.kind(path) == Some(Kind::Shared));
    let apps = fleet.all().filter(|app| app.spec.runtime == *runtime);
    let all = apps.flat_map(|app| choice::serving(app).map(move |instance| (app, instance)));
    let same = all.filter(|(_, instance)| wanted.is_none_or(|wanted| version(instance) == Some(wanted)));
    let ready = same.filter(|(_, instance)| {
        instance.status == Status::Running && choice::serves(instance, roads) && shares(&instance.environment)
    });
    let best = ready.min_by_key(|(_, instance)| choice::distance(instance, roads))?;
    Some(Found::Instance(best.0, best.1))
}

fn version(instance: &InstanceView) -> Option<&str> {
    instance.report.as_ref()?.version.as_deref()
}

/// Whether a path is what it looks like, whoever reads it.
fn is_plain(path: &str) -> bool {
    let decoded = decoded(path);
    let read = decoded.as_deref().unwrap_or(path);
    let slashes = |text: &str| text.bytes().filter(|byte| matches!(byte, b'/' | b'\\')).count();
    !path.contains('\\') && slashes(read) == slashes(path) && !read.split('/').any(|part| part == "." || part == "..")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::choice::{AllHere, Road};
    use crate::gate::tests::app;
    use crate::intent::Intent;
    use crate::name::AppId;
    use crate::order::{Registration, RuntimeSummary};
    use crate::paths::{AppPath, Rules};
    use crate::recipe::{Adapter, Listen};
    use crate::route::{How, Selection};
    use crate::spec::{Limits, ProxyChoice};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    /// Apps and environments of a test.
    #[derive(Default)]
    pub(crate) struct Village {
        apps: BTreeMap<String, AppView>,
        environments: BTreeMap<EnvironmentName, Registration>,
        rules: Rules,
    }

    impl Known for Village {
        fn rules(&self) -> &Rules {
            &self.rules
        }
        fn app(&self, id: &str) -> Option<&AppView> {
            self.apps.get(id)
        }
    }

    impl Apps for Village {
        fn all(&self) -> impl Iterator<Item = &AppView> {
            self.apps.values()
        }
        fn paths(&self, environment: &EnvironmentName, runtime: &RuntimeName) -> Option<&Paths> {
            self.environments.get(environment)?.runtimes.get(runtime).map(|summary| &summary.paths)
        }
    }

    pub(crate) fn files() -> Paths {
        Paths {
            naming: vec![AppPath { path: "/files/".into(), rewrite: Some("/files/main/".into()) }],
            shared: vec!["/assets/".into()],
            page: vec!["/api/".into(), "/ws".into()],
        }
    }

    impl Village {
        /// `crm` and `erp` of a runtime with paths, `blog` of one without.
        pub(crate) fn with_files() -> Self {
            let mut village = Self::default();
            village.recipe("local", "node", files()).recipe("local", "plain", Paths::default());
            village.put("crm", "node", &[("local", Status::Running, "1")]);
            village.put("erp", "node", &[("local", Status::Running, "1")]);
            village.put("blog", "plain", &[("local", Status::Running, "1")]);
            village
        }

        fn recipe(&mut self, environment: &str, runtime: &str, paths: Paths) -> &mut Self {
            let name = EnvironmentName::parse(environment).unwrap();
            let place = self.environments.entry(name.clone()).or_insert_with(|| Registration {
                environment: name,
                version: "0".into(),
                boot: "b".into(),
                concurrent_starts: 1,
                runtimes: BTreeMap::new(),
                databases: BTreeMap::new(),
                host: "h".into(),
                url: None,
                proxy_url: None,
                capacity: None,
                follows: None,
            });
            let name = RuntimeName::parse(runtime).unwrap();
            let summary = RuntimeSummary {
                name: name.clone(),
                description: String::new(),
                adapter: Adapter::Process,
                listen: Listen::Port,
                strip_prefix: false,
                max_limits: Limits::default(),
                paths,
                app_id_pattern: None,
                secrets_needed: Vec::new(),
                needs_database: false,
                turn_timeout: std::time::Duration::from_secs(1),
                shared: None,
                upgrade_timeout: None,
            };
            place.runtimes.insert(name, summary);
            self.rules = Rules::of(self.environments.values());
            self
        }

        fn put(&mut self, id: &str, runtime: &str, instances: &[(&str, Status, &str)]) -> &mut Self {
            let mut view = app(Status::Running, Intent::Run);
            let pattern = view.instances.remove(0);
            for (environment, status, version) in instances {
                let mut report = (**pattern.report.as_ref().unwrap()).clone();
                report.version = Some(version.to_string()).filter(|version| !version.is_empty());
                view.instances.push(InstanceView {
                    environment: EnvironmentName::parse(environment).unwrap(),
                    status: *status,
                    report: Some(report.into()),
                    ..pattern.clone()
                });
            }
            let mut spec = (*view.spec).clone();
            spec.name = AppId::parse(id).unwrap();
            spec.runtime = RuntimeName::parse(runtime).unwrap();
            view.spec = Arc::new(spec);
            self.apps.insert(id.into(), view);
            self
        }
    }

    /// Who answers, as `app`, `app@environment` or `-`.
    fn who(village: &Village, blind: Blind<'_>) -> String {
        told(find(&blind, village, &AllHere, |_| Wish::default()))
    }

    fn told(found: Option<Found<'_>>) -> String {
        match found {
            None => "-".into(),
            Some(Found::App(app)) => app.spec.name.to_string(),
            Some(Found::Instance(app, instance)) => format!("{}@{}", app.spec.name, instance.environment),
        }
    }

    fn get(path: &str) -> Blind<'_> {
        Blind { path, reads: true, ..Blind::default() }
    }

    #[test]
    fn the_page_then_the_cookie_then_anybody_with_such_a_file() {
        let village = Village::with_files();
        let file = get("/assets/a.js");
        for (referer, remembered, by) in [
            (Some("https://h/apps/erp/admin?x#y"), Some("crm"), "erp@local"),
            (Some("https://h/apps/erp"), None, "erp@local"),
            (Some("https://h/x?__appName=erp"), None, "erp@local"),
            (Some("http://h:1/api/__app/erp/x"), None, "erp@local"),
            (Some("http://h/files/%65rp/x"), None, "erp@local"),
            (Some("http://h/apps/gone/"), Some("erp"), "erp@local"),
            (Some("http://h/assets/a.css"), Some("erp"), "erp@local"),
            (Some("http://h"), Some("erp"), "erp@local"),
            (Some("/apps/erp/"), None, "crm@local"),
            (None, Some("gone"), "crm@local"),
            (None, Some("blog"), "crm@local"),
            (None, None, "crm@local"),
            // The page of an app whose recipe knows no such file gets nobody else's.
            (Some("http://h/apps/blog/"), Some("erp"), "-"),
        ] {
            assert_eq!(who(&village, Blind { referer, remembered, ..file }), by, "{referer:?} {remembered:?}");
        }
    }

    #[test]
    fn only_reading_is_guessed_and_only_what_a_recipe_lists() {
        let village = Village::with_files();
        let referer = Some("http://h/apps/erp/");
        let remembered = Some("erp");
        let post = |path| Blind { path, ..Blind::default() };
        assert_eq!(who(&village, Blind { referer, ..post("/assets/a.js") }), "-");
        assert_eq!(who(&village, Blind { referer, ..post("/api/users") }), "erp");
        assert_eq!(who(&village, Blind { remembered, ..post("/api/users") }), "-", "which tab was it?");
        assert_eq!(who(&village, Blind { remembered, ..get("/api/users") }), "erp");
        assert_eq!(who(&village, Blind { remembered, is_socket: true, ..get("/ws") }), "erp");
        assert_eq!(who(&village, Blind { referer, is_socket: true, ..get("/assets/a.js") }), "-");
        assert_eq!(who(&village, get("/api/users")), "-");
        for path in
            ["/", "/assets", "/x/assets/a", "/assets/../api/x", "/assets/%2e%2e/x", "/assets/%2fx", "/assets/.\\x"]
        {
            assert_eq!(who(&village, Blind { referer, ..get(path) }), "-", "{path}");
        }
        assert_eq!(who(&village, Blind { referer, ..get("/assets/%20a.js") }), "erp@local");
    }

    #[test]
    fn a_file_comes_from_the_same_version_and_from_whoever_serves() {
        let mut village = Village::with_files();
        let file = Blind { referer: Some("http://h/apps/erp/"), ..get("/assets/a.js") };
        village.put("erp", "node", &[("local", Status::Stopped, "2")]);
        assert_eq!(who(&village, file), "erp", "nobody runs version 2");
        village.put("new", "node", &[("local", Status::Running, "2")]);
        assert_eq!(who(&village, file), "new@local");
        village.put("erp", "node", &[("local", Status::Initializing, "")]);
        assert_eq!(who(&village, file), "crm@local", "which version it will be is not known");
        village.put("crm", "node", &[("local", Status::Unknown, "1")]);
        village.put("new", "node", &[("local", Status::Error, "1")]);
        assert_eq!(who(&village, file), "erp");
        assert_eq!(who(&village, get("/assets/a.js")), "-");
    }

    #[test]
    fn two_runtimes_with_such_a_file_are_told_apart_or_nobody_answers() {
        let mut village = Village::with_files();
        village.recipe("local", "plain", Paths { shared: vec!["/assets/".into()], ..Paths::default() });
        assert!(is_contested("/assets/a.js", &village) && !is_contested("/api/a", &village));
        assert_eq!(who(&village, get("/assets/a.js")), "-");
        let blog = village.apps.remove("blog").unwrap();
        assert_eq!(who(&village, get("/assets/a.js")), "crm@local", "a runtime without apps is no question");
        village.apps.insert("blog".into(), blog);
        let referer = Some("http://h/apps/blog/");
        assert_eq!(who(&village, Blind { referer, ..get("/assets/a.js") }), "blog@local");
        village.put("blog", "plain", &[("local", Status::Stopped, "1")]);
        assert_eq!(
            who(&village, Blind { referer, ..get("/assets/a.js") }),
            "blog",
            "not crm, which runs the same version"
        );
    }

    struct Far;

    impl Roads for Far {
        fn road(&self, environment: &EnvironmentName) -> Road {
            match environment.as_str() {
                "local" => Road::Here { in_flight: 9, draining: false },
                "resting" => Road::Resting,
                _ => Road::There { in_flight: 0, draining: false },
            }
        }
        fn spin(&self) -> usize {
            0
        }
    }

    #[test]
    fn of_several_environments_no_visitor_is_asked_about_files() {
        let mut village = Village::with_files();
        village.recipe("far", "node", files()).recipe("odd", "node", Paths::default());
        village.put("crm", "node", &[("far", Status::Running, "1"), ("local", Status::Running, "1")]);
        let ask = |village: &Village, referer| {
            told(find(&Blind { referer, ..get("/assets/a") }, village, &Far, |_| Wish::default()))
        };
        assert_eq!(village.apps["crm"].spec.proxy.choice, ProxyChoice::Required);
        assert_eq!(ask(&village, Some("http://h/apps/crm/")), "crm@local");
        village.put("crm", "node", &[("resting", Status::Running, "1"), ("far", Status::Running, "1")]);
        village.put("erp", "node", &[("odd", Status::Running, "1")]);
        assert_eq!(ask(&village, Some("http://h/apps/crm/")), "crm@far");
        let named = |_: &AppView| Wish { remembered: Some("far".into()), named: None };
        let file = Blind { referer: Some("http://h/apps/crm/"), ..get("/assets/a") };
        assert_eq!(told(find(&file, &village, &Far, named)), "crm@far");
        // The recipe of the other environment is an older one, which has no such files.
        village.put("crm", "node", &[("resting", Status::Running, "1")]);
        assert_eq!(ask(&village, None), "-");
    }

    proptest! {
        /// Whoever names an app is believed in this order: path, query, header; whoever names none is asked for the page.
        #[test]
        fn the_order_is_path_query_header_page(
            path in 0..4usize, query in any::<bool>(), header in any::<bool>(), page in any::<bool>(), cookie in any::<bool>()
        ) {
            let mut village = Village::with_files();
            for id in ["by-path", "by-query", "by-header", "by-memory", "by-page"] {
                village.put(id, "node", &[("local", Status::Running, "1")]);
            }
            let path = ["/assets/x", "/apps/by-path/x", "/api/__app/by-path/x", "/files/by-path/x"][path];
            let target = if query { format!("{path}?a&__appName=by-query") } else { path.to_string() };
            let head = Head { target: &target, host: None, x_app: header.then_some("by-header") };
            let expected = match (path != "/assets/x", query, header) {
                (true, ..) => "by-path",
                (_, true, _) => "by-query",
                (_, _, true) => "by-header",
                _ => "",
            };
            match route(&head, &village) {
                Route::App(selection) => prop_assert_eq!(&*selection.app, expected),
                other => {
                    prop_assert_eq!((other, expected), (Route::Nowhere, ""));
                    let referer = page.then_some("http://h/apps/by-page/");
                    let blind = Blind { referer, remembered: cookie.then_some("by-memory"), ..get(path) };
                    let by = if page { "by-page@local" } else if cookie { "by-memory@local" } else { "by-header@local" };
                    prop_assert_eq!(who(&village, blind), by);
                }
            }
        }

        #[test]
        fn no_answer_comes_from_another_runtime(
            path in "/(assets|api|ws|x)/?[a-z./%]{0,6}", reads in any::<bool>(),
            referer in proptest::option::of("http://h/(apps|files)/(crm|erp|blog|gone)/?"),
            statuses in proptest::collection::vec(0..3usize, 3),
        ) {
            let mut village = Village::with_files();
            village.recipe("local", "plain", files());
            let status = |at: usize| [Status::Running, Status::Stopped, Status::Initializing][statuses[at]];
            village.put("crm", "node", &[("local", status(0), "1")]);
            village.put("erp", "node", &[("local", status(1), "2")]);
            village.put("blog", "plain", &[("local", status(2), "1")]);
            let blind = Blind { path: &path, reads, referer: referer.as_deref(), ..Blind::default() };
            let page = referer.as_deref().and_then(|referer| page_of(referer, &village));
            match find(&blind, &village, &AllHere, |_| Wish::default()) {
                Some(Found::App(app) | Found::Instance(app, _)) => {
                    prop_assert_eq!(page.map(|page| &page.spec.runtime), Some(&app.spec.runtime));
                }
                None => {}
            }
        }
    }

    #[test]
    fn what_is_guessed_goes_on_as_it_is_but_for_selectors() {
        let selection = Selection::guessed(&AppId::parse("crm").unwrap(), "/assets/a?__environment=b&c");
        assert_eq!((&*selection.app, selection.how), ("crm", How::Guess));
        assert_eq!(selection.target(Default::default()), "/assets/a?c");
    }
}
