//! Changes of collections of artifacts, and tags of versions and collections. A collection has the versions of one
//! artifact.

use matyan_channels::call_all;
use matyan_channels::documents::Effect;
use serde_json::{Value, json};

use crate::artifact_view::{self, collection_name, has_links, known_tags, tag_node, versions};
use crate::call::{CALLS_AT_A_TIME, CallContext, ENTITY, project_or_default};
use crate::documents::{self, ARTIFACTS, COLLECTIONS, Members, text};
use crate::error::{Result, WandbError};
use crate::node::Arguments;

/// Tags of a version or a collection.
const MAX_TAGS: usize = 100;

/// Maximum length of a tag, as in W&B's clients.
const TAG_BYTES: usize = 512;

const DELETED: &str = "DELETED";

pub(crate) fn no_collection(id: &str) -> WandbError {
    WandbError::missing(format!("there is no artifact `{}`: log it first", id.escape_debug()))
}

/// The project and the name of a collection, by the id that clients got.
pub(crate) fn parsed_id(id: &str) -> Result<(&str, &str)> {
    id.split_once('/').ok_or_else(|| no_collection(id))
}

/// Changes the document of a collection that exists.
async fn change(
    context: &CallContext,
    id: &str,
    effect: Effect,
    change: impl Fn(&mut Members) -> Result<()>,
) -> Result<()> {
    let (project, name) = parsed_id(id)?;
    let full = collection_name(project, name)?;
    documents::change(&context.channels, COLLECTIONS, &full, effect, |members| {
        if members.is_empty() {
            return Err(no_collection(id));
        }
        change(members)
    })
    .await
}

async fn changed(context: &CallContext, id: &str) -> Result<Value> {
    let (project, name) = parsed_id(id)?;
    Ok(json!({"artifactCollection": artifact_view::collection(context, ENTITY, project, name).await?}))
}

/// Changes the description of a collection.
pub(crate) async fn update(context: &CallContext, arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let id = input.required("artifactSequenceID")?;
    let (_, name) = parsed_id(id)?;
    if input.text("name")?.is_some_and(|other| other != name) {
        return Err(WandbError::invalid(
            "this server does not rename artifacts: log the files under the other name",
        ));
    }
    let description = input.sent_text("description")?.unwrap_or_default();
    change(context, id, Effect::Adds, |members| {
        members.insert("description".to_owned(), description.into());
        Ok(())
    })
    .await?;
    changed(context, id).await
}

/// Gives a collection another type, which is then the type of all of its versions. Linked versions keep the type of the
/// collection in which they were logged.
pub(crate) async fn change_type(context: &CallContext, arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let id = input.required("artifactSequenceID")?;
    let name = input.required("destinationArtifactTypeName")?;
    change(context, id, Effect::Adds, |members| set_type(members, name)).await?;
    changed(context, id).await
}

fn set_type(collection: &mut Members, name: &str) -> Result<()> {
    let is_other = text(collection, "type") != name;
    if is_other && has_links(collection) && versions(collection).next().is_some() {
        return Err(WandbError::invalid(format!(
            "versions of the type `{}` are linked to `{}`: unlink them, or link versions of another type to another name",
            text(collection, "type").escape_debug(),
            text(collection, "name").escape_debug()
        )));
    }
    collection.insert("type".to_owned(), name.into());
    Ok(())
}

/// Deletes a collection with its versions, or with its links, whose versions stay. The files of a version stay until its
/// run is deleted. May be repeated. A version that is committed during the deletion is either deleted as well, or
/// becomes the first version of a new collection.
pub(crate) async fn delete(context: &CallContext, arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let id = input.required("artifactSequenceID")?;
    let (project, name) = parsed_id(id)?;
    let full = collection_name(project, name)?;
    let delete_versions = async |members: Members| {
        if has_links(&members) {
            return Ok::<_, WandbError>(());
        }
        let ids: Vec<&str> = versions(&members).filter_map(|version| version["id"].as_str()).collect();
        let deletions = ids.iter().map(|id| documents::delete(&context.channels, ARTIFACTS, id));
        call_all(CALLS_AT_A_TIME, deletions).await?;
        Ok(())
    };
    documents::delete_prepared(&context.channels, COLLECTIONS, &full, delete_versions).await?;
    Ok(json!({"artifactCollection": {"id": id, "name": name, "state": DELETED}}))
}

