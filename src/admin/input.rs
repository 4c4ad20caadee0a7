//! What a request brings: query, body and headers, checked before anything is done with them.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Query;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::Response;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Bytes;
use nbs_core::id::Generation;
use nbs_core::limits::BODY_MAX;
use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::quantity::parse_duration;
use serde::Serialize;
use serde_json::{Map, Value};

use super::problem::{Problem, bad_name};

/// How long a body may take to arrive; 1 MiB in 10 s is a modem's pace.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The query, every key of it known to the route.
#[derive(Debug, Clone, Default)]
pub struct Params(BTreeMap<String, String>);

impl Params {
    /// Reads a query.
    ///
    /// # Errors
    /// A key is not in `known`, stands twice, or is badly encoded.
    pub fn parse(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|error| {
            Problem::invalid("?", format!("the query cannot be read: {error}"), "encode it as key=value&…")
        })?;
        let mut params = BTreeMap::new();
        for (key, value) in pairs {
            if !known.contains(&key.as_str()) {
                return Err(Problem::unknown(&key, known));
            }
            if params.insert(key.clone(), value).is_some() {
                return Err(Problem::invalid(&key, format!("{key:?} stands twice in the query"), "give it once"));
            }
        }
        Ok(Self(params))
    }

    /// A value as it stands; an empty one counts as absent.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// A whole number of at most `max`, or the default.
    pub fn number(&self, key: &str, default: usize, max: usize) -> Result<usize, Problem> {
        let Some(text) = self.text(key) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| *number <= max);
        number.ok_or_else(|| {
            Problem::invalid(
                key,
                format!("{text:?} is not a number from 0 to {max}"),
                format!("write a number up to {max}"),
            )
        })
    }

    /// `true` or `false`, or the bare key for true; absent is false.
    pub fn flag(&self, key: &str) -> Result<bool, Problem> {
        match self.0.get(key).map(String::as_str) {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(other) => {
                Err(Problem::invalid(key, format!("{other:?} is neither true nor false"), "write true or false"))
            }
        }
    }

    /// A duration.
    pub fn duration(&self, key: &str) -> Result<Option<Duration>, Problem> {
        let Some(text) = self.text(key) else { return Ok(None) };
        parse_duration(text).map(Some).map_err(|error| Problem::invalid(key, error.to_string(), error.hint))
    }

    /// An app's name.
    pub fn app(&self, key: &str) -> Result<Option<AppId>, Problem> {
        let Some(text) = self.text(key) else { return Ok(None) };
        AppId::parse(text).map(Some).map_err(|error| bad_name(key, &error))
    }

    /// An environment's name.
    pub fn environment(&self, key: &str) -> Result<Option<EnvironmentName>, Problem> {
        let Some(text) = self.text(key) else { return Ok(None) };
        EnvironmentName::parse(text).map(Some).map_err(|error| bad_name(key, &error))
    }
}

/// Reads an app's name out of a path. One that cannot be is simply not there.
pub fn path_app(text: &str) -> Result<AppId, Problem> {
    AppId::parse(text).map_err(|error| Problem::not_found(format!("there is no app {:?}", error.value), error.rule))
}

/// Reads a body of bounded size in bounded time.
pub async fn body(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("the body is larger than {BODY_MAX} bytes"))
            .hint("a spec of 200 long variables is under 64 KiB; put files beside the app, not into its spec")
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > BODY_MAX) {
        return Err(too_large());
    }
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_MAX).collect()).await;
    match collected {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
        Ok(Err(error)) => Err(Problem::invalid("", format!("the body ended early: {error}"), "send the whole body")),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not arrive in time")
            .hint("nothing was changed; send it again")),
    }
}

/// Reads a JSON object. The content type is not asked: what parses is JSON.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, Problem> {
    let hint = "send a JSON object, such as {\"name\": \"crm\", \"runtime\": \"node\"}";
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Problem::invalid("", "the body is JSON but not an object", hint)),
        Err(_) if bytes.is_empty() => Err(Problem::invalid("", "the body is empty", hint)),
        Err(error) => {
            let place = format!("line {}, column {}", error.line(), error.column());
            let what = error.to_string();
            let what = what.split(" at line ").next().unwrap_or_default();
            Err(Problem::invalid("", format!("the body is not JSON: {what} at {place}"), hint))
        }
    }
}

/// What an optional body says of a command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// Only these; none = all of the app.
    pub environments: Option<Vec<EnvironmentName>>,
    /// On this host alone, past the entry.
    pub local: bool,
}

/// Reads an optional body: `{"environments": ["env_a"]}`, `{"local": true}`.
pub fn asked(bytes: &[u8]) -> Result<Asked, Problem> {
    let map = optional(bytes, &["environments", "local"])?;
    Ok(Asked { environments: environments(map.get("environments"))?, local: flag(&map, "local")? })
}

/// Reads an object that may be left out, with these keys at most.
pub fn optional(bytes: &[u8], known: &[&str]) -> Result<Map<String, Value>, Problem> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    let map = object(bytes)?;
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(Problem::unknown(key, known)),
        None => Ok(map),
    }
}

