//! Test harness: a frontier on an embedded log in a temporary directory, a client of the
//! generated API, and a reader of the log.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use matyan_blob::{Blobs, LimitedBlobs, OpenBucket, UploadLimits, UrlSigner, fs::FsBlobs};
use matyan_log::{
    Delivery, LogReader, Record, Topic,
    embedded::{EmbeddedLog, Settings as LogSettings},
    layers::{Faults, FaultyWriter},
};
use matyan_proto::{
    ingest::v1::{
        self as pb, event::Kind, ingest_service_client::IngestServiceClient,
        ingest_service_server::IngestServiceServer, stream_request::Message,
    },
    log::v1::LogEntry,
    project::v1::ExceededQuota,
};
use matyan_wire::ingestion::RecordFormat;
use parking_lot::Mutex;
use prometheus::Registry;
use prost::Message as _;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use crate::{Deps, Frontier, Metrics, ProjectLookup, Settings};

pub(super) const NOW_US: i64 = 1_767_323_045_678_901;

/// Longer than any test, so that a wait of this length is a hang.
const NEVER: Duration = Duration::from_secs(3_600);

pub(super) type Client = IngestServiceClient<IngestServiceServer<Frontier>>;

pub(super) struct TestEnv {
    pub(super) frontier: Frontier,
    pub(super) faults: Arc<Faults>,
    pub(super) log: Arc<EmbeddedLog>,
    pub(super) blobs: Arc<FsBlobs>,
    pub(super) now_us: Arc<AtomicI64>,
    pub(super) has_team: Arc<AtomicBool>,
    pub(super) quotas: Arc<Mutex<Quotas>>,
    pub(super) registry: Registry,
    _directory: TempDir,
}

type LookupResult<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The quota that all projects have used up, and their runs.
#[derive(Default)]
pub(super) struct Quotas {
    pub(super) exceeded: Option<ExceededQuota>,
    pub(super) runs: Vec<&'static str>,
    /// The number of runs is not limited.
    pub(super) allows_all_runs: bool,
    /// Fails every question.
    pub(super) is_away: bool,
    /// Answers no question.
    pub(super) is_silent: bool,
    /// Number of questions.
    pub(super) questions: usize,
}

/// A directory of the default project and the project `team`, while it exists. It cannot look up `unreadable`, and never
/// answers about `silent`.
struct OneProject {
    has_team: Arc<AtomicBool>,
    quotas: Arc<Mutex<Quotas>>,
}

#[async_trait::async_trait]
impl ProjectLookup for OneProject {
    async fn contains(&self, name: &str) -> LookupResult<bool> {
        match name {
            "unreadable" => Err("the store is unavailable".into()),
            "silent" => pending().await,
            name => Ok(name == "team" && self.has_team.load(Ordering::Relaxed)),
        }
    }

    fn may_limit_runs(&self, _: &str) -> bool {
        !self.quotas.lock().allows_all_runs
    }

    async fn exceeded_quota(&self, _: &str) -> LookupResult<Option<ExceededQuota>> {
        self.answer(|quotas| quotas.exceeded).await
    }

    async fn may_have_run(&self, _: &str, run_id: &str) -> LookupResult<bool> {
        self.answer(|quotas| quotas.runs.contains(&run_id)).await
    }
}

impl OneProject {
    async fn answer<T>(&self, read: impl FnOnce(&Quotas) -> T) -> LookupResult<T> {
        let answer = {
            let mut quotas = self.quotas.lock();
            quotas.questions += 1;
            match *quotas {
                Quotas { is_silent: true, .. } => None,
                Quotas { is_away: true, .. } => Some(Err("the store is unavailable".into())),
                _ => Some(Ok(read(&quotas))),
            }
        };
        match answer {
            Some(answer) => answer,
            None => pending().await,
        }
    }
}

impl TestEnv {
    pub(super) async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub(super) async fn json() -> Self {
        Self::with(Settings { format: RecordFormat::Json, ..Settings::default() }).await
    }

    pub(super) async fn with(settings: Settings) -> Self {
        Self::build(settings, true, Faults::scripted(NEVER)).await
    }

    pub(super) async fn with_limits(limits: UploadLimits) -> Self {
        Self::build_with(Settings::default(), limits, true, Faults::scripted(NEVER)).await
    }

    pub(super) async fn build(settings: Settings, takes_uploads: bool, faults: Faults) -> Self {
        Self::build_with(settings, UploadLimits::default(), takes_uploads, faults).await
    }

