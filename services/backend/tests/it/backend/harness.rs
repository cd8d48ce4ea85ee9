//! A backend with all its dependencies, in a temporary directory. The clock advances by a
//! millisecond each time it is read.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use matyan_access::ProcessKey;
use matyan_backend::{AuditLog, Audited, Backend, UriKey};
use matyan_blob::{Blobs, LimitedBlobs, UploadLimits, UrlSigner, fs::FsBlobs};
use matyan_frontier::Frontier;
use matyan_log::{
    Append, LogInspector, LogReader, LogWriter, NewRecord, PartitionInfo, Subscription, Topic, TopicInfo,
    embedded::EmbeddedLog,
};
use matyan_model::{
    keys::LogTopic,
    position::{LogPosition, applied_wait, log_get},
    project_quota::ProjectQuotas,
};
use matyan_proto::{
    ingest::v1::{
        self as pb, Event, IngestionBatch, Points, SeriesDef, event::Kind,
        ingest_service_client::IngestServiceClient, ingest_service_server::IngestServiceServer,
    },
    log::v1::LogEntry,
    project::v1::{self as project, project_service_client::ProjectServiceClient},
};
use matyan_sign_in::{ClientSecret, GitHubSettings, Providers, RoleTable, SignInKey};
use matyan_store::{
    Store,
    embedded::EmbeddedStore,
    layers::{Faults, FaultyStore, FenceStore},
};
use matyan_wire::ingestion::RecordFormat;
use matyan_worker::{ControlWorker, Deps, FoldThread, IngestionWorker, Metrics};
use prost::Message;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Response, Status, Streaming, service::Routes};
use tonic_types::StatusExt;

/// The initial time: 2023-11-14 22:13:20 UTC.
pub(crate) const BEGIN_US: i64 = 1_700_000_000_000_000;

pub(crate) struct Harness {
    pub(crate) backend: Backend,
    pub(crate) store: Arc<EmbeddedStore>,
    /// Between the backend and the store.
    pub(crate) fence: Arc<FenceStore>,
    /// Between the fence and the store. Injects no faults unless a test asks for them.
    pub(crate) faults: Arc<FaultyStore>,
    /// Between the workers and the store, except for compaction, which looks for work in all projects.
    pub(crate) worker_fence: Arc<FenceStore>,
    pub(crate) registry: prometheus::Registry,
    pub(crate) blobs: Arc<FsBlobs>,
    pub(crate) log: Arc<EmbeddedLog>,
    frontier: Frontier,
    routes: Routes,
    now_us: Arc<AtomicI64>,
    describes: Arc<AtomicU64>,
    /// Records of a second partition, which lags.
    pub(crate) lagging: Arc<AtomicU64>,
    workers: JoinSet<()>,
    stop: CancellationToken,
    fold: Option<FoldThread>,
    deps: Deps,
    /// The directory of this instance, and of the one whose log it shares.
    _directories: Vec<Arc<tempfile::TempDir>>,
}

/// A log that is never trimmed, like one with a long retention.
struct UntrimmedLog(Arc<EmbeddedLog>);

#[async_trait::async_trait]
impl LogReader for UntrimmedLog {
    async fn subscribe(&self, topic: Topic) -> matyan_log::Result<Box<dyn Subscription>> {
        self.0.subscribe(topic).await
    }

    async fn trim(&self, _: Topic, _: u32, _: u64) -> matyan_log::Result<()> {
        Ok(())
    }
}

/// A log that counts how often its ends are read, and has a second partition if `lagging` is not 0: with
/// this many records, none of which is ever applied.
struct CountingLog {
    inner: Arc<EmbeddedLog>,
    describes: Arc<AtomicU64>,
    lagging: Arc<AtomicU64>,
}

#[async_trait::async_trait]
impl LogInspector for CountingLog {
    async fn describe(&self, topic: Topic) -> matyan_log::Result<TopicInfo> {
        self.describes.fetch_add(1, Ordering::Relaxed);
        let mut info = self.inner.describe(topic).await?;
        let end = self.lagging.load(Ordering::Relaxed);
        info.partitions.extend((end > 0).then_some(PartitionInfo { first: 0, end }));
        Ok(info)
    }
}

#[async_trait::async_trait]
impl LogWriter for CountingLog {
    fn append(&self, topic: Topic, records: Vec<NewRecord>) -> Append {
        self.inner.append(topic, records)
    }
}

