//! The values of all fields of the schema. The objects compute some of them; all others are members of the value of
//! their object.

use serde_json::{Value, json};

use crate::aliases;
use crate::artifact_view;
use crate::artifacts;
use crate::call::{
    CallContext, ENTITY as DEFAULT_ENTITY, GraphqlCall, entity_or_default, project_or_default,
};
use crate::collections;
use crate::error::{Result, WandbError};
use crate::files;
use crate::history;
use crate::links;
use crate::names::{MADE_ARTIFACTS, RunName, USED_ARTIFACTS};
use crate::node::{Arguments, Node, Selection};
use crate::run_view::{ENTITY, RUN_ID, RunSnapshot, entity_node, project_node};
use crate::runs;
use crate::search;
use crate::terminal;

/// The newest client that this server supports, with room for later versions: a client that is newer than the server's
/// maximum asks its user to update the server.
const MAX_CLIENT: &str = "99.0.0";
const MIN_CLIENT: &str = "0.13.0";

/// Mutations that are known and always refused, with an alternative for each.
pub(crate) const REFUSED_MUTATIONS: [&str; 5] =
    ["upsertSweep", "createAgent", "agentHeartbeat", "stopRun", "createCustomChart"];

/// The value of a field.
pub(crate) async fn resolve(
    call: &GraphqlCall,
    parent: &str,
    field: &str,
    node: &Node,
    arguments: &Arguments,
    selection: Selection<'_>,
) -> Result<Value> {
    let context = &call.context;
    match parent {
        "Query" => query(context, field, arguments).await,
        "Mutation" => mutation(context, field, arguments).await,
        "Entity" => entity(node, field, arguments),
        "Project" => project(context, node, field, arguments).await,
        "Run" if field == "files" => files::list(context, node, arguments, selection).await,
        "Run" => run(context, node, field, arguments).await,
        "File" if field == "url" => files::url(context, node, arguments).await,
        "Artifact" => artifact(context, node, field, arguments, selection).await,
        "ArtifactSequence" => sequence(context, node, field, arguments).await,
        "ArtifactType" => artifact_type(context, node, field, arguments).await,
        "ArtifactCollectionMembership" if field == "files" => {
            let artifact = Node::new(node.get("artifact").clone());
            artifact_view::files(context, &artifact, arguments, selection).await
        }
        _ => Ok(node.get(field).clone()),
    }
}

async fn query(context: &CallContext, field: &str, arguments: &Arguments) -> Result<Value> {
    let entity = entity_or_default(arguments.text("entityName")?);
    match field {
        "viewer" => Ok(viewer(context)),
        "serverInfo" => Ok(server_info()),
        "entity" => Ok(entity_node(entity_or_default(arguments.text("name")?))),
        // There are no organizations.
        "organization" => Ok(Value::Null),
        "project" | "model" => Ok(project_node(project_or_default(arguments.text("name")?), entity)),
        "projects" | "models" => search::projects(context, entity, arguments).await,
        "artifact" => artifact_view::by_id(context, arguments.required("id")?).await,
        "artifactCollection" => artifact_view::collection_by_id(context, arguments.required("id")?).await,
        "clientIDMapping" => artifact_view::by_client_id(context, arguments.required("clientID")?).await,
        _ => Err(unknown(field)),
    }
}

fn unknown(field: &str) -> WandbError {
    WandbError::invalid(format!(
        "this server does not have `{field}`: docs/concepts/wandb.md lists what it answers"
    ))
}

fn viewer(context: &CallContext) -> Value {
    let user = if context.user.is_empty() { DEFAULT_ENTITY } else { context.user.as_str() };
    json!({
        "id": user,
        "name": user,
        "username": user,
        "email": "",
        "entity": DEFAULT_ENTITY,
        "admin": false,
        "flags": "{}",
        "photoUrl": null,
        "deletedAt": null,
        "teams": {"edges": [{"node": {"name": DEFAULT_ENTITY}}]},
        "apiKeys": {"edges": []},
        "organizations": [],
    })
}

fn server_info() -> Value {
    json!({
        "cliVersionInfo": {"min_cli_version": MIN_CLIENT, "max_cli_version": MAX_CLIENT},
        "latestLocalVersionInfo": {
            "outOfDate": false,
            "latestVersionString": MAX_CLIENT,
            "versionOnThisInstanceString": MAX_CLIENT,
        },
        // Each feature selects a newer way of a client. The oldest way is enough.
        "features": [],
    })
}

