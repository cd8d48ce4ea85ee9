//! MLflow's calls about registered models, their tags and their aliases. The calls about one version are in `versions`.

use serde_json::{Map, Value, json};

use crate::clock::now_ms;
use crate::documents::{self, REGISTERED_MODELS, Renaming, integer, map_in};
use crate::error::{MlflowError, Result};
use crate::fields::{Fields, missing};
use crate::names::{MODEL_TAG_CHARS, check_alias, check_key, check_length, check_model_name};
use crate::registry_store::{self, RegisteredModel, STAGES, no_model, no_version, stage, version_number};
use crate::version_view::{VersionAliases, latest_versions, model_view, version_view};
use matyan_channels::Channels;
use matyan_channels::documents::Effect;

/// The tag that makes a registered model a prompt. The text of each version of a prompt is a tag of that version.
pub(crate) const PROMPT_TAG: &str = "mlflow.prompt.is_prompt";
/// Maximum number of characters in a description.
pub(crate) const DESCRIPTION_CHARS: usize = 100_000;

/// The tags in a request about a model or a version, checked.
pub(crate) fn model_tags(fields: &Fields) -> Result<Map<String, Value>> {
    let mut tags = Map::new();
    for tag in fields.objects("tags")? {
        let key = tag.required("key")?;
        let value = tag.text("value")?.unwrap_or_default();
        check_model_tag(key, value)?;
        tags.insert(key.to_owned(), value.into());
    }
    Ok(tags)
}

pub(crate) fn check_model_tag(key: &str, value: &str) -> Result<()> {
    check_key("key", key)?;
    check_length("A tag", value, MODEL_TAG_CHARS)
}

/// Whether a model or a version with these tags is a prompt.
pub(crate) fn is_prompt(tags: &Map<String, Value>) -> bool {
    tags.get(PROMPT_TAG).and_then(Value::as_str).is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

/// Whether the document of a model or a version is the document of a prompt.
pub(crate) fn is_stored_prompt(content: &Map<String, Value>) -> bool {
    content.get("tags").and_then(Value::as_object).is_some_and(is_prompt)
}

pub(crate) fn description(fields: &Fields) -> Result<&str> {
    let text = fields.text("description")?.unwrap_or_default();
    check_length("A description", text, DESCRIPTION_CHARS)?;
    Ok(text)
}

fn answer(model: &RegisteredModel) -> Value {
    json!({"registered_model": model_view(model)})
}

pub(crate) async fn create(channels: &Channels, fields: &Fields) -> Result<Value> {
    let name = fields.required("name")?;
    check_model_name(name)?;
    let tags = model_tags(fields)?;
    let description = description(fields)?;
    let now = now_ms();
    let content = documents::change(channels, REGISTERED_MODELS, name, Effect::Adds, |content, exists| {
        if exists {
            return Err(name_taken_error(name, is_stored_prompt(content), is_prompt(&tags)));
        }
        let new = json!({
            "created_ms": now, "updated_ms": now, "description": description, "tags": tags, "aliases": {},
            "versions": {}, "last_version": 0,
        });
        content.extend(new.as_object().cloned().unwrap_or_default());
        Ok(content.clone())
    })
    .await?;
    Ok(answer(&RegisteredModel { name: name.to_owned(), content }))
}

pub(crate) async fn get(channels: &Channels, fields: &Fields) -> Result<Value> {
    Ok(answer(&registry_store::find(channels, fields.required("name")?).await?))
}

pub(crate) async fn update(channels: &Channels, fields: &Fields) -> Result<Value> {
    let text = description(fields)?;
    let changed = registry_store::change(channels, fields.required("name")?, Effect::Adds, |content| {
        content.insert("description".to_owned(), text.into());
        Ok(())
    })
    .await?;
    Ok(answer(&changed))
}

/// Renames a model atomically: it is never missing under both names.
pub(crate) async fn rename(channels: &Channels, fields: &Fields) -> Result<Value> {
    let name = fields.required("name")?;
    let new_name = fields.required("new_name")?;
    check_model_name(name)?;
    check_model_name(new_name)?;
    if name == new_name {
        return Ok(answer(&registry_store::find(channels, name).await?));
    }
    match documents::rename(channels, REGISTERED_MODELS, name, new_name).await? {
        Renaming::Done(renamed) => Ok(answer(&renamed.into())),
        Renaming::Missing => Err(no_model(name)),
        Renaming::NameTaken => Err(model_exists(new_name)),
    }
}

fn model_exists(name: &str) -> MlflowError {
    MlflowError::exists(format!("Registered Model (name={name}) already exists."))
}

/// The error for a name that is in use. Models and prompts share one set of names.
fn name_taken_error(name: &str, exists_as_prompt: bool, wants_prompt: bool) -> MlflowError {
    let word = |is_prompt: bool| if is_prompt { "prompt" } else { "registered model" };
    match (exists_as_prompt, wants_prompt) {
        (false, false) => model_exists(name),
        (true, true) => MlflowError::exists(format!("Prompt (name={name}) already exists.")),
        _ => MlflowError::exists(format!(
            "Tried to create a {} with name '{name}', but the name is already taken by a {}. MLflow does not allow \
             creating a model and a prompt with the same name.",
            word(wants_prompt),
            word(exists_as_prompt)
        )),
    }
}

pub(crate) async fn delete(channels: &Channels, fields: &Fields) -> Result<Value> {
    let name = fields.required("name")?;
    check_model_name(name)?;
    if documents::delete(channels, REGISTERED_MODELS, name).await? {
        Ok(json!({}))
    } else {
        Err(no_model(name))
    }
}

pub(crate) async fn get_latest(channels: &Channels, fields: &Fields) -> Result<Value> {
    let model = registry_store::find(channels, fields.required("name")?).await?;
    let stages = wanted_stages(&fields.texts("stages")?)?;
    Ok(json!({"model_versions": latest_versions(&model, &stages)}))
}

/// The stages that a request names, without duplicates and in its order; all stages if it names none.
fn wanted_stages(names: &[String]) -> Result<Vec<&'static str>> {
    let mut stages = Vec::new();
    for name in names {
        let stage = stage(name)?;
        if !stages.contains(&stage) {
            stages.push(stage);
        }
    }
    Ok(if stages.is_empty() { STAGES.to_vec() } else { stages })
}

