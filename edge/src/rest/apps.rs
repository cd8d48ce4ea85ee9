//! Apps: the state of an explorer of the UI, as the UI stored it.

use axum::Json;
use bytes::Bytes;
use http::StatusCode;
use matyan_proto::apps::v1 as pb;
use matyan_value::json::{self, JsonStyle};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{Creation, Deletion, WithETag};
use super::call::{Call, NoParameters};
use super::edit_condition::EditedId;
use super::json_list::{self, JsonStream};
use super::operation::Operation;
use super::shared::{Id, JsonObject, iso};
use super::values;
use crate::error::{ApiError, ApiResult};

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/apps", "List all apps", list),
        Operation::post("/apps", "Create a new app", create),
        Operation::get("/apps/{id}", "Get one app", get),
        Operation::put("/apps/{id}", "Change a app", update).fails(&["412"]),
        Operation::delete("/apps/{id}", "Delete a app", delete),
    ]
}

#[derive(Serialize, JsonSchema)]
struct App {
    id: String,
    r#type: String,
    updated_at: String,
    created_at: String,
    state: JsonObject,
}

impl TryFrom<pb::App> for App {
    type Error = ApiError;

    fn try_from(app: pb::App) -> ApiResult<Self> {
        Ok(App {
            id: app.id,
            r#type: app.r#type,
            updated_at: iso(app.updated_us),
            created_at: iso(app.created_us),
            state: JsonObject(values::json(&app.state, JsonStyle::STRICT)?),
        })
    }
}

#[derive(Deserialize, JsonSchema)]
struct NewApp {
    r#type: String,
    state: JsonObject,
    /// At least 16 random bytes, such as a UUID: a repeated request returns what the first one created.
    #[serde(default)]
    request_id: String,
}

#[derive(Deserialize, JsonSchema)]
struct AppChanges {
    r#type: Option<String>,
    state: Option<JsonObject>,
}

/// Encodes a state from its text, because parsing it into a tree would lose the types of numbers.
fn encode_state(state: &JsonObject) -> ApiResult<Bytes> {
    json::to_cbor(state.0.get())
        .map(Bytes::from)
        .map_err(|error| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, format!("body.state: {error}")))
}

async fn list(call: Call) -> ApiResult<JsonStream<Vec<App>>> {
    let messages = call.services.backend().apps().list(pb::ListRequest::default()).await?.into_inner();
    json_list::answer(Vec::new(), messages, |message| message.apps.into_iter().map(App::try_from).collect())
        .await
}

async fn create(call: Call<NoParameters, Json<NewApp>>) -> ApiResult<Creation<App>> {
    let Json(NewApp { r#type, state, request_id }) = call.body;
    let request = pb::CreateRequest { r#type, state: encode_state(&state)?, request_id };
    let answer = call.services.backend().apps().create(request).await?.into_inner();
    Ok(Creation(answer.app.unwrap_or_default().try_into()?))
}

async fn get(call: Call<Id>) -> ApiResult<WithETag<App>> {
    let answer = call.services.backend().apps().get(pb::GetRequest { id: call.parameters.id }).await?;
    let app = answer.into_inner().app.unwrap_or_default();
    Ok(WithETag::of_version(app.updated_us, Json(app.try_into()?)))
}

async fn update(call: Call<EditedId, Json<AppChanges>>) -> ApiResult<WithETag<App>> {
    let if_updated_us = call.parameters.condition.updated_us()?;
    let Json(AppChanges { r#type, state }) = call.body;
    let state = state.as_ref().map(encode_state).transpose()?;
    let request = pb::UpdateRequest { id: call.parameters.id, r#type, state, if_updated_us };
    let answer = call.services.backend().apps().update(request).await?.into_inner();
    let app = answer.app.unwrap_or_default();
    Ok(WithETag::of_version(app.updated_us, Json(app.try_into()?)))
}

async fn delete(call: Call<Id>) -> ApiResult<Deletion> {
    call.services.backend().apps().delete(pb::DeleteRequest { id: call.parameters.id }).await?;
    Ok(Deletion(call.dialect))
}
