//! For operators: repairs, jobs, what was parked, and how far the workers are. A job is a stream: it goes on while
//! somebody reads it, under a lock that each of its transactions checks.

mod blobs;
mod finish;
mod job;
mod parked;
mod reindex;
mod tombstones;
mod usage;

pub(crate) use reindex::JOB as REINDEX;

use matyan_log::Topic;
use matyan_model::{
    keys::LogTopic,
    lock::jobs_list,
    position::{applied_list, log_get},
};
use matyan_proto::admin::v1::{self as pb, admin_service_server::AdminService};
use tonic::{Request, Response, Status};

use crate::{
    Backend, Context,
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
        Ok(Response::new(pb::ListPartitionsResponse { partitions: partitions(&self.context).await? }))
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

async fn partitions(context: &Context) -> Result<Vec<pb::Partition>> {
    let info = context.log.describe(Topic::Ingestion).await?;
    let snapshot = context.store.snapshot().await?;
    let log = log_get(snapshot.as_ref(), LogTopic::Ingestion).await?.unwrap_or_default().number;
    let applied = applied_list(snapshot.as_ref(), LogTopic::Ingestion).await?;
    let partitions = (0..).zip(&info.partitions).map(|(partition, bounds)| {
        let own = applied.iter().find(|(number, own)| *number == partition && own.log == log);
        let applied = own.map_or(bounds.first, |(_, own)| own.next);
        let last = own.and_then(|(_, own)| own.last);
        pb::Partition {
            partition,
            log,
            first: bounds.first,
            end: bounds.end,
            applied,
            oldest_unapplied_us: last.filter(|_| applied < bounds.end).map(|last| last.appended_us),
        }
    });
    Ok(partitions.collect())
}
