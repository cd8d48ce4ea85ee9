//! Tags and experiments of many runs at once.

use matyan_model::{change::changes_list, ids::Project};
use matyan_proto::{
    limits,
    runs::v1::{
        add_tag_batch_request::Tag as Added, move_batch_request::Experiment as Target,
        remove_tag_batch_request::Tag as Removed, run_service_client::RunServiceClient, *,
    },
    tags::v1::{self as tags, tag_service_client::TagServiceClient},
};
use matyan_store::{Stamp, Store as _};
use tonic::{Code, service::Routes};

use crate::backend::harness::{Harness, all, create, experiment, failure, tag, wrong_field};

type Client = RunServiceClient<Routes>;

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

fn add(runs: &[&str], tag: Added) -> AddTagBatchRequest {
    AddTagBatchRequest { run_ids: ids(runs), tag: Some(tag) }
}

fn remove(runs: &[&str], tag: Removed) -> RemoveTagBatchRequest {
    RemoveTagBatchRequest { run_ids: ids(runs), tag: Some(tag) }
}

fn to(runs: &[&str], experiment: Target) -> MoveBatchRequest {
    MoveBatchRequest { run_ids: ids(runs), experiment: Some(experiment) }
}

async fn props(client: &mut Client, run: &str) -> Props {
    let parts = Some(RunParts { props: true, ..RunParts::default() });
    let request = GetRequest { run_id: run.to_owned(), parts };
    client.get(request).await.unwrap().into_inner().run.unwrap().props.unwrap()
}

async fn tag_names(client: &mut Client, run: &str) -> Vec<String> {
    props(client, run).await.tags.into_iter().map(|tag| tag.name).collect()
}

async fn experiment_name(client: &mut Client, run: &str) -> Option<String> {
    props(client, run).await.experiment.map(|experiment| experiment.name)
}

/// Expects an error about an entity that does not exist, which names the field that refers to it.
#[track_caller]
fn no_such<T>(response: Result<tonic::Response<T>, tonic::Status>, field: &str, resource: &str, id: &str) {
    let (code, _, mut metadata) = failure(response.map(|_| ()));
    metadata.sort_unstable();
    let expected = [("field", field), ("id", id), ("resource", resource)];
    assert_eq!(code, Code::NotFound);
    assert_eq!(metadata, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
}

async fn listed_tags(harness: &Harness) -> Vec<tags::Tag> {
    let mut client = TagServiceClient::new(harness.routes());
    let messages = all(client.list(tags::ListRequest::default()).await.unwrap()).await;
    messages.into_iter().flat_map(|message| message.tags).collect()
}

#[tokio::test]
async fn a_tag_is_added_to_many_runs_and_removed() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    harness.log("r1", [create(), tag("good")]).await;
    harness.log("r2", [create()]).await;
    harness.applied().await;
    let good = listed_tags(&harness).await[0].id.clone();

    let request = add(&["r1", "missing", "r2", "r2"], Added::TagId(good.clone()));
    let done = client.add_tag_batch(request.clone()).await.unwrap().into_inner();
    assert_eq!((done.unknown, done.changed), (ids(&["missing"]), 1));
    let again = client.add_tag_batch(request).await.unwrap().into_inner();
    assert_eq!(again.changed, 0, "a repeated call changes nothing");
    let named = add(&["r1", "r2"], Added::TagName("  best ".into()));
    assert_eq!(client.add_tag_batch(named).await.unwrap().into_inner().changed, 2);
    let shown = listed_tags(&harness).await;
    let shown: Vec<_> = shown.iter().map(|tag| (tag.name.as_str(), tag.run_count)).collect();
    assert_eq!(shown, [("good", 2), ("best", 2)]);

    let by_id = remove(&["r2", "missing"], Removed::TagId(good));
    let done = client.remove_tag_batch(by_id).await.unwrap().into_inner();
    assert_eq!((done.unknown, done.changed), (ids(&["missing"]), 1));
    let by_name = remove(&["r1", "r2"], Removed::TagName("good".into()));
    assert_eq!(client.remove_tag_batch(by_name).await.unwrap().into_inner().changed, 1);
    assert_eq!(tag_names(&mut client, "r1").await, ["best"]);
    assert_eq!(tag_names(&mut client, "r2").await, ["best"]);
    harness.end().await;
}

#[tokio::test]
async fn runs_are_moved_between_experiments() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    harness.log("r1", [create(), experiment("first")]).await;
    harness.log("r2", [create()]).await;
    harness.applied().await;
    let first = props(&mut client, "r1").await.experiment.unwrap().id;

    let done = client.move_batch(to(&["r1", "r2", "missing"], Target::ExperimentId(first))).await.unwrap();
    assert_eq!(
        done.into_inner(),
        MoveBatchResponse { unknown: ids(&["missing"]), changed: 1, damaged: Vec::new() }
    );
    assert_eq!(experiment_name(&mut client, "r2").await.as_deref(), Some("first"));
    let named = to(&["r1"], Target::ExperimentName("second".into()));
    assert_eq!(client.move_batch(named).await.unwrap().into_inner().changed, 1);
    assert_eq!(experiment_name(&mut client, "r1").await.as_deref(), Some("second"));
    let out = to(&["r1", "r2"], Target::NoExperiment(true));
    assert_eq!(client.move_batch(out.clone()).await.unwrap().into_inner().changed, 2);
    assert_eq!(client.move_batch(out).await.unwrap().into_inner().changed, 0);
    assert_eq!(experiment_name(&mut client, "r1").await, None);
    assert_eq!(experiment_name(&mut client, "r2").await, None);
    harness.end().await;
}

