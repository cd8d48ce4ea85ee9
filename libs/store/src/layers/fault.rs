//! A store that misbehaves within its contract: slow, failing, or gone with what it had not synced.
//!
//! By guarantee 9 no store answers "maybe", so neither does this one: an error means that the batch was not applied. An
//! answer that is late, after the batch was applied, stands for a backend that had to find out. Faults come from a seed
//! or from a script, one per call; reads of a snapshot share the fault of the call that took it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::survivors::Survivors;
use crate::{Batch, Commit, Durability, Error, Key, Result, Snapshot, Store, Value};

/// What befalls one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// The call reaches the store late.
    Delay(Duration),
    /// The call is answered late.
    LateAnswer(Duration),
    /// The call does not reach the store and answers `Unavailable`.
    Error,
    /// The store stops here: neither this call nor a later one is answered.
    Crash,
    /// As `Crash`, but this call still reached the store.
    CrashAfter,
}

/// Where the faults come from.
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
    /// One fault per call, and none once the script is over.
    pub fn script(faults: impl IntoIterator<Item = Fault>) -> Self {
        Self { script: faults.into_iter().collect(), random: None }
    }

    /// Errors at a rate between 0 and 1.
    pub fn errors(seed: u64, rate: f64) -> Self {
        Self::seeded(seed, rate, Duration::ZERO)
    }

    /// Delays up to `longest`, before or after the call.
    pub fn delays(seed: u64, longest: Duration) -> Self {
        Self::seeded(seed, 0.0, longest)
    }

    /// Errors at a rate, and delays of the other calls.
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

    /// From 0 to below 1, by SplitMix64: the same on every machine for a seed, which is all that is asked of it.
    fn fraction(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// See the module's header.
pub struct FaultStore {
    inner: Arc<dyn Store>,
    faults: Mutex<Faults>,
    survivors: Survivors,
    crashed: watch::Sender<bool>,
}

impl FaultStore {
    pub fn new(inner: Arc<dyn Store>, faults: Faults) -> Self {
        Self {
            inner,
            faults: Mutex::new(faults),
            survivors: Survivors::default(),
            crashed: watch::Sender::new(false),
        }
    }

    /// Replaces what is left of the faults.
    pub fn set_faults(&self, faults: Faults) {
        *self.faults() = faults;
    }

    /// Stops answering now.
    pub fn crash(&self) {
        self.crashed.send_replace(true);
    }

    /// Returns when the store has crashed.
    pub async fn crashed(&self) {
        let mut crashed = self.crashed.subscribe();
        crashed.wait_for(|crashed| *crashed).await.expect("this store holds the sender");
    }

    /// What a crashed store leaves on its disk, put into an empty one: every commit up to the last that a sync covered,
    /// and none behind it. Only what went through this layer counts.
    pub async fn recover_into(&self, empty: &dyn Store) -> Result<()> {
        self.survivors.replay(empty).await
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let fault = self.faults().next();
        tokio::select! {
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
            Fault::Error => Err(Error::unavailable("an injected fault")),
            Fault::Crash => self.stop().await,
            Fault::CrashAfter => {
                // Nobody learns the answer.
                drop(call.await);
                self.stop().await
            }
        }
    }

    async fn stop<T>(&self) -> T {
        self.crash();
        std::future::pending().await
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn commit_and_remember(&self, batch: Batch) -> Result<Commit> {
        let (mutations, durability) = (batch.mutations.clone(), batch.durability);
        let commit = self.inner.commit(batch).await?;
        if let Commit::Done { version, stamp } = commit {
            self.survivors.applied(version, stamp, mutations);
            if durability == Durability::Synced {
                self.survivors.synced(version);
            }
        }
        Ok(commit)
    }

    async fn sync_and_remember(&self) -> Result<()> {
        let answered = self.survivors.last();
        self.inner.sync().await?;
        self.survivors.synced(answered);
        Ok(())
    }
}

#[async_trait]
impl Store for FaultStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        self.call(self.inner.snapshot()).await
    }

    async fn commit(&self, batch: Batch) -> Result<Commit> {
        self.call(self.commit_and_remember(batch)).await
    }

    async fn sync(&self) -> Result<()> {
        self.call(self.sync_and_remember()).await
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> Result<()> {
        self.call(self.inner.changed(key, seen)).await
    }
}

#[cfg(test)]
mod tests;
