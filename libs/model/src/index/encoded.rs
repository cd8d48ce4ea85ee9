//! Reads what indexes have of params from their encoded form, without building a tree of them: cohorts take the params of
//! thousands of runs a second.

use std::borrow::Cow;

use matyan_value::{
    MAX_DEPTH, Value,
    cbor::{CborItem, CborLeaf, CborMembers, CborReader},
};

use super::{MAX_PARAMS, MAX_PATH_BYTES, MAX_ROWS_BYTES, MAX_TEXT_BYTES};
use crate::params::IndexedParam;

/// Follows each key of a path. No text contains this byte.
pub(crate) const KEY_END: u8 = 0xff;

/// The scalars that indexes have, with their paths.
#[derive(Debug, Default)]
pub(crate) struct EncodedParams<'b> {
    /// The keys of all paths.
    paths: Vec<u8>,
    /// Each with the end of its path.
    values: Vec<(usize, IndexedParam<'b>)>,
    /// Size of the keys and the texts.
    bytes: usize,
}

impl<'b> EncodedParams<'b> {
    /// Reads the same scalars as `indexed_params` visits. `None` if the bytes are not in the form in which params are written:
    /// then the tree decides, and whether they are damaged.
    pub(crate) fn read(bytes: &'b [u8]) -> Option<Self> {
        let mut reader = CborReader::new(bytes);
        let CborItem::Map(members) = reader.item().ok()? else { return None };
        let mut read = Self::default();
        read.add_map(&mut reader, members, (&mut Vec::new(), 1))?;
        (reader.position() == bytes.len()).then_some(read)
    }

