//! A backend over an embedded store in its own directory, with runs written from specs.

use std::{sync::Arc, time::Duration};

use matyan_access::ProcessKey;
use matyan_backend::{Backend, Deps, Metrics, UriKey};
use matyan_blob::{UrlSigner, fs::FsBlobs};
use matyan_log::embedded::EmbeddedLog;
use matyan_maintenance::ParamCohorts;
use matyan_model::{
    change::change_put,
    entity::{Experiment, Tag, entity_find_or_create},
    ids::{Project, RunId, RunNumber, SeriesNumber},
    keys,
    metric::metric_series_create,
    object::{Object, ObjectHeader, ObjectValue, object_header_put, object_put, object_series_create},
    position::LogPosition,
    run::{Deletion, Head, Outcome, RunEdit, run_create, run_delete},
    series::{ABSENT, MetricHeader, Point, WrittenPoints},
};
use matyan_proto::{
    common::v1::Progress,
    runs::v1::{Run, RunParts},
    search::v1::{
        MetricsRequest, ObjectsRequest, Query, RunMetrics, RunObjects, RunsRequest, RunsResponse,
        search_service_client::SearchServiceClient,
    },
    series::v1::series_service_client::SeriesServiceClient,
};
use matyan_sign_in::SignInKey;
use matyan_store::{Commit, Error, Store, Transaction, embedded::EmbeddedStore};
use matyan_value::{Context as SeriesContext, Map, Value, cbor};
use matyan_wire::ingestion::RecordFormat;
use prometheus::Registry;
use tokio_util::sync::CancellationToken;
use tonic::{Status, service::Routes};

pub(crate) const P: Project = Project(0);

/// The current time, after everything that tests create.
pub(crate) const NOW_US: i64 = 1_800_000_000_000_000;

/// Where the params of the runs of a project are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoredParams {
    /// In documents, like the params of new runs.
    Documents,
    Columns,
    /// In columns, some of which may be outdated, or in documents.
    Both,
}

pub(crate) const STORED_PARAMS: [StoredParams; 3] =
    [StoredParams::Documents, StoredParams::Columns, StoredParams::Both];

/// Description of a run to create.
#[derive(Clone, Debug)]
pub(crate) struct RunSpec {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) experiment: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) created_us: i64,
    pub(crate) finalized_us: Option<i64>,
    pub(crate) active: bool,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) archived: bool,
    pub(crate) pending_delete: bool,
    pub(crate) params: Map,
    pub(crate) sequences: Vec<Sequence>,
}

#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    pub(crate) name: String,
    pub(crate) context: Map,
    pub(crate) dtype: String,
    /// Points with ascending steps.
    pub(crate) points: Vec<(i64, f64)>,
}

pub(crate) fn is_object(dtype: &str) -> bool {
    matches!(dtype, "image" | "text" | "distribution" | "audio" | "figure")
}

pub(crate) fn spec(id: &str, created_us: i64) -> RunSpec {
    RunSpec {
        id: id.to_owned(),
        name: format!("Run: {id}"),
        description: String::new(),
        experiment: None,
        tags: Vec::new(),
        created_us,
        finalized_us: None,
        active: true,
        outcome: None,
        archived: false,
        pending_delete: false,
        params: Map::new(),
        sequences: Vec::new(),
    }
}

pub(crate) fn map(json: &str) -> Map {
    match matyan_value::json::parse(json).expect("tests contain valid JSON") {
        Value::Map(map) => map,
        other => panic!("{other:?} is not an object"),
    }
}

pub(crate) struct Harness {
    pub(crate) store: Arc<EmbeddedStore>,
    pub(crate) blobs: Arc<FsBlobs>,
    pub(crate) registry: Registry,
    pub(crate) backend: Backend,
    _directory: tempfile::TempDir,
}

