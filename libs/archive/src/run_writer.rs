//! Writes one run as files, from the pieces that a server sends. The run is written to a
//! separate folder and moved to its final one when it is complete, so that an interrupted
//! backup contains complete runs only.

use std::{
    fs,
    path::{Path, PathBuf},
};

use matyan_proto::backup::v1::{self as pb, lost_blob::What, piece::Content};
use matyan_value::{
    Map, Value, cbor,
    json::{self, JsonStyle},
};

use super::{
    Fields, LOST, PARTS, RUNS, Result,
    blob_file::BlobFile,
    checksums::{Checksums, SummedFile, append},
    damaged, durable,
    entities::cursor_fields,
    file_error, lines, run_folder,
    series::{LINES, RECORDS, TraceList},
};

/// Marks a missing epoch or time in a column.
const ABSENT: i64 = i64::MIN;
/// Size of the text buffer.
const GATHERED_BYTES: usize = 1 << 16;

pub struct RunWriter {
    root: PathBuf,
    /// Temporary folder of the run, and the name of its final folder.
    folder: PathBuf,
    name: String,
    sums: Checksums,
    head: pb::RunHead,
    artifacts: Map,
    traces: TraceList,
    sequences: SummedFile,
    producers: String,
    blobs: String,
    lost: String,
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

/// Kind of the steps in a trace. Traces of the same name may differ in this only.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StepKind {
    Points,
    Objects,
    Lines,
    Records,
}

