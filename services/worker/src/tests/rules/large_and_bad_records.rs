//! Tests of rules 7 and 8: records that do not fit in a transaction, and items that cannot be
//! applied.

use matyan_model::index::IndexSums;

use super::*;
use crate::tests::ends;

#[tokio::test]
async fn rule_07_a_record_larger_than_a_transaction_is_applied_in_parts() {
    let env = TestEnv::new().await;
    let names: Vec<String> = (0..6_000).map(|at| format!("{at:0200}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut large = record(0).sent(1, 1, 0).define(0, &names);
    for series in 0..names.len() as u32 {
        large = large.points(series, &[(None, f64::from(series)), (None, 0.5)]);
    }
    for at in 0..30 {
        large = large.line(at, &"x".repeat(100_000));
    }
    // The store fails several times in between.
    let faults = (0..60).map(|call| if call % 7 == 3 { Fault::Error } else { Fault::None });
    env.faults.set_faults(Faults::script(faults));
    let applied = env.apply(vec![large.clone(), record(1).sent(1, 2, 0).points(7, &[(None, 9.0)])]).await;
    assert!(applied.blocks.len() > 1, "one transaction was enough");
    let run = env.read().await.unwrap();
    assert_eq!((run.metrics.len(), run.lines.len()), (6_000, 30));
    assert_eq!(run.lines[29].text.len(), 100_000);
    for (at, (header, points)) in run.metrics.iter().enumerate() {
        let expected = if at == 7 { vec![0, 1, 2] } else { vec![0, 1] };
        assert_eq!((header.name.as_str(), &points.steps), (names[at], &expected));
    }
    assert_eq!(env.apply(vec![large]).await.items, 0);
    assert!(env.parked().await.is_empty());
}

#[tokio::test]
async fn rule_07_an_interrupted_record_continues_at_the_next_item() {
    let env = TestEnv::new().await;
    let mut large = record(0);
    for at in 0..40 {
        large = large.line(at, &"x".repeat(60_000)).object("o", None, "small");
    }
    // The process dies at its third commit, and a new writer continues.
    let mut writer = env.writer("r");
    let dying = stopped_after(&env, &mut writer, large.clone(), 3).await;
    assert!(!dying, "all of it was applied");
    let at = cursor(&env).await.unwrap();
    assert!(at.item > 0 && at.position.offset == 0, "{at:?}");
    env.apply(vec![large]).await;
    let run = env.read().await.unwrap();
    assert_eq!((run.lines.len(), run.objects[0].1.len()), (40, 40));
    let steps: Vec<i64> = run.objects[0].1.iter().map(|object| object.step).collect();
    assert_eq!(steps, (0..40).collect::<Vec<_>>());
}

/// Lets the store fail after this many calls, and stops the writer that waits for it. Returns
/// whether the writer completed.
async fn stopped_after(env: &TestEnv, writer: &mut RunWriter, record: TestRecord, calls: usize) -> bool {
    let alive = std::iter::repeat_n(Fault::None, calls);
    env.faults.set_faults(Faults::script(alive.chain(std::iter::repeat_n(Fault::Error, 1_000))));
    let stop = tokio_util::sync::CancellationToken::new();
    let apply = writer.apply(vec![record.entry()], &stop);
    let cancel = async {
        crate::tests::eventually("a first part", || async { cursor(env).await.is_some() }).await;
        stop.cancel();
    };
    let (applied, ()) = tokio::join!(apply, cancel);
    env.faults.set_faults(Faults::script([]));
    applied.is_complete
}

#[tokio::test]
async fn rule_07_large_payloads_are_stored_in_the_blob_store() {
    let env = TestEnv::new().await;
    let text = "x".repeat(300_000);
    env.apply(vec![record(0).object("o", Some(0), &text).object("o", Some(1), "small")]).await;
    let run = env.read().await.unwrap();
    let objects = &run.objects[0].1;
    assert!(matches!(&objects[0].value, ObjectValue::Blob(blob) if blob.key.starts_with("r/.matyan/")));
    assert!(matches!(&objects[1].value, ObjectValue::Inline(_)));
    let value = env.value(&objects[0]).await;
    assert_eq!(value.as_map().unwrap()["data"], matyan_value::Value::Text(text));
}

/// Skipped repeats, whose payloads are not needed, hide which payloads the transaction will use.
#[tokio::test]
async fn rule_07_payloads_after_repeats_are_stored() {
    let env = TestEnv::new().await;
    let objects = |offset, sequence| {
        let large = record(offset).sent(1, sequence, 0);
        (0..32).fold(large, |large, at| {
            large.object("o", Some(at), &format!("{sequence} {at}{}", "x".repeat(70_000)))
        })
    };
    env.apply(vec![objects(0, 1)]).await;
    let applied = crate::tests::ends("applying", env.apply(vec![objects(1, 1), objects(2, 2)])).await;
    assert_eq!((applied.items, applied.skipped_records), (32, 1));
    let run = env.read().await.unwrap();
    let value = env.value(&run.objects[0].1[31]).await;
    assert!(
        matches!(&value.as_map().unwrap()["data"], matyan_value::Value::Text(text) if text.starts_with("2 31"))
    );
}

#[tokio::test]
async fn rule_07_four_mib_of_params_are_stored_and_read_back() {
    let env = TestEnv::new().await;
    let tree: Vec<String> =
        (0..40_000).map(|at| format!(r#""key {at:06}":{{"v":"{at:080}","w":{at}}}"#)).collect();
    let json = format!(r#"{{"big":{{{}}}}}"#, tree.join(","));
    assert!(json.len() > 4 << 20);
    env.apply(vec![record(0).params(&json), record(1).params(r#"{"big":{"key 000007":{"w":-1}}}"#)]).await;
    let run = env.read().await.unwrap();
    let big = run.params["big"].as_map().unwrap();
    assert_eq!(big.len(), 40_000);
    assert_eq!(big["key 000007"].as_map().unwrap()["w"], matyan_value::Value::Integer(-1));
    let snapshot = env.store().snapshot().await.unwrap();
    assert!(snapshot.get(&keys::index_partial(P, run.number)).await.unwrap().is_some());
    env.apply(vec![record(2).params(r#"{"big":1}"#)]).await;
    let run = env.read().await.unwrap();
    assert_eq!(run.params["big"], matyan_value::Value::Integer(1));
    let snapshot = env.store().snapshot().await.unwrap();
    let left = snapshot.scan(&keys::params(P, run.number), Default::default()).await.unwrap();
    assert!(left.rows.is_empty());
    assert!(snapshot.get(&keys::index_partial(P, run.number)).await.unwrap().is_none());
}

/// The old and the new rows of the index do not fit in a transaction together with the params.
#[tokio::test]
async fn rule_07_large_params_whose_indexed_values_all_change_are_stored() {
    let env = TestEnv::new().await;
    let indexed = |value: &str| {
        let entries: Vec<_> = (0..2_000).map(|at| format!(r#""{at:0200}":"{value}""#)).collect();
        format!(r#"{{"indexed":{{{}}}}}"#, entries.join(","))
    };
    let text = |key: &str| format!(r#"{{"{key}":"{}"}}"#, "x".repeat(2_900_000));
    let messages = [indexed("old"), text("x"), text("y"), indexed("new")];
    for (params, offset) in messages.iter().zip(0..) {
        env.apply(vec![record(offset).params(params)]).await;
    }
    assert!(env.parked().await.is_empty());
    let run = env.read().await.unwrap();
    let values = run.params["indexed"].as_map().unwrap().values();
    assert_eq!(values.filter(|value| **value == matyan_value::Value::Text("new".into())).count(), 2_000);
    let mut transaction = Transaction::new(env.store().snapshot().await.unwrap());
    let mut sums = IndexSums::new(run.number);
    assert!(sums.expect(&transaction, P, run.number).await.unwrap());
    assert_eq!(sums.differing(), [run.number]);
    let repaired = sums.repair(&mut transaction, P, run.number).await.unwrap();
    assert_eq!(repaired.rows, 0, "no row is missing");
    sums.subtract(transaction.unchecked(), &keys::indexes(P), usize::MAX).await.unwrap();
    assert_eq!(sums.differing(), [], "the old rows are gone");
}

/// Each message is within the limit of a message, but together they exceed the limit of a run.
#[tokio::test]
async fn rule_08_params_over_the_limit_of_a_run_are_parked() {
    let env = TestEnv::new().await;
    let message = |key: &str| format!(r#"{{"{key}":"{}"}}"#, "x".repeat(7 << 19));
    let records = [message("a"), message("b"), message("a"), r#"{"c":1}"#.to_owned()];
    let records = records.iter().zip(0..).map(|(params, offset)| record(offset).params(params));
    assert_eq!(env.apply(records.collect()).await.parked, 1);
    let run = env.read().await.unwrap();
    assert_eq!(run.params.keys().collect::<Vec<_>>(), ["a", "c"]);
    let parked = env.parked().await;
    assert_eq!(parked[0].at.offset, 1);
    assert!(parked[0].reason.starts_with("the run's params would have 73"), "{}", parked[0].reason);
}

#[tokio::test]
async fn rule_08_bad_items_are_parked_with_their_reasons_without_affecting_others() {
    let env = TestEnv::new().await;
    let bad_params = Kind::LogParams(pb::LogParams { value: vec![0xff].into() });
    let bad_object = Kind::LogObject(pb::LogObject { value: vec![0x01].into(), ..pb::LogObject::default() });
    let bad_path = Kind::BlobRef(pb::BlobRef { path: "x".repeat(2_000), ..pb::BlobRef::default() });
    let bad_key =
        Kind::BlobRef(pb::BlobRef { path: "x".into(), key: "x".repeat(2_000), ..pb::BlobRef::default() });
    let mut mixed = record(0).create().event(bad_params).tag("t").event(bad_object);
    mixed = mixed.event(bad_path).event(bad_key).line(0, "good");
    let long = "x".repeat(1 << 20);
    mixed = mixed.sent(1, 1, 0).define(0, &["good", "bad context", &long]).points(0, &[(Some(0), 1.0)]);
    mixed.batch.series[1].context = "[]".into();
    mixed = mixed
        .points(1, &[(Some(0), 2.0), (Some(1), 3.0)])
        .points(9, &[(Some(0), 4.0)])
        .points(0, &[(Some(1), 5.0)]);
    mixed = mixed.points(2, &[(Some(0), 6.0)]);
    let applied = env.apply(vec![mixed]).await;
    assert_eq!((applied.items, applied.parked), (5, 7), "items that are parked are not applied");
    let run = env.read().await.unwrap();
    assert_eq!(env.points("good").await, [(0, 1.0), (1, 5.0)]);
    assert_eq!((run.lines.len(), run.props.tags.len(), run.metrics.len()), (1, 1, 1));
    let parked = env.parked().await;
    let found: Vec<_> = parked.iter().map(|parked| (parked.at.item, parked.reason.as_str())).collect();
    let expected = [
        (1, "`value` of the params is not a map"),
        (3, "`value` is not a map"),
        (4, "`path` has 2000 bytes"),
        (5, "`key` has 2000 bytes"),
        (8, "the context is neither an object nor null"),
        (10, "series 9 is not in the producer's dictionary"),
        (12, "`name` has more than 1024 bytes"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((item, reason), (expected_item, beginning)) in found.iter().zip(expected) {
        assert_eq!(*item, expected_item);
        assert!(reason.starts_with(beginning), "{reason}");
    }
    let points: pb::IngestionBatch = prost::Message::decode(parked[4].item.clone()).unwrap();
    assert_eq!(
        (points.points[0].values.as_slice(), points.series[0].name.as_str()),
        (&[2.0, 3.0][..], "bad context")
    );
}

/// Definitions that fill a transaction to the last byte must leave room for an item, or the
/// record would be retried forever.
#[tokio::test]
async fn rule_07_a_record_whose_definitions_fill_a_transaction_makes_progress() {
    use matyan_model::{
        ids::{ProducerId, RunId},
        producer::{Definition, dictionary_pages, dictionary_put, dictionary_truncate},
    };
    let producer = ProducerId([1; 16]);
    let id = RunId::new("r");
    let stored = |names: &[String]| {
        let definitions: Vec<_> =
            names.iter().map(|name| Definition { name: name.clone(), ..Definition::default() }).collect();
        let mut batch = matyan_store::Batch::buffered();
        let mut rest = &definitions[..];
        dictionary_truncate(&mut batch, P, &id, producer, 0);
        for (page, count) in dictionary_pages(0, &definitions) {
            let (own, remaining) = rest.split_at(count);
            dictionary_put(&mut batch, P, &id, producer, page, own);
            rest = remaining;
        }
        batch.bytes()
    };
    let full = 1 << 20;
    let mut names: Vec<String> = Vec::new();
    while stored(&names) + 1_000 < full {
        names.push(format!("{:0900}", names.len()));
    }
    let fills = (1..1_000).find(|length| {
        let last = "x".repeat(*length);
        stored(&[&names[..], &[last]].concat()) == full
    });
    names.push("x".repeat(fills.expect("some length fills the transaction to the byte")));
    let env = TestEnv::new().await;
    let texts: Vec<&str> = names.iter().map(String::as_str).collect();
    let full = record(0).sent(1, 1, 0).define(0, &texts).points(0, &[(None, 0.5)]);
    ends("it is applied", env.apply(vec![full])).await;
    assert_eq!(env.read().await.unwrap().metrics.len(), 1);
}

#[tokio::test]
async fn rule_08_a_record_without_a_readable_batch_is_parked_as_one_item() {
    let env = TestEnv::new().await;
    let mut broken = record(0);
    broken.entry.producer_id = vec![1; 3].into();
    let applied = env.apply(vec![broken, record(1).line(0, "good")]).await;
    assert_eq!(applied.parked, 1);
    assert_eq!(env.read().await.unwrap().lines.len(), 1);
    assert_eq!(env.parked().await[0].reason, "its producer id has not 16 bytes");
}

/// A string that is too long for index rows and entity rows, so that the store rejects the
/// transaction.
fn unstorable() -> Kind {
    Kind::AddTag(pb::AddTag { name: "x".repeat(20_000) })
}

#[tokio::test]
async fn rule_08_items_that_the_store_rejects_are_found_by_halving() {
    let env = TestEnv::new().await;
    let mut mixed = record(0).create();
    for at in 0..50 {
        mixed = mixed.line(at, "good");
        if at == 17 || at == 18 || at == 40 {
            mixed = mixed.event(unstorable());
        }
    }
    let applied = env.apply(vec![mixed, auto(1, 3)]).await;
    assert_eq!(applied.parked, 3);
    let items: Vec<u32> = env.parked().await.iter().map(|parked| parked.at.item).collect();
    assert_eq!(items, [19, 21, 44]);
    assert_eq!(env.read().await.unwrap().lines.len(), 50);
    assert_eq!(env.points("loss").await.len(), 3);
}

/// A blob store that fails every upload with the same error or panic.
struct BadBlobs(fn(&BlobKey) -> matyan_blob::Error);

fn panicking() -> Arc<BadBlobs> {
    Arc::new(BadBlobs(|key| panic!("no room for {key}")))
}

#[async_trait::async_trait]
impl Blobs for BadBlobs {
    async fn presign(&self, _: &BlobKey, _: &str, _: Option<u64>) -> matyan_blob::Result<PresignedUpload> {
        panic!("presign")
    }

    async fn put(&self, key: &BlobKey, _: &str, _: Option<u64>, _: Content) -> matyan_blob::Result<u64> {
        Err(self.0(key))
    }

    async fn read(
        &self,
        _: &BlobKey,
        _: Option<std::ops::Range<u64>>,
    ) -> matyan_blob::Result<Option<(BlobMeta, Content)>> {
        panic!("read")
    }

    async fn describe(&self, _: &BlobKey) -> matyan_blob::Result<Option<BlobMeta>> {
        panic!("describe")
    }

    async fn delete(&self, _: &[BlobKey]) -> matyan_blob::Result<Vec<(BlobKey, matyan_blob::Error)>> {
        panic!("delete")
    }

    async fn list(&self, _: &str, _: Option<&BlobKey>) -> matyan_blob::Result<Listing> {
        panic!("list")
    }
}

#[tokio::test]
async fn rule_08_a_panic_is_handled_like_any_bad_item() {
    let mut env = TestEnv::new().await;
    env.deps.blobs = panicking();
    let large = "x".repeat(100_000);
    let mut mixed = record(0).create();
    for at in 0..20 {
        mixed = mixed.line(at, "good");
    }
    mixed = mixed.object("o", Some(0), &large).object("o", Some(1), "small");
    let applied = env.apply(vec![mixed, auto(1, 2).sent(1, 1, 0), auto(2, 2).sent(1, 2, 0)]).await;
    assert_eq!(applied.parked, 1);
    let parked = env.parked().await;
    assert!(
        parked[0].reason.starts_with("applying the item panicked: no room for r/"),
        "{}",
        parked[0].reason
    );
    let run = env.read().await.unwrap();
    assert_eq!((run.lines.len(), run.objects[0].1.len(), env.points("loss").await.len()), (20, 1, 4));
}

#[tokio::test]
async fn rule_08_dead_letters_are_copies() {
    let env = TestEnv::new().await;
    env.apply(vec![record(0).event(unstorable())]).await;
    crate::tests::eventually("the copy", || async {
        let info = env.log.describe(Topic::DeadLetters).await.unwrap();
        info.partitions.iter().map(|partition| partition.end).sum::<u64>() == 1
    })
    .await;
    // A closed log does not block anything: the store has the item.
    env.log.close().await.unwrap();
    let applied = env.apply(vec![record(1).event(unstorable()).line(0, "good")]).await;
    assert_eq!((applied.parked, env.parked().await.len()), (1, 2));
    assert_eq!(env.read().await.unwrap().lines.len(), 1);
}

#[tokio::test]
async fn rule_08_a_dead_letter_topic_that_never_answers_blocks_nothing() {
    let mut env = TestEnv::new().await;
    let (dead_letters, _dead_letter_task) =
        DeadLetterQueue::start(Arc::new(crate::tests::harness::SilentLog), crate::tests::harness::dropped());
    env.dead_letters = dead_letters;
    let records = (0..20).map(|at| record(at).event(unstorable()).line(at as i64, "good")).collect();
    let applied = crate::tests::ends("applying", env.apply(records)).await;
    assert_eq!((applied.parked, env.read().await.unwrap().lines.len()), (20, 20));
}

/// A record that cannot be decoded.
fn garbage(offset: u64, key: &'static str, size: usize) -> Entry {
    let value = vec![9; size].into();
    Entry::read(
        0,
        0,
        Record { offset, key: key.into(), value, headers: Vec::new(), appended_us: 0, leader_epoch: None },
        false,
    )
}

/// Items of any size are kept in the store.
#[tokio::test]
async fn rule_08_parking_needs_no_blob_store() {
    let mut env = TestEnv::new().await;
    let bad_type: fn(&BlobKey) -> _ = |_| matyan_blob::Error::BadContentType { reason: "bad" };
    for (blobs, run) in [(panicking(), "a"), (Arc::new(BadBlobs(bad_type)), "b")] {
        env.deps.blobs = blobs;
        let large = record(0).run(run).object("o", None, &"x".repeat(3 << 20)).line(0, "good");
        let entries = vec![large.entry(), garbage(1, run, 2 << 20)];
        let applied = crate::tests::ends("applying", env.apply_entries(run, entries)).await;
        assert_eq!((applied.is_complete, applied.parked), (true, 2), "{run}");
        assert_eq!(env.read_run(run).await.unwrap().lines.len(), 1, "{run}");
    }
    let kept: Vec<usize> = env.parked().await.iter().map(|parked| parked.item.len() >> 20).collect();
    assert_eq!(kept, [3, 2, 3, 2]);
}

/// Services other than the frontier also write to the topic, with arbitrary run ids.
#[tokio::test]
async fn rule_08_a_run_id_that_is_not_a_valid_folder_name_is_accepted() {
    let env = TestEnv::new().await;
    let text = "x".repeat(300_000);
    for (run, at) in ["..", ".", "a/../b", "/", "a//b", "a\nb", ".projects"].into_iter().zip(0..) {
        let entries = vec![record(0).run(run).object("o", None, &text).entry(), garbage(1, run, 2 << 20)];
        let applied = crate::tests::ends("applying", env.apply_entries(run, entries)).await;
        assert_eq!((applied.is_complete, applied.parked), (true, 1), "{run:?}");
        let object = &env.read_run(run).await.unwrap().objects[0].1[0];
        let value = env.value(object).await;
        assert_eq!(value.as_map().unwrap()["data"], matyan_value::Value::Text(text.clone()));
        let parked = env.parked().await;
        assert_eq!(parked.len(), at + 1);
        assert!(parked.iter().all(|parked| parked.item.len() == 2 << 20), "{run:?}");
    }
}
