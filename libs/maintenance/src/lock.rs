//! Locks of jobs in the store. Only the holder of the lock can write: each
//! commit checks the lock, so a job that has lost it cannot write, even if its clock is wrong.

use matyan_model::{
    ids::{Job, Project},
    lock::{Lock, lock_check, lock_holder, lock_release, lock_release_success, lock_take},
};
use matyan_store::{Batch, Commit, Store, Transaction, transact};

use crate::{Clock, Error};

/// Age after which a lock that was not renewed may be taken over.
const STALE_US: u64 = 300_000_000;

pub struct JobLock<'s> {
    store: &'s dyn Store,
    clock: &'s Clock,
    job: Job,
    owner: [u8; 16],
    lock: Lock,
    taken_us: i64,
    is_dry: bool,
}

impl<'s> JobLock<'s> {
    /// Takes the lock of a job in a project, or fails with its current holder. `owner` must be
    /// unique to this job.
    pub async fn acquire(
        store: &'s dyn Store,
        clock: &'s Clock,
        name: &'static str,
        project: Project,
        owner: [u8; 16],
    ) -> Result<Self, Error> {
        let job = Job::new(name, project);
        let taken_us = clock();
        let lock = acquire(store, job, owner, taken_us).await?;
        Ok(Self { store, clock, job, owner, lock, taken_us, is_dry: false })
    }

    /// Marks a dry run, or the run of another job that holds this lock. Neither counts as a success of the job.
    #[must_use]
    pub fn dry(self, is_dry: bool) -> Self {
        Self { is_dry, ..self }
    }

    pub(crate) fn now_us(&self) -> i64 {
        (self.clock)()
    }

    /// Renews the lock periodically, so that it is not taken over during a long job.
    pub async fn renew(&mut self) -> Result<(), Error> {
        let now_us = self.now_us();
        if now_us.abs_diff(self.taken_us) > STALE_US / 10 {
            self.lock = acquire(self.store, self.job, self.owner, now_us).await?;
            self.taken_us = now_us;
        }
        Ok(())
    }

    /// Commits what `decide` writes, provided that the lock is still held, and returns the
    /// result of `decide`.
    pub async fn write<T, E, F, D>(&mut self, mut decide: F) -> Result<T, E>
    where
        E: From<Error> + From<matyan_store::Error>,
        F: FnMut(Transaction) -> D,
        D: Future<Output = Result<(Transaction, T), E>>,
    {
        self.renew().await?;
        loop {
            let transaction = Transaction::new(self.store.snapshot().await?);
            let (mut transaction, answer) = decide(transaction).await?;
            if transaction.batch().mutations.is_empty() {
                return Ok(answer);
            }
            lock_check(transaction.batch(), &self.lock);
            match self.store.commit(transaction.into_batch()).await? {
                Commit::Done { .. } => return Ok(answer),
                // Either the lock was lost, or something that `decide` read has changed since, so
                // `decide` is repeated.
                Commit::Conflict => self.check().await?,
            }
        }
    }

    /// Fails if the lock has been taken over.
    async fn check(&self) -> Result<(), Error> {
        let held = lock_holder(&*self.store.snapshot().await?, self.job).await?;
        match held {
            Some(held) if held.owner == self.owner => Ok(()),
            held => Err(Error::Busy { job: self.job.name, holder: held.map(|held| held.owner) }),
        }
    }

    /// Releases the lock. A conflict means that it has been taken over, so there is nothing
    /// left to release.
    pub async fn release<T, E>(self, result: Result<T, E>) -> Result<T, E>
    where
        E: From<matyan_store::Error>,
    {
        let mut batch = Batch::default();
        match &result {
            Ok(_) if !self.is_dry => lock_release_success(&mut batch, &self.lock, self.now_us()),
            Ok(_) | Err(_) => lock_release(&mut batch, &self.lock),
        }
        self.store.commit(batch).await?;
        result
    }
}

/// Turns the error of a job whose lock is held into success: another process does the work.
pub(crate) fn skip_busy(outcome: Result<(), Error>) -> Result<(), Error> {
    match outcome {
        Err(Error::Busy { .. }) => Ok(()),
        outcome => outcome,
    }
}

async fn acquire(store: &dyn Store, job: Job, owner: [u8; 16], now_us: i64) -> Result<Lock, Error> {
    let (taken, _) = transact(store, async |mut transaction: Transaction| {
        let taken = lock_take(&mut transaction, job, owner, now_us, STALE_US).await?;
        Ok::<_, Error>((transaction, taken))
    })
    .await?;
    match taken {
        Some(lock) => Ok(lock),
        None => {
            let held = lock_holder(&*store.snapshot().await?, job).await?;
            Err(Error::Busy { job: job.name, holder: held.map(|held| held.owner) })
        }
    }
}
