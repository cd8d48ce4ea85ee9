//! MLflow's protocol at the port: where its paths lead, what its requests become, and its errors.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use matyan_edge::{Edge, Metrics, Protocol, Settings, Transport};
use matyan_proto::artifacts::v1 as artifacts;
use matyan_proto::documents::v1 as documents;
use matyan_proto::experiments::v1 as experiments;
use matyan_proto::ingest::v1::Rejection;
use matyan_proto::ingest::v1::event::Kind;
use matyan_proto::limits::ARTIFACT_PATH_BYTES;
use matyan_proto::runs::v1 as runs;
use matyan_proto::search::v1 as search;
use matyan_proto::series::v1 as series;
use serde_json::{Value, json};
use tokio::time::sleep;
use tonic::Status;

use super::backend::Backend;
use super::frontier::Frontier;

const GET_RUN: &str = "runs.v1.RunService/Get";
const LIST_ARTIFACTS: &str = "artifacts.v1.ArtifactService/List";

struct Port {
    backend: Backend,
    frontier: Frontier,
    edge: Edge,
}

impl Port {
    fn new(protocols: &[Protocol], has_frontier: bool) -> Self {
        let backend = Backend::default();
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let frontier = Frontier::new();
        let transport = has_frontier.then(|| frontier.transport());
        let settings = Settings { protocols: protocols.to_vec(), ..Settings::default() };
        let edge = matyan_edge::query(settings, metrics, Transport::new(backend.clone()), transport);
        Port { backend, frontier, edge }
    }

    /// A port with the run `r`, which has no metrics.
    fn with_run() -> Self {
        let port = Self::new(&[Protocol::Mlflow], true);
        port.backend.answers(GET_RUN, [run()]);
        port.backend.answers("series.v1.SeriesService/List", [series::ListResponse::default()]);
        port
    }

    async fn send(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path).header("host", "localhost:1");
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let (head, body) = self.edge.answer(request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), serde_json::from_slice(&body).unwrap())
    }
}

fn run() -> runs::GetResponse {
    let props = runs::Props { name: "n".into(), active: true, ..Default::default() };
    runs::GetResponse {
        run: Some(runs::Run { run_id: "r".into(), props: Some(props), ..Default::default() }),
    }
}

fn experiment() -> experiments::ListResponse {
    let experiment = experiments::Experiment { id: "e".into(), name: "it's".into(), ..Default::default() };
    experiments::ListResponse { experiments: vec![experiment] }
}

#[tokio::test]
async fn a_search_is_a_query_of_the_server() {
    let port = Port::new(&[Protocol::Mlflow], true);
    let found = experiments::GetResponse { experiment: experiment().experiments.pop() };
    port.backend.answers("experiments.v1.ExperimentService/Get", [found]);
    let page = search::RunsResponse { done: true, next_cursor: "next".into(), ..Default::default() };
    port.backend.answers("search.v1.SearchService/Runs", [page]);
    let body = json!({
        "experiment_ids": ["e"],
        "filter": "metrics.loss < 0.5 AND params.lr = '0.1'",
        "order_by": ["metrics.loss DESC"],
        "max_results": 1,
    });
    let (status, answer) = port.send("POST", "/p/team/api/2.0/mlflow/runs/search/", &body.to_string()).await;
    assert_eq!((status, answer), (200, json!({"runs": [], "next_page_token": "next"})));
    let request: search::RunsRequest = port.backend.last_request("search.v1.SearchService/Runs");
    assert_eq!(
        request.query.unwrap().text,
        "run.experiment == 'it\\'s' and (run.metrics['loss', {}].last < 0.5) and \
         (run['hparams', 'lr'] == 0.1 and str(run['hparams', 'lr']) == '0.1')"
    );
    assert_eq!((request.limit, request.sort.len(), request.sort[0].descending), (1, 2, true));

    port.backend.answers("search.v1.SearchService/Runs", [search::RunsResponse::default()]);
    let (status, _) = port.send("POST", "/p/team/api/2.0/mlflow/runs/search/", &body.to_string()).await;
    assert_eq!(status, 500, "the page is incomplete");
}

