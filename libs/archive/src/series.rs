//! Series as archives identify them: by name and context number. The number is the context's
//! own, 32 bits of a digest; if two contexts of a run share it, the second gets the next free
//! one.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use matyan_value::{
    Context, OBJECT_TYPES, Value,
    json::{self, JsonStyle},
    singular_dtype,
};

use super::{Fields, JsonObject, Result};

/// Names and types of terminal lines and log records, which archives store as if they were
/// series.
pub(super) const LINES: (&str, &str) = ("logs", "logs");
pub(super) const RECORDS: (&str, &str) = ("__log_records", "log_records");
/// Type of a series of numbers that names no other.
pub(super) const NUMBERS: &str = "float";

/// Series and contexts of a run being written.
#[derive(Default)]
pub(super) struct TraceList {
    ids: HashMap<String, u64>,
    contexts: BTreeMap<u64, String>,
    traces: Vec<String>,
    /// Places in `traces`, by name, context number and type. A client may write a series in several
    /// parts.
    places: HashMap<(String, u64, String), usize>,
}

impl TraceList {
    /// Returns the number of a context, given in its stored form.
    pub(super) fn context(&mut self, stored: &str) -> u64 {
        if let Some(id) = self.ids.get(stored) {
            return *id;
        }
        let context = Context::from_canonical(stored.to_owned());
        let mut id = u64::from(context.id());
        while self.contexts.contains_key(&id) {
            id += 1;
        }
        self.contexts.insert(id, context.canonical().to_owned());
        self.ids.insert(stored.to_owned(), id);
        id
    }

    /// Adds a series, or replaces its last value.
    pub(super) fn add(&mut self, name: &str, id: u64, dtype: &str, last: Option<(Value, i64)>) {
        let fields = Fields::default().text("name", name).unsigned("context_id", id).text("dtype", dtype);
        let line = match last {
            Some((last, step)) => fields.set("last", last).integer("last_step", step).json(),
            None => fields.json(),
        };
        match self.places.entry((name.to_owned(), id, dtype.to_owned())) {
            Entry::Occupied(place) => self.traces[*place.get()] = line,
            Entry::Vacant(place) => {
                place.insert(self.traces.len());
                self.traces.push(line);
            }
        }
    }

    pub(super) fn traces_json(&self) -> String {
        format!("[{}]\n", self.traces.join(",\n"))
    }

    pub(super) fn contexts_json(&self) -> String {
        let mut out = String::from("{");
        for (at, (id, canonical)) in self.contexts.iter().enumerate() {
            out.push_str(if at > 0 { ",\n" } else { "" });
            json::write_text(&mut out, &id.to_string(), JsonStyle::ARCHIVE);
            out.push_str(": ");
            out.push_str(canonical);
        }
        out.push_str("}\n");
        out
    }
}

/// Series of a run being read.
#[derive(Debug, Default)]
pub(super) struct RunSeries {
    contexts: HashMap<i64, String>,
    metrics: HashMap<(i64, String), String>,
    objects: HashMap<(i64, String), String>,
    /// Flags, because a metric may have the name of either.
    has_lines: bool,
    has_records: bool,
}

impl RunSeries {
    pub(super) fn read(traces: &[JsonObject], contexts: &JsonObject) -> Result<Self> {
        let mut known = Self::default();
        let error = |id: &str| contexts.error(format!("`{id}` is not a context"));
        for (id, context) in contexts.entries() {
            let number = id.parse().map_err(|_| error(id))?;
            let Value::Map(map) = context else { return Err(error(id)) };
            known.contexts.insert(number, Context::new(map).stored().to_owned());
        }
        for trace in traces {
            let key = (trace.integer("context_id")?.unwrap_or_default(), trace.required_text("name")?);
            let dtype = trace.text("dtype")?.unwrap_or_default();
            match (key.1.as_str(), dtype.as_str()) {
                LINES => known.has_lines = true,
                RECORDS => known.has_records = true,
                (_, dtype) if is_object(dtype) => drop(known.objects.insert(key, dtype.to_owned())),
                (_, dtype) => drop(known.metrics.insert(key, dtype.to_owned())),
            }
        }
        Ok(known)
    }

    /// Returns a context, or `None` if the archive does not contain it. The empty context
    /// is always known.
    pub(super) fn context(&self, id: i64) -> Option<&str> {
        self.contexts.get(&id).map(String::as_str).or_else(|| (id == 0).then_some(""))
    }

    /// Whether texts of this name are terminal lines.
    pub(super) fn are_lines(&self, name: &str) -> bool {
        self.has_lines && name == LINES.0
    }

    /// Whether a value of this name is a log record. A value that is not a map is a broken
    /// record, unless it can be a point.
    pub(super) fn is_record(&self, id: i64, name: &str, value: &Value) -> bool {
        self.has_records
            && name == RECORDS.0
            && (matches!(value, Value::Map(_)) || !self.metrics.contains_key(&(id, name.to_owned())))
    }

    /// Whether this name has objects and no metric.
    pub(super) fn is_object(&self, id: i64, name: &str) -> bool {
        let key = (id, name.to_owned());
        self.objects.contains_key(&key) && !self.metrics.contains_key(&key)
    }

    /// Returns the type of a metric according to its trace.
    pub(super) fn metric(&self, id: i64, name: &str) -> &str {
        let dtype = self.metrics.get(&(id, name.to_owned())).map(String::as_str);
        dtype.filter(|dtype| !dtype.is_empty()).unwrap_or(NUMBERS)
    }

    /// Returns the type of objects according to their trace or, without one, to the object
    /// itself.
    pub(super) fn object(&self, id: i64, name: &str, own: Option<&str>) -> String {
        let key = (id, name.to_owned());
        let described = self.objects.get(&key).or_else(|| self.metrics.get(&key)).map(String::as_str);
        described.filter(|dtype| !dtype.is_empty()).or(own).unwrap_or("custom").to_owned()
    }
}

fn is_object(dtype: &str) -> bool {
    dtype == "custom" || OBJECT_TYPES.contains(&singular_dtype(dtype))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_keep_their_numbers_and_never_share_one() {
        let mut traces = TraceList::default();
        assert_eq!(traces.context(""), 0);
        let own = u64::from(Context::parse(r#"{"a":1}"#).unwrap().id());
        // As if another context already had the number.
        traces.contexts.insert(own, "{}".to_owned());
        assert_eq!(traces.context(r#"{"a":1}"#), own + 1);
        assert_eq!(traces.context(r#"{"a":1}"#), own + 1, "the number is stable");
    }

    #[test]
    fn a_series_in_parts_is_listed_once() {
        let mut traces = TraceList::default();
        for (name, dtype, value) in [("a", "float", 1), ("a", "image", 2), ("a", "float", 3)] {
            traces.add(name, 0, dtype, Some((Value::Integer(value), value)));
        }
        let json = traces.traces_json();
        assert_eq!(json.lines().count(), 2, "{json}");
        assert!(json.starts_with(r#"[{"context_id": 0, "dtype": "float", "last": 3, "#), "{json}");
    }
}
