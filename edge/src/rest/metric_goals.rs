//! Goals of metrics.

use axum::Json;
use matyan_proto::metrics::v1 as pb;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::WithETag;
use super::call::Call;
use super::edit_condition::EditCondition;
use super::operation::Operation;
use crate::error::ApiResult;

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/projects/metric-goals", "List the goals of metrics", list),
        Operation::put("/projects/metric-goals", "Change the goal of a metric", update).fails(&["412"]),
    ]
}

/// Which values are better.
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Direction {
    Unknown,
    Lower,
    Higher,
}

/// The value of a series that stands for its run.
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Summary {
    Unknown,
    Last,
    Best,
}

/// Notation of values.
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    Unknown,
    Percent,
    Scientific,
    Integer,
}

/// The goal of a metric. A change to `unknown`, or to an empty text, forgets what people have set.
#[derive(Serialize, JsonSchema)]
struct Goal {
    name: String,
    direction: Direction,
    summary: Summary,
    format: Format,
    unit: String,
    /// The metric that is the x axis of charts that have not chosen one; empty: steps.
    x_axis: String,
    /// Whether it is the primary metric of the project.
    primary: bool,
}

#[derive(Deserialize, JsonSchema)]
struct GoalChanges {
    name: String,
    direction: Option<Direction>,
    summary: Option<Summary>,
    format: Option<Format>,
    unit: Option<String>,
    x_axis: Option<String>,
    primary: Option<bool>,
    /// Only if this is the name of the primary metric; empty: only if there is none.
    if_primary: Option<String>,
}

impl From<pb::Goal> for Goal {
    fn from(goal: pb::Goal) -> Self {
        Goal {
            direction: match goal.direction() {
                pb::GoalDirection::Unspecified => Direction::Unknown,
                pb::GoalDirection::Lower => Direction::Lower,
                pb::GoalDirection::Higher => Direction::Higher,
            },
            summary: match goal.summary() {
                pb::GoalSummary::Unspecified => Summary::Unknown,
                pb::GoalSummary::Last => Summary::Last,
                pb::GoalSummary::Best => Summary::Best,
            },
            format: match goal.format() {
                pb::NumberFormat::Unspecified => Format::Unknown,
                pb::NumberFormat::Percent => Format::Percent,
                pb::NumberFormat::Scientific => Format::Scientific,
                pb::NumberFormat::Integer => Format::Integer,
            },
            name: goal.name,
            unit: goal.unit,
            x_axis: goal.x_axis,
            primary: goal.primary,
        }
    }
}

impl From<Direction> for pb::GoalDirection {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Unknown => Self::Unspecified,
            Direction::Lower => Self::Lower,
            Direction::Higher => Self::Higher,
        }
    }
}

impl From<Summary> for pb::GoalSummary {
    fn from(summary: Summary) -> Self {
        match summary {
            Summary::Unknown => Self::Unspecified,
            Summary::Last => Self::Last,
            Summary::Best => Self::Best,
        }
    }
}

impl From<Format> for pb::NumberFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Unknown => Self::Unspecified,
            Format::Percent => Self::Percent,
            Format::Scientific => Self::Scientific,
            Format::Integer => Self::Integer,
        }
    }
}

async fn list(call: Call) -> ApiResult<Json<Vec<Goal>>> {
    let answer = call.services.backend().metrics().list_goals(pb::ListGoalsRequest {}).await?.into_inner();
    Ok(Json(answer.goals.into_iter().map(Goal::from).collect()))
}

async fn update(call: Call<EditCondition, Json<GoalChanges>>) -> ApiResult<WithETag<Goal>> {
    let if_updated_us = call.parameters.updated_us()?;
    let Json(GoalChanges { name, direction, summary, format, unit, x_axis, primary, if_primary }) = call.body;
    let request = pb::UpdateGoalRequest {
        name,
        direction: direction.map(|it| pb::GoalDirection::from(it).into()),
        summary: summary.map(|it| pb::GoalSummary::from(it).into()),
        format: format.map(|it| pb::NumberFormat::from(it).into()),
        unit,
        x_axis,
        primary,
        if_updated_us,
        if_primary,
    };
    let answer = call.services.backend().metrics().update_goal(request).await?.into_inner();
    let goal = answer.goal.unwrap_or_default();
    Ok(WithETag::of_version(goal.updated_us, Json(goal.into())))
}
