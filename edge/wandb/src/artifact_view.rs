//! Reads of artifacts: versions, collections, types and files.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use matyan_channels::call_all;
use matyan_wire::content_types;
use serde_json::{Value, json};

use crate::call::{CallContext, entity_or_default};
use crate::documents::{self, ARTIFACTS, COLLECTIONS, Members, text};
use crate::error::{Result, WandbError};
use crate::files::{
    FolderFiles, ListedFile, MANIFEST, TOTAL, connection, known_sizes, page, page_connection, read_url, size,
    version_folder,
};
use crate::json_text::check_values;
use crate::manifest::{self, FileSelection, Owner, SelectedFiles, VersionFile};
use crate::names::{RunName, digest, time_text};
use crate::node::{Arguments, Node, Selection};
use crate::run_view::{ENTITY, RunSnapshot, project_node};
use crate::shown_collection::ShownCollection;

pub(crate) const LATEST: &str = "latest";

/// The state of a version with all its files.
pub(crate) const COMMITTED: &str = "COMMITTED";

/// The member of a version's document, and of its node, that marks a version that no run has made: its run uses it.
pub(crate) const IS_ONLY_USED: &str = "only_used";

/// The member of a version's node that describes the link by which the version was found. Its members have the names of the
/// members of the node that they override.
const LINK: &str = "_link";

/// W&B's term for a version that is never deleted automatically.
const NO_TTL: i64 = -2;

/// The id of an artifact: the same for every repetition of the request that creates it.
pub(crate) fn artifact_id(client_id: &str) -> String {
    hex::encode(&digest(&["artifact", client_id])[..16])
}

pub(crate) fn collection_name(project: &str, name: &str) -> Result<String> {
    for (field, part) in [("project", project), ("artifact", name)] {
        if part.is_empty() || part.contains(|it: char| it == '/' || it == ':' || it.is_control()) {
            return Err(WandbError::invalid(format!(
                "the name of the {field} is empty, or contains `/`, `:` or a control character"
            )));
        }
    }
    Ok(format!("{project}/{name}"))
}

/// The member of a collection's document that marks a collection of links: its versions are versions of other collections,
/// with their own numbers and aliases.
pub(crate) const LINKS: &str = "links";

pub(crate) fn has_links(collection: &Members) -> bool {
    collection.get(LINKS).and_then(Value::as_bool).unwrap_or_default()
}

pub(crate) fn no_artifact(id: &str) -> WandbError {
    let message = format!("there is no artifact with the id `{}`: log it again", id.escape_debug());
    WandbError::missing(message)
}

/// The document of a version.
pub(crate) async fn stored(context: &CallContext, id: &str) -> Result<Members> {
    documents::read(&context.channels, ARTIFACTS, id).await?.ok_or_else(|| no_artifact(id))
}

/// The document of the version that an input names.
pub(crate) async fn stored_input(context: &CallContext, input: &Arguments) -> Result<Members> {
    stored(context, input.required("artifactID")?).await
}

/// The versions of a collection, oldest first.
pub(crate) fn versions(collection: &Members) -> impl DoubleEndedIterator<Item = &Value> {
    collection.get("versions").and_then(Value::as_array).into_iter().flatten()
}

/// Whether the files of a version exist. They are deleted with the run that has made the version.
pub(crate) async fn has_files(context: &CallContext, artifact: &Members) -> Result<bool> {
    let manifest = version_folder(text(artifact, "id")) + MANIFEST;
    Ok(size(context, text(artifact, "run_id"), &manifest).await?.is_some())
}

/// The value of GraphQL's object of a version.
pub(crate) async fn node(context: &CallContext, entity: &str, artifact: &Members) -> Result<Value> {
    let name = own_collection(artifact)?;
    let ids = HashSet::from([text(artifact, "id")]);
    let collection = ShownCollection::read(&context.channels, &name, &ids).await?;
    Ok(node_in(entity, artifact, &collection))
}

/// Maximum number of collections that a page reads at the same time. Each may take megabytes.
const COLLECTIONS_AT_A_TIME: usize = 4;

