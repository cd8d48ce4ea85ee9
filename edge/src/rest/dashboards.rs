//! Dashboards, in which the UI stores its bookmarks.

use axum::Json;
use matyan_proto::dashboards::v1 as pb;
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
        Operation::get("/dashboards", "List all dashboards", list),
        Operation::post("/dashboards", "Create a new dashboard", create),
        Operation::get("/dashboards/{id}", "Get one dashboard", get),
        Operation::put("/dashboards/{id}", "Change a dashboard", update).fails(&["412"]),
        Operation::delete("/dashboards/{id}", "Delete a dashboard", delete),
    ]
}

#[derive(Serialize, JsonSchema)]
struct Dashboard {
    id: String,
    name: String,
    description: String,
    app_id: Option<String>,
    app_type: Option<String>,
    updated_at: String,
    created_at: String,
}

impl From<pb::Dashboard> for Dashboard {
    fn from(dashboard: pb::Dashboard) -> Self {
        Dashboard {
            id: dashboard.id,
            name: dashboard.name,
            description: dashboard.description,
            app_id: Some(dashboard.app_id),
            app_type: Some(dashboard.app_type).filter(|it| !it.is_empty()),
            updated_at: iso(dashboard.updated_us),
            created_at: iso(dashboard.created_us),
        }
    }
}

#[derive(Deserialize, JsonSchema)]
struct NewDashboard {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    app_id: String,
    /// At least 16 random bytes, such as a UUID: a repeated request returns what the first one created.
    #[serde(default)]
    request_id: String,
}

#[derive(Deserialize, JsonSchema)]
struct DashboardChanges {
    name: Option<String>,
    description: Option<String>,
}

async fn list(call: Call) -> ApiResult<JsonStream<Vec<Dashboard>>> {
    let messages = call.services.backend().dashboards().list(pb::ListRequest {}).await?.into_inner();
    json_list::answer(Vec::new(), messages, |message| {
        Ok(message.dashboards.into_iter().map(Dashboard::from).collect())
    })
    .await
}

async fn create(call: Call<NoParameters, Json<NewDashboard>>) -> ApiResult<Creation<Dashboard>> {
    let Json(NewDashboard { name, description, app_id, request_id }) = call.body;
    let request = pb::CreateRequest { name, description, app_id, request_id };
    let answer = call.services.backend().dashboards().create(request).await?.into_inner();
    Ok(Creation(answer.dashboard.unwrap_or_default().into()))
}

async fn get(call: Call<Id>) -> ApiResult<WithETag<Dashboard>> {
    let answer = call.services.backend().dashboards().get(pb::GetRequest { id: call.parameters.id }).await?;
    let dashboard = answer.into_inner().dashboard.unwrap_or_default();
    Ok(WithETag::of_version(dashboard.updated_us, Json(dashboard.into())))
}

async fn update(call: Call<EditedId, Json<DashboardChanges>>) -> ApiResult<WithETag<Dashboard>> {
    let if_updated_us = call.parameters.condition.updated_us()?;
    let Json(DashboardChanges { name, description }) = call.body;
    let request = pb::UpdateRequest { id: call.parameters.id, name, description, if_updated_us };
    let answer = call.services.backend().dashboards().update(request).await?.into_inner();
    let dashboard = answer.dashboard.unwrap_or_default();
    Ok(WithETag::of_version(dashboard.updated_us, Json(dashboard.into())))
}

async fn delete(call: Call<Id>) -> ApiResult<Deletion> {
    call.services.backend().dashboards().delete(pb::DeleteRequest { id: call.parameters.id }).await?;
    Ok(Deletion(call.dialect))
}
