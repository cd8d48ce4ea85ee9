//! Reads one run of an archive as steps in a fixed order: blobs, artifacts and producers, then
//! the lines of its sequences, then its parked items. Each step ends at a position; an interrupted restore reopens the
//! run at the last position that was stored. The upper byte of a position is the stage; the
//! remaining bytes are a count of blobs or messages, or a file offset.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
};

use matyan_proto::{
    ABSENT,
    backup::v1::{self as pb, piece::Content},
};
use matyan_value::{Value, cbor};

use super::{
    JsonObject, PARKED, RUNS, Result,
    lines::{self, LineReader},
    parked_items::parked_item,
    run_files::{RunDescription, blobs, log_record, payloads, producers, sanitised, traces},
    run_step::{LINES, PARKED_LINES, PIECE_BYTES, PIECES, RunStep, STAGE, piece},
    series::RunSeries,
};

/// Size limit of one message.
const MESSAGE_BYTES: usize = 512 << 10;
/// Approximate size of a point in a message.
const POINT_BYTES: usize = 32;
/// Approximate size of a parked item in a message, in addition to its content and its reason.
const PARKED_BYTES: usize = 512;
/// Most pieces per message: each may become a row.
const MESSAGE_PIECES: usize = 2_048;

/// A line's content, its size in a message, and the offset after it.
type ReadLine = (Content, usize, u64);

pub struct RunReader {
    pub head: pb::RunHead,
    blobs: VecDeque<RunStep>,
    early: VecDeque<RunStep>,
    known: RunSeries,
    lines: Option<LineReader>,
    parked: Option<LineReader>,
    /// A line that was read but did not fit into the previous message, with its stage.
    held: Option<(u64, ReadLine)>,
    /// Time of an object that has none.
    default_us: i64,
    /// Payload files of an archive whose objects refer to them by opaque URIs.
    named: BTreeMap<String, String>,
    /// Number of object steps without an object.
    pub objects_lost: u64,
}

impl RunReader {
    pub(super) fn open(root: &Path, name: &str, with_blobs: bool, position: u64) -> Result<Self> {
        let folder = format!("{RUNS}/{name}");
        let file = |file: &str| format!("{folder}/{file}");
        let described = RunDescription::read(root, name)?;
        let artifacts = described.artifacts()?;
        let head = described.head;
        let contexts = lines::object(root, &file("contexts.json"))?;
        let known = RunSeries::read(&traces(root, &file("traces.json"))?, &contexts)?;
        let named = payloads(root, &folder)?;
        let blobs = if with_blobs { blobs(root, &folder, &artifacts)? } else { VecDeque::new() };
        let mut early: Vec<pb::Piece> =
            artifacts.into_iter().map(|artifact| piece(Content::Artifact(artifact))).collect();
        early.extend(producers(root, &file("producers.jsonl"))?);
        // All other stages come before these two.
        let offset = |stage| if position & STAGE == stage { position & !STAGE } else { 0 };
        let lines = match position & STAGE {
            PARKED_LINES => None,
            _ => LineReader::open(root, &file("sequences.jsonl"), offset(LINES))?,
        };
        let mut run = Self {
            default_us: head.created_us,
            head,
            blobs,
            early: messages(early),
            known,
            lines,
            parked: LineReader::open(root, &file(PARKED), offset(PARKED_LINES))?,
            held: None,
            named,
            objects_lost: 0,
        };
        run.pass(position);
        Ok(run)
    }

    /// Skips the steps up to a position.
    fn pass(&mut self, position: u64) {
        let behind = |step: &RunStep| match step {
            RunStep::Blob { position: own, .. } | RunStep::Pieces { position: own, .. } => *own > position,
        };
        self.blobs.retain(behind);
        self.early.retain(behind);
    }

    /// Returns the number of blobs still to come.
    pub fn blobs(&self) -> u64 {
        self.blobs.len() as u64
    }

