//! Registered models as they are stored: a document for each model, with its versions. So a number is given once, an
//! alias moves at once, and a transition archives other versions in the same write.

use serde_json::{Map, Value};

use crate::clock::now_ms;
use crate::documents::{self, REGISTERED_MODELS, integer, map_in};
use crate::error::{MlflowError, Result};
use crate::names::check_model_name;
use matyan_channels::Channels;
use matyan_channels::documents::{Effect, StoredDocument};

/// A model with its versions.
#[derive(Clone, Debug)]
pub(crate) struct RegisteredModel {
    pub(crate) name: String,
    pub(crate) content: Map<String, Value>,
}

/// The stages of versions.
pub(crate) const STAGES: [&str; 4] = ["None", "Staging", "Production", "Archived"];

/// The stage with a name in any case.
pub(crate) fn stage(name: &str) -> Result<&'static str> {
    STAGES.into_iter().find(|stage| stage.eq_ignore_ascii_case(name)).ok_or_else(|| {
        MlflowError::invalid(format!(
            "Invalid Model Version stage: {}. Value must be one of None, Staging, Production, Archived.",
            name.escape_debug()
        ))
    })
}

/// A renaming changes the time of a document, and not its content.
impl From<StoredDocument> for RegisteredModel {
    fn from(StoredDocument { name, mut content, version, .. }: StoredDocument) -> Self {
        let updated_ms = integer(&content, "updated_ms").max(version / 1_000);
        content.insert("updated_ms".to_owned(), updated_ms.into());
        Self { name, content }
    }
}

impl RegisteredModel {
    /// The versions by their numbers, ascending.
    pub(crate) fn versions(&self) -> Vec<(u64, &Map<String, Value>)> {
        let stored = self.content.get("versions").and_then(Value::as_object).into_iter().flatten();
        let mut versions: Vec<_> = stored
            .filter_map(|(number, version)| Some((number.parse().ok()?, version.as_object()?)))
            .collect();
        versions.sort_unstable_by_key(|(number, _)| *number);
        versions
    }

    pub(crate) fn version(&self, number: u64) -> Option<&Map<String, Value>> {
        self.content.get("versions")?.get(number.to_string())?.as_object()
    }

    /// The aliases, each with the number of its version.
    pub(crate) fn aliases(&self) -> impl Iterator<Item = (&String, u64)> {
        let stored = self.content.get("aliases").and_then(Value::as_object).into_iter().flatten();
        stored.filter_map(|(alias, version)| Some((alias, version.as_u64()?)))
    }
}

pub(crate) fn no_model(name: &str) -> MlflowError {
    MlflowError::missing(format!("Registered Model with name={name} not found"))
}

pub(crate) fn no_version(name: &str, version: &str) -> MlflowError {
    MlflowError::missing(format!("Model Version (name={name}, version={version}) not found"))
}

/// The number in a request.
pub(crate) fn version_number(text: &str) -> Result<u64> {
    text.parse().map_err(|_| {
        MlflowError::invalid(format!(
            "Parameter 'version' must be an integer, got '{}'.",
            text.escape_debug()
        ))
    })
}

pub(crate) async fn find(channels: &Channels, name: &str) -> Result<RegisteredModel> {
    check_model_name(name)?;
    let stored = documents::read(channels, REGISTERED_MODELS, name).await?;
    stored.map(RegisteredModel::from).ok_or_else(|| no_model(name))
}

/// The models for which `is_wanted` returns true.
pub(crate) async fn list(
    channels: &Channels,
    is_wanted: impl Fn(&RegisteredModel) -> Result<bool>,
) -> Result<Vec<RegisteredModel>> {
    documents::list(channels, REGISTERED_MODELS, |stored| {
        let model = RegisteredModel::from(stored);
        Ok(is_wanted(&model)?.then_some(model))
    })
    .await
}

/// Changes a model, and returns the changed model.
pub(crate) async fn change(
    channels: &Channels,
    name: &str,
    effect: Effect,
    mut change: impl FnMut(&mut Map<String, Value>) -> Result<()>,
) -> Result<RegisteredModel> {
    check_model_name(name)?;
    documents::change(channels, REGISTERED_MODELS, name, effect, |content, exists| {
        if !exists {
            return Err(no_model(name));
        }
        change(content)?;
        content.insert("updated_ms".to_owned(), now_ms().into());
        Ok(RegisteredModel { name: name.to_owned(), content: content.clone() })
    })
    .await
}

/// Changes a version of a model.
pub(crate) async fn change_version(
    channels: &Channels,
    name: &str,
    version: &str,
    effect: Effect,
    mut change_version: impl FnMut(&mut Map<String, Value>) -> Result<()>,
) -> Result<RegisteredModel> {
    let number = version_number(version)?.to_string();
    change(channels, name, effect, |content| {
        let found = map_in(content, "versions").get_mut(&number).and_then(Value::as_object_mut);
        let found = found.ok_or_else(|| no_version(name, version))?;
        change_version(found)?;
        found.insert("updated_ms".to_owned(), now_ms().into());
        Ok(())
    })
    .await
}
