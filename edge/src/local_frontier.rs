//! The direct way from the sockets to a frontier in the same process. A stream does the same as over gRPC, but its messages
//! are handed over as they are, and the task of the socket does the work of the frontier: a frame is acknowledged without
//! being encoded on its way, and without waking another task.

use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{BoxFuture, Fuse};
use http::HeaderMap;
use matyan_proto::ingest::v1::{StreamRequest, StreamResponse};
use tokio::sync::mpsc;
use tonic::Status;

/// The method that a frontier in this process answers without gRPC.
pub const STREAM_METHOD: &str = "/matyan.ingest.v1.IngestService/Stream";

/// A frontier in this process.
pub trait LocalFrontier: Send + Sync {
    /// Does the same as `IngestService.Stream` with these headers. The caller is permitted to open the stream.
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
    /// The stream goes on while `work` is polled. If `work` is dropped before its end, the frontier has to do the rest: it is
    /// dropped when the socket is closed, and what the socket has sent must not be lost.
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
        self.answers.poll_recv(context)
    }

    /// Does the work of the stream without taking an answer. The answers tell when the work has ended.
    pub(crate) fn poll_work(&mut self, context: &mut Context<'_>) {
        let _ = self.work.poll_unpin(context);
    }
}
