//! Tests of the memory that writers keep, and of rests between turns.

use futures::FutureExt as _;
use matyan_model::{ids::RunId, live_readers::live_readers_put};
use matyan_store::Batch;

use super::*;
use crate::{
    FoldThread,
    ingest::{
        active_runs::REST_BYTES, fresh_turns::FRESH_TURNS, log_identity::PartitionStart, partition::Partition,
    },
    tests::harness::{P, RemoteStore, TestEnv, TestRecord, record},
};

/// Offers a record, and applies it.
async fn apply(pool: &mut WriterPool, partition: &mut Partition, record: TestRecord) {
    let key = key(&record.entry.run_id);
    let read = partition.read(&record.stored());
    let admission = pool.offer(&key, record.entry(), &read);
    assert_eq!(admission, Admission::Queued { needs_turn: true });
    pool.dispatch(key);
    let turn = pool.next_turn().await.unwrap().unwrap();
    assert!(turn.outcome.is_complete && turn.outcome.parked == 0);
    assert!(pool.next_turn().await.is_none());
}

fn key(run: &str) -> RunKey {
    RunKey { project: P, project_name: "".into(), id: RunId::new(run) }
}

#[tokio::test]
async fn idle_runs_are_evicted_and_continue() {
    const RUNS: u64 = 40;
    let env = TestEnv::new().await;
    let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
    let stop = CancellationToken::new();
    let (notices, fold) = FoldThread::start(env.deps.clone(), metrics.clone(), stop.clone()).unwrap();
    let settings = IngestSettings { writer_cache_bytes: 10_000, ..IngestSettings::default() };
    let mut pool = WriterPool::new(env.deps.clone(), notices, Backlogs::new().0, &settings, &metrics);
    let start = PartitionStart { identity: [1; 16], ..PartitionStart::default() };
    let mut partition = Partition::new(start);
    for round in 0..2 {
        for run in 0..RUNS {
            let record = record(round * RUNS + run).run(&format!("run-{run}")).sent(1, 1 + round, 0);
            let points: Vec<_> = (0..10).map(|at| (Some(round as i64 * 10 + at), 0.5)).collect();
            // Writers keep the definitions for later records, and reread them after an eviction.
            let record = if round == 0 { record.define(0, &["loss"]) } else { record };
            apply(&mut pool, &mut partition, record.points(0, &points)).await;
        }
        let mut kept = (0..RUNS).filter(|run| pool.runs().has(&key(&format!("run-{run}"))));
        let first = kept.next().unwrap();
        assert!(first > RUNS / 2, "the runs from {first} are kept");
        assert_eq!(first + kept.count() as u64, RUNS - 1, "only those written first are evicted");
    }
    for run in 0..RUNS {
        let read = env.read_run(&format!("run-{run}")).await.unwrap();
        assert_eq!(read.metrics[0].1.steps, (0..20).collect::<Vec<_>>(), "run {run}");
    }
    pool.finish().await;
    stop.cancel();
    fold.finish().await;
}

/// Deletions come by the thousand.
#[tokio::test]
async fn the_writers_of_deleted_runs_are_not_kept() {
    let env = TestEnv::new().await;
    let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
    let stop = CancellationToken::new();
    let (notices, _fold) = FoldThread::start(env.deps.clone(), metrics.clone(), stop.clone()).unwrap();
    let settings = IngestSettings::default();
    let mut pool = WriterPool::new(env.deps.clone(), notices, Backlogs::new().0, &settings, &metrics);
    let start = PartitionStart { identity: [1; 16], ..PartitionStart::default() };
    let mut partition = Partition::new(start);
    let points = |offset: u64| record(offset).define(0, &["loss"]).points(0, &[(Some(0), 0.5)]);
    apply(&mut pool, &mut partition, points(0)).await;
    assert!(pool.runs().has(&key("r")));
    apply(&mut pool, &mut partition, record(1).delete()).await;
    assert!(!pool.runs().has(&key("r")));
    // Its points are dropped, no matter what remembers that it was deleted.
    apply(&mut pool, &mut partition, points(2)).await;
    assert!(!pool.runs().has(&key("r")));
    assert!(env.read_run("r").await.is_none());
    stop.cancel();
}

#[tokio::test]
async fn few_turns_begin_at_once() {
    const RUNS: usize = 2 * FRESH_TURNS + 5;
    let env = TestEnv::new().await;
    let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
    let stop = CancellationToken::new();
    let (notices, _fold) = FoldThread::start(env.deps.clone(), metrics.clone(), stop.clone()).unwrap();
    let settings = IngestSettings::default();
    let mut pool = WriterPool::new(env.deps.clone(), notices, Backlogs::new().0, &settings, &metrics);
    let start = PartitionStart { identity: [1; 16], ..PartitionStart::default() };
    let mut partition = Partition::new(start);
    // No turn takes long meanwhile.
    tokio::time::pause();
    for offset in 0..RUNS {
        let run = format!("run-{offset}");
        let record = record(offset as u64).run(&run).define(0, &["loss"]);
        let record = record.points(0, &[(Some(0), 0.5)]);
        let read = partition.read(&record.stored());
        assert_eq!(pool.offer(&key(&run), record.entry(), &read), Admission::Queued { needs_turn: true });
        pool.dispatch(key(&run));
    }
    assert_eq!((pool.turns.len(), pool.waiting.len()), (FRESH_TURNS, RUNS - FRESH_TURNS));
    tokio::time::resume();
    for _ in 0..RUNS {
        let turn = pool.next_turn().await.unwrap().unwrap();
        assert!(turn.outcome.is_complete && turn.positions.len() == 1);
    }
    assert!(pool.next_turn().await.is_none());
    stop.cancel();
}

