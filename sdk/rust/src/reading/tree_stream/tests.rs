//! The decoder against recordings of Matyan 0.3, in pieces of every size.

use std::path::Path;

use serde_json::Value as Json;

use super::*;

fn vectors(name: &str) -> Json {
    let path = Path::new("../../tests/vectors").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn unhex(json: &Json) -> Vec<u8> {
    hex::decode(json.as_str().unwrap()).unwrap()
}

fn decode_in_pieces(body: &[u8], piece: usize) -> Result<Vec<TreeEntry>, TreeError> {
    let mut decoder = TreeDecoder::default();
    let mut entries = Vec::new();
    for piece in body.chunks(piece) {
        decoder.push(piece);
        while let Some(entry) = decoder.next_entry()? {
            entries.push(entry);
        }
    }
    decoder.finish()?;
    Ok(entries)
}

fn key(json: &Json) -> Key {
    match json {
        Json::String(text) => Key::Text(text.clone()),
        other => Key::Index(other.as_i64().unwrap()),
    }
}

fn keys(json: &Json) -> Vec<Key> {
    json.as_array().unwrap().iter().map(key).collect()
}

/// A leaf in the notation of the vectors.
fn leaf(json: &Json) -> Leaf {
    match json {
        Json::Null => Leaf::Null,
        Json::Bool(value) => Leaf::Bool(*value),
        Json::Number(value) => Leaf::Integer(value.as_i64().unwrap()),
        Json::String(text) => Leaf::Text(text.clone()),
        Json::Array(_) => panic!("a list is no leaf"),
        Json::Object(map) => {
            let (kind, value) = map.iter().next().unwrap();
            match kind.as_str() {
                "$f64" => {
                    let bits = u64::from_str_radix(map["bits"].as_str().unwrap(), 16).unwrap();
                    Leaf::Float(f64::from_bits(bits))
                }
                "$i64" => Leaf::Integer(value.as_str().unwrap().parse().unwrap()),
                "$bytes" => Leaf::Bytes(unhex(value)),
                "$flag" if value == "array" => Leaf::ListStart,
                "$flag" => Leaf::EmptyMap,
                other => panic!("{other}"),
            }
        }
    }
}

/// Entries agree to the bit: NaN equals itself.
fn assert_same(found: &[TreeEntry], expected: &[TreeEntry], name: &Json) {
    assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{name}");
}

#[test]
fn recorded_trees_decode_in_pieces_of_every_size() {
    let vectors = vectors("streaming_codec.json");
    let mut checked = 0;
    for group in ["cases", "stream_cases"] {
        for case in vectors[group].as_array().unwrap() {
            let body = unhex(&case["encoded_hex"]);
            if case["name"].as_str().unwrap().contains("empty_string_key") {
                assert_eq!(decode_in_pieces(&body, body.len()), Err(TreeError::Path));
                continue;
            }
            let whole = decode_in_pieces(&body, body.len().max(1)).unwrap();
            for piece in [1, 2, 3, 5, 7, 64] {
                assert_same(&decode_in_pieces(&body, piece).unwrap(), &whole, &case["name"]);
            }
            if let Some(entries) = case["entries"].as_array() {
                assert_same(
                    &whole,
                    &entries
                        .iter()
                        .map(|it| TreeEntry { path: keys(&it[0]), leaf: leaf(&it[1]) })
                        .collect::<Vec<_>>(),
                    &case["name"],
                );
            }
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
}

#[test]
fn recorded_paths_and_values_decode() {
    let vectors = vectors("streaming_codec.json");
    for case in vectors["path_cases"].as_array().unwrap() {
        assert_eq!(decode_path(&unhex(&case["encoded_hex"])).unwrap(), keys(&case["path"]), "{case}");
    }
    for case in vectors["value_cases"].as_array().unwrap() {
        let found = decode_value(&unhex(&case["encoded_hex"])).unwrap();
        assert_eq!(format!("{found:?}"), format!("{:?}", leaf(&case["value"])), "{case}");
    }
}

#[test]
fn recorded_answers_decode_completely() {
    let vectors = vectors("streaming_endpoints.json");
    let mut checked = 0;
    for case in vectors["cases"].as_array().unwrap() {
        if case["response_hex"].is_string() {
            decode_in_pieces(&unhex(&case["response_hex"]), 11).unwrap();
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
}

#[test]
fn a_truncated_body_is_an_error() {
    let body = hex::decode("02000000 61fe 09000000 020100000000000000".replace(' ', "")).unwrap();
    for end in 1..body.len() {
        assert_eq!(decode_in_pieces(&body[..end], 4), Err(TreeError::Truncated), "{end}");
    }
}

#[test]
fn invalid_entries_are_refused() {
    let check = |hex: &str, expected: TreeError| {
        let body = hex::decode(hex.replace(' ', "")).unwrap();
        assert_eq!(decode_in_pieces(&body, body.len()), Err(expected), "{hex}");
    };
    check("00000000 00000000", TreeError::Truncated);
    check("00000000 01000000 08", TreeError::Value { tag: 8, length: 0 });
    check("00000000 02000000 0102", TreeError::Value { tag: 1, length: 1 });
    check("00000000 02000000 0000", TreeError::Value { tag: 0, length: 1 });
    check("00000000 04000000 02010203", TreeError::Value { tag: 2, length: 3 });
    check("00000000 02000000 04ff", TreeError::Utf8);
    check("01000000 61 01000000 00", TreeError::Path);
    check("02000000 fefe 01000000 00", TreeError::Path);
    check("0a000000 fe000000000000000100 01000000 00", TreeError::Path);
    check("ffffffff", TreeError::TooLong(0xffff_ffff));
    check("00000000 ffffffff", TreeError::TooLong(0xffff_ffff));
}

#[test]
fn rule_74_a_path_that_is_too_deep_is_refused() {
    let path = |keys: usize| b"a\xfe".repeat(keys);
    assert_eq!(decode_path(&path(MOST_KEYS)).unwrap().len(), MOST_KEYS);
    assert_eq!(decode_path(&path(MOST_KEYS + 1)), Err(TreeError::TooDeep));
    let index = b"\xfe\0\0\0\0\0\0\0\0\xfe".repeat(100_000);
    assert_eq!(decode_path(&index), Err(TreeError::TooDeep));
}

#[test]
fn short_numbers_are_read() {
    assert_eq!(decode_value(&[2, 0xff, 0xff]), Ok(Leaf::Integer(-1)));
    assert_eq!(decode_value(&[2, 1, 0, 0, 0]), Ok(Leaf::Integer(1)));
    assert_eq!(decode_value(&[3, 0, 0, 0xc0, 0x3f]), Ok(Leaf::Float(1.5)));
}
