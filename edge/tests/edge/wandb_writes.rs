//! Writes of W&B's clients: everything that is acknowledged is in the log, under the id of the run, and
//! everything else is an error.

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use matyan_edge::{Edge, Metrics, Protocol, Settings, Transport};
use matyan_proto::artifacts::v1 as artifacts;
use matyan_proto::common::v1::SeriesType;
use matyan_proto::documents::v1 as documents;
use matyan_proto::ingest::v1::Rejection;
use matyan_proto::runs::v1 as runs;
use matyan_proto::series::v1 as series;
use serde_json::{Value, json};
use tonic::Status;

use super::backend::Backend;
use super::frontier::Frontier;

const GET_RUN: &str = "runs.v1.RunService/Get";
pub(crate) const GET_FILE: &str = "artifacts.v1.ArtifactService/Get";
pub(crate) const LIST_FILES: &str = "artifacts.v1.ArtifactService/List";
pub(crate) const GET_DOCUMENT: &str = "documents.v1.DocumentService/Get";
const WRITE_DOCUMENT: &str = "documents.v1.DocumentService/Write";
const DELETE_DOCUMENT: &str = "documents.v1.DocumentService/Delete";

pub(crate) struct Port {
    pub(crate) backend: Backend,
    frontier: Frontier,
    pub(crate) edge: Edge,
}

impl Port {
    /// A port with one run, which answers to every id.
    pub(crate) fn with_run(run_id: &str) -> Self {
        let backend = Backend::default();
        let run = runs::Run {
            run_id: run_id.to_owned(),
            props: Some(runs::Props::default()),
            ..runs::Run::default()
        };
        backend.answers(GET_RUN, [runs::GetResponse { run: Some(run) }]);
        let frontier = Frontier::new();
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let settings = Settings { protocols: vec![Protocol::Wandb], ..Settings::default() };
        let transport = Some(frontier.transport());
        let edge = matyan_edge::query(settings, metrics, Transport::new(backend.clone()), transport);
        Port { backend, frontier, edge }
    }

    pub(crate) async fn send(&self, path: &str, body: Value) -> (u16, Value) {
        let request =
            Request::post(path).header("host", "localhost:1").body(Body::from(body.to_string())).unwrap();
        let (head, body) = self.edge.answer(request).await.into_parts();
        let answer = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
        (head.status.as_u16(), answer)
    }

    async fn stream_row(&self) -> (u16, Value) {
        let rows = json!({"wandb-history.jsonl": {"offset": 0, "content": ["{\"_step\": 0, \"a\": 1}"]}});
        self.send("/files/me/p/r/file_stream", json!({"files": rows})).await
    }

    pub(crate) async fn execute(&self, document: &str) -> Value {
        let (status, answer) = self.send("/graphql", json!({"query": document})).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }
}

const ALERT: &str = r#"mutation { notifyScriptableRunAlert(input: {
    projectName: "p", runName: "r", title: "t", text: "x"
}) { success } }"#;

#[tokio::test]
async fn an_item_that_the_frontier_refuses_is_an_error() {
    let port = Port::with_run("r:p");
    assert_eq!(port.stream_row().await.0, 200);
    let refuse = || {
        let rejection = Rejection { field: "name".into(), reason: "is odd".into(), ..Rejection::default() };
        port.frontier.change(|it| it.reject_next = vec![rejection]);
    };
    refuse();
    let (status, answer) = port.stream_row().await;
    assert_eq!((status, answer["errors"][0]["message"].as_str()), (400, Some("`name` is odd")));
    refuse();
    let answer = port.execute(ALERT).await;
    assert_eq!(answer["errors"][0]["message"], "`name` is odd");
    refuse();
    let files = r#"mutation { markRunFilesUploaded(input: {projectName: "p", runName: "r", files: ["a"]}) { success } }"#;
    let answer = port.execute(files).await;
    assert_eq!(answer["errors"][0]["message"], "`name` is odd");
}

#[tokio::test]
async fn every_route_finds_the_run_of_another_client() {
    let port = Port::with_run("native");
    assert_eq!(port.stream_row().await.0, 200);
    assert_eq!(port.execute(ALERT).await["data"]["notifyScriptableRunAlert"], json!({"success": true}));
    let ids: Vec<String> = port.frontier.received().into_iter().map(|it| it.run_id).collect();
    assert_eq!(ids, ["native", "native"]);
}

#[tokio::test]
async fn nothing_is_stored_for_a_run_that_does_not_exist() {
    let port = Port::with_run("r:p");
    port.backend.fails(GET_RUN, Vec::<runs::GetResponse>::new(), Status::not_found("no run"));
    assert_eq!(port.stream_row().await.0, 404);
    assert!(port.execute(ALERT).await["errors"][0]["message"].as_str().unwrap().contains("`r`"));
    assert!(port.frontier.received().is_empty());
}

