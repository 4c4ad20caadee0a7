//! Shared hosting: what a recipe's `[shared]` says, and from it exactly what is asked of a host process.
//!
//! A host is one process in which several apps run: its members. It is an instance like any other, named after its
//! runtime; its members have no process of their own and are started and stopped by requests to it. Everything here is
//! data: who asks is an adapter. Deliberately absent: when a host is started or stopped (`environment/host.rs`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::database::Database;
use crate::id::Run;
use crate::launch::{Address, Inputs};
use crate::limits;
use crate::name::{AppId, RuntimeName};
use crate::observation::Identity;
use crate::order::Select;
use crate::reason::Reason;
use crate::recipe::{Adapter, Alive, Check, Listen, Ready, Recipe, StopSteps, VersionProbe};
use crate::secret::SecretText;
use crate::spec::{AppSpec, Limits};
use crate::template::{Placeholder, Template};

/// What the name of a host begins with: `nbs-host-<runtime>`, which is also the name of its unit.
pub const HOST: &str = "nbs-host-";
/// Names that begin so are not given to apps: units of ours are called so.
pub const RESERVED: &[&str] = &[HOST, "nbs-hook-", "nbs-probe-"];

/// The host of a runtime; none if the runtime's name is too long for it.
pub fn host_of(runtime: &RuntimeName) -> Option<AppId> {
    AppId::parse(&format!("{HOST}{runtime}")).ok()
}

/// Whether this is the name of a host and not of an app.
pub fn is_host(app: &AppId) -> bool {
    app.as_str().starts_with(HOST)
}

/// What a request carries, before (`Template`) and after (`String`) its placeholders are filled in.
///
/// Only texts have placeholders, and whoever sends a body encodes it after they are filled in: no value can break out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body<T> {
    /// A text.
    Text(T),
    /// A whole number.
    Integer(i64),
    /// True or false.
    Boolean(bool),
    /// A list.
    List(Vec<Body<T>>),
    /// A table.
    Table(BTreeMap<String, Body<T>>),
}

impl<T> Body<T> {
    /// The same with other texts.
    ///
    /// # Errors
    /// What `f` says of the first text that it refuses.
    pub fn try_map<U, E>(&self, f: &mut impl FnMut(&T) -> Result<U, E>) -> Result<Body<U>, E> {
        Ok(match self {
            Self::Text(text) => Body::Text(f(text)?),
            Self::Integer(number) => Body::Integer(*number),
            Self::Boolean(flag) => Body::Boolean(*flag),
            Self::List(items) => Body::List(items.iter().map(|item| item.try_map(f)).collect::<Result<_, _>>()?),
            Self::Table(map) => {
                let pairs = map.iter().map(|(key, item)| Ok((key.clone(), item.try_map(f)?)));
                Body::Table(pairs.collect::<Result<_, E>>()?)
            }
        })
    }

    fn each<'a>(&'a self, f: &mut impl FnMut(&'a T)) {
        match self {
            Self::Text(text) => f(text),
            Self::Integer(_) | Self::Boolean(_) => {}
            Self::List(items) => items.iter().for_each(|item| item.each(f)),
            Self::Table(map) => map.values().for_each(|item| item.each(f)),
        }
    }
}

/// The verb of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Asks.
    Get,
    /// Makes, or does something.
    Post,
    /// Puts in place.
    Put,
    /// Changes a part.
    Patch,
    /// Takes away.
    Delete,
}

impl Method {
    /// Every verb.
    pub const ALL: &'static [Method] = &[Self::Get, Self::Post, Self::Put, Self::Patch, Self::Delete];

    /// The key in a recipe.
    pub fn key(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Put => "put",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }

    /// The word in a request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// Which answers are good ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expect {
    /// The statuses; none named = 200 to 299.
    pub status: Vec<u16>,
    /// A dotted path into the JSON answer, and the text that must stand there.
    pub json: Option<(String, String)>,
}

/// A request to a host, as a recipe writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Verb.
    pub method: Method,
    /// Path and query; what is filled in is encoded.
    pub path: Template,
    /// Headers.
    pub headers: BTreeMap<String, Template>,
    /// Body, sent as JSON.
    pub body: Option<Body<Template>>,
    /// Good answers.
    pub expect: Expect,
    /// Wait for the answer.
    pub timeout: Duration,
}

/// How a host is asked for a token, and how the token is shown with every other request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login<C> {
    /// The request.
    pub call: C,
    /// Dotted path to the token in its answer.
    pub token: String,
    /// The header that carries it.
    pub header: String,
    /// The header's value; `{token}` stands for the token.
    pub value: String,
}

/// Something that a host needs once in its life before it can have members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup<C> {
    /// What to send if it is not done.
    pub call: C,
    /// How to see whether it is done.
    pub done: C,
    /// How long it may take.
    pub timeout: Duration,
}

