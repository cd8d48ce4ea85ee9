//! Reads a complete run. `open` takes from one snapshot everything that later records could
//! change: document, params, cursor, producers, headers, chunk lists, unfolded blocks, and the
//! end of objects, lines and log records. The rest is read later from short-lived snapshots:
//! chunks never change, and rows appended after the recorded bounds are left out. An object or
//! line within the bounds that is rewritten before it is read carries its own position, so the
//! record that rewrote it may safely be applied a second time.

use matyan_model::{
    artifact::artifacts_list,
    entity::{Experiment, Tag, entity_get},
    ids::{NamedProject, RunId, RunNumber, SeriesNumber},
    logs::{LogScan, log_records_list, terminal_lines_list},
    metric::metric_series_list,
    object::{BlobRef, ObjectHeader, ObjectValue, object_series_list, objects_between, objects_list},
    position::cursor_get,
    producer::{dictionary_get, marks_list},
    run::{Props, head_live, params_get_bytes, run_id_get, writing_get},
    series::{MetricHeader, PointScan, RunRef, RunSeries},
};
use matyan_proto::backup::v1::{self as pb, lost_blob::What, piece::Content};
use matyan_store::{Scan, Snapshot};

use super::{blobs, convert, log_positions, parked::OpenParked};
use crate::{
    series::objects,
    server::{
        call::Call,
        deps::Deps,
        error::{Error, Result},
        stream::{Sender, StreamEnd},
    },
    view::run_lookup::FoundRun,
};

/// Target size of the content in a message.
const MESSAGE_BYTES: usize = 512 << 10;
/// Maximum number of small pieces in a message.
const MESSAGE_PIECES: usize = 4_096;

/// A run as of one snapshot.
pub(super) struct OpenRun {
    place: RunRef,
    project: NamedProject,
    id: RunId,
    head: pb::RunHead,
    /// Artifacts and producers.
    pieces: Vec<pb::Piece>,
    metrics: Vec<(MetricHeader, PointScan)>,
    objects: Vec<(SeriesNumber, ObjectHeader)>,
    last_line: Option<i64>,
    log_records: u64,
    parked: OpenParked,
}

pub(super) async fn open(deps: &Deps, call: &Call, run_id: &str) -> Result<OpenRun> {
    let FoundRun { snapshot, number, document } = deps.find_kept_run(call, run_id).await?;
    let snapshot = snapshot.as_ref();
    let project = call.project;
    let id = RunId::new(run_id);
    let place = RunRef { project, number };
    let writing = writing_get(snapshot, project, number).await?;
    let mut head = head(snapshot, call, &document.props).await?;
    head.params = params_get_bytes(snapshot, project, number, &document).await?;
    head.last_data_us = writing.last_data_us;
    let cursor = cursor_get(snapshot, project, &id).await?;
    let parked = OpenParked::open(snapshot, project, &id, cursor).await?;
    head.quarantine = parked.quarantine_view();
    head.cursor = parked.next_cursor().map(log_positions::cursor_view);
    let (series, headers): (Vec<_>, Vec<_>) =
        metric_series_list(snapshot, project, number).await?.into_iter().unzip();
    let scans = RunSeries::open(snapshot, place).await?.scans(snapshot, &series).await?;
    let mut pieces = artifacts(snapshot, call, number).await?;
    pieces.extend(producers(snapshot, call, &id).await?);
    let last = LogScan { count: 1, bytes: 0, last: true };
    let last = terminal_lines_list(snapshot, project, number, (i64::MIN, i64::MAX), last).await?;
    Ok(OpenRun {
        place,
        project: call.named_project(),
        id,
        head,
        pieces,
        metrics: headers.into_iter().zip(scans).collect(),
        objects: object_series_list(snapshot, project, number).await?,
        last_line: last.last().map(|line| line.number),
        log_records: writing.next_log_record,
        parked,
    })
}

async fn head(snapshot: &dyn Snapshot, call: &Call, props: &Props) -> Result<pb::RunHead> {
    let mut head = convert::head_view(props);
    if let Some(id) = &props.experiment {
        let experiment: Option<Experiment> = entity_get(snapshot, call.project, id).await?;
        head.experiment = experiment.map(|experiment| pb::Link { id: id.clone(), name: experiment.name });
    }
    for id in &props.tags {
        // Links to deleted tags remain until a sweep removes them.
        if let Some(tag) = entity_get::<Tag>(snapshot, call.project, id).await? {
            head.tags.push(pb::Link { id: id.clone(), name: tag.name });
        }
    }
    if let Some(parent) = props.parent {
        let run_id = run_id_get(snapshot, call.project, RunNumber(parent.number)).await?;
        head.parent = run_id.map(|id| pb::Parent { run_id: id.as_str().to_owned(), step: parent.step });
    }
    Ok(head)
}

