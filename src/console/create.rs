//! The form for a new application. What the API finds wrong stands beside the field that it is about, and what was typed
//! stays, but for secrets: those are not sent back to any page.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use maud::{Markup, html};
use nbs_core::spec::StartMode;
use serde_json::{Map, Value, json};

use super::Console;
use super::door::{Posted, Visitor};
use super::layout::{self, Fault, Page, Section};
use super::scene::{Scene, ask};
use super::session::Secret;
use crate::admin::Refused;
use crate::wire::api::problem::{FieldProblem, Problem};
use crate::wire::api::runtime::{Runtime, RuntimeList};

/// Fields of the form, which are keys of a spec. What is wrong with another key stands on top.
const FIELDS: &[&str] = &["name", "title", "runtime", "start_mode", "environments", "env", "secrets"];

/// What was typed.
#[derive(Default)]
struct Draft {
    name: String,
    title: String,
    runtime: String,
    start_mode: String,
    environments: Vec<String>,
    env: String,
    reuse: bool,
    /// Secrets were typed, and have to be typed again.
    had_secrets: bool,
}

/// `GET /console/apps/new`.
pub(crate) async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let scene = Scene::open(&console, &visitor, &headers).await?;
    let runtimes = runtimes(&scene).await?;
    Ok(show(&scene, &runtimes, &Draft::default(), &Wrong::default(), StatusCode::OK))
}

/// `POST /console/apps`.
pub(crate) async fn submit(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    form: Posted,
) -> Result<Response, Fault> {
    let owned = |name: &str| form.text(name).unwrap_or_default().trim().to_string();
    let draft = Draft {
        name: owned("name"),
        title: owned("title"),
        runtime: owned("runtime"),
        start_mode: owned("start_mode"),
        environments: form.all("environments").map(String::from).collect(),
        env: form.text("env").unwrap_or_default().to_string(),
        reuse: form.text("reuse") == Some("true"),
        had_secrets: form.text("secrets").is_some(),
    };
    let outcome = match spec(&draft, form.text("secrets").unwrap_or_default()) {
        Ok(spec) => {
            let asked = ask(&console, &visitor, Method::POST, "/api/v1/apps", Some(&spec), form.text("key")).await;
            asked.map_err(|problem| Wrong::of(*problem))
        }
        Err(wrong) => Err(wrong),
    };
    match outcome {
        Ok(_) => Ok(layout::see(&format!("/console/apps/{}", draft.name))),
        Err(wrong) => {
            let scene = Scene::open(&console, &visitor, &headers).await?;
            let runtimes = runtimes(&scene).await?;
            let status = StatusCode::from_u16(wrong.status).unwrap_or(StatusCode::BAD_REQUEST);
            Ok(show(&scene, &runtimes, &draft, &wrong, status))
        }
    }
}

async fn runtimes(scene: &Scene) -> Result<Vec<Runtime>, Refused> {
    let list: RuntimeList = scene.get("/api/v1/runtimes").await?;
    Ok(list.runtimes)
}

/// The spec as the API takes it. What was left empty is left out, so that the API's defaults and its errors count.
fn spec(draft: &Draft, secrets: &str) -> Result<Value, Wrong> {
    let mut wrong = Wrong { status: 400, all: Vec::new() };
    let mut spec = Map::new();
    for (key, text) in [("title", &draft.title), ("runtime", &draft.runtime), ("start_mode", &draft.start_mode)] {
        if !text.is_empty() {
            spec.insert(key.into(), json!(text));
        }
    }
    spec.insert("name".into(), json!(draft.name));
    if !draft.environments.is_empty() {
        spec.insert("environments".into(), json!(draft.environments));
    }
    for (key, text) in [("env", draft.env.as_str()), ("secrets", secrets)] {
        spec.insert(key.into(), Value::Object(variables(key, text, &mut wrong)));
    }
    if draft.reuse {
        spec.insert("reuse".into(), json!(true));
    }
    if wrong.all.is_empty() { Ok(Value::Object(spec)) } else { Err(wrong) }
}

/// `NAME=value`, one on a line. No error shows a value: it may be a secret.
fn variables(key: &str, text: &str, wrong: &mut Wrong) -> Map<String, Value> {
    let mut found = Map::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let fault = match line.split_once('=') {
            Some((name, value)) if found.insert(name.trim().into(), json!(value)).is_none() => continue,
            Some((name, _)) => format!("line {} gives {} a second time", number + 1, name.trim()),
            None => format!("line {} has no =", number + 1),
        };
        wrong.all.push(FieldProblem {
            code: "invalid".into(),
            field: Some(key.into()),
            detail: fault,
            hint: Some("write NAME=value, one on a line".into()),
        });
    }
    found
}

