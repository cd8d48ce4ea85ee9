//! Artifacts: versions of sets of files, with a name, and aliases that people move between them.
//!
//! The files of a version are in the folder `wandb-artifacts` of the run that has made it. Everything else that W&B
//! keeps is in named documents: one document for each version, whose name is its id, and one for each collection.
//! When all files of a version are uploaded, one change of the collection's document gives the version its number and
//! moves `latest` to it.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use matyan_channels::documents::Effect;
use matyan_channels::in_order;
use serde_json::{Value, json};

use crate::aliases::{add_aliases_of, aliases_mut, replace_aliases, requested_aliases};
use crate::artifact_view::{
    COMMITTED, IS_ONLY_USED, LATEST, artifact_id, collection_name, entity_of, has_files, has_links,
    no_artifact, node, own_collection, stored, stored_input, totals, versions,
};
use crate::batch::{RunBatch, publish, publish_and_wait, wait_for_published};
use crate::call::{CALLS_AT_A_TIME, CallContext, entity_or_default, project_or_default};
use crate::collections::{change_tags, tags_of};
use crate::documents::{self, ARTIFACTS, COLLECTIONS, Members, text};
use crate::error::{Result, WandbError};
use crate::files::{MANIFEST, connection, sign, sign_all, version_folder, version_path};
use crate::manifest;
use crate::names::{MADE_ARTIFACTS, RunName, USED_ARTIFACTS, WANDB};
use crate::node::Arguments;
use crate::param_changes::ParamChanges;
use crate::parted_uploads;
use crate::run_view::{RunSnapshot, parts_to_change, parts_without_params};
use crate::runs::{find_parts, no_run};

const PENDING: &str = "PENDING";
const DELETED: &str = "DELETED";

/// Versions of a collection, which are in one document.
const MAX_VERSIONS: usize = 10_000;

/// Files in one request.
const MAX_FILES: usize = 10_000;

pub(crate) fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Starts a version.
pub(crate) async fn create(context: &CallContext, arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let entity = entity_or_default(input.text("entityName")?).to_owned();
    let project = project_or_default(input.text("projectName")?).to_owned();
    let name = match input.text("artifactCollectionName")? {
        Some(name) => name.to_owned(),
        None => {
            let names = input.texts("artifactCollectionNames")?.unwrap_or_default();
            (*names.first().ok_or_else(|| WandbError::invalid("`artifactCollectionName` is missing"))?)
                .to_owned()
        }
    };
    let collection = collection_name(&project, &name)?;
    if input.text("distributedID")?.is_some() {
        // Without this, only the files of the run that ends the version would be in it.
        return Err(WandbError::invalid(
            "this server does not join the files of several runs to one version: log a version for each run, or all \
             files with one run",
        ));
    }
    let digest_text = input.required("digest")?;
    let tags = tags_of(&input, "tags")?;
    let known = documents::read(&context.channels, COLLECTIONS, &collection).await?.unwrap_or_default();
    // Before the client uploads anything. The commit checks it again.
    check_no_links(&known)?;
    // A version that no run has made belongs to the run that uses it, which the request for its manifest names.
    let run_name = input.text("runName")?;
    let maker = match run_name {
        Some(run_name) => {
            let run = RunName::new(&project, run_name)?;
            Some(find_parts(context, &run, parts_to_change()).await?.ok_or_else(|| no_run(&run.id))?)
        }
        None => None,
    };
    if input.flag("enableDigestDeduplication")
        && let Some(artifact) = version_of_digest(context, &known, digest_text).await?
    {
        add_aliases_of(context, &input, &artifact).await?;
        let artifact = add_tags(context, artifact, &tags).await?;
        if let Some(maker) = maker {
            link(context, maker, MADE_ARTIFACTS, text(&artifact, "id")).await?;
        }
        return Ok(json!({"artifact": node(context, &entity, &artifact).await?}));
    }
    let run_name = run_name.unwrap_or_default();
    let id = match input.text("clientID")? {
        Some(client_id) => artifact_id(client_id),
        None => artifact_id(&format!("{collection}/{run_name}/{digest_text}")),
    };
    let now = now_us();
    let mut artifact = Members::new();
    for (member, value) in [
        ("id", id.as_str()),
        ("entity", entity.as_str()),
        ("project", project.as_str()),
        ("collection", name.as_str()),
        ("type", input.required("artifactTypeName")?),
        ("run", run_name),
        ("run_id", maker.as_ref().map_or("", |run| run.run_id.as_str())),
        ("digest", digest_text),
        ("description", input.text("description")?.unwrap_or_default()),
        ("metadata", input.text("metadata")?.unwrap_or("{}")),
        ("digest_algorithm", input.text("digestAlgorithm")?.unwrap_or("MANIFEST_MD5")),
        ("state", PENDING),
    ] {
        artifact.insert(member.to_owned(), value.into());
    }
    if maker.is_none() {
        artifact.insert(IS_ONLY_USED.to_owned(), true.into());
    }
    artifact.insert("created_us".to_owned(), now.into());
    artifact.insert("history_step".to_owned(), input.integer("historyStep")?.into());
    artifact.insert("aliases".to_owned(), requested_aliases(&input)?.into());
    change_tags(&mut artifact, &tags, &[])?;
    let artifact = begin(context, &id, &artifact).await?;
    if let Some(maker) = maker {
        link(context, maker, MADE_ARTIFACTS, &id).await?;
    }
    Ok(json!({"artifact": node(context, &entity, &artifact).await?}))
}

