//! An embedded store in a directory of its own, for tests. It goes with the value.

use std::ops::Deref;

use matyan_store::{
    Commit, Error, Store, Transaction,
    embedded::{EmbeddedStore, Settings},
};

pub(crate) struct TestStore {
    store: EmbeddedStore,
    _directory: tempfile::TempDir,
}

impl TestStore {
    pub(crate) async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path(), Settings::default()).await.unwrap();
        Self { store, _directory: directory }
    }

    /// Runs what changes a transaction, and commits it.
    pub(crate) async fn run<T, E: From<Error>>(
        &self,
        mut change: impl AsyncFnMut(&mut Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        loop {
            let mut transaction = Transaction::new(self.store.snapshot().await?);
            let answer = change(&mut transaction).await?;
            if let Commit::Done { .. } = self.store.commit(transaction.into_batch()).await? {
                return Ok(answer);
            }
        }
    }
}

impl Deref for TestStore {
    type Target = EmbeddedStore;

    fn deref(&self) -> &EmbeddedStore {
        &self.store
    }
}
