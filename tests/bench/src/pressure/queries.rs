//! Searches by twenty clients: crafted searches, which take as much as a query may, and searches for
//! everything that a project has.

use std::sync::Arc;

use matyan_proto::{
    runs::v1::RunParts,
    search::v1::{Query, RunsRequest, RunsResponse},
};
use matyan_tests::Server;
use tokio::task::JoinSet;
use tonic::{Code, Status, Streaming};

use super::clients::{Begun, Clients, FirstAttempt, Outcomes, PAUSE, search_client};
use crate::{
    crafted_run,
    search::{ALL, Client, expensive},
};

const CLIENTS: usize = 20;

/// In turn: computation, params that the largest run does not have, a table of crafted integers, a table of many
/// keys, and a long list that is decoded for nothing.
const CRAFTED: [&str; 5] = [
    expensive::QUERY,
    "run.hash == 'most-params' and any(run[str(i * 1000 + k)] == 1 for i in range(1000) for k in range(300))",
    "len(set(run.integers)) < 0",
    "'absent' in run.wide and run.wide['absent'] == 1",
    "sum(run.list) < 0",
];

pub(super) async fn crafted(server: &Server) -> Clients {
    crafted_run::create(server, "most-params", &crafted_run::most_params()).await;
    crafted_run::create(server, "lists", &crafted_run::lists()).await;
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
