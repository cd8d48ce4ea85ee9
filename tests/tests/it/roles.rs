//! The services in separate processes, one after another on the same data directory: what a
//! frontier accepted, an ingestion worker applies and a backend serves, though they never run
//! concurrently.

use std::path::Path;

use matyan_tests::{
    Reader, Service, eventually,
    json::{Ack, JsonWriter, create_run, metric},
};
use serde_json::{Value, json};

async fn start(role: &'static str, folder: &Path) -> Service {
    let data_dir = folder.join("data");
    let mut service = Service::new(role, folder)
        .flag("store", "embedded:")
        .flag("log", "embedded:")
        .flag("blobs", "embedded:")
        .flag("data-dir", data_dir.to_str().expect("the path is text"));
    service.start().await;
    service
}

async fn stop(mut service: Service) {
    assert!(service.terminate().await.success(), "{}", service.log());
}

#[tokio::test]
async fn separate_services_work_like_one_process() {
    let folder = tempfile::tempdir().expect("the temporary directory is writable");

    let frontier = start("frontier", folder.path()).await;
    assert_eq!(frontier.addresses()["query"], Value::Null);
    let mut writer =
        JsonWriter::connect(frontier.address("ingest"), "run").await.expect("the frontier listens");
    let frame = json!([create_run(), metric("loss", 0.5, None), metric("loss", f64::MIN_POSITIVE, None)]);
    assert_eq!(writer.send(&frame).await, Ok(Ack::Ok));
    drop(writer);
    stop(frontier).await;

    // Each service stops before the next one starts: the data directory has one user at a time.
    let values = eventually("the points are applied", async || {
        stop(start("ingest-worker", folder.path()).await).await;
        let backend = start("backend", folder.path()).await;
        let points = Reader::connect(backend.address("query")).await.points("run", "loss", "").await;
        stop(backend).await;
        let points = points.map_err(|status| status.to_string())?;
        if points.is_empty() { Err("no points".to_owned()) } else { Ok(points) }
    })
    .await;
    assert_eq!(
        values.iter().map(|point| (point.step, point.value)).collect::<Vec<_>>(),
        [(0, 0.5), (1, f64::MIN_POSITIVE)]
    );

    stop(start("control-worker", folder.path()).await).await;
}

/// Sends a request of a W&B client to a backend. Returns the status.
async fn post(backend: &Service, path: &str, body: &Value) -> u16 {
    let url = format!("{}{path}", backend.address("query"));
    let answer = reqwest::Client::new().post(url).json(body).send().await.expect("the backend answers");
    answer.status().as_u16()
}

