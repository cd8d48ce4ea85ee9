//! Tags: adding and removing, counts, renaming for all runs together.

use matyan_proto::{
    runs::v1 as runs,
    tags::v1::{tag_service_client::TagServiceClient, *},
};
use tonic::{Code, service::Routes};

use crate::backend::harness::{Harness, all, create, experiment, failure, not_found, tag, wrong_field};

type Client = TagServiceClient<Routes>;
type Runs = runs::run_service_client::RunServiceClient<Routes>;

async fn get(client: &mut Client, id: &str) -> Tag {
    client.get(GetRequest { id: id.to_owned() }).await.unwrap().into_inner().tag.unwrap()
}

async fn add(runs: &mut Runs, run: &str, name: &str) -> String {
    let request = runs::AddTagRequest { run_id: run.to_owned(), name: name.to_owned() };
    runs.add_tag(request).await.unwrap().into_inner().tag_id
}

async fn names_on(runs: &mut Runs, run: &str) -> Vec<String> {
    let parts = Some(runs::RunParts { props: true, ..Default::default() });
    let request = runs::GetRequest { run_id: run.to_owned(), parts };
    let props = runs.get(request).await.unwrap().into_inner().run.unwrap().props.unwrap();
    props.tags.into_iter().map(|tag| tag.name).collect()
}

#[tokio::test]
async fn tags_are_put_on_runs_renamed_and_deleted() {
    let harness = Harness::new().await;
    let mut tags = Client::new(harness.routes());
    let mut runs = Runs::new(harness.routes());
    harness.log("r1", [create(), tag("good"), experiment("e")]).await;
    harness.log("r2", [create()]).await;
    harness.applied().await;
    let id = add(&mut runs, "r2", "  good ").await;
    assert_eq!(add(&mut runs, "r2", "good").await, id, "adding a tag twice is idempotent");
    assert_eq!(get(&mut tags, &id).await.run_count, 2);
    let request = ListRunsRequest { id: id.clone(), ..Default::default() };
    let listed = all(tags.list_runs(request).await.unwrap()).await;
    let listed: Vec<_> = listed.into_iter().flat_map(|message| message.runs).collect();
    let shown: Vec<_> = listed.iter().map(|run| (run.run_id.as_str(), run.experiment.as_deref())).collect();
    assert_eq!(shown, [("r2", None), ("r1", Some("e"))]);

    let rename = UpdateRequest {
        id: id.clone(),
        name: Some("better".into()),
        color: Some("#123".into()),
        ..Default::default()
    };
    let renamed = tags.update(rename).await.unwrap().into_inner().tag.unwrap();
    assert_eq!((renamed.name.as_str(), renamed.color.as_str(), renamed.run_count), ("better", "#123", 2));
    assert_eq!(names_on(&mut runs, "r1").await, ["better"]);

    let remove = || runs::RemoveTagRequest { run_id: "r1".into(), tag_id: id.clone() };
    assert!(runs.remove_tag(remove()).await.unwrap().into_inner().removed);
    assert!(!runs.remove_tag(remove()).await.unwrap().into_inner().removed);
    assert_eq!(get(&mut tags, &id).await.run_count, 1);
    let forged = runs::RemoveTagRequest { run_id: "r1".into(), tag_id: "forged".into() };
    not_found(runs.remove_tag(forged).await, "tag", "forged");
    assert_eq!(all(tags.list(ListRequest::default()).await.unwrap()).await[0].tags.len(), 1);

    tags.delete(DeleteRequest { id: id.clone() }).await.unwrap();
    assert!(names_on(&mut runs, "r2").await.is_empty());
    not_found(tags.delete(DeleteRequest { id: id.clone() }).await, "tag", &id);
    not_found(tags.get(GetRequest { id: id.clone() }).await, "tag", &id);
    harness.end().await;
}

#[tokio::test]
async fn invalid_requests_name_the_field() {
    let harness = Harness::new().await;
    let mut tags = Client::new(harness.routes());
    let mut runs = Runs::new(harness.routes());
    let create = CreateRequest { name: " a ".into(), color: " red ".into(), description: " d ".into() };
    let made = tags.create(create.clone()).await.unwrap().into_inner().tag.unwrap();
    assert_eq!((made.name.as_str(), made.color.as_str(), made.description.as_str()), ("a", "red", "d"));
    assert_eq!(failure(tags.create(create).await).0, Code::AlreadyExists);
    wrong_field(tags.create(CreateRequest::default()).await, "name");
    for id in [made.id.as_str(), "missing"] {
        let long = UpdateRequest { id: id.into(), color: Some("x".repeat(2_000)), ..Default::default() };
        wrong_field(tags.update(long).await, "color");
    }
    harness.create(&["r"]).await;
    let add = |run: &str, name: &str| runs::AddTagRequest { run_id: run.into(), name: name.into() };
    wrong_field(runs.add_tag(add("r", "  ")).await, "name");
    for run in ["", "missing", &"x".repeat(20_000)] {
        not_found(runs.add_tag(add(run, "a")).await, "run", run);
    }
    harness.end().await;
}

#[tokio::test]
async fn concurrent_additions_of_one_name_create_one_tag() {
    let harness = Harness::new().await;
    harness.create(&["r"]).await;
    let add = async || add(&mut Runs::new(harness.routes()), "r", "same").await;
    let ids = futures::future::join_all((0..8).map(|_| add())).await;
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(get(&mut Client::new(harness.routes()), &ids[0]).await.run_count, 1);
    harness.end().await;
}
