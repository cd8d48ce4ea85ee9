//! Experiments and their runs.

use axum::Json;
use matyan_proto::common::v1::ActivityCount;
use matyan_proto::experiments::v1 as pb;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::answer::{Acknowledgment, ChangedResource, WithETag};
use super::call::{Call, NoParameters, TimeZone};
use super::edit_condition::{EditedId, etag};
use super::json_list::{self, Envelope, JsonStream};
use super::operation::Operation;
use super::shared::{Id, NamePart, hour_key, seconds};
use crate::error::ApiResult;
use crate::services::Services;

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/experiments", "List all experiments", list),
        Operation::get("/experiments/search", "Search experiments by a part of their name", search),
        Operation::post("/experiments", "Create an experiment", create),
        Operation::get("/experiments/{id}", "Get one experiment", get),
        Operation::put("/experiments/{id}", "Change an experiment", update).fails(&["412"]),
        Operation::delete("/experiments/{id}", "Delete an experiment; its runs are kept", delete),
        Operation::get("/experiments/{id}/runs", "List the runs of an experiment, newest first", runs),
        Operation::get(
            "/experiments/{id}/activity",
            "Number of runs of an experiment by creation time",
            activity,
        ),
    ]
}

#[derive(Serialize, JsonSchema)]
struct Experiment {
    id: String,
    name: String,
    description: String,
    run_count: u32,
    archived: bool,
    creation_time: Option<f64>,
}

impl From<pb::Experiment> for Experiment {
    fn from(experiment: pb::Experiment) -> Self {
        let pb::Experiment { id, name, description, run_count, archived, created_us, .. } = experiment;
        Experiment { id, name, description, run_count, archived, creation_time: created_us.map(seconds) }
    }
}

#[derive(Deserialize, JsonSchema)]
struct NewExperiment {
    name: String,
}

#[derive(Deserialize, JsonSchema)]
struct ExperimentChanges {
    name: Option<String>,
    description: Option<String>,
    archived: Option<bool>,
}

