//! Changes of the params of a run. They are checked before anything is published: the server acknowledges params for
//! which the run has no room, and then does not store them.

use matyan_proto::ingest::v1::LogRecord;
use matyan_proto::ingest::v1::event::Kind;
use matyan_proto::limits::{PARAMS_BYTES, RUN_PARAMS_BYTES};
use matyan_value::{Map, Value, cbor};

use crate::batch::RunBatch;
use crate::error::{Result, WandbError};
use crate::fitting::{fitting_map, problem};

/// Room that configs and summaries leave to small members of a run, such as its group and its artifacts.
const RESERVED_BYTES: usize = 64 << 10;

/// Room for the names of a path, and the heads of its maps.
const PATH_BYTES: usize = 256;

/// Level of a warning, as in Python's `logging`.
const WARNING_LEVEL: i64 = 30;

/// The params of a run after the changes.
#[derive(Clone, Debug)]
pub(crate) struct ParamChanges {
    tree: Map,
    /// The maximum size of the params.
    most_bytes: usize,
}

impl ParamChanges {
    /// Starts with all params of the run.
    pub(crate) fn new(stored: Map) -> Self {
        let most_bytes = cbor::encode_map(&stored).len();
        Self { tree: stored, most_bytes }
    }

    /// Sets the value at a path. A map replaces the stored map. `field` is the client's name of the value.
    pub(crate) fn set(
        &mut self,
        batch: &mut RunBatch,
        field: &str,
        path: &[&str],
        value: Value,
    ) -> Result<()> {
        check_value(field, path, &value)?;
        let limit =
            if value.as_map().is_some() { RUN_PARAMS_BYTES - RESERVED_BYTES } else { RUN_PARAMS_BYTES };
        let message = nested(path, value.clone());
        self.most_bytes += cbor::encode_map(&message).len();
        put(&mut self.tree, path, value.clone());
        if self.most_bytes > limit {
            self.most_bytes = cbor::encode_map(&self.tree).len();
        }
        if self.most_bytes > limit {
            return Err(WandbError::invalid(format!(
                "`{field}` does not fit: the params of the run would have {} bytes, and the limit is {limit}{}",
                self.most_bytes,
                advice(&value)
            )));
        }
        if value.as_map().is_some_and(|map| map.len() == 1) {
            // A map of one entry would be merged into the stored map as one more entry.
            batch.log_params(&nested(path, Value::Map(Map::new())));
        }
        batch.log_params(&message);
        Ok(())
    }

    /// Sets the map at a path. Members for which there is no room are replaced by texts that say so.
    pub(crate) fn set_fitting(&mut self, batch: &mut RunBatch, field: &str, path: &[&str], map: Map) {
        let mut others = self.tree.clone();
        put(&mut others, path, Value::Null);
        let taken = cbor::encode_map(&others).len() + PATH_BYTES + RESERVED_BYTES;
        let room = RUN_PARAMS_BYTES.saturating_sub(taken).min(PARAMS_BYTES - PATH_BYTES);
        let map = fitting_map(map, path.len(), room);
        let before = self.clone();
        if self.set(batch, field, path, Value::Map(map)).is_err() {
            // Not even a text fits. The record is always the same, so that it is stored once.
            *self = before;
            let message = format!("left out the {field}: the params of the run have no room for it");
            let record = LogRecord { message, level: WARNING_LEVEL, ..LogRecord::default() };
            batch.add(Kind::LogRecord(record), None);
        }
    }

    /// Whether there is a map with members at a path.
    pub(crate) fn has_members(&self, path: &[&str]) -> bool {
        self.map_at(path).is_some_and(|map| !map.is_empty())
    }

    /// The map at a path; `None` if there is none.
    pub(crate) fn map_at(&self, path: &[&str]) -> Option<&Map> {
        path.iter().try_fold(&self.tree, |map, name| map.get(*name)?.as_map())
    }
}

/// Checks everything that does not depend on the other params of the run.
fn check_value(field: &str, path: &[&str], value: &Value) -> Result<()> {
    let encoded = cbor::encode(value);
    if let Some(reason) = problem(value, &encoded, path.len()) {
        let is_bad = |member: &Value| problem(member, &cbor::encode(member), path.len() + 1).is_some();
        let named = value.as_map().and_then(|map| map.iter().find(|(_, member)| is_bad(member)));
        let member =
            named.map_or_else(String::new, |(name, _)| format!(": its member `{}`", name.escape_debug()));
        return Err(WandbError::invalid(format!("`{field}`{member} {reason}: log it as an artifact")));
    }
    let limit = PARAMS_BYTES - PATH_BYTES;
    if encoded.len() > limit {
        return Err(WandbError::invalid(format!(
            "`{field}` has {} bytes, and the limit is {limit}{}",
            encoded.len(),
            advice(value)
        )));
    }
    Ok(())
}

/// The end of an error about a value that is too large.
fn advice(value: &Value) -> String {
    let sizes = value.as_map().into_iter().flatten().map(|(name, member)| (cbor::encode(member).len(), name));
    let largest = sizes.max().map_or_else(String::new, |(bytes, name)| {
        format!("; its largest member is `{}` with {bytes} bytes", name.escape_debug())
    });
    format!("{largest}: log large values as artifacts")
}

/// A message that sets the value at a path.
fn nested(path: &[&str], value: Value) -> Map {
    let (first, rest) = path.split_first().expect("a path has a name");
    let inner =
        rest.iter().rev().fold(value, |value, name| Value::Map(Map::from([((*name).to_owned(), value)])));
    Map::from([((*first).to_owned(), inner)])
}

