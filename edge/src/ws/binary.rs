//! The binary protocol: messages of `IngestService.Stream`, one per binary frame, passed
//! through unchanged.
//! The edge inspects them only to set the run from the URL, and to bound the unacknowledged
//! data. All rules of the stream (sequences, dictionary, resending) are enforced by the
//! frontier. The connection ends with the stream, and the close frame contains the reason.

use std::collections::VecDeque;

use matyan_proto::ingest::v1::stream_request::Message as RequestMessage;
use matyan_proto::ingest::v1::{StreamRequest, StreamResponse};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tonic::{Code, Status};
use tracing::Span;

use super::budget::BudgetShare;
use super::connection_deps::ConnectionDeps;
use super::session::{IngestSession, MAX_WAITING_BYTES, MAX_WAITING_FRAMES, work_during};
use super::socket::{self, IncomingFrame, Socket, SocketEnd};
use crate::error;
use crate::permission::RefusedCall;

/// Serves the connection until either side ends it, or its token is revoked.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: Socket<S>,
    deps: ConnectionDeps,
    revoked: RefusedCall,
) {
    let mut connection = Connection { session: None, waiting: VecDeque::new(), waiting_bytes: 0, deps };
    if let Some((code, reason)) = connection.run(&mut socket, revoked).await {
        work_during(connection.session.as_mut(), socket.close(Vec::new(), code, &reason)).await;
    }
}

struct Connection {
    deps: ConnectionDeps,
    session: Option<IngestSession>,
    /// The unacknowledged batches.
    waiting: VecDeque<PendingBatch>,
    waiting_bytes: usize,
}

struct PendingBatch {
    sequence: u64,
    bytes: usize,
    share: BudgetShare,
    /// Ends with the ack.
    _span: Span,
}

type CloseReason = (CloseCode, String);

impl Connection {
    /// Runs until the end, and returns the close frame to send if the peer is still
    /// connected.
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        socket: &mut Socket<S>,
        mut revoked: RefusedCall,
    ) -> Option<CloseReason> {
        let stop = self.deps.stop.clone();
        let mut stopping = false;
        loop {
            if stopping && self.waiting.is_empty() {
                return Some((CloseCode::Restart, "the server is stopping".into()));
            }
            let readable = !stopping && self.has_room();
            if !readable {
                socket.reset_keep_alive();
            }
            tokio::select! {
                biased;
                answer = next_answer(&mut self.session), if self.session.is_some() => match answer {
                    Ok(answer) => self.on_answer(socket, &answer).await.ok()?,
                    Err(status) => return Some(close_frame(&status)),
                },
                status = &mut revoked => return Some(close_frame(&status)),
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    // Frames that have already been sent are still accepted.
                    while self.has_room()
                        && let Some(incoming) =
                            work_during(self.session.as_mut(), socket.last_frame()).await
                    {
                        if let Err(end) = self.on_incoming(incoming) {
                            return end;
                        }
                    }
                }
                incoming = socket.next(), if readable => {
                    if let Err(end) = self.on_incoming(incoming) {
                        return end;
                    }
                }
            }
        }
    }

    /// Returns whether to read the next frame. The session is checked separately, because
    /// acknowledging a repeated sequence frees its entry here before the frontier has taken
    /// the frame.
    fn has_room(&self) -> bool {
        let shares = self.waiting.len() < 2 || self.waiting.back().is_some_and(|batch| batch.share.is_some());
        shares
            && self.waiting.len() < MAX_WAITING_FRAMES
            && self.waiting_bytes < MAX_WAITING_BYTES
            && self.session.as_ref().is_none_or(IngestSession::has_room)
    }

    async fn on_answer<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        socket: &mut Socket<S>,
        answer: &StreamResponse,
    ) -> Result<(), SocketEnd> {
        while let Some(batch) = self.waiting.pop_front_if(|batch| batch.sequence <= answer.sequence) {
            self.waiting_bytes -= batch.bytes;
        }
        let sending = socket.send([Message::Binary(answer.encode_to_vec().into())]);
        work_during(self.session.as_mut(), sending).await
    }

    /// Handles an incoming frame. An error ends the connection, with the close frame to
    /// send if the peer is still connected.
    fn on_incoming(&mut self, incoming: Result<IncomingFrame, SocketEnd>) -> Result<(), Option<CloseReason>> {
        match incoming {
            Ok(IncomingFrame::Binary(bytes, share)) => self.on_message(bytes, share).map_err(Some),
            Ok(IncomingFrame::Text(..)) => {
                Err(Some((CloseCode::Unsupported, "text frame: this protocol is binary".into())))
            }
            Err(SocketEnd::Disconnected) => Err(None),
            Err(SocketEnd::Violation(code)) => Err(Some((code, socket::reason(code)))),
        }
    }

    fn on_message(&mut self, bytes: bytes::Bytes, mut share: BudgetShare) -> Result<(), CloseReason> {
        let violation = |reason: &str| Err((CloseCode::Policy, reason.to_owned()));
        if share.is_none() && !self.waiting.is_empty() {
            share = self.deps.budget.share(bytes.len());
        }
        let Ok(request) = StreamRequest::decode(bytes) else {
            return violation("the frame is not a StreamRequest");
        };
        match (request.message, &mut self.session) {
            (Some(RequestMessage::Open(mut open)), None) => {
                // The run is the one in the URL, regardless of the message.
                open.run_id.clone_from(&self.deps.run_id);
                self.session = Some(IngestSession::open(&self.deps.streams, open));
            }
            (Some(RequestMessage::Batch(mut batch)), Some(session)) => {
                let sequence = batch.sequence;
                let bytes = batch.batch.len();
                let span = super::frame_span(&self.deps.run_id, bytes);
                matyan_wire::trace::join_trace(&span, batch.traceparent.as_bytes());
                batch.traceparent = matyan_wire::trace::traceparent(&span).unwrap_or(batch.traceparent);
                self.waiting.push_back(PendingBatch { sequence, bytes, share, _span: span });
                self.waiting_bytes += bytes;
                session.send(batch);
            }
            (Some(RequestMessage::Open(_)), Some(_)) => return violation("the stream is already open"),
            (Some(RequestMessage::Batch(_)), None) => {
                return violation("the first message must open the stream");
            }
            (None, _) => return violation("the message has an unknown type"),
        }
        Ok(())
    }
}

async fn next_answer(session: &mut Option<IngestSession>) -> Result<StreamResponse, Status> {
    match session {
        Some(session) => session.answer().await,
        None => std::future::pending().await,
    }
}

/// The close frame for a failed stream: the name of the product's error code, then the message.
fn close_frame(status: &Status) -> CloseReason {
    let code = match status.code() {
        Code::Unavailable | Code::Cancelled | Code::Aborted | Code::DeadlineExceeded => CloseCode::Again,
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss | Code::Unimplemented => CloseCode::Error,
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unauthenticated => CloseCode::Policy,
    };
    let name = error::product_code(status).map_or("", |code| code.as_str_name());
    (code, format!("{}: {}", name.trim_start_matches("CODE_"), status.message()))
}