/// The values of GraphQL's objects of versions, in their order. Each of their collections is read once.
async fn nodes(context: &CallContext, entity: &str, artifacts: &[Members]) -> Result<Vec<Value>> {
    let mut ids: BTreeMap<String, HashSet<&str>> = BTreeMap::new();
    for artifact in artifacts {
        ids.entry(own_collection(artifact)?).or_default().insert(text(artifact, "id"));
    }
    let wanted: Vec<(&String, &HashSet<&str>)> = ids.iter().collect();
    let reads = wanted.iter().map(|(name, ids)| ShownCollection::read(&context.channels, name, ids));
    let shown = call_all(COLLECTIONS_AT_A_TIME, reads).await?;
    let collections: HashMap<&str, ShownCollection> =
        wanted.iter().map(|(name, _)| name.as_str()).zip(shown).collect();
    let node = |artifact: &Members| {
        let name = own_collection(artifact)?;
        let collection = collections.get(name.as_str()).ok_or_else(|| WandbError::broken("collection"))?;
        Ok::<_, WandbError>(node_in(entity, artifact, collection))
    };
    artifacts.iter().map(node).collect()
}

/// The collection in which a version was logged.
pub(crate) fn own_collection(artifact: &Members) -> Result<String> {
    collection_name(text(artifact, "project"), text(artifact, "collection"))
}

/// Reads the versions with these ids. Deleted versions are left out.
async fn stored_versions(context: &CallContext, ids: &[&str]) -> Result<Vec<Members>> {
    let found = documents::read_together(&context.channels, ARTIFACTS, ids).await?;
    Ok(found.into_iter().flatten().collect())
}

fn node_in(entity: &str, artifact: &Members, collection: &ShownCollection) -> Value {
    let id = text(artifact, "id");
    let project = text(artifact, "project");
    let kind = type_of(artifact, collection.members());
    let sequence = sequence_node(entity, project, text(artifact, "collection"), kind, collection.members());
    let aliases = alias_nodes(id, collection.aliases(id), &sequence);
    let created = time_text(artifact.get("created_us").and_then(Value::as_i64).unwrap_or_default());
    json!({
        ENTITY: entity,
        "_run": text(artifact, "run"),
        "_project": project,
        "_runId": text(artifact, "run_id"),
        IS_ONLY_USED: artifact.get(IS_ONLY_USED),
        "_owners": manifest::other_owners(artifact),
        "_manifestDigest": manifest::stored_digest(artifact),
        "id": id,
        "name": text(artifact, "collection"),
        "state": text(artifact, "state"),
        "digest": text(artifact, "digest"),
        "digestAlgorithm": text(artifact, "digest_algorithm"),
        "description": text(artifact, "description"),
        "metadata": text(artifact, "metadata"),
        "versionIndex": artifact.get("version"),
        "commitHash": id,
        "fileCount": artifact.get("file_count").and_then(Value::as_u64).unwrap_or_default(),
        "size": artifact.get("size").and_then(Value::as_u64).unwrap_or_default(),
        "historyStep": artifact.get("history_step"),
        // Versions stay until they are deleted.
        "ttlDurationSeconds": NO_TTL,
        "ttlIsInherited": false,
        "createdAt": created,
        "updatedAt": created,
        "aliases": aliases,
        "tags": tag_nodes(artifact),
        "artifactType": {"id": kind, "name": kind, ENTITY: entity, "_project": project},
        "artifactSequence": sequence,
    })
}

/// The values of GraphQL's objects of versions that were found in a collection, in their order.
async fn nodes_of_members(
    context: &CallContext,
    entity: &str,
    artifacts: &[Members],
    collection: &ShownCollection,
) -> Result<Vec<Value>> {
    if !has_links(collection.members()) {
        return Ok(artifacts.iter().map(|artifact| node_in(entity, artifact, collection)).collect());
    }
    let mut linked = nodes(context, entity, artifacts).await?;
    for (node, artifact) in linked.iter_mut().zip(artifacts) {
        set_link(node, entity, text(artifact, "id"), collection);
    }
    Ok(linked)
}