/// True or false; absent is false.
pub fn flag(map: &Map<String, Value>, key: &str) -> Result<bool, Problem> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(Problem::invalid(key, format!("{other} is neither true nor false"), "write true or false")),
    }
}

fn environments(given: Option<&Value>) -> Result<Option<Vec<EnvironmentName>>, Problem> {
    let hint = "write a list of names, such as [\"env_a\"], or leave it out for all";
    let wrong = |field: String, detail: String| Problem::invalid(field, detail, hint);
    match given {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) if !items.is_empty() => items
            .iter()
            .enumerate()
            .map(|(i, item)| {
                let field = format!("environments[{i}]");
                let text = item.as_str().ok_or_else(|| wrong(field.clone(), format!("{item} is not a text")))?;
                EnvironmentName::parse(text).map_err(|error| bad_name(&field, &error))
            })
            .collect::<Result<_, _>>()
            .map(Some),
        Some(other) => Err(wrong("environments".into(), format!("{other} is not a list of names"))),
    }
}

/// `If-Match: "3"`, `W/"3"` or a bare 3.
pub fn if_match(headers: &HeaderMap) -> Result<Generation, Problem> {
    let hint = "read the app, then send If-Match: \"<its generation>\"";
    let Some(value) = headers.get(header::IF_MATCH) else {
        let status = StatusCode::PRECONDITION_REQUIRED;
        return Err(Problem::new(status, "precondition_required", "a change needs the generation it was made from")
            .field("If-Match")
            .hint(hint));
    };
    let text = value.to_str().unwrap_or_default().trim();
    let number = text.strip_prefix("W/").unwrap_or(text).trim_matches('"');
    number
        .parse()
        .map(Generation)
        .map_err(|_| Problem::invalid("If-Match", format!("{text:?} is not a generation"), hint))
}

/// Answers with JSON.
pub fn json(status: StatusCode, shown: &impl Serialize) -> Response {
    let mut response = Response::new(Body::from(serde_json::to_vec(shown).unwrap_or_default()));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(query: &str) -> Result<Params, Problem> {
        Params::parse(&format!("/x?{query}").parse().unwrap(), &["limit", "q", "follow"])
    }

    #[test]
    fn unknown_and_doubled_keys_are_refused() {
        assert_eq!(parsed("limti=3").unwrap_err().code(), "unknown_field");
        assert_eq!(parsed("q=a&q=b").unwrap_err().code(), "invalid");
        assert_eq!(parsed("q=a%20b").unwrap().text("q"), Some("a b"));
    }

    #[test]
    fn numbers_and_flags_have_bounds() {
        assert_eq!(parsed("limit=7").unwrap().number("limit", 5, 10).unwrap(), 7);
        assert_eq!(parsed("").unwrap().number("limit", 5, 10).unwrap(), 5);
        for bad in ["limit=11", "limit=-1", "limit=x"] {
            assert!(parsed(bad).unwrap().number("limit", 5, 10).is_err(), "{bad}");
        }
        assert!(parsed("follow").unwrap().flag("follow").unwrap());
        assert!(!parsed("follow=false").unwrap().flag("follow").unwrap());
        assert!(parsed("follow=yes").unwrap().flag("follow").is_err());
    }

    #[test]
    fn json_that_ends_early_tells_line_and_column() {
        let problem = object(b"{\n  \"name\": \"crm\",").unwrap_err();
        assert!(problem.detail().contains("line 2, column 16"), "{}", problem.detail());
        assert!(object(b"").unwrap_err().detail().contains("empty"));
        assert!(object(b"[]").unwrap_err().detail().contains("not an object"));
    }

    #[test]
    fn environments_may_be_named_or_left_out() {
        assert_eq!(asked(b" \n").unwrap(), Asked::default());
        assert_eq!(asked(b"{}").unwrap(), Asked::default());
        let local = EnvironmentName::parse("local").unwrap();
        assert_eq!(asked(br#"{"environments":["local"]}"#).unwrap().environments, Some(vec![local]));
        assert!(asked(br#"{"local":true}"#).unwrap().local);
        let bad = [&br#"{"environments":"local"}"#[..], br#"{"environments":[]}"#, br#"{"environments":[3]}"#];
        for bad in bad.into_iter().chain([&br#"{"local":"yes"}"#[..]]) {
            assert_eq!(asked(bad).unwrap_err().code(), "invalid");
        }
        assert_eq!(asked(br#"{"envs":[]}"#).unwrap_err().code(), "unknown_field");
    }

    #[test]
    fn a_generation_may_be_quoted_or_bare() {
        let with = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_MATCH, text.parse().unwrap());
            if_match(&headers)
        };
        for good in ["\"3\"", "3", "W/\"3\""] {
            assert_eq!(with(good).unwrap(), Generation(3), "{good}");
        }
        assert_eq!(with("*").unwrap_err().code(), "invalid");
        assert_eq!(if_match(&HeaderMap::new()).unwrap_err().code(), "precondition_required");
    }
}