/// Stores a new version, and returns the stored version: a repeated request finds the version, which may be committed
/// by then. A client that gets a committed version does not upload its files. So a version whose run was deleted
/// starts over: it keeps its number, and gets its files.
async fn begin(context: &CallContext, id: &str, artifact: &Members) -> Result<Members> {
    let lost = match documents::read(&context.channels, ARTIFACTS, id).await? {
        Some(known) if text(&known, "state") == COMMITTED && !has_files(context, &known).await? => {
            Some(known)
        }
        _ => None,
    };
    documents::change(&context.channels, ARTIFACTS, id, Effect::Adds, |members| {
        if members.is_empty() || lost.as_ref() == Some(&*members) {
            members.clone_from(artifact);
        }
        Ok(members.clone())
    })
    .await
}

/// Records in a run that it has logged or used an artifact.
async fn link(context: &CallContext, run: RunSnapshot, member: &str, id: &str) -> Result<()> {
    let mut batch = RunBatch::default();
    let mut params = ParamChanges::new(run.params);
    params.set(&mut batch, member, &[WANDB, member, id], matyan_value::Value::Bool(true))?;
    publish_and_wait(&context.channels, &run.run_id, batch).await?;
    Ok(())
}

/// The newest version with these files; `None` if there is none, or if its files were deleted with its run. The client
/// uploads no files for a version that it gets.
async fn version_of_digest(
    context: &CallContext,
    collection: &Members,
    digest: &str,
) -> Result<Option<Members>> {
    let found = versions(collection).rev().find(|version| version["digest"] == digest);
    let Some(id) = found.and_then(|version| version["id"].as_str()) else { return Ok(None) };
    let Some(artifact) = documents::read(&context.channels, ARTIFACTS, id).await? else { return Ok(None) };
    let is_complete =
        has_files(context, &artifact).await? && manifest::has_files_of_others(context, &artifact).await?;
    Ok(is_complete.then_some(artifact))
}

/// Adds the tags of a known version that is logged again.
async fn add_tags(context: &CallContext, artifact: Members, tags: &[String]) -> Result<Members> {
    if tags.is_empty() {
        return Ok(artifact);
    }
    let id = text(&artifact, "id");
    documents::change(&context.channels, ARTIFACTS, id, Effect::Adds, |members| {
        if members.is_empty() {
            return Err(no_artifact(id));
        }
        change_tags(members, tags, &[])?;
        Ok(members.clone())
    })
    .await
}

/// Refuses changes to the files of a version that others may already use.
fn check_pending(artifact: &Members) -> Result<()> {
    if text(artifact, "state") == PENDING {
        return Ok(());
    }
    Err(WandbError::invalid("the artifact is committed, and its files stay as they are: log a new version"))
}

