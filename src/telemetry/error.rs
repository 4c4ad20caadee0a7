//! An error and its causes in one line.

use std::error::Error;

/// `cannot open the record: permission denied`: the error, then each cause, unless the text before says it already.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let part = cause.to_string();
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn causes_follow_and_are_not_repeated() {
        let inner = Layer("disk full", None);
        let middle = Layer("cannot write: disk full", Some(Box::new(inner)));
        let outer = Layer("cannot save the record", Some(Box::new(middle)));
        assert_eq!(chain(&outer), "cannot save the record: cannot write: disk full");
    }
}
