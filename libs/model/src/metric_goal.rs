//! Goals of metrics: whether lower or higher values are better, which value of a run counts, how values
//! are shown, and over which metric they are charted. Goals belong to the project, one row per metric name, whatever the context, because a loss is
//! better when it is lower on every subset. One metric of a project is its primary one.
//!
//! People set goals, and runs define them. Both are kept, and a goal that people set counts more: if the last writer
//! won, the next run of an old script would undo a correction. A definition stays even if the script no longer contains
//! it.
//!
//! Runs define goals with the params `__metrics__`, and not with a separate message: params pass through
//! spools, archives and older servers unchanged, and exactly once. A call of the SDK to the backend would be
//! lost by an offline run.
//!
//! The server guesses nothing that nobody has stated. Clients guess from names.

use matyan_store::{Batch, Key, Result, Scan, Snapshot, Transaction};
use minicbor::{Decode, Encode};

use crate::{ids::Project, keys, rows};

/// Which values of a metric are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Direction {
    #[n(1)]
    Lower,
    #[n(2)]
    Higher,
}

/// The value of a series that stands for its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum GoalSummary {
    #[n(1)]
    Last,
    #[n(2)]
    Best,
}

/// Notation of the values of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum NumberFormat {
    /// A fraction as a percentage: 0.912 is shown as 91.2 %.
    #[n(1)]
    Percent,
    #[n(2)]
    Scientific,
    #[n(3)]
    Integer,
}

/// The known fields of a goal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct GoalFields {
    #[n(0)]
    pub direction: Option<Direction>,
    #[n(1)]
    pub summary: Option<GoalSummary>,
    #[n(2)]
    pub format: Option<NumberFormat>,
    /// The unit, such as `ms`; never empty.
    #[n(3)]
    pub unit: Option<String>,
    /// The metric that is the x axis of charts; never empty.
    #[n(4)]
    pub x_axis: Option<String>,
}

impl GoalFields {
    /// These fields, with missing fields taken from others.
    #[must_use]
    pub fn or(self, others: &Self) -> Self {
        Self {
            direction: self.direction.or(others.direction),
            summary: self.summary.or(others.summary),
            format: self.format.or(others.format),
            unit: self.unit.or_else(|| others.unit.clone()),
            x_axis: self.x_axis.or_else(|| others.x_axis.clone()),
        }
    }
}

/// The goal of a metric.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct MetricGoal {
    /// The fields that people have set.
    #[n(0)]
    pub set: GoalFields,
    /// Fields that runs have defined: the latest definition of each.
    #[n(1)]
    pub defined: GoalFields,
    /// Time of the last change.
    #[n(2)]
    pub updated_us: i64,
}

impl MetricGoal {
    /// The fields that count: people come before runs.
    pub fn fields(&self) -> GoalFields {
        self.set.clone().or(&self.defined)
    }

    /// Whether no field is known.
    pub fn is_empty(&self) -> bool {
        let nothing = GoalFields::default();
        self.set == nothing && self.defined == nothing
    }

    /// Records a change. A later change has a later time, whatever the clock says.
    pub fn touch(&mut self, now_us: i64) {
        self.updated_us = now_us.max(self.updated_us.saturating_add(1));
    }
}

/// All goals of a project, by metric. Damaged goals are left out.
pub async fn metric_goals_list(
    snapshot: &dyn Snapshot,
    project: Project,
) -> Result<Vec<(String, MetricGoal)>> {
    let range = keys::metric_goals(project);
    let mut goals = Vec::new();
    for (key, value) in rows::scan_all(snapshot, &range).await? {
        let (metric,): (String,) = keys::tail(&range.start, &key)?;
        let goal: Option<MetricGoal> = rows::readable(rows::decode(&key, &value))?;
        goals.extend(goal.map(|goal| (metric, goal)));
    }
    Ok(goals)
}

/// The goals of several metrics, in the given order. A damaged goal counts as missing.
pub async fn metric_goals_get(
    snapshot: &dyn Snapshot,
    project: Project,
    metrics: &[&str],
) -> Result<Vec<Option<MetricGoal>>> {
    let keys: Vec<Key> = metrics.iter().map(|metric| keys::metric_goal(project, metric)).collect();
    let mut goals = Vec::with_capacity(keys.len());
    for (key, value) in keys.iter().zip(snapshot.get_many(&keys).await?) {
        goals.push(match value {
            Some(value) => rows::readable(rows::decode(key, &value))?,
            None => None,
        });
    }
    Ok(goals)
}

/// The goal of a metric; the transaction fails if the goal changes before the commit. A damaged goal counts as missing,
/// so that the next definition or change replaces it: a goal is not a reason to stop a run.
pub async fn metric_goal_load(
    transaction: &Transaction,
    project: Project,
    metric: &str,
) -> Result<Option<MetricGoal>> {
    let key = keys::metric_goal(project, metric);
    let Some(value) = transaction.get(&key).await? else { return Ok(None) };
    rows::readable(rows::decode(&key, &value))
}

pub fn metric_goal_put(batch: &mut Batch, project: Project, metric: &str, goal: &MetricGoal) {
    batch.set(keys::metric_goal(project, metric), rows::encode(goal));
}

pub fn metric_goal_clear(batch: &mut Batch, project: Project, metric: &str) {
    batch.clear(keys::metric_goal(project, metric));
}

/// Number of goals that a project can have in addition to its present goals. All goals together have a limit.
/// Concurrent callers may exceed the limit by their goals.
pub async fn metric_goals_room(snapshot: &dyn Snapshot, project: Project, limit: usize) -> Result<usize> {
    let scan = Scan { rows: limit, keys_only: true, ..Scan::default() };
    let mut rest = keys::metric_goals(project);
    let mut count = 0;
    loop {
        let page = snapshot.scan(&rest, scan).await?;
        count += page.rows.len();
        match page.rows.last() {
            Some((last, _)) if page.more && count < limit => rest = rest.after(last),
            _ => return Ok(limit.saturating_sub(count)),
        }
    }
}

/// The name of the project's primary metric. A damaged choice counts as no choice.
pub async fn primary_metric_get(snapshot: &dyn Snapshot, project: Project) -> Result<Option<String>> {
    let row = rows::readable(rows::get(snapshot, &keys::primary_metric(project)).await)?;
    Ok(row.flatten().map(|row: PrimaryMetric| row.metric))
}

/// Like `primary_metric_get`, but the transaction fails if the choice changes before the commit.
pub async fn primary_metric_load(transaction: &Transaction, project: Project) -> Result<Option<String>> {
    let key = keys::primary_metric(project);
    let Some(value) = transaction.get(&key).await? else { return Ok(None) };
    let row: Option<PrimaryMetric> = rows::readable(rows::decode(&key, &value))?;
    Ok(row.map(|row| row.metric))
}

pub fn primary_metric_put(batch: &mut Batch, project: Project, metric: Option<&str>) {
    let key = keys::primary_metric(project);
    match metric {
        Some(metric) => batch.set(key, rows::encode(&PrimaryMetric { metric: metric.to_owned() })),
        None => batch.clear(key),
    };
}

/// The row of the primary metric.
#[derive(Encode, Decode)]
#[cbor(array)]
struct PrimaryMetric {
    #[n(0)]
    metric: String,
}

#[cfg(test)]
mod tests;
