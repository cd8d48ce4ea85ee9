//! Eight runs record while two others record large objects and the blob store refuses everything, hangs, or
//! rejects the objects of one run: what the eight record is readable as soon as on a healthy server.
//!
//! `MATYAN_ISOLATION_SECONDS` is the length of each phase; delays are then compared more strictly.

#![expect(clippy::print_stdout, reason = "prints the measured delays")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use matyan_tests::{
    Reader, Server, eventually,
    json::{Ack, JsonWriter, create_run, metric},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

const RUNS: usize = 8;
/// Size of the objects that two other runs record.
const OBJECT_BYTES: usize = 200_000;
/// Shortest interval between the objects of a run.
const OBJECT_INTERVAL: Duration = Duration::from_millis(20);
/// Total size of the objects of a phase. The server has room for all of them while the blob store accepts
/// none.
const PHASE_BYTES: u32 = 200 << 20;
/// Interval between the points of a run.
const POINT_INTERVAL: Duration = Duration::from_millis(40);
/// Allowance for other programs on the machine, such as other tests. Before runs were isolated, waits took minutes.
const SLACK: Duration = Duration::from_millis(500);
/// Allowance if the length of a phase is given: the machine does nothing else then, but points are looked for only
/// every few milliseconds.
const SLACK_ALONE: Duration = Duration::from_millis(5);

fn given_phase() -> Option<Duration> {
    #[expect(clippy::disallowed_methods, reason = "the length of the test is its only setting")]
    let seconds = std::env::var("MATYAN_ISOLATION_SECONDS").ok()?;
    Some(Duration::from_secs(seconds.parse().expect("a number of seconds")))
}

fn phase() -> Duration {
    given_phase().unwrap_or(Duration::from_secs(3))
}

fn object_interval() -> Duration {
    OBJECT_INTERVAL.max(phase() * (2 * OBJECT_BYTES as u32) / PHASE_BYTES)
}

/// Behaviors of the blob store.
const WORKS: u8 = 0;
const FORBIDS: u8 = 1;
const HANGS: u8 = 2;
const REJECTS_ONE_RUN: u8 = 3;

/// The part of S3 that uploads need.
struct FakeS3 {
    endpoint: String,
    behavior: Arc<AtomicU8>,
}

impl FakeS3 {
    async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let behavior = Arc::new(AtomicU8::new(WORKS));
        let shared = behavior.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let behavior = shared.clone();
                tokio::spawn(async move { serve(socket, &behavior).await.ok() });
            }
        });
        Self { endpoint, behavior }
    }

    fn set(&self, behavior: u8) {
        self.behavior.store(behavior, Ordering::Relaxed);
    }
}

/// Answers the requests of a connection.
async fn serve(socket: TcpStream, behavior: &AtomicU8) -> std::io::Result<()> {
    let mut socket = BufReader::new(socket);
    loop {
        let mut first = String::new();
        let mut length = 0;
        if socket.read_line(&mut first).await? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            socket.read_line(&mut line).await?;
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line.starts_with("expect: 100-continue") {
                socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            }
        }
        let mut body = vec![0; length];
        socket.read_exact(&mut body).await?;
        let status = match behavior.load(Ordering::Relaxed) {
            HANGS => std::future::pending().await,
            FORBIDS => "403 Forbidden",
            REJECTS_ONE_RUN if first.contains("-large-0/") => "400 Bad Request",
            _ => "200 OK",
        };
        let answer = format!("HTTP/1.1 {status}\r\nETag: \"1\"\r\nContent-Length: 0\r\n\r\n");
        socket.write_all(answer.as_bytes()).await?;
    }
}

async fn send(writer: &mut JsonWriter, frame: &Value) {
    assert_eq!(writer.send(frame).await, Ok(Ack::Ok));
}

