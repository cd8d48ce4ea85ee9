//! A batch as JSON messages, in the forms of the Matyan 0.3 client.

use std::fmt::Write as _;

use matyan_proto::ingest::v1::{
    CreateRun, Event, IngestionBatch, LogObject, LogParams, LogRecord, Points, Rejection, SeriesDef,
    SetRunProperty, event::Kind,
};
use matyan_value::{
    cbor,
    datetime::UtcTime,
    json::{self, JsonStyle},
};

/// Most items in a frame, as the published client sends it. A Matyan 0.3 frontier publishes them one
/// by one, and has to answer in time.
const FRAME_ITEMS: usize = 100;

/// Size above which a frame gets no further item.
const FRAME_BYTES: usize = 512 << 10;

/// Largest frame that servers accept.
const LARGEST_FRAME: usize = 16 << 20;

/// Value of a column entry that is absent.
const ABSENT: i64 = i64::MIN;

/// The dialect that Python reads: ASCII, with names for numbers that are not finite.
const STYLE: JsonStyle = JsonStyle::CANONICAL;

/// Items of a batch that are sent together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct JsonFrame {
    /// Messages, with a comma before each but the first.
    messages: String,
    /// End of each message, and the number of its item in the batch.
    items: Vec<(usize, u32)>,
}

impl JsonFrame {
    /// Number of messages.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// The whole frame: an object, or an array of several.
    pub(super) fn text(&self) -> String {
        if self.len() == 1 { self.messages.clone() } else { format!("[{}]", self.messages) }
    }

    /// One message.
    pub(super) fn item_text(&self, index: usize) -> &str {
        // A comma separates it from the previous one.
        let start = index.checked_sub(1).map_or(0, |previous| self.items[previous].0 + 1);
        &self.messages[start..self.items[index].0]
    }

    /// Number in the batch of the item at this index; that of the last one for an index after it.
    pub(super) fn item_number(&self, index: usize) -> u32 {
        self.items.get(index).or(self.items.last()).map_or(0, |(_, number)| *number)
    }

    fn push(&mut self, message: &str, number: u32) {
        if !self.items.is_empty() {
            self.messages.push(',');
        }
        self.messages.push_str(message);
        self.items.push((self.messages.len(), number));
    }
}

/// Writes batches as frames.
#[derive(Debug, Default)]
pub(super) struct FrameWriter {
    complete: Vec<JsonFrame>,
    current: JsonFrame,
    rejections: Vec<Rejection>,
}

impl FrameWriter {
    /// Adds the items of a batch: its events, then its points, and then the end of the run, which is
    /// the last message of the published client. Items are numbered as in the batch.
    pub(super) fn write_batch(&mut self, batch: &IngestionBatch, dictionary: &[SeriesDef]) {
        let is_end = |event: &Event| matches!(event.kind, Some(Kind::FinishRun(_)));
        let (end, others) = match batch.events.split_last() {
            Some((last, others)) if is_end(last) => (Some(last), others),
            _ => (None, batch.events.as_slice()),
        };
        for (event, number) in others.iter().zip(0..) {
            self.write_event(event, number);
        }
        let mut number = batch.events.len() as u32;
        for points in &batch.points {
            for index in 0..points.series.len() {
                match metric(points, index, dictionary) {
                    Ok(message) => self.push(&message, number),
                    Err((field, reason)) => self.reject(number, field, reason),
                }
                number += 1;
            }
        }
        if let Some(end) = end {
            self.write_event(end, others.len() as u32);
        }
    }

    /// Returns the frames, and the items that JSON cannot say.
    pub(super) fn finish(mut self) -> (Vec<JsonFrame>, Vec<Rejection>) {
        if self.current.len() > 0 {
            self.complete.push(self.current);
        }
        (self.complete, self.rejections)
    }

