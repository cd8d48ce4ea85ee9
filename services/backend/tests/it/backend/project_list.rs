//! Creating, listing and deleting projects.

use std::time::Duration;

use matyan_model::{keys, project::project_get};
use matyan_proto::{
    project::v1::{
        CreateRequest, DeleteRequest, GetRequest, ListRequest, Project, ProjectState, UpdateRequest,
        project_service_client::ProjectServiceClient,
    },
    runs::v1::{self as runs, WatchRequest, run_service_client::RunServiceClient},
};
use matyan_store::{Scan, Store};
use matyan_wire::headers::{CALLER, KNOWN_PROJECTS};
use tonic::{Code, Request, service::Routes};

use crate::backend::{
    harness::{BEGIN_US, Harness, create, failure, not_found, wrong_field},
    projects::of,
};

async fn list(client: &mut ProjectServiceClient<Routes>) -> Vec<Project> {
    client.list(ListRequest {}).await.unwrap().into_inner().projects
}

#[tokio::test]
async fn projects_are_created_renamed_and_listed() {
    let harness = Harness::new().await;
    let mut client = ProjectServiceClient::new(harness.routes());
    let speech = harness.create_project("speech").await;
    assert_eq!((speech.name.as_str(), speech.display_name.as_str()), ("speech", "speech"));
    assert!(speech.created_us.unwrap() >= BEGIN_US && speech.deleted_us.is_none());
    let request =
        CreateRequest { name: "audio.v2".into(), display_name: "Audio".into(), description: "d".into() };
    let audio = client.create(request).await.unwrap().into_inner().project.unwrap();
    let update = UpdateRequest { name: Some("Speech models".into()), ..Default::default() };
    client.update(of("speech", update)).await.unwrap();
    let listed = list(&mut client).await;
    assert_eq!(listed[1], audio);
    let shown = |project: &Project| (project.name.clone(), project.display_name.clone());
    let shown: Vec<_> = listed.iter().map(shown).collect();
    let expected = [("", "My project"), ("audio.v2", "Audio"), ("speech", "Speech models")];
    assert_eq!(shown, expected.map(|(name, display)| (name.to_owned(), display.to_owned())));
    harness.end().await;
}

/// A call, as the edge makes it for a caller who may know of these projects.
fn by_caller<T>(project: &str, known: &'static str, message: T) -> Request<T> {
    let mut request = of(project, message);
    request.metadata_mut().insert(CALLER, "service:test".parse().unwrap());
    request.metadata_mut().insert(KNOWN_PROJECTS, known.parse().unwrap());
    request
}

#[tokio::test]
async fn rule_54_a_caller_sees_and_deletes_only_projects_of_its_own() {
    let harness = Harness::new().await;
    let mut client = ProjectServiceClient::new(harness.routes());
    for name in ["speech", "speech2", "vision"] {
        harness.create_project(name).await;
    }
    let mut listing = client.clone();
    let mut check = async |known, expected: &[&str]| {
        let listed = listing.list(by_caller("", known, ListRequest {})).await.unwrap().into_inner().projects;
        let names: Vec<_> = listed.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, expected, "{known}");
    };
    check("", &[]).await;
    check("/", &[""]).await;
    check("/speech", &["speech"]).await;
    check("//speech/vision/unknown", &["", "speech", "vision"]).await;
    let delete = || DeleteRequest { name: "vision".into() };
    for project in ["", "speech"] {
        let refused = client.delete(by_caller(project, "//speech", delete())).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    assert_eq!(list(&mut client).await.len(), 4);
    // Twice, because a client may repeat the call.
    for _ in 0..2 {
        let deleted =
            client.delete(by_caller("vision", "/vision", delete())).await.unwrap().into_inner().project;
        assert_eq!(deleted.unwrap().state(), ProjectState::Deleting);
    }
    harness.end().await;
}

#[tokio::test]
async fn a_name_that_is_taken_or_not_allowed_is_refused() {
    let harness = Harness::new().await;
    let mut client = ProjectServiceClient::new(harness.routes());
    harness.create_project("speech").await;
    let request = |name: &str| CreateRequest { name: name.into(), ..Default::default() };
    let (code, reason, metadata) = failure(client.create(request("speech")).await);
    assert_eq!((code, reason.as_str()), (Code::AlreadyExists, "ALREADY_EXISTS"));
    assert!(metadata.contains(&("resource".into(), "project".into())), "{metadata:?}");
    for name in ["", "Speech", "../a", "default", "a b"] {
        wrong_field(client.create(request(name)).await, "name");
    }
    wrong_field(client.delete(DeleteRequest::default()).await, "name");
    not_found(client.delete(DeleteRequest { name: "unknown".into() }).await, "project", "unknown");
    harness.end().await;
}

#[tokio::test]
async fn a_deleted_project_does_not_exist_for_any_call() {
    let harness = Harness::new().await;
    let mut client = ProjectServiceClient::new(harness.routes());
    let mut runs = RunServiceClient::new(harness.routes());
    harness.create_project("gone").await;
    harness.log_in("gone", "r", [create()]).await;
    harness.applied().await;
    let get = || of("gone", runs::GetRequest { run_id: "r".into(), ..Default::default() });
    runs.get(get()).await.unwrap();
    let mut watch = runs.watch(of("gone", WatchRequest::default())).await.unwrap().into_inner();

    let delete = || DeleteRequest { name: "gone".into() };
    let deleted = client.delete(delete()).await.unwrap().into_inner().project.unwrap();
    assert_eq!(deleted.state(), ProjectState::Deleting);
    assert_eq!(client.delete(delete()).await.unwrap().into_inner().project.unwrap(), deleted);
    assert_eq!(list(&mut client).await[1], deleted);
    not_found(runs.get(get()).await, "project", "gone");
    not_found(client.get(of("gone", GetRequest::default())).await, "project", "gone");
    wrong_field(client.create(CreateRequest { name: "gone".into(), ..Default::default() }).await, "name");

    // A watch that began before ends.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    let ended = loop {
        match watch.message().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert_eq!(ended.unwrap_err().code(), Code::NotFound);

    // The control worker deletes the content once no process uses the project any more.
    harness.advance_clock(61);
    let number = project_get(&*harness.store.snapshot().await.unwrap(), "gone").await.unwrap().unwrap();
    let rows = keys::project_rows(number.project.number);
    harness.sweep_deleted_projects().await;
    let page = harness.store.snapshot().await.unwrap().scan(&rows, Scan::default()).await.unwrap();
    assert!(page.rows.is_empty(), "{} rows are left", page.rows.len());
    assert_eq!(list(&mut client).await.len(), 1, "the deleted one is not listed any more");
    not_found(client.delete(delete()).await, "project", "gone");
    harness.end().await;
}
