//! The types of messages with the names that Matyan 0.3 gave them, and their payloads in envelopes.
//! The names occur in messages of clients, in envelopes, and as labels of metrics.

use bytes::Bytes;
use matyan_proto::{
    common::v1::{Outcome, OutcomeKind},
    ingest::v1::{self as pb, event::Kind},
    limits,
};
use matyan_value::{Map, Value, cbor, json};

use crate::legacy_json::{
    members::{
        CHECKED, MemberWriter, STYLE, context, integer, limited_text, map_of, missing, objects_of,
        optional_bool, optional_text, text_of, write_context_and_dtype,
    },
    series_edit,
};

/// The type of one item: a point, or an event of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// A point of a metric; all others are events.
    LogMetric,
    /// Creates or resumes the run.
    CreateRun,
    /// Finishes the run.
    FinishRun,
    /// Sets name, description, experiment, or the archive flag.
    SetRunProperty,
    /// Adds a tag.
    AddTag,
    /// Removes a tag.
    RemoveTag,
    /// Merges params.
    LogHparams,
    /// Logs an object of a sequence.
    LogCustomObject,
    /// Logs a line of the terminal.
    LogTerminalLine,
    /// Logs a record of Python's logging.
    LogRecord,
    /// Registers an artifact.
    BlobRef,
    /// Renames a series, or deletes steps of it. Only servers may send it.
    EditSeries,
    /// Deletes the run. Only servers may send it. Must be the last variant.
    DeleteRun,
}

// The compiler does not notice a type that is missing from `ALL`, by which counts are indexed.
const _: () = assert!(MessageType::DeleteRun as usize + 1 == MessageType::ALL.len());

/// Number of items of each type, indexed by `MessageType as usize`.
pub type MessageCounts = [u64; MessageType::ALL.len()];

impl MessageType {
    /// All types, in the order of `MessageCounts`.
    pub const ALL: [Self; 13] = [
        Self::LogMetric,
        Self::CreateRun,
        Self::FinishRun,
        Self::SetRunProperty,
        Self::AddTag,
        Self::RemoveTag,
        Self::LogHparams,
        Self::LogCustomObject,
        Self::LogTerminalLine,
        Self::LogRecord,
        Self::BlobRef,
        Self::EditSeries,
        Self::DeleteRun,
    ];

    /// The names of all types, in the same order.
    pub const NAMES: [&'static str; Self::ALL.len()] = {
        let mut names = [""; Self::ALL.len()];
        let mut at = 0;
        while at < names.len() {
            names[at] = Self::ALL[at].name();
            at += 1;
        }
        names
    };

    /// Returns the name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LogMetric => "log_metric",
            Self::CreateRun => "create_run",
            Self::FinishRun => "finish_run",
            Self::SetRunProperty => "set_run_property",
            Self::AddTag => "add_tag",
            Self::RemoveTag => "remove_tag",
            Self::LogHparams => "log_hparams",
            Self::LogCustomObject => "log_custom_object",
            Self::LogTerminalLine => "log_terminal_line",
            Self::LogRecord => "log_record",
            Self::BlobRef => "blob_ref",
            Self::EditSeries => "edit_series",
            Self::DeleteRun => "delete_run",
        }
    }

    /// Returns the type with the given name.
    ///
    /// ```
    /// # use matyan_record::MessageType;
    /// assert_eq!(MessageType::from_name("add_tag"), Some(MessageType::AddTag));
    /// assert_eq!(MessageType::from_name("no_such_type"), None);
    /// ```
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|message_type| message_type.name() == name)
    }

    /// Returns the type of an event.
    pub fn of_event(kind: &Kind) -> Self {
        match kind {
            Kind::CreateRun(_) => Self::CreateRun,
            Kind::FinishRun(_) => Self::FinishRun,
            Kind::SetRunProperty(_) => Self::SetRunProperty,
            Kind::AddTag(_) => Self::AddTag,
            Kind::RemoveTag(_) => Self::RemoveTag,
            Kind::LogParams(_) => Self::LogHparams,
            Kind::LogObject(_) => Self::LogCustomObject,
            Kind::LogTerminalLine(_) => Self::LogTerminalLine,
            Kind::LogRecord(_) => Self::LogRecord,
            Kind::BlobRef(_) => Self::BlobRef,
            Kind::EditSeries(_) => Self::EditSeries,
            Kind::DeleteRun(_) => Self::DeleteRun,
        }
    }
}

