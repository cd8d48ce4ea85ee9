//! Records of the control topic: the JSON envelope of Matyan 0.3, `{"type","timestamp","payload"}`,
//! without a key. Everything that the envelope lacks is in headers, which Matyan 0.3 ignores: the
//! id of the event, project, caller, and the number of a deleted run.

use bytes::Bytes;
use matyan_proto::log::v1::{ControlEvent, control_event::Kind};
use matyan_value::{Map, Value, datetime::UtcTime, json};
use serde_json::json;

use crate::{
    UnreadableRecord,
    headers::{self, CONTENT_TYPE, EVENT, Headers, JSON_TYPE, PROJECT, RUN_NUMBER, header, push_author},
};

/// The type of a control event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ControlEventType {
    /// A run was deleted; its blobs are still to be deleted.
    RunDeleted,
    /// A run was archived.
    RunArchived,
    /// A run was taken out of the archive.
    RunUnarchived,
    /// An experiment was deleted.
    ExperimentDeleted,
    /// A tag was deleted.
    TagDeleted,
}

impl ControlEventType {
    /// Every type.
    pub const ALL: [Self; 5] =
        [Self::RunDeleted, Self::RunArchived, Self::RunUnarchived, Self::ExperimentDeleted, Self::TagDeleted];

    /// Returns the name in envelopes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RunDeleted => "run_deleted",
            Self::RunArchived => "run_archived",
            Self::RunUnarchived => "run_unarchived",
            Self::ExperimentDeleted => "experiment_deleted",
            Self::TagDeleted => "tag_deleted",
        }
    }

    /// Returns the type with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event_type| event_type.name() == name)
    }
}

/// The part of a control event that its handler needs.
#[derive(Debug, PartialEq, Eq)]
pub struct ControlNotice {
    /// The type of the event; `None` if it is unknown.
    pub event_type: Option<ControlEventType>,
    /// Name of the project; empty for the default one.
    pub project: String,
    /// The deleted run, if the event is a deletion.
    pub deleted: Option<DeletedRun>,
}

/// The deletion of a run.
#[derive(Debug, PartialEq, Eq)]
pub struct DeletedRun {
    /// Id of the run.
    pub run_id: String,
    /// Number of the run; `None` in events of Matyan 0.3.
    pub number: Option<u64>,
    /// Keys of the blobs to delete; empty for all blobs of the run.
    pub blob_keys: Vec<String>,
}

/// Returns value and headers of an event's record, or `None` if the kind of the event is unknown.
///
/// ```
/// use matyan_proto::log::v1::{ControlEvent, TagDeleted, control_event::Kind};
/// use matyan_wire::control;
///
/// let kind = Kind::TagDeleted(TagDeleted { tag_id: "t".to_owned() });
/// let event = ControlEvent { kind: Some(kind), ..ControlEvent::default() };
/// let (value, headers) = control::encode(&event).unwrap();
/// assert_eq!(value, r#"{"type":"tag_deleted","timestamp":"1970-01-01T00:00:00.000000Z","payload":{"tag_id":"t"}}"#);
/// let notice = control::decode(&value, &headers).unwrap();
/// assert_eq!(notice.event_type, Some(control::ControlEventType::TagDeleted));
/// ```
pub fn encode(event: &ControlEvent) -> Option<(Bytes, Headers)> {
    let mut headers = vec![header(CONTENT_TYPE, JSON_TYPE), header(EVENT, hex::encode(&event.id))];
    push_author(&mut headers, &event.project, &event.caller);
    let (event_type, payload) = match event.kind.as_ref()? {
        Kind::RunDeleted(deleted) => {
            headers.push(header(RUN_NUMBER, deleted.run_number.to_string()));
            let mut payload = json!({"run_id": deleted.run_id});
            if !deleted.blob_keys.is_empty() {
                payload["blob_keys"] = json!(deleted.blob_keys);
            }
            (ControlEventType::RunDeleted, payload)
        }
        Kind::RunArchived(changed) => {
            let event_type = if changed.archived {
                ControlEventType::RunArchived
            } else {
                ControlEventType::RunUnarchived
            };
            (event_type, json!({"run_id": changed.run_id, "archived": changed.archived}))
        }
        Kind::ExperimentDeleted(deleted) => {
            (ControlEventType::ExperimentDeleted, json!({"experiment_id": deleted.experiment_id}))
        }
        Kind::TagDeleted(deleted) => (ControlEventType::TagDeleted, json!({"tag_id": deleted.tag_id})),
    };
    let timestamp = UtcTime::from_us(event.time_us).unwrap_or(UtcTime::EPOCH).micros();
    let value = json!({"type": event_type.name(), "timestamp": timestamp, "payload": payload}).to_string();
    Some((value.into(), headers))
}

