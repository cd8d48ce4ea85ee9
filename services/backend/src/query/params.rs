//! All params and series names, merged over all visible runs. Because this reads every run, the
//! result is cached for some time, and concurrent callers wait for a single computation, which
//! continues if they leave.

mod merge;

pub(crate) use merge::MergedParams;

use std::{collections::HashMap, sync::Arc, time::Duration};

use matyan_access::RequestAnswer;
use matyan_model::ids::Project;
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, timeout},
};

use crate::server::{
    Server,
    error::{Error, Result},
    held_streams::{HeldStream, HeldStreams},
    stream::ResponseStream,
};
use merge::{MAX_BYTES, merge};

/// Memory of all merges that run, are kept, or are being sent: four of the largest, or many small ones.
const TOTAL_BYTES: usize = 4 * MAX_BYTES;

/// Merges that run at a time. Others wait for them.
const RUNNING: usize = 2;

/// Time that a merge waits for the memory of others, which slow readers may hold for long.
const MEMORY_TIMEOUT: Duration = Duration::from_secs(10);

type MergeResult = Result<Arc<MergedParams>>;

/// The merge of a project.
enum ProjectMerge {
    /// The receiver gets the result.
    Running(watch::Receiver<Option<MergeResult>>),
    Done {
        at: Instant,
        merged: Arc<MergedParams>,
    },
}

/// One merge per project. It runs in its own task, so that it does not start again if the
/// callers that wait for it leave.
#[derive(Clone)]
pub(crate) struct ParamsCache {
    server: Server,
    merges: Arc<Mutex<HashMap<Project, ProjectMerge>>>,
    memory: MergeMemory,
    turns: Arc<Semaphore>,
}

impl ParamsCache {
    pub(crate) fn new(server: Server) -> Self {
        Self {
            server,
            merges: Arc::default(),
            memory: MergeMemory::new(),
            turns: Arc::new(Semaphore::new(RUNNING)),
        }
    }

    pub(crate) async fn merged(&self, project: Project) -> MergeResult {
        let mut running = match self.start_or_join(project) {
            Ok(merged) => return Ok(merged),
            Err(running) => running,
        };
        let result = running.wait_for(Option::is_some).await;
        match result.as_deref() {
            Ok(Some(merged)) => merged.clone(),
            // The task has ended without a result.
            Ok(None) | Err(_) => Err(Error::Stopping),
        }
    }

    /// The messages of a merge, until others need its memory while their client reads nothing.
    pub(crate) fn hold<T: Send + 'static>(
        &self,
        messages: ResponseStream<T>,
        answer: RequestAnswer,
    ) -> MergeStream<T> {
        self.memory.readers.hold(messages, (), (), answer)
    }

    /// The result, if it is recent enough; otherwise the merge to wait for.
    fn start_or_join(
        &self,
        project: Project,
    ) -> Result<Arc<MergedParams>, watch::Receiver<Option<MergeResult>>> {
        let kept = self.server.deps.params_cache_ttl;
        let mut merges = self.lock();
        merges.retain(|_, merge| match merge {
            ProjectMerge::Running(running) => running.has_changed().is_ok(),
            ProjectMerge::Done { at, .. } => at.elapsed() < kept,
        });
        match merges.get(&project) {
            Some(ProjectMerge::Done { merged, .. }) => return Ok(merged.clone()),
            Some(ProjectMerge::Running(running)) => return Err(running.clone()),
            None => {}
        }
        let (sender, running) = watch::channel(None);
        merges.insert(project, ProjectMerge::Running(running.clone()));
        let cache = self.clone();
        let deps = self.server.deps.clone();
        self.server.streams.spawn(|stop| async move {
            let merging = async {
                let _turn = cache.turns.acquire().await.expect("the semaphore is never closed");
                cache.make_room();
                merge(&deps, project, cache.memory.reserve().await?).await
            };
            let merged = stop.run_until_cancelled(merging).await;
            let merged = merged.unwrap_or(Err(Error::Stopping)).map(Arc::new);
            cache.finish(project, &merged);
            sender.send_replace(Some(merged));
        });
        Err(running)
    }

    /// Keeps a result from now on; after an error, the next caller starts again.
    fn finish(&self, project: Project, merged: &MergeResult) {
        let mut merges = self.lock();
        match merged {
            Ok(merged) => {
                merges.insert(project, ProjectMerge::Done { at: Instant::now(), merged: merged.clone() })
            }
            Err(_) => merges.remove(&project),
        };
        drop(merges);
        self.make_room();
    }

    /// Drops kept merges, the oldest first, until there is enough memory for the next one. Dropped merges that are
    /// still being sent hold their memory until they are sent.
    fn make_room(&self) {
        let mut merges = self.lock();
        while !self.memory.has_room() && remove_oldest(&mut merges) {}
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Project, ProjectMerge>> {
        self.merges.lock()
    }
}

