//! Acks. The client of Matyan 0.3 compares `status` with "ok" and prints `error`.

use std::fmt::Write as _;

use matyan_value::{Value, json};

use super::{Rejection, Rejections};

/// The ack of a frame whose items are all stored.
pub const OK: &str = r#"{"status":"ok","error":null}"#;

/// Maximum length of a reason in an ack: with `MAX_REASONS` of them, the ack stays far below
/// the client's limit of 1 MiB.
const REASON_BYTES: usize = 500;

/// Follows the reason of an item that adjacent items share. The text before it is the same as for a single
/// item, so older clients can read it.
const SAME: &str = " (the same in item";

/// Returns an error ack: the problem with the frame as a whole, or with each item. A problem of adjacent items is
/// named once.
pub fn error(frame: Option<&str>, rejections: &Rejections) -> String {
    let mut text = frame.map(truncated).unwrap_or_default().to_owned();
    for same in rejections.reasons.chunk_by(is_same_problem) {
        let [Rejection { item, field, reason }, others @ ..] = same else { continue };
        let separator = if text.is_empty() { "" } else { "; " };
        let colon = if field.is_empty() { "" } else { ": " };
        let reason = truncated(reason);
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}item {item}: {field}{colon}{reason}");
        let _ = match others {
            [] => Ok(()),
            [second] => write!(text, "{SAME} {})", second.item),
            [second, .., last] => write!(text, "{SAME}s {} to {})", second.item, last.item),
        };
    }
    let more = rejections.count - rejections.reasons.len();
    if more > 0 {
        // Writing to a string cannot fail.
        let _ = write!(text, "; and {more} more");
    }
    serde_json::json!({"status": "error", "error": text}).to_string()
}

/// Whether the next item is adjacent, and has the same problem.
fn is_same_problem(one: &Rejection, next: &Rejection) -> bool {
    one.item.checked_add(1) == Some(next.item) && one.field == next.field && one.reason == next.reason
}

fn truncated(text: &str) -> &str {
    &text[..text.floor_char_boundary(REASON_BYTES)]
}

/// Answer of a server to one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ack {
    /// All items are stored.
    Stored,
    /// The text of the error.
    Refused(String),
}

impl Ack {
    /// Parses an answer. `None` if it is not an ack.
    ///
    /// ```
    /// use matyan_wire::client_json::ack::{Ack, OK};
    ///
    /// assert_eq!(Ack::parse(OK), Some(Ack::Stored));
    /// assert_eq!(Ack::parse(r#"{"detail":"Not Found"}"#), None);
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let Ok(Value::Map(mut ack)) = json::parse(text) else { return None };
        match (ack.remove("status"), ack.remove("error")) {
            (Some(Value::Text(status)), _) if status == "ok" => Some(Self::Stored),
            (Some(Value::Text(_)), Some(Value::Text(error))) => Some(Self::Refused(error)),
            (Some(Value::Text(_)), _) => Some(Self::Refused(String::new())),
            _ => None,
        }
    }
}

/// Adjacent items with the same problem, or a number of further items, that an error ack names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedItem<'a> {
    /// Index in the frame of the first; `None` for items that are only counted.
    pub index: Option<usize>,
    /// Number of adjacent items, or of items that are only counted.
    pub count: u32,
    /// Empty if the item as a whole is invalid.
    pub field: &'a str,
    pub reason: &'a str,
}

/// Reads the error of our servers, `item 3: value: expected a number (the same in items 4 to 6); item 7: …; and 5
/// more`.
/// `None` if it is another text.
pub fn refused_items(error: &str) -> Option<Vec<RefusedItem<'_>>> {
    let mut rest = error.strip_prefix("item ")?;
    let mut items = Vec::new();
    loop {
        let (item, next) = match rest.split_once("; item ") {
            Some((item, next)) => (item, Some(next)),
            None => (rest, None),
        };
        let (item, more) = match (next, item.rsplit_once("; and ")) {
            (None, Some((item, more))) if more.ends_with(" more") => (item, more.strip_suffix(" more")),
            _ => (item, None),
        };
        let (index, text) = item.split_once(": ")?;
        let index: usize = index.parse().ok()?;
        let (text, last) = split_range(text).unwrap_or((text, index));
        let count = u32::try_from(last.checked_sub(index)?).ok()?.checked_add(1)?;
        // The rule about the whole item has no field.
        let named = text
            .split_once(": ")
            .filter(|(field, _)| field.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()));
        let (field, reason) = named.unwrap_or(("", text));
        items.push(RefusedItem { index: Some(index), count, field, reason });
        if let Some(count) = more.and_then(|count| count.parse().ok()) {
            items.push(RefusedItem { index: None, count, field: "", reason: "not listed by the server" });
        }
        match next {
            Some(next) => rest = next,
            None => return Some(items),
        }
    }
}