/// Adds to the node of a version the link by which it was found.
fn set_link(node: &mut Value, entity: &str, id: &str, collection: &ShownCollection) {
    let link = collection.entry(id);
    let number = format!("v{}", link["version"]);
    let members = collection.members();
    let project = text(members, "project");
    let sequence = sequence_node(entity, project, text(members, "name"), text(members, "type"), members);
    // Older clients read the number of the link from its aliases.
    let aliases = collection.aliases(id).chain([number.as_str()]);
    node["aliases"] = alias_nodes(id, aliases, &sequence).into();
    let linked_at = time_text(link["linked_us"].as_i64().unwrap_or_default());
    node[LINK] =
        json!({"versionIndex": link["version"], "createdAt": linked_at, "artifactSequence": sequence});
}

fn alias_nodes<'a>(id: &str, aliases: impl Iterator<Item = &'a str>, sequence: &Value) -> Vec<Value> {
    let node =
        |alias: &str| json!({"id": format!("{id}:{alias}"), "alias": alias, "artifactCollection": sequence});
    aliases.map(node).collect()
}

pub(crate) fn aliases_of<'a>(collection: &'a Members, id: &'a str) -> impl Iterator<Item = &'a String> {
    let aliases = collection.get("aliases").and_then(Value::as_object).into_iter().flatten();
    aliases.filter(move |(_, of)| *of == id).map(|(alias, _)| alias)
}

fn sequence_node(
    entity: &str,
    project: &str,
    name: &str,
    artifact_type: &str,
    collection: &Members,
) -> Value {
    let created = time_text(collection.get("created_us").and_then(Value::as_i64).unwrap_or_default());
    json!({
        ENTITY: entity,
        "_project": project,
        "id": format!("{project}/{name}"),
        "name": name,
        "description": Some(text(collection, "description")).filter(|text| !text.is_empty()),
        "state": "READY",
        "createdAt": created,
        "updatedAt": created,
        "project": project_node(project, entity),
        "defaultArtifactType": {"id": artifact_type, "name": artifact_type, ENTITY: entity, "_project": project},
        "tags": {"edges": tag_nodes(collection).into_iter().map(|tag| json!({"node": tag})).collect::<Vec<_>>()},
    })
}

/// The name of the entity that a version was made with. A request that names a version by its id contains no entity,
/// and clients compare the entity of the version with the entity of their run.
pub(crate) fn entity_of(artifact: &Members) -> &str {
    entity_or_default(Some(text(artifact, "entity")))
}

/// A version by its id.
pub(crate) async fn by_id(context: &CallContext, id: &str) -> Result<Value> {
    match documents::read(&context.channels, ARTIFACTS, id).await? {
        Some(artifact) => node(context, entity_of(&artifact), &artifact).await,
        None => Ok(Value::Null),
    }
}

/// The id of the version that a client has made.
pub(crate) async fn by_client_id(context: &CallContext, client_id: &str) -> Result<Value> {
    let id = artifact_id(client_id);
    let found = documents::read(&context.channels, ARTIFACTS, &id).await?;
    Ok(found.map_or(Value::Null, |_| json!({"serverID": id})))
}

/// A version by a name such as `model:v3`, `model:latest` or `model`, with or without entity and project before it. A
/// version whose files were deleted with its run is not found.
pub(crate) async fn by_name(context: &CallContext, entity: &str, project: &str, name: &str) -> Result<Value> {
    let name = name.rsplit('/').next().unwrap_or_default();
    let (name, version) = name.split_once(':').unwrap_or((name, LATEST));
    let Ok(collection) = collection_name(project, name) else { return Ok(Value::Null) };
    let Some(members) = documents::read(&context.channels, COLLECTIONS, &collection).await? else {
        return Ok(Value::Null);
    };
    let by_alias = members.get("aliases").and_then(|aliases| aliases.get(version)).and_then(Value::as_str);
    let by_number = || {
        let number: i64 = version.strip_prefix('v')?.parse().ok()?;
        versions(&members).find(|known| known["version"] == number)?["id"].as_str()
    };
    // W&B also accepts a digest.
    let by_digest = || versions(&members).rev().find(|known| known["digest"] == version)?["id"].as_str();
    let Some(id) = by_alias.or_else(by_number).or_else(by_digest) else { return Ok(Value::Null) };
    let Some(artifact) = documents::read(&context.channels, ARTIFACTS, id).await? else {
        return Ok(Value::Null);
    };
    if !has_files(context, &artifact).await? {
        return Ok(Value::Null);
    }
    let id = id.to_owned();
    let shown = ShownCollection::new(members, &HashSet::from([id.as_str()]));
    let mut nodes = nodes_of_members(context, entity, &[artifact], &shown).await?;
    Ok(nodes.pop().unwrap_or_default())
}

