//! Single files of artifacts, which clients read by the version that they were uploaded with, and by their digest.

use futures::{StreamExt, stream};
use matyan_channels::{Channels, in_order};

use crate::artifact_view::{collection_name, versions};
use crate::call::{CALLS_AT_A_TIME, CallContext};
use crate::documents::{self, ARTIFACTS, COLLECTIONS};
use crate::error::{Result, WandbError};
use crate::manifest::{self, Owner};
use crate::route::CollectionName;

/// Maximum number of versions of a collection that are searched, the newest first, for the place of a deleted version.
const MAX_SEARCHED: usize = 1_000;

/// The file that a client reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileDigest<'r> {
    /// The collection of the version whose file the client reads. Older clients do not send it.
    pub(crate) collection: Option<&'r CollectionName>,
    /// The id of the version that the file was uploaded with.
    pub(crate) owner: &'r str,
    /// Hexadecimal digits.
    pub(crate) digest: &'r str,
}

/// The run and the path of a file.
pub(crate) async fn find(context: &CallContext, file: FileDigest<'_>) -> Result<(String, String)> {
    let missing = || {
        WandbError::missing(
            "no version of an artifact has this file: it was deleted, or was never uploaded; log the artifact again",
        )
    };
    let owner = owner(context, file).await?.ok_or_else(missing)?;
    let manifest = manifest::read(context, &owner).await?.ok_or_else(missing)?;
    let name = manifest.name_by_digest(&owner.id, file.digest).ok_or_else(missing)?;
    let path = owner.path(name)?;
    Ok((owner.run_id, path))
}

/// The version that a file was uploaded with. If it was deleted, its place is in the documents of the versions that have
/// its files.
async fn owner(context: &CallContext, file: FileDigest<'_>) -> Result<Option<Owner>> {
    if let Some(version) = documents::read(&context.channels, ARTIFACTS, file.owner).await? {
        return Ok(Some(Owner::of_version(&version)));
    }
    let Some(collection) = file.collection else { return Ok(None) };
    let Ok(name) = collection_name(&collection.project, &collection.name) else { return Ok(None) };
    if let Some(hint) = context.owner_hints.get(&name, file.owner)
        && let Some(version) = documents::read(&context.channels, ARTIFACTS, &hint).await?
        && let Some(found) = manifest::other_owner(&version, file.owner)
    {
        return Ok(Some(found));
    }
    let Some((version, found)) = owner_in(&context.channels, &name, file.owner).await? else {
        return Ok(None);
    };
    context.owner_hints.keep(&name, file.owner, &version);
    Ok(Some(found))
}

/// The id of the newest version in a collection that knows a deleted version, and the place of the deleted version.
async fn owner_in(channels: &Channels, collection: &str, owner: &str) -> Result<Option<(String, Owner)>> {
    let collection = documents::read(channels, COLLECTIONS, collection).await?.unwrap_or_default();
    let ids = versions(&collection).rev().filter_map(|version| version["id"].as_str());
    let ids: Vec<&str> = ids.take(MAX_SEARCHED).collect();
    let reads = ids.iter().map(|id| documents::read(channels, ARTIFACTS, id));
    let mut versions = stream::iter(&ids).zip(in_order(CALLS_AT_A_TIME, reads));
    while let Some((id, version)) = versions.next().await {
        if let Some(found) = version?.and_then(|version| manifest::other_owner(&version, owner)) {
            return Ok(Some(((*id).to_owned(), found)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::test_context::empty_context;

    #[tokio::test]
    async fn a_file_of_no_version_is_missing() {
        let (context, counts) = empty_context();
        let collection = CollectionName { project: "p".to_owned(), name: "model".to_owned() };
        for (collection, calls) in [(None, 1), (Some(&collection), 3)] {
            let file = FileDigest { collection, owner: "v0", digest: "0102" };
            let error = find(&context, file).await.unwrap_err();
            assert_eq!(error.status, StatusCode::NOT_FOUND);
            assert!(error.message.contains("log the artifact again"), "{error}");
            assert_eq!(counts.total_and_most().0, calls, "the version, and then the collection");
        }
        context.owner_hints.keep("p/model", "v0", "v1");
        let file = FileDigest { collection: Some(&collection), owner: "v0", digest: "0102" };
        find(&context, file).await.unwrap_err();
        assert_eq!(counts.total_and_most().0, 6, "a stale hint leads to a search");
    }
}