/// Removes the merge that was done first. False if none is done.
fn remove_oldest(merges: &mut HashMap<Project, ProjectMerge>) -> bool {
    let done = merges.iter().filter_map(|(project, merge)| match merge {
        ProjectMerge::Done { at, .. } => Some((*at, *project)),
        ProjectMerge::Running(_) => None,
    });
    let Some((_, oldest)) = done.min_by_key(|(at, _)| *at) else { return false };
    merges.remove(&oldest);
    true
}

/// The stream of a merge that a client reads.
pub(crate) type MergeStream<T> = HeldStream<T, (), ()>;

/// The memory of the merges of all projects.
#[derive(Clone)]
struct MergeMemory {
    kibibytes: Arc<Semaphore>,
    readers: HeldStreams,
}

impl MergeMemory {
    fn new() -> Self {
        Self { kibibytes: Arc::new(Semaphore::new(TOTAL_BYTES >> 10)), readers: HeldStreams::default() }
    }

    /// Whether a merge of any size can start.
    fn has_room(&self) -> bool {
        self.kibibytes.available_permits() >= MAX_BYTES >> 10
    }

    /// Reserves the memory of a merge of any size.
    async fn reserve(&self) -> Result<OwnedSemaphorePermit> {
        let kibibytes = const { (MAX_BYTES >> 10) as u32 };
        let reserving = self.readers.drop_unread_until(self.kibibytes.clone().acquire_many_owned(kibibytes));
        let reserved = timeout(MEMORY_TIMEOUT, reserving).await;
        let full = "the memory for merged params is taken by projects whose params are read slowly";
        Ok(reserved.map_err(|_| Error::Waiting(full))?.expect("the semaphore is never closed"))
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use matyan_value::Map;
    use tokio::time::sleep;

    use super::{merge::shrink, *};
    use crate::server::{held_streams::UNREAD, stream::Streams};

    fn kept(memory: OwnedSemaphorePermit) -> ProjectMerge {
        let merged = MergedParams::of_params(&Map::new()).with_memory(memory);
        ProjectMerge::Done { at: Instant::now(), merged: Arc::new(merged) }
    }

    #[tokio::test(start_paused = true)]
    async fn rule_45_kept_merges_make_room_for_others_the_oldest_first() {
        let memory = MergeMemory::new();
        let mut merges = HashMap::new();
        let mut small = memory.reserve().await.unwrap();
        shrink(&mut small, 1_000);
        assert_eq!(small.num_permits(), 1);
        merges.insert(Project(0), kept(small));
        for project in 1..4 {
            tokio::time::advance(Duration::from_secs(1)).await;
            merges.insert(Project(project), kept(memory.reserve().await.unwrap()));
        }
        assert!(!memory.has_room());
        assert!(remove_oldest(&mut merges));
        assert!(memory.has_room());
        assert!(!merges.contains_key(&Project(0)) && merges.len() == 3);

        // One that is still being sent keeps its memory.
        let Some(ProjectMerge::Done { merged: sent, .. }) = merges.remove(&Project(1)) else { panic!() };
        merges.insert(Project(4), kept(memory.reserve().await.unwrap()));
        while !memory.has_room() {
            assert!(remove_oldest(&mut merges));
        }
        assert_eq!(merges.len(), 2);
        let mut held = vec![memory.reserve().await.unwrap()];
        merges.clear();
        held.extend([memory.reserve().await.unwrap(), memory.reserve().await.unwrap()]);
        assert!(matches!(memory.reserve().await, Err(Error::Waiting(_))));
        drop(sent);
        held.push(memory.reserve().await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn rule_45_a_merge_that_is_not_read_makes_room_for_others() {
        let memory = MergeMemory::new();
        let streams = Streams::default();
        let merge = async || {
            let merged = memory.reserve().await.unwrap();
            let messages = streams.respond(async move |sender| {
                let _merged = merged;
                for number in 0..100 {
                    sender.send(number).await?;
                }
                Ok(())
            });
            memory.readers.hold(messages, (), (), RequestAnswer::default())
        };
        let mut unread = Vec::new();
        for _ in 0..3 {
            let mut stream = merge().await;
            sleep(Duration::from_secs(1)).await;
            // As the transport does, which then waits for its client.
            assert_eq!(stream.next().await.unwrap().unwrap(), 0);
            unread.push(stream);
        }
        let mut read = merge().await;
        for number in 0..3 {
            assert_eq!(read.next().await.unwrap().unwrap(), number);
            sleep(UNREAD / 2).await;
        }
        // They have not been read for so long that no call has to wait for the rest of the time.
        drop(memory.reserve().await.unwrap());
        for mut stream in unread {
            assert_eq!(stream.next().await.unwrap().unwrap_err().code(), tonic::Code::Aborted);
        }
        assert_eq!(read.next().await.unwrap().unwrap(), 3);
    }
}