async fn artifacts(snapshot: &dyn Snapshot, call: &Call, number: RunNumber) -> Result<Vec<pb::Piece>> {
    let listed = artifacts_list(snapshot, call.project, number).await?.into_iter();
    Ok(listed.map(|(path, artifact)| piece(convert::artifact_view(path, artifact))).collect())
}

/// A producer's mark follows its dictionary, because the mark determines which definitions are
/// valid.
async fn producers(snapshot: &dyn Snapshot, call: &Call, id: &RunId) -> Result<Vec<pb::Piece>> {
    let mut pieces = Vec::new();
    for (producer, mark) in marks_list(snapshot, call.project, id).await? {
        let definitions = dictionary_get(snapshot, call.project, id, producer).await?;
        pieces.extend(convert::dictionary_view(producer, &definitions).map(piece));
        pieces.push(piece(convert::producer_view(producer, mark)));
    }
    Ok(pieces)
}

fn piece(content: Content) -> pb::Piece {
    pb::Piece { content: Some(content) }
}

impl OpenRun {
    pub(super) async fn send(
        self,
        deps: &Deps,
        sender: &Sender<pb::ReadRunResponse>,
    ) -> Result<(), StreamEnd> {
        let Self { place, project, id, head, pieces, metrics, objects, last_line, log_records, parked } =
            self;
        sender.send(pb::ReadRunResponse { head: Some(head), ..Default::default() }).await?;
        let mut unlisted = blobs::UnlistedBlobs::new(&project.name, &id, &pieces)?;
        let mut buffer = MessageBuffer {
            deps,
            project: &project,
            place,
            sender,
            pieces: Vec::new(),
            lost: Vec::new(),
            bytes: 0,
        };
        for piece in pieces {
            buffer.push(piece.content).await?;
        }
        for (header, scan) in metrics {
            buffer.points(&header, scan).await?;
        }
        for (series, header) in objects {
            buffer.objects(series, &header).await?;
        }
        buffer.lines(last_line).await?;
        buffer.log_records(log_records).await?;
        buffer.parked(parked, &id).await?;
        buffer.flush().await?;
        let mut from = None;
        loop {
            let (blobs, next) = blobs::list(deps, &project.name, &id, from.as_ref()).await?;
            unlisted.remove_listed(&blobs);
            sender.send(pb::ReadRunResponse { blobs, ..Default::default() }).await?;
            from = match next {
                Some(next) => Some(next),
                None => break,
            };
        }
        for lost in unlisted.into_lost(deps).await? {
            buffer.push_lost(lost).await?;
        }
        buffer.flush().await?;
        check_live(deps, place, &id).await?;
        Ok(())
    }
}

/// Checks that the run is still live: if it was deleted during the read, some of its rows may
/// be missing.
async fn check_live(deps: &Deps, place: RunRef, id: &RunId) -> Result<()> {
    let snapshot = deps.store.snapshot().await?;
    if head_live(snapshot.as_ref(), place.project, id).await? == Some(place.number) {
        Ok(())
    } else {
        Err(Error::PositionExpired)
    }
}

/// Collects the next message. No snapshot is open while it is sent.
struct MessageBuffer<'c> {
    deps: &'c Deps,
    project: &'c NamedProject,
    place: RunRef,
    sender: &'c Sender<pb::ReadRunResponse>,
    pieces: Vec<pb::Piece>,
    lost: Vec<pb::LostBlob>,
    bytes: usize,
}

