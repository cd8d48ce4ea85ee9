use std::path::Path;

use super::super::Settings;
use super::super::commit_mark::CommitMark;
use super::super::effects::Effects;
use super::*;
use crate::{Value, Version};

const ROWS: u64 = 100_000;

fn write(engine: &Engine, version: u64, rows: impl Iterator<Item = (u64, Option<Value>)>) {
    let mut effects = Effects::default();
    for (number, value) in rows {
        effects.writes.insert(format!("row {number:06}").into(), value);
    }
    engine.write(&effects, CommitMark { version: Version(version), synced: Version(0) }).unwrap();
}

/// Size of tables and of files with large values.
fn size_of(store: &Path) -> u64 {
    let mut folders = vec![store.join("engine").join("keyspaces")];
    let mut size = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            match entry.metadata().unwrap() {
                metadata if metadata.is_dir() => folders.push(entry.path()),
                metadata => size += metadata.len(),
            }
        }
    }
    size
}

/// A reclaimer at the end of a quiet interval.
fn due(engine: &Engine, left: u64) -> Reclaimer {
    let EngineSize { memtable_bytes, .. } = engine.size();
    Reclaimer { since: Instant::now() - INTERVAL, memtable_bytes, left, ..Reclaimer::default() }
}

#[test]
fn space_of_deleted_rows_is_reclaimed_once_the_store_is_quiet() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path(), &Settings::default()).unwrap();
    let value = |number: u64| Value::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().repeat(8));
    for group in 0..10 {
        let numbers = group * ROWS / 10..(group + 1) * ROWS / 10;
        write(&engine, 1 + group, numbers.map(|number| (number, Some(value(number)))));
    }
    let large = (0..200).map(|number| (ROWS + number, Some(value(number).repeat(1_000).into())));
    write(&engine, 11, large);
    engine.empty_memtables().unwrap();
    let full = size_of(directory.path());
    write(&engine, 12, (1..ROWS + 200).map(|number| (number, None)));
    engine.empty_memtables().unwrap();
    assert!(size_of(directory.path()) >= full && engine.size().tombstones >= ROWS / 2);

    let mut reclaimer = due(&engine, 0);
    write(&engine, 13, [(2 * ROWS, Some(vec![0; BUSY_BYTES as usize].into()))].into_iter());
    reclaimer.look(&engine).unwrap();
    assert!(reclaimer.merge.is_none(), "the store is busy");
    let mut reclaimer = due(&engine, ROWS);
    reclaimer.look(&engine).unwrap();
    assert!(reclaimer.merge.is_none(), "the last merge left these tombstones");
    let mut reclaimer = due(&engine, 0);
    reclaimer.look(&engine).unwrap();
    assert!(reclaimer.merge.is_some());
    while !reclaimer.merge.as_ref().is_some_and(JoinHandle::is_finished) {
        std::thread::yield_now();
    }
    let mut reclaimer = Reclaimer { merge: reclaimer.merge.take(), ..due(&engine, 0) };
    assert!(reclaimer.look(&engine).unwrap(), "the merge has ended");
    engine.delete_merged(CommitMark { version: Version(13), synced: Version(0) }).unwrap();
    let left = size_of(directory.path());
    assert!(left < full / 20, "{left} of {full} bytes");
    assert_eq!(engine.get_latest(b"row 000000").unwrap(), Some(value(0)));
    assert_eq!(engine.get_latest(b"row 000001").unwrap(), None);
    let mut reclaimer = due(&engine, 0);
    reclaimer.look(&engine).unwrap();
    assert!(reclaimer.merge.is_none(), "nothing is left to reclaim");
}