/// How a host is asked for its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<C> {
    /// The request.
    pub call: C,
    /// Dotted path to the list in the answer; empty = the answer is the list.
    pub items: String,
    /// Dotted path in an item to the app's ID.
    pub name: String,
    /// Dotted path in an item to its status.
    pub status: String,
    /// Dotted path in an item to the reason of a failure.
    pub message: Option<String>,
    /// Statuses of an app that runs.
    pub running: Vec<String>,
    /// Statuses of an app that is stopped. One that is not in the list is stopped too.
    pub stopped: Vec<String>,
    /// Statuses of an app that failed.
    pub failed: Vec<String>,
    /// Statuses in which nothing is asked of an app, as it would not be heard.
    pub busy: Vec<String>,
    /// Pause between two questions.
    pub interval: Duration,
}

/// What a recipe says about several apps in one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// The host's name.
    pub host: AppId,
    /// Variables of the host beside, and instead of, those of the recipe.
    pub env: BTreeMap<String, Template>,
    /// The host's own database.
    pub database: Option<Database>,
    /// Limits of the host instead of the recipe's.
    pub limits: Limits,
    /// How the gateway tells which app a request is for.
    pub select: Option<Select>,
    /// Login; none = nothing is asked for.
    pub login: Option<Login<Call>>,
    /// Once per life of the host.
    pub setup: Vec<Setup<Call>>,
    /// The members.
    pub list: Listing<Call>,
    /// Makes an app that the host does not list.
    pub create: Option<Call>,
    /// Before the start of an app that the host lists already.
    pub update: Option<Call>,
    /// Starts an app.
    pub start: Call,
    /// Stops an app.
    pub stop: Call,
    /// How long it may take until the list says that it is stopped.
    pub stop_timeout: Duration,
    /// Takes an app out of the host.
    pub remove: Option<Call>,
    /// Upgrades an app.
    pub upgrade: Option<Call>,
    /// Readiness of an app.
    pub ready: Ready,
    /// Liveness of an app.
    pub alive: Option<Alive>,
    /// Version of an app.
    pub version: Option<VersionProbe>,
}

impl Call {
    fn templates<'a>(&'a self, key: &str, all: &mut Vec<(String, &'a Template)>) {
        all.push((format!("{key}.{}", self.method.key()), &self.path));
        all.extend(self.headers.iter().map(|(name, template)| (format!("{key}.headers.{name}"), template)));
        if let Some(body) = &self.body {
            body.each(&mut |template| all.push((format!("{key}.body"), template)));
        }
    }
}

impl Shared {
    /// Templates that are filled in with the host's own values, each with its key.
    pub fn templates_of_host(&self) -> Vec<(String, &Template)> {
        let mut all = Vec::new();
        all.extend(self.env.iter().map(|(name, template)| (format!("shared.env.{name}"), template)));
        self.login.iter().for_each(|login| login.call.templates("shared.login", &mut all));
        for (i, setup) in self.setup.iter().enumerate() {
            setup.call.templates(&format!("shared.setup[{i}]"), &mut all);
            setup.done.templates(&format!("shared.setup[{i}].done"), &mut all);
        }
        self.list.call.templates("shared.list", &mut all);
        all
    }

    /// Templates that are filled in with an app's values, each with its key.
    pub fn templates_of_apps(&self) -> Vec<(String, &Template)> {
        let mut all = Vec::new();
        let calls = [
            ("create", self.create.as_ref()),
            ("update", self.update.as_ref()),
            ("start", Some(&self.start)),
            ("stop", Some(&self.stop)),
            ("remove", self.remove.as_ref()),
            ("upgrade", self.upgrade.as_ref()),
        ];
        for (key, call) in calls {
            call.into_iter().for_each(|call| call.templates(&format!("shared.{key}"), &mut all));
        }
        for (key, check) in [("ready", Some(&self.ready.check)), ("alive", self.alive.as_ref().map(|a| &a.check))] {
            if let Some(Check::Http(http)) = check {
                all.push((format!("shared.{key}.http"), &http.path));
            }
        }
        if let Some(VersionProbe::Http { path, .. }) = &self.version {
            all.push(("shared.version.http".into(), path));
        }
        all
    }

    /// Whether an app in the process needs a database.
    pub fn needs_database(&self) -> bool {
        let mut holes = self.templates_of_apps().into_iter().flat_map(|(_, template)| template.placeholders());
        holes.any(|hole| matches!(hole, Placeholder::Db(_)))
    }

    /// The longest that all of `setup` may take.
    fn setup_timeout(&self) -> Duration {
        self.setup.iter().map(|setup| setup.timeout).sum()
    }
}

