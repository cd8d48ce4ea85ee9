//! Tests of the correctness rules on a single writer: records that are redelivered, out of
//! order, too large, malformed, or meant for a deleted run.

mod large_and_bad_records;

use std::sync::{Arc, atomic::Ordering};

use matyan_blob::{BlobKey, BlobMeta, Blobs, Content, Listing, PresignedUpload};
use matyan_log::{LogInspector, Record, Topic};
use matyan_model::{
    change::changes_list,
    keys::{self, Counter, EntityKind},
    object::ObjectValue,
    position::{Cursor, LogPosition, cursor_get},
    project::project_count,
    run::{Head, tombstone_clear},
};
use matyan_proto::{
    ingest::v1::{self as pb, event::Kind},
    limits,
};
use matyan_store::{
    Commit, Transaction,
    layers::{Fault, Faults},
};

use super::harness::{P, TestEnv, TestRecord, record};
use crate::{
    apply::{DeadLetterQueue, RunWriter},
    record::Entry,
};

async fn cursor(env: &TestEnv) -> Option<Cursor> {
    let snapshot = env.store().snapshot().await.unwrap();
    cursor_get(&*snapshot, P, &matyan_model::ids::RunId::new("r")).await.unwrap()
}

fn steps(count: usize) -> Vec<(Option<i64>, f64)> {
    (0..count).map(|at| (None, at as f64)).collect()
}

fn auto(offset: u64, count: usize) -> TestRecord {
    record(offset).define(0, &["loss"]).points(0, &steps(count))
}

#[tokio::test]
async fn rule_01_records_of_a_new_log_are_not_repeats_of_the_old() {
    let env = TestEnv::new().await;
    env.apply(vec![auto(50_000, 2)]).await;
    // The topic was recreated: offsets start at 0.
    env.apply(vec![auto(0, 1).log(1), auto(1, 1).log(1)]).await;
    assert_eq!(
        env.apply(vec![auto(60_000, 1), auto(1, 1).log(1)]).await.items,
        0,
        "records of the old log are stale"
    );
    assert_eq!(env.points("loss").await.len(), 4);
}

#[tokio::test]
async fn rule_04_redelivery_changes_nothing_even_if_the_worker_numbers_steps() {
    let env = TestEnv::new().await;
    let records = vec![record(0).create().tag("t"), auto(1, 3), record(2).line(0, "x"), auto(3, 2)];
    env.apply(records.clone()).await;
    for delivered in [&records[..], &records[1..2], &records[3..], &records[..1]] {
        let applied = env.apply(delivered.to_vec()).await;
        assert_eq!((applied.items, applied.conflicts), (0, 0));
    }
    assert_eq!(env.points("loss").await, [(0, 0.0), (1, 1.0), (2, 2.0), (3, 0.0), (4, 1.0)]);
    let run = env.read().await.unwrap();
    assert_eq!(env.tags(&run.props).await, [("t".to_owned(), 1)]);
    let snapshot = env.store().snapshot().await.unwrap();
    assert_eq!(project_count(&*snapshot, P, Counter::Points).await.unwrap(), 5);
    assert_eq!(project_count(&*snapshot, P, Counter::Series).await.unwrap(), 1);
    assert_eq!(project_count(&*snapshot, P, Counter::Runs).await.unwrap(), 1);
}

/// A client without a producer id may send a record again, or the same record twice in one frame.
#[tokio::test]
async fn a_repeated_log_record_is_stored_once() {
    let env = TestEnv::new().await;
    let log_record = |message: &str| {
        Kind::LogRecord(pb::LogRecord { message: message.into(), timestamp: 1.5, ..pb::LogRecord::default() })
    };
    let twice = record(0).event(log_record("started")).event(log_record("started"));
    env.apply(vec![twice, record(1).event(log_record("started"))]).await;
    env.apply(vec![record(2).event(log_record("started")).event(log_record("saved"))]).await;
    let records = env.read().await.unwrap().records;
    let found: Vec<_> = records.iter().map(|(sequence, record)| (*sequence, &*record.message)).collect();
    assert_eq!(found, [(0, "started"), (1, "saved")]);
}

