//! A frontier that records what it receives, and holds, rejects, or fails as the test demands.
//! It checks the protocol (sequences without gaps, consistent dictionary) and panics if the
//! edge violates it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::Stream;
use futures::future::{BoxFuture, ready};
use http::HeaderMap;
use matyan_edge::{FrontierTransport, LocalFrontier, LocalStream, Transport};
use matyan_proto::common::v1::LogPosition;
use matyan_proto::ingest::v1::ingest_service_server::{IngestService, IngestServiceServer};
use matyan_proto::ingest::v1::store_request::Message as StoreMessage;
use matyan_proto::ingest::v1::stream_request::Message as StreamMessage;
use matyan_proto::ingest::v1::upload_request::Message as UploadMessage;
use matyan_proto::ingest::v1::*;
use matyan_proto::system::v1::system_service_server::{SystemService, SystemServiceServer};
use matyan_proto::system::v1::*;
use prost::Message;
use tokio::sync::{mpsc, watch};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

/// One batch as received.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) run_id: String,
    pub(crate) producer_id: Vec<u8>,
    /// Number of the stream, from 0.
    pub(crate) stream: usize,
    pub(crate) sequence: u64,
    pub(crate) batch: IngestionBatch,
}

/// Treatment of further batches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behavior {
    /// Batches are recorded, but neither acknowledged nor failed.
    pub(crate) hold: bool,
    /// The next batches end their streams with these statuses.
    pub(crate) fail_next: VecDeque<Status>,
    /// Rejections of the next batch.
    pub(crate) reject_next: Vec<Rejection>,
    pub(crate) not_ready: bool,
    /// Refuses all runs with this status.
    pub(crate) refusal: Option<Status>,
}

/// Opening message, sizes of the chunks, content, and whether the upload was complete.
pub(crate) type Upload = (UploadOpen, Vec<usize>, Vec<u8>, bool);

#[derive(Clone)]
pub(crate) struct Frontier(Arc<Inner>);

struct Inner {
    behavior: watch::Sender<Behavior>,
    received: watch::Sender<Vec<Received>>,
    streams: Mutex<usize>,
    /// The project of each stream and of each requested upload.
    projects: Mutex<Vec<String>>,
    /// Number of batches received but not answered, over all streams, and its maximum so
    /// far.
    waiting: AtomicUsize,
    most_waiting: AtomicUsize,
    uploads: watch::Sender<Vec<Upload>>,
    /// Batches that came in unary calls, each with its run. Their places are their offsets in the log.
    published: Mutex<Vec<(String, IngestionBatch)>>,
}

impl Frontier {
    pub(crate) fn new() -> Self {
        Frontier(Arc::new(Inner {
            behavior: watch::Sender::new(Behavior::default()),
            received: watch::Sender::new(Vec::new()),
            streams: Mutex::default(),
            projects: Mutex::default(),
            waiting: AtomicUsize::new(0),
            most_waiting: AtomicUsize::new(0),
            uploads: watch::Sender::new(Vec::new()),
            published: Mutex::default(),
        }))
    }

