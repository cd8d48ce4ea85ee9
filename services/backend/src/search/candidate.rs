//! A run as the query language sees it: its document, plus only the data that the query names.
//! Params are looked up by path in the encoded map, so that only the requested value is
//! decoded.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use matyan_model::{
    ids::{RunId, RunNumber, SeriesNumber},
    object::ObjectHeader,
    run::Document,
    series::MetricHeader,
};
use matyan_ql::{Datum, KeyPath, RunView, SequenceSummary, SequenceView};
use matyan_value::{
    Map, Value,
    cbor::{self, CborLeaf},
};

/// A run to be evaluated against a query.
pub(crate) struct Candidate {
    pub(crate) number: RunNumber,
    pub(crate) document: Document,
    /// Encoded params; empty if the query uses none.
    pub(super) params: Bytes,
    pub(super) experiment: Option<Arc<str>>,
    pub(super) tags: Vec<Arc<str>>,
    pub(super) parent: Option<RunId>,
    /// Ordered by context id, then name.
    pub(super) sequences: Vec<Sequence>,
}

/// A sequence of the run.
pub(crate) struct Sequence {
    pub(crate) number: SeriesNumber,
    pub(crate) header: SequenceHeader,
    pub(super) context: Arc<SequenceContext>,
    pub(super) summary: SequenceSummary,
}

pub(crate) enum SequenceHeader {
    Metric(MetricHeader),
    Object(ObjectHeader),
}

/// A context, decoded once for all sequences that share it.
pub(super) struct SequenceContext {
    pub(super) id: u32,
    pub(super) values: Map,
}

impl Candidate {
    pub(crate) fn params_bytes(&self) -> usize {
        self.params.len()
    }
}

/// A time in seconds, as in the query language.
pub(super) fn seconds(microseconds: i64) -> f64 {
    microseconds as f64 / 1e6
}

impl RunView for Candidate {
    fn hash(&self) -> &str {
        &self.document.props.run_id
    }

    fn name(&self) -> Option<&str> {
        Some(&self.document.props.name)
    }

    fn description(&self) -> Option<&str> {
        Some(&self.document.props.description)
    }

    fn experiment(&self) -> Option<&str> {
        self.experiment.as_deref()
    }

    fn created_at(&self) -> f64 {
        seconds(self.document.props.created_us)
    }

    fn end_time(&self) -> Option<f64> {
        let props = &self.document.props;
        props.ended_us().filter(|_| !props.active).map(seconds)
    }

    fn active(&self) -> bool {
        self.document.props.active
    }

    fn outcome(&self) -> Option<&str> {
        self.document.props.outcome.as_ref().and_then(|outcome| outcome.kind.to_api().name())
    }

    fn parent(&self) -> Option<&str> {
        self.parent.as_ref().map(RunId::as_str)
    }

    fn archived(&self) -> bool {
        self.document.props.archived
    }

    fn tags(&self) -> Vec<&str> {
        self.tags.iter().map(|tag| &**tag).collect()
    }

    fn has_tag(&self, name: &str) -> bool {
        self.tags.iter().any(|tag| **tag == *name)
    }

    fn param(&self, path: &KeyPath) -> Option<Datum<'_>> {
        let found = cbor::find(&self.params, path.keys()).and_then(|found| found.map(encoded).transpose());
        found.unwrap_or_else(|error| {
            tracing::error!(
                run_id = self.hash(),
                error = &error as &dyn std::error::Error,
                "failed to read params"
            );
            None
        })
    }

    fn sequences(&self, name: &str) -> Vec<&dyn SequenceView> {
        let named = self.sequences.iter().filter(|sequence| sequence.name() == name);
        named.map(|sequence| sequence as &dyn SequenceView).collect()
    }
}

impl SequenceView for Sequence {
    fn name(&self) -> &str {
        match &self.header {
            SequenceHeader::Metric(header) => &header.name,
            SequenceHeader::Object(header) => &header.name,
        }
    }

    fn dtype(&self) -> &str {
        match &self.header {
            SequenceHeader::Metric(header) => &header.dtype,
            SequenceHeader::Object(header) => &header.dtype,
        }
    }

