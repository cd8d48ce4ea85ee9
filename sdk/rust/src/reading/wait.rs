//! Blocking calls of threads other than the I/O thread: the future runs there, and the caller waits,
//! looking up regularly so that Ctrl-C ends the wait.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use bytes::Bytes;
use object_store_http::header::HeaderMap;
use tokio::{
    runtime::Handle,
    sync::mpsc,
    task::{AbortHandle, JoinHandle},
};

use crate::{
    http::{BodyStream, HttpClient, HttpError, RestRequest},
    supervision::caught,
};

/// Interval at which a waiting thread looks for an interruption.
const LOOK_UP: Duration = Duration::from_millis(100);

/// Pieces of a body that may wait for their reader: a piece has at most a few hundred KiB.
const WAITING_PIECES: usize = 16;

/// Returns whether the thread that calls it should stop waiting.
pub type InterruptCheck = fn() -> bool;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits on this thread for a future that is driven elsewhere.
fn wait<F: Future>(future: F, interrupted: InterruptCheck) -> Result<F::Output, HttpError> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
        if interrupted() {
            return Err(HttpError::Interrupted);
        }
        thread::park_timeout(LOOK_UP);
    }
}

/// A task on the I/O thread that ends with its handle.
struct OwnedTask(AbortHandle);

impl Drop for OwnedTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs a future on the I/O thread and waits for its output.
pub(super) fn run<T: Send + 'static>(
    runtime: &Handle,
    interrupted: InterruptCheck,
    future: impl Future<Output = Result<T, HttpError>> + Send + 'static,
) -> Result<T, HttpError> {
    let task: JoinHandle<_> = runtime.spawn(caught(future));
    let _owned = OwnedTask(task.abort_handle());
    let outcome = wait(task, interrupted)?.map_err(|_| HttpError::Stopped)?;
    outcome.unwrap_or_else(|reason| Err(HttpError::Panicked { reason }))
}

/// A blocking iterator over values that a task on the I/O thread produces. The task waits when the
/// reader is slow, and ends when the iterator is dropped.
pub(super) struct BlockingStream<T> {
    values: mpsc::Receiver<Result<T, HttpError>>,
    interrupted: InterruptCheck,
    is_complete: bool,
    _task: OwnedTask,
}

/// The place where a task puts the values of a `BlockingStream`.
pub(super) struct StreamSink<T>(mpsc::Sender<Result<T, HttpError>>);

impl<T> StreamSink<T> {
    /// Hands over a value. An error means that the reader has left.
    pub(super) async fn send(&self, value: T) -> Result<(), HttpError> {
        self.0.send(Ok(value)).await.map_err(|_| HttpError::Stopped)
    }
}

/// Starts a task on the I/O thread, and returns the values that the task sends. If the task fails, its
/// error is the last item.
pub(super) fn stream<T: Send + 'static, F>(
    runtime: &Handle,
    interrupted: InterruptCheck,
    produce: impl FnOnce(StreamSink<T>) -> F,
) -> BlockingStream<T>
where
    F: Future<Output = Result<(), HttpError>> + Send + 'static,
{
    let (sender, values) = mpsc::channel(WAITING_PIECES);
    let producing = produce(StreamSink(sender.clone()));
    let task = runtime.spawn(async move {
        let error = match caught(producing).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            // Without an error, the values before a panic would seem to be all.
            Err(reason) => HttpError::Panicked { reason },
        };
        // A reader that has left needs no error.
        drop(sender.send(Err(error)).await);
    });
    BlockingStream { values, interrupted, is_complete: false, _task: OwnedTask(task.abort_handle()) }
}

impl<T> Iterator for BlockingStream<T> {
    type Item = Result<T, HttpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_complete {
            return None;
        }
        let next = wait(self.values.recv(), self.interrupted).unwrap_or_else(|error| Some(Err(error)));
        self.is_complete = !matches!(next, Some(Ok(_)));
        next
    }
}

/// The body of an answer as a blocking iterator over its pieces. Dropping it ends the request.
///
/// The first error is the last item; an iterator that ends without one has returned everything.
pub struct BlockingBody {
    pieces: BlockingStream<Bytes>,
    url: String,
    headers: HeaderMap,
}

impl BlockingBody {
    /// Sends a request. Returns once the server has answered with success.
    pub(super) fn open(
        runtime: &Handle,
        interrupted: InterruptCheck,
        client: HttpClient,
        request: RestRequest,
    ) -> Result<Self, HttpError> {
        let body = run(runtime, interrupted, async move { client.stream(&request).await })?;
        let url = body.url().to_owned();
        let headers = body.headers().clone();
        Ok(Self { pieces: stream(runtime, interrupted, |sink| forward(body, sink)), url, headers })
    }

    /// URL of the request, for messages.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Headers of the answer.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

async fn forward(mut body: BodyStream, sink: StreamSink<Bytes>) -> Result<(), HttpError> {
    while let Some(piece) = body.chunk().await? {
        sink.send(piece).await?;
    }
    Ok(())
}

impl Iterator for BlockingBody {
    type Item = Result<Bytes, HttpError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pieces.next()
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Runtime;

    use super::*;

    async fn produce(sink: StreamSink<u32>) -> Result<(), HttpError> {
        sink.send(1).await?;
        panic!("a defect")
    }

    #[test]
    fn a_stream_whose_task_panics_ends_with_an_error() {
        let runtime = Runtime::new().unwrap();
        let mut values = stream(runtime.handle(), || false, produce);
        assert!(matches!(values.next(), Some(Ok(1))));
        let error = values.next().unwrap().unwrap_err();
        assert!(matches!(&error, HttpError::Panicked { reason } if reason == "a defect"), "{error}");
        assert!(values.next().is_none());
    }

    async fn fail() -> Result<(), HttpError> {
        panic!("a defect")
    }

    #[test]
    fn a_call_that_panics_is_not_taken_for_the_end_of_the_thread() {
        let runtime = Runtime::new().unwrap();
        let error = run(runtime.handle(), || false, fail()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the request has failed (a defect); this is a defect of Matyan: please report it"
        );
    }
}
