//! Members of the JSON objects in envelopes: a writer, and readers that name a member that is
//! missing or invalid.

use bytes::Bytes;
use matyan_value::{
    Context, Map, Value, cbor,
    datetime::{self, UtcTime},
    json::{self, JsonStyle},
};

pub(crate) const STYLE: JsonStyle = JsonStyle::ENVELOPE;

/// Reason why values can be written without a check.
pub(crate) const CHECKED: &str = "a checked batch has no event without a kind, and no malformed value";

/// Writes the members of a JSON object, without its braces.
pub(crate) struct MemberWriter<'o> {
    pub(crate) out: &'o mut String,
    pub(crate) is_empty: bool,
}

impl MemberWriter<'_> {
    pub(crate) fn separate(&mut self) {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(',');
        }
    }

    pub(crate) fn key(&mut self, key: &str) {
        self.separate();
        json::write_text(self.out, key, STYLE);
        self.out.push(':');
    }

    pub(crate) fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        json::write_text(self.out, text, STYLE);
    }

    pub(crate) fn optional_text(&mut self, key: &str, text: Option<&str>) {
        text.into_iter().for_each(|text| self.text(key, text));
    }

    pub(crate) fn bool(&mut self, key: &str, bool: bool) {
        self.key(key);
        self.out.push_str(if bool { "true" } else { "false" });
    }

    pub(crate) fn integer(&mut self, key: &str, integer: Option<i64>) {
        self.key(key);
        match integer {
            Some(integer) => self.out.push_str(&integer.to_string()),
            None => self.out.push_str("null"),
        }
    }

    pub(crate) fn cbor(&mut self, key: &str, cbor: &[u8]) {
        self.key(key);
        json::write_cbor(self.out, cbor, STYLE).expect(CHECKED);
    }

    pub(crate) fn optional_cbor(&mut self, key: &str, cbor: &[u8]) {
        if !cbor.is_empty() {
            self.cbor(key, cbor);
        }
    }

    /// Writes a time as Python's `isoformat` does, or `otherwise_us` if Python does not support its
    /// year.
    pub(crate) fn time(&mut self, key: &str, us: i64, otherwise_us: i64) {
        self.key(key);
        let time = UtcTime::from_us(us).or_else(|| UtcTime::from_us(otherwise_us)).unwrap_or(UtcTime::EPOCH);
        self.out.push('"');
        self.out.push_str(&time.isoformat());
        self.out.push('"');
    }

    pub(crate) fn optional_time(&mut self, us: Option<i64>, otherwise_us: i64) {
        us.into_iter().for_each(|us| self.time("client_datetime", us, otherwise_us));
    }
}

pub(crate) fn write_context_and_dtype(context: &str, dtype: &str, default_dtype: &str, out: &mut String) {
    out.push_str("\"context\":");
    match context {
        "" => out.push_str("null"),
        context => json::write_strict(out, context).expect(CHECKED),
    }
    out.push_str(",\"dtype\":");
    json::write_text(out, if dtype.is_empty() { default_dtype } else { dtype }, STYLE);
}

/// Reads a time in ISO 8601, or in Unix seconds as a number or text.
pub(crate) fn microseconds(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(seconds) => datetime::from_number(*seconds as f64),
        Value::Float(seconds) => datetime::from_number(*seconds),
        Value::Text(text) => datetime::parse(text),
        _ => None,
    }
}

pub(crate) fn text_of(map: &mut Map, name: &str) -> Result<String, String> {
    optional_text(map, name)?.ok_or_else(|| missing(name))
}

pub(crate) fn missing(name: &str) -> String {
    format!("`{name}` is missing")
}

pub(crate) fn optional_text(map: &mut Map, name: &str) -> Result<Option<String>, String> {
    match map.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{name}` is not a text")),
    }
}

/// Reads a text, and truncates it to the limit: the frontier of Matyan 0.3 enforced no limits, and
/// its clients do not wait for rejections.
pub(crate) fn limited_text(
    run: &str,
    map: &mut Map,
    name: &str,
    most: usize,
) -> Result<Option<String>, String> {
    let mut text = optional_text(map, name)?;
    if let Some(long) = text.as_mut().filter(|text| text.len() > most) {
        let bytes = long.len();
        tracing::warn!(run, name, bytes, most, "truncated a text to its limit");
        long.truncate(long.floor_char_boundary(most));
    }
    Ok(text)
}

pub(crate) fn optional_bool(map: &Map, name: &str) -> Result<Option<bool>, String> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(bool)) => Ok(Some(*bool)),
        Some(_) => Err(format!("`{name}` is not true or false")),
    }
}

pub(crate) fn integer(map: &Map, name: &str) -> Result<Option<i64>, String> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Integer(integer)) => Ok(Some(*integer)),
        Some(_) => Err(format!("`{name}` is not an integer of 64 bits")),
    }
}

pub(crate) fn map_of(map: &Map, name: &str) -> Result<Bytes, String> {
    match map.get(name) {
        Some(Value::Map(value)) => Ok(cbor::encode_map(value).into()),
        _ => Err(format!("`{name}` is not an object")),
    }
}

/// Returns the objects of a step: one object, or a list, which Matyan 0.3 does not write.
pub(crate) fn objects_of(map: &Map, name: &str) -> Result<Bytes, String> {
    match map.get(name) {
        Some(list @ Value::List(objects)) if objects.iter().all(|it| matches!(it, Value::Map(_))) => {
            Ok(cbor::encode(list).into())
        }
        _ => map_of(map, name),
    }
}

/// Returns the canonical text of a context.
pub(crate) fn context(map: &Map) -> Result<String, String> {
    match map.get("context") {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::Map(context)) => Ok(Context::new(context).stored().to_owned()),
        Some(_) => Err("`context` is not an object".to_owned()),
    }
}
