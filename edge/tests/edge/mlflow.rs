//! MLflow's protocol at the port: where its paths lead, what its requests become, and its errors.

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use matyan_edge::{Edge, Metrics, Protocol, Settings, Transport};
use matyan_proto::experiments::v1 as experiments;
use matyan_proto::runs::v1 as runs;
use matyan_proto::search::v1 as search;
use serde_json::{Value, json};
use tonic::Status;

use super::backend::Backend;
use super::frontier::Frontier;

struct Port {
    backend: Backend,
    edge: Edge,
}

impl Port {
    fn new(protocols: &[Protocol], has_frontier: bool) -> Self {
        let backend = Backend::default();
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let frontier = has_frontier.then(|| Transport::new(Frontier::new().routes()));
        let settings = Settings { protocols: protocols.to_vec(), ..Settings::default() };
        let edge = matyan_edge::query(settings, metrics, Transport::new(backend.clone()), frontier);
        Port { backend, edge }
    }

    async fn send(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
        let (head, body) = self.edge.answer(request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), serde_json::from_slice(&body).unwrap())
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
}

#[tokio::test]
async fn errors_are_those_of_mlflow() {
    let port = Port::new(&[Protocol::Mlflow], true);
    let get = "runs.v1.RunService/Get";
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
        port.backend.fails(get, Vec::<runs::GetResponse>::new(), failure);
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