impl RunWriter {
    pub(super) fn begin(root: &Path, head: pb::RunHead) -> Result<Self> {
        let name = run_folder(&head.run_id);
        let folder = root.join(PARTS).join(&name);
        // Left by an interrupted attempt.
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(file_error(&folder))?;
        }
        fs::create_dir_all(&folder).map_err(file_error(&folder))?;
        Ok(Self {
            sequences: SummedFile::create(&folder.join("sequences.jsonl"))?,
            root: root.to_owned(),
            folder,
            name,
            sums: Checksums::new(),
            head,
            artifacts: Map::new(),
            traces: TraceList::default(),
            producers: String::new(),
            blobs: String::new(),
            lost: String::new(),
            text: String::new(),
            line: 0,
            open: None,
            records: 0,
        })
    }

    pub fn add(&mut self, piece: pb::Piece) -> Result<()> {
        match piece.content {
            Some(Content::Points(points)) => self.points(&points)?,
            Some(Content::Object(object)) => self.object(&object)?,
            Some(Content::Line(line)) => self.line(&line)?,
            Some(Content::Record(record)) => self.record(&record)?,
            Some(Content::Artifact(artifact)) => self.artifact(artifact),
            Some(Content::Producer(producer)) => self.producer(&producer),
            Some(Content::Dictionary(dictionary)) => self.dictionary(&dictionary),
            None => {
                return Err(damaged(
                    &self.name,
                    "the server sent an unknown kind of data: use a newer client",
                ));
            }
        }
        if self.text.len() >= GATHERED_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.sequences.write(self.text.as_bytes())?;
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
        let (name, context, dtype) = (name.to_owned(), context.to_owned(), dtype.to_owned());
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
        lines::check_size(self.text.len() - self.line, || format!("{RUNS}/{}/sequences.jsonl", self.name))
    }

    fn points(&mut self, points: &pb::Points) -> Result<()> {
        let (Some(step), Some(value)) = (points.steps.last(), points.values.last()) else { return Ok(()) };
        let last = (Value::Float(*value), *step);
        let id = self.trace((&points.name, &points.context, &points.dtype), StepKind::Points, last);
        let optional = |column: &[i64], at: usize| column.get(at).copied().filter(|value| *value != ABSENT);
        for (at, (step, value)) in points.steps.iter().zip(&points.values).enumerate() {
            self.begin_line(id, &points.name, *step);
            let exact = Value::Float(*value);
            json::write_value(&mut self.text, &exact, JsonStyle::ARCHIVE);
            if json::is_lossy(&exact) {
                self.text.push_str(&format!(", \"value_cbor\": \"{}\"", hex::encode(cbor::encode(&exact))));
            }
            self.end_line(optional(&points.epochs, at), optional(&points.times_us, at))?;
        }
        Ok(())
    }

    fn object(&mut self, object: &pb::Object) -> Result<()> {
        let value = decoded(&self.name, &object.value)?;
        let last = (Value::Float(0.0), object.step);
        let id = self.trace((&object.name, &object.context, &object.dtype), StepKind::Objects, last);
        self.begin_line(id, &object.name, object.step);
        let exact = Fields::default().exact("value", value).json();
        // `{"value": …}` without the opening that `begin_line` has written and without
        // the closing bracket.
        self.text.push_str(&exact["{\"value\": ".len()..exact.len() - 1]);
        self.end_line(object.epoch, Some(object.time_us))
    }

    fn line(&mut self, line: &pb::TerminalLine) -> Result<()> {
        let last = (Value::Text(line.text.clone()), line.number);
        let id = self.trace((LINES.0, "", LINES.1), StepKind::Lines, last);
        self.begin_line(id, LINES.0, line.number);
        json::write_text(&mut self.text, &line.text, JsonStyle::ARCHIVE);
        self.end_line(None, None)
    }

    fn record(&mut self, record: &pb::LogRecord) -> Result<()> {
        let part = |name: &str, bytes: &[u8]| match bytes {
            [] => Ok(Value::Null),
            bytes => decoded(name, bytes),
        };
        let value = Fields::default()
            .text("message", &record.message)
            .integer("log_level", record.level)
            .exact("timestamp", Value::Float(record.timestamp))
            .exact("args", part(&self.name, &record.extra_args)?)
            .exact("logger_info", part(&self.name, &record.logger_info)?);
        let id = self.trace((RECORDS.0, "", RECORDS.1), StepKind::Records, (Value::Null, self.records));
        self.begin_line(id, RECORDS.0, self.records);
        self.text.push_str(&value.json());
        self.records += 1;
        self.end_line(None, None)
    }

    fn artifact(&mut self, artifact: pb::Artifact) {
        let fields = Fields::default()
            .text("s3_key", &artifact.blob_key)
            .text("content_type", &artifact.content_type)
            .time("time", artifact.time_us);
        let fields = match artifact.size {
            Some(size) => fields.unsigned("size", size),
            None => fields,
        };
        let fields = match artifact.content_hash.is_empty() {
            true => fields,
            false => fields.text("blake3", &hex::encode(&artifact.content_hash)),
        };
        self.artifacts.insert(artifact.path, fields.value());
    }

    fn producer(&mut self, producer: &pb::Producer) {
        let fields = Fields::default()
            .text("producer", &hex::encode(&producer.id))
            .unsigned("sequence", producer.sequence)
            .unsigned("items", producer.items.into())
            .time("seen_at", producer.seen_us);
        self.producers.push_str(&(fields.json() + "\n"));
    }

    fn dictionary(&mut self, dictionary: &pb::Dictionary) {
        let definition = |one: &pb::Definition| {
            Fields::default()
                .text("name", &one.name)
                .text("context", &one.context)
                .text("dtype", &one.dtype)
                .value()
        };
        let definitions = Value::List(dictionary.definitions.iter().map(definition).collect());
        let fields = Fields::default()
            .text("producer", &hex::encode(&dictionary.producer))
            .unsigned("first", dictionary.first.into())
            .set("definitions", definitions);
        self.producers.push_str(&(fields.json() + "\n"));
    }

    /// Records a blob that the server could not send because its blob store has lost it.
    pub fn record_lost_blob(&mut self, lost: &pb::LostBlob) {
        let fields = Fields::default().text("s3_key", &lost.blob_key);
        let fields = match &lost.what {
            Some(What::Artifact(path)) => fields.text("artifact", path),
            Some(What::Payload(payload)) => fields
                .text("name", &payload.name)
                .text("context", &payload.context)
                .integer("step", payload.step),
            None => fields,
        };
        self.lost.push_str(&(fields.json() + "\n"));
    }

    /// Returns the folder in which blob files are created.
    pub fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    pub fn finish_blob(&mut self, blob: BlobFile) -> Result<()> {
        let fields = Fields::default()
            .text("path", &blob.blob.path)
            .text("content_type", &blob.blob.content_type)
            .unsigned("size", blob.blob.size);
        let fields = if blob.name == blob.blob.path { fields } else { fields.text("file", &blob.name) };
        self.blobs.push_str(&(fields.json() + "\n"));
        self.sums.insert(format!("{RUNS}/{}/blobs/{}", self.name, blob.name), blob.finish()?);
        Ok(())
    }

    /// Writes a file that readers load completely, so its size is limited.
    fn object_file(&mut self, name: &str, text: &str) -> Result<()> {
        lines::check_size(text.len(), || format!("{RUNS}/{}/{name}", self.name))?;
        self.file(name, text)
    }

    fn file(&mut self, name: &str, text: &str) -> Result<()> {
        let mut file = SummedFile::create(&self.folder.join(name))?;
        file.write(text.as_bytes())?;
        self.sums.insert(format!("{RUNS}/{}/{name}", self.name), file.finish()?);
        Ok(())
    }

    /// Writes the files whose content is known only at the end, and moves the run to its
    /// final folder.
    pub fn finish(mut self) -> Result<()> {
        self.end_trace();
        self.flush()?;
        let mut params = match self.head.params.is_empty() {
            true => Map::new(),
            false => {
                cbor::decode_map(&self.head.params).map_err(|error| damaged(&self.name, error.to_string()))?
            }
        };
        let whole = Value::Map(params.clone());
        // JSON cannot represent these params exactly.
        if json::is_lossy(&whole) {
            self.object_file("attrs.cbor", &hex::encode(cbor::encode(&whole)))?;
        }
        params.insert("__blobs__".to_owned(), Value::Map(std::mem::take(&mut self.artifacts)));
        self.object_file("attrs.json", &json::map_text(&params, JsonStyle::ARCHIVE))?;
        self.object_file("run.json", &run_json(&self.head))?;
        self.object_file("traces.json", &self.traces.traces_json())?;
        self.object_file("contexts.json", &self.traces.contexts_json())?;
        for (name, text) in [
            ("producers.jsonl", std::mem::take(&mut self.producers)),
            ("blobs.jsonl", std::mem::take(&mut self.blobs)),
            (LOST, std::mem::take(&mut self.lost)),
        ] {
            if !text.is_empty() {
                self.file(name, &text)?;
            }
        }
        let sum = self.sequences.finish()?;
        self.sums.insert(format!("{RUNS}/{}/sequences.jsonl", self.name), sum);
        // The files must be on disk before the run appears.
        durable::sync_all(&self.folder)?;
        let runs = self.root.join(RUNS);
        let folder = runs.join(&self.name);
        fs::rename(&self.folder, &folder).map_err(file_error(&folder))?;
        durable::sync(&runs)?;
        // A run counts as complete once all of its files are listed, so this comes last.
        append(&self.root, &self.sums)
    }
}

