//! Deletes blobs of deleted runs that the control worker has not reached, and, on request,
//! orphaned blobs in the folders of live runs, which a worker otherwise deletes once a day.

use matyan_maintenance::{BlobEvent, CLEANUP_ORPHAN_BLOBS, JobLock, LeftoverBlobs, OrphanedBlobs};
use matyan_proto::admin::v1::{CleanupOrphanBlobsRequest, CleanupOrphanBlobsResponse, JobProgress};

use super::job;
use crate::server::{
    call::Call,
    deps::Deps,
    error::Result,
    stream::{Sender, StreamEnd},
};

pub(super) async fn run(
    deps: &Deps,
    call: &Call,
    request: CleanupOrphanBlobsRequest,
    sender: &Sender<CleanupOrphanBlobsResponse>,
) -> Result<(), StreamEnd> {
    let mut lock = job::lock(deps, CLEANUP_ORPHAN_BLOBS, call.project).await?.dry(request.dry_run);
    let mut cleanup = Cleanup { deps, call, request, progress: JobProgress::default(), deleted_bytes: 0 };
    let result = cleanup.run(&mut lock, sender).await;
    lock.release(result).await
}

struct Cleanup<'c> {
    deps: &'c Deps,
    call: &'c Call,
    request: CleanupOrphanBlobsRequest,
    progress: JobProgress,
    deleted_bytes: u64,
}

impl Cleanup<'_> {
    async fn run(
        &mut self,
        lock: &mut JobLock<'_>,
        sender: &Sender<CleanupOrphanBlobsResponse>,
    ) -> Result<(), StreamEnd> {
        self.delete_leftover_blobs(lock, sender).await?;
        if self.request.unreferenced {
            self.delete_unreferenced_blobs(lock, sender).await?;
        }
        // The total is known only at the end.
        self.progress.total = self.progress.done;
        sender.send(self.response(Vec::new())).await?;
        Ok(())
    }

    /// Deletes the blobs of deleted runs. Each run counts towards the progress.
    async fn delete_leftover_blobs(
        &mut self,
        lock: &mut JobLock<'_>,
        sender: &Sender<CleanupOrphanBlobsResponse>,
    ) -> Result<(), StreamEnd> {
        let max_runs = if self.request.limit == 0 { u64::MAX } else { self.request.limit.into() };
        let deps = job::maintenance_deps(self.deps);
        let mut leftover =
            LeftoverBlobs::new(deps, self.call.named_project(), self.request.dry_run, max_runs);
        while let Some(page) = leftover.next_page(lock).await? {
            self.progress.done = leftover.runs();
            if !self.request.dry_run {
                self.progress.failed += page.failed.len() as u64;
                self.deleted_bytes += page.deleted().map(|(_, blob)| blob.size).sum::<u64>();
            }
            let keys = page.blobs.iter().map(|(key, _)| key.as_str().to_owned()).collect();
            sender.send(self.response(keys)).await?;
        }
        self.progress.done = leftover.runs();
        Ok(())
    }

    /// Deletes the orphaned blobs of live runs. Each run counts towards the progress.
    async fn delete_unreferenced_blobs(
        &mut self,
        lock: &mut JobLock<'_>,
        sender: &Sender<CleanupOrphanBlobsResponse>,
    ) -> Result<(), StreamEnd> {
        let deps = job::maintenance_deps(self.deps);
        let orphaned_blobs = OrphanedBlobs::new(deps, vec![self.call.named_project()]).await?;
        let mut orphaned_blobs = orphaned_blobs.dry(self.request.dry_run);
        loop {
            let mut keys = Vec::new();
            let mut observe = |event: BlobEvent<'_>| match event {
                BlobEvent::Found { key } => keys.push(key.as_str().to_owned()),
                BlobEvent::Deleted { key, bytes } => {
                    keys.push(key.as_str().to_owned());
                    self.deleted_bytes += bytes;
                }
                BlobEvent::BlobFailed | BlobEvent::RunFailed => self.progress.failed += 1,
            };
            let Some(runs) = orphaned_blobs.next_page(Some(lock), &mut observe).await? else { break };
            self.progress.done += runs;
            sender.send(self.response(keys)).await?;
        }
        Ok(())
    }

    fn response(&self, keys: Vec<String>) -> CleanupOrphanBlobsResponse {
        CleanupOrphanBlobsResponse { progress: Some(self.progress), keys, deleted_bytes: self.deleted_bytes }
    }
}
