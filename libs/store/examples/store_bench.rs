//! Benchmark of the embedded store: `cargo run --release -p matyan-store --example store_bench
//! [dir]`.
//!
//! The figures are for comparison only; nothing is asserted. The figures of synced commits depend
//! on the disk, so the cost of a plain sync is printed as well.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a command-line benchmark")]

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use matyan_store::embedded::{EmbeddedStore, Settings};
use matyan_store::{Batch, Durability, Key, Range, Scan, Store};

/// The same allocator as in the program that uses the store.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ROWS: usize = 200_000;

#[tokio::main]
async fn main() {
    let base = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let directory = tempfile::tempdir_in(base).unwrap();
    let path = directory.path();
    row("fdatasync of one 4 KiB page", format!("{:.0} µs", disk_sync(path)));
    let store = Arc::new(timed("open, fresh", EmbeddedStore::open(path, Settings::default())).await.unwrap());

    for writers in [1, 8, 64] {
        let (rate, longest) = synced(&store, writers).await;
        row(&format!("synced commits, {writers} writers"), format!("{rate:.0}/s, longest {longest:?}"));
    }
    row("buffered batch of 5 keys, one after another", micros(buffered(&store, 1).await));
    row("  64 concurrent, each", micros(buffered(&store, 64).await));
    fill(&store).await;
    row("get, random key of 60 MB", micros(gets(&store).await));
    row("snapshot and get, in order", micros(snapshots(&store).await));
    for rows in [10, 1_000, usize::MAX] {
        let rate = scan(&store, rows).await;
        row(
            &format!("scan of rows of 300 B, pages of {}", rows.min(3_355)),
            format!("{:.2}M rows/s", rate / 1e6),
        );
    }
    sustained(&store).await;
    row("clear a range of 200,000 keys", format!("{:?}", clear(&store).await));
    tokio::time::sleep(Duration::from_secs(2)).await;
    row("resident memory after two idle seconds", resident());
    store.close().await.unwrap();
    drop(store);
    let store =
        timed("open, after 1 GB written", EmbeddedStore::open(path, Settings::default())).await.unwrap();
    store.close().await.unwrap();
}

fn row(what: &str, figure: String) {
    println!("{what:<45} {figure}");
}

fn micros(duration: Duration) -> String {
    format!("{:.1} µs", duration.as_secs_f64() * 1e6)
}

async fn timed<T>(what: &str, work: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let answer = work.await;
    row(what, format!("{:.1?}", start.elapsed()));
    answer
}

fn disk_sync(path: &Path) -> f64 {
    const SYNCS: u32 = 200;
    let mut file = File::create(path.join("sync")).unwrap();
    let start = Instant::now();
    for _ in 0..SYNCS {
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(&[1; 4096]).unwrap();
        file.sync_data().unwrap();
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(SYNCS)
}

async fn synced(store: &Arc<EmbeddedStore>, writers: usize) -> (f64, Duration) {
    const TIME: Duration = Duration::from_secs(2);
    let start = Instant::now();
    let tasks = (0..writers).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut commits = 0_u64;
            let mut longest = Duration::ZERO;
            while start.elapsed() < TIME {
                let begun = Instant::now();
                let mut batch = Batch::default();
                batch.set(format!("synced/{writers}/{writer}/{commits}"), vec![b'v'; 100]);
                store.commit(batch).await.unwrap();
                longest = longest.max(begun.elapsed());
                commits += 1;
            }
            (commits, longest)
        })
    });
    let outcomes: Vec<(u64, Duration)> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    let commits: u64 = outcomes.iter().map(|(commits, _)| commits).sum();
    let longest = outcomes.iter().map(|(_, longest)| *longest).max().unwrap();
    (commits as f64 / start.elapsed().as_secs_f64(), longest)
}

async fn buffered(store: &EmbeddedStore, at_once: u32) -> Duration {
    const ROUNDS: u32 = 50_000;
    let rounds = ROUNDS / at_once;
    let start = Instant::now();
    for round in 0..rounds {
        let commits = (0..at_once).map(|commit| {
            let mut batch = Batch::buffered();
            for key in 0..5 {
                batch.set(format!("buffered/{key}/{round}/{commit}"), vec![b'v'; 100]);
            }
            store.commit(batch)
        });
        assert!(join_all(commits).await.iter().all(Result::is_ok));
    }
    start.elapsed() / (rounds * at_once)
}