async fn mutation(context: &CallContext, field: &str, arguments: &Arguments) -> Result<Value> {
    match field {
        "upsertBucket" => runs::upsert(context, arguments).await,
        "upsertModel" => upsert_project(arguments),
        "upsertSweep" | "createAgent" | "agentHeartbeat" => Err(WandbError::invalid(runs::NO_SWEEPS)),
        "updateRunState" => runs::update_state(context, arguments).await,
        "stopRun" => runs::stop(),
        "deleteRun" => runs::delete(context, arguments).await,
        "rewindRun" => runs::rewind(context, arguments).await,
        "createRunFiles" => files::create(context, arguments).await,
        "markRunFilesUploaded" => files::mark_uploaded(context, arguments).await,
        "deleteFiles" => files::delete(context, arguments).await,
        "notifyScriptableRunAlert" => runs::alert(context, arguments).await,
        "createCustomChart" => {
            Err(WandbError::invalid("this server has no charts of W&B: its own pages draw every metric"))
        }
        "createArtifactType" => create_type(arguments),
        "createArtifact" => artifacts::create(context, arguments).await,
        "createArtifactManifest" => artifacts::create_manifest(context, arguments).await,
        "updateArtifactManifest" => artifacts::update_manifest(context, arguments).await,
        "createArtifactFiles" => artifacts::create_files(context, arguments).await,
        "completeMultipartUploadArtifact" => artifacts::end_upload(context, arguments).await,
        "commitArtifact" => artifacts::commit(context, arguments).await,
        "updateArtifact" => artifacts::update(context, arguments).await,
        "useArtifact" => artifacts::use_by_run(context, arguments).await,
        "deleteArtifact" => artifacts::delete(context, arguments).await,
        "updateArtifactSequence" => collections::update(context, arguments).await,
        "moveArtifactSequence" => collections::change_type(context, arguments).await,
        "createArtifactCollectionTagAssignments" => collections::set_tags(context, arguments, true).await,
        "deleteArtifactCollectionTagAssignments" => collections::set_tags(context, arguments, false).await,
        "deleteArtifactSequence" => collections::delete(context, arguments).await,
        "linkArtifact" => links::add(context, arguments).await,
        "unlinkArtifact" => links::delete(context, arguments).await,
        "addAliases" => aliases::set_aliases(context, arguments, true).await,
        "deleteAliases" => aliases::set_aliases(context, arguments, false).await,
        _ => Err(unknown(field)),
    }
}

/// A project exists once a run is in it, so nothing is stored here.
fn upsert_project(arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let entity = entity_or_default(input.text("entityName")?);
    let node = project_node(project_or_default(input.text("name")?), entity);
    Ok(json!({"project": node, "model": node, "inserted": true}))
}

/// A type exists once an artifact has it.
fn create_type(arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let entity = entity_or_default(input.text("entityName")?);
    let project = project_or_default(input.text("projectName")?);
    Ok(json!({"artifactType": artifact_view::type_node(entity, project, input.required("name")?)}))
}

fn entity(node: &Node, field: &str, arguments: &Arguments) -> Result<Value> {
    match field {
        "project" => Ok(project_node(project_or_default(arguments.text("name")?), node.known("name")?)),
        _ => Ok(node.get(field).clone()),
    }
}

async fn project(context: &CallContext, node: &Node, field: &str, arguments: &Arguments) -> Result<Value> {
    let name = node.known("name")?;
    let entity = node.known(ENTITY)?;
    let named = arguments.text("name")?;
    match (field, named) {
        ("run" | "bucket", Some(id)) => {
            let Ok(name) = RunName::new(name, id) else { return Ok(Value::Null) };
            let run = runs::find(context, &name).await?;
            Ok(run.map_or(Value::Null, |run: RunSnapshot| run.node(entity)))
        }
        ("run" | "bucket", None) => Ok(Value::Null),
        ("runs" | "buckets", _) => search::runs(context, node, arguments).await,
        ("runCount", _) => search::run_count(context, node, arguments).await,
        ("sweeps", _) => Ok(files::connection(Vec::new(), 0, 0)),
        // An agent would say only that it has not found its sweep.
        ("sweep", _) => Err(WandbError::invalid(runs::NO_SWEEPS)),
        ("artifact", Some(wanted)) => artifact_view::by_name(context, entity, name, wanted).await,
        ("artifactCollectionMembership", Some(wanted)) => {
            artifact_view::membership(context, entity, name, wanted).await
        }
        ("artifactCollection", Some(wanted)) => {
            artifact_view::collection(context, entity, name, wanted).await
        }
        ("artifactType", Some(wanted)) => Ok(artifact_view::type_node(entity, name, wanted)),
        ("artifact" | "artifactCollectionMembership" | "artifactCollection" | "artifactType", None) => {
            Ok(Value::Null)
        }
        ("artifactTypes", _) => artifact_view::types(context, entity, name, arguments).await,
        ("artifactCollections", _) => {
            artifact_view::collections(context, entity, name, None, arguments).await
        }
        _ => Ok(node.get(field).clone()),
    }
}

