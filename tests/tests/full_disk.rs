//! A disk that is full while 8 writers write: they wait or are told, nothing acknowledged is lost, and when there is room
//! again the server goes on by itself. Needs the right to mount a file system of its own.

use std::{
    fs::File,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use matyan_tests::{Reader, Server, eventually, load::Load};
use tempfile::TempDir;

const WRITERS_OF_A_KIND: usize = 4;

/// Room for the files that both engines begin with, and some for data.
const DISK: &str = "size=120m";

/// How long the disk stays full after the server has noticed: time to try again, and fail again.
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
            "it is unmounted"
        );
    }
}

/// Takes all the room that is left; answers with how much it was.
fn fill(path: &Path) -> u64 {
    let mut filler = File::options().create(true).append(true).open(path).expect("the filler is made");
    for piece in [1 << 16, 1] {
        loop {
            match filler.write_all(&vec![0; piece]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    filler.metadata().expect("it is open").len()
}

async fn ready(server: &Server) -> bool {
    let answer = reqwest::get(format!("{}/health/ready/", server.ingest)).await.expect("the server answers");
    answer.status().is_success()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_29_a_full_disk_loses_nothing_and_is_survived() {
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(reason) => {
            eprintln!("NOT TESTED: a full disk. No file system can be mounted here: {reason}");
            return;
        }
    };
    let mut server = Server::up_on(&disk.0.path().join("data")).await;
    let load = Load::start(&server.ingest, WRITERS_OF_A_KIND);
    let mut acknowledged = Vec::new();
    for _ in 0..2 {
        load.goes_on(200).await;
        eventually("the disk is full, and the server says so", async || {
            let room = fill(&disk.filler());
            if ready(&server).await { Err(room) } else { Ok(()) }
        })
        .await;
        let before = load.acknowledged();
        tokio::time::sleep(FULL).await;
        acknowledged.push((before, load.acknowledged()));
        std::fs::remove_file(disk.filler()).expect("the filler can be removed");
        load.goes_on(200).await;
        eventually("the server is ready again", async || if ready(&server).await { Ok(()) } else { Err(()) })
            .await;
    }
    let compared = load.finish(&Reader::connect(&server.query).await).await;
    server.check_alive();
    println!(
        "2 times full; acknowledged when it was noticed and {FULL:?} later: {acknowledged:?}; {} JSON frames \
         acknowledged, {} refused, {} cut off; {} binary batches acknowledged; 0 lost, 0 doubled",
        compared.frames, compared.refused, compared.unknown, compared.batches
    );
    assert!(server.terminate().await.success(), "{}", server.log());
}
