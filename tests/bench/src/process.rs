//! The process itself: startup time, and idle memory.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use matyan_tests::{Server, binary::BinaryWriter};

use crate::{
    ingest::{send_batches, until_readable},
    load,
    table::{Budget, Table, Unit},
};

pub(crate) async fn rows(table: &mut Table, scale: usize) {
    let work = "`matyan up` from exec to ready, empty";
    table.row(work, Budget::AtMost(0.05), Unit::Seconds, async || start_up().await).await;
    let work = "memory of `matyan up`, idle fresh";
    table
        .row(work, Budget::AtMost(40.0), Unit::Megabytes, async || {
            let server = Server::up().await;
            idle_memory(&server).await
        })
        .await;
    let work = "memory of `matyan up`, idle after 1 GB ingested";
    table.row(work, Budget::AtMost(80.0), Unit::Megabytes, async || after_ingest(scale).await).await;
}

async fn start_up() -> f64 {
    let mut server = Server::up().await;
    server.kill();
    std::fs::remove_dir_all(server.data_dir()).expect("the data directory can be removed");
    let start = Instant::now();
    server.start().await;
    start.elapsed().as_secs_f64()
}

/// Resident megabytes: the minimum over the five seconds in which memory is returned to the
/// system.
pub(crate) async fn idle_memory(server: &Server) -> f64 {
    let mut least = f64::INFINITY;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        least = least.min(resident(server.pid()));
    }
    least
}

fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process has a size");
    let kilobytes: f64 = line.split_whitespace().nth(1).and_then(|size| size.parse().ok()).expect("a number");
    kilobytes / 1e3
}

async fn after_ingest(scale: usize) -> f64 {
    const POINTS: usize = 2_000;
    // A point is about 18 bytes on the wire.
    let batches = 1_000_000_000 / 18 / POINTS / 8 / scale;
    let server = Server::up().await;
    let load = Arc::new(load::binary_batches(batches, POINTS, 4));
    let start = Instant::now();
    for connection in 0..8 {
        let mut writer = BinaryWriter::new(&format!("bench-{connection}"));
        writer.connect(&server.ingest).await.expect("the server listens");
        send_batches(writer, load.clone()).await;
    }
    until_readable(&server, 8, batches * POINTS, start).await;
    idle_memory(&server).await
}
