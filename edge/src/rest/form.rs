//! Schemas of responses, for the OpenAPI description. Handlers build their responses by hand,
//! in the order of the API contract; tests check a running server against these schemas.

use serde_json::{Map, Value, json};

/// Schema of a JSON value in a response. Objects may have more members than listed, because
/// responses can grow.
#[derive(Debug)]
pub(crate) enum Form {
    Text,
    TextOrNull,
    Bool,
    Int,
    Number,
    NumberOrNull,
    /// A number that may be infinite or NaN: null in that case, or a string for the bundle
    /// of Aim.
    Figure,
    /// Any JSON value.
    Any,
    /// Any object, such as data logged by users.
    Free,
    Null,
    List(&'static Form),
    /// An object with arbitrary keys.
    Map(&'static Form),
    MapOrNull(&'static Form),
    Record(&'static [(&'static str, Form)]),
    /// A record member that may be missing.
    Optional(&'static Form),
}

impl Form {
    /// The schema in OpenAPI's notation.
    pub(crate) fn schema(&self) -> Value {
        match self {
            Form::Text => json!({"type": "string"}),
            Form::TextOrNull => json!({"type": ["string", "null"]}),
            Form::Bool => json!({"type": "boolean"}),
            Form::Int => json!({"type": "integer", "format": "int64"}),
            Form::Number => json!({"type": "number"}),
            Form::NumberOrNull => json!({"type": ["number", "null"]}),
            Form::Figure => json!({"type": ["number", "null", "string"]}),
            Form::Any => json!({}),
            Form::Free => json!({"type": "object"}),
            Form::Null => json!({"type": "null"}),
            Form::List(item) => json!({"type": "array", "items": item.schema()}),
            Form::Map(value) => json!({"type": "object", "additionalProperties": value.schema()}),
            Form::MapOrNull(value) => {
                json!({"type": ["object", "null"], "additionalProperties": value.schema()})
            }
            Form::Optional(value) => value.schema(),
            Form::Record(members) => {
                let is_always = |form: &Form| !matches!(form, Form::Optional(_));
                let required: Vec<&str> =
                    members.iter().filter(|(_, form)| is_always(form)).map(|(name, _)| *name).collect();
                let properties: Map<String, Value> =
                    members.iter().map(|(name, form)| ((*name).to_owned(), form.schema())).collect();
                json!({"type": "object", "properties": properties, "required": required})
            }
        }
    }
}

/// Response to a change of one resource.
pub(crate) const CHANGED: Form = Form::Record(&[("id", Form::Text), ("status", Form::Text)]);

/// Response to a change of several resources.
pub(crate) const DONE: Form = Form::Record(&[("status", Form::Text)]);

/// Numbers of runs by creation time.
pub(crate) const ACTIVITY: Form = Form::Record(&[
    ("num_experiments", Form::Optional(&Form::Int)),
    ("num_runs", Form::Int),
    ("num_archived_runs", Form::Int),
    ("num_active_runs", Form::Int),
    ("activity_map", Form::Map(&Form::Int)),
]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_members_are_not_required() {
        let form = Form::Record(&[("a", Form::Text), ("b", Form::Optional(&Form::List(&Form::Int)))]);
        let schema = form.schema();
        assert_eq!(schema["required"], json!(["a"]));
        assert_eq!(schema["properties"]["b"]["items"]["type"], "integer");
    }
}
