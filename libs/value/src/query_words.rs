//! Queries as the web UI reads them: conditions with `and` between them, some of which may be words in place of an
//! expression. Published copies and notebooks search as the pages of the web UI do, so they read queries here. The same
//! rules are in `ui/src/query/words.ts` and `conditions.ts`; `tests/vectors/panels.json` has cases for both, and
//! `query_names.json` the objects of the query language.

use crate::json::{JsonStyle, write_text};

/// Objects of the query language, which words do not refer to.
const OBJECTS: [&str; 9] =
    ["run", "metric", "images", "audios", "texts", "distributions", "figures", "htmls", "point_clouds"];
/// Queries that are expressions although they have no operator.
const VALUES: [&str; 4] = ["run", "True", "False", "None"];
/// Operators that bind less than `and`.
const LOOSE: [&str; 4] = ["or", "if", "else", "lambda"];

/// A query for the runs that two queries find.
pub fn both_queries(first: &str, second: &str) -> String {
    if first.trim().is_empty() {
        return second.to_owned();
    }
    let mut conditions = conditions_of(first);
    for condition in conditions_of(second) {
        if !conditions.contains(&condition) {
            conditions.push(condition);
        }
    }
    if conditions.len() < 2 { conditions.concat() } else { joined(&conditions) }
}

/// A query as the server reads it, with expressions in place of words.
pub fn expression_of(query: &str) -> String {
    let conditions = conditions_of(query);
    if conditions.iter().any(|one| is_words(one)) { joined(&conditions) } else { query.to_owned() }
}

fn joined(conditions: &[String]) -> String {
    let expressions: Vec<String> = conditions
        .iter()
        .map(|one| if is_words(one) { words_expression(one) } else { closed(one) })
        .collect();
    expressions.join(" and ")
}

/// A condition that other conditions may follow.
fn closed(condition: &str) -> String {
    let mut words = condition.split(|char: char| !is_name_char(char));
    if words.any(|word| LOOSE.contains(&word)) && !is_in_brackets(condition) {
        format!("({condition})")
    } else {
        condition.to_owned()
    }
}

/// Whether one pair of brackets is around a whole condition, unlike the brackets of `(a) or (b)`.
fn is_in_brackets(condition: &str) -> bool {
    let tokens = tokens_of(condition);
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        depth += nesting(token);
        if depth == 0 {
            return token == ")" && at + 1 == tokens.len();
        }
    }
    false
}

/// By how much a token changes the number of open brackets.
fn nesting(token: &str) -> i32 {
    match token {
        "(" | "[" | "{" => 1,
        ")" | "]" | "}" => -1,
        _ => 0,
    }
}

/// The conditions of a query that all have to hold, or the whole query as one condition. They have no comments, which
/// would swallow what follows a condition.
fn conditions_of(query: &str) -> Vec<String> {
    if is_words(query) {
        return vec![query.trim().to_owned()];
    }
    let tokens = tokens_of(query);
    let mut conditions = vec![String::new()];
    let mut depth = 0;
    for token in &tokens {
        depth += nesting(token);
        if depth == 0 && LOOSE.contains(&token.as_str()) {
            return vec![tokens.concat().trim().to_owned()];
        }
        if depth == 0 && token == "and" {
            conditions.push(String::new());
        } else if let Some(last) = conditions.last_mut() {
            last.push_str(token);
        }
    }
    let conditions = conditions.iter().map(|one| one.trim().to_owned());
    conditions.filter(|one| !one.is_empty()).collect()
}

/// The tokens of a query without its comments; each space is a token, too.
fn tokens_of(query: &str) -> Vec<String> {
    let chars: Vec<char> = query.chars().collect();
    let mut tokens = Vec::new();
    let mut rest = chars.as_slice();
    while let Some(first) = rest.first() {
        let (token, after) = rest.split_at(token_length(rest));
        if *first != '#' {
            tokens.push(token.iter().collect());
        }
        rest = after;
    }
    tokens
}

/// The number of characters of the token at the start: a text, a comment, a word, or one character.
fn token_length(chars: &[char]) -> usize {
    match chars {
        ['"' | '\'', ..] => text_length(chars).unwrap_or(chars.len()),
        ['#', ..] => chars.iter().position(|char| matches!(char, '\n' | '\r')).unwrap_or(chars.len()),
        _ => name_length(chars).max(1),
    }
}

