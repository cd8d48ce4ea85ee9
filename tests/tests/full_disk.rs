//! A disk that fills up while eight writers write: writers wait or get an error, nothing
//! acknowledged is lost, and when space is available again the server recovers without a
//! restart. A full disk also makes large calls wait, in bounded memory. Without permission to mount a
//! file system the cases are ignored, unless `REQUIRE=mount` is set.

#![expect(clippy::print_stdout, reason = "prints the counts")]

use std::{
    fs::File,
    io::{ErrorKind, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use libtest_mimic::{Arguments, Trial};
use matyan_proto::ingest::v1::{
    Event, IngestionBatch, LogRecord, PublishRequest, event, ingest_service_client::IngestServiceClient,
};
use matyan_servers::mount::SmallDisk;
use matyan_tests::{Reader, Server, channel, eventually, load::Load};
use prost::Message as _;
use tokio::task::JoinSet;

const WRITERS_PER_KIND: usize = 4;

/// Room for the initial files of both engines, and some data.
const DISK_BYTES: u64 = 120 << 20;

/// Time that the disk stays full after the server has noticed: long enough for a retry to fail, too.
const FULL: Duration = Duration::from_secs(3);

/// Fills the disk. Returns the total size of the filler file.
fn fill(path: &Path) -> u64 {
    let mut filler = File::options().create(true).append(true).open(path).expect("the filler can be created");
    for piece in [1 << 16, 1] {
        loop {
            match filler.write_all(&vec![0; piece]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    filler.metadata().expect("the file is open").len()
}

async fn ready(server: &Server) -> bool {
    let answer = reqwest::get(format!("{}/health/ready/", server.ingest)).await.expect("the server answers");
    answer.status().is_success()
}

#[tokio::main(worker_threads = 2)]
async fn nothing_is_lost_when_the_disk_is_full(disk: &SmallDisk) {
    let filler = disk.path().join("filler");
    let mut server = Server::up_on(&disk.path().join("data")).await;
    let load = Load::start(&server.ingest, WRITERS_PER_KIND);
    let mut acknowledged = Vec::new();
    for _ in 0..2 {
        load.wait_for_acks(200).await;
        eventually("the disk is full, and the server reports it", async || {
            let room = fill(&filler);
            if ready(&server).await { Err(room) } else { Ok(()) }
        })
        .await;
        let before = load.acknowledged();
        tokio::time::sleep(FULL).await;
        acknowledged.push((before, load.acknowledged()));
        std::fs::remove_file(&filler).expect("the filler can be removed");
        load.wait_for_acks(200).await;
        eventually("the server is ready again", async || if ready(&server).await { Ok(()) } else { Err(()) })
            .await;
    }
    let compared = load.finish(&Reader::connect(&server.query).await).await;
    server.check_alive();
    println!(
        "disk filled twice; acknowledged when the server noticed and {FULL:?} later: {acknowledged:?}; {} JSON frames \
         acknowledged, {} refused, {} unknown; {} binary batches acknowledged; 0 lost, 0 duplicated",
        compared.frames, compared.refused, compared.unknown, compared.batches
    );
    assert!(server.terminate().await.success(), "{}", server.log());
}

/// Calls that wait for the log, each on its own connection. Together they need many times the memory for
/// bodies.
const CALLS: usize = 48;
const CALL_BYTES: usize = 15 << 20;
const RECORD_BYTES: usize = 10_000;

/// Upper bound for the memory of the server. The calls together are half as large again.
const WAITING_BOUND: u64 = 512 << 20;

/// The server's memory counts as stable if it grows by less than this number of bytes in this time.
const SETTLED: (Duration, u64) = (Duration::from_secs(1), 1 << 20);

fn large_call() -> PublishRequest {
    #[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
    let event = |number: usize| {
        let message = "x".repeat(RECORD_BYTES);
        let timestamp = number as f64;
        let record = LogRecord { message, level: 20, timestamp, ..LogRecord::default() };
        Event { client_time_us: None, kind: Some(event::Kind::LogRecord(record)) }
    };
    let events = (0..CALL_BYTES / RECORD_BYTES).map(event).collect();
    let batch = IngestionBatch { events, ..IngestionBatch::default() };
    PublishRequest { run_id: "run".into(), batch: batch.encode_to_vec().into(), ..PublishRequest::default() }
}

#[tokio::main(worker_threads = 2)]
async fn memory_is_bounded_while_large_calls_wait(disk: &SmallDisk) {
    let mut server = Server::up_on(&disk.path().join("data")).await;
    fill(&disk.path().join("filler"));
    let request = large_call();
    let fresh = server.memory("VmRSS");
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        let mut client = IngestServiceClient::new(channel(&server.ingest).await);
        let request = request.clone();
        calls.spawn(async move { client.publish(request).await });
    }
    let mut last = fresh;
    eventually("the server's memory stops growing", async || {
        tokio::time::sleep(SETTLED.0).await;
        let now = server.memory("VmRSS");
        let grown = now.saturating_sub(std::mem::replace(&mut last, now));
        if grown < SETTLED.1 && now > fresh + 3 * CALL_BYTES as u64 { Ok(()) } else { Err(now) }
    })
    .await;
    let peak = server.memory("VmHWM");
    println!("{CALLS} calls of {CALL_BYTES} bytes wait for the log: peak {peak} bytes");
    assert!(peak <= WAITING_BOUND, "{peak}");
    while let Some(ended) = calls.try_join_next() {
        ended.expect("a call does not panic").expect_err("nothing can be stored");
    }
    calls.abort_all();
    server.check_alive();
}

fn main() -> ExitCode {
    let trial = |name: &str, test: fn(&SmallDisk)| {
        let disk = SmallDisk::mount(DISK_BYTES);
        let unavailable = disk.as_ref().err().cloned();
        let trial = Trial::test(name, move || {
            test(&disk.expect("it is ignored without a disk"));
            Ok(())
        });
        match unavailable {
            Some(reason) => trial.with_kind(reason).with_ignored_flag(true),
            None => trial,
        }
    };
    let trials = vec![
        trial("rule_29_nothing_is_lost_when_the_disk_is_full", nothing_is_lost_when_the_disk_is_full),
        trial("rule_45_memory_is_bounded_while_large_calls_wait", memory_is_bounded_while_large_calls_wait),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
