//! Guarantees 3, 4, and 6: the errors of a full or broken log, the records it then contains,
//! and its recovery.

use std::{sync::Arc, time::Duration};

use super::{
    Fixture, Instance, Shape,
    support::{number, numbered, range, read_all, record},
};
use crate::{Error, NewRecord, Record, Topic};

/// Short, because these cases wait for it to elapse.
const APPEND_WAIT: Duration = Duration::from_millis(300);

fn obstructable() -> Shape {
    Shape { append_wait: APPEND_WAIT, is_obstructed: true, ..Shape::default() }
}

/// A record too large to fit in the slack of an almost full disk.
fn large(number: u64) -> NewRecord {
    record("run", [number.to_be_bytes().as_slice(), &[7; 64 << 10]].concat())
}

fn large_number(record: &Record) -> u64 {
    u64::from_be_bytes(record.value[..8].try_into().expect("the value begins with a number"))
}

pub(super) async fn bounded_by_unread_bytes(fixture: Arc<dyn Fixture>) {
    // Longer than a busy disk delays an append: only a log that is full may refuse one.
    let append_wait = Duration::from_secs(5);
    let max_unread_bytes = Some(1 << 20);
    let log = fixture.create(Shape { append_wait, max_unread_bytes, ..Shape::default() }).await;
    let mut answered = 0;
    let error = loop {
        match log.writer().append(Topic::Ingestion, vec![large(answered)]).await {
            Ok(_) => answered += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert!((7..=9).contains(&answered), "{answered} records of 64 KiB fit into the half of 1 MiB");
    let waiting = log.writer().append(Topic::Ingestion, numbered("run", [7]));
    log.reader().trim(Topic::Ingestion, 0, answered).await.expect("trimming succeeds");
    let positions = waiting.await.expect("the trim made room");
    let all = read_all(&*log).await;
    assert_eq!(all.iter().map(|record| record.offset).collect::<Vec<_>>(), [positions[0].offset]);
    assert_eq!(number(&all[0]), 7, "a refused record is in the log");
}

pub(super) async fn bounded_when_obstructed(fixture: Arc<dyn Fixture>) {
    let mut log = fixture.create(obstructable()).await;
    append_until_answered(&*log, 0).await;
    log.obstruct().await;
    let error = append_until_refused(&*log, 1).await.1;
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    log.clear().await;
}

pub(super) async fn recovers_after_an_obstruction(fixture: Arc<dyn Fixture>) {
    let mut log = fixture.create(obstructable()).await;
    for _ in 0..3 {
        log.obstruct().await;
        append_until_refused(&*log, 0).await;
        log.clear().await;
        append_until_answered(&*log, 1).await;
    }
}

pub(super) async fn whole_or_unknown_when_obstructed(fixture: Arc<dyn Fixture>) {
    let mut log = fixture.create(obstructable()).await;
    log.obstruct().await;
    let mut next = 0;
    for _ in 0..3 {
        let three: Vec<_> = (next..next + 3).map(large).collect();
        drop(log.writer().append(Topic::Ingestion, three).await);
        next += 3;
    }
    log.clear().await;
    let at = append_until_answered(&*log, 1000).await;
    let before: Vec<_> = read_all(&*log).await;
    append_until_answered(&*log, 2000).await;
    let after = read_all(&*log).await;
    assert!(after.starts_with(&before), "a record was inserted later");
    let late = after.iter().filter(|record| record.offset > at && large_number(record) < 1000).count();
    assert_eq!(late, 0, "a refused record appeared after a later answer");
    for start in (0..next).step_by(3) {
        let got: Vec<_> =
            before.iter().map(large_number).filter(|n| (start..start + 3).contains(n)).collect();
        assert!(
            (start..start + 3).take(got.len()).eq(got.iter().copied()),
            "not a prefix of an append: {got:?}"
        );
    }
}

pub(super) async fn durable_through_an_obstruction(fixture: Arc<dyn Fixture>) {
    let mut log = fixture.create(obstructable()).await;
    let mut answered = Vec::new();
    for round in 0..3 {
        log.obstruct().await;
        let (numbers, _) = append_until_refused(&*log, round * 1000).await;
        answered.extend(numbers);
        log.clear().await;
        append_until_answered(&*log, round * 1000 + 999).await;
        answered.push(round * 1000 + 999);
        log.reopen().await;
        let all: Vec<_> = read_all(&*log).await.iter().map(large_number).collect();
        let kept: Vec<_> = all.iter().copied().filter(|number| answered.contains(number)).collect();
        assert_eq!(kept, answered, "every answered record is stored once, in order");
        let (_, end) = range(&*log).await;
        log.reader().trim(Topic::Ingestion, 0, end).await.expect("trimming succeeds");
        answered.clear();
    }
}

/// Appends consecutive numbers from `from` until one is refused. Returns the acknowledged
/// numbers and the error.
async fn append_until_refused(log: &dyn Instance, from: u64) -> (Vec<u64>, Error) {
    let mut answered = Vec::new();
    let mut number = from;
    loop {
        match log.writer().append(Topic::Ingestion, vec![large(number)]).await {
            Ok(_) => answered.push(number),
            Err(error) => return (answered, error),
        }
        number += 1;
    }
}

/// Retries an append until it succeeds, and returns its offset.
async fn append_until_answered(log: &dyn Instance, number: u64) -> u64 {
    loop {
        match log.writer().append(Topic::Ingestion, vec![large(number)]).await {
            Ok(positions) => return positions[0].offset,
            Err(error) => assert!(error.is_temporary(), "{error}"),
        }
    }
}
