//! Tests of rule 40 for runs in quarantine: damaged ones, and those that an operator has parked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use matyan_model::{
    ids::{RunId, RunNumber},
    keys::{self, EntityKind, RowOwner, row_owner},
    parked::{ParkedItem, parked_content, parked_put, restored_position},
    position::{Cursor, cursor_get},
    producer::{MARK_KEPT_US, producers_sweep},
    quarantine::{
        quarantine_begin, quarantine_delete, quarantine_get, quarantine_restore, quarantine_resume,
    },
    run::{Head, dead_runs_list, head_get, sweep_step},
};
use matyan_store::{Batch, Commit, Key, Mutation, Snapshot, Store, Transaction, Value, transact};
use tokio_util::sync::CancellationToken;

use super::harness::{P, TestEnv, TestRecord, record};
use crate::IngestSettings;

/// Replaces a stored row by bytes that no version of the program writes.
async fn damage(env: &TestEnv, key: Key) {
    let mut batch = Batch::default();
    batch.set(key, vec![0xff, 7]);
    env.store().commit(batch).await.unwrap();
}

async fn resume(env: &TestEnv, run: &str) -> bool {
    let id = RunId::new(run);
    let resumed = transact(env.store(), async |mut transaction: Transaction| {
        let resumed = quarantine_resume(&mut transaction, P, &id).await?;
        Ok::<_, matyan_store::Error>((transaction, resumed))
    });
    resumed.await.unwrap().0
}

fn numbered(run: &str, offset: u64) -> TestRecord {
    let sent = TestRecord { offset, ..record(offset) }.run(run).sent(1, offset + 1, offset);
    let sent = if offset == 0 { sent.define(0, &["loss"]) } else { sent };
    sent.points(0, &[(Some(offset as i64), 0.5)]).line(offset as i64, "good")
}

#[tokio::test]
async fn rule_40_a_run_with_a_damaged_row_is_put_in_quarantine_and_resumed() {
    type RowKey = fn(matyan_model::ids::RunNumber) -> Key;
    let rows: [RowKey; 3] = [
        |number| keys::document(P, number),
        |_| keys::head(P, &RunId::new("r")),
        |number| keys::writing(P, number),
    ];
    for row in rows {
        let env = TestEnv::new().await;
        env.apply(vec![numbered("r", 0), record(1).create()]).await;
        let key = row(env.read().await.unwrap().number);
        let before = env.store().snapshot().await.unwrap().get(&key).await.unwrap().unwrap();
        damage(&env, key.clone()).await;
        // A writer that has nothing in memory.
        let mut records = vec![record(2).create()];
        records.extend((3..23).map(|offset| numbered("r", offset)));
        for record in &mut records {
            if let Some(sequence) = record.entry.sequence.checked_sub(2) {
                record.entry.sequence = sequence;
                record.entry.acknowledged = sequence - 1;
            }
        }
        let applied = super::ends("parking", env.apply(records)).await;
        assert_eq!((applied.parked, applied.items), (21, 0));
        let parked = env.parked().await;
        assert!(parked[0].reason.contains("`matyan runs resume r`"), "{}", parked[0].reason);
        assert_eq!(env.apply(vec![record(22).line(9, "again")]).await.parked, 0, "it was parked");
        // Not repaired: nothing is lost.
        assert!(resume(&env, "r").await);
        super::ends("parking again", env.apply(vec![record(24).line(100, "later")])).await;
        assert_eq!(env.parked().await.len(), 22);
        let mut batch = Batch::default();
        batch.set(key, before);
        env.store().commit(batch).await.unwrap();
        assert!(resume(&env, "r").await);
        super::ends("resuming", env.apply(vec![record(25).line(101, "last")])).await;
        assert!(env.parked().await.is_empty());
        let run = env.read().await.unwrap();
        let lines: Vec<i64> = run.lines.iter().map(|line| line.number).collect();
        assert_eq!(lines, [&[0][..], &(3..23).collect::<Vec<_>>(), &[100, 101]].concat());
        assert_eq!(env.points("loss").await.len(), 21);
        assert!(!resume(&env, "r").await, "it is over");
    }
}

type Change<'a> = std::pin::Pin<Box<dyn Future<Output = matyan_store::Result<()>> + Send + 'a>>;

