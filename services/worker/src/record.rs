//! A decoded record of the ingestion log: run, origin, and the batch in it. Both formats are
//! read, no matter how a frontier is configured.
//!
//! The batch itself is decoded later, next to the batches of other runs. Unreadable records are
//! kept as they are, to be parked.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use matyan_log::{NewRecord, Record};
use matyan_model::{
    ids::{NamedProject, ProducerId, RunId},
    keys::ItemPosition,
    parked::{ParkedItem, ParkedRecord},
    position::LogPosition,
    producer::{BatchOrigin, BatchPart},
};
use matyan_proto::{
    ingest::v1::{DeleteRun, Event, IngestionBatch, event::Kind},
    limits,
    log::v1::LogEntry,
};
use matyan_wire::{
    headers::{self, BATCH_TYPE, CALLER, JSON_TYPE, PROJECT, TRACEPARENT, UNKNOWN_TYPE},
    ingestion::{self, RecordFormat},
    legacy_json::{Envelope, EnvelopeBatch},
    trace::{self, TARGET},
};
use prost::Message;
use tracing::Span;

/// Largest content that is copied out of its buffer. Larger contents are a good part of the buffer.
const COPIED_BYTES: usize = 64 << 10;

/// Memory used by an entry in addition to its bytes.
const ENTRY_BYTES: usize = 256;

/// A record of the ingestion log, with its batch still encoded.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) position: LogPosition,
    /// Name; empty for the default project.
    pub(crate) project: String,
    pub(crate) run_id: RunId,
    pub(crate) caller: String,
    pub(crate) received_us: i64,
    /// A time when the record was in the log, or a later one: brokers may set the time of a record, and a
    /// copy of a topic is younger than its records.
    pub(crate) seen_us: i64,
    pub(crate) sent: Option<BatchOrigin>,
    pub(crate) content: Content,
    /// Share of the window that the entry takes.
    pub(crate) bytes: usize,
    /// The trace context in its headers.
    pub(crate) trace: Option<Bytes>,
    /// Continues the trace of the request that appended the record, until the entry is applied.
    pub(crate) span: Span,
    /// Whether earlier records of its producer's pipeline may be missing, because the log is read from its
    /// middle.
    pub(crate) is_after_middle: bool,
}

#[derive(Debug)]
pub(crate) enum Content {
    Batch(Bytes),
    Envelope(Box<Envelope>),
    Unreadable { reason: String, value: Bytes, content_type: &'static str },
}

/// The record that deletes a run for the server itself. Workers of Matyan 0.3 ignore it.
pub(crate) fn deletion_record(project: &NamedProject, id: &RunId, now_us: i64) -> NewRecord {
    let event = Event { client_time_us: None, kind: Some(Kind::DeleteRun(DeleteRun {})) };
    let batch = IngestionBatch { events: vec![event], ..IngestionBatch::default() };
    server_record(project, id, &batch, now_us)
}

/// A record of a batch that no client has sent.
pub(crate) fn server_record(
    project: &NamedProject,
    id: &RunId,
    batch: &IngestionBatch,
    now_us: i64,
) -> NewRecord {
    let entry = LogEntry {
        run_id: id.as_str().to_owned(),
        project: project.name.clone(),
        received_us: now_us,
        batch: batch.encode_to_vec().into(),
        ..LogEntry::default()
    };
    NewRecord {
        key: Bytes::copy_from_slice(id.as_str().as_bytes()),
        value: ingestion::encode(&entry),
        headers: ingestion::headers(None),
    }
}

impl Content {
    /// The reason why the content cannot be read, if one is known already.
    pub(crate) fn unreadable_reason(&self) -> Option<&str> {
        match self {
            Self::Batch(_) | Self::Envelope(_) => None,
            Self::Unreadable { reason, .. } => Some(reason),
        }
    }
}

/// A batch to be applied.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) items: IngestionBatch,
    /// Whether its series numbers refer to its own definitions, even if it has a producer.
    pub(crate) has_own_dictionary: bool,
}

/// Parts of an entry that its record contains.
struct RecordParts {
    project: String,
    run_id: RunId,
    caller: String,
    received_us: i64,
    sent: Option<BatchOrigin>,
    content: Content,
}

impl RecordParts {
    fn read(record: &Record) -> Result<Self, String> {
        let parts = match RecordFormat::of_value(&record.value) {
            Ok(RecordFormat::Protobuf) => Self::of_protobuf(record),
            Ok(RecordFormat::Json) => Self::of_envelope(record),
            Err(error) => Err(error.to_string()),
        };
        let parts = parts?;
        match parts.too_long() {
            Some(reason) => Err(reason),
            None => Ok(parts),
        }
    }