const BEGIN_RUN: &str =
    r#"mutation { upsertBucket(input: {name: "r", modelName: "p"}) { inserted bucket { name } } }"#;

/// Clients repeat 503. Any other error ends `wandb.init`.
#[tokio::test]
async fn a_new_run_that_is_applied_late_is_begun_again() {
    let port = Port::with_run("r:p");
    port.backend.fails(GET_RUN, Vec::<runs::GetResponse>::new(), Status::not_found("no run"));
    port.backend.sets_late([true]);
    let (status, answer) = port.send("/graphql", json!({"query": BEGIN_RUN})).await;
    assert_eq!(status, 503, "{answer}");
    assert_eq!(port.frontier.published().len(), 1);
    // The run is applied, and is not there: it was deleted.
    let answer = port.execute(BEGIN_RUN).await;
    let message = answer["errors"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("choose another id"), "{answer}");
}

/// A script with a run in quarantine goes on, and its data waits in the log.
#[tokio::test]
async fn an_existing_run_goes_on_while_nothing_is_applied() {
    let port = Port::with_run("r:p");
    port.backend.sets_late([true]);
    let answer = port.execute(BEGIN_RUN).await;
    assert_eq!(answer["data"]["upsertBucket"], json!({"inserted": false, "bucket": {"name": "r"}}));
}

#[tokio::test]
async fn a_repeated_deletion_succeeds() {
    let port = Port::with_run("r:p");
    port.backend.fails(GET_RUN, Vec::<runs::GetResponse>::new(), Status::not_found("no run"));
    port.backend.fails(GET_DOCUMENT, Vec::<documents::GetResponse>::new(), Status::not_found("no document"));
    // `Run:v1:r:p:me` in base64.
    let run = r#"mutation { deleteRun(input: {id: "UnVuOnYxOnI6cDptZQ=="}) { clientMutationId } }"#;
    assert_eq!(port.execute(run).await["data"]["deleteRun"], json!({"clientMutationId": null}));
    let artifact = r#"mutation { deleteArtifact(input: {artifactID: "x"}) { artifact { id state } } }"#;
    let answer = port.execute(artifact).await;
    assert_eq!(answer["data"]["deleteArtifact"], json!({"artifact": {"id": "x", "state": "DELETED"}}));
}

