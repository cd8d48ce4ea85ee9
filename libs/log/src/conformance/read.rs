//! Guarantees 7, 8, 9, and 11: a reader gets every record, from any position, exclusively, and
//! without slowing writers.

use std::{collections::BTreeSet, sync::Arc};

use futures::FutureExt;

use super::{
    Fixture, Shape,
    support::{TestReader, append, describe, numbered, numbers, range, read_all, record},
};
use crate::{Delivery, Error, Topic};

pub(super) async fn complete_while_written(fixture: Arc<dyn Fixture>) {
    const COUNT: u64 = 3000;
    let log = fixture.create(Shape::default()).await;
    let writer = log.writer();
    let writing = tokio::spawn(async move {
        for start in (0..COUNT).step_by(3) {
            writer
                .append(Topic::Ingestion, numbered("run", start..start + 3))
                .await
                .expect("the append succeeds");
        }
    });
    let mut reader = TestReader::new(&*log).await;
    while reader.count() < COUNT as usize {
        reader.step().await;
        let last = reader.records().last().map(|last| last.offset);
        assert!(last < Some(range(&*log).await.1), "a record was delivered before it was in the log");
    }
    writing.await.expect("the writer does not panic");
    assert_eq!(numbers(reader.records()), (0..COUNT).collect::<Vec<_>>());
}

/// Dropping a future of `next`, polled or not, loses nothing.
pub(super) async fn complete_when_next_is_dropped(fixture: Arc<dyn Fixture>) {
    const COUNT: u64 = 500;
    let log = fixture.create(Shape::default()).await;
    let writer = log.writer();
    let writing = tokio::spawn(async move {
        for number in 0..COUNT {
            let value = [number.to_be_bytes().as_slice(), &[0; 5000]].concat();
            writer.append(Topic::Ingestion, vec![record("run", value)]).await.expect("the append succeeds");
        }
    });
    let mut subscription = log.reader().subscribe(Topic::Ingestion).await.expect("subscribing succeeds");
    let mut got = Vec::new();
    while got.len() < COUNT as usize {
        let delivery = match subscription.next().now_or_never() {
            Some(delivery) => delivery,
            None => {
                tokio::task::yield_now().await;
                continue;
            }
        };
        match delivery.expect("the delivery succeeds") {
            Delivery::Assigned { partition } => {
                subscription.start(partition, (got.len() as u64).into()).await.expect("the partition starts");
            }
            Delivery::Revoked { .. } => {}
            Delivery::Records { records, .. } => got.extend(records.into_iter().map(|record| record.offset)),
        }
    }
    writing.await.expect("the writer does not panic");
    assert!(got.is_sorted());
    assert_eq!(got.iter().collect::<BTreeSet<_>>().len(), COUNT as usize, "every record is delivered once");
}

pub(super) async fn complete_again_after_redelivery(fixture: Arc<dyn Fixture>) {
    let log = fixture.create(Shape::default()).await;
    append(&*log, numbered("run", 0..100)).await;
    let all = read_all(&*log).await;
    for from in [0, 50, 99] {
        let mut reader = TestReader::starting_at(&*log, &[(0, from)]).await;
        let again = reader.read_count(100 - from as usize).await.records();
        assert_eq!(again, &all[from as usize..], "redelivered records are identical");
    }
}

pub(super) async fn exclusive_between_two_subscribers(fixture: Arc<dyn Fixture>) {
    let log = fixture.create(Shape { partitions: 4, ..Shape::default() }).await;
    let partitions = describe(&*log).await.partitions.len();
    let records = (0..400_u64).map(|n| record(format!("run-{n}"), n.to_be_bytes())).collect();
    append(&*log, records).await;
    let mut one = TestReader::new(&*log).await;
    one.wait_for_assignments(partitions).await;
    let mut two = TestReader::new(&*log).await;
    while one.count() + two.count() < 400 {
        tokio::select! {
            delivery = one.next() => one.handle(delivery).await,
            delivery = two.next() => two.handle(delivery).await,
        }
        let owned =
            |reader: &TestReader| reader.owned.iter().filter(|(_, owned)| **owned).map(|(p, _)| *p).collect();
        let first: BTreeSet<u32> = owned(&one);
        let second: BTreeSet<u32> = owned(&two);
        assert!(first.is_disjoint(&second), "{first:?} and {second:?} have a partition in common");
    }
    drop(one);
    two.wait_for_assignments(partitions).await;
    append(&*log, vec![record("run-0", 400_u64.to_be_bytes())]).await;
    while !two.received.values().flatten().any(|record| super::support::number(record) == 400) {
        two.step().await;
    }
}

