//! Tags and their runs.

use axum::Json;
use matyan_proto::tags::v1 as pb;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{ChangedResource, WithETag};
use super::call::{Call, NoParameters};
use super::edit_condition::{EditedId, etag};
use super::json_list::{self, Envelope, JsonStream};
use super::operation::Operation;
use super::shared::{Id, NamePart, seconds};
use crate::error::ApiResult;
use crate::services::Services;

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/tags", "List all tags", list),
        Operation::get("/tags/search", "Search tags by a part of their name", search),
        Operation::post("/tags", "Create a tag", create),
        Operation::get("/tags/{id}", "Get one tag", get),
        Operation::put("/tags/{id}", "Change a tag", update).fails(&["412"]),
        Operation::delete("/tags/{id}", "Delete a tag, and remove it from all runs", delete),
        Operation::get("/tags/{id}/runs", "List the runs with a tag", runs),
    ]
}

#[derive(Serialize, JsonSchema)]
struct Tag {
    id: String,
    name: String,
    color: String,
    description: String,
    run_count: u32,
    archived: bool,
}

impl From<pb::Tag> for Tag {
    fn from(tag: pb::Tag) -> Self {
        let pb::Tag { id, name, color, description, run_count, archived, .. } = tag;
        Tag { id, name, color, description, run_count, archived }
    }
}

#[derive(Deserialize, JsonSchema)]
struct NewTag {
    name: String,
    #[serde(default)]
    color: String,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize, JsonSchema)]
struct TagChanges {
    name: Option<String>,
    color: Option<String>,
    description: Option<String>,
    archived: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
struct TagRuns {
    id: String,
    runs: Vec<TagRun>,
}

impl Envelope for TagRuns {
    type Item = TagRun;
}

#[derive(Serialize, JsonSchema)]
struct TagRun {
    run_id: String,
    name: String,
    experiment: Option<String>,
    creation_time: f64,
    end_time: Option<f64>,
}

impl From<pb::TagRun> for TagRun {
    fn from(run: pb::TagRun) -> Self {
        TagRun {
            run_id: run.run_id,
            name: run.name,
            experiment: run.experiment,
            creation_time: seconds(run.created_us),
            end_time: run.ended_us.map(seconds),
        }
    }
}

async fn list(call: Call) -> ApiResult<JsonStream<Vec<Tag>>> {
    matches(&call.services, String::new()).await
}

async fn search(call: Call<NamePart>) -> ApiResult<JsonStream<Vec<Tag>>> {
    matches(&call.services, call.parameters.q).await
}

async fn matches(services: &Services, name_contains: String) -> ApiResult<JsonStream<Vec<Tag>>> {
    let messages = services.backend().tags().list(pb::ListRequest { name_contains }).await?.into_inner();
    json_list::answer(Vec::new(), messages, |message| Ok(message.tags.into_iter().map(Tag::from).collect()))
        .await
}

async fn create(call: Call<NoParameters, Json<NewTag>>) -> ApiResult<Json<ChangedResource>> {
    let Json(NewTag { name, color, description }) = call.body;
    let request = pb::CreateRequest { name, color, description };
    let answer = call.services.backend().tags().create(request).await?.into_inner();
    Ok(ChangedResource::new(answer.tag.unwrap_or_default().id))
}

async fn get(call: Call<Id>) -> ApiResult<WithETag<Tag>> {
    let answer = call.services.backend().tags().get(pb::GetRequest { id: call.parameters.id }).await?;
    let tag = answer.into_inner().tag.unwrap_or_default();
    Ok(WithETag { etag: tag.updated_us.map(etag), answer: Json(tag.into()) })
}

async fn update(call: Call<EditedId, Json<TagChanges>>) -> ApiResult<WithETag<ChangedResource>> {
    let if_updated_us = call.parameters.condition.updated_us()?;
    let id = call.parameters.id;
    let Json(TagChanges { name, color, description, archived }) = call.body;
    let request = pb::UpdateRequest { id: id.clone(), name, color, description, archived, if_updated_us };
    let answer = call.services.backend().tags().update(request).await?.into_inner();
    let etag = answer.tag.and_then(|tag| tag.updated_us).map(etag);
    Ok(WithETag { etag, answer: ChangedResource::new(id) })
}

async fn delete(call: Call<Id>) -> ApiResult<Json<()>> {
    call.services.backend().tags().delete(pb::DeleteRequest { id: call.parameters.id }).await?;
    Ok(Json(()))
}

async fn runs(call: Call<Id>) -> ApiResult<JsonStream<TagRuns>> {
    let id = call.parameters.id;
    let request = pb::ListRunsRequest { id: id.clone(), ..Default::default() };
    let messages = call.services.backend().tags().list_runs(request).await?.into_inner();
    json_list::answer(TagRuns { id, runs: Vec::new() }, messages, |message| {
        Ok(message.runs.into_iter().map(TagRun::from).collect())
    })
    .await
}
