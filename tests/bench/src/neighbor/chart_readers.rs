//! Acknowledgement latency of writers on an otherwise idle server, and next to clients that ask for charts again and
//! again.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use matyan_proto::series::v1::BucketsRequest;
use matyan_tests::{Server, eventually};
use tokio::task::JoinSet;

use crate::{
    charts, latency, load_threads,
    project::{self, Content},
    table::{Budget, Table, Unit},
};

const CLIENTS: usize = 8;

pub(crate) async fn rows(table: &mut Table, scale: usize) {
    let names = ["alone", "next to 8 clients of charts", "ratio of charts to alone"]
        .map(|how| format!("acknowledgement p99 in a project of charts, {how}"));
    if !names.iter().any(|name| table.wants(name)) {
        return;
    }
    // A separate project: the writers add runs to it.
    let directory = tempfile::tempdir().expect("there is room for a project");
    let content = Content::of_charts();
    project::generate(content, directory.path()).await;
    let server = Server::up_on(directory.path()).await;
    let frames = 1_000 / scale;
    let mut quiet = Vec::new();
    let mut loaded = Vec::new();
    let mut ratios = Vec::new();
    for _ in 0..table.runs() {
        let alone = latency::light_acks(&server, frames).await;
        let readers = load_threads::start(ChartReaders::start(&server, content.runs));
        let during = latency::light_acks(&server, frames).await;
        readers.stop().await;
        quiet.push(alone);
        loaded.push(during);
        ratios.push(during / alone);
    }
    let [alone, during, ratio] = names;
    table.print(&alone, Budget::None, Unit::Milliseconds, quiet);
    table.print(&during, Budget::None, Unit::Milliseconds, loaded);
    table.print(&ratio, Budget::AtMost(2.0), Unit::Times, ratios);
}

/// Clients that each ask for the charts of all series, until this value is dropped.
struct ChartReaders(JoinSet<()>);

impl ChartReaders {
    /// Starts the clients, and waits until each has got its charts once.
    async fn start(server: &Server, runs: u64) -> Self {
        let done = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..CLIENTS {
            let client = charts::connect(server).await;
            tasks.spawn(read_repeatedly(client, charts::request(0..runs), done.clone()));
        }
        eventually("all clients have charts", async || match done.load(Ordering::Relaxed) {
            enough if enough >= CLIENTS => Ok(()),
            few => Err(few),
        })
        .await;
        Self(tasks)
    }

    /// Stops the clients, and fails if one has ended by itself.
    async fn stop(mut self) {
        assert!(self.0.try_join_next().is_none(), "a client ends only when it is stopped");
        self.0.shutdown().await;
    }
}

/// Counts in `done` once it has its first charts.
async fn read_repeatedly(mut client: charts::Client, request: BucketsRequest, done: Arc<AtomicUsize>) {
    let mut is_first = true;
    loop {
        charts::read(&mut client, &request).await;
        if std::mem::take(&mut is_first) {
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
}
