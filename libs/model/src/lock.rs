//! Job locks: who runs a job. A lock is an owner token that every transaction of the job checks, so that a job that has
//! outlived its lock cannot write. Clocks only decide when another may take it, never whether a write is good.

use std::collections::BTreeMap;

use matyan_store::{Batch, Result, Snapshot, Transaction, Value};
use minicbor::{Decode, Encode};

use crate::{keys, rows};

/// A lock that was taken, as its row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    job: String,
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

/// Takes or renews the lock of a job; `None` if somebody else took it less than `stale_after_us` ago. One that was taken by a clock
/// far ahead of this one is as stale.
pub async fn lock_take(
    transaction: &mut Transaction,
    job: &str,
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
    Ok(Some(Lock { job: job.to_owned(), row }))
}

/// Makes the batch fail unless the lock is still the one that was taken.
pub fn lock_check(batch: &mut Batch, lock: &Lock) {
    batch.expect(keys::lock(&lock.job), Some(lock.row.clone()));
}

pub fn lock_release(batch: &mut Batch, lock: &Lock) {
    lock_check(batch, lock);
    batch.clear(keys::lock(&lock.job));
}

/// As `lock_release`, of a job that has done what it should.
pub fn lock_release_done(batch: &mut Batch, lock: &Lock, now_us: i64) {
    lock_release(batch, lock);
    job_done(batch, &lock.job, now_us);
}

/// Notes that a job has done what it should.
pub fn job_done(batch: &mut Batch, job: &str, now_us: i64) {
    batch.set(keys::job(job), rows::encode(&now_us));
}

/// When a job last did what it should.
pub async fn job_last_success(snapshot: &dyn Snapshot, job: &str) -> Result<Option<i64>> {
    rows::get(snapshot, &keys::job(job)).await
}

/// Who runs a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub owner: [u8; 16],
    pub taken_us: i64,
}

pub async fn lock_held(snapshot: &dyn Snapshot, job: &str) -> Result<Option<Held>> {
    let row: Option<LockRow> = rows::get(snapshot, &keys::lock(job)).await?;
    Ok(row.map(|LockRow { owner, taken_us }| Held { owner, taken_us }))
}

/// What is known of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Job {
    pub held: Option<Held>,
    pub last_success_us: Option<i64>,
}

/// Every job that is held, or has ever succeeded.
pub async fn jobs_list(snapshot: &dyn Snapshot) -> Result<BTreeMap<String, Job>> {
    let mut jobs: BTreeMap<String, Job> = BTreeMap::new();
    let locks = keys::locks();
    for (key, value) in rows::scan_all(snapshot, &locks).await? {
        let (name,): (String,) = keys::tail(&locks.start, &key)?;
        let LockRow { owner, taken_us } = rows::decode(&key, &value)?;
        jobs.entry(name).or_default().held = Some(Held { owner, taken_us });
    }
    let done = keys::jobs();
    for (key, value) in rows::scan_all(snapshot, &done).await? {
        let (name,): (String,) = keys::tail(&done.start, &key)?;
        jobs.entry(name).or_default().last_success_us = Some(rows::decode(&key, &value)?);
    }
    Ok(jobs)
}
