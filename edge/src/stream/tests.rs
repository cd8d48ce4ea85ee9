//! Tests of the codec against recordings of 0.3, and against itself.
//! Trees exist only here, in the notation of the test vectors.

use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::Value as Json;

use super::{DecodeError, Encoder, Entry, Key, Value, decode};

/// Files whose names start with `stem`, from the repository and from the directory named in the
/// environment.
fn vector_files(stem: &str) -> Vec<PathBuf> {
    let own = PathBuf::from("../tests/vectors");
    #[expect(
        clippy::disallowed_methods,
        reason = "the directory of additional vectors is a setting of the tests"
    )]
    let more = std::env::var("MATYAN_VECTORS_DIR").ok().map(PathBuf::from);
    let mut files: Vec<PathBuf> = [Some(own), more]
        .into_iter()
        .flatten()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(stem))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no file begins with {stem}");
    files
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// A node in the notation of the vectors; `Err` if the codec's types cannot represent it.
enum Node<'a> {
    Leaf(Value),
    Map(Vec<(Key, &'a Json)>),
    List(&'a [Json]),
}

fn node(json: &Json) -> Result<Node<'_>, &'static str> {
    const RANGE: &str = "integer out of signed 64-bit range";
    Ok(match json {
        Json::Null => Node::Leaf(Value::Null),
        Json::Bool(value) => Node::Leaf(Value::Bool(*value)),
        Json::Number(value) => Node::Leaf(Value::Int(value.as_i64().ok_or(RANGE)?)),
        Json::String(value) => Node::Leaf(Value::Text(value.clone())),
        Json::Array(list) => Node::List(list),
        Json::Object(map) => match map.iter().next().map(|(key, value)| (key.as_str(), value)) {
            Some(("$f64", _)) => {
                let bits = u64::from_str_radix(map["bits"].as_str().unwrap(), 16).unwrap();
                Node::Leaf(Value::Float(f64::from_bits(bits)))
            }
            Some(("$i64", text)) => {
                Node::Leaf(Value::Int(text.as_str().unwrap().parse().map_err(|_| RANGE)?))
            }
            Some(("$bytes", hex)) => Node::Leaf(Value::Bytes(unhex(hex.as_str().unwrap()))),
            Some(("$flag", flag)) if flag == "array" => Node::Leaf(Value::Array),
            Some(("$flag", _)) => Node::Leaf(Value::Object),
            Some(("$map", pairs)) => {
                Node::Map(pairs.as_array().unwrap().iter().map(pair).collect::<Result<_, _>>()?)
            }
            _ => Node::Map(map.iter().map(|(key, value)| (Key::Text(key.clone()), value)).collect()),
        },
    })
}

fn pair(pair: &Json) -> Result<(Key, &Json), &'static str> {
    Ok((key(&pair[0])?, &pair[1]))
}

fn key(json: &Json) -> Result<Key, &'static str> {
    match json {
        Json::String(text) => Ok(Key::Text(text.clone())),
        Json::Number(index) => Ok(Key::Index(index.as_i64().ok_or("key is neither text nor integer")?)),
        _ => Err("key is neither text nor integer"),
    }
}

fn write_value(encoder: &mut Encoder, value: &Value) {
    match value {
        Value::Null => encoder.null(),
        Value::Bool(value) => encoder.bool(*value),
        Value::Int(value) => encoder.int(*value),
        Value::Float(value) => encoder.float(*value),
        Value::Text(value) => encoder.text(value),
        Value::Bytes(value) => encoder.bytes(value),
        Value::Array => encoder.array(),
        Value::Object => encoder.empty_object(),
    }
}

fn write_tree(encoder: &mut Encoder, tree: &Json) -> Result<(), &'static str> {
    let members = match node(tree)? {
        Node::Leaf(value) => {
            write_value(encoder, &value);
            return Ok(());
        }
        Node::Map(members) if members.is_empty() => {
            encoder.empty_object();
            return Ok(());
        }
        Node::Map(members) => members,
        Node::List(list) => {
            encoder.array();
            list.iter().enumerate().map(|(index, value)| (Key::Index(index as i64), value)).collect()
        }
    };
    let mut outcome = Ok(());
    for (key, value) in members {
        let mut write = |encoder: &mut Encoder| outcome = outcome.and(write_tree(encoder, value));
        match key {
            Key::Text(key) => encoder.member(&key, &mut write),
            Key::Index(index) => encoder.element(index, &mut write),
        }
    }
    outcome
}

fn encode(trees: &[Json]) -> Result<Vec<u8>, &'static str> {
    let mut encoder = Encoder::new();
    trees.iter().try_for_each(|tree| write_tree(&mut encoder, tree))?;
    Ok(encoder.take().to_vec())
}

/// Compares bit by bit: NaN equals itself, and −0.0 does not equal 0.0.
fn is_identical(left: &Entry, right: &Entry) -> bool {
    let bits = |value: &Value| if let Value::Float(float) = value { Some(float.to_bits()) } else { None };
    left.path == right.path
        && match (bits(&left.value), bits(&right.value)) {
            (None, None) => left.value == right.value,
            (left, right) => left == right,
        }
}

fn entry(json: &Json) -> Entry {
    let path = json[0].as_array().unwrap().iter().map(|it| key(it).unwrap()).collect();
    let Node::Leaf(value) = node(&json[1]).unwrap() else { panic!("an entry must contain a leaf: {json}") };
    Entry { path, value }
}