impl Recipe {
    /// The recipe of the process that hosts several apps, if this one tells how.
    pub fn for_host(&self) -> Option<Recipe> {
        let shared = self.shared.as_ref()?;
        let mut recipe = self.clone();
        recipe.environment.extend(shared.env.clone());
        recipe.limits = shared.limits.or(self.limits);
        recipe.max_limits = Limits::default();
        Some(recipe)
    }

    /// The recipe of an app in such a process: no process of its own, so no hooks, no signals, no port.
    pub fn for_member(&self) -> Option<Recipe> {
        let shared = self.shared.as_ref()?;
        Some(Recipe {
            command: Vec::new(),
            working_dir: None,
            adapter: Some(Adapter::Shared),
            environment: BTreeMap::new(),
            listen: Listen::None,
            user: None,
            group: None,
            ready: shared.ready.clone(),
            alive: shared.alive.clone(),
            version: shared.version.clone(),
            prepare: Vec::new(),
            stop: StopSteps(Vec::new()),
            limits: Limits::default(),
            unit: Vec::new(),
            ..self.clone()
        })
    }

    /// How long a start of an app in a shared process may take, that of the process included.
    pub fn shared_turn_timeout(&self) -> Option<Duration> {
        let shared = self.shared.as_ref()?;
        let calls = [shared.create.as_ref(), shared.update.as_ref(), Some(&shared.start)];
        let calls: Duration = calls.into_iter().flatten().map(|call| call.timeout).sum();
        let database = if shared.database.is_some() { limits::DATABASE_TIMEOUT } else { Duration::ZERO };
        Some(self.turn_timeout() + database + shared.setup_timeout() + calls + shared.ready.max_timeout)
    }
}

/// A request to a host, ready to be sent. May contain secrets: never print more than its verb and path.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// Verb.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Headers.
    pub headers: BTreeMap<String, String>,
    /// Body, to be encoded as JSON.
    pub body: Option<Body<String>>,
    /// Good answers.
    pub expect: Expect,
    /// Wait for the answer.
    pub timeout: Duration,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Request {
    /// Verb and path; a query may hold what is nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.split('?').next().unwrap_or_default();
        write!(f, "{} {path}", self.method.as_str())
    }
}

/// A host that runs: where it is, and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPlan {
    /// Which host.
    pub host: AppId,
    /// Which life of it.
    pub run: Run,
    /// Its process.
    pub identity: Identity,
    /// Where it answers.
    pub address: Address,
    /// Login.
    pub login: Option<Login<Request>>,
    /// What it needs before it can have members.
    pub setup: Vec<Setup<Request>>,
    /// Its members.
    pub list: Listing<Request>,
}

/// What is asked of a host about one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberPlan {
    /// Which host.
    pub host: AppId,
    /// Makes it.
    pub create: Option<Request>,
    /// Before the start of one that is there.
    pub update: Option<Request>,
    /// Starts it.
    pub start: Request,
    /// Stops it.
    pub stop: Request,
    /// How long that may take.
    pub stop_timeout: Duration,
    /// Takes it out of the host.
    pub remove: Option<Request>,
    /// Upgrades it, before its start; only where that was asked for.
    pub upgrade: Option<Request>,
}

/// How a host lists one of its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// It runs.
    Running,
    /// It is stopped, or not there.
    Stopped,
    /// It failed; in the host's own words if it has any.
    Failed(Option<String>),
}

/// A host that runs, as its members are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningHost {
    /// Which.
    pub host: AppId,
    /// Which life.
    pub run: Run,
    /// Its process.
    pub identity: Identity,
    /// Where it answers.
    pub address: Address,
}

/// Where the secrets of hosts come from: they belong to no app, and nobody gives them. The same name has the same value
/// for as long as the host's key is the same.
#[derive(Clone)]
pub struct SecretSource(pub Arc<dyn Fn(&str) -> SecretText + Send + Sync>);

impl SecretSource {
    /// The secret of this name.
    pub fn derive(&self, name: &str) -> SecretText {
        (self.0)(name)
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretSource")
    }
}

/// The secrets that templates ask for, `jwt` aside, sorted and each once.
pub fn secrets_in<'a>(templates: impl IntoIterator<Item = &'a Template>) -> Vec<String> {
    let holes = templates.into_iter().flat_map(Template::placeholders);
    let named = holes.filter_map(|hole| match hole {
        Placeholder::Secret(name) if name != "jwt" => Some(name.clone()),
        _ => None,
    });
    let mut names: Vec<String> = named.collect();
    names.sort();
    names.dedup();
    names
}