pub(super) async fn any_position_from_first_to_end(fixture: Arc<dyn Fixture>) {
    let log = fixture.create(Shape::default()).await;
    append(&*log, numbered("run", 0..20)).await;
    for from in [0, 1, 7, 19, 20, 25] {
        let (_, end) = range(&*log).await;
        let from = from.min(end);
        let mut reader = TestReader::starting_at(&*log, &[(0, from)]).await;
        reader.read_count((end - from) as usize).await;
        append(&*log, numbered("run", [99])).await;
        let records = reader.read_count((end - from) as usize + 1).await.records();
        assert_eq!(records[0].offset, from, "the first record is the requested one");
    }
}

/// A partition that is being read can be read from an earlier offset, and then from a later one.
pub(super) async fn any_position_again(fixture: Arc<dyn Fixture>) {
    let log = fixture.create(Shape::default()).await;
    append(&*log, numbered("run", 0..50)).await;
    let mut subscription = log.reader().subscribe(Topic::Ingestion).await.expect("subscribing succeeds");
    let Ok(Delivery::Assigned { partition }) = subscription.next().await else {
        panic!("expected an assignment first")
    };
    for (from, count) in [(0, 50), (7, 1), (30, 20), (2, 48), (49, 1)] {
        while let Err(error) = subscription.start(partition, from.into()).await {
            assert!(error.is_temporary(), "{error}");
        }
        let mut offsets = Vec::new();
        while offsets.len() < count {
            match subscription.next().await.expect("the delivery succeeds") {
                Delivery::Records { records, .. } => {
                    offsets.extend(records.iter().map(|record| record.offset))
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        let expected: Vec<u64> = (from..).take(offsets.len()).collect();
        assert_eq!(offsets, expected, "from {from}");
    }
}

pub(super) async fn any_position_beyond_the_end_is_refused(fixture: Arc<dyn Fixture>) {
    let log = fixture.create(Shape::default()).await;
    append(&*log, numbered("run", 0..3)).await;
    let mut subscription = log.reader().subscribe(Topic::Ingestion).await.expect("subscribing succeeds");
    let Ok(Delivery::Assigned { partition }) = subscription.next().await else {
        panic!("expected an assignment first")
    };
    let error = subscription.start(partition, 4.into()).await.expect_err("the log ends at 3");
    assert!(matches!(error, Error::Replaced { requested: 4, end: 3, .. }), "{error}");
    subscription.start(partition, 3.into()).await.expect("the end offset is a valid start");
}

pub(super) async fn nothing_before_start(fixture: Arc<dyn Fixture>) {
    let log = fixture.create(Shape::default()).await;
    append(&*log, numbered("run", 0..3)).await;
    let mut subscription = log.reader().subscribe(Topic::Ingestion).await.expect("subscribing succeeds");
    let Ok(Delivery::Assigned { partition }) = subscription.next().await else {
        panic!("expected an assignment first")
    };
    for _ in 0..100 {
        assert!(subscription.next().now_or_never().is_none(), "a delivery before the start");
        append(&*log, numbered("run", [3])).await;
    }
    subscription.start(partition, 0.into()).await.expect("the partition starts");
    let Ok(Delivery::Records { records, .. }) = subscription.next().await else {
        panic!("expected records after the start")
    };
    assert_eq!(records[0].offset, 0);
}

pub(super) async fn no_blocking_by_a_slow_subscriber(fixture: Arc<dyn Fixture>) {
    const COUNT: u64 = 600;
    let log = fixture.create(Shape::default()).await;
    append(&*log, numbered("run", [0])).await;
    let mut reader = TestReader::new(&*log).await;
    reader.read_count(1).await;
    // More than fits in any buffer between writer and reader.
    for number in 1..COUNT {
        let value = [number.to_be_bytes().as_slice(), &[0; 100_000]].concat();
        append(&*log, vec![record("run", value)]).await;
    }
    let got = reader.read_count(COUNT as usize).await.records();
    assert!(got.iter().enumerate().skip(1).all(|(n, record)| record.value[..8] == (n as u64).to_be_bytes()));
}