/// A member of a version's node, from the link by which the version was found, if there is one.
fn of_membership<'n>(node: &'n Value, member: &str) -> &'n Value {
    node.get(LINK).unwrap_or(node).get(member).unwrap_or(&Value::Null)
}

/// A version as a member of its collection.
pub(crate) async fn membership(
    context: &CallContext,
    entity: &str,
    project: &str,
    name: &str,
) -> Result<Value> {
    let artifact = by_name(context, entity, project, name).await?;
    if artifact.is_null() {
        return Ok(Value::Null);
    }
    Ok(json!({
        "id": artifact["id"],
        "createdAt": of_membership(&artifact, "createdAt"),
        "versionIndex": of_membership(&artifact, "versionIndex"),
        "artifactCollection": of_membership(&artifact, "artifactSequence"),
        "aliases": artifact["aliases"],
        "artifact": artifact,
    }))
}

/// A collection by its name.
pub(crate) async fn collection(
    context: &CallContext,
    entity: &str,
    project: &str,
    name: &str,
) -> Result<Value> {
    let Ok(full) = collection_name(project, name) else { return Ok(Value::Null) };
    let found = documents::read(&context.channels, COLLECTIONS, &full).await?;
    Ok(found.map_or(Value::Null, |members| {
        sequence_node(entity, project, name, text(&members, "type"), &members)
    }))
}

/// A collection by its id.
pub(crate) async fn collection_by_id(context: &CallContext, id: &str) -> Result<Value> {
    match id.split_once('/') {
        Some((project, name)) => collection(context, crate::call::ENTITY, project, name).await,
        None => Ok(Value::Null),
    }
}

async fn collections_of(context: &CallContext, project: &str) -> Result<Vec<Members>> {
    documents::list(&context.channels, COLLECTIONS, &format!("{project}/")).await
}

/// The collections of a project, or only collections of one type.
pub(crate) async fn collections(
    context: &CallContext,
    entity: &str,
    project: &str,
    artifact_type: Option<&str>,
    arguments: &Arguments,
) -> Result<Value> {
    let all = collections_of(context, project).await?;
    let nodes = all
        .iter()
        .filter(|members| artifact_type.is_none_or(|of| text(members, "type") == of))
        .map(|members| sequence_node(entity, project, text(members, "name"), text(members, "type"), members));
    paged(nodes.collect(), arguments)
}

fn paged(nodes: Vec<Value>, arguments: &Arguments) -> Result<Value> {
    let (start, length) = page(arguments)?;
    let total = nodes.len();
    Ok(connection(nodes.into_iter().skip(start).take(length).collect(), start, total))
}

/// The types of the artifacts of a project.
pub(crate) async fn types(
    context: &CallContext,
    entity: &str,
    project: &str,
    arguments: &Arguments,
) -> Result<Value> {
    let all = collections_of(context, project).await?;
    let names: BTreeSet<&str> = all.iter().map(|members| text(members, "type")).collect();
    paged(names.into_iter().map(|name| type_node(entity, project, name)).collect(), arguments)
}

/// The value of GraphQL's object of a type. W&B's clients ask for types before the first artifact of a type exists.
pub(crate) fn type_node(entity: &str, project: &str, name: &str) -> Value {
    json!({
        ENTITY: entity,
        "_project": project,
        "id": name,
        "name": name,
        "description": "",
        "createdAt": time_text(0),
    })
}

/// Returns whether an order asks for the oldest versions first. Versions are numbered as they are made, and keep their
/// times, so all keys give the same order.
fn is_oldest_first(order: Option<&str>) -> Result<bool> {
    let Some(order) = order else { return Ok(false) };
    let (key, is_ascending) = match order.strip_prefix('-') {
        Some(key) => (key, false),
        None => (order.strip_prefix('+').unwrap_or(order), true),
    };
    match key {
        "version_index" | "versionIndex" | "created_at" | "createdAt" | "updated_at" | "updatedAt" => {
            Ok(is_ascending)
        }
        other => Err(WandbError::invalid(format!(
            "`order` has the key `{}`; known are version_index, created_at and updated_at",
            other.escape_debug()
        ))),
    }
}