    fn context(&self, path: &KeyPath) -> Option<Datum<'_>> {
        let Some((first, rest)) = path.keys().split_first() else {
            return Some(object(&self.context.values));
        };
        let top = self.context.values.get(&**first)?;
        rest.iter().try_fold(top, |value, key| value.as_map()?.get(&**key)).map(datum)
    }

    fn summary(&self) -> SequenceSummary {
        self.summary
    }
}

fn encoded(bytes: &[u8]) -> Result<Datum<'_>, cbor::CborError> {
    Ok(match cbor::leaf(bytes)? {
        Some(CborLeaf::Null) => Datum::None,
        Some(CborLeaf::Bool(value)) => Datum::Bool(value),
        Some(CborLeaf::Integer(value)) => Datum::Int(value),
        Some(CborLeaf::Float(value)) => Datum::Float(value),
        Some(CborLeaf::Text(text)) => Datum::Text(Cow::Borrowed(text)),
        None => owned(cbor::decode(bytes)?),
    })
}

/// Converts a value into a datum that borrows nothing from it.
fn owned(value: Value) -> Datum<'static> {
    match value {
        Value::Text(text) => Datum::Text(Cow::Owned(text)),
        Value::Bytes(bytes) => Datum::Bytes(Cow::Owned(bytes)),
        Value::List(items) => Datum::List(items.into_iter().map(owned).collect()),
        Value::Map(map) => {
            Datum::Object(map.into_iter().map(|(key, value)| (Cow::Owned(key), owned(value))).collect())
        }
        scalar => scalar_datum(&scalar),
    }
}

fn datum(value: &Value) -> Datum<'_> {
    match value {
        Value::Text(text) => Datum::Text(Cow::Borrowed(text)),
        Value::Bytes(bytes) => Datum::Bytes(Cow::Borrowed(bytes)),
        Value::List(items) => Datum::List(items.iter().map(datum).collect()),
        Value::Map(map) => object(map),
        scalar => scalar_datum(scalar),
    }
}

fn object(map: &Map) -> Datum<'_> {
    Datum::Object(map.iter().map(|(key, value)| (Cow::Borrowed(key.as_str()), datum(value))).collect())
}

fn scalar_datum(value: &Value) -> Datum<'static> {
    match value {
        Value::Bool(value) => Datum::Bool(*value),
        Value::Integer(value) => Datum::Int(*value),
        Value::Float(value) => Datum::Float(*value),
        Value::Big(big) => {
            let mut magnitude = big.magnitude().to_vec();
            if big.is_negative() {
                add_one(&mut magnitude);
            }
            Datum::BigInt { negative: big.is_negative(), magnitude: magnitude.into() }
        }
        Value::Null | Value::Text(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) => Datum::None,
    }
}

/// Adds one to a big-endian magnitude: CBOR stores a negative n as -1 - n.
fn add_one(magnitude: &mut Vec<u8>) {
    for byte in magnitude.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return;
        }
    }
    magnitude.insert(0, 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_and_decoded_values_are_equal() {
        for text in ["null", "true", "-7", "1.5", r#""x""#, r#"[1,{"a":[]}]"#, r#"{"a":{"b":"c"}}"#] {
            let value = matyan_value::json::parse(text).unwrap();
            assert_eq!(encoded(&cbor::encode(&value)).unwrap(), datum(&value), "{text}");
        }
        for (text, negative, magnitude) in [
            ("18446744073709551616", false, &[1, 0, 0, 0, 0, 0, 0, 0, 0][..]),
            ("-18446744073709551616", true, &[1, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("-9223372036854775809", true, &[0x80, 0, 0, 0, 0, 0, 0, 1]),
        ] {
            let bytes = cbor::encode(&Value::integer_from_decimal(text).unwrap());
            let magnitude = Cow::Borrowed(magnitude);
            assert_eq!(encoded(&bytes).unwrap(), Datum::BigInt { negative, magnitude }, "{text}");
        }
    }
}
