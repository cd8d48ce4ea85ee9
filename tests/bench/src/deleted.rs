//! Remains of deleted runs: by how much a store is larger after runs were made and deleted three times than
//! after once.

use std::time::Duration;

use matyan_proto::{
    admin::v1::CleanupTombstonesRequest,
    runs::v1::{DeleteBatchRequest, run_service_client::RunServiceClient},
};
use matyan_tests::{Server, channel};

use crate::{
    disk::{settled, size_of},
    project::{self, Content},
    runs::{publish, requests, until_found},
    sweeps::{admin, until_applied},
    table::{Budget, Table, Unit},
};

const ROUNDS: u64 = 3;
/// Room for data that does not come from deleted runs: an hour of rows about changes, and a table that no merge
/// has taken yet (`docs/internals/architecture.md`).
const SLACK_MEGABYTES: f64 = 8.0;
/// Runs of one call.
const RUNS_A_CALL: usize = 1_000;
const TOMBSTONE_PAUSE: Duration = Duration::from_millis(500);

pub(crate) async fn rows(table: &mut Table, scale: u64) {
    let work = "disk after three times 10,000 runs made and deleted, more than after once";
    table
        .row(work, Budget::AtMost(SLACK_MEGABYTES), Unit::Megabytes, async || growth(10_000 / scale).await)
        .await;
}

/// In megabytes. The journal of the store, which takes up to 64 MB while the server runs, does not count. Changes
/// for watchers, which are kept for an hour, do.
async fn growth(runs: u64) -> f64 {
    let mut server = Server::up().await;
    let mut sizes = Vec::new();
    for round in 0..ROUNDS {
        let range = round * runs..(round + 1) * runs;
        let ids: Vec<String> = range.clone().map(project::run_id).collect();
        publish(&server, requests(Content::of_runs(ROUNDS * runs), range)).await;
        until_found(&server, runs).await;
        delete_for_good(&server, &ids).await;
        settled(&server.data_dir()).await;
        assert!(server.terminate().await.success(), "the server ends");
        sizes.push(size_of(&server.data_dir()) as f64 / 1e6);
        server.start().await;
    }
    sizes[sizes.len() - 1] - sizes[0]
}

/// Deletes runs, and removes their tombstones as soon as their blobs are deleted.
pub(crate) async fn delete_for_good(server: &Server, ids: &[String]) {
    delete(server, ids).await;
    remove_tombstones(server, ids.len()).await;
}

pub(crate) async fn delete(server: &Server, ids: &[String]) {
    let mut client = RunServiceClient::new(channel(&server.query).await);
    for ids in ids.chunks(RUNS_A_CALL) {
        let request = DeleteBatchRequest { run_ids: ids.to_vec() };
        let deleted = client.delete_batch(request).await.expect("runs can be deleted").into_inner();
        assert_eq!(deleted.unknown.len(), 0, "all runs exist");
    }
    until_applied(server).await;
}

pub(crate) async fn remove_tombstones(server: &Server, mut left: usize) {
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