    pub(crate) fn transport(&self) -> FrontierTransport {
        let ingest = IngestServiceServer::new(self.clone()).max_decoding_message_size(17 << 20);
        let routes = tonic::service::Routes::new(ingest).add_service(SystemServiceServer::new(self.clone()));
        FrontierTransport::new(Transport::new(routes), Arc::new(self.clone()))
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Behavior)) {
        self.0.behavior.send_modify(change);
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.0.received.borrow().clone()
    }

    /// Batches that came in unary calls, each with its run.
    pub(crate) fn published(&self) -> Vec<(String, IngestionBatch)> {
        self.0.published.lock().unwrap().clone()
    }

    pub(crate) fn streams(&self) -> usize {
        *self.0.streams.lock().unwrap()
    }

    pub(crate) fn projects(&self) -> Vec<String> {
        self.0.projects.lock().unwrap().clone()
    }

    fn record_project(&self, metadata: &MetadataMap) {
        let project = metadata.get("matyan-project").map(|it| it.to_str().unwrap().to_owned());
        self.0.projects.lock().unwrap().push(project.unwrap_or_default());
    }

    pub(crate) fn most_waiting(&self) -> usize {
        self.0.most_waiting.load(Ordering::SeqCst)
    }

    /// Waits until `count` batches have been received.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Received> {
        let mut received = self.0.received.subscribe();
        received.wait_for(|it| it.len() >= count).await.unwrap().clone()
    }

    pub(crate) async fn wait_for_upload(&self) -> Upload {
        let mut uploads = self.0.uploads.subscribe();
        uploads.wait_for(|it| !it.is_empty()).await.unwrap()[0].clone()
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl IngestService for Frontier {
    type StreamStream = Answers<StreamResponse>;

    async fn admit(&self, _: Request<AdmitRequest>) -> Result<Response<AdmitResponse>, Status> {
        let refusal = self.0.behavior.borrow().refusal.clone();
        refusal.map_or_else(|| Ok(Response::new(AdmitResponse {})), Err)
    }

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        self.record_project(request.metadata());
        let PublishRequest { run_id, producer_id, sequence, batch, all_or_nothing } = request.into_inner();
        let mut rejections = Vec::new();
        if !batch.is_empty() {
            self.change(|behavior| rejections = std::mem::take(&mut behavior.reject_next));
        }
        let rejected_items = rejections.iter().map(|it| it.count.max(1)).sum();
        if all_or_nothing && rejected_items > 0 {
            return Ok(Response::new(PublishResponse { position: None, rejections, rejected_items }));
        }
        let producer_id = producer_id.to_vec();
        let batch = IngestionBatch::decode(batch).unwrap();
        let mut published = self.0.published.lock().unwrap();
        let position = Some(LogPosition { log: 0, partition: 0, offset: published.len() as u64 });
        published.push((run_id.clone(), batch.clone()));
        let received = Received { run_id, producer_id, stream: 0, sequence, batch };
        self.0.received.send_modify(|it| it.push(received));
        Ok(Response::new(PublishResponse { position, rejections, rejected_items }))
    }

    async fn stream(
        &self,
        _: Request<Streaming<StreamRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        Err(Status::unimplemented("sockets open their streams directly"))
    }

    async fn presign(&self, request: Request<PresignRequest>) -> Result<Response<PresignResponse>, Status> {
        self.record_project(request.metadata());
        let request = request.into_inner();
        if request.artifact_path.contains("..") {
            return Err(Status::invalid_argument("`artifact_path` has a `..` segment"));
        }
        let key = format!("{}/{}", request.run_id, request.artifact_path);
        Ok(Response::new(PresignResponse {
            upload_url: format!("/api/v1/rest/blobs/{}?expires=1&signature=s", key.replace(' ', "%20")),
            key,
            headers: if request.content_type == "azure" {
                [("x-ms-blob-type".to_owned(), "BlockBlob".to_owned())].into()
            } else {
                Default::default()
            },
            expires_s: 3600,
        }))
    }

    async fn begin_upload(
        &self,
        request: Request<BeginUploadRequest>,
    ) -> Result<Response<BeginUploadResponse>, Status> {
        let BeginUploadRequest { run_id, artifact_path, size, part_count, .. } = request.into_inner();
        if size == 0 && part_count == 0 {
            return Err(Status::invalid_argument("`size` is 0"));
        }
        let upload_id = "id".to_owned();
        let key = format!("{run_id}/{artifact_path}");
        Ok(Response::new(BeginUploadResponse { upload_id, key, part_bytes: 4, is_sequential: true }))
    }

    async fn presign_part(
        &self,
        request: Request<PresignPartRequest>,
    ) -> Result<Response<PresignPartResponse>, Status> {
        let PresignPartRequest { upload, part_number } = request.into_inner();
        let PartedUpload { run_id, artifact_path, upload_id, part_count, .. } = upload.unwrap();
        if part_count > 0 {
            let upload_url = format!("/api/v1/rest/blobs/{run_id}/parts/{part_number}?signature=s");
            return Ok(Response::new(PresignPartResponse { upload_url, ..PresignPartResponse::default() }));
        }
        let headers = [("content-range".to_owned(), "bytes 4-6/7".to_owned())].into();
        let path = format!("/api/v1/rest/blobs/{run_id}/{artifact_path}");
        let upload_url =
            format!("{path}?upload={upload_id}&offset=4&length=3&expires=1&signature={part_number}");
        Ok(Response::new(PresignPartResponse { upload_url, headers, expires_s: 60, offset: 4, length: 3 }))
    }

    async fn complete_upload(
        &self,
        request: Request<CompleteUploadRequest>,
    ) -> Result<Response<CompleteUploadResponse>, Status> {
        let CompleteUploadRequest { upload, etags } = request.into_inner();
        let PartedUpload { run_id, artifact_path, part_count, .. } = upload.unwrap();
        if part_count > 0 {
            let key = format!("{run_id}/{artifact_path}");
            return Ok(Response::new(CompleteUploadResponse { key, size: part_count.into() }));
        }
        match etags.as_slice() {
            [] => Err(Status::not_found("the upload does not exist any more")),
            [etag] if etag == "\"confirmed\"" => Ok(Response::new(CompleteUploadResponse::default())),
            _ => Err(Status::aborted("part 1 was not received")),
        }
    }

    async fn abort_upload(
        &self,
        _: Request<AbortUploadRequest>,
    ) -> Result<Response<AbortUploadResponse>, Status> {
        Ok(Response::new(AbortUploadResponse {}))
    }

    async fn store(
        &self,
        request: Request<Streaming<StoreRequest>>,
    ) -> Result<Response<StoreResponse>, Status> {
        let mut stream = request.into_inner();
        let mut key = String::new();
        let mut size = 0;
        while let Some(message) = stream.message().await? {
            match message.message {
                Some(StoreMessage::Open(open)) => key = format!("{}/{}", open.run_id, open.artifact_path),
                Some(StoreMessage::Chunk(chunk)) => size += chunk.len() as u64,
                Some(StoreMessage::Done(_)) | None => {}
            }
        }
        Ok(Response::new(StoreResponse { key, size }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<UploadResponse>, Status> {
        let mut stream = request.into_inner();
        let Some(UploadMessage::Open(open)) = stream.message().await?.and_then(|it| it.message) else {
            panic!("an upload must begin with its open message");
        };
        if open.token.contains("forged") {
            return Err(Status::permission_denied("the signature is wrong"));
        }
        let mut sizes = Vec::new();
        let mut content = Vec::new();
        let mut guard = UploadGuard(self.clone(), Some((open.clone(), Vec::new(), Vec::new(), false)));
        let mut done = false;
        while let Some(message) = stream.message().await? {
            let chunk = match message.message {
                Some(UploadMessage::Chunk(chunk)) => chunk,
                Some(UploadMessage::Done(true)) => {
                    done = true;
                    break;
                }
                other => panic!("expected a chunk, found {other:?}"),
            };
            sizes.push(chunk.len());
            content.extend_from_slice(&chunk);
            guard.1 = Some((open.clone(), sizes.clone(), content.clone(), false));
        }
        if open.content_length.is_none() && !done {
            return Err(Status::aborted("no end mark"));
        }
        let size = content.len() as u64;
        let open_token = open.token.clone();
        guard.1 = Some((open, sizes, content, true));
        let etag = if open_token.contains("upload=") { "confirmed" } else { "" };
        Ok(Response::new(UploadResponse { size, etag: etag.to_owned() }))
    }
}

impl LocalFrontier for Frontier {
    fn open_stream(
        &self,
        headers: HeaderMap,
        requests: mpsc::Receiver<StreamRequest>,
    ) -> BoxFuture<'static, Result<LocalStream, Status>> {
        self.record_project(&MetadataMap::from_headers(headers));
        let (answers, receiver) = mpsc::channel(1024);
        let number = {
            let mut streams = self.0.streams.lock().unwrap();
            *streams += 1;
            *streams - 1
        };
        let work = serve(Arc::clone(&self.0), number, requests, answers);
        Box::pin(ready(Ok(LocalStream::new(receiver, work))))
    }
}

/// Reports an upload when its call ends or is dropped.
struct UploadGuard(Frontier, Option<Upload>);

impl Drop for UploadGuard {
    fn drop(&mut self) {
        let upload = self.1.take();
        self.0.0.uploads.send_modify(|it| it.extend(upload));
    }
}

async fn serve(
    inner: Arc<Inner>,
    stream: usize,
    mut requests: mpsc::Receiver<StreamRequest>,
    answers: mpsc::Sender<Result<StreamResponse, Status>>,
) {
    let Some(StreamRequest { message: Some(StreamMessage::Open(open)) }) = requests.recv().await else {
        panic!("a stream must begin with its open message");
    };
    if open.asks_for_features {
        let first = StreamResponse { sequence: open.acknowledged, takes_rows: true, ..Default::default() };
        answers.send(Ok(first)).await.unwrap();
    }
    let (waiting, to_answer) = mpsc::unbounded_channel();
    tokio::join!(receive(&inner, stream, &open, requests, waiting), answer(&inner, to_answer, answers));
}

/// Answers batches as the test demands, until the stream fails or nothing more is received.
async fn answer(
    inner: &Inner,
    mut to_answer: mpsc::UnboundedReceiver<u64>,
    answers: mpsc::Sender<Result<StreamResponse, Status>>,
) {
    while let Some(sequence) = to_answer.recv().await {
        let mut behavior = inner.behavior.subscribe();
        behavior.wait_for(|it| !it.hold).await.unwrap();
        let mut answer = Ok(StreamResponse { sequence, ..Default::default() });
        inner.behavior.send_modify(|it| {
            if let Some(status) = it.fail_next.pop_front() {
                answer = Err(status);
            } else if let Ok(answer) = &mut answer {
                answer.rejections = std::mem::take(&mut it.reject_next);
                answer.rejected_items = answer.rejections.iter().map(|it| it.count.max(1)).sum();
            }
        });
        let failed = answer.is_err();
        inner.waiting.fetch_sub(1, Ordering::SeqCst);
        if answers.send(answer).await.is_err() || failed {
            return;
        }
    }
}

/// Records and checks batches, until nothing more is sent or answered.
async fn receive(
    inner: &Inner,
    stream: usize,
    open: &StreamOpen,
    mut requests: mpsc::Receiver<StreamRequest>,
    waiting: mpsc::UnboundedSender<u64>,
) {
    let known = IngestionBatch::decode(open.dictionary.clone()).unwrap();
    let mut next = open.acknowledged + 1;
    let mut series = known.series.len();
    assert!(open.acknowledged > 0 || series == 0, "a new stream cannot have a dictionary yet");
    while let Some(request) = requests.recv().await {
        let Some(StreamMessage::Batch(batch)) = request.message else { panic!("expected a batch") };
        let sequence = batch.sequence;
        if sequence < next {
            // A durable batch is only acknowledged again.
            inner.waiting.fetch_add(1, Ordering::SeqCst);
            if waiting.send(next - 1).is_err() {
                break;
            }
            continue;
        }
        let batch = IngestionBatch::decode(batch.batch).unwrap();
        assert_eq!(sequence, next, "sequences must have no gaps");
        assert_eq!(batch.series_base as usize, series, "the dictionary must be consistent");
        next += 1;
        series += batch.series.len();
        for number in batch.points.iter().flat_map(|it| &it.series) {
            assert!((*number as usize) < series, "a series must be defined before it is used");
        }
        for rows in batch.points.iter().filter_map(|it| it.rows.as_ref()) {
            let end = (rows.first_series + rows.series_count) as usize;
            assert!(end <= series, "a series must be defined before it is used");
        }
        let run_id = open.run_id.clone();
        let producer_id = open.producer_id.to_vec();
        inner.received.send_modify(|it| it.push(Received { run_id, producer_id, stream, sequence, batch }));
        let now_waiting = inner.waiting.fetch_add(1, Ordering::SeqCst) + 1;
        inner.most_waiting.fetch_max(now_waiting, Ordering::SeqCst);
        if waiting.send(sequence).is_err() {
            break;
        }
    }
}

#[tonic::async_trait]
impl SystemService for Frontier {
    async fn version(&self, _: Request<VersionRequest>) -> Result<Response<VersionResponse>, Status> {
        Ok(Response::new(VersionResponse {
            version: "1.2.3".into(),
            component: "frontier".into(),
            ..Default::default()
        }))
    }

    async fn readiness(&self, _: Request<ReadinessRequest>) -> Result<Response<ReadinessResponse>, Status> {
        let ready = !self.0.behavior.borrow().not_ready;
        let check = |name: &str, ok, message: &str| Check {
            name: name.into(),
            ok,
            message: message.into(),
            required: name == "log",
        };
        let log = check("log", ready, if ready { "" } else { "the log is full" });
        let blobs = check("blobs", false, "bucket not found");
        Ok(Response::new(ReadinessResponse { ready, checks: vec![log, blobs] }))
    }

    async fn limits(&self, _: Request<LimitsRequest>) -> Result<Response<LimitsResponse>, Status> {
        Ok(Response::new(LimitsResponse::default()))
    }
}
