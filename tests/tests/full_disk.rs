//! A disk that fills up while eight writers write: writers wait or get an error, nothing
//! acknowledged is lost, and when space is available again the server recovers without a
//! restart. Without permission to mount a file system the case is ignored, unless
//! `REQUIRE=mount` is set.

#![expect(clippy::print_stdout, reason = "prints the counts")]

use std::{
    fs::File,
    io::{ErrorKind, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use libtest_mimic::{Arguments, Trial};
use matyan_servers::mount::SmallDisk;
use matyan_tests::{Reader, Server, eventually, load::Load};

const WRITERS_PER_KIND: usize = 4;

/// Room for the initial files of both engines, and some data.
const DISK_BYTES: u64 = 120 << 20;

/// Time for which the disk stays full after the server has noticed: long enough to retry and
/// fail again.
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

fn main() -> ExitCode {
    let disk = SmallDisk::mount(DISK_BYTES);
    let unavailable = disk.as_ref().err().cloned();
    let trial = Trial::test("rule_29_nothing_is_lost_when_the_disk_is_full", move || {
        nothing_is_lost_when_the_disk_is_full(&disk.expect("it is ignored without a disk"));
        Ok(())
    });
    let trial = match unavailable {
        Some(reason) => trial.with_kind(reason).with_ignored_flag(true),
        None => trial,
    };
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}
