//! Damaged files: unsynced bytes are cut off, and any other damage is reported.

use std::{fs, path::PathBuf};

use super::*;

fn segment(directory: &TempDir, first: u64) -> PathBuf {
    directory.path().join(format!("ingestion/{first:020}.log"))
}

async fn opening_error(directory: &TempDir) -> String {
    let error = EmbeddedLog::open(directory.path(), Settings::default()).await.err().unwrap();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    error.to_string()
}

async fn extent(log: &EmbeddedLog) -> PartitionInfo {
    log.describe(Topic::Ingestion).await.unwrap().partitions[0]
}

/// Zeroes bytes of a file, like sectors that never reached the disk.
fn clear(path: &Path, at: usize, bytes: usize) {
    let mut content = fs::read(path).unwrap();
    content[at..at + bytes].fill(0);
    fs::write(path, content).unwrap();
}

/// Position of the last `needle` in a file.
fn find(path: &Path, needle: &[u8]) -> usize {
    fs::read(path).unwrap().windows(needle.len()).rposition(|window| window == needle).unwrap()
}

/// Three records, then one append of two large records. The log was not closed, so the last
/// append could be a torn write.
async fn killed_log() -> TempDir {
    let directory = TempDir::new().unwrap();
    let copy = TempDir::new().unwrap();
    let log = open(&directory).await;
    log.append(Topic::Ingestion, numbered(0..3)).await.unwrap();
    let large = [b'a', b'b'].map(|byte| record("run", vec![byte; 20_000]));
    log.append(Topic::Ingestion, large.to_vec()).await.unwrap();
    for topic in ["ingestion", "control", "dead-letters"] {
        fs::create_dir_all(copy.path().join(topic)).unwrap();
    }
    for file in [
        "state",
        "engine",
        "ingestion/00000000000000000000.log",
        "control/00000000000000000000.log",
        "dead-letters/00000000000000000000.log",
    ] {
        fs::copy(directory.path().join(file), copy.path().join(file)).unwrap();
    }
    copy
}

#[tokio::test]
async fn a_torn_last_write_costs_only_that_write() {
    for needle in [[b'a'; 1000], [b'b'; 1000]] {
        let directory = killed_log().await;
        let path = segment(&directory, 0);
        let at = find(&path, &needle);
        clear(&path, at, 1000);
        let log = open(&directory).await;
        let end = if needle[0] == b'a' { 3 } else { 4 };
        assert_eq!(extent(&log).await, PartitionInfo { first: 0, end });
        assert_eq!(log.append(Topic::Ingestion, numbered(9..10)).await.unwrap()[0].offset, end);
        log.close().await.unwrap();
        let log = open(&directory).await;
        assert_eq!(extent(&log).await, PartitionInfo { first: 0, end: end + 1 });
    }
}

#[tokio::test]
async fn rule_30_damage_of_a_synced_record_is_reported() {
    let directory = killed_log().await;
    let path = segment(&directory, 0);
    // The value of the second record: the large ones were written after its sync.
    let at = find(&path, b"run\0\0\0\x001") + 7;
    clear(&path, at, 1);
    let error = opening_error(&directory).await;
    assert!(error.contains(path.to_str().unwrap()) && error.contains("(offset 1) is damaged"), "{error}");
    assert!(error.contains("Restore the data directory from a backup, or move this file"), "{error}");
    fs::rename(&path, path.with_extension("damaged")).unwrap();
    opening_error(&directory).await;
}

#[tokio::test]
async fn damage_of_the_last_record_of_a_closed_log_is_reported() {
    let directory = killed_log().await;
    open(&directory).await.close().await.unwrap();
    let path = segment(&directory, 0);
    let at = find(&path, &[b'b'; 100]);
    clear(&path, at, 1);
    let error = opening_error(&directory).await;
    assert!(error.contains("(offset 4) is damaged"), "{error}");
}

#[tokio::test]
async fn damage_of_an_older_segment_is_reported_to_the_reader() {
    let directory = TempDir::new().unwrap();
    let settings = Settings { segment_bytes: 300, ..Settings::default() };
    let log = EmbeddedLog::open(directory.path(), settings).await.unwrap();
    for number in 0..20 {
        log.append(Topic::Ingestion, numbered(number..number + 1)).await.unwrap();
    }
    log.close().await.unwrap();
    let mut segments: Vec<_> = fs::read_dir(directory.path().join("ingestion"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    segments.sort_unstable();
    assert!(segments.len() > 3, "{segments:?}");
    clear(&segments[1], 64 + 32 + 4, 1);
    let log = open(&directory).await;
    let mut subscription = subscribe(&log, 0).await;
    let error = loop {
        match subscription.next().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains(segments[1].to_str().unwrap()), "{error}");
    drop((subscription, log));

    // A missing segment is reported, too, the oldest one by the opening.
    fs::remove_file(&segments[1]).unwrap();
    let log = open(&directory).await;
    let mut subscription = subscribe(&log, 0).await;
    read(&mut *subscription, 1).await;
    let error = subscription.next().await.unwrap_err();
    assert!(error.to_string().contains("are missing"), "{error}");
    drop((subscription, log));
    fs::remove_file(&segments[0]).unwrap();
    assert!(opening_error(&directory).await.contains("the records from offset 0 on are missing"));
}

#[tokio::test]
async fn a_missing_state_is_reported() {
    let directory = killed_log().await;
    fs::remove_file(directory.path().join("state")).unwrap();
    assert!(opening_error(&directory).await.contains("state` is missing, but"));
}

#[tokio::test]
async fn one_slot_of_the_state_is_enough() {
    for damaged in [0, 4096] {
        let directory = killed_log().await;
        clear(&directory.path().join("state"), damaged, 60);
        assert_eq!(extent(&open(&directory).await).await, PartitionInfo { first: 0, end: 5 });
        clear(&directory.path().join("state"), 4096 - damaged, 60);
        assert!(opening_error(&directory).await.contains("state` is damaged"));
    }
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    for file in ["state", "ingestion/00000000000000000000.log"] {
        let directory = killed_log().await;
        let path = directory.path().join(file);
        let mut content = fs::read(&path).unwrap();
        content[8] = 2;
        fs::write(&path, content).unwrap();
        let error = opening_error(&directory).await;
        assert!(error.contains("has format 2, but this program supports only format 1"), "{error}");
    }
}

#[tokio::test]
async fn a_segment_of_another_log_is_refused() {
    let one = killed_log().await;
    let other = killed_log().await;
    fs::copy(segment(&other, 0), segment(&one, 0)).unwrap();
    assert!(opening_error(&one).await.contains("belongs to another log"));
}