    fn of_protobuf(record: &Record) -> Result<Self, String> {
        #[cfg(test)]
        assert!(record.key != tests::PANIC_WHILE_READING, "a test asked for it");
        let entry = ingestion::decode(&record.value).map_err(|error| error.to_string())?;
        let sent = if entry.producer_id.is_empty() {
            None
        } else {
            let id = entry.producer_id.as_ref().try_into();
            Some(BatchOrigin {
                producer: ProducerId(id.map_err(|_| "its producer id has not 16 bytes".to_owned())?),
                sequence: entry.sequence,
                part: None,
                acknowledged: entry.acknowledged,
                is_ephemeral: entry.ephemeral_producer,
            })
        };
        Ok(Self {
            project: entry.project,
            run_id: RunId::new(entry.run_id),
            caller: entry.caller,
            received_us: entry.received_us,
            sent,
            content: Content::Batch(entry.batch),
        })
    }

    fn of_envelope(record: &Record) -> Result<Self, String> {
        let envelope = Envelope::parse(&record.value).map_err(|error| error.to_string())?;
        let batch = EnvelopeBatch::from_headers(&record.headers).map_err(|error| error.to_string())?;
        let sent = batch.map(|batch| BatchOrigin {
            producer: ProducerId(batch.producer),
            sequence: batch.sequence,
            part: Some(BatchPart { first: batch.item, count: 1, total: batch.items }),
            acknowledged: batch.acknowledged,
            is_ephemeral: batch.is_ephemeral,
        });
        Ok(Self {
            project: headers::text(&record.headers, PROJECT).unwrap_or_default(),
            run_id: RunId::new(envelope.run_id.as_str()),
            caller: headers::text(&record.headers, CALLER).unwrap_or_default(),
            received_us: envelope.received_us.unwrap_or(record.appended_us),
            sent,
            content: Content::Envelope(Box::new(envelope)),
        })
    }

    /// The parts of a record that cannot be read for this reason.
    fn unreadable(record: &Record, reason: String) -> Self {
        Self {
            project: String::new(),
            run_id: run_of_key(&record.key),
            caller: String::new(),
            received_us: record.appended_us,
            sent: None,
            content: Content::Unreadable { reason, value: record.value.clone(), content_type: UNKNOWN_TYPE },
        }
    }

    /// Explains which string is longer than any key allows, if one is. Other writers of the
    /// log are held to the limits of frontiers.
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
        Some(format!("its {what} has {} bytes; the limit is {limit}", text.len()))
    }
}

impl Entry {
    /// Reads a record. `is_after_middle` says whether earlier records of its producer's pipeline may be missing.
    pub(crate) fn read(log: u32, partition: u32, record: Record, is_after_middle: bool) -> Self {
        let position = LogPosition { log, partition, offset: record.offset };
        let (parts, span) = match catch_panic(|| RecordParts::read(&record)) {
            Ok(parts) => {
                let span = span(&record, &parts.run_id, position);
                (parts, span)
            }
            Err(reason) => (RecordParts::unreadable(&record, reason), Span::none()),
        };
        let seen_us = parts.received_us.max(record.appended_us);
        let bytes = record.value.len() + ENTRY_BYTES;
        let trace = traceparent(&record).cloned();
        Self::new(position, parts, seen_us, bytes, trace, span, is_after_middle)
    }

    /// The entry of a record that was parked while its run was in quarantine; `None` for a single parked
    /// item.
    pub(crate) fn of_parked(project: &str, parked: ParkedItem) -> Option<Self> {
        let ParkedRecord { caller, origin, is_envelope, .. } = parked.record?;
        let ItemPosition { log, partition, offset, .. } = parked.at;
        let bytes = parked.item.len() + ENTRY_BYTES;
        let content = if is_envelope {
            match catch_panic(|| Envelope::parse(&parked.item).map_err(|error| error.to_string())) {
                Ok(envelope) => Content::Envelope(Box::new(envelope)),
                Err(reason) => Content::Unreadable { reason, value: parked.item, content_type: JSON_TYPE },
            }
        } else {
            Content::Batch(parked.item)
        };
        let parts = RecordParts {
            project: project.to_owned(),
            run_id: parked.run_id,
            caller,
            received_us: parked.received_us,
            sent: origin,
            content,
        };
        let position = LogPosition { log, partition, offset };
        Some(Self::new(position, parts, parked.received_us, bytes, None, Span::none(), false))
    }