/// A pool on a store on other machines, and a run that nobody reads.
struct RestingPool {
    env: TestEnv,
    pool: WriterPool,
    partition: Partition,
    offset: u64,
    stop: CancellationToken,
}

impl RestingPool {
    async fn new() -> Self {
        let mut env = TestEnv::new().await;
        env.deps.store = Arc::new(RemoteStore(env.deps.store.clone()));
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let stop = CancellationToken::new();
        let (notices, _fold) = FoldThread::start(env.deps.clone(), metrics.clone(), stop.clone()).unwrap();
        let settings = IngestSettings::default();
        let pool = WriterPool::new(env.deps.clone(), notices, Backlogs::new().0, &settings, &metrics);
        let start = PartitionStart { identity: [1; 16], ..PartitionStart::default() };
        let mut pool = Self { env, pool, partition: Partition::new(start), offset: 0, stop };
        pool.look_for_readers().await;
        pool
    }

    /// Waits until it is known that nobody reads the project.
    async fn look_for_readers(&mut self) {
        let readers = self.pool.readers.as_mut().unwrap();
        while readers.may_have(P) {
            readers.changed().await;
        }
    }

    /// Offers a record of about this size, and dispatches the run if it needs a turn.
    fn log(&mut self, bytes: usize) {
        let record = record(self.offset).define(0, &["loss"]);
        let record = record.points(0, &[(Some(self.offset as i64), 0.5)]);
        self.offset += 1;
        let key = key("r");
        let read = self.partition.read(&record.stored());
        let entry = Entry { bytes, ..record.entry() };
        if let Admission::Queued { needs_turn: true } = self.pool.offer(&key, entry, &read) {
            self.pool.dispatch(key);
        }
    }

    /// The number of records of the next turn.
    async fn turn(&mut self) -> usize {
        let turn = tokio::time::timeout(Duration::from_mins(1), self.pool.next_turn()).await;
        let turn = turn.expect("a run has a turn").unwrap().unwrap();
        assert!(turn.outcome.is_complete && turn.outcome.parked == 0);
        turn.positions.len()
    }

    /// Logs two records. The first is applied, and the second rests.
    async fn rest(&mut self) {
        self.pool.rest = Duration::from_hours(1);
        self.log(300);
        assert_eq!(self.turn().await, 1);
        assert!(self.pool.resting.is_empty(), "a run without records needs no turn after a rest");
        self.log(300);
        let waited = tokio::time::timeout(Duration::from_millis(20), self.pool.next_turn()).await;
        assert!(waited.is_err() && self.pool.turns.is_empty(), "the run rests");
    }

    async fn steps(&self) -> Vec<i64> {
        self.env.read_run("r").await.unwrap().metrics[0].1.steps.to_vec()
    }
}

impl Drop for RestingPool {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn a_run_that_nobody_reads_has_few_transactions() {
    let mut pool = RestingPool::new().await;
    let started = Instant::now();
    let mut turns = 0;
    let mut applied = 0;
    for _ in 0..100 {
        pool.log(300);
        tokio::time::sleep(Duration::from_millis(2)).await;
        while let Some(turn) = pool.pool.next_turn().now_or_never() {
            let Some(turn) = turn else { break };
            turns += 1;
            applied += turn.unwrap().positions.len();
        }
    }
    while applied < 100 {
        applied += pool.turn().await;
        turns += 1;
    }
    let most = 1 + started.elapsed().as_millis() / REST.as_millis();
    assert!(turns <= most, "{turns} transactions, at most {most}");
    assert_eq!(pool.steps().await, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_reader_ends_the_rest_of_a_run() {
    let mut pool = RestingPool::new().await;
    pool.rest().await;
    pool.log(300);
    assert!(pool.pool.turns.is_empty());
    let mut batch = Batch::default();
    live_readers_put(&mut batch, P, pool.env.deps.now_us());
    pool.env.store().commit(batch).await.unwrap();
    assert_eq!(pool.turn().await, 2);
    pool.log(300);
    assert_eq!(pool.turn().await, 1, "there is no rest as long as there are readers");
    assert_eq!(pool.steps().await, [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_run_with_much_to_apply_does_not_rest() {
    let mut pool = RestingPool::new().await;
    pool.rest().await;
    pool.log(REST_BYTES);
    assert_eq!(pool.turn().await, 2);
    assert_eq!(pool.steps().await, [0, 1, 2]);
}

/// The log keeps its records.
#[tokio::test]
async fn a_stop_does_not_wait_for_runs_that_rest() {
    let mut pool = RestingPool::new().await;
    pool.rest().await;
    pool.pool.stop();
    assert!(pool.pool.next_turn().await.is_none());
    assert_eq!(pool.steps().await, [0]);
}