#[tokio::test]
async fn a_large_file_is_sent_in_parts() {
    let port = Port::with_run();
    let send = async |operation: &str, body: Value| {
        let path = format!("/api/2.0/mlflow-artifacts/mpu/{operation}/0/r/artifacts/models");
        port.send("POST", &path, &body.to_string()).await
    };
    let (status, begun) = send("create", json!({"path": "/tmp/big.bin", "num_parts": 2})).await;
    let part = |number: u32| {
        let url = format!("http://localhost:1/api/v1/rest/blobs/r/parts/{number}?signature=s");
        json!({"part_number": number, "url": url, "headers": {}})
    };
    assert_eq!((status, &begun["credentials"]), (200, &json!([part(1), part(2)])));
    let id = begun["upload_id"].as_str().unwrap();
    let parts = json!([{"part_number": 2, "etag": "b"}, {"part_number": 1, "etag": "a"}]);
    let (status, answer) =
        send("complete", json!({"path": "C:\\big.bin", "upload_id": id, "parts": parts})).await;
    assert_eq!((status, answer), (200, json!({})));
    let (_, batch) = port.frontier.published().pop().unwrap();
    let Some(Kind::BlobRef(blob)) = &batch.events[0].kind else { panic!("no file was announced: {batch:?}") };
    assert_eq!((blob.key.as_str(), blob.path.as_str()), ("r/models/big.bin", "models/big.bin"));
    assert_eq!(blob.size, Some(2), "the frontier says so");
    for (operation, body) in [
        ("create", json!({"path": "/tmp/big.bin", "num_parts": 10_001})),
        ("create", json!({"path": "/tmp/", "num_parts": 1})),
        ("complete", json!({"path": "big.bin", "upload_id": id, "parts": [{"part_number": 2}]})),
        ("complete", json!({"path": "big.bin", "parts": [{"part_number": 1}]})),
    ] {
        let (status, answer) = send(operation, body).await;
        assert_eq!((status, &answer["error_code"]), (400, &json!("INVALID_PARAMETER_VALUE")), "{answer}");
    }
    assert_eq!(send("abort", json!({"path": "big.bin", "upload_id": id})).await, (200, json!({})));
}

fn artifact_list(paths: impl IntoIterator<Item = String>) -> artifacts::ListResponse {
    let file = |path| artifacts::Artifact { path, size: Some(1), ..Default::default() };
    artifacts::ListResponse { artifacts: paths.into_iter().map(file).collect() }
}

#[tokio::test]
async fn a_folder_of_artifacts_is_listed_without_the_rest_of_its_folders() {
    let port = Port::with_run();
    let full = artifact_list((0..1_000).map(|at| format!("models/a/{at:04}")));
    let rest = artifact_list(["models/b.txt".to_owned()]);
    port.backend.answers_next(LIST_ARTIFACTS, [Ok(full), Ok(rest)]);
    let path = "/api/2.0/mlflow-artifacts/artifacts?path=0/r/artifacts/models";
    let (status, answer) = port.send("GET", path, "").await;
    let expected = json!([{"path": "a", "is_dir": true}, {"path": "b.txt", "is_dir": false, "file_size": 1}]);
    assert_eq!((status, &answer["files"]), (200, &expected), "{answer}");
    let asked: artifacts::ListRequest = port.backend.last_request(LIST_ARTIFACTS);
    assert_eq!((asked.path_prefix.as_str(), asked.after.as_str()), ("models/", "models/a/\u{10ffff}"));
    assert_eq!((asked.limit, port.backend.call_count(LIST_ARTIFACTS)), (1_000, 2));
}

