//! Deletes what deleted runs have left in the blob store, where the control worker has not come to it. Blobs of live runs
//! that nothing refers to are a worker's daily job: it knows what may still be on its way.

use matyan_blob::{BlobKey, RunFolder};
use matyan_model::{
    ids::{RunId, RunNumber},
    keys,
    run::{Head, Tombstone, blobs_gone_put, head_get, tombstones_list},
};
use matyan_proto::admin::v1::{CleanupOrphanBlobsRequest, CleanupOrphanBlobsResponse, JobProgress};
use matyan_store::Transaction;

use super::job::Job;
use crate::{
    Context,
    call::Call,
    error::{Error, Result},
    stream::{End, Sender},
};

const JOB: &str = "cleanup-orphan-blobs";

pub(super) async fn run(
    context: &Context,
    call: &Call,
    request: CleanupOrphanBlobsRequest,
    sender: &Sender<CleanupOrphanBlobsResponse>,
) -> Result<(), End> {
    if request.unreferenced {
        return Err(Error::Unimplemented("looking for blobs that nothing refers to by a call").into());
    }
    let mut cleaning =
        Cleaning { context, call, request, progress: JobProgress::default(), deleted_bytes: 0 };
    let mut job = Job::begin(context, JOB).await?;
    let result = cleaning.all(&mut job, sender).await;
    job.end(result).await
}

struct Cleaning<'c> {
    context: &'c Context,
    call: &'c Call,
    request: CleanupOrphanBlobsRequest,
    progress: JobProgress,
    deleted_bytes: u64,
}

impl Cleaning<'_> {
    async fn all(
        &mut self,
        job: &mut Job<'_>,
        sender: &Sender<CleanupOrphanBlobsResponse>,
    ) -> Result<(), End> {
        let limit = if self.request.limit == 0 { u64::MAX } else { self.request.limit.into() };
        let mut rest = Some(keys::tombstones(self.call.project));
        while let Some(range) = rest {
            let snapshot = self.context.store.snapshot().await?;
            let (listed, next) = tombstones_list(snapshot.as_ref(), self.call.project, &range).await?;
            drop(snapshot);
            rest = next;
            for (id, tombstone) in listed {
                if self.progress.done >= limit {
                    rest = None;
                    break;
                }
                self.progress.done += 1;
                self.folder(&id, &tombstone, job, sender).await?;
            }
        }
        self.progress.total = self.progress.done;
        sender.send(self.answer(Vec::new())).await?;
        Ok(())
    }

    fn answer(&self, keys: Vec<String>) -> CleanupOrphanBlobsResponse {
        CleanupOrphanBlobsResponse { progress: Some(self.progress), keys, deleted_bytes: self.deleted_bytes }
    }

    /// Everything in the folder of a deleted run, page by page; before each it is looked whether the run is still dead.
    async fn folder(
        &mut self,
        id: &RunId,
        tombstone: &Tombstone,
        job: &mut Job<'_>,
        sender: &Sender<CleanupOrphanBlobsResponse>,
    ) -> Result<(), End> {
        let folder = RunFolder::new(&self.call.project_name, id.as_str())?;
        let (mut after, mut failed) = (None, 0);
        loop {
            job.renew().await?;
            if !self.is_dead(id, tombstone).await? {
                return Ok(());
            }
            let listing = self.context.blobs.list(folder.prefix(), after.as_ref()).await?;
            let keys: Vec<BlobKey> = listing.blobs.iter().map(|(key, _)| key.clone()).collect();
            if !keys.is_empty() {
                if !self.request.dry_run {
                    failed += self.delete(&listing.blobs, &keys).await?;
                }
                let keys = keys.into_iter().map(|key| key.as_str().to_owned()).collect();
                sender.send(self.answer(keys)).await?;
            }
            after = listing.next;
            if after.is_none() {
                break;
            }
        }
        if failed == 0 && !self.request.dry_run && !tombstone.blobs_gone {
            let number = RunNumber(tombstone.number.unwrap_or_default());
            job.write(async |mut transaction: Transaction| {
                blobs_gone_put(&mut transaction, self.call.project, id, number).await?;
                Ok((transaction, ()))
            })
            .await?;
        }
        Ok(())
    }

    async fn delete(&mut self, blobs: &[(BlobKey, matyan_blob::Listed)], keys: &[BlobKey]) -> Result<u64> {
        let failed = self.context.blobs.delete(keys).await?;
        for (key, error) in &failed {
            tracing::warn!(key = key.as_str(), %error, "a blob of a deleted run stays");
        }
        let gone = blobs.iter().filter(|(key, _)| failed.iter().all(|(failed, _)| failed != key));
        self.deleted_bytes += gone.map(|(_, meta)| meta.size).sum::<u64>();
        self.progress.failed += failed.len() as u64;
        Ok(failed.len() as u64)
    }

    async fn is_dead(&self, id: &RunId, tombstone: &Tombstone) -> Result<bool> {
        let snapshot = self.context.store.snapshot().await?;
        let head = head_get(snapshot.as_ref(), self.call.project, id).await?;
        Ok(matches!(head, Some(Head::Tombstone(now)) if now.number == tombstone.number))
    }
}
