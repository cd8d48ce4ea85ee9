//! JSON objects of an archive, built and read field by field. Read errors name the file, line
//! and field.

use std::path::{Path, PathBuf};

use matyan_value::{
    Map, Value, cbor,
    json::{self, JsonStyle},
};

use super::{Error, Result, damaged};

/// A JSON object to be written.
#[derive(Debug, Default)]
pub(crate) struct Fields(Map);

impl Fields {
    pub(crate) fn set(mut self, key: &str, value: Value) -> Self {
        self.0.insert(key.to_owned(), value);
        self
    }

    pub(crate) fn text(self, key: &str, text: &str) -> Self {
        self.set(key, Value::Text(text.to_owned()))
    }

    pub(crate) fn optional_text(self, key: &str, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text(key, text),
            None => self.set(key, Value::Null),
        }
    }

    pub(crate) fn bool(self, key: &str, bool: bool) -> Self {
        self.set(key, Value::Bool(bool))
    }

    pub(crate) fn integer(self, key: &str, integer: i64) -> Self {
        self.set(key, Value::Integer(integer))
    }

    pub(crate) fn unsigned(self, key: &str, natural: u64) -> Self {
        // `Value::Integer` is signed, so large numbers become big integers.
        self.set(key, Value::integer(false, &natural.to_be_bytes()))
    }

    pub(crate) fn optional_unsigned(self, key: &str, natural: Option<u64>) -> Self {
        match natural {
            Some(natural) => self.unsigned(key, natural),
            None => self,
        }
    }

    /// Sets a time in seconds, plus the exact microseconds under `{key}_us` if the float
    /// cannot represent them.
    pub(crate) fn time(self, key: &str, time_us: i64) -> Self {
        let with_seconds = self.set(key, Value::Float(seconds(time_us)));
        if microseconds(seconds(time_us)) == time_us {
            with_seconds
        } else {
            with_seconds.integer(&format!("{key}_us"), time_us)
        }
    }

    pub(crate) fn optional_time(self, key: &str, time_us: Option<i64>) -> Self {
        match time_us {
            Some(time_us) => self.time(key, time_us),
            None => self.set(key, Value::Null),
        }
    }

    /// Sets a value, plus its CBOR under `{key}_cbor` if JSON cannot represent it exactly.
    pub(crate) fn exact(self, key: &str, value: Value) -> Self {
        let whole = json::is_lossy(&value).then(|| Value::Text(hex::encode(cbor::encode(&value))));
        let fields = self.set(key, value);
        match whole {
            Some(whole) => fields.set(&format!("{key}_cbor"), whole),
            None => fields,
        }
    }

    pub(crate) fn value(self) -> Value {
        Value::Map(self.0)
    }

    pub(crate) fn json(&self) -> String {
        json::map_text(&self.0, JsonStyle::ARCHIVE)
    }
}

pub(super) fn seconds(time_us: i64) -> f64 {
    time_us as f64 / 1e6
}

pub(super) fn microseconds(seconds: f64) -> i64 {
    (seconds * 1e6).round() as i64
}

/// A JSON object read from a file.
#[derive(Debug)]
pub(crate) struct JsonObject {
    file: PathBuf,
    /// Line number from 1, or 0 if the file is a single object.
    line: usize,
    map: Map,
}

impl JsonObject {
    pub(crate) fn parse(file: &Path, line: usize, text: &str) -> Result<Self> {
        let fail = |reason: String| damaged(file, at_line(line, reason));
        match json::parse(text).map_err(|error| fail(error.to_string()))? {
            Value::Map(map) => Ok(Self { file: file.to_owned(), line, map }),
            _ => Err(fail("not a JSON object".to_owned())),
        }
    }

    pub(crate) fn error(&self, reason: impl Into<String>) -> Error {
        damaged(&self.file, at_line(self.line, reason.into()))
    }

    fn wrong(&self, key: &str, wanted: &str) -> Error {
        self.error(format!("`{key}` is not {wanted}"))
    }

