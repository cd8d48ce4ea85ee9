//! The columns of params: one for each path with a value in some run, of the narrowest type that
//! can hold every value exactly.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arrow_array::{
    ArrayRef,
    builder::{BooleanBuilder, Float64Builder, Int64Builder, StringBuilder},
};
use arrow_schema::DataType;
use matyan_value::{
    Map, Value, cbor,
    json::{JsonStyle, value_text, write_text},
};

use crate::server::error::{Error, Result};

/// Columns of params in a table.
const MAX_COLUMNS: usize = 2_000;

/// Size of the names of these columns.
const MAX_NAME_BYTES: usize = 1 << 20;

/// Integers up to this are exact as floats.
const EXACT_INTEGERS: u64 = 1 << 53;

/// The columns, and the kinds of values that were seen in each.
#[derive(Default)]
pub(super) struct SeenParams {
    columns: BTreeMap<String, SeenKinds>,
    name_bytes: usize,
}

#[derive(Clone, Copy, Default)]
struct SeenKinds {
    bools: bool,
    integers: bool,
    /// Integers that no float has.
    large_integers: bool,
    floats: bool,
    texts: bool,
    others: bool,
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParamType {
    Bool,
    Integer,
    Float,
    Text,
    /// Lists, integers of more than 64 bits, and values of several types.
    Json,
}

impl SeenParams {
    /// Adds the params of a run.
    pub(super) fn add(&mut self, params: &[u8]) -> Result<()> {
        for (name, value) in leaves(params)? {
            if let Some(kinds) = self.columns.get_mut(&name) {
                kinds.add(&value);
                continue;
            }
            self.name_bytes += name.len();
            if self.columns.len() == MAX_COLUMNS || self.name_bytes > MAX_NAME_BYTES {
                let reason = format!(
                    "is needed: the runs have more than {MAX_COLUMNS} params, or their names have more than \
                     {MAX_NAME_BYTES} bytes; choose columns"
                );
                return Err(Error::field("param_paths", reason));
            }
            let mut kinds = SeenKinds::default();
            kinds.add(&value);
            self.columns.insert(name, kinds);
        }
        Ok(())
    }

    /// Names and types of the columns, ascending by name.
    pub(super) fn into_columns(self) -> Vec<(String, ParamType)> {
        self.columns.into_iter().map(|(name, kinds)| (name, kinds.column_type())).collect()
    }
}

impl SeenKinds {
    fn add(&mut self, value: &Value) {
        match value {
            Value::Null => {}
            Value::Bool(_) => self.bools = true,
            Value::Integer(integer) => {
                self.integers = true;
                self.large_integers |= integer.unsigned_abs() > EXACT_INTEGERS;
            }
            Value::Float(_) => self.floats = true,
            Value::Text(_) => self.texts = true,
            Value::Big(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) => self.others = true,
        }
    }

    fn column_type(self) -> ParamType {
        let numbers = self.integers || self.floats;
        match self {
            Self { others: true, .. } => ParamType::Json,
            Self { bools: true, texts: false, .. } if !numbers => ParamType::Bool,
            Self { bools: false, texts, .. } if texts != numbers => {
                match (self.floats, self.large_integers) {
                    _ if texts => ParamType::Text,
                    (false, _) => ParamType::Integer,
                    (true, false) => ParamType::Float,
                    (true, true) => ParamType::Json,
                }
            }
            // Only null.
            Self { bools: false, .. } if !numbers => ParamType::Text,
            _ => ParamType::Json,
        }
    }
}

impl ParamType {
    pub(super) fn data_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Integer => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Text | Self::Json => DataType::Utf8,
        }
    }
}

/// The values of the columns in a batch.
pub(super) struct ParamBatch {
    indexes: HashMap<String, usize>,
    columns: Vec<ColumnBuilder>,
    /// The values of the row that is being added.
    row: Vec<Option<Value>>,
}

enum ColumnBuilder {
    Bool(BooleanBuilder),
    Integer(Int64Builder),
    Float(Float64Builder),
    Text(StringBuilder),
    Json(StringBuilder),
}

impl ParamBatch {
    pub(super) fn new(columns: &[(String, ParamType)]) -> Self {
        let indexes = columns.iter().enumerate().map(|(at, (name, _))| (name.clone(), at)).collect();
        let builders = columns.iter().map(|(_, of)| match of {
            ParamType::Bool => ColumnBuilder::Bool(BooleanBuilder::new()),
            ParamType::Integer => ColumnBuilder::Integer(Int64Builder::new()),
            ParamType::Float => ColumnBuilder::Float(Float64Builder::new()),
            ParamType::Text => ColumnBuilder::Text(StringBuilder::new()),
            ParamType::Json => ColumnBuilder::Json(StringBuilder::new()),
        });
        Self { indexes, columns: builders.collect(), row: Vec::new() }
    }

    /// Adds the params of a run as a row.
    pub(super) fn push(&mut self, params: &[u8]) -> Result<()> {
        self.row.resize(self.columns.len(), None);
        if !self.columns.is_empty() {
            for (name, value) in leaves(params)? {
                let index = self.indexes.get(&name).ok_or_else(changed)?;
                self.row[*index] = Some(value);
            }
        }
        for (column, value) in self.columns.iter_mut().zip(self.row.drain(..)) {
            column.push(value.unwrap_or(Value::Null))?;
        }
        Ok(())
    }

