//! Recorded contexts, and cases that they do not cover.

use std::path::PathBuf;

use super::*;

/// The folder of recordings, and a second folder that the environment may name.
fn folders() -> Vec<PathBuf> {
    let recorded = PathBuf::from("../../tests/vectors");
    std::iter::once(recorded).chain(std::env::var_os("MATYAN_VECTORS_DIR").map(PathBuf::from)).collect()
}

fn vector_files(prefix: &str) -> Vec<PathBuf> {
    let files = folders().into_iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let files = files.map(|entry| entry.unwrap().path());
    files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix)).collect()
}

#[test]
fn vectors_context_ids() {
    let mut pairs = 0;
    for path in vector_files("context_ids") {
        let text = std::fs::read_to_string(&path).unwrap();
        let Value::Map(file) = json::parse(&text).unwrap() else { panic!("{path:?} holds no object") };
        let Some(Value::List(list)) = file.get("pairs") else { panic!("{path:?} holds no pairs") };
        for pair in list {
            let pair = pair.as_map().unwrap();
            let Value::Text(text) = &pair["context_json"] else { panic!("{pair:?}") };
            let context = Context::parse(text).unwrap();
            assert_eq!(Value::Integer(context.id().into()), pair["id"], "{text}");
            if let Value::Text(canonical) = &pair["canonical"] {
                assert_eq!(context.canonical(), canonical, "{text}");
            }
            pairs += 1;
        }
    }
    assert!(pairs > 0);
}

#[test]
fn no_context_has_the_id_0() {
    for text in ["", "null", "{}", " { } "] {
        assert_eq!(Context::parse(text).unwrap(), Context::default(), "{text}");
    }
    assert_eq!(Context::default().id(), 0);
    assert_ne!(Context::parse(r#"{"a":{}}"#).unwrap().id(), 0);
}

#[test]
fn other_values_are_refused() {
    for text in ["1", "[]", "\"\"", "true", "{", "{]"] {
        assert!(Context::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_canonical_text_is_its_own_canonical_form() {
    let context = Context::parse(r#"{"b":[1,2.5e-9,"\u007f"],"a":{"z":null}}"#).unwrap();
    assert_eq!(Context::parse(context.canonical()).unwrap(), context);
    for context in [context, Context::default()] {
        assert_eq!(Context::from_canonical(context.canonical().to_owned()), context);
        assert_eq!(Context::from_canonical(context.stored().to_owned()), context);
    }
}
