//! Control events as they stand on their topic: the JSON envelope of Matyan 0.3, `{"type","timestamp","payload"}`, without a
//! key. What it has no words for stands in headers, which others ignore: `matyan-event` (the id, in hexadecimal digits),
//! `matyan-project` (absent: the default one), `matyan-caller`, and of a deleted run `matyan-run-number`.

use bytes::Bytes;
use matyan_log::{NewRecord, Record};
use matyan_model::{
    ids::RunNumber,
    json,
    value::{Map, Value},
};
use matyan_proto::log::v1::{ControlEvent, control_event::Kind};
use serde_json::json;
use time::{OffsetDateTime, macros::format_description};

/// What a handler is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) kind: String,
    /// Its name; empty for the default one.
    pub(super) project: String,
    pub(super) deleted: Option<Deleted>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Deleted {
    pub(crate) run_id: String,
    /// None where the event came from Matyan 0.3.
    pub(crate) number: Option<RunNumber>,
    /// Only these blobs; empty: everything of the run.
    pub(crate) blob_keys: Vec<String>,
}

/// The record of an event; one of no kind that is known here tells nobody anything.
pub(super) fn encode(event: &ControlEvent) -> Option<NewRecord> {
    let mut headers =
        vec![header("content-type", "application/json"), header("matyan-event", hex::encode(&event.id))];
    for (name, value) in [("matyan-project", &event.project), ("matyan-caller", &event.caller)] {
        if !value.is_empty() {
            headers.push(header(name, value.clone()));
        }
    }
    let (kind, payload) = match event.kind.as_ref()? {
        Kind::RunDeleted(deleted) => {
            headers.push(header("matyan-run-number", deleted.run_number.to_string()));
            let mut payload = json!({"run_id": deleted.run_id});
            if !deleted.blob_keys.is_empty() {
                payload["blob_keys"] = json!(deleted.blob_keys);
            }
            ("run_deleted", payload)
        }
        Kind::RunArchived(changed) => {
            let kind = if changed.archived { "run_archived" } else { "run_unarchived" };
            (kind, json!({"run_id": changed.run_id, "archived": changed.archived}))
        }
        Kind::ExperimentDeleted(deleted) => {
            ("experiment_deleted", json!({"experiment_id": deleted.experiment_id}))
        }
        Kind::TagDeleted(deleted) => ("tag_deleted", json!({"tag_id": deleted.tag_id})),
    };
    let value = json!({"type": kind, "timestamp": timestamp(event.time_us), "payload": payload}).to_string();
    Some(NewRecord { key: Bytes::new(), value: value.into(), headers })
}

pub(super) fn decode(record: &Record) -> Result<Event, String> {
    let text = std::str::from_utf8(&record.value).map_err(|error| format!("it is not UTF-8: {error}"))?;
    let Value::Map(mut envelope) = json::parse(text).map_err(|error| error.to_string())? else {
        return Err("it is not an object".to_owned());
    };
    let Some(Value::Text(kind)) = envelope.remove("type") else {
        return Err("`type` is not a text".to_owned());
    };
    let payload = match envelope.remove("payload") {
        Some(Value::Map(payload)) => payload,
        _ => return Err("`payload` is not an object".to_owned()),
    };
    let deleted = if kind == "run_deleted" { Some(deleted(record, payload)?) } else { None };
    Ok(Event { kind, project: text_header(record, "matyan-project").unwrap_or_default(), deleted })
}

fn deleted(record: &Record, mut payload: Map) -> Result<Deleted, String> {
    let number = match text_header(record, "matyan-run-number").map(|number| number.parse()) {
        None => None,
        Some(Ok(number)) => Some(RunNumber(number)),
        Some(Err(_)) => return Err("header `matyan-run-number` is not a number".to_owned()),
    };
    let run_id = match payload.remove("run_id") {
        Some(Value::Text(run_id)) => run_id,
        _ => String::new(),
    };
    let blob_keys = match payload.remove("blob_keys") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::List(keys)) => keys.into_iter().map(text).collect::<Result<_, _>>()?,
        Some(_) => return Err("`blob_keys` is not a list".to_owned()),
    };
    Ok(Deleted { run_id, number, blob_keys })
}

fn text(value: Value) -> Result<String, String> {
    match value {
        Value::Text(text) => Ok(text),
        _ => Err("`blob_keys` holds something that is not a text".to_owned()),
    }
}