pub(crate) async fn set_tag(channels: &Channels, fields: &Fields) -> Result<Value> {
    let key = fields.required("key")?;
    let value = fields.text("value")?.ok_or_else(|| missing("value"))?;
    check_model_tag(key, value)?;
    registry_store::change(channels, fields.required("name")?, Effect::Adds, |content| {
        map_in(content, "tags").insert(key.to_owned(), value.into());
        Ok(())
    })
    .await?;
    Ok(json!({}))
}

pub(crate) async fn delete_tag(channels: &Channels, fields: &Fields) -> Result<Value> {
    let key = fields.required("key")?;
    registry_store::change(channels, fields.required("name")?, Effect::Deletes, |content| {
        map_in(content, "tags").remove(key);
        Ok(())
    })
    .await?;
    Ok(json!({}))
}

pub(crate) async fn set_alias(channels: &Channels, fields: &Fields) -> Result<Value> {
    let name = fields.required("name")?;
    let alias = fields.required("alias")?;
    let version = fields.identifier("version")?;
    let number = version_number(&version)?;
    check_alias(alias)?;
    registry_store::change(channels, name, Effect::Adds, |content| {
        if !map_in(content, "versions").contains_key(&number.to_string()) {
            return Err(no_version(name, &version));
        }
        map_in(content, "aliases").insert(alias.to_owned(), number.into());
        Ok(())
    })
    .await?;
    Ok(json!({}))
}

pub(crate) async fn delete_alias(channels: &Channels, fields: &Fields) -> Result<Value> {
    let alias = fields.required("alias")?;
    registry_store::change(channels, fields.required("name")?, Effect::Deletes, |content| {
        map_in(content, "aliases").remove(alias);
        Ok(())
    })
    .await?;
    Ok(json!({}))
}

pub(crate) async fn get_by_alias(channels: &Channels, fields: &Fields) -> Result<Value> {
    let alias = fields.required("alias")?;
    let model = registry_store::find(channels, fields.required("name")?).await?;
    // `latest` is reserved: `check_alias` accepts no such alias.
    let number = if alias.eq_ignore_ascii_case("latest") {
        model.versions().last().map(|(number, _)| *number)
    } else {
        model.aliases().find(|(name, _)| *name == alias).map(|(_, number)| number)
    };
    let found = number.and_then(|number| Some((number, model.version(number)?)));
    let (number, version) =
        found.ok_or_else(|| MlflowError::invalid(format!("Registered model alias {alias} not found.")))?;
    Ok(json!({"model_version": version_view(&model, number, version, &VersionAliases::new(&model))}))
}

/// The number of the next version. The caller stores it as `last_version`, so that no number is used a second time.
pub(crate) fn next_number(content: &Map<String, Value>) -> i64 {
    integer(content, "last_version") + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_stages_are_merged_and_no_stages_mean_all() {
        let stages = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            wanted_stages(&names)
        };
        assert_eq!(stages(&["production", "None", "Production"]).unwrap(), ["Production", "None"]);
        assert_eq!(stages(&[]).unwrap(), STAGES);
        stages(&["other"]).unwrap_err();
    }
}
