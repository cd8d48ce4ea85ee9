//! Numbers of runs, counted from the indexes alone, which omit hidden runs.

use matyan_model::{
    entity::{Experiment, entity_list},
    keys,
};
use matyan_proto::project::v1::ActivityResponse;
use matyan_store::{Key, Range, Scan};

use crate::{
    listing::ActivityHours,
    server::{call::Call, deps::Deps, error::Result},
};

/// Index rows read from one snapshot: about 300 kB.
const PAGE: Scan = Scan { rows: 10_000, bytes: 1 << 20, ..Scan::DEFAULT };

pub(super) async fn activity(deps: &Deps, call: &Call, offset_min: i32) -> Result<ActivityResponse> {
    let project = call.project;
    let mut hours = ActivityHours::new(offset_min);
    let all = keys::index_created_between(project, i64::MIN, i64::MAX);
    let mut created = Vec::new();
    let run_count = each(deps, &all, |key| created.push(keys::decode_index_created(project, key))).await?;
    for created_us in created {
        hours.add(created_us?);
    }
    let archived_run_count = each(deps, &keys::index_archived_all(project, true), |_| {}).await?;
    let active_run_count = each(deps, &keys::index_active_all(project, true), |_| {}).await?;
    let snapshot = deps.store.snapshot().await?;
    let experiments = entity_list::<Experiment>(snapshot.as_ref(), project).await?;
    Ok(ActivityResponse {
        experiment_count: u32::try_from(experiments.len()).unwrap_or(u32::MAX),
        run_count,
        archived_run_count,
        active_run_count,
        hours: hours.into_counts(),
    })
}

/// Visits every key of a range, page by page, and counts them.
async fn each(deps: &Deps, range: &Range, mut visit: impl FnMut(&Key)) -> Result<u32> {
    let mut count = 0_u32;
    let mut rest = range.clone();
    loop {
        let page = deps.store.snapshot().await?.scan(&rest, PAGE).await?;
        for (key, _) in &page.rows {
            count = count.saturating_add(1);
            visit(key);
        }
        match page.rows.last() {
            Some((last, _)) if page.more => rest = rest.after(last),
            _ => return Ok(count),
        }
    }
}
