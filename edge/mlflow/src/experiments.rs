//! Experiments. The default experiment has the id 0 and the name `Default`, as in MLflow; all others have the ids of
//! this server. A deleted experiment is an archived experiment.

use matyan_proto::experiments::v1 as pb;
use matyan_proto::runs::v1::ArchiveBatchRequest;
use serde_json::{Map, Value, json};
use tonic::Code;

use crate::documents::{self, EXPERIMENTS};
use crate::error::{MlflowError, Result};
use crate::fields::{Fields, missing};
use crate::names::{EXPERIMENT_TAG_CHARS, check_experiment_name, check_key, check_length, is_model_id};
use crate::run_names::NOTE_TAG;
use matyan_channels::documents::Effect;
use matyan_channels::{Channels, is_missing};

/// Id of the default experiment.
pub(crate) const DEFAULT_ID: &str = "0";
/// Name of the default experiment.
pub(crate) const DEFAULT_NAME: &str = "Default";

/// Runs that are archived or restored with their experiment in one call.
const RUNS_PER_CALL: u32 = 10_000;

/// An experiment without its tags.
#[derive(Clone, Debug)]
pub(crate) struct ExperimentInfo {
    pub(crate) id: String,
    /// The id in this server; `None` for the default experiment as long as it has no runs.
    pub(crate) own_id: Option<String>,
    pub(crate) name: String,
    pub(crate) is_deleted: bool,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
    description: String,
}

impl ExperimentInfo {
    pub(crate) fn new(found: pb::Experiment) -> Self {
        let id = if found.name == DEFAULT_NAME { DEFAULT_ID.to_owned() } else { found.id.clone() };
        let created_ms = found.created_us.unwrap_or_default() / 1_000;
        Self {
            id,
            own_id: Some(found.id),
            name: found.name,
            is_deleted: found.archived,
            created_ms,
            updated_ms: found.updated_us.map_or(created_ms, |updated_us| updated_us / 1_000),
            description: found.description,
        }
    }

    /// The default experiment before anyone has used it.
    fn unused_default() -> Self {
        Self {
            id: DEFAULT_ID.to_owned(),
            own_id: None,
            name: DEFAULT_NAME.to_owned(),
            is_deleted: false,
            created_ms: 0,
            updated_ms: 0,
            description: String::new(),
        }
    }

    /// Tags. The tag with the note is the description.
    pub(crate) fn tags(&self, content: &Map<String, Value>) -> Map<String, Value> {
        let mut tags = content.get("tags").and_then(Value::as_object).cloned().unwrap_or_default();
        if !self.description.is_empty() {
            tags.insert(NOTE_TAG.to_owned(), self.description.as_str().into());
        }
        tags
    }

    /// The text of a tag.
    pub(crate) fn tag<'c>(&'c self, content: &'c Map<String, Value>, key: &str) -> Option<&'c str> {
        if key == NOTE_TAG && !self.description.is_empty() {
            return Some(&self.description);
        }
        content.get("tags")?.get(key)?.as_str()
    }

    pub(crate) fn stage(&self) -> &'static str {
        if self.is_deleted { "deleted" } else { "active" }
    }

    /// The experiment as MLflow shows it.
    pub(crate) fn view(&self, content: &Map<String, Value>) -> Value {
        let tags = self.tags(content);
        let tags: Vec<Value> = tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        json!({
            "experiment_id": self.id,
            "name": self.name,
            "artifact_location": artifact_location(&self.id, content),
            "lifecycle_stage": self.stage(),
            "creation_time": self.created_ms,
            "last_update_time": self.updated_ms,
            "tags": tags,
        })
    }
}

/// The location of the files of an experiment: at this server, or wherever its creator wants them.
pub(crate) fn artifact_location(id: &str, content: &Map<String, Value>) -> String {
    match documents::member(content, "artifact_location") {
        "" => format!("mlflow-artifacts:/{id}"),
        location => location.trim_end_matches('/').to_owned(),
    }
}

/// The stored tags and location of an experiment.
pub(crate) async fn content(channels: &Channels, id: &str) -> Result<Map<String, Value>> {
    Ok(documents::read(channels, EXPERIMENTS, id).await?.map(|stored| stored.content).unwrap_or_default())
}

/// Finds an experiment by its id.
pub(crate) async fn find(channels: &Channels, id: &str) -> Result<ExperimentInfo> {
    if id == DEFAULT_ID {
        return Ok(by_name(channels, DEFAULT_NAME).await?.unwrap_or_else(ExperimentInfo::unused_default));
    }
    match channels.experiments().get(pb::GetRequest { id: id.to_owned() }).await {
        Ok(response) => {
            let found = response.into_inner().experiment.ok_or_else(|| MlflowError::broken("experiment"))?;
            Ok(ExperimentInfo::new(found))
        }
        Err(status) if is_missing(&status) => {
            Err(MlflowError::missing(format!("No Experiment with id={id} exists")))
        }
        Err(status) => Err(status.into()),
    }
}

