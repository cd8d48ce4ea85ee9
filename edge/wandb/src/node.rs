//! The values of GraphQL's objects: JSON, with members for other resolvers that no client sees.

use std::sync::Arc;

use async_graphql::SelectionField;
use async_graphql::dynamic::{FieldValue, TypeRef};
use serde_json::Value;

use crate::error::{Result, WandbError};

/// The value of an object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node(Arc<Value>);

impl Node {
    pub(crate) fn new(value: Value) -> Self {
        Self(Arc::new(value))
    }

    /// A member; null if there is none.
    pub(crate) fn get(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or(&Value::Null)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).as_str()
    }

    /// A member that the resolver of the object always sets.
    pub(crate) fn known(&self, name: &'static str) -> Result<&str> {
        self.text(name).ok_or_else(|| WandbError::broken(name))
    }
}

/// The fields that a client has selected below a field, on all levels. There are at most `MAX_FIELDS`, which was checked
/// before.
#[derive(Clone, Copy)]
pub(crate) struct Selection<'c>(SelectionField<'c>);

impl<'c> Selection<'c> {
    pub(crate) fn new(field: SelectionField<'c>) -> Self {
        Self(field)
    }

    /// The number of fields.
    pub(crate) fn count(self) -> usize {
        self.0.selection_set().map(|child| 1 + Self(child).count()).sum()
    }

    /// Returns whether one of these fields is selected.
    pub(crate) fn has_any(self, names: &[&str]) -> bool {
        self.0.selection_set().any(|child| names.contains(&child.name()) || Self(child).has_any(names))
    }
}

/// The arguments of a field, or the members of its `input`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arguments(Value);

impl Arguments {
    pub(crate) fn new(value: Value) -> Self {
        Self(value)
    }

    /// The members of the argument `input`.
    pub(crate) fn input(&self) -> Result<Self> {
        match self.get("input") {
            input @ Value::Object(_) => Ok(Self(input.clone())),
            _ => Err(WandbError::invalid("`input` must be an object")),
        }
    }

    pub(crate) fn get(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or(&Value::Null)
    }

    /// A text. Null and an empty text are the same in most arguments of W&B's clients.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>> {
        match self.get(name) {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            _ => Err(WandbError::invalid(format!("`{name}` must be a text"))),
        }
    }

    /// A text that may be empty. An empty text differs from null.
    pub(crate) fn sent_text(&self, name: &str) -> Result<Option<&str>> {
        match self.get(name) {
            Value::String(text) => Ok(Some(text)),
            _ => self.text(name),
        }
    }

    pub(crate) fn required(&self, name: &str) -> Result<&str> {
        self.text(name)?.ok_or_else(|| WandbError::invalid(format!("`{name}` is missing")))
    }

    /// An integer, which W&B's clients also send as text.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>> {
        let problem = || WandbError::invalid(format!("`{name}` must be an integer"));
        match self.get(name) {
            Value::Null => Ok(None),
            Value::Number(number) => number.as_i64().map(Some).ok_or_else(problem),
            Value::String(text) => text.parse().map(Some).map_err(|_| problem()),
            _ => Err(problem()),
        }
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name).as_bool().unwrap_or_default()
    }

    /// A list of texts; `None` if there is no list.
    pub(crate) fn texts(&self, name: &str) -> Result<Option<Vec<&str>>> {
        let problem = || WandbError::invalid(format!("`{name}` must be a list of texts"));
        match self.get(name) {
            Value::Null => Ok(None),
            // GraphQL accepts a single value as a list with one entry.
            Value::String(text) => Ok(Some(vec![text])),
            Value::Array(members) => members
                .iter()
                .map(|member| member.as_str().ok_or_else(problem))
                .collect::<Result<_>>()
                .map(Some),
            _ => Err(problem()),
        }
    }

    /// A list of objects.
    pub(crate) fn objects(&self, name: &str) -> Result<Vec<Self>> {
        match self.get(name) {
            Value::Null => Ok(Vec::new()),
            Value::Array(members) => Ok(members.iter().cloned().map(Self).collect()),
            one @ Value::Object(_) => Ok(vec![Self(one.clone())]),
            _ => Err(WandbError::invalid(format!("`{name}` must be a list of objects"))),
        }
    }
}

/// The value of a field of this type. `is_scalar` says whether the type, without lists, is a scalar.
pub(crate) fn field_value<'a>(value: Value, ty: &TypeRef, is_scalar: bool) -> Option<FieldValue<'a>> {
    match (ty, value) {
        (_, Value::Null) => None,
        (TypeRef::NonNull(inner), value) => field_value(value, inner, is_scalar),
        (TypeRef::List(inner), Value::Array(members)) => {
            let member = |member| field_value(member, inner, is_scalar).unwrap_or(FieldValue::NULL);
            Some(FieldValue::list(members.into_iter().map(member)))
        }
        (_, value) if is_scalar => {
            // Every JSON value is a value of GraphQL.
            async_graphql::Value::from_json(value).ok().map(FieldValue::value)
        }
        (_, value) => Some(FieldValue::owned_any(Node::new(value))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_are_checked_by_name() {
        let arguments = Arguments::new(json!({"a": "x", "b": "", "c": 3, "d": "4", "e": ["x"], "f": [1]}));
        assert_eq!(arguments.text("a"), Ok(Some("x")));
        assert_eq!(arguments.text("b"), Ok(None));
        assert_eq!((arguments.sent_text("b"), arguments.sent_text("z")), (Ok(Some("")), Ok(None)));
        assert_eq!(arguments.text("c"), Err(WandbError::invalid("`c` must be a text")));
        assert_eq!(arguments.required("z"), Err(WandbError::invalid("`z` is missing")));
        assert_eq!(arguments.integer("c"), Ok(Some(3)));
        assert_eq!(arguments.integer("d"), Ok(Some(4)));
        assert!(arguments.integer("a").is_err());
        assert_eq!(arguments.texts("e"), Ok(Some(vec!["x"])));
        assert!(arguments.texts("f").is_err());
        assert!(arguments.input().is_err());
    }
}
