//! The routes of W&B's clients, and the fields of GraphQL, by the schema that the server describes.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::Method;
use matyan_proto::common::v1::Access;
use matyan_wandb::Route;
use serde_json::{Value, json};

use super::{
    CALLER, EDIT, ForeignOperation, GRAPHQL, JSON, PUBLIC, READ, READ_EDIT, READ_INGEST, READ_INGEST_EDIT,
    send, text_of,
};
use crate::access::closed_server::ClosedServer;

/// All routes but GraphQL's, about the run `r` of the project `p`.
const ROUTES: [(Method, &str); 7] = [
    (Method::POST, "/files/me/p/r/file_stream"),
    (Method::GET, "/files/me/p/r/config.yaml"),
    (Method::GET, "/artifactsV2/default/me/1f/0a"),
    (Method::GET, "/artifactsV2/default/me/p/data/0a/a.txt"),
    (Method::POST, "/sdk/otel/v1/metrics"),
    (Method::POST, "/sdk/otel/v1/logs"),
    (Method::GET, "/me/p/runs/r"),
];

/// The names of the root fields.
const ROOTS: &str = "{ queryType: __type(name: \"Query\") { fields { name } } mutationType: __type(name: \"Mutation\") { fields { name } } }";

/// The selections on a run, on all runs, and on an artifact.
const OF_RUN: &str = "run(name: \"r\") { name displayName notes config summaryMetrics tags }";
const OF_RUNS: &str =
    "edges { node { name runs { edges { node { name displayName notes config summaryMetrics tags } } } } }";
const OF_ARTIFACT: &str = "name description metadata";

/// A selection that shows only whether an object exists.
const NOTHING: &str = "__typename";

/// A field with its arguments, the selection on it, and the rights that it needs.
type RootField = (Value, &'static str, &'static [Access]);

pub(super) struct WandbThings {
    project: String,
    artifact_id: String,
}

impl WandbThings {
    pub(super) async fn create(
        closed: &ClosedServer,
        project: &str,
        text: &mut impl FnMut(&str) -> String,
    ) -> Self {
        let run = json!({
            "name": "r", "modelName": "p", "entityName": "me",
            "displayName": text("wandb-run"),
            "notes": text("wandb-notes"),
            "config": json!({"k": {"value": text("wandb-config")}}).to_string(),
            "summaryMetrics": json!({"k": text("wandb-summary")}).to_string(),
        });
        let mutation = document("mutation", "upsertBucket", &json!({"input": run}), "inserted");
        execute(closed, project, &mutation).await;
        let artifact = json!({
            "projectName": "p", "entityName": "me", "runName": "r", "artifactTypeName": "model",
            "artifactCollectionName": "a", "digest": "d", "clientID": "c",
            "description": text("wandb-artifact"),
        });
        let mutation = document("mutation", "createArtifact", &json!({"input": artifact}), "artifact { id }");
        let created = execute(closed, project, &mutation).await;
        let artifact_id = text_of(&created, "/data/createArtifact/artifact/id");
        Self { project: project.to_owned(), artifact_id }
    }

    pub(super) async fn operations(&self, closed: &ClosedServer) -> Vec<ForeignOperation> {
        let mut operations: Vec<_> = ROUTES.iter().map(|(method, path)| of_route(method, path)).collect();
        let schema = execute(closed, &self.project, ROOTS).await;
        for (kind, root) in [("query", "queryType"), ("mutation", "mutationType")] {
            let fields = schema["data"][root]["fields"].as_array();
            for field in fields.unwrap_or_else(|| panic!("no {root} in {schema}")) {
                operations.push(self.of_field(kind, &text_of(field, "/name")));
            }
        }
        operations
    }

