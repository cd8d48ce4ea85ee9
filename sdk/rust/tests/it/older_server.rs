//! A server that does not know points in rows acknowledges them, and stores none of them. So it must not get any.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use matyan_proto::ingest::v1::{
    IngestionBatch, Points, StreamBatch, StreamRequest, StreamResponse, stream_request,
};
use matyan_value::Context;
use matyan_wire::{columns, rows};
use prost::Message as _;
use tokio_tungstenite::tungstenite::Message;

use crate::hostile_server::{
    run,
    sockets::{Socket, socket_gateway},
};

const SERIES: u32 = 40;
const STEPS: i64 = 100;
const TIMEOUT: Duration = Duration::from_secs(30);

/// A point: its series, its step, and the bits of its value.
type Point = (u32, Option<i64>, u64);

/// The behavior of a connection of a server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Connection {
    /// It does not know rows.
    Older,
    /// It takes rows.
    Current,
    /// It takes rows, and is lost before it stores or acknowledges any.
    Lost,
}

/// The batches and points that a server has received.
#[derive(Default)]
struct Received {
    /// The points of each batch, with those in rows.
    sent: BTreeMap<u64, Vec<Point>>,
    /// Points that the server has understood and stored, in order.
    stored: Vec<Point>,
    acknowledged: u64,
    /// Number of groups of rows among them.
    stored_rows: usize,
    lost_connections: usize,
}

impl Received {
    fn take(&mut self, batch: &StreamBatch, connection: Connection) -> Option<StreamResponse> {
        let sequence = batch.sequence;
        let items = IngestionBatch::decode(batch.batch.clone()).expect("the batch is valid");
        let all: Vec<Point> = items.points.iter().flat_map(|group| points(&rows::plain(group))).collect();
        // A batch that is sent again has the same points in the same order, whatever their form is.
        let before = self.sent.entry(sequence).or_insert_with(|| all.clone());
        assert!(*before == all, "batch {sequence} had {} points, and has {}", before.len(), all.len());
        let in_rows = items.points.iter().filter(|group| group.rows.is_some()).count();
        if connection == Connection::Lost && in_rows > 0 {
            self.lost_connections += 1;
            return None;
        }
        let takes_rows = connection != Connection::Older;
        if sequence > self.acknowledged {
            assert_eq!(sequence, self.acknowledged + 1, "sequences have no gaps");
            self.acknowledged = sequence;
            let understood = items.points.iter().filter(|group| takes_rows || group.rows.is_none());
            self.stored.extend(understood.flat_map(|group| points(&rows::plain(group))));
            self.stored_rows += in_rows;
        }
        Some(StreamResponse { sequence: self.acknowledged, takes_rows, ..StreamResponse::default() })
    }
}

/// The points of a group without rows.
fn points(group: &Points) -> Vec<Point> {
    let point = |at: usize| (group.series[at], columns::entry(&group.steps, at), group.values[at].to_bits());
    (0..group.series.len()).map(point).collect()
}

/// Answers until the client has left, or the connection is to be lost.
fn talk(socket: &mut Socket, received: &Mutex<Received>, connection: Connection) {
    loop {
        let Ok(message) = socket.read() else { return };
        let Message::Binary(frame) = message else { continue };
        let response = match StreamRequest::decode(frame).expect("the frame is valid").message {
            Some(stream_request::Message::Open(open)) => {
                assert!(open.asks_for_features);
                // Older servers do not know the question.
                if connection == Connection::Older {
                    continue;
                }
                let sequence = open.acknowledged;
                StreamResponse { sequence, takes_rows: true, ..StreamResponse::default() }
            }
            Some(stream_request::Message::Batch(batch)) => {
                let taken = received.lock().expect("no connection has panicked").take(&batch, connection);
                let Some(response) = taken else { return };
                response
            }
            None => continue,
        };
        if socket.send(Message::binary(response.encode_to_vec())).is_err() {
            return;
        }
    }
}

/// Tracks a point, waits until it is stored, and then tracks steps of many series. Returns what a server has got whose
/// connections are these, and whose further ones are like the last.
fn track(connections: &'static [Connection]) -> Received {
    let received = Arc::new(Mutex::new(Received::default()));
    let count = AtomicUsize::new(0);
    let server = received.clone();
    let url = socket_gateway(move |socket| {
        let number = count.fetch_add(1, Ordering::Relaxed).min(connections.len() - 1);
        talk(socket, &server, connections[number]);
    });
    let spools = tempfile::tempdir().expect("there is room for a spool");
    let run = run(&url, spools.path());
    let series = |number: u32| {
        run.series(&format!("m{number}"), &Context::default(), "float").expect("the name is valid")
    };
    let all: Vec<_> = (0..SERIES).map(series).collect();
    run.track(&all[0], 0.5, Some(-1), None);
    assert!(run.flush(TIMEOUT), "{:?}", run.health());
    for step in 0..STEPS {
        for (number, series) in (0..).zip(&all) {
            run.track_at(series, value(number, step), Some(step), None, 1_700_000_000_000_000 + step);
        }
    }
    assert!(run.flush(TIMEOUT), "{:?}", run.health());
    assert_eq!((run.health().pending, run.health().dropped), (0, 0));
    std::mem::take(&mut *received.lock().expect("no thread panicked"))
}

fn value(number: u32, step: i64) -> f64 {
    if (number, step) == (7, 11) { f64::NAN } else { f64::from(number) + step as f64 / 8.0 }
}

#[track_caller]
fn expect_all(received: &Received) {
    let mut expected = vec![(0, Some(-1), 0.5_f64.to_bits())];
    for step in 0..STEPS {
        expected.extend((0..SERIES).map(|number| (number, Some(step), value(number, step).to_bits())));
    }
    assert!(received.stored == expected, "{} points are stored", received.stored.len());
}

#[test]
fn rule_138_an_older_server_gets_single_points() {
    let received = track(&[Connection::Older]);
    assert_eq!(received.stored_rows, 0);
    expect_all(&received);
}

#[test]
fn rule_138_a_server_that_takes_rows_gets_them() {
    let received = track(&[Connection::Current]);
    assert!(received.stored_rows > 0);
    expect_all(&received);
}

/// As while servers are upgraded or downgraded: the next connection is to another one.
#[test]
fn rule_138_points_arrive_when_an_older_server_takes_over() {
    let received = track(&[Connection::Lost, Connection::Older]);
    assert_eq!((received.lost_connections, received.stored_rows), (1, 0));
    expect_all(&received);
    expect_all(&track(&[Connection::Lost, Connection::Lost, Connection::Older]));
    expect_all(&track(&[Connection::Lost, Connection::Older, Connection::Current]));
}
