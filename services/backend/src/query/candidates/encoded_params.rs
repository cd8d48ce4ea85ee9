//! The params of a run, looked up by path in the encoded map, so that only requested values are
//! decoded. All paths that the text of a query contains are found in one pass, because a pass over
//! 6 MiB takes 8 ms.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use matyan_ql::{Datum, KeyPath, ParamRead, Query, StoredParam};
use matyan_value::cbor::{self, CborError, CborItem, CborLeaf, CborReader};

pub(crate) struct EncodedParams {
    query: Arc<Query>,
    bytes: Bytes,
    /// The values at the paths that the query contains, in the order of the paths.
    found: OnceLock<Box<[Option<Bytes>]>>,
}

impl EncodedParams {
    pub(super) fn new(query: Arc<Query>, bytes: Bytes) -> Self {
        Self { query, bytes, found: OnceLock::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Makes the map empty. Frees its memory, unless the map is a part of a document.
    pub(super) fn clear(&mut self) {
        self.bytes = Bytes::new();
        self.found = OnceLock::new();
    }

    /// The value at a path, unless it is a list or an object of more than `most_values` values.
    pub(super) fn read(&self, path: &KeyPath, most_values: usize) -> Result<ParamRead<'_>, CborError> {
        match self.query.param_paths().binary_search(path) {
            Ok(index) => {
                let (found, passed) = self.find_paths()?;
                read_value(found[index].as_deref(), passed, most_values)
            }
            Err(_) => read_value(cbor::find(&self.bytes, path.keys())?, self.bytes.len(), most_values),
        }
    }

    /// The values at all paths of the query, and the bytes that were passed over to find them now.
    fn find_paths(&self) -> Result<(&[Option<Bytes>], usize), CborError> {
        if let Some(found) = self.found.get() {
            return Ok((found, 0));
        }
        let each = cbor::find_each(&self.bytes, self.query.param_paths())?;
        let values = each.values.into_iter().map(|value| value.map(|value| self.bytes.slice_ref(value)));
        Ok((self.found.get_or_init(|| values.collect()), each.passed))
    }
}

fn read_value(found: Option<&[u8]>, passed: usize, most_values: usize) -> Result<ParamRead<'_>, CborError> {
    let Some(bytes) = found else { return Ok(ParamRead { param: StoredParam::Absent, bytes: passed }) };
    let param = match cbor::leaf(bytes)? {
        Some(CborLeaf::Null) => StoredParam::Value(Datum::None),
        Some(CborLeaf::Bool(value)) => StoredParam::Value(Datum::Bool(value)),
        Some(CborLeaf::Integer(value)) => StoredParam::Value(Datum::Int(value)),
        Some(CborLeaf::Float(value)) => StoredParam::Value(Datum::Float(value)),
        Some(CborLeaf::Text(text)) => StoredParam::Value(Datum::Text(Cow::Borrowed(text))),
        None if cbor::count_values(bytes)? > most_values as u64 => StoredParam::TooLarge,
        None => StoredParam::Value(decode(&mut CborReader::new(bytes))?),
    };
    Ok(ParamRead { param, bytes: passed + bytes.len() })
}

/// Decodes the next value of a reader. Texts are borrowed from the bytes.
fn decode<'b>(reader: &mut CborReader<'b>) -> Result<Datum<'b>, CborError> {
    Ok(match reader.item()? {
        CborItem::Null => Datum::None,
        CborItem::Bool(value) => Datum::Bool(value),
        CborItem::Integer(value) => Datum::Int(value),
        CborItem::Float(value) => Datum::Float(value),
        CborItem::Big { negative, magnitude } => big_datum(negative, &magnitude),
        CborItem::Text(text) => Datum::Text(text),
        CborItem::Bytes(bytes) => Datum::Bytes(bytes),
        CborItem::List(mut members) => {
            let mut items = Vec::new();
            while reader.more(&mut members)? {
                items.push(decode(reader)?);
            }
            Datum::List(items)
        }
        CborItem::Map(mut members) => {
            let mut entries = Vec::new();
            while reader.more(&mut members)? {
                let key = reader.key()?;
                entries.push((key, decode(reader)?));
            }
            Datum::Object(entries)
        }
    })
}