/// Refuses filters that would leave out versions. A client without filters asks for versions with all their files, and all
/// versions of a collection have all their files.
fn check_filters(filters: Option<&str>) -> Result<()> {
    let Some(text) = filters else { return Ok(()) };
    check_values("`filters`", text.as_bytes())?;
    let filters: Value = serde_json::from_str(text)
        .map_err(|error| WandbError::invalid(format!("`filters` is not JSON: {error}")))?;
    if filters.is_null() || filters == json!({}) || filters == json!({"state": COMMITTED}) {
        return Ok(());
    }
    Err(WandbError::invalid(
        "`filters` of the versions of a collection are not supported: list all versions, and choose among them",
    ))
}

/// The versions of a collection, newest first unless the caller wants another order.
pub(crate) async fn versions_of(
    context: &CallContext,
    sequence: &Node,
    arguments: &Arguments,
) -> Result<Value> {
    let project = sequence.known("_project")?;
    let name = sequence.known("name")?;
    let entity = sequence.known(ENTITY)?;
    check_filters(arguments.text("filters")?)?;
    let full = collection_name(project, name)?;
    let members = documents::read(&context.channels, COLLECTIONS, &full).await?.unwrap_or_default();
    let (start, length) = page(arguments)?;
    let mut ids: Vec<&str> = versions(&members).filter_map(|version| version["id"].as_str()).collect();
    if !is_oldest_first(arguments.text("order")?)? {
        ids.reverse();
    }
    let total = ids.len();
    let ids: Vec<String> = ids.into_iter().skip(start).take(length).map(str::to_owned).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let artifacts = stored_versions(context, &ids).await?;
    let shown = ShownCollection::new(members, &ids.into_iter().collect());
    let nodes = nodes_of_members(context, entity, &artifacts, &shown).await?;
    // A version that was deleted may still be linked.
    let mut connection = page_connection(nodes, start, length, total);
    if let Some(edges) = connection["edges"].as_array_mut() {
        for edge in edges {
            edge["version"] = format!("v{}", of_membership(&edge["node"], "versionIndex")).into();
        }
    }
    Ok(connection)
}

/// The aliases of a collection.
pub(crate) async fn aliases(context: &CallContext, sequence: &Node) -> Result<Value> {
    let full = collection_name(sequence.known("_project")?, sequence.known("name")?)?;
    let members = documents::read(&context.channels, COLLECTIONS, &full).await?.unwrap_or_default();
    let names = members.get("aliases").and_then(Value::as_object).into_iter().flatten();
    let nodes: Vec<Value> =
        names.map(|(alias, id)| json!({"id": format!("{id}:{alias}"), "alias": alias})).collect();
    let total = nodes.len();
    Ok(connection(nodes, 0, total))
}

/// The versions that a run has made or used.
pub(crate) async fn of_run(
    context: &CallContext,
    run: &Node,
    member: &str,
    arguments: &Arguments,
) -> Result<Value> {
    let run_id = run.known(crate::run_view::RUN_ID)?;
    let entity = run.known(ENTITY)?;
    let Some(snapshot) = RunSnapshot::read(context, run_id).await? else {
        return Ok(connection(Vec::new(), 0, 0));
    };
    let ids = snapshot.artifacts(member);
    let (start, length) = page(arguments)?;
    let wanted: Vec<&str> = ids.iter().skip(start).take(length).map(String::as_str).collect();
    let artifacts = stored_versions(context, &wanted).await?;
    let nodes = nodes(context, entity, &artifacts).await?;
    Ok(page_connection(nodes, start, length, ids.len()))
}

/// The version itself as the owner of files.
fn owner(artifact: &Node) -> Result<Owner> {
    Ok(Owner {
        id: artifact.known("id")?.to_owned(),
        project: artifact.known("_project")?.to_owned(),
        run: artifact.known("_run")?.to_owned(),
        run_id: artifact.known("_runId")?.to_owned(),
        manifest_digest: artifact.text("_manifestDigest").map(str::to_owned),
    })
}

