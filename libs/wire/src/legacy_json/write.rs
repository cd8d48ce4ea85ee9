//! The writer of envelopes. Points of a batch refer to series by number, but each envelope contains
//! name and context, so the writer keeps the part of the payload that all points of a series share.

use bytes::Bytes;
use matyan_proto::ingest::v1 as pb;
use matyan_value::{
    datetime::UtcTime,
    json::{self, JsonStyle},
};

use crate::{
    MessageType,
    columns::entry,
    json_event::{
        member::Member,
        member_writer::{MemberWriter, MessageForm},
        write::write_event,
    },
};

/// Reason why values can be written without a check.
const CHECKED: &str = "a checked batch has no event without a kind, and no malformed value";

/// Type of an envelope without an item. Matyan 0.3 skips it as an unknown type.
pub(super) const NOTHING: &str = "nothing";

/// Beginning and end of the payloads of each series.
#[derive(Debug, Default)]
pub struct EnvelopeSeries {
    texts: Vec<SeriesText>,
    text_bytes: usize,
}

#[derive(Debug)]
struct SeriesText {
    /// `"name":…`
    head: Box<str>,
    /// `"context":…,"dtype":…`
    tail: Box<str>,
}

impl EnvelopeSeries {
    /// Adds checked definitions, in which empty definitions replace invalid ones.
    pub fn extend(&mut self, series: &[pb::SeriesDef]) {
        let texts = series.iter().map(SeriesText::new);
        let text_bytes = &mut self.text_bytes;
        self.texts.extend(texts.inspect(|text| *text_bytes += text.head.len() + text.tail.len()));
    }

    /// The memory that the definitions take.
    pub fn held_bytes(&self) -> usize {
        self.texts.capacity() * size_of::<SeriesText>() + self.text_bytes
    }
}

impl SeriesText {
    fn new(series: &pb::SeriesDef) -> Self {
        let mut head = String::new();
        members(&mut head, 0).text(Member::Name, &series.name);
        let mut tail = String::new();
        members(&mut tail, 0).context_and_dtype(&series.context, &series.dtype, "float").expect(CHECKED);
        Self { head: head.into(), tail: tail.into() }
    }
}

/// Returns the size of an event's payload, which may exceed the limit of a record.
pub fn payload_bytes(event: &pb::Event) -> usize {
    let mut payload = String::new();
    write_payload(event, 0, &mut payload);
    payload.len()
}

fn members(out: &mut String, received_us: i64) -> MemberWriter<'_> {
    MemberWriter { out, form: MessageForm::Envelope { received_us }, is_empty: true }
}

fn write_payload(event: &pb::Event, received_us: i64, out: &mut String) {
    let kind = event.kind.as_ref().expect(CHECKED);
    write_event(kind, event.client_time_us, &mut members(out, received_us)).expect(CHECKED);
}

/// Writes the envelopes of one batch.
///
/// ```
/// use matyan_proto::ingest::v1::{AddTag, Event, event::Kind};
/// use matyan_wire::legacy_json::{Envelope, EnvelopeWriter};
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
/// # Ok::<(), matyan_wire::UnreadableRecord>(())
/// ```
#[derive(Debug)]
pub struct EnvelopeWriter {
    /// `"run_id":…,"timestamp":…,"payload":{`
    middle: String,
    received_us: i64,
}

impl EnvelopeWriter {
    /// Creates a writer for a batch of this run, received at the given time.
    pub fn new(run_id: &str, received_us: i64) -> Self {
        let mut middle = "\"run_id\":".to_owned();
        json::write_text(&mut middle, run_id, JsonStyle::ENVELOPE);
        let timestamp = UtcTime::from_us(received_us).unwrap_or(UtcTime::EPOCH).micros();
        middle.push_str(&format!(",\"timestamp\":\"{timestamp}\",\"payload\":{{"));
        Self { middle, received_us }
    }

    /// Returns the envelope of an event, which must have been checked.
    pub fn event(&self, event: &pb::Event) -> Bytes {
        let kind = event.kind.as_ref().expect(CHECKED);
        self.envelope(MessageType::of_event(kind).name(), |payload| {
            write_payload(event, self.received_us, payload);
        })
    }

    /// Returns the envelope of one point of a group.
    pub fn point(&self, series: &EnvelopeSeries, group: &pb::Points, at: usize) -> Bytes {
        self.envelope(MessageType::LogMetric.name(), |payload| {
            write_point_payload(series, group, at, self.received_us, payload);
        })
    }

    /// Returns an envelope without an item, for a batch without items, so that the sequence of its
    /// producer has no gap.
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

fn write_point_payload(
    series: &EnvelopeSeries,
    group: &pb::Points,
    at: usize,
    received_us: i64,
    out: &mut String,
) {
    let series = &series.texts[group.series[at] as usize];
    out.push_str(&series.head);
    let mut object = MemberWriter { is_empty: false, ..members(out, received_us) };
    object.point(group, at).expect(CHECKED);
    object.separate();
    object.out.push_str(&series.tail);
    object.time(entry(&group.times_us, at)).expect(CHECKED);
}
