//! The project: its name, its contents, and the sequences pinned in the UI.

use axum::Json;
use matyan_proto::common::v1::SeriesKey;
use matyan_proto::project::v1 as pb;
use matyan_value::json::JsonStyle;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashMap;

use super::answer::WithETag;
use super::call::{Call, Dialect, TimeZone};
use super::edit_condition::EditCondition;
use super::experiments::{RunActivity, activity_map};
use super::json_list::{self, JsonItems, JsonStream};
use super::merged_params::MergedParamsWriter;
use super::operation::Operation;
use super::shared::{
    JsonObject, SeriesByType, SeriesName, context_value, day_key, hour_key, requested_types,
};
use crate::error::{ApiError, ApiResult};

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/projects", "Get the project", project),
        Operation::get("/projects/activity", "Numbers of runs, in total and by creation time", activity),
        Operation::get("/projects/params", "Params and series names of all runs, merged", params),
        Operation::get("/projects/pinned-sequences", "Sequences pinned to every run page", pinned),
        Operation::post("/projects/pinned-sequences", "Replace the pinned sequences", set_pinned)
            .fails(&["412"]),
        Operation::get("/projects/status", "Report whether the indexes are complete", status),
    ]
}

/// The project. Some members only exist because the UI reads them.
#[derive(Default, Serialize, JsonSchema)]
struct Project {
    name: String,
    path: String,
    description: String,
    telemetry_enabled: u32,
    warn_index: bool,
    warn_runs: bool,
}

/// Numbers of experiments and runs.
#[derive(Serialize, JsonSchema)]
struct ProjectActivity {
    num_experiments: u32,
    #[serde(flatten)]
    runs: RunActivity,
}

#[derive(Deserialize, JsonSchema)]
struct ParamsParameters {
    #[serde(default)]
    sequence: Vec<String>,
    #[serde(default)]
    exclude_params: bool,
}

/// Params and sequences of all runs, merged. Only its schema is used, because the answer is written piece
/// by piece.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct ProjectParams {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "JsonObject")]
    params: Option<JsonObject>,
    #[serde(flatten)]
    sequences: SeriesByType<SequenceContexts>,
}

/// Names of sequences with the contexts of each.
#[derive(JsonSchema)]
#[schemars(transparent)]
#[expect(dead_code, reason = "only its schema is used")]
struct SequenceContexts(#[schemars(with = "HashMap<String, Vec<JsonObject>>")] Map<String, Value>);

#[derive(Deserialize, JsonSchema)]
struct NewPinnedSequences {
    sequences: Vec<SeriesName>,
}

#[derive(Serialize, JsonSchema)]
struct PinnedSequences {
    sequences: Vec<PinnedSequence>,
}

#[derive(Serialize, JsonSchema)]
struct PinnedSequence {
    name: String,
    #[schemars(with = "JsonObject")]
    context: Value,
}

impl TryFrom<Vec<SeriesKey>> for PinnedSequences {
    type Error = ApiError;

    fn try_from(sequences: Vec<SeriesKey>) -> ApiResult<Self> {
        Ok(PinnedSequences {
            sequences: sequences
                .into_iter()
                .map(|SeriesKey { name, context }| {
                    Ok(PinnedSequence { name, context: context_value(&context, JsonStyle::STRICT)? })
                })
                .collect::<Result<_, ApiError>>()?,
        })
    }
}

async fn project(call: Call) -> ApiResult<WithETag<Project>> {
    let pb::GetResponse { name, description, updated_us, .. } =
        call.services.backend().project().get(pb::GetRequest::default()).await?.into_inner();
    Ok(WithETag::of_version(updated_us, Json(Project { name, description, ..Default::default() })))
}

async fn activity(call: Call<TimeZone>) -> ApiResult<Json<ProjectActivity>> {
    let request = pb::ActivityRequest { timezone_offset_min: call.parameters.offset_min };
    let answer = call.services.backend().project().activity(request).await?.into_inner();
    let key = match call.dialect {
        Dialect::Matyan => day_key,
        Dialect::Aim => hour_key,
    };
    let runs = RunActivity {
        num_runs: answer.run_count,
        num_archived_runs: answer.archived_run_count,
        num_active_runs: answer.active_run_count,
        activity_map: activity_map(&answer.hours, key),
    };
    Ok(Json(ProjectActivity { num_experiments: answer.experiment_count, runs }))
}

async fn params(call: Call<ParamsParameters>) -> ApiResult<JsonStream<ProjectParams>> {
    let ParamsParameters { sequence, exclude_params } = call.parameters;
    let mut types = requested_types(&sequence)?;
    types.sort_unstable();
    types.dedup();
    let request = pb::ParamsRequest { types: types.iter().map(|it| (*it).into()).collect(), exclude_params };
    let mut messages = call.services.backend().project().params(request).await?.into_inner();
    let first = messages.message().await?;
    let mut writer = MergedParamsWriter::new(!exclude_params, types);
    let begun = JsonItems::default();
    json_list::answer_pieces(begun, first, messages, move |message, out| writer.write(message, out))
}

async fn pinned(call: Call) -> ApiResult<WithETag<PinnedSequences>> {
    let request = pb::GetPinnedSequencesRequest {};
    let answer = call.services.backend().project().get_pinned_sequences(request).await?.into_inner();
    Ok(WithETag::of_version(answer.updated_us, Json(answer.sequences.try_into()?)))
}

async fn set_pinned(
    call: Call<EditCondition, Json<NewPinnedSequences>>,
) -> ApiResult<WithETag<PinnedSequences>> {
    let if_updated_us = call.parameters.updated_us()?;
    let Json(NewPinnedSequences { sequences }) = call.body;
    let sequences = sequences.into_iter().map(SeriesKey::from).collect();
    let request = pb::SetPinnedSequencesRequest { sequences, if_updated_us };
    let answer = call.services.backend().project().set_pinned_sequences(request).await?.into_inner();
    Ok(WithETag::of_version(answer.updated_us, Json(answer.sequences.try_into()?)))
}

async fn status(call: Call) -> ApiResult<Json<&'static str>> {
    let answer = call.services.backend().project().status(pb::StatusRequest {}).await?.into_inner();
    Ok(Json(if answer.up_to_date { "up-to-date" } else { "needs-update" }))
}
