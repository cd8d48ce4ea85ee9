//! One connection of a sender: batches go out, acknowledgements come in, until the connection ends
//! or nothing is left to do. The first message asks what the server can do. Batches do not wait for the answer: until it
//! is there, and always if a server does not know the question, they go out in the form that every server knows.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use bytes::Bytes;
use matyan_proto::ingest::v1::{
    IngestionBatch, StreamBatch, StreamOpen, StreamRequest, StreamResponse, stream_request::Message,
};
use prost::Message as _;
use tokio::{
    sync::Notify,
    task,
    time::{self, Instant},
};

use crate::sender::{
    idle_messages::IdleMessages,
    link::{LinkEnd, RequestSink, ResponseStream},
    outbox::{Outbox, RejectedItems},
};

/// Interval of batches while little is tracked, and the delay of a point.
pub(crate) const PACE: Duration = Duration::from_millis(10);
/// Size, without rows, below which the next batch waits for more records.
const SMALL_BATCH: usize = 256 << 10;
/// Interval at which a silent connection is examined.
const EXAMINATION: Duration = Duration::from_secs(5);
/// Interval at which the end of a closed run is looked for.
const END_INTERVAL: Duration = Duration::from_millis(50);
/// Silence after which a connection that owes acknowledgements is given up.
const SILENCE: Duration = Duration::from_secs(20);
/// The same for a connection without unacknowledged data, or with so much that the server does not read
/// pings: the server sends pings every 20 s itself, and holds a batch for up to 40 s while it cannot store
/// it.
const LONG_SILENCE: Duration = Duration::from_secs(65);
/// Time without an acknowledgement of anything new after which a connection is given up, whatever signs of life the server
/// shows. The largest message takes as long at the lowest speed that servers wait for.
const UNANSWERED: Duration = Duration::from_secs(300);
/// Unacknowledged bytes up to which the server certainly reads pings.
const READ_AHEAD: usize = 3 << 20;
/// The reason that is given when a connection ends after `UNANSWERED`.
const NO_ACKNOWLEDGEMENT: &str = "the server answers, but has not acknowledged any data for five minutes";
/// Longest time for saying goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// State that the two directions of a connection share. They are parts of one task.
struct Exchange<'a> {
    outbox: RefCell<&'a mut Outbox>,
    /// Signals an acknowledgement.
    acknowledged: Notify,
    heard: Cell<Instant>,
    /// When the oldest unacknowledged batch was sent.
    owing_since: Cell<Option<Instant>>,
    /// When the first message was sent, until the connection has taken it.
    opening_since: Cell<Option<Instant>>,
    /// Whether the server has said, on this connection, that it takes points in rows.
    takes_rows: Cell<bool>,
    uploads: &'a dyn Fn() -> usize,
}

/// Sends batches until the connection ends. `uploads` returns the number of files that will still
/// announce themselves with an event. The flag says whether the server acknowledged anything.
pub(crate) async fn run<R: ResponseStream>(
    (mut requests, responses): (impl RequestSink, R),
    outbox: &mut Outbox,
    uploads: &dyn Fn() -> usize,
) -> (LinkEnd, bool) {
    outbox.reconnect();
    let acknowledged = outbox.acknowledged();
    let exchange = Exchange::new(outbox, uploads);
    let end = tokio::select! {
        end = exchange.send(&mut requests) => end,
        end = exchange.receive(responses) => end,
    };
    if end == LinkEnd::Finished {
        time::timeout(GOODBYE, requests.close()).await.ok();
    }
    let progressed = exchange.outbox.borrow().acknowledged() > acknowledged;
    (end, progressed)
}

/// The first message of a connection.
fn open_message(outbox: &Outbox) -> StreamRequest {
    let dictionary = IngestionBatch { series: outbox.known_definitions(), ..IngestionBatch::default() };
    let open = StreamOpen {
        run_id: outbox.spool().owner().run_id.clone(),
        producer_id: Bytes::copy_from_slice(&outbox.producer().bytes()),
        acknowledged: outbox.acknowledged(),
        dictionary: dictionary.encode_to_vec().into(),
        ephemeral: false,
        asks_for_features: true,
    };
    StreamRequest { message: Some(Message::Open(open)) }
}

fn batch_message(sequence: u64, batch: Bytes) -> StreamRequest {
    let batch = StreamBatch { sequence, batch, traceparent: String::new() };
    StreamRequest { message: Some(Message::Batch(batch)) }
}

impl<'a> Exchange<'a> {
    fn new(outbox: &'a mut Outbox, uploads: &'a dyn Fn() -> usize) -> Self {
        let now = Instant::now();
        Self {
            outbox: RefCell::new(outbox),
            acknowledged: Notify::new(),
            heard: Cell::new(now),
            owing_since: Cell::new(None),
            opening_since: Cell::new(Some(now)),
            takes_rows: Cell::new(false),
            uploads,
        }
    }