/// Puts a value at a path, as the server does.
fn put(tree: &mut Map, path: &[&str], value: Value) {
    let (last, parents) = path.split_last().expect("a path has a name");
    let mut map = tree;
    for name in parents {
        let child = map.entry((*name).to_owned()).or_insert(Value::Null);
        if child.as_map().is_none() {
            *child = Value::Map(Map::new());
        }
        map = match child {
            Value::Map(inner) => inner,
            _ => unreachable!("it was made a map above"),
        };
    }
    map.insert((*last).to_owned(), value);
}

#[cfg(test)]
mod tests {
    use matyan_proto::ingest::v1::IngestionBatch;
    use matyan_value::json;
    use prost::Message;

    use super::*;

    const PATH: [&str; 1] = ["summary"];

    fn map(text: &str) -> Map {
        json::parse(text).unwrap().as_map().unwrap().clone()
    }

    fn text(bytes: usize) -> Value {
        Value::Text("x".repeat(bytes))
    }

    /// The params in the messages of a batch, and the texts of its log records.
    fn published(batch: RunBatch) -> (Vec<Map>, Vec<String>) {
        let mut params = Vec::new();
        let mut records = Vec::new();
        let events = batch.into_parts().flat_map(|part| IngestionBatch::decode(part).unwrap().events);
        for event in events {
            match event.kind {
                Some(Kind::LogParams(message)) => params.push(cbor::decode_map(&message.value).unwrap()),
                Some(Kind::LogRecord(record)) => records.push(record.message),
                other => panic!("{other:?}"),
            }
        }
        (params, records)
    }

    #[test]
    fn a_map_of_one_entry_replaces_the_stored_map() {
        let mut batch = RunBatch::default();
        let mut changes = ParamChanges::new(map(r#"{"summary": {"acc": 1, "loss": 2}}"#));
        changes.set(&mut batch, "summary", &PATH, Value::Map(map(r#"{"acc": 1}"#))).unwrap();
        assert_eq!(published(batch).0, [map(r#"{"summary": {}}"#), map(r#"{"summary": {"acc": 1}}"#)]);
        assert_eq!(changes.tree, map(r#"{"summary": {"acc": 1}}"#));
    }

    #[test]
    fn a_value_without_room_is_refused_by_name() {
        let stored = Map::from([("hparams".to_owned(), text(RUN_PARAMS_BYTES / 2))]);
        let mut batch = RunBatch::default();
        let mut changes = ParamChanges::new(stored);
        let large =
            Map::from([("big".to_owned(), text(RUN_PARAMS_BYTES / 2)), ("a".to_owned(), Value::Null)]);
        let error = changes.set(&mut batch, "summaryMetrics", &PATH, Value::Map(large)).unwrap_err();
        assert!(error.message.contains("`summaryMetrics`") && error.message.contains("`big`"), "{error}");
        assert!(batch.is_empty());
        // The replaced value makes room.
        let config =
            Map::from([("big".to_owned(), text(RUN_PARAMS_BYTES / 2)), ("a".to_owned(), Value::Null)]);
        let mut changes = ParamChanges::new(Map::from([("hparams".to_owned(), text(RUN_PARAMS_BYTES / 2))]));
        changes.set(&mut batch, "config", &["hparams"], Value::Map(config)).unwrap();
    }

    #[test]
    fn a_value_above_the_limit_of_a_message_or_too_deep_is_refused_by_name() {
        let deep = (0..126).fold(Value::Null, |value, _| Value::List(vec![value]));
        for (member, expected) in [
            (text(PARAMS_BYTES), "`big` with"),
            (Value::List(vec![Value::List(vec![deep])]), "its member `big` is nested deeper"),
        ] {
            let large = Map::from([("big".to_owned(), member), ("a".to_owned(), Value::Null)]);
            let mut changes = ParamChanges::new(Map::new());
            let mut batch = RunBatch::default();
            let error = changes.set(&mut batch, "config", &PATH, Value::Map(large)).unwrap_err();
            assert!(error.message.contains("`config`") && error.message.contains(expected), "{error}");
            assert!(batch.is_empty());
        }
    }

    #[test]
    fn a_summary_is_made_to_fit_the_room_of_its_run() {
        let stored = Map::from([("hparams".to_owned(), text(RUN_PARAMS_BYTES - (1 << 20)))]);
        let summary = Map::from([("big".to_owned(), text(2 << 20)), ("acc".to_owned(), Value::Float(0.5))]);
        let mut batch = RunBatch::default();
        let mut changes = ParamChanges::new(stored);
        changes.set_fitting(&mut batch, "summary", &PATH, summary);
        let (params, records) = published(batch);
        assert_eq!((params.len(), records.len()), (1, 0));
        let stored = params[0]["summary"].as_map().unwrap();
        assert_eq!(stored["acc"], Value::Float(0.5));
        assert!(matches!(&stored["big"], Value::Text(note) if note.contains("no room")), "{stored:?}");
        assert!(cbor::encode_map(&changes.tree).len() <= RUN_PARAMS_BYTES);
    }

    #[test]
    fn a_summary_of_a_full_run_leaves_a_record() {
        let stored = Map::from([("hparams".to_owned(), text(RUN_PARAMS_BYTES - 100))]);
        let mut batch = RunBatch::default();
        let mut changes = ParamChanges::new(stored.clone());
        changes.set_fitting(&mut batch, "summary", &PATH, map(r#"{"acc": 1}"#));
        let (params, records) = published(batch);
        assert_eq!((params.len(), records.len()), (0, 1));
        assert!(records[0].starts_with("left out the summary"), "{records:?}");
        assert_eq!(changes.tree, stored);
        assert!(!changes.has_members(&PATH));
        changes.set(&mut RunBatch::default(), "state", &["wandb", "state"], Value::Bool(true)).unwrap();
    }
}
