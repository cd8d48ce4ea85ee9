//! Forms of streamed data that fit into the limits of the server. An error would end the upload of the whole run, so
//! data that is too large is shortened, and says so.

use std::borrow::Cow;
use std::cmp::Reverse;

use matyan_value::{MAX_DEPTH, Map, Value, cbor};

/// The only member of a map whose names alone do not fit.
const LEFT_OUT: &str = "left_out";

/// Maximum size of the head of a text in CBOR.
const HEAD_BYTES: usize = 9;

/// The first bytes of a text, without a part of a character.
fn beginning(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or_default()]
}

/// A text of at most this size, which is more than a few words. A text that was cut states its original size.
pub(crate) fn fitting_text(text: &str, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit {
        return Cow::Borrowed(text);
    }
    let ending = format!(" … (cut: it had {} bytes; log long texts as files)", text.len());
    Cow::Owned(format!("{}{ending}", beginning(text, limit.saturating_sub(ending.len()))))
}

/// Nesting of maps and lists.
fn depth(value: &Value) -> usize {
    match value {
        Value::Map(map) => 1 + map.values().map(depth).max().unwrap_or_default(),
        Value::List(members) => 1 + members.iter().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

/// The reason why a value below this number of maps cannot be stored, whatever its size.
pub(crate) fn problem(value: &Value, encoded: &[u8], levels: usize) -> Option<String> {
    if depth(value) + levels > MAX_DEPTH {
        return Some(format!("is nested deeper than {} levels", MAX_DEPTH - levels));
    }
    cbor::check(encoded).err().map(|error| format!("cannot be stored: {error}"))
}

/// A member of a map, with its maximum size in the map.
struct MapMember {
    name: String,
    value: Value,
    bytes: usize,
}

impl MapMember {
    fn new(name: String, value: Value, encoded_bytes: usize) -> Self {
        let bytes = HEAD_BYTES + name.len() + encoded_bytes;
        Self { name, value, bytes }
    }

    /// Replaces the value by a text with the reason, unless the text would be longer.
    fn leave_out(&mut self, reason: &str) {
        let note = Value::Text(format!("left out: it {reason}; log large values as artifacts"));
        let bytes = HEAD_BYTES + self.name.len() + cbor::encode(&note).len();
        if bytes < self.bytes {
            self.value = note;
            self.bytes = bytes;
        }
    }
}

/// A map of at most this size below this number of maps. Its largest members are replaced by texts until the map fits.
pub(crate) fn fitting_map(map: Map, levels: usize, limit: usize) -> Map {
    let count = map.len();
    let mut members: Vec<MapMember> = map
        .into_iter()
        .map(|(name, value)| {
            let encoded = cbor::encode(&value);
            match problem(&value, &encoded, levels + 1) {
                None => MapMember::new(name, value, encoded.len()),
                Some(reason) => {
                    let mut member = MapMember::new(name, Value::Null, usize::MAX / 2);
                    member.leave_out(&reason);
                    member
                }
            }
        })
        .collect();
    let mut total = HEAD_BYTES + members.iter().map(|member| member.bytes).sum::<usize>();
    members.sort_by_key(|member| Reverse(member.bytes));
    for member in &mut members {
        if total <= limit {
            break;
        }
        let before = member.bytes;
        member.leave_out(&format!("has {before} bytes, and the params of a run have no room for it"));
        total -= before - member.bytes;
    }
    if total > limit {
        let note = format!("{count} members, for whose names the params of a run have no room");
        return Map::from([(LEFT_OUT.to_owned(), Value::Text(note))]);
    }
    members.into_iter().map(|member| (member.name, member.value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: usize) -> Value {
        Value::Text("x".repeat(bytes))
    }

    #[test]
    fn a_cut_text_states_its_size() {
        assert_eq!(fitting_text("short", 100), "short");
        let cut = fitting_text(&"ä".repeat(200), 101).into_owned();
        assert!(cut.len() <= 101 && cut.contains("400 bytes"), "{cut}");
    }

    #[test]
    fn the_largest_members_make_room_for_the_others() {
        let map = Map::from([
            ("acc".to_owned(), Value::Float(0.5)),
            ("large".to_owned(), text(10_000)),
            ("small".to_owned(), text(10)),
        ]);
        let fitted = fitting_map(map.clone(), 1, 1_000);
        assert_eq!((&fitted["acc"], &fitted["small"]), (&map["acc"], &map["small"]));
        assert!(matches!(&fitted["large"], Value::Text(note) if note.starts_with("left out: it has 100")));
        assert!(cbor::encode_map(&fitted).len() <= 1_000);
        assert_eq!(fitting_map(map.clone(), 1, 20_000), map);
        let many: Map = (0..1_000).map(|number| (format!("name{number}"), Value::Null)).collect();
        let fitted = fitting_map(many, 1, 1_000);
        assert!(matches!(&fitted[LEFT_OUT], Value::Text(note) if note.starts_with("1000 members")));
    }

    #[test]
    fn a_value_that_is_too_deep_is_left_out() {
        let nested = |levels: usize| (0..levels).fold(Value::Null, |value, _| Value::List(vec![value]));
        let deepest = nested(MAX_DEPTH - 2);
        let map = Map::from([("deep".to_owned(), nested(MAX_DEPTH - 1)), ("deepest".to_owned(), deepest)]);
        let fitted = fitting_map(map.clone(), 1, 1 << 20);
        assert_eq!(fitted["deepest"], map["deepest"]);
        assert!(matches!(&fitted["deep"], Value::Text(note) if note.contains("nested deeper")));
        let stored = Map::from([("summary".to_owned(), Value::Map(fitted))]);
        assert_eq!(cbor::check(&cbor::encode_map(&stored)), Ok(()));
    }
}
