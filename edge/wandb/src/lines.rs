//! Data of a run from the lines of files that a client streams.
//!
//! The content of a line identifies the line. The number of the line identifies it only if its content does not: a
//! client that sends a run again gives its lines other numbers. So a row of the history has the step in it, and a
//! sample of the machine's load has the time of the run in tenths of a second as its step.

use std::time::{SystemTime, UNIX_EPOCH};

use matyan_proto::ABSENT;
use matyan_proto::ingest::v1::event::Kind;
use matyan_proto::ingest::v1::{LogObject, LogRecord, LogTerminalLine};
use matyan_proto::limits::{BATCH_BYTES, LOG_BYTES};
use matyan_value::json::JsonStyle;
use matyan_value::{Map, Value, cbor, datetime, json};
use matyan_wire::{SeriesName, fitting_name};

use crate::batch::RunBatch;
use crate::error::{Result, WandbError};
use crate::fitting::fitting_text;
use crate::json_text::check_values;
use crate::media::{self, MediaObject, float};
use crate::names::{SYSTEM_PREFIX, WANDB_SYSTEM_PREFIX};

const STEP: &str = "_step";
const TIMESTAMP: &str = "_timestamp";
const RUNTIME: &str = "_runtime";

/// Level of a terminal line that is kept as a log record, as in Python's `logging`.
const INFO_LEVEL: i64 = 20;
const ERROR_LEVEL: i64 = 40;

/// Mark of a line of the standard error.
const ERROR_MARK: &str = "ERROR ";

/// Length of a time with microseconds, without a zone.
const TIME_BYTES: usize = "2026-01-02T03:04:05.678901".len();

const SECOND_US: f64 = 1e6;

/// Nesting of maps in a row.
const MAX_DEPTH: usize = 100;

/// Room for everything but the value of an object, or the text of a log record.
const OTHER_BYTES: usize = 64 << 10;

/// The largest value of an object, so that it fits into a batch.
const OBJECT_BYTES: usize = BATCH_BYTES - OTHER_BYTES;

/// The longest line of the terminal.
const LINE_BYTES: usize = LOG_BYTES - OTHER_BYTES;

/// The writer of a line.
#[derive(Clone, Debug)]
pub(crate) struct LineSource<'a> {
    pub(crate) run_id: &'a str,
    /// A writer of a run with several writers, each with its own steps.
    pub(crate) writer: Option<&'a str>,
}

impl LineSource<'_> {
    /// The context of the series of a writer.
    fn context(&self) -> String {
        self.writer.map(writer_context).unwrap_or_default()
    }
}

/// The member of a context that names the writer, if the run has several.
pub(crate) const WRITER: &str = "writer";

fn writer_context(writer: &str) -> String {
    serde_json::json!({ WRITER: writer }).to_string()
}

/// Reads a line of JSON.
pub(crate) fn row(file: &str, number: i64, line: &str) -> Result<Map> {
    check_values(&format!("line {number} of {file}"), line.as_bytes())?;
    match json::parse(line) {
        Ok(Value::Map(row)) => Ok(row),
        Ok(_) => Err(WandbError::invalid(format!("line {number} of {file} is not an object"))),
        Err(error) => Err(WandbError::invalid(format!("line {number} of {file} is not JSON: {error}"))),
    }
}

/// Adds a row of the history.
pub(crate) fn add_history(batch: &mut RunBatch, source: &LineSource<'_>, number: i64, row: &Map) {
    let step = match row.get(STEP) {
        Some(Value::Integer(step)) => sendable(*step),
        Some(Value::Float(step)) if step.fract() == 0.0 => sendable(*step as i64),
        _ => number,
    };
    let time_us = time_us(row);
    let context = source.context();
    for_each_leaf(row, &mut |name, value| {
        // The names of W&B's own columns start with an underscore.
        if name.starts_with('_') {
            return;
        }
        match float(value) {
            Some(number) => batch.point(&name, &context, number, step, time_us),
            None if matches!(value, Value::Null) => {}
            None => {
                let (dtype, encoded) = fitting_object(source.run_id, value);
                let event = LogObject {
                    name,
                    context: context.clone(),
                    dtype: dtype.to_owned(),
                    step: Some(step),
                    epoch: None,
                    value: encoded.into(),
                };
                batch.add(Kind::LogObject(event), Some(time_us));
            }
        }
    });
}

/// A step or a time for a message. The number that marks a missing entry in messages becomes the next larger one.
fn sendable(number: i64) -> i64 {
    number.max(ABSENT + 1)
}