    /// The columns, after which there are no rows.
    pub(super) fn finish(&mut self) -> impl Iterator<Item = ArrayRef> {
        self.columns.iter_mut().map(ColumnBuilder::finish)
    }
}

impl ColumnBuilder {
    fn push(&mut self, value: Value) -> Result<()> {
        match (self, value) {
            (Self::Bool(column), Value::Null) => column.append_null(),
            (Self::Integer(column), Value::Null) => column.append_null(),
            (Self::Float(column), Value::Null) => column.append_null(),
            (Self::Text(column) | Self::Json(column), Value::Null) => column.append_null(),
            (Self::Bool(column), Value::Bool(value)) => column.append_value(value),
            (Self::Integer(column), Value::Integer(value)) => column.append_value(value),
            (Self::Float(column), Value::Float(value)) => column.append_value(value),
            (Self::Float(column), Value::Integer(value)) if value.unsigned_abs() <= EXACT_INTEGERS => {
                column.append_value(value as f64);
            }
            (Self::Text(column), Value::Text(value)) => column.append_value(value),
            (Self::Json(column), value) => column.append_value(value_text(&value, JsonStyle::CANONICAL)),
            _ => return Err(changed()),
        }
        Ok(())
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Bool(column) => Arc::new(column.finish()),
            Self::Integer(column) => Arc::new(column.finish()),
            Self::Float(column) => Arc::new(column.finish()),
            Self::Text(column) | Self::Json(column) => Arc::new(column.finish()),
        }
    }
}

fn changed() -> Error {
    Error::Waiting("the params of a run changed during the export")
}

/// The names of the columns of a run, and their values.
fn leaves(params: &[u8]) -> Result<Vec<(String, Value)>> {
    let mut found = Vec::new();
    if !params.is_empty() {
        let corrupt =
            |error| Error::Damaged(matyan_store::Error::corrupt(format!("invalid params: {error}")));
        add_leaves("params", cbor::decode_map(params).map_err(corrupt)?, &mut found);
    }
    Ok(found)
}

fn add_leaves(path: &str, map: Map, found: &mut Vec<(String, Value)>) {
    for (key, value) in map {
        let mut name = path.to_owned();
        push_key(&mut name, &key);
        match value {
            Value::Map(inner) if !inner.is_empty() => add_leaves(&name, inner, found),
            value => found.push((name, value)),
        }
    }
}

/// Appends a key as in MatyanQL, so that different paths have different names.
fn push_key(name: &mut String, key: &str) {
    if !key.is_empty() && key.chars().all(|it| !it.is_control() && !".[]\"\\".contains(it)) {
        name.push('.');
        name.push_str(key);
        return;
    }
    name.push('[');
    write_text(name, key, JsonStyle::STRICT);
    name.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(json: &str) -> Vec<u8> {
        cbor::encode(&matyan_value::json::parse(json).unwrap())
    }

    #[test]
    fn a_column_has_the_narrowest_type_of_its_values() {
        let check = |values: &[&str], expected| {
            let mut seen = SeenParams::default();
            for value in values {
                seen.add(&encoded(&format!("{{\"x\":{value}}}"))).unwrap();
            }
            assert_eq!(seen.into_columns(), [("params.x".to_owned(), expected)], "{values:?}");
        };
        check(&["true", "null"], ParamType::Bool);
        check(&["1", "-7"], ParamType::Integer);
        check(&["1", "0.5"], ParamType::Float);
        check(&["9007199254740993", "0.5"], ParamType::Json);
        check(&["\"a\"", "null"], ParamType::Text);
        check(&["null"], ParamType::Text);
        check(&["\"a\"", "1"], ParamType::Json);
        check(&["true", "1"], ParamType::Json);
        check(&["true", "\"a\""], ParamType::Json);
        check(&["[1]"], ParamType::Json);
        check(&["{}"], ParamType::Json);
        check(&["18446744073709551616"], ParamType::Json);
    }

    #[test]
    fn different_paths_have_different_names() {
        let leaves = leaves(&encoded(r#"{"a":{"b":1},"a.b":2,"":{"c d":3},"[\"x\"]":4}"#)).unwrap();
        let names: Vec<&str> = leaves.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [r#"params[""].c d"#, r#"params["[\"x\"]"]"#, "params.a.b", r#"params["a.b"]"#]);
    }

    #[test]
    fn a_run_that_does_not_fit_is_noticed() {
        let columns = [("params.x".to_owned(), ParamType::Integer)];
        let mut batch = ParamBatch::new(&columns);
        batch.push(&encoded(r#"{"x":1}"#)).unwrap();
        batch.push(&encoded("{}")).unwrap();
        for changed in [r#"{"x":"a"}"#, r#"{"y":1}"#] {
            assert!(matches!(batch.push(&encoded(changed)), Err(Error::Waiting(_))));
        }
    }

    #[test]
    fn too_many_columns_are_refused() {
        let mut seen = SeenParams::default();
        for column in 0..MAX_COLUMNS {
            seen.add(&encoded(&format!("{{\"{column}\":1}}"))).unwrap();
        }
        seen.add(&encoded(r#"{"7":2}"#)).unwrap();
        let Err(Error::InvalidField { field, .. }) = seen.add(&encoded(r#"{"one more":1}"#)) else {
            panic!()
        };
        assert_eq!(field, "param_paths");
    }
}
