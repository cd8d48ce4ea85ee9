//! Runs of 200 params each: how fast they are created, and how many bytes a run takes in the store.

use std::{
    ops::Range,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use matyan_model::{ids::Project, keys};
use matyan_proto::{
    ingest::v1::{
        CreateRun, Event, IngestionBatch, LogParams, PublishRequest, event::Kind,
        ingest_service_client::IngestServiceClient,
    },
    search::v1::{RunsRequest, search_service_client::SearchServiceClient},
};
use matyan_store::embedded::{EmbeddedStore, Settings};
use matyan_tests::{Server, channel, eventually};
use matyan_value::cbor;
use prost::Message as _;
use tonic::transport::Channel;

use crate::{
    disk::{settled, size_of},
    project::{self, Content},
    storage::bytes_of,
    table::{Budget, Table, Unit},
};

const CONNECTIONS: u64 = 8;

/// Calls that wait for their answers on each connection.
const OUTSTANDING: usize = 4;

/// Runs whose disk space is measured: so many that the journal of the store, of up to 64 MB, is less than a kilobyte
/// a run.
const ON_DISK: u64 = 100_000;

/// Runs whose requests are in memory at a time.
const PREPARED: usize = 10_000;

pub(crate) async fn rows(table: &mut Table, scale: u64) {
    let created = "runs of 200 params created over 8 connections, until found";
    let total = "stored bytes of a run of 200 params";
    let parts = ["document", "indexes"].map(|part| format!("{total}: {part}"));
    if ![created, total].into_iter().chain(parts.iter().map(String::as_str)).any(|row| table.wants(row)) {
        return;
    }
    let mut figures: [Vec<f64>; 4] = [const { Vec::new() }; 4];
    for _ in 0..table.runs() {
        let measured = create(9_000 / scale).await;
        for (figures, figure) in figures.iter_mut().zip(measured) {
            figures.push(figure);
        }
    }
    let [rate, bytes, documents, indexes] = figures;
    table.print(created, Budget::AtLeast(4e3), Unit::PerSecond("runs"), rate);
    table.print(total, Budget::AtMost(5e3), Unit::Bytes, bytes);
    for (row, figures) in parts.iter().zip([documents, indexes]) {
        table.print(row, Budget::None, Unit::Bytes, figures);
    }
}

/// Disk space as users see it, measured once because it takes minutes.
pub(crate) async fn disk_rows(table: &mut Table, scale: u64) {
    let runs = ON_DISK / scale;
    let rows = ["running server", "stopped server, without its journal"]
        .map(|state| format!("`du` of a run of 200 params, {}k runs, {state}", runs / 1_000));
    if !rows.iter().any(|row| table.wants(row)) {
        return;
    }
    let [running, stopped] = disk_of(runs).await.map(|bytes| bytes as f64 / runs as f64);
    table.print(&rows[0], Budget::AtMost(6e3), Unit::Bytes, vec![running]);
    table.print(&rows[1], Budget::None, Unit::Bytes, vec![stopped]);
}

/// Bytes of the data directory of a server with many runs, while it runs and after its end.
async fn disk_of(runs: u64) -> [u64; 2] {
    let content = Content::of_runs(runs);
    let mut server = Server::up().await;
    for first in (0..runs).step_by(PREPARED) {
        publish(&server, requests(content, first..runs.min(first + PREPARED as u64))).await;
    }
    until_found(&server, runs).await;
    let running = settled(&server.data_dir()).await;
    assert!(server.terminate().await.success(), "{}", server.log());
    [running, size_of(&server.data_dir())]
}

fn request(content: Content, index: u64) -> PublishRequest {
    let params = project::params(content, index);
    let kinds = [
        Kind::CreateRun(CreateRun::default()),
        Kind::LogParams(LogParams { value: cbor::encode_map(&params).into() }),
    ];
    let events = kinds.map(|kind| Event { kind: Some(kind), ..Event::default() }).into();
    let batch = IngestionBatch { events, ..IngestionBatch::default() };
    PublishRequest {
        run_id: project::run_id(index),
        batch: batch.encode_to_vec().into(),
        ..PublishRequest::default()
    }
}

/// Requests that create the runs of a project in a range.
pub(crate) fn requests(content: Content, range: Range<u64>) -> Arc<Vec<PublishRequest>> {
    Arc::new(range.map(|index| request(content, index)).collect())
}

/// Sends requests over several connections, each with several calls outstanding.
pub(crate) async fn publish(server: &Server, requests: Arc<Vec<PublishRequest>>) {
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(channel(&server.ingest).await);
    }
    let tasks: Vec<_> = (0..CONNECTIONS as usize * OUTSTANDING)
        .map(|task| {
            let channel = channels[task / OUTSTANDING].clone();
            let requests = requests.clone();
            tokio::spawn(async move {
                let mut client = IngestServiceClient::new(channel);
                for request in requests.iter().skip(task).step_by(CONNECTIONS as usize * OUTSTANDING) {
                    let published = client.publish(request.clone()).await.expect("the server takes the run");
                    assert_eq!(published.into_inner().rejected_items, 0);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a writer does not panic");
    }
}

/// Creates runs. Returns their number per second, and the bytes of a run: all bytes, the bytes of its
/// document, and the bytes of its index rows.
async fn create(runs: u64) -> [f64; 4] {
    let content = Content::of_runs(runs);
    let mut server = Server::up().await;
    let requests = requests(content, 0..runs);
    let start = Instant::now();
    publish(&server, requests).await;
    until_found(&server, runs).await;
    let rate = runs as f64 / start.elapsed().as_secs_f64();
    let directory = server.data_dir();
    assert!(server.terminate().await.success(), "{}", server.log());
    let [all, documents, indexes] = stored(&directory).await.map(|bytes| bytes as f64 / runs as f64);
    [rate, all, documents, indexes]
}

/// Pause between counts of runs.
const COUNT_PAUSE: Duration = Duration::from_millis(100);

/// Waits until a search finds all runs.
pub(crate) async fn until_found(server: &Server, runs: u64) {
    let mut client = SearchServiceClient::new(channel(&server.query).await);
    let request = RunsRequest { count: true, limit: 1, ids_only: true, ..RunsRequest::default() };
    let count = async |client: &mut SearchServiceClient<Channel>| {
        let mut messages =
            client.runs(request.clone()).await.map_err(|error| error.to_string())?.into_inner();
        let mut count = None;
        while let Some(message) = messages.message().await.map_err(|error| error.to_string())? {
            count = message.match_count.or(count);
        }
        Ok::<_, String>(count.unwrap_or_default())
    };
    let mut found = 0;
    while found < runs {
        found = eventually("more runs are found", async || match count(&mut client).await {
            Ok(more) if more > found => Ok(more),
            other => Err(format!("{other:?} of {runs}")),
        })
        .await;
        // Counting follows the changes, so it would take time from the measured work.
        tokio::time::sleep(COUNT_PAUSE).await;
    }
}

/// Bytes of all rows of the project, of its documents, and of its indexes.
async fn stored(data_dir: &Path) -> [usize; 3] {
    let path = data_dir.join("store");
    let store = EmbeddedStore::open(&path, Settings::default()).await.expect("the store of the server opens");
    let mut bytes = [0; 3];
    for (at, rows) in [keys::project_rows, keys::documents, keys::indexes].into_iter().enumerate() {
        bytes[at] = bytes_of(&store, rows(Project(0))).await;
    }
    store.close().await.expect("the store closes");
    bytes
}
