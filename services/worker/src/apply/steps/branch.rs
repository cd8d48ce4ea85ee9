//! Makes a new run a branch of its parent: the run gets the definitions of the parent's metric series, with
//! the same numbers, and readers find the points of these series in the parent.

use std::time::Duration;

use matyan_log::partition_of;
use matyan_maintenance::partition_progress;
use matyan_model::{
    branch::{Ancestor, Branch, branch_get, branch_put},
    ids::{RunId, RunNumber, SeriesNumber},
    keys::LogTopic,
    metric::{metric_series_create, metric_series_list},
    position::{LogPosition, applied_wait},
    run::{Parent, writing_get},
    series::{MetricHeader, RunRef, RunSeries},
};
use matyan_proto::ingest::v1::event::Kind;
use matyan_store::Snapshot;
use matyan_value::Context;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    apply::{
        apply_failure::{ApplyFailure, Verdict},
        backlogs::{Backlog, Backlogs},
        decoded_record::DecodedRecord,
        run_key::RunKey,
        run_state::{RunState, live_run::LiveRun},
        transaction::RunTransaction,
    },
    deps::Deps,
};

/// Maximum number of series of a parent: their definitions are written in one transaction.
const SHARED_SERIES: u32 = 20_000;

/// Time after which a parent, or its partition, counts as stalled if none of its records is applied.
/// Branches in two partitions may wait for each other.
const STALLED_TIME: Duration = Duration::from_mins(1);

/// Bounds on the wait between looks at the parent's records. It doubles from the minimum to the maximum.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LAST_LOOK: Duration = Duration::from_millis(320);

/// If the next item creates a branch, waits until the parent's earlier records are applied, so that no series
/// of the parent is missed. The wait lasts as long as the parent advances: otherwise a branch that is applied
/// after an outage would lose the series in the backlog of its parent.
pub(crate) async fn prepare(
    deps: &Deps,
    backlogs: &Backlogs,
    run: &RunKey,
    state: &RunState,
    records: &[DecodedRecord],
) -> Result<(), ApplyFailure> {
    let next =
        records.iter().find_map(|record| Some((record, state.cursor.next_item(record.entry.position)?)));
    let Some((record, item)) = next else { return Ok(()) };
    let Some(Kind::CreateRun(create)) = record.event(item).and_then(|event| event.kind.as_ref()) else {
        return Ok(());
    };
    if create.parent_run_id.is_empty() || create.parent_run_id == run.id.as_str() {
        return Ok(());
    }
    let parent = RunKey { id: RunId::new(create.parent_run_id.as_str()), ..run.clone() };
    let reason = match wait_applied(deps, backlogs, &parent, record.entry.position).await {
        Ok(true) => return Ok(()),
        Ok(false) => format!("none was applied for {} s", STALLED_TIME.as_secs()),
        Err(error) => error.to_string(),
    };
    tracing::warn!(
        run = run.id.as_str(),
        parent = create.parent_run_id.as_str(),
        reason,
        "a branch may miss series of its parent: records are not applied yet"
    );
    Ok(())
}

/// Waits until the parent's records before this position are applied. If the parent is in another partition,
/// only the position is known up to which that partition is applied. Returns false without progress.
async fn wait_applied(
    deps: &Deps,
    backlogs: &Backlogs,
    parent: &RunKey,
    own: LogPosition,
) -> Result<bool, matyan_maintenance::Error> {
    let progress = async || partition_progress(&*deps.store, &*deps.log_writer).await;
    let partitions = progress().await?;
    let partition = partition_of(parent.id.as_str().as_bytes(), partitions.len());
    if partition == own.partition
        && let Some(is_applied) = wait_run_applied(backlogs, parent, own).await
    {
        return Ok(is_applied);
    }
    let Some(progress_before) = partitions.get(partition as usize) else { return Ok(true) };
    let log = progress_before.log;
    let mut end = progress_before.bounds.end;
    if (log, partition) == (own.log, own.partition) {
        end = end.min(own.offset);
    }
    if end <= progress_before.bounds.first {
        return Ok(true);
    }
    let position = LogPosition { log, partition, offset: end - 1 };
    let mut applied = progress_before.applied;
    loop {
        let wait = applied_wait(&*deps.store, LogTopic::Ingestion, position);
        if let Ok(waited) = timeout(STALLED_TIME, wait).await {
            waited?;
            return Ok(true);
        }
        let now = progress().await?.get(partition as usize).and_then(|progress| progress.applied);
        if now.map(|now| (now.log, now.next)) == applied.map(|before| (before.log, before.next)) {
            return Ok(false);
        }
        applied = now;
    }
}

