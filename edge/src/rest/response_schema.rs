//! Schemas of responses, for the OpenAPI description. Handlers build their responses by hand,
//! in the order of the API contract; tests check a running server against these schemas.

use serde_json::{Map, Value, json};

/// Schema of a JSON value in a response. Objects may have more members than listed, because
/// responses can grow.
#[derive(Debug)]
pub(crate) enum ResponseSchema {
    Text,
    TextOrNull,
    Bool,
    Int,
    Number,
    NumberOrNull,
    /// A number that may be infinite or NaN: null in that case, or a string for the bundle
    /// of Aim.
    AnyNumber,
    /// Any JSON value.
    Any,
    /// Any object, such as data logged by users.
    AnyObject,
    Null,
    List(&'static ResponseSchema),
    /// An object with arbitrary keys.
    Map(&'static ResponseSchema),
    MapOrNull(&'static ResponseSchema),
    Record(&'static [(&'static str, ResponseSchema)]),
    /// A record member that may be missing.
    Optional(&'static ResponseSchema),
}

impl ResponseSchema {
    /// The schema in OpenAPI's notation.
    pub(crate) fn schema(&self) -> Value {
        match self {
            ResponseSchema::Text => json!({"type": "string"}),
            ResponseSchema::TextOrNull => json!({"type": ["string", "null"]}),
            ResponseSchema::Bool => json!({"type": "boolean"}),
            ResponseSchema::Int => json!({"type": "integer", "format": "int64"}),
            ResponseSchema::Number => json!({"type": "number"}),
            ResponseSchema::NumberOrNull => json!({"type": ["number", "null"]}),
            ResponseSchema::AnyNumber => json!({"type": ["number", "null", "string"]}),
            ResponseSchema::Any => json!({}),
            ResponseSchema::AnyObject => json!({"type": "object"}),
            ResponseSchema::Null => json!({"type": "null"}),
            ResponseSchema::List(item) => json!({"type": "array", "items": item.schema()}),
            ResponseSchema::Map(value) => json!({"type": "object", "additionalProperties": value.schema()}),
            ResponseSchema::MapOrNull(value) => {
                json!({"type": ["object", "null"], "additionalProperties": value.schema()})
            }
            ResponseSchema::Optional(value) => value.schema(),
            ResponseSchema::Record(members) => {
                let is_always = |schema: &ResponseSchema| !matches!(schema, ResponseSchema::Optional(_));
                let required: Vec<&str> =
                    members.iter().filter(|(_, schema)| is_always(schema)).map(|(name, _)| *name).collect();
                let properties: Map<String, Value> =
                    members.iter().map(|(name, schema)| ((*name).to_owned(), schema.schema())).collect();
                json!({"type": "object", "properties": properties, "required": required})
            }
        }
    }
}

/// Response to a change of one resource.
pub(crate) const CHANGED: ResponseSchema =
    ResponseSchema::Record(&[("id", ResponseSchema::Text), ("status", ResponseSchema::Text)]);

/// Response to a change of several resources.
pub(crate) const DONE: ResponseSchema = ResponseSchema::Record(&[("status", ResponseSchema::Text)]);

/// Numbers of runs by creation time.
pub(crate) const ACTIVITY: ResponseSchema = ResponseSchema::Record(&[
    ("num_experiments", ResponseSchema::Optional(&ResponseSchema::Int)),
    ("num_runs", ResponseSchema::Int),
    ("num_archived_runs", ResponseSchema::Int),
    ("num_active_runs", ResponseSchema::Int),
    ("activity_map", ResponseSchema::Map(&ResponseSchema::Int)),
]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_members_are_not_required() {
        let schema = ResponseSchema::Record(&[
            ("a", ResponseSchema::Text),
            ("b", ResponseSchema::Optional(&ResponseSchema::List(&ResponseSchema::Int))),
        ]);
        let schema = schema.schema();
        assert_eq!(schema["required"], json!(["a"]));
        assert_eq!(schema["properties"]["b"]["items"]["type"], "integer");
    }
}
