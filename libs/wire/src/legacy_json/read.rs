//! The reader of envelopes, each of which becomes a batch with one item. An envelope of an unknown
//! type is unreadable, so that it is parked: Matyan 0.3 skips it.

use bytes::Bytes;
use matyan_proto::ingest::v1::{self as pb, IngestionBatch};
use matyan_value::{Map, Value};

use super::{
    member_values::{context, integer, microseconds, optional_text, text_of},
    payload::Payload,
    write::NOTHING,
};
use crate::{
    MessageType, UnreadableRecord,
    control::parse_object,
    json_event::{member::Member, read::read_event},
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
        let name = text_of(&mut envelope, Member::Type.name()).map_err(UnreadableRecord)?;
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
        if self.name == NOTHING {
            return Ok(IngestionBatch::default());
        }
        let message_type = MessageType::from_name(&self.name).ok_or_else(|| {
            UnreadableRecord(format!(
                "its type `{}` is unknown: a newer frontier may have written it",
                self.name
            ))
        })?;
        let mut members = self.payload.clone();
        let is_object = matches!(members.get(Member::Value.name()), Some(Value::Map(_)));
        if message_type == MessageType::LogMetric && !is_object {
            return metric(&mut members).map_err(UnreadableRecord);
        }
        let mut payload = Payload { run_id: &self.run_id, members };
        let kind = read_event(&mut payload, message_type).map_err(UnreadableRecord)?;
        let event = pb::Event { client_time_us: client_time_us(&self.payload), kind: Some(kind) };
        Ok(IngestionBatch { events: vec![event], ..IngestionBatch::default() })
    }
}

fn client_time_us(payload: &Map) -> Option<i64> {
    payload.get(Member::ClientDatetime.name()).and_then(microseconds)
}

fn metric(payload: &mut Map) -> Result<IngestionBatch, String> {
    let value = match payload.get(Member::Value.name()) {
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
        steps: integer(payload, Member::Step.name())?.into_iter().collect(),
        epochs: integer(payload, Member::Epoch.name())?.into_iter().collect(),
        times_us: client_time_us(payload).into_iter().collect(),
        ..pb::Points::default()
    };
    let series = pb::SeriesDef {
        name: text_of(payload, Member::Name.name())?,
        context: context(payload)?,
        dtype: optional_text(payload, Member::Dtype.name())?.unwrap_or_default(),
    };
    Ok(IngestionBatch { series: vec![series], points: vec![points], ..IngestionBatch::default() })
}

#[cfg(test)]
mod tests {
    use matyan_proto::{
        common::v1::{Outcome, OutcomeKind},
        ingest::v1::event::Kind,
    };

    use super::*;

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
}
