//! A store that accepts no more writes from this process once another process has raised its format.
//!
//! `Store::format_raised` ends the process, but only after a moment. Until then, this program would write rows of its own
//! format, and put runs whose rows are newer in quarantine. So each batch expects the row of the format, which changes at
//! no other time, and which FoundationDB reads together with what the batch checks anyway. An embedded store is open in one
//! process only, and needs none of this.
//!
//! Each commit reads one more row, always the same. If the batch expects other values, they are read at the same time;
//! otherwise the commit waits for this read. After a conflict, a snapshot and one more read tell whether the store was
//! raised.

use std::sync::Arc;

use async_trait::async_trait;
use matyan_model::{format::format_open, keys};
use matyan_store::{Batch, Commit, Error, Key, Result, Snapshot, Store, Value};

pub(crate) struct FormatFence {
    inner: Arc<dyn Store>,
    key: Key,
    row: Option<Value>,
}

impl FormatFence {
    /// Raises a store to the format of this program, and fences it there.
    pub(super) async fn open(inner: Arc<dyn Store>) -> Result<Self> {
        let key = keys::format();
        format_open(&*inner).await?;
        let row = inner.snapshot().await?.get(&key).await?;
        // Another process may have raised the store before the row was read. A format never falls.
        format_open(&*inner).await?;
        Ok(Self { inner, key, row })
    }

    async fn is_raised(&self) -> Result<bool> {
        let found = self.inner.snapshot().await?.get(&self.key).await?;
        Ok(found != self.row)
    }
}

#[async_trait]
impl Store for FormatFence {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        self.inner.snapshot().await
    }

    async fn commit(&self, mut batch: Batch) -> Result<Commit> {
        batch.expect(self.key.clone(), self.row.clone());
        let outcome = self.inner.commit(batch).await?;
        // Callers would take this for a conflict over their own rows, such as a name that exists already.
        if outcome == Commit::Conflict && self.is_raised().await? {
            return Err(Error::unavailable("another process has raised the format of the store"));
        }
        Ok(outcome)
    }

    async fn sync(&self) -> Result<()> {
        self.inner.sync().await
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> Result<()> {
        self.inner.changed(key, seen).await
    }

    fn clears_ranges_at_once(&self) -> bool {
        self.inner.clears_ranges_at_once()
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }
}

#[cfg(test)]
mod tests {
    use matyan_store::embedded::EmbeddedStore;

    use super::*;

    fn setting(value: &'static str) -> Batch {
        let mut batch = Batch::default();
        batch.set("key", value);
        batch
    }

    #[tokio::test]
    async fn rule_44_a_store_that_was_raised_takes_no_batch_of_an_older_program() {
        let directory = tempfile::tempdir().unwrap();
        let embedded = Arc::new(EmbeddedStore::open(directory.path(), Default::default()).await.unwrap());
        let fence = FormatFence::open(embedded.clone()).await.unwrap();
        assert!(matches!(fence.commit(setting("before")).await.unwrap(), Commit::Done { .. }));
        let mut taken = setting("taken");
        taken.expect("key", None);
        assert_eq!(fence.commit(taken).await.unwrap(), Commit::Conflict);

        let mut newer = fence.row.clone().unwrap().to_vec();
        *newer.last_mut().unwrap() += 2;
        let mut raise = Batch::default();
        raise.set(fence.key.clone(), newer);
        assert!(matches!(embedded.commit(raise).await.unwrap(), Commit::Done { .. }));
        let error = fence.commit(setting("after")).await.unwrap_err();
        assert!(error.is_temporary() && error.to_string().contains("raised the format"), "{error}");
        let stored = embedded.snapshot().await.unwrap().get(&"key".into()).await.unwrap();
        assert_eq!(stored, Some("before".into()));
        assert!(FormatFence::open(embedded.clone()).await.is_err());
        embedded.close().await.unwrap();
    }
}
