//! Failures of the disk, on a disk that loses unsynced changes.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use rustix::io::Errno;

use super::*;
use crate::layers::{DiskOperation, LossyDisk};

const SEEDS: u64 = 60;
const GENERATIONS: u64 = 3;
const WRITERS: u64 = 4;

async fn open_on(directory: &TempDir, disk: &Arc<LossyDisk>, settings: Settings) -> EmbeddedLog {
    let deps = Deps { disk: disk.clone(), ..Deps::system() };
    EmbeddedLog::open_with(directory.path(), settings, deps).await.unwrap()
}

/// Small, so that a test fills many.
fn small_segments() -> Settings {
    Settings { segment_bytes: 20_000, append_wait: Duration::from_millis(200), ..Settings::default() }
}

async fn info(log: &EmbeddedLog) -> PartitionInfo {
    log.describe(Topic::Ingestion).await.unwrap().partitions[0]
}

async fn all_records(log: &EmbeddedLog) -> Vec<Record> {
    let PartitionInfo { first, end } = info(log).await;
    let mut subscription = subscribe(log, first).await;
    read(&mut *subscription, (end - first) as usize).await
}

/// Appends until the power is cut, and notes the acknowledged records.
async fn write(
    log: Arc<EmbeddedLog>,
    seed: u64,
    acknowledged: Arc<Mutex<BTreeMap<u64, Bytes>>>,
    has_power: Arc<AtomicBool>,
) {
    let mut random = StdRng::seed_from_u64(seed);
    loop {
        let count = random.random_range(1..4);
        let records: Vec<_> = (0..count)
            .map(|_| {
                let bytes = random.random_range(0..3_000);
                let value: Vec<u8> = (0..bytes).map(|_| random.random()).collect();
                record("run", value)
            })
            .collect();
        let positions = match log.append(Topic::Ingestion, records.clone()).await {
            Ok(positions) => positions,
            Err(_) if !has_power.load(Ordering::Relaxed) => return,
            // On a busy machine, syncing may take longer than an append waits.
            Err(error) if error.is_temporary() => continue,
            Err(error) => panic!("{error}"),
        };
        let mut acknowledged = acknowledged.lock().unwrap();
        for (position, record) in positions.into_iter().zip(records) {
            let previous = acknowledged.insert(position.offset, record.value);
            assert!(previous.is_none(), "offset {} was acknowledged twice", position.offset);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_30_acknowledged_records_survive_power_failures() {
    for seed in 0..SEEDS {
        let directory = TempDir::new().unwrap();
        let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
        let trimmed = AtomicU64::new(0);
        for generation in 0..GENERATIONS {
            let disk = Arc::new(LossyDisk::seeded(seed << 8 | generation));
            let log = Arc::new(open_on(&directory, &disk, small_segments()).await);
            let before = acknowledged.lock().unwrap().len();
            let has_power = Arc::new(AtomicBool::new(true));
            let writers: Vec<_> = (0..WRITERS)
                .map(|number| {
                    let seed = seed << 16 | generation << 8 | number;
                    tokio::spawn(write(log.clone(), seed, acknowledged.clone(), has_power.clone()))
                })
                .collect();
            let wanted = before + 5 + (seed as usize * 7) % 120;
            while acknowledged.lock().unwrap().len() < wanted {
                tokio::task::yield_now().await;
            }
            if seed % 2 == 0 {
                let offset = info(&log).await.end / 2;
                log.trim(Topic::Ingestion, 0, offset).await.unwrap();
                trimmed.fetch_max(offset, Ordering::Relaxed);
            }
            has_power.store(false, Ordering::Relaxed);
            disk.cut_power();
            for writer in writers {
                writer.await.unwrap();
            }
            drop(log);

            let log = open(&directory).await;
            let found = info(&log).await;
            assert_eq!(found.first, trimmed.load(Ordering::Relaxed), "seed {seed}");
            let records: BTreeMap<_, _> =
                all_records(&log).await.into_iter().map(|record| (record.offset, record.value)).collect();
            let acknowledged = acknowledged.lock().unwrap().clone();
            for (offset, value) in acknowledged.range(found.first..) {
                assert_eq!(
                    records.get(offset),
                    Some(value),
                    "seed {seed}, generation {generation}, {offset}"
                );
            }
            log.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn rule_29_a_full_disk_costs_nothing_that_was_acknowledged() {
    for operation in [DiskOperation::Write, DiskOperation::Reserve, DiskOperation::Sync] {
        let directory = TempDir::new().unwrap();
        let disk = Arc::new(LossyDisk::seeded(1));
        let log = open_on(&directory, &disk, small_segments()).await;
        log.append(Topic::Ingestion, numbered(0..3)).await.unwrap();
        for _ in 0..20 {
            disk.fail(operation, ErrorKind::StorageFull);
        }
        // Large, so that the file has remains of it after the next, smaller append.
        let refused = vec![record("run", vec![7; 15_000]), record("run", vec![8; 15_000])];
        let error = log.append(Topic::Ingestion, refused).await.unwrap_err();
        assert!(error.is_temporary(), "{error}");
        let error = log.describe(Topic::Ingestion).await.unwrap_err();
        assert!(error.to_string().contains("check that the disk has space"), "{error}");
        log.trim(Topic::Ingestion, 0, 2).await.unwrap_or_else(|error| panic!("{operation:?}: {error}"));
        let position = loop {
            match log.append(Topic::Ingestion, numbered(3..4)).await {
                Ok(positions) => break positions[0],
                Err(error) => assert!(error.is_temporary(), "{error}"),
            }
        };
        assert!(!disk.has_faults());
        disk.cut_power();
        drop(log);
        let log = open(&directory).await;
        let records = all_records(&log).await;
        assert_eq!(values(&records[..1]), [2], "{operation:?}");
        let last = records.last().unwrap();
        assert_eq!((last.offset, &last.value[..]), (position.offset, &b"3"[..]), "{operation:?}");
    }
}

/// The file with the identity and the trimmed offsets, on a full disk that then loses power.
#[tokio::test]
async fn rule_29_a_trim_that_fails_is_repeated() {
    for seed in 0..20 {
        let directory = TempDir::new().unwrap();
        let disk = Arc::new(LossyDisk::seeded(seed));
        let log = open_on(&directory, &disk, small_segments()).await;
        log.append(Topic::Ingestion, numbered(0..9)).await.unwrap();
        log.trim(Topic::Ingestion, 0, 2).await.unwrap();
        for steps in 0..2 {
            disk.fail_after(steps, ErrorKind::StorageFull);
            let error = log.trim(Topic::Ingestion, 0, 4).await.unwrap_err();
            assert!(error.is_temporary(), "{error}");
        }
        let is_repeated = seed % 2 == 0;
        if is_repeated {
            disk.repair();
            log.trim(Topic::Ingestion, 0, 5).await.unwrap();
        }
        disk.cut_power();
        drop(log);
        let log = open(&directory).await;
        let first = info(&log).await.first;
        assert!(if is_repeated { first == 5 } else { first == 2 || first == 4 }, "seed {seed}: {first}");
        assert_eq!(all_records(&log).await.len() as u64, 9 - first);
    }
}

#[tokio::test]
async fn an_unknown_state_of_the_disk_ends_the_log() {
    for operation in [DiskOperation::Write, DiskOperation::Sync] {
        for seed in 0..10 {
            let directory = TempDir::new().unwrap();
            let disk = Arc::new(LossyDisk::seeded(seed));
            let log = open_on(&directory, &disk, small_segments()).await;
            log.append(Topic::Ingestion, numbered(0..3)).await.unwrap();
            disk.fail(operation, ErrorKind::Other);
            let error = log.append(Topic::Ingestion, vec![record("run", vec![7; 5_000])]).await.unwrap_err();
            assert!(error.is_temporary(), "{error}");
            log.ended().await;
            assert!(log.append(Topic::Ingestion, numbered(3..4)).await.is_err());
            assert!(log.describe(Topic::Ingestion).await.is_err());
            disk.cut_power();
            drop(log);
            let log = open(&directory).await;
            let mut subscription = subscribe(&log, 0).await;
            assert_eq!(values(&read(&mut *subscription, 3).await[..3]), [0, 1, 2]);
        }
    }
}

/// The file of the next segment exists, but its creation has failed.
#[tokio::test]
async fn a_failed_rotation_hides_no_records() {
    let directory = TempDir::new().unwrap();
    let disk = Arc::new(LossyDisk::seeded(1));
    let log = open_on(&directory, &disk, small_segments()).await;
    log.append(Topic::Ingestion, numbered(0..3)).await.unwrap();
    for _ in 0..6 {
        disk.fail(DiskOperation::SyncDirectory, ErrorKind::StorageFull);
    }
    // Too large for the segment, while the next append fits.
    let error = log.append(Topic::Ingestion, vec![record("run", vec![7; 30_000])]).await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    let position = loop {
        match log.append(Topic::Ingestion, numbered(3..4)).await {
            Ok(positions) => break positions[0],
            Err(error) => assert!(error.is_temporary(), "{error}"),
        }
    };
    log.close().await.unwrap();
    let log = open(&directory).await;
    let records = all_records(&log).await;
    assert_eq!(values(&records[..3]), [0, 1, 2]);
    assert_eq!(records.last().unwrap().offset, position.offset);
}

/// The name of the next segment may be lost, although the next sync of its directory succeeds.
#[tokio::test]
async fn rule_29_a_segment_whose_name_may_be_lost_ends_the_log() {
    // The last two have no kind of their own.
    for error in [Errno::IO, Errno::ROFS, Errno::STALE, Errno::NODEV, Errno::NXIO] {
        let directory = TempDir::new().unwrap();
        let disk = Arc::new(LossyDisk::seeded(1));
        let log = open_on(&directory, &disk, small_segments()).await;
        log.append(Topic::Ingestion, numbered(0..3)).await.unwrap();
        disk.fail(DiskOperation::SyncDirectory, error);
        log.append(Topic::Ingestion, vec![record("run", vec![7; 30_000])]).await.unwrap_err();
        log.ended().await;
        assert!(log.append(Topic::Ingestion, numbered(3..4)).await.is_err());
        disk.cut_power();
        drop(log);
        let log = open(&directory).await;
        assert_eq!(values(&all_records(&log).await[..3]), [0, 1, 2]);
    }
}

/// Too many open files are one such error. Here, the directory has another name for a while.
#[tokio::test]
async fn rule_29_a_segment_that_cannot_be_opened_is_created_later() {
    let directory = TempDir::new().unwrap();
    let disk = Arc::new(LossyDisk::seeded(1));
    let log = open_on(&directory, &disk, small_segments()).await;
    log.append(Topic::Ingestion, numbered(0..3)).await.unwrap();
    let topic = directory.path().join("ingestion");
    let aside = directory.path().join("aside");
    std::fs::rename(&topic, &aside).unwrap();
    let error = log.append(Topic::Ingestion, vec![record("run", vec![7; 30_000])]).await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    std::fs::rename(&aside, &topic).unwrap();
    let position = loop {
        match log.append(Topic::Ingestion, numbered(3..4)).await {
            Ok(positions) => break positions[0],
            Err(error) => assert!(error.is_temporary(), "{error}"),
        }
    };
    log.close().await.unwrap();
    let log = open(&directory).await;
    let records = all_records(&log).await;
    assert_eq!(values(&records[..3]), [0, 1, 2]);
    assert_eq!(records.last().unwrap().offset, position.offset);
}
