//! Artifacts: versions of sets of files, with a name, and aliases that people move between them.
//!
//! The files of a version are in the folder `wandb-artifacts` of the run that has made it. What W&B keeps besides is
//! in named documents: one for each version, whose name is its id, and one for each collection. A version gets its number,
//! and `latest` moves to it, in one change of the document of the collection, when all of its files are uploaded.

use serde_json::{Map, Value, json};

use crate::batch::{RunBatch, publish_and_wait};
use crate::call::{CallContext, entity_or_default, project_or_default};
use crate::documents::{self, ARTIFACTS, COLLECTIONS};
use crate::error::{Result, WandbError};
use crate::files::{ARTIFACT_FOLDER, connection, page, read_url, sign, size};
use crate::names::{self, MADE_ARTIFACTS, RunName, USED_ARTIFACTS, WANDB, digest, file_path, time_text};
use crate::node::{Arguments, Node};
use crate::run_view::{ENTITY, RunSnapshot, project_node};
use crate::runs::{find, no_run};

const COMMITTED: &str = "COMMITTED";
const PENDING: &str = "PENDING";
const DELETED: &str = "DELETED";

const LATEST: &str = "latest";

/// The name of a manifest among the files of its version.
const MANIFEST: &str = "wandb_manifest.json";

/// Versions of a collection, which are in one document.
const MAX_VERSIONS: usize = 10_000;

/// Aliases of a collection.
const MAX_ALIASES: usize = 10_000;

/// Files in one request.
const MAX_FILES: usize = 10_000;

type Members = Map<String, Value>;

fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

fn text<'a>(members: &'a Members, name: &str) -> &'a str {
    members.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The id of an artifact: the same for every repetition of the request that makes it.
fn artifact_id(client_id: &str) -> String {
    hex::encode(&digest(&["artifact", client_id])[..16])
}

fn collection_name(project: &str, name: &str) -> Result<String> {
    for (field, part) in [("project", project), ("artifact", name)] {
        if part.is_empty() || part.contains(|it: char| it == '/' || it == ':' || it.is_control()) {
            return Err(WandbError::invalid(format!(
                "the name of the {field} is empty, or contains `/`, `:` or a control character"
            )));
        }
    }
    Ok(format!("{project}/{name}"))
}

async fn stored(context: &CallContext, id: &str) -> Result<Members> {
    let found = documents::read(&context.channels, ARTIFACTS, id).await?;
    found.ok_or_else(|| {
        WandbError::missing(format!("there is no artifact with the id `{}`", id.escape_debug()))
    })
}

async fn stored_input(context: &CallContext, input: &Arguments) -> Result<Members> {
    stored(context, input.required("artifactID")?).await
}

/// The run that has made an artifact.
fn made_by(artifact: &Members) -> Result<RunName> {
    RunName::new(text(artifact, "project"), text(artifact, "run"))
}

/// The path of a file of an artifact in its run.
fn path_in_run(artifact: &Members, file: &str) -> Result<String> {
    Ok(format!("{ARTIFACT_FOLDER}{}/{}", text(artifact, "id"), file_path(file)?))
}

/// Begins a version.
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
    let digest_text = input.required("digest")?;
    if input.flag("enableDigestDeduplication")
        && let Some(id) = version_of_digest(context, &collection, digest_text).await?
    {
        let artifact = stored(context, &id).await?;
        add_aliases_of(context, &input, &artifact).await?;
        return Ok(json!({"artifact": node(context, &entity, &artifact).await?}));
    }
    let run_name = input.text("runName")?.ok_or_else(|| {
        WandbError::invalid("an artifact needs a run: call `wandb.init`, and then `log_artifact` of the run")
    })?;
    let run = RunName::new(&project, run_name)?;
    let found = find(context, &run).await?.ok_or_else(|| no_run(&run.id))?;
    let id = match input.text("clientID")? {
        Some(client_id) => artifact_id(client_id),
        None => artifact_id(&format!("{collection}/{run_name}/{digest_text}")),
    };
    let now = now_us();
    let mut artifact = Members::new();
    for (member, value) in [
        ("id", id.as_str()),
        ("project", &project),
        ("collection", &name),
        ("type", input.required("artifactTypeName")?),
        ("run", run_name),
        ("run_id", &found.run_id),
        ("digest", digest_text),
        ("description", input.text("description")?.unwrap_or_default()),
        ("metadata", input.text("metadata")?.unwrap_or("{}")),
        ("state", PENDING),
    ] {
        artifact.insert(member.to_owned(), value.into());
    }
    artifact.insert("created_us".to_owned(), now.into());
    artifact.insert("history_step".to_owned(), input.integer("historyStep")?.into());
    artifact.insert("aliases".to_owned(), requested_aliases(&input)?.into());
    // A repetition finds the artifact as it is, which may be committed by now.
    let artifact = documents::change(&context.channels, ARTIFACTS, &id, |members| {
        if members.is_empty() {
            *members = artifact.clone();
        }
        Ok(members.clone())
    })
    .await?;
    link(context, &found.run_id, MADE_ARTIFACTS, &id).await?;
    Ok(json!({"artifact": node(context, &entity, &artifact).await?}))
}

