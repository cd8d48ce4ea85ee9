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
use super::form::{CHANGED, Form};
use super::json_list::{self, Items};
use super::shape::{Member, Shape};
use super::shared::seconds;
use super::table::{Answer, Kind, Operation, Parameter};
use crate::services::Services;

const NEW: Shape = Shape::Record(&[
    Member::required("name", Shape::Text),
    Member::optional("color", Shape::Text),
    Member::optional("description", Shape::Text),
]);

const CHANGES: Shape = Shape::Record(&[
    Member::optional("name", Shape::Text),
    Member::optional("color", Shape::Text),
    Member::optional("description", Shape::Text),
    Member::optional("archived", Shape::Bool),
]);

const TAG: Form = Form::Record(&[
    ("id", Form::Text),
    ("name", Form::Text),
    ("color", Form::TextOrNull),
    ("description", Form::TextOrNull),
    ("run_count", Form::Int),
    ("archived", Form::Bool),
]);

const TAGS: Form = Form::List(&TAG);

const RUNS: Form = Form::Record(&[("id", Form::Text), ("runs", Form::List(&RUN))]);

const RUN: Form = Form::Record(&[
    ("run_id", Form::Text),
    ("name", Form::Text),
    ("experiment", Form::TextOrNull),
    ("creation_time", Form::Number),
    ("end_time", Form::NumberOrNull),
]);

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(Method::GET, "/tags", "List all tags", |s, call| Box::pin(list(s, call)))
            .answers(&TAGS),
        Operation::new(Method::GET, "/tags/search", "Search tags by a part of their name", |s, call| {
            Box::pin(list(s, call))
        })
        .query(&[Parameter::new("q", Kind::Text, Some(""))])
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
        .answers(&Form::Null),
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
    let messages = services.backend().tags.clone().list(request).await?.into_inner();
    let write = |message: ListResponse, items: &mut Items| {
        message.tags.iter().for_each(|tag| items.push(&show(tag)));
        Ok(())
    };
    json_list::answer("[", messages, write, "]").await
}

async fn create(services: Arc<Services>, call: Call) -> Answer {
    let text = |name| call.member(name).unwrap_or_default().to_owned();
    let request =
        CreateRequest { name: text("name"), color: text("color"), description: text("description") };
    let answer = services.backend().tags.clone().create(request).await?.into_inner();
    Ok(Json(json!({"id": answer.tag.unwrap_or_default().id, "status": "OK"})).into_response())
}

async fn get(services: Arc<Services>, call: Call) -> Answer {
    let answer = services.backend().tags.clone().get(GetRequest { id: call.path("id") }).await?;
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
    services.backend().tags.clone().update(request).await?;
    Ok(Json(json!({"id": id, "status": "OK"})).into_response())
}

async fn delete(services: Arc<Services>, call: Call) -> Answer {
    services.backend().tags.clone().delete(DeleteRequest { id: call.path("id") }).await?;
    Ok(Json(Value::Null).into_response())
}

async fn runs(services: Arc<Services>, call: Call) -> Answer {
    let id = call.path("id");
    let request = ListRunsRequest { id: id.clone(), ..Default::default() };
    let messages = services.backend().tags.clone().list_runs(request).await?.into_inner();
    let write = |message: ListRunsResponse, items: &mut Items| {
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
