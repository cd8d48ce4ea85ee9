//! Guarantees 1 and 5, and the round trip of every field of a record.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Fixture, Instance, Shape,
    support::{Random, TestReader, append, numbered, numbers, range, read_all, record},
};
use crate::{Error, MAX_EXTRA_BYTES, MAX_RECORD_BYTES, NewRecord, Topic};

pub(super) async fn durable_after_reopening(fixture: Arc<dyn Fixture>) {
    let mut log = fixture.create(Shape::default()).await;
    for round in 0..3 {
        append(&*log, numbered("run", round * 10..round * 10 + 10)).await;
        log.reopen().await;
        let all = read_all(&*log).await;
        assert_eq!(numbers(&all), (0..round * 10 + 10).collect::<Vec<_>>());
    }
}

pub(super) async fn durable_before_described(fixture: Arc<dyn Fixture>) {
    let log = fixture.create(Shape::default()).await;
    let (first, end) = range(&*log).await;
    assert_eq!(first, end, "a new log is empty");
    for number in 0..20 {
        let positions = append(&*log, numbered("run", [number])).await;
        assert!(range(&*log).await.1 > positions[0].offset, "the end covers every answered append");
    }
}

pub(super) async fn size_over_the_limit_is_refused(fixture: Arc<dyn Fixture>) {
    let log = fixture.create(Shape::default()).await;
    let too_long = record("run", vec![0; MAX_RECORD_BYTES + 1]);
    let header = ("name".to_owned(), Bytes::from(vec![0; MAX_EXTRA_BYTES]));
    let too_much_beside = NewRecord { headers: vec![header], ..record("run", "") };
    for refused in [too_long, too_much_beside] {
        let mut records = numbered("run", [1]);
        records.push(refused);
        let error =
            log.writer().append(Topic::Ingestion, records).await.expect_err("one record is too large");
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }
    append(&*log, numbered("run", [2])).await;
    assert_eq!(numbers(&read_all(&*log).await), [2], "nothing is written along with a refused record");
}

pub(super) async fn size_at_the_limit_is_kept(fixture: Arc<dyn Fixture>) {
    let mut log = fixture.create(Shape::default()).await;
    let values: Vec<_> = (0..3).map(|seed| Random::new(seed).bytes(MAX_RECORD_BYTES)).collect();
    for value in &values {
        append(&*log, vec![NewRecord { value: value.clone(), ..record("run", "") }]).await;
    }
    for _ in 0..2 {
        let all = read_all(&*log).await;
        assert!(all.iter().map(|record| &record.value).eq(&values), "records of maximum size are unchanged");
        log.reopen().await;
    }
}

pub(super) async fn every_field_comes_back(fixture: Arc<dyn Fixture>) {
    let mut log = fixture.create(Shape::default()).await;
    let headers: [(&str, &[u8]); 4] = [("type", b"json"), ("type", b"again"), ("", b""), ("ü", &[0, 255])];
    let headers = headers.map(|(name, value)| (name.to_owned(), Bytes::from_static(value))).to_vec();
    let given = vec![
        NewRecord { headers, ..record("run", "value") },
        record("run", ""),
        record("", "without a key"),
        record(vec![0, 255, 128], vec![0; 3]),
        NewRecord { key: Random::new(1).bytes(MAX_EXTRA_BYTES), ..record("", "a long key") },
    ];
    append(&*log, given.clone()).await;
    // Read both from memory and from storage.
    let mut live = TestReader::new(&*log).await;
    let live = live.read_count(given.len()).await.records().to_vec();
    log.reopen().await;
    let stored = read_all(&*log).await;
    assert_eq!(live, stored);
    for (record, given) in stored.into_iter().zip(given) {
        assert!(record.appended_us > 1_500_000_000_000_000, "{} is not a current time", record.appended_us);
        assert_eq!(NewRecord { key: record.key, value: record.value, headers: record.headers }, given);
    }
}

pub(super) async fn identity_is_kept(fixture: Arc<dyn Fixture>) {
    let mut log = fixture.create(Shape::default()).await;
    let before = identities(&*log).await;
    append(&*log, numbered("run", [1])).await;
    log.reopen().await;
    assert_eq!(identities(&*log).await, before);
    let other = fixture.create(Shape::default()).await;
    for (identity, other) in before.into_iter().zip(identities(&*other).await) {
        assert_ne!(identity, other, "two logs have the same identity");
    }
}

async fn identities(log: &dyn Instance) -> [[u8; 16]; 2] {
    let of = async |topic| log.writer().describe(topic).await.expect("describing succeeds").identity;
    [of(Topic::Ingestion).await, of(Topic::Control).await]
}

pub(super) async fn empty_append_is_answered(fixture: Arc<dyn Fixture>) {
    let log = fixture.create(Shape::default()).await;
    assert_eq!(append(&*log, vec![]).await, []);
    assert_eq!(range(&*log).await, (0, 0));
}
