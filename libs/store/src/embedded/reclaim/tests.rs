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

/// A reclaimer at the end of a quiet interval.
fn due(left: u64) -> Reclaimer {
    Reclaimer { since: Instant::now() - INTERVAL, left, ..Reclaimer::default() }
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
    engine.empty_memtables().unwrap();
    let full = engine.size().bytes;
    write(&engine, 11, (1..ROWS).map(|number| (number, None)));
    engine.empty_memtables().unwrap();
    assert!(engine.size().bytes >= full && engine.size().tombstones >= ROWS / 2);

    let mut reclaimer = due(0);
    reclaimer.note_written(BUSY_BYTES);
    reclaimer.look(&engine);
    assert!(reclaimer.merge.is_none(), "the store is busy");
    let mut reclaimer = due(ROWS);
    reclaimer.look(&engine);
    assert!(reclaimer.merge.is_none(), "the last merge left these tombstones");
    let mut reclaimer = due(0);
    reclaimer.look(&engine);
    assert!(reclaimer.merge.is_some());
    reclaimer.finish();
    assert!(engine.size().bytes < full / 20, "{} of {full} bytes", engine.size().bytes);
    assert_eq!(engine.get_latest(b"row 000000").unwrap(), Some(value(0)));
    assert_eq!(engine.get_latest(b"row 000001").unwrap(), None);
    let mut reclaimer = due(0);
    reclaimer.look(&engine);
    assert!(reclaimer.merge.is_none(), "nothing is left to reclaim");
}