    pub fn next_step(&mut self) -> Result<Option<RunStep>> {
        if let Some(step) = self.blobs.pop_front().or_else(|| self.early.pop_front()) {
            return Ok(Some(step));
        }
        for stage in [LINES, PARKED_LINES] {
            let mut message = MessageBuilder::default();
            while let Some((content, bytes, end)) = self.next_of(stage)? {
                if message.is_full(bytes) {
                    self.held = Some((stage, (content, bytes, end)));
                    break;
                }
                message.add(content, bytes, end);
            }
            if let Some(step) = message.step(stage) {
                return Ok(Some(step));
            }
        }
        Ok(None)
    }

    fn next_of(&mut self, stage: u64) -> Result<Option<ReadLine>> {
        if let Some((_, held)) = self.held.take_if(|(held, _)| *held == stage) {
            return Ok(Some(held));
        }
        if stage == LINES { self.line() } else { self.parked_item() }
    }

    fn parked_item(&mut self) -> Result<Option<ReadLine>> {
        let Some(lines) = &mut self.parked else { return Ok(None) };
        let Some(line) = lines.next()? else { return Ok(None) };
        let item = parked_item(&line)?;
        let bytes = item.content.len() + item.reason.len() + PARKED_BYTES;
        Ok(Some((Content::Parked(item), bytes, lines.offset())))
    }

    fn line(&mut self) -> Result<Option<ReadLine>> {
        loop {
            let Some(lines) = &mut self.lines else { return Ok(None) };
            let Some(record) = lines.next()? else { return Ok(None) };
            let end = lines.offset();
            match self.content(&record)? {
                Some((content, bytes)) => return Ok(Some((content, bytes, end))),
                None => self.objects_lost += 1,
            }
        }
    }

    /// Parses a line. Returns `None` if a number stands for an object: the published client
    /// writes an object's index in a list instead of the object.
    fn content(&self, line: &JsonObject) -> Result<Option<(Content, usize)>> {
        let name = line.required_text("name")?;
        let step = line.required_integer("step")?;
        let id = line.integer("ctx_id")?.unwrap_or_default();
        let value = line.exact("value")?.unwrap_or(Value::Null);
        if self.known.is_record(id, &name, &value) {
            return log_record(line, value).map(Some);
        }
        match value {
            Value::Text(text) if self.known.are_lines(&name) => {
                let bytes = text.len() + PIECE_BYTES;
                Ok(Some((Content::Line(pb::TerminalLine { number: step, text }), bytes)))
            }
            Value::Map(_) | Value::List(_) => self.object(line, (id, name, step), value).map(Some),
            Value::Integer(_) if self.known.is_object(id, &name) => Ok(None),
            value => self.point(line, (id, name, step), &value).map(Some),
        }
    }

    fn context(&self, line: &JsonObject, id: i64) -> Result<String> {
        let context = self.known.context(id);
        context.map(str::to_owned).ok_or_else(|| line.error(format!("context {id} is not in contexts.json")))
    }

    fn point(
        &self,
        line: &JsonObject,
        (id, name, step): (i64, String, i64),
        value: &Value,
    ) -> Result<(Content, usize)> {
        let value = match value {
            Value::Float(float) => *float,
            Value::Integer(integer) => *integer as f64,
            Value::Big(big) => big.to_f64(),
            Value::Bool(bool) => f64::from(u8::from(*bool)),
            // How programs without NaN in their JSON write a value that is not
            // finite.
            Value::Null => f64::NAN,
            _ => return Err(line.error("`value` is neither a number nor an object")),
        };
        let points = pb::Points {
            context: self.context(line, id)?,
            dtype: self.known.metric(id, &name).to_owned(),
            name,
            steps: vec![step],
            values: vec![value],
            epochs: vec![line.integer("epoch")?.unwrap_or(ABSENT)],
            times_us: vec![line.time("time")?.unwrap_or(ABSENT)],
        };
        Ok((Content::Points(points), POINT_BYTES))
    }

