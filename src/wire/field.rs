//! What is wrong with one field of a body, and the walk over a JSON value that collects every such fault.
//!
//! Written by hand over `serde_json::Value`, as serde's own errors stop at the first fault and name no path.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// One fault of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// `invalid` or `unknown_field`.
    pub code: &'static str,
    /// Dotted path, such as `limits.memory_max`; empty for the body itself.
    pub field: String,
    /// What is wrong, with the value (never that of a secret).
    pub detail: String,
    /// What to do.
    pub hint: String,
}

/// Collects the faults met on the way through a value.
#[derive(Debug, Default)]
pub struct Walk {
    errors: Vec<FieldError>,
}

impl Walk {
    /// Notes an `invalid` field.
    pub fn invalid(&mut self, field: impl Into<String>, detail: impl Into<String>, hint: impl Into<String>) {
        let (field, detail, hint) = (field.into(), detail.into(), hint.into());
        self.errors.push(FieldError { code: "invalid", field, detail, hint });
    }

    /// Whether nothing was found so far.
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    /// What was found, in the order of the walk.
    pub fn into_errors(self) -> Vec<FieldError> {
        self.errors
    }

    /// The fields of an object; one that is absent or null has none. Keys outside `known` are noted as unknown.
    pub fn object<'v>(&mut self, path: &str, value: Option<&'v Value>, known: &[&str]) -> Fields<'v> {
        let map = self.map(path, value);
        for key in map.into_iter().flat_map(Map::keys).filter(|key| !known.contains(&key.as_str())) {
            let hint = match meant_by(key, known.iter().copied()) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("the keys here are {}", known.join(", ")),
            };
            let detail = format!("there is no key {}", quoted(key));
            self.errors.push(FieldError { code: "unknown_field", field: join(path, key), detail, hint });
        }
        Fields { path: path.into(), map }
    }

    /// An object with free keys; one that is absent or null is none.
    pub fn map<'v>(&mut self, path: &str, value: Option<&'v Value>) -> Option<&'v Map<String, Value>> {
        match value {
            None | Some(Value::Null) => None,
            Some(Value::Object(map)) => Some(map),
            Some(other) => {
                let what = if path.is_empty() { "the body".into() } else { shown(other) };
                self.invalid(path, format!("{what} is {}, not an object", kind(other)), "write an object: { … }");
                None
            }
        }
    }

    /// A text; absent or null is none.
    pub fn text<'v>(&mut self, path: &str, value: Option<&'v Value>) -> Option<&'v str> {
        match value? {
            Value::Null => None,
            Value::String(text) => Some(text),
            other => {
                self.invalid(path, format!("{} is {}, not a text", shown(other), kind(other)), "write it in quotes");
                None
            }
        }
    }

    /// A text read by `parse`, whose error is detail and hint.
    pub fn parsed<T, E: Into<(String, String)>>(
        &mut self,
        path: &str,
        value: Option<&Value>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(path, value)?;
        parse(text).map_err(|error| self.fault(path, error)).ok()
    }

    /// `true` or `false`; absent or null is none.
    pub fn flag(&mut self, path: &str, value: Option<&Value>) -> Option<bool> {
        match value? {
            Value::Null => None,
            Value::Bool(flag) => Some(*flag),
            other => {
                self.invalid(path, format!("{} is {}", shown(other), kind(other)), "write true or false");
                None
            }
        }
    }

    /// The elements of a list with their paths; absent or null is none.
    pub fn list<'v>(&mut self, path: &str, value: Option<&'v Value>) -> Option<Vec<(String, &'v Value)>> {
        match value? {
            Value::Null => None,
            Value::Array(items) => {
                Some(items.iter().enumerate().map(|(i, item)| (format!("{path}.{i}"), item)).collect())
            }
            other => {
                self.invalid(path, format!("{} is {}, not a list", shown(other), kind(other)), "write a list: [ … ]");
                None
            }
        }
    }

    /// Notes an error that is detail and hint.
    pub fn fault(&mut self, path: &str, error: impl Into<(String, String)>) {
        let (detail, hint) = error.into();
        self.invalid(path, detail, hint);
    }
}

/// The fields of one object, with their paths.
pub struct Fields<'v> {
    path: String,
    map: Option<&'v Map<String, Value>>,
}

impl<'v> Fields<'v> {
    /// The path and value of a field.
    pub fn get(&self, key: &str) -> (String, Option<&'v Value>) {
        (join(&self.path, key), self.map.and_then(|map| map.get(key)))
    }
}

/// The candidate that a mistyped word may have meant. A long one is no slip, and comparing it would cost memory.
pub fn meant_by<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const WORD_MAX: usize = 64;
    if word.len() > WORD_MAX { None } else { nbs_core::nearest::nearest(word, candidates) }
}

/// A dotted path.
pub fn join(path: &str, key: &str) -> String {
    let key: String = key.chars().take(128).collect();
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// A text as it is named in a detail: quoted, escaped and shortened.
pub fn quoted(text: &str) -> String {
    const SHOWN: usize = 80;
    let short: String = text.chars().take(SHOWN).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{dots}")
}

/// A value as it is named in a detail.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(_) | Value::Object(_) => "the value".into(),
        plain => plain.to_string(),
    }
}

/// What a value is, in words.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A JSON object of texts.
pub fn texts(map: &BTreeMap<String, String>) -> Value {
    Value::Object(map.iter().map(|(key, text)| (key.clone(), Value::from(text.as_str()))).collect())
}
