//! Operator calls: repairs, jobs, parked items, and worker progress. A job is a stream: it runs
//! as long as its client reads, under a lock that each of its transactions checks.

mod blobs;
mod finish;
mod job;
mod parked;
mod partitions;
mod reindex;
mod tombstones;
mod usage;

pub(crate) use reindex::JOB as REINDEX;

use matyan_model::lock::jobs_list;
use matyan_proto::admin::v1::{self as pb, admin_service_server::AdminService};
use tonic::{Request, Response, Status};

use crate::{
    Backend,
    call::Call,
    error::{Error, Result},
    stream::Answers,
};

#[tonic::async_trait]
impl AdminService for Backend {
    type ReindexStream = Answers<pb::ReindexResponse>;
    type FinishStaleStream = Answers<pb::FinishStaleResponse>;
    type CleanupOrphanBlobsStream = Answers<pb::CleanupOrphanBlobsResponse>;
    type CleanupTombstonesStream = Answers<pb::CleanupTombstonesResponse>;

    async fn reindex(
        &self,
        request: Request<pb::ReindexRequest>,
    ) -> Result<Response<Self::ReindexStream>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let request = request.into_inner();
        let context = self.context.clone();
        Ok(Response::new(
            self.answers(async move |sender| reindex::run(&context, &call, request, &sender).await),
        ))
    }

    async fn finish_stale(
        &self,
        request: Request<pb::FinishStaleRequest>,
    ) -> Result<Response<Self::FinishStaleStream>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let request = request.into_inner();
        finish::check(&request)?;
        let context = self.context.clone();
        Ok(Response::new(
            self.answers(async move |sender| finish::run(&context, &call, request, &sender).await),
        ))
    }

    async fn cleanup_orphan_blobs(
        &self,
        request: Request<pb::CleanupOrphanBlobsRequest>,
    ) -> Result<Response<Self::CleanupOrphanBlobsStream>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let request = request.into_inner();
        let context = self.context.clone();
        Ok(Response::new(
            self.answers(async move |sender| blobs::run(&context, &call, request, &sender).await),
        ))
    }

    async fn cleanup_tombstones(
        &self,
        request: Request<pb::CleanupTombstonesRequest>,
    ) -> Result<Response<Self::CleanupTombstonesStream>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let request = request.into_inner();
        tombstones::check(&request)?;
        let context = self.context.clone();
        Ok(Response::new(
            self.answers(async move |sender| tombstones::run(&context, &call, request, &sender).await),
        ))
    }

    async fn list_parked_items(
        &self,
        request: Request<pb::ListParkedItemsRequest>,
    ) -> Result<Response<pb::ListParkedItemsResponse>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        Ok(Response::new(parked::list(&self.context, &call, &request.into_inner()).await?))
    }

    async fn delete_parked_items(
        &self,
        request: Request<pb::DeleteParkedItemsRequest>,
    ) -> Result<Response<pb::DeleteParkedItemsResponse>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let deleted = parked::delete(&self.context, &call, &request.into_inner().ids).await?;
        Ok(Response::new(pb::DeleteParkedItemsResponse { deleted }))
    }

    async fn list_partitions(
        &self,
        request: Request<pb::ListPartitionsRequest>,
    ) -> Result<Response<pb::ListPartitionsResponse>, Status> {
        Call::begin(&self.context, request.metadata()).await?;
        Ok(Response::new(pb::ListPartitionsResponse { partitions: partitions::list(&self.context).await? }))
    }

    async fn skip_lost_records(
        &self,
        request: Request<pb::SkipLostRecordsRequest>,
    ) -> Result<Response<pb::SkipLostRecordsResponse>, Status> {
        Call::begin(&self.context, request.metadata()).await?;
        let records = partitions::skip_lost(&self.context, request.into_inner().partition).await?;
        Ok(Response::new(pb::SkipLostRecordsResponse { records }))
    }

    async fn list_jobs(
        &self,
        request: Request<pb::ListJobsRequest>,
    ) -> Result<Response<pb::ListJobsResponse>, Status> {
        Call::begin(&self.context, request.metadata()).await?;
        let snapshot = self.context.store.snapshot().await.map_err(Error::from)?;
        let jobs = jobs_list(snapshot.as_ref()).await.map_err(Error::from)?;
        let jobs = jobs.into_iter().map(|(name, job)| pb::Job {
            name,
            holder: job.held.map(|held| hex::encode(held.owner)).unwrap_or_default(),
            started_us: job.held.map(|held| held.taken_us),
            last_success_us: job.last_success_us,
        });
        Ok(Response::new(pb::ListJobsResponse { jobs: jobs.collect() }))
    }

    async fn usage(&self, request: Request<pb::UsageRequest>) -> Result<Response<pb::UsageResponse>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let largest = request.into_inner().largest_runs;
        Ok(Response::new(usage::usage(&self.context, &call, largest).await?))
    }
}
