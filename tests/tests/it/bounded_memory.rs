//! Memory with a thousand idle connections and fifty that send continuously without reading, with thousands
//! that never finish what they have started to send, and with many that keep naming new series: the server
//! does not read what it cannot process, and keeps no more than its limits permit.

mod merged_params;
mod searches;
mod series_lists;
mod stalled_uploads;

use std::{process::Command, sync::Arc, time::Duration};

use matyan_proto::{
    ingest::v1::{
        Event, IngestionBatch, LogRecord, Points, SeriesDef, StreamBatch, StreamOpen, event, stream_request,
    },
    limits::BATCH_BYTES,
    runs::v1::{WatchRequest, WatchResponse, run_service_client::RunServiceClient},
};
use matyan_tests::{
    Reader, Server, channel, eventually,
    json::{Ack, JsonWriter, create_run, log_record, metric},
    loopback::authority,
    raw::{self, Kind, RawSocket},
};
use prost::Message as _;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
    task::JoinSet,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message as Frame;
use tonic::Streaming;
use uuid::Uuid;

const IDLE: usize = 1_000;
const FLOODING: usize = 50;

/// Contents of a frame: records, and one point that is counted at the end.
const RECORDS: usize = 100;
const RECORD_BYTES: usize = 10_000;
const FRAME_BYTES: usize = RECORDS * RECORD_BYTES;

/// Upper bound for the memory of the server.
const BOUND: u64 = 1 << 30;

/// Upper bound for the memory of an idle connection: its buffers.
const IDLE_BOUND: u64 = 64 << 10;

/// Soft limit on open files for the server, which has to raise it.
const FEW_FILES: &str = "256";

/// Number of frames of each flooding connection: in total slightly more than the bound, or as
/// `MATYAN_FLOOD_FRAMES` specifies.
fn frames() -> usize {
    #[expect(clippy::disallowed_methods, reason = "the size of the test is its only setting")]
    let asked = std::env::var("MATYAN_FLOOD_FRAMES");
    let frames = asked.map_or(24, |frames| frames.parse().expect("MATYAN_FLOOD_FRAMES is a number"));
    assert!((frames * FLOODING * FRAME_BYTES) as u64 > BOUND, "the flood must exceed the memory bound");
    frames
}

#[expect(clippy::cast_precision_loss, reason = "only for display")]
fn megabytes(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}

