//! Implementation of the generated service trait: decode, one call, encode.

use async_trait::async_trait;
use futures::{Stream, future::BoxFuture};
use matyan_blob::LimitReached;
use matyan_proto::ingest::v1::{self as pb, ingest_service_server::IngestService};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Result, Streaming, metadata::MetadataMap};

use crate::{
    Frontier,
    convert::{PublishCommand, UploadExtent, UploadTarget, parted_upload},
    error::{Error, Result as FrontierResult},
    multipart, presign, project_lookup, publish,
    run_id::RunId,
    stream::{self, Answer},
    upload,
};

impl Frontier {
    /// Runs a call that writes an upload, and counts its refusal by the quota of its project.
    async fn run_upload<T>(&self, call: impl Future<Output = FrontierResult<T>>) -> FrontierResult<T> {
        let ended = self.calls.run(call).await;
        if let Err(Error::UploadLimit(LimitReached::ProjectBytes { .. })) = &ended {
            self.quota_metrics.count_refused_upload();
        }
        ended
    }

    /// Starts a stream for a client in any process. Returns the same as `stream::begin`.
    pub(crate) async fn begin_stream(
        &self,
        metadata: &MetadataMap,
        requests: impl Stream<Item = Result<pb::StreamRequest>> + Send + Unpin + 'static,
    ) -> FrontierResult<(mpsc::Receiver<Answer>, BoxFuture<'static, ()>)> {
        let caller = self.projects.caller(metadata).await?;
        stream::begin(&self.ingestion, &self.projects, &self.calls, caller, requests)
    }
}

#[async_trait]
impl IngestService for Frontier {
    async fn admit(&self, request: Request<pb::AdmitRequest>) -> Result<Response<pb::AdmitResponse>> {
        let deadline = project_lookup::deadline();
        let caller = self.projects.caller_until(request.metadata(), deadline).await?;
        let run = RunId::from_field(request.into_inner().run_id)?;
        // A client that connects may send nothing, so the run may stay a new run.
        self.projects.check_run(&caller.project, &run, deadline).await?;
        Ok(Response::new(pb::AdmitResponse {}))
    }

    async fn publish(&self, request: Request<pb::PublishRequest>) -> Result<Response<pb::PublishResponse>> {
        let deadline = project_lookup::deadline();
        let caller = self.projects.caller_until(request.metadata(), deadline).await?;
        let publish = PublishCommand::parse(request.into_inner(), || (self.ingestion.new_id)())?;
        self.projects.check_run(&caller.project, &publish.run, deadline).await?;
        let run = self.projects.limited_run(&caller.project, &publish.run);
        let published = self.calls.run(publish::publish(&self.ingestion, caller, publish)).await?;
        if let Some(run) = run.filter(|_| published.position.is_some()) {
            self.projects.remember_run(run);
        }
        Ok(Response::new(published))
    }

    type StreamStream = ReceiverStream<Result<pb::StreamResponse>>;

    async fn stream(
        &self,
        request: Request<Streaming<pb::StreamRequest>>,
    ) -> Result<Response<Self::StreamStream>> {
        let (metadata, _, requests) = request.into_parts();
        let (answers, work) = self.begin_stream(&metadata, requests).await?;
        tokio::spawn(work);
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn presign(&self, request: Request<pb::PresignRequest>) -> Result<Response<pb::PresignResponse>> {
        let caller = self.projects.caller(request.metadata()).await?;
        let target = UploadTarget::parse(&caller, request.into_inner())?;
        Ok(Response::new(self.run_upload(presign::presign(&self.uploads, target)).await?))
    }

    async fn begin_upload(
        &self,
        request: Request<pb::BeginUploadRequest>,
    ) -> Result<Response<pb::BeginUploadResponse>> {
        let caller = self.projects.caller(request.metadata()).await?;
        let pb::BeginUploadRequest { run_id, artifact_path, content_type, size, part_count } =
            request.into_inner();
        let extent = UploadExtent::parse(size, part_count)?;
        let target = pb::PresignRequest { run_id, artifact_path, content_type, size: extent.size() };
        let target = UploadTarget::parse(&caller, target)?;
        Ok(Response::new(self.run_upload(multipart::begin(&self.uploads, target, extent)).await?))
    }

    async fn presign_part(
        &self,
        request: Request<pb::PresignPartRequest>,
    ) -> Result<Response<pb::PresignPartResponse>> {
        let caller = self.projects.caller(request.metadata()).await?;
        let pb::PresignPartRequest { upload, part_number } = request.into_inner();
        let (upload, _) = parted_upload(&caller, upload)?;
        Ok(Response::new(self.run_upload(multipart::presign_part(&self.uploads, upload, part_number)).await?))
    }

    async fn complete_upload(
        &self,
        request: Request<pb::CompleteUploadRequest>,
    ) -> Result<Response<pb::CompleteUploadResponse>> {
        let caller = self.projects.caller(request.metadata()).await?;
        let pb::CompleteUploadRequest { upload, etags } = request.into_inner();
        let (upload, reference) = parted_upload(&caller, upload)?;
        let size = self.run_upload(multipart::complete(&self.uploads, upload, etags)).await?;
        Ok(Response::new(pb::CompleteUploadResponse { key: reference, size }))
    }

    async fn abort_upload(
        &self,
        request: Request<pb::AbortUploadRequest>,
    ) -> Result<Response<pb::AbortUploadResponse>> {
        let caller = self.projects.caller(request.metadata()).await?;
        let (upload, _) = parted_upload(&caller, request.into_inner().upload)?;
        Ok(Response::new(self.calls.run(multipart::abort(&self.uploads, upload)).await?))
    }

    async fn store(
        &self,
        request: Request<Streaming<pb::StoreRequest>>,
    ) -> Result<Response<pb::StoreResponse>> {
        let caller = self.projects.caller(request.metadata()).await?;
        Ok(Response::new(self.run_upload(upload::store(&self.uploads, &caller, request.into_inner())).await?))
    }

    async fn upload(
        &self,
        request: Request<Streaming<pb::UploadRequest>>,
    ) -> Result<Response<pb::UploadResponse>> {
        Ok(Response::new(
            self.run_upload(upload::upload(&self.uploads, &self.projects, request.into_inner())).await?,
        ))
    }
}