fn decoded(name: &str, bytes: &[u8]) -> Result<Value> {
    cbor::decode(bytes).map_err(|error| damaged(name, format!("the server sent an invalid value: {error}")))
}

fn run_json(head: &pb::RunHead) -> String {
    let experiment = head.experiment.as_ref();
    let tags =
        head.tags.iter().map(|tag| Fields::default().text("id", &tag.id).text("name", &tag.name).value());
    let fields = Fields::default()
        .text("hash", &head.run_id)
        .text("name", &head.name)
        .text("description", &head.description)
        .time("created_at", head.created_us)
        .time("updated_at", head.updated_us)
        .optional_time("finalized_at", head.finalized_us)
        .bool("is_archived", head.archived)
        .bool("active", head.active)
        .optional_text("experiment_id", experiment.map(|link| link.id.as_str()))
        .optional_text("experiment_name", experiment.map(|link| link.name.as_str()))
        .set("tags", Value::List(tags.collect()))
        .optional_time("client_start_ts", head.client_started_us)
        .optional_time("first_start_ts", head.first_started_us)
        .optional_time("duration", head.duration_us)
        .bool("is_implicit", head.implicit)
        .bool("is_given_up", head.given_up)
        .optional_time("reopened_at", head.reopened_us)
        .time("last_data_at", head.last_data_us);
    let fields = match &head.parent {
        Some(parent) => {
            let step = parent.step.map_or(Value::Null, Value::Integer);
            fields.set("parent", Fields::default().text("hash", &parent.run_id).set("step", step).value())
        }
        None => fields,
    };
    match &head.cursor {
        Some(cursor) => fields.set("cursor", cursor_fields(cursor).value()).json(),
        None => fields.json(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_run_appears_only_when_it_is_complete() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(RUNS)).unwrap();
        let head = pb::RunHead { run_id: "r".into(), ..Default::default() };
        let mut run = RunWriter::begin(root.path(), head.clone()).unwrap();
        let line = pb::TerminalLine { number: 1, text: "x".into() };
        run.add(pb::Piece { content: Some(Content::Line(line)) }).unwrap();
        drop(run);
        assert!(!root.path().join("runs/r").exists());
        let run = RunWriter::begin(root.path(), head).unwrap();
        run.finish().unwrap();
        let names: HashSet<_> = fs::read_dir(root.path().join("runs/r"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let expected = ["run.json", "attrs.json", "traces.json", "contexts.json", "sequences.jsonl"];
        assert_eq!(names, expected.map(str::to_owned).into());
        assert_eq!(fs::read_to_string(root.path().join("runs/r/sequences.jsonl")).unwrap(), "");
    }
}