fn header(name: &str, value: impl Into<Bytes>) -> (String, Bytes) {
    (name.to_owned(), value.into())
}

fn text_header(record: &Record, name: &str) -> Option<String> {
    let (_, value) = record.headers.iter().find(|(own, _)| own == name)?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// RFC 3339 in UTC, with microseconds.
fn timestamp(us: i64) -> String {
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000);
    time.unwrap_or(OffsetDateTime::UNIX_EPOCH).format(form).expect("every part of a time can be written")
}

#[cfg(test)]
mod tests {
    use matyan_proto::log::v1 as pb;

    use super::*;

    fn event(kind: Kind) -> ControlEvent {
        ControlEvent {
            id: vec![0xab; 2].into(),
            time_us: 1_704_164_645_678_901,
            kind: Some(kind),
            ..ControlEvent::default()
        }
    }

    fn record(NewRecord { key, value, headers }: NewRecord) -> Record {
        Record { offset: 0, key, value, headers, appended_us: 0 }
    }

    #[track_caller]
    fn check(kind: Kind, expected: &str) {
        let encoded = encode(&event(kind)).unwrap();
        assert!(encoded.key.is_empty());
        assert_eq!(std::str::from_utf8(&encoded.value).unwrap(), expected);
        let kind = expected.split('"').nth(3).unwrap();
        assert_eq!(decode(&record(encoded)).unwrap().kind, kind);
    }

    #[test]
    fn envelopes_are_as_documented() {
        let deleted = |blob_keys: &[&str]| pb::RunDeleted {
            run_id: "r".into(),
            run_number: 7,
            blob_keys: blob_keys.iter().map(ToString::to_string).collect(),
        };
        check(
            Kind::RunDeleted(deleted(&[])),
            r#"{"type":"run_deleted","timestamp":"2024-01-02T03:04:05.678901Z","payload":{"run_id":"r"}}"#,
        );
        check(
            Kind::RunDeleted(deleted(&["r/a"])),
            r#"{"type":"run_deleted","timestamp":"2024-01-02T03:04:05.678901Z","payload":{"run_id":"r","blob_keys":["r/a"]}}"#,
        );
        for (archived, kind) in [(true, "run_archived"), (false, "run_unarchived")] {
            check(
                Kind::RunArchived(pb::RunArchived { run_id: "r".into(), archived }),
                &format!(
                    r#"{{"type":"{kind}","timestamp":"2024-01-02T03:04:05.678901Z","payload":{{"run_id":"r","archived":{archived}}}}}"#
                ),
            );
        }
        check(
            Kind::ExperimentDeleted(pb::ExperimentDeleted { experiment_id: "e".into() }),
            r#"{"type":"experiment_deleted","timestamp":"2024-01-02T03:04:05.678901Z","payload":{"experiment_id":"e"}}"#,
        );
        check(
            Kind::TagDeleted(pb::TagDeleted { tag_id: "t".into() }),
            r#"{"type":"tag_deleted","timestamp":"2024-01-02T03:04:05.678901Z","payload":{"tag_id":"t"}}"#,
        );
    }

    #[test]
    fn what_a_handler_needs_comes_back() {
        let deleted = pb::RunDeleted { run_id: "r".into(), run_number: 7, blob_keys: vec!["r/a".into()] };
        let event = ControlEvent { project: "3".into(), ..event(Kind::RunDeleted(deleted)) };
        let decoded = decode(&record(encode(&event).unwrap())).unwrap();
        let deleted =
            Deleted { run_id: "r".into(), number: Some(RunNumber(7)), blob_keys: vec!["r/a".into()] };
        assert_eq!((decoded.project.as_str(), decoded.deleted), ("3", Some(deleted)));
    }

    #[test]
    fn events_of_matyan_0_3_are_read() {
        let read = |value: &'static str| {
            decode(&record(NewRecord { key: Bytes::new(), value: value.into(), headers: Vec::new() }))
        };
        let decoded =
            read(r#"{"type":"run_deleted","timestamp":"2024-01-02T03:04:05Z","payload":{"run_id":"r"}}"#)
                .unwrap();
        assert_eq!(
            decoded.deleted,
            Some(Deleted { run_id: "r".into(), number: None, blob_keys: Vec::new() })
        );
        assert_eq!(read(r#"{"type":"new","payload":{}}"#).unwrap().deleted, None);
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"type":"run_deleted"}"#,
            r#"{"type":"run_deleted","payload":{"blob_keys":[1]}}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
