//! Twenty clients start searches as expensive as the server permits, and disconnect: the server stops
//! evaluating the searches.

use matyan_proto::search::v1::{Query, RunsRequest, search_service_client::SearchServiceClient};
use matyan_tests::{
    Server, channel, eventually,
    json::{Ack, JsonWriter, create_run},
};
use serde_json::json;
use tokio::task::JoinSet;
use tonic::transport::Channel;

const RUNS: usize = 200;
const CLIENTS: usize = 20;

/// Number of searches after the clients have left. Before each slice of such a search, a slice of an abandoned query
/// that is still evaluated has to end.
const LATER: usize = 50;

/// Takes most of the steps that a query may take for one run, and matches none.
const QUERY: &str = "any(run.x * i + k < 0 for i in range(1000) for k in range(90))";

/// A query that is evaluated for each run, and matches all.
const SHORT_QUERY: &str = "run.x + 0 == 1";

fn request(text: &str) -> RunsRequest {
    let query = Query { text: text.to_owned(), ..Query::default() };
    RunsRequest { query: Some(query), ..RunsRequest::default() }
}

type Client = SearchServiceClient<Channel>;

async fn found(client: &mut Client, text: &str) -> usize {
    let mut messages = client.runs(request(text)).await.expect("the query is valid").into_inner();
    let mut found = 0;
    while let Some(message) = messages.message().await.expect("the search ends well") {
        found += message.runs.len();
    }
    found
}

/// Number of slices of queries that the server has started to evaluate.
async fn slices(server: &Server) -> u64 {
    let metrics = reqwest::get(format!("{}/metrics/", server.query)).await.expect("the server answers");
    let text = metrics.text().await.expect("metrics are text");
    let value = text.lines().find_map(|line| line.strip_prefix("matyan_query_slices_total "));
    value.expect("the server has this metric").parse().expect("a whole number")
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_45_abandoned_queries_are_not_evaluated_further() {
    let server = Server::up().await;
    for number in 0..RUNS {
        let run = format!("run-{number}");
        let mut writer = JsonWriter::connect(&server.ingest, &run).await.expect("the server listens");
        let params = json!({"type": "log_hparams", "value": {"x": 1}});
        assert_eq!(writer.send(&json!([create_run(), params])).await, Ok(Ack::Ok));
    }
    let channel = channel(&server.query).await;
    let mut client = Client::new(channel.clone());
    eventually("all runs are readable", async || match found(&mut client, SHORT_QUERY).await {
        RUNS => Ok(()),
        other => Err(other),
    })
    .await;
    let before = slices(&server).await;
    for _ in 0..LATER {
        assert_eq!(found(&mut client, SHORT_QUERY).await, RUNS);
    }
    let of_short_queries = slices(&server).await - before;
    assert!(of_short_queries >= 3 * LATER as u64, "a search has several slices: {of_short_queries}");

    let mut searches = JoinSet::new();
    for _ in 0..CLIENTS {
        let mut client = Client::new(channel.clone());
        searches.spawn(async move {
            let mut messages = client.runs(request(QUERY)).await.expect("the query is valid").into_inner();
            while let Some(message) = messages.message().await.expect("the search ends well") {
                assert!(message.runs.is_empty() && !message.done, "the query takes longer than this test");
            }
        });
    }
    let before = slices(&server).await;
    eventually("the server evaluates all queries", async || match slices(&server).await - before {
        begun if begun > 4 * CLIENTS as u64 => Ok(()),
        begun => Err(begun),
    })
    .await;
    searches.abort_all();
    while let Some(ended) = searches.join_next().await {
        assert!(ended.expect_err("a search ends only when it is abandoned").is_cancelled());
    }

    // This search uses the connection of the abandoned searches, so the server has seen them end before it
    // starts.
    assert_eq!(found(&mut client, SHORT_QUERY).await, RUNS);
    let left = slices(&server).await;
    for _ in 0..LATER {
        assert_eq!(found(&mut client, SHORT_QUERY).await, RUNS);
    }
    // A search may have a slice more or less than before: it waits for others in one of two places.
    let begun = (slices(&server).await - left).saturating_sub(of_short_queries);
    println!("{begun} slices of {CLIENTS} queries after their clients have left");
    let most = CLIENTS + LATER;
    assert!(begun <= most as u64, "{begun} slices: each query may start at most one more");
}