#[tokio::test]
async fn rule_109_a_run_goes_on_after_the_objects_that_it_logged_last() {
    let port = Port::with_run("r:p");
    let info = |name: &str, series_type: SeriesType, dtype: &str, last_step| runs::SeriesInfo {
        name: name.into(),
        context: "{}".into(),
        r#type: series_type.into(),
        dtype: dtype.into(),
        count: 1,
        last_step,
        ..runs::SeriesInfo::default()
    };
    let listed = vec![
        runs::SeriesInfo { last: Some(0.5), ..info("loss", SeriesType::Metric, "float", 9) },
        info("__system__cpu", SeriesType::Metric, "float", 700),
        info("sample", SeriesType::Images, "image", 10),
    ];
    port.backend.answers("series.v1.SeriesService/List", [series::ListResponse { series: listed }]);
    port.backend.answers("series.v1.SeriesService/Points", Vec::<series::PointsResponse>::new());
    let document = r#"{ project(name: "p", entityName: "me") { run(name: "r") {
        historyTail historyLineCount historyKeys eventsLineCount
    } } }"#;
    let answer = port.execute(document).await;
    let run = &answer["data"]["project"]["run"];
    assert_eq!((&run["historyLineCount"], &run["eventsLineCount"]), (&json!(11), &json!(701)), "{answer}");
    let tail: Vec<String> = serde_json::from_str(run["historyTail"].as_str().unwrap()).unwrap();
    assert_eq!(tail, [r#"{"_step":10}"#]);
    let keys = &run["historyKeys"];
    assert_eq!(keys["lastStep"], 10);
    assert_eq!(keys["keys"]["sample"]["typeCounts"], json!([{"type": "image-file", "count": 1}]));
    assert_eq!(keys["keys"]["loss"]["typeCounts"], json!([{"type": "number", "count": 1}]));
    assert_eq!(keys["keys"]["loss"]["previousValue"], json!(0.5));
    assert_eq!(keys["keys"]["sample"].get("previousValue"), None);
}

/// A document that is a committed version, and the collection with this version.
pub(crate) fn version() -> documents::GetResponse {
    let content = json!({
        "id": "x", "project": "p", "collection": "data", "type": "dataset", "digest": "D", "state": "COMMITTED",
        "run_id": "old:p", "version": 0, "versions": [{"id": "x", "digest": "D", "version": 0}],
    });
    let content = content.to_string().into_bytes().into();
    let document = documents::Document { content, updated_us: 1, ..documents::Document::default() };
    documents::GetResponse { document: Some(document) }
}

/// Clients repeat 503, and give up at any other error: a version that many processes log at once would be lost.
#[tokio::test(start_paused = true)]
async fn a_collection_that_others_change_is_changed_later() {
    let port = Port::with_run("r:p");
    port.backend.answers(GET_DOCUMENT, [version()]);
    let changed = Status::aborted("the document has changed");
    port.backend.fails(WRITE_DOCUMENT, Vec::<documents::WriteResponse>::new(), changed);
    let document =
        r#"mutation { addAliases(input: {artifactID: "x", aliases: [{alias: "best"}]}) { success } }"#;
    let (status, answer) = port.send("/graphql", json!({"query": document})).await;
    assert_eq!(status, 503, "{answer}");
    assert!(port.backend.call_count(WRITE_DOCUMENT) > 16, "it was tried for some seconds");
}

/// The backend asks for the right to edit.
#[tokio::test]
async fn deletions_from_an_artifact_are_declared() {
    let port = Port::with_run("r:p");
    let content = json!({
        "id": "x", "project": "p", "name": "data", "collection": "data", "type": "dataset", "state": "COMMITTED",
        "versions": [{"id": "x", "version": 0}], "aliases": {"best": "x"}, "tags": ["t"], "next": 1,
    });
    let content = content.to_string().into_bytes().into();
    let document = documents::Document { content, updated_us: 7, ..documents::Document::default() };
    port.backend.answers(GET_DOCUMENT, [documents::GetResponse { document: Some(document) }]);
    port.backend.answers(WRITE_DOCUMENT, [documents::WriteResponse { updated_us: 8 }]);
    let of_collection = |tag: &str| {
        format!(r#"projectName: "p", artifactCollectionName: "data", tags: [{{tagName: "{tag}"}}]"#)
    };
    for (field, input, selection, deletes) in [
        ("addAliases", r#"artifactID: "x", aliases: [{alias: "new"}]"#.to_owned(), "success", false),
        ("deleteAliases", r#"artifactID: "x", aliases: [{alias: "best"}]"#.to_owned(), "success", true),
        (
            "updateArtifact",
            r#"artifactID: "x", aliases: [{alias: "best"}, {alias: "new"}]"#.to_owned(),
            "artifact { id }",
            false,
        ),
        (
            "updateArtifact",
            r#"artifactID: "x", aliases: [{alias: "new"}]"#.to_owned(),
            "artifact { id }",
            true,
        ),
        (
            "updateArtifact",
            r#"artifactID: "x", tagsToDelete: [{tagName: "t"}]"#.to_owned(),
            "artifact { id }",
            true,
        ),
        ("createArtifactCollectionTagAssignments", of_collection("new"), "success", false),
        ("deleteArtifactCollectionTagAssignments", of_collection("t"), "success", true),
    ] {
        let writes = port.backend.call_count(WRITE_DOCUMENT);
        let answer =
            port.execute(&format!("mutation {{ {field}(input: {{{input}}}) {{ {selection} }} }}")).await;
        assert!(answer["errors"].is_null(), "{field}: {answer}");
        assert_eq!(port.backend.call_count(WRITE_DOCUMENT), writes + 1, "{field} {input}");
        let sent: documents::WriteRequest = port.backend.last_request(WRITE_DOCUMENT);
        assert_eq!(sent.deletes, deletes, "{field} {input}");
    }
    // A caller that may not edit changes nothing: the collection comes first, and is not changed.
    let denied = Status::permission_denied("editor");
    port.backend.fails(WRITE_DOCUMENT, Vec::<documents::WriteResponse>::new(), denied);
    let delete =
        r#"mutation { deleteArtifact(input: {artifactID: "x", deleteAliases: true}) { artifact { id } } }"#;
    let (_, answer) = port.send("/graphql", json!({"query": delete})).await;
    assert!(!answer["errors"].is_null(), "{answer}");
    let sent: documents::WriteRequest = port.backend.last_request(WRITE_DOCUMENT);
    assert!(sent.deletes);
    assert_eq!(port.backend.call_count(DELETE_DOCUMENT), 0);
}

/// Otherwise a version that is committed during the deletion would be in no collection.
#[tokio::test(start_paused = true)]
async fn a_collection_is_deleted_only_as_it_was_read() {
    let port = Port::with_run("r:p");
    let content = json!({"project": "p", "name": "data", "type": "dataset", "versions": [], "next": 1});
    let content = content.to_string().into_bytes().into();
    let document = documents::Document { content, updated_us: 7, ..documents::Document::default() };
    port.backend.answers(GET_DOCUMENT, [documents::GetResponse { document: Some(document) }]);
    let delete = r#"mutation { deleteArtifactSequence(input: {artifactSequenceID: "p/data"}) {
        artifactCollection { state }
    } }"#;
    port.backend.answers(DELETE_DOCUMENT, [documents::DeleteResponse {}]);
    let answer = port.execute(delete).await;
    assert_eq!(
        answer["data"]["deleteArtifactSequence"]["artifactCollection"]["state"], "DELETED",
        "{answer}"
    );
    let sent: documents::DeleteRequest = port.backend.last_request(DELETE_DOCUMENT);
    assert_eq!((sent.name.as_str(), sent.if_updated_us), ("p/data", Some(7)));
    let changed = Status::aborted("the document has changed");
    port.backend.fails(DELETE_DOCUMENT, Vec::<documents::DeleteResponse>::new(), changed);
    let (status, answer) = port.send("/graphql", json!({"query": delete})).await;
    assert_eq!(status, 503, "{answer}");
    assert!(port.backend.call_count(DELETE_DOCUMENT) > 16, "it was tried for some seconds");
}

const LOG_ARTIFACT: &str = r#"mutation { createArtifact(input: {
    projectName: "p", runName: "r", artifactTypeName: "dataset", artifactCollectionName: "data", digest: "D",
    clientID: "c", enableDigestDeduplication: true
}) { artifact { state } } }"#;

