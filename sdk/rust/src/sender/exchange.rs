//! One connection of a sender: batches go out, acknowledgements come in, until the connection ends
//! or nothing is left to do.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use bytes::Bytes;
use futures::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use matyan_proto::ingest::v1::Rejection;
use tokio::{
    sync::Notify,
    time::{self, Instant},
};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::{
    notice::NoticeLevel,
    sender::{binary, connection::Socket, outbox::Outbox},
};

/// Interval of batches while little is tracked, and the delay of a point.
pub(crate) const PACE: Duration = Duration::from_millis(10);
/// Size below which the next batch waits for more records.
const SMALL_BATCH: usize = 256 << 10;
/// Interval at which a silent connection is examined.
const EXAMINATION: Duration = Duration::from_secs(5);
/// Interval at which the end of a closed run is looked for.
const END_INTERVAL: Duration = Duration::from_millis(50);
/// Silence after which a connection that owes acknowledgements is given up.
const SILENCE: Duration = Duration::from_secs(20);
/// The same for one that owes nothing, or so much that the server does not read pings: it pings
/// every 20 s itself, and holds a batch for up to 40 s while it cannot store it.
const LONG_SILENCE: Duration = Duration::from_secs(65);
/// Unacknowledged bytes up to which the server certainly reads pings.
const READ_AHEAD: usize = 3 << 20;
/// Longest time for saying goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// The reason why a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ExchangeEnd {
    /// The spool is closed, and all of it is stored.
    Finished,
    /// The network or the server failed; what was not acknowledged is sent again.
    Lost(String),
    /// The server refuses to continue the sequence of this producer.
    Refused(String),
    /// The journal of cuts cannot be written.
    Journal(String),
}

/// State that the two directions of a connection share. They are parts of one task.
struct Exchange<'a> {
    outbox: RefCell<&'a mut Outbox>,
    /// Signals an acknowledgement.
    acknowledged: Notify,
    heard: Cell<Instant>,
    /// When the oldest unacknowledged batch was sent.
    owing_since: Cell<Option<Instant>>,
    uploads: &'a dyn Fn() -> usize,
}

/// Sends batches until the connection ends. `uploads` returns the number of files that will still
/// announce themselves with an event. The flag says whether the server acknowledged anything.
pub(crate) async fn run(
    socket: Socket,
    outbox: &mut Outbox,
    uploads: &dyn Fn() -> usize,
) -> (ExchangeEnd, bool) {
    outbox.reconnect();
    let acknowledged = outbox.acknowledged();
    let exchange = Exchange {
        outbox: RefCell::new(outbox),
        acknowledged: Notify::new(),
        heard: Cell::new(Instant::now()),
        owing_since: Cell::new(None),
        uploads,
    };
    let (mut sink, stream) = socket.split();
    let end = tokio::select! {
        end = exchange.send(&mut sink) => end,
        end = exchange.receive(stream) => end,
    };
    if end == ExchangeEnd::Finished {
        // The server has everything: whether it also learns of the end does not matter.
        time::timeout(GOODBYE, sink.close()).await.ok();
    }
    let progressed = exchange.outbox.borrow().acknowledged() > acknowledged;
    (end, progressed)
}