/// Writes the members of an event's payload, without the braces.
pub(crate) fn write_payload(event: &pb::Event, received_us: i64, out: &mut String) {
    let mut object = MemberWriter { out, is_empty: true };
    let time = event.client_time_us;
    match event.kind.as_ref().expect(CHECKED) {
        Kind::CreateRun(create) => {
            object.time("client_datetime", time.unwrap_or(received_us), received_us);
            object.bool("force_resume", create.force_resume);
            if create.created_us.is_some() {
                object.integer("created_us", create.created_us);
            }
            if !create.parent_run_id.is_empty() {
                object.text("parent_run_id", &create.parent_run_id);
                object.integer("parent_step", create.parent_step);
            }
        }
        Kind::FinishRun(finish) => {
            object.optional_time(time, received_us);
            if let Some(outcome) = &finish.outcome {
                object.optional_text("outcome", outcome.kind().name());
                object.text("message", &outcome.message);
            }
        }
        Kind::SetRunProperty(set) => {
            object.optional_text("name", set.name.as_deref());
            object.optional_text("description", set.description.as_deref());
            set.archived.into_iter().for_each(|archived| object.bool("archived", archived));
            object.optional_text("experiment", set.experiment.as_deref());
        }
        Kind::AddTag(pb::AddTag { name }) | Kind::RemoveTag(pb::RemoveTag { name }) => {
            object.text("tag_name", name)
        }
        Kind::LogParams(params) => object.cbor("value", &params.value),
        Kind::LogObject(logged) => {
            object.text("name", &logged.name);
            object.cbor("value", &logged.value);
            object.integer("step", logged.step);
            object.integer("epoch", logged.epoch);
            object.separate();
            write_context_and_dtype(&logged.context, &logged.dtype, "custom", object.out);
            object.optional_time(time, received_us);
        }
        Kind::LogTerminalLine(line) => {
            object.text("line", &line.line);
            object.integer("step", Some(line.step));
        }
        Kind::LogRecord(record) => {
            object.text("message", &record.message);
            object.integer("level", Some(record.level));
            object.key("timestamp");
            json::write_float(object.out, record.timestamp, STYLE);
            object.optional_cbor("logger_info", &record.logger_info);
            object.optional_cbor("extra_args", &record.extra_args);
        }
        Kind::BlobRef(blob) => {
            object.text("s3_key", &blob.key);
            object.text("artifact_path", &blob.path);
            let is_empty = blob.content_type.is_empty();
            object
                .text("content_type", if is_empty { "application/octet-stream" } else { &blob.content_type });
        }
        Kind::EditSeries(edit) => series_edit::write(edit, &mut object),
        Kind::DeleteRun(_) => {}
    }
}

/// Reads an event from a payload of the given type. The error names the invalid member.
pub(crate) fn read_payload(run: &str, message_type: MessageType, payload: &mut Map) -> Result<Kind, String> {
    Ok(match message_type {
        MessageType::CreateRun => Kind::CreateRun(pb::CreateRun {
            force_resume: matches!(payload.get("force_resume"), Some(Value::Bool(true))),
            parent_run_id: limited_text(run, payload, "parent_run_id", limits::RUN_ID_BYTES)?
                .unwrap_or_default(),
            parent_step: integer(payload, "parent_step")?,
            created_us: integer(payload, "created_us")?,
        }),
        MessageType::FinishRun => Kind::FinishRun(pb::FinishRun { outcome: outcome(run, payload)? }),
        MessageType::SetRunProperty => Kind::SetRunProperty(pb::SetRunProperty {
            name: limited_text(run, payload, "name", limits::NAME_BYTES)?,
            description: limited_text(run, payload, "description", limits::DESCRIPTION_BYTES)?,
            archived: optional_bool(payload, "archived")?,
            experiment: limited_text(run, payload, "experiment", limits::NAME_BYTES)?,
        }),
        MessageType::AddTag => Kind::AddTag(pb::AddTag { name: tag_name(run, payload)? }),
        MessageType::RemoveTag => Kind::RemoveTag(pb::RemoveTag { name: tag_name(run, payload)? }),
        MessageType::LogHparams => Kind::LogParams(pb::LogParams { value: map_of(payload, "value")? }),
        MessageType::LogCustomObject | MessageType::LogMetric => object(run, payload)?,
        MessageType::LogTerminalLine => Kind::LogTerminalLine(pb::LogTerminalLine {
            line: text_of(payload, "line")?,
            step: integer(payload, "step")?.ok_or("`step` is missing")?,
        }),
        MessageType::LogRecord => log_record(payload)?,
        MessageType::BlobRef => Kind::BlobRef(pb::BlobRef {
            key: text_of(payload, "s3_key")?,
            path: text_of(payload, "artifact_path")?,
            content_type: limited_text(run, payload, "content_type", limits::CONTENT_TYPE_BYTES)?
                .unwrap_or_else(|| "application/octet-stream".to_owned()),
            ..pb::BlobRef::default()
        }),
        MessageType::EditSeries => Kind::EditSeries(series_edit::read(payload)?),
        MessageType::DeleteRun => Kind::DeleteRun(pb::DeleteRun {}),
    })
}

