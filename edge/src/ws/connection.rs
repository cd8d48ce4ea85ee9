//! The JSON protocol: one ack for each text frame, in order, once all its data is in the log.
//! Each connection writes under its own producer, so that retries by the server never duplicate
//! data: when the stream to the frontier fails, the next stream resends the same batches. A new
//! producer starts only after an error ack, or when the dictionary is full or its memory is needed,
//! and never while a frame is unacknowledged. Invalid input gets an error ack, but never closes the connection.
//!
//! The client sends nothing new while it waits for an ack, resends the same bytes after 15 s,
//! and gives up for good after 45 s. Therefore a frame equal to the unacknowledged frame before
//! it is a repeat and gets no separate ack. A frame that the log has not accepted within `hold`
//! gets an error ack, because no response would be worse.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use matyan_proto::ingest::v1::StreamResponse;
use matyan_wire::client_json::{self, FrameError, Rejections, ack};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tonic::{Code, Status};
use tracing::Span;

use super::batch::{self, Batch, Dictionary, ItemCounts};
use super::budget::BudgetShare;
use super::connection_deps::ConnectionDeps;
use super::dictionary_budget::DictionaryShare;
use super::item_index::ItemIndex;
use super::producer::Producer;
use super::session::{MAX_WAITING_BYTES, MAX_WAITING_FRAMES};
use super::socket::{self, IncomingFrame, Socket, SocketEnd};
use crate::error::is_over_quota;
use crate::permission::RefusedCall;

/// Additional time after `hold` before an unresponsive frontier counts as failed. The frontier
/// itself gives up after `hold`.
const RESPONSE_GRACE: Duration = Duration::from_secs(2);

const FIRST_RETRY_DELAY: Duration = Duration::from_millis(50);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(1);

/// A frame that was read but is not yet acknowledged.
struct PendingFrame {
    /// `None` for a binary frame, which is rejected.
    text: Option<Utf8Bytes>,
    /// Share of the budget, held until the frame is acknowledged.
    share: BudgetShare,
    received: Instant,
    state: FrameState,
    rejections: Rejections,
    /// Locations of its items in the frame; set once the frontier has rejected any.
    item_index: Option<ItemIndex>,
    /// Ends with the ack.
    span: Span,
}

enum FrameState {
    /// Waiting to be encoded, for the first time or again.
    Unsent,
    /// Sent to the frontier as `batches`, starting with sequence `first`.
    Sent { first: u64, batches: Vec<ItemCounts> },
    /// Ready to be acknowledged: with an error if there is a message or a rejection.
    Done(Option<Cow<'static, str>>),
}

/// Serves the connection until either side ends it, or its token is revoked.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    socket: Socket<S>,
    deps: ConnectionDeps,
    revoked: RefusedCall,
) {
    let connection = Connection {
        waiting: VecDeque::new(),
        waiting_bytes: 0,
        producer: Producer::new(),
        dictionary_share: deps.dictionaries.share(),
        retry_at: None,
        retry_delay: FIRST_RETRY_DELAY,
        ending: None,
        deps,
    };
    connection.run(socket, revoked).await;
}

struct Connection {
    deps: ConnectionDeps,
    waiting: VecDeque<PendingFrame>,
    waiting_bytes: usize,
    producer: Producer,
    dictionary_share: DictionaryShare,
    /// Time to reopen the stream after a failure.
    retry_at: Option<Instant>,
    retry_delay: Duration,
    ending: Option<ConnectionEnd>,
}

/// Pending end of the connection. Nothing more is read, and it ends once no frame is waiting.
enum ConnectionEnd {
    /// The peer has disconnected. Its data is still written to the log.
    Disconnected,
    Close(CloseCode, Cow<'static, str>),
}

impl Connection {
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        mut self,
        mut socket: Socket<S>,
        mut revoked: RefusedCall,
    ) {
        let stop = self.deps.stop.clone();
        loop {
            let acks = self.take_acks();
            match &self.ending {
                Some(ConnectionEnd::Disconnected) if self.waiting.is_empty() => return,
                Some(ConnectionEnd::Disconnected) => {}
                Some(ConnectionEnd::Close(code, reason)) if self.waiting.is_empty() => {
                    return self.producer.work_during(socket.close(acks, *code, reason)).await;
                }
                _ if acks.is_empty() => {}
                _ => {
                    if self.producer.work_during(socket.send(acks)).await.is_err() {
                        self.ending = Some(ConnectionEnd::Disconnected);
                        continue;
                    }
                }
            }
            let readable = self.readable();
            if !readable {
                socket.reset_keep_alive();
            }
            let deadline = self.deadline();
            // Acks and deadlines take precedence over reading more frames.
            tokio::select! {
                biased;
                answer = self.producer.answer() => match answer {
                    Ok(answer) => self.on_acknowledgement(&answer).await,
                    Err(status) => self.on_stream_failure(&status),
                },
                status = &mut revoked, if self.ending.is_none() => self.on_refusal(&status, CloseCode::Policy),
                () = sleep_until(deadline), if !self.waiting.is_empty() => self.on_deadline().await,
                () = stop.cancelled(), if self.ending.is_none() => self.on_stop(&mut socket).await,
                () = self.dictionary_share.reclaimed() => {
                    self.producer.retire();
                    self.replace_retired();
                }
                incoming = socket.next(), if readable => self.on_incoming(incoming).await,
            }
        }
    }

