//! Registered models and versions as MLflow shows them.

use serde_json::{Map, Value, json};

use crate::documents::{integer, member, pairs};
use crate::registry_store::{RegisteredModel, STAGES};

/// A version of a model.
pub(crate) fn version_view(model: &RegisteredModel, number: u64, version: &Map<String, Value>) -> Value {
    let aliases: Vec<&String> =
        model.aliases().filter(|(_, version)| *version == number).map(|(alias, _)| alias).collect();
    let mut view = json!({
        "name": model.name,
        "version": number.to_string(),
        "creation_timestamp": integer(version, "created_ms"),
        "last_updated_timestamp": integer(version, "updated_ms"),
        "current_stage": member(version, "stage"),
        "description": member(version, "description"),
        "source": member(version, "source"),
        "run_id": member(version, "run_id"),
        "run_link": member(version, "run_link"),
        "status": "READY",
        "tags": pairs(version, "tags"),
        "aliases": aliases,
    });
    let model_id = member(version, "model_id");
    if !model_id.is_empty() {
        view["model_id"] = model_id.into();
    }
    view
}

/// The latest version in each of these stages.
pub(crate) fn latest_versions(model: &RegisteredModel, stages: &[&str]) -> Vec<Value> {
    let versions = model.versions();
    let latest = |stage: &&str| versions.iter().rev().find(|(_, version)| member(version, "stage") == *stage);
    stages.iter().filter_map(latest).map(|(number, version)| version_view(model, *number, version)).collect()
}

/// A registered model.
pub(crate) fn model_view(model: &RegisteredModel) -> Value {
    let aliases: Vec<Value> = model
        .aliases()
        .map(|(alias, version)| json!({"alias": alias, "version": version.to_string()}))
        .collect();
    json!({
        "name": model.name,
        "creation_timestamp": integer(&model.content, "created_ms"),
        "last_updated_timestamp": integer(&model.content, "updated_ms"),
        "description": member(&model.content, "description"),
        "latest_versions": latest_versions(model, &STAGES),
        "tags": pairs(&model.content, "tags"),
        "aliases": aliases,
    })
}
