//! Job locks: who runs a job. A lock is an owner token that every transaction of the job checks, so that a job that has
//! outlived its lock cannot write. Clocks only decide when another may take it, never whether a write is good.

use matyan_store::{Batch, Result, Transaction, Value};
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

/// Takes or renews the lock of a job; `None` if somebody else took it later than `stale_us`.
pub async fn lock_take(
    transaction: &mut Transaction,
    job: &str,
    owner: [u8; 16],
    now_us: i64,
    stale_us: i64,
) -> Result<Option<Lock>> {
    let key = keys::lock(job);
    if let Some(value) = transaction.get(&key).await? {
        let row: LockRow = rows::decode(&key, &value)?;
        if row.owner != owner && row.taken_us > stale_us {
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