/// The integer `magnitude`, or `-1 - magnitude` if it is negative.
pub(super) fn big_datum(negative: bool, magnitude: &[u8]) -> Datum<'static> {
    let mut magnitude = magnitude.to_vec();
    if negative {
        add_one(&mut magnitude);
    }
    Datum::BigInt { negative, magnitude: magnitude.into() }
}

/// Adds one to a big-endian magnitude.
fn add_one(magnitude: &mut Vec<u8>) {
    for byte in magnitude.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return;
        }
    }
    magnitude.insert(0, 1);
}

#[cfg(test)]
mod tests {
    use matyan_ql::{Endpoint, QueryOptions, compile};
    use matyan_value::{Value, json};

    use super::{super::candidate::datum, *};

    fn params(query: &str, params: &Value) -> EncodedParams {
        let options = QueryOptions { endpoint: Endpoint::Run, offset_minutes: 0, now: 0.0 };
        EncodedParams::new(Arc::new(compile(query, options).unwrap()), cbor::encode(params).into())
    }

    fn read<'p>(params: &'p EncodedParams, path: &[&str], most_values: usize) -> ParamRead<'p> {
        params.read(&KeyPath::new(path.iter().copied()), most_values).unwrap()
    }

    #[test]
    fn encoded_and_decoded_values_are_equal() {
        for text in ["null", "true", "-7", "1.5", r#""x""#, r#"[1,{"a":[]}]"#, r#"{"a":{"b":"c"}}"#] {
            let value = json::parse(text).unwrap();
            let bytes = cbor::encode(&value);
            let read = read_value(Some(&bytes), 0, usize::MAX).unwrap();
            assert_eq!(read.param, StoredParam::Value(datum(&value)), "{text}");
        }
        for (text, negative, magnitude) in [
            ("18446744073709551616", false, &[1, 0, 0, 0, 0, 0, 0, 0, 0][..]),
            ("-18446744073709551616", true, &[1, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("-9223372036854775809", true, &[0x80, 0, 0, 0, 0, 0, 0, 1]),
        ] {
            let bytes = cbor::encode(&Value::integer_from_decimal(text).unwrap());
            let expected = Datum::BigInt { negative, magnitude: Cow::Borrowed(magnitude) };
            let read = read_value(Some(&bytes), 0, usize::MAX).unwrap();
            assert_eq!(read.param, StoredParam::Value(expected), "{text}");
        }
    }

    #[test]
    fn a_second_lookup_of_the_same_path_is_free() {
        let map = json::parse(r#"{"a":{"x":1,"y":[1,2]},"b":2,"long":"0123456789"}"#).unwrap();
        let params = params("run.a.x == 1 and run.z == None and run['b'] == 2", &map);
        let first = read(&params, &["z"], 0);
        // The map at `a` is entered up to the value of `x`.
        assert_eq!(first, ParamRead { param: StoredParam::Absent, bytes: params.len() + 4 });
        for (path, param, bytes) in [
            (&["z"][..], StoredParam::Absent, 0),
            (&["a", "x"], StoredParam::Value(Datum::Int(1)), 1),
            (&["b"], StoredParam::Value(Datum::Int(2)), 1),
            // A path that the query computes.
            (&["c"], StoredParam::Absent, params.len()),
            (&["a", "y"], StoredParam::TooLarge, params.len() + 3),
        ] {
            assert_eq!(read(&params, path, 2), ParamRead { param, bytes }, "{path:?}");
        }
    }

    #[test]
    fn rule_51_containers_are_counted_before_they_are_built() {
        let map = json::parse(r#"{"a":[1,[2,3]],"o":{"k":{"l":1}},"t":"text"}"#).unwrap();
        let params = params("run.a or run.o or run.t", &map);
        for (path, values) in [("a", 5), ("o", 5)] {
            assert_eq!(read(&params, &[path], values - 1).param, StoredParam::TooLarge);
            assert!(matches!(read(&params, &[path], values).param, StoredParam::Value(_)));
        }
        assert_eq!(read(&params, &["t"], 0).param, StoredParam::Value(Datum::Text("text".into())));
    }
}