    /// Returns whether to read the next frame. While a single frame is waiting, the next
    /// one is always read, regardless of size: it may be a repeat, which must not remain
    /// unread until it looks like new data, and the pings of a client that waits for an ack
    /// must get a response.
    fn readable(&self) -> bool {
        let has_room = || {
            self.waiting.len() < MAX_WAITING_FRAMES
                && self.waiting_bytes < MAX_WAITING_BYTES
                && self.waiting.back().is_some_and(|frame| frame.share.is_some())
        };
        self.ending.is_none() && (self.waiting.len() < 2 || has_room())
    }

    /// Stops the connection. Frames that have already been sent are still accepted, because
    /// the client may never resend them.
    async fn on_stop<S: AsyncRead + AsyncWrite + Unpin>(&mut self, socket: &mut Socket<S>) {
        while self.readable()
            && let Some(incoming) = self.producer.work_during(socket.last_frame()).await
        {
            self.on_incoming(incoming).await;
        }
        self.ending
            .get_or_insert_with(|| ConnectionEnd::Close(CloseCode::Restart, "the server is stopping".into()));
    }

    /// Removes the frames at the front that are done, and returns their acks in order.
    fn take_acks(&mut self) -> Vec<Message> {
        let mut acks = Vec::new();
        while let Some(PendingFrame { state: FrameState::Done(_), .. }) = self.waiting.front() {
            let Some(mut frame) = self.waiting.pop_front() else { break };
            self.waiting_bytes -= frame.bytes();
            let FrameState::Done(error) = frame.state else { break };
            // Rejections by the edge and by the frontier are listed together, in the order of the
            // items.
            frame.rejections.reasons.sort_by_key(|rejection| rejection.item);
            let metrics = &self.deps.metrics;
            metrics.ws_ack_seconds.observe(frame.received.elapsed().as_secs_f64());
            let text = if error.is_none() && frame.rejections.is_empty() {
                Utf8Bytes::from_static(ack::OK)
            } else {
                metrics.ws_error_acks.inc();
                ack::error(error.as_deref(), &frame.rejections).into()
            };
            acks.push(Message::Text(text));
        }
        acks
    }

    async fn on_incoming(&mut self, incoming: Result<IncomingFrame, SocketEnd>) {
        let (text, mut share, state) = match incoming {
            Ok(IncomingFrame::Text(text, _)) if self.is_repeat(&text) => {
                return self.deps.metrics.ws_resends.inc();
            }
            Ok(IncomingFrame::Text(text, share)) => (Some(text), share, FrameState::Unsent),
            Ok(IncomingFrame::Binary(..)) => {
                (None, None, FrameState::Done(Some("binary frame: this protocol uses JSON text".into())))
            }
            Err(SocketEnd::Disconnected) => return self.ending = Some(ConnectionEnd::Disconnected),
            Err(SocketEnd::Violation(code)) => {
                return self.ending = Some(ConnectionEnd::Close(code, socket::reason(code).into()));
            }
        };
        // Only a frame that waits alone needs no share of the budget.
        if share.is_none() && !self.waiting.is_empty() {
            share = self.deps.budget.share(text.as_ref().map_or(0, |text| text.len()));
        }
        let received = Instant::now();
        let span = super::frame_span(&self.deps.run_id, text.as_ref().map_or(0, |text| text.len()));
        let rejections = Rejections::default();
        let frame = PendingFrame { text, share, received, state, rejections, item_index: None, span };
        self.waiting_bytes += frame.bytes();
        self.waiting.push_back(frame);
        if self.retry_at.is_none() {
            self.send_unsent().await;
        }
    }

    /// Returns whether a frame repeats the previous one. A client that waits for an ack
    /// sends nothing new, so equal bytes are a repeat.
    fn is_repeat(&self, text: &Utf8Bytes) -> bool {
        self.waiting.back().is_some_and(|frame| frame.text.as_ref() == Some(text))
    }

