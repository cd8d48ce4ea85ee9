//! Copies of parked items for the dead-letter topic. They are made beside the line and never in it: a topic that is slow or
//! away costs copies, which are counted, and no run waits for it. The store has every item.
//!
//! The key of a copy is the run id. Its headers: `matyan-reason`; `content-type`; `matyan-position`, where it stood in the log of
//! ingestion: log, partition, offset and item, as `matyan parked ls` begins its ids; `matyan-project` (absent: the default one); and
//! `traceparent`, if its record had one.

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

/// Room for copies that wait: 16 MiB, or as many small ones. A larger item takes all of it.
const ROOM: usize = 4_096;
const ROOM_UNIT_BYTES: usize = 4 << 10;
/// How long a copy may take; the next one waits meanwhile. Also how long copies are waited for at the end.
const WAIT: Duration = Duration::from_secs(5);

/// Where writers leave their copies.
#[derive(Clone)]
pub(crate) struct DeadLetters {
    sender: mpsc::Sender<Copies>,
    room: Arc<Semaphore>,
    dropped: IntCounter,
}

struct Copies {
    records: Vec<NewRecord>,
    /// Given back when the copies are made.
    _room: OwnedSemaphorePermit,
}

/// The task that makes the copies. It ends when nobody can leave any more.
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
                        tracing::warn!(%error, "dead letters were not copied; the store has them")
                    }
                    Err(_) => tracing::warn!("copying dead letters takes too long; the store has them"),
                }
                lost.inc_by(count as u64);
            }
        });
        (Self { sender, room: Arc::new(Semaphore::new(ROOM)), dropped }, Copier(copier))
    }

    /// Leaves copies, if there is room for them.
    pub(super) fn copy(&self, run: &RunKey, parked: &[ParkedItem]) {
        if parked.is_empty() {
            return;
        }
        let bytes: usize = parked.iter().map(|item| item.item.len()).sum();
        let units = (bytes / ROOM_UNIT_BYTES + 1).min(ROOM) as u32;
        let Ok(room) = self.room.clone().try_acquire_many_owned(units) else {
            self.dropped.inc_by(parked.len() as u64);
            return tracing::warn!("dead letters are not copied, as too many wait; the store has them");
        };
        let copy = |item: &ParkedItem| NewRecord {
            key: run.id.as_str().as_bytes().to_vec().into(),
            value: item.item.clone(),
            headers: headers(item),
        };
        let copies = Copies { records: parked.iter().map(copy).collect(), _room: room };
        // There is place for as many copies as there is room, so only the task's end refuses one.
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
    /// Waits for the copies that were left, when nobody leaves any more.
    pub(crate) async fn finish(mut self) {
        match tokio::time::timeout(WAIT, &mut self.0).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the copies of dead letters ended badly"),
            Err(_) => {
                self.0.abort();
                tracing::warn!("some dead letters were not copied; the store has them");
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
    fn a_copy_tells_where_its_item_comes_from() {
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
    async fn what_there_is_no_room_for_is_dropped_and_counted() {
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