impl Harness {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path().join("store"), Default::default()).await.unwrap();
        let store = Arc::new(store);
        Self::over(store.clone(), store, directory).await
    }

    /// Another backend on the same store.
    pub(crate) async fn second(&self) -> Self {
        Self::over(self.store.clone(), self.store.clone(), tempfile::tempdir().unwrap()).await
    }

    /// A backend whose tables of runs may take this many bytes.
    pub(crate) async fn with_table_bytes(bytes: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path().join("store"), Default::default()).await.unwrap();
        let store = Arc::new(store);
        Self::build(store.clone(), store, directory, |deps| Backend::with_table_bytes(deps, bytes)).await
    }

    /// A backend that reads through `layer`.
    pub(crate) async fn over(
        store: Arc<EmbeddedStore>,
        layer: Arc<dyn Store>,
        directory: tempfile::TempDir,
    ) -> Self {
        Self::build(store, layer, directory, Backend::new).await
    }

    async fn build(
        store: Arc<EmbeddedStore>,
        layer: Arc<dyn Store>,
        directory: tempfile::TempDir,
        backend: impl FnOnce(Deps) -> Backend,
    ) -> Self {
        let log = EmbeddedLog::open(directory.path().join("log"), Default::default()).await.unwrap();
        let clock: matyan_backend::Clock = Arc::new(|| NOW_US);
        let signer = UrlSigner::new(b"secret", Duration::from_secs(60), clock.clone());
        let blobs = Arc::new(FsBlobs::open(&directory.path().join("blobs"), signer, clock.clone()).unwrap());
        let registry = Registry::new();
        let deps = Deps {
            store: layer,
            log: Arc::new(log),
            log_format: RecordFormat::Protobuf,
            blobs: blobs.clone(),
            blob_uri: "file:///blobs".into(),
            uri_key: UriKey::new(b"secret"),
            process_key: ProcessKey::new(b"secret"),
            sign_in_key: SignInKey::new(b"secret"),
            clock,
            new_id: Arc::new(|| "00000000-0000-4000-8000-000000000000".into()),
            new_token: Arc::new(|| matyan_access::AccessToken::generate(&mut rand::rng())),
            new_secret: Arc::new(|kind| matyan_access::BrowserSecret::generate(kind, &mut rand::rng())),
            providers: Arc::default(),
            params_cache_ttl: Duration::from_secs(30),
            quotas: Arc::default(),
            run_samples: matyan_backend::RunSamples::default(),
            live_readers: matyan_backend::LiveReaders::default(),
            evaluation: matyan_backend::Evaluation::start(2).unwrap(),
            metrics: Metrics::new(&registry).unwrap(),
        };
        Self { store, blobs, registry, backend: backend(deps), _directory: directory }
    }

    pub(crate) fn search(&self) -> SearchServiceClient<Routes> {
        SearchServiceClient::new(self.backend.clone().into_routes()).max_decoding_message_size(usize::MAX)
    }

    pub(crate) fn series(&self) -> SeriesServiceClient<Routes> {
        SeriesServiceClient::new(self.backend.clone().into_routes())
    }

    /// Adds metrics to a run, whose names take so many megabytes: a kilobyte each.
    pub(crate) async fn widen(&self, number: RunNumber, megabytes: u32) {
        for megabyte in 0..megabytes {
            self.transact(async |transaction| {
                for at in megabyte * 1_000..(megabyte + 1) * 1_000 {
                    let context = SeriesContext::new(&map("{}"));
                    let header = MetricHeader {
                        name: format!("{at:05}{}", "n".repeat(995)),
                        context: context.stored().to_owned(),
                        dtype: "float".into(),
                    };
                    let series = SeriesNumber(at);
                    let digest = context.digest();
                    metric_series_create(transaction.batch(), P, number, series, &header, &digest);
                }
                Ok(())
            })
            .await;
        }
    }

    pub(crate) async fn transact<T>(
        &self,
        mut change: impl AsyncFnMut(&mut Transaction) -> Result<T, Error>,
    ) -> T {
        loop {
            let mut transaction = Transaction::new(self.store.snapshot().await.unwrap());
            transaction.set_buffered();
            let response = change(&mut transaction).await.unwrap();
            if let Commit::Done { .. } = self.store.commit(transaction.into_batch()).await.unwrap() {
                return response;
            }
        }
    }

    pub(crate) async fn create(&self, spec: &RunSpec) -> RunNumber {
        let id = RunId::new(spec.id.clone());
        self.transact(async |transaction| {
            let mut edit = run_create(transaction, P, &id, spec.created_us).await?;
            let number = edit.number();
            self.describe(transaction, &mut edit, spec).await?;
            edit.write(transaction.batch());
            write_sequences(transaction, number, &spec.sequences);
            change_put(transaction.batch(), P, number, NOW_US, "");
            Ok(number)
        })
        .await
    }

    /// Stores the params of all runs so far in columns, of this many runs at most.
    pub(crate) async fn collect_params(&self, runs: usize) {
        let clock = || NOW_US;
        let cohorts = ParamCohorts::new(&*self.store, &clock).of_runs(runs);
        while cohorts.collect(P, 1, [8; 16], &CancellationToken::new()).await.unwrap().has_more {}
    }

    /// Changes a run to match the spec, except for its sequences.
    pub(crate) async fn change(&self, number: RunNumber, spec: &RunSpec) {
        self.transact(async |transaction| {
            let mut edit = RunEdit::load(transaction, P, number).await?.expect("the run is live");
            self.describe(transaction, &mut edit, spec).await?;
            edit.write(transaction.batch());
            change_put(transaction.batch(), P, number, NOW_US, "");
            Ok(())
        })
        .await;
    }

    async fn describe(
        &self,
        transaction: &mut Transaction,
        edit: &mut RunEdit,
        spec: &RunSpec,
    ) -> Result<(), Error> {
        let mut tags = Vec::new();
        for name in &spec.tags {
            let tag = Tag { name: name.clone(), ..Tag::default() };
            tags.push(entity_find_or_create(transaction, P, &tag, &format!("tag-{name}")).await?);
        }
        tags.sort();
        let mut experiment = None;
        if let Some(name) = &spec.experiment {
            let entity = Experiment { name: name.clone(), ..Experiment::default() };
            experiment =
                Some(entity_find_or_create(transaction, P, &entity, &format!("experiment-{name}")).await?);
        }
        *edit.params(transaction.unchecked()).await? = spec.params.clone();
        let props = &mut edit.props;
        props.name = spec.name.clone();
        props.description = spec.description.clone();
        props.tags = tags;
        props.experiment = experiment;
        props.finalized_us = spec.finalized_us;
        props.active = spec.active;
        props.outcome.clone_from(&spec.outcome);
        props.archived = spec.archived;
        props.pending_delete = spec.pending_delete;
        Ok(())
    }

    pub(crate) async fn delete(&self, id: &str) {
        let id = RunId::new(id);
        let deletion =
            Deletion { at: LogPosition::default(), time_us: 5, now_us: 5, caller: "", project_name: "" };
        self.transact(async |transaction| {
            let key = keys::head(P, &id);
            let head = transaction.get(&key).await?.map(|value| Head::decode(&key, &value)).transpose()?;
            run_delete(transaction, P, &id, head.as_ref(), deletion).await
        })
        .await;
    }
}

