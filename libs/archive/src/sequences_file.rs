//! Writes `sequences.jsonl` of a run, one line per step, series by series, and lists the series
//! on the way.

use std::path::Path;

use matyan_proto::backup::v1 as pb;
use matyan_value::{
    Value, cbor,
    json::{self, JsonStyle},
};
use matyan_wire::columns::entry;

use super::{
    Fields, RUNS, Result,
    checksums::SummedFile,
    damaged, lines,
    series::{LINES, RECORDS, TraceList},
};

/// Size of the text buffer.
const GATHERED_BYTES: usize = 1 << 16;

pub(super) struct SequencesFile {
    /// Name of the run's folder.
    run: String,
    file: SummedFile,
    traces: TraceList,
    /// Lines that are not in the file yet.
    text: String,
    /// Start of the last line in `text`.
    line: usize,
    /// The series whose lines are being written.
    open: Option<OpenTrace>,
    records: i64,
}

struct OpenTrace {
    name: String,
    context: String,
    dtype: String,
    form: StepKind,
    id: u64,
    last: (Value, i64),
}

/// A step of a series of objects, without its value.
#[derive(Clone, Copy)]
pub(super) struct ObjectStep<'a> {
    pub(super) name: &'a str,
    /// The stored form of the context.
    pub(super) context: &'a str,
    pub(super) dtype: &'a str,
    pub(super) step: i64,
    pub(super) epoch: Option<i64>,
    pub(super) time_us: Option<i64>,
}

/// Kind of the steps in a trace. Traces of the same name may differ in this only.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StepKind {
    Points,
    Objects,
    Lines,
    Records,
}

impl SequencesFile {
    pub(super) fn create(folder: &Path, run: &str) -> Result<Self> {
        Ok(Self {
            run: run.to_owned(),
            file: SummedFile::create(&folder.join("sequences.jsonl"))?,
            traces: TraceList::default(),
            text: String::new(),
            line: 0,
            open: None,
            records: 0,
        })
    }

    fn flush_if_full(&mut self) -> Result<()> {
        if self.text.len() >= GATHERED_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write(self.text.as_bytes())?;
        self.text.clear();
        Ok(())
    }

    /// Ends the previous series if this is another one, and returns the number of the
    /// context.
    fn trace(
        &mut self,
        (name, context, dtype): (&str, &str, &str),
        form: StepKind,
        last: (Value, i64),
    ) -> u64 {
        let is_same = |open: &OpenTrace| open.name == name && open.context == context && open.form == form;
        if let Some(open) = self.open.as_mut().filter(|open| is_same(open)) {
            open.last = last;
            return open.id;
        }
        self.end_trace();
        let id = self.traces.context(context);
        let name = name.to_owned();
        let context = context.to_owned();
        let dtype = dtype.to_owned();
        self.open = Some(OpenTrace { name, context, dtype, form, id, last });
        id
    }

    fn end_trace(&mut self) {
        if let Some(open) = self.open.take() {
            self.traces.add(&open.name, open.id, &open.dtype, Some(open.last));
        }
    }

    fn begin_line(&mut self, id: u64, name: &str, step: i64) {
        self.line = self.text.len();
        self.text.push_str("{\"ctx_id\": ");
        self.text.push_str(&id.to_string());
        self.text.push_str(", \"name\": ");
        json::write_text(&mut self.text, name, JsonStyle::ARCHIVE);
        self.text.push_str(", \"step\": ");
        self.text.push_str(&step.to_string());
        self.text.push_str(", \"value\": ");
    }

    fn end_line(&mut self, epoch: Option<i64>, time_us: Option<i64>) -> Result<()> {
        if let Some(epoch) = epoch {
            self.text.push_str(", \"epoch\": ");
            self.text.push_str(&epoch.to_string());
        }
        if let Some(time_us) = time_us {
            // The fields of a JSON object without its brackets.
            let time = Fields::default().time("time", time_us).json();
            self.text.push_str(", ");
            self.text.push_str(&time[1..time.len() - 1]);
        }
        self.text.push_str("}\n");
        lines::check_size(self.text.len() - self.line, || format!("{RUNS}/{}/sequences.jsonl", self.run))
    }

