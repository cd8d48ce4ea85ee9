//! A stream to the frontier: batches go in, cumulative acknowledgements come out.
//! It never retries: a failed stream has ended, and the two protocols react to that
//! differently.

use std::future::Future;
use std::pin::Pin;

use matyan_proto::ingest::v1::ingest_service_client::IngestServiceClient;
use matyan_proto::ingest::v1::stream_request::Message;
use matyan_proto::ingest::v1::{StreamBatch, StreamOpen, StreamRequest, StreamResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use crate::transport::Transport;

pub(crate) type IngestClient = IngestServiceClient<Transport>;

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

type Opening = Pin<Box<dyn Future<Output = Result<Response<Streaming<StreamResponse>>, Status>> + Send>>;

pub(super) struct IngestSession {
    requests: mpsc::Sender<StreamRequest>,
    state: SessionState,
}

enum SessionState {
    Opening(Opening),
    Open(Box<Streaming<StreamResponse>>),
    /// More batches were sent than the channel holds.
    Overrun,
}

impl IngestSession {
    /// Creates the session. The first call of `answer` opens the stream; batches may be
    /// sent before.
    pub(super) fn open(client: &IngestClient, open: StreamOpen) -> Self {
        // One more for the open message.
        let (requests, receiver) = mpsc::channel(MAX_BATCHES + 1);
        requests
            .try_send(StreamRequest { message: Some(Message::Open(open)) })
            .expect("a new channel has room");
        let mut client = client.clone();
        let opening = async move { client.stream(ReceiverStream::new(receiver)).await };
        IngestSession { requests, state: SessionState::Opening(Box::pin(opening)) }
    }

    /// Passes a batch on. If the stream has failed, or fails now, the batch is dropped
    /// silently and `answer` returns the error.
    pub(super) fn send(&mut self, batch: StreamBatch) {
        if let Err(mpsc::error::TrySendError::Full(_)) =
            self.requests.try_send(StreamRequest { message: Some(Message::Batch(batch)) })
        {
            self.state = SessionState::Overrun;
        }
    }

    /// Returns whether another batch may be sent. Batches in the channel lead to a
    /// response, after which there is more room.
    pub(super) fn has_room(&self) -> bool {
        self.requests.capacity() > 0
    }

    /// The next acknowledgement, or the error that ended the stream. Cancel-safe.
    pub(super) async fn answer(&mut self) -> Result<StreamResponse, Status> {
        if let SessionState::Opening(opening) = &mut self.state {
            let stream = opening.await?.into_inner();
            self.state = SessionState::Open(Box::new(stream));
        }
        match &mut self.state {
            SessionState::Open(stream) => match stream.message().await? {
                Some(answer) => Ok(answer),
                None => Err(Status::unavailable("the frontier ended the stream")),
            },
            SessionState::Overrun => {
                Err(Status::resource_exhausted("too many batches: wait for acknowledgements"))
            }
            SessionState::Opening(_) => unreachable!("the stream was opened above"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::service::Routes;

    use super::*;

    #[tokio::test]
    async fn a_session_fails_when_its_channel_overflows() {
        // `answer` is not called, so the stream is never opened and accepts nothing.
        let client = IngestClient::new(Transport::new(Routes::default()));
        let mut session = IngestSession::open(&client, StreamOpen::default());
        for _ in 0..MAX_BATCHES {
            assert!(session.has_room());
            session.send(StreamBatch::default());
        }
        assert!(!session.has_room());
        session.send(StreamBatch::default());
        assert_eq!(session.answer().await.unwrap_err().code(), tonic::Code::ResourceExhausted);
    }
}
