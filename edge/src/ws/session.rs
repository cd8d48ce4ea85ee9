//! A stream to the frontier: batches go in, cumulative acknowledgements come out.
//! It never retries: a failed stream has ended, and the two protocols react to that
//! differently.
//!
//! Messages are handed to the frontier of this process. The task of the socket opens the stream and does its work,
//! which may hold something that other streams wait for, such as memory. So whenever a socket waits for anything
//! other than the next answer, it uses `work_during`, which keeps the stream going.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use futures::FutureExt;
use futures::future::BoxFuture;
use matyan_proto::ingest::v1::stream_request::Message;
use matyan_proto::ingest::v1::{StreamBatch, StreamOpen, StreamRequest, StreamResponse};
use tokio::sync::mpsc;
use tonic::Status;

use crate::local_frontier::LocalStream;
use crate::permission::Permitted;
use crate::transport::LocalStreams;

/// Maximum number of frames that are read but not yet acknowledged. Above this, the socket is
/// not read.
pub(super) const MAX_WAITING_FRAMES: usize = 128;

/// Maximum size of these frames, from the second frame on; one frame of up to 16 MiB may come
/// in addition.
pub(super) const MAX_WAITING_BYTES: usize = 4 << 20;

/// Capacity of the channel for batches to the stream. Waiting frames make fewer batches: one
/// for each of 128 frames, and 145 more for each of two split frames of 16 MiB, because no two
/// neighbors fit in one batch, at 2.25 bytes of CBOR per byte of JSON.
const MAX_BATCHES: usize = 512;

pub(super) struct IngestSession {
    requests: mpsc::Sender<StreamRequest>,
    state: SessionState,
}

enum SessionState {
    Opening(BoxFuture<'static, Result<Permitted<LocalStream>, Status>>),
    Open(Permitted<LocalStream>),
    /// The stream was not opened, or more batches were sent than the channel holds.
    Failed(Status),
}

impl IngestSession {
    /// Creates the session. `answer` opens the stream, and so does `work_during`; batches may be
    /// sent before.
    pub(super) fn open(streams: &LocalStreams, open: StreamOpen) -> Self {
        let (requests, receiver) = open_channel(open);
        let opening = streams.clone().open(receiver);
        IngestSession { requests, state: SessionState::Opening(Box::pin(opening)) }
    }

    /// Passes a batch on. If the stream has failed, or fails now, the batch is dropped
    /// silently and `answer` returns the error.
    pub(super) fn send(&mut self, batch: StreamBatch) {
        if let Err(mpsc::error::TrySendError::Full(_)) =
            self.requests.try_send(StreamRequest { message: Some(Message::Batch(batch)) })
        {
            let status = Status::resource_exhausted("too many batches: wait for acknowledgements");
            self.state = SessionState::Failed(status);
        }
    }

    /// Returns whether another batch may be sent. Batches in the channel lead to a
    /// response, after which there is more room.
    pub(super) fn has_room(&self) -> bool {
        self.requests.capacity() > 0
    }

    /// The next acknowledgement, or the error that ended the stream. Cancel-safe.
    pub(super) async fn answer(&mut self) -> Result<StreamResponse, Status> {
        poll_fn(|context| self.poll_open(context)).await;
        match &mut self.state {
            SessionState::Open(stream) => match poll_fn(|context| stream.poll_answer(context)).await {
                Some(answer) => answer,
                None => Err(Status::unavailable("the frontier ended the stream")),
            },
            SessionState::Failed(status) => Err(status.clone()),
            SessionState::Opening(_) => unreachable!("the stream was opened above"),
        }
    }

    /// Opens the stream, unless it is open or has failed.
    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let SessionState::Opening(opening) = &mut self.state {
            self.state = match ready!(opening.poll_unpin(context)) {
                Ok(stream) => SessionState::Open(stream),
                Err(status) => SessionState::Failed(status),
            };
        }
        Poll::Ready(())
    }

    fn poll_work(&mut self, context: &mut Context<'_>) {
        if self.poll_open(context).is_ready()
            && let SessionState::Open(stream) = &mut self.state
        {
            stream.poll_work(context);
        }
    }
}

/// The channel for the messages of a stream. The first message is `open`.
fn open_channel(open: StreamOpen) -> (mpsc::Sender<StreamRequest>, mpsc::Receiver<StreamRequest>) {
    // One more for the open message.
    let (requests, receiver) = mpsc::channel(MAX_BATCHES + 1);
    requests.try_send(StreamRequest { message: Some(Message::Open(open)) }).expect("a new channel has room");
    (requests, receiver)
}

/// Waits for something other than the next answer, and keeps the stream going.
pub(super) async fn work_during<T>(session: Option<&mut IngestSession>, other: impl Future<Output = T>) -> T {
    let Some(session) = session else { return other.await };
    let mut other = pin!(other);
    poll_fn(|context| {
        let polled = other.as_mut().poll(context);
        if polled.is_pending() {
            session.poll_work(context);
        }
        polled
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_session_fails_when_its_channel_overflows() {
        let (requests, _receiver) = open_channel(StreamOpen::default());
        let mut session = IngestSession { requests, state: SessionState::Opening(pending().boxed()) };
        for _ in 0..MAX_BATCHES {
            assert!(session.has_room());
            session.send(StreamBatch::default());
        }
        assert!(!session.has_room());
        session.send(StreamBatch::default());
        assert_eq!(session.answer().await.unwrap_err().code(), tonic::Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn a_stream_is_opened_while_something_else_is_awaited() {
        let (requests, _receiver) = mpsc::channel(1);
        let (begin, begun) = oneshot::channel();
        let opening = async move {
            begin.send(()).expect("the test waits for it");
            Err::<Permitted<LocalStream>, _>(Status::unavailable("the frontier is away"))
        };
        let mut session = IngestSession { requests, state: SessionState::Opening(Box::pin(opening)) };
        work_during(Some(&mut session), begun).await.unwrap();
        assert_eq!(session.answer().await.unwrap_err().message(), "the frontier is away");
    }

    #[tokio::test]
    async fn a_local_stream_goes_on_while_something_else_is_awaited() {
        let (requests, mut received) = mpsc::channel(1);
        let (answers, receiver) = mpsc::channel(1);
        let (finish, finished) = oneshot::channel();
        let work = async move {
            received.recv().await.expect("the session has sent a batch");
            answers.send(Ok(StreamResponse::default())).await.expect("the session is open");
            finish.send(()).expect("the test waits for it");
        };
        let stream = Permitted::new(LocalStream::new(receiver, work), None);
        let mut session = IngestSession { requests, state: SessionState::Open(stream) };
        session.send(StreamBatch::default());
        work_during(Some(&mut session), finished).await.unwrap();
        assert_eq!(session.answer().await.unwrap(), StreamResponse::default());
        assert_eq!(session.answer().await.unwrap_err().code(), tonic::Code::Unavailable);
    }
}
