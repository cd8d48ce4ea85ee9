//! Params and contexts as typed values with their paths, for clients that do not decode CBOR or JSON.

use matyan_proto::{
    common::v1::{PathValue, path_value},
    limits,
    runs::v1::SeriesInfo,
};
use matyan_value::{
    Map, Value,
    json::{self, JsonStyle},
};

/// Maximum size of the values of a run. A path may be long, and be repeated for each value.
const MAX_BYTES: usize = 4 << 20;
/// Size of a value without its path and content.
const VALUE_BYTES: usize = 16;

/// Maximum size of the values of a context.
const MAX_CONTEXT_BYTES: usize = 2 * limits::CONTEXT_BYTES;

/// The values of params in the order of their paths; `None` if they are too large for a message.
pub(crate) fn param_values(params: &Map) -> Option<Vec<PathValue>> {
    path_values(params, MAX_BYTES)
}

fn path_values(tree: &Map, mut room: usize) -> Option<Vec<PathValue>> {
    let mut values = Vec::new();
    add(tree, &mut Vec::new(), &mut values, &mut room)?;
    Some(values)
}

/// The context of a series as typed values; none if they are too large.
pub(crate) fn context_values(context: &str) -> Vec<PathValue> {
    // The text is a map, because it was checked when the series was created.
    match json::parse(context) {
        Ok(Value::Map(context)) => path_values(&context, MAX_CONTEXT_BYTES).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// Adds the context of a series as typed values.
pub(crate) fn add_context_values(info: SeriesInfo) -> SeriesInfo {
    SeriesInfo { context_values: context_values(&info.context), ..info }
}

/// Adds the values below a path. The depth of trees is limited.
fn add<'t>(
    tree: &'t Map,
    path: &mut Vec<&'t str>,
    values: &mut Vec<PathValue>,
    room: &mut usize,
) -> Option<()> {
    for (key, value) in tree {
        path.push(key);
        match value {
            Value::Map(below) if !below.is_empty() => add(below, path, values, room)?,
            value => {
                let value = typed(value);
                let bytes: usize = path.iter().map(|key| key.len() + 2).sum();
                *room = room.checked_sub(bytes + VALUE_BYTES + content_bytes(value.as_ref()))?;
                let path = path.iter().map(|key| (*key).to_owned()).collect();
                values.push(PathValue { path, value });
            }
        }
        path.pop();
    }
    Some(())
}

fn typed(value: &Value) -> Option<path_value::Value> {
    use path_value::Value as Typed;
    Some(match value {
        Value::Null => return None,
        Value::Bool(flag) => Typed::Flag(*flag),
        Value::Integer(integer) => Typed::Integer(*integer),
        Value::Big(big) => Typed::BigInteger(big.decimal()),
        Value::Float(number) => Typed::Number(*number),
        Value::Text(text) => Typed::Text(text.clone()),
        Value::Bytes(data) => Typed::Data(data.clone().into()),
        Value::List(_) | Value::Map(_) => Typed::Json(json::value_text(value, JsonStyle::CANONICAL)),
    })
}

fn content_bytes(value: Option<&path_value::Value>) -> usize {
    use path_value::Value as Typed;
    match value {
        Some(Typed::Text(text) | Typed::BigInteger(text) | Typed::Json(text)) => text.len(),
        Some(Typed::Data(data)) => data.len(),
        None | Some(Typed::Flag(_) | Typed::Integer(_) | Typed::Number(_)) => 0,
    }
}

#[cfg(test)]
mod tests {
    use matyan_value::cbor;
    use path_value::Value as Typed;
    use prost::Message as _;

    use super::*;

    #[test]
    fn the_values_of_a_context_are_not_much_larger_than_its_text() {
        let leaves = |count: u32| {
            let leaves: Vec<_> = (0..count).map(|at| format!("\"{at}\":0")).collect();
            let context = format!(r#"{{"{}":{{{}}}}}"#, "x".repeat(300), leaves.join(","));
            add_context_values(SeriesInfo { context, ..SeriesInfo::default() })
        };
        assert_eq!(leaves(5).context_values.len(), 5);
        let large = leaves(500);
        assert!(large.context_values.is_empty() && large.encoded_len() <= 3 * limits::CONTEXT_BYTES);
    }

    #[test]
    fn every_kind_of_value_has_its_type_and_path() {
        let json = r#"{"b":{"x":{"y":1}},"a.c":0.5,"e":{},"f":null,"g":[1,{"z":NaN}],"h":true,
            "i":123456789012345678901234567890,"t":"é"}"#;
        let Value::Map(mut tree) = json::parse(json).unwrap() else { panic!("a map") };
        tree.insert("d".to_owned(), Value::Bytes(vec![0, 255]));
        let values = param_values(&tree).unwrap();
        let found: Vec<_> = values.into_iter().map(|one| (one.path.join("/"), one.value)).collect();
        let expected = [
            ("a.c", Some(Typed::Number(0.5))),
            ("b/x/y", Some(Typed::Integer(1))),
            ("d", Some(Typed::Data(vec![0, 255].into()))),
            ("e", Some(Typed::Json("{}".into()))),
            ("f", None),
            ("g", Some(Typed::Json("[1,{\"z\":NaN}]".into()))),
            ("h", Some(Typed::Flag(true))),
            ("i", Some(Typed::BigInteger("123456789012345678901234567890".into()))),
            ("t", Some(Typed::Text("é".into()))),
        ];
        assert_eq!(found, expected.map(|(path, value)| (path.to_owned(), value)));
    }

    #[test]
    fn values_with_long_paths_are_limited() {
        let mut tree = Map::new();
        let leaves = (0..10_000).map(|leaf| (leaf.to_string(), Value::Null));
        tree.insert("x".to_owned(), Value::Map(leaves.collect()));
        assert_eq!(param_values(&tree).unwrap().len(), 10_000);
        for _ in 0..100 {
            tree = Map::from_iter([("long name".to_owned(), Value::Map(tree))]);
        }
        assert_eq!(param_values(&tree), None);
        assert!(cbor::encode(&Value::Map(tree)).len() < 100_000);
    }
}
