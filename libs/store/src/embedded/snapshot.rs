//! Reads at one version.
//!
//! A point read runs inline. Several start on the caller's thread, and move to a blocking thread once a read
//! has taken so long that it was not from the cache. A scan starts on the caller's thread, where most scans
//! also end, and moves to a blocking thread if it turns out to be long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::page::{PageBuilder, ReadBudget};
use super::shared::{PublishedState, Shared};
use crate::batch::{validate_key, validate_range};
use crate::read_threads::spawn_read;
use crate::{Error, Key, Limits, Page, Range, Result, Scan, Snapshot, Value, Version};

/// A scan of this size takes about 50 µs from the cache; switching threads costs about 20 µs.
const INLINE: ReadBudget = ReadBudget { rows: 64, bytes: 32 << 10 };
const UNLIMITED: ReadBudget = ReadBudget { rows: usize::MAX, bytes: usize::MAX };
/// Number of point reads, at 3 µs each, that may run on an async thread.
const INLINE_KEYS: usize = 64;
/// A point read that takes longer has waited for the disk, and the next ones may have to, for 10 ms each.
const CACHED_READ: Duration = Duration::from_micros(200);

#[derive(Clone)]
pub(super) struct EmbeddedSnapshot {
    shared: Arc<Shared>,
    published: Arc<PublishedState>,
    taken_at: Instant,
}

impl EmbeddedSnapshot {
    pub(super) fn take(shared: &Arc<Shared>) -> Result<Self> {
        let published = shared.current()?;
        Ok(Self { shared: shared.clone(), published, taken_at: (shared.clock)() })
    }

    fn check_age(&self) -> Result<()> {
        let age = (self.shared.clock)().saturating_duration_since(self.taken_at);
        if age > Limits::SNAPSHOT_AGE { Err(Error::SnapshotTooOld) } else { Ok(()) }
    }

    fn get_checked(&self, key: &Key) -> Result<Option<Value>> {
        self.check_age()?;
        self.shared.read(&self.published, |engine| engine.get(&self.published.snapshot, key))
    }

    /// Reads the first of these keys inline, until a read has waited for the disk.
    fn get_first(&self, keys: &[Key]) -> Result<Vec<Option<Value>>> {
        let mut values = Vec::with_capacity(keys.len());
        let mut begun = (self.shared.clock)();
        for key in keys {
            values.push(self.get_checked(key)?);
            let now = (self.shared.clock)();
            if now.saturating_duration_since(begun) > CACHED_READ {
                break;
            }
            begun = now;
        }
        Ok(values)
    }

    fn fill(&self, range: &Range, page: &mut PageBuilder, budget: ReadBudget) -> Result<bool> {
        self.check_age()?;
        self.shared.read(&self.published, |engine| engine.fill(&self.published.snapshot, range, page, budget))
    }
}

#[async_trait]
impl Snapshot for EmbeddedSnapshot {
    async fn get(&self, key: &Key) -> Result<Option<Value>> {
        validate_key(key)?;
        self.get_checked(key)
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>> {
        keys.iter().try_for_each(|key| validate_key(key))?;
        let mut values = if keys.len() <= INLINE_KEYS { self.get_first(keys)? } else { Vec::new() };
        if values.len() == keys.len() {
            return Ok(values);
        }
        let snapshot = self.clone();
        let rest = keys[values.len()..].to_vec();
        run_blocking(move || {
            for key in &rest {
                values.push(snapshot.get_checked(key)?);
            }
            Ok(values)
        })
        .await
    }

    async fn scan(&self, range: &Range, scan: Scan) -> Result<Page> {
        validate_range(range)?;
        let mut page = PageBuilder::new(scan);
        if self.fill(range, &mut page, INLINE)? {
            return Ok(page.finish());
        }
        let snapshot = self.clone();
        let range = range.clone();
        run_blocking(move || {
            snapshot.fill(&range, &mut page, UNLIMITED)?;
            Ok(page.finish())
        })
        .await
    }

    fn version(&self) -> Version {
        self.published.version
    }
}

async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match spawn_read(work).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(_) => Err(Error::unavailable("the process is shutting down")),
    }
}
