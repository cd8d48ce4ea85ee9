//! The fields of a request: the members of a JSON body, or the parameters of a query. Every error names its field.

use matyan_channels::MAX_REQUEST_VALUES;
use matyan_value::json::tree_weight;
use serde_json::{Map, Value};

use crate::error::{ErrorCode, MlflowError, Result};
use crate::numbers::{read_float, read_integer};

/// Checks the number of values in JSON text, before it is parsed.
pub(crate) fn check_values(what: &str, json: &[u8]) -> Result<()> {
    if tree_weight(json) <= MAX_REQUEST_VALUES {
        return Ok(());
    }
    Err(MlflowError::invalid(format!(
        "{what} has more than {MAX_REQUEST_VALUES} values, where an object counts as ten: split it into several requests"
    )))
}

/// The fields of a request, or of one of its parts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads a JSON body. An empty body has no fields.
    pub(crate) fn of_json(json: &[u8]) -> Result<Self> {
        if json.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        check_values("the body", json)?;
        match serde_json::from_slice(json) {
            Ok(Value::Object(members)) => Ok(Self(members)),
            Ok(_) => Err(MlflowError::new(ErrorCode::BadRequest, "the body is not a JSON object")),
            Err(error) => {
                Err(MlflowError::new(ErrorCode::BadRequest, format!("the body is not JSON: {error}")))
            }
        }
    }

    /// Reads the query of a URL. A parameter that is given several times is a list.
    pub(crate) fn of_query(query: &str) -> Self {
        let mut members = Map::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = Value::from(value.into_owned());
            match members.get_mut(&*name) {
                None => {
                    members.insert(name.into_owned(), value);
                }
                Some(Value::Array(values)) => values.push(value),
                Some(first) => *first = Value::Array(vec![first.take(), value]),
            }
        }
        Self(members)
    }

    /// Adds a field that is a part of the path.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text; `None` if it is absent.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, other, "a text")),
        }
    }

    /// A text that is not empty.
    pub(crate) fn required(&self, name: &str) -> Result<&str> {
        self.text(name)?.filter(|text| !text.is_empty()).ok_or_else(|| missing(name))
    }

    /// The id of a run, under its present or its former name.
    pub(crate) fn run_id(&self) -> Result<&str> {
        match self.text("run_id")?.filter(|id| !id.is_empty()) {
            Some(id) => Ok(id),
            None => self.text("run_uuid")?.filter(|id| !id.is_empty()).ok_or_else(|| missing("run_id")),
        }
    }

    /// An identifier, which some clients send as a number.
    pub(crate) fn identifier(&self, name: &str) -> Result<String> {
        match self.get(name) {
            Some(Value::Number(number)) => Ok(number.to_string()),
            _ => self.required(name).map(str::to_owned),
        }
    }

    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        read_integer(value).map(Some).ok_or_else(|| wrong(name, value, "an integer of 64 bits"))
    }

    pub(crate) fn float(&self, name: &str) -> Result<f64> {
        let value = self.get(name).ok_or_else(|| missing(name))?;
        read_float(value).ok_or_else(|| wrong(name, value, "a number"))
    }

    pub(crate) fn flag(&self, name: &str) -> Result<bool> {
        self.flag_or(name, false)
    }

    pub(crate) fn flag_or(&self, name: &str, default: bool) -> Result<bool> {
        match self.get(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(other) => Err(wrong(name, other, "true or false")),
        }
    }

    /// Texts; a single text is a list with one entry.
    pub(crate) fn texts(&self, name: &str) -> Result<Vec<String>> {
        let values = match self.get(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values.as_slice(),
            Some(single) => std::slice::from_ref(single),
        };
        let text = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            other => Err(wrong(name, other, "a list of texts")),
        };
        values.iter().map(text).collect()
    }

    /// Objects.
    pub(crate) fn objects(&self, name: &str) -> Result<Vec<Fields>> {
        let values = match self.get(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values,
            Some(other) => return Err(wrong(name, other, "a list of objects")),
        };
        let object = |value: &Value| match value {
            Value::Object(members) => Ok(Fields(members.clone())),
            other => Err(wrong(name, other, "a list of objects")),
        };
        values.iter().map(object).collect()
    }

    /// One object.
    pub(crate) fn object(&self, name: &str) -> Result<Option<Fields>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(Fields(members.clone()))),
            Some(other) => Err(wrong(name, other, "an object")),
        }
    }

    /// The number of results that a page may have.
    pub(crate) fn max_results(&self, default: u32, limit: u32) -> Result<u32> {
        let Some(wanted) = self.integer("max_results")? else { return Ok(default) };
        match u32::try_from(wanted) {
            Ok(wanted @ 1..) if wanted <= limit => Ok(wanted),
            _ => Err(MlflowError::invalid(format!(
                "Invalid value {wanted} for parameter 'max_results' supplied: it must be from 1 to {limit}"
            ))),
        }
    }
}

