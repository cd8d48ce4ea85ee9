//! Searches by twenty clients: crafted ones, which take as much as a query may, and ones for everything
//! that a project has.

use std::sync::Arc;

use matyan_proto::{
    runs::v1::RunParts,
    search::v1::{Query, RunsRequest, RunsResponse},
};
use matyan_tests::{
    Server, eventually,
    json::{Ack, JsonWriter, create_run},
};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use tonic::{Code, Status, Streaming};

use super::clients::{Begun, Clients, FirstAttempt, Outcomes, PAUSE, search_client};
use crate::search::{ALL, Client, expensive};

const CLIENTS: usize = 20;

/// Run whose params make queries expensive.
const CRAFTED_RUN: &str = "crafted";

/// Params through which a lookup has to pass.
const WIDE: usize = 20_000;
/// Integers in a list whose values have equal low bits, for tables that are indexed by them.
const INTEGERS: i64 = 40_000;

/// In turn: computation, absent params in a wide run, a table of crafted integers, a table of many keys, and
/// a long list that is decoded for nothing.
const CRAFTED: [&str; 5] = [
    expensive::QUERY,
    "all(run.absent != 1 for i in range(1000) for k in range(300)) and False",
    "len(set(run.integers)) < 0",
    "'absent' in run.wide and run.wide['absent'] == 1",
    "sum(run.integers) < 0",
];

pub(super) async fn crafted(server: &Server) -> Clients {
    let wide: Map<String, Value> = (0..WIDE).map(|number| (format!("key_{number:05}"), json!(1))).collect();
    let integers: Vec<i64> = (0..INTEGERS).map(|number| number << 16).collect();
    let params = json!({"wide": wide, "integers": integers});
    create_run_with(server, CRAFTED_RUN, &params).await;
    let requests = CRAFTED.map(|text| RunsRequest { query: Some(query(text)), ..RunsRequest::default() });
    repeat(server, &requests).await
}

pub(super) async fn of_everything(server: &Server) -> Clients {
    let request = RunsRequest {
        query: Some(query(ALL)),
        parts: Some(RunParts { props: true, params: true, ..RunParts::default() }),
        ..RunsRequest::default()
    };
    repeat(server, &[request]).await
}

fn query(text: &str) -> Query {
    Query { text: text.to_owned(), ..Query::default() }
}

/// Creates a run with params, and waits until it is readable.
pub(super) async fn create_run_with(server: &Server, run: &str, params: &Value) {
    let mut writer = JsonWriter::connect(&server.ingest, run).await.expect("the server listens");
    let frame = json!([create_run(), {"type": "log_hparams", "value": params}]);
    assert_eq!(writer.send(&frame).await, Ok(Ack::Ok));
    let path = format!("/api/v1/rest/runs/{run}/info/");
    eventually("the run is readable", async || server.get(&path).await).await;
}

/// Repeats the requests, each by some of the clients, and waits until the server has accepted or refused a
/// search of every client.
async fn repeat(server: &Server, requests: &[RunsRequest]) -> Clients {
    let outcomes = Arc::new(Outcomes::default());
    let begun = Begun::default();
    let mut tasks = JoinSet::new();
    for request in requests.iter().cycle().take(CLIENTS) {
        let client = search_client(server).await;
        tasks.spawn(search_repeatedly(client, request.clone(), begun.first_attempt(), outcomes.clone()));
    }
    begun.wait_for(CLIENTS).await;
    Clients::new(tasks, outcomes)
}

async fn search_repeatedly(
    mut client: Client,
    request: RunsRequest,
    mut first: FirstAttempt,
    outcomes: Arc<Outcomes>,
) {
    loop {
        let held = outcomes.hold();
        let accepted = client.runs(request.clone()).await;
        first.end();
        match accepted {
            Ok(response) => {
                outcomes.accept();
                if let Err(status) = read_all(response.into_inner()).await {
                    check(&status);
                }
            }
            Err(status) => {
                drop(held);
                outcomes.refuse();
                check(&status);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn read_all(mut messages: Streaming<RunsResponse>) -> Result<(), Status> {
    while messages.message().await?.is_some() {}
    Ok(())
}

/// A query may be refused or end early, but the server must not break.
fn check(status: &Status) {
    let is_broken = matches!(status.code(), Code::Internal | Code::Unknown | Code::DataLoss);
    assert!(!is_broken, "{status}");
}
