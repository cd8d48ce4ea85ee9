//! Behavior specific to this log: its directory, settings, and hand-off. The guarantees of the
//! traits are tested in `conformance`.

mod damage;
#[cfg(feature = "faults")]
mod power_failure;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::{
    partition::Extent,
    queue::{Queue, Work},
    shares::UntrimmedShares,
    *,
};
use crate::{Delivery, PartitionInfo, Position, Record};

fn record(key: &str, value: impl Into<Bytes>) -> NewRecord {
    NewRecord { key: Bytes::copy_from_slice(key.as_bytes()), value: value.into(), headers: vec![] }
}

fn numbered(numbers: std::ops::Range<u64>) -> Vec<NewRecord> {
    numbers.map(|number| record("run", number.to_string())).collect()
}

async fn open(directory: &TempDir) -> EmbeddedLog {
    EmbeddedLog::open(directory.path(), Settings::default()).await.unwrap()
}

async fn subscribe(log: &EmbeddedLog, offset: u64) -> Box<dyn Subscription> {
    let mut subscription = log.subscribe(Topic::Ingestion).await.unwrap();
    assert!(matches!(subscription.next().await.unwrap(), Delivery::Assigned { partition: 0 }));
    subscription.start(0, offset.into()).await.unwrap();
    subscription
}

async fn read(subscription: &mut dyn Subscription, count: usize) -> Vec<Record> {
    let mut all = Vec::new();
    while all.len() < count {
        match subscription.next().await.unwrap() {
            Delivery::Records { records, .. } => all.extend(records),
            other => panic!("{other:?}"),
        }
    }
    all
}

