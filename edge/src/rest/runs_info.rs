//! A single run: all its data, and points of its metrics as JSON.

use axum::Json;
use matyan_proto::common::v1::{Access, SeriesKey, SeriesType};
use matyan_proto::runs::v1::{GetRequest, RunParts};
use matyan_value::json::JsonStyle;
use schemars::JsonSchema;
use serde::Deserialize;

use super::call::{Call, Dialect};
use super::json_list::JsonStream;
use super::metric_batch::{self, MetricPoints};
use super::operation::Operation;
use super::run_info::{self, RunInfoAnswer};
use super::shared::{SeriesName, density, int, later_types, requested_types, step_range};
use crate::error::ApiResult;

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/runs/{id}/info", "Get everything about a run", info),
        Operation::post("/runs/{id}/metric/get-batch", "Points of metrics of one run", batch)
            .access(Access::Read),
    ]
}

#[derive(Deserialize, JsonSchema)]
struct InfoParameters {
    id: String,
    #[serde(default)]
    skip_system: bool,
    #[serde(default)]
    sequence: Vec<String>,
    /// Write numbers that JSON does not have as the bare names `NaN`, `Infinity` and `-Infinity`, which Python
    /// reads, instead of null.
    #[serde(default)]
    bare_numbers: bool,
}

#[derive(Deserialize, JsonSchema)]
struct BatchParameters {
    id: String,
    #[serde(default)]
    record_range: String,
    #[serde(default = "int::<50>")]
    record_density: i64,
}

async fn info(call: Call<InfoParameters>) -> ApiResult<RunInfoAnswer> {
    let InfoParameters { id, skip_system, sequence, bare_numbers } = call.parameters;
    let style = match call.dialect {
        Dialect::Aim => JsonStyle::AIM,
        Dialect::Matyan if bare_numbers => JsonStyle::BARE,
        Dialect::Matyan => JsonStyle::STRICT,
    };
    let has_note_count = call.dialect == Dialect::Aim;
    let mut types = requested_types(&sequence)?;
    let later: Vec<_> = later_types().filter(|_| sequence.is_empty()).collect();
    let parts = RunParts {
        props: true,
        params: true,
        system_params: !skip_system,
        series_types: types.iter().chain(&later).map(|it| (*it).into()).collect(),
        artifacts: true,
        note_count: has_note_count,
        ..Default::default()
    };
    let request = GetRequest { run_id: id, parts: Some(parts) };
    let answer = call.services.backend().runs().get(request).await?.into_inner();
    let run = answer.run.unwrap_or_default();
    // Older clients get only the types that they know, unless the run has series of other types.
    let has = |of: SeriesType| run.more_series || run.series.iter().any(|info| info.r#type == i32::from(of));
    types.extend(later.into_iter().filter(|of| has(*of)));
    let notes = has_note_count.then_some(run.note_count);
    run_info::answer(&call.services, run, notes, types, style).await
}

async fn batch(
    call: Call<BatchParameters, Json<Vec<SeriesName>>>,
) -> ApiResult<JsonStream<Vec<MetricPoints>>> {
    let BatchParameters { id, record_range, record_density } = call.parameters;
    let Json(keys) = call.body;
    let keys = keys.into_iter().map(SeriesKey::from).collect();
    let steps = step_range(&record_range)?;
    match density(record_density) {
        0 => metric_batch::all_points(&call.services, id, keys, steps).await,
        density => metric_batch::sampled_points(&call.services, id, keys, steps, density).await,
    }
}
