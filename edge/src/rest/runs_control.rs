//! Changes to runs: properties, deletion, batches, tags.

use std::sync::Arc;

use axum::Json;
use axum::response::IntoResponse;
use http::{Method, StatusCode};
use matyan_proto::limits::RUNS_PER_CALL;
use matyan_proto::runs::v1::{
    AddTagRequest, ArchiveBatchRequest, ClearTombstoneRequest, DeleteBatchRequest, DeleteRequest,
    FinishBatchRequest, RemoveTagRequest, UpdateRequest,
};
use serde_json::{Value, json};

use super::call::Call;
use super::request_schema::{Member, RequestSchema};
use super::response_schema::{CHANGED, DONE, ResponseSchema};
use super::shared::texts;
use super::table::{Answer, Operation, Output, Parameter, ParameterKind};
use crate::services::Services;

const RUN_IDS: RequestSchema = RequestSchema::List(&RequestSchema::Text);

const CHANGES: RequestSchema = RequestSchema::Record(&[
    Member::optional("name", RequestSchema::Text),
    Member::optional("description", RequestSchema::Text),
    Member::optional("archived", RequestSchema::Bool),
    Member::optional("active", RequestSchema::Bool),
    Member::optional("experiment", RequestSchema::Text),
]);

const TAGGED: ResponseSchema = ResponseSchema::Record(&[
    ("id", ResponseSchema::Text),
    ("tag_id", ResponseSchema::Text),
    ("status", ResponseSchema::Text),
]);

const UNTAGGED: ResponseSchema = ResponseSchema::Record(&[
    ("id", ResponseSchema::Text),
    ("removed", ResponseSchema::Bool),
    ("status", ResponseSchema::Text),
]);

const TAG: RequestSchema = RequestSchema::Record(&[Member::required("tag_name", RequestSchema::Text)]);

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(Method::PUT, "/runs/{id}", "Set properties of a run", |services, call| {
            Box::pin(update(services, call))
        })
        .json(&CHANGES)
        .answers(&CHANGED),
        Operation::new(Method::DELETE, "/runs/{id}", "Delete a run", |services, call| {
            Box::pin(delete(services, call))
        })
        .answers(&CHANGED),
        Operation::new(Method::POST, "/runs/delete-batch", "Delete runs", |services, call| {
            Box::pin(delete_batch(services, call))
        })
        .json(&RUN_IDS)
        .answers(&DONE),
        Operation::new(Method::POST, "/runs/archive-batch", "Archive or unarchive runs", |services, call| {
            Box::pin(archive_batch(services, call))
        })
        .query(&[Parameter::new("archive", ParameterKind::Bool, Some("true"))])
        .json(&RUN_IDS)
        .answers(&DONE),
        Operation::new(Method::POST, "/runs/finish-batch", "Finish active runs", |services, call| {
            Box::pin(finish_batch(services, call))
        })
        .json(&RUN_IDS)
        .answers(&DONE),
        Operation::new(
            Method::POST,
            "/runs/{id}/clear-tombstone",
            "Allow the id of a deleted run to be reused",
            |services, call| Box::pin(clear_tombstone(services, call)),
        )
        .success(204)
        .output(Output::Nothing),
        Operation::new(Method::POST, "/runs/{id}/tags/new", "Add a tag to a run", |services, call| {
            Box::pin(add_tag(services, call))
        })
        .json(&TAG)
        .answers(&TAGGED),
        Operation::new(
            Method::DELETE,
            "/runs/{id}/tags/{tag_id}",
            "Remove a tag from a run",
            |services, call| Box::pin(remove_tag(services, call)),
        )
        .answers(&UNTAGGED),
    ]
}

async fn update(services: Arc<Services>, call: Call) -> Answer {
    let run_id = call.path("id");
    let text = |name| call.member(name).map(str::to_owned);
    let flag = |name: &str| call.json.get(name).and_then(Value::as_bool);
    let request = UpdateRequest {
        run_id: run_id.clone(),
        name: text("name"),
        description: text("description"),
        archived: flag("archived"),
        active: flag("active"),
        experiment: text("experiment"),
    };
    services.backend().runs().update(request).await?;
    Ok(Json(json!({"id": run_id, "status": "OK"})).into_response())
}

async fn delete(services: Arc<Services>, call: Call) -> Answer {
    let run_id = call.path("id");
    services.backend().runs().delete(DeleteRequest { run_id: run_id.clone() }).await?;
    Ok(Json(json!({"id": run_id, "status": "OK"})).into_response())
}

/// Run ids of a body, in batches of the maximum size of a call.
fn batches(call: &Call) -> Vec<Vec<String>> {
    texts(&call.json).chunks(RUNS_PER_CALL).map(<[String]>::to_vec).collect()
}

fn ok() -> Answer {
    Ok(Json(json!({"status": "OK"})).into_response())
}

async fn delete_batch(services: Arc<Services>, call: Call) -> Answer {
    for run_ids in batches(&call) {
        services.backend().runs().delete_batch(DeleteBatchRequest { run_ids }).await?;
    }
    ok()
}

async fn archive_batch(services: Arc<Services>, call: Call) -> Answer {
    let archived = call.bool("archive");
    for run_ids in batches(&call) {
        services.backend().runs().archive_batch(ArchiveBatchRequest { run_ids, archived }).await?;
    }
    ok()
}

async fn finish_batch(services: Arc<Services>, call: Call) -> Answer {
    for run_ids in batches(&call) {
        services.backend().runs().finish_batch(FinishBatchRequest { run_ids }).await?;
    }
    ok()
}

async fn clear_tombstone(services: Arc<Services>, call: Call) -> Answer {
    let request = ClearTombstoneRequest { run_id: call.path("id") };
    services.backend().runs().clear_tombstone(request).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn add_tag(services: Arc<Services>, call: Call) -> Answer {
    let run_id = call.path("id");
    let name = call.member("tag_name").unwrap_or_default().to_owned();
    let request = AddTagRequest { run_id: run_id.clone(), name };
    let answer = services.backend().runs().add_tag(request).await?.into_inner();
    Ok(Json(json!({"id": run_id, "tag_id": answer.tag_id, "status": "OK"})).into_response())
}

async fn remove_tag(services: Arc<Services>, call: Call) -> Answer {
    let run_id = call.path("id");
    let request = RemoveTagRequest { run_id: run_id.clone(), tag_id: call.path("tag_id") };
    let answer = services.backend().runs().remove_tag(request).await?.into_inner();
    Ok(Json(json!({"id": run_id, "removed": answer.removed, "status": "OK"})).into_response())
}
