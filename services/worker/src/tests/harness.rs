//! Test harness: embedded substrates in a temporary directory, a clock that only tests advance,
//! and sequential ids.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use matyan_blob::{Blobs, UrlSigner, fs::FsBlobs};
use matyan_log::{
    Append, LogInspector, LogWriter, NewRecord, Record, Topic, TopicInfo,
    embedded::{Deps as LogDeps, EmbeddedLog},
};
use matyan_model::ids::{Project, RunId};
use matyan_proto::{
    ingest::v1::{self as pb, Event, IngestionBatch, Points, SeriesDef, event::Kind},
    log::v1::LogEntry,
};
use matyan_store::{
    Batch, Commit, Key, Snapshot, Store, Value,
    embedded::EmbeddedStore,
    layers::{Faults, FaultyStore},
};
use prometheus::IntCounter;
use prost::Message;
use tokio_util::sync::CancellationToken;

use crate::{
    apply::{
        ApplyOutcome, Backlogs, DeadLetterQueue, DeadLetterTask, PayloadUploads, RunKey, RunWriter,
        TransactionSlots, WriterContext,
    },
    deps::Deps,
    metrics::Metrics,
    record::Entry,
};

pub(crate) const P: Project = Project(0);

pub(crate) struct TestEnv {
    pub(crate) deps: Deps,
    /// The store without faults, which tests use directly; workers use it through `faults`.
    inner: Arc<EmbeddedStore>,
    pub(crate) faults: Arc<FaultyStore>,
    pub(crate) now_us: Arc<AtomicI64>,
    pub(super) log: Arc<EmbeddedLog>,
    pub(super) dead_letters: DeadLetterQueue,
    pub(super) metrics: Metrics,
    pub(super) registry: prometheus::Registry,
    pub(super) uploads: Arc<PayloadUploads>,
    pub(super) large_quarantine: u64,
    commits: Arc<AtomicU64>,
    _dead_letter_task: DeadLetterTask,
    directory: tempfile::TempDir,
}

impl TestEnv {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path().join("store"), Default::default()).await.unwrap();
        let inner = Arc::new(store);
        let faults = Arc::new(FaultyStore::new(inner.clone(), Faults::script([])));
        let log = open_log(&directory.path().join("log"), 0).await;
        let now_us = Arc::new(AtomicI64::new(1_000_000_000));
        let clock = {
            let now_us = now_us.clone();
            Arc::new(move || now_us.load(Ordering::Relaxed))
        };
        let signer = UrlSigner::new(b"secret", Duration::from_secs(60), clock.clone());
        let blobs = FsBlobs::open(&directory.path().join("blobs"), signer, clock.clone()).unwrap();
        let ids = AtomicU64::new(1);
        let deps = Deps {
            store: faults.clone(),
            log_reader: log.clone(),
            log_writer: log.clone(),
            blobs: Arc::new(blobs),
            clock,
            random: Arc::new(move || {
                let mut id = [0; 16];
                id[8..].copy_from_slice(&ids.fetch_add(1, Ordering::Relaxed).to_be_bytes());
                id
            }),
        };
        let (dead_letters, _dead_letter_task) = DeadLetterQueue::start(log.clone(), dropped());
        let registry = prometheus::Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        let uploads = Arc::new(PayloadUploads::new(1 << 30));
        Self {
            deps,
            inner,
            faults,
            now_us,
            log,
            dead_letters,
            metrics,
            registry,
            uploads,
            large_quarantine: u64::MAX,
            commits: Arc::default(),
            _dead_letter_task,
            directory,
        }
    }

    /// Replaces the log with a different one whose offsets start at 0.
    pub(super) async fn replace_log(&mut self, number: u8) {
        let log = open_log(&self.directory.path().join(format!("log-{number}")), number).await;
        self.deps.log_reader = log.clone();
        self.deps.log_writer = log.clone();
        self.log = log;
    }

    /// Replaces the log with an empty log of the same identity, like a disk that lost synced data.
    pub(super) async fn empty_log(&mut self) {
        let log = open_log(&self.directory.path().join("log-emptied"), 0).await;
        self.deps.log_reader = log.clone();
        self.deps.log_writer = log.clone();
        self.log = log;
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.inner
    }

    pub(super) fn blobs(&self) -> &dyn Blobs {
        &*self.deps.blobs
    }

    pub(crate) fn writer(&self, run: &str) -> RunWriter {
        let run = RunKey { project: P, project_name: "".into(), id: RunId::new(run) };
        let context = WriterContext {
            dead_letters: self.dead_letters.clone(),
            uploads: self.uploads.clone(),
            slots: TransactionSlots::default(),
            // No worker answers.
            backlogs: Backlogs::new().0,
            large_quarantine: self.large_quarantine,
            commits: self.commits.clone(),
            metrics: self.metrics.transactions.clone(),
        };
        RunWriter::new(self.deps.clone(), run, Arc::new(context))
    }

    /// Applies records to run `r` with a new writer.
    pub(crate) async fn apply(&self, records: Vec<TestRecord>) -> ApplyOutcome {
        self.apply_with(&mut self.writer("r"), records).await
    }

    pub(crate) async fn apply_with(&self, writer: &mut RunWriter, records: Vec<TestRecord>) -> ApplyOutcome {
        self.apply_entries_with(writer, records.iter().map(TestRecord::entry).collect()).await
    }

    /// Applies entries, in as many turns as the writer needs.
    async fn apply_entries_with(&self, writer: &mut RunWriter, entries: Vec<Entry>) -> ApplyOutcome {
        let mut applied = Box::pin(writer.apply(entries, &CancellationToken::new())).await;
        while applied.is_paused {
            let left = std::mem::take(&mut applied.left);
            let next = Box::pin(writer.apply(left, &CancellationToken::new())).await;
            applied.items += next.items;
            applied.parked += next.parked;
            applied.skipped_records += next.skipped_records;
            applied.is_paused = next.is_paused;
            applied.is_complete = next.is_complete;
            applied.left = next.left;
        }
        assert!(applied.is_complete && applied.left.is_empty());
        applied
    }

    pub(super) async fn apply_entries(&self, run: &str, entries: Vec<Entry>) -> ApplyOutcome {
        self.apply_entries_with(&mut self.writer(run), entries).await
    }

    pub(super) async fn append(&self, records: impl IntoIterator<Item = TestRecord>) {
        let records = records.into_iter().map(|record| record.new_record()).collect();
        self.log.append(Topic::Ingestion, records).await.unwrap();
    }
}

