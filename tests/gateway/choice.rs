//! Which environment serves a visitor.

use nbs_core::phase::Status;
use nbs_core::spec::{Placement, ProxyChoice};
use nbs_core::view::AppView;

use crate::fleet::*;
use crate::house::*;

const BOTH: &[(&str, Status)] = &[("env_a", Status::Running), ("env_b", Status::Running)];

async fn two(choice: ProxyChoice) -> (Fleet, House, House) {
    let fleet = Fleet::open().await;
    let a = fleet.worker_with_app("env_a", 0).await;
    let b = fleet.worker_with_app("env_b", 0).await;
    show(&fleet, &a, &b, wide("crm", choice, BOTH));
    (fleet, a, b)
}

fn show(fleet: &Fleet, a: &House, b: &House, app: AppView) {
    fleet.entry.show_in(vec![app], vec![at("env_a", url(a), false), at("env_b", url(b), false)]);
}

fn by(answer: &str) -> &str {
    answer.split("x-served-by: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap_or(answer)
}

#[tokio::test]
async fn who_must_choose_is_asked_and_may_say_it_in_three_ways() {
    let (fleet, _a, _b) = two(ProxyChoice::Required).await;
    let entry = &fleet.entry;
    let refused = entry.get("/apps/crm/x?y=1", "").await;
    assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("\"code\":\"ENVIRONMENT_REQUIRED\""), "{refused}");
    assert!(refused.contains("env_a, env_b") && refused.contains("\"maintaining\":false"), "{refused}");
    let page = entry.get("/apps/crm/x?y=\"1", "Accept: text/html\r\n").await;
    assert!(page.starts_with("HTTP/1.1 400") && page.contains("text/html"), "{page}");
    for link in ["href=\"/apps/crm/x?y=&quot;1&amp;__environment=env_a\"", "__environment=env_b\""] {
        assert!(page.contains(link), "{link}: {page}");
    }
    for name in ["env_a", "env_b"] {
        let named = entry.get("/apps/crm/x?y", &format!("X-App-Environment: {name}\r\n")).await;
        assert!(by(&named) == name && !named.to_lowercase().contains("set-cookie"), "{named}");
        let asked = entry.get(&format!("/apps/crm/x?a&__environment={name}&b"), "").await;
        assert!(by(&asked) == name && asked.contains("GET /x?a&b HTTP/1.1"), "{asked}");
        let cookie = format!("set-cookie: nbs_env_crm={name}; Path=/; HttpOnly; SameSite=Lax\r\n");
        assert!(asked.contains(&cookie), "{asked}");
        let kept = entry.get("/apps/crm/x", &format!("Cookie: a=b; nbs_env_crm={name}; c=d\r\n")).await;
        assert!(by(&kept) == name && kept.contains("cookie: a=b; c=d\n"), "{kept}");
        assert!(!kept.contains("nbs_env_") && !kept.contains("x-app-environment"), "{kept}");
    }
    let header_first = entry.get("/apps/crm/?__environment=env_a", "X-App-Environment: env_b\r\n").await;
    assert!(by(&header_first) == "env_b" && !header_first.contains("set-cookie"), "{header_first}");
}

#[tokio::test]
async fn an_environment_without_the_app_is_not_found_and_one_without_visitors_is_no_choice() {
    let (fleet, a, b) = two(ProxyChoice::Required).await;
    let answer = fleet.entry.get("/apps/crm/", "X-App-Environment: <env_c>\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("\"APP_NOT_FOUND\""), "{answer}");
    assert!(answer.contains("name one of: env_a, env_b"), "{answer}");
    let asked = fleet.entry.get("/apps/crm/?__environment=env_c", "").await;
    assert!(asked.starts_with("HTTP/1.1 404") && !asked.contains("set-cookie"), "{asked}");
    let mut app = wide("crm", ProxyChoice::Required, BOTH);
    let mut spec = (*app.spec).clone();
    spec.placements.insert(environment("env_a"), Placement { serve: false, ..Placement::default() });
    app.spec = spec.into();
    show(&fleet, &a, &b, app);
    assert_eq!(by(&fleet.entry.get("/apps/crm/", "").await), "env_b");
    let jobs = fleet.entry.get("/apps/crm/", "X-App-Environment: env_a\r\n").await;
    assert!(jobs.starts_with("HTTP/1.1 404"), "{jobs}");
}

#[tokio::test]
async fn the_spec_names_one_or_spreads() {
    let (fleet, a, b) = two(ProxyChoice::Environment(environment("env_b"))).await;
    for _ in 0..3 {
        assert_eq!(by(&fleet.entry.get("/apps/crm/", "").await), "env_b");
    }
    show(&fleet, &a, &b, wide("crm", ProxyChoice::Spread, BOTH));
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(by(&fleet.entry.get("/apps/crm/", "").await).to_string());
    }
    seen.sort();
    assert_eq!(seen, ["env_a", "env_a", "env_b", "env_b"]);
    let mut draining = at("env_a", url(&a), false);
    draining.draining = true;
    fleet.entry.show_in(vec![wide("crm", ProxyChoice::Spread, BOTH)], vec![draining, at("env_b", url(&b), false)]);
    for _ in 0..3 {
        assert_eq!(by(&fleet.entry.get("/apps/crm/", "").await), "env_b");
    }
}

#[tokio::test]
async fn an_entry_that_hosts_apps_itself_is_one_of_them() {
    let fleet = Fleet::open().await;
    let b = fleet.worker_with_app("env_b", 0).await;
    let address = app(mirror).await;
    let mut view = wide("crm", ProxyChoice::Spread, BOTH);
    view.instances[0] = there("env_a", address).instances.remove(0);
    fleet.entry.show_in(vec![view], vec![at("env_a", "nowhere".into(), true), at("env_b", url(&b), false)]);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let answer = fleet.entry.get("/apps/crm/x", "").await;
        assert!(answer.contains("GET /x HTTP/1.1") && answer.contains("x-forwarded-prefix: /apps/crm\n"), "{answer}");
        seen.push(answer.contains("x-served-by: env_b"));
    }
    assert_eq!(seen.iter().filter(|remote| **remote).count(), 2, "{seen:?}");
}
