//! Uploads that keep files or threads of the server busy: 20,000 of which only the first bytes arrive, on a
//! server with 4,096 files, and 64 to a blob directory that takes two seconds to make a blob durable.

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use matyan_tests::Server;
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use super::clients::{Begun, Clients, FirstAttempt, authority, connect, http_client};

const STALLED: usize = 20_000;

/// Most files of the server, which it cannot raise.
const SERVER_FILES: &str = "4096";
/// Files of this process: its connections and some more.
const OWN_FILES: usize = STALLED + 2_000;

const TO_SLOW_BLOBS: usize = 64;
const BLOB_BYTES: usize = 64 << 10;

/// Size that a stalled upload announces, and the bytes of it that it sends.
const ANNOUNCED_BYTES: usize = 1 << 20;
const SENT_BYTES: usize = 1_000;

/// Time after which a client tries again whose connection was refused or ended.
const PAUSE: Duration = Duration::from_secs(10);

/// Starts the server with few files, if this process may have as many as the load needs.
pub(super) async fn server_of_few_files(directory: &Path) -> Result<Server, String> {
    let pid = std::process::id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={OWN_FILES}:")]).status();
    if !raised.is_ok_and(|status| status.success()) {
        return Err(format!("this process needs {OWN_FILES} open files, and `prlimit`"));
    }
    Ok(Server::up_inside(&["sh", "-c", "ulimit -n \"$0\" && exec \"$@\"", SERVER_FILES], directory).await)
}

/// Starts the server with a blob directory whose syncs take two seconds each. `strace` delays them: it stops
/// the process in syncs only, and delays those of the folder with all blobs, which every upload syncs last.
pub(super) async fn server_with_slow_blobs(directory: &Path) -> Result<Server, String> {
    let probe = Command::new("strace").args(TRACE).args([DELAY, "true"]).status();
    if !probe.is_ok_and(|status| status.success()) {
        return Err("needs `strace`, and permission to trace processes".to_owned());
    }
    let folder = directory.canonicalize().expect("the project exists").join("blobs/data");
    let folder = folder.to_str().expect("the temporary directory has a name in UTF-8");
    // `-D` leaves the server the process that was started.
    let wrapper = [&["strace", "-D"][..], &TRACE, &["-P", folder, DELAY]].concat();
    Ok(Server::up_inside(&wrapper, directory).await)
}

/// Options of `strace` that stop a process and its threads in syncs only, and write nothing.
const TRACE: [&str; 7] = ["-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"];
const DELAY: &str = "--inject=fsync,fdatasync:delay_enter=2s";

pub(super) async fn stalled(server: &Server) -> Clients {
    let url = upload_url(server, "stalled").await;
    let target = format!("{}?{}", url.path(), url.query().expect("the token is in the query"));
    let host = authority(&server.ingest);
    let head = format!("PUT {target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {ANNOUNCED_BYTES}\r\n\r\n");
    let request: Arc<[u8]> = [head.as_bytes(), &[7; SENT_BYTES]].concat().into();
    let begun = Begun::default();
    let mut tasks = JoinSet::new();
    for _ in 0..STALLED {
        tasks.spawn(stall_repeatedly(server.ingest.clone(), request.clone(), begun.first_attempt()));
    }
    begun.wait_for(STALLED).await;
    Clients::new(tasks)
}

/// Begins an upload, sends nothing more, and begins again after the server has ended it.
async fn stall_repeatedly(base: String, request: Arc<[u8]>, mut first: FirstAttempt) {
    loop {
        let begun = begin_upload(&base, &request).await;
        first.end();
        if let Some(mut socket) = begun {
            // The answer, or the end of the connection.
            let mut byte = [0];
            while matches!(socket.read(&mut byte).await, Ok(1)) {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Connects, and sends the first bytes of an upload. Returns `None` if the server refuses that.
async fn begin_upload(base: &str, request: &[u8]) -> Option<TcpStream> {
    let mut socket = timeout(PAUSE, connect(base, None)).await.ok()?.ok()?;
    socket.write_all(request).await.ok()?;
    Some(socket)
}

/// Uploads again and again, and returns once the server has answered an upload of every client.
pub(super) async fn to_slow_blobs(server: &Server) -> Clients {
    let client = http_client();
    let begun = Begun::default();
    let mut tasks = JoinSet::new();
    for number in 0..TO_SLOW_BLOBS {
        let url = upload_url(server, &format!("slow-{number}")).await;
        tasks.spawn(upload_repeatedly(client.clone(), url, begun.first_attempt()));
    }
    begun.wait_for(TO_SLOW_BLOBS).await;
    Clients::new(tasks)
}

async fn upload_repeatedly(client: reqwest::Client, url: Url, mut first: FirstAttempt) {
    loop {
        let put = client.put(url.clone()).body(vec![7_u8; BLOB_BYTES]);
        let status = put.send().await.expect("the server answers").status();
        first.end();
        let is_refused = status == StatusCode::SERVICE_UNAVAILABLE;
        assert!(status.is_success() || is_refused, "{status}");
        if is_refused {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// A signed URL for an artifact of a run.
async fn upload_url(server: &Server, run: &str) -> Url {
    let request = json!({"run_id": run, "artifact_path": "file.bin", "content_type": "text/plain"});
    let url = format!("{}/api/v1/rest/artifacts/presign", server.ingest);
    let answer = http_client().post(url).json(&request).send().await.expect("the server answers");
    let signed: Value = answer.json().await.expect("the answer is JSON");
    let url = signed["upload_url"].as_str().expect("the URL is a text");
    url.parse().expect("the server signs URLs")
}
