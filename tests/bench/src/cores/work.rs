//! The work whose throughput is measured by cores, and how much of it there is for a server on some cores.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use matyan_tests::Server;
use tokio::task::JoinSet;

use crate::{
    charts, ingest,
    project::{self, Content},
    search, wide,
};

/// Connections that write, for each core of the server.
const CONNECTIONS_A_CORE: usize = 8;

/// Clients that search or ask for charts, for each core of the server, and the requests of each.
const CLIENTS_A_CORE: usize = 4;
const REQUESTS: usize = 200;

/// Runs of the project that is searched.
const SEARCHED_RUNS: u64 = 10_000;

/// A search that no index narrows.
const SEARCH: &str = "full scan, 1 % match";

#[derive(Clone, Copy)]
pub(super) enum Work {
    Json,
    Binary,
    SingleMessages,
    WideRun,
    WideRuns,
    WideJson,
    Searches,
    Charts,
}

pub(super) struct Figures {
    pub(super) per_second: f64,
    /// Mean number of cores that the server kept busy over the measured time.
    pub(super) server: f64,
    /// Cores that the generator kept busy.
    pub(super) generator: f64,
}

impl Work {
    pub(super) const ALL: [Self; 8] = [
        Self::Json,
        Self::Binary,
        Self::SingleMessages,
        Self::WideRun,
        Self::WideRuns,
        Self::WideJson,
        Self::Searches,
        Self::Charts,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON, 100 messages a frame",
            Self::Binary => "binary, 2,000 points a batch",
            Self::SingleMessages => "JSON, one message a frame",
            Self::WideRun => "10,000 series, binary, one run",
            Self::WideRuns => "10,000 series, binary, a run for each core",
            Self::WideJson => "10,000 series, JSON, 8 connections for each core",
            Self::Searches => "searches of 10,000 runs without an index",
            Self::Charts => "charts of series of 10,000 points",
        }
    }

    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::Json | Self::Binary | Self::SingleMessages => "points",
            Self::WideRun | Self::WideRuns | Self::WideJson => "steps",
            Self::Searches => "searches",
            Self::Charts => "charts",
        }
    }

    /// Measures a new server on these cores.
    pub(super) async fn measure(self, cores: &[usize], scale: usize) -> Figures {
        let directory = self.project().await;
        let server = Server::up_on_cores(cores, directory.as_deref()).await;
        let connections = CONNECTIONS_A_CORE * cores.len();
        let clients = CLIENTS_A_CORE * cores.len();
        match self {
            Self::Json => {
                let texts = ingest::frames(2_000 / scale, 100);
                metered(&server, ingest::json(&server, connections, texts, 100)).await
            }
            Self::Binary => {
                let load = ingest::batches(1_000 / scale);
                metered(&server, ingest::binary(&server, connections, load)).await
            }
            Self::SingleMessages => {
                let texts = ingest::frames(8_000 / scale, 1);
                metered(&server, ingest::json(&server, connections, texts, 1)).await
            }
            Self::WideRun => {
                let load = wide::batches(400 / scale);
                metered(&server, wide::binary(&server, 1, load)).await
            }
            Self::WideRuns => {
                let load = wide::batches(400 / scale);
                metered(&server, wide::binary(&server, cores.len(), load)).await
            }
            Self::WideJson => {
                let texts = wide::frames(120 / scale);
                metered(&server, wide::json(&server, cores.len(), texts)).await
            }
            Self::Searches => {
                let clients = search_clients(&server, clients).await;
                metered(&server, searches(clients, REQUESTS / scale)).await
            }
            Self::Charts => {
                let clients = chart_clients(&server, clients).await;
                metered(&server, chart_reads(clients, REQUESTS / scale)).await
            }
        }
    }

    /// The data directory of the project that is read.
    async fn project(self) -> Option<PathBuf> {
        let content = match self {
            Self::Searches => Content::of_runs(SEARCHED_RUNS),
            Self::Charts => Content::of_charts(),
            _ => return None,
        };
        Some(project::cached(content).await)
    }
}

/// Measures work, which returns its throughput.
async fn metered(server: &Server, work: impl Future<Output = f64>) -> Figures {
    let start = Instant::now();
    let server_before = server.processor_time();
    let generator_before = own_processor_time();
    let per_second = work.await;
    let server_time = server.processor_time() - server_before;
    let generator_time = own_processor_time() - generator_before;
    let seconds = start.elapsed().as_secs_f64();
    Figures {
        per_second,
        server: server_time.as_secs_f64() / seconds,
        generator: generator_time.as_secs_f64() / seconds,
    }
}

/// Time of all cores that this process has used.
fn own_processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("a process uses no negative time")
}

fn case() -> search::Case {
    let case = search::cases(SEARCHED_RUNS).into_iter().find(|case| case.name == SEARCH);
    case.expect("this search is one of the cases")
}

/// Clients that have searched once.
async fn search_clients(server: &Server, clients: usize) -> Vec<search::Client> {
    let mut connected = Vec::with_capacity(clients);
    for _ in 0..clients {
        let mut client = search::connect(server).await;
        search::search(&mut client, &case()).await;
        connected.push(client);
    }
    connected
}

/// Searches per second of clients that each wait for a result before they search again.
async fn searches(clients: Vec<search::Client>, requests: usize) -> f64 {
    let all = clients.len() * requests;
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move {
            let case = case();
            for _ in 0..requests {
                search::search(&mut client, &case).await;
            }
        });
    }
    tasks.join_all().await;
    all as f64 / start.elapsed().as_secs_f64()
}

/// Clients that have read the charts of a run once.
async fn chart_clients(server: &Server, clients: usize) -> Vec<charts::Client> {
    let mut connected = Vec::with_capacity(clients);
    for number in 0..clients {
        let mut client = charts::connect(server).await;
        charts::read(&mut client, &charts::request(run_of(number))).await;
        connected.push(client);
    }
    connected
}

/// Charts per second of clients that each ask for all charts of a run, again and again.
async fn chart_reads(clients: Vec<charts::Client>, requests: usize) -> f64 {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, mut client) in clients.into_iter().enumerate() {
        tasks.spawn(async move {
            let request = charts::request(run_of(number));
            let mut read = 0;
            for _ in 0..requests {
                read += charts::read(&mut client, &request).await;
            }
            read
        });
    }
    let charts: u64 = tasks.join_all().await.into_iter().sum();
    charts as f64 / start.elapsed().as_secs_f64()
}

/// The index of the run whose charts a client reads, in a range.
fn run_of(client: usize) -> std::ops::Range<u64> {
    let run = client as u64 % Content::of_charts().runs;
    run..run + 1
}
