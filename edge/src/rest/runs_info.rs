//! A single run: all its data, and points of its metrics as JSON.

use axum::Json;
use matyan_proto::artifacts::v1 as artifacts;
use matyan_proto::common::v1::{SeriesKey, SeriesType};
use matyan_proto::runs::v1::{GetRequest, RunParts, SeriesInfo};
use matyan_proto::series::v1::ListRequest;
use matyan_value::json::JsonStyle;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::WithETag;
use super::call::{Call, Dialect};
use super::edit_condition::etag;
use super::json_list::JsonStream;
use super::metric_batch::{self, MetricPoints};
use super::operation::Operation;
use super::shared::{
    JsonObject, Props, SeriesByType, SeriesName, context_value, density, int, requested_types, step_range,
};
use super::values;
use crate::error::ApiResult;
use crate::services::Services;

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/runs/{id}/info", "Get everything about a run", info),
        Operation::post("/runs/{id}/metric/get-batch", "Points of metrics of one run", batch),
    ]
}

#[derive(Deserialize, JsonSchema)]
struct InfoParameters {
    id: String,
    #[serde(default)]
    skip_system: bool,
    #[serde(default)]
    sequence: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct RunInfo {
    params: JsonObject,
    traces: SeriesByType<Vec<Trace>>,
    #[schemars(with = "Props")]
    props: Option<Props>,
    artifacts: Vec<Artifact>,
}

/// A series of a run.
#[derive(Serialize, JsonSchema)]
struct Trace {
    #[schemars(with = "JsonObject")]
    context: Value,
    name: String,
    /// The last value of a metric. If it is infinite or NaN, this is null, or a string for the
    /// bundle of Aim.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("type" = ["number", "null", "string"]))]
    last_value: Option<Value>,
}

impl Trace {
    fn new(info: &SeriesInfo, series_type: SeriesType, style: JsonStyle) -> ApiResult<Self> {
        let is_metric = series_type == SeriesType::Metric;
        Ok(Trace {
            context: context_value(&info.context, style)?,
            name: info.name.clone(),
            last_value: is_metric.then(|| values::number(info.last.unwrap_or(0.0), style)),
        })
    }
}

#[derive(Serialize, JsonSchema)]
struct Artifact {
    name: String,
    path: String,
    uri: String,
}

impl From<artifacts::Artifact> for Artifact {
    fn from(artifact: artifacts::Artifact) -> Self {
        let artifacts::Artifact { path, uri, .. } = artifact;
        Artifact { name: path.rsplit('/').next().unwrap_or(&path).to_owned(), path, uri }
    }
}

#[derive(Deserialize, JsonSchema)]
struct BatchParameters {
    id: String,
    #[serde(default)]
    record_range: String,
    #[serde(default = "int::<50>")]
    record_density: i64,
}

async fn info(call: Call<InfoParameters>) -> ApiResult<WithETag<RunInfo>> {
    let InfoParameters { id, skip_system, sequence } = call.parameters;
    let types = requested_types(&sequence)?;
    let aim = call.dialect == Dialect::Aim;
    let style = if aim { JsonStyle::AIM } else { JsonStyle::STRICT };
    let parts = RunParts {
        props: true,
        params: true,
        system_params: !skip_system,
        series_types: types.iter().map(|it| (*it).into()).collect(),
        artifacts: true,
        note_count: aim,
        ..Default::default()
    };
    let request = GetRequest { run_id: id, parts: Some(parts) };
    let answer = call.services.backend().runs().get(request).await?.into_inner();
    let mut run = answer.run.unwrap_or_default();
    if run.more_series {
        run.series = all_series(&call.services, &run.run_id, &types).await?;
    }
    if run.more_artifacts {
        run.artifacts = all_artifacts(&call.services, &run.run_id).await?;
    }
    let traces = SeriesByType::new(&types, |series_type| {
        let of_type = run.series.iter().filter(|info| info.r#type == i32::from(series_type));
        of_type.map(|info| Trace::new(info, series_type, style)).collect()
    })?;
    let etag = run.props.as_ref().map(|props| etag(props.updated_us));
    let answer = Json(RunInfo {
        params: JsonObject(values::json(&run.params, style)?),
        traces,
        props: run.props.map(|props| Props::new(props, aim.then_some(run.note_count))),
        artifacts: run.artifacts.into_iter().map(Artifact::from).collect(),
    });
    Ok(WithETag { etag, answer })
}

/// Fetches all series of a run that has more than fit in one message.
async fn all_series(services: &Services, run_id: &str, types: &[SeriesType]) -> ApiResult<Vec<SeriesInfo>> {
    let types = types.iter().map(|it| (*it).into()).collect();
    let request = ListRequest { run_id: run_id.to_owned(), types, names: Vec::new(), typed_values: false };
    let mut messages = services.backend().series().list(request).await?.into_inner();
    let mut series = Vec::new();
    while let Some(message) = messages.message().await? {
        series.extend(message.series);
    }
    Ok(series)
}

/// Fetches all artifacts of a run that has more than fit in one message.
async fn all_artifacts(services: &Services, run_id: &str) -> ApiResult<Vec<artifacts::Artifact>> {
    let request = artifacts::ListRequest { run_id: run_id.to_owned() };
    let mut messages = services.backend().artifacts().list(request).await?.into_inner();
    let mut artifacts = Vec::new();
    while let Some(message) = messages.message().await? {
        artifacts.extend(message.artifacts);
    }
    Ok(artifacts)
}

async fn batch(
    call: Call<BatchParameters, Json<Vec<SeriesName>>>,
) -> ApiResult<JsonStream<Vec<MetricPoints>>> {
    let (BatchParameters { id, record_range, record_density }, Json(keys)) = (call.parameters, call.body);
    let (keys, steps) = (keys.into_iter().map(SeriesKey::from).collect(), step_range(&record_range)?);
    match density(record_density) {
        0 => metric_batch::all_points(&call.services, id, keys, steps).await,
        density => metric_batch::sampled_points(&call.services, id, keys, steps, density).await,
    }
}
