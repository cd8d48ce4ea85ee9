//! Searches by twenty clients: crafted ones, which take as much as a query may, and ones for everything
//! that a project has.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use matyan_proto::{
    runs::v1::RunParts,
    search::v1::{Query, RunsRequest},
};
use matyan_tests::{
    Server, eventually,
    json::{Ack, JsonWriter, create_run},
};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::clients::{Clients, search_client};
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

/// Repeats the requests, each by some of the clients, and waits until all clients have begun.
async fn repeat(server: &Server, requests: &[RunsRequest]) -> Clients {
    let begun = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for request in requests.iter().cycle().take(CLIENTS) {
        let mut client = search_client(server).await;
        let request = request.clone();
        let begun = begun.clone();
        tasks.spawn(async move {
            loop {
                let searched = search(&mut client, &request, &begun).await;
                if let Err(status) = searched {
                    check(&status);
                }
            }
        });
    }
    eventually("all clients have begun to search", async || match begun.load(Ordering::Relaxed) {
        enough if enough >= CLIENTS => Ok(()),
        few => Err(few),
    })
    .await;
    Clients::new(tasks)
}

async fn search(client: &mut Client, request: &RunsRequest, begun: &AtomicUsize) -> Result<(), Status> {
    let mut messages = client.runs(request.clone()).await?.into_inner();
    begun.fetch_add(1, Ordering::Relaxed);
    while messages.message().await?.is_some() {}
    Ok(())
}

/// A query may be refused or end early, but the server must not break.
fn check(status: &Status) {
    let is_broken = matches!(status.code(), Code::Internal | Code::Unknown | Code::DataLoss);
    assert!(!is_broken, "{status}");
}
