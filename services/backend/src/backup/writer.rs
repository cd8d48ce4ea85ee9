//! Writes the rows of a run that is not visible yet. Each message becomes one batch, including
//! the counters of the run and its project.

use std::collections::{HashMap, HashSet};

use matyan_blob::{BlobKey, RunFolder};
use matyan_model::{
    artifact::artifact_put,
    ids::{RunNumber, SeriesNumber},
    keys,
    logs::{log_record_put, terminal_line_put},
    metric::{metric_series_create, metric_series_find},
    object::{
        BlobRef, INLINE_BYTES, Object, ObjectHeader, ObjectValue, object_get, object_header_put, object_put,
        object_series_create, object_series_find, singular_dtype,
    },
    parked::{parked_content, parked_put, restored_position},
    run::{WritingState, staged_definitions_put, staged_mark_put, writing_get, writing_put},
    series::{MetricHeader, WrittenPoints},
};
use matyan_proto::{
    backup::v1::{self as pb, piece::Content},
    limits,
};
use matyan_store::{Batch, Snapshot};
use matyan_value::Context;

use super::{
    convert, parked,
    stage::{self, OpenRestore},
};
use crate::server::{
    call::Call,
    convert::check_limit,
    deps::Deps,
    error::{Error, Result},
};

/// A series by its name and the digest of its context.
type SeriesIdentity = (String, [u8; 16]);

pub(super) struct RunWriter<'c> {
    deps: &'c Deps,
    call: &'c Call,
    open: OpenRestore,
    writing: WritingState,
    metrics: HashMap<SeriesIdentity, SeriesNumber>,
    objects: HashMap<SeriesIdentity, (SeriesNumber, ObjectHeader)>,
    pub(super) unfolded_bytes: usize,
    pub(super) unfolded_blocks: usize,
}

/// The rows and counters of one message.
struct MessageBatch {
    batch: Batch,
    snapshot: Box<dyn Snapshot>,
    written: WrittenPoints,
    changed_headers: Vec<SeriesIdentity>,
    /// Digests of the log records.
    records: HashSet<[u8; 16]>,
}

impl<'c> RunWriter<'c> {
    pub(super) async fn load(deps: &'c Deps, call: &'c Call, open: OpenRestore) -> Result<Self> {
        let snapshot = deps.store.snapshot().await?;
        let writing = writing_get(snapshot.as_ref(), call.project, open.staged.number).await?;
        let metrics = HashMap::new();
        let objects = HashMap::new();
        Ok(Self { deps, call, open, writing, metrics, objects, unfolded_bytes: 0, unfolded_blocks: 0 })
    }

    pub(super) fn open(&self) -> &OpenRestore {
        &self.open
    }

    pub(super) fn position(&self) -> u64 {
        self.open.position
    }

    pub(super) fn reset_unfolded(&mut self) {
        self.unfolded_bytes = 0;
        self.unfolded_blocks = 0;
    }

    fn number(&self) -> RunNumber {
        self.open.staged.number
    }

    /// Stores the content and the position atomically.
    pub(super) async fn write(&mut self, pieces: Vec<pb::Piece>, position: u64) -> Result<()> {
        // The project's counters are adjusted by the change that this message makes.
        let counters = self.writing.project_counters();
        // Payloads are uploaded before the snapshot is taken, because a snapshot is
        // short-lived.
        let pieces = self.move_payloads(pieces).await?;
        let mut message = MessageBatch {
            batch: self.open.batch(self.call.project, position),
            snapshot: self.deps.store.snapshot().await?,
            written: WrittenPoints::default(),
            changed_headers: Vec::new(),
            records: HashSet::new(),
        };
        for (content, value) in pieces {
            self.piece(&mut message, content, value).await?;
        }
        self.finish(&mut message);
        for ((counter, before), (_, after)) in counters.into_iter().zip(self.writing.project_counters()) {
            if before != after {
                message.batch.add(keys::project_counter(self.call.project, counter), after - before);
            }
        }
        stage::commit(self.deps, message.batch).await?;
        self.open.position = position;
        Ok(())
    }

