//! A store that misbehaves within its contract: it can be slow, fail calls, or crash and lose
//! its unsynced commits.
//!
//! By guarantee 9 no store answers "maybe", and this store does not either: an error means that the
//! batch was not applied. A late answer, given after the batch was applied, models a backend that
//! first had to find out the outcome. Faults come from a seed or from a script, one per call. Reads
//! of a snapshot share the fault of the call that took it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::commit_history::CommitHistory;
use crate::{Batch, Commit, Durability, Error, Key, Result, Snapshot, Store, Value};

/// The fault injected into one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// Delays the call before it reaches the store.
    Delay(Duration),
    /// Delays the answer.
    LateAnswer(Duration),
    /// Returns `Unavailable` without calling the store.
    Error,
    /// Stops the store: neither this call nor any later one is answered.
    Crash,
    /// Like `Crash`, but this call still reaches the store.
    CrashAfter,
}

/// A source of faults.
#[derive(Clone, Debug)]
pub struct Faults {
    script: VecDeque<Fault>,
    random: Option<Random>,
}

#[derive(Clone, Debug)]
struct Random {
    state: u64,
    errors: f64,
    delay: Duration,
}

impl Faults {
    /// Injects one fault per call, and none after the end of the script.
    pub fn script(faults: impl IntoIterator<Item = Fault>) -> Self {
        Self { script: faults.into_iter().collect(), random: None }
    }

    /// Fails calls at `rate`, between 0 and 1.
    pub fn errors(seed: u64, rate: f64) -> Self {
        Self::seeded(seed, rate, Duration::ZERO)
    }

    /// Delays calls by up to `longest`, either before or after they reach the store.
    pub fn delays(seed: u64, longest: Duration) -> Self {
        Self::seeded(seed, 0.0, longest)
    }

    /// Fails calls at the rate `errors`, and delays the others by up to `longest`.
    pub fn seeded(seed: u64, errors: f64, longest: Duration) -> Self {
        Self { script: VecDeque::new(), random: Some(Random { state: seed, errors, delay: longest }) }
    }

    fn next(&mut self) -> Fault {
        if let Some(fault) = self.script.pop_front() {
            return fault;
        }
        self.random.as_mut().map_or(Fault::None, Random::fault)
    }
}

impl Random {
    fn fault(&mut self) -> Fault {
        if self.fraction() < self.errors {
            return Fault::Error;
        }
        let delay = self.delay.mul_f64(self.fraction());
        match (delay, self.fraction() < 0.5) {
            (Duration::ZERO, _) => Fault::None,
            (delay, true) => Fault::Delay(delay),
            (delay, false) => Fault::LateAnswer(delay),
        }
    }

    /// A number in `[0, 1)` from SplitMix64. The only requirement is the same sequence for
    /// a seed on every machine.
    fn fraction(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A store with injected faults; see the module documentation.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    faults: Mutex<Faults>,
    history: CommitHistory,
    crashed: watch::Sender<bool>,
}

impl FaultyStore {
    pub fn new(inner: Arc<dyn Store>, faults: Faults) -> Self {
        Self {
            inner,
            faults: Mutex::new(faults),
            history: CommitHistory::default(),
            crashed: watch::Sender::new(false),
        }
    }

    /// Replaces the remaining faults.
    pub fn set_faults(&self, faults: Faults) {
        *self.faults.lock() = faults;
    }

    /// Stops answering from now on.
    pub fn crash(&self) {
        self.crashed.send_replace(true);
    }

    /// Returns once the store has crashed.
    pub async fn crashed(&self) {
        let mut crashed = self.crashed.subscribe();
        crashed.wait_for(|crashed| *crashed).await.expect("this store owns the sender");
    }

    /// Restores the state that a crash would have left on disk into an empty store: every
    /// commit up to the last one covered by a sync, and none after it. Only commits made
    /// through this layer count.
    pub async fn recover_into(&self, empty: &dyn Store) -> Result<()> {
        self.history.replay_synced(empty).await
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let fault = self.faults.lock().next();
        tokio::select! {
            // A crashed store must not answer, even if the call is ready as well.
            biased;
            () = self.crashed() => std::future::pending().await,
            answer = self.with_fault(fault, call) => answer,
        }
    }

    async fn with_fault<T>(&self, fault: Fault, call: impl Future<Output = Result<T>>) -> Result<T> {
        match fault {
            Fault::None => call.await,
            Fault::Delay(delay) => {
                tokio::time::sleep(delay).await;
                call.await
            }
            Fault::LateAnswer(delay) => {
                let answer = call.await;
                tokio::time::sleep(delay).await;
                answer
            }
            Fault::Error => Err(Error::unavailable("injected fault")),
            Fault::Crash => self.stop().await,
            Fault::CrashAfter => {
                // The outcome is lost with the crash.
                drop(call.await);
                self.stop().await
            }
        }
    }

    async fn stop<T>(&self) -> T {
        self.crash();
        std::future::pending().await
    }

    async fn commit_and_record(&self, batch: Batch) -> Result<Commit> {
        let mutations = batch.mutations.clone();
        let durability = batch.durability;
        let commit = self.inner.commit(batch).await?;
        if let Commit::Done { version, stamp } = commit {
            self.history.record_commit(version, stamp, mutations);
            if durability == Durability::Synced {
                self.history.record_sync(version);
            }
        }
        Ok(commit)
    }

    async fn sync_and_record(&self) -> Result<()> {
        // Taken before the sync, which may not cover later commits.
        let answered = self.history.last_version();
        self.inner.sync().await?;
        self.history.record_sync(answered);
        Ok(())
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        self.call(self.inner.snapshot()).await
    }

    async fn commit(&self, batch: Batch) -> Result<Commit> {
        self.call(self.commit_and_record(batch)).await
    }

    async fn sync(&self) -> Result<()> {
        self.call(self.sync_and_record()).await
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> Result<()> {
        self.call(self.inner.changed(key, seen)).await
    }

    fn clears_ranges_at_once(&self) -> bool {
        self.inner.clears_ranges_at_once()
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }
}

#[cfg(test)]
mod tests;