    fn new(
        position: LogPosition,
        parts: RecordParts,
        seen_us: i64,
        bytes: usize,
        trace: Option<Bytes>,
        span: Span,
        is_after_middle: bool,
    ) -> Self {
        let RecordParts { project, run_id, caller, received_us, sent, content } = parts;
        Self {
            position,
            project,
            run_id,
            caller,
            received_us,
            seen_us,
            sent,
            content,
            bytes,
            trace,
            span,
            is_after_middle,
        }
    }

    /// The properties that are kept when the whole record is parked. Its items from `first_item` on have yet
    /// to be applied. `None` if nothing could be read.
    pub(crate) fn parked_record(&self, first_item: u32) -> Option<ParkedRecord> {
        let is_envelope = match &self.content {
            Content::Batch(_) => false,
            Content::Envelope(_) => true,
            Content::Unreadable { .. } => return None,
        };
        Some(ParkedRecord { caller: self.caller.clone(), origin: self.sent, is_envelope, first_item })
    }

    /// Copies small contents out of the buffer that they share with the records next to them in the log.
    /// Otherwise the buffer would stay in memory as long as any of its records.
    pub(crate) fn detach(&mut self) {
        let value = match &mut self.content {
            Content::Batch(bytes) | Content::Unreadable { value: bytes, .. } => bytes,
            Content::Envelope(envelope) => &mut envelope.value,
        };
        detach_small(value);
        if let Some(trace) = &mut self.trace {
            detach_small(trace);
        }
    }

    /// Decodes the batch, or returns the reason it cannot be decoded.
    pub(crate) fn batch(&self) -> Result<Batch, String> {
        catch_panic(|| self.decode_batch())
    }

    fn decode_batch(&self) -> Result<Batch, String> {
        #[cfg(test)]
        assert!(self.caller != tests::PANIC_WHILE_DECODING, "a test asked for it");
        match &self.content {
            Content::Batch(bytes) => match IngestionBatch::decode(bytes.clone()) {
                Ok(items) => Ok(Batch { items, has_own_dictionary: self.sent.is_none() }),
                Err(error) => Err(format!("its batch cannot be decoded: {error}")),
            },
            Content::Envelope(envelope) => {
                let items = envelope.batch().map_err(|error| error.to_string())?;
                Ok(Batch { items, has_own_dictionary: true })
            }
            Content::Unreadable { reason, .. } => Err(reason.clone()),
        }
    }

    /// Returns the encoded content, which is parked if it does not decode to a batch.
    pub(crate) fn raw(&self) -> Bytes {
        match &self.content {
            Content::Batch(bytes) => bytes.clone(),
            Content::Envelope(envelope) => envelope.value.clone(),
            Content::Unreadable { value, .. } => value.clone(),
        }
    }

    /// Returns the content type of `raw`.
    pub(crate) fn content_type(&self) -> &'static str {
        match &self.content {
            Content::Batch(_) => BATCH_TYPE,
            Content::Envelope(_) => JSON_TYPE,
            Content::Unreadable { content_type, .. } => content_type,
        }
    }
}

fn detach_small(bytes: &mut Bytes) {
    if bytes.len() <= COPIED_BYTES {
        *bytes = Bytes::copy_from_slice(bytes);
    }
}

/// Turns a panic into a reason for parking the record.
fn catch_panic<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(format!("decoding the record panicked: {}", panic_text(&*panic))))
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no panic message")
}

fn traceparent(record: &Record) -> Option<&Bytes> {
    headers::find(&record.headers, TRACEPARENT)
}

fn span(record: &Record, run_id: &RunId, position: LogPosition) -> Span {
    let Some(trace) = traceparent(record) else { return Span::none() };
    let LogPosition { log, partition, offset } = position;
    let run_id = run_id.as_str();
    let span = tracing::info_span!(target: TARGET, parent: None, "apply", run_id, log, partition, offset);
    trace::join_trace(&span, trace);
    span
}

/// Returns the run under which a record without a readable run id is parked: its key, if that can
/// be a run id.
fn run_of_key(key: &Bytes) -> RunId {
    match std::str::from_utf8(key) {
        Ok(id) if (1..=limits::RUN_ID_BYTES).contains(&id.len()) => RunId::new(id),
        _ => RunId::new(format!("unreadable-{}", blake3::hash(key).to_hex())),
    }
}

#[cfg(test)]
pub(crate) mod tests;
