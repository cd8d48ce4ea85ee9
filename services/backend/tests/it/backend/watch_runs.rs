//! Watching the first runs of a search: their order, and runs that come and go.

use std::collections::BTreeMap;

use matyan_proto::{
    common::v1::SeriesKey,
    runs::v1::{DeleteRequest, RunParts, run_change::Change, run_service_client::RunServiceClient},
    search::v1::{
        MetricValue, Query, Sort, WatchRunsRequest, WatchRunsResponse,
        search_service_client::SearchServiceClient, sort::By,
    },
};
use tonic::{Streaming, service::Routes};

use crate::backend::{
    harness::{Harness, create, failure, tag, until, wrong_field},
    projects::of,
};

type Client = SearchServiceClient<Routes>;

fn request(limit: u32) -> WatchRunsRequest {
    let key = SeriesKey { name: "score".into(), context: String::new() };
    let sort = Sort { by: Some(By::Metric(key)), descending: true, metric_value: MetricValue::Last.into() };
    let parts = Some(RunParts { props: true, ..RunParts::default() });
    WatchRunsRequest { sort: vec![sort], limit, parts, settle_ms: Some(0), ..WatchRunsRequest::default() }
}

/// A table as a watcher sees it.
#[derive(Default)]
struct Shown {
    runs: BTreeMap<String, usize>,
    order: Vec<String>,
    is_complete: bool,
}

impl Shown {
    fn take(&mut self, message: WatchRunsResponse) {
        for change in message.changes {
            match change.change.unwrap() {
                Change::Run(run) => {
                    assert!(run.props.is_some());
                    *self.runs.entry(change.run_id).or_default() += 1;
                }
                Change::Left(_) => {
                    assert!(self.runs.remove(&change.run_id).is_some(), "only shown runs leave")
                }
            }
        }
        if let Some(order) = message.order {
            self.order = order.run_ids;
            self.is_complete = true;
            let mut sorted = self.order.clone();
            sorted.sort();
            assert!(sorted.iter().eq(self.runs.keys()), "{sorted:?} are not {:?}", self.runs);
        }
    }

    async fn until_order(&mut self, stream: &mut Streaming<WatchRunsResponse>, order: &[&str]) {
        until(stream, |message| {
            self.take(message);
            self.is_complete && self.order == order
        })
        .await;
    }
}

async fn watch(harness: &Harness, project: &str, request: WatchRunsRequest) -> Streaming<WatchRunsResponse> {
    Client::new(harness.routes()).watch_runs(of(project, request)).await.unwrap().into_inner()
}

async fn score(harness: &Harness, run: &str, score: f64) {
    harness.log_points(run, &[("score", "", &[score])]).await;
}

#[tokio::test]
async fn runs_come_and_go_in_the_order_of_the_search() {
    let harness = Harness::new().await;
    for (run, value) in [("a", 3.0), ("b", 2.0), ("c", 1.0)] {
        harness.log(run, [create()]).await;
        score(&harness, run, value).await;
    }
    harness.applied().await;
    let mut stream = watch(&harness, "", request(2)).await;
    let mut shown = Shown::default();
    shown.until_order(&mut stream, &["a", "b"]).await;
    score(&harness, "c", 5.0).await;
    shown.until_order(&mut stream, &["c", "a"]).await;
    score(&harness, "a", 9.0).await;
    shown.until_order(&mut stream, &["a", "c"]).await;
    assert_eq!(shown.runs["a"], 2);

    // A change that does not concern the order is sent too.
    harness.log("c", [tag("t")]).await;
    until(&mut stream, |message| {
        shown.take(message);
        shown.runs["c"] == 2
    })
    .await;
    // A change of another run is not.
    harness.log("b", [tag("t")]).await;
    harness.applied().await;
    let mut runs = RunServiceClient::new(harness.routes());
    runs.delete(DeleteRequest { run_id: "a".into() }).await.unwrap();
    shown.until_order(&mut stream, &["c", "b"]).await;
    assert_eq!(shown.runs["b"], 1);
    harness.end().await;
}

#[tokio::test]
async fn only_runs_that_match_and_belong_to_the_project_are_watched() {
    let harness = Harness::new().await;
    harness.create_project("other").await;
    let query = Some(Query { text: "'wanted' in run.tags".into(), ..Query::default() });
    let wanted = WatchRunsRequest { query, ..request(10) };
    let mut stream = watch(&harness, "", wanted.clone()).await;
    let mut shown = Shown::default();
    let mut other = watch(&harness, "other", wanted).await;
    let mut of_other = Shown::default();
    shown.until_order(&mut stream, &[]).await;
    of_other.until_order(&mut other, &[]).await;
    harness.log("a", [create()]).await;
    harness.log("b", [create(), tag("wanted")]).await;
    shown.until_order(&mut stream, &["b"]).await;
    harness.log_in("other", "z", [create(), tag("wanted")]).await;
    of_other.until_order(&mut other, &["z"]).await;
    assert_eq!(shown.runs.len(), 1);
    harness.end().await;
}

#[tokio::test]
async fn invalid_requests_name_the_field() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    wrong_field(client.watch_runs(request(0)).await, "limit");
    wrong_field(client.watch_runs(request(1_000_000)).await, "limit");
    wrong_field(
        client.watch_runs(WatchRunsRequest { settle_ms: Some(60_001), ..request(1) }).await,
        "settle_ms",
    );
    let query = Some(Query { text: "run.name ==".into(), ..Query::default() });
    let refused = client.watch_runs(WatchRunsRequest { query, ..request(1) }).await;
    assert_eq!(failure(refused).1, "INVALID_QUERY");
    harness.end().await;
}
