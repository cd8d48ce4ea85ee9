//! Links of versions to collections, such as the collections of W&B's model registry. A collection has either links, or
//! its own versions.

use matyan_channels::documents::Effect;
use serde_json::{Value, json};

use crate::aliases::{aliases_mut, requested_aliases};
use crate::artifact_view::{
    COMMITTED, LATEST, LINKS, artifact_id, collection_name, has_links, own_collection, stored, type_of,
    versions,
};
use crate::artifacts::{check_type, describe, now_us, push_version, remove_version};
use crate::call::{CallContext, project_or_default};
use crate::collections::{no_collection, parsed_id};
use crate::documents::{self, COLLECTIONS, Members, text};
use crate::error::{Result, WandbError};
use crate::node::Arguments;

/// The collection to which a version is linked.
#[derive(Clone, Copy, Debug)]
struct Target<'a> {
    project: &'a str,
    name: &'a str,
    artifact_type: &'a str,
}

/// Links a version to a collection, and returns the number of the link. May be repeated.
pub(crate) async fn add(context: &CallContext, arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let id = match input.text("artifactID")? {
        Some(id) => id.to_owned(),
        None => artifact_id(input.required("clientID")?),
    };
    let artifact = stored(context, &id).await?;
    if text(&artifact, "state") != COMMITTED {
        return Err(WandbError::invalid(
            "the artifact is not committed: wait for it with `artifact.wait()`, and then link it",
        ));
    }
    let own = documents::read(&context.channels, COLLECTIONS, &own_collection(&artifact)?).await?;
    let own = own.unwrap_or_default();
    let target = Target {
        project: project_or_default(input.text("projectName")?),
        name: input.required("artifactPortfolioName")?,
        artifact_type: type_of(&artifact, &own),
    };
    let full = collection_name(target.project, target.name)?;
    let aliases = requested_aliases(&input)?;
    let version = documents::change(&context.channels, COLLECTIONS, &full, Effect::Adds, |members| {
        add_link(members, target, &artifact, &aliases)
    })
    .await?;
    Ok(json!({"versionIndex": version}))
}

/// Adds a link to the document of a collection, unless it is there already. Returns its number.
fn add_link(
    collection: &mut Members,
    target: Target<'_>,
    artifact: &Members,
    aliases: &[String],
) -> Result<i64> {
    if collection.is_empty() {
        describe(collection, target.project, target.name, target.artifact_type);
        collection.insert(LINKS.to_owned(), true.into());
    }
    if !has_links(collection) {
        return Err(WandbError::invalid(format!(
            "`{}` has versions of its own: link to another name",
            target.name.escape_debug()
        )));
    }
    check_type(collection, target.artifact_type)?;
    let id = text(artifact, "id");
    let known = versions(collection).find(|version| version["id"] == id);
    let (version, is_new) = match known {
        Some(link) => (link["version"].as_i64().ok_or_else(|| WandbError::broken("version"))?, false),
        None => {
            let link = json!({"digest": text(artifact, "digest"), "linked_us": now_us()});
            (push_version(collection, id, link)?, true)
        }
    };
    let known = aliases_mut(collection)?;
    for alias in aliases.iter().map(String::as_str).chain(is_new.then_some(LATEST)) {
        known.insert(alias.to_owned(), id.into());
    }
    Ok(version)
}

/// Deletes a link. The version stays where it was logged. May be repeated.
pub(crate) async fn delete(context: &CallContext, arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let id = input.required("artifactID")?;
    let collection_id = input.required("artifactPortfolioID")?;
    let (project, name) = parsed_id(collection_id)?;
    let full = collection_name(project, name)?;
    documents::change(&context.channels, COLLECTIONS, &full, Effect::Deletes, |members| {
        if members.is_empty() {
            return Err(no_collection(collection_id));
        }
        if !has_links(members) {
            return Err(WandbError::invalid(
                "the version was logged under this name and is not a link: delete the version",
            ));
        }
        remove_version(members, id);
        Ok(())
    })
    .await?;
    Ok(json!({"success": true}))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target<'_> = Target { project: "model-registry", name: "best", artifact_type: "model" };

    fn artifact(id: &str) -> Members {
        json!({"id": id, "digest": id}).as_object().unwrap().clone()
    }

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn links_have_numbers_and_aliases_of_their_own() {
        let mut collection = Members::new();
        let mut link = |id: &str, aliases: &[&str]| {
            let version = add_link(&mut collection, TARGET, &artifact(id), &texts(aliases)).unwrap();
            (version, collection["aliases"].clone())
        };
        assert_eq!(link("a", &["prod"]), (0, json!({"prod": "a", "latest": "a"})));
        assert_eq!(link("b", &[]), (1, json!({"prod": "a", "latest": "b"})));
        assert_eq!(link("a", &["old"]), (0, json!({"prod": "a", "latest": "b", "old": "a"})), "repeated");
        remove_version(&mut collection, "b");
        assert_eq!(collection["aliases"], json!({"prod": "a", "old": "a", "latest": "a"}));
        let version = add_link(&mut collection, TARGET, &artifact("b"), &[]);
        assert_eq!(version, Ok(2), "a number is not used again");
    }

    #[test]
    fn a_collection_has_links_or_versions_of_its_own() {
        let own = json!({"project": "p", "name": "best", "type": "model", "versions": []});
        let mut collection = own.as_object().unwrap().clone();
        let error = add_link(&mut collection, TARGET, &artifact("a"), &[]).unwrap_err();
        assert!(error.message.contains("versions of its own"), "{error}");
        let mut collection = Members::new();
        add_link(&mut collection, TARGET, &artifact("a"), &[]).unwrap();
        let other = Target { artifact_type: "dataset", ..TARGET };
        let error = add_link(&mut collection, other, &artifact("b"), &[]).unwrap_err();
        assert!(error.message.contains("`model`"), "{error}");
    }
}
