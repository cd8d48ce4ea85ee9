//! Versions of registered models.

use serde_json::{Map, Value, json};

use crate::clock::now_ms;
use crate::documents::{map_in, member};
use crate::error::{ErrorCode, MlflowError, Result};
use crate::fields::{Fields, missing};
use crate::logged_models;
use crate::names::{check_length, is_model_id};
use crate::registry::{
    PROMPT_TAG, check_model_tag, description, is_prompt, is_stored_prompt, model_tags, next_number,
};
use crate::registry_store::{self, RegisteredModel, no_version, stage, version_number};
use crate::version_view::{VersionAliases, version_view};
use matyan_channels::Channels;
use matyan_channels::documents::Effect;

/// Maximum characters of a URI.
const URI_CHARS: usize = 2_048;

/// Checks the location of the files of a version. This server opens no files of its own machine for a client.
fn check_source(source: &str) -> Result<()> {
    check_length("source", source, URI_CHARS)?;
    let scheme = source.split_once(':').map(|(scheme, _)| scheme);
    let is_remote = scheme.is_some_and(|scheme| {
        scheme.len() > 1
            && !scheme.eq_ignore_ascii_case("file")
            && scheme.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter))
    });
    if !is_remote || source.split(['/', '\\']).any(|segment| segment == "..") {
        return Err(MlflowError::invalid(format!(
            "Invalid model version source: '{}'. To use a local path as a model version source, the run_id request \
             parameter has to be specified and the local path has to be contained within the artifact directory of the \
             run specified by the run_id; this server accepts no local paths.",
            source.escape_debug()
        )));
    }
    Ok(())
}

/// The sources of versions of prompts, which have no files: the texts that clients of MLflow send.
const PROMPT_SOURCES: [&str; 2] = ["dummy-source", "prompt-template"];

/// Checks the source of a version of a prompt. Other texts are refused: a client that does not look at the tags takes
/// the version for a version of a model, and could read the text as a path.
fn check_prompt_source(source: &str) -> Result<()> {
    if PROMPT_SOURCES.contains(&source) {
        return Ok(());
    }
    Err(MlflowError::invalid(format!(
        "Invalid prompt source: '{}'. A prompt has no files: use '{}' as its source, or leave out the tag {PROMPT_TAG} \
         to register a model.",
        source.escape_debug(),
        PROMPT_SOURCES[0]
    )))
}

fn answer(model: &RegisteredModel, version: &str) -> Result<Value> {
    let number = version_number(version)?;
    let found = model.version(number).ok_or_else(|| no_version(&model.name, version))?;
    Ok(json!({"model_version": version_view(model, number, found, &VersionAliases::new(model))}))
}

/// The version that a source such as `models:/name/3` names: the new version is a copy of it.
fn copied_version(source: &str) -> Option<(&str, u64)> {
    let (name, number) = source.strip_prefix("models:/")?.split_once('/')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((name, number.parse().ok().filter(|_| is_number)?))
}

/// The stored location of the files of a version, which may name another version or a logged model.
fn stored_location(version: &Map<String, Value>) -> &str {
    match member(version, "location") {
        "" => member(version, "source"),
        location => location,
    }
}

/// The stored location of the files of a version that is copied. A prompt has no files, and its source may be any text.
fn copied_location(version: &Map<String, Value>) -> Result<&str> {
    if is_stored_prompt(version) {
        return Err(MlflowError::invalid(
            "Invalid model version source: it is a version of a prompt, which has no files. Use a version of a model as \
             the source.",
        ));
    }
    let location = stored_location(version);
    check_source(location)?;
    Ok(location)
}

/// Maximum number of copies between a version and its files.
const MAX_COPIES: usize = 10;

/// Finds the location of files. If the stored location names a version, its files are the files of that version: an
/// earlier copy of a version may have the name of a version as its location.
async fn found_location(channels: &Channels, stored: &str) -> Result<String> {
    let mut location = stored.to_owned();
    for _ in 0..=MAX_COPIES {
        let Some((name, number)) = copied_version(&location) else {
            return match location.strip_prefix("models:/").filter(|id| is_model_id(id)) {
                Some(model_id) => logged_models::artifact_uri(channels, model_id).await,
                None => Ok(location),
            };
        };
        let model = registry_store::find(channels, name).await?;
        let copied = model.version(number).ok_or_else(|| no_version(name, &number.to_string()))?;
        location = copied_location(copied)?.to_owned();
    }
    Err(MlflowError::invalid(format!(
        "Invalid model version source: '{}' is a copy of more than {MAX_COPIES} versions in a row. Use the location of the \
         files as the source.",
        stored.escape_debug()
    )))
}

