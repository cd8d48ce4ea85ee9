//! A single run: all its data, and points of its metrics as JSON.

use std::sync::Arc;

use axum::Json;
use axum::response::IntoResponse;
use http::Method;
use matyan_proto::artifacts::{self, v1::Artifact};
use matyan_proto::common::v1::SeriesType;
use matyan_proto::runs::v1::{GetRequest, Run, RunParts, SeriesInfo};
use matyan_proto::series::v1::ListRequest;
use matyan_value::json::JsonStyle;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::call::{Call, Dialect};
use super::metric_batch;
use super::response_schema::ResponseSchema;
use super::shared::{PROPS, Props, SERIES_KEYS, TYPES, density, requested_types, series_keys, step_range};
use super::table::{Answer, Operation, Parameter, ParameterKind};
use super::values;
use crate::error::ApiError;
use crate::services::Services;

const INFO: ResponseSchema = ResponseSchema::Record(&[
    ("params", ResponseSchema::AnyObject),
    ("traces", ResponseSchema::Map(&ResponseSchema::List(&TRACE))),
    ("props", PROPS),
    ("artifacts", ResponseSchema::List(&ARTIFACT)),
]);

const TRACE: ResponseSchema = ResponseSchema::Record(&[
    ("context", ResponseSchema::AnyObject),
    ("name", ResponseSchema::Text),
    ("last_value", ResponseSchema::Optional(&ResponseSchema::AnyNumber)),
]);

const ARTIFACT: ResponseSchema = ResponseSchema::Record(&[
    ("name", ResponseSchema::Text),
    ("path", ResponseSchema::Text),
    ("uri", ResponseSchema::Text),
]);

const POINTS: ResponseSchema = ResponseSchema::List(&ResponseSchema::Record(&[
    ("name", ResponseSchema::Text),
    ("context", ResponseSchema::AnyObject),
    ("iters", ResponseSchema::List(&ResponseSchema::Int)),
    ("values", ResponseSchema::List(&ResponseSchema::NumberOrNull)),
]));

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(Method::GET, "/runs/{id}/info", "Get everything about a run", |services, call| {
            Box::pin(info(services, call))
        })
        .query(&[
            Parameter::new("skip_system", ParameterKind::Bool, Some("false")),
            Parameter::new("sequence", ParameterKind::Texts, None),
        ])
        .answers(&INFO),
        Operation::new(
            Method::POST,
            "/runs/{id}/metric/get-batch",
            "Points of metrics of one run",
            |services, call| Box::pin(batch(services, call)),
        )
        .query(&[
            Parameter::new("record_range", ParameterKind::Text, Some("")),
            Parameter::new("record_density", ParameterKind::Int, Some("50")),
        ])
        .json(&SERIES_KEYS)
        .answers(&POINTS),
    ]
}

#[derive(Serialize)]
struct Info<'a> {
    params: Box<RawValue>,
    traces: Map<String, Value>,
    props: Option<Props<'a>>,
    artifacts: Vec<Value>,
}

async fn info(services: Arc<Services>, call: Call) -> Answer {
    let types = requested_types(call.texts("sequence"))?;
    let aim = call.dialect == Dialect::Aim;
    let style = if aim { JsonStyle::AIM } else { JsonStyle::STRICT };
    let parts = RunParts {
        props: true,
        params: true,
        system_params: !call.bool("skip_system"),
        series_types: types.iter().map(|it| (*it).into()).collect(),
        artifacts: true,
        note_count: aim,
        ..Default::default()
    };
    let request = GetRequest { run_id: call.path("id"), parts: Some(parts) };
    let answer = services.backend().runs().get(request).await?.into_inner();
    let mut run = answer.run.unwrap_or_default();
    if run.more_series {
        run.series = all_series(&services, &run.run_id, &types).await?;
    }
    if run.more_artifacts {
        run.artifacts = all_artifacts(&services, &run.run_id).await?;
    }
    let info = Info {
        params: values::json(&run.params, style)?,
        traces: traces(&run, &types, style)?,
        props: run.props.as_ref().map(|props| Props::new(props, aim.then_some(run.note_count))),
        artifacts: run.artifacts.iter().map(|it| artifact(&it.path, &it.uri)).collect(),
    };
    Ok(Json(info).into_response())
}

/// Fetches all series of a run that has more than fit in one message.
async fn all_series(
    services: &Services,
    run_id: &str,
    types: &[SeriesType],
) -> Result<Vec<SeriesInfo>, ApiError> {
    let types = types.iter().map(|it| (*it).into()).collect();
    let request = ListRequest { run_id: run_id.to_owned(), types, names: Vec::new() };
    let mut messages = services.backend().series().list(request).await?.into_inner();
    let mut series = Vec::new();
    while let Some(message) = messages.message().await? {
        series.extend(message.series);
    }
    Ok(series)
}

/// Fetches all artifacts of a run that has more than fit in one message.
async fn all_artifacts(services: &Services, run_id: &str) -> Result<Vec<Artifact>, ApiError> {
    let request = artifacts::v1::ListRequest { run_id: run_id.to_owned() };
    let mut messages = services.backend().artifacts().list(request).await?.into_inner();
    let mut artifacts = Vec::new();
    while let Some(message) = messages.message().await? {
        artifacts.extend(message.artifacts);
    }
    Ok(artifacts)
}

fn artifact(path: &str, uri: &str) -> Value {
    let name = path.rsplit('/').next().unwrap_or(path);
    json!({"name": name, "path": path, "uri": uri})
}

fn traces(run: &Run, types: &[SeriesType], style: JsonStyle) -> Result<Map<String, Value>, ApiError> {
    let mut traces = Map::new();
    for (series_type, name) in TYPES.iter().filter(|(series_type, _)| types.contains(series_type)) {
        let of_type = run.series.iter().filter(|info| info.r#type == i32::from(*series_type));
        let list = of_type.map(|info| trace(info, *series_type, style)).collect::<Result<_, _>>()?;
        traces.insert((*name).to_owned(), Value::Array(list));
    }
    Ok(traces)
}

fn trace(info: &SeriesInfo, series_type: SeriesType, style: JsonStyle) -> Result<Value, ApiError> {
    let context = values::context_json(&info.context, style)?;
    let context: Value = serde_json::from_str(context.get()).expect("the context was serialized as JSON");
    let mut trace = json!({"context": context, "name": info.name});
    if series_type == SeriesType::Metric {
        trace["last_value"] = values::number(info.last.unwrap_or(0.0), style);
    }
    Ok(trace)
}

async fn batch(services: Arc<Services>, call: Call) -> Answer {
    let (run_id, keys, steps) = (call.path("id"), series_keys(&call.json), step_range(&call)?);
    match density(call.int("record_density")) {
        0 => metric_batch::all_points(&services, run_id, keys, steps).await,
        density => metric_batch::sampled_points(&services, run_id, keys, steps, density).await,
    }
}
