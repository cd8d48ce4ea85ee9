//! Tests of the memory that writers keep.

use matyan_model::ids::RunId;

use super::*;
use crate::{
    FoldThread,
    ingest::{log_identity::PartitionStart, partition::Partition},
    tests::harness::{P, TestEnv, TestRecord, record},
};

/// Offers a record, and applies it.
async fn apply(pool: &mut WriterPool, partition: &mut Partition, record: TestRecord) {
    let key = key(&record.entry.run_id);
    let read = partition.read(&record.stored());
    let admission = pool.offer(&key, record.entry(), &read);
    assert_eq!(admission, Admission::Queued { was_idle: true });
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