/// The spec of a host: nobody wrote it, so it is made from its recipe. Its secrets are derived.
pub fn host_spec(recipe: &Recipe, spec: AppSpec, secrets: &SecretSource) -> AppSpec {
    let of_host = recipe.shared.iter().flat_map(|shared| shared.templates_of_host());
    let all = recipe.templates().into_iter().chain(of_host).map(|(_, template)| template);
    let derive = |name: String| {
        let secret = secrets.derive(&format!("{}/{name}", spec.name));
        (name, secret)
    };
    let secrets = secrets_in(all).into_iter().map(derive).collect();
    let database = recipe.shared.as_ref().and_then(|shared| shared.database.clone());
    AppSpec { secrets, database, ..spec }
}

impl Inputs<'_> {
    /// What is asked of the host that these inputs are of.
    ///
    /// # Errors
    /// A placeholder without a value, named in the reason.
    pub fn host_plan(&self, shared: &Shared, running: &RunningHost) -> Result<HostPlan, Reason> {
        let login = shared.login.as_ref().map(|login| {
            let call = self.request("shared.login", &login.call)?;
            Ok(Login { call, token: login.token.clone(), header: login.header.clone(), value: login.value.clone() })
        });
        let setup = shared.setup.iter().enumerate().map(|(i, setup)| {
            Ok(Setup {
                call: self.request(&format!("shared.setup[{i}]"), &setup.call)?,
                done: self.request(&format!("shared.setup[{i}].done"), &setup.done)?,
                timeout: setup.timeout,
            })
        });
        let list = &shared.list;
        Ok(HostPlan {
            host: running.host.clone(),
            run: running.run,
            identity: running.identity.clone(),
            address: running.address.clone(),
            login: login.transpose()?,
            setup: setup.collect::<Result<_, Reason>>()?,
            list: Listing {
                call: self.request("shared.list", &list.call)?,
                items: list.items.clone(),
                name: list.name.clone(),
                status: list.status.clone(),
                message: list.message.clone(),
                running: list.running.clone(),
                stopped: list.stopped.clone(),
                failed: list.failed.clone(),
                busy: list.busy.clone(),
                interval: list.interval,
            },
        })
    }

    /// What is asked of its host about the app that these inputs are of.
    ///
    /// # Errors
    /// A placeholder without a value, named in the reason.
    pub fn member_plan(&self, shared: &Shared) -> Result<MemberPlan, Reason> {
        let optional = |key: &str, call: &Option<Call>| {
            call.as_ref().map(|call| self.request(&format!("shared.{key}"), call)).transpose()
        };
        Ok(MemberPlan {
            host: shared.host.clone(),
            create: optional("create", &shared.create)?,
            update: optional("update", &shared.update)?,
            start: self.request("shared.start", &shared.start)?,
            stop: self.request("shared.stop", &shared.stop)?,
            stop_timeout: shared.stop_timeout,
            remove: optional("remove", &shared.remove)?,
            upgrade: optional("upgrade", &shared.upgrade)?.filter(|_| self.upgrade),
        })
    }

    fn request(&self, key: &str, call: &Call) -> Result<Request, Reason> {
        let headers = call.headers.iter().map(|(name, template)| {
            let text = self.fill(&format!("{key}.headers.{name}"), template)?;
            Ok((name.clone(), text))
        });
        let mut fill = |template: &Template| self.fill(&format!("{key}.body"), template);
        Ok(Request {
            method: call.method,
            path: self.fill_path(&format!("{key}.{}", call.method.key()), &call.path)?,
            headers: headers.collect::<Result<_, Reason>>()?,
            body: call.body.as_ref().map(|body| body.try_map(&mut fill)).transpose()?,
            expect: call.expect.clone(),
            timeout: call.timeout,
        })
    }
}

/// Encodes what is put into a path or query: nothing of it can end the part that it stands in.
pub fn percent_encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_after_its_runtime_where_the_name_fits() {
        let runtime = |name: &str| RuntimeName::parse(name).unwrap();
        let host = host_of(&runtime("nocobase")).unwrap();
        assert_eq!((host.as_str(), is_host(&host)), ("nbs-host-nocobase", true));
        assert_eq!(host_of(&runtime(&"a".repeat(60))), None);
    }

    #[test]
    fn what_is_put_into_a_path_cannot_leave_its_part() {
        assert_eq!(percent_encode("a-b_c.1~"), "a-b_c.1~");
        assert_eq!(percent_encode("../x?y&z #é"), "..%2Fx%3Fy%26z%20%23%C3%A9");
    }

    #[test]
    fn a_request_is_printed_without_what_it_carries() {
        let body = Some(Body::Text("hush".to_string()));
        let headers = BTreeMap::from([("K".to_string(), "hush".to_string())]);
        let (expect, timeout) = (Expect::default(), Duration::ZERO);
        let request = Request { method: Method::Post, path: "/a?key=hush".into(), headers, body, expect, timeout };
        assert_eq!(format!("{request:?}"), "POST /a");
    }
}
