//! Validation of one batch. Bad items are removed one by one, each with its number and a
//! reason; good items are kept. Access tokens in them are masked. A batch without bad items and tokens keeps its
//! exact bytes.
//!
//! Memory use is proportional to the input, no matter what it contains: events and groups are
//! counted, and their memory is estimated, before they are decoded, because two bytes on the wire
//! can decode to hundreds. There are deliberately no checks that depend on stored data.

mod dictionary;
mod event;
mod points;
mod rejections;
mod tokens;
mod values;

use bytes::{Buf, Bytes};
use matyan_proto::{codec::check_decoded_size, ingest::v1 as pb, limits};
use prost::{
    Message,
    encoding::{DecodeContext, WireType, decode_key, skip_field},
};

pub(crate) use dictionary::Dictionary;
pub(crate) use rejections::Rejections;

use crate::{
    error::{Error, Result},
    run_id::RunId,
};

/// Reason why an item is refused: the name of the field, and the mistake in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    field: &'static str,
    reason: String,
}

impl Problem {
    pub(crate) fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self { field, reason: reason.into() }
    }

    fn too_long(field: &'static str, size: usize, limit: usize) -> Self {
        Self::new(field, format!("has {size} bytes; the limit is {limit}"))
    }
}

/// Result of checking a batch: the valid items, and the rejections.
#[derive(Debug)]
pub(crate) struct CheckedBatch {
    /// Encoded valid items; empty if there are none.
    pub(crate) bytes: Bytes,
    /// The same items, decoded.
    pub(crate) batch: pb::IngestionBatch,
    pub(crate) rejections: Rejections,
    /// Number of access tokens that were masked.
    pub(crate) masked_tokens: u64,
}

impl CheckedBatch {
    /// Removes all items.
    pub(crate) fn clear(&mut self) {
        self.batch = pb::IngestionBatch::default();
        self.bytes = Bytes::new();
    }

    /// Adds the definitions of all earlier batches.
    pub(crate) fn prepend_definitions(&mut self, mut series: Vec<pb::SeriesDef>) {
        series.append(&mut self.batch.series);
        self.batch.series = series;
        self.batch.series_base = 0;
        self.bytes = encode(&self.batch);
    }
}

/// An additional check of events.
pub(crate) type EventCheck = fn(&pb::Event) -> Result<(), Problem>;

/// Checks a batch and adds its definitions to the dictionary. An error affects the stream
/// rather than just the batch.
pub(crate) fn check(
    run: &RunId,
    dictionary: &mut Dictionary,
    extra_check: EventCheck,
    bytes: Bytes,
) -> Result<CheckedBatch> {
    let mut batch = match decode(&bytes) {
        Ok(batch) => batch,
        Err(problem) => return Ok(rejected_batch(&problem)),
    };
    let base = batch.series_base as usize;
    let len = dictionary.len();
    if !batch.series.is_empty() && base != len {
        let reason = format!("`series_base` is {base}, but the dictionary has {len} entries");
        return Err(Error::OutOfSequence(reason));
    }
    let mut rejections = Rejections::default();
    let has_all_definitions = dictionary.extend(&mut batch);
    let items = item_count(&batch);
    items_check(&mut batch, dictionary, &mut rejections, |event| {
        event::check(run, event).and_then(|()| extra_check(event))
    });
    let masked_tokens = tokens::mask(&mut batch.events);
    let is_unchanged = has_all_definitions && rejections.total() == 0 && masked_tokens == 0;
    let mut bytes = if is_unchanged { bytes } else { encode(&batch) };
    // Rows with a bad series have become single points, which may take ten times as many bytes.
    if bytes.len() > limits::BATCH_BYTES {
        let reason = format!(
            "has rows with a series that cannot be used, and takes {} bytes with their other points one by one: send \
             at most {} in one batch",
            bytes.len(),
            limits::BATCH_BYTES
        );
        rejections = all_rejected(&mut batch, items, reason);
        bytes = encode(&batch);
    }
    Ok(CheckedBatch { bytes, batch, rejections, masked_tokens })
}

