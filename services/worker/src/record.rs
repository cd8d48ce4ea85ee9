//! A record of the ingestion log, read: whose it is, and the batch in it. Both forms are read, whatever a frontier is set to:
//! the format byte 1 with a `LogEntry`, and the JSON envelopes of Matyan 0.3.
//!
//! The batch itself is decoded later, beside the batches of other runs. What cannot be read is kept as it is, to be parked.

mod date;
mod envelope;

use bytes::Bytes;
use matyan_log::Record;
use matyan_model::{
    ids::{ProducerId, RunId},
    position::LogPosition,
    producer::{Part, Sent},
};
use matyan_proto::{ingest::v1::IngestionBatch, limits, log::v1::LogEntry};
use matyan_trace::{TARGET, TRACEPARENT};
use prost::Message;
use tracing::Span;

/// A record, as far as it concerns the partition.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) position: LogPosition,
    /// Name; empty for the default project.
    pub(crate) project: String,
    pub(crate) run_id: RunId,
    pub(crate) caller: String,
    pub(crate) received_us: i64,
    pub(crate) sent: Option<Sent>,
    pub(crate) content: Content,
    /// What it takes of the window.
    pub(crate) bytes: usize,
    /// The trace context that the record came with.
    pub(crate) trace: Option<Bytes>,
    /// Goes on with the trace that brought it into the log, until it is applied.
    pub(crate) span: Span,
}

#[derive(Debug)]
pub(crate) enum Content {
    Batch(Bytes),
    Envelope(Box<envelope::Envelope>),
    Unreadable { reason: String, value: Bytes, content_type: &'static str },
}

/// Of a batch as it is parked.
pub(crate) const BATCH_TYPE: &str = "application/x-protobuf;type=matyan.ingest.v1.IngestionBatch";
const ENVELOPE_TYPE: &str = "application/json";
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// A batch to be applied.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) items: IngestionBatch,
    /// Its series numbers mean its own definitions, also where it has a producer.
    pub(crate) has_own_dictionary: bool,
}

const FORMAT: u8 = 1;

impl Entry {
    pub(crate) fn read(log: u32, partition: u32, record: Record) -> Self {
        let position = LogPosition { log, partition, offset: record.offset };
        let bytes = record.value.len() + ENTRY_BYTES;
        let read = match record.value.first() {
            Some(&FORMAT) => read_entry(&record),
            Some(b'{') => envelope::read(&record),
            Some(format) => Err(format!("its format is {format}, and this worker reads {FORMAT} and JSON")),
            None => Err("it is empty".to_owned()),
        };
        let unreadable = |reason| Self {
            position,
            project: String::new(),
            run_id: run_of_key(&record.key),
            caller: String::new(),
            received_us: record.appended_us,
            sent: None,
            content: Content::Unreadable { reason, value: record.value.clone(), content_type: UNKNOWN_TYPE },
            bytes,
            trace: trace(&record).cloned(),
            span: Span::none(),
        };
        match read {
            Ok(entry) => match entry.too_long() {
                Some(reason) => unreadable(reason),
                None => {
                    let span = span(&record, &entry.run_id, position);
                    Self { position, bytes, trace: trace(&record).cloned(), span, ..entry }
                }
            },
            Err(reason) => unreadable(reason),
        }
    }

    /// Whoever else writes to the log is held to what our frontiers are: no key takes more.
    fn too_long(&self) -> Option<String> {
        let run_id = self.run_id.as_str();
        if run_id.is_empty() {
            return Some("its run id is empty".to_owned());
        }
        let texts = [
            ("run id", run_id, limits::RUN_ID_BYTES),
            ("project", &self.project, limits::PROJECT_BYTES),
            ("caller", &self.caller, limits::NAME_BYTES),
        ];
        let (what, text, limit) = texts.into_iter().find(|(_, text, limit)| text.len() > *limit)?;
        Some(format!("its {what} has {} bytes, and {limit} are the most", text.len()))
    }