/// Clients of W&B and MLflow have one URL, so a backend accepts what they send.
#[tokio::test]
async fn a_backend_accepts_data_of_clients_of_other_trackers() {
    let folder = tempfile::tempdir().expect("the temporary directory is writable");
    let upsert = json!({
        "query": "mutation ($input: UpsertBucketInput!) { upsertBucket(input: $input) { inserted } }",
        "variables": {"input": {"name": "r", "modelName": "demo"}},
    });
    let row = json!({"_step": 7, "_timestamp": 1e9, "loss": 0.5}).to_string();
    let rows = json!({"files": {"wandb-history.jsonl": {"offset": 0, "content": [row]}}});
    let stream = "/files/me/demo/r/file_stream";

    let backend = start("backend", folder.path()).await;
    // The run is accepted, and the client is asked to try again because no worker has applied it.
    assert_eq!(post(&backend, "/graphql", &upsert).await, 503);
    stop(backend).await;
    // Each service stops before the next one starts: the data directory has one user at a time.
    eventually("the run is applied, and the row accepted", async || {
        stop(start("ingest-worker", folder.path()).await).await;
        let backend = start("backend", folder.path()).await;
        let status = post(&backend, stream, &rows).await;
        stop(backend).await;
        if status == 200 { Ok(()) } else { Err(status) }
    })
    .await;
    eventually("the row is applied", async || {
        stop(start("ingest-worker", folder.path()).await).await;
        let backend = start("backend", folder.path()).await;
        let points = Reader::connect(backend.address("query")).await.points("r:demo", "loss", "").await;
        stop(backend).await;
        let points = points.map_err(|status| status.to_string())?;
        match &*points {
            [point] if (point.step, point.value) == (7, 0.5) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// A backend without these protocols only answers queries.
#[tokio::test]
async fn a_backend_without_these_protocols_accepts_no_data() {
    let folder = tempfile::tempdir().expect("the temporary directory is writable");
    let data_dir = folder.path().join("data");
    let mut backend = Service::new("backend", folder.path())
        .flag("store", "embedded:")
        .flag("log", "embedded:")
        .flag("blobs", "embedded:")
        .flag("protocols", "optuna")
        .flag("data-dir", data_dir.to_str().expect("the path is text"));
    backend.start().await;
    assert_ne!(post(&backend, "/graphql", &json!({"query": "{ viewer { id } }"})).await, 200);
    assert!(
        JsonWriter::connect(backend.address("query"), "run").await.is_err(),
        "only frontiers accept data"
    );
    stop(backend).await;
}

/// A frontier has no store, so a backend says which projects exist.
#[tokio::test]
async fn a_frontier_asks_the_backend_which_projects_exist() {
    let folder = tempfile::tempdir().expect("is writable");
    let other = tempfile::tempdir().expect("is writable");
    let backend = start("backend", folder.path()).await;
    let create = async |name: &str| {
        let url = format!("{}/api/v1/rest/projects/", backend.address("query"));
        let created = reqwest::Client::new().post(url).json(&json!({"name": name})).send().await;
        created.expect("the backend answers").error_for_status().expect("the project is created");
    };
    create("team").await;
    let data_dir = other.path().join("data");
    let mut frontier = Service::new("frontier", other.path())
        .flag("log", "embedded:")
        .flag("blobs", "embedded:")
        .flag("data-dir", data_dir.to_str().expect("the path is text"))
        .flag("backend-url", backend.address("query"));
    frontier.start().await;
    let accepts = async |project: &str| {
        let url = format!("{}/p/{project}", frontier.address("ingest"));
        let Ok(mut writer) = JsonWriter::connect(&url, "run").await else { return false };
        writer.send(&json!([create_run()])).await == Ok(Ack::Ok)
    };
    assert!(accepts("team").await);
    assert!(!accepts("unknown").await, "there is no such project");
    create("later").await;
    assert!(accepts("later").await, "the project exists now");

    // While the backend is away, the frontier accepts data for the projects that it knows.
    stop(backend).await;
    assert!(accepts("team").await, "the frontier knows the project");
    assert!(!accepts("another").await, "the backend has not said that it exists");
    stop(frontier).await;
}

/// An embedded backend belongs to one process at a time; a second process is refused with
/// advice.
#[tokio::test]
async fn services_that_share_an_embedded_backend_are_refused() {
    let folder = tempfile::tempdir().expect("the temporary directory is writable");
    let worker = start("ingest-worker", folder.path()).await;
    let data_dir = folder.path().join("data");
    let mut backend = Service::new("backend", folder.path())
        .flag("store", "embedded:")
        .flag("log", "embedded:")
        .flag("blobs", "embedded:")
        .flag("data-dir", data_dir.to_str().expect("the path is text"));
    assert!(!backend.run_to_exit().await.success());
    let output = backend.log();
    assert!(output.contains("in use by process") && output.contains("FoundationDB"), "{output}");
    assert!(output.contains("matyan up"), "{output}");
    stop(worker).await;
}

/// Workers, like all other processes, have endpoints for liveness, readiness and metrics.
#[tokio::test]
async fn workers_report_health_and_metrics() {
    let folder = tempfile::tempdir().expect("the temporary directory is writable");
    for role in ["ingest-worker", "control-worker"] {
        let worker = start(role, folder.path()).await;
        let get = async |path: &str| {
            let answer = reqwest::get(format!("{}{path}", worker.address("metrics")))
                .await
                .expect("the worker answers");
            (answer.status().as_u16(), answer.text().await.expect("the body is text"))
        };
        let checks =
            json!({"worker": "ok", "fdb": "ok", "kafka": {"control": "ok", "ingestion": "ok"}, "blob": "ok"});
        let ready = json!({"status": "ok", "checks": checks});
        assert_eq!(get("/health/live/").await, (200, json!({"status": "ok"}).to_string()), "{role}");
        let (status, output) = get("/health/ready/").await;
        assert_eq!((status, output.parse::<Value>().expect("the body is JSON")), (200, ready), "{role}");
        let (status, metrics) = get("/metrics").await;
        assert!(status == 200 && metrics.contains("matyan_ingestion_window_bytes 0"), "{metrics}");
        assert_eq!(get("/api/v1/rest/runs/").await.0, 404, "{role}");
        stop(worker).await;
    }
}
