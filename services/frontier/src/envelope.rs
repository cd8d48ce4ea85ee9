//! Records as Matyan 0.3 writes and reads them: one JSON envelope `{"type","run_id","timestamp","payload"}` an item. Only for
//! taking over from a running Matyan 0.3; what JSON cannot hold is lost here, as it was there.
//!
//! Points refer to series by number, and an envelope names them, so this keeps a dictionary of its own: of each series the
//! part of the payload that all its points share. Ids travel in headers, which Matyan 0.3 ignores and our workers read.

use std::io::Write as _;

use bytes::Bytes;
use matyan_log::{MAX_RECORD_BYTES, NewRecord};
use matyan_proto::ingest::v1::{self as pb, event::Kind};
use time::OffsetDateTime;

use crate::{
    batch::{Problem, cbor_to_json, context_to_json, float_to_json, text_to_json},
    error::{Error, Result},
    record::{Author, Stamp, headers},
};

const CONTENT_TYPE: &str = "application/json";

/// A point of ten bytes becomes a record of about a thousand.
pub(crate) const GROWTH: usize = 100;

/// Steps and epochs that are absent.
const NONE: i64 = i64::MIN;

/// What an envelope has beside its payload: names, a run id and a time, all bounded.
const FRAME_BYTES: usize = 4 << 10;

/// What one batch may come to, keys and values together: logs take much more at once, but not from everybody.
const MAX_BYTES: usize = 64 << 20;

/// An event below this cannot grow beyond a record: a byte of CBOR becomes at most six of JSON.
const ALWAYS_FITS: usize = MAX_RECORD_BYTES / 8;

/// What the points of each series begin and end with.
#[derive(Debug)]
pub(crate) struct Definitions(Vec<Definition>);

#[derive(Debug)]
struct Definition {
    /// `"name":…`
    head: Box<[u8]>,
    /// `"context":…,"dtype":…`
    tail: Box<[u8]>,
}

impl Definitions {
    pub(crate) fn new(series: &[pb::SeriesDef]) -> Self {
        Self(series.iter().map(Definition::new).collect())
    }

    /// Definitions that were checked, bad ones made empty.
    pub(crate) fn extend(&mut self, series: &[pb::SeriesDef]) {
        self.0.extend(series.iter().map(Definition::new));
    }
}

impl Definition {
    fn new(series: &pb::SeriesDef) -> Self {
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        head.extend_from_slice(b"\"name\":");
        text_to_json(&series.name, &mut head);
        context_and_dtype(&series.context, &series.dtype, "float", &mut tail);
        Self { head: head.into(), tail: tail.into() }
    }
}

fn context_and_dtype(context: &str, dtype: &str, default_dtype: &str, json: &mut Vec<u8>) {
    json.extend_from_slice(b"\"context\":");
    context_to_json(context, json);
    json.extend_from_slice(b",\"dtype\":");
    text_to_json(if dtype.is_empty() { default_dtype } else { dtype }, json);
}

/// Refuses the rare event that is too large only as JSON.
pub(crate) fn check(event: &pb::Event) -> Result<(), Problem> {
    if prost::Message::encoded_len(event) <= ALWAYS_FITS {
        return Ok(());
    }
    let mut payload = Vec::new();
    event_payload(event, 0, &mut payload);
    match payload.len() + FRAME_BYTES > MAX_RECORD_BYTES {
        true => Err(Problem::new(
            "event",
            format!("has {} bytes as JSON, and a record takes {MAX_RECORD_BYTES}", payload.len()),
        )),
        false => Ok(()),
    }
}

/// The records of a checked batch, at least one, as a sequence may not have gaps. Refuses a batch that comes to too much.
pub(crate) fn encode(
    author: &Author,
    stamp: &Stamp,
    definitions: &Definitions,
    batch: &pb::IngestionBatch,
) -> Result<Vec<NewRecord>> {
    let mut writer = Writer::new(author, stamp);
    for event in &batch.events {
        writer.push(event_type(event), |payload| event_payload(event, stamp.received_us, payload))?;
    }
    for group in &batch.points {
        for at in 0..group.values.len() {
            writer.push("log_metric", |payload| {
                point_payload(definitions, group, at, stamp.received_us, payload)
            })?;
        }
    }
    writer.finish()
}