    async fn build_with(
        settings: Settings,
        limits: UploadLimits,
        takes_uploads: bool,
        faults: Faults,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log =
            Arc::new(EmbeddedLog::open(directory.path().join("log"), LogSettings::default()).await.unwrap());
        let faults = Arc::new(faults);
        let now_us = Arc::new(AtomicI64::new(NOW_US));
        let clock: crate::Clock = {
            let now_us = now_us.clone();
            Arc::new(move || now_us.load(Ordering::Relaxed))
        };
        let signer = UrlSigner::new(b"secret", Duration::from_secs(60), clock.clone());
        let blobs =
            Arc::new(FsBlobs::open(&directory.path().join("blobs"), signer.clone(), clock.clone()).unwrap());
        let next_id = AtomicU8::new(1);
        let has_team = Arc::new(AtomicBool::new(true));
        let quotas = Arc::<Mutex<Quotas>>::default();
        let registry = Registry::new();
        let deps = Deps {
            log: Arc::new(FaultyWriter::new(log.clone(), faults.clone())),
            projects: Some(Arc::new(OneProject { has_team: has_team.clone(), quotas: quotas.clone() })),
            blobs: Arc::new(LimitedBlobs::directory(blobs.clone(), limits)),
            upload_signer: takes_uploads.then_some(signer),
            clock,
            new_id: Arc::new(move || [next_id.fetch_add(1, Ordering::Relaxed); 16]),
            metrics: Metrics::new(&registry).unwrap(),
        };
        let frontier = Frontier::new(deps, settings);
        Self { frontier, faults, log, blobs, now_us, has_team, quotas, registry, _directory: directory }
    }

    /// Creates another frontier with this blob store, to which clients upload directly.
    pub(super) fn with_blobs(&self, blobs: Arc<dyn Blobs>) -> Frontier {
        self.with_blobs_and(blobs, UploadLimits::default())
    }

    pub(super) fn with_blobs_and(&self, blobs: Arc<dyn Blobs>, limits: UploadLimits) -> Frontier {
        let bucket = OpenBucket { blobs, multipart: self.blobs.clone() };
        let deps = Deps {
            log: self.log.clone(),
            projects: None,
            blobs: Arc::new(LimitedBlobs::cloud(bucket, limits)),
            upload_signer: None,
            clock: Arc::new(|| NOW_US),
            new_id: Arc::new(|| [0; 16]),
            metrics: Metrics::new(&Registry::new()).unwrap(),
        };
        Frontier::new(deps, Settings::default())
    }

    pub(super) fn client(&self) -> Client {
        IngestServiceClient::new(self.frontier.ingest_server())
            .max_decoding_message_size(matyan_proto::limits::MESSAGE_BYTES)
    }

    /// Opens a stream as a client without a producer id does.
    pub(super) async fn stream(&self) -> Stream {
        self.stream_open(open(), &[]).await
    }

