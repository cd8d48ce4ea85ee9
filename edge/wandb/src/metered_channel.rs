//! Channels that charge the budget of a request for each call, and for the results of services.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use matyan_channels::{Channel, Channels};
use tonic::Status;
use tonic::body::Body;
use tower::{BoxError, Service};

use crate::budget::{Budget, Resource};
use crate::error::{Result, WandbError};

/// Calls whose messages are used one by one. Their readers charge for the parts of each message that they keep.
const STREAMED: [&str; 2] =
    ["/matyan.series.v1.SeriesService/Points", "/matyan.series.v1.SeriesService/Sample"];

/// Returns the same connections, which charge the budget for calls and answers.
pub(crate) fn metered(channels: Channels, budget: &Arc<Budget>) -> Channels {
    let wrap = |channel| Channel::new(MeteredChannel { channel, budget: Arc::clone(budget) });
    let Channels { backend, frontier } = channels;
    Channels { backend: wrap(backend), frontier: wrap(frontier) }
}

#[derive(Clone)]
struct MeteredChannel {
    channel: Channel,
    budget: Arc<Budget>,
}

impl Service<Request<Body>> for MeteredChannel {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if let Err(refusal) = self.budget.charge(Resource::Calls, 1) {
            return Box::pin(async move { Ok(refusal_status(&refusal).into_http()) });
        }
        let is_held = !STREAMED.contains(&request.uri().path());
        let budget = Arc::clone(&self.budget);
        let answered = self.channel.call(request);
        Box::pin(async move {
            let response = answered.await?;
            Ok(response.map(|body| Body::new(MeteredBody { body, budget, is_held })))
        })
    }
}

/// The status of a call that the budget does not allow. The refusal of the whole request has the details.
fn refusal_status(refusal: &WandbError) -> Status {
    Status::resource_exhausted(refusal.message.as_str())
}

/// The answer to a call, which charges the budget for each of its frames.
struct MeteredBody {
    body: Body,
    budget: Arc<Budget>,
    /// Whether the messages of the answer are kept until the end of the request.
    is_held: bool,
}

impl MeteredBody {
    fn charge(&self, bytes: usize) -> Result<()> {
        self.budget.charge(Resource::ReadBytes, bytes)?;
        if self.is_held { self.budget.charge(Resource::HeldBytes, bytes) } else { Ok(()) }
    }
}

impl HttpBody for MeteredBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            other => return Poll::Ready(other),
        };
        let charged = self.charge(frame.data_ref().map_or(0, Bytes::len));
        Poll::Ready(Some(charged.map(|()| frame).map_err(|refusal| refusal_status(&refusal))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
