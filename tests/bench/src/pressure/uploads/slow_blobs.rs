//! 64 uploads to a blob directory in which every sync takes two seconds: syncs of drafts and of folders.

use std::{
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use matyan_tests::Server;
use reqwest::{StatusCode, Url};
use tokio::task::JoinSet;

use super::upload_url;
use crate::pressure::clients::{Begun, Clients, FirstAttempt, Outcomes, PAUSE, http_client};

const UPLOADS: usize = 64;
const BLOB_BYTES: usize = 64 << 10;

const SYNC_SECONDS: u64 = 2;

/// An upload syncs at least its draft and the folder with all blobs.
const LEAST_SYNCS: u64 = 2;

const SLOW_SYNCS: &str = include_str!("slow_syncs.c");

/// Starts the server, or says why its syncs cannot be delayed here.
pub(in crate::pressure) async fn server(directory: &Path) -> Result<Server, String> {
    let folder = tempfile::tempdir().expect("the temporary directory is writable");
    let library = folder.path().join("slow_syncs.so");
    compile(&folder.path().join("slow_syncs.c"), &library)?;
    let directory_name = directory.canonicalize().expect("the project exists");
    let library = format!("LD_PRELOAD={}", library.display());
    let slow = format!("BENCH_SLOW_DIRECTORY={}", directory_name.join("blobs").display());
    let seconds = format!("BENCH_SLOW_SECONDS={SYNC_SECONDS}");
    let server = Server::up_inside(&["env", &library, &slow, &seconds], directory).await;
    let start = Instant::now();
    let status = upload(&http_client(), upload_url(&server, "probe").await).await;
    if !status.is_success() || start.elapsed() < Duration::from_secs(LEAST_SYNCS * SYNC_SECONDS) {
        return Err(format!("the syncs of the server are not delayed: {status} in {:?}", start.elapsed()));
    }
    Ok(server)
}

fn compile(source: &Path, library: &Path) -> Result<(), String> {
    std::fs::write(source, SLOW_SYNCS).expect("the temporary directory is writable");
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(library).arg(source).status();
    if compiled.is_ok_and(|status| status.success()) {
        Ok(())
    } else {
        Err("needs a C compiler as `cc`".to_owned())
    }
}

/// Uploads again and again, and returns once the server has answered an upload of every client.
pub(in crate::pressure) async fn start(server: &Server) -> Clients {
    let client = http_client();
    let outcomes = Arc::new(Outcomes::default());
    let begun = Begun::default();
    let mut tasks = JoinSet::new();
    for number in 0..UPLOADS {
        let url = upload_url(server, &format!("slow-{number}")).await;
        tasks.spawn(upload_repeatedly(client.clone(), url, begun.first_attempt(), outcomes.clone()));
    }
    begun.wait_for(UPLOADS).await;
    Clients::new(tasks, outcomes)
}

async fn upload_repeatedly(
    client: reqwest::Client,
    url: Url,
    mut first: FirstAttempt,
    outcomes: Arc<Outcomes>,
) {
    loop {
        let held = outcomes.hold();
        let status = upload(&client, url.clone()).await;
        drop(held);
        first.end();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            outcomes.refuse();
            tokio::time::sleep(PAUSE).await;
        } else {
            assert!(status.is_success(), "{status}");
            outcomes.accept();
        }
    }
}

async fn upload(client: &reqwest::Client, url: Url) -> StatusCode {
    client.put(url).body(vec![7_u8; BLOB_BYTES]).send().await.expect("the server answers").status()
}
