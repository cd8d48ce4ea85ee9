//! Tests the moments between writing, syncing, and replying, which no caller can time, by
//! running the committer without its thread.

use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::embedded::{Deps, Settings, lock_directory, queue::PendingAppend};

type Answer = oneshot::Receiver<Result<Vec<Position>>>;

fn committer(directory: &TempDir) -> Committer {
    let shared = Shared::open(directory.path(), Settings::default(), Deps::system()).unwrap();
    Committer::new(Arc::new(shared), lock_directory(directory.path()).unwrap())
}

fn append(value: &'static str) -> (PendingAppend, Answer) {
    let record =
        NewRecord { key: Bytes::new(), value: Bytes::from_static(value.as_bytes()), headers: vec![] };
    let (reply, answer) = oneshot::channel();
    (PendingAppend::new(Topic::Ingestion, vec![(0, record)], reply), answer)
}

/// A group of appends, and the reply receivers of the callers that still wait.
fn group(values: &[(&'static str, bool)]) -> (Group, Vec<Answer>) {
    let mut group = Group::default();
    let mut answers = Vec::new();
    for (value, is_waited_for) in values {
        let (append, answer) = append(value);
        group.appends.push(append);
        answers.extend(is_waited_for.then_some(answer));
    }
    (group, answers)
}

fn stored_records(committer: &Committer) -> Vec<(u64, String)> {
    let engine = committer.shared.engine();
    let records = engine.as_ref().unwrap().read(0, 0, u64::MAX, usize::MAX).unwrap();
    records
        .into_iter()
        .map(|record| (record.offset, String::from_utf8(record.value.to_vec()).unwrap()))
        .collect()
}

fn readable(committer: &Committer) -> Extent {
    committer.shared.partitions[0].lock().extent()
}

#[test]
fn abandoned_appends_are_removed_after_the_sync() {
    let directory = TempDir::new().unwrap();
    let committer = committer(&directory);
    let (group, answers) = group(&[("a", true), ("b", false), ("c", true), ("d", false)]);
    let written = committer.write(&group).unwrap();
    committer.publish(group, written);
    let offsets: Vec<_> =
        answers.into_iter().map(|mut answer| answer.try_recv().unwrap().unwrap()[0].offset).collect();
    assert_eq!(offsets, [0, 2]);
    assert_eq!(stored_records(&committer), [(0, "a".into()), (2, "c".into())]);
    assert_eq!(readable(&committer).end, 3, "the end follows the last remaining record");
    let engine = committer.shared.engine();
    assert_eq!(
        engine.as_ref().unwrap().extent(0).unwrap(),
        readable(&committer),
        "the extent is the same after reopening"
    );
}

#[test]
fn a_failed_group_is_removed_when_the_engine_is_reopened() {
    let directory = TempDir::new().unwrap();
    let committer = committer(&directory);
    let (first, _answers) = group(&[("kept", true)]);
    assert!(committer.write_until_done(first));
    let before = readable(&committer);

    let (second, _answers) = group(&[("spoiled", true), ("spoiled too", true)]);
    committer.write(&second).unwrap();
    assert_eq!(stored_records(&committer).len(), 3);
    *committer.shared.engine_mut() = None;
    committer.reopen().unwrap();
    assert_eq!(stored_records(&committer), [(0, "kept".into())]);
    assert_eq!(readable(&committer), before);

    let (again, mut answers) = group(&[("again", true)]);
    assert!(committer.write_until_done(again));
    assert_eq!(answers[0].try_recv().unwrap().unwrap()[0].offset, 1);
    assert_eq!(stored_records(&committer), [(0, "kept".into()), (1, "again".into())]);
}

#[test]
fn a_closed_engine_is_reopened_and_the_group_is_written() {
    let directory = TempDir::new().unwrap();
    let committer = committer(&directory);
    *committer.shared.engine_mut() = None;
    let (group, mut answers) = group(&[("late", true)]);
    assert!(committer.write_until_done(group));
    answers[0].try_recv().unwrap().unwrap();
    assert_eq!(stored_records(&committer), [(0, "late".into())]);
}

#[test]
fn closing_ends_the_retries_on_a_broken_engine() {
    let directory = TempDir::new().unwrap();
    let committer = committer(&directory);
    *committer.shared.engine_mut() = None;
    committer.shared.queue.close();
    let (group, mut answers) = group(&[("never", true)]);
    assert!(!committer.write_until_done(group));
    answers[0].try_recv().unwrap_err();
}

#[test]
fn lost_records_are_detected() {
    let directory = TempDir::new().unwrap();
    let committer = committer(&directory);
    let (first, _answers) = group(&[("kept", true), ("lost", true)]);
    assert!(committer.write_until_done(first));
    let engine = committer.shared.engine_mut().take().unwrap();
    let mut writes = engine.writes();
    engine.remove(&mut writes, 0, 1);
    engine.commit(writes).unwrap();
    engine.sync().unwrap();
    drop(engine);
    let error = committer.reopen().unwrap_err();
    assert!(matches!(error, LogError::Corrupt { .. }), "{error}");
}
