//! Completion: the part that a query lacks at the cursor, whether the rest of the query is valid or
//! not. Nothing is parsed; the tokens before the cursor suffice.

mod tokens;

use std::ops::Range;

use self::tokens::{Token, TokenKind, scan};
use crate::names::Property;

/// Names at which a path can start.
const SUBJECTS: [&str; 9] =
    ["run", "metric", "images", "texts", "audios", "distributions", "figures", "htmls", "point_clouds"];
/// Attributes of a run besides its properties.
const RUN_ATTRIBUTES: [&str; 4] = ["tags", "metrics", "finalized_at", "get"];
/// Methods of maps, which an attribute would find instead of a key.
const METHODS: [&str; 9] = ["contains", "copy", "count", "get", "index", "items", "keys", "union", "values"];
/// Words that an expression can follow.
const OPERATORS: [&str; 6] = ["and", "or", "not", "if", "else", "in"];
/// Words that are not names in Python.
const KEYWORDS: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def",
    "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is",
    "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

/// The place of the cursor in a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletionPlace {
    pub missing: MissingPart,
    /// The part of the query, in bytes, that a completion replaces.
    pub range: Range<usize>,
    /// The start of the part, as far as it was typed already, without quotes.
    pub typed: String,
}

/// The kind of text that is missing at a place. Paths have their first name, such as `run`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MissingPart {
    /// The start of an expression: `lo`.
    Name,
    /// After a dot: `run.hpa`, with the path before it.
    Member(Vec<String>),
    /// A member of a metric: `run.metrics["loss"].la`.
    MetricMember,
    /// The name of a metric: `run.metrics["lo`. The completion includes the bracket at the end.
    Metric,
    /// A value to compare with: `run.hparams.optimizer == "ad`, with the path before it.
    Value(Vec<String>),
    /// A text that may be a tag: `"be`.
    Tag,
}

impl CompletionPlace {
    /// The place of a cursor, which is a number of bytes on the border of a character. `None` if
    /// nothing can be proposed there.
    pub fn find(text: &str, cursor: usize) -> Option<Self> {
        let (before, after) = text.split_at(cursor);
        let mut tokens = scan(before)?;
        match tokens.last() {
            Some(Token { kind: TokenKind::OpenText { quote }, text: typed, start }) => {
                let quote = *quote;
                let typed = (*typed).to_owned();
                let start = *start;
                tokens.pop();
                let missing = missing_text(&tokens)?;
                let mut end = cursor + rest_of_text(after, quote);
                end += usize::from(text[end..].starts_with(quote));
                end += usize::from(missing == MissingPart::Metric && text[end..].starts_with(']'));
                Some(Self { missing, range: start..end, typed })
            }
            Some(Token { kind: kind @ (TokenKind::Name | TokenKind::Number), text: typed, start })
                if start + typed.len() == cursor =>
            {
                let kind = *kind;
                let typed = (*typed).to_owned();
                let start = *start;
                tokens.pop();
                let missing = match kind {
                    // A number is complete, unless it may be one of several known values.
                    TokenKind::Number => MissingPart::Value(compared(&tokens)?),
                    _ => missing_name(&tokens, &typed)?,
                };
                let rest = after.find(|c: char| !is_name(c)).unwrap_or(after.len());
                Some(Self { missing, range: start..cursor + rest, typed })
            }
            _ => {
                let missing = missing_name(&tokens, "")?;
                Some(Self { missing, range: cursor..cursor, typed: String::new() })
            }
        }
    }
}

/// Number of bytes that belong to a text in which the cursor is. If the text has no end yet, quotes
/// after the cursor belong to other texts.
fn rest_of_text(after: &str, quote: char) -> usize {
    match after.matches(quote).count() % 2 {
        1 => after.find(quote).unwrap_or_default(),
        _ => after.find(|c: char| !is_name(c)).unwrap_or(after.len()),
    }
}

/// The path of a param in a query: `run.hparams.lr`, or `run["learning rate"]` where an attribute is
/// impossible.
pub fn param_text(segments: &[String]) -> String {
    let mut text = "run".to_owned();
    for (depth, name) in segments.iter().enumerate() {
        if is_attribute(name, depth) {
            text.push('.');
            text.push_str(name);
        } else {
            text.push('[');
            text.push_str(&text_literal(name));
            text.push(']');
        }
    }
    text
}

/// Whether a key of params can be written after a dot, below this many others.
pub fn is_attribute(name: &str, depth: usize) -> bool {
    let is_identifier = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let is_hidden = match depth {
        0 => RUN_ATTRIBUTES.contains(&name) || Property::find(name).is_some(),
        _ => METHODS.contains(&name),
    };
    is_identifier && !is_hidden && !KEYWORDS.contains(&name)
}

