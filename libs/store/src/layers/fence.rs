//! A store in which a range of keys is out of bounds: a call that reads or writes one fails, and is
//! recorded. Tests use it to show that work in one place touches no key of another.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::{
    Batch, Check, Commit, Error, Key, Mutation, Page, Range, Result, Scan, Snapshot, Store, Value, Version,
};

/// A store with a fence; see the module documentation. Nothing is out of bounds at first.
pub struct FenceStore {
    inner: Arc<dyn Store>,
    fence: Arc<Fence>,
}

#[derive(Default)]
struct Fence(Mutex<FenceState>);

#[derive(Default)]
struct FenceState {
    forbidden: Vec<Range>,
    touched: Vec<Range>,
}

impl FenceStore {
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, fence: Arc::default() }
    }

    /// Replaces the ranges that are out of bounds.
    pub fn forbid(&self, ranges: Vec<Range>) {
        self.fence.0.lock().forbidden = ranges;
    }

    /// Takes the ranges that calls have touched although they are out of bounds.
    pub fn take_touched(&self) -> Vec<Range> {
        std::mem::take(&mut self.fence.0.lock().touched)
    }
}

impl Fence {
    fn check(&self, range: Range) -> Result<()> {
        let mut state = self.0.lock();
        if !state.forbidden.iter().any(|forbidden| forbidden.overlaps(&range)) {
            return Ok(());
        }
        let message = format!("the keys from {} are out of bounds", range.start.escape_ascii());
        state.touched.push(range);
        Err(Error::corrupt(message))
    }

    fn check_key(&self, key: &Key) -> Result<()> {
        self.check(one_key(key))
    }

    fn check_batch(&self, batch: &Batch) -> Result<()> {
        let checks = batch.checks.iter().map(|check| match check {
            Check::Value { key, .. } => one_key(key),
            Check::Unchanged { range, .. } => range.clone(),
        });
        let mutations = batch.mutations.iter().map(|mutation| match mutation {
            Mutation::Set { key, .. } | Mutation::Clear { key } | Mutation::Add { key, .. } => one_key(key),
            Mutation::ClearRange { range } => range.clone(),
            Mutation::SetStamped { prefix, .. } => Range::prefix(prefix.clone()),
        });
        checks.chain(mutations).try_for_each(|range| self.check(range))
    }
}

fn one_key(key: &Key) -> Range {
    let end = [key.as_ref(), &[0]].concat();
    Range::new(key.clone(), end)
}

#[async_trait]
impl Store for FenceStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        let snapshot = self.inner.snapshot().await?;
        Ok(Box::new(FenceSnapshot { inner: snapshot, fence: self.fence.clone() }))
    }

    async fn commit(&self, batch: Batch) -> Result<Commit> {
        self.fence.check_batch(&batch)?;
        self.inner.commit(batch).await
    }

    async fn sync(&self) -> Result<()> {
        self.inner.sync().await
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> Result<()> {
        self.fence.check_key(key)?;
        self.inner.changed(key, seen).await
    }

    fn clears_ranges_at_once(&self) -> bool {
        self.inner.clears_ranges_at_once()
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }
}

struct FenceSnapshot {
    inner: Box<dyn Snapshot>,
    fence: Arc<Fence>,
}

#[async_trait]
impl Snapshot for FenceSnapshot {
    async fn get(&self, key: &Key) -> Result<Option<Value>> {
        self.fence.check_key(key)?;
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>> {
        keys.iter().try_for_each(|key| self.fence.check_key(key))?;
        self.inner.get_many(keys).await
    }

    async fn scan(&self, range: &Range, scan: Scan) -> Result<Page> {
        self.fence.check(range.clone())?;
        self.inner.scan(range, scan).await
    }

    fn version(&self) -> Version {
        self.inner.version()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::EmbeddedStore;

    fn batch(fill: impl FnOnce(&mut Batch)) -> Batch {
        let mut batch = Batch::default();
        fill(&mut batch);
        batch
    }

    #[tokio::test]
    async fn every_kind_of_call_is_checked() {
        let directory = tempfile::tempdir().unwrap();
        let inner = Arc::new(EmbeddedStore::open(directory.path(), Default::default()).await.unwrap());
        let store = FenceStore::new(inner);
        store.forbid(vec![Range::prefix("b/")]);
        let inside = Key::from_static(b"a/1");
        let outside = Key::from_static(b"b/1");
        let snapshot = store.snapshot().await.unwrap();
        let version = snapshot.version();
        for (key, range) in [(&inside, Range::prefix("a/")), (&outside, Range::new("b/1", "c"))] {
            let is_allowed = *key == inside;
            let batches = [
                batch(|it| {
                    it.set(key.clone(), "v");
                }),
                batch(|it| {
                    it.clear(key.clone());
                }),
                batch(|it| {
                    it.add(key.clone(), 1);
                }),
                batch(|it| {
                    it.clear_range(range.clone());
                }),
                batch(|it| {
                    it.set_stamped(key.clone(), "", "v");
                }),
                batch(|it| {
                    it.expect(key.clone(), None);
                }),
                batch(|it| {
                    it.expect_unchanged(range.clone(), version);
                }),
            ];
            let count = batches.len() + 4;
            for batch in batches {
                assert_eq!(store.commit(batch).await.is_ok(), is_allowed);
            }
            assert_eq!(snapshot.get(key).await.is_ok(), is_allowed);
            assert_eq!(snapshot.get_many(&[inside.clone(), key.clone()]).await.is_ok(), is_allowed);
            assert_eq!(snapshot.scan(&range, Scan::default()).await.is_ok(), is_allowed);
            assert_eq!(store.changed(key, Some(&Value::from_static(b"other"))).await.is_ok(), is_allowed);
            assert_eq!(store.take_touched().len(), if is_allowed { 0 } else { count });
        }
        store.forbid(Vec::new());
        snapshot.get(&outside).await.unwrap();
    }
}
