//! A decoded record of the ingestion log: run, origin, and the batch in it. Both formats are
//! read, no matter how a frontier is configured.
//!
//! The batch itself is decoded later, next to the batches of other runs. Unreadable records are
//! kept as they are, to be parked.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use matyan_log::Record;
use matyan_model::{
    ids::{ProducerId, RunId},
    keys::ItemPosition,
    parked::{ParkedItem, ParkedRecord},
    position::LogPosition,
    producer::{BatchOrigin, BatchPart},
};
use matyan_proto::{ingest::v1::IngestionBatch, limits};
use matyan_record::{
    headers::{self, BATCH_TYPE, CALLER, JSON_TYPE, PROJECT, TRACEPARENT, UNKNOWN_TYPE},
    ingestion::{self, RecordFormat},
    legacy_json::{Envelope, EnvelopeBatch},
    trace::{self, TARGET},
};
use prost::Message;
use tracing::Span;

/// A record of the ingestion log, with its batch still encoded.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) position: LogPosition,
    /// Name; empty for the default project.
    pub(crate) project: String,
    pub(crate) run_id: RunId,
    pub(crate) caller: String,
    pub(crate) received_us: i64,
    /// When it was in the log, or later: log time may be that of brokers, and a copy of a topic is younger
    /// than what it holds.
    pub(crate) seen_us: i64,
    pub(crate) sent: Option<BatchOrigin>,
    pub(crate) content: Content,
    /// Its share of the window.
    pub(crate) bytes: usize,
    /// The trace context in its headers.
    pub(crate) trace: Option<Bytes>,
    /// Continues the trace that brought it into the log, until it is applied.
    pub(crate) span: Span,
    /// The records before it, of the pipeline of its producer, may be missing, because the log is read
    /// from its middle.
    pub(crate) is_after_middle: bool,
}

#[derive(Debug)]
pub(crate) enum Content {
    Batch(Bytes),
    Envelope(Box<Envelope>),
    Unreadable { reason: String, value: Bytes, content_type: &'static str },
}

impl Content {
    /// Why it cannot be read, if that is known already.
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

impl Entry {
    pub(crate) fn read(log: u32, partition: u32, record: Record) -> Self {
        let position = LogPosition { log, partition, offset: record.offset };
        let bytes = record.value.len() + ENTRY_BYTES;
        let read = catch_panic(|| match RecordFormat::of_value(&record.value) {
            Ok(RecordFormat::Protobuf) => read_entry(&record),
            Ok(RecordFormat::Json) => read_envelope(&record),
            Err(error) => Err(error.to_string()),
        });
        let unreadable = |reason| Self {
            position,
            project: String::new(),
            run_id: run_of_key(&record.key),
            caller: String::new(),
            received_us: record.appended_us,
            seen_us: record.appended_us,
            sent: None,
            content: Content::Unreadable { reason, value: record.value.clone(), content_type: UNKNOWN_TYPE },
            bytes,
            trace: traceparent(&record).cloned(),
            span: Span::none(),
            is_after_middle: false,
        };
        match read {
            Ok(entry) => match entry.too_long() {
                Some(reason) => unreadable(reason),
                None => {
                    let span = span(&record, &entry.run_id, position);
                    let seen_us = entry.received_us.max(record.appended_us);
                    Self { position, bytes, seen_us, trace: traceparent(&record).cloned(), span, ..entry }
                }
            },
            Err(reason) => unreadable(reason),
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

    /// The entry of a record that was parked while its run was in quarantine; `None` if it is not one.
    pub(crate) fn of_parked(project: &str, parked: ParkedItem) -> Option<Self> {
        let ParkedRecord { caller, origin, is_envelope, .. } = parked.record?;
        let ItemPosition { log, partition, offset, .. } = parked.at;
        let bytes = parked.item.len() + ENTRY_BYTES;
        let content = match is_envelope {
            false => Content::Batch(parked.item),
            true => match catch_panic(|| Envelope::parse(&parked.item).map_err(|error| error.to_string())) {
                Ok(envelope) => Content::Envelope(Box::new(envelope)),
                Err(reason) => Content::Unreadable { reason, value: parked.item, content_type: JSON_TYPE },
            },
        };
        Some(Self {
            position: LogPosition { log, partition, offset },
            project: project.to_owned(),
            run_id: parked.run_id,
            caller,
            received_us: parked.received_us,
            seen_us: parked.received_us,
            sent: origin,
            content,
            bytes,
            trace: None,
            span: Span::none(),
            is_after_middle: false,
        })
    }

    /// The properties that parking the whole record keeps, of which the items from `first_item` on have
    /// yet to be applied; `None` if nothing could be read.
    pub(crate) fn parked_record(&self, first_item: u32) -> Option<ParkedRecord> {
        let is_envelope = match &self.content {
            Content::Batch(_) => false,
            Content::Envelope(_) => true,
            Content::Unreadable { .. } => return None,
        };
        Some(ParkedRecord { caller: self.caller.clone(), origin: self.sent, is_envelope, first_item })
    }

    /// Copies small contents out of the buffer that they share with the records next to them in the log,
    /// which would otherwise stay in memory as long as any of them.
    pub(crate) fn detach(&mut self) {
        let copy = |bytes: &mut Bytes| {
            if bytes.len() <= COPIED_BYTES {
                *bytes = Bytes::copy_from_slice(bytes);
            }
        };
        match &mut self.content {
            Content::Batch(bytes) | Content::Unreadable { value: bytes, .. } => copy(bytes),
            Content::Envelope(envelope) => copy(&mut envelope.value),
        }
        self.trace.iter_mut().for_each(copy);
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

    /// Returns the bytes to park if they do not decode to a batch.
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
    trace::follow(&span, trace);
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

/// Largest content that is copied. Larger ones are a good part of the buffer that they are in.
const COPIED_BYTES: usize = 64 << 10;

/// Memory used by an entry in addition to its bytes.
const ENTRY_BYTES: usize = 256;

fn read_entry(record: &Record) -> Result<Entry, String> {
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
    Ok(Entry {
        position: LogPosition::default(),
        project: entry.project,
        run_id: RunId::new(entry.run_id),
        caller: entry.caller,
        received_us: entry.received_us,
        seen_us: 0,
        sent,
        content: Content::Batch(entry.batch),
        bytes: 0,
        trace: None,
        span: Span::none(),
        is_after_middle: false,
    })
}

fn read_envelope(record: &Record) -> Result<Entry, String> {
    let envelope = Envelope::parse(&record.value).map_err(|error| error.to_string())?;
    let batch = EnvelopeBatch::from_headers(&record.headers).map_err(|error| error.to_string())?;
    let sent = batch.map(|batch| BatchOrigin {
        producer: ProducerId(batch.producer),
        sequence: batch.sequence,
        part: Some(BatchPart { first: batch.item, count: 1, total: batch.items }),
        acknowledged: batch.acknowledged,
        is_ephemeral: batch.is_ephemeral,
    });
    let text = |name| headers::text(&record.headers, name).unwrap_or_default();
    Ok(Entry {
        position: LogPosition::default(),
        project: text(PROJECT),
        run_id: RunId::new(envelope.run_id.as_str()),
        caller: text(CALLER),
        received_us: envelope.received_us.unwrap_or(record.appended_us),
        seen_us: 0,
        sent,
        content: Content::Envelope(Box::new(envelope)),
        bytes: 0,
        trace: None,
        span: Span::none(),
        is_after_middle: false,
    })
}

#[cfg(test)]
pub(crate) mod tests;
