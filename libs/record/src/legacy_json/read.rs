//! The reader of envelopes: one item each, as a batch of its own. A type that is not known is an
//! empty batch: it is skipped, as Matyan 0.3 does.

use bytes::Bytes;
use matyan_proto::{
    ingest::v1::{self as pb, IngestionBatch, event::Kind},
    limits,
};
use matyan_value::{Context, Map, Value, cbor, datetime};

use crate::{MessageType, UnreadableRecord, control::parse_object};

type Result<T, E = String> = std::result::Result<T, E>;

/// An envelope, of this version or of Matyan 0.3.
#[derive(Debug)]
pub struct Envelope {
    /// The run.
    pub run_id: String,
    /// The time when the server received the item; `None` if it is unreadable.
    pub received_us: Option<i64>,
    /// The bytes of the record.
    pub value: Bytes,
    name: String,
    payload: Map,
}

impl Envelope {
    /// Reads a record's value, but not yet the item in it.
    pub fn parse(value: &Bytes) -> Result<Self, UnreadableRecord> {
        let mut envelope = parse_object(value)?;
        let name = text_of(&mut envelope, "type").map_err(UnreadableRecord)?;
        let run_id = text_of(&mut envelope, "run_id").map_err(UnreadableRecord)?;
        let received_us = envelope.get("timestamp").and_then(microseconds);
        let payload = match envelope.remove("payload") {
            Some(Value::Map(payload)) => payload,
            None => Map::new(),
            Some(_) => return Err(UnreadableRecord::new("its payload is not an object")),
        };
        Ok(Self { run_id, received_us, value: value.clone(), name, payload })
    }

    /// Returns the item as a batch that has a dictionary of its own.
    pub fn batch(&self) -> Result<IngestionBatch, UnreadableRecord> {
        let Some(message_type) = MessageType::from_name(&self.name) else {
            tracing::debug!(kind = self.name, "skipped an envelope of an unknown type");
            return Ok(IngestionBatch::default());
        };
        let mut payload = self.payload.clone();
        let is_object = matches!(payload.get("value"), Some(Value::Map(_)));
        if message_type == MessageType::LogMetric && !is_object {
            return metric(&mut payload).map_err(UnreadableRecord);
        }
        let kind = event(&self.run_id, message_type, &mut payload).map_err(UnreadableRecord)?;
        let client_time_us = self.payload.get("client_datetime").and_then(microseconds);
        let event = pb::Event { client_time_us, kind: Some(kind) };
        Ok(IngestionBatch { events: vec![event], ..IngestionBatch::default() })
    }
}

fn event(run: &str, message_type: MessageType, payload: &mut Map) -> Result<Kind> {
    Ok(match message_type {
        MessageType::CreateRun => Kind::CreateRun(pb::CreateRun {
            force_resume: matches!(payload.get("force_resume"), Some(Value::Bool(true))),
            ..pb::CreateRun::default()
        }),
        MessageType::FinishRun => Kind::FinishRun(pb::FinishRun {}),
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
        MessageType::DeleteRun => Kind::DeleteRun(pb::DeleteRun {}),
    })
}

/// Reads ISO 8601, or Unix seconds as a number or as text.
fn microseconds(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(seconds) => datetime::from_number(*seconds as f64),
        Value::Float(seconds) => datetime::from_number(*seconds),
        Value::Text(text) => datetime::parse(text),
        _ => None,
    }
}

fn metric(payload: &mut Map) -> Result<IngestionBatch, String> {
    let value = match payload.get("value") {
        Some(Value::Float(value)) => *value,
        Some(Value::Integer(value)) => *value as f64,
        Some(Value::Big(value)) => value.to_f64(),
        Some(Value::Bool(value)) => f64::from(u8::from(*value)),
        // Matyan 0.3 writes NaN and both infinities so.
        Some(Value::Null) => f64::NAN,
        _ => return Err("`value` is not a number".to_owned()),
    };
    let points = pb::Points {
        series: vec![0],
        values: vec![value],
        steps: integer(payload, "step")?.into_iter().collect(),
        epochs: integer(payload, "epoch")?.into_iter().collect(),
        times_us: payload.get("client_datetime").and_then(microseconds).into_iter().collect(),
    };
    let series = pb::SeriesDef {
        name: text_of(payload, "name")?,
        context: context(payload)?,
        dtype: optional_text(payload, "dtype")?.unwrap_or_default(),
    };
    Ok(IngestionBatch { series: vec![series], points: vec![points], ..IngestionBatch::default() })
}

/// Reads the name of a tag. It is truncated alike where it is added and where it is removed.
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
        value: map_of(payload, "value")?,
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

fn text_of(map: &mut Map, name: &str) -> Result<String, String> {
    optional_text(map, name)?.ok_or_else(|| missing(name))
}

fn missing(name: &str) -> String {
    format!("`{name}` is missing")
}

fn optional_text(map: &mut Map, name: &str) -> Result<Option<String>, String> {
    match map.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{name}` is not a text")),
    }
}

/// Truncates a long text: the frontier of Matyan 0.3 knew no limits, and its clients do not wait
/// for a rejection.
fn limited_text(run: &str, map: &mut Map, name: &str, most: usize) -> Result<Option<String>, String> {
    let mut text = optional_text(map, name)?;
    if let Some(long) = text.as_mut().filter(|text| text.len() > most) {
        let bytes = long.len();
        tracing::warn!(run, name, bytes, most, "truncated a text to its limit");
        long.truncate(long.floor_char_boundary(most));
    }
    Ok(text)
}

fn optional_bool(map: &Map, name: &str) -> Result<Option<bool>, String> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(bool)) => Ok(Some(*bool)),
        Some(_) => Err(format!("`{name}` is not true or false")),
    }
}

fn integer(map: &Map, name: &str) -> Result<Option<i64>, String> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Integer(integer)) => Ok(Some(*integer)),
        Some(_) => Err(format!("`{name}` is not an integer of 64 bits")),
    }
}

fn map_of(map: &Map, name: &str) -> Result<Bytes, String> {
    match map.get(name) {
        Some(Value::Map(value)) => Ok(cbor::encode_map(value).into()),
        _ => Err(format!("`{name}` is not an object")),
    }
}

/// Returns the canonical text, which a batch may carry as well as any other.
fn context(map: &Map) -> Result<String, String> {
    match map.get("context") {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::Map(context)) => Ok(Context::new(context).stored().to_owned()),
        Some(_) => Err("`context` is not an object".to_owned()),
    }
}
