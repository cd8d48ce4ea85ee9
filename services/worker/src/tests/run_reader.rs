//! Test helpers that read a run through the model's own functions, for comparison.

use matyan_model::{
    artifact::{Artifact, artifacts_list},
    entity::{Experiment, Tag, entity_get, runs_count},
    ids::{RunId, RunNumber},
    keys,
    logs::{LogRecord, LogScan, TerminalLine, log_records_list, terminal_lines_list},
    metric::metric_series_list,
    object::{Object, ObjectHeader, ObjectValue, object_series_list, objects_between, objects_list},
    parked::{ParkedItem, parked_list},
    pending_payload::pending_get,
    run::{Document, Head, Props, head_get, params_get, run_find, runs_list},
    series::{MetricHeader, Points, RunRef, RunSeries, StepRange},
};
use matyan_store::{Scan, Snapshot};
use matyan_value::{Context, Map, Value, cbor};

use super::harness::{P, TestEnv};

/// A live run.
pub(crate) struct StoredRun {
    pub(super) number: RunNumber,
    pub(super) props: Props,
    pub(super) params: Map,
    pub(crate) metrics: Vec<(MetricHeader, Points)>,
    pub(super) objects: Vec<(ObjectHeader, Vec<Object>)>,
    pub(super) lines: Vec<TerminalLine>,
    pub(super) records: Vec<(u64, LogRecord)>,
    pub(super) artifacts: Vec<(String, Artifact)>,
}

const ALL: LogScan = LogScan { count: usize::MAX, bytes: usize::MAX, last: false };

impl TestEnv {
    pub(super) async fn head(&self) -> Option<Head> {
        head_get(&*self.store().snapshot().await.unwrap(), P, &RunId::new("r")).await.unwrap()
    }

    pub(super) async fn read(&self) -> Option<StoredRun> {
        self.read_run("r").await
    }

    pub(crate) async fn read_run(&self, id: &str) -> Option<StoredRun> {
        let snapshot = self.store().snapshot().await.unwrap();
        let snapshot = &*snapshot;
        let (number, document) = run_find(snapshot, P, &RunId::new(id)).await.unwrap()?;
        let sequences = 0..u64::MAX;
        Some(StoredRun {
            number,
            params: params_get(snapshot, P, number, &document).await.unwrap(),
            props: document.props,
            metrics: metrics(snapshot, number).await,
            objects: objects(snapshot, number).await,
            lines: terminal_lines_list(snapshot, P, number, (i64::MIN, i64::MAX), ALL).await.unwrap(),
            records: log_records_list(snapshot, P, number, sequences, ALL).await.unwrap(),
            artifacts: artifacts_list(snapshot, P, number).await.unwrap(),
        })
    }

    /// Steps and values of a metric without a context; empty if there is none.
    pub(super) async fn points(&self, name: &str) -> Vec<(i64, f64)> {
        let Some(run) = self.read().await else { return Vec::new() };
        let found = run.metrics.iter().find(|(header, _)| header.name == name && header.context.is_empty());
        found.map_or_else(Vec::new, |(_, points)| {
            points.steps.iter().copied().zip(points.values.iter().copied()).collect()
        })
    }

    pub(crate) async fn parked(&self) -> Vec<ParkedItem> {
        let snapshot = self.store().snapshot().await.unwrap();
        let mut parked = Vec::new();
        let mut rest = Some(keys::parked(P));
        while let Some(range) = rest {
            let (page, next) = parked_list(&*snapshot, P, &range, 1_000).await.unwrap();
            parked.extend(page);
            rest = next;
        }
        parked
    }

    /// All listed runs.
    pub(super) async fn listed(&self) -> Vec<(RunNumber, Document)> {
        let snapshot = self.store().snapshot().await.unwrap();
        runs_list(&*snapshot, P, &keys::documents(P), Scan::default()).await.unwrap().runs
    }

    pub(super) async fn tags(&self, props: &Props) -> Vec<(String, i64)> {
        let snapshot = self.store().snapshot().await.unwrap();
        let mut tags = Vec::new();
        for id in &props.tags {
            let tag: Tag = entity_get(&*snapshot, P, id).await.unwrap().unwrap();
            tags.push((tag.name, runs_count(&*snapshot, P, keys::EntityKind::Tag, id).await.unwrap()));
        }
        tags.sort();
        tags
    }

    pub(super) async fn experiment(&self, props: &Props) -> Option<(String, i64)> {
        let snapshot = self.store().snapshot().await.unwrap();
        let id = props.experiment.as_ref()?;
        let experiment: Experiment = entity_get(&*snapshot, P, id).await.unwrap().unwrap();
        let count = runs_count(&*snapshot, P, keys::EntityKind::Experiment, id).await.unwrap();
        Some((experiment.name, count))
    }

    /// The value of an object: inline, or pending, or from the blob store.
    pub(super) async fn value(&self, object: &Object) -> Value {
        match &object.value {
            ObjectValue::Inline(bytes) => cbor::decode(bytes).unwrap(),
            ObjectValue::Blob(blob) => {
                let pending = pending_get(&*self.store().snapshot().await.unwrap(), P, blob).await.unwrap();
                if let Some(bytes) = pending {
                    assert_eq!(*blake3::hash(&bytes).as_bytes(), blob.hash);
                    return cbor::decode(&bytes).unwrap();
                }
                let key = matyan_blob::BlobKey::in_project("", &blob.key).unwrap();
                let (meta, content) = self.blobs().read(&key, None).await.unwrap().unwrap();
                let pieces: Vec<_> = futures::StreamExt::collect(content).await;
                let bytes = pieces.into_iter().map(|piece| piece.unwrap()).collect::<Vec<_>>().concat();
                assert_eq!((bytes.len() as u64, meta.size), (blob.size, blob.size));
                assert_eq!(*blake3::hash(&bytes).as_bytes(), blob.hash);
                cbor::decode(&bytes).unwrap()
            }
        }
    }
}

async fn metrics(snapshot: &dyn Snapshot, number: RunNumber) -> Vec<(MetricHeader, Points)> {
    let series = RunSeries::open(snapshot, RunRef { project: P, number }).await.unwrap();
    let mut metrics = Vec::new();
    for (number, header) in metric_series_list(snapshot, P, number).await.unwrap() {
        let view = series.view(snapshot, number).await.unwrap();
        let points = view.points(snapshot, StepRange::new(i64::MIN, i64::MAX)).await.unwrap();
        metrics.push((header, points));
    }
    metrics
}

async fn objects(snapshot: &dyn Snapshot, number: RunNumber) -> Vec<(ObjectHeader, Vec<Object>)> {
    let mut all = Vec::new();
    for (series, header) in object_series_list(snapshot, P, number).await.unwrap() {
        let range = objects_between(P, number, series, i64::MIN, i64::MAX);
        let (objects, rest) =
            objects_list(snapshot, P, number, series, &range, Scan::default()).await.unwrap();
        assert!(rest.is_none());
        all.push((header, objects));
    }
    all
}

pub(super) fn context_id(stored: &str) -> u32 {
    Context::from_canonical(stored.to_owned()).id()
}
