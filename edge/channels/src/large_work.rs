//! Work over large messages and files, off the async threads.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Semaphore;

/// Work over more bytes leaves the async threads: decoding 256 KiB takes half a millisecond.
const LARGE_BYTES: usize = 256 << 10;

/// Maximum number of pieces of large work of a port at the same time, because their threads also serve reads
/// and uploads.
const MAX_LARGE: usize = 4;

/// Maximum number of pieces of large work that `run_apart` runs at the same time in the process. Otherwise, the runtime
/// could start hundreds of threads, and each piece may hold many times the size of its document.
const MAX_APART: usize = 16;

static APART: Semaphore = Semaphore::const_new(MAX_APART);

/// Limits the large work of a port. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LargeWork(Arc<Semaphore>);

impl Default for LargeWork {
    fn default() -> Self {
        Self::new()
    }
}

impl LargeWork {
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_LARGE)))
    }

    /// Runs work over `bytes` bytes.
    pub async fn run<T: Send + 'static>(&self, bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
        if bytes <= LARGE_BYTES {
            return work();
        }
        let permit = self.0.clone().acquire_owned().await.expect("the semaphore is never closed");
        on_other_thread(permit, work).await
    }
}

/// Runs work over `bytes` bytes for a caller without a `LargeWork`, such as a reader of documents.
pub async fn run_apart<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if bytes <= LARGE_BYTES {
        return work();
    }
    let permit = APART.acquire().await.expect("the semaphore is never closed");
    on_other_thread(permit, work).await
}

/// The approximate size of the text of a value, for work over it. Counting stops once the value is known to be large.
pub fn json_bytes(value: &Value) -> usize {
    let mut bytes = 0;
    count_bytes(value, &mut bytes);
    bytes
}

fn count_bytes(value: &Value, bytes: &mut usize) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => *bytes += 8,
        Value::String(text) => *bytes += text.len() + 2,
        Value::Array(members) => {
            for member in members {
                if *bytes > LARGE_BYTES {
                    return;
                }
                count_bytes(member, bytes);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                if *bytes > LARGE_BYTES {
                    return;
                }
                *bytes += name.len() + 4;
                count_bytes(member, bytes);
            }
        }
    }
}

/// Runs work that holds a permit. The work continues if the caller leaves.
async fn on_other_thread<T: Send + 'static>(
    permit: impl Send + 'static,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let task = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work()
    });
    match task.await {
        Ok(done) => done,
        Err(failure) => match failure.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and will drop the caller as well.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use serde_json::json;
    use tokio::sync::{RwLock, mpsc};

    use super::*;

    #[tokio::test]
    async fn only_large_work_leaves_the_thread() {
        let work = LargeWork::new();
        let here = thread::current().id();
        assert_eq!(work.run(LARGE_BYTES, || thread::current().id()).await, here);
        assert_ne!(work.run(LARGE_BYTES + 1, || thread::current().id()).await, here);
        assert_eq!(run_apart(LARGE_BYTES, || thread::current().id()).await, here);
        assert_ne!(run_apart(LARGE_BYTES + 1, || thread::current().id()).await, here);
    }

    #[test]
    fn a_large_value_is_known_without_reading_all_of_it() {
        let points = |count: usize| json!({"metrics": vec![json!({"key": "loss", "value": 0.5}); count]});
        let small = points(10);
        let written = small.to_string().len();
        assert!((written / 2..written * 2).contains(&json_bytes(&small)), "{written}");
        let large = json_bytes(&points(200_000));
        assert!((LARGE_BYTES + 1..LARGE_BYTES + 100).contains(&large), "{large}");
    }

    #[tokio::test]
    async fn the_amount_of_large_work_that_runs_apart_is_bounded() {
        let gate = Arc::new(RwLock::new(()));
        let closed = gate.write().await;
        let (starts, mut started) = mpsc::unbounded_channel();
        let works = (0..4 * MAX_APART).map(|_| {
            let gate = Arc::clone(&gate);
            let starts = starts.clone();
            run_apart(LARGE_BYTES + 1, move || {
                starts.send(()).unwrap();
                drop(gate.blocking_read());
            })
        });
        let mut works = Box::pin(futures::future::join_all(works));
        for _ in 0..MAX_APART {
            tokio::select! {
                _ = &mut works => panic!("work ends while it waits"),
                start = started.recv() => start.unwrap(),
            }
        }
        assert!(futures::poll!(works.as_mut()).is_pending());
        // Threads start late on a busy machine, but work without a permit would leave permits at once.
        assert_eq!(APART.available_permits(), 0, "work runs apart without a permit");
        assert!(started.try_recv().is_err(), "more work runs apart");
        drop(closed);
        works.await;
    }
}