    async fn move_payloads(&self, pieces: Vec<pb::Piece>) -> Result<Vec<(Content, Option<ObjectValue>)>> {
        let mut moved = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let Some(mut content) = piece.content else {
                return Err(Error::field(
                    "pieces",
                    "contains a piece of a kind not supported by this server",
                ));
            };
            let value = match &mut content {
                Content::Object(object) => Some(self.payload(object).await?),
                _ => None,
            };
            moved.push((content, value));
        }
        Ok(moved)
    }

    async fn payload(&self, object: &mut pb::Object) -> Result<ObjectValue> {
        convert::object_check(object)?;
        let value = std::mem::take(&mut object.value);
        if value.len() <= INLINE_BYTES {
            return Ok(ObjectValue::Inline(value));
        }
        let hash = blake3::hash(&value);
        let size = value.len() as u64;
        let folder = RunFolder::new(&self.call.project_name, self.open.id.as_str())?;
        let reference = folder.payload_reference(&hash);
        let key = BlobKey::in_project(&self.call.project_name, &reference)?;
        let content = futures::stream::once(async move { Ok(value) });
        self.deps.blobs.put(&key, "application/cbor", Some(size), Box::pin(content)).await?;
        Ok(ObjectValue::Blob(BlobRef { key: reference, size, hash: *hash.as_bytes() }))
    }

    async fn piece(
        &mut self,
        message: &mut MessageBatch,
        content: Content,
        value: Option<ObjectValue>,
    ) -> Result<()> {
        let project = self.call.project;
        let number = self.number();
        match (content, value) {
            (Content::Points(points), _) => self.points(message, points).await,
            (Content::Object(object), Some(value)) => self.object(message, object, value).await,
            (Content::Object(_), None) => Err(Error::Broken),
            (Content::Line(line), _) => self.line(message, &line),
            (Content::Record(record), _) => self.record(message, record).await,
            (Content::Artifact(artifact), _) => {
                let (path, artifact) = convert::artifact(artifact)?;
                artifact_put(&mut message.batch, project, number, &path, &artifact);
                Ok(())
            }
            (Content::Producer(producer), _) => {
                let (producer, mark) = convert::producer(&producer)?;
                staged_mark_put(&mut message.batch, project, number, producer, &mark);
                Ok(())
            }
            (Content::Dictionary(dictionary), _) => {
                let (producer, first, definitions) = convert::dictionary(dictionary)?;
                staged_definitions_put(&mut message.batch, project, number, (producer, first), &definitions);
                Ok(())
            }
            (Content::Parked(item), _) => self.parked(message, item).await,
        }
    }

    async fn parked(&self, message: &mut MessageBatch, item: pb::ParkedItem) -> Result<()> {
        let at = restored_position(self.number(), item.number, item.record.is_some());
        let parked = parked::parked_item(self.open.id.clone(), at, item)?;
        for mut content in parked_content(self.call.project, &parked) {
            if parked.item.len() <= limits::CHUNK_BYTES {
                message.batch.append(content);
            } else {
                // Without its row, it has no effect.
                self.open.staged.expect(&mut content, self.call.project, &self.open.id);
                stage::commit(self.deps, content).await?;
            }
        }
        parked_put(&mut message.batch, self.call.project, &parked);
        Ok(())
    }

    async fn points(&mut self, message: &mut MessageBatch, points: pb::Points) -> Result<()> {
        let context = convert::series(&points.name, &points.context, &points.dtype)?;
        let header = MetricHeader {
            name: points.name.clone(),
            context: context.stored().to_owned(),
            dtype: points.dtype.clone(),
        };
        let points = convert::points(points)?;
        if points.is_empty() {
            return Ok(());
        }
        let series = self.metric(message, header, &context).await?;
        message.written.series.resize(message.written.len() + points.len(), series);
        message.written.points.extend(&points, 0..points.len());
        Ok(())
    }

    async fn metric(
        &mut self,
        message: &mut MessageBatch,
        header: MetricHeader,
        context: &Context,
    ) -> Result<SeriesNumber> {
        let name = (header.name.clone(), context.digest());
        if let Some(series) = self.metrics.get(&name) {
            return Ok(*series);
        }
        let project = self.call.project;
        let number = self.number();
        let snapshot = message.snapshot.as_ref();
        let series = match metric_series_find(snapshot, project, number, &name.0, &name.1).await? {
            Some(series) => series,
            None => {
                let series = SeriesNumber(self.writing.series);
                check_limit("series", series.0 as usize + 1, limits::SERIES_PER_RUN)?;
                self.writing.series += 1;
                metric_series_create(&mut message.batch, project, number, series, &header, &name.1);
                series
            }
        };
        self.metrics.insert(name, series);
        Ok(series)
    }

    async fn object(
        &mut self,
        message: &mut MessageBatch,
        object: pb::Object,
        value: ObjectValue,
    ) -> Result<()> {
        let context = convert::series(&object.name, &object.context, &object.dtype)?;
        let name = (object.name.clone(), context.digest());
        let project = self.call.project;
        let number = self.number();
        self.object_series(message, &name, &context).await?;
        let (series, header) = self.objects.get_mut(&name).ok_or(Error::Broken)?;
        // Archives are in step order; an object that is out of order is looked up.
        let is_new = header.count == 0
            || object.step > header.last_step
            || object_get(message.snapshot.as_ref(), project, number, *series, object.step).await?.is_none();
        header.add(object.step, singular_dtype(&object.dtype), is_new);
        self.writing.bytes += match &value {
            ObjectValue::Inline(value) => value.len() as u64,
            ObjectValue::Blob(blob) => blob.size,
        };
        let epoch = object.epoch;
        let time_us = object.time_us;
        let row = Object { step: object.step, epoch, time_us, value };
        object_put(&mut message.batch, project, number, *series, &row);
        // Objects of a series are usually adjacent; a repeated name is harmless.
        if message.changed_headers.last() != Some(&name) {
            message.changed_headers.push(name);
        }
        Ok(())
    }

    async fn object_series(
        &mut self,
        message: &mut MessageBatch,
        name: &SeriesIdentity,
        context: &Context,
    ) -> Result<()> {
        if self.objects.contains_key(name) {
            return Ok(());
        }
        let project = self.call.project;
        let number = self.number();
        let found = object_series_find(message.snapshot.as_ref(), project, number, &name.0, &name.1).await?;
        let found = match found {
            Some(found) => found,
            None => {
                let series = SeriesNumber(self.writing.object_series);
                check_limit("object series", series.0 as usize + 1, limits::SERIES_PER_RUN)?;
                self.writing.object_series += 1;
                let header = ObjectHeader::new(&name.0, context.stored());
                object_series_create(&mut message.batch, project, number, series, &header, &name.1);
                (series, header)
            }
        };
        self.objects.insert(name.clone(), found);
        Ok(())
    }

    fn line(&mut self, message: &mut MessageBatch, line: &pb::TerminalLine) -> Result<()> {
        check_limit("line.text", line.text.len(), limits::LOG_BYTES)?;
        let project = self.call.project;
        let number = self.number();
        let sequence = self.writing.next_line;
        let bytes = terminal_line_put(&mut message.batch, project, number, sequence, line.number, &line.text);
        self.writing.next_line += 1;
        self.writing.bytes += bytes as u64;
        Ok(())
    }

    async fn record(&mut self, message: &mut MessageBatch, record: pb::LogRecord) -> Result<()> {
        let record = convert::log_record(record)?;
        let project = self.call.project;
        let number = self.number();
        let digest = record.digest();
        let seen = keys::log_record_seen(project, number, &digest);
        if !message.records.insert(digest) || message.snapshot.get(&seen).await?.is_some() {
            return Ok(());
        }
        let sequence = self.writing.next_log_record;
        let bytes = log_record_put(&mut message.batch, project, number, sequence, &record);
        self.writing.next_log_record += 1;
        self.writing.bytes += bytes as u64;
        Ok(())
    }

    fn finish(&mut self, message: &mut MessageBatch) {
        let project = self.call.project;
        let number = self.number();
        // A header is written once per message, no matter how many objects were added.
        for name in std::mem::take(&mut message.changed_headers) {
            if let Some((series, header)) = self.objects.get(&name) {
                object_header_put(&mut message.batch, project, number, *series, header);
            }
        }
        self.writing.points += message.written.len() as u64;
        for block in message.written.blocks() {
            self.unfolded_bytes += block.len();
            self.unfolded_blocks += 1;
            self.writing.bytes += block.len() as u64;
            message.batch.set(keys::block(project, number, self.writing.next_block), block);
            self.writing.next_block += 1;
        }
        writing_put(&mut message.batch, project, number, &self.writing);
    }
}