/// Writes all headers, contexts, and points in blocks, like a worker.
fn write_sequences(transaction: &mut Transaction, number: RunNumber, sequences: &[Sequence]) {
    let batch = transaction.batch();
    let mut written = WrittenPoints::default();
    for (at, sequence) in (0..).zip(sequences) {
        let series = SeriesNumber(at);
        let context = SeriesContext::new(&sequence.context);
        let name = sequence.name.clone();
        let stored = context.stored().to_owned();
        if is_object(&sequence.dtype) {
            let mut header = ObjectHeader::new(&name, &stored);
            object_series_create(batch, P, number, series, &header, &context.digest());
            for (step, value) in &sequence.points {
                let data = [("data".to_owned(), Value::Text(value.to_string()))].into();
                let value = ObjectValue::Inline(cbor::encode_map(&data).into());
                let object = Object { step: *step, epoch: None, time_us: *step, value };
                object_put(batch, P, number, series, &object);
                header.add(*step, &sequence.dtype, true);
            }
            header.dtype.clone_from(&sequence.dtype);
            object_header_put(batch, P, number, series, &header);
        } else {
            let header = MetricHeader { name, context: stored, dtype: sequence.dtype.clone() };
            metric_series_create(batch, P, number, series, &header, &context.digest());
            for (step, value) in &sequence.points {
                let epoch = if step % 2 == 0 { step / 10 } else { ABSENT };
                let time_us = step.saturating_mul(1_000_000);
                written.push(series, Point { step: *step, value: *value, epoch, time_us });
            }
        }
    }
    for (sequence, block) in (0..).zip(written.blocks()) {
        batch.set(keys::block(P, number, sequence), block);
        batch.set(keys::unfolded(P, number), Vec::new());
    }
}

