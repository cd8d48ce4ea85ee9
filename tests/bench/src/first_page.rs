//! The first page of a table after a restart, sorted by a metric: it reads the metric of every run.

use std::time::{Duration, Instant};

use matyan_maintenance::COLLECT_METRICS;
use matyan_proto::admin::v1::ListJobsRequest;
use matyan_tests::Server;

use crate::{
    runs::until_found,
    scale::runs::{create, page},
    search,
    sweeps::admin,
    table::{Budget, Table, Unit},
};

const RUNS: u64 = 1_000_000;

/// Time without the job that stores the values of metrics of ended runs together, after which the job has nothing left
/// to do: it starts each minute.
const IDLE: Duration = Duration::from_secs(90);

const JOB_PAUSE: Duration = Duration::from_millis(100);

pub(crate) async fn rows(table: &mut Table, scale: u64) {
    let runs = RUNS / scale;
    let work = format!("first page of {}k runs after a restart, by a metric", runs / 1_000);
    if !table.wants(&work) {
        return;
    }
    let mut server = Server::up().await;
    create(&server, 0, runs).await;
    until_found(&server, runs).await;
    until_collected(&server).await;
    table
        .row(&work, Budget::AtMost(300.0), Unit::Milliseconds, async || {
            assert!(server.terminate().await.success(), "{}", server.log());
            server.start().await;
            page(&mut search::connect(&server).await, 0).await
        })
        .await;
}

/// Waits until the job has stored the values of all runs.
async fn until_collected(server: &Server) {
    let mut client = admin(server).await;
    let mut idle_since = Instant::now();
    while idle_since.elapsed() < IDLE {
        tokio::time::sleep(JOB_PAUSE).await;
        let jobs = client.list_jobs(ListJobsRequest::default()).await.expect("the jobs are listed");
        if jobs.into_inner().jobs.iter().any(|job| job.name == COLLECT_METRICS && !job.holder.is_empty()) {
            idle_since = Instant::now();
        }
    }
}