/// A counter of dropped copies.
pub(super) fn dropped() -> IntCounter {
    IntCounter::new("dropped", "Dropped copies").unwrap()
}

/// The time of all records in the log.
pub(super) const LOG_US: i64 = 7;

async fn open_log(path: &Path, number: u8) -> Arc<EmbeddedLog> {
    let components = LogDeps { clock: Arc::new(|| LOG_US), new_identity: [number; 16], ..LogDeps::system() };
    Arc::new(EmbeddedLog::open_with(path, Default::default(), components).await.unwrap())
}

/// Builder for a log record: a batch of run `r`, whose receive time is its offset in seconds.
#[derive(Clone, Debug)]
pub(crate) struct TestRecord {
    pub(super) log: u32,
    pub(super) offset: u64,
    pub(crate) entry: LogEntry,
    pub(super) batch: IngestionBatch,
}

pub(crate) fn record(offset: u64) -> TestRecord {
    let entry =
        LogEntry { run_id: "r".into(), received_us: offset as i64 * 1_000_000, ..LogEntry::default() };
    TestRecord { log: 0, offset, entry, batch: IngestionBatch::default() }
}

impl TestRecord {
    pub(super) fn log(mut self, log: u32) -> Self {
        self.log = log;
        self
    }

    pub(crate) fn run(mut self, run: &str) -> Self {
        self.entry.run_id = run.to_owned();
        self
    }

    pub(crate) fn sent(mut self, producer: u8, sequence: u64, acknowledged: u64) -> Self {
        self.entry.producer_id = vec![producer; 16].into();
        self.entry.sequence = sequence;
        self.entry.acknowledged = acknowledged;
        self
    }

    pub(super) fn event(mut self, kind: Kind) -> Self {
        self.batch.events.push(Event { client_time_us: None, kind: Some(kind) });
        self
    }

    pub(super) fn create(self) -> Self {
        self.event(Kind::CreateRun(pb::CreateRun::default()))
    }

    pub(crate) fn delete(self) -> Self {
        self.event(Kind::DeleteRun(pb::DeleteRun {}))
    }

    pub(super) fn tag(self, name: &str) -> Self {
        self.event(Kind::AddTag(pb::AddTag { name: name.to_owned() }))
    }

