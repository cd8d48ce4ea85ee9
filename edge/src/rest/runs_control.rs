//! Changes to runs: properties, deletion, batches, tags.

use axum::Json;
use matyan_proto::common::v1::Access;
use matyan_proto::limits::RUNS_PER_CALL;
use matyan_proto::runs::v1 as pb;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{Acknowledgment, ChangedResource, NoContent, WithETag};
use super::call::{Call, NoParameters};
use super::edit_condition::EditedId;
use super::operation::Operation;
use super::shared::{Id, yes};
use crate::error::ApiResult;

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::put("/runs/{id}", "Set properties of a run", update).fails(&["412"]),
        Operation::delete("/runs/{id}", "Delete a run", delete),
        Operation::post("/runs/delete-batch", "Delete runs", delete_batch),
        Operation::post("/runs/archive-batch", "Archive or unarchive runs", archive_batch),
        Operation::post("/runs/finish-batch", "Finish active runs", finish_batch),
        Operation::post(
            "/runs/{id}/clear-tombstone",
            "Allow the id of a deleted run to be reused",
            clear_tombstone,
        )
        .access(Access::Manage),
        Operation::post("/runs/{id}/tags/new", "Add a tag to a run", add_tag),
        Operation::delete("/runs/{id}/tags/{tag_id}", "Remove a tag from a run", remove_tag),
    ]
}

#[derive(Deserialize, JsonSchema)]
struct RunChanges {
    name: Option<String>,
    description: Option<String>,
    archived: Option<bool>,
    active: Option<bool>,
    experiment: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
struct ArchiveParameters {
    #[serde(default = "yes")]
    archive: bool,
}

#[derive(Deserialize, JsonSchema)]
struct TagName {
    tag_name: String,
}

#[derive(Serialize, JsonSchema)]
struct AddedTag {
    id: String,
    tag_id: String,
    status: &'static str,
}

#[derive(Deserialize, JsonSchema)]
struct RunTagPath {
    id: String,
    tag_id: String,
}

#[derive(Serialize, JsonSchema)]
struct RemovedTag {
    id: String,
    removed: bool,
    status: &'static str,
}

async fn update(call: Call<EditedId, Json<RunChanges>>) -> ApiResult<WithETag<ChangedResource>> {
    let if_updated_us = call.parameters.condition.updated_us()?;
    let run_id = call.parameters.id;
    let Json(RunChanges { name, description, archived, active, experiment }) = call.body;
    let request = pb::UpdateRequest {
        run_id: run_id.clone(),
        name,
        description,
        archived,
        active,
        experiment,
        if_updated_us,
    };
    let answer = call.services.backend().runs().update(request).await?.into_inner();
    Ok(WithETag::of_version(answer.updated_us, ChangedResource::new(run_id)))
}

async fn delete(call: Call<Id>) -> ApiResult<Json<ChangedResource>> {
    let run_id = call.parameters.id;
    call.services.backend().runs().delete(pb::DeleteRequest { run_id: run_id.clone() }).await?;
    Ok(ChangedResource::new(run_id))
}

/// Answer to a change of many runs.
#[derive(Serialize, JsonSchema)]
struct ChangedRuns {
    status: &'static str,
    /// Runs that cannot be read, and were left as they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damaged: Vec<String>,
}

/// Run ids of a body, in batches of the maximum size of a call.
fn batches(run_ids: &[String]) -> impl Iterator<Item = Vec<String>> {
    run_ids.chunks(RUNS_PER_CALL).map(<[String]>::to_vec)
}

async fn delete_batch(call: Call<NoParameters, Json<Vec<String>>>) -> ApiResult<Json<Acknowledgment>> {
    for run_ids in batches(&call.body) {
        call.services.backend().runs().delete_batch(pb::DeleteBatchRequest { run_ids }).await?;
    }
    Ok(Acknowledgment::new())
}

async fn archive_batch(call: Call<ArchiveParameters, Json<Vec<String>>>) -> ApiResult<Json<ChangedRuns>> {
    let archived = call.parameters.archive;
    let mut damaged = Vec::new();
    for run_ids in batches(&call.body) {
        let answer = call
            .services
            .backend()
            .runs()
            .archive_batch(pb::ArchiveBatchRequest { run_ids, archived })
            .await?;
        damaged.extend(answer.into_inner().damaged);
    }
    Ok(Json(ChangedRuns { status: "OK", damaged }))
}

async fn finish_batch(call: Call<NoParameters, Json<Vec<String>>>) -> ApiResult<Json<ChangedRuns>> {
    let mut damaged = Vec::new();
    for run_ids in batches(&call.body) {
        let answer = call.services.backend().runs().finish_batch(pb::FinishBatchRequest { run_ids }).await?;
        damaged.extend(answer.into_inner().damaged);
    }
    Ok(Json(ChangedRuns { status: "OK", damaged }))
}

async fn clear_tombstone(call: Call<Id>) -> ApiResult<NoContent> {
    let request = pb::ClearTombstoneRequest { run_id: call.parameters.id };
    call.services.backend().runs().clear_tombstone(request).await?;
    Ok(NoContent)
}

async fn add_tag(call: Call<Id, Json<TagName>>) -> ApiResult<Json<AddedTag>> {
    let run_id = call.parameters.id;
    let Json(TagName { tag_name: name }) = call.body;
    let request = pb::AddTagRequest { run_id: run_id.clone(), name };
    let answer = call.services.backend().runs().add_tag(request).await?.into_inner();
    Ok(Json(AddedTag { id: run_id, tag_id: answer.tag_id, status: "OK" }))
}

async fn remove_tag(call: Call<RunTagPath>) -> ApiResult<Json<RemovedTag>> {
    let RunTagPath { id, tag_id } = call.parameters;
    let request = pb::RemoveTagRequest { run_id: id.clone(), tag_id };
    let answer = call.services.backend().runs().remove_tag(request).await?.into_inner();
    Ok(Json(RemovedTag { id, removed: answer.removed, status: "OK" }))
}
