//! Aliases of versions: names in a collection that people move between its versions.

use std::collections::BTreeSet;

use matyan_channels::documents::Effect;
use serde_json::{Value, json};

use crate::artifact_view::{COMMITTED, aliases_of, collection_name, own_collection, stored_input, versions};
use crate::call::CallContext;
use crate::documents::{self, COLLECTIONS, Members, text};
use crate::error::{Result, WandbError};
use crate::node::Arguments;

/// Aliases of a collection.
const MAX_ALIASES: usize = 10_000;

/// The names of aliases in an input.
pub(crate) fn requested_aliases(input: &Arguments) -> Result<Vec<String>> {
    input.objects("aliases")?.iter().map(|alias| checked_alias(alias.required("alias")?)).collect()
}

fn checked_alias(alias: &str) -> Result<String> {
    if alias.contains(['/', ':']) || is_version(alias) {
        return Err(WandbError::invalid(format!(
            "`{}` is not an alias: it contains `/` or `:`, or is the name of a version",
            alias.escape_debug()
        )));
    }
    Ok(alias.to_owned())
}

fn is_version(name: &str) -> bool {
    name.strip_prefix('v')
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit()))
}

/// The collection whose aliases a client changes: a version may also be linked to others.
fn collection_of_aliases(input: &Arguments, artifact: &Members) -> Result<String> {
    let aliases = input.objects("aliases")?;
    let Some(first) = aliases.first() else { return own_collection(artifact) };
    let project = first.text("projectName")?.unwrap_or_else(|| text(artifact, "project"));
    let name = first.text("artifactCollectionName")?.unwrap_or_else(|| text(artifact, "collection"));
    collection_name(project, name)
}

/// Changes the aliases of a collection: the id of a version by alias.
async fn change_aliases(
    context: &CallContext,
    collection: &str,
    artifact: &Members,
    effect: Effect,
    change: impl Fn(&mut Members, &str),
) -> Result<()> {
    documents::change(&context.channels, COLLECTIONS, collection, effect, |members| {
        change_known_aliases(members, artifact, &change)
    })
    .await
}

/// Changes the aliases in the document of a collection. Until a version is committed, its aliases are in its own document,
/// and it may be the first of its collection.
fn change_known_aliases(
    collection: &mut Members,
    artifact: &Members,
    change: &impl Fn(&mut Members, &str),
) -> Result<()> {
    let id = text(artifact, "id");
    if !versions(collection).any(|version| version["id"] == id) {
        return Err(WandbError::invalid(match text(artifact, "state") {
            COMMITTED => "the artifact is not in this collection: link it again, and then change its aliases",
            _ => {
                "the artifact is not committed: wait for it with `artifact.wait()`, and then change its aliases"
            }
        }));
    }
    let aliases = aliases_mut(collection)?;
    change(aliases, id);
    if aliases.len() > MAX_ALIASES {
        let message = format!("the artifact has more than {MAX_ALIASES} aliases: delete some");
        return Err(WandbError::invalid(message));
    }
    Ok(())
}

/// The aliases in the document of a collection.
pub(crate) fn aliases_mut(collection: &mut Members) -> Result<&mut Members> {
    let aliases = collection.entry("aliases").or_insert_with(|| json!({}));
    aliases.as_object_mut().ok_or_else(|| WandbError::broken("aliases"))
}

/// Adds the aliases of an input to a version that is committed.
pub(crate) async fn add_aliases_of(
    context: &CallContext,
    input: &Arguments,
    artifact: &Members,
) -> Result<()> {
    let aliases = requested_aliases(input)?;
    if aliases.is_empty() {
        return Ok(());
    }
    change_aliases(context, &own_collection(artifact)?, artifact, Effect::Adds, |known, id| {
        for alias in &aliases {
            known.insert(alias.clone(), id.into());
        }
    })
    .await
}

