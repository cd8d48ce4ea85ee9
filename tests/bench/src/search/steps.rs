//! Time of a step of queries on the largest run. A query may take a million steps for one run, which its limits call
//! 100 ms at most: queries whose steps take longer would hold a thread longer.

use std::time::Instant;

use matyan_proto::search::v1::{Query, RunsRequest};
use matyan_tests::Server;
use serde_json::Value;
use tonic::{Code, Status};

use super::{Client, connect};
use crate::{
    crafted_run,
    table::{Budget, Table, Unit},
};

/// The default of `matyan_ql::QueryLimits::steps_per_candidate`.
const STEPS: f64 = 1e6;

/// 100 ms for a million steps.
const NANOSECONDS: f64 = 100.0;

/// Reads the params of a run, but looks for none, and takes few steps.
const BASE: &str = "run.archived and run[run.name] == 1";

/// Conditions that are always true on the run with most params. A lookup passes over all params until it finds the
/// one that it looks for.
const OF_PARAMS: [(&str, &str); 4] = [
    ("computation", "len(run.hash) * i + k >= 0"),
    ("absent params", "run[str(i * 1000 + k)] != 1"),
    ("params", "run['k' + str(90000 + i)] == 1"),
    ("absent params by `in`", "str(i * 1000 + k) not in run"),
];

/// Conditions that are always true on the run with long lists.
const OF_LISTS: [(&str, &str); 2] = [
    ("elements of a list", "-1 - i not in run.integers"),
    ("keys of an object", "str(i * 1000 + k) not in run.wide"),
];

/// A query that tests a condition in the square of so many rounds.
fn repeated(condition: &str, rounds: u32) -> String {
    format!("all({condition} for i in range({rounds}) for k in range({rounds}))")
}

pub(crate) async fn rows(table: &mut Table) {
    rows_of(table, "6 MiB of params", crafted_run::most_params, &OF_PARAMS).await;
    rows_of(table, "long lists", crafted_run::lists, &OF_LISTS).await;
}

async fn rows_of(table: &mut Table, run: &str, params: fn() -> [Value; 2], conditions: &[(&str, &str)]) {
    let work = |name: &str| format!("a step of a query on a run with {run}: {name}");
    if !conditions.iter().any(|&(name, _)| table.wants(&work(name))) {
        return;
    }
    let server = Server::up().await;
    crafted_run::create(&server, "crafted", &params()).await;
    let mut client = connect(&server).await;
    let mut base = f64::INFINITY;
    for _ in 0..table.runs() {
        let start = Instant::now();
        assert_eq!(search(&mut client, BASE).await.expect("the query takes few steps"), 0);
        base = base.min(start.elapsed().as_secs_f64());
    }
    for &(name, condition) in conditions {
        let once = search(&mut client, &repeated(condition, 1)).await;
        assert_eq!(once.expect("the query takes few steps"), 1, "{condition} is true");
        // All steps of the run end before all rounds.
        let query = repeated(condition, 1_000);
        table
            .row(&work(name), Budget::AtMost(NANOSECONDS), Unit::Nanoseconds, async || {
                let start = Instant::now();
                let outcome = search(&mut client, &query).await;
                let seconds = start.elapsed().as_secs_f64();
                match outcome {
                    // A read of a param that takes the last steps raises.
                    Ok(found) => assert_eq!(found, 0, "{query} takes too few steps"),
                    Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status}"),
                }
                (seconds - base) * 1e9 / STEPS
            })
            .await;
    }
}

/// The number of runs that a search finds.
async fn search(client: &mut Client, text: &str) -> Result<usize, Status> {
    let query = Query { text: text.to_owned(), ..Query::default() };
    let request = RunsRequest { query: Some(query), ..RunsRequest::default() };
    let mut messages = client.runs(request).await?.into_inner();
    let mut found = 0;
    while let Some(message) = messages.message().await? {
        found += message.runs.len();
    }
    Ok(found)
}
