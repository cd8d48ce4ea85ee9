//! Uploads that stop after their first bytes, on a server that may open few files.

use hyper::{StatusCode, Uri};
use matyan_tests::{
    Server, eventually,
    loopback::{address, connect},
    stalled_upload::{handshake, request},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::create;

/// Number of files that the server may open.
const FILES: usize = 512;

/// The share of these files that uploads and downloads of a port may open, and the share that the store and the
/// log keep.
const BLOBS: usize = FILES / 8;
const KEPT: usize = FILES / 8;

/// Number of addresses with a connection each, and of uploads on each connection: in total more uploads than
/// files.
const ADDRESSES: u8 = 4;
const UPLOADS: usize = 150;

const UPLOAD_BYTES: usize = 2_000;

/// A signed URL for an artifact.
async fn upload_url(server: &Server) -> Uri {
    let artifact = json!({"run_id": "stalled", "artifact_path": "file.bin", "content_type": "text/plain"});
    let presign = format!("{}/api/v1/rest/artifacts/presign", server.ingest);
    let answer = reqwest::Client::new().post(presign).json(&artifact).send().await;
    let signed: Value = answer.expect("the server answers").json().await.expect("the answer is JSON");
    signed["upload_url"].as_str().expect("the URL is text").parse().expect("a URL is a URI")
}

/// The number of files in which the server collects the content of uploads.
fn drafts(server: &Server) -> usize {
    let data_dir = server.data_dir().canonicalize().expect("the server has created it");
    let folder = data_dir.join("blobs/tmp");
    server.open_files().iter().filter(|file| file.parent() == Some(&*folder)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_45_stalled_uploads_leave_files_to_others() {
    let mut server = Server::up_with_file_limit(&FILES.to_string()).await;
    let fresh = server.open_files().len();
    let url = upload_url(&server).await;
    let mut uploads = JoinSet::new();
    for number in 0..ADDRESSES {
        let socket = connect(address(number), &server.ingest, None).await.expect("the server listens");
        let (sender, connection) = handshake(socket).await.expect("the server speaks HTTP/2");
        tokio::spawn(connection);
        for _ in 0..UPLOADS {
            let mut sender = sender.clone();
            let upload = request(url.clone(), UPLOAD_BYTES);
            uploads.spawn(async move { sender.send_request(upload).await });
        }
    }
    assert!(uploads.len() > FILES, "the server has files for all uploads");
    eventually("uploads beyond the limit are refused", async || {
        while let Some(answered) = uploads.try_join_next() {
            let answer = answered.expect("no task panics").expect("the connection is open");
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        }
        if uploads.len() <= BLOBS { Ok(()) } else { Err(uploads.len()) }
    })
    .await;
    let stalled = uploads.len();
    eventually("the other uploads have a file each", async || match drafts(&server) {
        enough if enough >= stalled => Ok(()),
        few => Err(few),
    })
    .await;
    let open = server.open_files().len();
    println!("fresh {fresh} open files; with {stalled} stalled uploads: {open}");
    assert_ne!(stalled, 0, "the server has refused all uploads");
    assert!(open <= FILES - KEPT, "{open} of {FILES} files are open");
    // Others connect, and what they send is stored.
    create(&server.ingest, "last").await;
    eventually("the run of another client is readable", async || {
        server.get("/api/v1/rest/runs/last/info/").await.map(drop)
    })
    .await;
    server.check_alive();
}
