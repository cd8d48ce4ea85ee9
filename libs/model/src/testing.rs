//! A fresh store for each test: an embedded store in a temporary directory, or, with the
//! feature `fdb`, a subspace of a real FoundationDB.

use std::ops::Deref;

use matyan_store::{Commit, Error, Store, Transaction};

#[cfg(not(feature = "fdb"))]
type InnerStore = matyan_store::embedded::EmbeddedStore;
#[cfg(feature = "fdb")]
type InnerStore = matyan_store::fdb::FdbStore;

pub(crate) struct TestStore {
    store: InnerStore,
    #[cfg(not(feature = "fdb"))]
    _directory: tempfile::TempDir,
}

impl TestStore {
    #[cfg(not(feature = "fdb"))]
    pub(crate) async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = InnerStore::open(directory.path(), Default::default()).await.unwrap();
        Self { store, _directory: directory }
    }

    #[cfg(feature = "fdb")]
    pub(crate) async fn open() -> Self {
        Self { store: matyan_store::conformance::fdb::open().await }
    }

    /// Commits a transaction that `change` fills, retrying after conflicts.
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
    type Target = InnerStore;

    fn deref(&self) -> &InnerStore {
        &self.store
    }
}