#[tokio::test]
async fn a_list_of_a_folder_has_a_bounded_number_of_entries() {
    let port = Port::with_run();
    let page = |number: usize| Ok(artifact_list((0..1_000).map(|at| format!("{number:03}.{at:03}"))));
    port.backend.answers_next(LIST_ARTIFACTS, (0..202).map(page));
    let path = "/api/2.0/mlflow-artifacts/artifacts?path=0/r/artifacts";
    let (status, answer) = port.send("GET", path, "").await;
    assert_eq!((status, &answer["error_code"]), (400, &json!("INVALID_PARAMETER_VALUE")), "{answer}");
    assert_eq!(port.backend.call_count(LIST_ARTIFACTS), 201, "the rest is not read");
}

#[tokio::test]
async fn the_artifacts_of_a_run_are_deleted_page_by_page() {
    let port = Port::with_run();
    let delete = "artifacts.v1.ArtifactService/Delete";
    port.backend.answers(delete, [artifacts::DeleteResponse { deleted: 1 }]);
    let full = artifact_list((0..1_000).map(|at| format!("{at:04}")));
    port.backend.answers_next(LIST_ARTIFACTS, [Ok(full), Err(Status::unavailable("later"))]);
    let path = "/api/2.0/mlflow-artifacts/artifacts/0/r/artifacts";
    let (status, answer) = port.send("DELETE", path, "").await;
    assert_eq!((status, port.backend.call_count(delete)), (503, 1_000), "{answer}");
}

#[tokio::test]
async fn a_file_with_the_longest_path_is_listed_as_an_empty_folder() {
    let port = Port::with_run();
    let file = "x".repeat(ARTIFACT_PATH_BYTES);
    let path = format!("/api/2.0/mlflow-artifacts/artifacts?path=0/r/artifacts/{file}");
    let (status, answer) = port.send("GET", &path, "").await;
    assert_eq!((status, &answer["files"]), (200, &json!([])), "{answer}");
    assert_eq!(
        port.backend.call_count(LIST_ARTIFACTS),
        0,
        "the backend refuses a prefix that is longer than a path"
    );
}

#[tokio::test]
async fn a_backend_that_repeats_a_page_of_artifacts_is_an_error() {
    let port = Port::with_run();
    port.backend.answers(LIST_ARTIFACTS, [artifact_list((0..1_000).map(|at| format!("{at:04}")))]);
    let path = "/api/2.0/mlflow-artifacts/artifacts?path=0/r/artifacts";
    let (status, answer) = port.send("GET", path, "").await;
    assert_eq!((status, &answer["error_code"]), (500, &json!("INTERNAL_ERROR")), "{answer}");
    assert_eq!(port.backend.call_count(LIST_ARTIFACTS), 2);
}

#[tokio::test]
async fn errors_are_those_of_mlflow() {
    let port = Port::new(&[Protocol::Mlflow], true);
    let check = async |path: &str, status: u16, code: &str| {
        let (found, answer) = port.send("GET", path, "").await;
        assert_eq!((found, answer["error_code"].as_str().unwrap()), (status, code), "{path}: {answer}");
        assert!(!answer["message"].as_str().unwrap().is_empty(), "{path}");
    };
    let run = "/api/2.0/mlflow/runs/get?run_id=abc";
    for (failure, status, code) in [
        (Status::not_found("no run"), 404, "RESOURCE_DOES_NOT_EXIST"),
        (Status::permission_denied("no"), 403, "PERMISSION_DENIED"),
        (Status::unavailable("later"), 503, "TEMPORARILY_UNAVAILABLE"),
    ] {
        port.backend.fails(GET_RUN, Vec::<runs::GetResponse>::new(), failure);
        check(run, status, code).await;
    }
    check("/api/2.0/mlflow/runs/get", 400, "INVALID_PARAMETER_VALUE").await;
    check("/api/2.0/mlflow/traces/x", 501, "NOT_IMPLEMENTED").await;
    check("/ajax-api/2.0/mlflow/nothing", 404, "ENDPOINT_NOT_FOUND").await;
    let (status, answer) = port.send("POST", "/api/2.0/mlflow/runs/search", "{").await;
    assert_eq!((status, answer["error_code"].as_str()), (400, Some("BAD_REQUEST")));
    let huge = format!("{{\"filter\": \"{}\"}}", "x".repeat(4 << 20));
    let (status, answer) = port.send("POST", "/api/2.0/mlflow/runs/search", &huge).await;
    assert_eq!((status, answer["error_code"].as_str()), (400, Some("BAD_REQUEST")));
}