/// Commits the effects of a function of the model.
async fn change(env: &TestEnv, change: impl for<'a> Fn(&'a mut Transaction) -> Change<'a>) {
    let changed = transact(env.store(), async |mut transaction: Transaction| {
        change(&mut transaction).await?;
        Ok::<_, matyan_store::Error>((transaction, ()))
    });
    changed.await.unwrap();
}

async fn park(env: &TestEnv) {
    let id = RunId::new("r");
    change(env, |transaction| {
        let id = id.clone();
        Box::pin(async move { quarantine_begin(transaction, P, &id, "an operator parked it", 7).await })
    })
    .await;
}

async fn cursor(env: &TestEnv) -> Cursor {
    cursor_get(&*env.store().snapshot().await.unwrap(), P, &RunId::new("r")).await.unwrap().unwrap()
}

async fn is_quarantined(env: &TestEnv) -> bool {
    let row = quarantine_get(&*env.store().snapshot().await.unwrap(), P, &RunId::new("r")).await.unwrap();
    assert_eq!(row.is_some(), cursor(env).await.is_quarantined);
    row.is_some()
}

async fn lines(env: &TestEnv) -> Vec<i64> {
    env.read().await.unwrap().lines.iter().map(|line| line.number).collect()
}

/// A record of a producer that sends without waiting for acknowledgments.
fn pipelined(offset: u64) -> TestRecord {
    TestRecord { offset, ..record(offset) }.sent(1, offset + 1, 0).line(offset as i64, "good")
}

#[tokio::test]
async fn rule_40_parked_records_of_a_producer_that_was_silent_are_applied() {
    let env = TestEnv::new().await;
    env.apply((0..2).map(pipelined).collect()).await;
    park(&env).await;
    env.apply((2..6).map(pipelined).collect()).await;
    for _ in 0..3 {
        change(&env, |transaction| {
            Box::pin(async move { producers_sweep(transaction, 10 * MARK_KEPT_US).await.map(drop) })
        })
        .await;
    }
    assert!(resume(&env, "r").await);
    env.apply(vec![record(9).line(9, "later")]).await;
    assert_eq!(lines(&env).await, [0, 1, 2, 3, 4, 5, 9]);
    assert!(env.parked().await.is_empty() && !is_quarantined(&env).await);
}

