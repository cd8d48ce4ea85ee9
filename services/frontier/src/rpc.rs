//! Implementation of the generated service trait: decode, one call, encode.

use async_trait::async_trait;
use matyan_proto::ingest::v1::{self as pb, ingest_service_server::IngestService};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Result, Streaming};

use crate::{
    Frontier,
    convert::{Caller, PresignCommand, PublishCommand},
    presign, publish, stream, upload,
};

/// Capacity for responses queued for the transport. It is small, because waiting responses are
/// merged before they get here.
const ANSWERS: usize = 4;

#[async_trait]
impl IngestService for Frontier {
    async fn publish(&self, request: Request<pb::PublishRequest>) -> Result<Response<pb::PublishResponse>> {
        let caller = Caller::parse(request.metadata())?;
        let publish = PublishCommand::parse(request.into_inner(), || (self.ingestion.new_id)())?;
        Ok(Response::new(self.calls.run(publish::publish(&self.ingestion, caller, publish)).await?))
    }

    type StreamStream = ReceiverStream<Result<pb::StreamResponse>>;

    async fn stream(
        &self,
        request: Request<Streaming<pb::StreamRequest>>,
    ) -> Result<Response<Self::StreamStream>> {
        let caller = Caller::parse(request.metadata())?;
        let (answers, receiver) = mpsc::channel(ANSWERS);
        stream::spawn(&self.ingestion, &self.calls, caller, request.into_inner(), answers)?;
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn presign(&self, request: Request<pb::PresignRequest>) -> Result<Response<pb::PresignResponse>> {
        let caller = Caller::parse(request.metadata())?;
        let presign = PresignCommand::parse(&caller, request.into_inner())?;
        Ok(Response::new(self.calls.run(presign::presign(&self.uploads, presign)).await?))
    }

    async fn upload(
        &self,
        request: Request<Streaming<pb::UploadRequest>>,
    ) -> Result<Response<pb::UploadResponse>> {
        Ok(Response::new(self.calls.run(upload::upload(&self.uploads, request.into_inner())).await?))
    }
}