    /// Returns an inner object, or `None` if it is absent or null.
    pub(crate) fn inner(&self, key: &str) -> Result<Option<Self>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Map(map)) => Ok(Some(self.with(map.clone()))),
            Some(_) => Err(self.wrong(key, "an object")),
        }
    }

    /// Wraps another object from the same file and line.
    pub(crate) fn with(&self, map: Map) -> Self {
        Self { file: self.file.clone(), line: self.line, map }
    }

    pub(crate) fn list(&self, key: &str) -> Result<Vec<Self>> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let Value::List(list) = value else { return Err(self.wrong(key, "a list")) };
        list.iter()
            .map(|item| match item {
                Value::Map(map) => Ok(self.with(map.clone())),
                _ => Err(self.wrong(key, "a list of objects")),
            })
            .collect()
    }

    pub(crate) fn texts(&self, key: &str) -> Result<Vec<String>> {
        let wrong = || self.wrong(key, "a list of strings");
        let Some(Value::List(list)) = self.get(key) else { return Err(wrong()) };
        list.iter()
            .map(|item| match item {
                Value::Text(text) => Ok(text.clone()),
                _ => Err(wrong()),
            })
            .collect()
    }

    /// Returns a field; null counts as absent.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !matches!(value, Value::Null))
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.map.iter()
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<String>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.wrong(key, "a string")),
        }
    }

    pub(crate) fn required_text(&self, key: &str) -> Result<String> {
        self.text(key)?.ok_or_else(|| self.wrong(key, "present"))
    }

    pub(crate) fn bool(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(bool)) => Ok(Some(*bool)),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    pub(crate) fn integer(&self, key: &str) -> Result<Option<i64>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Integer(integer)) => Ok(Some(*integer)),
            // A float with an integral value.
            // Below 2^53, floats represent integers exactly.
            Some(Value::Float(float)) if float.fract() == 0.0 && float.abs() < 9e15 => {
                Ok(Some(*float as i64))
            }
            Some(_) => Err(self.wrong(key, "an integer")),
        }
    }

    pub(crate) fn required_integer(&self, key: &str) -> Result<i64> {
        self.integer(key)?.ok_or_else(|| self.wrong(key, "present"))
    }

    pub(crate) fn unsigned(&self, key: &str) -> Result<Option<u64>> {
        match self.get(key) {
            Some(Value::Big(big)) if !big.is_negative() && big.magnitude().len() <= 8 => {
                Ok(Some(big.magnitude().iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))))
            }
            _ => match self.integer(key)?.map(u64::try_from) {
                None => Ok(None),
                Some(Ok(natural)) => Ok(Some(natural)),
                Some(Err(_)) => Err(self.wrong(key, "a non-negative integer")),
            },
        }
    }

    pub(crate) fn number<T: TryFrom<u64> + Default>(&self, key: &str) -> Result<T> {
        let number = self.unsigned(key)?.unwrap_or_default();
        T::try_from(number).map_err(|_| self.wrong(key, "in the range of its type"))
    }

    pub(crate) fn float(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Float(float)) => Ok(Some(*float)),
            Some(Value::Integer(integer)) => Ok(Some(*integer as f64)),
            Some(_) => Err(self.wrong(key, "a number")),
        }
    }

    /// Reads a time in microseconds, as written by `Fields::time`.
    pub(crate) fn time(&self, key: &str) -> Result<Option<i64>> {
        match self.integer(&format!("{key}_us"))? {
            Some(time_us) => Ok(Some(time_us)),
            None => Ok(self.float(key)?.map(microseconds)),
        }
    }

    /// Reads a value written by `Fields::exact`.
    pub(crate) fn exact(&self, key: &str) -> Result<Option<Value>> {
        let Some(text) = self.text(&format!("{key}_cbor"))? else { return Ok(self.map.get(key).cloned()) };
        let bytes = hex::decode(&text).map_err(|error| self.error(format!("`{key}_cbor`: {error}")))?;
        let value = cbor::decode(&bytes).map_err(|error| self.error(format!("`{key}_cbor`: {error}")))?;
        Ok(Some(value))
    }

    pub(crate) fn bytes(&self, key: &str) -> Result<Vec<u8>> {
        let text = self.text(key)?.unwrap_or_default();
        hex::decode(&text).map_err(|error| self.error(format!("`{key}`: {error}")))
    }
}

fn at_line(line: usize, reason: String) -> String {
    if line == 0 { reason } else { format!("line {line}: {reason}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_round_trip_to_the_microsecond() {
        for time_us in [0, 1, -1, 1_700_000_000_123_457, i64::MAX, i64::MIN, i64::MIN + 1] {
            let text = Fields::default().time("at", time_us).json();
            let read = JsonObject::parse(Path::new("x"), 0, &text).unwrap();
            assert_eq!(read.time("at").unwrap(), Some(time_us), "{text}");
        }
        let usual = Fields::default().time("at", 1_700_000_000_123_457);
        assert!(!usual.json().contains("at_us"), "the float is exact");
    }

    #[test]
    fn values_that_json_cannot_represent_round_trip() {
        let value =
            Value::List(vec![Value::Bytes(vec![0, 1]), Value::Float(f64::from_bits(0x7ff8_dead_0000_0001))]);
        let read = JsonObject::parse(Path::new("x"), 0, &Fields::default().exact("v", value.clone()).json())
            .unwrap();
        assert_eq!(read.exact("v").unwrap(), Some(value));
    }

    #[test]
    fn errors_name_file_line_and_field() {
        let record =
            JsonObject::parse(Path::new("runs/a/run.json"), 3, r#"{"n": "x", "big": 18446744073709551615}"#)
                .unwrap();
        assert_eq!(
            record.integer("n").unwrap_err().to_string(),
            "runs/a/run.json: line 3: `n` is not an integer"
        );
        assert_eq!(record.unsigned("big").unwrap(), Some(u64::MAX));
        let broken = JsonObject::parse(Path::new("a.json"), 0, "{").unwrap_err().to_string();
        assert!(broken.starts_with("a.json: not valid JSON at byte 1"), "{broken}");
    }
}
