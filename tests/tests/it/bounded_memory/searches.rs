//! Answers of searches and exports that no client reads, in a project with large runs.

use bytes::Bytes;
use futures::{FutureExt as _, future::join_all};
use matyan_tests::{
    Server, eventually,
    loopback::{address, authority, connect},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{
    PARAM_BYTES, UNREAD_BOUND, create_large, megabytes,
    merged_params::{applied, others_are_served},
};

/// Number of searches, which would take 40 MB each.
const SEARCHES: usize = 200;

/// Receive buffer of a client, so that the system holds little of an answer.
const RECEIVE_BYTES: u32 = 4_096;

const RUNS: [&str; 4] = ["first", "second", "third", "fourth"];

/// Paths of searches that find all runs. The second has a query that reads their params.
const SEARCH_PATHS: [&str; 2] = [
    "/api/v1/rest/runs/search/run/?report_progress=false",
    "/api/v1/rest/runs/search/run/?report_progress=false&q=run.a%20!=%201",
];

/// Number of exports that two clients ask for.
const EXPORTS: usize = 64;

/// Number of exports that the server accepts at a time.
const MOST_EXPORTS: usize = 16;

/// Number of exports that it accepts at a time from one client.
const MOST_EXPORTS_OF_CLIENT: usize = 12;

/// Number of exports that are read at the same time, more than may send large runs.
const READ_EXPORTS: usize = 6;

/// Paths of exports of all runs.
const EXPORT_PATHS: [&str; 2] =
    ["/api/v1/rest/export/runs?format=csv", "/api/v1/rest/export/runs?format=arrow"];

/// Number of readings of the server's memory without growth after which it counts as steady.
const STEADY_READINGS: usize = 20;

/// Asks from the address of a client, and reads nothing.
async fn ask(server: &Server, client: u8, path: &str) -> TcpStream {
    let mut socket =
        connect(address(client), &server.query, Some(RECEIVE_BYTES)).await.expect("the server listens");
    let head = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", authority(&server.query));
    socket.write_all(head.as_bytes()).await.expect("the server reads requests");
    socket
}

/// Reads a whole answer.
async fn read(url: &str) -> Bytes {
    let answer = reqwest::get(url).await.expect("the server answers");
    answer.bytes().await.expect("the answer is complete")
}

/// Whether the server has answered that it is busy. Reads nothing.
fn is_refused(socket: &TcpStream) -> bool {
    let mut head = [0; "HTTP/1.1 503".len()];
    let peeked = socket.peek(&mut head).now_or_never();
    peeked.is_some_and(|peeked| peeked.is_ok()) && head.ends_with(b"503")
}

async fn server_with_large_runs() -> Server {
    let server = Server::up().await;
    for run_id in RUNS {
        create_large(&server.ingest, run_id, ["a", "b"]).await;
        applied(&server, &format!("/api/v1/rest/runs/{run_id}/info/")).await;
    }
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_45_memory_is_bounded_with_searches_of_large_runs_that_nobody_reads() {
    let server = server_with_large_runs().await;
    let before = server.memory("VmHWM");
    let mut unread = Vec::new();
    for path in SEARCH_PATHS.into_iter().cycle().take(SEARCHES) {
        unread.push(ask(&server, 0, path).await);
    }
    others_are_served(&server).await;
    // Another client has room for the same searches.
    for path in SEARCH_PATHS {
        let all = read(&format!("{}{path}", server.query)).await;
        assert!(all.len() > RUNS.len() * 2 * PARAM_BYTES, "{} bytes", all.len());
    }
    let largest = server.memory("VmHWM");
    println!("before {}; with {SEARCHES} searches: {}", megabytes(before), megabytes(largest));
    assert!(largest <= UNREAD_BOUND, "{} exceeds {}", megabytes(largest), megabytes(UNREAD_BOUND));
    drop(unread);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_45_memory_is_bounded_with_exports_of_large_runs_that_nobody_reads() {
    let server = server_with_large_runs().await;
    let before = server.memory("VmHWM");
    // Exports that wait for others are complete.
    let url = format!("{}{}", server.query, EXPORT_PATHS[1]);
    for file in join_all((0..READ_EXPORTS).map(|_| read(&url))).await {
        assert!(file.len() > RUNS.len() * 2 * PARAM_BYTES, "{} bytes", file.len());
    }
    let mut unread = Vec::new();
    for (client, most) in [(0, MOST_EXPORTS_OF_CLIENT), (1, MOST_EXPORTS)] {
        for path in EXPORT_PATHS.into_iter().cycle().take(EXPORTS / 2) {
            unread.push(ask(&server, client, path).await);
        }
        eventually("the server has accepted as many as it may, and refused the others", async || {
            unread.retain(|socket| !is_refused(socket));
            if unread.len() == most { Ok(()) } else { Err(unread.len()) }
        })
        .await;
    }
    let mut largest = 0;
    let mut readings = 0;
    eventually("the memory no longer grows", async || {
        let now = server.memory("VmHWM");
        readings = if now > largest { 0 } else { readings + 1 };
        largest = now;
        if readings >= STEADY_READINGS { Ok(()) } else { Err(megabytes(now)) }
    })
    .await;
    others_are_served(&server).await;
    println!("before {}; with {EXPORTS} exports: {}", megabytes(before), megabytes(largest));
    assert!(largest <= UNREAD_BOUND, "{} exceeds {}", megabytes(largest), megabytes(UNREAD_BOUND));
    drop(unread);
}