    fn write_event(&mut self, event: &Event, number: u32) {
        let Some(kind) = &event.kind else {
            return self.reject(number, "kind", "the event has no kind");
        };
        // Several root keys would replace all params of the run in Matyan 0.3.
        if let Kind::LogParams(params) = kind {
            return match params_messages(params) {
                Some(messages) => messages.iter().for_each(|message| self.push(message, number)),
                None => self.reject(number, "value", "the params are not a map in CBOR"),
            };
        }
        match event_message(kind, event.client_time_us) {
            Ok(message) => self.push(&message, number),
            Err((field, reason)) => self.reject(number, field, reason),
        }
    }

    fn push(&mut self, message: &str, number: u32) {
        // Two bytes for the brackets of an array.
        if message.len() + 2 > LARGEST_FRAME {
            return self.reject(number, "", "larger than 16 MiB, which is the limit of this server");
        }
        let bytes = self.current.messages.len() + message.len();
        if self.current.len() == FRAME_ITEMS || (self.current.len() > 0 && bytes > FRAME_BYTES) {
            self.complete.push(std::mem::take(&mut self.current));
        }
        self.current.push(message, number);
    }

    fn reject(&mut self, number: u32, field: &str, reason: &str) {
        self.rejections.push(super::rejection(number, 1, field, reason));
    }
}

/// Field and reason of an item that cannot be written.
type Invalid = (&'static str, &'static str);

/// A message under construction.
struct MessageWriter(String);

impl MessageWriter {
    fn new(message_type: &str) -> Self {
        Self(format!("{{\"type\":\"{message_type}\""))
    }

    fn key(&mut self, name: &str) {
        self.0.push_str(",\"");
        self.0.push_str(name);
        self.0.push_str("\":");
    }

    fn text(&mut self, name: &str, text: &str) {
        self.key(name);
        json::write_text(&mut self.0, text, STYLE);
    }

    fn raw(&mut self, name: &str, json: &str) {
        self.key(name);
        self.0.push_str(json);
    }

    fn integer(&mut self, name: &str, integer: Option<i64>) {
        self.key(name);
        match integer {
            Some(integer) => write!(self.0, "{integer}").expect("writing to memory does not fail"),
            None => self.0.push_str("null"),
        }
    }

    fn float(&mut self, name: &str, float: f64) {
        self.key(name);
        json::write_float(&mut self.0, float, STYLE);
    }

    fn cbor(&mut self, name: &'static str, value: &[u8]) -> Result<(), Invalid> {
        self.key(name);
        json::write_cbor(&mut self.0, value, STYLE).map_err(|_| (name, "not a value in CBOR"))
    }

    /// Contexts are JSON already.
    fn context(&mut self, context: &str) {
        self.raw("context", if context.is_empty() { "null" } else { context });
    }

    fn time(&mut self, time_us: Option<i64>) -> Result<(), Invalid> {
        let time = time_us.and_then(UtcTime::from_us);
        let time = time.ok_or(("client_time_us", "this server needs a time between the years 1 and 9999"))?;
        self.raw("client_datetime", &format!("\"{}\"", time.isoformat()));
        Ok(())
    }

    fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

fn metric(points: &Points, index: usize, dictionary: &[SeriesDef]) -> Result<String, Invalid> {
    let series = dictionary.get(points.series[index] as usize).ok_or(("series", "not in the dictionary"))?;
    let value = points.values.get(index).ok_or(("values", "shorter than `series`"))?;
    let mut message = MessageWriter::new("log_metric");
    message.text("name", &series.name);
    message.float("value", *value);
    message.integer("step", column(&points.steps, index));
    message.integer("epoch", column(&points.epochs, index));
    message.context(&series.context);
    message.text("dtype", if series.dtype.is_empty() { "float" } else { &series.dtype });
    message.time(column(&points.times_us, index))?;
    Ok(message.finish())
}

/// An entry of a column that may have one entry for all points, or none at all.
fn column(column: &[i64], index: usize) -> Option<i64> {
    let entry = if column.len() == 1 { column.first() } else { column.get(index) };
    entry.copied().filter(|entry| *entry != ABSENT)
}

fn event_message(kind: &Kind, time_us: Option<i64>) -> Result<String, Invalid> {
    let mut message;
    match kind {
        Kind::CreateRun(CreateRun { force_resume, parent_run_id, parent_step, .. }) => {
            message = MessageWriter::new("create_run");
            message.raw("force_resume", if *force_resume { "true" } else { "false" });
            if !parent_run_id.is_empty() {
                message.text("parent_run_id", parent_run_id);
                message.integer("parent_step", *parent_step);
            }
            message.time(time_us)?;
        }
        Kind::FinishRun(_) => {
            message = MessageWriter::new("finish_run");
            if time_us.is_some() {
                message.time(time_us)?;
            }
        }
        Kind::SetRunProperty(property) => message = property_message(property),
        Kind::AddTag(tag) => {
            message = MessageWriter::new("add_tag");
            message.text("tag_name", &tag.name);
        }
        Kind::RemoveTag(tag) => {
            message = MessageWriter::new("remove_tag");
            message.text("tag_name", &tag.name);
        }
        Kind::LogObject(object) => message = object_message(object, time_us)?,
        Kind::LogTerminalLine(line) => {
            message = MessageWriter::new("log_terminal_line");
            message.text("line", &line.line);
            message.integer("step", Some(line.step));
        }
        Kind::LogRecord(record) => message = record_message(record)?,
        Kind::BlobRef(blob) => {
            message = MessageWriter::new("blob_ref");
            message.text("s3_key", &blob.key);
            message.text("artifact_path", &blob.path);
            message.text("content_type", &blob.content_type);
        }
        // Params are written by `params_messages`. Newer kinds are unknown to the servers that need JSON.
        _ => return Err(("kind", "a server without the binary protocol does not know it")),
    }
    Ok(message.finish())
}

fn property_message(property: &SetRunProperty) -> MessageWriter {
    let mut message = MessageWriter::new("set_run_property");
    let texts = [
        ("name", &property.name),
        ("description", &property.description),
        ("experiment", &property.experiment),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            message.text(name, text);
        }
    }
    if let Some(archived) = property.archived {
        message.raw("archived", if archived { "true" } else { "false" });
    }
    message
}

fn object_message(object: &LogObject, time_us: Option<i64>) -> Result<MessageWriter, Invalid> {
    if cbor::is_list(&object.value) {
        return Err(("value", "a server without the binary protocol stores one object for each step"));
    }
    let mut message = MessageWriter::new("log_custom_object");
    message.text("name", &object.name);
    message.cbor("value", &object.value)?;
    message.integer("step", object.step);
    message.integer("epoch", object.epoch);
    message.context(&object.context);
    message.text("dtype", if object.dtype.is_empty() { "custom" } else { &object.dtype });
    if time_us.is_some() {
        message.time(time_us)?;
    }
    Ok(message)
}

fn record_message(record: &LogRecord) -> Result<MessageWriter, Invalid> {
    let mut message = MessageWriter::new("log_record");
    message.text("message", &record.message);
    message.integer("level", Some(record.level));
    message.float("timestamp", record.timestamp);
    if !record.logger_info.is_empty() {
        message.cbor("logger_info", &record.logger_info)?;
    }
    if !record.extra_args.is_empty() {
        message.cbor("extra_args", &record.extra_args)?;
    }
    Ok(message)
}

/// One message for each root key.
fn params_messages(params: &LogParams) -> Option<Vec<String>> {
    let members = cbor::decode_map(&params.value).ok()?;
    let message = |(key, value)| {
        let mut message = MessageWriter::new("log_hparams");
        let member = [(key, value)].into_iter().collect();
        message.raw("value", &json::map_text(&member, STYLE));
        message.finish()
    };
    Some(members.into_iter().map(message).collect())
}
