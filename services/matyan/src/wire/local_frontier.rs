//! The frontier of this process for the sockets of its ports. Each stream has a span, like any other call.

use futures::{FutureExt as _, future::BoxFuture};
use http::HeaderMap;
use matyan_edge::{LocalStream, STREAM_METHOD};
use matyan_frontier::Frontier;
use matyan_proto::ingest::v1::StreamRequest;
use matyan_wire::trace::stamp;
use tokio::sync::mpsc;
use tonic::{Status, metadata::MetadataMap};
use tracing::Instrument as _;

use super::traced_server::call_span;

pub(super) struct LocalFrontier(pub(super) Frontier);

impl matyan_edge::LocalFrontier for LocalFrontier {
    fn open_stream(
        &self,
        mut headers: HeaderMap,
        requests: mpsc::Receiver<StreamRequest>,
    ) -> BoxFuture<'static, Result<LocalStream, Status>> {
        let span = call_span(STREAM_METHOD, &headers);
        // Spans of the work that the stream causes are children of the call.
        span.in_scope(|| stamp(&mut headers));
        let metadata = MetadataMap::from_headers(headers);
        let frontier = self.0.clone();
        let opened = async move { frontier.open_stream(&metadata, requests).await }.instrument(span.clone());
        async move {
            let (answers, work) = opened.await?;
            Ok(LocalStream::new(answers, async move {
                let _call = span;
                work.await;
            }))
        }
        .boxed()
    }
}