    /// The batch, decoded; what cannot be is told with the reason.
    pub(crate) fn batch(&self) -> Result<Batch, String> {
        match &self.content {
            Content::Batch(bytes) => match IngestionBatch::decode(bytes.clone()) {
                Ok(items) => Ok(Batch { items, has_own_dictionary: self.sent.is_none() }),
                Err(error) => Err(format!("its batch cannot be decoded: {error}")),
            },
            Content::Envelope(envelope) => {
                Ok(Batch { items: envelope.batch(&self.run_id)?, has_own_dictionary: true })
            }
            Content::Unreadable { reason, .. } => Err(reason.clone()),
        }
    }

    /// The bytes that are parked when no batch can be made of them.
    pub(crate) fn raw(&self) -> Bytes {
        match &self.content {
            Content::Batch(bytes) => bytes.clone(),
            Content::Envelope(envelope) => envelope.value.clone(),
            Content::Unreadable { value, .. } => value.clone(),
        }
    }

    /// Of these bytes.
    pub(crate) fn content_type(&self) -> &'static str {
        match &self.content {
            Content::Batch(_) => BATCH_TYPE,
            Content::Envelope(_) => ENVELOPE_TYPE,
            Content::Unreadable { content_type, .. } => content_type,
        }
    }
}

/// None where nobody has begun one.
fn trace(record: &Record) -> Option<&Bytes> {
    record.headers.iter().find(|(name, _)| name == TRACEPARENT).map(|(_, trace)| trace)
}

fn span(record: &Record, run_id: &RunId, position: LogPosition) -> Span {
    let Some(trace) = trace(record) else { return Span::none() };
    let LogPosition { log, partition, offset } = position;
    let run_id = run_id.as_str();
    let span = tracing::info_span!(target: TARGET, parent: None, "apply", run_id, log, partition, offset);
    matyan_trace::follow(&span, trace);
    span
}

/// Where a record is parked that does not say whose it is: under its key, if that can be a run id.
fn run_of_key(key: &Bytes) -> RunId {
    match std::str::from_utf8(key) {
        Ok(id) if (1..=limits::RUN_ID_BYTES).contains(&id.len()) => RunId::new(id),
        _ => RunId::new(format!("unreadable-{}", blake3::hash(key).to_hex())),
    }
}

/// What an entry takes beside its bytes.
const ENTRY_BYTES: usize = 256;

fn read_entry(record: &Record) -> Result<Entry, String> {
    let body = record.value.slice(1..);
    let entry = LogEntry::decode(body).map_err(|error| format!("its entry cannot be decoded: {error}"))?;
    let sent = if entry.producer_id.is_empty() {
        None
    } else {
        let id = entry.producer_id.as_ref().try_into();
        Some(Sent {
            producer: ProducerId(id.map_err(|_| "its producer id has not 16 bytes".to_owned())?),
            sequence: entry.sequence,
            part: None,
            acknowledged: entry.acknowledged,
            is_ephemeral: entry.ephemeral_producer,
        })
    };
    Ok(Entry {
        position: LogPosition::default(),
        project: entry.project,
        run_id: RunId::new(entry.run_id),
        caller: entry.caller,
        received_us: entry.received_us,
        sent,
        content: Content::Batch(entry.batch),
        bytes: 0,
        trace: None,
        span: Span::none(),
    })
}

/// What a JSON envelope's headers say of its producer.
fn sent_of_headers(record: &Record) -> Result<Option<Sent>, String> {
    let header =
        |name: &str| record.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_ref());
    let Some(producer) = header("matyan-producer") else { return Ok(None) };
    let mut id = [0; 16];
    hex::decode_to_slice(producer, &mut id).map_err(|error| format!("header `matyan-producer`: {error}"))?;
    let number = |name: &str| -> Result<u64, String> {
        let text = header(name).and_then(|value| std::str::from_utf8(value).ok());
        text.and_then(|text| text.parse().ok()).ok_or_else(|| format!("header `{name}` is not a number"))
    };
    let small =
        |name: &str| u32::try_from(number(name)?).map_err(|_| format!("header `{name}` is too large"));
    Ok(Some(Sent {
        producer: ProducerId(id),
        sequence: number("matyan-sequence")?,
        part: Some(Part { first: small("matyan-item")?, count: 1, of: small("matyan-items")? }),
        acknowledged: number("matyan-acknowledged")?,
        is_ephemeral: header("matyan-ephemeral") == Some(b"1"),
    }))
}

fn text_header(record: &Record, name: &str) -> String {
    let value = record.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value);
    value.map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
