//! The writer of envelopes. Points refer to series by number, and an envelope names them, so the
//! writer keeps the part of the payload that all points of a series share.

use bytes::Bytes;
use matyan_proto::ingest::v1::{self as pb, event::Kind};
use matyan_value::{
    datetime::UtcTime,
    json::{self, JsonStyle},
};

use crate::MessageType;

/// Marks a missing step or epoch.
const ABSENT: i64 = i64::MIN;

/// The type of an envelope without an item. No reader knows it, so that all skip it.
const NOTHING: &str = "nothing";

const STYLE: JsonStyle = JsonStyle::ENVELOPE;

const CHECKED: &str = "a checked batch has no event without a kind, and no malformed value";

/// The beginnings and ends of the payloads of each series.
#[derive(Debug, Default)]
pub struct EnvelopeSeries(Vec<SeriesText>);

#[derive(Debug)]
struct SeriesText {
    /// `"name":…`
    head: Box<str>,
    /// `"context":…,"dtype":…`
    tail: Box<str>,
}

impl EnvelopeSeries {
    /// Adds definitions that were checked, with invalid ones replaced by empty ones.
    pub fn extend(&mut self, series: &[pb::SeriesDef]) {
        self.0.extend(series.iter().map(SeriesText::new));
    }
}

impl SeriesText {
    fn new(series: &pb::SeriesDef) -> Self {
        let mut head = "\"name\":".to_owned();
        json::write_text(&mut head, &series.name, STYLE);
        let mut tail = String::new();
        write_context_and_dtype(&series.context, &series.dtype, "float", &mut tail);
        Self { head: head.into(), tail: tail.into() }
    }
}

fn write_context_and_dtype(context: &str, dtype: &str, default_dtype: &str, out: &mut String) {
    out.push_str("\"context\":");
    match context {
        "" => out.push_str("null"),
        context => json::write_strict(out, context).expect(CHECKED),
    }
    out.push_str(",\"dtype\":");
    json::write_text(out, if dtype.is_empty() { default_dtype } else { dtype }, STYLE);
}

/// Returns the bytes of an event's payload, which may be more than a record takes.
pub fn payload_bytes(event: &pb::Event) -> usize {
    let mut payload = String::new();
    write_event_payload(event, 0, &mut payload);
    payload.len()
}

/// Writes the envelopes of one batch.
///
/// ```
/// use matyan_proto::ingest::v1::{AddTag, Event, event::Kind};
/// use matyan_record::legacy_json::{Envelope, EnvelopeWriter};
///
/// let event = Event { client_time_us: None, kind: Some(Kind::AddTag(AddTag { name: "best".to_owned() })) };
/// let value = EnvelopeWriter::new("r", 1_500_000).event(&event);
/// assert_eq!(
///     value,
///     r#"{"type":"add_tag","run_id":"r","timestamp":"1970-01-01T00:00:01.500000Z","payload":{"tag_name":"best"}}"#
/// );
/// let read = Envelope::parse(&value)?;
/// assert_eq!(read.received_us, Some(1_500_000));
/// assert_eq!(read.batch()?.events, [event]);
/// # Ok::<(), matyan_record::UnreadableRecord>(())
/// ```
#[derive(Debug)]
pub struct EnvelopeWriter {
    /// `"run_id":…,"timestamp":…,"payload":{`
    middle: String,
    received_us: i64,
}

impl EnvelopeWriter {
    /// Returns a writer for a batch of this run that was received then.
    pub fn new(run_id: &str, received_us: i64) -> Self {
        let mut middle = "\"run_id\":".to_owned();
        json::write_text(&mut middle, run_id, STYLE);
        let timestamp = UtcTime::from_us(received_us).unwrap_or(UtcTime::EPOCH).micros();
        middle.push_str(&format!(",\"timestamp\":\"{timestamp}\",\"payload\":{{"));
        Self { middle, received_us }
    }

    /// Returns the envelope of an event of a checked batch.
    pub fn event(&self, event: &pb::Event) -> Bytes {
        let kind = event.kind.as_ref().expect(CHECKED);
        self.envelope(MessageType::of_event(kind).name(), |payload| {
            write_event_payload(event, self.received_us, payload);
        })
    }

    /// Returns the envelope of one point of a group.
    pub fn point(&self, series: &EnvelopeSeries, group: &pb::Points, at: usize) -> Bytes {
        self.envelope(MessageType::LogMetric.name(), |payload| {
            write_point_payload(series, group, at, self.received_us, payload);
        })
    }

    /// Returns an envelope without an item, for a batch without items: its sequence may not be
    /// missing.
    pub fn nothing(&self) -> Bytes {
        self.envelope(NOTHING, |_| {})
    }

    fn envelope(&self, name: &str, write_payload: impl FnOnce(&mut String)) -> Bytes {
        let mut value = format!("{{\"type\":\"{name}\",{}", self.middle);
        write_payload(&mut value);
        value.push_str("}}");
        value.into()
    }
}

