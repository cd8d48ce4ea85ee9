//! Two hundred requests whose answers nobody reads: for the merged params of a project, or for a run with as many
//! params as it may have.

use std::{sync::Arc, time::Duration};

use matyan_tests::{
    Server, eventually,
    loopback::{authority, connect},
};
use serde_json::{Map, Value, json};
use tokio::{io::AsyncWriteExt, task::JoinSet, time::timeout};

use super::clients::{ADDRESS, Clients, Outcomes, PAUSE, http_client};
use crate::crafted_run;

const CALLS: usize = 200;

/// Runs that have their own params, and their number in each run. The answer has about 12 MB.
const RUNS: usize = 50;
const PARAMS: usize = 2_000;
const NAME_BYTES: usize = 100;

/// Texts of quotes in the params of one run, in each of two messages. A quote takes two bytes in JSON, so the answer
/// has about 12 MB.
const TEXTS: usize = 30;
const QUOTES: usize = 100_000;

/// Lower bound for the answer, without which the row would measure nothing.
const ANSWER_BYTES: usize = 4 << 20;

/// Receive buffer of a client, so that the system holds little of an answer.
const RECEIVE_BYTES: u32 = 4_096;

/// Time after which a client asks once more. The server may have given up the answer before.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn of_merged_params(server: &Server) -> Clients {
    for number in 0..RUNS {
        crafted_run::create(server, &format!("params-{number}"), &[params(number)]).await;
    }
    start(server, "/api/v1/rest/projects/params/").await
}

pub(super) async fn of_run_info(server: &Server) -> Clients {
    crafted_run::create(server, "quotes", &[quotes("a"), quotes("b")]).await;
    start(server, "/api/v1/rest/runs/quotes/info/").await
}

async fn start(server: &Server, path: &str) -> Clients {
    let url = format!("{}{path}", server.query);
    let client = http_client();
    eventually("the answer is large", async || {
        let answer = client.get(&url).send().await.map_err(|error| error.to_string())?;
        let body = answer.bytes().await.map_err(|error| error.to_string())?;
        if body.len() >= ANSWER_BYTES { Ok(()) } else { Err(format!("{} bytes", body.len())) }
    })
    .await;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", authority(&server.query));
    let outcomes = Arc::new(Outcomes::default());
    let mut tasks = JoinSet::new();
    for _ in 0..CALLS {
        tasks.spawn(ask_repeatedly(server.query.clone(), request.clone(), outcomes.clone()));
    }
    // The others may wait until the server has memory for them.
    eventually("an answer begins", async || match outcomes.accepted() {
        0 => Err("none has begun"),
        _ => Ok(()),
    })
    .await;
    Clients::new(tasks, outcomes)
}

/// Params with names that no other run has.
fn params(run: usize) -> Value {
    let names = (0..PARAMS).map(|number| format!("{run:03}_{number:05}_{}", "x".repeat(NAME_BYTES)));
    let params: Map<String, Value> = names.map(|name| (name, json!(run))).collect();
    Value::Object(params)
}

/// Params whose names have this prefix.
fn quotes(prefix: &str) -> Value {
    let text = "\"".repeat(QUOTES);
    let params: Map<String, Value> =
        (0..TEXTS).map(|number| (format!("{prefix}{number}"), json!(text))).collect();
    Value::Object(params)
}

/// Asks, lets the answer wait, and begins again.
async fn ask_repeatedly(base: String, request: String, outcomes: Arc<Outcomes>) {
    loop {
        // A server without room for the connection may refuse or end it.
        if let Ok(mut socket) = connect(ADDRESS, &base, Some(RECEIVE_BYTES)).await
            && socket.write_all(request.as_bytes()).await.is_ok()
            && timeout(PATIENCE, socket.readable()).await.is_ok()
        {
            outcomes.accept();
            let _held = outcomes.hold();
            tokio::time::sleep(PATIENCE).await;
        } else {
            outcomes.refuse();
            tokio::time::sleep(PAUSE).await;
        }
    }
}