/// GitHub, at an address where nobody answers.
fn providers() -> Providers {
    let settings = GitHubSettings {
        url: "http://127.0.0.1:1".to_owned(),
        client_id: "Iv1".to_owned(),
        client_secret: ClientSecret::new("secret"),
    };
    let roles = RoleTable::parse("my-org = viewer@speech").unwrap();
    Providers::new(None, Some((settings, roles))).unwrap()
}

/// A clock that advances by a millisecond each time it is read.
fn ticking(now_us: Arc<AtomicI64>) -> matyan_backend::Clock {
    Arc::new(move || now_us.fetch_add(1_000, Ordering::Relaxed))
}

/// Ids that contain ascending numbers.
fn numbered_ids(numbers: Arc<AtomicU64>) -> Arc<dyn Fn() -> String + Send + Sync> {
    Arc::new(move || format!("00000000-0000-4000-8000-{:012x}", numbers.fetch_add(1, Ordering::Relaxed)))
}

/// The next random bytes of a worker.
fn numbered_bytes(numbers: &AtomicU64) -> [u8; 16] {
    let mut bytes = [7; 16];
    bytes[8..].copy_from_slice(&numbers.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    bytes
}

/// The projects of the store, as in `matyan up`.
struct StoredProjects(Arc<EmbeddedStore>);

type LookupResult<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[async_trait::async_trait]
impl matyan_frontier::ProjectLookup for StoredProjects {
    async fn contains(&self, name: &str) -> LookupResult<bool> {
        let snapshot = self.0.snapshot().await?;
        Ok(matyan_model::project::project_find(snapshot.as_ref(), name).await?.is_some())
    }

    fn may_limit_runs(&self, _: &str) -> bool {
        false
    }

    async fn exceeded_quota(&self, _: &str) -> LookupResult<Option<project::ExceededQuota>> {
        Ok(None)
    }

    async fn may_have_run(&self, _: &str, _: &str) -> LookupResult<bool> {
        Ok(true)
    }
}

async fn open_store(path: &Path) -> Arc<EmbeddedStore> {
    let store = EmbeddedStore::open(path, Default::default()).await.unwrap();
    matyan_model::format::format_open(&store).await.unwrap();
    Arc::new(store)
}

async fn open_log(path: &Path) -> Arc<EmbeddedLog> {
    Arc::new(EmbeddedLog::open(path, Default::default()).await.unwrap())
}

fn frontier(
    log: &Arc<EmbeddedLog>,
    store: &Arc<EmbeddedStore>,
    blobs: &Arc<LimitedBlobs>,
    signer: UrlSigner,
    clock: matyan_backend::Clock,
) -> Frontier {
    let deps = matyan_frontier::Deps {
        log: log.clone(),
        projects: Some(Arc::new(StoredProjects(store.clone()))),
        blobs: blobs.clone(),
        upload_signer: Some(signer),
        clock,
        new_id: Arc::new(|| [9; 16]),
        metrics: matyan_frontier::Metrics::new(&prometheus::Registry::new()).unwrap(),
    };
    Frontier::new(deps, Default::default())
}

impl Harness {
    pub(crate) async fn new() -> Self {
        let mut harness = Self::without_workers(None).await;
        harness.start_workers().await;
        harness
    }

    /// A backend whose log is never trimmed.
    pub(crate) async fn with_untrimmed_log() -> Self {
        let mut harness = Self::without_workers(None).await;
        harness.deps.log_reader = Arc::new(UntrimmedLog(harness.log.clone()));
        harness.start_workers().await;
        harness
    }

    /// A backend with a new store and the log of another instance, which is shut down.
    pub(crate) async fn with_log_of(other: Harness) -> Self {
        let log = other.log.clone();
        let directories = other._directories.clone();
        other.end().await;
        let mut harness = Self::without_workers(Some(log)).await;
        harness._directories.extend(directories);
        harness.deps.log_reader = Arc::new(UntrimmedLog(harness.log.clone()));
        harness
    }

    /// A backend whose log is not applied before `start_workers`.
    pub(crate) async fn with_idle_workers() -> Self {
        Self::without_workers(None).await
    }

    /// A backend with these limits of uploads.
    pub(crate) async fn with_upload_limits(limits: UploadLimits) -> Self {
        let mut harness = Self::build(None, limits, ProjectQuotas::default()).await;
        harness.start_workers().await;
        harness
    }

    /// A backend with these quotas of projects.
    pub(crate) async fn with_quotas(quotas: ProjectQuotas) -> Self {
        let mut harness = Self::build(None, UploadLimits::default(), quotas).await;
        harness.start_workers().await;
        harness
    }

    async fn without_workers(log: Option<Arc<EmbeddedLog>>) -> Self {
        Self::build(log, UploadLimits::default(), ProjectQuotas::default()).await
    }

    async fn build(log: Option<Arc<EmbeddedLog>>, limits: UploadLimits, quotas: ProjectQuotas) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = open_store(&directory.path().join("store")).await;
        let log = match log {
            Some(log) => log,
            None => open_log(&directory.path().join("log")).await,
        };
        let now_us = Arc::new(AtomicI64::new(BEGIN_US));
        let clock = ticking(now_us.clone());
        let signer = UrlSigner::new(b"secret", Duration::from_secs(60), clock.clone());
        let blobs =
            Arc::new(FsBlobs::open(&directory.path().join("blobs"), signer.clone(), clock.clone()).unwrap());
        let limited_blobs = Arc::new(LimitedBlobs::directory(blobs.clone(), limits));
        let frontier = frontier(&log, &store, &limited_blobs, signer, clock.clone());
        let ids = Arc::new(AtomicU64::new(1));
        let describes = Arc::new(AtomicU64::new(0));
        let lagging = Arc::new(AtomicU64::new(0));
        let faults = Arc::new(FaultyStore::new(store.clone(), Faults::script([])));
        let fence = Arc::new(FenceStore::new(faults.clone()));
        let worker_fence = Arc::new(FenceStore::new(store.clone()));
        let registry = prometheus::Registry::new();
        let backend = Backend::new(matyan_backend::Deps {
            store: fence.clone(),
            log: Arc::new(CountingLog {
                inner: log.clone(),
                describes: describes.clone(),
                lagging: lagging.clone(),
            }),
            log_format: RecordFormat::Protobuf,
            blobs: limited_blobs,
            blob_uri: "file:///blobs".to_owned(),
            uri_key: UriKey::new(b"secret"),
            process_key: ProcessKey::new(b"secret"),
            sign_in_key: SignInKey::new(b"secret"),
            clock: clock.clone(),
            new_id: numbered_ids(ids.clone()),
            new_token: Arc::new(|| matyan_access::AccessToken::generate(&mut rand::rng())),
            new_secret: Arc::new(|kind| matyan_access::BrowserSecret::generate(kind, &mut rand::rng())),
            providers: Arc::new(providers()),
            params_cache_ttl: Duration::from_secs(30),
            quotas: Arc::new(quotas),
            run_samples: matyan_backend::RunSamples::default(),
            live_readers: matyan_backend::LiveReaders::default(),
            evaluation: matyan_backend::Evaluation::start(2).unwrap(),
            metrics: matyan_backend::Metrics::new(&registry).unwrap(),
        });
        let deps = Deps {
            store: worker_fence.clone(),
            log_reader: log.clone(),
            log_writer: log.clone(),
            blobs: blobs.clone(),
            clock,
            random: Arc::new(move || numbered_bytes(&ids)),
        };
        let workers = JoinSet::new();
        let stop = CancellationToken::new();
        Self {
            routes: backend.clone().into_routes(),
            backend,
            store,
            fence,
            faults,
            worker_fence,
            registry,
            blobs,
            log,
            frontier,
            now_us,
            describes,
            lagging,
            workers,
            stop,
            fold: None,
            deps,
            _directories: vec![Arc::new(directory)],
        }
    }

    pub(crate) async fn start_workers(&mut self) {
        self.start_ingestion().await;
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let control = ControlWorker::new(self.deps.clone(), Default::default(), metrics).await.unwrap();
        let stop = self.stop.clone();
        self.workers.spawn(async move { control.run(stop).await.unwrap() });
    }

    /// Starts no worker but the one that applies records.
    pub(crate) async fn start_ingestion(&mut self) {
        let deps = self.deps.clone();
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let of_compaction = Deps { store: self.store.clone(), ..deps.clone() };
        let (notices, fold) = FoldThread::start(of_compaction, metrics.clone(), self.stop.clone()).unwrap();
        self.fold = Some(fold);
        let ingestion = IngestionWorker::new(deps, Default::default(), notices, metrics).await.unwrap();
        let stop = self.stop.clone();
        self.workers.spawn(async move { ingestion.run(stop).await.unwrap() });
    }

    /// Closes the log, so that it accepts no more records.
    pub(crate) async fn log_close(&self) {
        self.log.close().await.unwrap();
    }

    /// The client for uploads.
    pub(crate) fn ingest_client(&self) -> IngestServiceClient<IngestServiceServer<Frontier>> {
        IngestServiceClient::new(self.frontier.ingest_server())
    }

    /// The routes for generated clients.
    pub(crate) fn routes(&self) -> Routes {
        self.routes.clone()
    }

    /// The routes, with the audit log around them.
    pub(crate) fn audited(&self) -> Audited<Routes> {
        self.audit_log().observe(self.routes())
    }

    /// An audit log with its own budget.
    pub(crate) fn audit_log(&self) -> AuditLog {
        self.backend.audit_log()
    }

    pub(crate) fn now_us(&self) -> i64 {
        self.now_us.load(Ordering::Relaxed)
    }

    pub(crate) async fn create_project(&self, name: &str) -> project::Project {
        let request = project::CreateRequest { name: name.to_owned(), ..Default::default() };
        let created = ProjectServiceClient::new(self.routes()).create(request).await.unwrap();
        created.into_inner().project.unwrap()
    }

    /// The dependencies of jobs.
    pub(crate) fn maintenance(&self) -> matyan_maintenance::Deps<'_> {
        matyan_maintenance::Deps {
            store: &*self.store,
            log: &*self.log,
            blobs: &*self.blobs,
            clock: &*self.deps.clock,
        }
    }

    /// Does one round of the job that deletes the content of deleted projects.
    pub(crate) async fn sweep_deleted_projects(&self) {
        let stop = CancellationToken::new();
        matyan_maintenance::sweep_deleted_projects(self.maintenance(), &stop, &mut |_| {}).await.unwrap();
    }

    /// Number of times the backend has read the ends of the log.
    pub(crate) fn describes(&self) -> u64 {
        self.describes.load(Ordering::Relaxed)
    }

    pub(crate) fn advance_clock(&self, seconds: i64) {
        self.now_us.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }

    /// Shuts everything down; a task that does not end hangs here.
    pub(crate) async fn end(mut self) {
        self.backend.stop().await;
        self.stop_workers().await;
    }

    /// Stops the workers until `start_workers`.
    pub(crate) async fn stop_workers(&mut self) {
        std::mem::take(&mut self.stop).cancel();
        while let Some(ended) = self.workers.join_next().await {
            ended.unwrap();
        }
        if let Some(fold) = self.fold.take() {
            fold.finish().await;
        }
    }

    /// Appends events of a client of this run, without waiting until they are applied.
    pub(crate) async fn log(&self, run: &str, events: impl IntoIterator<Item = Kind>) {
        self.log_in("", run, events).await;
    }

    /// Like `log`, in another project.
    pub(crate) async fn log_in(&self, project: &str, run: &str, events: impl IntoIterator<Item = Kind>) {
        let events =
            events.into_iter().map(|kind| Event { client_time_us: None, kind: Some(kind) }).collect();
        self.append(project, run, IngestionBatch { events, ..IngestionBatch::default() }).await;
    }

    /// Logs points of metric series by name, with steps from 0.
    pub(crate) async fn log_points(&self, run: &str, series: &[(&str, &str, &[f64])]) {
        self.log_points_in("", run, series).await;
    }

    /// Like `log_points`, in another project.
    pub(crate) async fn log_points_in(&self, project: &str, run: &str, series: &[(&str, &str, &[f64])]) {
        let mut batch = IngestionBatch::default();
        let mut points = Points::default();
        for (number, (name, context, values)) in (0..).zip(series) {
            batch.series.push(SeriesDef {
                name: (*name).to_owned(),
                context: (*context).to_owned(),
                ..SeriesDef::default()
            });
            for (step, value) in (0..).zip(*values) {
                points.series.push(number);
                points.steps.push(step);
                points.values.push(*value);
            }
        }
        batch.points.push(points);
        self.append(project, run, batch).await;
    }

    async fn append(&self, project: &str, run: &str, batch: IngestionBatch) {
        let entry = LogEntry { project: project.to_owned(), ..LogEntry::default() };
        self.append_entry(run, batch, entry).await;
    }

    /// Appends a batch with the other fields of its entry, such as project and producer.
    pub(crate) async fn append_entry(&self, run: &str, batch: IngestionBatch, entry: LogEntry) {
        let entry = LogEntry {
            run_id: run.to_owned(),
            received_us: self.now_us.fetch_add(1_000, Ordering::Relaxed),
            batch: batch.encode_to_vec().into(),
            ..entry
        };
        let value = [vec![1], entry.encode_to_vec()].concat();
        let record =
            NewRecord { key: run.to_owned().into_bytes().into(), value: value.into(), headers: Vec::new() };
        LogWriter::append(&*self.log, Topic::Ingestion, vec![record]).await.unwrap();
    }

    /// Waits until everything logged so far is applied.
    pub(crate) async fn applied(&self) {
        let info = self.log.describe(Topic::Ingestion).await.unwrap();
        let snapshot = self.store.snapshot().await.unwrap();
        let log = log_get(&*snapshot, LogTopic::Ingestion).await.unwrap().unwrap_or_default().number;
        drop(snapshot);
        for (partition, bounds) in (0..).zip(info.partitions) {
            if bounds.end > bounds.first {
                let position = LogPosition { log, partition, offset: bounds.end - 1 };
                applied_wait(&*self.store, LogTopic::Ingestion, position).await.unwrap();
            }
        }
    }

    /// Creates runs in the given order.
    pub(crate) async fn create(&self, runs: &[&str]) {
        for run in runs {
            self.log(run, [create()]).await;
            self.applied().await;
        }
    }

    pub(crate) async fn put_blob(&self, key: &str, content: &[u8]) {
        let key = matyan_blob::BlobKey::new(key).unwrap();
        let size = content.len() as u64;
        let content = bytes::Bytes::copy_from_slice(content);
        let content = futures::stream::once(async move { Ok(content) });
        self.blobs.put(&key, "text/plain", Some(size), Box::pin(content)).await.unwrap();
    }
}

