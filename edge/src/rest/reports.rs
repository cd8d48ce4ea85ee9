//! Reports, which the UI edits and stores.

use axum::Json;
use matyan_proto::reports::v1 as pb;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{Creation, Deletion, WithETag};
use super::call::{Call, NoParameters};
use super::edit_condition::EditedId;
use super::json_list::{self, JsonStream};
use super::operation::Operation;
use super::shared::{Id, iso};
use crate::error::ApiResult;

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/reports", "List all reports", list),
        Operation::post("/reports", "Create a new report", create),
        Operation::get("/reports/{id}", "Get one report", get),
        Operation::put("/reports/{id}", "Change a report", update).fails(&["412"]),
        Operation::delete("/reports/{id}", "Delete a report", delete),
    ]
}

#[derive(Serialize, JsonSchema)]
struct Report {
    id: String,
    name: String,
    code: String,
    description: String,
    updated_at: String,
    created_at: String,
}

impl From<pb::Report> for Report {
    fn from(report: pb::Report) -> Self {
        Report {
            id: report.id,
            name: report.name,
            code: report.code,
            description: report.description,
            updated_at: iso(report.updated_us),
            created_at: iso(report.created_us),
        }
    }
}

#[derive(Deserialize, JsonSchema)]
struct NewReport {
    name: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    description: String,
    /// At least 16 random bytes, such as a UUID: a repeated request returns what the first one created.
    #[serde(default)]
    request_id: String,
}

#[derive(Deserialize, JsonSchema)]
struct ReportChanges {
    name: Option<String>,
    code: Option<String>,
    description: Option<String>,
}

async fn list(call: Call) -> ApiResult<JsonStream<Vec<Report>>> {
    let messages = call.services.backend().reports().list(pb::ListRequest {}).await?.into_inner();
    json_list::answer(Vec::new(), messages, |message| {
        Ok(message.reports.into_iter().map(Report::from).collect())
    })
    .await
}

async fn create(call: Call<NoParameters, Json<NewReport>>) -> ApiResult<Creation<Report>> {
    let Json(NewReport { name, code, description, request_id }) = call.body;
    let request = pb::CreateRequest { name, code, description, request_id };
    let answer = call.services.backend().reports().create(request).await?.into_inner();
    Ok(Creation(answer.report.unwrap_or_default().into()))
}

async fn get(call: Call<Id>) -> ApiResult<WithETag<Report>> {
    let answer = call.services.backend().reports().get(pb::GetRequest { id: call.parameters.id }).await?;
    let report = answer.into_inner().report.unwrap_or_default();
    Ok(WithETag::of_version(report.updated_us, Json(report.into())))
}

async fn update(call: Call<EditedId, Json<ReportChanges>>) -> ApiResult<WithETag<Report>> {
    let if_updated_us = call.parameters.condition.updated_us()?;
    let Json(ReportChanges { name, code, description }) = call.body;
    let request = pb::UpdateRequest { id: call.parameters.id, name, code, description, if_updated_us };
    let answer = call.services.backend().reports().update(request).await?.into_inner();
    let report = answer.report.unwrap_or_default();
    Ok(WithETag::of_version(report.updated_us, Json(report.into())))
}

async fn delete(call: Call<Id>) -> ApiResult<Deletion> {
    call.services.backend().reports().delete(pb::DeleteRequest { id: call.parameters.id }).await?;
    Ok(Deletion(call.dialect))
}
