//! The direct path from sockets to the frontier of their process. A stream behaves as it does over gRPC, but its messages
//! are handed over without encoding, and the task of the socket does the frontier's work on the stream, so no task
//! of the frontier is woken for a frame.

use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{BoxFuture, Fuse};
use http::HeaderMap;
use matyan_proto::ingest::v1::{StreamRequest, StreamResponse};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tonic::Status;

/// The method that a frontier in this process answers without gRPC.
pub const STREAM_METHOD: &str = "/matyan.ingest.v1.IngestService/Stream";

/// A frontier in this process.
pub trait LocalFrontier: Send + Sync {
    /// Opens a stream like `IngestService.Stream` with these headers. The permission of the caller was already checked.
    fn open_stream(
        &self,
        headers: HeaderMap,
        requests: mpsc::Receiver<StreamRequest>,
    ) -> BoxFuture<'static, Result<LocalStream, Status>>;
}

/// An open stream at a frontier in this process.
pub struct LocalStream {
    answers: mpsc::Receiver<Result<StreamResponse, Status>>,
    work: Fuse<BoxFuture<'static, ()>>,
}

impl LocalStream {
    /// The stream makes progress only while `work` is polled, and only `work` may send answers: an answer wakes nobody.
    /// `work` is dropped when the socket is closed; if it has not ended by then, the frontier must finish it, so that no
    /// frame that was read is lost.
    pub fn new(
        answers: mpsc::Receiver<Result<StreamResponse, Status>>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        LocalStream { answers, work: work.boxed().fuse() }
    }

    /// The next answer, or the error that has ended the stream; `None` after the last one.
    pub(crate) fn poll_answer(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamResponse, Status>>> {
        self.poll_work(context);
        // With `poll_recv`, each answer would wake the task that is just about to take it.
        match self.answers.try_recv() {
            Ok(answer) => Poll::Ready(Some(answer)),
            Err(TryRecvError::Empty) => Poll::Pending,
            Err(TryRecvError::Disconnected) => Poll::Ready(None),
        }
    }

    /// Continues the work of the stream without taking an answer. When the work has ended, so do the answers.
    pub(crate) fn poll_work(&mut self, context: &mut Context<'_>) {
        let _ = self.work.poll_unpin(context);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use tokio::sync::oneshot;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn an_answer_does_not_wake_the_task_that_takes_it() {
        let (begin, begun) = oneshot::channel();
        let (answers, receiver) = mpsc::channel(1);
        let work = async move {
            begun.await.expect("the test begins it");
            answers.send(Ok(StreamResponse::default())).await.expect("the stream is open");
        };
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut context = Context::from_waker(&waker);
        let mut stream = LocalStream::new(receiver, work);
        assert!(stream.poll_answer(&mut context).is_pending());
        begin.send(()).unwrap();
        assert!(matches!(stream.poll_answer(&mut context), Poll::Ready(Some(Ok(_)))));
        assert!(matches!(stream.poll_answer(&mut context), Poll::Ready(None)));
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1, "only the work wakes the task");
    }
}