    fn of_field(&self, kind: &str, name: &str) -> ForeignOperation {
        let (arguments, selection, needs) =
            if kind == "query" { self.query(name) } else { self.mutation(name) };
        let document = document(kind, name, &arguments, selection);
        ForeignOperation {
            name: format!("W&B's {kind} {name}"),
            method: Method::POST,
            path: GRAPHQL.to_owned(),
            content_type: JSON,
            body: json!({"query": document}).to_string().into(),
            needs,
        }
    }

    fn query(&self, name: &str) -> RootField {
        let project = json!({"name": "p", "entityName": "me"});
        match name {
            "viewer" | "serverInfo" => (json!({}), NOTHING, CALLER),
            "entity" | "organization" => (json!({"name": "me"}), NOTHING, CALLER),
            "model" => (project, NOTHING, CALLER),
            "project" => (project, OF_RUN, READ),
            "projects" | "models" => (json!({"entityName": "me"}), OF_RUNS, READ),
            "artifact" => (json!({"id": self.artifact_id}), OF_ARTIFACT, READ),
            "artifactCollection" => (json!({"id": "p/a"}), NOTHING, READ),
            "clientIDMapping" => (json!({"clientID": "c"}), "serverID", READ),
            other => panic!("which right does the query `{other}` need?"),
        }
    }

    fn mutation(&self, name: &str) -> RootField {
        let id = &self.artifact_id;
        let storage_id = STANDARD.encode("Run:v1:r:p:me");
        let of_run = |members: Value| {
            let mut input = json!({"entityName": "me", "projectName": "p", "runName": "r"});
            for (name, value) in members.as_object().into_iter().flatten() {
                input[name] = value.clone();
            }
            input
        };
        let aliases = json!([{"alias": "x"}]);
        let of_collection =
            json!({"projectName": "p", "artifactCollectionName": "a", "tags": [{"tagName": "x"}]});
        let (input, needs) = match name {
            "upsertBucket" => {
                let names = json!({"name": "r", "modelName": "p", "entityName": "me", "displayName": "x"});
                (names, READ_INGEST)
            }
            "upsertModel" => (json!({"name": "p", "entityName": "me"}), CALLER),
            "upsertSweep" | "createAgent" | "agentHeartbeat" | "createCustomChart" => (json!({}), CALLER),
            "stopRun" => (json!({"id": storage_id}), CALLER),
            "deleteFiles" => (json!({"files": ["r:p/x"]}), EDIT),
            "createArtifactType" => (json!({"name": "model", "projectName": "p"}), CALLER),
            "updateRunState" => (json!({"id": storage_id, "state": "finished"}), READ_INGEST),
            "deleteRun" => (json!({"id": storage_id}), READ_EDIT),
            "rewindRun" => (of_run(json!({"metricName": "_step", "metricValue": 1_000_000.0})), READ_INGEST),
            "createRunFiles" | "markRunFilesUploaded" => (of_run(json!({"files": ["x"]})), READ_INGEST),
            "notifyScriptableRunAlert" => (of_run(json!({"title": "x", "text": "x"})), READ_INGEST),
            "createArtifact" => (
                of_run(json!({
                    "artifactTypeName": "model", "artifactCollectionName": "b", "digest": "x", "clientID": "x",
                })),
                READ_INGEST,
            ),
            "createArtifactManifest" => (json!({"artifactID": id, "name": "x", "digest": "x"}), READ_INGEST),
            "updateArtifactManifest" => (json!({"artifactManifestID": id}), READ_INGEST),
            "createArtifactFiles" => {
                (json!({"artifactFiles": [{"artifactID": id, "name": "x"}]}), READ_INGEST)
            }
            "completeMultipartUploadArtifact" => (
                json!({
                    "artifactID": id,
                    "storagePath": format!("wandb-artifacts/{id}/x"),
                    "completeMultipartAction": "Complete",
                    "completedParts": [{"partNumber": 1}],
                    "uploadID": "00000000000000000000000000000000",
                }),
                READ_INGEST,
            ),
            "commitArtifact" => (json!({"artifactID": id}), READ_INGEST),
            "updateArtifact" => (json!({"artifactID": id, "description": "x"}), READ_INGEST),
            "useArtifact" => (of_run(json!({"artifactID": id})), READ_INGEST),
            "deleteArtifact" => (json!({"artifactID": id, "deleteAliases": true}), READ_INGEST_EDIT),
            "linkArtifact" => {
                (json!({"artifactID": id, "projectName": "p", "artifactPortfolioName": "links"}), READ_INGEST)
            }
            "unlinkArtifact" => {
                (json!({"artifactID": id, "artifactPortfolioID": "p/links"}), READ_INGEST_EDIT)
            }
            "addAliases" => (json!({"artifactID": id, "aliases": aliases}), READ_INGEST),
            "deleteAliases" => (json!({"artifactID": id, "aliases": aliases}), READ_INGEST_EDIT),
            "updateArtifactSequence" => {
                (json!({"artifactSequenceID": "p/a", "description": "x"}), READ_INGEST)
            }
            "moveArtifactSequence" => {
                (json!({"artifactSequenceID": "p/a", "destinationArtifactTypeName": "model"}), READ_INGEST)
            }
            "createArtifactCollectionTagAssignments" => (of_collection, READ_INGEST),
            "deleteArtifactCollectionTagAssignments" => (of_collection, READ_INGEST_EDIT),
            "deleteArtifactSequence" => (json!({"artifactSequenceID": "p/a"}), READ_EDIT),
            other => panic!("which right does the mutation `{other}` need?"),
        };
        (json!({"input": input}), NOTHING, needs)
    }
}