async fn fill(store: &EmbeddedStore) {
    for first in (0..ROWS).step_by(1_000) {
        let mut batch = Batch::buffered();
        for row in first..first + 1_000 {
            batch.set(key(row), vec![b'v'; 280]);
        }
        store.commit(batch).await.unwrap();
    }
    store.sync().await.unwrap();
}

fn key(row: usize) -> Key {
    Key::from(format!("rows/{:08}", row % ROWS))
}

async fn gets(store: &EmbeddedStore) -> Duration {
    const GETS: usize = 100_000;
    let mut snapshot = store.snapshot().await.unwrap();
    let start = Instant::now();
    for get in 0..GETS {
        if get % 1_000 == 0 {
            snapshot = store.snapshot().await.unwrap();
        }
        assert!(snapshot.get(&key(get * 7_919)).await.unwrap().is_some());
    }
    start.elapsed() / GETS as u32
}

async fn snapshots(store: &EmbeddedStore) -> Duration {
    const GETS: usize = 100_000;
    let start = Instant::now();
    for get in 0..GETS {
        assert!(store.snapshot().await.unwrap().get(&key(get)).await.unwrap().is_some());
    }
    start.elapsed() / GETS as u32
}

async fn scan(store: &EmbeddedStore, rows: usize) -> f64 {
    let start = Instant::now();
    let mut rest = Range::prefix("rows/");
    let mut count = 0;
    loop {
        let snapshot = store.snapshot().await.unwrap();
        let page = snapshot.scan(&rest, Scan { rows, ..Scan::default() }).await.unwrap();
        count += page.rows.len();
        match page.rows.last() {
            Some((last, _)) if page.more => rest = rest.after(last),
            _ => break,
        }
    }
    assert_eq!(count, ROWS);
    count as f64 / start.elapsed().as_secs_f64()
}

/// The load of ingestion: blocks of 48 KiB with a cursor, from four workers that wait for each
/// answer.
async fn sustained(store: &Arc<EmbeddedStore>) {
    const BLOCKS: usize = 5_000;
    const BLOCK_BYTES: usize = 48 << 10;
    let start = Instant::now();
    let cpu = processor_seconds();
    let tasks = (0..4).map(|worker| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut noise = 0x9e37_79b9_u64 + worker;
            let mut waits = Vec::with_capacity(BLOCKS);
            for block in 0..BLOCKS {
                let mut value = Vec::with_capacity(BLOCK_BYTES);
                while value.len() < BLOCK_BYTES {
                    noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    value.extend_from_slice(&noise.to_be_bytes());
                }
                let mut batch = Batch { durability: Durability::Buffered, ..Batch::default() };
                batch.set(format!("blocks/{worker}/{block:08}"), value).set(format!("cursor/{worker}"), "x");
                let begun = Instant::now();
                store.commit(batch).await.unwrap();
                waits.push(begun.elapsed());
            }
            waits
        })
    });
    let mut waits: Vec<Duration> = join_all(tasks).await.into_iter().flat_map(Result::unwrap).collect();
    let seconds = start.elapsed().as_secs_f64();
    waits.sort_unstable();
    let megabytes = (4 * BLOCKS * BLOCK_BYTES) as f64 / 1e6;
    let median = waits[waits.len() / 2];
    let last = waits[waits.len() * 999 / 1_000];
    let longest = waits[waits.len() - 1];
    row(
        "1 GB of blocks of 48 KiB, buffered",
        format!(
            "{:.0} MB/s, median {median:.0?}, p99.9 {last:.0?}, longest {longest:.0?}",
            megabytes / seconds
        ),
    );
    row("  CPU time for it", format!("{:.1} s", processor_seconds() - cpu));
}

async fn clear(store: &EmbeddedStore) -> Duration {
    let start = Instant::now();
    let mut batch = Batch::default();
    batch.clear_range(Range::prefix("rows/"));
    store.commit(batch).await.unwrap();
    start.elapsed()
}

/// User and system time of this process. Linux counts it in hundredths of a second.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim().to_owned()
}
