//! The time of the first list that is sorted by a metric, with and without cohorts.

use std::time::{Duration, Instant};

use matyan_maintenance::MetricCohorts;
use matyan_model::{
    ids::{RunId, RunNumber, SeriesNumber},
    keys,
    metric::metric_series_create,
    run::{Head, run_create},
    series::{ABSENT, FoldStatus, LiveRow, MetricHeader, Point, RunRef, WrittenPoints, fold_run},
};
use matyan_proto::{
    common::v1::SeriesKey,
    search::v1::{RunsRequest, Sort, SortField, sort::By},
};
use matyan_value::Context;
use tokio_util::sync::CancellationToken;

use crate::search::harness::{Harness, NOW_US, P, runs_request};

const RUNS: u64 = 5_120;
const METRICS: u32 = 5;
/// Runs created in one transaction.
const AT_ONCE: u64 = 64;
const TURNS: usize = 7;

async fn fill(harness: &Harness) {
    for first in (0..RUNS).step_by(AT_ONCE as usize) {
        let created: Vec<(RunId, RunNumber)> = harness
            .transact(async |transaction| {
                let mut created = Vec::new();
                for run in first..first + AT_ONCE {
                    let id = RunId::new(format!("{run:08}"));
                    // Numbers are times.
                    let created_us = 1_700_000_000_000_000 + run.cast_signed() * 1_234_567;
                    let mut edit = run_create(transaction, P, &id, created_us).await?;
                    edit.props.active = false;
                    let number = edit.number();
                    edit.write(transaction.batch());
                    let mut written = WrittenPoints::default();
                    for metric in 0..METRICS {
                        let context = Context::default();
                        let header = MetricHeader {
                            name: format!("metric_{metric}"),
                            context: context.stored().to_owned(),
                            dtype: "float".into(),
                        };
                        let series = SeriesNumber(metric);
                        let digest = context.digest();
                        metric_series_create(transaction.batch(), P, number, series, &header, &digest);
                        let value = (run as f64 * 0.618_033_988).fract() + f64::from(metric);
                        written.push(series, Point { step: 1, value, epoch: ABSENT, time_us: 1 });
                    }
                    transaction.batch().set(keys::block(P, number, 0), written.blocks().remove(0));
                    created.push((id, number));
                }
                Ok(created)
            })
            .await;
        for (id, number) in created {
            let live = LiveRow { key: keys::head(P, &id), value: Head::Live(number).encode() };
            let run = RunRef { project: P, number };
            let folded = Box::pin(fold_run(&*harness.store, run, &live, true, &|| NOW_US)).await.unwrap();
            assert_eq!(folded, FoldStatus::Done);
        }
    }
}

fn sorted(by: By) -> RunsRequest {
    RunsRequest { sort: vec![Sort { by: Some(by), ..Sort::default() }], limit: 45, ..runs_request("") }
}

/// The first page of a backend that was just started.
async fn first_page(harness: &Harness, by: By) -> (Duration, Vec<String>) {
    let started = harness.second().await;
    let begun = Instant::now();
    let found = started.runs(sorted(by)).await.unwrap();
    (begun.elapsed(), found.ids().into_iter().map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn measurement_of_the_first_page_by_a_metric() {
    let metric = || By::Metric(SeriesKey { name: "metric_3".into(), context: "{}".into() });
    let without = Harness::new().await;
    let with = Harness::new().await;
    fill(&without).await;
    fill(&with).await;
    let begun = Instant::now();
    let cohorts = MetricCohorts::new(&*with.store, &|| NOW_US);
    cohorts.collect(P, [7; 16], &CancellationToken::new()).await.unwrap();
    println!("collected {RUNS} runs in {:?}", begun.elapsed());
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..TURNS {
        let (summaries, expected) = first_page(&without, metric()).await;
        let (cohorts, found) = first_page(&with, metric()).await;
        assert_eq!(found, expected);
        times[0].push(summaries);
        times[1].push(cohorts);
        times[2].push(first_page(&without, By::Field(SortField::Name.into())).await.0);
        times[3].push(first_page(&with, By::Field(SortField::Name.into())).await.0);
    }
    let names = ["by a metric, summaries", "by a metric, cohorts", "by name, without", "by name, with"];
    for (name, mut times) in names.iter().zip(times) {
        times.sort();
        println!("first page {name}: {:?}, of {:?} to {:?}", times[TURNS / 2], times[0], times[TURNS - 1]);
    }
}