/// Replaces the aliases of a version. Without the right to edit, a client that sends the aliases it knows and a new one
/// adds the new one.
pub(crate) async fn replace_aliases(
    context: &CallContext,
    artifact: &Members,
    aliases: &[String],
) -> Result<()> {
    let name = own_collection(artifact)?;
    let collection = documents::read(&context.channels, COLLECTIONS, &name).await?.unwrap_or_default();
    let known = aliases_of(&collection, text(artifact, "id"));
    let wanted: BTreeSet<&String> = aliases.iter().collect();
    let left_out: BTreeSet<String> = known.filter(|alias| !wanted.contains(alias)).cloned().collect();
    let effect = if left_out.is_empty() { Effect::Adds } else { Effect::Deletes };
    change_aliases(context, &name, artifact, effect, |known, id| {
        // An alias that was added in the meantime stays.
        known.retain(|alias, version| *version != *id || !left_out.contains(alias));
        for alias in aliases {
            known.insert(alias.clone(), id.into());
        }
    })
    .await
}

/// Adds or deletes aliases.
pub(crate) async fn set_aliases(
    context: &CallContext,
    arguments: &Arguments,
    is_added: bool,
) -> Result<Value> {
    let input = arguments.input()?;
    let artifact = stored_input(context, &input).await?;
    let aliases = requested_aliases(&input)?;
    let effect = if is_added { Effect::Adds } else { Effect::Deletes };
    let collection = collection_of_aliases(&input, &artifact)?;
    change_aliases(context, &collection, &artifact, effect, |known, id| {
        for alias in &aliases {
            if is_added {
                known.insert(alias.clone(), id.into());
            } else if known.get(alias).is_some_and(|version| version == id) {
                known.remove(alias);
            }
        }
    })
    .await?;
    Ok(json!({"success": true}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_of_a_version_that_is_not_committed_are_refused() {
        let version = json!({"id": "a", "project": "p", "collection": "model"});
        let version = version.as_object().unwrap();
        let add = |known: &mut Members, id: &str| {
            known.insert("best".to_owned(), id.into());
        };
        let mut collection = Members::new();
        let error = change_known_aliases(&mut collection, version, &add).unwrap_err();
        assert!(error.message.contains("artifact.wait()"), "{error}");
        let unlinked = Members::from_iter([("state".to_owned(), COMMITTED.into())]);
        let error = change_known_aliases(&mut collection, &unlinked, &add).unwrap_err();
        assert!(error.message.contains("link it again"), "{error}");
        assert!(collection.is_empty(), "the collection has no type yet, and the first commit must set it");
        let committed = json!({"versions": [{"id": "a", "version": 0}], "aliases": {"latest": "a"}});
        let mut collection = committed.as_object().unwrap().clone();
        change_known_aliases(&mut collection, version, &add).unwrap();
        assert_eq!(collection["aliases"], json!({"best": "a", "latest": "a"}));
    }

    #[test]
    fn aliases_are_changed_in_the_collection_that_the_client_names() {
        let version = json!({"id": "a", "project": "p", "collection": "model"});
        let collection = |alias: Value| {
            let input = Arguments::new(json!({"aliases": [alias]}));
            collection_of_aliases(&input, version.as_object().unwrap()).unwrap()
        };
        assert_eq!(collection(json!({"alias": "best"})), "p/model");
        assert_eq!(collection(json!({"alias": "best", "artifactCollectionName": "other"})), "p/other");
        let linked = json!({"alias": "best", "projectName": "models", "artifactCollectionName": "linked"});
        assert_eq!(collection(linked), "models/linked");
    }

    #[test]
    fn aliases_are_no_versions() {
        for alias in ["v1", "v0", "a:b", "a/b"] {
            assert!(checked_alias(alias).is_err(), "{alias}");
        }
        for alias in ["best", "v", "v1.0", "version1"] {
            assert!(checked_alias(alias).is_ok(), "{alias}");
        }
    }
}
