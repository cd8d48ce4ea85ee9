//! Acknowledgement latency of writers on an otherwise idle server, and next to clients that repeat
//! searches that are as expensive as a query may be.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use matyan_proto::search::v1::{Query, RunsRequest};
use matyan_tests::{Server, eventually};
use tokio::task::JoinSet;
use tonic::Code;

use super::connect;
use crate::{
    latency, load_threads,
    project::{self, Content},
    table::{Budget, Table, Unit},
};

const RUNS: u64 = 10_000;
const CLIENTS: usize = 20;

/// Takes most of the steps that a query may take for one run.
pub(crate) const QUERY: &str = "any(run.hparams.seed * i + k < 0 for i in range(1000) for k in range(90))";

pub(crate) async fn rows(table: &mut Table, scale: u64) {
    let work = |how: &str| format!("acknowledgement p99 at 10k points/s, {how}");
    let names = ["alone", "next to 20 expensive searches", "ratio of expensive searches to alone"].map(work);
    if !names.iter().any(|name| table.wants(name)) {
        return;
    }
    // A separate project: the writers add runs to it.
    let directory = tempfile::tempdir().expect("there is room for a project");
    project::generate(Content::of_runs(RUNS / scale), directory.path()).await;
    let server = Server::up_on(directory.path()).await;
    let frames = 1_000 / usize::try_from(scale).expect("a small number");
    let mut quiet = Vec::new();
    let mut loaded = Vec::new();
    let mut ratios = Vec::new();
    for _ in 0..table.runs() {
        let alone = latency::light_acks(&server, frames).await;
        let searches = load_threads::start(Searches::start(&server));
        let during = latency::light_acks(&server, frames).await;
        searches.stop().await;
        quiet.push(alone);
        loaded.push(during);
        ratios.push(during / alone);
    }
    let [alone, during, ratio] = names;
    table.print(&alone, Budget::None, Unit::Milliseconds, quiet);
    table.print(&during, Budget::None, Unit::Milliseconds, loaded);
    table.print(&ratio, Budget::AtMost(2.0), Unit::Times, ratios);
}

/// Searches that are repeated until this value is dropped.
struct Searches(JoinSet<()>);

impl Searches {
    /// Starts to search, and waits until the server evaluates queries.
    async fn start(server: &Server) -> Self {
        let started = Arc::new(AtomicUsize::new(0));
        let before = server.processor_time();
        let mut tasks = JoinSet::new();
        for _ in 0..CLIENTS {
            let mut client = connect(server).await;
            let started = started.clone();
            tasks.spawn(async move {
                loop {
                    let query = Query { text: QUERY.to_owned(), ..Query::default() };
                    let request = RunsRequest { query: Some(query), ..RunsRequest::default() };
                    let mut messages = client.runs(request).await.expect("the query is valid").into_inner();
                    started.fetch_add(1, Ordering::Relaxed);
                    loop {
                        match messages.message().await {
                            Ok(Some(_)) => {}
                            Ok(None) => break,
                            // The search has used up its steps.
                            Err(status) if status.code() == Code::ResourceExhausted => break,
                            Err(status) => panic!("{status}"),
                        }
                    }
                }
            });
        }
        eventually("all searches run", async || {
            let taken = server.processor_time() - before;
            let started = started.load(Ordering::Relaxed);
            if started >= CLIENTS && taken.as_secs() > 0 { Ok(()) } else { Err((started, taken)) }
        })
        .await;
        Self(tasks)
    }

    /// Stops the searches, and fails if a search has ended by itself.
    async fn stop(mut self) {
        assert!(self.0.try_join_next().is_none(), "a search ends only when it is stopped");
        self.0.shutdown().await;
    }
}
