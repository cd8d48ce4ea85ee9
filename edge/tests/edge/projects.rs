//! Projects: every call that a request causes is in the project that its path or header names.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::body::Body;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use matyan_edge::{Edge, FrontierTransport, Metrics, Settings, Transport};
use matyan_proto::project::v1 as pb;
use serde_json::Value;
use tonic::Status;
use tower::Service;

use super::backend::Backend;
use super::frontier::Frontier;
use super::server::Server;

/// The method and project of each call to a service. The project is `None` without metadata.
pub(crate) type Calls = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// A service that implements nothing.
#[derive(Clone, Default)]
pub(crate) struct Recorder {
    calls: Calls,
    last_headers: Arc<Mutex<HeaderMap>>,
}

impl Recorder {
    pub(crate) fn calls(&self) -> Calls {
        self.calls.clone()
    }

    pub(crate) fn last_headers(&self) -> HeaderMap {
        self.last_headers.lock().unwrap().clone()
    }

    /// A frontier whose calls come here. Its streams do not.
    pub(crate) fn frontier(&self) -> FrontierTransport {
        FrontierTransport::new(Transport::new(self.clone()), Arc::new(Frontier::new()))
    }
}

impl Service<Request<tonic::body::Body>> for Recorder {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let project = request.headers().get("matyan-project").map(|it| it.to_str().unwrap().to_owned());
        self.calls.lock().unwrap().push((request.uri().path().to_owned(), project));
        self.last_headers.lock().unwrap().clone_from(request.headers());
        Box::pin(async { Ok(Status::unimplemented("a recorder").into_http()) })
    }
}

fn recorded() -> (Edge, Calls) {
    let recorder = Recorder::default();
    let calls = recorder.calls();
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let frontier = recorder.frontier();
    let backend = Transport::new(recorder);
    (matyan_edge::query(Settings::default(), metrics, backend, Some(frontier)), calls)
}

async fn send(edge: &Edge, request: Request<Body>) -> (u16, Vec<u8>) {
    let (parts, body) = edge.answer(request).await.into_parts();
    (parts.status.as_u16(), body.collect().await.unwrap().to_bytes().to_vec())
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn rule_37_every_operation_is_in_the_project_of_its_path() {
    let (edge, calls) = recorded();
    let (_, description) = send(&edge, get("/openapi.json")).await;
    let description: Value = serde_json::from_slice(&description).unwrap();
    let mut operations = 0;
    let mut reached = 0;
    for (path, methods) in description["paths"].as_object().unwrap() {
        let path: Vec<&str> = path.split('/').map(|it| if it.starts_with('{') { "x" } else { it }).collect();
        let path = format!("/p/team{}", path.join("/"));
        for method in methods.as_object().unwrap().keys() {
            let request = Request::builder().method(method.to_uppercase().as_str()).uri(&path);
            send(&edge, request.body(Body::from("{}")).unwrap()).await;
            operations += 1;
            let calls: Vec<_> = calls.lock().unwrap().drain(..).collect();
            reached += usize::from(!calls.is_empty());
            for (called, project) in calls {
                let is_about_the_server = called.starts_with("/matyan.system.");
                assert!(
                    is_about_the_server || project.as_deref() == Some("team"),
                    "{method} {path}: {called}"
                );
            }
        }
    }
    // The others require a body or a query.
    assert!(reached * 2 > operations, "{reached} of {operations} operations reached a service");
}

#[tokio::test]
async fn a_request_without_a_project_is_in_the_default_one() {
    let (edge, calls) = recorded();
    send(&edge, get("/api/v1/rest/projects/")).await;
    send(&edge, get("/p/team/api/v1/rest/projects/")).await;
    let with_header =
        |uri: &str| Request::get(uri).header("matyan-project", "team").body(Body::empty()).unwrap();
    send(&edge, with_header("/api/v1/rest/projects/")).await;
    let projects: Vec<_> = calls.lock().unwrap().drain(..).map(|(_, project)| project).collect();
    assert_eq!(projects, [None, Some("team".to_owned()), Some("team".to_owned())]);
    let (status, body) = send(&edge, with_header("/p/other/api/v1/rest/projects/")).await;
    let body = String::from_utf8(body).unwrap();
    assert!(status == 400 && body.contains("`other`") && body.contains("matyan-project"), "{status} {body}");
    assert!(calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn calls_over_grpc_web_may_name_the_project_in_their_path() {
    let (edge, calls) = recorded();
    let call = |prefix: &str| {
        Request::post(format!("{prefix}/matyan.project.v1.ProjectService/Get"))
            .header("content-type", "application/grpc-web+proto")
            .body(Body::from(vec![0; 5]))
            .unwrap()
    };
    send(&edge, call("/p/team")).await;
    send(&edge, call("")).await;
    let projects: Vec<_> = calls.lock().unwrap().drain(..).map(|(_, project)| project).collect();
    assert_eq!(projects, [Some("team".to_owned()), None]);
    let mut both = call("/p/team");
    both.headers_mut().insert("matyan-project", "other".parse().unwrap());
    let refused = edge.answer(both).await;
    assert_eq!(refused.headers()["grpc-status"], "3", "{refused:?}");
}

#[tokio::test]
async fn a_project_is_deleted_by_its_path() {
    let backend = Backend::default();
    let project = pb::Project {
        name: "team".into(),
        state: pb::ProjectState::Deleting.into(),
        deleted_us: Some(1_767_323_045_678_000),
        ..Default::default()
    };
    backend.answers("project.v1.ProjectService/Delete", [pb::DeleteResponse { project: Some(project) }]);
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let edge = matyan_edge::query(Settings::default(), metrics, Transport::new(backend.clone()), None);
    let request = |path: &str| Request::delete(path).body(Body::empty()).unwrap();
    let (status, body) = send(&edge, request("/p/team/api/v1/rest/projects/")).await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &body["state"], &body["created_at"]), (200, &"deleting".into(), &Value::Null));
    assert_eq!(body["deleted_at"], "2026-01-02T03:04:05.678Z");
    let asked: pb::DeleteRequest = backend.last_request("project.v1.ProjectService/Delete");
    assert_eq!(asked.name, "team");
    // The backend refuses to delete the default project.
    send(&edge, request("/api/v1/rest/projects/")).await;
    let asked: pb::DeleteRequest = backend.last_request("project.v1.ProjectService/Delete");
    assert_eq!(asked.name, "");
}

#[tokio::test]
async fn clients_send_data_below_the_path_of_their_project() {
    let server = Server::start().await;
    let mut client = server.connect_to("/p/team/api/v1/ws/runs/r").await.unwrap();
    client.send(r#"{"type": "add_tag", "tag_name": "a"}"#).await;
    client.ok().await;
    let mut client = server.connect("r").await;
    client.send(r#"{"type": "add_tag", "tag_name": "a"}"#).await;
    client.ok().await;
    let body = r#"{"run_id": "r", "artifact_path": "a"}"#;
    let request = Request::post("/p/team/api/v1/rest/artifacts/presign").header("host", "here");
    let request = request.body(Body::from(body)).unwrap();
    let answer = server.http(request).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    let url = answer.json()["upload_url"].as_str().unwrap().to_owned();
    assert!(url.contains("/api/v1/rest/blobs/r/a?"), "{url}");
    assert_eq!(server.frontier.projects(), ["team", "", "team"]);
}