#[tokio::test]
async fn rule_111_a_version_is_reused_only_with_its_files() {
    let port = Port::with_run("r:p");
    port.backend.answers(GET_DOCUMENT, [version()]);
    port.backend.answers(WRITE_DOCUMENT, [documents::WriteResponse { updated_us: 2 }]);
    let manifest = artifacts::get_response::Message::Artifact(artifacts::Artifact::default());
    let found = artifacts::GetResponse { message: Some(manifest), ..artifacts::GetResponse::default() };
    port.backend.answers(GET_FILE, [found]);
    let answer = port.execute(LOG_ARTIFACT).await;
    assert_eq!(answer["data"]["createArtifact"], json!({"artifact": {"state": "COMMITTED"}}));
    assert_eq!(port.backend.call_count(WRITE_DOCUMENT), 0, "the version stays as it is");
    let runs: Vec<String> = port.frontier.published().into_iter().map(|(run_id, _)| run_id).collect();
    assert_eq!(runs, ["r:p"], "it is among the artifacts of the run");
    let by_name = r#"{ project(name: "p") { artifact(name: "data:v0") { state } } }"#;
    assert_eq!(port.execute(by_name).await["data"]["project"]["artifact"], json!({"state": "COMMITTED"}));
    port.backend.fails(GET_FILE, Vec::<artifacts::GetResponse>::new(), Status::not_found("no run"));
    let tagged = LOG_ARTIFACT.replace("clientID", r#"entityName: "me", tags: [{tagName: "good"}], clientID"#);
    let answer = port.execute(&tagged).await;
    assert_eq!(answer["data"]["createArtifact"], json!({"artifact": {"state": "PENDING"}}), "{answer}");
    let written: documents::WriteRequest = port.backend.last_request(WRITE_DOCUMENT);
    let written: Value = serde_json::from_slice(&written.content).unwrap();
    assert_eq!((&written["run_id"], &written["state"]), (&json!("r:p"), &json!("PENDING")));
    assert_eq!((&written["entity"], &written["tags"]), (&json!("me"), &json!(["good"])));
    assert_eq!(port.execute(by_name).await["data"]["project"]["artifact"], Value::Null);
}

#[tokio::test]
async fn rule_111_files_of_a_committed_version_are_not_replaced() {
    let port = Port::with_run("r:p");
    port.backend.answers(GET_DOCUMENT, [version()]);
    for document in [
        r#"mutation { createArtifactFiles(input: {artifactFiles: [{artifactID: "x", name: "a"}]}) { files { totalCount } } }"#,
        r#"mutation { createArtifactManifest(input: {artifactID: "x", name: "m", digest: "E"}) { artifactManifest { id } } }"#,
        r#"mutation { updateArtifactManifest(input: {artifactManifestID: "x"}) { artifactManifest { id } } }"#,
    ] {
        let answer = port.execute(document).await;
        assert!(answer["errors"][0]["message"].as_str().unwrap().contains("log a new version"), "{answer}");
    }
    assert!(port.frontier.received().is_empty());
}

/// The commit would not find the manifest, and the client would give the version up.
#[tokio::test]
async fn a_manifest_that_is_applied_late_is_announced_again() {
    let port = Port::with_run("r:p");
    let content =
        json!({"id": "x", "project": "p", "collection": "data", "state": "PENDING", "run_id": "r:p"});
    let content = content.to_string().into_bytes().into();
    let document = documents::Document { content, updated_us: 1, ..documents::Document::default() };
    port.backend.answers(GET_DOCUMENT, [documents::GetResponse { document: Some(document) }]);
    let document = r#"mutation { createArtifactManifest(input: {artifactID: "x", name: "m", digest: "E"}) {
        artifactManifest { id }
    } }"#;
    port.backend.sets_late([true]);
    let (status, answer) = port.send("/graphql", json!({"query": document})).await;
    assert_eq!(status, 503, "{answer}");
    assert_eq!(port.execute(document).await["data"]["createArtifactManifest"]["artifactManifest"]["id"], "x");
}

