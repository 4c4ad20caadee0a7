//! Every route answers, in the shape that the OpenAPI document tells.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::room::open;

/// The keys of an answer are those of its schema, at every level.
fn matches(value: &Value, schema: &Value, document: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        return matches(value, document.pointer(&name[1..]).unwrap(), document, at);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        if !value.is_null() {
            matches(value, &any[0], document, at);
        }
        return;
    }
    if let Some(either) = schema["oneOf"].as_array() {
        let operation = value.get("id").is_some();
        return matches(value, &either[usize::from(!operation)], document, at);
    }
    match schema["type"].as_str().unwrap() {
        "array" => {
            for (i, item) in value.as_array().unwrap_or_else(|| panic!("{at}: {value}")).iter().enumerate() {
                matches(item, &schema["items"], document, &format!("{at}[{i}]"));
            }
        }
        "object" => {
            let Some(properties) = schema["properties"].as_object() else { return assert!(value.is_object(), "{at}") };
            if at.ends_with("spec") {
                return;
            }
            for (key, inner) in value.as_object().unwrap_or_else(|| panic!("{at}: {value}")) {
                let known = properties.get(key).unwrap_or_else(|| panic!("{at}.{key} is not in the document"));
                matches(inner, known, document, &format!("{at}.{key}"));
            }
            for key in properties.keys().filter(|key| !matches!(key.as_str(), "operation" | "token" | "errors")) {
                assert!(value.get(key).is_some(), "{at}.{key} is missing");
            }
        }
        "string" => assert!(value.is_string(), "{at}: {value}"),
        "integer" => assert!(value.is_u64(), "{at}: {value}"),
        "number" => assert!(value.is_number(), "{at}: {value}"),
        _ => assert!(value.is_boolean(), "{at}: {value}"),
    }
}

#[tokio::test]
async fn every_route_answers_as_the_document_says() {
    let room = open().await;
    let document = room.get("/api/v1/openapi.json").await.json();
    let operation = room.create("crm").await.json()["operation"]["id"].as_str().unwrap().to_string();
    assert_eq!(room.ask("POST", "/api/v1/apps/crm/start", &[], "").await.status, 202);
    let mut seen = BTreeSet::new();
    let paths = document["paths"].as_object().unwrap();
    // Removals last, as the others need the app.
    for last in [false, true] {
        for (path, methods) in paths {
            for (method, told) in
                methods.as_object().unwrap().iter().filter(|(method, _)| (*method == "delete") == last)
            {
                let method = method.to_uppercase();
                let body = match (method.as_str(), path.as_str()) {
                    ("POST", "/api/v1/apps") => r#"{"name":"new","runtime":"node"}"#,
                    ("POST", "/api/v1/tokens") => r#"{"name":"ci"}"#,
                    ("POST", "/api/v1/apps/{app}/move") => r#"{"environments":["local"],"dry_run":true}"#,
                    ("PATCH", _) => r#"{"title":"T"}"#,
                    _ => "",
                };
                let real = path.replace("{app}", "crm").replace("{id}", &operation);
                let real = real.replace("{env}", "local").replace("{name}", "ci");
                let headers: &[&str] = if method == "PATCH" { &["If-Match: \"1\""] } else { &[] };
                let answer = room.ask(&method, &real, headers, body).await;
                let status = answer.status.to_string();
                let good = told["responses"].get(&status);
                assert!(good.is_some() && status.starts_with('2'), "{method} {path}: {answer:?}");
                if let Some(schema) = good.and_then(|good| good.pointer("/content/application~1json/schema")) {
                    matches(&answer.json(), schema, &document, &format!("{method} {path}"));
                }
                seen.insert((method, path.clone()));
            }
        }
    }
    assert!(seen.len() > 20);
}

#[tokio::test]
async fn an_app_lives_through_its_api() {
    let room = open().await;
    let made = room.create("crm").await;
    assert_eq!(made.status, 201);
    assert!(made.head.contains("location: /api/v1/apps/crm") && made.head.contains("etag: \"1\""), "{}", made.head);
    let app = made.json();
    assert_eq!((app["name"].as_str(), app["intent"].as_str()), (Some("crm"), Some("on-demand")));
    assert_eq!(app["operation"]["action"], "create");
    assert_eq!(room.create("crm").await.code(), "already_exists");

    let started = room.ask("POST", "/api/v1/apps/crm/start", &[], r#"{"environments":["local"]}"#).await;
    assert_eq!(started.status, 202);
    let id = started.json()["id"].as_str().unwrap().to_string();
    let ended = room.get(&format!("/api/v1/operations/{id}?wait=5s")).await.json();
    assert_eq!((ended["status"].as_str(), ended["actor"].as_str()), (Some("done"), Some("root")));
    assert_eq!(room.get("/api/v1/apps/crm").await.json()["instances"][0]["pid"], 4711);

    assert_eq!(room.ask("POST", "/api/v1/apps/crm/stop", &[], "").await.status, 202);
    assert_eq!(room.ask("POST", "/api/v1/apps/crm/stop", &[], "").await.status, 200);

    let patch = async |tag: &str| room.ask("PATCH", "/api/v1/apps/crm", &[tag], r#"{"title":"CRM"}"#).await;
    assert_eq!(patch("If-Match: 1").await.json()["generation"], 2);
    assert_eq!(patch("If-Match: 1").await.code(), "generation_conflict");
    assert_eq!(room.ask("PATCH", "/api/v1/apps/crm", &[], "{}").await.code(), "precondition_required");

    assert_eq!(room.ask("DELETE", "/api/v1/apps/crm?purge_data=true", &[], "").await.status, 202);
    assert_eq!(room.get("/api/v1/apps/crm").await.code(), "not_found");
}

#[tokio::test]
async fn pages_are_stable_and_filters_hold() {
    let room = open().await;
    for name in ["a", "b", "c", "d", "e"] {
        assert_eq!(room.create(name).await.status, 201);
    }
    let mut names = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = room.get(&format!("/api/v1/apps?limit=2{cursor}")).await.json();
        names.extend(page["apps"].as_array().unwrap().iter().map(|app| app["name"].as_str().unwrap().to_string()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
        // What is removed behind the cursor moves nothing.
        room.ask("DELETE", "/api/v1/apps/a", &[], "").await;
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    room.ask("POST", "/api/v1/apps/c/start", &[], "").await;
    let running = room.get("/api/v1/apps?status=running").await.json();
    assert_eq!(running["apps"].as_array().map(Vec::len), Some(1));
    assert_eq!(room.get("/api/v1/apps?q=d&environment=local").await.json()["apps"][0]["name"], "d");
    let operations = room.get("/api/v1/operations?app=c&limit=1").await.json();
    assert_eq!(operations["operations"][0]["action"], "start");
    assert!(operations["next_cursor"].is_string());
    let rest =
        room.get(&format!("/api/v1/operations?app=c&cursor={}", operations["next_cursor"].as_str().unwrap())).await;
    assert_eq!(rest.json()["operations"][0]["action"], json!("create"));
}