    pub(super) async fn stream_open(
        &self,
        open: pb::StreamOpen,
        metadata: &[(&'static str, &str)],
    ) -> Stream {
        self.stream_with(Some(Message::Open(open)), metadata).await
    }

    pub(super) async fn stream_with(
        &self,
        first: Option<Message>,
        metadata: &[(&'static str, &str)],
    ) -> Stream {
        let (requests, receiver) = mpsc::channel(1);
        let mut request = Request::new(ReceiverStream::new(receiver));
        for (name, value) in metadata {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        let answers = self.client().stream(request).await.unwrap().into_inner();
        let stream = Stream { requests, answers };
        stream.requests.send(pb::StreamRequest { message: first }).await.unwrap();
        stream
    }

    /// Reads the first records of the log.
    pub(super) async fn records(&self, count: usize) -> Vec<Record> {
        let mut subscription = self.log.subscribe(Topic::Ingestion).await.unwrap();
        let mut found = Vec::new();
        while found.len() < count {
            match subscription.next().await.unwrap() {
                Delivery::Assigned { partition } => subscription.start(partition, 0.into()).await.unwrap(),
                Delivery::Records { records, .. } => found.extend(records),
                Delivery::Revoked { .. } => {}
            }
        }
        found
    }

    /// Reads all records of the log, after writing has ended.
    pub(super) async fn all_records(&self) -> Vec<Record> {
        self.records(self.record_count().await).await
    }

    pub(super) async fn record_count(&self) -> usize {
        use matyan_log::LogInspector as _;
        let info = self.log.describe(Topic::Ingestion).await.unwrap();
        info.partitions.iter().map(|partition| partition.end as usize).sum()
    }

    pub(super) async fn entries(&self) -> Vec<LogEntry> {
        self.all_records().await.iter().map(entry).collect()
    }

    pub(super) fn metric(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let value = |metric: &prometheus::proto::Metric| {
            metric.get_counter().get_value() + metric.get_gauge().get_value()
        };
        family.get_metric().iter().map(value).sum()
    }

    /// The number of refusals by a quota.
    pub(super) fn refusals(&self, quota: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == "matyan_quota_refusals_total").unwrap();
        let of_quota = |metric: &&prometheus::proto::Metric| metric.get_label()[0].value() == quota;
        let metric = family.get_metric().iter().find(of_quota).unwrap();
        metric.get_counter().get_value() as u64
    }

    /// Yields until a metric satisfies the condition.
    pub(super) async fn until(&self, name: &str, holds: impl Fn(f64) -> bool) {
        while !holds(self.metric(name)) {
            tokio::task::yield_now().await;
        }
    }
}

pub(super) fn entry(record: &Record) -> LogEntry {
    assert_eq!(record.value[0], 1, "the format byte");
    LogEntry::decode(&record.value[1..]).unwrap()
}

/// The client's side of a stream.
pub(super) struct Stream {
    requests: mpsc::Sender<pb::StreamRequest>,
    answers: Streaming<pb::StreamResponse>,
}

impl Stream {
    pub(super) async fn send(&self, sequence: u64, batch: &pb::IngestionBatch) {
        self.send_bytes(sequence, batch.encode_to_vec().into()).await;
    }

    pub(super) async fn send_bytes(&self, sequence: u64, batch: Bytes) {
        let batch = pb::StreamBatch { sequence, batch, traceparent: String::new() };
        self.send_message(Message::Batch(batch)).await;
    }

    pub(super) async fn send_message(&self, message: Message) {
        self.requests.send(pb::StreamRequest { message: Some(message) }).await.unwrap();
    }

    pub(super) fn sender(&self) -> mpsc::Sender<pb::StreamRequest> {
        self.requests.clone()
    }

    pub(super) async fn answer(&mut self) -> Result<Option<pb::StreamResponse>, Status> {
        self.answers.message().await
    }

    /// Reads responses until this sequence is acknowledged, and returns that response.
    pub(super) async fn acknowledged(&mut self, sequence: u64) -> pb::StreamResponse {
        loop {
            let answer = self.answer().await.unwrap().expect("the stream has not ended");
            assert!(answer.sequence <= sequence, "{answer:?}");
            if answer.sequence == sequence {
                return answer;
            }
        }
    }

    /// Reads responses until at least this sequence is acknowledged.
    pub(super) async fn reached(&mut self, sequence: u64) {
        while self.answer().await.unwrap().expect("the stream has not ended").sequence < sequence {}
    }

    /// Stops sending, reads all responses, and returns the last acknowledged sequence and
    /// the stream's result.
    pub(super) async fn finish(self) -> (u64, Result<(), Status>) {
        let Self { requests, mut answers } = self;
        drop(requests);
        let mut last = 0;
        loop {
            match answers.message().await {
                Ok(Some(answer)) => last = answer.sequence,
                Ok(None) => return (last, Ok(())),
                Err(status) => return (last, Err(status)),
            }
        }
    }

    /// Disconnects without ending the stream.
    pub(super) fn hang_up(self) {}
}

pub(super) fn open() -> pb::StreamOpen {
    pb::StreamOpen { run_id: "run".into(), ..Default::default() }
}

pub(super) fn open_producer(acknowledged: u64) -> pb::StreamOpen {
    pb::StreamOpen { producer_id: Bytes::from_static(&[9; 16]), acknowledged, ..open() }
}

pub(super) fn tag(name: &str) -> pb::IngestionBatch {
    let kind = Some(Kind::AddTag(pb::AddTag { name: name.into() }));
    pb::IngestionBatch { events: vec![pb::Event { client_time_us: None, kind }], ..Default::default() }
}

/// A batch of approximately this size.
pub(super) fn heavy(bytes: usize) -> pb::IngestionBatch {
    const LINE: usize = 4 << 20;
    let event = |at: usize| {
        let line = pb::LogTerminalLine { line: "x".repeat(LINE.min(bytes - at)), step: 0 };
        pb::Event { client_time_us: None, kind: Some(Kind::LogTerminalLine(line)) }
    };
    pb::IngestionBatch { events: (0..bytes).step_by(LINE).map(event).collect(), ..Default::default() }
}

pub(super) fn series(name: &str) -> pb::SeriesDef {
    pb::SeriesDef { name: name.into(), ..Default::default() }
}

/// A dictionary as a client sends it when it reopens a stream.
pub(super) fn dictionary(names: &[&str]) -> Bytes {
    points(0, names, &[]).encode_to_vec().into()
}

pub(super) fn points(series_base: u32, names: &[&str], numbers: &[u32]) -> pb::IngestionBatch {
    let values = numbers.iter().map(|number| f64::from(*number)).collect();
    pb::IngestionBatch {
        series: names.iter().map(|name| series(name)).collect(),
        series_base,
        points: vec![pb::Points { series: numbers.to_vec(), values, ..Default::default() }],
        ..Default::default()
    }
}

pub(super) fn reason(status: &Status) -> String {
    use tonic_types::StatusExt as _;
    status
        .get_error_details()
        .error_info()
        .expect("every error of the product has an error info")
        .reason
        .clone()
}
