//! The nearest of some words to a mistyped one.

/// The word of `words` that `given` was most likely meant to be, if one is near enough.
pub fn nearest<'a>(given: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_lowercase();
    // A third of the letters may be wrong; beyond that a suggestion is a guess.
    let bound = (given.chars().count() / 3).max(1);
    words
        .into_iter()
        .map(|word| (distance(&given, &word.to_lowercase()), word))
        .filter(|(far, _)| *far <= bound)
        .min_by_key(|(far, _)| *far)
        .map(|(_, word)| word)
}

/// `did you mean "x"?`, or else the list of what there is.
pub fn suggestion<'a>(given: &str, words: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(given, words.clone()) {
        Some(word) => format!("did you mean {word}?"),
        None => {
            let all: Vec<&str> = words.into_iter().collect();
            format!("there is {}", all.join(", "))
        }
    }
}

/// Letters to insert, remove, replace or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found() {
        let words = ["listen", "hold_timeout", "drain_timeout", "trusted_proxies"];
        assert_eq!(nearest("lisetn", words), Some("listen"));
        assert_eq!(nearest("hold_timeuot", words), Some("hold_timeout"));
        assert_eq!(nearest("HOLD_TIMEOUT", words), Some("hold_timeout"));
        assert_eq!(nearest("holdtime", words), None);
        assert_eq!(nearest("port", words), None);
    }

    #[test]
    fn without_a_near_word_all_are_listed() {
        assert_eq!(suggestion("purple", ["auto", "text"]), "there is auto, text");
        assert_eq!(suggestion("tekst", ["auto", "text"]), "there is auto, text");
        assert_eq!(suggestion("texf", ["auto", "text"]), "did you mean text?");
    }
}