#[tokio::test]
async fn a_large_file_of_an_artifact_is_sent_in_parts() {
    let port = Port::with_run("r:p");
    let content = json!({"id": "x", "project": "p", "state": "PENDING", "run_id": "r:p"});
    let content = content.to_string().into_bytes().into();
    let document = documents::Document { content, updated_us: 1, ..documents::Document::default() };
    port.backend.answers(GET_DOCUMENT, [documents::GetResponse { document: Some(document) }]);
    let files = r#"mutation { createArtifactFiles(input: {artifactFiles: [
        {artifactID: "x", name: "a", uploadPartsInput: [{partNumber: 1, hexMD5: "0"}, {partNumber: 2, hexMD5: "0"}]}
    ]}) { files { edges { node {
        storagePath uploadMultipartUrls { uploadID uploadUrlParts { partNumber uploadUrl } }
    } } } } }"#;
    let answer = port.execute(files).await;
    let node = &answer["data"]["createArtifactFiles"]["files"]["edges"][0]["node"];
    let parts = &node["uploadMultipartUrls"];
    let url = |number: u32| format!("http://localhost:1/api/v1/rest/blobs/r:p/parts/{number}?signature=s");
    let expected = [1, 2].map(|number| json!({"partNumber": number, "uploadUrl": url(number)}));
    assert_eq!(parts["uploadUrlParts"], json!(expected), "{answer}");
    let complete = |path: &str, number: u32| {
        format!(
            r#"mutation {{ completeMultipartUploadArtifact(input: {{
                completeMultipartAction: "Complete", artifactID: "x", storagePath: "{path}",
                uploadID: "id", completedParts: [{{partNumber: {number}, hexMD5: "0"}}]
            }}) {{ digest }} }}"#
        )
    };
    let path = node["storagePath"].as_str().unwrap();
    let answer = port.execute(&complete(path, 1)).await;
    assert_eq!(answer["data"]["completeMultipartUploadArtifact"], json!({"digest": null}), "{answer}");
    for (path, number, problem) in [("other/a", 1, "storagePath"), (path, 2, "partNumber")] {
        let answer = port.execute(&complete(path, number)).await;
        assert!(answer["errors"][0]["message"].as_str().unwrap().contains(problem), "{answer}");
    }
}

/// A document that is a version with these members besides its id, its run and the collection.
pub(crate) fn version_with(members: Value) -> documents::GetResponse {
    let mut content = json!({
        "id": "x", "project": "p", "collection": "data", "type": "dataset", "digest": "D", "run": "r", "run_id": "r:p",
        "version": 0, "versions": [{"id": "x", "digest": "D", "version": 0}],
    });
    for (name, value) in members.as_object().unwrap() {
        content[name] = value.clone();
    }
    let content = content.to_string().into_bytes().into();
    let document = documents::Document { content, updated_us: 1, ..documents::Document::default() };
    documents::GetResponse { document: Some(document) }
}

/// The messages of a file with this content.
pub(crate) fn file_with(content: &str) -> [artifacts::GetResponse; 2] {
    let description = artifacts::get_response::Message::Artifact(artifacts::Artifact::default());
    let chunk = artifacts::get_response::Message::Chunk(content.to_owned().into());
    [description, chunk]
        .map(|message| artifacts::GetResponse { message: Some(message), ..artifacts::GetResponse::default() })
}

/// Files are announced without waiting, and a client that gets the version expects all of them.
#[tokio::test]
async fn a_version_is_committed_once_its_files_are_applied() {
    let port = Port::with_run("r:p");
    port.backend.answers(GET_DOCUMENT, [version_with(json!({"state": "PENDING"}))]);
    port.backend.answers(WRITE_DOCUMENT, [documents::WriteResponse { updated_us: 2 }]);
    port.backend.answers(LIST_FILES, [artifacts::ListResponse::default()]);
    port.backend.answers(GET_FILE, file_with("{}"));
    port.backend.sets_late([true]);
    let (status, answer) = port.send("/graphql", json!({"query": COMMIT})).await;
    assert_eq!((status, port.backend.call_count(WRITE_DOCUMENT)), (503, 0), "{answer}");
    assert_eq!(port.execute(COMMIT).await["data"]["commitArtifact"]["artifact"]["id"], "x");
    let runs: Vec<String> = port.frontier.published().into_iter().map(|(run_id, _)| run_id).collect();
    assert_eq!(runs, ["r:p", "r:p"], "a mark for each attempt");
}

const COMMIT: &str = r#"mutation { commitArtifact(input: {artifactID: "x"}) { artifact { id } } }"#;