/// The location of the files of a new version if its source does not say it: a copy has the files of the version that
/// it was made of. It is found now, because that version may be deleted later.
async fn location_by_source(channels: &Channels, source: &str) -> Result<String> {
    if copied_version(source).is_none() {
        return Ok(String::new());
    }
    let location = found_location(channels, source).await?;
    check_source(&location)?;
    Ok(location)
}

pub(crate) async fn create(channels: &Channels, fields: &Fields) -> Result<Value> {
    let name = fields.required("name")?;
    let source = fields.required("source")?;
    let tags = model_tags(fields)?;
    let location = if is_prompt(&tags) {
        check_prompt_source(source)?;
        String::new()
    } else {
        check_source(source)?;
        location_by_source(channels, source).await?
    };
    let description = description(fields)?;
    let text = |name: &str| fields.text(name).map(Option::unwrap_or_default);
    let run_id = text("run_id")?;
    let run_link = text("run_link")?;
    let model_id = match text("model_id")? {
        "" => source.strip_prefix("models:/").filter(|id| is_model_id(id)).unwrap_or_default(),
        id => id,
    };
    for (what, value) in [("run_id", run_id), ("run_link", run_link), ("model_id", model_id)] {
        check_length(what, value, URI_CHARS)?;
    }
    let now = now_ms();
    let mut number = 0;
    let created = registry_store::change(channels, name, Effect::Adds, |content| {
        number = next_number(content);
        content.insert("last_version".to_owned(), number.into());
        let version = json!({
            "created_ms": now, "updated_ms": now, "source": source, "run_id": run_id, "run_link": run_link,
            "description": description, "tags": tags, "stage": "None", "model_id": model_id, "location": location,
        });
        map_in(content, "versions").insert(number.to_string(), version);
        Ok(())
    })
    .await?;
    let version = number.to_string();
    if !model_id.is_empty() {
        note_in_logged_model(channels, model_id, name, &version).await;
    }
    answer(&created, &version)
}

/// Notes a new version in the logged model that it was made of. The version is stored by then, so the request succeeds even
/// if this fails: a client that repeats the request gets another version.
async fn note_in_logged_model(channels: &Channels, model_id: &str, name: &str, version: &str) {
    match logged_models::add_registration(channels, model_id, name, version).await {
        Ok(()) => {}
        // A model on another server is allowed.
        Err(error) if error.code == ErrorCode::ResourceDoesNotExist => {}
        Err(error) => tracing::warn!(
            model_id,
            registered_model = name,
            version,
            error = error.message,
            "failed to note a version in its logged model; the version is stored"
        ),
    }
}

pub(crate) async fn get(channels: &Channels, fields: &Fields) -> Result<Value> {
    let model = registry_store::find(channels, fields.required("name")?).await?;
    answer(&model, &fields.identifier("version")?)
}

pub(crate) async fn update(channels: &Channels, fields: &Fields) -> Result<Value> {
    let name = fields.required("name")?;
    let version = fields.identifier("version")?;
    let text = description(fields)?;
    let changed = registry_store::change_version(channels, name, &version, Effect::Adds, |found| {
        found.insert("description".to_owned(), text.into());
        Ok(())
    })
    .await?;
    answer(&changed, &version)
}

pub(crate) async fn delete(channels: &Channels, fields: &Fields) -> Result<Value> {
    let name = fields.required("name")?;
    let version = fields.identifier("version")?;
    let number = version_number(&version)?;
    registry_store::change(channels, name, Effect::Deletes, |content| {
        if map_in(content, "versions").remove(&number.to_string()).is_none() {
            return Err(no_version(name, &version));
        }
        map_in(content, "aliases").retain(|_, of| of.as_u64() != Some(number));
        Ok(())
    })
    .await?;
    Ok(json!({}))
}

