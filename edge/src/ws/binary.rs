//! The binary protocol: messages of `IngestService.Stream`, one in each binary frame, passed through as they are.
//! The edge looks into them only for the run, which the URL names, and to bound what is on its way. All rules of the stream
//! (sequences, dictionary, resending) are the frontier's. It ends with the stream, and the close frame says why.

use std::collections::VecDeque;

use matyan_proto::ingest::v1::stream_request::Message as RequestMessage;
use matyan_proto::ingest::v1::{StreamRequest, StreamResponse};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tonic::{Code, Status};

use super::connection::Context;
use super::session::{MAX_WAITING_BYTES, MAX_WAITING_FRAMES, Session};
use super::socket::{self, End, Incoming, Socket};
use crate::error;

/// Serves the connection until either side ends it.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut socket: Socket<S>, context: Context) {
    let mut connection = Connection { session: None, waiting: VecDeque::new(), waiting_bytes: 0, context };
    if let Some((code, reason)) = connection.run(&mut socket).await {
        socket.close(Vec::new(), code, &reason).await;
    }
}

struct Connection {
    context: Context,
    session: Option<Session>,
    /// Sequence and size of each batch that is not acknowledged.
    waiting: VecDeque<(u64, usize)>,
    waiting_bytes: usize,
}

type Close = (CloseCode, String);

impl Connection {
    /// Ends with what to tell the peer, if it is still there.
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(&mut self, socket: &mut Socket<S>) -> Option<Close> {
        let stop = self.context.stop.clone();
        loop {
            let stopping = stop.is_cancelled();
            if stopping && self.waiting.is_empty() {
                return Some((CloseCode::Restart, "the server stops".into()));
            }
            // A peer that repeats sequences has its places given free before its frames are taken: so both are bounded.
            let readable = !stopping
                && self.waiting.len() < MAX_WAITING_FRAMES
                && self.waiting_bytes < MAX_WAITING_BYTES
                && self.session.as_ref().is_none_or(Session::has_room);
            if !readable {
                socket.excuse();
            }
            tokio::select! {
                biased;
                answer = answer(&mut self.session), if self.session.is_some() => match answer {
                    Ok(answer) => self.answered(socket, &answer).await.ok()?,
                    Err(status) => return Some(close_of(&status)),
                },
                () = stop.cancelled(), if !stopping => {}
                incoming = socket.next(), if readable => match incoming {
                    Ok(Incoming::Binary(bytes)) => {
                        if let Err(close) = self.received(bytes) {
                            return Some(close);
                        }
                    }
                    Ok(Incoming::Text(_)) => {
                        return Some((CloseCode::Unsupported, "a text frame: this protocol is binary".into()));
                    }
                    Err(End::Gone) => return None,
                    Err(End::Refuse(code)) => return Some((code, socket::reason(code))),
                },
            }
        }
    }

    async fn answered<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        socket: &mut Socket<S>,
        answer: &StreamResponse,
    ) -> Result<(), End> {
        while let Some((sequence, bytes)) = self.waiting.front().copied()
            && sequence <= answer.sequence
        {
            self.waiting.pop_front();
            self.waiting_bytes -= bytes;
        }
        socket.send([Message::Binary(answer.encode_to_vec().into())]).await
    }

    fn received(&mut self, bytes: bytes::Bytes) -> Result<(), Close> {
        let refuse = |reason: &str| Err((CloseCode::Policy, reason.to_owned()));
        let Ok(request) = StreamRequest::decode(bytes) else {
            return refuse("a frame that is no StreamRequest");
        };
        match (request.message, &mut self.session) {
            (Some(RequestMessage::Open(mut open)), None) => {
                open.run_id.clone_from(&self.context.run_id);
                self.session = Some(Session::open(&self.context.ingest, open));
            }
            (Some(RequestMessage::Batch(batch)), Some(session)) => {
                self.waiting.push_back((batch.sequence, batch.batch.len()));
                self.waiting_bytes += batch.batch.len();
                session.send(batch);
            }
            (Some(RequestMessage::Open(_)), Some(_)) => return refuse("the stream is open already"),
            (Some(RequestMessage::Batch(_)), None) => {
                return refuse("the first message must open the stream");
            }
            (None, _) => return refuse("a message of unknown kind"),
        }
        Ok(())
    }
}

async fn answer(session: &mut Option<Session>) -> Result<StreamResponse, Status> {
    match session {
        Some(session) => session.answer().await,
        None => std::future::pending().await,
    }
}

/// How a failed stream is told: the name of the product's code, then the message.
fn close_of(status: &Status) -> Close {
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