/// The operation of a route. A new route does not compile without its rights; its path belongs to `ROUTES`.
fn of_route(method: &Method, path: &str) -> ForeignOperation {
    let line = json!({"_step": 0, "loss": 1}).to_string();
    let stream = json!({"files": {"wandb-history.jsonl": {"offset": 0, "content": [line]}}}).to_string();
    let (needs, body) = match Route::find(method, path) {
        Some(Route::FileStream { .. }) => (READ_INGEST, stream),
        Some(Route::File { .. } | Route::FileByDigest { .. }) => (READ, String::new()),
        Some(
            Route::FileOfUnknownVersion | Route::NameNotUtf8 | Route::ClientTelemetry | Route::RunPage { .. },
        ) => (PUBLIC, String::new()),
        Some(Route::Graphql) | None => panic!("{method} {path} is another route"),
    };
    ForeignOperation {
        name: format!("W&B's {method} {path}"),
        method: method.clone(),
        path: path.to_owned(),
        content_type: JSON,
        body: Bytes::from(body),
        needs,
    }
}

/// Executes a document of the operator, which must have no errors.
async fn execute(closed: &ClosedServer, project: &str, document: &str) -> Value {
    let answer = send(closed, project, Method::POST, GRAPHQL, &json!({"query": document})).await;
    assert!(answer["errors"].is_null(), "{document}: {answer}");
    answer
}

/// A document with one root field.
fn document(kind: &str, field: &str, arguments: &Value, selection: &str) -> String {
    let arguments: Vec<String> = members(arguments).collect();
    let arguments = if arguments.is_empty() { String::new() } else { format!("({})", arguments.join(", ")) };
    format!("{kind} {{ {field}{arguments} {{ {selection} }} }}")
}

fn members(object: &Value) -> impl Iterator<Item = String> {
    let members = object.as_object().into_iter().flatten();
    members.map(|(name, value)| format!("{name}: {}", literal(value)))
}

/// A value as GraphQL writes it: like JSON, without quotes around names.
fn literal(value: &Value) -> String {
    match value {
        Value::Object(_) => format!("{{{}}}", members(value).collect::<Vec<_>>().join(", ")),
        Value::Array(values) => format!("[{}]", values.iter().map(literal).collect::<Vec<_>>().join(", ")),
        plain => plain.to_string(),
    }
}