    pub(super) fn line(self, step: i64, line: &str) -> Self {
        self.event(Kind::LogTerminalLine(pb::LogTerminalLine { line: line.to_owned(), step }))
    }

    pub(super) fn params(self, json: &str) -> Self {
        let value = matyan_value::cbor::encode(&matyan_value::json::parse(json).unwrap());
        self.event(Kind::LogParams(pb::LogParams { value: value.into() }))
    }

    pub(super) fn object(self, name: &str, step: Option<i64>, text: &str) -> Self {
        let value = [("data".to_owned(), matyan_value::Value::Text(text.to_owned()))].into();
        self.event(Kind::LogObject(pb::LogObject {
            name: name.to_owned(),
            dtype: "text".into(),
            step,
            value: matyan_value::cbor::encode_map(&value).into(),
            ..pb::LogObject::default()
        }))
    }

    /// Adds definitions, starting at this number.
    pub(crate) fn define(mut self, base: u32, names: &[&str]) -> Self {
        self.batch.series_base = base;
        self.batch
            .series
            .extend(names.iter().map(|name| SeriesDef { name: (*name).to_owned(), ..SeriesDef::default() }));
        self
    }

    /// Adds points of a series by its number: steps (`None` for the next free step) and
    /// values.
    pub(crate) fn points(mut self, series: u32, points: &[(Option<i64>, f64)]) -> Self {
        self.batch.points.push(Points {
            series: vec![series; points.len()],
            values: points.iter().map(|(_, value)| *value).collect(),
            steps: points.iter().map(|(step, _)| step.unwrap_or(i64::MIN)).collect(),
            ..Points::default()
        });
        self
    }

    /// Adds a group of points.
    pub(super) fn group(mut self, group: Points) -> Self {
        self.batch.points.push(group);
        self
    }

    pub(super) fn value(&self) -> Bytes {
        let entry = LogEntry { batch: self.batch.encode_to_vec().into(), ..self.entry.clone() };
        [vec![1], entry.encode_to_vec()].concat().into()
    }

    /// The record as the log returns it.
    pub(crate) fn stored(&self) -> Record {
        let key = Bytes::from(self.entry.run_id.clone());
        let offset = self.offset;
        let value = self.value();
        let headers = Vec::new();
        Record { offset, key, value, headers, appended_us: 0, leader_epoch: None }
    }

    pub(crate) fn entry(&self) -> Entry {
        Entry::read(self.log, 0, self.stored(), false)
    }

    pub(super) fn new_record(&self) -> NewRecord {
        NewRecord { key: self.entry.run_id.clone().into(), value: self.value(), headers: Vec::new() }
    }
}

/// A store that counts as one on other machines.
pub(crate) struct RemoteStore(pub(crate) Arc<dyn Store>);

#[async_trait::async_trait]
impl Store for RemoteStore {
    async fn snapshot(&self) -> matyan_store::Result<Box<dyn Snapshot>> {
        self.0.snapshot().await
    }

    async fn commit(&self, batch: Batch) -> matyan_store::Result<Commit> {
        self.0.commit(batch).await
    }

    async fn sync(&self) -> matyan_store::Result<()> {
        self.0.sync().await
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> matyan_store::Result<()> {
        self.0.changed(key, seen).await
    }

    fn clears_ranges_at_once(&self) -> bool {
        self.0.clears_ranges_at_once()
    }

    fn is_remote(&self) -> bool {
        true
    }
}

/// A log that accepts nothing and never responds, like one without a leader.
pub(crate) struct SilentLog;

#[async_trait::async_trait]
impl LogInspector for SilentLog {
    async fn describe(&self, _: Topic) -> matyan_log::Result<TopicInfo> {
        std::future::pending().await
    }
}

#[async_trait::async_trait]
impl LogWriter for SilentLog {
    fn append(&self, _: Topic, _: Vec<NewRecord>) -> Append {
        Box::pin(std::future::pending())
    }
}

/// A log that refuses everything, like one that has been full for too long.
pub(crate) struct FullLog;

#[async_trait::async_trait]
impl LogInspector for FullLog {
    async fn describe(&self, _: Topic) -> matyan_log::Result<TopicInfo> {
        Err(matyan_log::Error::unavailable("it is full"))
    }
}

#[async_trait::async_trait]
impl LogWriter for FullLog {
    fn append(&self, _: Topic, _: Vec<NewRecord>) -> Append {
        Box::pin(async { Err(matyan_log::Error::unavailable("it is full")) })
    }
}