    async fn send(&self, requests: &mut impl RequestSink) -> LinkEnd {
        let open = open_message(&self.outbox.borrow());
        if let Err(reason) = requests.send(open).await {
            return LinkEnd::Lost(reason);
        }
        self.opening_since.set(None);
        loop {
            if self.is_finished() {
                return LinkEnd::Finished;
            }
            let next = match self.next_request() {
                Ok(next) => next,
                Err(error) => return LinkEnd::Journal(error.to_string()),
            };
            let sent = match next {
                Some((request, is_small)) => {
                    let sent = requests.send(request).await;
                    if sent.is_ok() && is_small {
                        time::sleep(PACE).await;
                    }
                    sent
                }
                None if self.wait().await => Ok(()),
                None => requests.ping().await,
            };
            if let Err(reason) = sent {
                return LinkEnd::Lost(reason);
            }
        }
    }

    /// Returns the next request, and whether it is a small one, so that the next should wait for more.
    fn next_request(&self) -> std::io::Result<Option<(StreamRequest, bool)>> {
        let mut outbox = self.outbox.borrow_mut();
        if !outbox.has_room() {
            return Ok(None);
        }
        let Some(frame) = outbox.next_frame()? else { return Ok(None) };
        let batch = frame.batch_to_send(self.takes_rows.get())?;
        // A batch of rows is cut at the same number of items, and takes a fifth of the bytes.
        let is_small = batch.len().max(frame.listed_bytes) < SMALL_BATCH;
        let request = batch_message(frame.cut.sequence, batch);
        if self.owing_since.get().is_none() {
            self.owing_since.set(Some(Instant::now()));
        }
        Ok(Some((request, is_small)))
    }

    /// Waits until there may be something to send. Returns false if the time for a ping has come.
    async fn wait(&self) -> bool {
        let (spool, has_room, read) = {
            let outbox = self.outbox.borrow();
            (outbox.spool().clone(), outbox.has_room(), outbox.read_position())
        };
        let has_records = has_room && !spool.with_writer(|writer| writer.sleep_sender(read));
        tokio::select! {
            () = self.acknowledged.notified() => true,
            () = spool.sender_wake.notified() => true,
            () = time::sleep(PACE), if has_records => true,
            // The end of the last upload is not signaled.
            () = time::sleep(END_INTERVAL), if spool.is_closed() => true,
            () = time::sleep(EXAMINATION) => self.owing_since.get().is_none(),
        }
    }

    fn is_finished(&self) -> bool {
        self.outbox.borrow().is_finished(self.uploads)
    }

    async fn receive<R: ResponseStream>(&self, mut responses: R) -> LinkEnd {
        let mut idle = IdleMessages::default();
        loop {
            // Other runs share this thread, and messages that have already arrived are read without waiting.
            task::coop::consume_budget().await;
            let is_new = match time::timeout(EXAMINATION, responses.next()).await {
                Err(_) if self.is_silent(R::SHOWS_PINGS) => {
                    return self.give_up("the server has been silent for too long");
                }
                Err(_) if self.is_unanswered() => return self.give_up(NO_ACKNOWLEDGEMENT),
                Err(_) => continue,
                Ok(Ok(Some(response))) => match self.acknowledge(&response) {
                    Ok(is_new) => is_new,
                    Err(reason) => return LinkEnd::Lost(reason),
                },
                Ok(Ok(None)) => false,
                Ok(Err(end)) => return end,
            };
            let now = Instant::now();
            self.heard.set(now);
            if is_new {
                idle.reset();
            } else if idle.count(now) {
                return LinkEnd::Lost("the server sends messages that say nothing new".to_owned());
            } else if self.is_unanswered() {
                return self.give_up(NO_ACKNOWLEDGEMENT);
            }
        }
    }

    fn is_silent(&self, shows_pings: bool) -> bool {
        let heard = self.heard.get();
        let reads_pings = self.outbox.borrow().bytes_in_flight() <= READ_AHEAD;
        match self.owing_since.get() {
            Some(since) if shows_pings && reads_pings => since.max(heard).elapsed() > SILENCE,
            Some(since) => since.max(heard).elapsed() > LONG_SILENCE,
            None => shows_pings && heard.elapsed() > LONG_SILENCE,
        }
    }

    fn unanswered_since(&self) -> Option<Instant> {
        self.owing_since.get().or(self.opening_since.get())
    }

    fn is_unanswered(&self) -> bool {
        self.unanswered_since().is_some_and(|since| since.elapsed() > UNANSWERED)
    }

    /// Ends a connection that makes no progress, which is an outage since the last progress.
    fn give_up(&self, reason: &str) -> LinkEnd {
        if let Some(since) = self.unanswered_since() {
            self.outbox.borrow().spool().progress.update(|delivery| {
                delivery.stalled_since.get_or_insert(since.into_std());
            });
        }
        LinkEnd::Lost(reason.to_owned())
    }

