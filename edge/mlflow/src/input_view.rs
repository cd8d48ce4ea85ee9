//! Inputs and outputs of runs as MLflow shows them.

use matyan_value::{Map, Value};
use serde_json::json;

use crate::run_names::{DATASETS, INPUT_MODELS, MLFLOW, OUTPUT_MODELS, find};

pub(crate) const NAME_CHARS: usize = 500;
pub(crate) const DIGEST_CHARS: usize = 36;
const SOURCE_BYTES: usize = 65_535;
const SCHEMA_BYTES: usize = 1_048_575;
/// Limit of this server, whose params are smaller than MLflow's texts.
const PROFILE_BYTES: usize = 1_048_575;

/// Text members of a data set, with the limits of their sizes.
pub(crate) const MEMBERS: [(&str, usize); 6] = [
    ("name", NAME_CHARS),
    ("digest", DIGEST_CHARS),
    ("source_type", NAME_CHARS),
    ("source", SOURCE_BYTES),
    ("schema", SCHEMA_BYTES),
    ("profile", PROFILE_BYTES),
];

fn text<'v>(members: &'v Map, name: &str) -> Option<&'v str> {
    match members.get(name) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

/// The stored members at a path below `MLFLOW`.
fn members<'p>(params: &'p Map, name: &str) -> impl Iterator<Item = (&'p String, &'p Value)> {
    find(params, &[MLFLOW, name]).and_then(Value::as_map).into_iter().flatten()
}

/// The inputs of a run.
pub(crate) fn inputs_view(params: &Map) -> serde_json::Value {
    let datasets: Vec<serde_json::Value> = datasets(params)
        .map(|members| json!({"dataset": dataset_view(members), "tags": tags_view(members)}))
        .collect();
    let models: Vec<serde_json::Value> =
        members(params, INPUT_MODELS).map(|(id, _)| json!({"model_id": id})).collect();
    json!({"dataset_inputs": datasets, "model_inputs": models})
}

/// The outputs of a run.
pub(crate) fn outputs_view(params: &Map) -> serde_json::Value {
    let step = |value: &Value| match value {
        Value::Integer(step) => *step,
        _ => 0,
    };
    let models: Vec<serde_json::Value> = members(params, OUTPUT_MODELS)
        .map(|(id, value)| json!({"model_id": id, "step": step(value)}))
        .collect();
    json!({"model_outputs": models})
}

/// Whether a run has the data set with this key.
pub(crate) fn has_dataset(params: &Map, id: &str) -> bool {
    find(params, &[MLFLOW, DATASETS, id]).is_some()
}

/// The data sets of a run.
pub(crate) fn datasets(params: &Map) -> impl Iterator<Item = &Map> {
    members(params, DATASETS).filter_map(|(_, dataset)| dataset.as_map())
}

fn dataset_view(dataset: &Map) -> serde_json::Value {
    let mut view = serde_json::Map::new();
    for (name, _) in MEMBERS {
        if let Some(text) = text(dataset, name) {
            view.insert(name.to_owned(), text.into());
        }
    }
    view.into()
}

fn tags_view(dataset: &Map) -> Vec<serde_json::Value> {
    let tags = dataset.get("tags").and_then(Value::as_map).into_iter().flatten();
    tags.map(|(key, value)| json!({"key": key, "value": tag_text(value)})).collect()
}

fn tag_text(value: &Value) -> &str {
    match value {
        Value::Text(text) => text,
        _ => "",
    }
}

/// A data set in the list of an experiment's data sets.
pub(crate) fn dataset_summary(experiment_id: &str, dataset: &Map) -> serde_json::Value {
    let member = |name| text(dataset, name).unwrap_or_default();
    json!({
        "experiment_id": experiment_id,
        "name": member("name"),
        "digest": member("digest"),
        "context": member("context"),
    })
}
