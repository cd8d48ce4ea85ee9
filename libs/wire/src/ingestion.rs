//! Records of the ingestion topic, as described in `matyan/log/v1/record.proto`: a format byte, and
//! a `LogEntry` with the encoded batch. A server can be configured to write the envelopes of
//! `legacy_json` instead; workers always read both formats.

use bytes::{BufMut, Bytes, BytesMut};
use matyan_proto::log::v1::LogEntry;
use prost::Message;

use crate::{
    UnreadableRecord,
    headers::{CONTENT_TYPE, Headers, LOG_ENTRY_TYPE, TRACEPARENT, header},
};

/// Format of the records of the ingestion topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordFormat {
    /// One `LogEntry` per batch.
    #[default]
    Protobuf,
    /// One JSON envelope per item, as in Matyan 0.3.
    Json,
}

impl RecordFormat {
    /// Returns the format of a record's value by its first byte.
    pub fn of_value(value: &[u8]) -> Result<Self, UnreadableRecord> {
        match value.first() {
            Some(&(FORMAT | FORMAT_WITH_ROWS)) => Ok(Self::Protobuf),
            Some(b'{') => Ok(Self::Json),
            Some(format) => Err(UnreadableRecord::new(format!(
                "its format is {format}, and this worker reads {FORMAT}, {FORMAT_WITH_ROWS} and JSON"
            ))),
            None => Err(UnreadableRecord::new("it is empty")),
        }
    }
}

/// The format byte: version of the layout after it.
const FORMAT: u8 = 1;
/// The same layout, with rows of points in the batch or in an earlier one of its stream. Workers that do not know rows
/// would skip them silently, so they must not read such a record.
const FORMAT_WITH_ROWS: u8 = 2;

/// Encodes a record's value.
///
/// ```
/// use matyan_proto::log::v1::LogEntry;
/// use matyan_wire::ingestion::{RecordFormat, decode, encode};
///
/// let entry = LogEntry { run_id: "r".to_owned(), ..LogEntry::default() };
/// let value = encode(&entry);
/// assert_eq!(RecordFormat::of_value(&value), Ok(RecordFormat::Protobuf));
/// assert_eq!(decode(&value), Ok(entry));
/// ```
pub fn encode(entry: &LogEntry) -> Bytes {
    encode_as(FORMAT, entry)
}

/// Encodes the value of a record whose batch, or an earlier one of its stream, has points in rows.
///
/// ```
/// use matyan_proto::log::v1::LogEntry;
/// use matyan_wire::ingestion::{RecordFormat, decode, encode_with_rows};
///
/// let entry = LogEntry { run_id: "r".to_owned(), ..LogEntry::default() };
/// let value = encode_with_rows(&entry);
/// assert_eq!((value[0], RecordFormat::of_value(&value)), (2, Ok(RecordFormat::Protobuf)));
/// assert_eq!(decode(&value), Ok(entry));
/// ```
pub fn encode_with_rows(entry: &LogEntry) -> Bytes {
    encode_as(FORMAT_WITH_ROWS, entry)
}

fn encode_as(format: u8, entry: &LogEntry) -> Bytes {
    let mut value = BytesMut::with_capacity(1 + entry.encoded_len());
    value.put_u8(format);
    entry.encode(&mut value).expect("the buffer has room for the entry");
    value.freeze()
}

/// Decodes a value of the format `Protobuf`, without copying the batch in it.
pub fn decode(value: &Bytes) -> Result<LogEntry, UnreadableRecord> {
    LogEntry::decode(value.slice(1..))
        .map_err(|error| UnreadableRecord::new(format!("its entry cannot be decoded: {error}")))
}

/// Returns the headers of a record of the format `Protobuf`.
pub fn headers(trace: Option<Bytes>) -> Headers {
    typed(LOG_ENTRY_TYPE, trace)
}

pub(crate) fn typed(content_type: &'static str, trace: Option<Bytes>) -> Headers {
    let mut headers = vec![header(CONTENT_TYPE, content_type)];
    headers.extend(trace.map(|trace| header(TRACEPARENT, trace)));
    headers
}