#[tokio::test]
async fn a_port_answers_only_the_protocols_that_it_has() {
    for port in [Port::new(&[], true), Port::new(&[Protocol::Mlflow], false)] {
        let (status, answer) = port.send("GET", "/api/2.0/mlflow/runs/get?run_id=r", "").await;
        assert_eq!((status, answer.get("error_code")), (404, None), "it is an unknown path of REST");
    }
}

/// A write that is decided before the writes before it are applied would overwrite their points.
#[tokio::test]
async fn rule_94_a_write_begins_once_everything_before_it_is_applied() {
    let port = Port::with_run();
    let body = json!({"run_id": "r", "key": "loss", "value": 0.5, "timestamp": 1}).to_string();
    let log = async || {
        let (status, answer) = port.send("POST", "/api/2.0/mlflow/runs/log-metric", &body).await;
        (status, answer["error_code"].as_str().unwrap_or_default().to_owned())
    };
    let groups_of_points =
        || -> Vec<usize> { port.frontier.published().iter().map(|(_, batch)| batch.points.len()).collect() };
    assert_eq!(log().await, (200, String::new()));
    assert_eq!(groups_of_points(), [0, 1], "a barrier, and the point");
    assert_eq!(port.backend.positions(GET_RUN), ["", "0/0/0/r", "0/0/1/r"]);

    let late = (503, "TEMPORARILY_UNAVAILABLE".to_owned());
    port.backend.sets_late([true]);
    assert_eq!(log().await, late);
    assert_eq!(groups_of_points(), [0, 1, 0], "nothing is written before the barrier is applied");
    port.backend.sets_late([false, true]);
    assert_eq!(log().await, late, "what is not applied is not acknowledged");
    assert_eq!(groups_of_points(), [0, 1, 0, 0, 1]);
}

/// Points that are left out would look as if they had not been logged.
#[tokio::test]
async fn a_broken_message_of_points_is_an_error() {
    let port = Port::with_run();
    let info = runs::SeriesInfo { name: "loss".into(), context: "{}".into(), ..Default::default() };
    port.backend.answers("series.v1.SeriesService/List", [series::ListResponse { series: vec![info] }]);
    port.backend.answers("series.v1.SeriesService/Points", [series::PointsResponse::default()]);
    let sample = series::SampleResponse { series: vec![series::SeriesPoints::default()] };
    port.backend.answers("series.v1.SeriesService/Sample", [sample]);
    let point = json!({"run_id": "r", "key": "loss", "value": 0.5, "timestamp": 1}).to_string();
    for (method, path, body) in [
        ("GET", "metrics/get-history?run_id=r&metric_key=loss", ""),
        ("GET", "metrics/get-history-bulk?run_ids=r&metric_key=loss", ""),
        ("GET", "metrics/get-history-bulk-interval?run_ids=r&metric_key=loss", ""),
        ("POST", "runs/log-metric", point.as_str()),
    ] {
        let (status, answer) = port.send(method, &format!("/api/2.0/mlflow/{path}"), body).await;
        assert_eq!((status, &answer["error_code"]), (500, &json!("INTERNAL_ERROR")), "{path}: {answer}");
    }
    assert!(port.frontier.published().iter().all(|(_, batch)| batch.points.is_empty()));
}

