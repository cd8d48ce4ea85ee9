//! Artifacts: files uploaded by a run, and their bytes. Bytes are streamed in chunks and never
//! held whole.

mod image_slots;
mod payload;
mod zip;

use bytes::Bytes;
use futures::{StreamExt, stream};
use matyan_blob::BlobKey;
use matyan_model::artifact::{
    artifact_get, artifact_ranges, artifacts_list, artifacts_page, is_sequence_upload,
};
use matyan_proto::{
    artifacts::v1::{self as pb, artifact_service_server::ArtifactService, get_response::Message},
    limits,
};
use tonic::{Request, Response};

use crate::{
    edit::runs::delete_artifacts,
    server::{
        RpcResult, Server,
        audit::audit_resource,
        convert,
        deps::Deps,
        error::Error,
        stream::{ResponseStream, Sender, StreamEnd},
    },
    view,
};
use image_slots::ImageSlots;

/// The service of artifacts.
pub(crate) struct ArtifactApi {
    server: Server,
    images: ImageSlots,
}

impl ArtifactApi {
    pub(crate) fn new(server: Server) -> Self {
        Self { server, images: ImageSlots::default() }
    }
}

#[tonic::async_trait]
impl ArtifactService for ArtifactApi {
    type ListStream = ResponseStream<pb::ListResponse>;
    type GetStream = ResponseStream<pb::GetResponse>;
    type ZipStream = ResponseStream<pb::ZipResponse>;
    type PayloadStream = ResponseStream<pb::PayloadResponse>;
    type BlobsStream = ResponseStream<pb::BlobsResponse>;

    async fn list(&self, request: Request<pb::ListRequest>) -> RpcResult<Self::ListStream> {
        let (call, request) = self.server.start_call(request).await?;
        let pb::ListRequest { run_id, path_prefix, after, limit } = request;
        convert::check_limit("path_prefix", path_prefix.len(), limits::ARTIFACT_PATH_BYTES)?;
        convert::check_limit("after", after.len(), limits::ARTIFACT_PATH_BYTES + char::MAX.len_utf8())?;
        let run = self.server.deps.find_run(&call, &run_id).await?.number;
        let ranges = artifact_ranges(call.project, run, &path_prefix, &after);
        let deps = self.server.deps.clone();
        Ok(Response::new(self.server.respond(async move |sender| {
            let mut left = if limit == 0 { usize::MAX } else { limit as usize };
            for range in ranges {
                let mut rest = Some(range);
                while let Some(range) = rest.take_if(|_| left > 0) {
                    let snapshot = deps.store.snapshot().await?;
                    let (page, next) =
                        artifacts_page(snapshot.as_ref(), call.project, run, &range, left).await?;
                    drop(snapshot);
                    rest = next;
                    left = left.saturating_sub(page.len());
                    let artifacts = view::artifacts_view(&deps, &call.project_name, page);
                    sender.send(pb::ListResponse { artifacts }).await?;
                }
            }
            Ok(())
        })))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> RpcResult<Self::GetStream> {
        let (call, request) = self.server.start_call(request).await?;
        let found = self.server.deps.find_run(&call, &request.run_id).await?;
        // Uploads of sequences are read through the objects that refer to them.
        if request.path.len() > limits::ARTIFACT_PATH_BYTES || is_sequence_upload(&request.path) {
            return Err(Error::not_found("artifact", request.path).into());
        }
        let stored = artifact_get(found.snapshot.as_ref(), call.project, found.number, &request.path)
            .await
            .map_err(Error::from)?
            .ok_or_else(|| Error::not_found("artifact", &request.path))?;
        // Ends the snapshot before the blob is read, which may take long.
        drop(found);
        let is_description = request.length == Some(0);
        let path = request.path;
        let end = request.length.map_or(u64::MAX, |length| request.offset.saturating_add(length));
        // An invalid key cannot refer to a blob.
        let key = BlobKey::in_project(&call.project_name, &stored.blob_key)
            .map_err(|_| Error::not_found("blob", &stored.blob_key))?;
        let blobs = &self.server.deps.blobs;
        let found = if is_description {
            blobs.describe(&key).await.map(|meta| meta.map(|meta| (meta, stream::empty().boxed())))
        } else {
            blobs.read(&key, Some(request.offset..end)).await
        };
        let (meta, mut content) =
            found.map_err(Error::from)?.ok_or_else(|| Error::not_found("blob", key.as_str()))?;
        let mut artifact = view::artifact_view(&self.server.deps, &call.project_name, path, stored);
        // The size in the blob store is certain; the client may not have logged one.
        artifact.size = Some(meta.size);
        let described = pb::GetResponse { message: Some(Message::Artifact(artifact)), version: meta.version };
        Ok(Response::new(self.server.respond(async move |sender| {
            sender.send(described).await?;
            while let Some(chunk) = content.next().await {
                let message = Some(Message::Chunk(chunk?));
                sender.send(pb::GetResponse { message, ..Default::default() }).await?;
            }
            Ok(())
        })))
    }

    async fn delete(&self, request: Request<pb::DeleteRequest>) -> RpcResult<pb::DeleteResponse> {
        let (call, request) = self.server.start_call(request).await?;
        audit_resource(format_args!("{} {}", request.run_id, request.path));
        let deleted = delete_artifacts(&self.server.deps, &call, &request).await?;
        Ok(Response::new(pb::DeleteResponse { deleted }))
    }

    async fn zip(&self, request: Request<pb::ZipRequest>) -> RpcResult<Self::ZipStream> {
        let (call, request) = self.server.start_call(request).await?;
        let run_id = request.run_id;
        let found = self.server.deps.find_run(&call, &run_id).await?;
        let listed = artifacts_list(found.snapshot.as_ref(), call.project, found.number).await;
        let mut artifacts = listed.map_err(Error::from)?;
        drop(found);
        artifacts.retain(|(path, _)| !is_sequence_upload(path));
        if artifacts.is_empty() {
            return Err(Error::not_found("artifact", run_id).into());
        }
        let deps = self.server.deps.clone();
        Ok(Response::new(
            self.server.respond(async move |sender| zip::send(&deps, &call, artifacts, &sender).await),
        ))
    }

    async fn payload(&self, request: Request<pb::PayloadRequest>) -> RpcResult<Self::PayloadStream> {
        use pb::payload_response::Message::{Chunk, Info};
        let (call, request) = self.server.start_call(request).await?;
        let (info, mut content) = payload::open(&self.server.deps, &call, &request).await?;
        Ok(Response::new(self.server.respond(async move |sender| {
            sender.send(pb::PayloadResponse { message: Some(Info(info)) }).await?;
            while let Some(chunk) = content.next().await {
                sender.send(pb::PayloadResponse { message: Some(Chunk(chunk?)) }).await?;
            }
            Ok(())
        })))
    }

    async fn thumbnail(&self, request: Request<pb::ThumbnailRequest>) -> RpcResult<pb::ThumbnailResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let thumbnail = payload::thumbnail(&self.server.deps, &self.images, &call, request).await?;
        Ok(Response::new(thumbnail))
    }

