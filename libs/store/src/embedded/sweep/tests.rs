use std::path::Path;

use super::super::Settings;
use super::super::commit_mark::CommitMark;
use super::super::engine::Engine;
use super::super::evaluation::evaluate;
use super::*;
use crate::{Batch, Version};

fn open(directory: &Path) -> Engine {
    Engine::open(directory, &Settings::default()).unwrap()
}

fn commit(engine: &Engine, version: u64, write: impl FnOnce(&mut Batch)) -> Effects {
    let mut batch = Batch::default();
    write(&mut batch);
    let effects = evaluate(batch, Version(version).stamp(0), engine).unwrap();
    engine.write(&effects, CommitMark { version: Version(version), synced: Version(0) }).unwrap();
    effects
}

fn keys(engine: &Engine) -> Vec<Key> {
    engine.keys_latest(&Range::prefix("")).map(Result::unwrap).collect()
}

fn key(number: usize) -> Key {
    format!("many/{number:06}").into()
}

#[test]
fn few_keys_are_listed_and_many_are_swept() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    for (count, is_swept) in [(CHUNK_KEYS, false), (CHUNK_KEYS + 1, true), (3 * CHUNK_KEYS, true)] {
        commit(&engine, 1, |batch| {
            for number in 0..count {
                batch.set(key(number), "x");
            }
        });
        let effects = commit(&engine, 2, |batch| {
            batch.set(key(1), "lost").clear_range(Range::prefix("many/"));
            batch.add(key(2), 7).set("other", "1");
        });
        assert_eq!(!effects.swept.is_empty(), is_swept);
        assert!(effects.writes.len() <= CHUNK_KEYS + 2);
        assert_eq!(keys(&engine), [key(2), "other".into()]);
        assert_eq!(engine.get_latest(&key(2)).unwrap().as_deref(), Some(&7_i64.to_le_bytes()[..]));
        assert_eq!(engine.get_latest(SWEEP_KEY).unwrap(), None);
    }
}

#[test]
fn opening_finishes_an_interrupted_sweep() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    commit(&engine, 1, |batch| {
        for number in 0..2 * CHUNK_KEYS {
            batch.set(key(number), "x");
        }
    });
    // The state after the first write of a sweeping commit, and part of the sweep.
    let mut interrupted = Effects::default();
    interrupted.writes.insert("other".into(), Some("1".into()));
    let sweep = Sweep { ranges: vec![Range::prefix("many/")], kept_keys: vec![key(9), key(15_000)] };
    interrupted.writes.insert(SWEEP_KEY.into(), Some(sweep.encode().into()));
    interrupted.writes.extend((10..20).map(|number| (key(number), None)));
    engine.write(&interrupted, CommitMark { version: Version(2), synced: Version(1) }).unwrap();
    drop(engine);

    for _ in 0..2 {
        let engine = open(directory.path());
        assert_eq!(keys(&engine), [key(9), key(15_000), "other".into()]);
        assert_eq!(engine.version().unwrap(), Version(2));
    }
}

#[test]
fn rows_round_trip_and_truncation_is_detected() {
    let sweep = Sweep {
        ranges: vec![Range::new("", "a"), Range::prefix("b")],
        kept_keys: vec!["".into(), "b/1".into(), vec![7; 10_000].into()],
    };
    let row = Bytes::from(sweep.encode());
    assert_eq!(Sweep::decode(row.clone()).unwrap(), sweep);
    let cuts = (0..row.len()).filter(|length| Sweep::decode(row.slice(..*length)).is_ok());
    // A row cut between kept keys still decodes, because their number is not stored.
    assert_eq!(cuts.count(), sweep.kept_keys.len());
}