/// The error for an absent field.
pub(crate) fn missing(name: &str) -> MlflowError {
    MlflowError::invalid(format!("Missing value for required parameter '{name}'."))
}

fn wrong(name: &str, value: &Value, expected: &str) -> MlflowError {
    /// Errors repeat only the start of a value.
    const SHOWN: usize = 100;
    let shown: String = value.to_string().chars().take(SHOWN).collect();
    MlflowError::invalid(format!(
        "Invalid value {shown} for parameter '{name}' supplied: it must be {expected}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Fields {
        Fields::of_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn errors_name_the_field() {
        let fields =
            fields(r#"{"name": 7, "empty": "", "step": "x", "tags": {}, "flag": 1, "max_results": 0}"#);
        let problems = [
            fields.text("name").unwrap_err(),
            fields.required("empty").unwrap_err(),
            fields.integer("step").unwrap_err(),
            fields.objects("tags").unwrap_err(),
            fields.flag("flag").unwrap_err(),
            fields.max_results(1, 2).unwrap_err(),
            fields.float("absent").unwrap_err(),
        ];
        for (problem, name) in
            problems.iter().zip(["name", "empty", "step", "tags", "flag", "max_results", "absent"])
        {
            assert_eq!(problem.code, ErrorCode::InvalidParameterValue);
            assert!(problem.message.contains(&format!("'{name}'")), "{problem:?}");
        }
    }

    #[test]
    fn bodies_that_are_not_objects_are_refused() {
        for body in ["[1]", "7", "{", "{\"a\":}", "\u{0}"] {
            assert_eq!(Fields::of_json(body.as_bytes()).unwrap_err().code, ErrorCode::BadRequest, "{body}");
        }
        assert!(Fields::of_json(b"{\"a\": \"\xff\"}").is_err());
        let nested = "[".repeat(1_000);
        assert!(Fields::of_json(nested.as_bytes()).is_err());
    }

    #[test]
    fn rule_116_bodies_that_would_grow_are_refused() {
        let numbers = format!("{{\"a\":[{}1]}}", "1,".repeat(MAX_REQUEST_VALUES));
        let objects = format!("{{\"a\":[{}{{}}]}}", "{\"\":0},".repeat(MAX_REQUEST_VALUES / 11));
        for many in [numbers, objects] {
            let refused = Fields::of_json(many.as_bytes()).unwrap_err();
            assert_eq!(refused.code, ErrorCode::InvalidParameterValue);
        }
        let text = format!("{{\"a\":\"{}\"}}", ",".repeat(2 * MAX_REQUEST_VALUES));
        assert!(Fields::of_json(text.as_bytes()).unwrap().text("a").unwrap().is_some());
    }

    #[test]
    fn an_empty_body_has_no_fields() {
        assert!(Fields::of_json(b" \n").unwrap().text("a").unwrap().is_none());
    }

    #[test]
    fn parameters_of_a_query_are_fields() {
        let fields = Fields::of_query("run_id=a%20b&max_results=5&run_ids=x&run_ids=y&run_ids=z");
        assert_eq!(fields.run_id().unwrap(), "a b");
        assert_eq!(fields.max_results(1, 10).unwrap(), 5);
        assert_eq!(fields.texts("run_ids").unwrap(), ["x", "y", "z"]);
        assert_eq!(fields.texts("run_id").unwrap(), ["a b"]);
        assert_eq!(Fields::of_query("run_uuid=r").run_id().unwrap(), "r");
    }
}