/// Keeps an idle connection until notified, then checks that it still works.
async fn idle(ingest: String, run_id: String, stop: Arc<Notify>) {
    let mut socket = RawSocket::json(&ingest, &run_id).await;
    tokio::select! {
        // Only pings are expected, and this replies to them.
        came = socket.next() => panic!("{run_id}: {came:?}"),
        () = stop.notified() => {}
    }
    socket.send(Frame::text(metric("good", 1.0, None).to_string())).await.expect("the connection is open");
    assert_eq!(socket.next().await, Ok(Frame::text(r#"{"status":"ok","error":null}"#)));
}

/// A frame whose records all differ, because identical ones would be deduplicated.
#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
fn json_frame(number: usize) -> Frame {
    let record = |at: usize| log_record(&"x".repeat(RECORD_BYTES), (number * RECORDS + at) as f64);
    let mut items: Vec<Value> = (0..RECORDS).map(record).collect();
    items.push(metric("counted", 1.0, None));
    Frame::text(Value::from(items).to_string())
}

fn counted() -> SeriesDef {
    SeriesDef { name: "counted".into(), ..SeriesDef::default() }
}

fn batch(sequence: u64) -> StreamBatch {
    #[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
    let event = |at: u64| {
        let message = "x".repeat(RECORD_BYTES);
        let timestamp = (sequence * RECORDS as u64 + at) as f64;
        let record = LogRecord { message, level: 20, timestamp, ..LogRecord::default() };
        Event { client_time_us: None, kind: Some(event::Kind::LogRecord(record)) }
    };
    let batch = IngestionBatch {
        series: if sequence == 1 { vec![counted()] } else { Vec::new() },
        events: (0..RECORDS as u64).map(event).collect(),
        points: vec![Points { series: vec![0], values: vec![1.0], ..Points::default() }],
        ..IngestionBatch::default()
    };
    StreamBatch { sequence, batch: batch.encode_to_vec().into(), ..StreamBatch::default() }
}

/// The frames of a flooding connection as bytes. All connections send the same frames: a connection that
/// encoded its frames while sending would be slow, and lose its memory to the others.
fn encoded_frames(frames: usize, is_json: bool) -> Arc<[Vec<u8>]> {
    if is_json {
        let encode =
            |number| raw::frame(Kind::Text, json_frame(number).to_text().expect("a text").as_bytes());
        return (0..frames).map(encode).collect();
    }
    let encode =
        |sequence| raw::frame(Kind::Binary, &raw::encoded(stream_request::Message::Batch(batch(sequence))));
    (1..=frames as u64).map(encode).collect()
}

/// Whether a flooding connection uses the JSON protocol.
fn is_json(number: usize) -> bool {
    number.is_multiple_of(2)
}

/// Upper bound for the connections of a client.
const CONNECTIONS: usize = 100;

/// A client that sends all its frames before it reads a response.
struct FloodingClient {
    ingest: String,
    run_id: String,
    frames: Arc<[Vec<u8>]>,
    /// Number of frames that are acknowledged.
    acknowledged: usize,
}

impl FloodingClient {
    /// Sends everything until it is acknowledged, and returns the number of connections that it took. On a busy
    /// machine, this process may send so slowly that the server gives the memory of a frame to others and ends the
    /// connection, or the server may store a frame too late. Then the client connects again, as all clients do.
    async fn flood(mut self, is_json: bool) -> usize {
        let producer_id = Uuid::new_v4();
        let mut ended = String::new();
        for connections in 1..=CONNECTIONS {
            let sent = if is_json { self.send_json().await } else { self.send_binary(producer_id).await };
            match sent {
                Ok(()) => return connections,
                Err(error) => ended = error,
            }
        }
        panic!("{}: {CONNECTIONS} connections have ended, the last one with: {ended}", self.run_id);
    }

    async fn send_json(&mut self) -> Result<(), String> {
        let mut socket = RawSocket::json(&self.ingest, &self.run_id).await;
        self.write(&mut socket).await;
        while self.acknowledged < self.frames.len() {
            match socket.next().await? {
                Frame::Text(text) if text == r#"{"status":"ok","error":null}"# => self.acknowledged += 1,
                // Any other response, such as the error of a frame that was not stored in time.
                other => return Err(format!("{other:?}")),
            }
        }
        Ok(())
    }

    async fn send_binary(&mut self, producer_id: Uuid) -> Result<(), String> {
        let mut socket = RawSocket::binary(&self.ingest, &self.run_id).await;
        let known = if self.acknowledged == 0 { Vec::new() } else { vec![counted()] };
        let dictionary = IngestionBatch { series: known, ..IngestionBatch::default() };
        let open = StreamOpen {
            producer_id: producer_id.as_bytes().to_vec().into(),
            acknowledged: self.acknowledged as u64,
            dictionary: dictionary.encode_to_vec().into(),
            ..StreamOpen::default()
        };
        socket.request(stream_request::Message::Open(open)).await?;
        self.write(&mut socket).await;
        while self.acknowledged < self.frames.len() {
            self.acknowledged = socket.response().await?.sequence as usize;
        }
        Ok(())
    }

    /// Writes the frames that are not acknowledged, until the connection ends. Responses that came before its end can
    /// still be read.
    async fn write(&self, socket: &mut RawSocket) {
        for frame in &self.frames[self.acknowledged..] {
            if socket.write(frame).await.is_err() {
                break;
            }
        }
    }
}

/// Raises the limit on open files of this process, which needs more than many shells allow.
fn open_files_allow() {
    let pid = std::process::id().to_string();
    let allowed = Command::new("prlimit").args(["--pid", &pid, "--nofile=4096:"]).status();
    assert!(allowed.is_ok_and(|status| status.success()), "the test needs 4,096 open files");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_with_many_idle_and_flooding_connections() {
    let frames = frames();
    open_files_allow();
    let mut server = Server::up_with_few_files(FEW_FILES).await;
    let fresh = server.memory("VmRSS");
    let stop = Arc::new(Notify::new());
    let mut idling = JoinSet::new();
    for number in 0..IDLE {
        idling.spawn(idle(server.ingest.clone(), format!("idle-{number}"), stop.clone()));
    }
    eventually("all idle connections are open", async || {
        let answer =
            reqwest::get(format!("{}/metrics/", server.ingest)).await.map_err(|error| error.to_string())?;
        let text = answer.text().await.map_err(|error| error.to_string())?;
        let open =
            text.lines().find(|line| line.starts_with("matyan_ws_connections_active ")).unwrap_or_default();
        if open.ends_with(&format!(" {IDLE}")) { Ok(()) } else { Err(open.to_owned()) }
    })
    .await;
    let with_idle = server.memory("VmRSS");

    let json = encoded_frames(frames, true);
    let binary = encoded_frames(frames, false);
    let mut flooding = JoinSet::new();
    for number in 0..FLOODING {
        let is_json = is_json(number);
        let client = FloodingClient {
            ingest: server.ingest.clone(),
            run_id: format!("flood-{number}"),
            frames: if is_json { json.clone() } else { binary.clone() },
            acknowledged: 0,
        };
        flooding.spawn(async move { (number, client.flood(is_json).await) });
    }
    let mut connections = [0; FLOODING];
    while let Some(flooded) = flooding.join_next().await {
        let (number, count) = flooded.expect("everything is acknowledged");
        connections[number] = count;
    }
    let largest = server.memory("VmHWM");
    // Only tasks that already wait are notified; all of them do by now.
    stop.notify_waiters();
    while let Some(idled) = idling.join_next().await {
        idled.expect("the connection was kept open");
    }
    let reader = Reader::connect(&server.query).await;
    for (number, connections) in connections.into_iter().enumerate() {
        let run_id = format!("flood-{number}");
        eventually("the flood is applied", async || match reader.count(&run_id).await {
            Ok(count) if count == frames as u64 => Ok(()),
            // A JSON client that connected again has repeated frames that may have been stored.
            Ok(count) if is_json(number) && connections > 1 && count > frames as u64 => Ok(()),
            other => Err(format!("{run_id}: {other:?}")),
        })
        .await;
    }
    server.check_alive();
    let largest = largest.max(server.memory("VmHWM"));
    let flooded = (frames * FLOODING * FRAME_BYTES) as u64;
    println!(
        "fresh {}; {IDLE} idle connections {}, {} bytes each; a flood of {} from {FLOODING} more, over {} \
         connections: peak {}",
        megabytes(fresh),
        megabytes(with_idle),
        with_idle.saturating_sub(fresh) / IDLE as u64,
        megabytes(flooded),
        connections.iter().sum::<usize>(),
        megabytes(largest),
    );
    assert!(with_idle.saturating_sub(fresh) <= IDLE_BOUND * IDLE as u64);
    assert!(largest <= BOUND, "{} exceeds {}", megabytes(largest), megabytes(BOUND));
}

/// Upper bound for the memory of a server whose clients send only incomplete frames and bodies.
const UNFINISHED_BOUND: u64 = 512 << 20;

const RUNS: usize = 1_000;
const WATCHERS: usize = 100;

/// Sizes of the bodies and frames that clients start to send.
const BODY_BYTES: usize = 8 << 20;
const FRAME_SIZE: usize = 1 << 20;
/// The number of bytes that clients send of each.
const SENT_BYTES: usize = 600 << 10;

/// Creates a run, and waits until its record is in the log.
async fn create(ingest: &str, run_id: &str) {
    let mut socket = RawSocket::json(ingest, run_id).await;
    socket.send(Frame::text(create_run().to_string())).await.expect("the connection is open");
    assert_eq!(socket.next().await, Ok(Frame::text(r#"{"status":"ok","error":null}"#)));
}

/// Starts to watch all runs, and returns once each run was sent.
async fn watch(query: &str) -> Streaming<WatchResponse> {
    let mut client = RunServiceClient::new(channel(query).await);
    let request = WatchRequest { snapshot: true, ..WatchRequest::default() };
    let mut changes = client.watch(request).await.expect("the watch begins").into_inner();
    let mut sent = 0;
    loop {
        let response = changes.message().await.expect("the watch continues").expect("the watch does not end");
        sent += response.changes.len();
        if response.snapshot_done {
            assert_eq!(sent, RUNS);
            return changes;
        }
    }
}

/// Sends as many of these bytes as the server and the buffers of the system accept, and returns their number.
/// On a busy machine the server may end the connection early, because others wait for its memory.
async fn send_part(socket: &mut TcpStream, bytes: &[u8]) -> usize {
    let mut sent = 0;
    while sent < bytes.len()
        && let Ok(Ok(written)) = timeout(Duration::from_millis(100), socket.write(&bytes[sent..])).await
    {
        sent += written;
    }
    sent
}

/// Starts a frame, and sends a part of it.
async fn begin_frame(mut socket: RawSocket, part: &[u8]) -> (RawSocket, usize) {
    let sent = send_part(socket.socket.get_mut(), part).await;
    (socket, sent)
}

/// This many bytes of a frame.
fn part_of_frame(bytes: usize, sent: usize) -> Arc<[u8]> {
    raw::frame(Kind::Text, &vec![b' '; bytes])[..sent].into()
}

async fn begin_body(query: String) -> (TcpStream, usize) {
    let address = authority(&query);
    let head = format!(
        "POST /api/v1/rest/runs/search/metric/align/ HTTP/1.1\r\nhost: {address}\r\n\
         content-type: application/json\r\ncontent-length: {BODY_BYTES}\r\n\r\n"
    );
    let mut socket = TcpStream::connect(address).await.expect("the server listens");
    let sent = send_part(&mut socket, &[head.as_bytes(), &vec![b' '; SENT_BYTES]].concat()).await;
    (socket, sent)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_45_memory_is_bounded_with_unfinished_bodies_and_frames_and_many_watchers() {
    open_files_allow();
    let server = Server::up().await;
    for number in 0..RUNS {
        create(&server.ingest, &format!("run-{number}")).await;
    }
    eventually("all runs are applied", async || {
        for number in 0..RUNS {
            server.get(&format!("/api/v1/rest/runs/run-{number}/info/")).await?;
        }
        Ok::<_, String>(())
    })
    .await;
    let mut watches = Vec::new();
    for _ in 0..WATCHERS {
        watches.push(watch(&server.query).await);
    }
    let with_watchers = server.memory("VmHWM");
    // All clients connect before the first client sends. On a busy machine, a client that connects later could
    // exceed the time limit of its handshake.
    let mut sockets = Vec::new();
    for number in 0..IDLE {
        sockets.push(RawSocket::json(&server.ingest, &format!("frame-{number}")).await);
    }
    let part = part_of_frame(FRAME_SIZE, SENT_BYTES);
    let mut beginning = JoinSet::new();
    for socket in sockets {
        let part = part.clone();
        beginning.spawn(async move { begin_frame(socket, &part).await });
    }
    let frames = beginning.join_all().await;
    let with_frames = server.memory("VmHWM");
    let mut beginning = JoinSet::new();
    for _ in 0..IDLE {
        beginning.spawn(begin_body(server.query.clone()));
    }
    let bodies = beginning.join_all().await;
    let largest = server.memory("VmHWM");
    println!(
        "{WATCHERS} watchers of {RUNS} runs: peak {}; {IDLE} half frames: {}; {IDLE} slow bodies: {}",
        megabytes(with_watchers),
        megabytes(with_frames),
        megabytes(largest),
    );
    let sent: usize = frames.iter().map(|(_, sent)| sent).chain(bodies.iter().map(|(_, sent)| sent)).sum();
    assert!(sent as u64 > UNFINISHED_BOUND, "clients have sent {} only", megabytes(sent as u64));
    assert!(largest <= UNFINISHED_BOUND, "{} exceeds {}", megabytes(largest), megabytes(UNFINISHED_BOUND));
    // Others are still served.
    create(&server.ingest, "last").await;
    drop((watches, frames, bodies));
}

/// Numbers of sockets that name series, of frames on each socket, and of series in each frame: in total four
/// times the bound for names.
const NAMING: usize = 64;
const NAMING_FRAMES: usize = 8;
const NAMES: usize = 125;
const NAME_BYTES: usize = 8_000;

/// Upper bound for the memory of the server after all sockets have named their series.
const NAMED_BOUND: u64 = 512 << 20;

/// The bytes of frames with points of series that have long names. All sockets send the same frames: a socket
/// that encoded its frames while sending would be slow, and lose its memory to the others.
fn naming_frames(frames: usize) -> Arc<[Vec<u8>]> {
    let long = "x".repeat(NAME_BYTES);
    let named = |frame: usize, number: usize| {
        let mut item = metric("named", 1.0, Some(1));
        item["context"] = serde_json::json!({"of": format!("{frame}/{number}/{long}")});
        item
    };
    let encode = |frame: usize| {
        let items: Vec<Value> = (0..NAMES).map(|number| named(frame, number)).collect();
        raw::frame(Kind::Text, Value::from(items).to_string().as_bytes())
    };
    (0..frames).map(encode).collect()
}

/// Sends frames, and returns once all of them are in the log.
async fn name_series(ingest: String, run_id: String, frames: Arc<[Vec<u8>]>) -> RawSocket {
    let mut socket = RawSocket::json(&ingest, &run_id).await;
    for frame in &*frames {
        socket.write(frame).await.expect("the connection is open");
        assert_eq!(socket.next().await, Ok(Frame::text(r#"{"status":"ok","error":null}"#)));
    }
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_45_memory_is_bounded_with_many_dictionaries() {
    let server = Server::up().await;
    let fresh = server.memory("VmRSS");
    let frames = naming_frames(NAMING_FRAMES);
    let mut naming = JoinSet::new();
    for number in 0..NAMING {
        naming.spawn(name_series(server.ingest.clone(), format!("naming-{number}"), frames.clone()));
    }
    let sockets = naming.join_all().await;
    for number in 0..NAMING {
        eventually("all series are readable", async || {
            let info = server.get(&format!("/api/v1/rest/runs/naming-{number}/info/")).await?;
            match info["traces"]["metric"].as_array().map(Vec::len) {
                Some(count) if count == NAMING_FRAMES * NAMES => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
    let named = server.memory("VmRSS");
    drop(sockets);
    let bytes = (NAMING * NAMING_FRAMES * NAMES * NAME_BYTES) as u64;
    println!("fresh {}; with {} of names: {}", megabytes(fresh), megabytes(bytes), megabytes(named));
    assert!(named <= NAMED_BOUND, "{} exceeds {}", megabytes(named), megabytes(NAMED_BOUND));
}

/// Maximum number of requests for the page of a run whose params are nearly as large as permitted.
const UNREAD_ANSWERS: usize = 200;

/// Number of refusals after which no more requests are sent: each refusal takes ten seconds.
const REFUSED_ANSWERS: usize = 3;
const PARAM_BYTES: usize = 2_900_000;

/// Upper bound for the memory of a server that has answered these requests.
const UNREAD_BOUND: u64 = 512 << 20;

/// Creates a run with two long params of these names.
async fn create_large(base: &str, run_id: &str, names: [&str; 2]) {
    let mut writer = JsonWriter::connect(base, run_id).await.expect("the server listens");
    let param =
        |name: &str| serde_json::json!({"type": "log_hparams", "value": {name: "x".repeat(PARAM_BYTES)}});
    for item in [create_run(), param(names[0]), param(names[1])] {
        assert_eq!(writer.send(&item).await, Ok(Ack::Ok));
    }
}

/// Sends a GET request, and reads only the beginning of the answer.
async fn ask(query: &str, path: &str) -> (TcpStream, String) {
    let address = authority(query);
    let mut socket = TcpStream::connect(address).await.expect("the server listens");
    let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    socket.write_all(head.as_bytes()).await.expect("the server reads requests");
    let mut status = [0; 12];
    socket.read_exact(&mut status).await.expect("the server answers");
    (socket, String::from_utf8_lossy(&status).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_45_memory_is_bounded_with_many_answers_that_nobody_reads() {
    let server = Server::up().await;
    create_large(&server.ingest, "large", ["a", "b"]).await;
    create(&server.ingest, "small").await;
    let page = "/api/v1/rest/runs/large/info/";
    eventually("the params are applied", async || {
        let info = server.get(page).await?;
        match info["params"]["b"].as_str().map(str::len) {
            Some(PARAM_BYTES) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let fresh = server.memory("VmHWM");
    let mut unread = Vec::new();
    let mut refused = 0;
    for _ in 0..UNREAD_ANSWERS {
        let (socket, status) = ask(&server.query, page).await;
        match status.as_str() {
            "HTTP/1.1 200" => unread.push(socket),
            "HTTP/1.1 503" => refused += 1,
            other => panic!("{other}"),
        }
        if refused == REFUSED_ANSWERS {
            break;
        }
    }
    let largest = server.memory("VmHWM");
    println!(
        "before {}; with {} answers that nobody reads, and {refused} refused: {}",
        megabytes(fresh),
        unread.len(),
        megabytes(largest),
    );
    assert!(largest <= UNREAD_BOUND, "{} exceeds {}", megabytes(largest), megabytes(UNREAD_BOUND));
    assert!(!unread.is_empty() && refused > 0, "{} unread, {refused} refused", unread.len());
    // Small answers do not need the memory, and large ones get it back.
    server.get("/api/v1/rest/runs/small/info/").await.expect("a small answer is sent");
    drop(unread);
    eventually("a large answer is sent", async || server.get(page).await.map(drop)).await;
}

/// Number of bodies that are started: a few more than fit in the memory of a port.
const STALLED_BODIES: usize = HELD_BODIES + 4;

/// Numbers of the largest frames, and of bodies, that fit in the memory of a port.
const HELD_FRAMES: usize = (128 << 20) / BATCH_BYTES;
const HELD_BODIES: usize = (144 << 20) / BODY_BYTES;

/// Start of the response to a body that took too long.
const TIMED_OUT: &[u8] = b"HTTP/1.1 408";

/// The bytes that have arrived on a connection: `None` if it is open and there are none.
fn arrived(socket: &TcpStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; TIMED_OUT.len()];
    match socket.try_read(&mut bytes) {
        Ok(read) => Some(bytes[..read].to_vec()),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
        Err(_) => Some(Vec::new()),
    }
}

/// Whether a WebSocket is open. The server pings a client that says nothing for a while.
fn is_open(socket: &TcpStream) -> bool {
    loop {
        match arrived(socket) {
            None => return true,
            Some(bytes) if bytes.is_empty() => return false,
            Some(_ping) => {}
        }
    }
}

/// Number of frames that are started: more than would fit in the memory of a port if each took as much as the
/// largest frame.
const STALLED_FRAMES: usize = 4 * HELD_FRAMES;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_88_a_frame_does_not_wait_for_stalled_ones() {
    let server = Server::up().await;
    let part = part_of_frame(FRAME_SIZE, SENT_BYTES);
    let mut frames = Vec::new();
    for number in 0..STALLED_FRAMES {
        let socket = RawSocket::json(&server.ingest, &format!("frame-{number}")).await;
        frames.push(begin_frame(socket, &part).await.0);
    }
    let mut socket = RawSocket::json(&server.ingest, "complete").await;
    socket.send(json_frame(0)).await.expect("the connection is open");
    assert_eq!(socket.next().await, Ok(Frame::text(r#"{"status":"ok","error":null}"#)));
    let open = frames.iter().filter(|frame| is_open(frame.socket.get_ref()));
    assert_eq!(open.count(), STALLED_FRAMES, "no stalled frame had to make room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_45_stalled_senders_make_room_for_others() {
    let server = Server::up().await;
    let part = part_of_frame(BATCH_BYTES, BATCH_BYTES - 1);
    let mut frames = Vec::new();
    for number in 0..HELD_FRAMES {
        let mut socket = RawSocket::json(&server.ingest, &format!("frame-{number}")).await;
        socket.socket.get_mut().write_all(&part).await.expect("there is memory for it");
        frames.push(socket);
    }
    let mut socket = RawSocket::json(&server.ingest, "complete").await;
    socket.send(json_frame(0)).await.expect("the connection is open");
    assert_eq!(socket.next().await, Ok(Frame::text(r#"{"status":"ok","error":null}"#)));
    let mut open = frames.iter().map(|frame| frame.socket.get_ref()).collect::<Vec<_>>();
    eventually("those that made room are cut off", async || {
        open.retain(|socket| is_open(socket));
        if open.len() < HELD_FRAMES { Ok(()) } else { Err(open.len()) }
    })
    .await;
    assert!(!open.is_empty(), "the others keep their memory");

    let mut bodies = Vec::new();
    for _ in 0..STALLED_BODIES {
        bodies.push(begin_body(server.query.clone()).await.0);
    }
    let align = format!("{}/api/v1/rest/runs/search/metric/align/", server.query);
    let request = reqwest::Client::new().post(align).header("content-type", "application/json");
    let answer = request.body(vec![b' '; SENT_BYTES]).send().await.expect("the server answers");
    assert_eq!(answer.status(), 422, "spaces are not JSON");
    eventually("those that made room have a response", async || {
        bodies.retain(|socket| match arrived(socket) {
            Some(head) => {
                assert_eq!(head, TIMED_OUT);
                false
            }
            None => true,
        });
        if bodies.len() <= HELD_BODIES { Ok(()) } else { Err(bodies.len()) }
    })
    .await;
    assert!(!bodies.is_empty(), "the others keep their memory");
}