async fn run(context: &CallContext, node: &Node, field: &str, arguments: &Arguments) -> Result<Value> {
    match field {
        "wandbConfig" => internal_config(context, node, arguments).await,
        "historyLineCount" => history::line_count(context, node, false).await,
        "eventsLineCount" => history::line_count(context, node, true).await,
        "logLineCount" => terminal::line_count(context, node).await,
        "historyTail" => history::tail(context, node, false).await,
        "eventsTail" => history::tail(context, node, true).await,
        "historyKeys" => history::history_keys(context, node).await,
        "history" => history::history(context, node, arguments).await,
        "events" => history::events(context, node, arguments).await,
        "sampledHistory" => history::sampled_history(context, node, arguments).await,
        "parquetHistory" => history::parquet_history(context, node, arguments).await,
        "logLines" => terminal::page(context, node, arguments).await,
        "fileCount" => files::count(context, node).await,
        "inputArtifacts" => artifact_view::of_run(context, node, USED_ARTIFACTS, arguments).await,
        "outputArtifacts" => artifact_view::of_run(context, node, MADE_ARTIFACTS, arguments).await,
        _ => Ok(node.get(field).clone()),
    }
}

async fn internal_config(context: &CallContext, node: &Node, arguments: &Arguments) -> Result<Value> {
    let keys = arguments.texts("keys")?.unwrap_or_default();
    let run = RunSnapshot::read(context, node.known(RUN_ID)?).await?;
    Ok(run.map_or(Value::Null, |run| run.internal_config(&keys).into()))
}

async fn artifact(
    context: &CallContext,
    node: &Node,
    field: &str,
    arguments: &Arguments,
    selection: Selection<'_>,
) -> Result<Value> {
    // The artifact in the answer to a mutation may have its id only.
    if node.text("_runId").is_none() {
        return Ok(node.get(field).clone());
    }
    match field {
        "files" | "filesByManifestEntries" => artifact_view::files(context, node, arguments, selection).await,
        "currentManifest" => artifact_view::manifest(context, node).await,
        "createdBy" => artifact_view::creator(context, node).await,
        "usedBy" => search::users_of(context, node, selection).await,
        "artifactMemberships" => Ok(json!({
            "edges": [{"node": {
                "id": node.get("id"),
                "createdAt": node.get("createdAt"),
                "versionIndex": node.get("versionIndex"),
                "artifactCollection": node.get("artifactSequence"),
                "aliases": node.get("aliases"),
            }}],
        })),
        _ => Ok(node.get(field).clone()),
    }
}

async fn sequence(context: &CallContext, node: &Node, field: &str, arguments: &Arguments) -> Result<Value> {
    let of_alias = |alias: &str| format!("{}:{alias}", node.text("name").unwrap_or_default());
    match field {
        "artifacts" => artifact_view::versions_of(context, node, arguments).await,
        "aliases" => artifact_view::aliases(context, node).await,
        "latestArtifact" => {
            artifact_view::by_name(context, node.known(ENTITY)?, node.known("_project")?, &of_alias("latest"))
                .await
        }
        "artifactMembership" => {
            let name = of_alias(arguments.required("aliasName")?);
            artifact_view::membership(context, node.known(ENTITY)?, node.known("_project")?, &name).await
        }
        _ => Ok(node.get(field).clone()),
    }
}

async fn artifact_type(
    context: &CallContext,
    node: &Node,
    field: &str,
    arguments: &Arguments,
) -> Result<Value> {
    match field {
        "artifact" | "artifactCollection" => {
            let entity = node.known(ENTITY)?;
            let project = node.known("_project")?;
            let name = arguments.required("name")?;
            if field == "artifact" {
                artifact_view::by_name(context, entity, project, name).await
            } else {
                artifact_view::collection(context, entity, project, name).await
            }
        }
        "artifactCollections" => {
            let entity = node.known(ENTITY)?;
            let project = node.known("_project")?;
            let name = node.known("name")?;
            artifact_view::collections(context, entity, project, Some(name), arguments).await
        }
        _ => Ok(node.get(field).clone()),
    }
}