/// Finds an experiment for a request that adds something to it.
pub(crate) async fn find_active(channels: &Channels, id: &str) -> Result<ExperimentInfo> {
    let found = find(channels, id).await?;
    if found.is_deleted {
        return Err(MlflowError::invalid(format!(
            "The experiment {id} must be in the 'active' state. Current state is deleted."
        )));
    }
    Ok(found)
}

/// Finds an experiment by its name.
pub(crate) async fn by_name(channels: &Channels, name: &str) -> Result<Option<ExperimentInfo>> {
    let found = list(channels, name).await?;
    Ok(found.into_iter().find(|experiment| experiment.name == name))
}

/// All experiments whose names contain a text, without the default experiment if no one has used it.
pub(crate) async fn list(channels: &Channels, name_contains: &str) -> Result<Vec<ExperimentInfo>> {
    let request = pb::ListRequest { name_contains: name_contains.to_owned() };
    let mut messages = channels.experiments().list(request).await?.into_inner();
    let mut found = Vec::new();
    while let Some(message) = messages.message().await? {
        found.extend(message.experiments.into_iter().map(ExperimentInfo::new));
    }
    Ok(found)
}

/// All experiments, including the default experiment.
pub(crate) async fn list_all(channels: &Channels) -> Result<Vec<ExperimentInfo>> {
    let mut found = list(channels, "").await?;
    if !found.iter().any(|experiment| experiment.id == DEFAULT_ID) {
        found.push(ExperimentInfo::unused_default());
    }
    Ok(found)
}

/// The id in this server; creates the default experiment if no one has used it.
async fn own_id(channels: &Channels, experiment: &ExperimentInfo) -> Result<String> {
    match &experiment.own_id {
        Some(id) => Ok(id.clone()),
        None => {
            let created = create_named(channels, DEFAULT_NAME).await?;
            created.own_id.ok_or_else(|| MlflowError::broken("experiment"))
        }
    }
}

async fn create_named(channels: &Channels, name: &str) -> Result<ExperimentInfo> {
    let request = pb::CreateRequest { name: name.to_owned(), description: String::new() };
    match channels.experiments().create(request).await {
        Ok(response) => {
            let created =
                response.into_inner().experiment.ok_or_else(|| MlflowError::broken("experiment"))?;
            Ok(ExperimentInfo::new(created))
        }
        Err(status) if status.code() == Code::AlreadyExists => {
            let message = match by_name(channels, name).await? {
                Some(found) if found.is_deleted => format!(
                    "Experiment(name={name}) already exists in deleted state. Restore it, or choose another name."
                ),
                _ => format!("Experiment(name={name}) already exists."),
            };
            Err(MlflowError::exists(message))
        }
        Err(status) => Err(status.into()),
    }
}

pub(crate) async fn create(channels: &Channels, fields: &Fields) -> Result<Value> {
    let name = fields.required("name")?;
    check_experiment_name(name)?;
    let tags = tag_fields(fields)?;
    let location = fields.text("artifact_location")?.unwrap_or_default();
    check_location(location)?;
    let created = create_named(channels, name).await?;
    if !tags.is_empty() || !location.is_empty() {
        documents::change(channels, EXPERIMENTS, &created.id, Effect::Adds, |content, _| {
            if !location.is_empty() {
                content.insert("artifact_location".to_owned(), location.into());
            }
            documents::map_in(content, "tags")
                .extend(tags.iter().map(|(key, value)| (key.clone(), value.as_str().into())));
            Ok(())
        })
        .await?;
        let note = tags.iter().find(|(key, _)| key == NOTE_TAG);
        if let Some((_, note)) = note {
            set_description(channels, &created, note).await?;
        }
    }
    Ok(json!({"experiment_id": created.id}))
}

/// Checks the location at which a client wants to keep its files. The server does not open this location.
fn check_location(location: &str) -> Result<()> {
    let has_parameters = location.contains(['?', '#']);
    if has_parameters || location.split('/').any(|segment| segment == "..") {
        return Err(MlflowError::invalid("Invalid artifact_location: it must not contain '..', '?' or '#'"));
    }
    check_length("artifact_location", location, 2_048)
}

