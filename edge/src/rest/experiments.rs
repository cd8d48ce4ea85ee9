//! Experiments and their runs.

use std::sync::Arc;

use axum::Json;
use axum::response::IntoResponse;
use http::Method;
use matyan_proto::common::v1::ActivityCount;
use matyan_proto::experiments::v1::{
    ActivityRequest, CreateRequest, DeleteRequest, Experiment, ExperimentRun, GetRequest, ListRequest,
    ListResponse, ListRunsRequest, ListRunsResponse, UpdateRequest,
};
use serde_json::{Map, Value, json};

use super::call::Call;
use super::json_list::{self, JsonItems};
use super::request_schema::{Member, RequestSchema};
use super::response_schema::{ACTIVITY, CHANGED, DONE, ResponseSchema};
use super::shared::{hour_key, seconds};
use super::table::{Answer, Operation, Parameter, ParameterKind};
use crate::services::Services;

const NEW: RequestSchema = RequestSchema::Record(&[Member::required("name", RequestSchema::Text)]);

const CHANGES: RequestSchema = RequestSchema::Record(&[
    Member::optional("name", RequestSchema::Text),
    Member::optional("description", RequestSchema::Text),
    Member::optional("archived", RequestSchema::Bool),
]);

const EXPERIMENT: ResponseSchema = ResponseSchema::Record(&[
    ("id", ResponseSchema::Text),
    ("name", ResponseSchema::Text),
    ("description", ResponseSchema::Text),
    ("run_count", ResponseSchema::Int),
    ("archived", ResponseSchema::Bool),
    ("creation_time", ResponseSchema::NumberOrNull),
]);

const EXPERIMENTS: ResponseSchema = ResponseSchema::List(&EXPERIMENT);

const RUNS: ResponseSchema =
    ResponseSchema::Record(&[("id", ResponseSchema::Text), ("runs", ResponseSchema::List(&RUN))]);

const RUN: ResponseSchema = ResponseSchema::Record(&[
    ("run_id", ResponseSchema::Text),
    ("name", ResponseSchema::Text),
    ("creation_time", ResponseSchema::Number),
    ("end_time", ResponseSchema::NumberOrNull),
    ("archived", ResponseSchema::Bool),
]);

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(Method::GET, "/experiments", "List all experiments", |s, call| {
            Box::pin(list(s, call))
        })
        .answers(&EXPERIMENTS),
        Operation::new(
            Method::GET,
            "/experiments/search",
            "Search experiments by a part of their name",
            |s, call| Box::pin(list(s, call)),
        )
        .query(&[Parameter::new("q", ParameterKind::Text, Some(""))])
        .answers(&EXPERIMENTS),
        Operation::new(Method::POST, "/experiments", "Create an experiment", |s, call| {
            Box::pin(create(s, call))
        })
        .json(&NEW)
        .answers(&CHANGED),
        Operation::new(Method::GET, "/experiments/{id}", "Get one experiment", |s, call| {
            Box::pin(get(s, call))
        })
        .answers(&EXPERIMENT),
        Operation::new(Method::PUT, "/experiments/{id}", "Change an experiment", |s, call| {
            Box::pin(update(s, call))
        })
        .json(&CHANGES)
        .answers(&CHANGED),
        Operation::new(
            Method::DELETE,
            "/experiments/{id}",
            "Delete an experiment; its runs are kept",
            |s, call| Box::pin(delete(s, call)),
        )
        .answers(&DONE),
        Operation::new(
            Method::GET,
            "/experiments/{id}/runs",
            "List the runs of an experiment, newest first",
            |s, call| Box::pin(runs(s, call)),
        )
        .query(&[
            Parameter::new("limit", ParameterKind::Int, None),
            Parameter::new("offset", ParameterKind::Text, None),
        ])
        .answers(&RUNS),
        Operation::new(
            Method::GET,
            "/experiments/{id}/activity",
            "Number of runs of an experiment by creation time",
            |s, call| Box::pin(activity(s, call)),
        )
        .zoned()
        .answers(&ACTIVITY),
    ]
}