/// A client that repeats the creation of a run gets another run.
#[tokio::test]
async fn the_creation_of_a_run_waits_longer() {
    let port = Port::with_run();
    port.backend.answers("experiments.v1.ExperimentService/List", [experiments::ListResponse::default()]);
    let nothing = Vec::<documents::GetResponse>::new();
    port.backend.fails("documents.v1.DocumentService/Get", nothing, Status::not_found("no document"));
    port.backend.sets_late([true, true, true]);
    let (status, answer) = port.send("POST", "/api/2.0/mlflow/runs/create", "{}").await;
    assert_eq!((status, &answer["run"]["info"]["run_name"]), (200, &json!("n")));
    assert_eq!(port.frontier.published().len(), 1);
}

#[tokio::test]
async fn rule_95_a_batch_that_the_frontier_refuses_stores_nothing() {
    let port = Port::with_run();
    let rejection =
        Rejection { item: 1, field: "value".into(), reason: "is nested too deeply".into(), count: 1 };
    let body =
        json!({"run_id": "r", "params": [{"key": "a", "value": "1"}], "tags": [{"key": "b", "value": "2"}]});
    // The barrier has no item that could be rejected.
    port.frontier.change(|behavior| behavior.reject_next = vec![rejection]);
    let (status, answer) = port.send("POST", "/api/2.0/mlflow/runs/log-batch", &body.to_string()).await;
    assert_eq!((status, answer["error_code"].as_str()), (400, Some("INVALID_PARAMETER_VALUE")));
    assert_eq!(answer["message"], "`value` is nested too deeply");
    assert!(port.frontier.published().iter().all(|(_, batch)| batch.events.is_empty()));
    let (status, _) = port.send("POST", "/api/2.0/mlflow/runs/log-batch", &body.to_string()).await;
    assert_eq!((status, port.frontier.published().last().unwrap().1.events.len()), (200, 2));
}