/// Gives upload URLs for files of versions.
pub(crate) async fn create_files(context: &CallContext, arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let specs = input.objects("artifactFiles")?;
    if specs.len() > MAX_FILES {
        return Err(WandbError::invalid(format!(
            "`artifactFiles` has more than {MAX_FILES} members: send several requests"
        )));
    }
    let ids = specs.iter().map(|spec| spec.required("artifactID")).collect::<Result<BTreeSet<&str>>>()?;
    let run_ids = runs_of_pending(context, &ids).await?;
    let mut files: BTreeMap<&str, Vec<NewFile<'_>>> = BTreeMap::new();
    for (index, spec) in specs.iter().enumerate() {
        let artifact_id = spec.required("artifactID")?;
        let run_id = run_ids.get(artifact_id).ok_or_else(|| no_artifact(artifact_id))?;
        let name = spec.required("name")?;
        files.entry(run_id).or_default().push(NewFile {
            index,
            artifact_id,
            name,
            path: version_path(artifact_id, name)?,
            part_count: parted_uploads::part_count(spec, "uploadPartsInput")?,
        });
    }
    let mut nodes = vec![Value::Null; specs.len()];
    for (run_id, files) in files {
        add_file_nodes(context, run_id, &files, &mut nodes).await?;
    }
    let total = nodes.len();
    Ok(json!({"files": connection(nodes, 0, total)}))
}

/// A file of a version that a client wants to upload.
struct NewFile<'r> {
    /// The place in the request.
    index: usize,
    artifact_id: &'r str,
    name: &'r str,
    path: String,
    /// `None` if the client sends the file at once.
    part_count: Option<usize>,
}

/// The runs of versions that are not committed, by the ids of the versions.
async fn runs_of_pending<'r>(
    context: &CallContext,
    ids: &BTreeSet<&'r str>,
) -> Result<BTreeMap<&'r str, String>> {
    let reads = ids.iter().map(|id| documents::read(&context.channels, ARTIFACTS, id));
    let mut artifacts = stream::iter(ids).zip(in_order(CALLS_AT_A_TIME, reads));
    let mut run_ids = BTreeMap::new();
    while let Some((id, artifact)) = artifacts.next().await {
        let artifact = artifact?.ok_or_else(|| no_artifact(id))?;
        check_pending(&artifact)?;
        run_ids.insert(*id, text(&artifact, "run_id").to_owned());
    }
    Ok(run_ids)
}