/// The only file in the folder of the version, with another size than in its manifest.
fn stored_files() -> artifacts::ListResponse {
    let file = |name: &str, size| artifacts::Artifact {
        path: format!("wandb-artifacts/x/{name}"),
        size: Some(size),
        ..artifacts::Artifact::default()
    };
    artifacts::ListResponse { artifacts: vec![file("added.txt", 4), file("wandb_manifest.json", 99)] }
}

/// A file of the version itself, and a file of the version from which it was drafted.
pub(crate) const DRAFT: &str = r#"{"contents": {
    "added.txt": {"digest": "Cg==", "size": 3, "birthArtifactID": "x"},
    "kept.txt": {"digest": "Cw==", "size": 5, "birthArtifactID": "old"}
}}"#;

#[tokio::test]
async fn a_draft_of_a_version_has_the_files_of_the_version() {
    let port = Port::with_run("r:p");
    port.backend.answers(GET_DOCUMENT, [version_with(json!({"state": "PENDING"}))]);
    port.backend.answers(WRITE_DOCUMENT, [documents::WriteResponse { updated_us: 2 }]);
    port.backend.answers(GET_FILE, file_with(DRAFT));
    port.backend.answers(LIST_FILES, [stored_files()]);
    let answer = port.execute(COMMIT).await;
    assert_eq!(answer["data"]["commitArtifact"]["artifact"]["id"], "x", "{answer}");
    let written: documents::WriteRequest = port.backend.last_request(WRITE_DOCUMENT);
    let written: Value = serde_json::from_slice(&written.content).unwrap();
    let owners = json!({"old": {"project": "p", "run": "r", "run_id": "r:p"}});
    assert_eq!((&written["owners"], &written["state"]), (&owners, &json!("COMMITTED")));
    assert_eq!(
        (&written["file_count"], &written["size"]),
        (&json!(2), &json!(9)),
        "4 stored, and 5 in the manifest"
    );

    let owners = json!({"old": {"project": "q", "run": "first", "run_id": "first:q"}});
    port.backend.answers(GET_DOCUMENT, [version_with(json!({"state": "COMMITTED", "owners": owners}))]);
    let files = r#"{ project(name: "p") { artifact(name: "data:v0") { files {
        edges { node { name directUrl sizeBytes } }
    } } } }"#;
    let answer = port.execute(files).await;
    let node = |name: &str, folder: &str, size: u32| {
        let url = format!("http://localhost:1/files/matyan/{folder}/{name}");
        json!({"node": {"name": name, "directUrl": url, "sizeBytes": size}})
    };
    let expected = json!([
        node("added.txt", "p/r/wandb-artifacts/x", 3),
        node("kept.txt", "q/first/wandb-artifacts/old", 5),
    ]);
    assert_eq!(answer["data"]["project"]["artifact"]["files"]["edges"], expected, "{answer}");
}

/// A file of the version itself, and two references. A reference may have a name that no file can have.
const REFERENCES: &str = r#"{"contents": {
    "../odd": {"digest": "e", "ref": "http://localhost:2/x"},
    "added.txt": {"digest": "Cg==", "size": 3, "birthArtifactID": "x"},
    "data.bin": {"digest": "f", "size": 5, "ref": "s3://bucket/data.bin", "birthArtifactID": "old"}
}}"#;

/// Clients download what is in the list of the files, references included.
#[tokio::test]
async fn the_files_of_a_version_include_its_references() {
    let port = Port::with_run("r:p");
    port.backend.answers(GET_DOCUMENT, [version_with(json!({"state": "PENDING"}))]);
    port.backend.answers(WRITE_DOCUMENT, [documents::WriteResponse { updated_us: 2 }]);
    port.backend.answers(GET_FILE, file_with(REFERENCES));
    port.backend.answers(LIST_FILES, [stored_files()]);
    let answer = port.execute(COMMIT).await;
    assert_eq!(answer["data"]["commitArtifact"]["artifact"]["id"], "x", "{answer}");
    let written: documents::WriteRequest = port.backend.last_request(WRITE_DOCUMENT);
    let written: Value = serde_json::from_slice(&written.content).unwrap();
    assert_eq!((&written["owners"], &written["state"]), (&json!({}), &json!("COMMITTED")));
    assert_eq!((&written["file_count"], &written["size"]), (&json!(3), &json!(9)));

    port.backend.answers(GET_DOCUMENT, [version_with(json!({"state": "COMMITTED", "owners": {}}))]);
    let files = r#"{ project(name: "p") { artifact(name: "data:v0") { files {
        edges { node { name directUrl sizeBytes } }
    } } } }"#;
    let answer = port.execute(files).await;
    let stored = "http://localhost:1/files/matyan/p/r/wandb-artifacts/x/added.txt";
    let expected = json!([
        {"node": {"name": "../odd", "directUrl": "", "sizeBytes": 0}},
        {"node": {"name": "added.txt", "directUrl": stored, "sizeBytes": 3}},
        {"node": {"name": "data.bin", "directUrl": "", "sizeBytes": 5}},
    ]);
    assert_eq!(answer["data"]["project"]["artifact"]["files"]["edges"], expected, "{answer}");
}