/// The problem of several items, and the last of the items.
fn split_range(text: &str) -> Option<(&str, usize)> {
    let (reason, range) = text.strip_suffix(')')?.rsplit_once(SAME)?;
    let last = match range.strip_prefix("s ") {
        Some(range) => range.split_once(" to ")?.1,
        None => range.strip_prefix(' ')?,
    };
    Some((reason, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::MAX_REASONS;
    use super::*;

    #[test]
    fn an_error_names_items_and_fields() {
        let mut rejections = Rejections::default();
        let mut push = |item, field: &'static str, reason: &'static str| {
            rejections.push(Rejection { item, field: field.into(), reason: reason.into() });
        };
        push(1, "value", "expected a \"number\"");
        push(4, "", "no object");
        assert_eq!(
            error(None, &rejections).as_str(),
            r#"{"status":"error","error":"item 1: value: expected a \"number\"; item 4: no object"}"#
        );
    }

    /// A frame of one loop usually has one mistake.
    #[test]
    fn the_same_problem_of_adjacent_items_is_named_once() {
        let mut rejections = Rejections::default();
        for (items, reason) in [(0..50, "expected a number"), (50..51, "too long"), (52..54, "too long")] {
            for item in items {
                rejections.push(Rejection { item, field: "value".into(), reason: reason.into() });
            }
        }
        let Some(Ack::Refused(text)) = Ack::parse(&error(None, &rejections)) else { panic!("not an ack") };
        assert_eq!(
            text,
            "item 0: value: expected a number (the same in items 1 to 49); item 50: value: too long; \
             item 52: value: too long (the same in item 53)"
        );
        let found: Vec<_> =
            refused_items(&text).unwrap().iter().map(|it| (it.index, it.count, it.reason)).collect();
        let expected =
            [(Some(0), 50, "expected a number"), (Some(50), 1, "too long"), (Some(52), 2, "too long")];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_error_ack_stays_small() {
        let mut rejections = Rejections::default();
        let reason = "\u{1}é".repeat(10_000);
        for item in 0..1_000_000 {
            let reason = if item < MAX_REASONS as u32 { reason.clone() } else { String::new() };
            rejections.push(Rejection { item, field: "value".into(), reason: reason.into() });
        }
        let ack = error(None, &rejections);
        assert!(ack.len() < 1 << 19, "{}", ack.len());
        assert!(ack.contains("; and 999900 more"));
    }

    #[test]
    fn the_errors_of_our_servers_name_their_items() {
        let check = |error: &str, expected: &[(Option<usize>, u32, &str, &str)]| {
            let found = refused_items(error).unwrap();
            let found: Vec<_> = found.iter().map(|it| (it.index, it.count, it.field, it.reason)).collect();
            assert_eq!(found, expected, "{error}");
        };
        check("item 3: value: expected a number", &[(Some(3), 1, "value", "expected a number")]);
        check(
            "item 1: not an object; item 7: step: required, but missing; and 5 more",
            &[
                (Some(1), 1, "", "not an object"),
                (Some(7), 1, "step", "required, but missing"),
                (None, 5, "", "not listed by the server"),
            ],
        );
        for other in ["", "not stored within 40 s: away", "1 validation error for LogMetric", "item x: y"] {
            assert_eq!(refused_items(other), None, "{other}");
        }
    }

    #[test]
    fn an_error_is_read_back() {
        let mut rejections = Rejections::default();
        rejections.push(Rejection { item: 3, field: "value".into(), reason: "expected a number".into() });
        let ack = Ack::parse(&error(None, &rejections)).unwrap();
        let Ack::Refused(text) = ack else { panic!("{ack:?}") };
        let expected = RefusedItem { index: Some(3), count: 1, field: "value", reason: "expected a number" };
        assert_eq!(refused_items(&text), Some(vec![expected]));
    }
}
