//! What an answer looks like, for the description of the API. Handlers build their answers by hand, in the order of the
//! contract; that they keep to this is checked against a running server.

use serde_json::{Map, Value, json};

/// The form of a JSON value. Objects may have more members than are told: answers grow.
#[derive(Debug)]
pub(crate) enum Form {
    Text,
    TextOrNull,
    Bool,
    Int,
    Number,
    NumberOrNull,
    /// One that may be infinite or no number: null then, and a word for the bundle of Aim.
    Figure,
    /// Any JSON at all.
    Any,
    /// Any object: what people have logged.
    Free,
    Null,
    List(&'static Form),
    /// By names that are not known beforehand.
    Map(&'static Form),
    MapOrNull(&'static Form),
    Record(&'static [(&'static str, Form)]),
    /// Of a record: the member may be missing.
    Optional(&'static Form),
}

impl Form {
    /// In the words of OpenAPI.
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

/// What a change of a resource answers.
pub(crate) const CHANGED: Form = Form::Record(&[("id", Form::Text), ("status", Form::Text)]);

/// What a change of many answers.
pub(crate) const DONE: Form = Form::Record(&[("status", Form::Text)]);

/// Runs by when they were made.
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
    fn members_that_may_be_missing_are_not_required() {
        let form = Form::Record(&[("a", Form::Text), ("b", Form::Optional(&Form::List(&Form::Int)))]);
        let schema = form.schema();
        assert_eq!(schema["required"], json!(["a"]));
        assert_eq!(schema["properties"]["b"]["items"]["type"], "integer");
    }
}
