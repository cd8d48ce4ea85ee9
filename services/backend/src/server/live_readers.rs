//! Announces readers that wait for new data, so that workers apply it without rests, in a store on other machines.

use std::{collections::HashMap, sync::Arc, time::Duration};

use matyan_model::{
    ids::Project,
    live_readers::{COUNTED_US, live_readers_put},
};
use matyan_store::{Batch, Store};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::stream::KEEP_ALIVE;

/// Time after which a reader of a project is announced again: workers count on it for much longer.
const RENEWED: Duration = Duration::from_secs(20);
/// Same after an announcement that has failed, or whose call was dropped before its end.
const REPEATED: Duration = Duration::from_secs(1);
/// Streams announce their readers at least as often as they send keep-alives, so an announcement comes late by as much.
const _: () = assert!(
    KEEP_ALIVE.as_micros() + RENEWED.as_micros() < COUNTED_US as u128,
    "workers would forget a reader before it is announced again"
);

/// The projects whose readers this process has announced lately, and when they are to be announced again. Cheap to clone;
/// clones share them.
#[derive(Clone, Default)]
pub struct LiveReaders(Arc<Mutex<HashMap<Project, Instant>>>);

impl LiveReaders {
    /// Announces a reader of a project, unless this process did so a moment ago. A failure only delays what the reader
    /// sees, by a fraction of a second.
    pub(crate) async fn announce(&self, store: &dyn Store, now_us: i64, project: Project) {
        if !store.is_remote() || !self.is_due(project) {
            return;
        }
        let mut announcement = Announcement { readers: self, project, is_stored: false };
        let mut batch = Batch::buffered();
        live_readers_put(&mut batch, project, now_us);
        match store.commit(batch).await {
            Ok(_) => announcement.is_stored = true,
            Err(error) => {
                tracing::debug!(project = project.0, %error, "failed to announce a reader; will retry");
            }
        }
    }

    /// Whether a reader is to be announced now; the next one is only due later.
    fn is_due(&self, project: Project) -> bool {
        let now = Instant::now();
        let is_later = |due: &Instant| now < *due;
        let mut projects = self.0.lock();
        if projects.get(&project).is_some_and(is_later) {
            return false;
        }
        projects.retain(|_, due| is_later(due));
        projects.insert(project, now + RENEWED);
        true
    }
}

/// An announcement that is being written. It is repeated soon unless it is stored.
struct Announcement<'r> {
    readers: &'r LiveReaders,
    project: Project,
    is_stored: bool,
}

impl Drop for Announcement<'_> {
    fn drop(&mut self) {
        if !self.is_stored {
            self.readers.0.lock().insert(self.project, Instant::now() + REPEATED);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use matyan_store::{Commit, Error, Key, Result, Snapshot, Value};

    use super::*;

    /// A store that counts commits, and applies none.
    struct CountingStore {
        is_remote: bool,
        fails: bool,
        hangs: bool,
        commits: Mutex<usize>,
    }

    impl CountingStore {
        fn new(is_remote: bool, fails: bool) -> Self {
            Self { is_remote, fails, hangs: false, commits: Mutex::default() }
        }

        async fn announce(&self, readers: &LiveReaders, project: u32) -> usize {
            readers.announce(self, 7, Project(project)).await;
            *self.commits.lock()
        }
    }

    #[async_trait::async_trait]
    impl Store for CountingStore {
        async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
            Err(Error::unavailable("it has no data"))
        }

        async fn commit(&self, _: Batch) -> Result<Commit> {
            *self.commits.lock() += 1;
            if self.hangs {
                std::future::pending::<()>().await;
            }
            if self.fails { Err(Error::unavailable("a test asked for it")) } else { Ok(Commit::Conflict) }
        }

        async fn sync(&self) -> Result<()> {
            Ok(())
        }

        async fn changed(&self, _: &Key, _: Option<&Value>) -> Result<()> {
            Ok(())
        }

        fn clears_ranges_at_once(&self) -> bool {
            false
        }

        fn is_remote(&self) -> bool {
            self.is_remote
        }
    }

    /// Checks that a reader of project 1 is announced now, and again only after this time.
    async fn check_repetition(store: &CountingStore, readers: &LiveReaders, after: Duration) {
        assert_eq!(store.announce(readers, 1).await, 1);
        assert_eq!(store.announce(readers, 1).await, 1);
        tokio::time::advance(after).await;
        assert_eq!(store.announce(readers, 1).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_is_announced_from_time_to_time() {
        let store = CountingStore::new(true, false);
        let readers = LiveReaders::default();
        check_repetition(&store, &readers, RENEWED).await;
        assert_eq!(store.announce(&readers, 2).await, 3);
        tokio::time::advance(RENEWED).await;
        assert_eq!(store.announce(&readers, 1).await, 4);
        assert_eq!(readers.0.lock().len(), 1, "the other is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_announcement_is_repeated() {
        let store = CountingStore::new(true, true);
        check_repetition(&store, &LiveReaders::default(), REPEATED).await;
    }

    /// A call that waits for a position ends as soon as the position is applied.
    #[tokio::test(start_paused = true)]
    async fn an_abandoned_announcement_is_repeated() {
        let store = CountingStore { hangs: true, ..CountingStore::new(true, false) };
        let readers = LiveReaders::default();
        assert!(readers.announce(&store, 7, Project(1)).now_or_never().is_none());
        let store = CountingStore::new(true, false);
        assert_eq!(store.announce(&readers, 1).await, 0);
        tokio::time::advance(REPEATED).await;
        assert_eq!(store.announce(&readers, 1).await, 1);
    }

    /// Its workers have no rests.
    #[tokio::test]
    async fn no_reader_is_announced_in_an_embedded_store() {
        let store = CountingStore::new(false, false);
        assert_eq!(store.announce(&LiveReaders::default(), 1).await, 0);
    }
}