    pub(super) fn points(&mut self, points: &pb::Points) -> Result<()> {
        let (Some(step), Some(value)) = (points.steps.last(), points.values.last()) else { return Ok(()) };
        let last = (Value::Float(*value), *step);
        let id = self.trace((&points.name, &points.context, &points.dtype), StepKind::Points, last);
        for (at, (step, value)) in points.steps.iter().zip(&points.values).enumerate() {
            self.begin_line(id, &points.name, *step);
            let exact = Value::Float(*value);
            json::write_value(&mut self.text, &exact, JsonStyle::ARCHIVE);
            if json::is_lossy(&exact) {
                self.text.push_str(&format!(", \"value_cbor\": \"{}\"", hex::encode(cbor::encode(&exact))));
            }
            self.end_line(entry(&points.epochs, at), entry(&points.times_us, at))?;
        }
        self.flush_if_full()
    }

    pub(super) fn object(&mut self, object: &pb::Object) -> Result<()> {
        let value = decoded(&self.run, &object.value)?;
        let step = ObjectStep {
            name: &object.name,
            context: &object.context,
            dtype: &object.dtype,
            step: object.step,
            epoch: object.epoch,
            time_us: Some(object.time_us),
        };
        self.object_value(step, value)
    }

    pub(super) fn object_value(&mut self, object: ObjectStep<'_>, value: Value) -> Result<()> {
        let last = (Value::Float(0.0), object.step);
        let id = self.trace((object.name, object.context, object.dtype), StepKind::Objects, last);
        self.begin_line(id, object.name, object.step);
        let exact = Fields::default().exact("value", value).json();
        // `{"value": …}` without the opening that `begin_line` has written and without
        // the closing bracket.
        self.text.push_str(&exact["{\"value\": ".len()..exact.len() - 1]);
        self.end_line(object.epoch, object.time_us)?;
        self.flush_if_full()
    }

    pub(super) fn line(&mut self, line: &pb::TerminalLine) -> Result<()> {
        let last = (Value::Text(line.text.clone()), line.number);
        let id = self.trace((LINES.0, "", LINES.1), StepKind::Lines, last);
        self.begin_line(id, LINES.0, line.number);
        json::write_text(&mut self.text, &line.text, JsonStyle::ARCHIVE);
        self.end_line(None, None)?;
        self.flush_if_full()
    }

    pub(super) fn record(&mut self, record: &pb::LogRecord) -> Result<()> {
        let part = |name: &str, bytes: &[u8]| match bytes {
            [] => Ok(Value::Null),
            bytes => decoded(name, bytes),
        };
        let value = Fields::default()
            .text("message", &record.message)
            .integer("log_level", record.level)
            .exact("timestamp", Value::Float(record.timestamp))
            .exact("args", part(&self.run, &record.extra_args)?)
            .exact("logger_info", part(&self.run, &record.logger_info)?);
        let id = self.trace((RECORDS.0, "", RECORDS.1), StepKind::Records, (Value::Null, self.records));
        self.begin_line(id, RECORDS.0, self.records);
        self.text.push_str(&value.json());
        self.records += 1;
        self.end_line(None, None)?;
        self.flush_if_full()
    }

    /// Closes the file, and returns its series and its checksum.
    pub(super) fn finish(mut self) -> Result<(TraceList, String)> {
        self.end_trace();
        self.flush()?;
        Ok((self.traces, self.file.finish()?))
    }
}

fn decoded(name: &str, bytes: &[u8]) -> Result<Value> {
    cbor::decode(bytes).map_err(|error| damaged(name, format!("the server sent an invalid value: {error}")))
}
