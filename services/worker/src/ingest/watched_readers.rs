//! Which projects have readers that wait for new data, in a store on other machines. The runs of other projects rest
//! between transactions (`writer_pool`).
//!
//! The row of a project is watched while runs of the project could rest, so that a reader who appears ends their rests
//! at once. Where it is not known whether there are readers, there may be some.

use std::{collections::HashMap, sync::Arc, time::Duration};

use matyan_model::{
    ids::Project,
    keys,
    live_readers::{LiveReaders, live_readers_get},
};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::deps::Deps;

/// Maximum number of projects whose rows are watched. The runs of further projects never rest.
const MAX_PROJECTS: usize = 1_000;
/// Time after which the row of a project is no longer watched if none of its runs could rest.
const IDLE: Duration = Duration::from_secs(60);
/// Wait before a retry while the store is unavailable.
const WAIT: Duration = Duration::from_secs(1);

pub(super) struct WatchedReaders {
    deps: Deps,
    projects: WatchedProjects,
    changed: Arc<Notify>,
    watches: JoinSet<()>,
}

type WatchedProjects = Arc<Mutex<HashMap<Project, WatchedProject>>>;

struct WatchedProject {
    /// Time until which it has readers; the largest while that is not known.
    until_us: i64,
    /// When it was last asked for.
    asked: Instant,
}

impl WatchedReaders {
    pub(super) fn new(deps: Deps) -> Self {
        Self { deps, projects: Arc::default(), changed: Arc::default(), watches: JoinSet::new() }
    }

    /// Whether someone may wait for new data of a project.
    pub(super) fn may_have(&mut self, project: Project) -> bool {
        let now_us = self.deps.now_us();
        if let Some(known) = self.projects.lock().get_mut(&project) {
            known.asked = Instant::now();
            return known.until_us > now_us;
        }
        self.watch(project);
        true
    }

    /// Returns when more may be known about readers than at the last call. Cancel-safe.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn watch(&mut self, project: Project) {
        // Forgets the watches that have ended.
        while self.watches.try_join_next().is_some() {}
        let mut projects = self.projects.lock();
        if projects.len() >= MAX_PROJECTS {
            return;
        }
        projects.insert(project, WatchedProject { until_us: i64::MAX, asked: Instant::now() });
        let watch = ProjectWatch {
            deps: self.deps.clone(),
            project,
            projects: Arc::clone(&self.projects),
            changed: Arc::clone(&self.changed),
        };
        self.watches.spawn(watch.run());
    }
}

/// The task that watches the row of a project.
struct ProjectWatch {
    deps: Deps,
    project: Project,
    projects: WatchedProjects,
    changed: Arc<Notify>,
}

impl ProjectWatch {
    async fn run(self) {
        while self.is_needed() {
            if let Err(error) = self.follow().await {
                tracing::debug!(project = self.project.0, %error, "failed to look for readers; will retry");
                self.set(i64::MAX);
                sleep(WAIT).await;
            }
        }
    }

    /// Reads the row, and waits until it changes, for a bounded time.
    async fn follow(&self) -> matyan_store::Result<()> {
        let snapshot = self.deps.store.snapshot().await?;
        let LiveReaders { row, until_us } = live_readers_get(&*snapshot, self.project).await?;
        // The wait is long and must not hold a snapshot.
        drop(snapshot);
        self.set(until_us);
        let key = keys::live_readers(self.project);
        let changed = self.deps.store.changed(&key, row.as_ref());
        timeout(IDLE, changed).await.unwrap_or(Ok(()))
    }

    fn set(&self, until_us: i64) {
        if let Some(known) = self.projects.lock().get_mut(&self.project) {
            known.until_us = until_us;
        }
        self.changed.notify_one();
    }

    /// Whether the project was asked for lately. Forgets it if not.
    fn is_needed(&self) -> bool {
        let mut projects = self.projects.lock();
        let is_needed = projects.get(&self.project).is_some_and(|known| known.asked.elapsed() < IDLE);
        if !is_needed {
            projects.remove(&self.project);
        }
        is_needed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use matyan_model::live_readers::{COUNTED_US, live_readers_put};
    use matyan_store::{Batch, layers::Faults};

    use super::*;
    use crate::tests::harness::{P, TestEnv};

    /// Waits until it is known whether there are readers.
    async fn has_readers(readers: &mut WatchedReaders) -> bool {
        readers.may_have(P);
        let row = || readers.projects.lock()[&P].until_us;
        while row() == i64::MAX {
            readers.changed().await;
        }
        readers.may_have(P)
    }

    #[tokio::test]
    async fn a_reader_counts_from_its_announcement_on_for_a_while() {
        let env = TestEnv::new().await;
        let mut readers = WatchedReaders::new(env.deps.clone());
        assert!(readers.may_have(P), "nothing is known yet");
        assert!(!has_readers(&mut readers).await);
        let mut batch = Batch::default();
        live_readers_put(&mut batch, P, env.deps.now_us());
        env.store().commit(batch).await.unwrap();
        let appeared = async {
            while !readers.may_have(P) {
                readers.changed().await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), appeared).await.expect("the row is watched");
        env.now_us.fetch_add(COUNTED_US, Ordering::Relaxed);
        assert!(!readers.may_have(P), "the reader was not announced again");
    }

    #[tokio::test]
    async fn a_few_projects_are_watched() {
        let env = TestEnv::new().await;
        let mut readers = WatchedReaders::new(env.deps.clone());
        for project in 0..2 * MAX_PROJECTS as u32 {
            assert!(readers.may_have(Project(project)));
        }
        assert_eq!((readers.projects.lock().len(), readers.watches.len()), (MAX_PROJECTS, MAX_PROJECTS));
    }

    /// A failure must not delay what people wait for.
    #[tokio::test]
    async fn a_project_may_have_readers_while_the_store_fails() {
        let env = TestEnv::new().await;
        let mut readers = WatchedReaders::new(env.deps.clone());
        env.faults.set_faults(Faults::errors(1, 1.0));
        assert!(readers.may_have(P));
        readers.changed().await;
        assert!(readers.may_have(P), "the read has failed");
        env.faults.set_faults(Faults::script([]));
        assert!(!has_readers(&mut readers).await);
    }
}
