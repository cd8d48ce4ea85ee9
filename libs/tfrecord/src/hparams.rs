//! Hyperparameters as nested params, and the end of a session as an outcome.

use std::collections::HashMap;

use matyan_value::{Map, Value, json};
use prost_types::value::Kind;

/// The status with which the writer of hyperparameters ends its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionOutcome {
    Finished,
    Failed,
}

/// The outcome of a session with this status; `None` while the session continues.
pub(crate) fn session_outcome(status: i32) -> Option<SessionOutcome> {
    match status {
        1 => Some(SessionOutcome::Finished),
        2 => Some(SessionOutcome::Failed),
        _ => None,
    }
}

/// Adds values whose names are paths to nested params. A name that has both a value and members keeps its value below an
/// empty name.
pub(crate) fn add_params(params: &mut Map, hparams: HashMap<String, prost_types::Value>) {
    let mut hparams: Vec<_> = hparams.into_iter().collect();
    // The order of a map is random, and the order of the result must not be.
    hparams.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (name, value) in hparams {
        let segments: Vec<&str> = name.split('/').take(matyan_value::MAX_DEPTH / 2).collect();
        set_nested(params, &segments, parsed(value_of(value)));
    }
}

fn set_nested(params: &mut Map, path: &[&str], value: Value) {
    let Some((name, rest)) = path.split_first() else { return };
    let member = params.entry((*name).to_owned());
    if rest.is_empty() {
        match member.or_insert(Value::Null) {
            Value::Map(members) if !matches!(value, Value::Map(_)) => {
                members.insert(String::new(), value);
            }
            place => *place = value,
        }
        return;
    }
    let place = member.or_insert_with(|| Value::Map(Map::new()));
    if !matches!(place, Value::Map(_)) {
        let own = std::mem::replace(place, Value::Null);
        *place = Value::Map(Map::from([(String::new(), own)]));
    }
    if let Value::Map(members) = place {
        set_nested(members, rest, value);
    }
}

fn value_of(value: prost_types::Value) -> Value {
    /// Up to this number, each integer is a float. A larger float may stand for several integers.
    const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() <= LARGEST_EXACT => {
            Value::Integer(number as i64)
        }
        Some(Kind::NumberValue(number)) => Value::Float(number),
        Some(Kind::StringValue(text)) => Value::Text(text),
        Some(Kind::BoolValue(flag)) => Value::Bool(flag),
        Some(Kind::StructValue(fields)) => {
            Value::Map(fields.fields.into_iter().map(|(name, value)| (name, value_of(value))).collect())
        }
        Some(Kind::ListValue(list)) => Value::List(list.values.into_iter().map(value_of).collect()),
    }
}

/// The value of a text that is a list or a map: frameworks write lists and maps as texts.
fn parsed(value: Value) -> Value {
    let Value::Text(text) = value else { return value };
    let is_structured = text.starts_with(['[', '{']);
    match is_structured.then(|| json::parse(&text)) {
        Some(Ok(parsed)) => parsed,
        _ => Value::Text(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(members: &[(&str, Kind)]) -> String {
        let value = |kind: &Kind| prost_types::Value { kind: Some(kind.clone()) };
        let hparams = members.iter().map(|(name, kind)| ((*name).to_owned(), value(kind))).collect();
        let mut params = Map::new();
        add_params(&mut params, hparams);
        json::map_text(&params, json::JsonStyle::BARE)
    }

    #[test]
    fn names_are_paths() {
        let found = params(&[
            ("lr", Kind::NumberValue(0.5)),
            ("model/layers", Kind::NumberValue(3.0)),
            ("model/name", Kind::StringValue("gpt".to_owned())),
            ("model", Kind::BoolValue(true)),
        ]);
        assert_eq!(found, r#"{"lr":0.5,"model":{"":true,"layers":3,"name":"gpt"}}"#);
    }

    #[test]
    fn only_floats_that_stand_for_one_integer_are_integers() {
        let found = params(&[
            ("a", Kind::NumberValue(-3.0)),
            ("b", Kind::NumberValue(9_007_199_254_740_992.0)),
            ("c", Kind::NumberValue(1e18)),
        ]);
        assert_eq!(found, r#"{"a":-3,"b":9007199254740992,"c":1e+18}"#);
    }

    #[test]
    fn lists_that_were_written_as_texts_are_lists() {
        let text = |text: &str| Kind::StringValue(text.to_owned());
        let found = params(&[("a", text("[64, 64]")), ("b", text("[relu]")), ("c", text("3"))]);
        assert_eq!(found, r#"{"a":[64,64],"b":"[relu]","c":"3"}"#);
    }

    #[test]
    fn only_an_ended_session_has_an_outcome() {
        let found = [0, 1, 2, 3].map(session_outcome);
        assert_eq!(found, [None, Some(SessionOutcome::Finished), Some(SessionOutcome::Failed), None]);
    }
}