/// Notes at a run that it has made or used an artifact.
async fn link(context: &CallContext, run_id: &str, member: &str, id: &str) -> Result<()> {
    let mut batch = RunBatch::default();
    batch.set(&[WANDB, member, id], matyan_value::Value::Bool(true));
    publish_and_wait(&context.channels, run_id, batch).await
}

fn requested_aliases(input: &Arguments) -> Result<Vec<String>> {
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

/// The id of the version with these files; `None` if there is none.
async fn version_of_digest(context: &CallContext, collection: &str, digest: &str) -> Result<Option<String>> {
    let Some(members) = documents::read(&context.channels, COLLECTIONS, collection).await? else {
        return Ok(None);
    };
    let found = versions(&members).find(|version| version["digest"] == digest);
    Ok(found.and_then(|version| version["id"].as_str()).map(str::to_owned))
}

/// The versions of a collection, oldest first.
fn versions(collection: &Members) -> impl DoubleEndedIterator<Item = &Value> {
    collection.get("versions").and_then(Value::as_array).into_iter().flatten()
}

async fn add_aliases_of(context: &CallContext, input: &Arguments, artifact: &Members) -> Result<()> {
    let aliases = requested_aliases(input)?;
    change_aliases(context, artifact, |of_collection, id| {
        for alias in &aliases {
            of_collection.insert(alias.clone(), id.into());
        }
    })
    .await
}

/// Changes the aliases of the collection of an artifact: the id of a version by alias.
async fn change_aliases(
    context: &CallContext,
    artifact: &Members,
    change: impl Fn(&mut Members, &str),
) -> Result<()> {
    let name = collection_name(text(artifact, "project"), text(artifact, "collection"))?;
    documents::change(&context.channels, COLLECTIONS, &name, |members| {
        let aliases = members.entry("aliases").or_insert_with(|| json!({}));
        let aliases = aliases.as_object_mut().ok_or_else(|| WandbError::broken("aliases"))?;
        change(aliases, text(artifact, "id"));
        if aliases.len() > MAX_ALIASES {
            return Err(WandbError::invalid(format!(
                "the artifact has more than {MAX_ALIASES} aliases: delete some"
            )));
        }
        Ok(())
    })
    .await
}

/// Gives upload URLs for files of versions.
pub(crate) async fn create_files(context: &CallContext, arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let specs = input.objects("artifactFiles")?;
    if specs.len() > MAX_FILES {
        return Err(WandbError::invalid(format!("`artifactFiles` has more than {MAX_FILES} members")));
    }
    let mut nodes = Vec::new();
    let mut artifact = Members::new();
    for spec in specs {
        let id = spec.required("artifactID")?;
        if text(&artifact, "id") != id {
            artifact = stored(context, id).await?;
        }
        let file = spec.required("name")?;
        let path = path_in_run(&artifact, file)?;
        let upload = sign(context, text(&artifact, "run_id"), &path).await?;
        let mut batch = RunBatch::default();
        batch.announce(text(&artifact, "run_id"), &path);
        crate::batch::publish(&context.channels, text(&artifact, "run_id"), batch).await?;
        nodes.push(json!({
            "id": format!("{id}/{file}"),
            "name": file,
            "displayName": file,
            "storagePath": path,
            "uploadUrl": upload.url,
            "uploadHeaders": upload.headers,
            "uploadMultipartUrls": null,
            "artifact": {"id": id},
        }));
    }
    let total = nodes.len();
    Ok(json!({"files": connection(nodes, 0, total)}))
}

/// Gives an upload URL for the list of the files of a version.
pub(crate) async fn create_manifest(context: &CallContext, arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let id = input.required("artifactID")?;
    manifest_upload(context, id, input.text("digest")?).await
}

/// The id of a manifest is that of its version.
pub(crate) async fn update_manifest(context: &CallContext, arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let id = input.required("artifactManifestID")?;
    manifest_upload(context, id, input.text("digest")?).await
}

async fn manifest_upload(context: &CallContext, id: &str, digest: Option<&str>) -> Result<Value> {
    let artifact = stored(context, id).await?;
    let path = path_in_run(&artifact, MANIFEST)?;
    let upload = sign(context, text(&artifact, "run_id"), &path).await?;
    let mut batch = RunBatch::default();
    batch.announce(text(&artifact, "run_id"), &path);
    crate::batch::publish(&context.channels, text(&artifact, "run_id"), batch).await?;
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
    let manifest = path_in_run(&artifact, MANIFEST)?;
    if size(context, text(&artifact, "run_id"), &manifest).await?.is_none() {
        return Err(WandbError::invalid(
            "the manifest of the artifact was not uploaded: log the artifact again",
        ));
    }
    let name = collection_name(text(&artifact, "project"), text(&artifact, "collection"))?;
    let version =
        documents::change(&context.channels, COLLECTIONS, &name, |members| add_version(members, &artifact))
            .await?;
    let artifact = documents::change(&context.channels, ARTIFACTS, &id, |members| {
        if members.is_empty() {
            return Err(WandbError::missing("the artifact was deleted"));
        }
        members.insert("version".to_owned(), version.into());
        members.insert("state".to_owned(), COMMITTED.into());
        Ok(members.clone())
    })
    .await?;
    Ok(json!({"artifact": node(context, names::WANDB, &artifact).await?}))
}

/// Adds a version to the document of its collection, if it is not there. Returns its number.
fn add_version(collection: &mut Members, artifact: &Members) -> Result<i64> {
    let id = text(artifact, "id");
    if let Some(version) = versions(collection).find(|version| version["id"] == id) {
        return version["version"].as_i64().ok_or_else(|| WandbError::broken("version"));
    }
    if collection.is_empty() {
        for member in ["project", "type"] {
            collection.insert(member.to_owned(), text(artifact, member).into());
        }
        collection.insert("name".to_owned(), text(artifact, "collection").into());
        collection.insert("created_us".to_owned(), now_us().into());
    }
    if text(collection, "type") != text(artifact, "type") {
        return Err(WandbError::invalid(format!(
            "the artifact `{}` has the type `{}`: use this type, or another name",
            text(collection, "name").escape_debug(),
            text(collection, "type").escape_debug()
        )));
    }
    // Numbers are never given again.
    let version = collection.get("next").and_then(Value::as_i64).unwrap_or_default();
    collection.insert("next".to_owned(), (version + 1).into());
    let list = collection.entry("versions").or_insert_with(|| json!([]));
    let list = list.as_array_mut().ok_or_else(|| WandbError::broken("versions"))?;
    if list.len() >= MAX_VERSIONS {
        return Err(WandbError::invalid(format!(
            "the artifact has {MAX_VERSIONS} versions: delete some, or use another name"
        )));
    }
    list.push(json!({"version": version, "id": id, "digest": text(artifact, "digest")}));
    let aliases = collection.entry("aliases").or_insert_with(|| json!({}));
    let aliases = aliases.as_object_mut().ok_or_else(|| WandbError::broken("aliases"))?;
    let requested = artifact.get("aliases").and_then(Value::as_array).into_iter().flatten();
    for alias in requested.filter_map(Value::as_str).chain([LATEST]) {
        aliases.insert(alias.to_owned(), id.into());
    }
    Ok(version)
}

/// Changes the description, the metadata or the aliases of a version.
pub(crate) async fn update(context: &CallContext, arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let id = input.required("artifactID")?;
    let description = input.text("description")?;
    let metadata = input.text("metadata")?;
    let artifact = documents::change(&context.channels, ARTIFACTS, id, |members| {
        if members.is_empty() {
            return Err(WandbError::missing("there is no such artifact"));
        }
        for (member, value) in [("description", description), ("metadata", metadata)] {
            if let Some(value) = value {
                members.insert(member.to_owned(), value.into());
            }
        }
        Ok(members.clone())
    })
    .await?;
    if !input.get("aliases").is_null() {
        let aliases = requested_aliases(&input)?;
        change_aliases(context, &artifact, |of_collection, id| {
            of_collection.retain(|_, of| of != id);
            for alias in &aliases {
                of_collection.insert(alias.clone(), id.into());
            }
        })
        .await?;
    }
    Ok(json!({"artifact": node(context, names::WANDB, &artifact).await?}))
}

/// Notes that a run has used a version.
pub(crate) async fn use_by_run(context: &CallContext, arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let artifact = stored_input(context, &input).await?;
    let run = RunName::new(project_or_default(input.text("projectName")?), input.required("runName")?)?;
    let found = find(context, &run).await?.ok_or_else(|| no_run(&run.id))?;
    let id = text(&artifact, "id");
    link(context, &found.run_id, USED_ARTIFACTS, id).await?;
    let entity = entity_or_default(input.text("entityName")?);
    Ok(json!({"artifact": node(context, entity, &artifact).await?}))
}

/// Deletes a version. Its files stay until its run is deleted.
pub(crate) async fn delete(context: &CallContext, arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let artifact = stored_input(context, &input).await?;
    let id = text(&artifact, "id").to_owned();
    let may_have_aliases = input.flag("deleteAliases");
    let name = collection_name(text(&artifact, "project"), text(&artifact, "collection"))?;
    documents::change(&context.channels, COLLECTIONS, &name, |members| {
        if let Some(aliases) = members.get_mut("aliases").and_then(Value::as_object_mut) {
            let has_others = aliases.iter().any(|(alias, of)| *of == *id && alias != LATEST);
            if has_others && !may_have_aliases {
                return Err(WandbError::invalid(
                    "the artifact has aliases: delete them, or set `delete_aliases`",
                ));
            }
            aliases.retain(|_, of| *of != *id);
        }
        if let Some(list) = members.get_mut("versions").and_then(Value::as_array_mut) {
            list.retain(|version| version["id"] != *id);
            let newest = list.last().map(|version| version["id"].clone());
            if let (Some(newest), Some(aliases)) =
                (newest, members.get_mut("aliases").and_then(Value::as_object_mut))
            {
                aliases.entry(LATEST).or_insert(newest);
            }
        }
        Ok(())
    })
    .await?;
    documents::delete(&context.channels, ARTIFACTS, &id).await?;
    Ok(json!({"artifact": {"id": id, "state": DELETED}}))
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
    change_aliases(context, &artifact, |of_collection, id| {
        for alias in &aliases {
            if is_added {
                of_collection.insert(alias.clone(), id.into());
            } else if of_collection.get(alias).is_some_and(|of| of == id) {
                of_collection.remove(alias);
            }
        }
    })
    .await?;
    Ok(json!({"success": true}))
}

/// The value of GraphQL's object of a version.
async fn node(context: &CallContext, entity: &str, artifact: &Members) -> Result<Value> {
    let project = text(artifact, "project");
    let name = collection_name(project, text(artifact, "collection"))?;
    let collection = documents::read(&context.channels, COLLECTIONS, &name).await?.unwrap_or_default();
    Ok(node_in(entity, artifact, &collection))
}

fn node_in(entity: &str, artifact: &Members, collection: &Members) -> Value {
    let id = text(artifact, "id");
    let project = text(artifact, "project");
    let sequence =
        sequence_node(entity, project, text(artifact, "collection"), text(artifact, "type"), collection);
    let of_alias = |alias: &String| json!({"id": format!("{id}:{alias}"), "alias": alias, "artifactCollection": sequence});
    let aliases: Vec<Value> = aliases_of(collection, id).map(of_alias).collect();
    let created = time_text(artifact.get("created_us").and_then(Value::as_i64).unwrap_or_default());
    json!({
        ENTITY: entity,
        "_run": text(artifact, "run"),
        "_project": project,
        "_runId": text(artifact, "run_id"),
        "id": id,
        "name": text(artifact, "collection"),
        "state": text(artifact, "state"),
        "digest": text(artifact, "digest"),
        "digestAlgorithm": "MANIFEST_MD5",
        "description": text(artifact, "description"),
        "metadata": text(artifact, "metadata"),
        "versionIndex": artifact.get("version"),
        "commitHash": id,
        "historyStep": artifact.get("history_step"),
        "ttlDurationSeconds": null,
        "ttlIsInherited": false,
        "createdAt": created,
        "updatedAt": created,
        "aliases": aliases,
        "tags": [],
        "artifactType": {"id": text(artifact, "type"), "name": text(artifact, "type"), ENTITY: entity, "_project": project},
        "artifactSequence": sequence,
    })
}

fn aliases_of<'a>(collection: &'a Members, id: &'a str) -> impl Iterator<Item = &'a String> {
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
        "description": "",
        "state": "READY",
        "createdAt": created,
        "updatedAt": created,
        "project": project_node(project, entity),
        "defaultArtifactType": {"id": artifact_type, "name": artifact_type, ENTITY: entity, "_project": project},
        "tags": {"edges": []},
    })
}

