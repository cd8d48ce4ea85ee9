//! JSON envelopes of Matyan 0.3, one item each: `{"type","run_id","timestamp","payload"}`. A type that nobody knows is an
//! empty batch: it is skipped, as Matyan 0.3 does.

use bytes::Bytes;
use matyan_log::Record;
use matyan_model::{
    cbor,
    ids::RunId,
    json,
    object::singular,
    position::LogPosition,
    value::{Map, Value},
};
use matyan_proto::{
    ingest::v1::{self as pb, IngestionBatch, event::Kind},
    limits,
};
use tracing::Span;

use super::{Content, Entry, date, sent_of_headers, text_header};

#[derive(Debug)]
pub(crate) struct Envelope {
    kind: String,
    payload: Map,
    pub(super) value: Bytes,
}

pub(super) fn read(record: &Record) -> Result<Entry, String> {
    let text = std::str::from_utf8(&record.value).map_err(|error| format!("it is not UTF-8: {error}"))?;
    let Value::Map(mut envelope) = json::parse(text).map_err(|error| error.to_string())? else {
        return Err("it is not an object".to_owned());
    };
    let kind = text_of(&mut envelope, "type")?;
    let run_id = text_of(&mut envelope, "run_id")?;
    let received_us = envelope.get("timestamp").and_then(date::microseconds).unwrap_or(record.appended_us);
    let payload = match envelope.remove("payload") {
        Some(Value::Map(payload)) => payload,
        None => Map::new(),
        Some(_) => return Err("its payload is not an object".to_owned()),
    };
    Ok(Entry {
        position: LogPosition::default(),
        project: text_header(record, "matyan-project"),
        run_id: RunId::new(run_id),
        caller: text_header(record, "matyan-caller"),
        received_us,
        sent: sent_of_headers(record)?,
        content: Content::Envelope(Box::new(Envelope { kind, payload, value: record.value.clone() })),
        bytes: 0,
        trace: None,
        span: Span::none(),
    })
}

impl Envelope {
    pub(super) fn batch(&self, run: &RunId) -> Result<IngestionBatch, String> {
        let mut payload = self.payload.clone();
        if self.kind == "log_metric" && !matches!(payload.get("value"), Some(Value::Map(_))) {
            return metric(&mut payload);
        }
        let kind = match self.kind.as_str() {
            "create_run" => Kind::CreateRun(pb::CreateRun {
                force_resume: matches!(payload.get("force_resume"), Some(Value::Bool(true))),
                ..pb::CreateRun::default()
            }),
            "finish_run" => Kind::FinishRun(pb::FinishRun {}),
            "set_run_property" => Kind::SetRunProperty(pb::SetRunProperty {
                name: limited_text(run, &mut payload, "name", limits::NAME_BYTES)?,
                description: limited_text(run, &mut payload, "description", limits::DESCRIPTION_BYTES)?,
                archived: optional_bool(&payload, "archived")?,
                experiment: limited_text(run, &mut payload, "experiment", limits::NAME_BYTES)?,
            }),
            "add_tag" => Kind::AddTag(pb::AddTag { name: tag_name(run, &mut payload)? }),
            "remove_tag" => Kind::RemoveTag(pb::RemoveTag { name: tag_name(run, &mut payload)? }),
            "log_hparams" => Kind::LogParams(pb::LogParams { value: map_of(&payload, "value")? }),
            "log_custom_object" | "log_metric" => object(run, &mut payload)?,
            "log_terminal_line" => Kind::LogTerminalLine(pb::LogTerminalLine {
                line: text_of(&mut payload, "line")?,
                step: integer(&payload, "step")?.ok_or("`step` is missing")?,
            }),
            "log_record" => log_record(&mut payload)?,
            "blob_ref" => Kind::BlobRef(pb::BlobRef {
                key: text_of(&mut payload, "s3_key")?,
                path: text_of(&mut payload, "artifact_path")?,
                content_type: limited_text(run, &mut payload, "content_type", limits::CONTENT_TYPE_BYTES)?
                    .unwrap_or_else(|| "application/octet-stream".to_owned()),
                ..pb::BlobRef::default()
            }),
            "delete_run" => Kind::DeleteRun(pb::DeleteRun {}),
            other => {
                tracing::debug!(kind = other, "skipped an envelope of an unknown type");
                return Ok(IngestionBatch::default());
            }
        };
        let client_time_us = self.payload.get("client_datetime").and_then(date::microseconds);
        let event = pb::Event { client_time_us, kind: Some(kind) };
        Ok(IngestionBatch { events: vec![event], ..IngestionBatch::default() })
    }
}

fn metric(payload: &mut Map) -> Result<IngestionBatch, String> {
    let value = match payload.get("value") {
        Some(Value::Float(value)) => *value,
        Some(Value::Integer(value)) => *value as f64,
        Some(Value::Big(value)) => value.to_f64(),
        Some(Value::Bool(value)) => f64::from(u8::from(*value)),
        // What Matyan 0.3 makes of NaN and both infinities.
        Some(Value::Null) => f64::NAN,
        _ => return Err("`value` is not a number".to_owned()),
    };
    let points = pb::Points {
        series: vec![0],
        values: vec![value],
        steps: integer(payload, "step")?.into_iter().collect(),
        epochs: integer(payload, "epoch")?.into_iter().collect(),
        times_us: payload.get("client_datetime").and_then(date::microseconds).into_iter().collect(),
    };
    let series = pb::SeriesDef {
        name: text_of(payload, "name")?,
        context: context(payload)?,
        dtype: optional_text(payload, "dtype")?.unwrap_or_default(),
    };
    Ok(IngestionBatch { series: vec![series], points: vec![points], ..IngestionBatch::default() })
}

/// Cut alike where it is added and where it is removed.
fn tag_name(run: &RunId, payload: &mut Map) -> Result<String, String> {
    limited_text(run, payload, "tag_name", limits::NAME_BYTES)?.ok_or_else(|| missing("tag_name"))
}

fn object(run: &RunId, payload: &mut Map) -> Result<Kind, String> {
    let dtype = limited_text(run, payload, "dtype", limits::DTYPE_BYTES)?;
    let dtype = dtype.unwrap_or_else(|| "custom".to_owned());
    Ok(Kind::LogObject(pb::LogObject {
        name: text_of(payload, "name")?,
        context: context(payload)?,
        dtype: singular(&dtype).to_owned(),
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

/// The frontier of Matyan 0.3 knew no limits, and its clients wait for no better text.
fn limited_text(run: &RunId, map: &mut Map, name: &str, most: usize) -> Result<Option<String>, String> {
    let mut text = optional_text(map, name)?;
    if let Some(long) = text.as_mut().filter(|text| text.len() > most) {
        let (run, bytes) = (run.as_str(), long.len());
        tracing::warn!(run, name, bytes, most, "a text is cut to what a run may have");
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

/// The canonical text, which a batch may carry as well as any other.
fn context(map: &Map) -> Result<String, String> {
    match map.get("context") {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::Map(context)) => Ok(matyan_model::context::Context::new(context).stored().to_owned()),
        Some(_) => Err("`context` is not an object".to_owned()),
    }
}
