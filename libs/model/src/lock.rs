//! Job locks: they ensure that one process at a time runs a job in a project. A lock is an owner token that
//! every transaction of the job checks, so that a job that has lost its lock cannot write.
//! Clocks only decide when another process may take over the lock, never whether a write is
//! valid.

use std::collections::BTreeMap;

use matyan_store::{Batch, Result, Snapshot, Transaction, Value};
use minicbor::{Decode, Encode};

use crate::{
    ids::{Job, Project, RunNumber},
    keys, rows,
};

/// A lock held by a job, with the value of its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    job: Job,
    row: Value,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct LockRow {
    #[cbor(n(0), with = "minicbor::bytes")]
    owner: [u8; 16],
    #[n(1)]
    taken_us: i64,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct CursorRow {
    #[n(0)]
    project: u32,
    #[n(1)]
    number: u64,
}

/// Takes or renews the lock of a job. Returns `None` if another owner took it less than
/// `stale_after_us` ago. A lock dated that far in the future by a wrong clock counts as stale,
/// too.
pub async fn lock_take(
    transaction: &mut Transaction,
    job: Job,
    owner: [u8; 16],
    now_us: i64,
    stale_after_us: u64,
) -> Result<Option<Lock>> {
    let key = keys::lock(job);
    if let Some(value) = transaction.get(&key).await? {
        let row: LockRow = rows::decode(&key, &value)?;
        if row.owner != owner && now_us.abs_diff(row.taken_us) < stale_after_us {
            return Ok(None);
        }
    }
    let row = rows::encode(&LockRow { owner, taken_us: now_us });
    transaction.batch().set(key, row.clone());
    Ok(Some(Lock { job, row }))
}

/// Makes the batch fail unless the lock is still held.
pub fn lock_check(batch: &mut Batch, lock: &Lock) {
    batch.expect(keys::lock(lock.job), Some(lock.row.clone()));
}

pub fn lock_release(batch: &mut Batch, lock: &Lock) {
    lock_check(batch, lock);
    batch.clear(keys::lock(lock.job));
}

/// Releases the lock and records that the job succeeded.
pub fn lock_release_success(batch: &mut Batch, lock: &Lock, now_us: i64) {
    lock_release(batch, lock);
    job_success_put(batch, lock.job, now_us);
}

/// Records that a job succeeded.
pub fn job_success_put(batch: &mut Batch, job: Job, now_us: i64) {
    batch.set(keys::job(job), rows::encode(&now_us));
}

/// When a job last succeeded.
pub async fn job_last_success(snapshot: &dyn Snapshot, job: Job) -> Result<Option<i64>> {
    rows::get(snapshot, &keys::job(job)).await
}

/// The last run that an interrupted job has examined.
pub async fn job_cursor_get(snapshot: &dyn Snapshot, job: Job) -> Result<Option<(Project, RunNumber)>> {
    let row: Option<CursorRow> = rows::get(snapshot, &keys::job_cursor(job)).await?;
    Ok(row.map(|CursorRow { project, number }| (Project(project), RunNumber(number))))
}

/// Writes the last run that a job has examined, or that it has examined all.
pub fn job_cursor_put(batch: &mut Batch, job: Job, last: Option<(Project, RunNumber)>) {
    let key = keys::job_cursor(job);
    match last {
        Some((Project(project), RunNumber(number))) => {
            batch.set(key, rows::encode(&CursorRow { project, number }));
        }
        None => {
            batch.clear(key);
        }
    }
}

/// When a job that has no cursor first ran in this store.
pub async fn job_begun_get(snapshot: &dyn Snapshot, job: Job) -> Result<Option<i64>> {
    rows::get(snapshot, &keys::job_cursor(job)).await
}

/// Writes when a job that has no cursor first ran, in the place of the cursor.
pub fn job_begun_put(batch: &mut Batch, job: Job, now_us: i64) {
    batch.set(keys::job_cursor(job), rows::encode(&now_us));
}

/// The current owner of a job's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockHolder {
    pub owner: [u8; 16],
    pub taken_us: i64,
}

pub async fn lock_holder(snapshot: &dyn Snapshot, job: Job) -> Result<Option<LockHolder>> {
    let row: Option<LockRow> = rows::get(snapshot, &keys::lock(job)).await?;
    Ok(row.map(|LockRow { owner, taken_us }| LockHolder { owner, taken_us }))
}

/// The state of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobState {
    pub holder: Option<LockHolder>,
    pub last_success_us: Option<i64>,
}

/// Every job that is running or has ever succeeded, by project and name.
pub async fn jobs_list(snapshot: &dyn Snapshot) -> Result<BTreeMap<(Project, String), JobState>> {
    let mut jobs: BTreeMap<(Project, String), JobState> = BTreeMap::new();
    let locks = keys::locks();
    for (key, value) in rows::scan_all(snapshot, &locks).await? {
        let (name, project) = keys::decode_job(&locks, &key)?;
        let LockRow { owner, taken_us } = rows::decode(&key, &value)?;
        jobs.entry((project, name)).or_default().holder = Some(LockHolder { owner, taken_us });
    }
    let done = keys::jobs();
    for (key, value) in rows::scan_all(snapshot, &done).await? {
        let (name, project) = keys::decode_job(&done, &key)?;
        jobs.entry((project, name)).or_default().last_success_us = Some(rows::decode(&key, &value)?);
    }
    Ok(jobs)
}

/// Clears the locks and successes of the jobs of a project.
pub async fn jobs_clear(snapshot: &dyn Snapshot, project: Project, batch: &mut Batch) -> Result<()> {
    for range in [keys::locks(), keys::jobs()] {
        for (key, _) in rows::scan_all(snapshot, &range).await? {
            if keys::decode_job(&range, &key)?.1 == project {
                batch.clear(key);
            }
        }
    }
    Ok(())
}