pub(crate) fn create() -> Kind {
    Kind::CreateRun(pb::CreateRun::default())
}

pub(crate) fn finish() -> Kind {
    Kind::FinishRun(pb::FinishRun::default())
}

pub(crate) fn tag(name: &str) -> Kind {
    Kind::AddTag(pb::AddTag { name: name.to_owned() })
}

pub(crate) fn experiment(name: &str) -> Kind {
    Kind::SetRunProperty(pb::SetRunProperty {
        experiment: Some(name.to_owned()),
        ..pb::SetRunProperty::default()
    })
}

pub(crate) fn line(step: i64, line: &str) -> Kind {
    Kind::LogTerminalLine(pb::LogTerminalLine { line: line.to_owned(), step })
}

pub(crate) fn params(json: &str) -> Kind {
    let value = matyan_value::cbor::encode(&matyan_value::json::parse(json).unwrap());
    Kind::LogParams(pb::LogParams { value: value.into() })
}

/// Params that workers cannot decode, and park.
pub(crate) fn undecodable() -> Kind {
    Kind::LogParams(pb::LogParams { value: bytes::Bytes::from_static(b"\xff") })
}

/// All messages of a stream that ends without an error.
pub(crate) async fn all<T>(stream: Response<Streaming<T>>) -> Vec<T> {
    let mut stream = stream.into_inner();
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        messages.push(message);
    }
    messages
}

