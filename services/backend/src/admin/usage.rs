//! Storage used by a project: its own counters with its quotas, and the counters of its largest runs.

use std::{cmp::Reverse, collections::BinaryHeap};

use matyan_model::{
    keys::{self, Counter},
    project::project_count,
    project_quota::ProjectQuotas,
    run::{WritingState, runs_list, writing_get},
};
use matyan_proto::admin::v1::{Quotas, RunUsage, Usage, UsageResponse};
use matyan_store::Scan;

use crate::server::{
    call::Call,
    deps::Deps,
    error::{Error, Result},
};

const MAX_RUNS: u32 = 1_000;

/// Documents read from one snapshot.
const PAGE: Scan = Scan { rows: 256, bytes: 1 << 20, ..Scan::DEFAULT };

pub(super) async fn usage(deps: &Deps, call: &Call, largest: u32) -> Result<UsageResponse> {
    if largest > MAX_RUNS {
        return Err(Error::field("largest_runs", format!("is {largest}: use at most {MAX_RUNS}")));
    }
    let snapshot = deps.store.snapshot().await?;
    let mut total = Usage::default();
    for (counter, field) in [
        (Counter::Runs, &mut total.runs),
        (Counter::Series, &mut total.series),
        (Counter::Points, &mut total.points),
        (Counter::Bytes, &mut total.bytes),
    ] {
        let count = project_count(snapshot.as_ref(), call.project, counter).await?;
        *field = u64::try_from(count).unwrap_or_default();
    }
    drop(snapshot);
    let quotas = quotas(deps, call);
    let runs = largest_runs(deps, call, largest as usize).await?;
    Ok(UsageResponse { total: Some(total), runs, quotas: Some(quotas) })
}

fn quotas(deps: &Deps, call: &Call) -> Quotas {
    let ProjectQuotas { runs, series, bytes } = &*deps.quotas;
    let name = &call.project_name;
    Quotas { runs: runs.of_project(name), series: series.of_project(name), bytes: bytes.of_project(name) }
}

/// The runs with the most bytes, largest first.
async fn largest_runs(deps: &Deps, call: &Call, count: usize) -> Result<Vec<RunUsage>> {
    // A min-heap, whose top is the smallest of the largest runs so far.
    let mut largest: BinaryHeap<Reverse<(u64, String, RunSize)>> = BinaryHeap::new();
    let mut rest = Some(keys::documents(call.project)).filter(|_| count > 0);
    while let Some(range) = rest {
        let snapshot = deps.store.snapshot().await?;
        let page = runs_list(snapshot.as_ref(), call.project, &range, PAGE).await?;
        rest = page.rest;
        for (number, document) in page.runs {
            let writing = writing_get(snapshot.as_ref(), call.project, number).await?;
            largest.push(Reverse((writing.bytes, document.props.run_id, RunSize::new(&writing))));
            if largest.len() > count {
                largest.pop();
            }
        }
    }
    let runs = largest.into_sorted_vec().into_iter().map(|Reverse((bytes, run_id, size))| RunUsage {
        run_id,
        usage: Some(Usage { runs: 1, series: size.series, points: size.points, bytes }),
    });
    Ok(runs.collect())
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct RunSize {
    series: u64,
    points: u64,
}

impl RunSize {
    fn new(writing: &WritingState) -> Self {
        Self { series: u64::from(writing.series) + u64::from(writing.object_series), points: writing.points }
    }
}