fn values(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| std::str::from_utf8(&record.value).unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn ended_returns_when_the_committer_panics() {
    let folder = tempfile::tempdir().unwrap();
    let deps = Deps { clock: Arc::new(|| panic!("broken clock")), ..Deps::system() };
    let log = EmbeddedLog::open_with(folder.path(), Settings::default(), deps).await.unwrap();
    let record = NewRecord { key: Bytes::new(), value: Bytes::from_static(b"v"), headers: Vec::new() };
    let _append = log.append(Topic::Ingestion, vec![record]);
    tokio::time::timeout(Duration::from_secs(60), log.ended()).await.unwrap();
    assert!(log.close().await.is_err());
}

#[tokio::test]
async fn records_survive_reopening() {
    let directory = TempDir::new().unwrap();
    let log = open(&directory).await;
    let positions = log.append(Topic::Ingestion, numbered(0..3)).await.unwrap();
    assert_eq!(positions.iter().map(|position| position.offset).collect::<Vec<_>>(), [0, 1, 2]);
    let before = log.describe(Topic::Ingestion).await.unwrap();
    log.close().await.unwrap();

    let log = open(&directory).await;
    assert_eq!(log.describe(Topic::Ingestion).await.unwrap(), before);
    let mut subscription = subscribe(&log, 1).await;
    assert_eq!(values(&read(&mut *subscription, 2).await), [1, 2]);
    let more = log.append(Topic::Ingestion, numbered(3..4)).await.unwrap();
    assert_eq!(more, [Position { partition: 0, offset: 3 }]);
    assert_eq!(values(&read(&mut *subscription, 1).await), [3]);
}

#[tokio::test]
async fn offsets_continue_after_everything_was_trimmed() {
    let directory = TempDir::new().unwrap();
    let log = open(&directory).await;
    log.append(Topic::Ingestion, numbered(0..5)).await.unwrap();
    log.trim(Topic::Ingestion, 0, 5).await.unwrap();
    log.close().await.unwrap();

    let log = open(&directory).await;
    assert_eq!(
        log.describe(Topic::Ingestion).await.unwrap().partitions,
        [PartitionInfo { first: 5, end: 5 }]
    );
    assert_eq!(
        log.append(Topic::Ingestion, numbered(5..6)).await.unwrap(),
        [Position { partition: 0, offset: 5 }]
    );
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let directory = TempDir::new().unwrap();
    let log = open(&directory).await;
    let error = EmbeddedLog::open(directory.path(), Settings::default()).await.err().unwrap();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    drop(log);
    open(&directory).await;
}

#[tokio::test]
async fn a_full_log_waits_until_it_is_trimmed() {
    let directory = TempDir::new().unwrap();
    let settings =
        Settings { max_unread_bytes: 1000, append_wait: Duration::from_secs(2), ..Settings::default() };
    let log = EmbeddedLog::open(directory.path(), settings).await.unwrap();
    log.append(Topic::Ingestion, vec![record("run", vec![0; 1000])]).await.unwrap();
    let error = log.append(Topic::Ingestion, numbered(0..1)).await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    log.append(Topic::Control, numbered(0..1)).await.unwrap();
    log.trim(Topic::Ingestion, 0, 1).await.unwrap();
    let positions = log.append(Topic::Ingestion, numbered(1..2)).await.unwrap();
    assert_eq!(positions[0].offset, 1, "a refused append leaves no trace");
}

#[tokio::test]
async fn dead_letters_make_room_for_themselves() {
    let directory = TempDir::new().unwrap();
    let settings = Settings { dead_letter_bytes: 10_000, max_unread_bytes: 1000, ..Settings::default() };
    let log = EmbeddedLog::open(directory.path(), settings.clone()).await.unwrap();
    for _ in 0..100 {
        log.append(Topic::DeadLetters, vec![record("", vec![0; 1000])]).await.unwrap();
    }
    log.close().await.unwrap();
    assert!(
        log.describe(Topic::DeadLetters).await.unwrap_err().is_temporary(),
        "a closed log is unavailable"
    );
    drop(log);
    let log = EmbeddedLog::open(directory.path(), settings).await.unwrap();
    let info = log.describe(Topic::DeadLetters).await.unwrap().partitions[0];
    assert_eq!(info.end, 100);
    assert!((90..100).contains(&info.first), "{info:?}");
}

#[tokio::test]
async fn rule_39_a_key_that_fills_its_share_of_the_log_delays_no_others() {
    let directory = TempDir::new().unwrap();
    let settings = Settings { max_unread_bytes: 100_000, ..Settings::default() };
    let log = EmbeddedLog::open(directory.path(), settings).await.unwrap();
    let append = |key: &'static str| log.append(Topic::Ingestion, vec![record(key, vec![7; 1_000])]);
    let numbered = |number| append("flood").map(move |written| (number, written.unwrap()[0].offset));
    let mut flood: FuturesUnordered<_> = (0..200).map(numbered).collect();
    let mut taken = Vec::new();
    // Each of these is written at once, however many appends of the other key wait.
    for _ in 0..20 {
        append("other").await.unwrap();
    }
    while let Some(Some(written)) = flood.next().now_or_never() {
        taken.push(written);
    }
    assert!((40..52).contains(&taken.len()), "{} records were taken", taken.len());
    // The appends that waited are written in order.
    while !flood.is_empty() {
        let end = log.describe(Topic::Ingestion).await.unwrap().partitions[0].end;
        log.trim(Topic::Ingestion, 0, end).await.unwrap();
        taken.push(flood.next().await.unwrap());
    }
    taken.sort_by_key(|(number, _)| *number);
    assert!(taken.is_sorted_by_key(|(_, offset)| *offset));
}

#[tokio::test]
async fn rule_39_a_key_that_fills_its_share_of_the_queue_refuses_no_others() {
    // More appends than may wait, and more bytes.
    for (appends, bytes) in [(70_000, 100), (300, 1 << 20)] {
        let directory = TempDir::new().unwrap();
        let settings = Settings { max_unread_bytes: 10 * bytes as u64, ..Settings::default() };
        let log = EmbeddedLog::open(directory.path(), settings).await.unwrap();
        let value = Bytes::from(vec![7; bytes]);
        let append = |key| log.append(Topic::Ingestion, vec![record(key, value.clone())]);
        let mut flood: Vec<_> = (0..appends).map(|_| append("flood")).collect();
        append("other").await.unwrap();
        let answers = flood.iter_mut().filter_map(|append| append.now_or_never());
        let refused: Vec<_> = answers.filter_map(Result::err).collect();
        assert!(refused.len() > appends / 3, "{} of {appends} appends were refused", refused.len());
        for error in refused {
            assert!(error.is_temporary() && error.to_string().contains("with the same key"), "{error}");
        }
        // Appends that are given up leave their room, but some may be written just now.
        drop(flood);
        let mut appended = append("flood");
        loop {
            let end = log.describe(Topic::Ingestion).await.unwrap().partitions[0].end;
            log.trim(Topic::Ingestion, 0, end).await.unwrap();
            tokio::select! {
                appended = &mut appended => break drop(appended.unwrap()),
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
            }
        }
    }
}

#[test]
fn rule_39_a_group_has_room_for_keys_that_wait_behind_larger_queues() {
    // Many appends, large ones, and some that are larger than a group.
    for (appends, bytes) in [(20_000, 100), (100, 1 << 20), (12, 5 << 20)] {
        let queue = Queue::default();
        let append = |key: &str, number: u64, bytes: usize| {
            let (reply, answer) = oneshot::channel();
            let value = [&number.to_be_bytes()[..], &vec![0; bytes]].concat();
            queue.append(vec![record(key, value)], reply).unwrap();
            answer
        };
        let mut answers: Vec<_> = (0..appends).map(|number| append("flood", number, bytes)).collect();
        answers.push(append("other", 0, 100));
        let mut shares = UntrimmedShares::new(u64::MAX);
        let mut taken = Vec::new();
        while (taken.len() as u64) < appends {
            let Work::Write(group) = queue.take(Duration::ZERO, &mut shares, Extent::default) else {
                panic!("nothing is taken")
            };
            let records = group.into_iter().flat_map(|append| append.records);
            let (others, flood): (Vec<_>, Vec<_>) = records.partition(|record| record.key == "other");
            assert_eq!(others.len(), usize::from(taken.is_empty()), "it is in the first group");
            assert!(!flood.is_empty(), "the rest of a group is filled");
            taken.extend(
                flood.into_iter().map(|record| u64::from_be_bytes(record.value[..8].try_into().unwrap())),
            );
        }
        assert_eq!(taken, (0..appends).collect::<Vec<_>>());
        assert!(queue.examined() <= 3 * appends, "{} for {appends} appends", queue.examined());
    }
}

/// Work is counted, never timed.
#[test]
fn rule_39_appends_that_must_wait_behind_others_of_their_key_are_not_looked_at() {
    let queue = Queue::default();
    let mut answers = Vec::new();
    let mut append = |keys: &[&str]| {
        let (reply, answer) = oneshot::channel();
        answers.push(answer);
        queue.append(keys.iter().map(|key| record(key, vec![7; 100])).collect(), reply).unwrap();
    };
    let mut shares = UntrimmedShares::new(100_000);
    let mut written = 0;
    let mut take = || {
        let extent = || Extent { end: 1, bytes_before_end: written, ..Extent::default() };
        let Work::Write(group) = queue.take(Duration::ZERO, &mut shares, extent) else { return Vec::new() };
        let records: Vec<_> = group.into_iter().flat_map(|append| append.records).collect();
        written += 100 * records.len() as u64;
        records.into_iter().map(|record| record.key).collect()
    };
    for _ in 0..20_000 {
        append(&["flood"]);
    }
    while !take().is_empty() {}
    // Waits for the flood, although the flood is not its first key.
    append(&["third", "flood"]);
    append(&["third"]);
    let before = queue.examined();
    for _ in 0..20 {
        append(&["other"]);
        assert_eq!(take(), ["other"]);
    }
    let examined = queue.examined() - before;
    assert!(examined <= 4 * 20, "{examined} appends for 20 groups");
}

/// Unread bytes exceed the bound by one record at most: appends wait, then fail, and succeed after
/// a trim.
#[tokio::test]
async fn rule_31_a_full_log_waits_then_fails_and_accepts_more_after_a_trim() {
    let directory = TempDir::new().unwrap();
    // Far longer than a write takes on a slow disk.
    let append_wait = std::time::Duration::from_secs(5);
    let settings = Settings { max_unread_bytes: 5_000, append_wait, ..Settings::default() };
    let log = EmbeddedLog::open(directory.path(), settings).await.unwrap();
    let append =
        async |run: usize| log.append(Topic::Ingestion, vec![record(&run.to_string(), vec![7; 1_000])]).await;
    let mut taken = 0;
    let refused = loop {
        match append(taken).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 10, "the log accepts records without limit");
    };
    assert!(refused.is_temporary() && refused.to_string().contains("not written within"), "{refused}");
    assert!((4..=5).contains(&taken), "{taken} records of a kilobyte");
    log.trim(Topic::Ingestion, 0, 3).await.unwrap();
    append(0).await.unwrap();
}