/// What a record takes in memory, about.
pub(crate) fn held(record: &NewRecord) -> usize {
    let parts = |(name, value): &(String, Bytes)| size_of::<(String, Bytes)>() + name.len() + value.len();
    let headers: usize = record.headers.iter().map(parts).sum();
    size_of::<NewRecord>() + record.key.len() + record.value.len() + headers
}

struct Writer<'a> {
    author: &'a Author,
    stamp: &'a Stamp,
    key: Bytes,
    /// `"run_id":…,"timestamp":…,"payload":{`
    middle: Vec<u8>,
    values: Vec<Bytes>,
    /// Of all keys and values.
    bytes: usize,
}

impl<'a> Writer<'a> {
    fn new(author: &'a Author, stamp: &'a Stamp) -> Self {
        let mut middle = b"\"run_id\":".to_vec();
        text_to_json(author.run.as_str(), &mut middle);
        middle.extend_from_slice(b",\"timestamp\":");
        let timestamp = date_time(stamp.received_us).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        write_date_time(timestamp, Micros::Always, "Z", &mut middle);
        middle.extend_from_slice(b",\"payload\":{");
        Self { author, stamp, key: author.key(), middle, values: Vec::new(), bytes: 0 }
    }

    fn push(&mut self, kind: &str, write_payload: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let mut value = format!("{{\"type\":\"{kind}\",").into_bytes();
        value.extend_from_slice(&self.middle);
        write_payload(&mut value);
        value.extend_from_slice(b"}}");
        self.bytes += self.key.len() + value.len();
        self.values.push(value.into());
        if self.bytes > MAX_BYTES { Err(Error::TooLargeAsJson { limit: MAX_BYTES }) } else { Ok(()) }
    }

    fn finish(mut self) -> Result<Vec<NewRecord>> {
        if self.values.is_empty() {
            self.push("nothing", |_| {})?;
        }
        let items = self.values.len();
        let values = std::mem::take(&mut self.values);
        let record =
            |(item, value)| NewRecord { key: self.key.clone(), value, headers: self.headers(item, items) };
        Ok(values.into_iter().enumerate().map(record).collect())
    }

    fn headers(&self, item: usize, items: usize) -> Vec<(String, Bytes)> {
        let mut headers = headers(CONTENT_TYPE, self.stamp.trace.clone());
        let mut add = |name: &str, value: String| headers.push((name.to_owned(), value.into()));
        add("matyan-producer", hex::encode(self.author.producer.id));
        add("matyan-sequence", self.stamp.sequence.to_string());
        add("matyan-acknowledged", self.stamp.acknowledged.to_string());
        add("matyan-item", item.to_string());
        add("matyan-items", items.to_string());
        if self.author.producer.ephemeral {
            add("matyan-ephemeral", "1".to_owned());
        }
        for (name, value) in
            [("matyan-project", &self.author.caller.project), ("matyan-caller", &self.author.caller.identity)]
        {
            if !value.is_empty() {
                add(name, value.clone());
            }
        }
        headers
    }
}

fn event_type(event: &pb::Event) -> &'static str {
    match event.kind.as_ref().expect(CHECKED) {
        Kind::CreateRun(_) => "create_run",
        Kind::FinishRun(_) => "finish_run",
        Kind::SetRunProperty(_) => "set_run_property",
        Kind::AddTag(_) => "add_tag",
        Kind::RemoveTag(_) => "remove_tag",
        Kind::LogParams(_) => "log_hparams",
        Kind::LogObject(_) => "log_custom_object",
        Kind::LogTerminalLine(_) => "log_terminal_line",
        Kind::LogRecord(_) => "log_record",
        Kind::BlobRef(_) => "blob_ref",
        Kind::DeleteRun(_) => "delete_run",
    }
}