/// Records points of a run until it is stopped, and returns how long each took from its acknowledgment
/// until it was readable.
async fn record_points(ingest: String, query: String, run: String, stop: Arc<AtomicBool>) -> Vec<Duration> {
    let reader = Reader::connect(&query).await;
    let mut writer = JsonWriter::connect(&ingest, &run).await.expect("the server accepts connections");
    send(&mut writer, &create_run()).await;
    let mut delays = Vec::new();
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        send(&mut writer, &metric("loss", 0.5, None)).await;
        count += 1;
        let acknowledged = Instant::now();
        while reader.count(&run).await.expect("runs are readable") < count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        delays.push(acknowledged.elapsed());
        tokio::time::sleep(POINT_INTERVAL).await;
    }
    delays
}

/// Records large objects until it is stopped, and returns their number.
async fn record_objects(ingest: String, run: String, stop: Arc<AtomicBool>) -> u64 {
    let mut writer = JsonWriter::connect(&ingest, &run).await.expect("the server accepts connections");
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let data = format!("{count} {}", "x".repeat(OBJECT_BYTES));
        let object = json!({
            "type": "log_custom_object", "name": "text", "step": count, "dtype": "text",
            "value": {"type": "text", "data": data},
        });
        send(&mut writer, &object).await;
        send(&mut writer, &metric("counted", 1.0, None)).await;
        count += 1;
        tokio::time::sleep(object_interval()).await;
    }
    count
}

/// The delay that one point in a hundred exceeds.
async fn measure(server: &Server, name: &str, large: &mut Vec<(String, u64)>) -> Duration {
    let stop = Arc::new(AtomicBool::new(false));
    let mut points = JoinSet::new();
    let mut objects = JoinSet::new();
    for number in 0..RUNS {
        let run = format!("{name}-{number}");
        points.spawn(record_points(server.ingest.clone(), server.query.clone(), run, stop.clone()));
    }
    for number in 0..2 {
        let run = format!("{name}-large-{number}");
        let ingest = server.ingest.clone();
        let stop = stop.clone();
        objects.spawn(async move { (run.clone(), record_objects(ingest, run, stop).await) });
    }
    tokio::time::sleep(phase()).await;
    stop.store(true, Ordering::Relaxed);
    let mut delays: Vec<Duration> = points.join_all().await.concat();
    large.extend(objects.join_all().await);
    delays.sort_unstable();
    let p99 = delays[delays.len() * 99 / 100];
    println!("{name}: {} points, readable after {p99:?} (p99)", delays.len());
    p99
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_39_a_blob_store_in_trouble_delays_no_run() {
    let s3 = FakeS3::listen().await;
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let config = directory.path().join("matyan.toml");
    let settings =
        format!("s3_endpoint = \"{}\"\ns3_access_key = \"a\"\ns3_secret_key = \"b\"\n", s3.endpoint);
    std::fs::write(&config, settings).expect("the temporary directory is writable");
    let config = config.to_string_lossy().into_owned();
    let server = Server::up_with(&["--blobs", "s3://bucket", "--config", &config]).await;
    let mut large = Vec::new();
    let healthy = measure(&server, "healthy", &mut large).await;
    let most = 2 * healthy + given_phase().map_or(SLACK, |_| SLACK_ALONE);
    for (name, behavior) in [("forbids", FORBIDS), ("hangs", HANGS), ("rejects", REJECTS_ONE_RUN)] {
        s3.set(behavior);
        let p99 = measure(&server, name, &mut large).await;
        assert!(p99 <= most, "{name}: {p99:?}; on a healthy server {healthy:?}");
    }
    s3.set(WORKS);
    let reader = Reader::connect(&server.query).await;
    for (run, count) in large {
        eventually(&format!("the points and objects of {run}"), async || match reader.count(&run).await {
            // Rejected objects are parked.
            Ok(found) if found == 2 * count || (run == "rejects-large-0" && found >= count) => Ok(()),
            other => Err(format!("{other:?} instead of {}", 2 * count)),
        })
        .await;
    }
}
