//! Load and description of the machine, gathered on the I/O side while the script runs.

use std::{
    process,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use matyan_sdk::{
    Content, Map, Run, Value,
    system::{self, MetricsSampler, SystemParamsInput},
};
use tokio::{
    task,
    time::{self, MissedTickBehavior},
};

/// Longest wait for the description of the machine when a run ends at once.
const PARAMS_LIMIT: Duration = Duration::from_secs(5);
/// Interval at which a wait can be interrupted.
const WAIT_INTERVAL: Duration = Duration::from_millis(50);

/// Name of the artifact with the changes since the last commit.
const GIT_DIFF: &str = "git-diff.patch";

/// The description of the machine while it is gathered: its sender is dropped when it is tracked.
#[derive(Default)]
pub(crate) struct PendingParams(Mutex<Option<(u32, Receiver<()>)>>);

impl PendingParams {
    /// Starts to gather the description, and sets it as params of the run. On request, the changes
    /// since the last commit become an artifact.
    pub(crate) fn start(&self, run: &Arc<Run>, input: SystemParamsInput, with_git_diff: bool) {
        let Ok(runtime) = matyan_sdk::io_runtime() else { return };
        let (done, pending) = mpsc::channel();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((process::id(), pending));
        let run = Arc::clone(run);
        runtime.spawn_blocking(move || {
            let directory = input.directory.clone();
            let params = Map::from([("__system_params".to_owned(), Value::Map(system::params(input)))]);
            // Too large a description is left out, like any part that cannot be read.
            run.set_params(&params).ok();
            if with_git_diff && let Some(diff) = system::git_diff(&directory) {
                run.log_artifact(Content::Bytes(&diff), GIT_DIFF, Some("text/x-diff")).ok();
            }
            drop(done);
        });
    }

    /// Waits until the description is tracked, for this time at most, and as long as `keep_waiting`
    /// returns true.
    pub(crate) fn wait(&self, limit: Duration, mut keep_waiting: impl FnMut() -> bool) -> bool {
        let start = Instant::now();
        let limit = limit.min(PARAMS_LIMIT);
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A forked child has the receiver, and not the thread.
        while let Some((_, receiver)) = pending.take_if(|(owner, _)| *owner == process::id()) {
            let left = limit.saturating_sub(start.elapsed());
            // Nothing is ever sent: the wait ends when the sender is dropped.
            let waited = receiver.recv_timeout(left.min(WAIT_INTERVAL));
            if waited != Err(RecvTimeoutError::Timeout) {
                return true;
            }
            *pending = Some((process::id(), receiver));
            if left.is_zero() || !keep_waiting() {
                return false;
            }
        }
        true
    }
}

/// Tracks the load of the machine now and at every interval, until the run is closed or dropped.
pub(crate) fn track_metrics(run: &Arc<Run>, closed: &Arc<AtomicBool>, interval: Duration) {
    let Ok(runtime) = matyan_sdk::io_runtime() else { return };
    let run = Arc::downgrade(run);
    let closed = Arc::clone(closed);
    runtime.spawn(async move {
        let mut sampler = None;
        let mut ticks = time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let previous = sampler.take();
            let sampling = task::spawn_blocking(move || {
                let mut sampler = previous.unwrap_or_else(MetricsSampler::new);
                let metrics = sampler.sample();
                (sampler, metrics)
            });
            let Ok((returned, metrics)) = sampling.await else { return };
            sampler = Some(returned);
            let Some(run) = run.upgrade().filter(|_| !closed.load(Ordering::Relaxed)) else { return };
            let tracking = task::spawn_blocking(move || {
                for metric in metrics {
                    if let Ok(series) = run.series(metric.name, &metric.context, "float") {
                        run.track(&series, metric.value, None, None);
                    }
                }
            });
            // A full spool may make it wait, and only this thread makes space.
            if tracking.await.is_err() {
                return;
            }
        }
    });
}
