//! Guarantees 9 and 10: trimmed records never reappear, and their offsets are never reused.

use std::sync::Arc;

use super::{
    Fixture, Instance, Shape,
    support::{append, numbered, numbers, range, read_all, record},
};
use crate::{Delivery, Error, Topic};

async fn trim(log: &dyn Instance, offset: u64) {
    log.reader().trim(Topic::Ingestion, 0, offset).await.expect("trimming succeeds");
}

pub(super) async fn trim_refuses_an_earlier_start(fixture: Arc<dyn Fixture>) {
    let mut log = fixture.create(Shape::default()).await;
    append(&*log, numbered("run", 0..10)).await;
    trim(&*log, 4).await;
    for _ in 0..2 {
        let (first, _) = range(&*log).await;
        let mut subscription = log.reader().subscribe(Topic::Ingestion).await.expect("subscribing succeeds");
        let Ok(Delivery::Assigned { partition }) = subscription.next().await else {
            panic!("expected an assignment first")
        };
        for requested in 0..first {
            let error =
                subscription.start(partition, requested.into()).await.expect_err("the offset is trimmed");
            assert!(
                matches!(error, Error::Trimmed { requested: a, first: f, .. } if a == requested && f == first),
                "{error}"
            );
        }
        subscription.start(partition, first.into()).await.expect("the first offset can be read");
        drop(subscription);
        log.reopen().await;
    }
}

pub(super) async fn trim_keeps_later_records(fixture: Arc<dyn Fixture>) {
    let mut log = fixture.create(Shape::default()).await;
    // Enough data to exercise every way a log may store it.
    for number in 0..40_u64 {
        append(&*log, vec![record("run", [number.to_be_bytes().as_slice(), &[0; 1 << 20]].concat())]).await;
    }
    for first in [1, 7, 30, 39] {
        trim(&*log, first).await;
        for _ in 0..2 {
            let got: Vec<_> = read_all(&*log).await.into_iter().map(|record| record.offset).collect();
            assert!(
                got.ends_with(&(first..40).collect::<Vec<_>>()),
                "records from {first} on are missing: {got:?}"
            );
            assert_eq!(got.first().copied(), Some(range(&*log).await.0));
            log.reopen().await;
        }
    }
}

pub(super) async fn trim_of_everything_keeps_offsets(fixture: Arc<dyn Fixture>) {
    let mut log = fixture.create(Shape::default()).await;
    for round in 0..4 {
        append(&*log, numbered("run", [round])).await;
        trim(&*log, round + 1).await;
        if round % 2 == 0 {
            log.reopen().await;
        }
        assert_eq!(range(&*log).await.1, round + 1, "an offset was reused");
    }
    append(&*log, numbered("run", [4])).await;
    let (first, end) = range(&*log).await;
    assert_eq!((first.max(4), end), (4, 5));
    assert_eq!(numbers(&read_all(&*log).await).last(), Some(&4));
}

pub(super) async fn trim_never_moves_backwards(fixture: Arc<dyn Fixture>) {
    let log = fixture.create(Shape::default()).await;
    append(&*log, numbered("run", 0..10)).await;
    trim(&*log, 6).await;
    let (first, _) = range(&*log).await;
    for offset in [0, 3, 6] {
        trim(&*log, offset).await;
        assert_eq!(range(&*log).await, (first, 10));
    }
    trim(&*log, 1000).await;
    assert_eq!(range(&*log).await.1, 10, "trimming past the end does not change the end");
    let error = log.reader().trim(Topic::Ingestion, 9, 0).await.expect_err("only one partition exists");
    assert!(matches!(error, Error::Topic { .. }), "{error}");
}