#[tokio::test]
async fn a_subscriber_that_falls_behind_reads_the_log() {
    let directory = TempDir::new().unwrap();
    let settings = Settings { hand_off_bytes: 500, ..Settings::default() };
    let log = EmbeddedLog::open(directory.path(), settings).await.unwrap();
    let mut subscription = subscribe(&log, 0).await;
    for number in 0..100 {
        log.append(Topic::Ingestion, numbered(number..number + 1)).await.unwrap();
    }
    assert_eq!(values(&read(&mut *subscription, 100).await), (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn closing_answers_pending_appends() {
    let directory = TempDir::new().unwrap();
    let log = open(&directory).await;
    let mut subscription = subscribe(&log, 0).await;
    let appends: Vec<_> =
        (0..500).map(|number| log.append(Topic::Ingestion, numbered(number..number + 1))).collect();
    log.close().await.unwrap();
    for append in appends {
        append.await.unwrap();
    }
    let error = log.append(Topic::Ingestion, numbered(0..1)).await.unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
    assert!(subscription.next().await.unwrap_err().is_temporary());
    assert!(log.trim(Topic::Ingestion, 0, 1).await.is_err());
}

#[tokio::test]
async fn a_reader_at_a_trimmed_offset_gets_one_error() {
    let directory = TempDir::new().unwrap();
    let log = open(&directory).await;
    log.append(Topic::Ingestion, numbered(0..5)).await.unwrap();
    let mut subscription = subscribe(&log, 0).await;
    log.trim(Topic::Ingestion, 0, 3).await.unwrap();
    let error = subscription.next().await.unwrap_err();
    assert!(matches!(error, Error::Trimmed { requested: 0, first: 3, .. }), "{error}");
    let repeated = subscription.next().now_or_never();
    assert!(repeated.is_none(), "{repeated:?}");
    subscription.start(0, 3.into()).await.unwrap();
    assert_eq!(values(&read(&mut *subscription, 2).await), [3, 4]);
}

/// Disk usage as the file system counts it, with reserved space.
fn directory_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;

    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            if path.is_dir() {
                directory_bytes(&path)
            } else {
                path.metadata().map_or(0, |meta| meta.blocks() * 512)
            }
        })
        .sum()
}