/// A version by its id.
pub(crate) async fn by_id(context: &CallContext, id: &str) -> Result<Value> {
    match documents::read(&context.channels, ARTIFACTS, id).await? {
        Some(artifact) => node(context, crate::call::ENTITY, &artifact).await,
        None => Ok(Value::Null),
    }
}

/// The id of the version that a client has made.
pub(crate) async fn by_client_id(context: &CallContext, client_id: &str) -> Result<Value> {
    let id = artifact_id(client_id);
    let found = documents::read(&context.channels, ARTIFACTS, &id).await?;
    Ok(found.map_or(Value::Null, |_| json!({"serverID": id})))
}

/// A version by a name such as `model:v3`, `model:latest` or `model`, with or without entity and project before it.
pub(crate) async fn by_name(context: &CallContext, entity: &str, project: &str, name: &str) -> Result<Value> {
    let name = name.rsplit('/').next().unwrap_or_default();
    let (name, version) = name.split_once(':').unwrap_or((name, LATEST));
    let Ok(collection) = collection_name(project, name) else { return Ok(Value::Null) };
    let Some(members) = documents::read(&context.channels, COLLECTIONS, &collection).await? else {
        return Ok(Value::Null);
    };
    let of_alias = members.get("aliases").and_then(|aliases| aliases.get(version)).and_then(Value::as_str);
    let of_number = || {
        let number: i64 = version.strip_prefix('v')?.parse().ok()?;
        versions(&members).find(|known| known["version"] == number)?["id"].as_str()
    };
    // W&B also takes a digest.
    let of_digest = || versions(&members).rev().find(|known| known["digest"] == version)?["id"].as_str();
    let Some(id) = of_alias.or_else(of_number).or_else(of_digest) else { return Ok(Value::Null) };
    match documents::read(&context.channels, ARTIFACTS, id).await? {
        Some(artifact) => Ok(node_in(entity, &artifact, &members)),
        None => Ok(Value::Null),
    }
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
        "versionIndex": artifact["versionIndex"],
        "artifactCollection": artifact["artifactSequence"],
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

/// The collections of a project, or those of one type.
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
    let names: std::collections::BTreeSet<&str> = all.iter().map(|members| text(members, "type")).collect();
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

/// The versions of a collection, newest first.
pub(crate) async fn versions_of(
    context: &CallContext,
    sequence: &Node,
    arguments: &Arguments,
) -> Result<Value> {
    let (project, name, entity) =
        (sequence.known("_project")?, sequence.known("name")?, sequence.known(ENTITY)?);
    let full = collection_name(project, name)?;
    let members = documents::read(&context.channels, COLLECTIONS, &full).await?.unwrap_or_default();
    let (start, length) = page(arguments)?;
    let ids: Vec<&str> = versions(&members).rev().filter_map(|version| version["id"].as_str()).collect();
    let mut nodes = Vec::new();
    for id in ids.iter().skip(start).take(length) {
        if let Some(artifact) = documents::read(&context.channels, ARTIFACTS, id).await? {
            nodes.push(node_in(entity, &artifact, &members));
        }
    }
    let names: Vec<String> = nodes.iter().map(|node| format!("v{}", node["versionIndex"])).collect();
    let mut connection = connection(nodes, start, ids.len());
    if let Some(edges) = connection["edges"].as_array_mut() {
        for (edge, name) in edges.iter_mut().zip(names) {
            edge["version"] = name.into();
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
    let (run_id, entity) = (run.known(crate::run_view::RUN_ID)?, run.known(ENTITY)?);
    let Some(snapshot) = RunSnapshot::read(&context.channels, run_id).await? else {
        return Ok(connection(Vec::new(), 0, 0));
    };
    let ids = snapshot.artifacts(member);
    let (start, length) = page(arguments)?;
    let mut nodes = Vec::new();
    for id in ids.iter().skip(start).take(length) {
        if let Some(artifact) = documents::read(&context.channels, ARTIFACTS, id).await? {
            nodes.push(node(context, entity, &artifact).await?);
        }
    }
    Ok(connection(nodes, start, ids.len()))
}

fn file_url(context: &CallContext, artifact: &Node, path: &str) -> Result<String> {
    let name = RunName::new(artifact.known("_project")?, artifact.known("_run")?)?;
    Ok(read_url(context, artifact.known(ENTITY)?, &name, path))
}

/// The list of the files of a version, to be read; null as long as it was not uploaded.
pub(crate) async fn manifest(context: &CallContext, artifact: &Node) -> Result<Value> {
    let id = artifact.known("id")?;
    let path = format!("{ARTIFACT_FOLDER}{id}/{MANIFEST}");
    if size(context, artifact.known("_runId")?, &path).await?.is_none() {
        return Ok(Value::Null);
    }
    let url = file_url(context, artifact, &path)?;
    Ok(
        json!({"id": id, "digest": artifact.get("digest"), "file": {"id": id, "name": MANIFEST, "directUrl": url, "url": url}}),
    )
}

/// The files of a version: those that are named, or a page of all.
pub(crate) async fn files(context: &CallContext, artifact: &Node, arguments: &Arguments) -> Result<Value> {
    let entries = arguments.objects("entries")?;
    let mut named: Vec<String> = Vec::new();
    for entry in &entries {
        named.push(entry.required("name")?.to_owned());
    }
    named.extend(arguments.texts("names")?.unwrap_or_default().into_iter().map(str::to_owned));
    let (run_id, id) = (artifact.known("_runId")?, artifact.known("id")?);
    let folder = format!("{ARTIFACT_FOLDER}{id}/");
    let stored = crate::files::listed_below(context, run_id, &folder).await?;
    let mut nodes = Vec::new();
    for (name, size) in stored.iter().filter(|(name, _)| name != MANIFEST) {
        if named.is_empty() || named.contains(name) {
            let url = file_url(context, artifact, &format!("{folder}{name}"))?;
            nodes.push(json!({
                "id": format!("{id}/{name}"),
                "name": name,
                "displayName": name,
                "url": url,
                "directUrl": url,
                "sizeBytes": size,
                "mimetype": crate::batch::content_type(name),
                "md5": null,
                "digest": null,
                "updatedAt": artifact.get("createdAt"),
                "storagePath": format!("{folder}{name}"),
            }));
        }
    }
    // A client that asks for entries expects all of them on one page.
    if !entries.is_empty() {
        let total = nodes.len();
        return Ok(connection(nodes, 0, total));
    }
    paged(nodes, arguments)
}

/// The number of files of a version, and their size.
pub(crate) async fn totals(context: &CallContext, artifact: &Node) -> Result<(u64, u64)> {
    let folder = format!("{ARTIFACT_FOLDER}{}/", artifact.known("id")?);
    let stored = crate::files::listed_below(context, artifact.known("_runId")?, &folder).await?;
    let files = stored.iter().filter(|(name, _)| name != MANIFEST);
    Ok(files.fold((0, 0), |(count, bytes), (_, size)| (count + 1, bytes + size)))
}

/// The run that has made a version; null if it was deleted.
pub(crate) async fn creator(context: &CallContext, artifact: &Node) -> Result<Value> {
    let run = RunSnapshot::read(&context.channels, artifact.known("_runId")?).await?;
    let entity = artifact.known(ENTITY)?;
    Ok(run.map_or(Value::Null, |run| run.node(entity)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(id: &str, aliases: &[&str]) -> Members {
        let value = json!({"id": id, "project": "p", "collection": "model", "type": "model", "digest": id, "aliases": aliases});
        value.as_object().unwrap().clone()
    }

    #[test]
    fn versions_are_numbered_once_and_latest_moves() {
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
    fn aliases_are_no_versions() {
        for alias in ["v1", "v0", "a:b", "a/b"] {
            assert!(checked_alias(alias).is_err(), "{alias}");
        }
        for alias in ["best", "v", "v1.0", "version1"] {
            assert!(checked_alias(alias).is_ok(), "{alias}");
        }
    }
}