/// The complete response to a search of runs.
#[derive(Debug, Default)]
pub(crate) struct RunSearchResult {
    pub(crate) runs: Vec<Run>,
    /// Rank of each run, if it is known.
    pub(crate) places: Vec<Option<u64>>,
    pub(crate) match_count: Option<u64>,
    pub(crate) warnings: Vec<String>,
    pub(crate) progress: Option<Progress>,
    pub(crate) messages: Vec<RunsResponse>,
}

impl RunSearchResult {
    pub(crate) fn ids(&self) -> Vec<&str> {
        self.runs.iter().map(|run| run.run_id.as_str()).collect()
    }
}

pub(crate) fn query(text: &str) -> Option<Query> {
    Some(Query { text: text.to_owned(), timezone_offset_min: 0, report_progress: true })
}

pub(crate) fn runs_request(text: &str) -> RunsRequest {
    RunsRequest { query: query(text), ..RunsRequest::default() }
}

pub(crate) fn all_parts() -> Option<RunParts> {
    Some(RunParts {
        props: true,
        params: true,
        system_params: true,
        series_types: vec![1],
        ..RunParts::default()
    })
}

impl Harness {
    pub(crate) async fn runs(&self, request: RunsRequest) -> Result<RunSearchResult, Status> {
        let mut messages = self.search().runs(request).await?.into_inner();
        let mut found = RunSearchResult::default();
        let mut is_done = false;
        while let Some(message) = messages.message().await? {
            assert!(!is_done, "no message may follow the last one");
            is_done = message.done;
            for (at, run) in (0..).zip(&message.runs) {
                found.places.push(message.first_place.map(|first| first + at));
                found.runs.push(run.clone());
            }
            found.match_count = message.match_count;
            found.warnings.extend(message.warnings.iter().map(|warning| warning.message.clone()));
            found.progress = message.progress.or(found.progress);
            found.messages.push(message);
        }
        assert!(is_done, "a stream that ended without an error must be marked as done");
        Ok(found)
    }

    /// Runs with their matching series, with the pieces of each run joined.
    pub(crate) async fn metrics(&self, request: MetricsRequest) -> Result<Vec<RunMetrics>, Status> {
        let mut messages = self.search().metrics(request).await?.into_inner();
        let mut runs: Vec<RunMetrics> = Vec::new();
        let mut is_done = false;
        while let Some(message) = messages.message().await? {
            is_done = message.done;
            for row in message.runs {
                match runs.last_mut().filter(|last| last.more) {
                    Some(open) => {
                        let id = |row: &RunMetrics| row.run.as_ref().map(|run| run.run_id.clone());
                        assert_eq!(id(open), id(&row));
                        open.series.extend(row.series);
                        open.points.extend(row.points);
                        open.buckets.extend(row.buckets);
                        open.more = row.more;
                    }
                    None => runs.push(row),
                }
            }
        }
        assert!(is_done && runs.iter().all(|run| !run.more));
        Ok(runs)
    }

    pub(crate) async fn objects(&self, request: ObjectsRequest) -> Result<Vec<RunObjects>, Status> {
        let mut messages = self.search().objects(request).await?.into_inner();
        let mut runs: Vec<RunObjects> = Vec::new();
        let mut is_done = false;
        while let Some(message) = messages.message().await? {
            is_done = message.done;
            for row in message.runs {
                match runs.last_mut().filter(|last| last.more) {
                    Some(open) => {
                        open.sequences.extend(row.sequences);
                        open.more = row.more;
                    }
                    None => runs.push(row),
                }
            }
        }
        assert!(is_done && runs.iter().all(|run| !run.more));
        Ok(runs)
    }
}
