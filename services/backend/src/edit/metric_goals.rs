//! Goals of metrics.

use matyan_model::metric_goal::{
    Direction, GoalFields, GoalSummary, MetricGoal, NumberFormat, metric_goal_clear, metric_goal_load,
    metric_goal_put, metric_goals_list, metric_goals_room, primary_metric_get, primary_metric_load,
    primary_metric_put,
};
use matyan_proto::{
    limits,
    metrics::v1::{self as pb, metric_service_server::MetricService},
};
use matyan_store::{Transaction, transact};
use tonic::{Request, Response};

use super::entities::check_unchanged;
use crate::server::{
    RpcResult, Server,
    call::Call,
    convert::{self, bounded_text},
    error::{Error, Result},
};

/// The name of a goal in errors.
const GOAL: &str = "goal of metric";

/// The service of goals.
pub(crate) struct MetricApi {
    server: Server,
}

impl MetricApi {
    pub(crate) fn new(server: Server) -> Self {
        Self { server }
    }
}

#[tonic::async_trait]
impl MetricService for MetricApi {
    async fn list_goals(&self, request: Request<pb::ListGoalsRequest>) -> RpcResult<pb::ListGoalsResponse> {
        let (call, _) = self.server.start_call(request).await?;
        let snapshot = self.server.deps.store.snapshot().await.map_err(Error::from)?;
        let goals = metric_goals_list(snapshot.as_ref(), call.project).await.map_err(Error::from)?;
        let primary = primary_metric_get(snapshot.as_ref(), call.project).await.map_err(Error::from)?;
        Ok(Response::new(pb::ListGoalsResponse { goals: goal_views(goals, primary) }))
    }

    async fn update_goal(
        &self,
        request: Request<pb::UpdateGoalRequest>,
    ) -> RpcResult<pb::UpdateGoalResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let change = GoalChange::new(request)?;
        let now = (self.server.deps.clock)();
        let (goal, _) = transact(self.server.deps.store.as_ref(), async |mut transaction: Transaction| {
            let goal = change.apply(&mut transaction, &call, now).await?;
            Ok::<_, Error>((transaction, goal))
        })
        .await?;
        Ok(Response::new(pb::UpdateGoalResponse { goal: Some(goal) }))
    }
}

/// A validated request. The outer option of a field says whether the field is changed.
struct GoalChange {
    name: String,
    direction: Option<Option<Direction>>,
    summary: Option<Option<GoalSummary>>,
    format: Option<Option<NumberFormat>>,
    unit: Option<Option<String>>,
    x_axis: Option<Option<String>>,
    primary: Option<bool>,
    if_updated_us: Option<i64>,
    /// The primary metric that the caller has read; empty if there was none.
    if_primary: Option<String>,
}

impl GoalChange {
    fn new(request: pb::UpdateGoalRequest) -> Result<Self> {
        let pb::UpdateGoalRequest {
            name,
            direction,
            summary,
            format,
            unit,
            x_axis,
            primary,
            if_updated_us,
            if_primary,
        } = request;
        if name.is_empty() {
            return Err(Error::field("name", "is empty: give the name of a metric"));
        }
        let unit = unit.map(|unit| goal_unit("unit", &unit)).transpose()?;
        let x_axis = x_axis.map(|axis| goal_x_axis("x_axis", &axis, &name)).transpose()?;
        Ok(Self {
            name: bounded_text("name", &name, limits::NAME_BYTES)?,
            direction: direction.map(|number| direction_of("direction", number)).transpose()?,
            summary: summary.map(|number| summary_of("summary", number)).transpose()?,
            format: format.map(|number| format_of("format", number)).transpose()?,
            unit,
            x_axis,
            primary,
            if_updated_us,
            if_primary,
        })
    }

    async fn apply(&self, transaction: &mut Transaction, call: &Call, now_us: i64) -> Result<pb::Goal> {
        let stored = metric_goal_load(transaction, call.project, &self.name).await?;
        let is_new = stored.is_none();
        let mut goal = stored.unwrap_or_default();
        check_unchanged(GOAL, &self.name, goal.updated_us, self.if_updated_us)?;
        self.set(&mut goal.set);
        goal.touch(now_us);
        let is_primary = self.choose_primary(transaction, call).await?;
        if goal.is_empty() && !is_primary {
            metric_goal_clear(transaction.batch(), call.project, &self.name);
        } else {
            if is_new {
                check_room(transaction, call).await?;
            }
            metric_goal_put(transaction.batch(), call.project, &self.name, &goal);
        }
        Ok(goal_view(self.name.clone(), &goal, is_primary))
    }

    fn set(&self, fields: &mut GoalFields) {
        if let Some(direction) = self.direction {
            fields.direction = direction;
        }
        if let Some(summary) = self.summary {
            fields.summary = summary;
        }
        if let Some(format) = self.format {
            fields.format = format;
        }
        if let Some(unit) = &self.unit {
            fields.unit.clone_from(unit);
        }
        if let Some(x_axis) = &self.x_axis {
            fields.x_axis.clone_from(x_axis);
        }
    }

    /// Returns whether the metric is the primary metric after the change.
    async fn choose_primary(&self, transaction: &mut Transaction, call: &Call) -> Result<bool> {
        let chosen = primary_metric_load(transaction, call.project).await?.unwrap_or_default();
        if self.if_primary.as_ref().is_some_and(|read| *read != chosen) {
            return Err(Error::PrimaryChanged { primary: chosen });
        }
        let was_primary = chosen == self.name;
        let is_primary = self.primary.unwrap_or(was_primary);
        if is_primary != was_primary {
            let next = is_primary.then_some(self.name.as_str());
            primary_metric_put(transaction.batch(), call.project, next);
            if is_primary {
                forget_if_empty(transaction, call, &chosen).await?;
            }
        }
        Ok(is_primary)
    }
}