/// Adds or deletes tags of a collection.
pub(crate) async fn set_tags(context: &CallContext, arguments: &Arguments, is_added: bool) -> Result<Value> {
    let input = arguments.input()?;
    let project = project_or_default(input.text("projectName")?);
    let id = format!("{project}/{}", input.required("artifactCollectionName")?);
    let tags = tags_of(&input, "tags")?;
    let effect = if is_added { Effect::Adds } else { Effect::Deletes };
    change(context, &id, effect, |members| {
        if is_added { change_tags(members, &tags, &[]) } else { change_tags(members, &[], &tags) }
    })
    .await?;
    let nodes: Vec<Value> = tags.iter().map(|tag| tag_node(tag)).collect();
    Ok(json!({"tags": nodes, "success": true}))
}

/// The names of tags in an input.
pub(crate) fn tags_of(input: &Arguments, field: &str) -> Result<Vec<String>> {
    let tags = input.objects(field)?;
    tags.iter()
        .map(|tag| {
            let name = tag.required("tagName")?;
            if name.len() > TAG_BYTES || name.chars().any(char::is_control) {
                let message = format!("a tag has more than {TAG_BYTES} bytes, or a control character");
                return Err(WandbError::invalid(message));
            }
            Ok(name.to_owned())
        })
        .collect()
}

/// Changes the tags in the document of a version or of a collection.
pub(crate) fn change_tags(members: &mut Members, added: &[String], deleted: &[String]) -> Result<()> {
    let mut tags: Vec<String> = known_tags(members).map(str::to_owned).collect();
    tags.retain(|tag| !deleted.contains(tag));
    tags.extend(added.iter().cloned());
    tags.sort();
    tags.dedup();
    if tags.len() > MAX_TAGS {
        return Err(WandbError::invalid(format!("there are more than {MAX_TAGS} tags: delete some")));
    }
    members.insert("tags".to_owned(), tags.into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact_view::tag_nodes;

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn tags_are_a_sorted_set() {
        let mut members = Members::new();
        change_tags(&mut members, &texts(&["b", "a", "b"]), &[]).unwrap();
        change_tags(&mut members, &texts(&["c"]), &texts(&["a", "absent"])).unwrap();
        assert_eq!(members["tags"], json!(["b", "c"]));
        assert_eq!(tag_nodes(&members)[0], json!({"id": "b", "name": "b"}));
        let many: Vec<String> = (0..MAX_TAGS).map(|number| number.to_string()).collect();
        assert!(change_tags(&mut members, &many, &[]).is_err());
        assert_eq!(members["tags"], json!(["b", "c"]), "a refused change changes nothing");
    }

    #[test]
    fn a_collection_with_links_keeps_their_type() {
        let collection = |members: Value| members.as_object().unwrap().clone();
        let mut linked = collection(
            json!({"name": "best", "type": "model", "links": true, "versions": [{"id": "a", "version": 0}]}),
        );
        let error = set_type(&mut linked, "dataset").unwrap_err();
        assert!(error.message.contains("`model` are linked to `best`"), "{error}");
        set_type(&mut linked, "model").unwrap();
        assert_eq!(text(&linked, "type"), "model");
        for other in
            [json!({"type": "model", "links": true}), json!({"type": "model", "versions": [{"id": "a"}]})]
        {
            let mut other = collection(other);
            set_type(&mut other, "dataset").unwrap();
            assert_eq!(text(&other, "type"), "dataset");
        }
    }

    #[test]
    fn tags_of_clients_are_checked() {
        let tags = |name: &str| tags_of(&Arguments::new(json!({"tags": [{"tagName": name}]})), "tags");
        assert_eq!(tags("best model").unwrap(), ["best model"]);
        for wrong in ["", "a\nb", &"x".repeat(TAG_BYTES + 1)] {
            tags(wrong).expect_err(wrong);
        }
        assert!(tags_of(&Arguments::new(json!({})), "tags").unwrap().is_empty());
    }
}