/// What is wrong with a draft.
#[derive(Default)]
struct Wrong {
    status: u16,
    all: Vec<FieldProblem>,
}

impl Wrong {
    fn of(problem: Problem) -> Self {
        let Problem { status, code, field, detail, hint, errors, .. } = problem;
        let all = if errors.is_empty() { vec![FieldProblem { code, field, detail, hint }] } else { errors };
        Self { status, all }
    }

    /// The field of the form that a problem is about.
    fn place(problem: &FieldProblem) -> Option<&'static str> {
        let field = problem.field.as_deref()?;
        let head = field.split(['.', '[']).next()?;
        FIELDS.iter().copied().find(|known| *known == head)
    }

    fn at(&self, field: &str) -> impl Iterator<Item = &FieldProblem> {
        self.all.iter().filter(move |problem| Self::place(problem) == Some(field))
    }

    fn nowhere(&self) -> impl Iterator<Item = &FieldProblem> {
        self.all.iter().filter(|problem| Self::place(problem).is_none())
    }

    /// The name belonged to a removed app, which the API gives back only to whoever says so.
    fn is_used_name(&self) -> bool {
        self.at("name").any(|problem| problem.hint.as_ref().is_some_and(|hint| hint.contains("reuse")))
    }
}

fn show(scene: &Scene, runtimes: &[Runtime], draft: &Draft, wrong: &Wrong, status: StatusCode) -> Response {
    let fixed = html! {
        @if scene.may_act() {
            @if !wrong.all.is_empty() { (summary(wrong)) }
            form.wide method="post" action="/console/apps" {
                (scene.form())
                input type="hidden" name="key" value=(Secret::random().as_str());
                (names(draft, wrong))
                (runtime(runtimes, draft, wrong))
                (starts(draft, wrong))
                (places(scene, draft, wrong))
                (texts(runtimes, draft, wrong))
                div.actions { button.main { "Create" } a.button.quiet href="/" { "Cancel" } }
            }
        }
    };
    let title = "Create an application";
    Page { scene, section: Section::Apps, title, fixed, live: None }.respond(status)
}

/// Everything that is wrong, with the way to its field.
fn summary(wrong: &Wrong) -> Markup {
    html! {
        div.wrong role="alert" {
            strong { "Nothing was created." }
            ul {
                @for problem in wrong.nowhere() {
                    li { (problem.detail) @if let Some(hint) = &problem.hint { "; " (hint) } }
                }
                @for (field, problem) in FIELDS.iter().flat_map(|field| wrong.at(field).map(move |one| (field, one))) {
                    li { a href={ "#" (field) } { (problem.detail) } }
                }
            }
        }
    }
}

/// A label, what it means, what is wrong with it, and the input.
fn field(name: &str, label: &str, hint: &Markup, wrong: &Wrong, input: &Markup) -> Markup {
    html! {
        div.field {
            label for=(name) { (label) }
            p.hint id={ (name) "-hint" } { (hint) }
            (beside(name, wrong))
            (input)
        }
    }
}

fn beside(name: &str, wrong: &Wrong) -> Markup {
    html! {
        @if wrong.at(name).next().is_some() {
            div.wrong id={ (name) "-wrong" } {
                @for problem in wrong.at(name) {
                    p { (problem.detail) @if let Some(hint) = &problem.hint { "; " (hint) } }
                }
            }
        }
    }
}

fn described(name: &str, wrong: &Wrong) -> String {
    match wrong.at(name).next() {
        Some(_) => format!("{name}-wrong {name}-hint"),
        None => format!("{name}-hint"),
    }
}

fn invalid(name: &str, wrong: &Wrong) -> Option<&'static str> {
    wrong.at(name).next().map(|_| "true")
}

fn names(draft: &Draft, wrong: &Wrong) -> Markup {
    let id = html! {
        input #name name="name" value=(draft.name) required autocomplete="off" autocapitalize="none" spellcheck="false"
            aria-describedby=(described("name", wrong)) aria-invalid=[invalid("name", wrong)];
        @if draft.reuse || wrong.is_used_name() {
            label.choice {
                input type="checkbox" name="reuse" value="true" checked[draft.reuse];
                " Use the name of the removed application again"
            }
        }
    };
    let title = html! {
        input #title name="title" value=(draft.title) autocomplete="off"
            aria-describedby=(described("title", wrong)) aria-invalid=[invalid("title", wrong)];
    };
    let hint = html! { "Its name in addresses: small letters, digits, - and _. It cannot be changed later." };
    html! {
        (field("name", "ID", &hint, wrong, &id))
        (field("title", "Title", &html! { "A name for people. It may be left empty." }, wrong, &title))
    }
}