impl MessageBuffer<'_> {
    async fn push(&mut self, content: Option<Content>) -> Result<(), StreamEnd> {
        let piece = pb::Piece { content };
        self.bytes += prost::Message::encoded_len(&piece);
        self.pieces.push(piece);
        self.flush_if_full().await
    }

    async fn push_lost(&mut self, lost: pb::LostBlob) -> Result<(), StreamEnd> {
        self.bytes += prost::Message::encoded_len(&lost);
        self.lost.push(lost);
        self.flush_if_full().await
    }

    async fn flush_if_full(&mut self) -> Result<(), StreamEnd> {
        let is_full = self.bytes >= MESSAGE_BYTES || self.pieces.len() + self.lost.len() >= MESSAGE_PIECES;
        if is_full { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), StreamEnd> {
        self.bytes = 0;
        let pieces = std::mem::take(&mut self.pieces);
        let lost = std::mem::take(&mut self.lost);
        if !pieces.is_empty() || !lost.is_empty() {
            self.sender.send(pb::ReadRunResponse { pieces, lost, ..Default::default() }).await?;
        }
        Ok(())
    }

    async fn points(&mut self, header: &MetricHeader, mut scan: PointScan) -> Result<(), StreamEnd> {
        loop {
            let snapshot = self.deps.store.snapshot().await?;
            let points = scan.next(snapshot.as_ref()).await.map_err(expired_error)?;
            // Dropped before sending, because the client may be slow.
            drop(snapshot);
            let Some(points) = points else { return Ok(()) };
            self.push(Some(convert::points_view(header, points))).await?;
        }
    }

    async fn objects(&mut self, series: SeriesNumber, header: &ObjectHeader) -> Result<(), StreamEnd> {
        let RunRef { project, number } = self.place;
        let range = objects_between(project, number, series, header.first_step, header.last_step);
        let mut rest = Some(range).filter(|_| header.count > 0);
        while let Some(range) = rest {
            let snapshot = self.deps.store.snapshot().await?;
            let (page, next) =
                objects_list(snapshot.as_ref(), project, number, series, &range, Scan::default()).await?;
            drop(snapshot);
            for object in page {
                let value = objects::value(self.deps, self.project, &object.value).await?;
                match (value, &object.value) {
                    (Some(value), _) => {
                        self.push(Some(convert::object_view(header, &object, value))).await?;
                    }
                    (None, ObjectValue::Blob(blob)) => {
                        self.push_lost(lost_payload(header, object.step, blob)).await?
                    }
                    (None, ObjectValue::Inline(_)) => return Err(Error::Broken.into()),
                }
            }
            rest = next;
        }
        Ok(())
    }

    async fn lines(&mut self, last: Option<i64>) -> Result<(), StreamEnd> {
        let Some(last) = last else { return Ok(()) };
        let mut next = Some(i64::MIN);
        while let Some(first) = next.filter(|first| *first <= last) {
            let scan = LogScan { count: MESSAGE_PIECES, bytes: MESSAGE_BYTES, last: false };
            let snapshot = self.deps.store.snapshot().await?;
            let RunRef { project, number } = self.place;
            let lines = terminal_lines_list(snapshot.as_ref(), project, number, (first, last), scan).await?;
            drop(snapshot);
            next = lines.last().and_then(|line| line.number.checked_add(1));
            for line in lines {
                let line = pb::TerminalLine { number: line.number, text: line.text };
                self.push(Some(Content::Line(line))).await?;
            }
        }
        Ok(())
    }

    async fn log_records(&mut self, end: u64) -> Result<(), StreamEnd> {
        let mut next = Some(0);
        while let Some(first) = next.filter(|first| *first < end) {
            let scan = LogScan { count: MESSAGE_PIECES, bytes: MESSAGE_BYTES, last: false };
            let snapshot = self.deps.store.snapshot().await?;
            let RunRef { project, number } = self.place;
            let records = log_records_list(snapshot.as_ref(), project, number, first..end, scan).await?;
            drop(snapshot);
            next = records.last().map(|(sequence, _)| sequence + 1);
            for (_, record) in records {
                self.push(Some(convert::log_record_view(record))).await?;
            }
        }
        Ok(())
    }

    async fn parked(&mut self, parked: OpenParked, id: &RunId) -> Result<(), StreamEnd> {
        let project = self.place.project;
        let mut number = 0;
        for range in OpenParked::ranges(project, id) {
            let mut rest = Some(range);
            while let Some(range) = rest {
                let snapshot = self.deps.store.snapshot().await?;
                let (page, next) = parked.page(snapshot.as_ref(), project, id, &range).await?;
                drop(snapshot);
                for item in page {
                    self.push(Some(Content::Parked(pb::ParkedItem { number, ..item }))).await?;
                    number += 1;
                }
                rest = next;
            }
        }
        Ok(())
    }
}

fn lost_payload(header: &ObjectHeader, step: i64, blob: &BlobRef) -> pb::LostBlob {
    let payload = pb::LostPayload { name: header.name.clone(), context: header.context.clone(), step };
    pb::LostBlob { blob_key: blob.key.clone(), what: Some(What::Payload(payload)) }
}

/// Replacements of the run's chunks are in newer chunk lists, so the run has to be read from
/// the start.
fn expired_error(error: matyan_store::Error) -> Error {
    match error {
        matyan_store::Error::SnapshotTooOld => Error::PositionExpired,
        other => other.into(),
    }
}
