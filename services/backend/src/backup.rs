//! Backup and restore. Each run is read as of one snapshot, which is released before any data
//! is sent. A restored run is written under a number that nothing links to, in transactions of
//! about a megabyte that each advance its position, and is made live in a single transaction.
//! There are deliberately no files or file formats here: they belong to the client.

mod blobs;
mod convert;
mod entities;
mod finish;
mod list;
mod log_positions;
mod parked;
mod project;
mod read;
mod stage;
mod studies;
mod write;
mod writer;

use matyan_proto::backup::v1::{self as pb, backup_service_server::BackupService};
use tonic::{Request, Response, Streaming};

use crate::server::{
    RpcResult, Server,
    audit::{RunList, audit_resource},
    stream::ResponseStream,
};

/// The service of backups.
pub(crate) struct BackupApi {
    server: Server,
}

impl BackupApi {
    pub(crate) fn new(server: Server) -> Self {
        Self { server }
    }
}

/// Says which runs a listing is about, unless it is about all.
fn audit_listed_runs(request: &pb::ListRunsRequest) {
    match (request.run_ids.as_slice(), request.experiment.as_str()) {
        ([], "") => {}
        ([], experiment) => audit_resource(format_args!("experiment {experiment}")),
        (run_ids, _) => audit_resource(RunList(run_ids)),
    }
}

#[tonic::async_trait]
impl BackupService for BackupApi {
    type ReadProjectStream = ResponseStream<pb::ReadProjectResponse>;
    type ListRunsStream = ResponseStream<pb::ListRunsResponse>;
    type ReadRunStream = ResponseStream<pb::ReadRunResponse>;
    type ReadBlobStream = ResponseStream<pb::ReadBlobResponse>;

    async fn read_project(
        &self,
        request: Request<pb::ReadProjectRequest>,
    ) -> RpcResult<Self::ReadProjectStream> {
        let (call, _) = self.server.start_call(request).await?;
        let deps = self.server.deps.clone();
        Ok(Response::new(self.server.respond(async move |sender| project::send(&deps, &call, &sender).await)))
    }

    async fn list_runs(&self, request: Request<pb::ListRunsRequest>) -> RpcResult<Self::ListRunsStream> {
        let (call, request) = self.server.start_call(request).await?;
        audit_listed_runs(&request);
        let listing = list::RunListing::start(&self.server.deps, &call, request).await?;
        let deps = self.server.deps.clone();
        Ok(Response::new(self.server.respond(async move |sender| listing.send(&deps, &call, &sender).await)))
    }

    async fn read_run(&self, request: Request<pb::ReadRunRequest>) -> RpcResult<Self::ReadRunStream> {
        let (call, request) = self.server.start_call(request).await?;
        let run = Box::pin(read::open(&self.server.deps, &call, &request.run_id)).await?;
        let deps = self.server.deps.clone();
        Ok(Response::new(
            self.server.respond_on_query_threads(async move |sender| run.send(&deps, &sender).await),
        ))
    }

    async fn read_blob(&self, request: Request<pb::ReadBlobRequest>) -> RpcResult<Self::ReadBlobStream> {
        let (call, request) = self.server.start_call(request).await?;
        let (blob, content) = blobs::open(&self.server.deps, &call, &request).await?;
        Ok(Response::new(self.server.respond(async move |sender| blobs::send(blob, content, &sender).await)))
    }

    async fn restore_project(
        &self,
        request: Request<pb::RestoreProjectRequest>,
    ) -> RpcResult<pb::RestoreProjectResponse> {
        let (call, request) = self.server.start_call(request).await?;
        Ok(Response::new(entities::restore(&self.server.deps, &call, request).await?))
    }

    async fn begin_run(&self, request: Request<pb::BeginRunRequest>) -> RpcResult<pb::BeginRunResponse> {
        let (call, request) = self.server.start_call(request).await?;
        Ok(Response::new(stage::begin(&self.server.deps, &call, &request).await?))
    }

    async fn write_run(
        &self,
        request: Request<Streaming<pb::WriteRunRequest>>,
    ) -> RpcResult<pb::WriteRunResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let position = write::write(&self.server.deps, &call, request).await?;
        Ok(Response::new(pb::WriteRunResponse { position }))
    }

    async fn write_blob(
        &self,
        request: Request<Streaming<pb::WriteBlobRequest>>,
    ) -> RpcResult<pb::WriteBlobResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let position = blobs::write(&self.server.deps, &call, request).await?;
        Ok(Response::new(pb::WriteBlobResponse { position }))
    }

    async fn finish_run(&self, request: Request<pb::FinishRunRequest>) -> RpcResult<pb::FinishRunResponse> {
        let (call, request) = self.server.start_call(request).await?;
        audit_resource(&request.run_id);
        Ok(Response::new(Box::pin(finish::finish(&self.server.deps, &call, request)).await?))
    }
}