fn file_url(context: &CallContext, artifact: &Node, owner: &Owner, path: &str) -> Result<String> {
    let name = RunName::new(&owner.project, &owner.run)?;
    Ok(read_url(context, artifact.known(ENTITY)?, &name, path))
}

/// The list of the files of a version, with its URL for reading; null as long as the list was not uploaded.
pub(crate) async fn manifest(context: &CallContext, artifact: &Node) -> Result<Value> {
    let owner = owner(artifact)?;
    let path = owner.path(MANIFEST)?;
    if size(context, &owner.run_id, &path).await?.is_none() {
        return Ok(Value::Null);
    }
    let id = &owner.id;
    let url = file_url(context, artifact, &owner, &path)?;
    Ok(
        json!({"id": id, "digest": artifact.get("digest"), "file": {"id": id, "name": MANIFEST, "directUrl": url, "url": url}}),
    )
}

/// The selected files of a version without its manifest. A version that has references or files of others is listed by its
/// manifest; any other version by its folder, whose length has no limit.
async fn selected_files(
    context: &CallContext,
    artifact: &Node,
    selection: &FileSelection<'_>,
) -> Result<SelectedFiles<VersionFile>> {
    let owner = owner(artifact)?;
    if let Some(others) = artifact.get("_owners").as_object() {
        return manifest::files(context, owner, others, selection).await;
    }
    let folder = version_folder(&owner.id);
    let mut stored = FolderFiles::open(context, &owner.run_id, &folder).await?;
    let mut selected = SelectedFiles::new();
    while !selection.is_complete(&selected)
        && let Some(piece) = stored.next().await?
    {
        let files = piece.into_iter().filter(|(name, _)| name != MANIFEST);
        selection.add(&mut selected, files, |(name, _)| name.as_str());
    }
    let owner = Arc::new(owner);
    let file = |(name, size)| VersionFile { name, size, owner: Arc::clone(&owner), is_reference: false };
    Ok(selected.map(file))
}

/// The files of a version: the named files, or a page of all.
pub(crate) async fn files(
    context: &CallContext,
    artifact: &Node,
    arguments: &Arguments,
    selected_fields: Selection<'_>,
) -> Result<Value> {
    let entries = arguments.objects("entries")?;
    let of_entries = entries.iter().map(|entry| entry.required("name"));
    let mut names = of_entries.collect::<Result<BTreeSet<&str>>>()?;
    names.extend(arguments.texts("names")?.unwrap_or_default());
    // A client that asks for files by name expects all of them on one page.
    let (start, length) = if entries.is_empty() { page(arguments)? } else { (0, usize::MAX) };
    let selection = FileSelection { names, start, length, has_total: selected_fields.has_any(&[TOTAL]) };
    let SelectedFiles { files, total } = selected_files(context, artifact, &selection).await?;
    let id = artifact.known("id")?;
    let mut listed = Vec::with_capacity(files.len());
    for file in &files {
        listed.push(ListedFile { run_id: &file.owner.run_id, path: file.path()?, size: file.size });
    }
    let sizes = known_sizes(context, &listed).await?;
    let mut nodes = Vec::new();
    for ((VersionFile { name, owner, is_reference, .. }, ListedFile { path, .. }), bytes) in
        files.iter().zip(listed).zip(sizes)
    {
        // Clients take the address of a reference from the manifest. They would send their key to a URL from here.
        let url = if *is_reference { String::new() } else { file_url(context, artifact, owner, &path)? };
        nodes.push(json!({
            "id": format!("{id}/{name}"),
            "name": name,
            "displayName": name,
            "url": url,
            "directUrl": url,
            "sizeBytes": bytes.unwrap_or_default(),
            "mimetype": content_types::of_name(name),
            "md5": null,
            "digest": null,
            "updatedAt": artifact.get("createdAt"),
            "storagePath": path,
        }));
    }
    Ok(connection(nodes, start, total))
}

