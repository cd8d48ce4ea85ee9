//! A server that records frames, and acknowledges only what the test says. It is not Matyan: it
//! stores nothing, so it shows exactly the frames that were sent.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use matyan_proto::ingest::v1::{
    Event, IngestionBatch, StreamRequest, StreamResponse, event::Kind, stream_request::Message as Request,
};
use matyan_tests::eventually;
use matyan_wire::headers::BINARY_SUBPROTOCOL;
use prost::Message as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request as Handshake, Response},
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

/// Batches after which a connection ends as long as nothing is acknowledged.
const BATCHES_PER_CONNECTION: usize = 10;

/// Frames of one connection.
#[derive(Clone, Debug, Default)]
struct Connection {
    producer: Bytes,
    batches: Vec<(u64, Bytes)>,
}

#[derive(Clone)]
pub(crate) struct Recorder {
    pub(crate) url: String,
    connections: Arc<Mutex<Vec<Connection>>>,
    acknowledges: Arc<AtomicBool>,
    refuses_first: Arc<AtomicBool>,
    acknowledgements: Arc<Mutex<Acknowledgements>>,
    version: &'static str,
}

/// Returns the sequences that are acknowledged after a batch with a sequence has arrived.
type Acknowledgements = fn(u64) -> Vec<u64>;

fn own_sequence(sequence: u64) -> Vec<u64> {
    vec![sequence]
}

impl Recorder {
    pub(crate) async fn start() -> Self {
        Self::of_version(env!("CARGO_PKG_VERSION")).await
    }

    /// Starts a server that says it has this version.
    pub(crate) async fn of_version(version: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let recorder = Self {
            url,
            connections: Arc::default(),
            acknowledges: Arc::default(),
            refuses_first: Arc::default(),
            acknowledgements: Arc::new(Mutex::new(own_sequence as Acknowledgements)),
            version,
        };
        let server = recorder.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(record(stream, server.clone()));
            }
        });
        recorder
    }

    /// Refuses batches of the first producer from now on, as if their sequence were wrong.
    pub(crate) fn refuse_first_producer(&self) {
        self.refuses_first.store(true, Ordering::Release);
    }

    /// Acknowledges every batch from now on, on new connections too.
    pub(crate) fn acknowledge_all(&self) {
        self.acknowledges.store(true, Ordering::Release);
    }

    /// From now on, acknowledges other sequences than the batches that arrive have.
    pub(crate) fn acknowledge_as(&self, acknowledgements: Acknowledgements) {
        *self.acknowledgements.lock().expect("nothing panics with the lock") = acknowledgements;
        self.acknowledge_all();
    }

    fn recorded(&self) -> Vec<Connection> {
        self.with_connections(|connections| connections.clone())
    }

    fn with_connections<T>(&self, call: impl FnOnce(&mut Vec<Connection>) -> T) -> T {
        call(&mut self.connections.lock().expect("nothing panics with the lock"))
    }

    /// Identity of the producer that connected last.
    pub(crate) fn last_producer(&self) -> Bytes {
        self.recorded().last().map(|connection| connection.producer.clone()).unwrap_or_default()
    }

    /// Number of connections of the first producer.
    pub(crate) fn connections(&self) -> usize {
        let first = self.first_producer();
        self.recorded().iter().filter(|connection| connection.producer == first).count()
    }

    pub(crate) fn first_producer(&self) -> Bytes {
        self.recorded().first().map(|connection| connection.producer.clone()).unwrap_or_default()
    }

    pub(crate) async fn wait_for_batches(&self, count: usize) {
        eventually("batches arrive", async || {
            let found: usize = self.recorded().iter().map(|connection| connection.batches.len()).sum();
            if found >= count { Ok(()) } else { Err(found) }
        })
        .await;
    }

    pub(crate) async fn wait_for_connections_of(&self, producer: &Bytes, count: usize) {
        eventually("the producer connects", async || {
            let recorded = self.recorded();
            let found = recorded.iter().filter(|connection| connection.producer == producer).count();
            if found >= count { Ok(()) } else { Err(found) }
        })
        .await;
    }

    /// Checks that every batch had the same bytes whenever it was sent.
    pub(crate) fn assert_same_bytes(&self) {
        let mut known: BTreeMap<(Bytes, u64), Bytes> = BTreeMap::new();
        let mut repeats = 0;
        for connection in self.recorded() {
            for (sequence, batch) in connection.batches {
                let first = known.entry((connection.producer.clone(), sequence)).or_insert(batch.clone());
                repeats += usize::from(!std::ptr::eq(first.as_ptr(), batch.as_ptr()));
                assert!(*first == batch, "batch {sequence} has changed");
            }
        }
        assert!(repeats > 0, "nothing was sent twice");
    }

    /// Steps of all points of a producer, each batch counted once, in order.
    pub(crate) fn steps(&self, producer: &Bytes) -> Vec<i64> {
        let points = self.batches(producer).into_iter().flat_map(|batch| batch.points);
        points.flat_map(|points| points.steps).collect()
    }

    /// Numbers of all terminal lines of the last producer, each batch counted once, in order.
    pub(crate) fn lines(&self) -> Vec<i64> {
        let batches = self.batches(&self.last_producer());
        let events = batches.into_iter().flat_map(|batch| batch.events);
        let number = |event: Event| match event.kind {
            Some(Kind::LogTerminalLine(line)) => Some(line.step),
            _ => None,
        };
        events.filter_map(number).collect()
    }

    fn batches(&self, producer: &Bytes) -> Vec<IngestionBatch> {
        let recorded = self.recorded();
        let connections = recorded.iter().filter(|connection| connection.producer == producer);
        let batches: BTreeMap<u64, Bytes> =
            connections.flat_map(|connection| connection.batches.iter().cloned()).collect();
        let decode = |batch: Bytes| IngestionBatch::decode(batch).expect("the batch is valid");
        batches.into_values().map(decode).collect()
    }
}

