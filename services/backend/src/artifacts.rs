//! Artifacts: what a run has uploaded, and the bytes of it.

use futures::StreamExt;
use matyan_blob::BlobKey;
use matyan_model::artifact::artifact_get;
use matyan_proto::artifacts::v1::{
    self as pb, artifact_service_server::ArtifactService, get_response::Message,
};
use tonic::{Request, Response, Status};

use crate::{
    Backend,
    call::Call,
    error::Error,
    stream::{Answers, answers},
    view,
};

#[tonic::async_trait]
impl ArtifactService for Backend {
    type GetStream = Answers<pb::GetResponse>;
    type ZipStream = Answers<pb::ZipResponse>;
    type BlobsStream = Answers<pb::BlobsResponse>;

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<pb::ListResponse>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let found = self.context.run(&call, &request.into_inner().run_id).await?;
        let artifacts = view::artifacts_view(&self.context, &found, call.project).await?;
        Ok(Response::new(pb::ListResponse { artifacts }))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<Self::GetStream>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let request = request.into_inner();
        let found = self.context.run(&call, &request.run_id).await?;
        let stored = artifact_get(found.snapshot.as_ref(), call.project, found.number, &request.path)
            .await
            .map_err(Error::from)?
            .ok_or_else(|| Error::not_found("artifact", &request.path))?;
        drop(found);
        let end = request.length.map_or(u64::MAX, |length| request.offset.saturating_add(length));
        let key = BlobKey::new(&stored.blob_key).map_err(Error::from)?;
        let read = self.context.blobs.read(&key, Some(request.offset..end)).await.map_err(Error::from)?;
        let (meta, mut content) = read.ok_or_else(|| Error::not_found("blob", key.as_str()))?;
        let mut artifact = view::artifact_view(&self.context, request.path, stored);
        artifact.size = Some(meta.size);
        Ok(Response::new(answers(async move |sender| {
            sender.send(pb::GetResponse { message: Some(Message::Artifact(artifact)) }).await?;
            while let Some(chunk) = content.next().await {
                sender.send(pb::GetResponse { message: Some(Message::Chunk(chunk?)) }).await?;
            }
            Ok(())
        })))
    }

    async fn zip(&self, _: Request<pb::ZipRequest>) -> Result<Response<Self::ZipStream>, Status> {
        Err(Error::Unimplemented("archives of all artifacts").into())
    }

    async fn blobs(&self, _: Request<pb::BlobsRequest>) -> Result<Response<Self::BlobsStream>, Status> {
        Err(Error::Unimplemented("payloads of objects").into())
    }
}