/// Moves a version to a stage, and the versions of this stage to the archive if the client wants that.
pub(crate) async fn transition(channels: &Channels, fields: &Fields) -> Result<Value> {
    let name = fields.required("name")?;
    let version = fields.identifier("version")?;
    let number = version_number(&version)?.to_string();
    let to = stage(fields.required("stage")?)?;
    let archives = fields.flag("archive_existing_versions")?;
    if archives && !matches!(to, "Staging" | "Production") {
        return Err(MlflowError::invalid(format!(
            "Model version transition cannot archive existing model versions because '{to}' is not an Active stage. \
             Valid stages are Staging, Production."
        )));
    }
    let changed = registry_store::change(channels, name, Effect::Adds, |content| {
        let versions = map_in(content, "versions");
        if !versions.contains_key(&number) {
            return Err(no_version(name, &version));
        }
        for (of, found) in versions.iter_mut() {
            let Some(found) = found.as_object_mut() else { continue };
            let new = match member(found, "stage") {
                _ if *of == number => to,
                stage if archives && stage == to => "Archived",
                _ => continue,
            };
            found.insert("stage".to_owned(), new.into());
            found.insert("updated_ms".to_owned(), now_ms().into());
        }
        Ok(())
    })
    .await?;
    answer(&changed, &version)
}

/// The location of the files of a version.
pub(crate) async fn download_uri(channels: &Channels, fields: &Fields) -> Result<Value> {
    let model = registry_store::find(channels, fields.required("name")?).await?;
    let version = fields.identifier("version")?;
    let number = version_number(&version)?;
    let found = model.version(number).ok_or_else(|| no_version(&model.name, &version))?;
    Ok(json!({"artifact_uri": found_location(channels, stored_location(found)).await?}))
}

pub(crate) async fn set_tag(channels: &Channels, fields: &Fields) -> Result<Value> {
    let name = fields.required("name")?;
    let version = fields.identifier("version")?;
    let key = fields.required("key")?;
    let value = fields.text("value")?.ok_or_else(|| missing("value"))?;
    check_model_tag(key, value)?;
    registry_store::change_version(channels, name, &version, Effect::Adds, |found| {
        map_in(found, "tags").insert(key.to_owned(), value.into());
        Ok(())
    })
    .await?;
    Ok(json!({}))
}

pub(crate) async fn delete_tag(channels: &Channels, fields: &Fields) -> Result<Value> {
    let name = fields.required("name")?;
    let version = fields.identifier("version")?;
    let key = fields.required("key")?;
    registry_store::change_version(channels, name, &version, Effect::Deletes, |found| {
        map_in(found, "tags").remove(key);
        Ok(())
    })
    .await?;
    Ok(json!({}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_may_name_another_version() {
        assert_eq!(copied_version("models:/a model/12"), Some(("a model", 12)));
        for other in
            ["models:/m/Staging", "models:/m@best", "models:/m", "models:/m/+1", "models:/m/", "s3://b/1"]
        {
            assert_eq!(copied_version(other), None, "{other}");
        }
    }

    #[test]
    fn local_sources_are_refused() {
        for source in ["/etc", "etc", "file:///etc", "FILE:/etc", "C:\\x", "s3://b/../c", "", "../x"] {
            check_source(source).expect_err(source);
        }
        for source in ["s3://b/c", "mlflow-artifacts:/0/r/artifacts/m", "runs:/r/m", "models:/m-1"] {
            check_source(source).unwrap();
        }
    }

    #[test]
    fn a_copy_has_the_location_of_a_model_and_no_other_text() {
        let location = |version: Value| copied_location(version.as_object().unwrap()).map(str::to_owned);
        let prompt = json!({"source": "s3://b/c", "tags": {PROMPT_TAG: "true"}});
        assert!(location(prompt).unwrap_err().message.contains("prompt"));
        // The tag of the prompt was deleted.
        for source in ["file:///etc", PROMPT_SOURCES[0], ""] {
            location(json!({"source": source, "tags": {}})).expect_err(source);
        }
        location(json!({"source": "s3://b/c", "location": "file:///etc"})).unwrap_err();
        assert_eq!(location(json!({"source": "s3://b/c", "location": ""})).unwrap(), "s3://b/c");
        assert_eq!(location(json!({"source": "models:/m/1", "location": "s3://b/c"})).unwrap(), "s3://b/c");
        assert_eq!(location(json!({"source": "models:/m/1"})).unwrap(), "models:/m/1");
    }

    #[test]
    fn a_prompt_has_no_source_of_its_own() {
        for source in ["/etc", "file:///etc", "s3://b/c", ""] {
            check_prompt_source(source).expect_err(source);
        }
        for source in PROMPT_SOURCES {
            check_prompt_source(source).unwrap();
        }
    }
}