    /// Sends all unsent frames in order. If the producer is full or retired, they wait
    /// until no frame uses it.
    async fn send_unsent(&mut self) {
        for index in 0..self.waiting.len() {
            let PendingFrame { state: FrameState::Unsent, text: Some(text), .. } = &self.waiting[index]
            else {
                continue;
            };
            let text = text.clone();
            if !self.producer.accepts(text.len()) {
                if self.waiting.iter().any(PendingFrame::is_sent) {
                    return;
                }
                self.renew_producer();
            }
            self.send_frame(index, text).await;
        }
    }

    async fn send_frame(&mut self, index: usize, text: Utf8Bytes) {
        // The dictionary is moved out and back, because a large frame is encoded on another thread.
        let dictionary = std::mem::take(&mut self.producer.dictionary);
        let encoding = encode_frame(&self.deps, text, dictionary);
        let (encoded, dictionary) = self.producer.work_during(encoding).await;
        if !self.dictionary_share.resize(dictionary.held_bytes()) {
            self.producer.retire();
        }
        self.producer.dictionary = dictionary;
        let frame = &mut self.waiting[index];
        match encoded {
            Ok(EncodedFrame { mut batches, rejections }) => {
                frame.rejections = rejections;
                if let Some(trace) = matyan_wire::trace::traceparent(&frame.span) {
                    for batch in &mut batches {
                        batch.traceparent.clone_from(&trace);
                    }
                }
                frame.state = if batches.is_empty() {
                    FrameState::Done(None)
                } else {
                    let items = batches.iter().map(|batch| batch.items).collect();
                    FrameState::Sent { first: self.producer.send(&self.deps, batches), batches: items }
                };
            }
            Err(error) => frame.state = FrameState::Done(Some(error.to_string().into())),
        }
    }

    async fn on_acknowledgement(&mut self, answer: &StreamResponse) {
        // The stream works, so the next failure is retried quickly.
        self.retry_delay = FIRST_RETRY_DELAY;
        self.producer.acknowledge(answer.sequence);
        for frame in &mut self.waiting {
            let FrameState::Sent { first, batches } = &frame.state else { continue };
            let first = *first;
            let last = first + batches.len() as u64 - 1;
            if !answer.rejections.is_empty() && (first..=last).contains(&answer.sequence) {
                let batch = (answer.sequence - first) as usize;
                self.producer.work_during(add_rejections(&self.deps, frame, batch, answer)).await;
            }
            if last <= answer.sequence {
                frame.state = FrameState::Done(None);
            }
        }
        self.send_unsent().await;
        self.replace_retired();
    }

    /// Frees the memory of a retired producer, once no frame uses it.
    fn replace_retired(&mut self) {
        if self.producer.is_retired() && !self.waiting.iter().any(PendingFrame::is_sent) {
            self.renew_producer();
        }
    }

    fn renew_producer(&mut self) {
        self.producer = Producer::new();
        self.dictionary_share.resize(0);
    }