/// The paths of all files of a version would take too much memory.
#[tokio::test]
async fn sizes_of_the_files_of_a_version_are_asked_for_as_the_list_arrives() {
    let port = Port::with_run("r:p");
    port.backend.answers(GET_DOCUMENT, [version_with(json!({"state": "PENDING"}))]);
    port.backend.answers(GET_FILE, file_with("{}"));
    let path = "wandb-artifacts/x/added.txt";
    let file = artifacts::Artifact { path: path.to_owned(), ..artifacts::Artifact::default() };
    let piece = artifacts::ListResponse { artifacts: vec![file] };
    port.backend.fails(LIST_FILES, [piece], Status::internal("the rest of the list"));
    let (status, answer) = port.send("/graphql", json!({"query": COMMIT})).await;
    assert_eq!(status, 500, "{answer}");
    let asked: artifacts::GetRequest = port.backend.last_request(GET_FILE);
    assert_eq!((asked.path.as_str(), asked.length), (path, Some(0)));
}

/// The URL for the upload of a manifest stays valid for some time after the commit.
#[tokio::test]
async fn rule_111_a_manifest_that_was_replaced_is_not_read() {
    let port = Port::with_run("r:p");
    port.backend.answers(GET_DOCUMENT, [version_with(json!({"state": "PENDING"}))]);
    port.backend.answers(WRITE_DOCUMENT, [documents::WriteResponse { updated_us: 2 }]);
    port.backend.answers(GET_FILE, file_with(DRAFT));
    port.backend.answers(LIST_FILES, [stored_files()]);
    port.execute(COMMIT).await;
    let written: documents::WriteRequest = port.backend.last_request(WRITE_DOCUMENT);
    let written: Value = serde_json::from_slice(&written.content).unwrap();
    let committed = json!({"state": "COMMITTED", "manifest_sha256": written["manifest_sha256"]});
    port.backend.answers(GET_DOCUMENT, [version_with(committed)]);
    for (content, expected) in [("{}", 400), (DRAFT, 200)] {
        port.backend.answers(GET_FILE, file_with(content));
        for path in ["/files/me/p/r/wandb-artifacts/x/wandb_manifest.json", "/artifactsV2/default/me/x/0a"] {
            let request = Request::get(path).header("host", "localhost:1").body(Body::empty()).unwrap();
            let answer = port.edge.answer(request).await;
            assert_eq!(answer.status().as_u16(), expected, "{path}");
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let body = String::from_utf8(body.to_vec()).unwrap();
            let is_content = body == content;
            assert!(is_content || body.contains("replaced after the commit"), "{path} {body}");
        }
    }
}

