//! Edits of the series of a run: renames, and deletions of whole series or of steps.

use axum::Json;
use matyan_proto::common::v1::{SeriesKey, SeriesType, StepRange};
use matyan_proto::series::v1 as pb;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::answer::ChangedResource;
use super::call::Call;
use super::operation::{BasePath, Operation};
use super::shared::Id;
use crate::error::ApiResult;

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/runs/{id}/series/rename", "Rename a series of a run", rename).base(BasePath::Rest),
        Operation::post("/runs/{id}/series/delete", "Delete a series of a run, or some of its steps", delete)
            .base(BasePath::Rest),
    ]
}

/// The type of a series, as in `traces` of a run.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum EditedType {
    Metric,
    Images,
    Texts,
    Distributions,
    Audios,
    Figures,
    Htmls,
    PointClouds,
}

impl EditedType {
    fn to_api(self) -> i32 {
        let series_type = match self {
            Self::Metric => SeriesType::Metric,
            Self::Images => SeriesType::Images,
            Self::Texts => SeriesType::Texts,
            Self::Distributions => SeriesType::Distributions,
            Self::Audios => SeriesType::Audios,
            Self::Figures => SeriesType::Figures,
            Self::Htmls => SeriesType::Htmls,
            Self::PointClouds => SeriesType::PointClouds,
        };
        series_type.into()
    }
}

#[derive(Deserialize, JsonSchema)]
struct Rename {
    r#type: EditedType,
    name: String,
    #[serde(default)]
    context: Map<String, Value>,
    new_name: String,
    /// Absent: the context stays as it is.
    new_context: Option<Map<String, Value>>,
    /// At least 16 random bytes: a repeated request returns the outcome of the first one.
    #[serde(default)]
    request_id: String,
}

#[derive(Deserialize, JsonSchema)]
struct Deletion {
    r#type: EditedType,
    name: String,
    #[serde(default)]
    context: Map<String, Value>,
    /// The first step to delete; absent: from the start.
    start: Option<i64>,
    /// The step after the last one to delete; absent: to the end.
    stop: Option<i64>,
    /// As for a rename.
    #[serde(default)]
    request_id: String,
}

fn key(name: String, context: &Map<String, Value>) -> Option<SeriesKey> {
    let context = if context.is_empty() { String::new() } else { Value::Object(context.clone()).to_string() };
    Some(SeriesKey { name, context })
}

async fn rename(call: Call<Id, Json<Rename>>) -> ApiResult<Json<ChangedResource>> {
    let run_id = call.parameters.id;
    let Json(Rename { r#type, name, context, new_name, new_context, request_id }) = call.body;
    let request = pb::RenameRequest {
        run_id: run_id.clone(),
        r#type: r#type.to_api(),
        key: key(name, &context),
        new_key: key(new_name, new_context.as_ref().unwrap_or(&context)),
        request_id,
    };
    call.services.backend().series().rename(request).await?;
    Ok(ChangedResource::new(run_id))
}

async fn delete(call: Call<Id, Json<Deletion>>) -> ApiResult<Json<ChangedResource>> {
    let run_id = call.parameters.id;
    let Json(Deletion { r#type, name, context, start, stop, request_id }) = call.body;
    let r#type = r#type.to_api();
    let key = key(name, &context);
    let mut series = call.services.backend().series();
    if start.is_none() && stop.is_none() {
        series.delete(pb::DeleteRequest { run_id: run_id.clone(), r#type, key, request_id }).await?;
    } else {
        let steps = Some(StepRange { start, stop });
        let request = pb::DeleteStepsRequest { run_id: run_id.clone(), r#type, key, steps, request_id };
        series.delete_steps(request).await?;
    }
    Ok(ChangedResource::new(run_id))
}
