//! Edits of series through the API.

use matyan_proto::{
    common::v1::{SeriesKey, SeriesType, StepRange},
    runs::v1::{WatchRequest, run_service_client::RunServiceClient},
    search::v1::{Query, RunsRequest, search_service_client::SearchServiceClient},
    series::v1::{series_service_client::SeriesServiceClient, *},
};
use tonic::{Code, service::Routes};

use crate::backend::harness::{Harness, all, failure, not_found, wrong_field};

type Client = SeriesServiceClient<Routes>;

const REQUEST_ID: &str = "0b9c3f5e-6a0f-4a52-8f6b-9d1a";
const METRIC: i32 = SeriesType::Metric as i32;

fn key(name: &str) -> Option<SeriesKey> {
    Some(SeriesKey { name: name.to_owned(), context: String::new() })
}

fn rename(name: &str, new: &str, request_id: &str) -> RenameRequest {
    RenameRequest {
        run_id: "r".into(),
        r#type: METRIC,
        key: key(name),
        new_key: key(new),
        request_id: request_id.to_owned(),
    }
}

fn delete_steps(name: &str, start: Option<i64>, stop: Option<i64>) -> DeleteStepsRequest {
    let steps = Some(StepRange { start, stop });
    DeleteStepsRequest { run_id: "r".into(), r#type: METRIC, key: key(name), steps, ..Default::default() }
}

/// Names and numbers of points of the metrics.
async fn listed(client: &mut Client) -> Vec<(String, u64, Option<f64>)> {
    let request = ListRequest { run_id: "r".into(), types: vec![METRIC], ..Default::default() };
    let listed = all(client.list(request).await.unwrap()).await;
    let listed = listed.into_iter().flat_map(|message| message.series);
    let mut listed: Vec<_> = listed.map(|info| (info.name, info.count, info.max)).collect();
    listed.sort_by(|one, other| one.0.cmp(&other.0));
    listed
}

#[tokio::test]
async fn series_are_edited_once_and_at_once() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    harness.create(&["r"]).await;
    let values: Vec<f64> = (0..100).map(f64::from).collect();
    harness.log_points("r", &[("a", "", &values[..])]).await;
    // Not applied yet, and covered nevertheless.
    let name = |name: &str, count| (name.to_owned(), count, Some(count as f64 - 1.0));
    client.rename(rename("a", "b", REQUEST_ID)).await.unwrap();
    assert_eq!(listed(&mut client).await, [name("b", 100)]);
    harness.log_points("r", &[("a", "", &values[..10])]).await;
    client.rename(rename("a", "b", REQUEST_ID)).await.unwrap();
    harness.applied().await;
    assert_eq!(listed(&mut client).await, [name("a", 10), name("b", 100)], "it was a repeat");

    let (code, _, metadata) = failure(client.rename(rename("a", "b", "")).await);
    assert_eq!(code, Code::AlreadyExists);
    assert!(metadata.contains(&("name".to_owned(), "b".to_owned())), "{metadata:?}");
    not_found(client.rename(rename("no", "c", "")).await, "series", "no");

    client.delete_steps(delete_steps("b", Some(50), None)).await.unwrap();
    assert_eq!(listed(&mut client).await, [name("a", 10), name("b", 50)]);
    let search = async |text: &str| {
        let query = Some(Query { text: text.to_owned(), ..Query::default() });
        let request = RunsRequest { query, ids_only: true, ..RunsRequest::default() };
        let found = all(SearchServiceClient::new(harness.routes()).runs(request).await.unwrap()).await;
        found.into_iter().map(|message| message.run_ids.len()).sum::<usize>()
    };
    assert_eq!(search("run.metrics['b'].last == 49").await, 1);
    assert_eq!(search("run.metrics['b'].last == 99").await, 0);
    let delete = DeleteRequest { run_id: "r".into(), r#type: METRIC, key: key("b"), ..Default::default() };
    client.delete(delete.clone()).await.unwrap();
    assert_eq!(listed(&mut client).await, [name("a", 10)]);
    not_found(client.delete(delete).await, "series", "b");
    harness.end().await;
}

#[tokio::test]
async fn invalid_edits_are_refused() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    harness.create(&["r"]).await;
    wrong_field(client.rename(RenameRequest { new_key: None, ..rename("a", "b", "") }).await, "new_key");
    wrong_field(client.rename(RenameRequest { key: None, ..rename("a", "b", "") }).await, "key");
    wrong_field(client.rename(RenameRequest { r#type: 0, ..rename("a", "b", "") }).await, "type");
    wrong_field(client.rename(rename("a", "b", "short")).await, "request_id");
    wrong_field(client.delete_steps(delete_steps("a", Some(5), Some(5))).await, "steps");
    let unknown = RenameRequest { run_id: "no".into(), ..rename("a", "b", "") };
    not_found(client.rename(unknown).await, "run", "no");
    harness.end().await;
}

/// A watcher that continues from its last step would keep what was deleted.
#[tokio::test]
async fn watchers_learn_of_edits() {
    let harness = Harness::new().await;
    harness.create(&["r"]).await;
    let values: Vec<f64> = (0..100).map(f64::from).collect();
    harness.log_points("r", &[("a", "", &values[..10])]).await;
    harness.applied().await;
    let request = WatchRequest { snapshot: true, settle_ms: Some(0), ..WatchRequest::default() };
    let mut changes = RunServiceClient::new(harness.routes()).watch(request).await.unwrap().into_inner();
    let mut next = async || loop {
        let message = changes.message().await.unwrap().unwrap();
        if let Some(change) = message.changes.into_iter().next() {
            return change.series_edits;
        }
    };
    assert_eq!(next().await, 0);
    let mut client = Client::new(harness.routes());
    client.delete_steps(delete_steps("a", Some(5), None)).await.unwrap();
    assert_eq!(next().await, 1);
    harness.end().await;
}
