//! The reader of envelopes, each of which becomes a batch with one item. An envelope of an unknown
//! type becomes an empty batch, as Matyan 0.3 ignores it.

use bytes::Bytes;
use matyan_proto::ingest::v1::{self as pb, IngestionBatch};
use matyan_value::{Map, Value};

use super::members::{context, integer, microseconds, optional_text, text_of};
use crate::{
    UnreadableRecord,
    control::parse_object,
    event::{MessageType, read_payload},
};

/// An envelope, of this version or of Matyan 0.3.
#[derive(Debug)]
pub struct Envelope {
    /// Id of the run.
    pub run_id: String,
    /// Time when the server received the item; `None` if it is unreadable.
    pub received_us: Option<i64>,
    /// Bytes of the record.
    pub value: Bytes,
    name: String,
    payload: Map,
}

impl Envelope {
    /// Parses a record's value, except for its item.
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

    /// Returns a batch with the item, and with a dictionary for it.
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
        let kind = read_payload(&self.run_id, message_type, &mut payload).map_err(UnreadableRecord)?;
        let client_time_us = self.payload.get("client_datetime").and_then(microseconds);
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
        // Matyan 0.3 writes NaN and the infinities as null.
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