/// The number of files in the folder of a version that have arrived, and their size, added up as the list arrives.
pub(crate) async fn totals(context: &CallContext, run_id: &str, id: &str) -> Result<(u64, u64)> {
    let folder = version_folder(id);
    let mut stored = FolderFiles::open(context, run_id, &folder).await?;
    let mut count: u64 = 0;
    let mut bytes: u64 = 0;
    while let Some(piece) = stored.next().await? {
        let piece = piece.into_iter().filter(|(name, _)| name != MANIFEST);
        let listed = piece.map(|(name, size)| ListedFile { run_id, path: format!("{folder}{name}"), size });
        let files: Vec<ListedFile<'_>> = listed.collect();
        for size in known_sizes(context, &files).await?.into_iter().flatten() {
            count += 1;
            bytes = bytes.saturating_add(size);
        }
    }
    Ok((count, bytes))
}

/// The run that has made a version; null if there is none, or if the run was deleted.
pub(crate) async fn creator(context: &CallContext, artifact: &Node) -> Result<Value> {
    if artifact.get(IS_ONLY_USED).as_bool() == Some(true) {
        return Ok(Value::Null);
    }
    let run = RunSnapshot::read(context, artifact.known("_runId")?).await?;
    let entity = artifact.known(ENTITY)?;
    Ok(run.map_or(Value::Null, |run| run.node(entity)))
}

pub(crate) fn known_tags(members: &Members) -> impl Iterator<Item = &str> {
    members.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// The tags of a version or of a collection as objects of GraphQL.
pub(crate) fn tag_nodes(members: &Members) -> Vec<Value> {
    known_tags(members).map(tag_node).collect()
}

pub(crate) fn tag_node(name: &str) -> Value {
    json!({"id": name, "name": name})
}

/// The type of a version: the type of its collection, which may have changed.
pub(crate) fn type_of<'m>(artifact: &'m Members, collection: &'m Members) -> &'m str {
    match text(collection, "type") {
        "" => text(artifact, "type"),
        known => known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(value: Value) -> Members {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_linked_version_has_the_number_and_the_aliases_of_its_link() {
        let artifact = members(json!({"id": "a", "project": "p", "collection": "model", "version": 7}));
        let ids = HashSet::from(["a"]);
        let own = json!({"project": "p", "name": "model", "type": "model", "aliases": {"latest": "a"}});
        let mut node = node_in("e", &artifact, &ShownCollection::new(members(own), &ids));
        assert_eq!(
            (node["versionIndex"].clone(), node["aliases"][0]["alias"].clone()),
            (json!(7), json!("latest"))
        );
        let linked = json!({
            "project": "registry", "name": "best", "type": "model", "links": true,
            "versions": [{"id": "b", "version": 0}, {"id": "a", "version": 3}], "aliases": {"prod": "a", "old": "b"},
        });
        set_link(&mut node, "e", "a", &ShownCollection::new(members(linked), &ids));
        let aliases: Vec<&Value> =
            node["aliases"].as_array().unwrap().iter().map(|it| &it["alias"]).collect();
        assert_eq!(aliases, ["prod", "v3"]);
        assert_eq!(*of_membership(&node, "versionIndex"), 3);
        assert_eq!(of_membership(&node, "artifactSequence")["name"], "best");
        assert_eq!(node["artifactSequence"]["name"], "model", "it stays where it was logged");
    }

    #[test]
    fn versions_have_an_order() {
        for (order, is_ascending) in [
            (None, false),
            (Some("version_index"), true),
            (Some("+createdAt"), true),
            (Some("-version_index"), false),
        ] {
            assert_eq!(is_oldest_first(order), Ok(is_ascending), "{order:?}");
        }
        is_oldest_first(Some("size")).unwrap_err();
    }

    #[test]
    fn filters_of_versions_are_refused() {
        for filters in [None, Some("null"), Some("{}"), Some(r#"{"state": "COMMITTED"}"#)] {
            check_filters(filters).unwrap();
        }
        for filters in [r#"{"tags": "best"}"#, r#"{"state": "PENDING"}"#, "[]", "{"] {
            let error = check_filters(Some(filters)).unwrap_err();
            assert!(error.message.contains("`filters`"), "{error}");
        }
    }

    #[test]
    fn a_version_has_the_type_of_its_collection() {
        let of = |kind: &str| Members::from_iter([("type".to_owned(), kind.into())]);
        assert_eq!(type_of(&of("dataset"), &of("model")), "model");
        assert_eq!(type_of(&of("dataset"), &Members::new()), "dataset");
    }
}