fn rejected_batch(problem: &Problem) -> CheckedBatch {
    let mut rejections = Rejections::default();
    rejections.push(0, problem);
    let batch = pb::IngestionBatch::default();
    CheckedBatch { bytes: Bytes::new(), batch, rejections, masked_tokens: 0 }
}

fn encode(batch: &pb::IngestionBatch) -> Bytes {
    let is_empty = batch.series.is_empty() && batch.events.is_empty() && batch.points.is_empty();
    if is_empty { Bytes::new() } else { batch.encode_to_vec().into() }
}

fn item_count(batch: &pb::IngestionBatch) -> usize {
    batch.events.len() + batch.points.iter().map(points::items).sum::<usize>()
}

/// Removes all items of a batch, and keeps its definitions.
fn all_rejected(batch: &mut pb::IngestionBatch, items: usize, reason: String) -> Rejections {
    batch.events.clear();
    batch.points.clear();
    let mut rejections = Rejections::default();
    rejections.push_many(0, items, &Problem::new("batch", reason));
    rejections
}

fn items_check(
    batch: &mut pb::IngestionBatch,
    dictionary: &Dictionary,
    rejections: &mut Rejections,
    event_check: impl Fn(&pb::Event) -> Result<(), Problem>,
) {
    let items = item_count(batch);
    if items > limits::BATCH_ITEMS {
        let reason = format!("has {items} items: send at most {} in one batch", limits::BATCH_ITEMS);
        *rejections = all_rejected(batch, items, reason);
        return;
    }
    let mut item = 0;
    batch.events.retain(|event| {
        let problem = event_check(event).err();
        if let Some(problem) = &problem {
            rejections.push(item, problem);
        }
        item += 1;
        problem.is_none()
    });
    batch.points.retain_mut(|group| {
        let count = points::items(group);
        let keeps_any = points::check(dictionary, group, item, rejections);
        item += count;
        keeps_any
    });
}

/// Decodes the definitions of a dictionary that a client sends when it reopens a stream.
pub(crate) fn decode_series(bytes: &Bytes) -> Result<Vec<pb::SeriesDef>, String> {
    decode(bytes).map(|batch| batch.series).map_err(|problem| problem.reason)
}

fn decode(bytes: &Bytes) -> Result<pb::IngestionBatch, Problem> {
    let limit = limits::BATCH_BYTES;
    if bytes.len() > limit {
        return Err(Problem::new(
            "batch",
            format!("has {} bytes: send at most {limit} in one batch", bytes.len()),
        ));
    }
    let (definitions, parts) = count_fields(bytes).map_err(undecodable)?;
    if definitions > limits::SERIES_PER_RUN {
        let reason = format!("defines {definitions} series: a run has at most {}", limits::SERIES_PER_RUN);
        return Err(Problem::new("batch", reason));
    }
    if parts > limits::BATCH_EVENTS {
        let reason =
            format!("has {parts} events and groups: send at most {} in one batch", limits::BATCH_EVENTS);
        return Err(Problem::new("batch", reason));
    }
    check_decoded_size::<pb::IngestionBatch>(bytes)
        .map_err(|error| Problem::new("batch", error.to_string()))?;
    pb::IngestionBatch::decode(bytes.clone()).map_err(undecodable)
}

fn undecodable(error: prost::DecodeError) -> Problem {
    Problem::new("batch", format!("is not an IngestionBatch: {error}"))
}

/// Counts the definitions, and the events and groups of points, without decoding them.
fn count_fields(mut bytes: &[u8]) -> Result<(usize, usize), prost::DecodeError> {
    const SERIES: u32 = 1;
    const EVENTS: u32 = 3;
    const POINTS: u32 = 4;
    let mut definitions = 0;
    let mut parts = 0;
    while bytes.has_remaining() {
        let (field, wire_type) = decode_key(&mut bytes)?;
        skip_field(wire_type, field, &mut bytes, DecodeContext::default())?;
        match (field, wire_type) {
            (SERIES, WireType::LengthDelimited) => definitions += 1,
            (EVENTS | POINTS, WireType::LengthDelimited) => parts += 1,
            _ => {}
        }
    }
    Ok((definitions, parts))
}

#[cfg(test)]
mod tests;
