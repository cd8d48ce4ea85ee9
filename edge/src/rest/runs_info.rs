//! One run: everything about it, and points of its metrics as JSON.

use std::sync::Arc;

use axum::Json;
use axum::response::IntoResponse;
use http::Method;
use matyan_proto::common::v1::SeriesType;
use matyan_proto::runs::v1::{GetRequest, Run, RunParts, SeriesInfo};
use matyan_proto::series::v1::{ListRequest, PointColumns, RunSelection, SampleRequest, SeriesPoints};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::call::{Call, Dialect};
use super::form::Form;
use super::shared::{PROPS, Props, SERIES_KEYS, TYPES, asked_types, density, series_keys, step_range};
use super::table::{Answer, Kind, Operation, Parameter};
use super::values::{self, Style};
use super::whole_series;
use crate::error::ApiError;
use crate::services::Services;

const INFO: Form = Form::Record(&[
    ("params", Form::Free),
    ("traces", Form::Map(&Form::List(&TRACE))),
    ("props", PROPS),
    ("artifacts", Form::List(&ARTIFACT)),
]);

const TRACE: Form = Form::Record(&[
    ("context", Form::Free),
    ("name", Form::Text),
    ("last_value", Form::Optional(&Form::Figure)),
]);

const ARTIFACT: Form = Form::Record(&[("name", Form::Text), ("path", Form::Text), ("uri", Form::Text)]);

const POINTS: Form = Form::List(&Form::Record(&[
    ("name", Form::Text),
    ("context", Form::Free),
    ("iters", Form::List(&Form::Int)),
    ("values", Form::List(&Form::NumberOrNull)),
]));

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(Method::GET, "/runs/{id}/info", "Everything about a run", |services, call| {
            Box::pin(info(services, call))
        })
        .query(&[
            Parameter::new("skip_system", Kind::Bool, Some("false")),
            Parameter::new("sequence", Kind::Texts, None),
        ])
        .answers(&INFO),
        Operation::new(
            Method::POST,
            "/runs/{id}/metric/get-batch",
            "Points of metrics of one run",
            |services, call| Box::pin(metric_batch(services, call)),
        )
        .query(&[
            Parameter::new("record_range", Kind::Text, Some("")),
            Parameter::new("record_density", Kind::Int, Some("50")),
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
    let types = asked_types(call.texts("sequence"))?;
    let aim = call.dialect == Dialect::Aim;
    let style = Style { words: aim, ..Default::default() };
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
    let answer = services.backend().runs.clone().get(request).await?.into_inner();
    let mut run = answer.run.unwrap_or_default();
    if run.more_series {
        run.series = all_series(&services, &run.run_id, &types).await?;
    }
    let info = Info {
        params: values::json(&run.params, style)?,
        traces: traces(&run, &types, style)?,
        props: run.props.as_ref().map(|props| Props::new(props, aim.then_some(run.note_count))),
        artifacts: run.artifacts.iter().map(|it| artifact(&it.path, &it.uri)).collect(),
    };
    Ok(Json(info).into_response())
}

/// The series of a run that has more than its message could hold.
async fn all_series(
    services: &Services,
    run_id: &str,
    types: &[SeriesType],
) -> Result<Vec<SeriesInfo>, ApiError> {
    let types = types.iter().map(|it| (*it).into()).collect();
    let request = ListRequest { run_id: run_id.to_owned(), types, names: Vec::new() };
    let mut messages = services.backend().series.clone().list(request).await?.into_inner();
    let mut series = Vec::new();
    while let Some(message) = messages.message().await? {
        series.extend(message.series);
    }
    Ok(series)
}

fn artifact(path: &str, uri: &str) -> Value {
    let name = path.rsplit('/').next().unwrap_or(path);
    json!({"name": name, "path": path, "uri": uri})
}

fn traces(run: &Run, types: &[SeriesType], style: Style) -> Result<Map<String, Value>, ApiError> {
    let mut traces = Map::new();
    for (series_type, name) in TYPES.iter().filter(|(series_type, _)| types.contains(series_type)) {
        let of_type = run.series.iter().filter(|info| info.r#type == i32::from(*series_type));
        let list = of_type.map(|info| trace(info, *series_type, style)).collect::<Result<_, _>>()?;
        traces.insert((*name).to_owned(), Value::Array(list));
    }
    Ok(traces)
}

fn trace(info: &SeriesInfo, series_type: SeriesType, style: Style) -> Result<Value, ApiError> {
    let context = values::context_json(&info.context, style)?;
    let context: Value = serde_json::from_str(context.get()).expect("it was written as JSON");
    let mut trace = json!({"context": context, "name": info.name});
    if series_type == SeriesType::Metric {
        trace["last_value"] = values::number(info.last.unwrap_or(0.0), style);
    }
    Ok(trace)
}

async fn metric_batch(services: Arc<Services>, call: Call) -> Answer {
    let run_id = call.path("id");
    let keys = series_keys(&call.json);
    if density(call.int("record_density")) == 0 {
        let steps = step_range(&call)?;
        services.backend().runs.clone().get(GetRequest { run_id: run_id.clone(), parts: None }).await?;
        return Ok(whole_series::answer(services, run_id, keys, steps));
    }
    let selection = RunSelection { run_id: run_id.clone(), keys, ..Default::default() };
    let request = SampleRequest {
        runs: vec![selection],
        steps: step_range(&call)?,
        density: density(call.int("record_density")),
        columns: Some(PointColumns { values: true, ..Default::default() }),
        x_axis: None,
    };
    let backend = services.backend();
    let mut messages = backend.series.clone().sample(request).await?.into_inner();
    let mut found: Vec<SeriesPoints> = Vec::new();
    while let Some(message) = messages.message().await? {
        found.extend(message.series);
    }
    if found.is_empty() {
        // Nothing found may mean that there is no such run.
        backend.runs.clone().get(GetRequest { run_id, parts: None }).await?;
    }
    let answer = found.iter().map(batch_item).collect::<Result<Vec<_>, _>>()?;
    Ok(Json(answer).into_response())
}

#[derive(Serialize)]
struct BatchItem<'a> {
    name: &'a str,
    context: Box<RawValue>,
    iters: &'a [i64],
    /// Not finite: null.
    values: &'a [f64],
}

fn batch_item(points: &SeriesPoints) -> Result<BatchItem<'_>, ApiError> {
    let (name, context) = points.info.as_ref().map_or(("", ""), |it| (&it.name, &it.context));
    let context = values::context_json(context, Style::default())?;
    Ok(BatchItem { name, context, iters: &points.steps, values: &points.values })
}
