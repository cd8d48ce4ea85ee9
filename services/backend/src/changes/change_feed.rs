//! The changes of a project, read once for all of its watchers. One task tails them in the
//! store and broadcasts them; a watcher that joins or lags reads from the store directly until
//! it has caught up. A change of points is also one of the branches that share them.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use matyan_model::{
    branch::{has_branches, sharers_page},
    change::{Change, changes_list, changes_trimmed, changes_wait},
    ids::{Project, RunNumber},
    keys,
};
use matyan_store::{Snapshot, Stamp, Store};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use crate::server::{
    error::{Error, Result},
    stream::Streams,
};

/// Pages by which a watcher may lag before it reads from the store. Together they take about 6 MB if all
/// are full, and usually 100 kB.
const PAGES: usize = 256;

/// Changes in one page.
const ROWS: usize = 1_000;

/// Interval between checks for a tail without watchers.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// Delay before reading again after an error of the store.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A run that has changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChangedRun {
    pub(crate) stamp: Stamp,
    pub(crate) number: RunNumber,
    /// Points that it shares as a branch have changed, and not the run itself.
    pub(crate) is_shared: bool,
}

type Page = Arc<[ChangedRun]>;
type Senders = HashMap<Project, broadcast::Sender<Page>>;

/// The tails of all watched projects.
#[derive(Clone, Default)]
pub(crate) struct ChangeFeeds(Arc<Mutex<Senders>>);

impl ChangeFeeds {
    fn senders(&self) -> MutexGuard<'_, Senders> {
        self.0.lock()
    }

    /// The changes after `position`.
    pub(super) async fn follow(
        &self,
        store: &Arc<dyn Store>,
        streams: &Streams,
        project: Project,
        position: Stamp,
    ) -> Result<ChangeFeed> {
        // A new tail starts before this watcher first reads from the store, so no change
        // is missed in between.
        let start = end_position(store.as_ref()).await?;
        let mut senders = self.senders();
        let pages = match senders.get(&project) {
            Some(sender) => sender.subscribe(),
            None => {
                let (sender, pages) = broadcast::channel(PAGES);
                senders.insert(project, sender.clone());
                let tail = ChangeTail {
                    feeds: self.clone(),
                    store: store.clone(),
                    project,
                    sender,
                    position: start,
                };
                streams.spawn(|stop| tail.run(stop));
                pages
            }
        };
        Ok(ChangeFeed { store: store.clone(), project, position, pages, is_lagging: true })
    }
}

/// The task that reads the changes of a project.
struct ChangeTail {
    feeds: ChangeFeeds,
    store: Arc<dyn Store>,
    project: Project,
    sender: broadcast::Sender<Page>,
    /// Everything up to here was broadcast, or is from before the first watcher.
    position: Stamp,
}

