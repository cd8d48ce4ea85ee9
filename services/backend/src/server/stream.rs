//! Streaming responses: one task per stream, which reads at most a message or two ahead of a
//! slow client, holds no snapshot while it waits, and ends when the client disconnects or takes
//! nothing for ten minutes. The server owns the tasks: it signals them to end, and awaits them.

use std::{
    panic::resume_unwind,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{FutureExt, Stream};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinError,
    time::timeout,
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tonic::Status;
use tracing::Instrument;

use super::{
    error::Error,
    evaluation::{SearchTime, let_others_run},
};

/// Target size of a message: small enough that its data is still in the processor's caches when
/// it is sent, and large enough that the overhead per message is negligible.
pub(crate) const MESSAGE_BYTES: usize = 128 << 10;

/// Interval of keep-alive messages of streams that follow changes or logs.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Messages buffered before the stream of a slow client waits: one being written, one in
/// flight.
const MESSAGES: usize = 2;

/// Messages of a stream that the transport may have taken: a message being sent, and a message that waits
/// for the window of the client.
pub(crate) const MESSAGES_IN_TRANSPORT: usize = 2;

/// Messages of a stream in memory: in the buffer, waiting for room, and in the transport.
pub(crate) const MESSAGES_IN_FLIGHT: usize = MESSAGES + 1 + MESSAGES_IN_TRANSPORT;

/// Time to wait for a slow client while keeping the data already read: dropping it and reading
/// it again costs more. Far shorter than the lifetime of a snapshot.
const SEND_GRACE: Duration = Duration::from_millis(50);

/// The longest time for which a client may take no message that is ready. Scripts work on some results
/// before they read on, but a stream that is not read must not hold its request for ever.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(600);

/// The tasks of all streams.
#[derive(Clone, Default)]
pub(crate) struct Streams {
    tasks: TaskTracker,
    /// Canceled to end open-ended streams.
    closing: CancellationToken,
    /// Canceled to end all other streams as well.
    aborting: CancellationToken,
}

impl Streams {
    /// Runs `work` as the task of a stream. The task ends when it is finished, or when the
    /// client disconnects: `work` is then dropped where it waits.
    pub(crate) fn respond<T, F>(&self, work: impl FnOnce(Sender<T>) -> F) -> ResponseStream<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<(), StreamEnd>> + Send + 'static,
    {
        self.respond_with_job(|sender| {
            let client = sender.messages.clone();
            let work = Box::pin(work(sender));
            async move {
                tokio::select! {
                    ended = work => ended,
                    () = client.closed() => Err(StreamEnd::Disconnected),
                }
            }
        })
    }

    /// Like `respond`, but after the client has disconnected the task continues until it sends
    /// its next message.
    pub(crate) fn respond_with_job<T, F>(&self, work: impl FnOnce(Sender<T>) -> F) -> ResponseStream<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<(), StreamEnd>> + Send + 'static,
    {
        let (sender, messages) = mpsc::channel(MESSAGES);
        let (ended, end) = oneshot::channel();
        let work = work(Sender {
            messages: sender,
            tasks: self.tasks.clone(),
            closing: self.closing.clone(),
            client_timeout: Some(CLIENT_TIMEOUT),
        });
        let aborting = self.aborting.clone();
        let task = async move {
            let result = match aborting.run_until_cancelled_owned(work).await {
                Some(Ok(()) | Err(StreamEnd::Disconnected)) => Ok(()),
                Some(Err(StreamEnd::Failed(error))) => Err(error.into()),
                None => Err(Error::Stopping.into()),
            };
            // The receiver is dropped if the client has disconnected.
            drop(ended.send(result));
        };
        // The span of the request, so that log lines of the task include it.
        self.tasks.spawn(task.in_current_span());
        ResponseStream { messages, end: Some(end) }
    }

    /// Spawns a task that serves streams but belongs to none of them. It ends when its
    /// token is canceled.
    pub(crate) fn spawn<F>(&self, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(task(self.closing.clone()));
    }

    /// Ends the open-ended streams, each with an error that makes the client reconnect.
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }

    /// Ends all streams, and waits for their tasks.
    pub(crate) async fn stop(&self) {
        self.closing.cancel();
        self.aborting.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The sending half of a stream's messages.
pub(crate) struct Sender<T> {
    messages: mpsc::Sender<T>,
    tasks: TaskTracker,
    closing: CancellationToken,
    /// `None` if the receiver is not the client.
    client_timeout: Option<Duration>,
}

/// Reasons for a stream to end early.
#[derive(Debug)]
pub(crate) enum StreamEnd {
    Disconnected,
    Failed(Error),
}

impl<E: Into<Error>> From<E> for StreamEnd {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// The error of work in another task that ended without a result. A panic of the task continues in its stream.
pub(crate) fn task_error(error: JoinError) -> Error {
    match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(_) => Error::Stopping,
    }
}

impl<T> Sender<T> {
    /// A sender of messages to the work of this stream itself, which may take its time.
    pub(crate) fn inner<U>(&self) -> (Sender<U>, mpsc::Receiver<U>) {
        let (messages, receiver) = mpsc::channel(MESSAGES);
        let tasks = self.tasks.clone();
        (Sender { messages, tasks, closing: self.closing.clone(), client_timeout: None }, receiver)
    }

    /// Runs work of this stream in another task. The stream holds the handle of the work, which
    /// ends when the handle is dropped.
    pub(crate) fn spawn<O: Send + 'static>(
        &self,
        work: impl Future<Output = O> + Send + 'static,
    ) -> AbortOnDropHandle<O> {
        let work = SearchTime::current().of(work);
        AbortOnDropHandle::new(self.tasks.spawn(work.in_current_span()))
    }

    /// Waits until the receiver has room; fails if the client has disconnected, or does not take a
    /// message in time.
    pub(crate) async fn send(&self, message: T) -> Result<(), StreamEnd> {
        let sending = self.messages.send(message);
        let sent = match self.client_timeout {
            None => sending.await,
            Some(longest) => timeout(longest, sending).await.map_err(|_| Error::ClientStalled)?,
        };
        sent.map_err(|_| StreamEnd::Disconnected)?;
        let_others_run().await;
        Ok(())
    }

    /// Sends if the client has room within `SEND_GRACE`; returns the message otherwise.
    pub(crate) async fn send_soon(&self, message: T) -> Result<(), T> {
        let sent = self.messages.send_timeout(message, SEND_GRACE).await;
        sent.map_err(mpsc::error::SendTimeoutError::into_inner)?;
        let_others_run().await;
        Ok(())
    }

    /// Sends if the client has room now; returns the message otherwise.
    pub(crate) fn try_send(&self, message: T) -> Result<(), T> {
        self.messages.try_send(message).map_err(mpsc::error::TrySendError::into_inner)
    }

    /// Returns when the client has disconnected.
    pub(crate) async fn closed(&self) {
        self.messages.closed().await;
    }

    /// Waits for an event that may never happen; fails when the client disconnects or the
    /// server is about to stop.
    pub(crate) async fn wait<O>(&self, event: impl Future<Output = O>) -> Result<O, StreamEnd> {
        tokio::select! {
            biased;
            // Checked first, so that a disconnect is noticed even if the event is
            // always ready.
            () = self.messages.closed() => Err(StreamEnd::Disconnected),
            () = self.closing.cancelled() => Err(StreamEnd::Failed(Error::Stopping)),
            happened = event => Ok(happened),
        }
    }
}

/// The stream a client reads. It ends without an error only if its task did: a task that
/// panicked yields an error.
pub(crate) struct ResponseStream<T> {
    messages: mpsc::Receiver<T>,
    end: Option<oneshot::Receiver<Result<(), Status>>>,
}

impl<T> ResponseStream<T> {
    /// Whether a message or the end can be read now.
    pub(crate) fn is_ready(&self) -> bool {
        !self.messages.is_empty() || self.messages.is_closed()
    }
}

impl<T> Stream for ResponseStream<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // The channel closes when the task ends, so the result comes after all messages.
        if let Some(message) = ready!(self.messages.poll_recv(context)) {
            return Poll::Ready(Some(Ok(message)));
        }
        let Some(end) = &mut self.end else { return Poll::Ready(None) };
        let ended = ready!(end.poll_unpin(context));
        self.end = None;
        Poll::Ready(match ended {
            Ok(Ok(())) => None,
            Ok(Err(status)) => Some(Err(status)),
            // The task ended without a result, because it panicked.
            Err(_) => Some(Err(Error::Broken.into())),
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    async fn read(responses: ResponseStream<u32>) -> Vec<Result<u32, tonic::Code>> {
        responses.map(|response| response.map_err(|status| status.code())).collect().await
    }

    #[tokio::test]
    async fn a_stream_ends_as_its_task_does() {
        let streams = Streams::default();
        let well = streams.respond(async move |sender| {
            for number in 0..5 {
                sender.send(number).await?;
            }
            Ok(())
        });
        assert_eq!(read(well).await, [Ok(0), Ok(1), Ok(2), Ok(3), Ok(4)]);
        let badly = streams.respond(async move |sender| {
            sender.send(1).await?;
            Err(Error::not_found("run", "r").into())
        });
        assert_eq!(read(badly).await, [Ok(1), Err(tonic::Code::NotFound)]);
        let panicked = streams.respond(async move |sender| {
            sender.send(1).await?;
            panic!("on purpose");
        });
        assert_eq!(read(panicked).await, [Ok(1), Err(tonic::Code::Internal)]);
    }

    /// A client that is slightly late gets the message; a client that stops reading does
    /// not block the sender.
    #[tokio::test(start_paused = true)]
    async fn a_sender_waits_briefly_for_a_slow_client() {
        let (messages, mut taken) = mpsc::channel(1);
        let sender = Sender {
            messages,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            client_timeout: None,
        };
        sender.send_soon(1).await.unwrap();
        let late = async {
            tokio::time::sleep(SEND_GRACE / 2).await;
            taken.recv().await
        };
        assert_eq!(tokio::join!(sender.send_soon(2), late), (Ok(()), Some(1)));
        assert_eq!(sender.send_soon(3).await, Err(3));
        drop(taken);
        assert_eq!(sender.send_soon(4).await, Err(4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_its_client_takes_nothing() {
        let streams = Streams::default();
        let mut stalled = streams.respond(async move |sender| {
            loop {
                sender.send(1).await?;
            }
        });
        let mut slow = streams.respond(async move |sender: Sender<u32>| {
            // Another part of the same work may take longer than a client.
            let (inner, mut messages) = sender.inner();
            let work = async {
                tokio::time::sleep(3 * CLIENT_TIMEOUT).await;
                while let Some(message) = messages.recv().await {
                    sender.send(message).await?;
                }
                Ok(())
            };
            let feed = async move {
                for number in 0..3 * MESSAGES as u32 {
                    inner.send(number).await?;
                }
                Ok(())
            };
            tokio::try_join!(work, feed).map(|_| ())
        });
        // A watch without events waits for as long as nothing happens.
        let mut waiting =
            streams.respond(async move |sender: Sender<u32>| sender.wait(std::future::pending()).await);
        let mut taken = Vec::new();
        while let Some(message) = slow.next().await {
            taken.push(message.unwrap());
            tokio::time::sleep(CLIENT_TIMEOUT * 9 / 10).await;
        }
        assert_eq!(taken, (0..3 * MESSAGES as u32).collect::<Vec<_>>());
        let ended: Vec<_> = (&mut stalled).map(|it| it.map_err(|status| status.code())).collect().await;
        assert_eq!(ended, [Ok(1), Ok(1), Err(tonic::Code::Aborted)]);
        assert!(futures::poll!(waiting.next()).is_pending());
    }

    #[tokio::test]
    async fn a_task_ends_when_its_client_disconnects() {
        let streams = Streams::default();
        let sending = streams.respond(async move |sender| {
            loop {
                sender.send(1).await?;
            }
        });
        let waiting =
            streams.respond(async move |sender: Sender<u32>| sender.wait(std::future::pending()).await);
        drop((sending, waiting));
        streams.tasks.close();
        streams.tasks.wait().await;
    }

    /// A search that finds nothing sends nothing, so it would not notice the disconnect.
    #[tokio::test]
    async fn a_silent_task_ends_when_its_client_disconnects() {
        let streams = Streams::default();
        let silent = streams.respond(async move |sender: Sender<u32>| {
            std::future::pending::<()>().await;
            drop(sender);
            Ok(())
        });
        drop(silent);
        streams.tasks.close();
        streams.tasks.wait().await;
    }

    #[tokio::test]
    async fn work_beside_a_stream_ends_with_it() {
        let streams = Streams::default();
        let (started, mut starts) = mpsc::channel(1);
        let stream = streams.respond(async move |sender: Sender<u32>| {
            let beside = sender.spawn(async move {
                started.send(()).await.unwrap();
                std::future::pending::<()>().await;
            });
            beside.await.unwrap();
            Ok(())
        });
        starts.recv().await.unwrap();
        drop(stream);
        streams.tasks.close();
        streams.tasks.wait().await;
        assert_eq!(starts.recv().await, None, "the work was dropped");
    }

    #[tokio::test]
    async fn close_ends_waiting_streams_and_stop_ends_the_rest() {
        let streams = Streams::default();
        let waiting =
            streams.respond(async move |sender: Sender<u32>| sender.wait(std::future::pending()).await);
        let mut busy = streams.respond(async move |sender| {
            loop {
                sender.send(1).await?;
            }
        });
        streams.close();
        assert_eq!(read(waiting).await, [Err(tonic::Code::Unavailable)]);
        assert_eq!(busy.next().await.unwrap().unwrap(), 1, "a busy stream continues after close");
        streams.stop().await;
        assert_eq!(read(busy).await.last(), Some(&Err(tonic::Code::Unavailable)));
    }
}
