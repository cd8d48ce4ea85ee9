//! Tags and their runs.

use std::sync::Arc;

use axum::Json;
use axum::response::IntoResponse;
use http::Method;
use matyan_proto::tags::v1::{
    CreateRequest, DeleteRequest, GetRequest, ListRequest, ListResponse, ListRunsRequest, ListRunsResponse,
    Tag, TagRun, UpdateRequest,
};
use serde_json::{Value, json};

use super::call::Call;
use super::json_list::{self, JsonItems};
use super::request_schema::{Member, RequestSchema};
use super::response_schema::{CHANGED, ResponseSchema};
use super::shared::seconds;
use super::table::{Answer, Operation, Parameter, ParameterKind};
use crate::services::Services;

const NEW: RequestSchema = RequestSchema::Record(&[
    Member::required("name", RequestSchema::Text),
    Member::optional("color", RequestSchema::Text),
    Member::optional("description", RequestSchema::Text),
]);

const CHANGES: RequestSchema = RequestSchema::Record(&[
    Member::optional("name", RequestSchema::Text),
    Member::optional("color", RequestSchema::Text),
    Member::optional("description", RequestSchema::Text),
    Member::optional("archived", RequestSchema::Bool),
]);

const TAG: ResponseSchema = ResponseSchema::Record(&[
    ("id", ResponseSchema::Text),
    ("name", ResponseSchema::Text),
    ("color", ResponseSchema::TextOrNull),
    ("description", ResponseSchema::TextOrNull),
    ("run_count", ResponseSchema::Int),
    ("archived", ResponseSchema::Bool),
]);

const TAGS: ResponseSchema = ResponseSchema::List(&TAG);

const RUNS: ResponseSchema =
    ResponseSchema::Record(&[("id", ResponseSchema::Text), ("runs", ResponseSchema::List(&RUN))]);

const RUN: ResponseSchema = ResponseSchema::Record(&[
    ("run_id", ResponseSchema::Text),
    ("name", ResponseSchema::Text),
    ("experiment", ResponseSchema::TextOrNull),
    ("creation_time", ResponseSchema::Number),
    ("end_time", ResponseSchema::NumberOrNull),
]);

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(Method::GET, "/tags", "List all tags", |s, call| Box::pin(list(s, call)))
            .answers(&TAGS),
        Operation::new(Method::GET, "/tags/search", "Search tags by a part of their name", |s, call| {
            Box::pin(list(s, call))
        })
        .query(&[Parameter::new("q", ParameterKind::Text, Some(""))])
        .answers(&TAGS),
        Operation::new(Method::POST, "/tags", "Create a tag", |s, call| Box::pin(create(s, call)))
            .json(&NEW)
            .answers(&CHANGED),
        Operation::new(Method::GET, "/tags/{id}", "Get one tag", |s, call| Box::pin(get(s, call)))
            .answers(&TAG),
        Operation::new(Method::PUT, "/tags/{id}", "Change a tag", |s, call| Box::pin(update(s, call)))
            .json(&CHANGES)
            .answers(&CHANGED),
        Operation::new(
            Method::DELETE,
            "/tags/{id}",
            "Delete a tag, and remove it from all runs",
            |s, call| Box::pin(delete(s, call)),
        )
        .answers(&ResponseSchema::Null),
        Operation::new(Method::GET, "/tags/{id}/runs", "List the runs with a tag", |s, call| {
            Box::pin(runs(s, call))
        })
        .answers(&RUNS),
    ]
}

fn show(tag: &Tag) -> Value {
    json!({
        "id": tag.id,
        "name": tag.name,
        "color": tag.color,
        "description": tag.description,
        "run_count": tag.run_count,
        "archived": tag.archived,
    })
}

async fn list(services: Arc<Services>, call: Call) -> Answer {
    let request = ListRequest { name_contains: call.text("q").unwrap_or_default().to_owned() };
    let messages = services.backend().tags().list(request).await?.into_inner();
    let write = |message: ListResponse, items: &mut JsonItems| {
        message.tags.iter().for_each(|tag| items.push(&show(tag)));
        Ok(())
    };
    json_list::answer("[", messages, write, "]").await
}

async fn create(services: Arc<Services>, call: Call) -> Answer {
    let text = |name| call.member(name).unwrap_or_default().to_owned();
    let request =
        CreateRequest { name: text("name"), color: text("color"), description: text("description") };
    let answer = services.backend().tags().create(request).await?.into_inner();
    Ok(Json(json!({"id": answer.tag.unwrap_or_default().id, "status": "OK"})).into_response())
}

async fn get(services: Arc<Services>, call: Call) -> Answer {
    let answer = services.backend().tags().get(GetRequest { id: call.path("id") }).await?;
    Ok(Json(show(&answer.into_inner().tag.unwrap_or_default())).into_response())
}

async fn update(services: Arc<Services>, call: Call) -> Answer {
    let text = |name| call.member(name).map(str::to_owned);
    let id = call.path("id");
    let request = UpdateRequest {
        id: id.clone(),
        name: text("name"),
        color: text("color"),
        description: text("description"),
        archived: call.json.get("archived").and_then(Value::as_bool),
    };
    services.backend().tags().update(request).await?;
    Ok(Json(json!({"id": id, "status": "OK"})).into_response())
}

async fn delete(services: Arc<Services>, call: Call) -> Answer {
    services.backend().tags().delete(DeleteRequest { id: call.path("id") }).await?;
    Ok(Json(Value::Null).into_response())
}

async fn runs(services: Arc<Services>, call: Call) -> Answer {
    let id = call.path("id");
    let request = ListRunsRequest { id: id.clone(), ..Default::default() };
    let messages = services.backend().tags().list_runs(request).await?.into_inner();
    let write = |message: ListRunsResponse, items: &mut JsonItems| {
        message.runs.iter().for_each(|run| items.push(&show_run(run)));
        Ok(())
    };
    let before = format!("{{\"id\":{},\"runs\":[", json!(id));
    json_list::answer(&before, messages, write, "]}").await
}

fn show_run(run: &TagRun) -> Value {
    json!({
        "run_id": run.run_id,
        "name": run.name,
        "experiment": run.experiment,
        "creation_time": seconds(run.created_us),
        "end_time": run.ended_us.map(seconds),
    })
}
