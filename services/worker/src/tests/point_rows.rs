//! Tests of points in rows: they are stored as if they had been sent one by one.

use matyan_model::{
    ids::RunId,
    keys,
    run::Head,
    series::{ABSENT, FoldStatus, LiveRow, MetricHeader, Points as StoredPoints, RunRef, fold_run},
};
use matyan_proto::ingest::v1::{IngestionBatch, Points};
use matyan_store::layers::{Fault, Faults};
use matyan_wire::{row_groups, rows};
use prost::Message as _;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::harness::{P, TestEnv, TestRecord, record};

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("metric {number}")).collect()
}

fn defining(record: TestRecord, base: u32, names: &[String]) -> TestRecord {
    record.define(base, &names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Steps of neighboring series.
fn wide(first: u32, width: u32, steps: &[i64], value: f64) -> Points {
    let values: Vec<f64> = (0..steps.len() * width as usize).map(|at| value + at as f64 / 8.0).collect();
    Points { steps: steps.to_vec(), rows: Some(rows::encode(first, width, &values)), ..Points::default() }
}

type StoredMetrics = Vec<(MetricHeader, StoredPoints)>;

impl TestEnv {
    async fn metrics_of(&self, run: &str) -> StoredMetrics {
        self.read_run(run).await.map(|run| run.metrics).unwrap_or_default()
    }

    async fn fold_blocks(&self, run: &str) {
        let Some(number) = self.read_run(run).await.map(|run| run.number) else { return };
        let live = LiveRow { key: keys::head(P, &RunId::new(run)), value: Head::Live(number).encode() };
        let place = RunRef { project: P, number };
        let folded = Box::pin(fold_run(self.store(), place, &live, false, &|| 0)).await.unwrap();
        assert_eq!(folded, FoldStatus::Done);
    }
}

/// A random group of points of up to this many series: most of them fit into rows.
fn random_points(random: &mut StdRng, series: u32, step: &mut i64) -> Points {
    let mut points = Points::default();
    for _ in 0..random.random_range(1..5) {
        *step += 1;
        let first = if random.random_bool(0.7) { 0 } else { random.random_range(0..series) };
        let most = series - first;
        let width = if random.random_bool(0.7) { most } else { random.random_range(1..=most) };
        let own_step = match random.random_range(0..10) {
            0 => ABSENT,
            1 => *step - 3,
            _ => *step,
        };
        let epoch = if random.random_bool(0.5) { ABSENT } else { *step / 4 };
        let has_own_times = random.random_bool(0.3);
        for number in first..first + width {
            points.series.push(number);
            let value = f64::from(number) + *step as f64 / 8.0;
            points.values.push(if random.random_bool(0.01) { f64::NAN } else { value });
            points.steps.push(own_step);
            points.epochs.push(epoch);
            points.times_us.push(*step * 1_000 + if has_own_times { i64::from(number) } else { 0 });
        }
    }
    points
}

/// Applies the same records to two runs, in rows and as single points, with redelivered records, repeated ones,
/// new writers and faults of the store.
#[tokio::test]
async fn rule_138_rows_are_stored_like_their_points() {
    for seed in 0..8 {
        let mut random = StdRng::seed_from_u64(seed);
        let env = TestEnv::new().await;
        let series = random.random_range(20..120_u32);
        let all = names(series as usize);
        let mut step = 0;
        let first = defining(record(0).sent(1, 1, 0), 0, &all);
        let mut records = vec![(first.clone(), first)];
        for sequence in 2..20_u64 {
            let points = random_points(&mut random, series, &mut step);
            let empty = || record(records.len() as u64).sent(1, sequence, 0);
            let in_rows = row_groups::grouped(points.clone()).into_iter().fold(empty(), TestRecord::group);
            let listed = empty().group(points);
            records.push((in_rows, listed));
            if random.random_bool(0.2) {
                // The client sends it again: it is a repeat at another position.
                let (mut again, mut listed) = records[records.len() - 1].clone();
                again.offset += 1;
                listed.offset += 1;
                records.push((again, listed));
            }
        }
        let mut groups = records.iter().flat_map(|(in_rows, _)| &in_rows.batch.points);
        assert!(groups.any(|group| group.rows.is_some()));
        let mut at = 0;
        let mut writer = env.writer("r");
        while at < records.len() {
            let end = records.len().min(at + random.random_range(1..6));
            if random.random_bool(0.3) {
                writer = env.writer("r");
            }
            if random.random_bool(0.3) {
                let faults =
                    (0..10).map(|_| if random.random_bool(0.3) { Fault::Error } else { Fault::None });
                env.faults.set_faults(Faults::script(faults.collect::<Vec<_>>()));
            }
            // Some records are delivered again.
            let start = at.saturating_sub(random.random_range(0..3));
            let delivered = records[start..end].iter().map(|(record, _)| record.clone()).collect();
            env.apply_with(&mut writer, delivered).await;
            let listed: Vec<_> = records[at..end].iter().map(|(_, record)| record.clone().run("s")).collect();
            env.apply_with(&mut env.writer("s"), listed).await;
            at = end;
            if random.random_bool(0.2) {
                env.fold_blocks("r").await;
            }
            assert_eq!(env.metrics_of("r").await, env.metrics_of("s").await, "seed {seed}");
        }
        env.fold_blocks("r").await;
        env.fold_blocks("s").await;
        assert_eq!(env.metrics_of("r").await, env.metrics_of("s").await, "seed {seed}");
        assert!(env.parked().await.is_empty());
    }
}

/// A record of more rows than a transaction has room for, whose worker dies in between.
#[tokio::test]
async fn rule_138_rows_are_continued_after_a_crash() {
    let env = TestEnv::new().await;
    let width = 2_000;
    let all = names(width as usize);
    env.apply(vec![defining(record(0).sent(1, 1, 0), 0, &all).group(wide(0, width, &[0], 0.0))]).await;
    let steps: Vec<i64> = (1..200).collect();
    let large = record(1).sent(1, 2, 0).group(wide(0, width, &steps, 1.0));
    for calls in 1..6 {
        // The store takes a few calls, and then none until the writer is gone.
        let alive = std::iter::repeat_n(Fault::None, calls * 2);
        env.faults.set_faults(Faults::script(alive.chain(std::iter::repeat_n(Fault::Error, 1_000))));
        let mut writer = env.writer("r");
        let stop = tokio_util::sync::CancellationToken::new();
        let apply = writer.apply(vec![large.entry()], &stop);
        let cancel = async {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            stop.cancel();
        };
        let (_, ()) = tokio::join!(Box::pin(apply), cancel);
        env.faults.set_faults(Faults::script([]));
    }
    env.apply(vec![large.clone()]).await;
    assert_eq!(env.apply(vec![large]).await.items, 0);
    let metrics = env.metrics_of("r").await;
    assert_eq!(metrics.len(), width as usize);
    for (at, (header, points)) in metrics.iter().enumerate() {
        assert_eq!((header.name.as_str(), points.len()), (all[at].as_str(), 200));
        assert_eq!(points.steps, (0..200).collect::<Vec<_>>());
        let value = |step: usize| 1.0 + ((step - 1) * width as usize + at) as f64 / 8.0;
        assert!((1..200).all(|step| points.values[step] == value(step)));
    }
}

/// The series are named in a record that an earlier worker has applied.
#[tokio::test]
async fn rule_138_a_new_worker_knows_the_series_of_rows() {
    let env = TestEnv::new().await;
    let all = names(50);
    env.apply(vec![defining(record(0).sent(1, 1, 0), 0, &all)]).await;
    env.apply(vec![record(1).sent(1, 2, 0).group(wide(0, 50, &[7, 8], 0.5))]).await;
    let metrics = env.metrics_of("r").await;
    assert_eq!(metrics.len(), 50);
    assert_eq!((metrics[49].0.name.as_str(), &metrics[49].1.steps[..]), ("metric 49", &[7, 8][..]));
    assert_eq!(metrics[49].1.values, [0.5 + 49.0 / 8.0, 0.5 + 99.0 / 8.0]);
}

#[tokio::test]
async fn rule_138_a_later_point_of_a_step_in_rows_wins() {
    let env = TestEnv::new().await;
    let defined = defining(record(0).sent(1, 1, 0), 0, &names(20));
    let second = Points { series: vec![3], values: vec![100.0], steps: vec![5], ..Points::default() };
    env.apply(vec![defined.group(wide(0, 20, &[5], 0.0)).group(second).group(wide(4, 16, &[5], 50.0))]).await;
    let metrics = env.metrics_of("r").await;
    let values: Vec<f64> = metrics.iter().map(|(_, points)| points.values[0]).collect();
    assert_eq!((values[2], values[3], values[4]), (2.0 / 8.0, 100.0, 50.0));
    assert!(metrics.iter().all(|(_, points)| points.steps == [5]));
}

/// As clients send many steps: a batch ends at a number of points, wherever that is in a row.
#[tokio::test]
async fn rule_138_rows_that_are_cut_by_batches_are_stored_like_their_points() {
    let env = TestEnv::new().await;
    let batches = [
        vec![wide(0, 80, &[1, 2], 0.0), wide(0, 30, &[3], 100.0)],
        vec![wide(30, 50, &[3], 200.0), wide(0, 80, &[4], 300.0), wide(0, 70, &[5], 400.0)],
        vec![wide(70, 10, &[5], 500.0), wide(0, 80, &[6, 4], 600.0)],
    ];
    for run in ["r", "s"] {
        let mut records = Vec::new();
        for (offset, groups) in (0..).zip(&batches) {
            let mut sent = record(offset).run(run).sent(1, offset + 1, 0);
            if offset == 0 {
                sent = defining(sent, 0, &names(80));
            }
            let listed = |group: &Points| rows::plain(group).into_owned();
            let groups = groups.iter().map(|group| if run == "r" { group.clone() } else { listed(group) });
            records.push(groups.fold(sent, TestRecord::group));
        }
        env.apply_with(&mut env.writer(run), records).await;
    }
    let metrics = env.metrics_of("r").await;
    assert_eq!(metrics.len(), 80);
    // The second value of a step counts.
    assert!(metrics.iter().all(|(_, points)| points.steps == [1, 2, 3, 4, 5, 6]));
    assert_eq!((metrics[1].1.values[3], metrics[75].1.values[4]), (600.0 + 81.0 / 8.0, 500.0 + 5.0 / 8.0));
    assert_eq!(metrics, env.metrics_of("s").await);
}

#[tokio::test]
async fn rule_138_rows_that_no_frontier_has_checked_are_parked() {
    let env = TestEnv::new().await;
    let mut torn = wide(0, 20, &[2], 0.0);
    if let Some(rows) = &mut torn.rows {
        rows.narrow_values.truncate(79);
    }
    let defined = defining(record(0).sent(1, 1, 0), 0, &names(18));
    env.apply(vec![defined.group(wide(0, 20, &[1], 0.0)).group(torn).group(wide(0, 18, &[3], 0.0))]).await;
    let metrics = env.metrics_of("r").await;
    assert_eq!(metrics.len(), 18);
    assert!(metrics.iter().all(|(_, points)| points.steps == [1, 3]));
    let parked = env.parked().await;
    let found: Vec<_> = parked.iter().map(|item| (item.at.item, item.reason.as_str())).collect();
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[0], (18, "series 18 is not in the producer's dictionary"));
    assert_eq!(found[1], (19, "series 19 is not in the producer's dictionary"));
    assert_eq!(found[2].0, 20);
    assert!(found[2].1.starts_with("`narrow_values` has 79 bytes"), "{found:?}");
    let item = IngestionBatch::decode(parked[0].item.clone()).unwrap();
    assert_eq!(
        (item.points[0].series.as_slice(), item.points[0].values.as_slice()),
        (&[18][..], &[2.25][..])
    );
}

/// Each of these points is parked alone. In one transaction, they would exceed what the store takes.
#[tokio::test]
async fn rule_138_many_refused_points_of_rows_are_parked_in_several_transactions() {
    let env = TestEnv::new().await;
    let mut defined = defining(record(0).sent(1, 1, 0), 0, &names(20));
    for definition in &mut defined.batch.series[16..] {
        definition.context = "[]".into();
    }
    let mut writer = env.writer("r");
    let first = env.apply_with(&mut writer, vec![defined.group(wide(0, 20, &[0], 0.0))]).await;
    assert_eq!((first.items, first.parked), (16, 4));
    let steps: Vec<i64> = (1..=2_500).collect();
    let rows = record(1).sent(1, 2, 0).group(wide(0, 20, &steps, 1.0));
    let applied = env.apply_with(&mut writer, vec![rows]).await;
    assert_eq!((applied.items, applied.parked), (16 * 2_500, 4 * 2_500));
    let families = env.registry.gather();
    let errors = families.iter().find(|it| it.name() == "matyan_ingestion_processing_errors_total");
    let errors = errors.unwrap().get_metric().iter().map(|it| it.get_counter().get_value());
    assert_eq!(errors.sum::<f64>(), 0.0, "no attempt has failed");
    let metrics = env.metrics_of("r").await;
    assert_eq!(metrics.len(), 16);
    assert!(metrics.iter().all(|(_, points)| points.len() == 2_501));
}
