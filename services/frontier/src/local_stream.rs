//! The stream of a client in the same process. The client polls the work of the stream itself, so messages are not
//! encoded, and no other task has to be woken for them.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use matyan_proto::ingest::v1 as pb;
use tokio::{runtime::Handle, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, metadata::MetadataMap};

use crate::{Frontier, stream::Answer};

/// The work of a stream, which makes progress only when it is polled. It may hold memory that other streams wait for, so it
/// must be polled whenever it is woken. If it is dropped before its end, a task of the frontier finishes it.
pub struct StreamWork {
    /// `None` after its end.
    work: Option<BoxFuture<'static, ()>>,
    /// The runtime in which the stream was opened.
    runtime: Handle,
}

impl Frontier {
    /// Opens a stream for a client in this process, like `IngestService.Stream` with this metadata.
    pub async fn open_stream(
        &self,
        metadata: &MetadataMap,
        requests: mpsc::Receiver<pb::StreamRequest>,
    ) -> Result<(mpsc::Receiver<Answer>, StreamWork), Status> {
        let requests = ReceiverStream::new(requests).map(Ok);
        let (answers, work) = self.begin_stream(metadata, requests).await?;
        Ok((answers, StreamWork { work: Some(work), runtime: Handle::current() }))
    }
}

impl Future for StreamWork {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some(work) = &mut self.work {
            ready!(work.poll_unpin(context));
            self.work = None;
        }
        Poll::Ready(())
    }
}

impl Drop for StreamWork {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            self.runtime.spawn(work);
        }
    }
}