async fn record(stream: TcpStream, server: Recorder) {
    let version = HeaderValue::from_static(server.version);
    #[expect(clippy::result_large_err, reason = "the type is prescribed by the WebSocket library")]
    let answer = move |_: &Handshake, mut response: Response| -> Result<Response, ErrorResponse> {
        let headers = response.headers_mut();
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(BINARY_SUBPROTOCOL));
        headers.insert("matyan-version", version);
        Ok(response)
    };
    let Ok(mut socket) = accept_hdr_async(stream, answer).await else { return };
    // A connection that only checks whether the server can be reached opens no stream.
    let mut at = usize::MAX;
    let mut batches = 0;
    while let Some(Ok(message)) = socket.next().await {
        let Message::Binary(frame) = message else { continue };
        let request = StreamRequest::decode(frame).expect("the frame is valid").message;
        let batch = match request.expect("the request has a message") {
            Request::Open(open) => {
                at = server.with_connections(|connections| {
                    connections.push(Connection { producer: open.producer_id, batches: Vec::new() });
                    connections.len() - 1
                });
                continue;
            }
            Request::Batch(batch) => batch,
        };
        let is_first =
            server.with_connections(|connections| connections[at].producer == connections[0].producer);
        if server.refuses_first.load(Ordering::Acquire) && is_first {
            let reason =
                CloseFrame { code: CloseCode::Policy, reason: "OUT_OF_SEQUENCE: as the test says".into() };
            socket.close(Some(reason)).await.ok();
            return;
        }
        let sequence = batch.sequence;
        server.with_connections(|connections| connections[at].batches.push((sequence, batch.batch)));
        batches += 1;
        if server.acknowledges.load(Ordering::Acquire) {
            let acknowledgements = *server.acknowledgements.lock().expect("nothing panics with the lock");
            for sequence in acknowledgements(sequence) {
                let response = StreamResponse { sequence, ..StreamResponse::default() };
                if socket.send(Message::binary(response.encode_to_vec())).await.is_err() {
                    return;
                }
            }
        } else if batches == BATCHES_PER_CONNECTION {
            return;
        }
    }
}
