//! A job under its lock. Whoever holds the lock writes; a job that has outlived its lock cannot, whatever the clock says.

use matyan_model::lock::{Lock, lock_check, lock_held, lock_release, lock_release_done, lock_take};
use matyan_store::{Batch, Commit, Store, Transaction, transact};

use crate::Error;

/// A lock that was renewed earlier may be taken over.
const STALE_US: u64 = 300_000_000;

/// Microseconds since the Unix epoch.
type Clock = dyn Fn() -> i64 + Send + Sync;

pub struct Job<'s> {
    store: &'s dyn Store,
    clock: &'s Clock,
    name: &'static str,
    owner: [u8; 16],
    lock: Lock,
    taken_us: i64,
    is_dry: bool,
}

impl<'s> Job<'s> {
    /// Takes the lock, or says who has it. `owner` is nobody else's.
    pub async fn begin(
        store: &'s dyn Store,
        clock: &'s Clock,
        name: &'static str,
        owner: [u8; 16],
    ) -> Result<Self, Error> {
        let taken_us = clock();
        let lock = take(store, name, owner, taken_us).await?;
        Ok(Self { store, clock, name, owner, lock, taken_us, is_dry: false })
    }

    /// One that only tells what it would do does not count as done.
    #[must_use]
    pub fn dry(self, is_dry: bool) -> Self {
        Self { is_dry, ..self }
    }

    pub(crate) fn now_us(&self) -> i64 {
        (self.clock)()
    }

    /// Renews the lock once in a while, so that nobody takes over a job that goes on.
    pub async fn renew(&mut self) -> Result<(), Error> {
        let now_us = self.now_us();
        if now_us.abs_diff(self.taken_us) > STALE_US / 10 {
            self.lock = take(self.store, self.name, self.owner, now_us).await?;
            self.taken_us = now_us;
        }
        Ok(())
    }

    /// Commits what `decide` writes, if the lock is still held. Answers with what it returned.
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
                Commit::Conflict => self.check().await?,
            }
        }
    }

    /// Fails if somebody else has the lock by now.
    async fn check(&self) -> Result<(), Error> {
        let held = lock_held(&*self.store.snapshot().await?, self.name).await?;
        match held {
            Some(held) if held.owner == self.owner => Ok(()),
            held => Err(Error::Busy { job: self.name, holder: held.map(|held| held.owner) }),
        }
    }

    /// Gives the lock back. A conflict means that somebody took it over, and then it is not ours to give.
    pub async fn end<T, E>(self, result: Result<T, E>) -> Result<T, E>
    where
        E: From<matyan_store::Error>,
    {
        let mut batch = Batch::default();
        match &result {
            Ok(_) if !self.is_dry => lock_release_done(&mut batch, &self.lock, self.now_us()),
            Ok(_) | Err(_) => lock_release(&mut batch, &self.lock),
        }
        self.store.commit(batch).await?;
        result
    }
}

async fn take(store: &dyn Store, job: &'static str, owner: [u8; 16], now_us: i64) -> Result<Lock, Error> {
    let (taken, _) = transact(store, async |mut transaction: Transaction| {
        let taken = lock_take(&mut transaction, job, owner, now_us, STALE_US).await?;
        Ok::<_, Error>((transaction, taken))
    })
    .await?;
    match taken {
        Some(lock) => Ok(lock),
        None => {
            let held = lock_held(&*store.snapshot().await?, job).await?;
            Err(Error::Busy { job, holder: held.map(|held| held.owner) })
        }
    }
}