/// Reads until `enough` returns true, with a hang guard.
pub(crate) async fn until<T>(stream: &mut Streaming<T>, mut enough: impl FnMut(T) -> bool) {
    let guard = Duration::from_secs(60);
    let reading = async {
        loop {
            let message = stream.message().await.unwrap().expect("the stream continues");
            if enough(message) {
                return;
            }
        }
    };
    tokio::time::timeout(guard, reading).await.expect("the expected message arrives");
}

/// The status code of a failed call, with its reason and metadata.
pub(crate) fn failure<T>(response: Result<T, Status>) -> (Code, String, Vec<(String, String)>) {
    let Err(status) = response else { panic!("the call succeeded") };
    let info = status.get_error_details().error_info().cloned().expect("every error has a reason");
    let mut metadata: Vec<_> = info.metadata.into_iter().collect();
    metadata.sort();
    (status.code(), info.reason, metadata)
}

/// Asserts that a call failed because a resource does not exist.
pub(crate) fn not_found<T>(response: Result<T, Status>, resource: &str, id: &str) {
    let (code, reason, metadata) = failure(response);
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!((code, reason.as_str()), (Code::NotFound, "NOT_FOUND"));
    // Errors repeat only the beginning of a long id, because they travel in headers.
    let repeated = if id.len() > 1_024 { format!("{}…", &id[..1_024]) } else { id.to_owned() };
    assert_eq!(metadata, [pair("id", &repeated), pair("resource", resource)]);
}

/// Asserts that a call failed because of an invalid field.
pub(crate) fn wrong_field<T>(response: Result<T, Status>, field: &str) {
    let (code, reason, metadata) = failure(response);
    let is_known = [(Code::InvalidArgument, "INVALID_FIELD"), (Code::ResourceExhausted, "TOO_LARGE")]
        .contains(&(code, reason.as_str()));
    assert!(is_known, "{code:?} {reason}");
    assert!(metadata.contains(&("field".to_owned(), field.to_owned())), "{metadata:?}");
}
