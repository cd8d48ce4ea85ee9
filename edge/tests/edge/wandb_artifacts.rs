//! Reads of artifacts by W&B's clients: versions, the runs that use them, and their files.

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use matyan_proto::artifacts::v1 as artifacts;
use matyan_proto::runs::v1 as runs;
use matyan_proto::search::v1 as search;
use serde_json::{Value, json};
use tonic::Status;

use super::wandb_writes::{
    DRAFT, GET_DOCUMENT, GET_FILE, LIST_FILES, Port, file_with, version, version_with,
};

const SEARCH_RUNS: &str = "search.v1.SearchService/Runs";

#[tokio::test]
async fn a_version_names_all_runs_that_have_used_it() {
    let port = Port::with_run("r:p");
    port.backend.answers(GET_DOCUMENT, [version()]);
    let manifest = artifacts::get_response::Message::Artifact(artifacts::Artifact::default());
    let found = artifacts::GetResponse { message: Some(manifest), ..artifacts::GetResponse::default() };
    port.backend.answers(GET_FILE, [found]);
    let page = |user: &str, next_cursor: &str| {
        let props = Some(runs::Props::default());
        let user = runs::Run { run_id: format!("{user}:p"), props, ..runs::Run::default() };
        let next_cursor = next_cursor.to_owned();
        search::RunsResponse { runs: vec![user], done: true, next_cursor, ..search::RunsResponse::default() }
    };
    port.backend.answers_next(SEARCH_RUNS, [Ok(page("first", "after first")), Ok(page("second", ""))]);
    let users = r#"{ project(name: "p") { artifact(name: "data:v0") {
        usedBy { totalCount edges { node { name } } }
    } } }"#;
    let answer = port.execute(users).await;
    let edges = json!([{"node": {"name": "first"}}, {"node": {"name": "second"}}]);
    let expected = json!({"totalCount": 2, "edges": edges});
    assert_eq!(answer["data"]["project"]["artifact"]["usedBy"], expected, "{answer}");
    let request: search::RunsRequest = port.backend.last_request(SEARCH_RUNS);
    assert_eq!(request.cursor, "after first");
    let text = request.query.unwrap().text;
    assert_eq!(text, r#"run['wandb', 'used_artifacts', "x"] == True"#);
    assert!(request.parts.unwrap().param_paths.is_empty(), "only the names of the runs are wanted");
}

#[tokio::test]
async fn a_page_of_a_version_is_read_without_the_files_after_it() {
    let port = Port::with_run("r:p");
    port.backend.answers(GET_DOCUMENT, [version_with(json!({"state": "COMMITTED"}))]);
    port.backend.answers(GET_FILE, file_with("{}"));
    let file = |name: &str| artifacts::Artifact {
        path: format!("wandb-artifacts/x/{name}"),
        size: Some(1),
        ..artifacts::Artifact::default()
    };
    let piece = artifacts::ListResponse { artifacts: vec![file("a"), file("b")] };
    port.backend.fails(LIST_FILES, [piece], Status::internal("the rest was read"));
    let files = |fields: &str| {
        format!(
            r#"{{ project(name: "p") {{ artifact(name: "data:v0") {{ files(first: 1) {{
                edges {{ node {{ name }} }} pageInfo {{ hasNextPage }} {fields}
            }} }} }} }}"#
        )
    };
    let answer = port.execute(&files("")).await;
    let expected = json!({"edges": [{"node": {"name": "a"}}], "pageInfo": {"hasNextPage": true}});
    assert_eq!(answer["data"]["project"]["artifact"]["files"], expected, "{answer}");
    let (status, answer) = port.send("/graphql", json!({"query": files("totalCount")})).await;
    assert_eq!(status, 500, "the total needs all files: {answer}");
}

#[tokio::test]
async fn a_file_of_an_artifact_is_read_by_its_digest() {
    let port = Port::with_run("r:p");
    port.backend.answers(GET_DOCUMENT, [version_with(json!({"state": "COMMITTED"}))]);
    port.backend.answers(GET_FILE, file_with(DRAFT));
    for (path, expected) in [
        ("/artifactsV2/default/me/x/0a", 200),
        ("/artifactsV2/default/me/p/data/x/0a/added.txt", 200),
        ("/artifactsV2/default/me/p/data/x/0b/kept.txt", 404),
        ("/artifactsV2/default/me/p/data/x/zz/added.txt", 404),
    ] {
        let request = Request::get(path).header("host", "localhost:1").body(Body::empty()).unwrap();
        let answer = port.edge.answer(request).await;
        assert_eq!(answer.status().as_u16(), expected, "{path}");
        if expected == 200 {
            let content = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(content, DRAFT.as_bytes(), "{path}");
            let read: artifacts::GetRequest = port.backend.last_request(GET_FILE);
            assert_eq!((read.run_id.as_str(), read.path.as_str()), ("r:p", "wandb-artifacts/x/added.txt"));
        }
    }
}

/// The versions that have files of a deleted version know where they are. An older client does not say which version it reads.
#[tokio::test]
async fn a_file_of_a_deleted_version_is_read_by_its_digest() {
    let port = Port::with_run("r:p");
    port.backend.answers(GET_FILE, file_with(&DRAFT.replace("\"old\"", "\"gone\"")));
    let missing = || Err(Status::not_found("no document"));
    let places = json!({"gone": {"project": "q", "run": "first", "run_id": "first:q"}});
    // The first request reads the owner, the collection and its version, and keeps a hint. The next ones read the owner
    // and the version of the hint; if that version does not help, they search the collection as well.
    for (path, owners, reads, expected) in [
        ("/artifactsV2/default/me/p/data/gone/0b/kept.txt", places.clone(), 3, 200),
        ("/artifactsV2/default/me/p/data/gone/0b/kept.txt", places.clone(), 2, 200),
        ("/artifactsV2/default/me/p/data/gone/0b/kept.txt", Value::Null, 4, 404),
        ("/artifactsV2/default/me/gone/0b", places, 1, 404),
    ] {
        let version = || Ok(version_with(json!({"state": "COMMITTED", "owners": owners})));
        let answers = std::iter::once(missing()).chain((1..reads).map(|_| version()));
        port.backend.answers_next(GET_DOCUMENT, answers);
        let before = port.backend.call_count(GET_DOCUMENT);
        let request = Request::get(path).header("host", "localhost:1").body(Body::empty()).unwrap();
        let status = port.edge.answer(request).await.status().as_u16();
        let count = port.backend.call_count(GET_DOCUMENT) - before;
        assert_eq!((status, count), (expected, reads), "{path} {owners}");
        if expected == 200 {
            let read: artifacts::GetRequest = port.backend.last_request(GET_FILE);
            assert_eq!(
                (read.run_id.as_str(), read.path.as_str()),
                ("first:q", "wandb-artifacts/gone/kept.txt")
            );
        }
    }
}