fn write_event_payload(event: &pb::Event, received_us: i64, out: &mut String) {
    let mut object = Members { out, is_empty: true };
    let time = event.client_time_us;
    match event.kind.as_ref().expect(CHECKED) {
        Kind::CreateRun(create) => {
            object.time("client_datetime", time.unwrap_or(received_us), received_us);
            object.bool("force_resume", create.force_resume);
        }
        Kind::FinishRun(_) => object.optional_time(time, received_us),
        Kind::SetRunProperty(set) => {
            object.optional_text("name", set.name.as_deref());
            object.optional_text("description", set.description.as_deref());
            set.archived.into_iter().for_each(|archived| object.bool("archived", archived));
            object.optional_text("experiment", set.experiment.as_deref());
        }
        Kind::AddTag(pb::AddTag { name }) | Kind::RemoveTag(pb::RemoveTag { name }) => {
            object.text("tag_name", name)
        }
        Kind::LogParams(params) => object.cbor("value", &params.value),
        Kind::LogObject(logged) => {
            object.text("name", &logged.name);
            object.cbor("value", &logged.value);
            object.integer("step", logged.step);
            object.integer("epoch", logged.epoch);
            object.separate();
            write_context_and_dtype(&logged.context, &logged.dtype, "custom", object.out);
            object.optional_time(time, received_us);
        }
        Kind::LogTerminalLine(line) => {
            object.text("line", &line.line);
            object.integer("step", Some(line.step));
        }
        Kind::LogRecord(record) => {
            object.text("message", &record.message);
            object.integer("level", Some(record.level));
            object.key("timestamp");
            json::write_float(object.out, record.timestamp, STYLE);
            object.optional_cbor("logger_info", &record.logger_info);
            object.optional_cbor("extra_args", &record.extra_args);
        }
        Kind::BlobRef(blob) => {
            object.text("s3_key", &blob.key);
            object.text("artifact_path", &blob.path);
            let is_empty = blob.content_type.is_empty();
            object
                .text("content_type", if is_empty { "application/octet-stream" } else { &blob.content_type });
        }
        Kind::DeleteRun(_) => {}
    }
}

fn write_point_payload(
    series: &EnvelopeSeries,
    group: &pb::Points,
    at: usize,
    received_us: i64,
    out: &mut String,
) {
    let series = &series.0[group.series[at] as usize];
    out.push_str(&series.head);
    let mut object = Members { out, is_empty: false };
    object.key("value");
    json::write_float(object.out, group.values[at], STYLE);
    object.integer("step", entry(&group.steps, at).filter(|step| *step != ABSENT));
    object.integer("epoch", entry(&group.epochs, at).filter(|epoch| *epoch != ABSENT));
    object.separate();
    object.out.push_str(&series.tail);
    object.time("client_datetime", entry(&group.times_us, at).unwrap_or(received_us), received_us);
}

/// Returns the entry of a column that has one for each point, one for all, or none.
fn entry(column: &[i64], at: usize) -> Option<i64> {
    if column.len() == 1 { column.first().copied() } else { column.get(at).copied() }
}

/// The members of a JSON object, without its braces.
struct Members<'o> {
    out: &'o mut String,
    is_empty: bool,
}

impl Members<'_> {
    fn separate(&mut self) {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(',');
        }
    }

    fn key(&mut self, key: &str) {
        self.separate();
        json::write_text(self.out, key, STYLE);
        self.out.push(':');
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        json::write_text(self.out, text, STYLE);
    }

    fn optional_text(&mut self, key: &str, text: Option<&str>) {
        text.into_iter().for_each(|text| self.text(key, text));
    }

    fn bool(&mut self, key: &str, bool: bool) {
        self.key(key);
        self.out.push_str(if bool { "true" } else { "false" });
    }

    fn integer(&mut self, key: &str, integer: Option<i64>) {
        self.key(key);
        match integer {
            Some(integer) => self.out.push_str(&integer.to_string()),
            None => self.out.push_str("null"),
        }
    }

    fn cbor(&mut self, key: &str, cbor: &[u8]) {
        self.key(key);
        json::write_cbor(self.out, cbor, STYLE).expect(CHECKED);
    }

    fn optional_cbor(&mut self, key: &str, cbor: &[u8]) {
        if !cbor.is_empty() {
            self.cbor(key, cbor);
        }
    }

    /// Writes the text of Python's `isoformat`. A time beyond its years becomes `otherwise_us`.
    fn time(&mut self, key: &str, us: i64, otherwise_us: i64) {
        self.key(key);
        let time = UtcTime::from_us(us).or_else(|| UtcTime::from_us(otherwise_us)).unwrap_or(UtcTime::EPOCH);
        self.out.push('"');
        self.out.push_str(&time.isoformat());
        self.out.push('"');
    }

    fn optional_time(&mut self, us: Option<i64>, otherwise_us: i64) {
        us.into_iter().for_each(|us| self.time("client_datetime", us, otherwise_us));
    }
}