    /// Returns whether the response acknowledges anything that was not acknowledged before.
    fn acknowledge(&self, response: &StreamResponse) -> Result<bool, String> {
        if response.takes_rows {
            self.takes_rows.set(true);
        }
        let mut outbox = self.outbox.borrow_mut();
        let rejected = RejectedItems { count: response.rejected_items, first: response.rejections.first() };
        let position = response.position.map(|position| (position.log, position.partition, position.offset));
        let is_new = outbox.acknowledge(response.sequence, position, rejected)?;
        if is_new {
            self.owing_since.set((!outbox.is_empty()).then(Instant::now));
            self.acknowledged.notify_one();
        }
        Ok(is_new)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use matyan_value::Context;
    use matyan_wire::rows;
    use tempfile::TempDir;

    use super::*;
    use crate::{notice::Notices, series::Series, spool::test_spool::spool_in};

    /// A server that only sends pings.
    struct Pings;

    impl ResponseStream for Pings {
        const SHOWS_PINGS: bool = true;

        async fn next(&mut self) -> Result<Option<StreamResponse>, LinkEnd> {
            time::sleep(Duration::from_millis(1)).await;
            Ok(None)
        }
    }

    fn outbox_in(root: &TempDir) -> Outbox {
        let spool = spool_in(root, "http://127.0.0.1:1", &Notices::default());
        Outbox::open(Arc::new(spool)).unwrap()
    }

    #[tokio::test]
    async fn rule_74_a_server_that_only_sends_pings_is_left() {
        let root = TempDir::new().unwrap();
        for is_open in [false, true] {
            let mut outbox = outbox_in(&root);
            let spool = outbox.spool().clone();
            let uploads = || 0;
            let exchange = Exchange::new(&mut outbox, &uploads);
            let long_ago = Instant::now().checked_sub(UNANSWERED + EXAMINATION);
            exchange.opening_since.set(long_ago.filter(|_| !is_open));
            exchange.owing_since.set(long_ago.filter(|_| is_open));
            assert_eq!(exchange.receive(Pings).await, LinkEnd::Lost(NO_ACKNOWLEDGEMENT.to_owned()));
            let stalled_since = spool.progress.delivery().stalled_since;
            assert!(stalled_since.is_some_and(|since| since.elapsed() > UNANSWERED));
        }
    }

    #[tokio::test]
    async fn pings_keep_a_connection_that_owes_nothing() {
        let root = TempDir::new().unwrap();
        let mut outbox = outbox_in(&root);
        let uploads = || 0;
        let exchange = Exchange::new(&mut outbox, &uploads);
        exchange.opening_since.set(None);
        let received = time::timeout(Duration::from_millis(50), exchange.receive(Pings)).await;
        assert!(received.is_err(), "{received:?}");
    }

    fn next_batch(exchange: &Exchange<'_>) -> (u64, IngestionBatch) {
        let (request, _) = exchange.next_request().unwrap().unwrap();
        let Some(Message::Batch(batch)) = request.message else { panic!("{request:?}") };
        (batch.sequence, IngestionBatch::decode(batch.batch).unwrap())
    }

    #[test]
    fn rule_138_only_a_server_that_says_so_gets_rows() {
        let root = TempDir::new().unwrap();
        let mut outbox = outbox_in(&root);
        let spool = outbox.spool().clone();
        let series = |number| Series::new(&format!("metric {number}"), Context::default(), "float").unwrap();
        let all: Vec<_> = (0..20).map(series).collect();
        for step in 0..3 {
            for (number, series) in (0..).zip(&all) {
                assert!(spool.track(series, f64::from(number), Some(step), None, 1_000 + step));
            }
        }
        let uploads = || 0;
        let exchange = Exchange::new(&mut outbox, &uploads);
        let (sequence, plain) = next_batch(&exchange);
        assert!(plain.points.iter().all(|group| group.rows.is_none()));
        assert_eq!(plain.points.iter().map(|group| group.series.len()).sum::<usize>(), 60);
        assert_eq!(exchange.outbox.borrow().bytes_in_flight(), plain.encoded_len());
        // A connection that is lost, and one to a server that takes rows.
        outbox.reconnect();
        let exchange = Exchange::new(&mut outbox, &uploads);
        let greeting = StreamResponse { takes_rows: true, ..StreamResponse::default() };
        assert_eq!(exchange.acknowledge(&greeting), Ok(false));
        let (again, in_rows) = next_batch(&exchange);
        assert!(in_rows.points.iter().all(|group| group.rows.is_some()));
        assert_eq!(exchange.outbox.borrow().bytes_in_flight(), in_rows.encoded_len());
        let expanded = rows::plain_batch(in_rows.encode_to_vec().into()).unwrap();
        assert_eq!((again, expanded), (sequence, plain.encode_to_vec()));
        // The next server is asked again.
        outbox.reconnect();
        let exchange = Exchange::new(&mut outbox, &uploads);
        assert_eq!(next_batch(&exchange), (sequence, plain));
        assert_eq!(exchange.acknowledge(&StreamResponse { sequence, ..StreamResponse::default() }), Ok(true));
        assert!(exchange.outbox.borrow().is_empty());
    }
}
