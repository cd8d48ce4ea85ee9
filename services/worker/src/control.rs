//! The control worker: publishes the outbox to the control topic, reads the topic, deletes the
//! blobs of deleted runs, and runs the periodic jobs. If there are several control workers,
//! only the leader, the one that reads the topic's first partition, publishes events and runs
//! jobs.
//!
//! An event is retried until it is handled, and only then is the position after it committed.
//! Every step is idempotent and may be interrupted, so stopping never waits. Handlers check
//! before each page that the run is still the deleted one, so a late event cannot affect a new
//! run with the same id.

mod blobs;
pub(crate) mod outbox;

#[cfg(test)]
pub(crate) use blobs::delete_run;

use std::time::Duration;

use matyan_log::{Delivery, Record, Subscription, Topic};
use matyan_model::{
    keys::{self, LogTopic},
    position::{AppliedPosition, LastRecord, LogState, applied_get, applied_put, log_get, log_put},
};
use matyan_store::{Transaction, transact};
use matyan_wire::control::{self, ControlEventType, ControlNotice};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    deps::Deps,
    error::Error,
    heartbeat::Heartbeat,
    job_scheduler::JobScheduler,
    metrics::{Metrics, UNKNOWN_EVENT},
};

/// Bounds on the wait between attempts while a dependency is unavailable. It doubles from the
/// minimum to the maximum.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(30);

/// The partition whose reader is the leader. The log assigns it to one reader at a time, and to
/// another when that reader disappears.
const LEADER: u32 = 0;

#[derive(Clone, Copy, Debug, Default)]
pub struct ControlSettings {
    /// Idle time after which a run is finished; `None` disables this.
    pub finish_stale: Option<Duration>,
    /// Whether the blob store belongs to this store alone, so that blobs of runs that do not exist are
    /// deleted.
    pub owns_blobs: bool,
}

pub struct ControlWorker {
    deps: Deps,
    settings: ControlSettings,
    metrics: Metrics,
    subscription: Box<dyn Subscription>,
    leads: watch::Sender<bool>,
    heartbeat: Heartbeat,
    publishing: Heartbeat,
}

impl ControlWorker {
    pub async fn new(deps: Deps, settings: ControlSettings, metrics: Metrics) -> Result<Self, Error> {
        let subscription = deps.log_reader.subscribe(Topic::Control).await?;
        let leads = watch::Sender::new(false);
        let heartbeat = Heartbeat::for_long_rounds("the control worker");
        let publishing = Heartbeat::for_long_rounds("publishing control events");
        Ok(Self { deps, settings, metrics, subscription, leads, heartbeat, publishing })
    }

    /// Heartbeats of its loops.
    pub fn heartbeats(&self) -> [Heartbeat; 2] {
        [self.heartbeat.clone(), self.publishing.clone()]
    }

