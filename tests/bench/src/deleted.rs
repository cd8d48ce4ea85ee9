//! Remains of deleted runs: the size of a store after runs were made and deleted three times, in relation to
//! its size after once.

use std::time::Duration;

use matyan_proto::{
    admin::v1::CleanupTombstonesRequest,
    runs::v1::{DeleteBatchRequest, run_service_client::RunServiceClient},
};
use matyan_tests::Server;

use crate::{
    disk::settled,
    project::{self, Content},
    runs::{connect, publish, requests, until_found},
    sweeps::{admin, until_applied},
    table::{Budget, Table, Unit},
};

const ROUNDS: u64 = 3;
/// Runs of one call.
const RUNS_A_CALL: usize = 1_000;
const TOMBSTONE_PAUSE: Duration = Duration::from_millis(500);

pub(crate) async fn rows(table: &mut Table, scale: u64) {
    let work = "disk after three times 10,000 runs made and deleted, to after once";
    table.row(work, Budget::AtMost(1.0), Unit::Times, async || growth(10_000 / scale).await).await;
}

async fn growth(runs: u64) -> f64 {
    let server = Server::up().await;
    let mut sizes = Vec::new();
    for round in 0..ROUNDS {
        let range = round * runs..(round + 1) * runs;
        let ids: Vec<String> = range.clone().map(project::run_id).collect();
        publish(&server, requests(Content::of_runs(ROUNDS * runs), range)).await;
        until_found(&server, runs).await;
        delete_for_good(&server, &ids).await;
        sizes.push(settled(&server.data_dir()).await as f64);
    }
    sizes[sizes.len() - 1] / sizes[0]
}

/// Deletes runs, and removes their tombstones as soon as their blobs are deleted.
pub(crate) async fn delete_for_good(server: &Server, ids: &[String]) {
    let mut client = RunServiceClient::new(connect(&server.query).await);
    for ids in ids.chunks(RUNS_A_CALL) {
        let request = DeleteBatchRequest { run_ids: ids.to_vec() };
        let deleted = client.delete_batch(request).await.expect("runs can be deleted").into_inner();
        assert_eq!(deleted.unknown.len(), 0, "all runs exist");
    }
    until_applied(server).await;
    remove_tombstones(server, ids.len()).await;
}

async fn remove_tombstones(server: &Server, mut left: usize) {
    let request = CleanupTombstonesRequest { older_than_s: 1, force: true, dry_run: false };
    let mut client = admin(server).await;
    while left > 0 {
        tokio::time::sleep(TOMBSTONE_PAUSE).await;
        let mut pages = client.cleanup_tombstones(request).await.expect("the job starts").into_inner();
        while let Some(page) = pages.message().await.expect("the job continues") {
            left -= page.run_ids.len();
        }
    }
}
