//! Uploads payloads that wait in the store for the blob store.

use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use matyan_blob::{self as blob, BlobKey};
use matyan_model::{
    ids::{NamedProject, Project},
    keys::{self, Counter},
    parked::{ParkedItem, parked_put},
    pending_payload::{PendingPayload, pending_clear, pending_get, pending_list, pending_refuse},
    project::project_count,
    run::{Head, head_get},
};
use matyan_store::{Key, Range, Transaction, transact};

use crate::{Deps, Error};

/// Payloads listed at once.
const PAGE: usize = 64;
/// Bytes of payloads in memory, unless a single one is larger.
const MEMORY_BYTES: u64 = 16 << 20;
/// Concurrent uploads: enough to hide the latency of a remote blob store.
const UPLOADS: usize = 8;
/// Time limit of an upload, after which the blob store counts as unavailable.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Number of consecutive groups whose uploads all fail, after which a round ends.
const FAILED_GROUPS: usize = 2;
/// Payloads of a round that may have been refused for good, or because of the bucket.
const DOUBTFUL: usize = 1_000;

/// Bytes of all payloads that wait for the blob store.
pub async fn pending_payload_bytes(deps: Deps<'_>) -> Result<u64, Error> {
    let mut bytes = 0;
    let snapshot = deps.store.snapshot().await?;
    for NamedProject { number, .. } in deps.projects().await? {
        bytes += project_count(&*snapshot, number, Counter::PendingBytes).await?;
    }
    Ok(u64::try_from(bytes).unwrap_or_default())
}

/// Uploads payloads that wait for the blob store, in rounds. A round ends early if nothing succeeds, and the
/// next one continues after it, so that payloads that always fail do not stop the others.
#[derive(Default)]
pub struct PendingUploads {
    /// Where the last round ended early.
    resume: Option<(Project, Key)>,
}

/// State of a round.
#[derive(Default)]
struct Round {
    failed_groups: usize,
    failure: Option<Error>,
    has_succeeded: bool,
    doubtful: Vec<(Project, PendingPayload, blob::Error)>,
}

impl PendingUploads {
    /// Uploads every payload once. Fails if none was accepted, or if the round ends early.
    pub async fn upload(&mut self, deps: Deps<'_>) -> Result<(), Error> {
        let mut round = Round::default();
        let resume = self.resume.take();
        let projects = deps.projects().await?;
        let halves: Vec<(Range, Range)> =
            projects.iter().map(|project| split_at(project.number, resume.as_ref())).collect();
        // First the payloads that the last round has not reached.
        for (project, (_, rest)) in projects.iter().zip(&halves) {
            self.upload_range(deps, project, rest.clone(), &mut round).await?;
        }
        for (project, (reached, _)) in projects.iter().zip(&halves) {
            self.upload_range(deps, project, reached.clone(), &mut round).await?;
        }
        match round.failure {
            Some(failure) if !round.has_succeeded => Err(failure),
            _ => Ok(()),
        }
    }