#[tokio::test]
async fn rule_04_a_worker_that_lost_its_partition_cannot_number_steps_from_its_cache() {
    let env = TestEnv::new().await;
    let mut zombie = env.writer("r");
    let mut heir = env.writer("r");
    env.apply_with(&mut zombie, vec![auto(0, 2)]).await;
    env.apply_with(&mut heir, vec![auto(1, 2)]).await;
    // The first writer still holds records, and a cache in which step 2 is next.
    let applied = env.apply_with(&mut zombie, vec![auto(1, 2), auto(2, 1)]).await;
    assert_eq!(applied.conflicts, 1);
    let applied = env.apply_with(&mut heir, vec![auto(2, 1), auto(3, 1)]).await;
    assert_eq!(applied.conflicts, 1);
    let found = env.points("loss").await;
    assert_eq!(found.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn rule_04_a_new_writer_continues_after_the_highest_stored_step() {
    let env = TestEnv::new().await;
    env.apply(vec![
        record(0).define(0, &["loss"]).points(0, &[(Some(-5), 1.0), (Some(10), 2.0), (None, 3.0)]),
    ])
    .await;
    env.apply(vec![record(1).define(0, &["loss"]).points(0, &[(Some(3), 4.0), (None, 5.0)])]).await;
    let found = env.points("loss").await;
    assert_eq!(found, [(-5, 1.0), (3, 4.0), (10, 2.0), (11, 3.0), (12, 5.0)]);
}

#[tokio::test]
async fn rule_05_resends_and_gaps_of_a_producer_are_dropped() {
    let env = TestEnv::new().await;
    let batch = |offset, sequence, acknowledged| auto(offset, 1).sent(1, sequence, acknowledged);
    env.apply(vec![record(0).define(0, &["loss"]).points(0, &steps(1)).sent(1, 1, 0)]).await;
    // A gap: the batch before it was never acknowledged, so both batches are resent.
    let applied = env.apply(vec![batch(1, 3, 0), batch(2, 2, 0), batch(3, 3, 0)]).await;
    assert_eq!(applied.skipped_records, 1);
    // Resent after a broken connection, at different offsets.
    let applied = env.apply(vec![batch(4, 2, 0), batch(5, 3, 0), batch(6, 4, 1)]).await;
    assert_eq!(applied.skipped_records, 2);
    assert_eq!(env.points("loss").await.len(), 4);
    assert_eq!(cursor(&env).await, Some(Cursor::after(LogPosition { log: 0, partition: 0, offset: 6 })));
    // Producers are counted separately, and a swept mark is not a gap.
    env.apply(vec![auto(7, 1).sent(2, 1, 0), auto(8, 1).sent(3, 9, 8), auto(9, 1).sent(3, 9, 8)]).await;
    assert_eq!(env.points("loss").await.len(), 6);
}

#[tokio::test]
async fn rule_05_an_empty_record_continues_the_sequence() {
    let env = TestEnv::new().await;
    env.apply(vec![auto(0, 1).sent(1, 1, 0), record(1).sent(1, 2, 0), auto(2, 1).sent(1, 3, 0)]).await;
    assert_eq!(env.points("loss").await.len(), 2);
}

#[tokio::test]
async fn a_dictionary_grows_with_its_producer_and_survives_a_restart() {
    let env = TestEnv::new().await;
    env.apply(vec![record(0).sent(1, 1, 0).define(0, &["a", "b"]).points(1, &[(Some(0), 1.0)])]).await;
    env.apply(vec![record(1).sent(1, 2, 0).define(2, &["c"]).points(2, &[(Some(0), 2.0)])]).await;
    // Only series numbers, and a second producer for which the numbers have different
    // meanings.
    env.apply(vec![
        record(2).sent(1, 3, 0).points(0, &[(Some(0), 3.0)]).points(1, &[(Some(1), 4.0)]),
        record(3).sent(2, 1, 0).define(0, &["c"]).points(0, &[(Some(1), 5.0)]),
    ])
    .await;
    assert_eq!(env.points("a").await, [(0, 3.0)]);
    assert_eq!(env.points("b").await, [(0, 1.0), (1, 4.0)]);
    assert_eq!(env.points("c").await, [(0, 2.0), (1, 5.0)]);
    let run = env.read().await.unwrap();
    assert_eq!(run.metrics.len(), 3, "a series is created by a point, not by a definition");
}

#[tokio::test]
async fn a_producer_that_returns_defines_what_the_store_has_lost() {
    let env = TestEnv::new().await;
    // The store has none of the acknowledged batches.
    let returned = |offset, sequence| record(offset).sent(1, sequence, 8).define(0, &["a", "b"]);
    env.apply(vec![returned(0, 9).points(1, &[(Some(0), 1.0)])]).await;
    env.apply(vec![record(1).sent(1, 10, 9).define(2, &["c"]).points(2, &[(Some(0), 2.0)])]).await;
    // The producer returns once more, and the store has all of the repeated definitions, or a part.
    env.apply(vec![returned(2, 11).points(0, &[(Some(0), 3.0)])]).await;
    let more = record(3).sent(1, 12, 11).define(0, &["a", "b", "c", "d"]);
    env.apply(vec![more.points(2, &[(Some(1), 4.0)]).points(3, &[(Some(0), 5.0)])]).await;
    env.apply(vec![record(4).sent(1, 13, 12).points(3, &[(Some(1), 6.0)])]).await;
    assert_eq!(env.points("a").await, [(0, 3.0)]);
    assert_eq!(env.points("b").await, [(0, 1.0)]);
    assert_eq!(env.points("c").await, [(0, 2.0), (1, 4.0)]);
    assert_eq!(env.points("d").await, [(0, 5.0), (1, 6.0)]);
}

#[tokio::test]
async fn rule_11_late_data_does_not_bring_a_deleted_run_back() {
    let env = TestEnv::new().await;
    env.apply(vec![record(0).create().tag("t"), auto(1, 2)]).await;
    env.apply(vec![record(2).line(0, "x").delete().create().line(1, "y"), record(3).create(), auto(4, 1)])
        .await;
    assert!(matches!(env.head().await, Some(Head::Tombstone(tombstone)) if tombstone.at.offset == 2));
    assert!(env.read().await.is_none() && env.listed().await.is_empty());
    let snapshot = env.store().snapshot().await.unwrap();
    let tag = matyan_model::entity::entity_find(&*snapshot, P, EntityKind::Tag, "t").await.unwrap().unwrap();
    let links = snapshot.scan(&keys::index_tag_all(P, &tag), Default::default()).await.unwrap();
    assert!(links.rows.is_empty());
    let count = matyan_model::entity::runs_count(&*snapshot, P, EntityKind::Tag, &tag).await.unwrap();
    assert_eq!(count, 0);
    assert_eq!(project_count(&*snapshot, P, Counter::Runs).await.unwrap(), 0);
    drop(snapshot);
    // Deleting a run that is deleted, or never existed, leaves a tombstone as well.
    env.apply(vec![record(5).delete()]).await;
    env.apply_with(&mut env.writer("other"), vec![record(6).run("other").delete()]).await;
    assert!(matches!(env.head().await, Some(Head::Tombstone(tombstone)) if tombstone.at.offset == 2));
}

async fn clear_tombstone(env: &TestEnv) {
    let mut transaction = Transaction::new(env.store().snapshot().await.unwrap());
    let id = matyan_model::ids::RunId::new("r");
    let Some(Head::Tombstone(tombstone)) = env.head().await else { panic!("there is no tombstone") };
    let number = matyan_model::ids::RunNumber(tombstone.number.unwrap());
    matyan_model::run::blobs_deleted_put(&mut transaction, P, &id, number).await.unwrap();
    assert!(matches!(env.store().commit(transaction.into_batch()).await.unwrap(), Commit::Done { .. }));
    let mut transaction = Transaction::new(env.store().snapshot().await.unwrap());
    tombstone_clear(&mut transaction, P, &id).await.unwrap();
    assert!(matches!(env.store().commit(transaction.into_batch()).await.unwrap(), Commit::Done { .. }));
}

#[tokio::test]
async fn rule_11_a_recreated_run_shares_nothing_with_the_deleted_one() {
    let env = TestEnv::new().await;
    let mut writer = env.writer("r");
    let first = vec![
        record(0).sent(1, 1, 0).create().params(r#"{"a":1}"#).object("o", None, "1").line(0, "x"),
        record(1).sent(1, 2, 0).define(0, &["loss", "acc"]).points(0, &steps(3)),
    ];
    env.apply_with(&mut writer, first.clone()).await;
    let old = env.read().await.unwrap().number;
    env.apply_with(
        &mut writer,
        vec![record(2).delete(), record(3).sent(1, 3, 0).define(2, &["lr"]).points(2, &steps(1))],
    )
    .await;
    clear_tombstone(&env).await;
    // The same connection continues, with definitions from before the delete and from while
    // the run was dead.
    let again = record(4)
        .sent(1, 4, 0)
        .points(0, &steps(2))
        .points(1, &steps(1))
        .points(2, &steps(1))
        .object("o", None, "2");
    let applied = env.apply_with(&mut writer, vec![again]).await;
    assert_eq!((applied.conflicts, applied.parked), (1, 0), "the writer's cache was of the dead run");
    let run = env.read().await.unwrap();
    assert!(run.number > old);
    for (name, count) in [("loss", 2), ("acc", 1), ("lr", 1)] {
        assert_eq!(env.points(name).await.len(), count, "{name}");
    }
    assert!(run.params.is_empty() && run.lines.is_empty());
    assert_eq!(run.objects[0].1.iter().map(|object| object.step).collect::<Vec<_>>(), [0]);
    // Records from before the delete are redelivered.
    assert_eq!(env.apply(first).await.items, 0);
    assert_eq!(env.points("loss").await.len(), 2);
}

#[tokio::test]
async fn rule_25_every_transaction_that_touches_a_run_leaves_a_change() {
    let env = TestEnv::new().await;
    let changes = async |after| {
        let snapshot = env.store().snapshot().await.unwrap();
        changes_list(&*snapshot, P, after, 100).await.unwrap().0
    };
    let mut caller = record(0).create();
    caller.entry.caller = "me".into();
    env.apply(vec![caller]).await;
    let first = changes(None).await;
    let number = env.read().await.unwrap().number;
    assert_eq!((first.len(), first[0].number, first[0].caller.as_str()), (1, number, "me"));
    env.apply(vec![auto(1, 1)]).await;
    env.apply(vec![auto(1, 1)]).await;
    env.apply(vec![record(2).delete()]).await;
    assert_eq!(changes(Some(first[0].stamp)).await.len(), 2, "a repeated record is no change");
}

/// Otherwise all watchers would restart after each backlog.
#[tokio::test]
async fn rule_25_changes_of_records_that_waited_for_long_are_kept() {
    use matyan_model::change::RETENTION_US;
    let env = TestEnv::new().await;
    let kept = async |now_us| {
        env.now_us.store(now_us, Ordering::Relaxed);
        matyan_maintenance::trim_changes(env.deps.maintenance()).await.unwrap();
        changes_list(&*env.store().snapshot().await.unwrap(), P, None, 100).await.unwrap().0.len()
    };
    env.now_us.store(9 * RETENTION_US, Ordering::Relaxed);
    env.apply(vec![record(0).create(), auto(1, 1)]).await;
    env.now_us.store(10 * RETENTION_US - 1, Ordering::Relaxed);
    env.apply(vec![record(2).delete()]).await;
    assert_eq!(kept(10 * RETENTION_US - 1).await, 2);
    assert_eq!(kept(10 * RETENTION_US + 1).await, 1);
    assert_eq!(kept(11 * RETENTION_US).await, 0);
}

#[tokio::test]
async fn rule_27_runs_that_join_an_experiment_concurrently_are_all_counted() {
    let env = TestEnv::new().await;
    let join = |at: u64| {
        let run = format!("run-{at}");
        let experiment = pb::SetRunProperty { experiment: Some("e".into()), ..pb::SetRunProperty::default() };
        let record = record(at).run(&run).create().event(Kind::SetRunProperty(experiment)).tag("t");
        let mut writer = env.writer(&run);
        let env = &env;
        async move { env.apply_with(&mut writer, vec![record]).await }
    };
    futures::future::join_all((0..40).map(join)).await;
    let run = env.read_run("run-3").await.unwrap();
    assert_eq!(env.experiment(&run.props).await, Some(("e".to_owned(), 40)));
    assert_eq!(env.tags(&run.props).await, [("t".to_owned(), 40)]);
}

#[tokio::test]
async fn rule_33_the_creation_time_of_a_run_is_its_time_of_receipt() {
    let env = TestEnv::new().await;
    env.now_us.store(i64::MAX / 2, Ordering::Relaxed);
    env.apply(vec![record(5).create(), record(9).create()]).await;
    assert_eq!(env.read().await.unwrap().props.created_us, 5_000_000);
}

#[tokio::test]
async fn rule_33_an_imported_run_has_the_times_of_its_source() {
    let env = TestEnv::new().await;
    let create = |created_us| Kind::CreateRun(pb::CreateRun { created_us, ..pb::CreateRun::default() });
    let at = |mut record: TestRecord, time_us| {
        record.batch.events[0].client_time_us = Some(time_us);
        record
    };
    env.apply(vec![at(record(5).event(create(Some(1_000))), 1_000)]).await;
    env.apply(vec![at(record(6).event(Kind::FinishRun(pb::FinishRun::default())), 4_000)]).await;
    let props = env.read().await.unwrap().props;
    assert_eq!((props.created_us, props.finalized_us, props.duration_us), (1_000, Some(4_000), Some(3_000)));
    // An existing run stays as it is.
    env.apply(vec![record(7).event(create(Some(2_000)))]).await;
    assert_eq!(env.read().await.unwrap().props.created_us, 1_000);
}

#[tokio::test]
async fn rule_33_a_run_is_not_created_in_the_future() {
    let env = TestEnv::new().await;
    let create = Kind::CreateRun(pb::CreateRun { created_us: Some(i64::MAX), ..pb::CreateRun::default() });
    env.apply(vec![record(5).event(create)]).await;
    assert_eq!(env.read().await.unwrap().props.created_us, 5_000_000);
}

#[tokio::test]
async fn a_run_keeps_the_client_that_made_it() {
    let env = TestEnv::new().await;
    for (offset, client) in [(5, ""), (6, "W&B 0.31.0"), (7, "matyan-client 1.0")] {
        let create = Kind::CreateRun(pb::CreateRun { client: client.into(), ..pb::CreateRun::default() });
        env.apply(vec![record(offset).event(create)]).await;
    }
    assert_eq!(env.read().await.unwrap().props.client.as_deref(), Some("W&B 0.31.0"));
}

#[tokio::test]
async fn rule_35_a_run_may_have_a_parent() {
    let env = TestEnv::new().await;
    env.apply_with(&mut env.writer("parent"), vec![record(0).run("parent").create()]).await;
    let parent = env.read_run("parent").await.unwrap().number;
    let branch = |parent: &str| {
        let parent_run_id = parent.to_owned();
        let parent_step = Some(-3);
        Kind::CreateRun(pb::CreateRun { parent_run_id, parent_step, ..pb::CreateRun::default() })
    };
    env.apply(vec![record(1).event(branch("missing"))]).await;
    assert_eq!(env.read().await.unwrap().props.parent, None);
    env.apply(vec![record(2).event(branch("parent")), record(3).create()]).await;
    let found = env.read().await.unwrap().props.parent.unwrap();
    assert_eq!((found.number, found.step), (parent.0, Some(-3)));
}

#[tokio::test]
async fn rule_38_the_number_of_series_per_run_is_limited() {
    let env = TestEnv::new().await;
    env.apply(vec![record(0).define(0, &["a"]).points(0, &[(Some(0), 1.0)])]).await;
    let number = env.read().await.unwrap().number;
    let mut batch = matyan_store::Batch::default();
    let mut full =
        matyan_model::run::writing_get(&*env.store().snapshot().await.unwrap(), P, number).await.unwrap();
    full.series = limits::SERIES_PER_RUN as u32;
    matyan_model::run::writing_put(&mut batch, P, number, &full);
    env.store().commit(batch).await.unwrap();
    let applied = env
        .apply(vec![
            record(1).define(0, &["a", "b"]).points(1, &[(Some(0), 1.0)]).points(0, &[(Some(1), 1.0)]),
        ])
        .await;
    assert_eq!(applied.parked, 1);
    assert_eq!(env.parked().await[0].reason, "the run has reached the limit of 200000 series");
    assert_eq!(env.points("a").await.len(), 2);
}

/// With more, the document of the run would not fit in a row, and nothing could change it.
#[tokio::test]
async fn rule_38_the_number_of_tags_per_run_is_limited() {
    let env = TestEnv::new().await;
    let name = |number: usize| format!("tag {number}");
    let full = (0..limits::TAGS_PER_RUN).fold(record(0).create(), |record, number| record.tag(&name(number)));
    env.apply(vec![full]).await;
    let beyond = name(limits::TAGS_PER_RUN);
    let applied = env.apply(vec![record(1).tag(&beyond).tag(&name(0)).line(0, "x")]).await;
    assert_eq!(applied.parked, 1);
    assert_eq!(env.parked().await[0].reason, "the run has reached the limit of 256 tags");
    let read = env.read().await.unwrap();
    assert_eq!((read.props.tags.len(), read.lines.len()), (limits::TAGS_PER_RUN, 1));
    let snapshot = env.store().snapshot().await.unwrap();
    let created = matyan_model::entity::entity_find(&*snapshot, P, EntityKind::Tag, &beyond).await.unwrap();
    assert_eq!(created, None);
    // A tag that exists is refused as well, and fits once another tag is gone.
    env.apply(vec![record(2).run("other").create().tag(&beyond)]).await;
    assert_eq!(env.apply(vec![record(3).tag(&beyond)]).await.parked, 1);
    let remove = Kind::RemoveTag(pb::RemoveTag { name: name(0) });
    assert_eq!(env.apply(vec![record(4).event(remove).tag(&beyond)]).await.parked, 0);
    assert_eq!(env.read().await.unwrap().props.tags.len(), limits::TAGS_PER_RUN);
}

#[tokio::test]
async fn a_step_after_the_last_possible_one_is_refused_and_not_wrapped() {
    let env = TestEnv::new().await;
    let records =
        vec![record(0).define(0, &["a"]).points(0, &[(Some(i64::MAX), 1.0), (None, 2.0), (Some(3), 3.0)])];
    env.apply(records).await;
    assert_eq!(env.points("a").await, [(3, 3.0), (i64::MAX, 1.0)]);
    assert_eq!(env.parked().await[0].reason, "no step is left after the last one");
}

#[tokio::test]
async fn the_header_has_the_type_of_the_last_value() {
    let env = TestEnv::new().await;
    let with_type = |offset, dtype: &str| {
        let mut record = record(offset).define(0, &["a"]).points(0, &[(None, 1.0)]);
        record.batch.series[0].dtype = dtype.to_owned();
        record
    };
    for (offset, dtype, expected) in
        [(0, "int", "int"), (1, "", "float"), (2, "float64", "float64"), (3, "float64", "float64")]
    {
        env.apply(vec![with_type(offset, dtype)]).await;
        assert_eq!(env.read().await.unwrap().metrics[0].0.dtype, expected);
    }
}