/// A text as a literal of the language.
pub fn text_literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => literal.extend(['\\', character]),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            control if control.is_control() => literal.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => literal.push(other),
        }
    }
    literal.push('"');
    literal
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn missing_text(before: &[Token<'_>]) -> Option<MissingPart> {
    if let [head @ .., last] = before
        && last.is("[")
        && path_at_end(head).is_some_and(|path| path == ["run", "metrics"])
    {
        return Some(MissingPart::Metric);
    }
    if let Some(path) = compared(before).or_else(|| listed(before)) {
        return Some(MissingPart::Value(path));
    }
    let is_contains = before.last().is_some_and(|last| last.is("("))
        && path_at_end(&before[..before.len() - 1]).is_some_and(|path| path == ["run", "tags", "contains"]);
    (is_contains || starts_expression(before)).then_some(MissingPart::Tag)
}

fn missing_name(before: &[Token<'_>], typed: &str) -> Option<MissingPart> {
    if let [head @ .., last] = before
        && last.is(".")
    {
        return if is_metric(head) {
            Some(MissingPart::MetricMember)
        } else {
            path_at_end(head).map(MissingPart::Member)
        };
    }
    if let Some(path) = compared(before) {
        return Some(MissingPart::Value(path));
    }
    let is_operand = before.last().is_some_and(|last| match last.kind {
        TokenKind::Name => !OPERATORS.contains(&last.text),
        TokenKind::Text | TokenKind::Number | TokenKind::OpenText { .. } => true,
        TokenKind::Sign => matches!(last.text, ")" | "]" | "}"),
    });
    let is_expected = if typed.is_empty() { starts_expression(before) } else { !is_operand };
    is_expected.then_some(MissingPart::Name)
}

/// Whether an expression that is not compared with anything can start here.
fn starts_expression(before: &[Token<'_>]) -> bool {
    before.last().is_none_or(|last| match last.kind {
        TokenKind::Name => OPERATORS.contains(&last.text) && last.text != "in",
        _ => last.is("(") || last.is(","),
    })
}

/// The path that a comparison at the end is about.
fn compared(before: &[Token<'_>]) -> Option<Vec<String>> {
    let (last, head) = before.split_last()?;
    ["==", "!=", "<", ">", "<=", ">="].iter().any(|operator| last.is(operator)).then(|| path_at_end(head))?
}

/// The path before `in (`, `not in [` or `in {` and some members of that list.
fn listed(before: &[Token<'_>]) -> Option<Vec<String>> {
    let open =
        before.iter().rposition(|token| ["(", "[", "{", ")", "]", "}"].iter().any(|it| token.is(it)))?;
    let (bracket, mut head) = before[..=open].split_last()?;
    if !["(", "[", "{"].iter().any(|it| bracket.is(it)) {
        return None;
    }
    head = head.strip_suffix_word("in")?;
    head = head.strip_suffix_word("not").unwrap_or(head);
    path_at_end(head)
}

/// Whether the tokens end with one metric of a run: `run.metrics["loss", {"subset": "val"}]`.
fn is_metric(tokens: &[Token<'_>]) -> bool {
    let Some((last, head)) = tokens.split_last() else { return false };
    let Some(open) = head.iter().rposition(|token| token.is("[")) else { return false };
    last.is("]") && path_at_end(&head[..open]).is_some_and(|path| path == ["run", "metrics"])
}

/// The path that the tokens end with: `run.hparams["learning rate"]`.
fn path_at_end(mut tokens: &[Token<'_>]) -> Option<Vec<String>> {
    let mut path = Vec::new();
    loop {
        match tokens {
            [head @ .., open, name, close]
                if open.is("[") && name.kind == TokenKind::Text && close.is("]") && !head.is_empty() =>
            {
                path.push(name.unquoted());
                tokens = head;
            }
            [head @ .., dot, name] if dot.is(".") && name.kind == TokenKind::Name => {
                path.push(name.text.to_owned());
                tokens = head;
            }
            [.., subject] if SUBJECTS.contains(&subject.text) && subject.kind == TokenKind::Name => {
                path.push(subject.text.to_owned());
                path.reverse();
                return Some(path);
            }
            _ => return None,
        }
    }
}

trait WordSuffix: Sized {
    fn strip_suffix_word(self, word: &str) -> Option<Self>;
}

impl WordSuffix for &[Token<'_>] {
    fn strip_suffix_word(self, word: &str) -> Option<Self> {
        let (last, head) = self.split_last()?;
        (last.kind == TokenKind::Name && last.text == word).then_some(head)
    }
}

#[cfg(test)]
mod tests;