/// The type of the object for a value, and the encoded object. A value that is too large for a message becomes a text.
fn fitting_object(run_id: &str, value: &Value) -> (&'static str, Vec<u8>) {
    let MediaObject { dtype, value: object } = media::object(run_id, value);
    let encoded = cbor::encode(&object);
    if encoded.len() <= OBJECT_BYTES {
        return (dtype, encoded);
    }
    let text = match value {
        Value::Text(text) => text.clone(),
        other => json::value_text(other, JsonStyle::BARE),
    };
    let MediaObject { dtype, value: object } =
        media::text_object(fitting_text(&text, OBJECT_BYTES - OTHER_BYTES).into_owned());
    (dtype, cbor::encode(&object))
}

/// Adds samples of the load of the machine.
pub(crate) fn add_system(batch: &mut RunBatch, source: &LineSource<'_>, number: i64, row: &Map) {
    let runtime = row.get(RUNTIME).and_then(float).filter(|runtime| runtime.is_finite());
    let step = runtime.map_or(number, |runtime| sendable((runtime * 10.0).round() as i64));
    let time_us = time_us(row);
    let context = source.context();
    for_each_leaf(row, &mut |name, value| {
        if let (false, Some(number)) = (name.starts_with('_'), float(value)) {
            let name = name.strip_prefix(WANDB_SYSTEM_PREFIX).unwrap_or(&name);
            let name = format!("{SYSTEM_PREFIX}{name}");
            batch.point(&fitting_name(&name), &context, number, step, time_us);
        }
    });
}

/// Adds a line of the terminal. Lines of several writers would replace each other, so they become log records.
pub(crate) fn add_terminal(batch: &mut RunBatch, source: &LineSource<'_>, number: i64, line: &str) {
    let parsed = TerminalLine::parse(line);
    let text = fitting_text(parsed.text, LINE_BYTES).into_owned();
    match source.writer {
        None => {
            let event = LogTerminalLine { line: text, step: number };
            batch.add(Kind::LogTerminalLine(event), parsed.time_us);
        }
        Some(writer) => {
            let extra = Map::from([(WRITER.to_owned(), Value::Text(writer.to_owned()))]);
            let event = LogRecord {
                message: text,
                level: if parsed.is_error { ERROR_LEVEL } else { INFO_LEVEL },
                timestamp: parsed.time_us.unwrap_or_default() as f64 / SECOND_US,
                extra_args: cbor::encode_map(&extra).into(),
                ..LogRecord::default()
            };
            batch.add(Kind::LogRecord(event), parsed.time_us);
        }
    }
}

/// A line as clients send it: `ERROR 2026-01-02T03:04:05.678901 text`. The mark and the time may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TerminalLine<'a> {
    text: &'a str,
    is_error: bool,
    time_us: Option<i64>,
}

impl<'a> TerminalLine<'a> {
    fn parse(line: &'a str) -> Self {
        let line = line.trim_end_matches('\n');
        let (is_error, rest) = match line.strip_prefix(ERROR_MARK) {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let time = rest.get(..TIME_BYTES).filter(|time| time.as_bytes()[10] == b'T');
        match time.and_then(datetime::parse) {
            Some(time_us) => {
                let text = &rest[TIME_BYTES..];
                Self { text: text.strip_prefix(' ').unwrap_or(text), is_error, time_us: Some(time_us) }
            }
            // Without a time, the mark is a word of the program.
            None => Self { text: line, is_error: false, time_us: None },
        }
    }
}

/// The time of a row, or the current time if the row has no time.
fn time_us(row: &Map) -> i64 {
    let seconds = row.get(TIMESTAMP).and_then(float).filter(|seconds| seconds.is_finite());
    sendable((seconds.unwrap_or_else(now_s) * SECOND_US) as i64)
}

fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Calls a function for each value of nested maps, with the name of its series: `val.acc` for `{"val": {"acc": …}}`.
fn for_each_leaf(row: &Map, on_leaf: &mut dyn FnMut(String, &Value)) {
    for_each_leaf_below(row, &SeriesName::new(String::new()), 0, on_leaf);
}

fn for_each_leaf_below(
    row: &Map,
    prefix: &SeriesName,
    depth: usize,
    on_leaf: &mut dyn FnMut(String, &Value),
) {
    for (key, value) in row {
        let name = prefix.followed_by(key);
        match value {
            Value::Map(nested) if !nested.is_empty() && !media::is_medium(nested) && depth < MAX_DEPTH => {
                for_each_leaf_below(nested, &name.followed_by("."), depth + 1, on_leaf);
            }
            leaf => on_leaf(name.into_fitting(), leaf),
        }
    }
}

#[cfg(test)]
mod tests {
    use matyan_proto::ingest::v1::IngestionBatch;
    use matyan_proto::limits::NAME_BYTES;
    use prost::Message;

    use super::*;