/// Waits until the records of a run before a position are applied, regardless of other records of the
/// partition. Returns false if none of the run's records is applied for some time, and `None` if this worker
/// does not read the partition.
async fn wait_run_applied(backlogs: &Backlogs, run: &RunKey, before: LogPosition) -> Option<bool> {
    let mut wait = FIRST_LOOK;
    let mut last_first = None;
    let mut stalled_since = Instant::now();
    loop {
        let first = match backlogs.before(run, before).await {
            Backlog::From(first) => Some(first),
            Backlog::None => return Some(true),
            Backlog::Unknown => return None,
        };
        if first != last_first {
            last_first = first;
            stalled_since = Instant::now();
        } else if stalled_since.elapsed() >= STALLED_TIME {
            return Some(false);
        }
        sleep(wait).await;
        wait = LAST_LOOK.min(wait * 2);
    }
}

/// Keeps the series that have points up to the last step, and returns that step. If none is given, it is the
/// highest step of the parent, so that points which the parent logs later are not shared.
async fn keep_shared(
    snapshot: &dyn Snapshot,
    run: RunRef,
    series: &mut Vec<(SeriesNumber, MetricHeader)>,
    last_step: Option<i64>,
) -> Result<i64, ApplyFailure> {
    let numbers: Vec<_> = series.iter().map(|(number, _)| *number).collect();
    let parent = RunSeries::open(snapshot, run).await?;
    let highest = parent.highest_steps(snapshot, &numbers).await?.into_iter().flatten().max();
    let highest = highest.unwrap_or(i64::MIN);
    let last_step = last_step.map_or(highest, |step| step.min(highest));
    let views = parent.views(snapshot, &numbers).await?;
    let first_steps = views.iter().map(|view| view.span().map(|span| span.first));
    let mut is_shared = first_steps.map(|first| first.is_some_and(|first| first <= last_step));
    series.retain(|_| is_shared.next().unwrap_or_default());
    Ok(last_step)
}

/// Shares the series of the parent with a run that has none of its own.
pub(crate) async fn share_series(
    transaction: &mut RunTransaction<'_>,
    live: &mut LiveRun,
    parent: Parent,
) -> Result<Verdict, ApplyFailure> {
    let project = transaction.project();
    let number = RunNumber(parent.number);
    let shared = writing_get(transaction.snapshot(), project, number).await?.series;
    if shared == 0 || live.writing.series > 0 {
        return Ok(Ok(()));
    }
    if shared > SHARED_SERIES {
        return Ok(Err(format!(
            "the parent has {shared} series; a branch can share at most {SHARED_SERIES}"
        )));
    }
    let mut series = metric_series_list(transaction.snapshot(), project, number).await?;
    let last_step =
        keep_shared(transaction.snapshot(), RunRef { project, number }, &mut series, parent.step).await?;
    let ancestor = Ancestor::new(number, last_step, shared);
    let Some(branch) = Branch::of(ancestor, &branch_get(transaction.snapshot(), project, number).await?)
    else {
        return Ok(Err("the run has too many ancestors: log it as a run of its own".to_owned()));
    };
    live.writing.series = shared;
    live.writing.deleted_series += shared - u32::try_from(series.len()).unwrap_or(shared);
    let batch = transaction.batch();
    branch_put(batch, project, live.number, &branch);
    for (series, header) in series {
        let digest = Context::from_canonical(header.context.clone()).digest();
        metric_series_create(batch, project, live.number, series, &header, &digest);
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use matyan_model::ids::Project;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_branch_waits_as_long_as_its_parent_advances() {
        let run = RunKey { project: Project(0), project_name: "".into(), id: RunId::new("p") };
        let before = LogPosition { log: 0, partition: 0, offset: 9 };
        // One record of the parent is applied every 50 s, and the records from `stuck` on are not.
        let waited = async |stuck: u64| {
            let (backlogs, mut questions) = Backlogs::new();
            let start = Instant::now();
            let answer = async {
                while let Some(question) = questions.recv().await {
                    let first = (start.elapsed().as_secs() / 50).min(stuck);
                    let is_left = first < question.before.offset;
                    question.answer(if is_left { Backlog::From(first) } else { Backlog::None });
                }
            };
            let wait = async { (wait_run_applied(&backlogs, &run, before).await, start.elapsed()) };
            tokio::select! {
                waited = wait => waited,
                () = answer => unreachable!("the sender is alive"),
            }
        };
        let (is_applied, time) = waited(u64::MAX).await;
        assert!(is_applied == Some(true) && time.as_secs() == 9 * 50, "{is_applied:?} after {time:?}");
        let (is_applied, time) = waited(3).await;
        assert!(is_applied == Some(false) && time.as_secs() == 3 * 50 + 60, "{is_applied:?} after {time:?}");
    }
}