    async fn blobs(&self, request: Request<pb::BlobsRequest>) -> RpcResult<Self::BlobsStream> {
        let (call, request) = self.server.start_call(request).await?;
        let uris = request.uris;
        convert::check_limit("uris", uris.len(), limits::BLOBS_PER_CALL)?;
        let deps = self.server.deps.clone();
        Ok(Response::new(self.server.respond(async move |sender| {
            for (index, uri) in (0..).zip(&uris) {
                // A URI of another project is as unknown as a forged one.
                let key = deps.uri_key.blob(uri).filter(|key| key.is_in_project(&call.project_name));
                if let Some(key) = key {
                    send_blob(&deps, index, &key, &sender).await?;
                }
            }
            Ok(())
        })))
    }
}

/// Sends the chunks of one payload and marks the last; a missing payload is a single empty
/// chunk.
async fn send_blob(
    deps: &Deps,
    index: u32,
    key: &BlobKey,
    sender: &Sender<pb::BlobsResponse>,
) -> Result<(), StreamEnd> {
    let mut waiting = Bytes::new();
    let mut size = 0;
    if let Some((meta, mut content)) = deps.blobs.read(key, None).await? {
        size = meta.size;
        while let Some(piece) = content.next().await {
            // One chunk is held back, because the last chunk has to be marked.
            let chunk = std::mem::replace(&mut waiting, piece?);
            if !chunk.is_empty() {
                // The size is sent with the first chunk only.
                let size = std::mem::take(&mut size);
                sender.send(pb::BlobsResponse { index, chunk, last: false, size }).await?;
            }
        }
    }
    sender.send(pb::BlobsResponse { index, chunk: waiting, last: true, size }).await?;
    Ok(())
}