#[tokio::test]
async fn invalid_batches_are_refused() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    harness.create(&["r"]).await;
    let long = "x".repeat(limits::NAME_BYTES + 1);
    // Invalid even if there is no run to change.
    for runs in [&["r"][..], &[]] {
        no_such(client.add_tag_batch(add(runs, Added::TagId("no".into()))).await, "tag_id", "tag", "no");
        let unknown = remove(runs, Removed::TagId(long.clone()));
        assert_eq!(failure(client.remove_tag_batch(unknown).await).0, Code::NotFound);
        let unknown = remove(runs, Removed::TagName("no".into()));
        no_such(client.remove_tag_batch(unknown).await, "tag_name", "tag", "no");
        let unknown = to(runs, Target::ExperimentId("no".into()));
        no_such(client.move_batch(unknown).await, "experiment_id", "experiment", "no");
    }
    wrong_field(client.add_tag_batch(add(&["r"], Added::TagName(" ".into()))).await, "tag_name");
    let too_long = client.add_tag_batch(add(&["r"], Added::TagName(long))).await;
    assert_eq!(failure(too_long).0, Code::ResourceExhausted);
    wrong_field(client.add_tag_batch(AddTagBatchRequest::default()).await, "tag");
    wrong_field(client.remove_tag_batch(RemoveTagBatchRequest::default()).await, "tag");
    // A forgotten field must not remove runs from their experiments.
    wrong_field(client.move_batch(MoveBatchRequest::default()).await, "experiment");
    wrong_field(client.move_batch(to(&["r"], Target::NoExperiment(false))).await, "experiment");
    let many = vec!["r"; limits::RUNS_PER_CALL + 1];
    let refused = client.add_tag_batch(add(&many, Added::TagName("t".into()))).await;
    assert_eq!(failure(refused).0, Code::ResourceExhausted);
    // A tag that no run gets is not created.
    client.add_tag_batch(add(&["missing"], Added::TagName("t".into()))).await.unwrap();
    assert!(listed_tags(&harness).await.is_empty());
    harness.end().await;
}

#[tokio::test]
async fn a_run_has_a_limited_number_of_tags() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let names: Vec<String> = (0..limits::TAGS_PER_RUN).map(|number| format!("tag {number:03}")).collect();
    harness.log("full", std::iter::once(create()).chain(names.iter().map(|name| tag(name)))).await;
    harness.log("other", [create(), tag("more")]).await;
    harness.applied().await;
    let single = |name: &str| AddTagRequest { run_id: "full".into(), name: name.into() };
    let refused = |(code, reason, metadata): (Code, String, Vec<(String, String)>), field: &str| {
        assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "TOO_LARGE"));
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(metadata, [pair("field", field), pair("limit", "256")]);
    };
    refused(failure(client.add_tag(single("new")).await), "name");
    let both = &["other", "full"];
    let status = client.add_tag_batch(add(both, Added::TagName("new".into()))).await.unwrap_err();
    assert!(status.message().starts_with("run `full` has 256 tags"), "{status}");
    refused(failure::<()>(Err(status)), "tag_name");
    let more = props(&mut client, "other").await.tags[0].id.clone();
    refused(failure(client.add_tag_batch(add(both, Added::TagId(more))).await), "tag_id");
    assert_eq!(tag_names(&mut client, "other").await, ["more"]);
    assert_eq!(listed_tags(&harness).await.len(), limits::TAGS_PER_RUN + 1);
    // A tag that the run has is no change, and another one fits when one is gone.
    client.add_tag(single(&names[0])).await.unwrap();
    let first = Removed::TagName(names[0].clone());
    client.remove_tag_batch(remove(&["full"], first)).await.unwrap();
    client.add_tag_batch(add(both, Added::TagName("new".into()))).await.unwrap();
    assert_eq!(tag_names(&mut client, "full").await.len(), limits::TAGS_PER_RUN);
    harness.end().await;
}

/// Large selections in the UI would otherwise take a commit to disk for each run.
#[tokio::test]
async fn bulk_edits_take_one_transaction_per_page() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let names: Vec<String> = (0..250).map(|number| format!("r{number}")).collect();
    let runs: Vec<&str> = names.iter().map(String::as_str).collect();
    harness.create(&runs).await;
    let stamps = async |after: Option<Stamp>| -> Vec<Stamp> {
        let snapshot = harness.store.snapshot().await.unwrap();
        let listed = changes_list(snapshot.as_ref(), Project::default(), after, 10_000).await.unwrap();
        listed.0.iter().map(|change| change.stamp).collect()
    };
    let mut last = stamps(None).await.last().copied();
    for edit in ["add", "move", "remove"] {
        let changed = match edit {
            "add" => {
                let request = add(&runs, Added::TagName("t".into()));
                client.add_tag_batch(request).await.unwrap().into_inner().changed
            }
            "move" => {
                let request = to(&runs, Target::ExperimentName("e".into()));
                client.move_batch(request).await.unwrap().into_inner().changed
            }
            _ => {
                let request = remove(&runs, Removed::TagName("t".into()));
                client.remove_tag_batch(request).await.unwrap().into_inner().changed
            }
        };
        let mut commits = stamps(last).await;
        last = commits.last().copied();
        assert_eq!((changed, commits.len()), (250, 250), "{edit}");
        commits.dedup();
        assert_eq!(commits.len(), 3, "{edit}");
    }
    assert_eq!(listed_tags(&harness).await[0].run_count, 0);
    harness.end().await;
}