impl ChangeTail {
    async fn run(mut self, stop: CancellationToken) {
        while !self.is_idle() {
            let page = tokio::time::timeout(IDLE_CHECK_INTERVAL, self.next());
            match stop.run_until_cancelled(page).await {
                None => return,
                Some(Err(_)) => {}
                Some(Ok(Ok(page))) => drop(self.sender.send(page)),
                Some(Ok(Err(error))) => {
                    tracing::warn!(%error, "failed to read run changes; will retry");
                    if stop.run_until_cancelled(tokio::time::sleep(RETRY_DELAY)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Whether there are no watchers; if so, removes the tail so that no new one can find
    /// it.
    fn is_idle(&self) -> bool {
        let mut senders = self.feeds.senders();
        let is_idle = self.sender.receiver_count() == 0;
        if is_idle {
            senders.remove(&self.project);
        }
        is_idle
    }

    /// The next page, waiting until there is one. Cancel-safe: the position advances only
    /// with a returned page. A page without changes says that some were dropped before this tail has read
    /// them: watchers then read from the store, which tells them so.
    async fn next(&mut self) -> matyan_store::Result<Page> {
        let after = self.position;
        changes_wait(self.store.as_ref(), self.project, after).await?;
        let snapshot = self.store.snapshot().await?;
        if let Some(trimmed) = changes_trimmed(snapshot.as_ref(), self.project).await?
            && trimmed > after
        {
            self.position = trimmed;
            return Ok(Page::default());
        }
        let (changes, _) = page(snapshot.as_ref(), self.project, after).await?;
        if let Some(last) = changes.last() {
            self.position = last.stamp;
        }
        Ok(changes.into())
    }
}

/// A page of changes after a position, and whether more follow.
async fn page(
    snapshot: &dyn Snapshot,
    project: Project,
    after: Stamp,
) -> matyan_store::Result<(Vec<ChangedRun>, bool)> {
    let (changes, more) = changes_list(snapshot, project, Some(after), ROWS).await?;
    let mut runs: Vec<ChangedRun> = changes
        .iter()
        .map(|change| ChangedRun { stamp: change.stamp, number: change.number, is_shared: false })
        .collect();
    let has_points = changes.iter().any(|change| change.first_step < i64::MAX);
    if has_points && has_branches(snapshot, project).await? {
        add_branches(snapshot, project, &changes, &mut runs).await?;
    }
    Ok((runs, more))
}

/// The changes of the points of a run in one page.
struct ChangedPoints {
    first: Stamp,
    last: Stamp,
    first_step: i64,
}

/// Adds the branches that share points which have changed, with the first and the last of these changes,
/// so that a page has each branch at most twice for each ancestor.
async fn add_branches(
    snapshot: &dyn Snapshot,
    project: Project,
    changes: &[Change],
    runs: &mut Vec<ChangedRun>,
) -> matyan_store::Result<()> {
    let mut changed: HashMap<RunNumber, ChangedPoints> = HashMap::new();
    for Change { stamp, number, first_step, .. } in changes.iter().filter(|it| it.first_step < i64::MAX) {
        match changed.entry(*number) {
            Entry::Vacant(new) => {
                new.insert(ChangedPoints { first: *stamp, last: *stamp, first_step: *first_step });
            }
            Entry::Occupied(mut known) => {
                let points = known.get_mut();
                points.last = *stamp;
                points.first_step = points.first_step.min(*first_step);
            }
        }
    }
    for (ancestor, ChangedPoints { first, last, first_step }) in changed {
        let mut rest = Some(keys::sharers_from(project, ancestor, first_step));
        while let Some(range) = rest {
            let (branches, next) = sharers_page(snapshot, &range, ROWS).await?;
            for number in branches {
                let shared = |stamp| ChangedRun { stamp, number, is_shared: true };
                runs.push(shared(first));
                runs.extend((first < last).then(|| shared(last)));
            }
            rest = next;
        }
    }
    runs.sort_by_key(|run| run.stamp);
    Ok(())
}

/// The position after everything committed.
pub(crate) async fn end_position(store: &dyn Store) -> matyan_store::Result<Stamp> {
    Ok(store.snapshot().await?.version().stamp(u16::MAX))
}

/// All changes of a project after a position, in order and without duplicates.
pub(super) struct ChangeFeed {
    store: Arc<dyn Store>,
    project: Project,
    /// Everything up to here was returned.
    position: Stamp,
    pages: broadcast::Receiver<Page>,
    /// True if the broadcast may start after changes that are still missing; the missing changes are
    /// read from the store.
    is_lagging: bool,
}

impl ChangeFeed {
    pub(crate) fn position(&self) -> Stamp {
        self.position
    }

    /// The next changes, waiting until there are some. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Vec<ChangedRun>> {
        loop {
            let changes = if self.is_lagging { self.read().await? } else { self.receive().await };
            if let Some(last) = changes.last() {
                self.position = last.stamp;
                return Ok(changes);
            }
        }
    }

    async fn read(&mut self) -> Result<Vec<ChangedRun>> {
        let snapshot = self.store.snapshot().await?;
        let trimmed = changes_trimmed(snapshot.as_ref(), self.project).await?;
        if trimmed.is_some_and(|trimmed| trimmed > self.position) {
            return Err(Error::PositionExpired);
        }
        let (changes, more) = page(snapshot.as_ref(), self.project, self.position).await?;
        // Changes committed after this snapshot arrive as pages, to which this feed has
        // already subscribed.
        self.is_lagging = more;
        Ok(changes)
    }

    async fn receive(&mut self) -> Vec<ChangedRun> {
        match self.pages.recv().await {
            Ok(page) if page.is_empty() => {
                self.is_lagging = true;
                Vec::new()
            }
            Ok(page) => page.iter().filter(|change| change.stamp > self.position).copied().collect(),
            Err(RecvError::Lagged(_)) => {
                self.is_lagging = true;
                Vec::new()
            }
            // The tail ends only when the server stops, and then this watcher's
            // stream ends as well.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use matyan_model::change::{KeptChanges, change_put, changes_trim};
    use matyan_store::{Batch, embedded::EmbeddedStore};

    use super::*;

    const P: Project = Project(0);

    /// The tail is too slow, and the changes that it has not read yet are dropped.
    #[tokio::test]
    async fn rule_117_a_watcher_is_told_that_its_tail_has_missed_changes() {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path(), Default::default()).await.unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        let (sender, pages) = broadcast::channel(PAGES);
        let position = end_position(&*store).await.unwrap();
        let feeds = ChangeFeeds::default();
        let mut tail =
            ChangeTail { feeds, store: store.clone(), project: P, sender: sender.clone(), position };
        let mut feed = ChangeFeed { store: store.clone(), project: P, position, pages, is_lagging: false };
        for run in [1, 2] {
            let mut batch = Batch::default();
            change_put(&mut batch, P, RunNumber(run), run as i64, "");
            store.commit(batch).await.unwrap();
        }
        let mut batch = Batch::default();
        let kept = KeptChanges { times_us: 2..10, count: 10 };
        assert!(changes_trim(&*store.snapshot().await.unwrap(), P, &kept, &mut batch).await.unwrap());
        store.commit(batch).await.unwrap();
        let page = tail.next().await.unwrap();
        sender.send(page).unwrap();
        assert!(matches!(feed.next().await, Err(Error::PositionExpired)));
        let next = tail.next().await.unwrap();
        assert_eq!(next.iter().map(|change| change.number).collect::<Vec<_>>(), [RunNumber(2)]);
    }
}