/// Clears the goal of a metric that is no longer the primary metric and whose goal has no fields.
async fn forget_if_empty(transaction: &mut Transaction, call: &Call, metric: &str) -> Result<()> {
    let goal = metric_goal_load(transaction, call.project, metric).await?;
    if goal.is_some_and(|goal| goal.is_empty()) {
        metric_goal_clear(transaction.batch(), call.project, metric);
    }
    Ok(())
}

/// Refuses a new goal in a project that has the maximum number of goals.
async fn check_room(transaction: &Transaction, call: &Call) -> Result<()> {
    let limit = limits::METRIC_GOALS;
    if metric_goals_room(transaction.unchecked(), call.project, limit).await? > 0 {
        return Ok(());
    }
    Err(Error::TooManyGoals { limit })
}

/// The goals of a project by name. The primary metric is listed even if its goal is damaged or was not restored,
/// because people must know it to choose another primary metric.
fn goal_views(mut goals: Vec<(String, MetricGoal)>, primary: Option<String>) -> Vec<pb::Goal> {
    if let Some(primary) = &primary
        && let Err(place) = goals.binary_search_by(|(name, _)| name.cmp(primary))
    {
        goals.insert(place, (primary.clone(), MetricGoal::default()));
    }
    let view = |(name, goal): (String, MetricGoal)| {
        let is_primary = primary.as_ref() == Some(&name);
        goal_view(name, &goal, is_primary)
    };
    goals.into_iter().map(view).collect()
}

fn goal_view(name: String, goal: &MetricGoal, primary: bool) -> pb::Goal {
    let fields = goal.fields();
    pb::Goal {
        name,
        direction: direction_view(fields.direction).into(),
        summary: summary_view(fields.summary).into(),
        format: format_view(fields.format).into(),
        unit: fields.unit.unwrap_or_default(),
        primary,
        updated_us: goal.updated_us,
        x_axis: fields.x_axis.unwrap_or_default(),
    }
}

pub(crate) fn direction_view(direction: Option<Direction>) -> pb::GoalDirection {
    match direction {
        None => pb::GoalDirection::Unspecified,
        Some(Direction::Lower) => pb::GoalDirection::Lower,
        Some(Direction::Higher) => pb::GoalDirection::Higher,
    }
}

pub(crate) fn summary_view(summary: Option<GoalSummary>) -> pb::GoalSummary {
    match summary {
        None => pb::GoalSummary::Unspecified,
        Some(GoalSummary::Last) => pb::GoalSummary::Last,
        Some(GoalSummary::Best) => pb::GoalSummary::Best,
    }
}

pub(crate) fn format_view(format: Option<NumberFormat>) -> pb::NumberFormat {
    match format {
        None => pb::NumberFormat::Unspecified,
        Some(NumberFormat::Percent) => pb::NumberFormat::Percent,
        Some(NumberFormat::Scientific) => pb::NumberFormat::Scientific,
        Some(NumberFormat::Integer) => pb::NumberFormat::Integer,
    }
}

pub(crate) fn direction_of(field: &'static str, number: i32) -> Result<Option<Direction>> {
    match pb::GoalDirection::try_from(number) {
        Ok(pb::GoalDirection::Unspecified) => Ok(None),
        Ok(pb::GoalDirection::Lower) => Ok(Some(Direction::Lower)),
        Ok(pb::GoalDirection::Higher) => Ok(Some(Direction::Higher)),
        Err(_) => Err(unknown(field, number)),
    }
}

pub(crate) fn summary_of(field: &'static str, number: i32) -> Result<Option<GoalSummary>> {
    match pb::GoalSummary::try_from(number) {
        Ok(pb::GoalSummary::Unspecified) => Ok(None),
        Ok(pb::GoalSummary::Last) => Ok(Some(GoalSummary::Last)),
        Ok(pb::GoalSummary::Best) => Ok(Some(GoalSummary::Best)),
        Err(_) => Err(unknown(field, number)),
    }
}

pub(crate) fn format_of(field: &'static str, number: i32) -> Result<Option<NumberFormat>> {
    match pb::NumberFormat::try_from(number) {
        Ok(pb::NumberFormat::Unspecified) => Ok(None),
        Ok(pb::NumberFormat::Percent) => Ok(Some(NumberFormat::Percent)),
        Ok(pb::NumberFormat::Scientific) => Ok(Some(NumberFormat::Scientific)),
        Ok(pb::NumberFormat::Integer) => Ok(Some(NumberFormat::Integer)),
        Err(_) => Err(unknown(field, number)),
    }
}

/// A unit without surrounding whitespace; `None` if it is empty.
pub(crate) fn goal_unit(field: &'static str, text: &str) -> Result<Option<String>> {
    let unit = text.trim();
    convert::check_limit(field, unit.len(), limits::UNIT_BYTES)?;
    Ok((!unit.is_empty()).then(|| unit.to_owned()))
}

/// The metric of the x axis; `None` if it is empty.
pub(crate) fn goal_x_axis(field: &'static str, axis: &str, metric: &str) -> Result<Option<String>> {
    convert::check_limit(field, axis.len(), limits::NAME_BYTES)?;
    if axis == metric {
        return Err(Error::field(field, "is the metric itself: give the name of another metric"));
    }
    Ok((!axis.is_empty()).then(|| axis.to_owned()))
}

fn unknown(field: &'static str, number: i32) -> Error {
    Error::field(field, format!("is {number}, which this server does not know"))
}
