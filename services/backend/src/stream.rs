//! Answers in pieces: a task per stream that reads ahead of a slow client by a message or two, holds no snapshot while it
//! waits, and ends when the client leaves.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::error::Error;

/// Answers gathered before a slow client's stream waits: one being written, one on its way.
const MESSAGES: usize = 2;

/// The way to the client.
pub(crate) struct Sender<T>(mpsc::Sender<Result<T, Status>>);

/// The client has left: there is nobody to answer.
#[derive(Debug)]
pub(crate) struct Left;

/// How a stream ends before its time.
#[derive(Debug)]
pub(crate) enum End {
    Left,
    Failed(Error),
}

impl<E: Into<Error>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Left> for End {
    fn from(_: Left) -> Self {
        Self::Left
    }
}

impl<T> Sender<T> {
    pub(crate) async fn send(&self, message: T) -> Result<(), Left> {
        self.0.send(Ok(message)).await.map_err(|_| Left)
    }
}

pub(crate) type Answers<T> = ReceiverStream<Result<T, Status>>;

/// Runs `answer` as the task of a stream. It ends by itself, or at its next message after the client has left.
pub(crate) fn answers<T, F>(answer: impl FnOnce(Sender<T>) -> F) -> Answers<T>
where
    T: Send + 'static,
    F: Future<Output = Result<(), End>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(MESSAGES);
    let failures = sender.clone();
    let work = answer(Sender(sender));
    tokio::spawn(async move {
        if let Err(End::Failed(error)) = work.await {
            // A client that has left needs no reason.
            drop(failures.send(Err(error.into())).await);
        }
    });
    ReceiverStream::new(receiver)
}
