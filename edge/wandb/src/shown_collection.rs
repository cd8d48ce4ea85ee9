//! The parts of a collection that the nodes of some of its versions show. A collection may have many versions and aliases:
//! they are read once for all shown versions, and then looked up by the ids of the versions.

use std::collections::{HashMap, HashSet};

use matyan_channels::Channels;
use serde_json::Value;

use crate::documents::{self, COLLECTIONS, Members};
use crate::error::Result;

/// A collection with the entries and aliases of only some of its versions.
#[derive(Debug)]
pub(crate) struct ShownCollection {
    /// The document without its versions and aliases.
    members: Members,
    /// By the ids of versions.
    entries: HashMap<String, Value>,
    /// By the ids of versions, in the order of the document.
    aliases: HashMap<String, Vec<String>>,
}

impl ShownCollection {
    /// Keeps the entries and aliases of the versions with these ids, from the document of a collection.
    pub(crate) fn new(mut document: Members, ids: &HashSet<&str>) -> Self {
        let shown_id = |id: &Value| id.as_str().filter(|id| ids.contains(id)).map(str::to_owned);
        let mut entries = HashMap::new();
        if let Some(Value::Array(versions)) = document.remove("versions") {
            for entry in versions {
                if let Some(id) = shown_id(&entry["id"]) {
                    entries.entry(id).or_insert(entry);
                }
            }
        }
        let mut aliases: HashMap<String, Vec<String>> = HashMap::new();
        if let Some(Value::Object(known)) = document.remove("aliases") {
            for (alias, id) in known {
                if let Some(id) = shown_id(&id) {
                    aliases.entry(id).or_default().push(alias);
                }
            }
        }
        Self { members: document, entries, aliases }
    }

    /// Reads the collection with this name; empty if there is none.
    pub(crate) async fn read(channels: &Channels, name: &str, ids: &HashSet<&str>) -> Result<Self> {
        let document = documents::read(channels, COLLECTIONS, name).await?.unwrap_or_default();
        Ok(Self::new(document, ids))
    }

    /// The document without its versions and aliases.
    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    /// The entry of a version; null if the version is not in the collection.
    pub(crate) fn entry(&self, id: &str) -> &Value {
        self.entries.get(id).unwrap_or(&Value::Null)
    }

    /// The aliases of a version.
    pub(crate) fn aliases(&self, id: &str) -> impl Iterator<Item = &str> {
        self.aliases.get(id).into_iter().flatten().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_collection_shows_the_versions_that_are_asked_for() {
        let document = json!({
            "name": "best",
            "versions": [{"id": "a", "version": 0}, {"id": "b", "version": 1}, {"id": "c", "version": 2}, {}],
            "aliases": {"prod": "a", "latest": "c", "old": "a", "test": "b"},
        });
        let shown =
            ShownCollection::new(document.as_object().unwrap().clone(), &HashSet::from(["a", "c", "x"]));
        let of =
            |id: &str| (shown.entry(id)["version"].clone(), shown.aliases(id).collect::<Vec<_>>().join(" "));
        assert_eq!(of("a"), (json!(0), "prod old".to_owned()));
        assert_eq!(of("c"), (json!(2), "latest".to_owned()));
        for other in ["b", "x"] {
            assert_eq!(of(other), (Value::Null, String::new()), "{other}");
        }
        assert_eq!(Value::from(shown.members().clone()), json!({"name": "best"}));
    }
}