const CHECKED: &str = "events without a kind were rejected";

fn event_payload(event: &pb::Event, received_us: i64, json: &mut Vec<u8>) {
    let mut object = Object { json, is_empty: true };
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
            context_and_dtype(&logged.context, &logged.dtype, "custom", object.json);
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
            float_to_json(record.timestamp, object.json);
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

fn point_payload(
    definitions: &Definitions,
    group: &pb::Points,
    at: usize,
    received_us: i64,
    json: &mut Vec<u8>,
) {
    let definition = &definitions.0[group.series[at] as usize];
    json.extend_from_slice(&definition.head);
    let mut object = Object { json, is_empty: false };
    object.key("value");
    float_to_json(group.values[at], object.json);
    object.integer("step", entry(&group.steps, at).filter(|step| *step != NONE));
    object.integer("epoch", entry(&group.epochs, at).filter(|epoch| *epoch != NONE));
    object.separate();
    object.json.extend_from_slice(&definition.tail);
    object.time("client_datetime", entry(&group.times_us, at).unwrap_or(received_us), received_us);
}

/// A column has an entry for each point, one for all, or none.
fn entry(column: &[i64], at: usize) -> Option<i64> {
    if column.len() == 1 { column.first().copied() } else { column.get(at).copied() }
}

/// The members of a JSON object, without its braces.
struct Object<'j> {
    json: &'j mut Vec<u8>,
    is_empty: bool,
}

impl Object<'_> {
    fn separate(&mut self) {
        if !std::mem::take(&mut self.is_empty) {
            self.json.push(b',');
        }
    }

    fn key(&mut self, key: &str) {
        self.separate();
        text_to_json(key, self.json);
        self.json.push(b':');
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        text_to_json(text, self.json);
    }

    fn optional_text(&mut self, key: &str, text: Option<&str>) {
        text.into_iter().for_each(|text| self.text(key, text));
    }

    fn bool(&mut self, key: &str, bool: bool) {
        self.key(key);
        self.json.extend_from_slice(if bool { b"true" } else { b"false" });
    }

    fn integer(&mut self, key: &str, integer: Option<i64>) {
        self.key(key);
        match integer {
            Some(integer) => write!(self.json, "{integer}").expect("writing to memory does not fail"),
            None => self.json.extend_from_slice(b"null"),
        }
    }

    fn cbor(&mut self, key: &str, cbor: &[u8]) {
        self.key(key);
        cbor_to_json(cbor, self.json);
    }

    fn optional_cbor(&mut self, key: &str, cbor: &[u8]) {
        if !cbor.is_empty() {
            self.cbor(key, cbor);
        }
    }

    /// As Python's `isoformat` has it. A time that its years do not hold becomes `otherwise_us`.
    fn time(&mut self, key: &str, us: i64, otherwise_us: i64) {
        self.key(key);
        let time = date_time(us).or_else(|| date_time(otherwise_us)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        write_date_time(time, Micros::UnlessZero, "+00:00", self.json);
    }

    fn optional_time(&mut self, us: Option<i64>, otherwise_us: i64) {
        us.into_iter().for_each(|us| self.time("client_datetime", us, otherwise_us));
    }
}

/// Python's years are 1 to 9999.
fn date_time(us: i64) -> Option<OffsetDateTime> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000).ok()?;
    (time.year() >= 1).then_some(time)
}

#[derive(PartialEq)]
enum Micros {
    Always,
    UnlessZero,
}

fn write_date_time(time: OffsetDateTime, micros: Micros, zone: &str, json: &mut Vec<u8>) {
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    let (hour, minute, second) = time.to_hms();
    write!(json, "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
        .expect("writing to memory does not fail");
    let microsecond = time.microsecond();
    if micros == Micros::Always || microsecond > 0 {
        write!(json, ".{microsecond:06}").expect("writing to memory does not fail");
    }
    write!(json, "{zone}\"").expect("writing to memory does not fail");
}

#[cfg(test)]
mod tests;
