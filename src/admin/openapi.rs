//! The OpenAPI document: paths from the table of routes, schemas from the tables here.

use std::sync::OnceLock;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::routes::{ROUTES, Route};

/// Fields of a schema: name and type. `?` after a type: may be null. `[x]`: a list of x. Capital: another schema.
type Fields = &'static [(&'static str, &'static str)];

#[rustfmt::skip]
const SCHEMAS: &[(&str, Fields)] = &[
    ("AppList", &[("apps", "[App]"), ("next_cursor", "string?")]),
    ("App", &[("name", "string"), ("generation", "integer"), ("status", "string"), ("intent", "string"),
        ("url", "string"), ("spec", "Spec"), ("instances", "[Instance]"), ("removing", "boolean"),
        ("created_at", "time"), ("last_operation", "string?"), ("data", "[string]"), ("operation", "Operation")]),
    ("Instance", &[("environment", "string"), ("status", "string"), ("intent", "string"), ("leaving", "boolean"),
        ("last_status", "string?"), ("version", "string?"),
        ("reason", "Reason?"), ("since", "time"), ("observed_at", "time?"), ("age_ms", "integer?"),
        ("source", "string"), ("adapter", "string?"), ("pid", "integer?"), ("unit", "string?"),
        ("address", "string?"), ("restarts", "integer"), ("last_log", "[string]"), ("usage", "AppUsage?"),
        ("spec_generation", "integer"), ("next_attempt_at", "time?"), ("progress", "string?"), ("notes", "[string]"),
        ("local", "Local?")]),
    ("Local", &[("action", "string"), ("actor", "string"), ("at", "time")]),
    ("Reason", &[("code", "string"), ("text", "string"), ("remedy", "string")]),
    ("AppUsage", &[("cpu_percent", "number?"), ("memory_bytes", "integer?"), ("memory_source", "string?"),
        ("tasks", "integer?"), ("io_read_bytes", "integer?"), ("io_write_bytes", "integer?"), ("pressure", "Pressure?")]),
    ("Spec", &[("name", "string"), ("title", "string?"), ("runtime", "string"), ("environments", "[string]"),
        ("start_mode", "string"), ("auto_upgrade", "boolean"), ("env", "object"), ("secrets", "object"),
        ("database", "object"), ("limits", "object"), ("proxy", "object"), ("labels", "object"), ("placements", "object")]),
    ("NewApp", &[("name", "string"), ("title", "string?"), ("runtime", "string"), ("environments", "[string]"),
        ("start_mode", "string"), ("auto_upgrade", "boolean"), ("env", "object"), ("secrets", "object"),
        ("database", "object"), ("limits", "object"), ("proxy", "object"), ("labels", "object"), ("placements", "object"),
        ("reuse", "boolean")]),
    ("Rotation", &[("restart", "boolean")]),
    ("Move", &[("environments", "[string]"), ("hosting", "string"), ("dry_run", "boolean")]),
    ("MovePlan", &[("app", "string"), ("dry_run", "boolean"), ("steps", "[string]")]),
    ("Asked", &[("environments", "[string]"), ("local", "boolean")]),
    ("LocalCommand", &[("app", "string"), ("environment", "string"), ("action", "string"), ("actor", "string"),
        ("local", "boolean")]),
    ("Operation", &[("id", "string"), ("seq", "integer"), ("app", "string"), ("action", "string"),
        ("environments", "[string]"), ("status", "string"), ("reason", "string?"), ("created_at", "time"),
        ("finished_at", "time?"), ("actor", "string")]),
    ("OperationList", &[("operations", "[Operation]"), ("next_cursor", "string?")]),
    ("Why", &[("app", "string"), ("status", "string"), ("intent", "string"), ("causes", "[Cause]")]),
    ("Cause", &[("topic", "string"), ("text", "string"), ("remedy", "string?")]),
    ("EnvironmentList", &[("environments", "[Environment]")]),
    ("Environment", &[("name", "string"), ("host", "string"), ("local", "boolean"), ("version", "string"), ("url", "string?"), ("proxy_url", "string?"),
        ("proxy_reachable", "boolean?"), ("proxy_error", "string?"), ("status", "string"),
        ("reason", "Reason?"), ("draining", "boolean"),
        ("runtimes", "[RuntimeVersion]"), ("last_heartbeat_at", "time"), ("lease_age_ms", "integer"),
        ("capacity", "Capacity?"), ("usage", "HostUsage?"), ("instances", "integer"), ("concurrent_starts", "integer")]),
    ("EnvironmentChange", &[("already", "boolean"), ("environment", "Environment")]),
    ("RuntimeVersion", &[("name", "string"), ("version", "string?")]),
    ("Capacity", &[("cpus", "integer"), ("memory_bytes", "integer")]),
    ("HostUsage", &[("cpu_percent", "number?"), ("memory_bytes", "integer?"), ("pressure", "Pressure?")]),
    ("Pressure", &[("cpu", "number"), ("memory", "number"), ("io", "number")]),
    ("RuntimeList", &[("runtimes", "[Runtime]"), ("problems", "[RecipeProblem]")]),
    ("Runtime", &[("name", "string"), ("description", "string"), ("adapter", "string"), ("hosting", "[string]"), ("listen", "string"),
        ("strip_prefix", "boolean"), ("max_limits", "RuntimeLimits"), ("app_id_pattern", "string?"),
        ("secrets_needed", "[string]"), ("turn_timeout", "string"), ("environments", "[string]")]),
    ("RuntimeLimits", &[("memory_max", "string?"), ("cpu_quota", "string?"), ("tasks_max", "integer?"), ("io_weight", "integer?")]),
    ("RecipeProblem", &[("file", "string"), ("line", "integer?"), ("field", "string?"), ("detail", "string"),
        ("hint", "string?")]),
    ("Queue", &[("queue", "[QueueEntry]")]),
    ("QueueEntry", &[("app", "string"), ("environment", "string"), ("position", "integer"), ("waits_for", "string"),
        ("since", "time"), ("eta_ms", "integer?"), ("priority", "string")]),
    ("EventList", &[("events", "[Event]")]),
    ("Event", &[("seq", "integer"), ("at", "time"), ("app", "string?"), ("environment", "string?"), ("kind", "string"),
        ("message", "string"), ("operation", "string?")]),
    ("UsageList", &[("host", "HostUsage?"), ("capacity", "Capacity?"), ("hosts", "[HostUsageRow]"),
        ("apps", "[AppUsageRow]")]),
    ("HostUsageRow", &[("environment", "string"), ("usage", "HostUsage?"), ("capacity", "Capacity?")]),
    ("AppUsageRow", &[("app", "string"), ("environment", "string"), ("cpu_percent", "number?"),
        ("memory_bytes", "integer?"), ("memory_source", "string?"), ("tasks", "integer?"),
        ("io_read_bytes", "integer?"), ("io_write_bytes", "integer?"), ("pressure", "Pressure?")]),
    ("Status", &[("version", "string"), ("mode", "string"), ("pid", "integer"), ("started_at", "time"),
        ("uptime_ms", "integer"), ("ready", "boolean"), ("read_only", "string?"), ("admin_socket", "string?"), ("admin_listen", "string?"),
        ("gateway_url", "string?"), ("apps", "integer"), ("apps_by_status", "object"), ("attention", "[Attention]"),
        ("operations_active", "integer"), ("queue", "integer"), ("environments", "[Environment]")]),
    ("Attention", &[("app", "string"), ("status", "string"), ("reason", "string?")]),
    ("TokenList", &[("tokens", "[Token]")]),
    ("Token", &[("name", "string"), ("role", "string"), ("created_at", "time"), ("token", "string")]),
    ("NewToken", &[("name", "string"), ("role", "string")]),
    ("Problem", &[("type", "string"), ("title", "string"), ("status", "integer"), ("code", "string"),
        ("field", "string?"), ("detail", "string"), ("hint", "string?"), ("errors", "[FieldProblem]")]),
    ("FieldProblem", &[("code", "string"), ("field", "string?"), ("detail", "string"), ("hint", "string?")]),
];