/// The repair of a run may consist in removing the damaged rows.
#[tokio::test]
async fn rule_40_a_parked_record_that_follows_a_gap_is_kept() {
    let env = TestEnv::new().await;
    env.apply((0..2).map(pipelined).collect()).await;
    let mark = keys::mark(P, &RunId::new("r"), matyan_model::ids::ProducerId([1; 16]));
    damage(&env, mark.clone()).await;
    let again = TestRecord { offset: 6, ..pipelined(3) };
    env.apply((2..6).map(pipelined).chain([again]).collect()).await;
    assert!(is_quarantined(&env).await);
    let mut batch = Batch::default();
    batch.clear(mark);
    env.store().commit(batch).await.unwrap();
    assert!(resume(&env, "r").await);
    env.apply(vec![record(9).line(9, "later")]).await;
    assert_eq!(lines(&env).await, [0, 1, 9]);
    let parked = env.parked().await;
    assert_eq!(parked.iter().map(|item| item.at.offset).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
    assert!(parked[0].record.is_none() && parked[0].reason.contains("missing before it"), "{parked:?}");
    assert!(!is_quarantined(&env).await);
}

#[tokio::test]
async fn rule_40_parked_records_are_applied_in_pages() {
    let env = TestEnv::new().await;
    env.apply(vec![record(0).create()]).await;
    park(&env).await;
    let wide = |offset: u64| {
        (0..30)
            .fold(record(offset), |record, line| record.line(offset as i64 * 30 + line, &"x".repeat(10_000)))
    };
    env.apply((1..41).map(wide).collect()).await;
    assert_eq!(env.parked().await.len(), 40);
    assert!(resume(&env, "r").await);
    let mut writer = env.writer("r");
    let stop = CancellationToken::new();
    let mut turns = 0;
    let mut applied = writer.apply(vec![record(50).line(5_000, "last").entry()], &stop).await;
    while applied.is_paused {
        let blocks: usize = applied.items as usize;
        assert!(blocks <= 20 * 30, "{blocks} items in a turn");
        turns += 1;
        applied = writer.apply(applied.left, &stop).await;
    }
    assert!(turns >= 3 && applied.is_complete && applied.left.is_empty(), "{turns} turns");
    assert_eq!(lines(&env).await.len(), 40 * 30 + 1);
    assert!(env.parked().await.is_empty() && !is_quarantined(&env).await);
}

/// A worker that stops between two pages.
#[tokio::test]
async fn rule_40_an_interrupted_resume_continues() {
    let env = TestEnv::new().await;
    env.apply(vec![record(0).create()]).await;
    park(&env).await;
    let wide = |offset: u64| record(offset).line(offset as i64, &"x".repeat(60_000));
    env.apply((1..200).map(wide).collect()).await;
    assert!(resume(&env, "r").await);
    let stop = CancellationToken::new();
    assert!(env.writer("r").apply(Vec::new(), &stop).await.is_paused);
    let left = env.parked().await.len();
    assert!(left > 0 && left < 199, "{left}");
    // Put back in quarantine in the middle, and resumed.
    park(&env).await;
    env.apply(vec![record(300).line(300, "while parked")]).await;
    assert!(resume(&env, "r").await);
    env.apply(vec![record(301).line(301, "last")]).await;
    assert_eq!(lines(&env).await, (1..200).chain([300, 301]).collect::<Vec<_>>());
    assert!(env.parked().await.is_empty() && !is_quarantined(&env).await);
}

/// A record that stayed in the log would keep the records of all other runs from being trimmed.
#[tokio::test]
async fn rule_40_a_large_quarantine_is_reported_and_takes_more() {
    let mut env = TestEnv::new().await;
    env.apply(vec![record(0).create()]).await;
    park(&env).await;
    env.large_quarantine = 10_000;
    let large = |offset: u64| record(offset).line(offset as i64, &"x".repeat(4_000));
    let reported = || {
        let families = env.registry.gather();
        let mut counters =
            families.iter().filter(|it| it.name() == "matyan_ingestion_large_quarantines_total");
        counters.next().map(|family| family.get_metric()[0].get_counter().get_value())
    };
    super::ends("parking", env.apply((1..3).map(large).collect())).await;
    assert_eq!(reported(), Some(0.0));
    super::ends("parking more", env.apply((3..6).map(large).collect())).await;
    super::ends("parking even more", env.apply((6..9).map(large).collect())).await;
    assert_eq!((env.parked().await.len(), reported()), (8, Some(1.0)), "reported once");
    assert!(resume(&env, "r").await);
    env.apply(Vec::new()).await;
    assert_eq!(lines(&env).await, (1..9).collect::<Vec<_>>());
}

#[tokio::test]
async fn rule_40_a_large_quarantine_delays_no_run() {
    let env = TestEnv::new().await;
    let settings = IngestSettings { large_quarantine_bytes: 10_000, ..super::ingest::settings() };
    let worker = env.work_with(settings).await;
    env.append([record(0).create()]).await;
    env.applied(0, 0).await;
    park(&env).await;
    for at in 0..20 {
        let parked = record(0).line(at, &"x".repeat(4_000));
        env.append([parked, record(0).run("other").line(at, "good")]).await;
    }
    env.applied(0, 40).await;
    assert_eq!(env.read_run("other").await.unwrap().lines.len(), 20);
    assert_eq!(env.parked().await.len(), 20);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn rule_40_records_before_the_delete_of_a_parked_run_are_dropped() {
    let env = TestEnv::new().await;
    env.apply(vec![record(0).create()]).await;
    park(&env).await;
    env.apply(vec![record(1).line(1, "parked")]).await;
    let id = RunId::new("r");
    change(&env, |transaction| {
        let id = id.clone();
        Box::pin(async move { quarantine_delete(transaction, P, &id).await.map(drop) })
    })
    .await;
    let applied = env.apply(vec![record(2).line(2, "dropped")]).await;
    assert_eq!((applied.parked, env.parked().await.len()), (0, 1));
    env.apply(vec![record(3).delete()]).await;
    assert!(env.parked().await.is_empty() && env.read().await.is_none() && !is_quarantined(&env).await);
}

#[tokio::test]
async fn rule_40_a_damaged_run_can_be_deleted() {
    type RowKey = fn(RunNumber) -> Key;
    let rows: [RowKey; 4] = [
        |number| keys::document(P, number),
        |_| keys::head(P, &RunId::new("r")),
        |number| keys::writing(P, number),
        |_| keys::cursor(P, &RunId::new("r")),
    ];
    for (case, row) in rows.into_iter().enumerate() {
        let env = TestEnv::new().await;
        env.apply(vec![numbered("r", 0), record(1).create()]).await;
        let number = env.read().await.unwrap().number;
        damage(&env, row(number)).await;
        let parked = super::ends("parking", env.apply(vec![record(2).line(5, "parked")])).await.parked;
        // A line does not need the document.
        let expected = usize::from(case > 0);
        assert_eq!((parked, env.parked().await.len()), (expected as u64, expected), "row {case}");
        super::ends("deleting", env.apply(vec![record(3).line(6, "x").delete(), record(4).line(7, "x")]))
            .await;
        let snapshot = env.store().snapshot().await.unwrap();
        let head = head_get(&*snapshot, P, &RunId::new("r")).await.unwrap();
        assert!(matches!(head, Some(Head::Tombstone(tombstone)) if tombstone.number == Some(number.0)));
        assert!(env.parked().await.is_empty() && !is_quarantined(&env).await);
        assert!(env.listed().await.is_empty());
        assert_eq!(dead_runs_list(&*snapshot, P).await.unwrap(), [number]);
        while !sweep_step(env.store(), P, number).await.unwrap() {}
        let rows = env.store().snapshot().await.unwrap();
        assert!(rows.scan(&keys::run_rows(P, number), Default::default()).await.unwrap().rows.is_empty());
    }
}

#[tokio::test]
async fn rule_40_a_damaged_quarantine_that_an_operator_begins_again_loses_nothing() {
    let env = TestEnv::new().await;
    env.apply(vec![record(0).create()]).await;
    park(&env).await;
    env.apply((1..4).map(|offset| record(offset).line(offset as i64, "parked")).collect()).await;
    damage(&env, keys::quarantine(P, &RunId::new("r"))).await;
    park(&env).await;
    assert!(resume(&env, "r").await);
    env.apply(vec![record(9).line(9, "later")]).await;
    assert_eq!(lines(&env).await, [1, 2, 3, 9]);
    assert!(env.parked().await.is_empty() && !is_quarantined(&env).await);
}

#[tokio::test]
async fn rule_40_a_run_that_was_given_up_is_still_given_up_when_it_is_resumed() {
    let env = TestEnv::new().await;
    env.apply(vec![record(0).create()]).await;
    park(&env).await;
    let mut batch = Batch::default();
    let given_up = Cursor { is_given_up: true, ..cursor(&env).await };
    batch.set(keys::cursor(P, &RunId::new("r")), given_up.encode());
    env.store().commit(batch).await.unwrap();
    assert!(resume(&env, "r").await);
    assert!(cursor(&env).await.is_given_up);
    env.apply(Vec::new()).await;
    assert!(cursor(&env).await.is_given_up && !is_quarantined(&env).await);
}

/// Puts the run in the quarantine that it was in when it was archived, with this number of records.
async fn restore_parked(env: &TestEnv, count: u32) {
    let id = RunId::new("r");
    let number = env.read().await.unwrap().number;
    for restored in 0..count {
        let entry = record(u64::from(restored)).line(i64::from(restored), &"x".repeat(60_000)).entry();
        let at = restored_position(number, restored, true);
        let parked = ParkedItem {
            run_id: id.clone(),
            at,
            reason: "archived".into(),
            received_us: 7,
            item: entry.raw(),
            record: entry.parked_record(0),
        };
        let mut batch = Batch::default();
        for content in parked_content(P, &parked) {
            batch.mutations.extend(content.mutations);
        }
        parked_put(&mut batch, P, &parked);
        env.store().commit(batch).await.unwrap();
    }
    let cursor = cursor(env).await;
    change(env, |transaction| {
        let id = id.clone();
        let reason = ("archived".to_owned(), 7);
        Box::pin(async move { quarantine_restore(transaction, P, &id, number, reason, (cursor, None)).await })
    })
    .await;
}

#[tokio::test]
async fn rule_40_restored_records_are_applied_before_those_of_the_log() {
    let env = TestEnv::new().await;
    env.apply(vec![record(0).create()]).await;
    restore_parked(&env, 200).await;
    env.apply((1..3).map(|offset| record(offset).line(1_000 + offset as i64, "parked")).collect()).await;
    assert_eq!(env.parked().await.len(), 202);
    assert!(resume(&env, "r").await);
    let stop = CancellationToken::new();
    assert!(env.writer("r").apply(Vec::new(), &stop).await.is_paused);
    let left = env.parked().await.len();
    assert!(left > 2 && left < 202, "{left}");
    // Put back in quarantine in the middle. Offsets of the log are lower than offsets of the restored records.
    park(&env).await;
    env.apply(vec![record(5).line(1_005, "while parked")]).await;
    assert_eq!(env.parked().await.len(), left + 1);
    // The reason is lost, and the restored records are still found.
    damage(&env, keys::quarantine(P, &RunId::new("r"))).await;
    park(&env).await;
    assert!(resume(&env, "r").await);
    env.apply(vec![record(6).line(1_006, "last")]).await;
    let expected: Vec<_> = (0..200).chain([1_001, 1_002, 1_005, 1_006]).collect();
    assert_eq!(lines(&env).await, expected);
    assert!(env.parked().await.is_empty() && !is_quarantined(&env).await);
}

/// Damage in a row that belongs to no run in particular.
#[tokio::test]
async fn rule_40_damage_in_shared_rows_parks_only_the_items_that_need_them() {
    let env = TestEnv::new().await;
    env.apply_with(&mut env.writer("s"), vec![record(0).run("s").create().tag("t")]).await;
    damage(&env, keys::entity_name(P, EntityKind::Tag, "t")).await;
    env.apply(vec![record(1).create().tag("t").line(1, "good"), record(2).tag("other")]).await;
    let parked = env.parked().await;
    assert!(parked.len() == 1 && parked[0].reason.contains("is corrupt"), "{parked:?}");
    assert_eq!(lines(&env).await, [1]);
    assert_eq!(env.read().await.unwrap().props.tags.len(), 1);
    assert!(!cursor(&env).await.is_quarantined);
}

/// A store that refuses to start quarantines, a number of times.
struct NoQuarantines {
    inner: Arc<dyn Store>,
    refusals: AtomicUsize,
    key: Key,
}

#[async_trait::async_trait]
impl Store for NoQuarantines {
    async fn snapshot(&self) -> matyan_store::Result<Box<dyn Snapshot>> {
        self.inner.snapshot().await
    }

    async fn commit(&self, batch: Batch) -> matyan_store::Result<Commit> {
        let mut mutations = batch.mutations.iter();
        if mutations.any(|mutation| matches!(mutation, Mutation::Set { key, .. } if *key == self.key))
            && self.refusals.load(Ordering::Relaxed) > 0
        {
            self.refusals.fetch_sub(1, Ordering::Relaxed);
            return Err(matyan_store::Error::TooLarge { what: "the batch", size: 1, max: 0 });
        }
        self.inner.commit(batch).await
    }

    async fn sync(&self) -> matyan_store::Result<()> {
        self.inner.sync().await
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> matyan_store::Result<()> {
        self.inner.changed(key, seen).await
    }

    fn clears_ranges_at_once(&self) -> bool {
        self.inner.clears_ranges_at_once()
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }
}

#[tokio::test]
async fn rule_40_a_quarantine_that_cannot_begin_is_retried_with_waits() {
    let mut env = TestEnv::new().await;
    env.apply(vec![record(0).create()]).await;
    damage(&env, keys::head(P, &RunId::new("r"))).await;
    let key = keys::quarantine(P, &RunId::new("r"));
    let refusals = 1_000_000.into();
    let store = Arc::new(NoQuarantines { inner: env.deps.store.clone(), refusals, key });
    env.deps.store = store.clone();
    let mut writer = env.writer("r");
    let entries = vec![record(1).line(1, "parked").entry()];
    let applying = tokio::spawn(async move { writer.apply(entries, &CancellationToken::new()).await });
    super::eventually("three attempts", || async { store.refusals.load(Ordering::Relaxed) < 999_998 }).await;
    // Without waits, there would be thousands of attempts.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let attempts = 1_000_000 - store.refusals.swap(0, Ordering::Relaxed);
    assert!(attempts < 100, "{attempts} attempts");
    assert_eq!(super::ends("parking", applying).await.unwrap().parked, 1);
}

/// A resumed run whose next record never comes.
#[tokio::test]
async fn rule_40_a_finished_run_is_resumed_without_another_record() {
    let env = TestEnv::new().await;
    let worker = env.work().await;
    env.append([record(0).create()]).await;
    env.applied(0, 0).await;
    park(&env).await;
    env.append([record(0).line(1, "parked"), record(0).line(2, "parked")]).await;
    env.applied(0, 2).await;
    assert_eq!(env.parked().await.len(), 2);
    assert!(resume(&env, "r").await);
    super::eventually("the end of the quarantine", || async { !cursor(&env).await.is_quarantined }).await;
    assert_eq!(lines(&env).await, [1, 2]);
    worker.stop().await.unwrap();
}

/// A store in which rows of this text take longer than a snapshot lasts.
struct SlowStore {
    inner: Arc<dyn Store>,
    slow_commits: Arc<AtomicUsize>,
}

const SLOW: &str = "slower than any snapshot";

#[async_trait::async_trait]
impl Store for SlowStore {
    async fn snapshot(&self) -> matyan_store::Result<Box<dyn Snapshot>> {
        self.inner.snapshot().await
    }

    async fn commit(&self, batch: Batch) -> matyan_store::Result<Commit> {
        let is_slow = |mutation: &Mutation| match mutation {
            Mutation::Set { key, value } => {
                matches!(row_owner(key), RowOwner::Number(_))
                    && value.windows(SLOW.len()).any(|text| text == SLOW.as_bytes())
            }
            _ => false,
        };
        if batch.mutations.iter().any(is_slow) {
            self.slow_commits.fetch_add(1, Ordering::Relaxed);
            return Err(matyan_store::Error::SnapshotTooOld);
        }
        self.inner.commit(batch).await
    }

    async fn sync(&self) -> matyan_store::Result<()> {
        self.inner.sync().await
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> matyan_store::Result<()> {
        self.inner.changed(key, seen).await
    }

    fn clears_ranges_at_once(&self) -> bool {
        self.inner.clears_ranges_at_once()
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }
}

/// The waits between its attempts take minutes.
#[tokio::test(start_paused = true)]
async fn rule_40_a_run_with_an_item_that_stays_too_slow_is_put_in_quarantine() {
    let mut env = TestEnv::new().await;
    let slow_commits = Arc::<AtomicUsize>::default();
    env.deps.store = Arc::new(SlowStore { inner: env.faults.clone(), slow_commits: slow_commits.clone() });
    let slow = (0..3).fold(record(1), |record, at| record.line(10 + at, "fast")).line(13, SLOW);
    let records = vec![record(0).line(0, "good"), slow, record(2).line(2, "good")];
    let second = Duration::from_secs(1);
    let many_attempts = async {
        while slow_commits.load(Ordering::Relaxed) < 200 {
            tokio::time::sleep(second).await;
        }
    };
    tokio::select! {
        applied = env.apply(records.clone()) => panic!("{} items are parked", applied.parked),
        () = many_attempts => assert!(!is_quarantined(&env).await, "the store may be slow for all runs"),
    }
    let others = async {
        let mut other = env.writer("other");
        for at in 0.. {
            env.apply_with(&mut other, vec![record(at).line(0, "good")]).await;
            tokio::time::sleep(second).await;
        }
    };
    let applied = tokio::select! {
        applied = env.apply(records) => applied,
        () = others => panic!("the other run never ends"),
    };
    assert_eq!((applied.is_complete, applied.parked), (true, 2), "the log does not wait for it");
    assert!(is_quarantined(&env).await);
    assert_eq!(lines(&env).await, [0, 10, 11, 12]);
    let parked = env.parked().await;
    assert!(parked.iter().all(|item| item.reason.contains("longer than a snapshot")), "{parked:?}");
    // The store has become faster.
    env.deps.store = env.faults.clone();
    assert!(resume(&env, "r").await);
    env.apply(vec![record(3).line(3, "last")]).await;
    assert_eq!(lines(&env).await, [0, 2, 3, 10, 11, 12, 13]);
    assert!(!is_quarantined(&env).await && env.parked().await.is_empty());
}
