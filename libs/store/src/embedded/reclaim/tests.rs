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

/// Moves to the end of a quiet interval, and looks at the store.
fn look(reclaimer: &mut Reclaimer, engine: &Engine) -> bool {
    reclaimer.since = Instant::now() - INTERVAL;
    reclaimer.memtable_bytes = engine.size().memtable_bytes;
    reclaimer.look(engine).unwrap()
}

/// Waits for the merge, and looks at the store.
fn end_merge(reclaimer: &mut Reclaimer, engine: &Engine) {
    assert!(reclaimer.merge.is_some(), "a merge was started");
    while !reclaimer.merge.as_ref().is_some_and(JoinHandle::is_finished) {
        std::thread::yield_now();
    }
    // A memtable that was sealed during the merge is flushed after the merge.
    engine.empty_memtables().unwrap();
    assert!(look(reclaimer, engine), "the merge has ended");
    assert!(reclaimer.merge.is_none());
}

/// Deletes the files that a merge has replaced.
fn delete_replaced_files(engine: &Engine) {
    write(engine, 100, std::iter::empty());
    engine.empty_memtables().unwrap();
}

#[test]
fn space_of_deleted_rows_is_reclaimed_once_the_store_is_quiet() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path(), &Settings::default()).unwrap();
    fn value(number: u64) -> Value {
        Value::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().repeat(8))
    }
    for group in 0..10 {
        let numbers = group * ROWS / 10..(group + 1) * ROWS / 10;
        write(&engine, 1 + group, numbers.map(|number| (number, Some(value(number)))));
    }
    let large = (0..200).map(|number| (ROWS + number, Some(value(number).repeat(1_000).into())));
    write(&engine, 11, large);
    engine.empty_memtables().unwrap();
    let full = size_of(directory.path());
    write(&engine, 12, (1..ROWS / 2).chain(ROWS..ROWS + 200).map(|number| (number, None)));
    engine.empty_memtables().unwrap();
    assert!(size_of(directory.path()) >= full && engine.size().tombstones >= ROWS / 3);

    let mut reclaimer = Reclaimer { since: Instant::now() - INTERVAL, ..Reclaimer::default() };
    write(&engine, 13, [(2 * ROWS, Some(vec![0; BUSY_BYTES as usize].into()))].into_iter());
    reclaimer.look(&engine).unwrap();
    assert!(reclaimer.merge.is_none(), "the store is busy");
    assert!(!look(&mut reclaimer, &engine));
    // Deletions during the merge.
    write(&engine, 14, (ROWS / 2..ROWS).map(|number| (number, None)));
    end_merge(&mut reclaimer, &engine);
    delete_replaced_files(&engine);
    let half = size_of(directory.path());
    assert!(half < full * 2 / 3, "{half} of {full} bytes");

    while look(&mut reclaimer, &engine) {
        delete_replaced_files(&engine);
    }
    assert!(reclaimer.merge.is_none(), "merges have pauses");
    reclaimer.merged_at = Some(Instant::now() - PAUSE);
    look(&mut reclaimer, &engine);
    end_merge(&mut reclaimer, &engine);
    delete_replaced_files(&engine);
    let left = size_of(directory.path());
    assert!(left < full / 20, "{left} of {full} bytes");
    assert_eq!(engine.get_latest(b"row 000000").unwrap(), Some(value(0)));
    assert_eq!(engine.get_latest(b"row 000001").unwrap(), None);
    while look(&mut reclaimer, &engine) {
        delete_replaced_files(&engine);
    }
    reclaimer.merged_at = Some(Instant::now() - PAUSE);
    look(&mut reclaimer, &engine);
    assert!(reclaimer.merge.is_none(), "nothing is left to reclaim");
}

/// Otherwise commits would wait, for as long as the engine merges tables.
#[test]
fn a_look_does_not_wait_for_a_flush() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path(), &Settings::default()).unwrap();
    write(&engine, 1, (0..LEAST_TOMBSTONES).map(|number| (number, None)));
    let flushes = engine.hold_flushes();
    let mut reclaimer = Reclaimer::default();
    look(&mut reclaimer, &engine);
    let size = engine.size();
    assert_eq!((size.memtable_entries, size.sealed_memtables), (0, 1));
    write(&engine, 2, (0..LEAST_TOMBSTONES).map(|number| (number, None)));
    look(&mut reclaimer, &engine);
    assert_eq!(engine.size().sealed_memtables, 1, "no more are sealed until that one is flushed");
    drop(flushes);
}