/// Runs with large params would take more memory than their number suggests.
#[tokio::test]
async fn rule_45_a_page_of_large_runs_ends_early() {
    let port = Port::with_run();
    port.backend.answers("experiments.v1.ExperimentService/List", [experiments::ListResponse::default()]);
    let nothing = Vec::<documents::GetResponse>::new();
    port.backend.fails("documents.v1.DocumentService/Get", nothing, Status::not_found("no document"));
    let params = format!(r#"{{"hparams": {{"text": "{}"}}}}"#, "x".repeat(6 << 20));
    let params = matyan_value::cbor::encode(&matyan_value::json::parse(&params).unwrap());
    let large = |id: &str| {
        let run = run().run.unwrap();
        let run = runs::Run { run_id: id.to_owned(), params: params.clone().into(), ..run };
        search::RunsResponse { runs: vec![run], ..Default::default() }
    };
    // The end is read only to find the cursor after the runs that fit.
    let end = search::RunsResponse {
        run_ids: vec!["a".into(), "b".into()],
        next_cursor: "after b".into(),
        done: true,
        ..Default::default()
    };
    let path = "/api/2.0/mlflow/runs/search";
    port.backend.answers("search.v1.SearchService/Runs", [large("a"), large("b"), large("c"), end.clone()]);
    let (status, answer) = port.send("POST", path, r#"{"experiment_ids": ["0"]}"#).await;
    assert_eq!((status, &answer["next_page_token"]), (200, &json!("after b")));
    let found: Vec<_> = answer["runs"].as_array().unwrap().iter().map(|run| &run["info"]["run_id"]).collect();
    assert_eq!(found, ["a", "b"]);
    let request: search::RunsRequest = port.backend.last_request("search.v1.SearchService/Runs");
    assert_eq!((request.limit, request.ids_only), (2, true));

    let changed = search::RunsResponse { run_ids: vec!["a".into(), "x".into()], ..end };
    port.backend.answers("search.v1.SearchService/Runs", [large("a"), large("b"), large("c"), changed]);
    let (status, _) = port.send("POST", path, r#"{"experiment_ids": ["0"]}"#).await;
    assert_eq!(status, 503, "a run would be left out");
}

/// The transport of a client with an HTTP/2 window of zero would keep the answer for ever.
#[tokio::test(start_paused = true)]
async fn rule_45_an_answer_that_is_not_read_is_dropped() {
    let port = Port::new(&[Protocol::Mlflow], true);
    let content = json!({"description": "x".repeat(1_000_000)}).to_string().into();
    let document = documents::Document { name: "m".into(), content, ..Default::default() };
    let listed = documents::ListResponse { documents: vec![document] };
    port.backend.answers("documents.v1.DocumentService/List", [listed]);
    let path = "/api/2.0/mlflow/registered-models/search";
    let request = Request::get(path).header("host", "localhost:1").body(Body::empty()).unwrap();
    let mut answer = port.edge.answer(request).await.into_body();
    assert!(answer.frame().await.unwrap().is_ok());
    sleep(Duration::from_secs(12 * 60)).await;
    assert!(answer.frame().await.unwrap().is_err());
}

#[tokio::test]
async fn rule_45_a_search_of_models_finds_a_bounded_amount() {
    let port = Port::new(&[Protocol::Mlflow], true);
    let model = |number: usize| {
        let content = json!({"description": "x".repeat(4_000_000)}).to_string().into();
        let document = documents::Document { name: format!("model {number}"), content, ..Default::default() };
        documents::ListResponse { documents: vec![document] }
    };
    port.backend.answers("documents.v1.DocumentService/List", (0..17).map(model));
    let path = "/api/2.0/mlflow/registered-models/search";
    let (status, answer) = port.send("GET", path, "").await;
    assert_eq!((status, answer["error_code"].as_str()), (400, Some("INVALID_PARAMETER_VALUE")));
    assert!(answer["message"].as_str().unwrap().contains("use a filter"), "{answer}");
    let (status, answer) = port.send("GET", &format!("{path}?filter=name%20=%20'model%203'"), "").await;
    assert_eq!((status, &answer["registered_models"][0]["name"]), (200, &json!("model 3")));
}

/// A damaged document would otherwise hide all others.
#[tokio::test]
async fn a_damaged_model_is_left_out_of_searches() {
    let port = Port::new(&[Protocol::Mlflow], true);
    let document = |name: &str, content: &str| {
        let content = content.to_owned().into();
        documents::Document { name: name.to_owned(), content, ..Default::default() }
    };
    let damaged = [document("a", "damaged"), document("b", "[]"), document("c", "")];
    let listed = documents::ListResponse { documents: [&damaged[..], &[document("m", "{}")]].concat() };
    port.backend.answers("documents.v1.DocumentService/List", [listed]);
    let (status, answer) = port.send("GET", "/api/2.0/mlflow/registered-models/search", "").await;
    assert_eq!(status, 200, "{answer}");
    let models = answer["registered_models"].as_array().unwrap();
    assert_eq!(models.iter().map(|model| &model["name"]).collect::<Vec<_>>(), ["m"]);
}

/// The backend asks for the right to edit.
#[tokio::test]
async fn deletions_from_a_model_are_declared() {
    let port = Port::new(&[Protocol::Mlflow], true);
    let write = "documents.v1.DocumentService/Write";
    let id = format!("m-{}", "0".repeat(32));
    let content = json!({
        "tags": {"k": "v"}, "aliases": {"a": 1}, "last_version": 1,
        "versions": {"1": {"source": "s3://b/c", "stage": "None", "tags": {"k": "v"}}},
    });
    let content = content.to_string().into();
    let document = documents::Document { name: "m".into(), content, updated_us: 1, ..Default::default() };
    let found = documents::GetResponse { document: Some(document) };
    port.backend.answers("documents.v1.DocumentService/Get", [found]);
    port.backend.answers(write, [documents::WriteResponse { updated_us: 2 }]);
    let fields = json!({"name": "m", "version": "1", "key": "k", "value": "w", "alias": "a"}).to_string();
    for (method, path, deletes) in [
        ("POST", "registered-models/set-tag".to_owned(), false),
        ("POST", "registered-models/alias".to_owned(), false),
        ("POST", "model-versions/set-tag".to_owned(), false),
        ("DELETE", "registered-models/delete-tag".to_owned(), true),
        ("DELETE", "registered-models/alias".to_owned(), true),
        ("DELETE", "model-versions/delete-tag".to_owned(), true),
        ("DELETE", "model-versions/delete".to_owned(), true),
        ("DELETE", format!("logged-models/{id}/tags/k"), true),
        ("DELETE", format!("logged-models/{id}"), true),
    ] {
        let writes = port.backend.call_count(write);
        let (status, answer) = port.send(method, &format!("/api/2.0/mlflow/{path}"), &fields).await;
        assert_eq!((status, port.backend.call_count(write)), (200, writes + 1), "{method} {path}: {answer}");
        let sent: documents::WriteRequest = port.backend.last_request(write);
        assert_eq!(sent.deletes, deletes, "{method} {path}");
    }
}

/// MLflow's clients repeat 503, and do not repeat 409.
#[tokio::test(start_paused = true)]
async fn a_document_that_others_change_is_changed_later() {
    let port = Port::new(&[Protocol::Mlflow], true);
    let nothing = Vec::<documents::GetResponse>::new();
    port.backend.fails("documents.v1.DocumentService/Get", nothing, Status::not_found("no document"));
    let write = "documents.v1.DocumentService/Write";
    let changed = Status::aborted("the document has changed");
    port.backend.fails(write, Vec::<documents::WriteResponse>::new(), changed);
    let path = "/api/2.0/mlflow/registered-models/create";
    let (status, answer) = port.send("POST", path, r#"{"name": "m"}"#).await;
    assert_eq!((status, answer["error_code"].as_str()), (503, Some("TEMPORARILY_UNAVAILABLE")));
    assert!(port.backend.call_count(write) > 16, "it was tried for some seconds");
}

/// Clients repeat a request that has failed, and would get another version.
#[tokio::test]
async fn a_version_is_created_even_if_its_logged_model_cannot_note_it() {
    let port = Port::new(&[Protocol::Mlflow], true);
    let write = "documents.v1.DocumentService/Write";
    let found = |content: Value| {
        let content = content.to_string().into();
        let document = documents::Document { content, updated_us: 1, ..Default::default() };
        Ok(documents::GetResponse { document: Some(document) })
    };
    let registered = found(json!({"last_version": 4, "versions": {}}));
    let logged = found(json!({"status": "LOGGED_MODEL_READY"}));
    port.backend.answers_next("documents.v1.DocumentService/Get", [registered, logged]);
    let written = documents::WriteResponse { updated_us: 2 };
    port.backend.answers_next(write, [Ok(written), Err(Status::unavailable("later"))]);
    let source = format!("models:/m-{}", "0".repeat(32));
    let body = json!({"name": "m", "source": source}).to_string();
    let (status, answer) = port.send("POST", "/api/2.0/mlflow/model-versions/create", &body).await;
    assert_eq!((status, &answer["model_version"]["version"]), (200, &json!("5")), "{answer}");
    assert_eq!(port.backend.call_count(write), 2);
}

/// A request that has failed halfway is repeated: the runs are done before the experiment.
#[tokio::test]
async fn the_deletion_of_an_experiment_can_be_repeated() {
    let port = Port::new(&[Protocol::Mlflow], true);
    let get = "experiments.v1.ExperimentService/Get";
    let update = "experiments.v1.ExperimentService/Update";
    let archive = "runs.v1.RunService/ArchiveBatch";
    let experiment = |archived: bool| {
        let found =
            experiments::Experiment { id: "e".into(), name: "x".into(), archived, ..Default::default() };
        experiments::GetResponse { experiment: Some(found) }
    };
    port.backend.answers(get, [experiment(false)]);
    let run = experiments::ExperimentRun { run_id: "r".into(), ..Default::default() };
    let runs_of = experiments::ListRunsResponse { runs: vec![run], ..Default::default() };
    port.backend.answers("experiments.v1.ExperimentService/ListRuns", [runs_of]);
    port.backend.answers(update, [experiments::UpdateResponse::default()]);
    let unavailable = Status::unavailable("later");
    port.backend.fails(archive, Vec::<runs::ArchiveBatchResponse>::new(), unavailable);
    let delete = async || {
        let path = "/api/2.0/mlflow/experiments/delete";
        port.send("POST", path, r#"{"experiment_id": "e"}"#).await.0
    };
    assert_eq!((delete().await, port.backend.call_count(update)), (503, 0));
    port.backend.answers(archive, [runs::ArchiveBatchResponse::default()]);
    assert_eq!((delete().await, port.backend.call_count(update)), (200, 1));
    port.backend.answers(get, [experiment(true)]);
    assert_eq!((delete().await, port.backend.call_count(update)), (200, 1), "the answer was lost");
}

#[tokio::test]
async fn a_run_of_another_client_is_read_by_its_id() {
    let port = Port::with_run();
    let found = run().run.map(|run| runs::Run { run_id: "k3x:project".into(), ..run });
    port.backend.answers(GET_RUN, [runs::GetResponse { run: found }]);
    let nothing = Vec::<documents::GetResponse>::new();
    port.backend.fails("documents.v1.DocumentService/Get", nothing, Status::not_found("no document"));
    let (status, answer) = port.send("GET", "/api/2.0/mlflow/runs/get?run_id=k3x%3Aproject", "").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["run"]["info"]["artifact_uri"], "mlflow-artifacts:/0/k3x:project/artifacts");
    let body = json!({"run_id": "k3x:project", "key": "a", "value": 1, "timestamp": 1}).to_string();
    let (status, answer) = port.send("POST", "/api/2.0/mlflow/runs/log-metric", &body).await;
    assert_eq!((status, answer), (200, json!({})));
}

#[tokio::test]
async fn a_model_is_renamed_by_one_call() {
    let port = Port::new(&[Protocol::Mlflow], true);
    let rename = "documents.v1.DocumentService/Rename";
    let send = async |new_name: &str| {
        let path = "/api/2.0/mlflow/registered-models/rename";
        let body = json!({"name": "a", "new_name": new_name}).to_string();
        port.send("POST", path, &body).await
    };
    let content = json!({"updated_ms": 5, "versions": {}}).to_string().into();
    let document =
        documents::Document { name: "b".into(), content, updated_us: 7_000_000, ..Default::default() };
    port.backend.answers(rename, [documents::RenameResponse { document: Some(document) }]);
    let (status, answer) = send("b").await;
    assert_eq!((status, &answer["registered_model"]["name"]), (200, &"b".into()), "{answer}");
    assert_eq!(answer["registered_model"]["last_updated_timestamp"], 7_000, "{answer}");
    let sent: documents::RenameRequest = port.backend.last_request(rename);
    assert_eq!((sent.name.as_str(), sent.new_name.as_str(), sent.if_updated_us), ("a", "b", None));
    for (failure, expected) in [
        (Status::not_found("no document"), (404, "RESOURCE_DOES_NOT_EXIST")),
        (Status::already_exists("there is one"), (400, "RESOURCE_ALREADY_EXISTS")),
    ] {
        port.backend.fails(rename, Vec::<documents::RenameResponse>::new(), failure);
        let (status, answer) = send("b").await;
        assert_eq!((status, answer["error_code"].as_str().unwrap_or_default()), expected, "{answer}");
    }
    assert_eq!(port.backend.call_count(rename), 3);
}