/// The tags of a request, by key and value.
pub(crate) fn tag_fields(fields: &Fields) -> Result<Vec<(String, String)>> {
    let tags = fields.objects("tags")?;
    tags.iter()
        .map(|tag| {
            let key = tag.required("key")?;
            let value = tag.text("value")?.unwrap_or_default();
            check_key("key", key)?;
            check_length("A tag", value, EXPERIMENT_TAG_CHARS)?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

pub(crate) async fn get(channels: &Channels, fields: &Fields) -> Result<Value> {
    let id = fields.identifier("experiment_id")?;
    let found = find(channels, &id).await?;
    Ok(json!({"experiment": found.view(&content(channels, &found.id).await?)}))
}

pub(crate) async fn get_by_name(channels: &Channels, fields: &Fields) -> Result<Value> {
    let name = fields.required("experiment_name")?;
    let found = match by_name(channels, name).await? {
        Some(found) => found,
        None if name == DEFAULT_NAME => ExperimentInfo::unused_default(),
        None => {
            return Err(MlflowError::missing(format!("Could not find experiment with name '{name}'")));
        }
    };
    Ok(json!({"experiment": found.view(&content(channels, &found.id).await?)}))
}

pub(crate) async fn update(channels: &Channels, fields: &Fields) -> Result<Value> {
    let id = fields.identifier("experiment_id")?;
    let new_name = fields.required("new_name")?;
    check_experiment_name(new_name)?;
    let found = find_active(channels, &id).await?;
    if found.id == DEFAULT_ID {
        return Err(MlflowError::invalid("The default experiment cannot be renamed"));
    }
    let request = pb::UpdateRequest {
        id: own_id(channels, &found).await?,
        name: Some(new_name.to_owned()),
        ..pb::UpdateRequest::default()
    };
    match channels.experiments().update(request).await {
        Ok(_) => Ok(json!({})),
        Err(status) if status.code() == Code::AlreadyExists => {
            Err(MlflowError::exists(format!("Experiment(name={new_name}) already exists.")))
        }
        Err(status) => Err(status.into()),
    }
}

/// Deletes or restores an experiment and its runs. The experiment is changed last, and a request that finds it changed
/// succeeds. So a request that has failed halfway, or whose answer is lost, can be repeated.
pub(crate) async fn set_deleted(channels: &Channels, fields: &Fields, is_deleted: bool) -> Result<Value> {
    let id = fields.identifier("experiment_id")?;
    let found = find(channels, &id).await?;
    if found.is_deleted == is_deleted {
        return Ok(json!({}));
    }
    let own_id = own_id(channels, &found).await?;
    archive_runs(channels, &own_id, is_deleted).await?;
    let request =
        pb::UpdateRequest { id: own_id, archived: Some(is_deleted), ..pb::UpdateRequest::default() };
    channels.experiments().update(request).await?;
    Ok(json!({}))
}

/// Archives or restores the runs of an experiment, some at a time.
async fn archive_runs(channels: &Channels, own_id: &str, archived: bool) -> Result<()> {
    let mut cursor = String::new();
    loop {
        let request = pb::ListRunsRequest {
            id: own_id.to_owned(),
            limit: RUNS_PER_CALL,
            cursor,
            ..pb::ListRunsRequest::default()
        };
        let mut messages = channels.experiments().list_runs(request).await?.into_inner();
        let mut run_ids = Vec::new();
        cursor = String::new();
        while let Some(message) = messages.message().await? {
            // Runs that only hold the files of a model are always archived.
            let own = message.runs.into_iter().map(|run| run.run_id).filter(|id| !is_model_id(id));
            run_ids.extend(own);
            cursor = message.next_cursor;
        }
        if !run_ids.is_empty() {
            channels.runs().archive_batch(ArchiveBatchRequest { run_ids, archived }).await?;
        }
        if cursor.is_empty() {
            return Ok(());
        }
    }
}

async fn set_description(channels: &Channels, experiment: &ExperimentInfo, text: &str) -> Result<()> {
    let request = pb::UpdateRequest {
        id: own_id(channels, experiment).await?,
        description: Some(text.to_owned()),
        ..pb::UpdateRequest::default()
    };
    channels.experiments().update(request).await?;
    Ok(())
}

pub(crate) async fn set_tag(channels: &Channels, fields: &Fields) -> Result<Value> {
    let id = fields.identifier("experiment_id")?;
    let key = fields.required("key")?;
    let value = fields.text("value")?.ok_or_else(|| missing("value"))?;
    check_key("key", key)?;
    check_length("A tag", value, EXPERIMENT_TAG_CHARS)?;
    let found = find_active(channels, &id).await?;
    if key == NOTE_TAG {
        set_description(channels, &found, value).await?;
        return Ok(json!({}));
    }
    documents::change(channels, EXPERIMENTS, &found.id, Effect::Adds, |content, _| {
        documents::map_in(content, "tags").insert(key.to_owned(), value.into());
        Ok(())
    })
    .await?;
    Ok(json!({}))
}

pub(crate) async fn delete_tag(channels: &Channels, fields: &Fields) -> Result<Value> {
    let id = fields.identifier("experiment_id")?;
    let key = fields.required("key")?;
    let found = find_active(channels, &id).await?;
    if !found.tags(&content(channels, &found.id).await?).contains_key(key) {
        let message = format!("No tag with name: {key} in experiment with id {id}");
        return Err(MlflowError::missing(message));
    }
    if key == NOTE_TAG {
        set_description(channels, &found, "").await?;
    }
    documents::change(channels, EXPERIMENTS, &found.id, Effect::Deletes, |content, _| {
        documents::map_in(content, "tags").remove(key);
        Ok(())
    })
    .await?;
    Ok(json!({}))
}
