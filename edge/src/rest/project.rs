//! The project: its name, its contents, and the sequences pinned in the UI.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::response::IntoResponse;
use http::Method;
use matyan_proto::common::v1::SeriesKey;
use matyan_proto::project::v1::{
    ActivityRequest, GetPinnedSequencesRequest, GetRequest, ParamsRequest, SetPinnedSequencesRequest,
    StatusRequest, TypeNames,
};
use matyan_value::json::JsonStyle;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::call::{Call, Dialect};
use super::experiments::activity_map;
use super::request_schema::{Member, RequestSchema};
use super::response_schema::{ACTIVITY, ResponseSchema};
use super::shared::{SERIES_KEYS, TYPES, day_key, hour_key, requested_types, series_keys};
use super::table::{Answer, Operation, Parameter, ParameterKind};
use super::values;
use crate::error::ApiError;
use crate::services::Services;

const PINNED: RequestSchema = RequestSchema::Record(&[Member::required("sequences", SERIES_KEYS)]);

const PROJECT: ResponseSchema = ResponseSchema::Record(&[
    ("name", ResponseSchema::Text),
    ("path", ResponseSchema::Text),
    ("description", ResponseSchema::Text),
    ("telemetry_enabled", ResponseSchema::Int),
    ("warn_index", ResponseSchema::Bool),
    ("warn_runs", ResponseSchema::Bool),
]);

/// Map from names to contexts.
const SEQUENCES: ResponseSchema =
    ResponseSchema::Optional(&ResponseSchema::Map(&ResponseSchema::List(&ResponseSchema::AnyObject)));

const PARAMS: ResponseSchema = ResponseSchema::Record(&[
    ("params", ResponseSchema::Optional(&ResponseSchema::AnyObject)),
    ("metric", SEQUENCES),
    ("images", SEQUENCES),
    ("texts", SEQUENCES),
    ("distributions", SEQUENCES),
    ("audios", SEQUENCES),
    ("figures", SEQUENCES),
]);

const PINNED_SCHEMA: ResponseSchema = ResponseSchema::Record(&[(
    "sequences",
    ResponseSchema::List(&ResponseSchema::Record(&[
        ("name", ResponseSchema::Text),
        ("context", ResponseSchema::AnyObject),
    ])),
)]);

pub(crate) fn operations() -> Vec<Operation> {
    let get = |path, summary, handler| Operation::new(Method::GET, path, summary, handler);
    vec![
        get("/projects", "Get the project", |s, call| Box::pin(project(s, call))).answers(&PROJECT),
        get("/projects/activity", "Numbers of runs, in total and by creation time", |s, call| {
            Box::pin(activity(s, call))
        })
        .zoned()
        .answers(&ACTIVITY),
        get("/projects/params", "Params and series names of all runs, merged", |s, call| {
            Box::pin(params(s, call))
        })
        .query(&[
            Parameter::new("sequence", ParameterKind::Texts, None),
            Parameter::new("exclude_params", ParameterKind::Bool, Some("false")),
        ])
        .answers(&PARAMS),
        get("/projects/pinned-sequences", "Sequences pinned to every run page", |s, call| {
            Box::pin(pinned(s, call))
        })
        .answers(&PINNED_SCHEMA),
        Operation::new(
            Method::POST,
            "/projects/pinned-sequences",
            "Replace the pinned sequences",
            |s, call| Box::pin(set_pinned(s, call)),
        )
        .json(&PINNED)
        .answers(&PINNED_SCHEMA),
        get("/projects/status", "Report whether the indexes are complete", |s, call| {
            Box::pin(status(s, call))
        })
        .answers(&ResponseSchema::Text),
    ]
}

async fn project(services: Arc<Services>, _: Call) -> Answer {
    let project = services.backend().project().get(GetRequest {}).await?.into_inner();
    Ok(Json(json!({
        "name": project.name,
        "path": "",
        "description": project.description,
        "telemetry_enabled": 0,
        "warn_index": false,
        "warn_runs": false,
    }))
    .into_response())
}