#[tokio::test]
async fn files_of_a_version_that_no_run_has_made_belong_to_the_run_that_uses_it() {
    let port = Port::with_run("r:p");
    port.backend.answers(WRITE_DOCUMENT, [documents::WriteResponse { updated_us: 2 }]);
    let written = || -> Value {
        let written: documents::WriteRequest = port.backend.last_request(WRITE_DOCUMENT);
        serde_json::from_slice(&written.content).unwrap()
    };
    let missing = Status::not_found("no document");
    port.backend.fails(GET_DOCUMENT, Vec::<documents::GetResponse>::new(), missing);
    let answer = port.execute(&LOG_ARTIFACT.replace(r#"runName: "r","#, "")).await;
    assert_eq!(answer["data"]["createArtifact"], json!({"artifact": {"state": "PENDING"}}), "{answer}");
    assert_eq!((&written()["run_id"], &written()["only_used"]), (&json!(""), &json!(true)));
    assert!(port.frontier.published().is_empty(), "no run has made it");

    let of_several_runs = LOG_ARTIFACT.replace("clientID", r#"distributedID: "d", clientID"#);
    let answer = port.execute(&of_several_runs).await;
    assert!(answer["errors"][0]["message"].as_str().unwrap().contains("several runs"), "{answer}");

    let without_run = version_with(json!({"state": "PENDING", "run": "", "run_id": ""}));
    port.backend.answers(GET_DOCUMENT, [without_run]);
    let manifest = |run: &str| {
        format!(
            r#"mutation {{ createArtifactManifest(input: {{
                artifactID: "x", name: "m", digest: "E", projectName: "p"{run}
            }}) {{ artifactManifest {{ file {{ uploadUrl }} }} }} }}"#
        )
    };
    let answer = port.execute(&manifest("")).await;
    assert!(answer["errors"][0]["message"].as_str().unwrap().contains("needs a run"), "{answer}");
    let answer = port.execute(&manifest(r#", runName: "r""#)).await;
    let url = &answer["data"]["createArtifactManifest"]["artifactManifest"]["file"]["uploadUrl"];
    assert!(url.as_str().unwrap().contains("/r:p/wandb-artifacts/x/"), "{answer}");
    assert_eq!((&written()["run"], &written()["run_id"]), (&json!("r"), &json!("r:p")));

    for is_only_used in [true, false] {
        port.backend.answers(GET_DOCUMENT, [version_with(json!({"only_used": is_only_used}))]);
        let answer = port.execute(r#"{ artifact(id: "x") { createdBy { name } } }"#).await;
        assert_eq!(answer["data"]["artifact"]["createdBy"].is_null(), is_only_used, "{answer}");
    }
}

#[tokio::test]
async fn a_version_is_linked_to_a_collection() {
    let port = Port::with_run("r:p");
    port.backend.answers(WRITE_DOCUMENT, [documents::WriteResponse { updated_us: 2 }]);
    let link = r#"mutation { linkArtifact(input: {
        artifactID: "x", projectName: "model-registry", artifactPortfolioName: "best", aliases: [{alias: "prod"}]
    }) { versionIndex } }"#;
    let unlink = r#"mutation { unlinkArtifact(input: {
        artifactID: "x", artifactPortfolioID: "model-registry/best"
    }) { success } }"#;
    for (document, state, problem) in [
        (link, "PENDING", "not committed"),
        (link, "COMMITTED", "versions of its own"),
        (unlink, "COMMITTED", "delete the version"),
    ] {
        port.backend.answers(GET_DOCUMENT, [version_with(json!({"state": state}))]);
        let answer = port.execute(document).await;
        assert!(answer["errors"][0]["message"].as_str().unwrap().contains(problem), "{answer}");
    }
    assert_eq!(port.backend.call_count(WRITE_DOCUMENT), 0);

    let linked = json!({"state": "COMMITTED", "links": true, "versions": [{"id": "x", "version": 7}]});
    port.backend.answers(GET_DOCUMENT, [version_with(linked)]);
    let answer = port.execute(link).await;
    assert_eq!(answer["data"]["linkArtifact"], json!({"versionIndex": 7}), "{answer}");
    let written: documents::WriteRequest = port.backend.last_request(WRITE_DOCUMENT);
    let content: Value = serde_json::from_slice(&written.content).unwrap();
    assert_eq!((&content["aliases"], written.deletes), (&json!({"prod": "x"}), false));
    port.backend.answers(GET_FILE, file_with("{}"));
    let by_number = r#"{ project(name: "model-registry") { artifactCollectionMembership(name: "best:v7") {
        versionIndex aliases { alias } artifact { versionIndex artifactSequence { name } }
    } } }"#;
    let artifact = json!({"versionIndex": 0, "artifactSequence": {"name": "data"}});
    let expected = json!({"versionIndex": 7, "aliases": [{"alias": "v7"}], "artifact": artifact});
    let answer = port.execute(by_number).await;
    assert_eq!(answer["data"]["project"]["artifactCollectionMembership"], expected, "{answer}");
    let answer = port.execute(unlink).await;
    assert_eq!(answer["data"]["unlinkArtifact"], json!({"success": true}), "{answer}");
    let written: documents::WriteRequest = port.backend.last_request(WRITE_DOCUMENT);
    let content: Value = serde_json::from_slice(&written.content).unwrap();
    assert_eq!((&content["versions"], written.deletes), (&json!([]), true));
}

/// The client would upload all files before the commit is refused.
#[tokio::test]
async fn a_version_with_the_name_of_a_collection_of_links_is_not_begun() {
    let port = Port::with_run("r:p");
    port.backend.answers(GET_DOCUMENT, [version_with(json!({"state": "COMMITTED", "links": true}))]);
    for is_deduplicated in ["true", "false"] {
        let flag = format!("enableDigestDeduplication: {is_deduplicated}");
        let answer = port.execute(&LOG_ARTIFACT.replace("enableDigestDeduplication: true", &flag)).await;
        assert!(answer["errors"][0]["message"].as_str().unwrap().contains("another name"), "{answer}");
    }
    assert_eq!(port.backend.call_count(WRITE_DOCUMENT), 0);
    assert!(port.frontier.published().is_empty());
}

#[tokio::test]
async fn rule_111_a_version_without_a_manifest_is_not_committed() {
    let port = Port::with_run("r:p");
    port.backend.answers(GET_DOCUMENT, [version()]);
    port.backend.fails(GET_FILE, Vec::<artifacts::GetResponse>::new(), Status::not_found("no file"));
    let document = r#"mutation { commitArtifact(input: {artifactID: "x"}) { artifact { id } } }"#;
    let answer = port.execute(document).await;
    assert!(answer["errors"][0]["message"].as_str().unwrap().contains("manifest"), "{answer}");
    assert_eq!(port.backend.call_count(WRITE_DOCUMENT), 0);
}
