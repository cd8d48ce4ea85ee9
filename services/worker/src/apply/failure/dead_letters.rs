//! Copies of parked items for the dead-letter topic. They are made by a separate task, never in
//! the ingestion path: a slow or unavailable topic costs copies, which are counted, but never
//! delays a run. The store has every parked item.

use std::{sync::Arc, time::Duration};

use matyan_log::{LogWriter, NewRecord, Topic};
use matyan_wire::{dead_letter, headers::Headers};
use prometheus::IntCounter;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
};

use super::park::DeadLetter;
use crate::apply::run_key::RunKey;

/// Capacity for waiting copies: 16 MiB in units of 4 KiB, at least one unit per copy. A larger
/// item takes all of it.
const ROOM: usize = 4_096;
const ROOM_UNIT_BYTES: usize = 4 << 10;
/// Timeout for one append, during which later copies wait; also the timeout for draining at
/// shutdown.
const WAIT: Duration = Duration::from_secs(5);

/// Handle through which writers queue copies.
#[derive(Clone)]
pub(crate) struct DeadLetterQueue {
    sender: mpsc::Sender<QueuedCopies>,
    room: Arc<Semaphore>,
    dropped: IntCounter,
}

struct QueuedCopies {
    records: Vec<NewRecord>,
    /// Released when the copies are made.
    _room: OwnedSemaphorePermit,
}

/// The task that makes the copies. It ends when the last `DeadLetterQueue` handle is dropped.
pub(crate) struct DeadLetterTask(JoinHandle<()>);

impl DeadLetterQueue {
    pub(crate) fn start(log: Arc<dyn LogWriter>, dropped: IntCounter) -> (Self, DeadLetterTask) {
        let (sender, mut copies) = mpsc::channel::<QueuedCopies>(ROOM);
        let lost = dropped.clone();
        let dead_letter_task = tokio::spawn(async move {
            while let Some(QueuedCopies { records, _room }) = copies.recv().await {
                let count = records.len();
                match tokio::time::timeout(WAIT, log.append(Topic::DeadLetters, records)).await {
                    Ok(Ok(_)) => continue,
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "failed to copy dead letters; they remain in the store")
                    }
                    Err(_) => tracing::warn!("timed out copying dead letters; they remain in the store"),
                }
                lost.inc_by(count as u64);
            }
        });
        (Self { sender, room: Arc::new(Semaphore::new(ROOM)), dropped }, DeadLetterTask(dead_letter_task))
    }

    /// Queues copies if there is room for them.
    pub(crate) fn copy(&self, run: &RunKey, parked: &[DeadLetter]) {
        if parked.is_empty() {
            return;
        }
        let bytes: usize = parked.iter().map(|item| item.item.len()).sum();
        let units = (bytes / ROOM_UNIT_BYTES + 1).min(ROOM) as u32;
        let Ok(room) = self.room.clone().try_acquire_many_owned(units) else {
            self.dropped.inc_by(parked.len() as u64);
            return tracing::warn!(
                "dropped copies of dead letters because the queue is full; they remain in the store"
            );
        };
        let mut records = Vec::with_capacity(parked.len());
        for item in parked {
            records.push(NewRecord {
                key: run.id.as_str().as_bytes().to_vec().into(),
                value: item.item.clone(),
                headers: headers(item),
            });
        }
        let copies = QueuedCopies { records, _room: room };
        // Each copy holds at least one permit, so the channel is never full: sending
        // fails only if the task has ended.
        if self.sender.try_send(copies).is_err() {
            self.dropped.inc_by(parked.len() as u64);
        }
    }
}

fn headers(item: &DeadLetter) -> Headers {
    let at = item.at;
    let position = (at.log, at.partition, at.offset, at.item);
    dead_letter::headers(&item.reason, item.content_type, position, &item.project, item.trace.clone())
}

impl DeadLetterTask {
    /// Waits for the queued copies. All handles must have been dropped.
    pub(crate) async fn finish(mut self) {
        match tokio::time::timeout(WAIT, &mut self.0).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the dead-letter task panicked"),
            Err(_) => {
                self.0.abort();
                tracing::warn!("timed out draining dead letters; uncopied ones remain in the store");
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
    use crate::tests::harness::SilentLog;

    fn parked(item: Vec<u8>) -> DeadLetter {
        DeadLetter {
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
        let check = |item: &DeadLetter, expected: &[(&str, &str)]| {
            let headers = headers(item);
            let found = headers.iter().map(|(name, value)| (&**name, std::str::from_utf8(value).unwrap()));
            assert_eq!(found.collect::<Vec<_>>(), expected);
        };
        let plain =
            [("matyan-reason", "bad"), ("content-type", "text/plain"), ("matyan-position", "1/2/3/4")];
        check(&parked(Vec::new()), &plain);
        let other = DeadLetter { project: "p".into(), trace: Some("00-t".into()), ..parked(Vec::new()) };
        check(&other, &[&plain[..], &[("matyan-project", "p"), ("traceparent", "00-t")]].concat());
    }

    #[tokio::test]
    async fn copies_without_room_are_dropped_and_counted() {
        let dropped = IntCounter::new("dropped", "Dropped copies").unwrap();
        let (dead_letters, _dead_letter_task) = DeadLetterQueue::start(Arc::new(SilentLog), dropped.clone());
        let run = RunKey { project: Project::default(), project_name: "".into(), id: RunId::new("r") };
        let item = |bytes| parked(vec![7; bytes]);
        dead_letters.copy(&run, &[item(15 << 20)]);
        assert_eq!(dropped.get(), 0);
        dead_letters.copy(&run, &[item(1 << 20), item(1 << 10)]);
        assert_eq!(dropped.get(), 2);
    }
}
