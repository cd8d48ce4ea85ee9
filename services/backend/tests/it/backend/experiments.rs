//! Experiments: unique names, counts, runs in pages, activity, deletion.

use matyan_proto::{
    common::v1::ActivityCount,
    experiments::v1::{experiment_service_client::ExperimentServiceClient, *},
    limits,
    runs::v1 as runs,
    tags::v1::{self as tags, tag_service_client::TagServiceClient},
};
use tonic::{Code, service::Routes};

use crate::backend::harness::{
    BEGIN_US, Harness, all, create, experiment, failure, finish, not_found, tag, wrong_field,
};

type Client = ExperimentServiceClient<Routes>;

async fn make(client: &mut Client, name: &str) -> Experiment {
    let request = CreateRequest { name: name.to_owned(), ..CreateRequest::default() };
    client.create(request).await.unwrap().into_inner().experiment.unwrap()
}

async fn get(client: &mut Client, id: &str) -> Experiment {
    client.get(GetRequest { id: id.to_owned() }).await.unwrap().into_inner().experiment.unwrap()
}

async fn runs_of(client: &mut Client, id: &str, limit: u32, after: &str) -> Vec<String> {
    let request =
        ListRunsRequest { id: id.to_owned(), limit, after_run_id: after.to_owned(), ..Default::default() };
    let messages = all(client.list_runs(request).await.unwrap()).await;
    messages.into_iter().flat_map(|message| message.runs).map(|run| run.run_id).collect()
}

#[tokio::test]
async fn experiments_are_created_listed_updated_and_deleted() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let made = make(&mut client, "  First näme ").await;
    assert_eq!((made.name.as_str(), made.run_count, made.archived), ("First näme", 0, false));
    assert_eq!(get(&mut client, &made.id).await, made);
    make(&mut client, "other").await;
    let list = async |part: &str| {
        let mut client = Client::new(harness.routes());
        let request = ListRequest { name_contains: part.to_owned() };
        let found = all(client.list(request).await.unwrap()).await;
        found.into_iter().flat_map(|message| message.experiments).map(|one| one.name).collect::<Vec<_>>()
    };
    assert_eq!(list("").await, ["First näme", "other"]);
    assert_eq!(list(" NÄME ").await, ["First näme"]);
    let update = UpdateRequest {
        id: made.id.clone(),
        name: Some("  ".into()),
        description: Some("what it is".into()),
        archived: Some(true),
        ..Default::default()
    };
    let changed = client.update(update).await.unwrap().into_inner().experiment.unwrap();
    assert_eq!((changed.name.as_str(), changed.description.as_str()), ("First näme", "what it is"));
    assert!(changed.archived && changed.updated_us > made.updated_us);
    let update = UpdateRequest { id: made.id.clone(), name: Some("new".into()), ..UpdateRequest::default() };
    let renamed = client.update(update).await.unwrap().into_inner().experiment.unwrap();
    assert_eq!(
        (renamed.name.as_str(), renamed.description.as_str()),
        ("new", "what it is"),
        "absent fields are kept"
    );
    client.delete(DeleteRequest { id: made.id.clone() }).await.unwrap();
    not_found(client.delete(DeleteRequest { id: made.id.clone() }).await, "experiment", &made.id);
    assert_eq!(list("").await, ["other"]);
    make(&mut client, "new").await;
    harness.end().await;
}

#[tokio::test]
async fn invalid_requests_name_the_field() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let taken = make(&mut client, "taken").await;
    let create = |name: &str| CreateRequest { name: name.to_owned(), ..CreateRequest::default() };
    let (code, reason, metadata) = failure(client.create(create(" taken ")).await);
    assert_eq!((code, reason.as_str()), (Code::AlreadyExists, "ALREADY_EXISTS"));
    assert!(metadata.contains(&("name".into(), "taken".into())));
    wrong_field(client.create(create("  ")).await, "name");
    wrong_field(client.create(create(&"x".repeat(limits::NAME_BYTES + 1))).await, "name");
    let request = CreateRequest { description: "x".repeat(limits::DESCRIPTION_BYTES + 1), ..create("n") };
    wrong_field(client.create(request).await, "description");
    let other = make(&mut client, "other").await;
    let rename = UpdateRequest { id: other.id.clone(), name: Some("taken".into()), ..Default::default() };
    assert_eq!(failure(client.update(rename).await).0, Code::AlreadyExists);
    let same = UpdateRequest { id: taken.id.clone(), name: Some("taken".into()), ..Default::default() };
    client.update(same).await.unwrap();
    for id in ["", "unknown", "\0", &"x".repeat(20_000)] {
        let id = id.to_owned();
        not_found(client.get(GetRequest { id: id.clone() }).await, "experiment", &id);
        not_found(
            client.update(UpdateRequest { id: id.clone(), ..Default::default() }).await,
            "experiment",
            &id,
        );
        not_found(client.delete(DeleteRequest { id: id.clone() }).await, "experiment", &id);
        let request = ListRunsRequest { id: id.clone(), ..Default::default() };
        not_found(client.list_runs(request).await, "experiment", &id);
        let request = ActivityRequest { id: id.clone(), ..Default::default() };
        not_found(client.activity(request).await, "experiment", &id);
    }
    harness.end().await;
}

