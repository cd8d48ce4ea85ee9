//! Copies of parked items for the dead-letter topic. They are made by a separate task, never in
//! the ingestion path: a slow or unavailable topic costs copies, which are counted, but never
//! delays a run. The store has every parked item.
//!
//! The key of a copy is the run id. Its headers are: `matyan-reason`; `content-type`;
//! `matyan-position`, its original position in the ingestion log as log, partition, offset, and
//! item, like the ids that `matyan parked ls` prints; `matyan-project` (absent for the default
//! project); and `traceparent`, if its record had one.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use matyan_log::{LogWriter, NewRecord, Topic};
use matyan_trace::TRACEPARENT;
use prometheus::IntCounter;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
};

use super::{RunKey, park::ParkedItem};

/// Capacity for waiting copies: 16 MiB in units of 4 KiB, at least one per copy. A larger item
/// takes all of it.
const ROOM: usize = 4_096;
const ROOM_UNIT_BYTES: usize = 4 << 10;
/// Timeout for one append, during which later copies wait; also the timeout for draining at
/// shutdown.
const WAIT: Duration = Duration::from_secs(5);

/// Handle through which writers queue copies.
#[derive(Clone)]
pub(crate) struct DeadLetters {
    sender: mpsc::Sender<Copies>,
    room: Arc<Semaphore>,
    dropped: IntCounter,
}

struct Copies {
    records: Vec<NewRecord>,
    /// Released when the copies are made.
    _room: OwnedSemaphorePermit,
}

/// The task that makes the copies. It ends when the last `DeadLetters` handle is dropped.
pub(crate) struct Copier(JoinHandle<()>);

impl DeadLetters {
    pub(crate) fn start(log: Arc<dyn LogWriter>, dropped: IntCounter) -> (Self, Copier) {
        let (sender, mut copies) = mpsc::channel::<Copies>(ROOM);
        let lost = dropped.clone();
        let copier = tokio::spawn(async move {
            while let Some(Copies { records, _room }) = copies.recv().await {
                let count = records.len();
                match tokio::time::timeout(WAIT, log.append(Topic::DeadLetters, records)).await {
                    Ok(Ok(_)) => continue,
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "failed to copy dead letters; the store still has them")
                    }
                    Err(_) => tracing::warn!("timed out copying dead letters; the store still has them"),
                }
                lost.inc_by(count as u64);
            }
        });
        (Self { sender, room: Arc::new(Semaphore::new(ROOM)), dropped }, Copier(copier))
    }

    /// Queues copies if there is room for them.
    pub(super) fn copy(&self, run: &RunKey, parked: &[ParkedItem]) {
        if parked.is_empty() {
            return;
        }
        let bytes: usize = parked.iter().map(|item| item.item.len()).sum();
        let units = (bytes / ROOM_UNIT_BYTES + 1).min(ROOM) as u32;
        let Ok(room) = self.room.clone().try_acquire_many_owned(units) else {
            self.dropped.inc_by(parked.len() as u64);
            return tracing::warn!(
                "dropped copies of dead letters: the queue is full; the store still has them"
            );
        };
        let copy = |item: &ParkedItem| NewRecord {
            key: run.id.as_str().as_bytes().to_vec().into(),
            value: item.item.clone(),
            headers: headers(item),
        };
        let copies = Copies { records: parked.iter().map(copy).collect(), _room: room };
        // Each copy holds at least one permit, so the channel is never full: sending
        // fails only if the task has ended.
        if self.sender.try_send(copies).is_err() {
            self.dropped.inc_by(parked.len() as u64);
        }
    }
}

fn headers(item: &ParkedItem) -> Vec<(String, Bytes)> {
    let at = item.at;
    let position = format!("{}/{}/{}/{}", at.log, at.partition, at.offset, at.item);
    let project = Some(&item.project).filter(|project| !project.is_empty());
    let headers = [
        ("matyan-reason", Some(item.reason.clone().into())),
        ("content-type", Some(item.content_type.into())),
        ("matyan-position", Some(position.into())),
        ("matyan-project", project.map(|project| project.clone().into())),
        (TRACEPARENT, item.trace.clone()),
    ];
    headers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

impl Copier {
    /// Waits for the queued copies. All handles must have been dropped.
    pub(crate) async fn finish(mut self) {
        match tokio::time::timeout(WAIT, &mut self.0).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the dead-letter task panicked"),
            Err(_) => {
                self.0.abort();
                tracing::warn!(
                    "timed out draining dead letters; some were not copied, the store still has them"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use matyan_model::{
        ids::{Project, RunId},
        keys::ItemPosition,
    };

    use super::*;
    use crate::tests::harness::Silent;

    fn parked(item: Vec<u8>) -> ParkedItem {
        ParkedItem {
            reason: "bad".into(),
            item: item.into(),
            content_type: "text/plain",
            at: ItemPosition { log: 1, partition: 2, offset: 3, item: 4 },
            project: String::new(),
            trace: None,
        }
    }

    #[test]
    fn a_copy_says_where_its_item_comes_from() {
        let check = |item: &ParkedItem, expected: &[(&str, &str)]| {
            let headers = headers(item);
            let told = headers.iter().map(|(name, value)| (&**name, std::str::from_utf8(value).unwrap()));
            assert_eq!(told.collect::<Vec<_>>(), expected);
        };
        let plain =
            [("matyan-reason", "bad"), ("content-type", "text/plain"), ("matyan-position", "1/2/3/4")];
        check(&parked(Vec::new()), &plain);
        let other = ParkedItem { project: "p".into(), trace: Some("00-t".into()), ..parked(Vec::new()) };
        check(&other, &[&plain[..], &[("matyan-project", "p"), ("traceparent", "00-t")]].concat());
    }

    #[tokio::test]
    async fn copies_without_room_are_dropped_and_counted() {
        let dropped = IntCounter::new("dropped", "Dropped copies").unwrap();
        let (dead_letters, _copier) = DeadLetters::start(Arc::new(Silent), dropped.clone());
        let run = RunKey { project: Project::default(), project_name: "".into(), id: RunId::new("r") };
        let item = |bytes| parked(vec![7; bytes]);
        dead_letters.copy(&run, &[item(15 << 20)]);
        assert_eq!(dropped.get(), 0);
        dead_letters.copy(&run, &[item(1 << 20), item(1 << 10)]);
        assert_eq!(dropped.get(), 2);
    }
}