/// Reads the outcome of a run, which Matyan 0.3 does not write. As in a protobuf message, a kind
/// that a later version may add counts as none.
fn outcome(run: &str, payload: &mut Map) -> Result<Option<Outcome>, String> {
    let Some(name) = optional_text(payload, "outcome")? else { return Ok(None) };
    let Some(kind) = OutcomeKind::from_name(&name) else { return Ok(None) };
    let message = limited_text(run, payload, "message", limits::DESCRIPTION_BYTES)?.unwrap_or_default();
    Ok(Some(Outcome { kind: kind.into(), message }))
}

/// Reads the name of a tag. Additions and removals truncate it alike.
fn tag_name(run: &str, payload: &mut Map) -> Result<String, String> {
    limited_text(run, payload, "tag_name", limits::NAME_BYTES)?.ok_or_else(|| missing("tag_name"))
}

fn object(run: &str, payload: &mut Map) -> Result<Kind, String> {
    let dtype = limited_text(run, payload, "dtype", limits::DTYPE_BYTES)?;
    let dtype = dtype.unwrap_or_else(|| "custom".to_owned());
    Ok(Kind::LogObject(pb::LogObject {
        name: text_of(payload, "name")?,
        context: context(payload)?,
        dtype,
        step: integer(payload, "step")?,
        epoch: integer(payload, "epoch")?,
        value: objects_of(payload, "value")?,
    }))
}

fn log_record(payload: &mut Map) -> Result<Kind, String> {
    let timestamp = match payload.get("timestamp") {
        Some(Value::Float(timestamp)) => *timestamp,
        Some(Value::Integer(timestamp)) => *timestamp as f64,
        _ => return Err("`timestamp` is not a number".to_owned()),
    };
    let encoded = |name: &str| match payload.get(name) {
        None | Some(Value::Null) => Bytes::new(),
        Some(value) => cbor::encode(value).into(),
    };
    Ok(Kind::LogRecord(pb::LogRecord {
        level: integer(payload, "level")?.ok_or("`level` is missing")?,
        timestamp,
        logger_info: encoded("logger_info"),
        extra_args: encoded("extra_args"),
        message: text_of(payload, "message")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::legacy_json::Envelope;

    /// A later version may know more ways in which a run ends; the run ends here too.
    #[test]
    fn an_unknown_outcome_counts_as_none() {
        for (payload, expected) in [
            (r#"{"outcome":"failed","message":"no memory"}"#, Some((OutcomeKind::Failed, "no memory"))),
            (r#"{"outcome":"paused","message":"for the night"}"#, None),
            (r#"{"outcome":null}"#, None),
            ("{}", None),
        ] {
            let envelope = format!(
                r#"{{"type":"finish_run","run_id":"r","timestamp":"2024-01-02T03:04:05Z","payload":{payload}}}"#
            );
            let batch = Envelope::parse(&envelope.into()).unwrap().batch().unwrap();
            let expected =
                expected.map(|(kind, message)| Outcome { kind: kind.into(), message: message.to_owned() });
            assert_eq!(
                batch.events[0].kind,
                Some(Kind::FinishRun(pb::FinishRun { outcome: expected })),
                "{payload}"
            );
        }
    }

    #[test]
    fn every_type_has_its_place_and_its_name() {
        for (at, message_type) in MessageType::ALL.into_iter().enumerate() {
            assert_eq!(message_type as usize, at);
            assert_eq!(MessageType::from_name(message_type.name()), Some(message_type));
        }
    }
}