#[tokio::test]
async fn of_two_concurrent_renames_to_one_name_one_wins() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    for round in 0..10 {
        let ids = [
            make(&mut client, &format!("a{round}")).await.id,
            make(&mut client, &format!("b{round}")).await.id,
        ];
        let rename = async |id: &str| {
            let name = Some(format!("wanted{round}"));
            let request = UpdateRequest { id: id.to_owned(), name, ..UpdateRequest::default() };
            Client::new(harness.routes()).update(request).await
        };
        let (first, second) = tokio::join!(rename(&ids[0]), rename(&ids[1]));
        assert_eq!(usize::from(first.is_ok()) + usize::from(second.is_ok()), 1);
        let loser = if first.is_ok() { second } else { first };
        assert_eq!(failure(loser).0, Code::AlreadyExists);
    }
    let both = async || {
        let request = CreateRequest { name: "made concurrently".into(), ..CreateRequest::default() };
        Client::new(harness.routes()).create(request).await
    };
    let (first, second) = tokio::join!(both(), both());
    assert_eq!(usize::from(first.is_ok()) + usize::from(second.is_ok()), 1);
    harness.end().await;
}

#[tokio::test]
async fn runs_are_listed_newest_first_and_counted() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let mut run_client = runs::run_service_client::RunServiceClient::new(harness.routes());
    let runs = ["r1", "r2", "r3", "r4", "r5"];
    for run in runs {
        harness.log(run, [create(), experiment("e")]).await;
    }
    harness.log("r2", [finish()]).await;
    harness.applied().await;
    let id = all(client.list(ListRequest::default()).await.unwrap()).await[0].experiments[0].id.clone();
    assert_eq!(runs_of(&mut client, &id, 0, "").await, ["r5", "r4", "r3", "r2", "r1"]);
    assert_eq!(runs_of(&mut client, &id, 2, "").await, ["r5", "r4"]);
    assert_eq!(runs_of(&mut client, &id, 2, "r4").await, ["r3", "r2"]);
    assert_eq!(get(&mut client, &id).await.run_count, 5);

    run_client.delete(runs::DeleteRequest { run_id: "r4".into() }).await.unwrap();
    assert_eq!(
        runs_of(&mut client, &id, 2, "").await,
        ["r5", "r3"],
        "hidden runs do not count toward the limit"
    );
    assert_eq!(
        runs_of(&mut client, &id, 2, "r4").await,
        ["r3", "r2"],
        "a page can continue after a deleted run"
    );
    assert_eq!(get(&mut client, &id).await.run_count, 4);
    let detach =
        runs::UpdateRequest { run_id: "r5".into(), experiment: Some(String::new()), ..Default::default() };
    run_client.update(detach).await.unwrap();
    assert_eq!(runs_of(&mut client, &id, 0, "").await, ["r3", "r2", "r1"]);
    assert_eq!(get(&mut client, &id).await.run_count, 3);
    harness.applied().await;
    assert_eq!(get(&mut client, &id).await.run_count, 3, "an applied deletion is not counted again");

    let archive = runs::ArchiveBatchRequest { run_ids: vec!["r1".into(), "missing".into()], archived: true };
    assert_eq!(run_client.archive_batch(archive).await.unwrap().into_inner().unknown, ["missing"]);
    let activity = ActivityRequest { id: id.clone(), timezone_offset_min: -240 };
    let activity = client.activity(activity).await.unwrap().into_inner();
    assert_eq!((activity.run_count, activity.archived_run_count, activity.active_run_count), (3, 1, 2));
    let hour = (BEGIN_US / 1_000_000 + 4 * 3_600) / 3_600 * 3_600;
    assert_eq!(activity.hours, [ActivityCount { local_s: hour, runs: 3 }]);

    client.delete(DeleteRequest { id: id.clone() }).await.unwrap();
    let parts = Some(runs::RunParts { props: true, ..Default::default() });
    let run = run_client.get(runs::GetRequest { run_id: "r1".into(), parts }).await.unwrap().into_inner().run;
    assert_eq!(run.unwrap().props.unwrap().experiment, None, "the run remains, without an experiment");
    harness.end().await;
}

/// If a list began again after a run that it does not know, a walk during deletions might never end.
#[tokio::test]
async fn a_page_after_an_unknown_run_is_refused() {
    let harness = Harness::new().await;
    for run in ["r1", "r2", "r3"] {
        harness.log(run, [create(), experiment("e"), tag("t")]).await;
    }
    harness.applied().await;
    let mut client = Client::new(harness.routes());
    let mut tag_client = TagServiceClient::new(harness.routes());
    let id = all(client.list(ListRequest::default()).await.unwrap()).await[0].experiments[0].id.clone();
    let listed = all(tag_client.list(tags::ListRequest::default()).await.unwrap()).await;
    let tag_id = listed[0].tags[0].id.clone();
    let mut run_client = runs::run_service_client::RunServiceClient::new(harness.routes());
    run_client.delete(runs::DeleteRequest { run_id: "r2".into() }).await.unwrap();
    harness.applied().await;
    assert_eq!(runs_of(&mut client, &id, 1, "r2").await, ["r1"]);
    let cleared = runs::ClearTombstoneRequest { run_id: "r2".into() };
    assert!(run_client.clear_tombstone(cleared).await.unwrap().into_inner().cleared);
    for after in ["r2", "never existed", &"x".repeat(20_000)] {
        let limit = 1;
        let after_run_id = after.to_owned();
        let cursor = String::new();
        let request = ListRunsRequest { id: id.clone(), limit, after_run_id, cursor };
        not_found(client.list_runs(request.clone()).await, "run", after);
        let ListRunsRequest { limit, after_run_id, cursor, .. } = request;
        let request = tags::ListRunsRequest { id: tag_id.clone(), limit, after_run_id, cursor };
        not_found(tag_client.list_runs(request).await, "run", after);
    }
    harness.end().await;
}
