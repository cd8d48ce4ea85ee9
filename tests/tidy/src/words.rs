//! The lists of rejected words, and how text is checked against them.

use std::collections::BTreeSet;

/// A rejected word or phrase.
#[derive(Debug)]
pub struct Phrase {
    words: Vec<String>,
    exceptions: Vec<Vec<String>>,
    /// Better words.
    pub suggestion: String,
}

/// Returns the lines of a list without comments and blanks.
pub fn entries(list: &str) -> impl Iterator<Item = &str> {
    list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Returns the rejected words and phrases.
pub fn dialect() -> Vec<Phrase> {
    entries(include_str!("../words/dialect.txt")).map(phrase).collect()
}

/// Returns the words that begin no doc comment.
pub fn openings() -> BTreeSet<&'static str> {
    entries(include_str!("../words/openings.txt")).collect()
}

/// Returns the words that name no type.
pub fn rejected_type_names() -> BTreeSet<&'static str> {
    entries(include_str!("../words/type_names.txt")).collect()
}

fn phrase(line: &str) -> Phrase {
    let (rule, suggestion) = line.split_once(" => ").expect("a rule has a suggestion after ` => `");
    let (rejected, exceptions) = rule.split_once(" except ").unwrap_or((rule, ""));
    let exceptions = exceptions.split('"').skip(1).step_by(2).map(split).collect();
    Phrase { words: split(rejected), exceptions, suggestion: suggestion.to_owned() }
}

/// Returns the words of a text, in lower case.
pub fn split(text: &str) -> Vec<String> {
    let is_separator = |c: char| !(c.is_alphanumeric() || c == '_' || c == '-' || c == '\'');
    text.split(is_separator).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

impl Phrase {
    /// How often the phrase occurs, leaving out its exceptions.
    pub fn count(&self, words: &[String]) -> usize {
        let occurrences = (0..words.len()).filter(|at| words[*at..].starts_with(&self.words));
        occurrences
            .filter(|at| !self.exceptions.iter().any(|exception| covers(exception, words, *at)))
            .count()
    }

    /// The phrase as it is read.
    pub fn text(&self) -> String {
        self.words.join(" ")
    }
}

/// Whether an exception is written at a place that includes the word `at`.
fn covers(exception: &[String], words: &[String], at: usize) -> bool {
    let earliest = (at + 1).saturating_sub(exception.len());
    (earliest..=at).any(|start| words[start..].starts_with(exception))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let (words, dialect) = (split(text), dialect());
        let found: Vec<_> =
            dialect.iter().filter(|phrase| phrase.count(&words) > 0).map(Phrase::text).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn dialect_is_found() {
        check("The log of the server tells why", &["tells"]);
        check("records behind the last one, which lies in the store", &["lies"]);
        check("The record behind it is made anew", &["anew", "behind"]);
        check("So many points of ours", &["of ours", "so many"]);
    }

    #[test]
    fn plain_english_is_not() {
        check("The server runs behind a proxy; nothing is left behind", &[]);
        check("An outsider understands a stand-in, and relies on it", &[]);
        check("PB stands for protobuf", &[]);
    }
}