    /// Handles the end of the stream. Unacknowledged frames are sent again, unless they can
    /// never be accepted or are too old.
    fn on_stream_failure(&mut self, status: &Status) {
        // Under a new producer, anything that an earlier stream has appended without an answer would be
        // stored twice.
        let is_in_doubt = self.producer.is_in_doubt();
        // The next frame, or the retry below, opens a new stream.
        self.producer.close();
        // The server answers "no such project" to a client that has lost its last role in the project.
        if matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied | Code::NotFound) {
            return self.on_refusal(status, CloseCode::Policy);
        }
        // The next handshake is refused with 503 until the project has room, which may take longer than any frame
        // is held.
        if is_over_quota(status) {
            return self.on_refusal(status, CloseCode::Again);
        }
        if self.waiting.iter().all(PendingFrame::is_done) {
            return;
        }
        tracing::warn!(run_id = self.deps.run_id, code = ?status.code(), message = status.message(), "ingest stream failed");
        if is_permanent(status.code()) {
            if is_in_doubt {
                self.reject_in_doubt(status.message());
            } else {
                self.reject_oldest(status.message());
            }
        }
        self.reject_old(status.message());
        if !self.waiting.iter().all(PendingFrame::is_done) {
            self.retry_at = Some(Instant::now() + self.retry_delay);
            self.retry_delay = (self.retry_delay * 2).min(MAX_RETRY_DELAY);
            self.deps.metrics.ws_reopened_streams.inc();
        }
    }

    /// Ends the connection of a client that may no longer send data. A rejection would make it drop the frames; without
    /// an answer it keeps them until it may send them again.
    fn on_refusal(&mut self, status: &Status, code: CloseCode) {
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.ending = Some(ConnectionEnd::Close(code, status.message().to_owned().into()));
    }

    /// Rejects the oldest frame, which the frontier can never accept, and resends the frames after it. The
    /// frontier accepts nothing after a batch that it refuses, and has acknowledged everything before
    /// that batch, so the resent frames are new to the log.
    fn reject_oldest(&mut self, message: &str) {
        self.renew_producer();
        for frame in self.waiting.iter_mut().filter(|frame| frame.is_sent()) {
            frame.state = FrameState::Unsent;
        }
        if let Some(frame) = self.waiting.iter_mut().find(|frame| !frame.is_done()) {
            frame.state = FrameState::Done(Some(message.to_owned().into()));
        }
    }

    /// Like `reject_oldest`, but the log may have the frame, or frames after it, from an earlier stream, which is
    /// why they keep their producer and their sequences. Without its items, the frame lets the frames after it
    /// pass. If even that is refused, the frontier accepts nothing of this producer.
    fn reject_in_doubt(&mut self, message: &str) {
        let rejected = || FrameState::Done(Some(message.to_owned().into()));
        if self.producer.is_next_without_items() {
            for frame in self.waiting.iter_mut().filter(|frame| frame.is_sent()) {
                frame.state = rejected();
            }
            return self.renew_producer();
        }
        let refused = self.producer.next_sequence();
        let mut last = refused;
        // There is no such frame if it was given up earlier.
        for frame in &mut self.waiting {
            if let FrameState::Sent { first, batches } = &frame.state
                && *first <= refused
            {
                last = first + batches.len() as u64 - 1;
                frame.state = rejected();
                break;
            }
        }
        self.producer.remove_items(last);
    }

    fn reject_old(&mut self, message: &str) {
        let hold = self.deps.hold;
        for frame in &mut self.waiting {
            if frame.is_done() || frame.received.elapsed() < hold {
                continue;
            }
            if frame.is_sent() {
                // Later frames depend on its batches, so the batches are kept.
                // But anything that the client sends after the error is new
                // data.
                self.producer.retire();
            }
            let error = format!("not stored within {} s: {message}", hold.as_secs());
            frame.state = FrameState::Done(Some(error.into()));
        }
    }

    fn deadline(&self) -> Instant {
        let silence = self.waiting.front().map(|frame| frame.received + self.deps.hold + RESPONSE_GRACE);
        self.retry_at.or(silence).unwrap_or_else(Instant::now)
    }

    async fn on_deadline(&mut self) {
        if self.retry_at.take().is_some() {
            if self.waiting.iter().any(PendingFrame::is_sent) {
                self.producer.open(&self.deps);
            }
            self.send_unsent().await;
        } else {
            self.on_stream_failure(&Status::deadline_exceeded("the frontier does not respond"));
        }
    }
}

impl PendingFrame {
    fn bytes(&self) -> usize {
        self.text.as_ref().map_or(0, |text| text.len())
    }

    fn is_sent(&self) -> bool {
        matches!(self.state, FrameState::Sent { .. })
    }

    fn is_done(&self) -> bool {
        matches!(self.state, FrameState::Done(_))
    }
}

/// Returns whether retrying can never succeed.
fn is_permanent(code: Code) -> bool {
    match code {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => false,
    }
}

struct EncodedFrame {
    batches: Vec<Batch>,
    rejections: Rejections,
}

/// Decodes a frame and encodes its batches.
async fn encode_frame(
    deps: &ConnectionDeps,
    text: Utf8Bytes,
    mut dictionary: Dictionary,
) -> (Result<EncodedFrame, FrameError>, Dictionary) {
    let run_id = deps.run_id.clone();
    deps.large_work
        .run(text.len(), move || {
            let encoded = client_json::decode_text(&text).map(|mut frame| EncodedFrame {
                batches: batch::encode(&run_id, &mut frame, &mut dictionary),
                rejections: frame.rejections,
            });
            (encoded, dictionary)
        })
        .await
}

/// Adds to the frame's rejections the items that the frontier rejected in one of its batches.
async fn add_rejections(
    deps: &ConnectionDeps,
    frame: &mut PendingFrame,
    batch: usize,
    answer: &StreamResponse,
) {
    let (FrameState::Sent { batches, .. }, Some(text)) = (&frame.state, &frame.text) else { return };
    let item_index = match frame.item_index.take() {
        Some(item_index) => item_index,
        None => {
            let text = text.clone();
            deps.large_work
                .run(frame.bytes(), move || {
                    client_json::decode_text(&text).as_ref().map(ItemIndex::from_frame).unwrap_or_default()
                })
                .await
        }
    };
    item_index.add_rejections(batches, batch, answer, &mut frame.rejections);
    frame.item_index = Some(item_index);
}