    fn object(
        &self,
        line: &JsonObject,
        (id, name, step): (i64, String, i64),
        value: Value,
    ) -> Result<(Content, usize)> {
        let value = self.linked(value);
        let own = match &value {
            Value::Map(map) => map.get("type"),
            Value::List(list) => list.iter().find_map(|item| item.as_map()?.get("type")),
            _ => None,
        };
        let own = match own {
            Some(Value::Text(own)) => Some(own.as_str()),
            _ => None,
        };
        let object = pb::Object {
            context: self.context(line, id)?,
            dtype: self.known.object(id, &name, own),
            step,
            epoch: line.integer("epoch")?,
            time_us: line.time("time")?.unwrap_or(self.default_us),
            value: cbor::encode(&value).into(),
            name,
        };
        let bytes = object.value.len() + object.name.len() + object.context.len() + PIECE_BYTES;
        Ok((Content::Object(object), bytes))
    }

    /// Replaces the opaque URIs of an archive made over REST by references to its payload
    /// files.
    fn linked(&self, value: Value) -> Value {
        match value {
            Value::List(list) => Value::List(list.into_iter().map(|item| self.linked(item)).collect()),
            Value::Map(mut map) if !map.contains_key("s3_key") => {
                let key = match map.get("blob_uri") {
                    Some(Value::Text(uri)) => self.named.get(&sanitised(uri)),
                    _ => None,
                };
                if let Some(key) = key {
                    map.insert("s3_key".to_owned(), Value::Text(format!("{}/{key}", self.head.run_id)));
                    map.remove("blob_uri");
                }
                Value::Map(map)
            }
            other => other,
        }
    }
}

/// A message assembled from lines. Consecutive points of one series form one piece.
#[derive(Default)]
struct MessageBuilder {
    pieces: Vec<pb::Piece>,
    bytes: usize,
    end: u64,
}

impl MessageBuilder {
    fn is_full(&self, bytes: usize) -> bool {
        let is_over = self.bytes + bytes > MESSAGE_BYTES || self.pieces.len() >= MESSAGE_PIECES;
        !self.pieces.is_empty() && is_over
    }

    fn add(&mut self, content: Content, bytes: usize, end: u64) {
        self.bytes += bytes;
        self.end = end;
        if let Content::Points(next) = &content
            && let Some(pb::Piece { content: Some(Content::Points(points)) }) = self.pieces.last_mut()
            && (&points.name, &points.context) == (&next.name, &next.context)
        {
            points.steps.extend(&next.steps);
            points.values.extend(&next.values);
            points.epochs.extend(&next.epochs);
            points.times_us.extend(&next.times_us);
            return;
        }
        // Points share the name and context of their piece.
        if let Content::Points(points) = &content {
            self.bytes += points.name.len() + points.context.len() + PIECE_BYTES;
        }
        self.pieces.push(piece(content));
    }

    fn step(self, stage: u64) -> Option<RunStep> {
        let Self { pieces, end, .. } = self;
        (!pieces.is_empty()).then_some(RunStep::Pieces { pieces, position: stage | end })
    }
}

/// Splits pieces that are already in memory into messages.
fn messages(pieces: Vec<pb::Piece>) -> VecDeque<RunStep> {
    let mut steps = VecDeque::new();
    let mut message = Vec::new();
    let mut bytes = 0;
    let end = |steps: &mut VecDeque<RunStep>, message: &mut Vec<pb::Piece>| {
        if !message.is_empty() {
            let position = PIECES | (steps.len() as u64 + 1);
            steps.push_back(RunStep::Pieces { pieces: std::mem::take(message), position });
        }
    };
    for piece in pieces {
        let own = prost::Message::encoded_len(&piece);
        if bytes + own > MESSAGE_BYTES || message.len() >= MESSAGE_PIECES {
            end(&mut steps, &mut message);
            bytes = 0;
        }
        bytes += own;
        message.push(piece);
    }
    end(&mut steps, &mut message);
    steps
}