pub(crate) async fn document() -> Response {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| build().to_string());
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], text.as_str()).into_response()
}

fn build() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| Value::Object(Map::new()));
        path[route.method.to_lowercase()] = operation(route);
    }
    let schemas: Map<String, Value> = SCHEMAS.iter().map(|(name, fields)| (name.to_string(), schema(fields))).collect();
    json!({
        "openapi": "3.1.0",
        "info": { "title": "nbsupervisor", "version": env!("CARGO_PKG_VERSION"),
            "description": "The admin API. Unix socket: peer credentials. TCP: bearer token." },
        "paths": paths,
        "components": { "schemas": schemas, "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } } },
        "security": [{ "token": [] }],
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<Value> = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    let query = route.query.iter();
    parameters.extend(query.map(
        |(name, text)| json!({ "name": name, "in": "query", "description": text, "schema": { "type": "string" } }),
    ));
    let header = |name: &str, required: bool| json!({ "name": name, "in": "header", "required": required, "schema": { "type": "string" } });
    if route.method != "GET" && route.path.starts_with("/api/v1/apps") {
        parameters.push(header("Idempotency-Key", false));
    }
    if route.method == "PATCH" {
        parameters.push(header("If-Match", true));
    }
    let mut responses = Map::new();
    for (status, name) in route.answers {
        let mut answer = json!({ "description": route.summary });
        if let Some(name) = name {
            answer["content"] = content("application/json", name);
        }
        responses.insert(status.to_string(), answer);
    }
    let problem = content("application/problem+json", "Problem");
    responses.insert("default".into(), json!({ "description": "a problem", "content": problem }));
    let mut operation = json!({ "summary": route.summary, "parameters": parameters, "responses": responses });
    if let Some(body) = route.body {
        let required = !matches!(body, "Asked" | "Rotation");
        operation["requestBody"] = json!({ "required": required, "content": content("application/json", body) });
    }
    if !route.path.starts_with("/api/") {
        operation["security"] = json!([]);
    }
    operation
}

fn content(media_type: &str, schema: &str) -> Value {
    let all: Vec<Value> = schema.split('|').map(reference).collect();
    let schema = if let [one] = all.as_slice() { one.clone() } else { json!({ "oneOf": all }) };
    json!({ media_type: { "schema": schema } })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn schema(fields: Fields) -> Value {
    let properties: Map<String, Value> = fields.iter().map(|(name, kind)| (name.to_string(), type_of(kind))).collect();
    json!({ "type": "object", "properties": properties })
}

fn type_of(kind: &str) -> Value {
    if let Some(kind) = kind.strip_suffix('?') {
        return json!({ "anyOf": [type_of(kind), { "type": "null" }] });
    }
    if let Some(item) = kind.strip_prefix('[').and_then(|kind| kind.strip_suffix(']')) {
        return json!({ "type": "array", "items": type_of(item) });
    }
    match kind {
        "time" => json!({ "type": "string", "format": "date-time" }),
        "object" | "string" | "integer" | "number" | "boolean" => json!({ "type": kind }),
        schema => reference(schema),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(text)) = map.get("$ref") {
                    found.insert(text.trim_start_matches("#/components/schemas/").to_string());
                }
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_route_is_in_the_document_and_nothing_else() {
        let document = build();
        let mut told = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            told.extend(methods.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())));
        }
        let there: BTreeSet<_> =
            ROUTES.iter().map(|route| (route.method.to_string(), route.path.to_string())).collect();
        assert_eq!(told, there);
        assert_eq!(there.len(), ROUTES.len(), "a route stands twice in the table");
    }

    #[test]
    fn every_schema_is_there_and_used() {
        let document = build();
        let mut used = BTreeSet::new();
        references(&document, &mut used);
        let there: BTreeSet<String> = SCHEMAS.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(used, there);
    }
}
