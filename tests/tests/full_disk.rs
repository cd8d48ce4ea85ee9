//! A disk that fills up while eight writers write: writers wait or get an error, nothing
//! acknowledged is lost, and when space is available again the server recovers without a
//! restart. Requires permission to mount a file system.

use std::{
    fs::File,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use matyan_tests::{Reader, Server, eventually, load::Load};
use tempfile::TempDir;

const WRITERS_PER_KIND: usize = 4;

/// Room for the initial files of both engines, and some data.
const DISK: &str = "size=120m";

/// Time for which the disk stays full after the server has noticed: long enough to retry and
/// fail again.
const FULL: Duration = Duration::from_secs(3);

struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Result<Self, String> {
        let folder = TempDir::new().expect("the temporary directory is writable");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(folder.path()).output();
        let output = mount.map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(Self(folder)),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        }
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        assert!(
            unmounted.is_ok_and(|status| status.success()) || std::thread::panicking(),
            "failed to unmount the disk"
        );
    }
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_29_nothing_is_lost_when_the_disk_is_full() {
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(reason) => {
            eprintln!("NOT TESTED: a full disk. Cannot mount a file system here: {reason}");
            return;
        }
    };
    let mut server = Server::up_on(&disk.0.path().join("data")).await;
    let load = Load::start(&server.ingest, WRITERS_PER_KIND);
    let mut acknowledged = Vec::new();
    for _ in 0..2 {
        load.wait_for_acks(200).await;
        eventually("the disk is full, and the server reports it", async || {
            let room = fill(&disk.filler());
            if ready(&server).await { Err(room) } else { Ok(()) }
        })
        .await;
        let before = load.acknowledged();
        tokio::time::sleep(FULL).await;
        acknowledged.push((before, load.acknowledged()));
        std::fs::remove_file(disk.filler()).expect("the filler can be removed");
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