#[tokio::test]
async fn a_trimmed_idle_log_uses_little_disk_space() {
    let directory = TempDir::new().unwrap();
    let log = open(&directory).await;
    for first in (0..2000).step_by(50) {
        log.append(Topic::Ingestion, (0..50).map(|_| record("run", vec![7; 20_000])).collect())
            .await
            .unwrap();
        log.trim(Topic::Ingestion, 0, first + 50).await.unwrap();
        let bytes = directory_bytes(directory.path());
        assert!(bytes < 36 << 20, "{bytes} bytes are used while 40 MB are written and trimmed");
    }
    let start = std::time::Instant::now();
    while directory_bytes(directory.path()) > 64 << 10 {
        assert!(start.elapsed() < Duration::from_secs(60), "{} bytes", directory_bytes(directory.path()));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(log.append(Topic::Ingestion, numbered(0..1)).await.unwrap()[0].offset, 2000);
    log.close().await.unwrap();
    let log = open(&directory).await;
    let info = log.describe(Topic::Ingestion).await.unwrap().partitions[0];
    assert_eq!(info, PartitionInfo { first: 2000, end: 2001 });
}

#[tokio::test]
async fn an_interrupted_creation_is_repeated() {
    let directory = TempDir::new().unwrap();
    create(directory.path(), &Deps::system()).unwrap();
    std::fs::remove_file(directory.path().join("state")).unwrap();
    std::fs::remove_dir_all(directory.path().join("control")).unwrap();
    std::fs::write(directory.path().join("ingestion/00000000000000000007.new"), [0; 10]).unwrap();
    let log = open(&directory).await;
    log.append(Topic::Ingestion, numbered(0..1)).await.unwrap();
    assert!(!directory.path().join("ingestion/00000000000000000007.new").exists());
}