/// The number of characters of the text in quotes at the start; `None` without a second quote.
fn text_length(chars: &[char]) -> Option<usize> {
    let quote = chars.first()?;
    let mut at = 1;
    loop {
        match chars.get(at)? {
            '\\' => at += 2,
            char if char == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
}

fn name_length(chars: &[char]) -> usize {
    chars.iter().take_while(|char| is_name_char(**char)).count()
}

fn is_name_char(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_'
}

/// Whether a query is words: it refers to nothing, and compares nothing.
fn is_words(query: &str) -> bool {
    if query.trim().is_empty() {
        return false;
    }
    let code = without_texts(query);
    !has_object(&code) && !has_operator(&code)
}

/// The characters of a query, with empty texts in place of texts in quotes.
fn without_texts(query: &str) -> Vec<char> {
    let chars: Vec<char> = query.chars().collect();
    let mut code = Vec::with_capacity(chars.len());
    let mut rest = chars.as_slice();
    while let Some((first, after)) = rest.split_first() {
        let length = if matches!(first, '"' | '\'') { text_length(rest) } else { None };
        match length {
            Some(length) => {
                code.extend(['"', '"']);
                rest = &rest[length..];
            }
            None => {
                code.push(*first);
                rest = after;
            }
        }
    }
    code
}

/// Whether code has an object such as `run.name`, but not in a name such as `my-run.v2`.
fn has_object(code: &[char]) -> bool {
    let is_part = |at: usize| is_name_char(code[at]) || code[at] == '.';
    (0..code.len()).any(|at| {
        let is_in_name = at > 0
            && (is_part(at - 1) || (matches!(code[at - 1], '-' | '/' | '#') && at > 1 && is_part(at - 2)));
        let rest = &code[at..];
        let length = name_length(rest);
        let name: String = rest[..length].iter().collect();
        !is_in_name
            && OBJECTS.contains(&name.as_str())
            && matches!(without_spaces(&rest[length..]).first(), Some('.' | '['))
    })
}

/// Whether code has what only expressions have, even if they are not complete.
fn has_operator(code: &[char]) -> bool {
    let text: String = code.iter().collect();
    let text = text.trim();
    let is_membership = |at: usize| matches!(code[at], '"' | '\'' | ')' | ']') && is_in(&code[at + 1..]);
    VALUES.contains(&text)
        || starts_with_word(without_spaces(code), "not")
        || code.iter().any(|char| matches!(char, '<' | '>'))
        || code.windows(2).any(|two| matches!(two, ['=' | '!', '=']))
        || (0..code.len()).any(is_membership)
}

/// Whether code continues with `in` or `not in`.
fn is_in(code: &[char]) -> bool {
    let code = without_spaces(code);
    let is_not_in = starts_with_word(code, "not") && {
        let rest = &code["not".len()..];
        rest.first().is_some_and(|char| char.is_whitespace()) && starts_with_word(without_spaces(rest), "in")
    };
    is_not_in || starts_with_word(code, "in")
}

fn starts_with_word(code: &[char], word: &str) -> bool {
    code[..name_length(code)].iter().copied().eq(word.chars())
}

fn without_spaces(code: &[char]) -> &[char] {
    let spaces = code.iter().take_while(|char| char.is_whitespace()).count();
    &code[spaces..]
}

/// Finds runs in which a name, a description, a tag, an experiment or a hash has each of the words.
fn words_expression(words: &str) -> String {
    let finds = terms_of(words).into_iter().map(|term| {
        let mut text = String::new();
        write_text(&mut text, &term.to_lowercase(), JsonStyle::STRICT);
        format!(
            "any({text} in text.lower() for text in [run.name or \"\", run.description or \"\", run.experiment or \"\", \
             run.hash, *run.tags])"
        )
    });
    let finds: Vec<String> = finds.collect();
    if finds.is_empty() { "True".to_owned() } else { finds.join(" and ") }
}

/// Words, and phrases in quotes without their quotes.
fn terms_of(words: &str) -> Vec<String> {
    let chars: Vec<char> = words.chars().collect();
    let mut terms = Vec::new();
    let mut rest = without_spaces(&chars);
    while !rest.is_empty() {
        let (term, after) = rest.split_at(term_length(rest));
        terms.push(unquoted(term));
        rest = without_spaces(after);
    }
    terms.retain(|term| !term.is_empty());
    terms
}

fn term_length(chars: &[char]) -> usize {
    let word = chars.iter().position(|char| char.is_whitespace()).unwrap_or(chars.len());
    match (chars.first(), text_length(chars)) {
        (Some('"'), Some(length)) => length,
        // A word such as `don't` may begin with an apostrophe, too.
        (Some('\''), Some(length)) if chars.get(length).is_none_or(|char| char.is_whitespace()) => length,
        _ => word,
    }
}

fn unquoted(term: &[char]) -> String {
    match term {
        [first @ ('"' | '\''), inner @ .., last] if first == last && !inner.is_empty() => {
            let mut plain = String::new();
            let mut chars = inner.iter();
            while let Some(char) = chars.next() {
                plain.push(if *char == '\\' { *chars.next().unwrap_or(char) } else { *char });
            }
            plain
        }
        _ => term.iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_those_of_the_query_language() {
        let text = std::fs::read_to_string("../../tests/vectors/query_names.json").unwrap();
        let file: serde_json::Value = serde_json::from_str(&text).unwrap();
        let objects = file["objects"].as_array().unwrap();
        let mut expected: Vec<&str> = objects.iter().map(|name| name.as_str().unwrap()).collect();
        let mut own = OBJECTS;
        expected.sort_unstable();
        own.sort_unstable();
        assert_eq!(own.as_slice(), expected);
    }

    #[test]
    fn words_are_told_from_expressions() {
        for words in ["falcon", "llama3-8b val/loss", "running wild", "run#7", "my-run.v2", "don't"] {
            assert!(is_words(words), "{words}");
        }
        for expression in
            ["", " ", "run.active", "not x", "a < 1", "True", "\"a\" in run.tags", "metric.name"]
        {
            assert_eq!(expression_of(expression), expression);
        }
        assert_eq!(expression_of("A b").matches("any(").count(), 2);
        assert!(expression_of("A").starts_with("any(\"a\" in"));
        assert_eq!(expression_of("\"Deep  falcon\"").matches("any(\"deep  falcon\"").count(), 1);
    }

    #[test]
    fn conditions_are_split_outside_of_brackets() {
        assert_eq!(conditions_of("run.a and (run.b and run.c) # why"), ["run.a", "(run.b and run.c)"]);
        assert_eq!(conditions_of("run.a or run.b and run.c"), ["run.a or run.b and run.c"]);
        assert_eq!(conditions_of("run.a # either\n or run.b # \"why"), ["run.a \n or run.b"]);
        let named = "run.name == \"a and b\"";
        assert_eq!(conditions_of(&format!("{named} and falcon")), [named, "falcon"]);
        assert!(conditions_of(" ").is_empty());
    }

    #[test]
    fn two_queries_find_the_runs_of_both() {
        assert_eq!(both_queries("", " run.a "), " run.a ");
        assert_eq!(both_queries("run.a", ""), "run.a");
        assert_eq!(both_queries("run.a", "run.a and run.b"), "run.a and run.b");
        assert_eq!(both_queries("run.a or run.b", "run.c or run.d"), "(run.a or run.b) and (run.c or run.d)");
        for (second, expected) in [
            ("(run.b) or (run.c)", "run.a and ((run.b) or (run.c))"),
            ("(run.b or run.c)", "run.a and (run.b or run.c)"),
            ("(run.b == \")\" or run.c)", "run.a and (run.b == \")\" or run.c)"),
            ("(run.b) if (run.c) else (run.d)", "run.a and ((run.b) if (run.c) else (run.d))"),
        ] {
            assert_eq!(both_queries("run.a", second), expected);
        }
        let both = both_queries("falcon", "eagle");
        assert_eq!(both.matches("any(").count(), 2);
        assert_eq!(expression_of(&both), both);
    }
}