    /// Visits the values in the order of their paths.
    pub(crate) fn visit(self, visit: &mut dyn FnMut(&[u8], IndexedParam<'b>)) {
        let mut start = 0;
        for (end, value) in self.values {
            visit(&self.paths[start..end], value);
            start = end;
        }
    }

    fn add_map(
        &mut self,
        reader: &mut CborReader<'b>,
        mut members: CborMembers,
        (path, keys): (&mut Vec<u8>, usize),
    ) -> Option<()> {
        let start = path.len();
        let mut previous: Option<Cow<'b, str>> = None;
        while reader.more(&mut members).ok()? {
            let key = reader.key().ok()?;
            // Params are written in the order of their keys.
            if previous.is_some_and(|previous| previous >= key) {
                return None;
            }
            path.extend_from_slice(key.as_bytes());
            path.push(KEY_END);
            previous = Some(key);
            if let Some(leaf) = reader.stored_leaf() {
                let value = match leaf {
                    CborLeaf::Text(text) => Some(of_text(std::str::from_utf8(text).ok()?.into())),
                    CborLeaf::Null => of_value(&Value::Null),
                    CborLeaf::Bool(value) => of_value(&Value::Bool(value)),
                    CborLeaf::Integer(value) => of_value(&Value::Integer(value)),
                    CborLeaf::Float(value) => of_value(&Value::Float(value)),
                };
                self.add((path, keys), value);
            } else {
                match reader.item().ok()? {
                    CborItem::Map(inner) => self.add_map(reader, inner, (path, keys + 1))?,
                    item @ CborItem::List(_) => reader.skip(item).ok()?,
                    item => self.add((path, keys), of_item(item)),
                }
            }
            path.truncate(start);
        }
        Some(())
    }

    /// Adds the value at a path of this many keys.
    fn add(&mut self, (path, keys): (&[u8], usize), value: Option<IndexedParam<'b>>) {
        let Some(value) = value else { return };
        let key_bytes = path.len() - keys;
        let has_room = self.values.len() < MAX_PARAMS && self.bytes < MAX_ROWS_BYTES;
        if has_room && keys <= MAX_DEPTH && key_bytes <= MAX_PATH_BYTES {
            self.bytes += key_bytes + value.text_bytes();
            self.paths.extend_from_slice(path);
            self.values.push((self.paths.len(), value));
        }
    }
}

/// Returns `None` for values that are in no index.
fn of_item(item: CborItem<'_>) -> Option<IndexedParam<'_>> {
    match item {
        CborItem::Text(text) => Some(of_text(text)),
        CborItem::Null => of_value(&Value::Null),
        CborItem::Bool(value) => of_value(&Value::Bool(value)),
        CborItem::Integer(value) => of_value(&Value::Integer(value)),
        CborItem::Float(value) => of_value(&Value::Float(value)),
        CborItem::Big { negative, magnitude } => of_value(&Value::integer(negative, &magnitude)),
        CborItem::Bytes(_) | CborItem::List(_) | CborItem::Map(_) => None,
    }
}

fn of_text(text: Cow<'_, str>) -> IndexedParam<'_> {
    if text.len() > MAX_TEXT_BYTES { IndexedParam::LongText } else { IndexedParam::Text(text) }
}

/// A value that is no text.
fn of_value(value: &Value) -> Option<IndexedParam<'static>> {
    IndexedParam::of(value, MAX_TEXT_BYTES).map(IndexedParam::into_owned)
}

#[cfg(test)]
mod tests {
    use matyan_value::{Map, cbor, json};

    use super::*;
    use crate::index::indexed_params;

    fn map(text: &str) -> Map {
        match json::parse(text).unwrap() {
            Value::Map(map) => map,
            other => panic!("{other:?}"),
        }
    }

    /// Checks that both ways of reading find the same params, and returns their number.
    fn check(tree: &Map) -> usize {
        let mut expected = Vec::new();
        indexed_params(tree, &mut |path, value| {
            let path: Vec<u8> = path.iter().flat_map(|key| [key.as_bytes(), &[KEY_END]].concat()).collect();
            expected.push((path, value.into_owned()));
        });
        let bytes = cbor::encode_map(tree);
        let mut found = Vec::new();
        let read = EncodedParams::read(&bytes).unwrap();
        read.visit(&mut |path, value| found.push((path.to_vec(), value.into_owned())));
        assert_eq!(found, expected);
        found.len()
    }

    #[test]
    fn encoded_params_have_the_scalars_of_their_tree() {
        for (text, scalars) in [
            ("{}", 0),
            (r#"{"a":1,"b":-7,"c":[1,{"d":2}],"e":{"f":null,"g":{}},"h":true}"#, 4),
            (r#"{"big":99999999999999999999,"exact":9007199254740992,"rounded":9007199254740993}"#, 3),
            (r#"{"small":-99999999999999999999,"x":-0.0,"y":1e300,"z":-9223372036854775808}"#, 4),
            (r#"{"aa":"ä","b":{"":"","c":"text"},"ba":"\u0000"}"#, 4),
        ] {
            assert_eq!(check(&map(text)), scalars, "{text}");
        }
        let text = |bytes: usize| Value::Text("x".repeat(bytes));
        let texts =
            [23, 24, MAX_TEXT_BYTES, MAX_TEXT_BYTES + 1].map(|bytes| (format!("{bytes:05}"), text(bytes)));
        assert_eq!(check(&Map::from(texts)), 4);
        assert_eq!(check(&Map::from([("nan".to_owned(), Value::Float(f64::NAN))])), 0);
        assert_eq!(check(&Map::from([("bytes".to_owned(), Value::Bytes(vec![1]))])), 0);
    }

    #[test]
    fn encoded_params_end_at_the_limits_of_indexes() {
        let many = (0..MAX_PARAMS + 5).map(|at| (format!("{at:05}"), Value::Integer(0))).collect();
        assert_eq!(check(&many), MAX_PARAMS);
        let paths = [MAX_PATH_BYTES, MAX_PATH_BYTES + 1].map(|bytes| ("k".repeat(bytes), Value::Null));
        assert_eq!(check(&Map::from(paths)), 1);
        let large = (0..1_000).map(|at| (format!("{at:05}{}", "k".repeat(1_000)), Value::Null)).collect();
        assert!((1..1_000).contains(&check(&large)));
    }

    #[test]
    fn params_in_another_form_are_left_to_the_tree() {
        let bytes = cbor::encode_map(&map(r#"{"a":1,"b":2}"#));
        assert!(EncodedParams::read(&bytes).is_some());
        for end in 0..bytes.len() {
            assert!(EncodedParams::read(&bytes[..end]).is_none(), "{end}");
        }
        let swapped = [0xa2, 0x61, b'b', 2, 0x61, b'a', 1];
        let trailing = [bytes.as_slice(), &[0]].concat();
        for other in [&swapped[..], &trailing, &[0x80], &[0xff], &[0xa1, 0x61, 0xff, 0]] {
            assert!(EncodedParams::read(other).is_none(), "{other:?}");
        }
    }
}
