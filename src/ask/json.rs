//! Looks up a dotted path in a JSON answer: `error.code`, `items.0.name`.
//!
//! Deliberately absent: everything of JSONPath that a recipe does not need (wild cards, filters, escaped dots).

use serde_json::Value;

/// What stands at a path; the empty path is the whole.
pub fn at<'v>(root: &'v Value, path: &str) -> Option<&'v Value> {
    if path.is_empty() {
        return Some(root);
    }
    path.split('.').try_fold(root, |value, key| match value {
        Value::Object(map) => map.get(key),
        Value::Array(list) => list.get(key.parse::<usize>().ok()?),
        _ => None,
    })
}

/// The text at a path. Numbers and truth values are written as JSON writes them; what is not there, null, a list or an
/// object has no text.
pub fn text_at(root: &Value, path: &str) -> Option<String> {
    match at(root, path)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_through_objects_and_lists() {
        let root: Value = serde_json::from_str(r#"{"a":{"b":[{"c":"x"},7,true,null,{}]}}"#).unwrap();
        let cases = [("a.b.0.c", Some("x")), ("a.b.1", Some("7")), ("a.b.2", Some("true")), ("a.b.3", None)];
        for (path, text) in cases.into_iter().chain([("a.b.4", None), ("a.x", None), ("a.b.9", None), ("", None)]) {
            assert_eq!(text_at(&root, path).as_deref(), text, "{path}");
        }
    }
}
