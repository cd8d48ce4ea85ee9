//! A job under its lock. Whoever holds the lock writes; a job that has outlived its lock cannot, whatever the clock says.

use matyan_model::lock::{Lock, lock_check, lock_held, lock_release, lock_release_done, lock_take};
use matyan_store::{Batch, Commit, Transaction, transact};

use crate::{
    Context,
    error::{Error, Result},
};

/// A lock that was renewed earlier may be taken over.
const STALE_US: i64 = 300_000_000;

pub(super) struct Job<'c> {
    context: &'c Context,
    name: &'static str,
    owner: [u8; 16],
    lock: Lock,
    taken_us: i64,
}

impl<'c> Job<'c> {
    /// Takes the lock, or says who has it.
    pub(super) async fn begin(context: &'c Context, name: &'static str) -> Result<Self> {
        let digest = blake3::hash((context.new_id)().as_bytes());
        let owner = *digest.as_bytes().first_chunk().expect("a digest has 32 bytes");
        let (lock, taken_us) = take(context, name, owner).await?;
        Ok(Self { context, name, owner, lock, taken_us })
    }

    /// Renews the lock once in a while, so that nobody takes over a job that goes on.
    pub(super) async fn renew(&mut self) -> Result<()> {
        if (self.context.clock)().saturating_sub(self.taken_us) > STALE_US / 10 {
            (self.lock, self.taken_us) = take(self.context, self.name, self.owner).await?;
        }
        Ok(())
    }

    /// Commits what `decide` writes, if the lock is still held. Answers with what it returned.
    pub(super) async fn write<T, F, D>(&mut self, mut decide: F) -> Result<T>
    where
        F: FnMut(Transaction) -> D,
        D: Future<Output = Result<(Transaction, T)>>,
    {
        self.renew().await?;
        loop {
            let transaction = Transaction::new(self.context.store.snapshot().await?);
            let (mut transaction, answer) = decide(transaction).await?;
            if transaction.batch().mutations.is_empty() {
                return Ok(answer);
            }
            lock_check(transaction.batch(), &self.lock);
            match self.context.store.commit(transaction.into_batch()).await? {
                Commit::Done { .. } => return Ok(answer),
                Commit::Conflict => self.check().await?,
            }
        }
    }

    /// Fails if somebody else has the lock by now.
    async fn check(&self) -> Result<()> {
        let held = lock_held(self.context.store.snapshot().await?.as_ref(), self.name).await?;
        match held {
            Some(held) if held.owner == self.owner => Ok(()),
            held => Err(busy(self.name, held.map(|held| held.owner))),
        }
    }

    /// Gives the lock back. A conflict means that somebody took it over, and then it is not ours to give.
    pub(super) async fn end<T, E>(self, result: std::result::Result<T, E>) -> std::result::Result<T, E>
    where
        E: From<matyan_store::Error>,
    {
        let mut batch = Batch::default();
        match &result {
            Ok(_) => lock_release_done(&mut batch, &self.lock, (self.context.clock)()),
            Err(_) => lock_release(&mut batch, &self.lock),
        }
        self.context.store.commit(batch).await?;
        result
    }
}

async fn take(context: &Context, name: &'static str, owner: [u8; 16]) -> Result<(Lock, i64)> {
    let now = (context.clock)();
    let (taken, _) = transact(context.store.as_ref(), async |mut transaction: Transaction| {
        let taken = lock_take(&mut transaction, name, owner, now, now.saturating_sub(STALE_US)).await?;
        Ok::<_, Error>((transaction, taken))
    })
    .await?;
    match taken {
        Some(lock) => Ok((lock, now)),
        None => {
            let held = lock_held(context.store.snapshot().await?.as_ref(), name).await?;
            Err(busy(name, held.map(|held| held.owner)))
        }
    }
}

fn busy(job: &'static str, owner: Option<[u8; 16]>) -> Error {
    Error::Busy { job, holder: owner.map(hex::encode).unwrap_or_default() }
}
