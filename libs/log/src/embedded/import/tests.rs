//! Imports of a database as the version before segments wrote it.

use bytes::BufMut;
use tempfile::TempDir;

use super::*;
use crate::{
    Delivery, LogInspector, LogReader, LogWriter, PartitionInfo, embedded::EmbeddedLog, layers::LossyDisk,
};

const IDENTITY: [u8; 16] = *b"the old identity";

/// Offsets of the records that can be read: records before 3 are trimmed, and 6 was removed
/// because its caller had given up.
const OFFSETS: [u64; 6] = [3, 4, 5, 7, 8, 9];

fn record(offset: u64) -> Record {
    let headers = vec![("type".to_owned(), Bytes::from_static(b"json")), (String::new(), Bytes::new())];
    let value = vec![offset as u8; 100 * offset as usize].into();
    Record {
        offset,
        key: Bytes::from(format!("run {offset}")),
        value,
        headers,
        appended_us: 1_000 + offset as i64 / 4,
        leader_epoch: None,
    }
}

fn stored(record: &Record) -> Vec<u8> {
    let mut out = vec![1];
    out.put_i64_le(record.appended_us);
    out.put_u64_le(12_345);
    put_field(&mut out, &record.key);
    out.put_u32_le(record.headers.len() as u32);
    for (name, value) in &record.headers {
        put_field(&mut out, name.as_bytes());
        put_field(&mut out, value);
    }
    out.put_slice(&record.value);
    out
}

fn put_field(out: &mut Vec<u8>, field: &[u8]) {
    out.put_u32_le(field.len() as u32);
    out.put_slice(field);
}

fn keyspace(database: &Database, name: &str) -> Keyspace {
    database.keyspace(name, KeyspaceCreateOptions::default).unwrap()
}

fn old_log() -> TempDir {
    let directory = TempDir::new().unwrap();
    let database = Database::builder(directory.path().join("engine")).open().unwrap();
    let meta = keyspace(&database, "meta");
    meta.insert("format", [1]).unwrap();
    meta.insert("identity", IDENTITY).unwrap();
    meta.insert("ingestion-partitions", 1_u32.to_le_bytes()).unwrap();
    let first = [3_u64.to_le_bytes(), 99_u64.to_le_bytes()].concat();
    meta.insert("first/ingestion-0", first).unwrap();
    let ingestion = keyspace(&database, "ingestion-0");
    let control = keyspace(&database, "control-0");
    for offset in [2].into_iter().chain(OFFSETS) {
        ingestion.insert(offset.to_be_bytes(), stored(&record(offset))).unwrap();
    }
    control.insert(0_u64.to_be_bytes(), stored(&record(0))).unwrap();
    directory
}

async fn check(directory: &TempDir) {
    let log = EmbeddedLog::open(directory.path(), Settings::default()).await.unwrap();
    let info = log.describe(Topic::Ingestion).await.unwrap();
    assert_eq!(info.identity, IDENTITY);
    assert_eq!(info.partitions, [PartitionInfo { first: 3, end: 10 }]);
    assert_eq!(log.describe(Topic::Control).await.unwrap().partitions, [PartitionInfo { first: 0, end: 1 }]);
    assert_eq!(
        log.describe(Topic::DeadLetters).await.unwrap().partitions,
        [PartitionInfo { first: 0, end: 0 }]
    );
    // The offset 6 is in the gap.
    for from in [3, 6, 7] {
        let mut subscription = log.subscribe(Topic::Ingestion).await.unwrap();
        let Delivery::Assigned { partition } = subscription.next().await.unwrap() else { panic!() };
        subscription.start(partition, from.into()).await.unwrap();
        let mut records = Vec::new();
        while records.last().is_none_or(|last: &Record| last.offset < 9) {
            let Delivery::Records { records: more, .. } = subscription.next().await.unwrap() else {
                panic!()
            };
            records.extend(more);
        }
        let expected = OFFSETS.into_iter().filter(|offset| *offset >= from).map(record);
        assert!(records.into_iter().eq(expected), "from {from}");
    }
    let new = NewRecord { key: Bytes::new(), value: Bytes::new(), headers: vec![] };
    assert_eq!(log.append(Topic::Ingestion, vec![new]).await.unwrap()[0].offset, 10);
    log.close().await.unwrap();
}

#[tokio::test]
async fn rule_44_a_log_of_an_earlier_version_is_imported() {
    let directory = old_log();
    check(&directory).await;
    // An earlier version can no longer open the log.
    let engine = directory.path().join("engine");
    assert!(engine.is_file());
    assert!(Database::builder(&engine).open().is_err());
}

#[tokio::test]
async fn an_interrupted_import_is_repeated() {
    let directory = old_log();
    let deps = Deps::system();
    assert!(import(directory.path(), &deps).unwrap());
    fs::remove_file(StateFile::path(directory.path())).unwrap();
    fs::remove_dir_all(directory.path().join("control")).unwrap();
    check(&directory).await;
}

#[tokio::test]
async fn an_import_is_not_repeated_once_it_is_complete() {
    let directory = old_log();
    assert!(import(directory.path(), &Deps::system()).unwrap());
    // As if the deletion of the database had been interrupted.
    fs::remove_dir_all(directory.path().join("engine/keyspaces")).unwrap();
    check(&directory).await;
}

/// The record before the gap fills the segment, so the one after it is in the next segment.
#[tokio::test]
async fn rule_44_a_gap_between_two_segments_is_imported() {
    let directory = TempDir::new().unwrap();
    let database = Database::builder(directory.path().join("engine")).open().unwrap();
    let meta = keyspace(&database, "meta");
    meta.insert("format", [1]).unwrap();
    meta.insert("identity", IDENTITY).unwrap();
    meta.insert("ingestion-partitions", 1_u32.to_le_bytes()).unwrap();
    for offset in [0_u64, 1, 3] {
        let large = Record { value: vec![offset as u8; 9 << 20].into(), ..record(offset) };
        keyspace(&database, "ingestion-0").insert(offset.to_be_bytes(), stored(&large)).unwrap();
    }
    drop((meta, database));
    let log = EmbeddedLog::open(directory.path(), Settings::default()).await.unwrap();
    for from in [0, 1, 2, 3] {
        let mut subscription = log.subscribe(Topic::Ingestion).await.unwrap();
        let Delivery::Assigned { partition } = subscription.next().await.unwrap() else { panic!() };
        subscription.start(partition, from.into()).await.unwrap();
        let mut offsets = Vec::new();
        while offsets.last() != Some(&3) {
            let Delivery::Records { records, .. } = subscription.next().await.unwrap() else { panic!() };
            offsets.extend(records.iter().map(|record| record.offset));
        }
        let expected: Vec<u64> = [0, 1, 3].into_iter().filter(|offset| *offset >= from).collect();
        assert_eq!(offsets, expected, "from {from}");
    }
    log.close().await.unwrap();
}

/// An import that is interrupted on a disk that loses unsynced changes.
#[tokio::test]
async fn rule_44_a_power_failure_during_an_import_loses_nothing() {
    for seed in 0..24 {
        let directory = old_log();
        let disk = Arc::new(LossyDisk::seeded(seed));
        // Every second one ends with an error, after a different number of steps.
        let steps = usize::try_from(seed).unwrap() / 2;
        if seed % 2 == 1 {
            disk.fail_after(steps, io::ErrorKind::Other);
        }
        let deps = Deps { disk: disk.clone(), ..Deps::system() };
        let imported = import(directory.path(), &deps);
        assert!(imported.is_ok() || seed % 2 == 1, "{imported:?}");
        disk.cut_power();
        check(&directory).await;
    }
}