impl Exchange<'_> {
    async fn send(&self, sink: &mut SplitSink<Socket, Message>) -> ExchangeEnd {
        let lost = |error: tokio_tungstenite::tungstenite::Error| ExchangeEnd::Lost(error.to_string());
        let open = {
            let outbox = self.outbox.borrow();
            let run_id = &outbox.spool().owner().run_id;
            binary::open(run_id, outbox.producer(), outbox.acknowledged(), outbox.known_definitions())
        };
        if let Err(error) = sink.send(Message::binary(open)).await {
            return lost(error);
        }
        loop {
            if self.is_finished() {
                return ExchangeEnd::Finished;
            }
            let frame = match self.next_frame() {
                Ok(frame) => frame,
                Err(error) => return ExchangeEnd::Journal(error.to_string()),
            };
            let sent = match frame {
                Some((frame, is_small)) => {
                    let sent = sink.send(Message::binary(frame)).await;
                    if sent.is_ok() && is_small {
                        time::sleep(PACE).await;
                    }
                    sent
                }
                None if self.wait().await => Ok(()),
                None => sink.send(Message::Ping(Bytes::new())).await,
            };
            if let Err(error) = sent {
                return lost(error);
            }
        }
    }

    /// Returns the next frame, and whether it is a small one, so that the next should wait for more.
    fn next_frame(&self) -> std::io::Result<Option<(Vec<u8>, bool)>> {
        let mut outbox = self.outbox.borrow_mut();
        if !outbox.has_room() {
            return Ok(None);
        }
        let Some(frame) = outbox.next_frame()? else { return Ok(None) };
        let is_small = frame.batch.len() < SMALL_BATCH;
        let frame = binary::batch(frame.cut.sequence, frame.batch.clone());
        if self.owing_since.get().is_none() {
            self.owing_since.set(Some(Instant::now()));
        }
        Ok(Some((frame, is_small)))
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

    async fn receive(&self, mut stream: SplitStream<Socket>) -> ExchangeEnd {
        loop {
            let message = match time::timeout(EXAMINATION, stream.next()).await {
                Ok(message) => message,
                Err(_) if self.is_silent() => {
                    return ExchangeEnd::Lost("the server has been silent for too long".to_owned());
                }
                Err(_) => continue,
            };
            self.heard.set(Instant::now());
            let failed = match message {
                Some(Ok(Message::Binary(frame))) => self.acknowledge(frame),
                Some(Ok(Message::Close(frame))) => Some(close_reason(frame.as_ref())),
                Some(Ok(_)) => None,
                Some(Err(error)) => Some(ExchangeEnd::Lost(error.to_string())),
                None => Some(ExchangeEnd::Lost("the connection ended".to_owned())),
            };
            if let Some(end) = failed {
                return end;
            }
        }
    }

    fn is_silent(&self) -> bool {
        let outbox = self.outbox.borrow();
        let (since, limit) = match self.owing_since.get() {
            Some(since) if outbox.bytes_in_flight() <= READ_AHEAD => (since.max(self.heard.get()), SILENCE),
            _ => (self.heard.get(), LONG_SILENCE),
        };
        since.elapsed() > limit
    }

    fn acknowledge(&self, frame: Bytes) -> Option<ExchangeEnd> {
        let response = match binary::response(frame) {
            Ok(response) => response,
            Err(error) => {
                return Some(ExchangeEnd::Lost(format!("the server sent an invalid response: {error}")));
            }
        };
        let mut outbox = self.outbox.borrow_mut();
        if response.rejected_items > 0 {
            report_rejections(&outbox, response.rejected_items, response.rejections.first());
        }
        let position = response.position.map(|position| (position.log, position.partition, position.offset));
        outbox.acknowledge(response.sequence, position);
        self.owing_since.set((!outbox.is_empty()).then(Instant::now));
        self.acknowledged.notify_one();
        None
    }
}

/// Reports items that the server will never accept.
pub(crate) fn report_rejections(outbox: &Outbox, items: u32, first: Option<&Rejection>) {
    let first =
        first.map_or_else(String::new, |first| format!("; the first: {}: {}", first.field, first.reason));
    let message = format!("the server rejected {items} values{first}");
    outbox.spool().notices.push(NoticeLevel::Error, message);
}

fn close_reason(frame: Option<&CloseFrame>) -> ExchangeEnd {
    let Some(frame) = frame else { return ExchangeEnd::Lost("the server closed the connection".to_owned()) };
    let reason = format!("the server closed the connection ({}): {}", u16::from(frame.code), frame.reason);
    if frame.code == CloseCode::Policy && frame.reason.starts_with("OUT_OF_SEQUENCE") {
        ExchangeEnd::Refused(reason)
    } else {
        ExchangeEnd::Lost(reason)
    }
}
