//! The log records of a batch for a running Matyan 0.3: one JSON envelope per item.
//! `matyan-wire` knows their form; this module bounds their size, because an envelope is many
//! times larger than its item.

use bytes::Bytes;
use matyan_log::{MAX_RECORD_BYTES, NewRecord};
use matyan_proto::ingest::v1 as pb;
use matyan_wire::{
    headers::push_author,
    legacy_json::{self, EnvelopeBatch, EnvelopeSeries, EnvelopeWriter},
    rows,
};

use crate::{
    batch::Problem,
    error::{Error, Result},
    record::{Author, Stamp},
};

/// Growth factor of a batch in this form: a point of four bytes, in a row, becomes a record of about a
/// thousand.
pub(crate) const GROWTH: usize = 250;

/// Bound on an envelope without its payload: names, a run id, and a time.
const FRAME_BYTES: usize = 4 << 10;

/// Limit for the records of one batch, keys and values together. A log accepts much more at a
/// time, but not from every client.
const MAX_BYTES: usize = 64 << 20;

/// An event below this size cannot outgrow a record: a byte of CBOR becomes at most six of
/// JSON.
const ALWAYS_FITS: usize = MAX_RECORD_BYTES / 8;

/// Refuses the rare event that is too large only as JSON.
pub(crate) fn check(event: &pb::Event) -> Result<(), Problem> {
    if prost::Message::encoded_len(event) <= ALWAYS_FITS {
        return Ok(());
    }
    let bytes = legacy_json::payload_bytes(event);
    if bytes + FRAME_BYTES > MAX_RECORD_BYTES {
        let reason = format!("has {bytes} bytes as JSON; the limit is {MAX_RECORD_BYTES}");
        return Err(Problem::new("event", reason));
    }
    Ok(())
}

/// Returns the records of a checked batch. There is at least one record, because a sequence must not
/// have gaps. Refuses a batch that grows too large.
pub(crate) fn encode(
    author: &Author,
    stamp: &Stamp,
    series: &EnvelopeSeries,
    batch: &pb::IngestionBatch,
) -> Result<Vec<NewRecord>> {
    let writer = &EnvelopeWriter::new(author.run.as_str(), stamp.received_us);
    let events = batch.events.iter().map(|event| writer.event(event));
    // Single points take several times the memory of rows, so only one group is listed at a time.
    let points = batch.points.iter().flat_map(|group| {
        let group = rows::plain(group);
        (0..group.values.len()).map(move |at| writer.point(series, &group, at))
    });
    let key = author.key();
    let mut values = Vec::new();
    let mut bytes = 0;
    for value in events.chain(points) {
        bytes += key.len() + value.len();
        values.push(value);
        if bytes > MAX_BYTES {
            return Err(Error::TooLargeAsJson { limit: MAX_BYTES });
        }
    }
    if values.is_empty() {
        values.push(writer.nothing());
    }
    let items = values.len();
    let mut records = Vec::with_capacity(items);
    for (item, value) in values.into_iter().enumerate() {
        let headers = headers(author, stamp, item, items);
        records.push(NewRecord { key: key.clone(), value, headers });
    }
    Ok(records)
}

fn headers(author: &Author, stamp: &Stamp, item: usize, items: usize) -> Vec<(String, Bytes)> {
    let mut headers = legacy_json::headers(stamp.trace.clone());
    let batch = EnvelopeBatch {
        producer: author.producer.id,
        sequence: stamp.sequence,
        acknowledged: stamp.acknowledged,
        is_ephemeral: author.producer.ephemeral,
        item: item as u32,
        items: items as u32,
    };
    batch.push_to(&mut headers);
    push_author(&mut headers, &author.caller.project, &author.caller.identity);
    headers
}

/// Returns the approximate memory used by a record.
pub(crate) fn held(record: &NewRecord) -> usize {
    let mut bytes = size_of::<NewRecord>() + record.key.len() + record.value.len();
    for (name, value) in &record.headers {
        bytes += size_of::<(String, Bytes)>() + name.len() + value.len();
    }
    bytes
}

#[cfg(test)]
mod tests;