#[derive(Deserialize, JsonSchema)]
struct RunPage {
    id: String,
    limit: Option<i64>,
    offset: Option<String>,
    /// `next_cursor` of the previous page, or empty for the first one: the answer then has another,
    /// which is empty after the last run
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct ExperimentRuns {
    id: String,
    runs: Vec<ExperimentRun>,
    /// the cursor of the next page, empty after the last run; only in answers to requests with a cursor
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

impl Envelope for ExperimentRuns {
    type Item = ExperimentRun;
}

#[derive(Serialize, JsonSchema)]
struct ExperimentRun {
    run_id: String,
    name: String,
    creation_time: f64,
    end_time: Option<f64>,
    archived: bool,
}

impl From<pb::ExperimentRun> for ExperimentRun {
    fn from(run: pb::ExperimentRun) -> Self {
        ExperimentRun {
            run_id: run.run_id,
            name: run.name,
            creation_time: seconds(run.created_us),
            end_time: run.ended_us.map(seconds),
            archived: run.archived,
        }
    }
}

#[derive(Deserialize, JsonSchema)]
struct ActivityParameters {
    id: String,
    #[serde(flatten)]
    zone: TimeZone,
}

/// Numbers of runs, in total and by creation time.
#[derive(Serialize, JsonSchema)]
pub(crate) struct RunActivity {
    pub(crate) num_runs: u32,
    pub(crate) num_archived_runs: u32,
    pub(crate) num_active_runs: u32,
    pub(crate) activity_map: BTreeMap<String, u64>,
}

async fn list(call: Call) -> ApiResult<JsonStream<Vec<Experiment>>> {
    matches(&call.services, String::new()).await
}

async fn search(call: Call<NamePart>) -> ApiResult<JsonStream<Vec<Experiment>>> {
    matches(&call.services, call.parameters.q).await
}

async fn matches(services: &Services, name_contains: String) -> ApiResult<JsonStream<Vec<Experiment>>> {
    let request = pb::ListRequest { name_contains };
    let messages = services.backend().experiments().list(request).await?.into_inner();
    let items =
        |message: pb::ListResponse| Ok(message.experiments.into_iter().map(Experiment::from).collect());
    json_list::answer(Vec::new(), messages, items).await
}

async fn create(call: Call<NoParameters, Json<NewExperiment>>) -> ApiResult<Json<ChangedResource>> {
    let Json(NewExperiment { name }) = call.body;
    let request = pb::CreateRequest { name, ..Default::default() };
    let answer = call.services.backend().experiments().create(request).await?.into_inner();
    Ok(ChangedResource::new(answer.experiment.unwrap_or_default().id))
}

async fn get(call: Call<Id>) -> ApiResult<WithETag<Experiment>> {
    let answer = call.services.backend().experiments().get(pb::GetRequest { id: call.parameters.id }).await?;
    let experiment = answer.into_inner().experiment.unwrap_or_default();
    Ok(WithETag { etag: experiment.updated_us.map(etag), answer: Json(experiment.into()) })
}

async fn update(call: Call<EditedId, Json<ExperimentChanges>>) -> ApiResult<WithETag<ChangedResource>> {
    let if_updated_us = call.parameters.condition.updated_us()?;
    let id = call.parameters.id;
    let Json(ExperimentChanges { name, description, archived }) = call.body;
    let request = pb::UpdateRequest { id: id.clone(), name, description, archived, if_updated_us };
    let answer = call.services.backend().experiments().update(request).await?.into_inner();
    let etag = answer.experiment.and_then(|experiment| experiment.updated_us).map(etag);
    Ok(WithETag { etag, answer: ChangedResource::new(id) })
}

async fn delete(call: Call<Id>) -> ApiResult<Json<Acknowledgment>> {
    call.services.backend().experiments().delete(pb::DeleteRequest { id: call.parameters.id }).await?;
    Ok(Acknowledgment::new())
}

async fn runs(call: Call<RunPage>) -> ApiResult<JsonStream<ExperimentRuns>> {
    let RunPage { id, limit, offset, cursor } = call.parameters;
    let has_cursor = cursor.is_some();
    let request = pb::ListRunsRequest {
        id: id.clone(),
        limit: u32::try_from(limit.unwrap_or(0).max(0)).unwrap_or(u32::MAX),
        after_run_id: offset.unwrap_or_default(),
        cursor: cursor.unwrap_or_default(),
    };
    let mut messages = call.services.backend().experiments().list_runs(request).await?.into_inner();
    // A list without runs has no message.
    let first = messages.message().await?.or_else(|| has_cursor.then(pb::ListRunsResponse::default));
    let envelope = ExperimentRuns { id, runs: Vec::new(), next_cursor: None };
    json_list::answer_from(&envelope, first, messages, move |message, out| {
        let pb::ListRunsResponse { runs, next_cursor } = message;
        for run in runs {
            out.push(&ExperimentRun::from(run));
        }
        if has_cursor {
            out.set_next_cursor(next_cursor);
        }
        Ok(())
    })
}

async fn activity(call: Call<ActivityParameters>) -> ApiResult<Json<RunActivity>> {
    let ActivityParameters { id, zone } = call.parameters;
    let request = pb::ActivityRequest { id, timezone_offset_min: zone.offset_min };
    let answer = call.services.backend().experiments().activity(request).await?.into_inner();
    Ok(Json(RunActivity {
        num_runs: answer.run_count,
        num_archived_runs: answer.archived_run_count,
        num_active_runs: answer.active_run_count,
        activity_map: activity_map(&answer.hours, hour_key),
    }))
}

/// Number of runs by the key of their hour; hours with the same key are summed.
pub(crate) fn activity_map(hours: &[ActivityCount], key: fn(i64) -> String) -> BTreeMap<String, u64> {
    let mut map = BTreeMap::new();
    for hour in hours {
        *map.entry(key(hour.local_s)).or_default() += u64::from(hour.runs);
    }
    map
}