fn show(experiment: &Experiment) -> Value {
    json!({
        "id": experiment.id,
        "name": experiment.name,
        "description": experiment.description,
        "run_count": experiment.run_count,
        "archived": experiment.archived,
        "creation_time": experiment.created_us.map(seconds),
    })
}

async fn list(services: Arc<Services>, call: Call) -> Answer {
    let request = ListRequest { name_contains: call.text("q").unwrap_or_default().to_owned() };
    let messages = services.backend().experiments().list(request).await?.into_inner();
    let write = |message: ListResponse, items: &mut JsonItems| {
        message.experiments.iter().for_each(|experiment| items.push(&show(experiment)));
        Ok(())
    };
    json_list::answer("[", messages, write, "]").await
}

async fn create(services: Arc<Services>, call: Call) -> Answer {
    let name = call.member("name").unwrap_or_default().to_owned();
    let request = CreateRequest { name, ..Default::default() };
    let answer = services.backend().experiments().create(request).await?.into_inner();
    Ok(Json(json!({"id": answer.experiment.unwrap_or_default().id, "status": "OK"})).into_response())
}

async fn get(services: Arc<Services>, call: Call) -> Answer {
    let answer = services.backend().experiments().get(GetRequest { id: call.path("id") }).await?;
    Ok(Json(show(&answer.into_inner().experiment.unwrap_or_default())).into_response())
}

async fn update(services: Arc<Services>, call: Call) -> Answer {
    let text = |name| call.member(name).map(str::to_owned);
    let id = call.path("id");
    let request = UpdateRequest {
        id: id.clone(),
        name: text("name"),
        description: text("description"),
        archived: call.json.get("archived").and_then(Value::as_bool),
    };
    services.backend().experiments().update(request).await?;
    Ok(Json(json!({"id": id, "status": "OK"})).into_response())
}

async fn delete(services: Arc<Services>, call: Call) -> Answer {
    services.backend().experiments().delete(DeleteRequest { id: call.path("id") }).await?;
    Ok(Json(json!({"status": "OK"})).into_response())
}

async fn runs(services: Arc<Services>, call: Call) -> Answer {
    let id = call.path("id");
    let request = ListRunsRequest {
        id: id.clone(),
        limit: u32::try_from(call.int("limit").unwrap_or(0).max(0)).unwrap_or(u32::MAX),
        after_run_id: call.text("offset").unwrap_or_default().to_owned(),
    };
    let messages = services.backend().experiments().list_runs(request).await?.into_inner();
    let write = |message: ListRunsResponse, items: &mut JsonItems| {
        message.runs.iter().for_each(|run| items.push(&show_run(run)));
        Ok(())
    };
    let before = format!("{{\"id\":{},\"runs\":[", json!(id));
    json_list::answer(&before, messages, write, "]}").await
}

fn show_run(run: &ExperimentRun) -> Value {
    json!({
        "run_id": run.run_id,
        "name": run.name,
        "creation_time": seconds(run.created_us),
        "end_time": run.ended_us.map(seconds),
        "archived": run.archived,
    })
}

async fn activity(services: Arc<Services>, call: Call) -> Answer {
    let request = ActivityRequest { id: call.path("id"), timezone_offset_min: call.timezone() };
    let answer = services.backend().experiments().activity(request).await?.into_inner();
    Ok(Json(json!({
        "num_runs": answer.run_count,
        "num_archived_runs": answer.archived_run_count,
        "num_active_runs": answer.active_run_count,
        "activity_map": activity_map(&answer.hours, hour_key),
    }))
    .into_response())
}

/// Number of runs by the key of their hour; hours with the same key are summed.
pub(crate) fn activity_map(hours: &[ActivityCount], key: fn(i64) -> String) -> Map<String, Value> {
    let mut map: Map<String, Value> = Map::new();
    for hour in hours {
        let count = map.entry(key(hour.local_s)).or_insert_with(|| 0.into());
        *count = (count.as_u64().unwrap_or(0) + u64::from(hour.runs)).into();
    }
    map
}