    /// Runs until it is stopped.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let ControlSettings { finish_stale, owns_blobs } = self.settings;
        let jobs = JobScheduler::new(self.deps.clone(), self.metrics.clone(), finish_stale, owns_blobs);
        // Boxed, because the future of the jobs is large, and this task would be moved
        // with it.
        let leading = Box::pin(run_as_leader(
            self.deps.clone(),
            jobs,
            self.leads.subscribe(),
            self.publishing.clone(),
            &stop,
        ));
        let other_loops = async {
            // All loops share one task, so while one of them blocks, no heartbeat
            // advances.
            leading.await;
            Ok(())
        };
        // `try_join`, so that a permanent read failure ends the jobs as well.
        tokio::try_join!(self.read(&stop), other_loops).map(|((), ())| ())
    }

    async fn read(mut self, stop: &CancellationToken) -> Result<(), Error> {
        let mut wait = FIRST_WAIT;
        loop {
            let next = self.heartbeat.beat_during(self.subscription.next());
            let Some(delivery) = stop.run_until_cancelled(next).await else { return Ok(()) };
            let taken = match delivery {
                Ok(delivery) => self.handle_delivery(delivery, stop).await,
                Err(error) => self.handle_read_error(error, stop).await,
            };
            match taken {
                Ok(()) => wait = FIRST_WAIT,
                Err(error) if error.is_temporary() => {
                    tracing::warn!(%error, "failed to read the control topic; will retry");
                    stop.run_until_cancelled(self.heartbeat.beat_during(tokio::time::sleep(wait))).await;
                    wait = LAST_WAIT.min(wait * 2);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Restarts a partition whose topic was recreated or trimmed past the position; other
    /// errors are returned.
    async fn handle_read_error(
        &mut self,
        error: matyan_log::Error,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        match error {
            matyan_log::Error::Trimmed { partition, .. } | matyan_log::Error::Replaced { partition, .. } => {
                tracing::warn!(partition, %error, "control topic was recreated or trimmed; restarting partition");
                self.handle_delivery(Delivery::Assigned { partition }, stop).await
            }
            error => Err(error.into()),
        }
    }

    async fn handle_delivery(&mut self, delivery: Delivery, stop: &CancellationToken) -> Result<(), Error> {
        match delivery {
            Delivery::Assigned { partition } => {
                self.leads.send_if_modified(|leads| partition == LEADER && !std::mem::replace(leads, true));
                let mut retry = Retry::new(stop, &self.heartbeat, "start reading the control topic");
                while !retry.is_done(self.start(partition)).await {}
                Ok(())
            }
            Delivery::Revoked { partition } => {
                self.leads.send_if_modified(|leads| partition == LEADER && std::mem::replace(leads, false));
                Ok(())
            }
            Delivery::Records { partition, records } => {
                for record in records {
                    if stop.is_cancelled() {
                        return Ok(());
                    }
                    self.handle_record(partition, &record, stop).await?;
                }
                Ok(())
            }
        }
    }

    async fn handle_record(
        &self,
        partition: u32,
        record: &Record,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        self.metrics.events.consumed.inc();
        let started = tokio::time::Instant::now();
        match control::decode(&record.value, &record.headers) {
            Ok(event) => {
                let event_type = event.event_type.map_or(UNKNOWN_EVENT, ControlEventType::name);
                let mut retry = Retry::new(stop, &self.heartbeat, event_type);
                while !retry.is_done(self.handle_and_count(&event)).await {}
                if stop.is_cancelled() {
                    return Ok(());
                }
                self.metrics.events.processed.with_label_values(&[event_type]).inc();
            }
            Err(error) => {
                tracing::warn!(offset = record.offset, %error, "skipped an undecodable control record");
                self.metrics.events.errors.with_label_values(&["validation"]).inc();
            }
        }
        self.metrics.events.seconds.observe(started.elapsed().as_secs_f64());
        let mut retry = Retry::new(stop, &self.heartbeat, "commit the position in the control topic");
        while !retry.is_done(position_commit(&self.deps, partition, record)).await {}
        Ok(())
    }

    async fn start(&mut self, partition: u32) -> Result<(), Error> {
        let start = start_offset(&self.deps, partition).await?;
        Ok(self.subscription.start(partition, start.into()).await?)
    }

    async fn handle_and_count(&self, event: &ControlNotice) -> Result<(), Error> {
        let handled = self.handle(event).await;
        if let Err(error) = &handled {
            self.metrics.events.errors.with_label_values(&[error_name(error)]).inc();
        }
        match handled {
            // The tombstone remains, and the folder of its run is swept every hour, so other events
            // need not wait.
            Err(error @ Error::BlobsLeft { .. }) if !error.is_temporary() => {
                tracing::error!(%error, "failed to delete blobs of a deleted run; the tombstone sweep will retry");
                Ok(())
            }
            handled => handled,
        }
    }

    /// Handles an event. Only deletes of runs need work: the effect of other kinds was
    /// stored before they were published, and they exist for external consumers.
    async fn handle(&self, event: &ControlNotice) -> Result<(), Error> {
        match &event.deleted {
            Some(deleted) => {
                let metrics = &self.metrics.blobs;
                blobs::delete_run(&self.deps, metrics, &event.project, deleted, &|| self.heartbeat.beat())
                    .await
            }
            None => Ok(()),
        }
    }
}

/// Retries one action, with a longer wait each time, until it succeeds or the worker is
/// stopped. Errors that need an operator are retried as well, and logged as errors, because
/// skipping the event would only move the failure to the next one.
struct Retry<'a> {
    stop: &'a CancellationToken,
    heartbeat: Heartbeat,
    what: &'a str,
    wait: Duration,
}

impl<'a> Retry<'a> {
    fn new(stop: &'a CancellationToken, heartbeat: &Heartbeat, what: &'a str) -> Self {
        Self { stop, heartbeat: heartbeat.clone(), what, wait: FIRST_WAIT }
    }

    /// Returns true once the attempt has succeeded or the worker is stopped. Stopping can
    /// interrupt an attempt at any point: deleting the blobs of a large run takes minutes,
    /// and starts over after a restart.
    async fn is_done(&mut self, attempt: impl Future<Output = Result<(), Error>>) -> bool {
        let what = self.what;
        self.heartbeat.beat();
        match self.stop.run_until_cancelled(attempt).await {
            None | Some(Ok(())) => return true,
            Some(Err(error)) if error.is_temporary() => {
                tracing::warn!(%error, what, "operation failed; will retry")
            }
            Some(Err(error)) => {
                tracing::error!(%error, what, "operation failed and may need operator action; will retry")
            }
        }
        let wait = self.heartbeat.beat_during(tokio::time::sleep(self.wait));
        let waited = self.stop.run_until_cancelled(wait).await;
        self.wait = LAST_WAIT.min(self.wait * 2);
        waited.is_none()
    }
}

/// Publishes events and runs jobs as long as this process leads. Its work may be interrupted at
/// any point.
async fn run_as_leader(
    deps: Deps,
    jobs: JobScheduler,
    mut leads: watch::Receiver<bool>,
    publishing: Heartbeat,
    stop: &CancellationToken,
) {
    while stop.run_until_cancelled(publishing.beat_during(leadership_becomes(&mut leads, true))).await
        == Some(true)
    {
        tracing::info!("became the leader; publishing events and running jobs");
        let work = async { tokio::join!(outbox::run(&deps, &publishing, stop), jobs.run(stop)) };
        tokio::select! {
            ((), ()) = work => {}
            true = leadership_becomes(&mut leads, false) => tracing::info!("lost leadership to another control worker"),
        }
    }
}

/// Waits for the given state. Returns false if the sender is dropped.
async fn leadership_becomes(leads: &mut watch::Receiver<bool>, wanted: bool) -> bool {
    leads.wait_for(|leads| *leads == wanted).await.is_ok()
}

/// Returns the start offset of a partition. Handlers tolerate repeated events, so a topic that was recreated
/// or has lost its tail is simply read from its first record.
async fn start_offset(deps: &Deps, partition: u32) -> Result<u64, Error> {
    // The snapshot is taken before the log is described: the previous owner may still commit
    // positions, and no position in the snapshot may be past the end.
    let snapshot = deps.store.snapshot().await?;
    let info = deps.log_writer.describe(Topic::Control).await?;
    let known = log_get(&*snapshot, LogTopic::Control).await?.unwrap_or_default();
    let applied = applied_get(&*snapshot, LogTopic::Control, partition).await?;
    let Some(bounds) = info.partitions.get(partition as usize) else { return Ok(0) };
    let next = applied.map_or(bounds.first, |applied| applied.next);
    let identity = Some(info.identity);
    let is_within = (bounds.first..=bounds.end).contains(&next);
    if known.identity == identity && is_within {
        return Ok(next);
    }
    // In a store from before Kafka's topics were known by their ids, the position is in the current topic.
    let start = if known.identity.is_none() && is_within { next } else { bounds.first };
    let state = LogState { identity, partitions: info.partitions.len() as u32, ..known };
    let mut batch = matyan_store::Batch::default();
    log_put(&mut batch, LogTopic::Control, &state);
    deps.store.commit(batch).await?;
    Ok(start)
}

async fn position_commit(deps: &Deps, partition: u32, record: &Record) -> Result<(), Error> {
    let Record { offset, appended_us, leader_epoch, .. } = *record;
    let last = LastRecord { offset, appended_us, leader_epoch };
    let applied = AppliedPosition { next: record.offset + 1, last: Some(last), ..AppliedPosition::default() };
    transact(&*deps.store, async |mut transaction: Transaction| {
        transaction.get(&keys::applied(LogTopic::Control, partition)).await?;
        applied_put(transaction.batch(), LogTopic::Control, partition, &applied);
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    Ok(deps.log_reader.trim(Topic::Control, partition, applied.next).await?)
}

fn error_name(error: &Error) -> &'static str {
    match error {
        Error::Store(_) => "fdb",
        Error::Blob(_) | Error::BlobsLeft { .. } => "blob_storage",
        Error::Log(_)
        | Error::Busy(_)
        | Error::Partitions { .. }
        | Error::Shortened { .. }
        | Error::Headless { .. }
        | Error::Replaced
        | Error::Writer(_)
        | Error::Progress => "unknown",
    }
}