fn check_case(name: &str, trees: &[Json], case: &Json) {
    let expected = unhex(case["encoded_hex"].as_str().unwrap());
    let encoded = encode(trees).unwrap();
    if name.contains("empty_string_key") {
        assert!(encoded.is_empty(), "{name}: a member with an empty key must be omitted");
        assert_eq!(decode(&expected), Err(DecodeError::Path), "{name}");
        return;
    }
    assert_eq!(encoded, expected, "{name}");
    let decoded = decode(&expected).unwrap();
    if let Some(entries) = case["entries"].as_array() {
        let entries: Vec<Entry> = entries.iter().map(entry).collect();
        assert_eq!(decoded.len(), entries.len(), "{name}");
        for (decoded, expected) in decoded.iter().zip(&entries) {
            assert!(is_identical(decoded, expected), "{name}: {decoded:?} is not {expected:?}");
        }
    }
}

#[test]
fn vectors_streaming_codec() {
    let mut checked = 0;
    for file in vector_files("streaming_codec") {
        let vectors: Json = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let list = |name: &str| vectors[name].as_array().cloned().unwrap_or_default();
        for case in list("cases") {
            check_case(case["name"].as_str().unwrap(), std::slice::from_ref(&case["tree"]), &case);
            checked += 1;
        }
        for case in list("stream_cases") {
            check_case(case["name"].as_str().unwrap(), case["trees"].as_array().unwrap(), &case);
            checked += 1;
        }
        for case in list("error_cases") {
            assert_eq!(
                encode(std::slice::from_ref(&case["tree"])),
                Err(case["error"].as_str().unwrap()),
                "{case}"
            );
            checked += 1;
        }
        for case in list("path_cases") {
            check_path(&case);
            checked += 1;
        }
        for case in list("value_cases") {
            check_value(&case);
            checked += 1;
        }
    }
    println!("{checked} cases");
    assert!(checked > 0);
}

/// A path is not a complete body, so it is checked as the path of a null.
fn check_path(case: &Json) {
    let path = unhex(case["encoded_hex"].as_str().unwrap());
    let mut body = (path.len() as u32).to_le_bytes().to_vec();
    body.extend_from_slice(&path);
    body.extend_from_slice(&[1, 0, 0, 0, 0]);
    let keys: Vec<Key> = case["path"].as_array().unwrap().iter().map(|it| key(it).unwrap()).collect();
    assert_eq!(decode(&body).unwrap(), [Entry { path: keys.clone(), value: Value::Null }], "{case}");
    assert_eq!(encode_entry(&keys, &Value::Null), body, "{case}");
}

/// A value is not a complete body, so it is checked as the entry of the root.
fn check_value(case: &Json) {
    let value = unhex(case["encoded_hex"].as_str().unwrap());
    let mut body = vec![0; 4];
    body.extend_from_slice(&(value.len() as u32).to_le_bytes());
    body.extend_from_slice(&value);
    let expected = entry(&serde_json::json!([[], case["value"]]));
    assert!(is_identical(&decode(&body).unwrap()[0], &expected), "{case}");
    assert_eq!(encode_entry(&[], &expected.value), body, "{case}");
}

fn encode_entry(path: &[Key], value: &Value) -> Vec<u8> {
    fn write(encoder: &mut Encoder, path: &[Key], value: &Value) {
        match path.split_first() {
            None => write_value(encoder, value),
            Some((Key::Text(key), rest)) => encoder.member(key, |it| write(it, rest, value)),
            Some((Key::Index(key), rest)) => encoder.element(*key, |it| write(it, rest, value)),
        }
    }
    let mut encoder = Encoder::new();
    write(&mut encoder, path, value);
    encoder.take().to_vec()
}

#[test]
fn vectors_streaming_endpoints_decode_completely() {
    let mut decoded = 0;
    for file in vector_files("streaming_endpoints") {
        let vectors: Json = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        for case in vectors["cases"].as_array().unwrap() {
            if let Some(body) = case["response_hex"].as_str() {
                let body = unhex(body);
                let rewritten: Vec<u8> =
                    decode(&body).unwrap().iter().flat_map(|it| encode_entry(&it.path, &it.value)).collect();
                assert_eq!(rewritten, body, "{}", case["name"]);
                decoded += 1;
            }
        }
    }
    assert!(decoded > 0);
}

#[test]
fn a_number_array_has_four_members() {
    let mut encoder = Encoder::new();
    encoder.doubles([1.0, 0.5, 0.25].into_iter());
    let tree = serde_json::json!({"type": "numpy", "shape": 3, "dtype": "float64",
        "blob": {"$bytes": "000000000000f03f000000000000e03f000000000000d03f"}});
    assert_eq!(encoder.take(), encode(&[tree]).unwrap());
}

fn any_key() -> impl Strategy<Value = Key> {
    prop_oneof![".{1,12}".prop_map(Key::Text), any::<i64>().prop_map(Key::Index)]
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
        ".{0,40}".prop_map(Value::Text),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::Bytes),
        Just(Value::Array),
        Just(Value::Object),
    ]
}

proptest! {
    #[test]
    fn every_entry_round_trips(path in proptest::collection::vec(any_key(), 0..6), value in any_value()) {
        let body = encode_entry(&path, &value);
        let decoded = decode(&body).unwrap();
        prop_assert_eq!(decoded.len(), 1);
        let expected = Entry { path, value };
        prop_assert!(is_identical(&decoded[0], &expected), "{decoded:?}");
    }

    #[test]
    fn a_truncated_body_is_rejected(path in proptest::collection::vec(any_key(), 0..4), value in any_value()) {
        let body = encode_entry(&path, &value);
        for end in 1..body.len() {
            prop_assert_eq!(decode(&body[..end]), Err(DecodeError::Truncated));
        }
    }

    #[test]
    fn garbage_never_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        // The entries are arbitrary; the test is that decoding returns at all.
        let entries = decode(&body).unwrap_or_default();
        prop_assert!(entries.len() <= body.len());
    }
}
