//! The params tree of a run: how messages change it, and which of its scalars are indexed.
//!
//! To apply a message, descend from the root as long as the value is a map with exactly one
//! key, then replace the subtree at that path. A root map with several keys counts as one
//! message per key. A value on the path that is not a map is replaced by one. Lists are values:
//! they are replaced as a whole, and their elements are not indexed.

mod column;

pub use column::{IndexedParam, ParamInterval, encode_columns, fuzz_column};
pub(crate) use column::{MAX_EXACT, ParamColumn, count_within, positions_within};

use std::borrow::Cow;

use matyan_value::{Map, Value};

/// Applies a message to `tree`. An empty message changes nothing.
///
/// ```
/// use matyan_model::params::merge;
/// use matyan_value::{Map, json};
///
/// fn map(text: &str) -> Map {
///     json::parse(text).expect("valid JSON").as_map().expect("a map").clone()
/// }
///
/// let mut tree = map(r#"{"hparams": {"lr": 0.1, "bs": 32}}"#);
/// merge(&mut tree, map(r#"{"hparams": {"lr": 0.2}}"#));
/// assert_eq!(tree, map(r#"{"hparams": {"lr": 0.2, "bs": 32}}"#), "one key: merged");
/// merge(&mut tree, map(r#"{"hparams": {"lr": 0.3, "seed": 1}}"#));
/// assert_eq!(tree, map(r#"{"hparams": {"lr": 0.3, "seed": 1}}"#), "two keys: replaced");
/// ```
pub fn merge(tree: &mut Map, message: Map) {
    for (key, value) in message {
        set(tree, key, value);
    }
}

fn set(mut tree: &mut Map, mut key: String, mut value: Value) {
    loop {
        match value {
            Value::Map(mut inner) if inner.len() == 1 => {
                tree = child(tree, key);
                (key, value) = inner.pop_first().expect("the map has one entry");
            }
            // An empty map, or one with several keys, replaces the subtree like any other value.
            leaf => {
                tree.insert(key, leaf);
                return;
            }
        }
    }
}

fn child(tree: &mut Map, key: String) -> &mut Map {
    let value = tree.entry(key).or_insert(Value::Null);
    if !matches!(value, Value::Map(_)) {
        *value = Value::Map(Map::new());
    }
    match value {
        Value::Map(map) => map,
        _ => unreachable!("it was made a map above"),
    }
}

/// Calls `visit` for every scalar that is reachable through maps only, with its path from the
/// root, in the byte order of the paths.
pub fn scalars<'a>(tree: &'a Map, visit: &mut dyn FnMut(&[Cow<'a, str>], &'a Value)) {
    fn walk<'a>(
        tree: &'a Map,
        path: &mut Vec<Cow<'a, str>>,
        visit: &mut dyn FnMut(&[Cow<'a, str>], &'a Value),
    ) {
        for (key, value) in tree {
            path.push(Cow::Borrowed(key));
            match value {
                Value::Map(inner) => walk(inner, path, visit),
                Value::List(_) => {}
                scalar => visit(path, scalar),
            }
            path.pop();
        }
    }
    walk(tree, &mut Vec::new(), visit);
}

/// Whether these are params, or a first piece of them, without a format byte. They start with the
/// head of a CBOR map, which is no format.
pub(crate) fn is_params_of_format_2(value: &[u8]) -> bool {
    const MAP: u8 = 5;
    value.first().is_some_and(|first| first >> 5 == MAP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use matyan_value::json;

    fn map(text: &str) -> Map {
        match json::parse(text).unwrap() {
            Value::Map(map) => map,
            other => panic!("{other:?}"),
        }
    }

    fn check(before: &str, message: &str, after: &str) {
        let mut tree = map(before);
        merge(&mut tree, map(message));
        assert_eq!(tree, map(after), "{before} + {message}");
    }

    #[test]
    fn a_message_descends_through_maps_with_a_single_key() {
        check("{}", "{}", "{}");
        check("{}", r#"{"seed":42}"#, r#"{"seed":42}"#);
        check(r#"{"h":{"z":0}}"#, r#"{"h":{"a":1,"b":2}}"#, r#"{"h":{"a":1,"b":2}}"#);
        check(r#"{"h":{"z":0}}"#, r#"{"h":{"a":1}}"#, r#"{"h":{"a":1,"z":0}}"#);
        check(r#"{"h":{"z":0}}"#, r#"{"h":{"a":{"b":{"c":1}}}}"#, r#"{"h":{"a":{"b":{"c":1}},"z":0}}"#);
        check(r#"{"h":{"z":0}}"#, r#"{"h":{}}"#, r#"{"h":{}}"#);
        check(r#"{"h":{"z":0}}"#, r#"{"h":[{"a":1}]}"#, r#"{"h":[{"a":1}]}"#);
        check(r#"{"h":{"z":0}}"#, r#"{"h":null}"#, r#"{"h":null}"#);
    }

    #[test]
    fn several_root_keys_are_several_messages() {
        check(r#"{"a":0,"c":{"x":1}}"#, r#"{"a":1,"b":2}"#, r#"{"a":1,"b":2,"c":{"x":1}}"#);
        check(r#"{"c":{"x":1}}"#, r#"{"b":2,"c":{"y":2}}"#, r#"{"b":2,"c":{"x":1,"y":2}}"#);
    }

    #[test]
    fn a_value_on_the_path_is_replaced_by_a_map() {
        for blocker in ["5", "[]", "[1]", "{}", "null", "\"s\""] {
            check(&format!(r#"{{"cfg":{blocker}}}"#), r#"{"cfg":{"lr":1}}"#, r#"{"cfg":{"lr":1}}"#);
        }
    }

    #[test]
    fn scalars_are_found_at_any_depth_outside_of_lists() {
        let tree = map(r#"{"b":{"y":[1,{"z":2}],"x":null},"a":1,"c":{}}"#);
        let mut found = Vec::new();
        scalars(&tree, &mut |path, value| found.push(format!("{} {value:?}", path.join("."))));
        assert_eq!(found, ["a Integer(1)", "b.x Null"]);
    }
}