    #[test]
    fn data_that_is_too_large_is_stored_in_a_form_that_fits() {
        let source = LineSource { run_id: "r:project", writer: None };
        let long = "n".repeat(NAME_BYTES + 1);
        let paths = vec![Value::Text("a".to_owned()); 1_000_000];
        let images = Map::from([
            ("_type".to_owned(), Value::Text("images/separated".to_owned())),
            ("filenames".to_owned(), Value::List(paths)),
        ]);
        let row = Map::from([
            (STEP.to_owned(), Value::Integer(ABSENT)),
            (TIMESTAMP.to_owned(), Value::Float(f64::MIN)),
            (long, Value::Float(1.0)),
            ("images".to_owned(), Value::Map(images)),
            ("text".to_owned(), Value::Text("x".repeat(BATCH_BYTES))),
        ]);
        let mut batch = RunBatch::default();
        add_history(&mut batch, &source, 0, &row);
        add_terminal(&mut batch, &source, 0, &"x".repeat(LOG_BYTES + 1));
        add_terminal(&mut batch, &LineSource { writer: Some("w"), ..source }, 0, &"x".repeat(LOG_BYTES + 1));
        let mut kinds = Vec::new();
        for part in batch.into_parts() {
            assert!(part.len() <= BATCH_BYTES);
            let part = IngestionBatch::decode(part).unwrap();
            assert!(part.series.iter().all(|series| series.name.len() <= NAME_BYTES));
            for points in &part.points {
                assert_eq!(
                    (points.steps.as_slice(), points.times_us.as_slice()),
                    (&[ABSENT + 1][..], &[ABSENT + 1][..])
                );
            }
            kinds.extend(part.events.into_iter().filter_map(|event| event.kind));
        }
        assert_eq!(kinds.len(), 4);
        for kind in kinds {
            let bytes = match kind {
                Kind::LogObject(object) => {
                    assert_eq!((object.dtype.as_str(), object.step), ("text", Some(ABSENT + 1)));
                    object.value.len()
                }
                Kind::LogTerminalLine(line) => line.line.len() + BATCH_BYTES - LOG_BYTES,
                Kind::LogRecord(record) => {
                    record.message.len() + record.extra_args.len() + BATCH_BYTES - LOG_BYTES
                }
                other => panic!("{other:?}"),
            };
            assert!((1 << 20..=BATCH_BYTES).contains(&bytes), "{bytes}");
        }
    }

    #[test]
    fn nested_maps_are_flattened_and_media_are_not() {
        let row = row("h", 0, r#"{"a": {"b": {"c": 1}, "d": NaN}, "e": {}, "i": {"_type": "image-file"}}"#)
            .unwrap();
        let mut names = Vec::new();
        for_each_leaf(&row, &mut |name, _| names.push(name));
        assert_eq!(names, ["a.b.c", "a.d", "e", "i"]);
    }

    #[test]
    fn long_names_of_nested_maps_fit_and_stay_apart() {
        let long = "x".repeat(2 * NAME_BYTES);
        let text = format!(r#"{{"a": {{"{long}": {{"b": 1, "c": {{"d": 2}}}}}}}}"#);
        let mut names = Vec::new();
        for_each_leaf(&row("h", 0, &text).unwrap(), &mut |name, _| names.push(name));
        let whole = [format!("a.{long}.b"), format!("a.{long}.c.d")];
        assert_eq!(names, whole.map(|name| fitting_name(&name).into_owned()));
    }

    #[test]
    fn lines_of_the_terminal_lose_what_the_client_adds() {
        let line = TerminalLine::parse("2026-11-27T22:02:48.361493 hello  world\n");
        assert_eq!(
            (line.text, line.is_error, line.time_us),
            ("hello  world", false, Some(1_795_816_968_361_493))
        );
        let line = TerminalLine::parse("ERROR 2026-11-27T22:02:48.361493 no");
        assert_eq!((line.text, line.is_error), ("no", true));
        for plain in ["ERROR no time", "", "2026", "ä2026-11-27T22:02:48.36149 x"] {
            let line = TerminalLine::parse(plain);
            assert_eq!((line.text, line.is_error, line.time_us), (plain, false, None));
        }
    }

    #[test]
    fn a_broken_line_is_named() {
        assert_eq!(
            row("wandb-history.jsonl", 7, "[1]").unwrap_err().message,
            "line 7 of wandb-history.jsonl is not an object"
        );
        assert!(row("h", 1, "{").unwrap_err().message.starts_with("line 1 of h is not JSON: "));
        let grown = format!("{{\"a\":[{}0]}}", "[],".repeat(500_000));
        assert!(row("h", 2, &grown).unwrap_err().message.starts_with("line 2 of h has more than"));
    }
}