fn runtime(runtimes: &[Runtime], draft: &Draft, wrong: &Wrong) -> Markup {
    let input = html! {
        select #runtime name="runtime" aria-describedby=(described("runtime", wrong))
            aria-invalid=[invalid("runtime", wrong)] {
            @for runtime in runtimes {
                option value=(runtime.name) selected[runtime.name == draft.runtime] {
                    (runtime.name) @if !runtime.description.is_empty() { " – " (runtime.description) }
                }
            }
        }
    };
    let none =
        html! { "No environment has a recipe yet; " code { "nbsupervisor runtime check" } " says what is wrong." };
    let hint = html! { "The recipe that runs it." };
    field("runtime", "Runtime", if runtimes.is_empty() { &none } else { &hint }, wrong, &input)
}

fn starts(draft: &Draft, wrong: &Wrong) -> Markup {
    let meaning = |mode: StartMode| match mode {
        StartMode::WithSupervisor => "now, and whenever the host boots",
        StartMode::OnFirstVisit => "when somebody first visits it",
        StartMode::Manual => "only when it is told to",
    };
    let chosen = StartMode::parse(&draft.start_mode).unwrap_or(StartMode::OnFirstVisit);
    html! {
        fieldset.field #start_mode tabindex="-1" aria-describedby=(described("start_mode", wrong)) {
            legend { "Start" }
            (beside("start_mode", wrong))
            @for mode in StartMode::ALL {
                label.choice {
                    input type="radio" name="start_mode" value=(mode.as_str()) checked[*mode == chosen];
                    " " (mode.as_str()) span.faint { " – " (meaning(*mode)) }
                }
            }
        }
    }
}

fn places(scene: &Scene, draft: &Draft, wrong: &Wrong) -> Markup {
    let environments = &scene.status.environments;
    let only = environments.len() == 1;
    html! {
        fieldset.field #environments tabindex="-1" aria-describedby=(described("environments", wrong)) {
            legend { "Environments" }
            p.hint #environments-hint { "Where it runs. In several it starts one after another." }
            (beside("environments", wrong))
            @if environments.is_empty() { p { "None has joined yet." } }
            @for environment in environments {
                @let named = draft.environments.contains(&environment.name);
                label.choice {
                    input type="checkbox" name="environments" value=(environment.name) checked[named || only];
                    " " (environment.name) span.faint { " – " (environment.status) }
                }
            }
        }
    }
}

fn texts(runtimes: &[Runtime], draft: &Draft, wrong: &Wrong) -> Markup {
    let area = |name: &str, text: &str| {
        html! {
            textarea id=(name) name=(name) rows="4" spellcheck="false" autocomplete="off" autocapitalize="none"
                aria-describedby=(described(name, wrong)) aria-invalid=[invalid(name, wrong)] { "\n" (text) }
        }
    };
    let needed = runtimes.iter().filter(|runtime| !runtime.secrets_needed.is_empty());
    let secrets = html! {
        "NAME=value, one on a line. They are never shown again."
        @for runtime in needed { " " (runtime.name) " needs " (runtime.secrets_needed.join(", ")) "." }
        @if draft.had_secrets { strong { " Please type them again." } }
    };
    html! {
        (field("env", "Variables", &html! { "NAME=value, one on a line." }, wrong, &area("env", &draft.env)))
        (field("secrets", "Secrets", &secrets, wrong, &area("secrets", "")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_one_on_a_line_and_errors_show_no_value() {
        let mut wrong = Wrong::default();
        let found = variables("env", "A=1\r\n\n B =x=y \nA=2\nhunter2\n", &mut wrong);
        assert_eq!(Value::Object(found), json!({ "A": "2", "B": "x=y " }));
        let said: Vec<_> = wrong.all.iter().map(|problem| problem.detail.as_str()).collect();
        assert_eq!(said, ["line 4 gives A a second time", "line 5 has no ="]);
    }

    #[test]
    fn what_is_left_empty_is_left_to_the_api() {
        let spec = spec(&Draft { name: "crm".into(), ..Draft::default() }, "").ok();
        assert_eq!(spec, Some(json!({ "name": "crm", "env": {}, "secrets": {} })));
    }

    #[test]
    fn a_problem_stands_beside_its_field_or_on_top() {
        let problem = |field: Option<&str>| FieldProblem {
            code: "invalid".into(),
            field: field.map(String::from),
            detail: String::new(),
            hint: None,
        };
        let place = |field| Wrong::place(&problem(field));
        assert_eq!(place(Some("env.FOO")), Some("env"));
        assert_eq!(place(Some("environments[0]")), Some("environments"));
        assert_eq!((place(Some("limits.memory_max")), place(None)), (None, None));
    }
}