    async fn upload_range(
        &mut self,
        deps: Deps<'_>,
        project: &NamedProject,
        range: Range,
        round: &mut Round,
    ) -> Result<(), Error> {
        let mut rest = Some(range).filter(|range| range.start < range.end);
        while let Some(range) = rest {
            let (page, next) = pending_list(&*deps.store.snapshot().await?, &range, PAGE).await?;
            rest = next;
            for group in groups(&page) {
                match upload_group(deps, project, group, round).await {
                    Ok(()) => round.failed_groups = 0,
                    Err(error) => {
                        round.failed_groups += 1;
                        if let Some(last) = group.last().filter(|_| round.failed_groups >= FAILED_GROUPS) {
                            let key = keys::pending_payload(project.number, &last.blob.key);
                            self.resume = Some((project.number, key));
                            return Err(error);
                        }
                        round.failure = Some(error);
                    }
                }
                if round.has_succeeded {
                    for (project, payload, error) in std::mem::take(&mut round.doubtful) {
                        refuse(deps, project, &payload, &error).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The payloads of a project that the last round has reached, and the rest. `resume` is the last reached key.
fn split_at(project: Project, resume: Option<&(Project, Key)>) -> (Range, Range) {
    let all = keys::pending_payloads(project);
    match resume {
        Some((of, after)) if *of == project => {
            (Range::new(all.start.clone(), after.clone()), all.after(after))
        }
        Some((of, _)) if *of > project => (all.clone(), Range::new(all.end.clone(), all.end)),
        _ => (Range::new(all.start.clone(), all.start.clone()), all),
    }
}

/// Splits payloads into groups that fit in memory together.
fn groups(payloads: &[PendingPayload]) -> Vec<&[PendingPayload]> {
    let mut groups = Vec::new();
    let mut start = 0;
    let mut bytes = 0;
    for (at, payload) in payloads.iter().enumerate() {
        let is_full = bytes + payload.blob.size > MEMORY_BYTES || at - start == UPLOADS;
        if is_full && at > start {
            groups.push(&payloads[start..at]);
            start = at;
            bytes = 0;
        }
        bytes += payload.blob.size;
    }
    groups.extend(Some(&payloads[start..]).filter(|rest| !rest.is_empty()));
    groups
}

enum Upload {
    /// The blob store has accepted the payload.
    Done,
    /// Nothing had to be uploaded, or the blob store will never accept it.
    Settled,
    /// The blob store does not accept the payload, or accepts none.
    Doubtful(blob::Error),
}

/// Fails if every upload of the group has failed.
async fn upload_group(
    deps: Deps<'_>,
    project: &NamedProject,
    group: &[PendingPayload],
    round: &mut Round,
) -> Result<(), Error> {
    let mut uploads: Vec<BoxFuture<'_, (&PendingPayload, Result<Upload, Error>)>> = Vec::new();
    for payload in group {
        uploads.push(Box::pin(async move { (payload, upload(deps, project, payload).await) }));
    }
    let answers: Vec<_> = stream::iter(uploads).buffer_unordered(UPLOADS).collect().await;
    let mut failure = None;
    let mut is_working = false;
    for (payload, answer) in answers {
        let error = match answer {
            Ok(Upload::Done) => {
                is_working = true;
                round.has_succeeded = true;
                continue;
            }
            Ok(Upload::Settled) => continue,
            Ok(Upload::Doubtful(error)) => {
                if round.doubtful.len() < DOUBTFUL {
                    round.doubtful.push((project.number, payload.clone(), error.clone()));
                }
                error.into()
            }
            Err(error) => error,
        };
        let run = payload.run_id.as_str();
        let key = payload.blob.key.as_str();
        tracing::warn!(run, key, %error, "failed to upload pending payload; will retry");
        failure = Some(error);
    }
    match failure {
        Some(error) if !is_working => Err(error),
        _ => Ok(()),
    }
}

async fn upload(deps: Deps<'_>, project: &NamedProject, payload: &PendingPayload) -> Result<Upload, Error> {
    let snapshot = deps.store.snapshot().await?;
    let is_deleted =
        matches!(head_get(&*snapshot, project.number, &payload.run_id).await?, Some(Head::Tombstone(_)));
    if !is_deleted {
        if payload.refusal.is_some() {
            return Ok(Upload::Settled);
        }
        let Some(content) = pending_get(&*snapshot, project.number, &payload.blob).await? else {
            return Ok(Upload::Settled);
        };
        drop(snapshot);
        match put(deps, project, payload, content).await {
            Ok(()) => {}
            Err(error) if error.is_of_blob() => {
                refuse(deps, project.number, payload, &error).await?;
                return Ok(Upload::Settled);
            }
            Err(error) if error.is_doubtful() => return Ok(Upload::Doubtful(error)),
            Err(error) => return Err(error.into()),
        }
    }
    transact(deps.store, async |mut transaction: Transaction| {
        let head = keys::head(project.number, &payload.run_id);
        let head = transaction.get(&head).await?.map(|row| Head::decode(&head, &row)).transpose()?;
        // A run that was recreated in the meantime needs the payload.
        if !is_deleted || matches!(head, Some(Head::Tombstone(_))) {
            pending_clear(&mut transaction, project.number, &payload.blob).await?;
        }
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    Ok(if is_deleted { Upload::Settled } else { Upload::Done })
}

async fn put(
    deps: Deps<'_>,
    project: &NamedProject,
    payload: &PendingPayload,
    content: Bytes,
) -> matyan_blob::Result<()> {
    let key = BlobKey::in_project(&project.name, &payload.blob.key)?;
    let stream = futures::future::ready(Ok(content)).into_stream().boxed();
    let put = deps.blobs.put(&key, "application/cbor", Some(payload.blob.size), stream);
    match tokio::time::timeout(UPLOAD_TIMEOUT, put).await {
        Ok(answer) => answer.map(drop),
        Err(_) => {
            let seconds = UPLOAD_TIMEOUT.as_secs();
            Err(matyan_blob::Error::unavailable(format!("no response within {seconds} s")))
        }
    }
}

/// Gives up on a payload, which stays readable, and lists its item as parked.
async fn refuse(
    deps: Deps<'_>,
    project: Project,
    payload: &PendingPayload,
    error: &matyan_blob::Error,
) -> Result<(), Error> {
    let reason = error.to_string();
    let parked = ParkedItem {
        run_id: payload.run_id.clone(),
        at: payload.at,
        reason: format!("{reason}; the payload of the object stays in the store"),
        received_us: payload.received_us,
        item: Bytes::new(),
        record: None,
    };
    transact(deps.store, async |mut transaction: Transaction| {
        if pending_refuse(&mut transaction, project, payload, &reason).await? {
            parked_put(transaction.batch(), project, &parked);
        }
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    let run = payload.run_id.as_str();
    let key = payload.blob.key.as_str();
    tracing::warn!(run, key, reason, "the blob store refused a payload; keeping it in the store");
    Ok(())
}
