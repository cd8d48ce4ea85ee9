//! Registered models and versions as MLflow shows them.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::documents::{integer, member, pairs};
use crate::registry_store::{RegisteredModel, STAGES};

/// The aliases of a model, by the numbers of their versions. A model may have many of both, so they are read once.
#[derive(Debug, Default)]
pub(crate) struct VersionAliases<'m>(HashMap<u64, Vec<&'m String>>);

impl<'m> VersionAliases<'m> {
    pub(crate) fn new(model: &'m RegisteredModel) -> Self {
        let mut aliases: HashMap<u64, Vec<&String>> = HashMap::new();
        for (alias, number) in model.aliases() {
            aliases.entry(number).or_default().push(alias);
        }
        Self(aliases)
    }
}

/// A version of a model.
pub(crate) fn version_view(
    model: &RegisteredModel,
    number: u64,
    version: &Map<String, Value>,
    aliases: &VersionAliases<'_>,
) -> Value {
    let aliases = aliases.0.get(&number).map_or(&[][..], Vec::as_slice);
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
    let aliases = VersionAliases::new(model);
    let versions = model.versions();
    let latest = |stage: &&str| versions.iter().rev().find(|(_, version)| member(version, "stage") == *stage);
    let view =
        |(number, version): &(u64, &Map<String, Value>)| version_view(model, *number, version, &aliases);
    stages.iter().filter_map(latest).map(view).collect()
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