/// Signs upload URLs for files of a run, announces the files, and puts their nodes at their places.
async fn add_file_nodes(
    context: &CallContext,
    run_id: &str,
    files: &[NewFile<'_>],
    nodes: &mut [Value],
) -> Result<()> {
    let paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
    let uploads = sign_all(context, run_id, &paths).await?;
    let mut batch = RunBatch::default();
    for (file, upload) in files.iter().zip(uploads) {
        let NewFile { index, artifact_id, name, path, part_count } = file;
        let parts = match part_count {
            Some(count) => parted_uploads::begin(context, run_id, path, *count).await?,
            None => Value::Null,
        };
        batch.announce(run_id, path);
        nodes[*index] = json!({
            "id": format!("{artifact_id}/{name}"),
            "name": name,
            "displayName": name,
            "storagePath": path,
            "uploadUrl": upload.url,
            "uploadHeaders": upload.headers,
            "uploadMultipartUrls": parts,
            "artifact": {"id": artifact_id},
        });
    }
    publish(&context.channels, run_id, batch).await?;
    Ok(())
}

/// Ends the upload of a file in parts.
pub(crate) async fn end_upload(context: &CallContext, arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let artifact = stored_input(context, &input).await?;
    check_pending(&artifact)?;
    let path = input.required("storagePath")?;
    let folder = version_folder(text(&artifact, "id"));
    if !path.starts_with(&folder) {
        return Err(WandbError::invalid(
            "`storagePath` is not the path of a file of this artifact: send the path that `createArtifactFiles` has returned",
        ));
    }
    parted_uploads::end(context, text(&artifact, "run_id"), path, &input).await?;
    Ok(json!({"digest": null}))
}

/// Gives an upload URL for the list of the files of a version.
pub(crate) async fn create_manifest(context: &CallContext, arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let id = input.required("artifactID")?;
    let manifest_type = input.text("type")?;
    let base = input.text("baseArtifactID")?;
    let using_run = using_run(context, &input, &stored(context, id).await?).await?;
    let artifact = documents::change(&context.channels, ARTIFACTS, id, Effect::Adds, |members| {
        if members.is_empty() {
            return Err(no_artifact(id));
        }
        check_pending(members)?;
        manifest::set_base(members, manifest_type, base);
        if let Some((run, run_id)) = &using_run {
            members.insert("run".to_owned(), run.as_str().into());
            members.insert("run_id".to_owned(), run_id.as_str().into());
        }
        Ok(members.clone())
    })
    .await?;
    manifest_upload(context, &artifact, input.text("digest")?).await
}

/// The run that uses a new version, by its ids in W&B and here; `None` if a run has made the version.
async fn using_run(
    context: &CallContext,
    input: &Arguments,
    artifact: &Members,
) -> Result<Option<(String, String)>> {
    if !text(artifact, "run_id").is_empty() {
        return Ok(None);
    }
    let run_name = input.text("runName")?.ok_or_else(|| {
        WandbError::invalid("an artifact needs a run: call `wandb.init`, and then `log_artifact` of the run")
    })?;
    let run = RunName::new(project_or_default(input.text("projectName")?), run_name)?;
    let found = find_parts(context, &run, parts_without_params()).await?.ok_or_else(|| no_run(&run.id))?;
    Ok(Some((run.id, found.run_id)))
}

/// The id of a manifest is the id of its version.
pub(crate) async fn update_manifest(context: &CallContext, arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let artifact = stored(context, input.required("artifactManifestID")?).await?;
    check_pending(&artifact)?;
    manifest_upload(context, &artifact, input.text("digest")?).await
}

async fn manifest_upload(context: &CallContext, artifact: &Members, digest: Option<&str>) -> Result<Value> {
    let id = text(artifact, "id");
    let run_id = text(artifact, "run_id");
    let path = version_path(id, MANIFEST)?;
    let upload = sign(context, run_id, &path).await?;
    let mut batch = RunBatch::default();
    batch.announce(run_id, &path);
    // The commit reads the manifest, and a client does not repeat a commit that was refused.
    publish_and_wait(&context.channels, run_id, batch).await?.check_visible()?;
    let file = json!({
        "id": id,
        "name": MANIFEST,
        "displayName": MANIFEST,
        "uploadUrl": upload.url,
        "uploadHeaders": upload.headers,
    });
    Ok(json!({"artifactManifest": {"id": id, "digest": digest, "file": file}}))
}

/// Ends a version: it gets its number, its aliases, and `latest`.
pub(crate) async fn commit(context: &CallContext, arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let artifact = stored_input(context, &input).await?;
    let id = text(&artifact, "id").to_owned();
    if !has_files(context, &artifact).await? {
        return Err(WandbError::invalid(
            "the manifest of the artifact was not uploaded: log the artifact again",
        ));
    }
    // Others read the files as soon as the version has its number.
    wait_for_published(&context.channels, text(&artifact, "run_id")).await?.check_visible()?;
    if text(&artifact, "state") == COMMITTED {
        // A repeated request.
        return Ok(json!({"artifact": node(context, entity_of(&artifact), &artifact).await?}));
    }
    let complete = manifest::complete(context, &artifact).await?;
    let (own_count, own_bytes) = totals(context, text(&artifact, "run_id"), &id).await?;
    // The sizes of files of other versions are not looked up: there may be 100,000 such files.
    let (other_count, other_bytes) = complete.totals_elsewhere;
    let name = own_collection(&artifact)?;
    let add = |members: &mut Members| add_version(members, &artifact);
    let version = documents::change(&context.channels, COLLECTIONS, &name, Effect::Adds, add).await?;
    let artifact = documents::change(&context.channels, ARTIFACTS, &id, Effect::Adds, |members| {
        if members.is_empty() {
            return Err(WandbError::missing("the artifact was deleted while it was uploaded: log it again"));
        }
        members.insert("version".to_owned(), version.into());
        members.insert("file_count".to_owned(), (own_count + other_count).into());
        members.insert("size".to_owned(), own_bytes.saturating_add(other_bytes).into());
        members.insert("state".to_owned(), COMMITTED.into());
        complete.describe(members);
        Ok(members.clone())
    })
    .await?;
    Ok(json!({"artifact": node(context, entity_of(&artifact), &artifact).await?}))
}

/// Sets the properties that a collection has for all of its versions, if they are missing. Earlier versions of this
/// server may have stored collections without them.
pub(crate) fn describe(collection: &mut Members, project: &str, name: &str, artifact_type: &str) {
    if !text(collection, "type").is_empty() {
        return;
    }
    for (member, value) in [("project", project), ("name", name), ("type", artifact_type)] {
        collection.insert(member.to_owned(), value.into());
    }
    collection.insert("created_us".to_owned(), now_us().into());
}

/// Adds a version to the document of its collection, unless it is there already. Returns its number.
fn add_version(collection: &mut Members, artifact: &Members) -> Result<i64> {
    let id = text(artifact, "id");
    if let Some(version) = versions(collection).find(|version| version["id"] == id) {
        return version["version"].as_i64().ok_or_else(|| WandbError::broken("version"));
    }
    let artifact_type = text(artifact, "type");
    describe(collection, text(artifact, "project"), text(artifact, "collection"), artifact_type);
    check_type(collection, artifact_type)?;
    check_no_links(collection)?;
    let version = push_version(collection, id, json!({"digest": text(artifact, "digest")}))?;
    let aliases = aliases_mut(collection)?;
    let requested = artifact.get("aliases").and_then(Value::as_array).into_iter().flatten();
    for alias in requested.filter_map(Value::as_str).chain([LATEST]) {
        aliases.insert(alias.to_owned(), id.into());
    }
    Ok(version)
}

/// Checks that the versions of a collection have this type.
pub(crate) fn check_type(collection: &Members, artifact_type: &str) -> Result<()> {
    if text(collection, "type") == artifact_type {
        return Ok(());
    }
    Err(WandbError::invalid(format!(
        "the artifact `{}` has the type `{}`: use this type, or another name",
        text(collection, "name").escape_debug(),
        text(collection, "type").escape_debug()
    )))
}

/// Refuses to log a version under the name of a collection of links.
fn check_no_links(collection: &Members) -> Result<()> {
    if !has_links(collection) {
        return Ok(());
    }
    Err(WandbError::invalid(format!(
        "versions of other artifacts are linked to `{}`: log the artifact under another name, and link it",
        text(collection, "name").escape_debug()
    )))
}

/// Adds an entry to the versions of a collection, and returns its number, which is never used a second time.
pub(crate) fn push_version(collection: &mut Members, id: &str, mut entry: Value) -> Result<i64> {
    let version = collection.get("next").and_then(Value::as_i64).unwrap_or_default();
    collection.insert("next".to_owned(), (version + 1).into());
    let list = collection.entry("versions").or_insert_with(|| json!([]));
    let list = list.as_array_mut().ok_or_else(|| WandbError::broken("versions"))?;
    if list.len() >= MAX_VERSIONS {
        return Err(WandbError::invalid(format!(
            "the artifact has {MAX_VERSIONS} versions: delete some, or use another name"
        )));
    }
    entry["version"] = version.into();
    entry["id"] = id.into();
    list.push(entry);
    Ok(version)
}

/// Removes a version from its collection, with its aliases. `latest` moves to the newest remaining version.
pub(crate) fn remove_version(collection: &mut Members, id: &str) {
    if let Some(aliases) = collection.get_mut("aliases").and_then(Value::as_object_mut) {
        aliases.retain(|_, version| *version != *id);
    }
    if let Some(list) = collection.get_mut("versions").and_then(Value::as_array_mut) {
        list.retain(|version| version["id"] != *id);
        let newest = list.last().map(|version| version["id"].clone());
        if let (Some(newest), Some(aliases)) =
            (newest, collection.get_mut("aliases").and_then(Value::as_object_mut))
        {
            aliases.entry(LATEST).or_insert(newest);
        }
    }
}

/// Changes the description, the metadata, the tags or the aliases of a version.
pub(crate) async fn update(context: &CallContext, arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let id = input.required("artifactID")?;
    let description = input.sent_text("description")?;
    let metadata = input.text("metadata")?;
    let added = tags_of(&input, "tagsToAdd")?;
    let deleted = tags_of(&input, "tagsToDelete")?;
    // Changes that may be refused come first, so that a refused request changes nothing.
    if !input.get("aliases").is_null() {
        replace_aliases(context, &stored(context, id).await?, &requested_aliases(&input)?).await?;
    }
    let effect = if deleted.is_empty() { Effect::Adds } else { Effect::Deletes };
    let artifact = documents::change(&context.channels, ARTIFACTS, id, effect, |members| {
        if members.is_empty() {
            return Err(no_artifact(id));
        }
        for (member, value) in [("description", description), ("metadata", metadata)] {
            if let Some(value) = value {
                members.insert(member.to_owned(), value.into());
            }
        }
        if !added.is_empty() || !deleted.is_empty() {
            change_tags(members, &added, &deleted)?;
        }
        Ok(members.clone())
    })
    .await?;
    Ok(json!({"artifact": node(context, entity_of(&artifact), &artifact).await?}))
}

/// Records that a run has used a version.
pub(crate) async fn use_by_run(context: &CallContext, arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let artifact = stored_input(context, &input).await?;
    let run = RunName::new(project_or_default(input.text("projectName")?), input.required("runName")?)?;
    let found = find_parts(context, &run, parts_to_change()).await?.ok_or_else(|| no_run(&run.id))?;
    link(context, found, USED_ARTIFACTS, text(&artifact, "id")).await?;
    let entity = entity_or_default(input.text("entityName")?);
    Ok(json!({"artifact": node(context, entity, &artifact).await?}))
}

/// Deletes a version. Its files stay until its run is deleted.
pub(crate) async fn delete(context: &CallContext, arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let id = input.required("artifactID")?.to_owned();
    // A repeated request finds no version, because the first request has deleted it.
    let Some(artifact) = documents::read(&context.channels, ARTIFACTS, &id).await? else {
        return Ok(json!({"artifact": {"id": id, "state": DELETED}}));
    };
    let may_have_aliases = input.flag("deleteAliases");
    let name = own_collection(&artifact)?;
    // The right to delete is checked here, before anything is changed.
    documents::change(&context.channels, COLLECTIONS, &name, Effect::Deletes, |members| {
        if let Some(aliases) = members.get("aliases").and_then(Value::as_object) {
            let has_others = aliases.iter().any(|(alias, version)| *version == *id && alias != LATEST);
            if has_others && !may_have_aliases {
                return Err(WandbError::invalid(
                    "the artifact has aliases: delete them, or set `delete_aliases`",
                ));
            }
        }
        remove_version(members, &id);
        Ok(())
    })
    .await?;
    documents::delete(&context.channels, ARTIFACTS, &id).await?;
    Ok(json!({"artifact": {"id": id, "state": DELETED}}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact_view::aliases_of;

    fn artifact(id: &str, aliases: &[&str]) -> Members {
        let value = json!({"id": id, "project": "p", "collection": "model", "type": "model", "digest": id, "aliases": aliases});
        value.as_object().unwrap().clone()
    }

    #[test]
    fn rule_111_versions_are_numbered_once_and_latest_moves() {
        let mut collection = Members::new();
        assert_eq!(add_version(&mut collection, &artifact("a", &["best"])), Ok(0));
        assert_eq!(add_version(&mut collection, &artifact("b", &[])), Ok(1));
        assert_eq!(
            add_version(&mut collection, &artifact("a", &["best"])),
            Ok(0),
            "a commit that is repeated"
        );
        assert_eq!(collection["aliases"], json!({"best": "a", "latest": "b"}));
        let aliases: Vec<&String> = aliases_of(&collection, "b").collect();
        assert_eq!(aliases, ["latest"]);
        let other = json!({"id": "c", "project": "p", "collection": "model", "type": "dataset"});
        assert!(
            add_version(&mut collection, other.as_object().unwrap()).unwrap_err().message.contains("`model`")
        );
    }

    #[test]
    fn a_collection_without_a_type_gets_one() {
        let stored = json!({"aliases": {"best": "a"}});
        let mut collection = stored.as_object().unwrap().clone();
        assert_eq!(add_version(&mut collection, &artifact("a", &[])), Ok(0));
        assert_eq!(text(&collection, "type"), "model");
    }

    #[test]
    fn rule_111_files_of_a_committed_version_stay_as_they_are() {
        let mut version = artifact("a", &[]);
        for (state, is_open) in [(PENDING, true), (COMMITTED, false)] {
            version.insert("state".to_owned(), state.into());
            assert_eq!(check_pending(&version).is_ok(), is_open, "{state}");
        }
    }
}
