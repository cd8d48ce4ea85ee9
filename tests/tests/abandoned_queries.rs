//! Twenty clients ask for as much computation as a query may take, and leave: the server stops computing
//! for them.

use std::time::Duration;

use matyan_proto::search::v1::{Query, RunsRequest, search_service_client::SearchServiceClient};
use matyan_tests::{
    Server, eventually,
    json::{Ack, JsonWriter, create_run},
};
use serde_json::json;
use tokio::task::JoinSet;
use tonic::transport::Channel;

const RUNS: usize = 200;
const CLIENTS: usize = 20;

/// Takes most of the steps that a query may take for one run, and matches none.
const QUERY: &str = "any(run.x * i + k < 0 for i in range(1000) for k in range(90))";

/// Upper bound of the processor time that the server takes after its clients have left: for the slices
/// that were running, to end the connections, and for the last search of this test. All their queries would
/// take minutes.
const BOUND: Duration = Duration::from_millis(300);

/// Processor time of an idle server between two looks at it.
const IDLE: Duration = Duration::from_millis(10);

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

#[tokio::test(flavor = "multi_thread")]
async fn rule_45_abandoned_queries_take_no_more_processor_time() {
    let server = Server::up().await;
    for number in 0..RUNS {
        let run = format!("run-{number}");
        let mut writer = JsonWriter::connect(&server.ingest, &run).await.expect("the server listens");
        let params = json!({"type": "log_hparams", "value": {"x": 1}});
        assert_eq!(writer.send(&json!([create_run(), params])).await, Ok(Ack::Ok));
    }
    let channel = Channel::from_shared(server.query.clone()).expect("the base is a URL");
    let channel = channel.connect().await.expect("the server listens");
    let mut client = Client::new(channel.clone());
    eventually("all runs are readable", async || match found(&mut client, "run.x == 1").await {
        RUNS => Ok(()),
        other => Err(other),
    })
    .await;

    let before = server.processor_time();
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
    eventually("the server computes", async || match server.processor_time() - before {
        taken if taken > Duration::from_secs(1) => Ok(()),
        taken => Err(taken),
    })
    .await;
    searches.abort_all();
    while let Some(ended) = searches.join_next().await {
        assert!(ended.expect_err("a search ends only when it is abandoned").is_cancelled());
    }

    let left = server.processor_time();
    let mut last = left;
    eventually("the server is idle", async || {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = server.processor_time();
        let taken = now - std::mem::replace(&mut last, now);
        if taken <= IDLE { Ok(()) } else { Err(taken) }
    })
    .await;
    // A server that got no processor time looks idle, but then this waits for what it still does.
    assert_eq!(found(&mut client, "run.x == 1").await, RUNS);
    let taken = server.processor_time() - left;
    println!("{taken:?} after the clients have left");
    assert!(taken < BOUND, "{taken:?}");
}
