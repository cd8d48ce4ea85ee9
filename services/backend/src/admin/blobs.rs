//! Deletes blobs of deleted runs that the control worker has not reached, and, on request,
//! orphaned blobs in the folders of live runs, which a worker otherwise deletes once a day.

use matyan_blob::{BlobKey, ListedBlob, RunFolder};
use matyan_maintenance::{Job, Orphans};
use matyan_model::{
    ids::{NamedProject, RunId, RunNumber},
    keys,
    run::{Head, Tombstone, blobs_gone_put, head_get, runs_list, tombstones_list},
};
use matyan_proto::admin::v1::{CleanupOrphanBlobsRequest, CleanupOrphanBlobsResponse, JobProgress};
use matyan_store::{Scan, Transaction};

use super::job;
use crate::{
    Context,
    call::Call,
    error::{Error, Result},
    stream::{End, Sender},
};

const JOB: &str = "cleanup-orphan-blobs";

/// Runs examined between two messages.
const PAGE: Scan = Scan { rows: 100, bytes: 1 << 20, reverse: false };

pub(super) async fn run(
    context: &Context,
    call: &Call,
    request: CleanupOrphanBlobsRequest,
    sender: &Sender<CleanupOrphanBlobsResponse>,
) -> Result<(), End> {
    let mut job = job::begin(context, JOB).await?.dry(request.dry_run);
    let mut cleaning =
        Cleaning { context, call, request, progress: JobProgress::default(), deleted_bytes: 0 };
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
            // Dropped first, as deleting may take longer than a snapshot lives.
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
        if self.request.unreferenced {
            self.unreferenced(job, sender).await?;
        }
        // The total is known only at the end.
        self.progress.total = self.progress.done;
        sender.send(self.answer(Vec::new())).await?;
        Ok(())
    }

    /// Deletes the orphaned blobs of live runs. Each run counts towards the progress.
    async fn unreferenced(
        &mut self,
        job: &mut Job<'_>,
        sender: &Sender<CleanupOrphanBlobsResponse>,
    ) -> Result<(), End> {
        let Context { store, log, blobs, .. } = self.context;
        let orphans =
            Orphans::new(store.as_ref(), log.as_ref(), blobs.as_ref(), (self.context.clock)()).await?;
        let project = self.call.named();
        let mut rest = Some(keys::documents(project.number));
        while let Some(range) = rest {
            let snapshot = store.snapshot().await?;
            let page = runs_list(snapshot.as_ref(), project.number, &range, PAGE).await?;
            drop(snapshot);
            rest = page.rest;
            let mut keys = Vec::new();
            for (number, document) in page.runs {
                job.renew().await?;
                self.progress.done += 1;
                let id = RunId::new(document.props.run_id);
                match self.unreferenced_of(&orphans, (&project, &id, number), &mut keys).await {
                    // An unreadable row may refer to any blob of its run,
                    // but not to those of another.
                    Err(matyan_maintenance::Error::Blobs(error)) => {
                        tracing::warn!(run = id.as_str(), %error, "failed to find orphaned blobs of run; skipped");
                        self.progress.failed += 1;
                    }
                    looked => looked?,
                }
            }
            sender.send(self.answer(keys)).await?;
        }
        Ok(())
    }

    async fn unreferenced_of(
        &mut self,
        orphans: &Orphans<'_>,
        (project, id, number): (&NamedProject, &RunId, RunNumber),
        keys: &mut Vec<String>,
    ) -> Result<(), matyan_maintenance::Error> {
        for orphan in orphans.of_run(project, id, number).await? {
            if self.request.dry_run || self.delete_orphan(orphans, id, number, &orphan).await? {
                keys.push(orphan.0.as_str().to_owned());
            }
        }
        Ok(())
    }

    async fn delete_orphan(
        &mut self,
        orphans: &Orphans<'_>,
        id: &RunId,
        number: RunNumber,
        orphan: &(BlobKey, ListedBlob),
    ) -> Result<bool, matyan_maintenance::Error> {
        match orphans.delete(self.call.project, id, number, orphan).await? {
            Ok(is_gone) => {
                self.deleted_bytes += if is_gone { orphan.1.size } else { 0 };
                Ok(is_gone)
            }
            Err(error) => {
                tracing::warn!(key = orphan.0.as_str(), %error, "failed to delete orphaned blob");
                self.progress.failed += 1;
                Ok(false)
            }
        }
    }

    fn answer(&self, keys: Vec<String>) -> CleanupOrphanBlobsResponse {
        CleanupOrphanBlobsResponse { progress: Some(self.progress), keys, deleted_bytes: self.deleted_bytes }
    }

    /// Deletes the folder of a deleted run page by page, and checks before each page that
    /// the run is still deleted.
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
        // The tombstone is marked only if none of the run's blobs is left.
        if failed == 0 && !self.request.dry_run && !tombstone.blobs_gone {
            let number = RunNumber(tombstone.number.unwrap_or_default());
            job.write(async |mut transaction: Transaction| {
                blobs_gone_put(&mut transaction, self.call.project, id, number).await?;
                Ok::<_, Error>((transaction, ()))
            })
            .await?;
        }
        Ok(())
    }

    async fn delete(&mut self, blobs: &[(BlobKey, ListedBlob)], keys: &[BlobKey]) -> Result<u64> {
        let failed = self.context.blobs.delete(keys).await?;
        for (key, error) in &failed {
            tracing::warn!(key = key.as_str(), %error, "failed to delete blob of deleted run");
        }
        let gone = blobs.iter().filter(|(key, _)| failed.iter().all(|(failed, _)| failed != key));
        self.deleted_bytes += gone.map(|(_, meta)| meta.size).sum::<u64>();
        self.progress.failed += failed.len() as u64;
        Ok(failed.len() as u64)
    }

    async fn is_dead(&self, id: &RunId, tombstone: &Tombstone) -> Result<bool> {
        let snapshot = self.context.store.snapshot().await?;
        let head = head_get(snapshot.as_ref(), self.call.project, id).await?;
        // The id may have been given to another run since, which has another number.
        Ok(matches!(head, Some(Head::Tombstone(now)) if now.number == tombstone.number))
    }
}
