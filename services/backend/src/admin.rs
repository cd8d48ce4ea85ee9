//! Operator calls: repairs, jobs, parked items, and worker progress. A job is a stream: it runs
//! as long as its client reads, under a lock that each of its transactions checks.

mod job;
mod orphaned_blobs;
mod parked;
mod partitions;
mod quarantine;
mod reindex;
mod stale_runs;
mod tombstones;
mod usage;

pub(crate) use reindex::JOB as REINDEX;

use matyan_proto::admin::v1::{self as pb, admin_service_server::AdminService};
use tonic::{Request, Response};

use crate::server::{
    RpcResult, Server,
    audit::{audit_no_effect, audit_resource},
    stream::ResponseStream,
};

/// The service of operator calls.
pub(crate) struct AdminApi {
    server: Server,
}

impl AdminApi {
    pub(crate) fn new(server: Server) -> Self {
        Self { server }
    }
}

#[tonic::async_trait]
impl AdminService for AdminApi {
    type ReindexStream = ResponseStream<pb::ReindexResponse>;
    type FinishStaleStream = ResponseStream<pb::FinishStaleResponse>;
    type CleanupOrphanBlobsStream = ResponseStream<pb::CleanupOrphanBlobsResponse>;
    type CleanupTombstonesStream = ResponseStream<pb::CleanupTombstonesResponse>;

    async fn reindex(&self, request: Request<pb::ReindexRequest>) -> RpcResult<Self::ReindexStream> {
        let (call, request) = self.server.start_call(request).await?;
        let deps = self.server.deps.clone();
        Ok(Response::new(
            self.server
                .respond_with_job(async move |sender| reindex::run(&deps, &call, request, &sender).await),
        ))
    }

    async fn finish_stale(
        &self,
        request: Request<pb::FinishStaleRequest>,
    ) -> RpcResult<Self::FinishStaleStream> {
        let (call, request) = self.server.start_call(request).await?;
        stale_runs::check(&request)?;
        let deps = self.server.deps.clone();
        Ok(Response::new(
            self.server
                .respond_with_job(async move |sender| stale_runs::run(&deps, &call, request, &sender).await),
        ))
    }

    async fn cleanup_orphan_blobs(
        &self,
        request: Request<pb::CleanupOrphanBlobsRequest>,
    ) -> RpcResult<Self::CleanupOrphanBlobsStream> {
        let (call, request) = self.server.start_call(request).await?;
        let deps = self.server.deps.clone();
        Ok(Response::new(
            self.server.respond_with_job(async move |sender| {
                orphaned_blobs::run(&deps, &call, request, &sender).await
            }),
        ))
    }

    async fn cleanup_tombstones(
        &self,
        request: Request<pb::CleanupTombstonesRequest>,
    ) -> RpcResult<Self::CleanupTombstonesStream> {
        let (call, request) = self.server.start_call(request).await?;
        tombstones::check(&request)?;
        let deps = self.server.deps.clone();
        Ok(Response::new(
            self.server
                .respond_with_job(async move |sender| tombstones::run(&deps, &call, request, &sender).await),
        ))
    }

    async fn list_parked_items(
        &self,
        request: Request<pb::ListParkedItemsRequest>,
    ) -> RpcResult<pb::ListParkedItemsResponse> {
        let (call, request) = self.server.start_call(request).await?;
        Ok(Response::new(parked::list(&self.server.deps, &call, &request).await?))
    }

    async fn delete_parked_items(
        &self,
        request: Request<pb::DeleteParkedItemsRequest>,
    ) -> RpcResult<pb::DeleteParkedItemsResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let deleted = parked::delete(&self.server.deps, &call, &request).await?;
        if deleted == 0 {
            audit_no_effect();
        }
        Ok(Response::new(pb::DeleteParkedItemsResponse { deleted }))
    }

    async fn park_run(&self, request: Request<pb::ParkRunRequest>) -> RpcResult<pb::ParkRunResponse> {
        let (call, request) = self.server.start_call(request).await?;
        audit_resource(&request.run_id);
        quarantine::park(&self.server.deps, &call, &request).await?;
        Ok(Response::new(pb::ParkRunResponse {}))
    }

    async fn resume_run(&self, request: Request<pb::ResumeRunRequest>) -> RpcResult<pb::ResumeRunResponse> {
        let (call, request) = self.server.start_call(request).await?;
        audit_resource(&request.run_id);
        quarantine::resume(&self.server.deps, &call, &request.run_id).await?;
        Ok(Response::new(pb::ResumeRunResponse {}))
    }

    async fn list_quarantined_runs(
        &self,
        request: Request<pb::ListQuarantinedRunsRequest>,
    ) -> RpcResult<pb::ListQuarantinedRunsResponse> {
        let (call, request) = self.server.start_call(request).await?;
        Ok(Response::new(quarantine::list(&self.server.deps, &call, &request).await?))
    }

    async fn list_partitions(
        &self,
        request: Request<pb::ListPartitionsRequest>,
    ) -> RpcResult<pb::ListPartitionsResponse> {
        self.server.start_call(request).await?;
        Ok(Response::new(pb::ListPartitionsResponse {
            partitions: partitions::list(&self.server.deps).await?,
        }))
    }

    async fn skip_lost_records(
        &self,
        request: Request<pb::SkipLostRecordsRequest>,
    ) -> RpcResult<pb::SkipLostRecordsResponse> {
        let (_, request) = self.server.start_call(request).await?;
        let records = partitions::skip_lost(&self.server.deps, request.partition).await?;
        Ok(Response::new(pb::SkipLostRecordsResponse { records }))
    }

    async fn list_jobs(&self, request: Request<pb::ListJobsRequest>) -> RpcResult<pb::ListJobsResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let jobs = job::list(&self.server.deps, &call, &request).await?;
        Ok(Response::new(pb::ListJobsResponse { jobs }))
    }

    async fn usage(&self, request: Request<pb::UsageRequest>) -> RpcResult<pb::UsageResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let largest = request.largest_runs;
        Ok(Response::new(usage::usage(&self.server.deps, &call, largest).await?))
    }
}