/// Reads an event's record of this version or of Matyan 0.3.
pub fn decode(value: &[u8], headers: &Headers) -> Result<ControlNotice, UnreadableRecord> {
    let mut envelope = parse_object(value)?;
    let Some(Value::Text(name)) = envelope.remove("type") else {
        return Err(UnreadableRecord::new("`type` is not a text"));
    };
    let event_type = ControlEventType::from_name(&name);
    let payload = match envelope.remove("payload") {
        Some(Value::Map(payload)) => payload,
        _ => return Err(UnreadableRecord::new("`payload` is not an object")),
    };
    let deleted = match event_type {
        Some(ControlEventType::RunDeleted) => Some(deleted_run(payload, headers)?),
        _ => None,
    };
    Ok(ControlNotice { event_type, project: headers::text(headers, PROJECT).unwrap_or_default(), deleted })
}

/// Parses a value that is a JSON object.
pub(crate) fn parse_object(value: &[u8]) -> Result<Map, UnreadableRecord> {
    let text = std::str::from_utf8(value)
        .map_err(|error| UnreadableRecord::new(format!("it is not UTF-8: {error}")))?;
    match json::parse(text) {
        Ok(Value::Map(object)) => Ok(object),
        Ok(_) => Err(UnreadableRecord::new("it is not an object")),
        Err(error) => Err(UnreadableRecord::new(error.to_string())),
    }
}

fn deleted_run(mut payload: Map, headers: &Headers) -> Result<DeletedRun, UnreadableRecord> {
    let number = headers::text(headers, RUN_NUMBER).map(|number| number.parse()).transpose();
    let number =
        number.map_err(|_| UnreadableRecord::new(format!("header `{RUN_NUMBER}` is not a number")))?;
    let run_id = match payload.remove("run_id") {
        Some(Value::Text(run_id)) => run_id,
        _ => String::new(),
    };
    let blob_keys = match payload.remove("blob_keys") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::List(keys)) => keys.into_iter().map(blob_key).collect::<Result<_, _>>()?,
        Some(_) => return Err(UnreadableRecord::new("`blob_keys` is not a list")),
    };
    Ok(DeletedRun { run_id, number, blob_keys })
}

fn blob_key(value: Value) -> Result<String, UnreadableRecord> {
    match value {
        Value::Text(text) => Ok(text),
        _ => Err(UnreadableRecord::new("`blob_keys` has an item that is not a text")),
    }
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

    #[track_caller]
    fn check(kind: Kind, expected: &str) {
        let (value, headers) = encode(&event(kind)).unwrap();
        assert_eq!(std::str::from_utf8(&value).unwrap(), expected);
        let name = expected.split('"').nth(3).unwrap();
        let event_type = decode(&value, &headers).unwrap().event_type;
        assert_eq!(event_type.map(ControlEventType::name), Some(name));
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
    fn facts_that_a_handler_needs_are_read_back() {
        let deleted = pb::RunDeleted { run_id: "r".into(), run_number: 7, blob_keys: vec!["r/a".into()] };
        let event = ControlEvent { project: "3".into(), ..event(Kind::RunDeleted(deleted)) };
        let (value, headers) = encode(&event).unwrap();
        let decoded = decode(&value, &headers).unwrap();
        let deleted = DeletedRun { run_id: "r".into(), number: Some(7), blob_keys: vec!["r/a".into()] };
        assert_eq!((decoded.project.as_str(), decoded.deleted), ("3", Some(deleted)));
    }

    #[test]
    fn events_of_matyan_0_3_are_read() {
        let read = |value: &str| decode(value.as_bytes(), &Headers::new());
        let decoded =
            read(r#"{"type":"run_deleted","timestamp":"2024-01-02T03:04:05Z","payload":{"run_id":"r"}}"#)
                .unwrap();
        assert_eq!(
            decoded.deleted,
            Some(DeletedRun { run_id: "r".into(), number: None, blob_keys: Vec::new() })
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