async fn activity(services: Arc<Services>, call: Call) -> Answer {
    let request = ActivityRequest { timezone_offset_min: call.timezone() };
    let answer = services.backend().project().activity(request).await?.into_inner();
    let key = match call.dialect {
        Dialect::Matyan => day_key,
        Dialect::Aim => hour_key,
    };
    Ok(Json(json!({
        "num_experiments": answer.experiment_count,
        "num_runs": answer.run_count,
        "num_archived_runs": answer.archived_run_count,
        "num_active_runs": answer.active_run_count,
        "activity_map": activity_map(&answer.hours, key),
    }))
    .into_response())
}

async fn params(services: Arc<Services>, call: Call) -> Answer {
    let types = requested_types(call.texts("sequence"))?;
    let exclude_params = call.bool("exclude_params");
    let request = ParamsRequest { types: types.iter().map(|it| (*it).into()).collect(), exclude_params };
    let mut messages = services.backend().project().params(request).await?.into_inner();
    let mut all = Vec::new();
    let mut names: HashMap<i32, Map<String, Value>> = HashMap::new();
    while let Some(message) = messages.message().await? {
        all.extend_from_slice(&message.params);
        // The names of one type may be split over several messages.
        for of_type in message.types {
            add(names.entry(of_type.r#type).or_default(), of_type)?;
        }
    }
    let mut types_json: Map<String, Value> = Map::new();
    // Every requested type is part of the response, even without any names.
    for (series_type, name) in TYPES.iter().filter(|(series_type, _)| types.contains(series_type)) {
        let of_type = names.remove(&i32::from(*series_type)).unwrap_or_default();
        types_json.insert((*name).to_owned(), Value::Object(of_type));
    }
    let mut text = serde_json::to_string(&types_json).expect("a map of JSON values serializes");
    if !exclude_params {
        // The params come first, as text, so that they are never built as a tree.
        let params = values::json(&all, JsonStyle::STRICT)?;
        let comma = if types_json.is_empty() { "" } else { "," };
        text = format!("{{\"params\":{}{comma}{}", params.get(), &text[1..]);
    }
    let answer = RawValue::from_string(text).expect("concatenated JSON members are valid JSON");
    Ok(Json(answer).into_response())
}

/// Adds names and their contexts. A name may already exist with other contexts.
fn add(known: &mut Map<String, Value>, names: TypeNames) -> Result<(), ApiError> {
    for name in names.names {
        let contexts = known.entry(name.name).or_insert_with(|| Value::Array(Vec::new()));
        for text in &name.contexts {
            contexts.as_array_mut().expect("entries are created as arrays").push(context(text)?);
        }
    }
    Ok(())
}

fn context(text: &str) -> Result<Value, ApiError> {
    let json = values::context_json(text, JsonStyle::STRICT)?;
    Ok(serde_json::from_str(json.get()).expect("the context was serialized as JSON"))
}

async fn pinned(services: Arc<Services>, _: Call) -> Answer {
    let request = GetPinnedSequencesRequest {};
    let answer = services.backend().project().get_pinned_sequences(request).await?.into_inner();
    show_pinned(&answer.sequences)
}

async fn set_pinned(services: Arc<Services>, call: Call) -> Answer {
    let request = SetPinnedSequencesRequest { sequences: series_keys(&call.json["sequences"]) };
    let answer = services.backend().project().set_pinned_sequences(request).await?.into_inner();
    show_pinned(&answer.sequences)
}

fn show_pinned(sequences: &[SeriesKey]) -> Answer {
    let show = |it: &SeriesKey| Ok::<_, ApiError>(json!({"name": it.name, "context": context(&it.context)?}));
    let sequences = sequences.iter().map(show).collect::<Result<Vec<_>, _>>()?;
    Ok(Json(json!({"sequences": sequences})).into_response())
}

async fn status(services: Arc<Services>, _: Call) -> Answer {
    let answer = services.backend().project().status(StatusRequest {}).await?.into_inner();
    let word = if answer.up_to_date { "up-to-date" } else { "needs-update" };
    Ok(Json(word).into_response())
}
