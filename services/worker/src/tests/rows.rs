//! Tests of the correctness rules about rows: their number, their uniqueness, and what they
//! record about blobs.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use matyan_model::{
    ids::{ProducerId, RunId},
    keys,
    logs::lines_written_list,
    run::RunEdit,
};
use matyan_proto::{
    common::v1::{Outcome, OutcomeKind},
    ingest::v1::{self as pb, event::Kind},
};
use matyan_store::{
    Batch, Commit, Key, Mutation, Page, Range, Scan, Snapshot, Store, Transaction, Value, Version, transact,
};

use super::harness::{P, TestEnv, TestRecord, record};

/// All rows of a store.
pub(super) async fn rows(store: &dyn Store) -> Vec<(Key, Value)> {
    let snapshot = store.snapshot().await.unwrap();
    let mut range = Range::prefix("");
    let mut rows = Vec::new();
    loop {
        let page = snapshot.scan(&range, Scan::default()).await.unwrap();
        let Some((last, _)) = page.rows.last().cloned() else { return rows };
        rows.extend(page.rows);
        range = Range::new([&last[..], &[0]].concat(), range.end);
    }
}

#[tokio::test]
async fn rule_09_points_write_no_row_per_series() {
    const SERIES: u32 = 1_000;
    let env = TestEnv::new().await;
    let names: Vec<String> = (0..SERIES).map(|number| format!("metric-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let step = |offset: u64| {
        let known = record(offset).sent(1, offset + 1, offset);
        let known = if offset == 0 { known.define(0, &names) } else { known };
        (0..SERIES).fold(known, |record, series| record.points(series, &[(None, f64::from(series))]))
    };
    env.apply(vec![step(0)]).await;
    let before = rows(env.store()).await;
    env.apply(vec![step(1)]).await;
    let after = rows(env.store()).await;
    let changed = after.iter().filter(|row| !before.contains(row)).count();
    assert!(before.len() > SERIES as usize, "a new series has a row");
    assert!((1..20).contains(&changed), "{changed} rows were written for one more point of {SERIES} series");
    assert_eq!(env.points("metric-7").await, [(0, 7.0), (1, 7.0)]);
}

#[tokio::test]
async fn rule_41_a_rewritten_line_keeps_one_row_of_its_writes() {
    const ROUNDS: u64 = 10;
    let env = TestEnv::new().await;
    let mut writer = env.writer("r");
    for round in 0..ROUNDS {
        let bar = record(round).line(7, &format!("{round}0 %")).line(7, &format!("{round}5 %"));
        env.apply_with(&mut writer, vec![bar.line(100 + round as i64, "done")]).await;
    }
    let number = env.listed().await[0].0;
    let snapshot = env.store().snapshot().await.unwrap();
    let written = lines_written_list(&*snapshot, P, number, 0..u64::MAX, usize::MAX).await.unwrap();
    let lines: Vec<_> = written.iter().map(|(_, line)| *line).collect();
    let mut expected: Vec<_> = (100..100 + ROUNDS as i64).collect();
    expected.insert(expected.len() - 1, 7);
    assert_eq!(lines, expected);
    assert_eq!(env.read().await.unwrap().lines[0].text, "95 %");
}

#[tokio::test]
async fn an_outcome_is_kept_until_the_run_is_active_again() {
    let env = TestEnv::new().await;
    let finish = |outcome| Kind::FinishRun(pb::FinishRun { outcome });
    let failed = Outcome { kind: OutcomeKind::Failed.into(), message: "diverged".into() };
    env.apply(vec![record(0).create().event(finish(Some(failed.clone())))]).await;
    let outcome = env.read().await.unwrap().props.outcome;
    assert_eq!(outcome.map(|outcome| outcome.to_api()), Some(failed));
    env.apply(vec![record(1).create()]).await;
    assert_eq!(env.read().await.unwrap().props.outcome, None);
    let unknown = Outcome { kind: 77, message: "from a newer client".into() };
    env.apply(vec![record(2).event(finish(Some(unknown)))]).await;
    let props = env.read().await.unwrap().props;
    assert_eq!((props.active, props.outcome), (false, None));
}

#[tokio::test]
async fn rule_22_contexts_with_the_same_id_stay_apart() {
    // Found by search: both have the id 8e3265b9.
    let contexts = [r#"{"n":7335}"#, r#"{"n":13654}"#];
    let ids = contexts.map(|context| matyan_value::Context::parse(context).unwrap().id());
    assert_eq!(ids, [0x8e32_65b9; 2]);
    let env = TestEnv::new().await;
    let mut both = record(0).define(0, &["loss", "loss"]).points(0, &[(None, 1.0)]).points(1, &[(None, 2.0)]);
    for (series, context) in both.batch.series.iter_mut().zip(contexts) {
        series.context = context.to_owned();
    }
    env.apply(vec![both]).await;
    let run = env.read().await.unwrap();
    let found: Vec<_> =
        run.metrics.iter().map(|(header, points)| (header.context.clone(), points.values.clone())).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    for (context, value) in contexts.into_iter().zip([1.0, 2.0]) {
        assert!(found.contains(&(context.to_owned(), vec![value])), "{context}: {found:?}");
    }
}

#[tokio::test]
async fn rule_34_references_carry_size_and_hash_where_they_are_known() {
    let env = TestEnv::new().await;
    let reference = |path: &str, size, content_hash: &[u8]| {
        Kind::BlobRef(pb::BlobRef {
            key: format!("r/{path}"),
            path: path.to_owned(),
            size,
            content_hash: content_hash.to_vec().into(),
            ..pb::BlobRef::default()
        })
    };
    let references =
        record(0).event(reference("full", Some(5), &[7; 32])).event(reference("unknown", None, &[]));
    env.apply(vec![references.object("o", None, &"x".repeat(100_000))]).await;
    let run = env.read().await.unwrap();
    let found: Vec<_> =
        run.artifacts.iter().map(|(path, artifact)| (path.as_str(), artifact.size, artifact.hash)).collect();
    assert_eq!(found, [("full", Some(5), Some([7; 32])), ("unknown", None, None)]);
    // The worker itself uploaded this payload, so it knows both; reading the value compares
    // them.
    env.value(&run.objects[0].1[0]).await;
}

/// A store that counts how often a row is set, how often rows are looked up by their keys, and how often ranges
/// are scanned.
pub(super) struct CountedStore {
    inner: Arc<dyn Store>,
    key: Key,
    sets: AtomicUsize,
    pub(super) lookups: Arc<AtomicUsize>,
    pub(super) scans: Arc<AtomicUsize>,
}

impl CountedStore {
    pub(super) fn new(env: &TestEnv, key: Key) -> Arc<Self> {
        Arc::new(Self {
            inner: env.deps.store.clone(),
            key,
            sets: AtomicUsize::default(),
            lookups: Arc::default(),
            scans: Arc::default(),
        })
    }
}

struct CountedSnapshot {
    inner: Box<dyn Snapshot>,
    lookups: Arc<AtomicUsize>,
    scans: Arc<AtomicUsize>,
}

#[async_trait::async_trait]
impl Snapshot for CountedSnapshot {
    async fn get(&self, key: &Key) -> matyan_store::Result<Option<Value>> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> matyan_store::Result<Vec<Option<Value>>> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        self.inner.get_many(keys).await
    }

    async fn scan(&self, range: &Range, scan: Scan) -> matyan_store::Result<Page> {
        self.scans.fetch_add(1, Ordering::Relaxed);
        self.inner.scan(range, scan).await
    }

    fn version(&self) -> Version {
        self.inner.version()
    }
}

#[async_trait::async_trait]
impl Store for CountedStore {
    async fn snapshot(&self) -> matyan_store::Result<Box<dyn Snapshot>> {
        let inner = self.inner.snapshot().await?;
        let lookups = self.lookups.clone();
        let scans = self.scans.clone();
        Ok(Box::new(CountedSnapshot { inner, lookups, scans }))
    }

    async fn commit(&self, batch: Batch) -> matyan_store::Result<Commit> {
        let is_counted =
            |mutation: &&Mutation| matches!(mutation, Mutation::Set { key, .. } if *key == self.key);
        self.sets.fetch_add(batch.mutations.iter().filter(is_counted).count(), Ordering::Relaxed);
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
async fn rule_41_a_transaction_writes_the_mark_of_a_producer_once() {
    let mut env = TestEnv::new().await;
    let key = keys::mark(P, &RunId::new("r"), ProducerId([1; 16]));
    let store = CountedStore::new(&env, key);
    env.deps.store = store.clone();
    let step = |offset: u64| {
        let known = record(offset).sent(1, offset + 1, offset).points(0, &[(None, 0.5)]);
        if offset == 0 { known.define(0, &["loss"]) } else { known }
    };
    env.apply((0..1_000).map(step).collect()).await;
    assert!(store.sets.load(Ordering::Relaxed) <= 2, "{:?} writes", store.sets);
    // The step that was applied last.
    assert_eq!(env.apply(vec![step(999)]).await.skipped_records, 0, "the cursor has passed it");
    let again = TestRecord { offset: 1_000, ..step(999) };
    assert_eq!(env.apply(vec![again]).await.skipped_records, 1);
    assert_eq!(env.points("loss").await.len(), 1_000);
}

/// Matyan 0.3 writes an envelope for each point, which names its series.
#[tokio::test]
async fn records_that_define_their_series_look_each_up_once() {
    let mut env = TestEnv::new().await;
    let store = CountedStore::new(&env, Key::new());
    env.deps.store = store.clone();
    let names = ["loss", "accuracy", "rate"];
    let point = |offset: u64| {
        let step = (offset / 3).cast_signed();
        record(offset).define(0, &names[offset as usize % 3..][..1]).points(0, &[(Some(step), 0.5)])
    };
    let mut writer = env.writer("r");
    env.apply_with(&mut writer, (0..30).map(point).collect()).await;
    let before = store.lookups.load(Ordering::Relaxed);
    env.apply_with(&mut writer, (30..3_000).map(point).collect()).await;
    let lookups = store.lookups.load(Ordering::Relaxed) - before;
    assert!(lookups < 20, "{lookups} lookups for 2,970 envelopes");
    for name in names {
        assert_eq!(env.points(name).await.len(), 1_000);
    }
}

/// Callers recognize a version by the time of the last change (`if_updated_us`).
#[tokio::test]
async fn every_applied_change_makes_a_run_newer_whatever_its_time() {
    const LATE: i64 = 9_000_000_000;
    let env = TestEnv::new().await;
    env.apply(vec![record(0).create()]).await;
    // Someone has edited the run, by a clock that is ahead.
    let number = env.read().await.unwrap().number;
    let edit = async |mut transaction: Transaction| {
        let mut edit = RunEdit::load(&transaction, P, number).await?.unwrap();
        edit.touch(LATE);
        edit.write(transaction.batch());
        Ok::<_, matyan_store::Error>((transaction, ()))
    };
    transact(env.store(), edit).await.unwrap();
    let artifact = pb::BlobRef { path: "a".into(), key: "k".into(), ..pb::BlobRef::default() };
    let name = pb::SetRunProperty { name: Some("n".into()), ..pb::SetRunProperty::default() };
    let changes = [
        record(1).params(r#"{"a": 1}"#),
        record(2).event(Kind::SetRunProperty(name)),
        record(3).tag("t"),
        record(4).event(Kind::RemoveTag(pb::RemoveTag { name: "t".into() })),
        record(5).event(Kind::BlobRef(artifact)),
        record(6).event(Kind::FinishRun(pb::FinishRun::default())),
        record(7).create(),
    ];
    let mut last_us = LATE;
    for change in changes {
        let offset = change.offset;
        env.apply(vec![change]).await;
        let updated_us = env.read().await.unwrap().props.updated_us;
        assert!(updated_us > last_us, "record {offset}: {updated_us} after {last_us}");
        last_us = updated_us;
    }
}
