//! Disk space as users see it: `du` of the data directory of a running server, while a project is
//! live and after its runs have finished.

use std::{
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use matyan_tests::{Server, binary::BinaryWriter};

use crate::{
    ingest::{finish, run_id, send_batches, until_readable},
    load,
    table::{Budget, Table, Unit},
};

const CONNECTIONS: usize = 8;
const POINTS_A_BATCH: usize = 2_000;

/// A size that does not change for this long is final.
const SETTLED: Duration = Duration::from_secs(15);

pub(crate) async fn rows(table: &mut Table, scale: usize) {
    for (millions, budget) in [(1, 12.0), (10, 5.0), (100, 5.0)] {
        let rows = ["live", "finished"].map(|state| format!("disk a point, {millions}M points, {state}"));
        if !rows.iter().any(|row| table.wants(row)) {
            continue;
        }
        let mut live = Vec::new();
        let mut finished = Vec::new();
        for _ in 0..table.runs() {
            let figures = of_project(millions * 1_000_000 / scale).await;
            live.push(figures[0]);
            finished.push(figures[1]);
        }
        for (row, figures) in rows.iter().zip([live, finished]) {
            table.print(row, Budget::AtMost(budget), Unit::Bytes, figures);
        }
    }
}

async fn of_project(points: usize) -> [f64; 2] {
    let server = Server::up().await;
    let batches = points / CONNECTIONS / POINTS_A_BATCH;
    let load = Arc::new(load::binary_batches(batches, POINTS_A_BATCH, 4));
    let start = Instant::now();
    for connection in 0..CONNECTIONS {
        let mut writer = BinaryWriter::new(&run_id(connection));
        writer.connect(&server.ingest).await.expect("the server listens");
        send_batches(writer, load.clone()).await;
    }
    until_readable(&server, CONNECTIONS, batches * POINTS_A_BATCH, start).await;
    drop(load);
    let live = settled(&server.data_dir()).await;
    for connection in 0..CONNECTIONS {
        finish(&server, connection).await;
    }
    let finished = settled(&server.data_dir()).await;
    [live, finished].map(|bytes| bytes as f64 / points as f64)
}

/// The size of a directory once it does not change any more.
pub(crate) async fn settled(directory: &Path) -> u64 {
    let mut size = size_of(directory);
    let mut since = Instant::now();
    while since.elapsed() < SETTLED {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = size_of(directory);
        if now != size {
            size = now;
            since = Instant::now();
        }
    }
    size
}

/// Bytes that the files below a directory occupy. Files that vanish during the count do not count.
pub(crate) fn size_of(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
