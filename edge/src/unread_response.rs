//! Responses that their clients do not read. A service ends a stream of which nothing is taken for ten
//! minutes, but a client with an HTTP/2 window of zero never gets that end: the transport, which waits for
//! the window, neither polls the body nor drops it. So such a body is dropped here, with all that it holds.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::body_budget::Permits;

/// Time after which a body that is not read is dropped: a minute after its service has ended it.
pub(crate) const UNREAD: Duration = Duration::from_secs(11 * 60);

/// The body of a response, with the memory of its request, until it ends or is not read for too long. A
/// response that is complete does not need its request.
pub(crate) fn drop_if_unread(body: Body, request: Option<Permits>) -> Body {
    if body.size_hint().exact().is_some() {
        return body;
    }
    let response = Arc::new(HeldResponse(Mutex::new(Some((body, request)))));
    let (unread_since, unread) = watch::channel(Some(Instant::now()));
    // Not the response itself: it ends at once when its client leaves.
    let dropping = tokio::spawn(drop_when_unread(Arc::downgrade(&response), unread));
    Body::new(WatchedBody { response, unread_since, _dropping: AbortOnDropHandle::new(dropping) })
}

/// The body of a response, and the memory of its request; `None` once they are dropped.
struct HeldResponse(Mutex<Option<(Body, Option<Permits>)>>);

impl HeldResponse {
    fn lock(&self) -> MutexGuard<'_, Option<(Body, Option<Permits>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn drop_when_unread(response: Weak<HeldResponse>, mut unread: watch::Receiver<Option<Instant>>) {
    loop {
        let since = *unread.borrow_and_update();
        let changed = match since {
            Some(since) => timeout_at(since + UNREAD, unread.changed()).await,
            None => Ok(unread.changed().await),
        };
        match changed {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => return drop(response.upgrade().and_then(|response| response.lock().take())),
        }
    }
}

struct WatchedBody {
    response: Arc<HeldResponse>,
    /// When the last frame was ready; `None` while the client waits for one.
    unread_since: watch::Sender<Option<Instant>>,
    _dropping: AbortOnDropHandle<()>,
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.unread_since.send_replace(None);
        let frame = match &mut *self.response.lock() {
            Some((body, _)) => ready!(Pin::new(body).poll_frame(context)),
            None => Some(Err(axum::Error::new("the response was not read for eleven minutes"))),
        };
        self.unread_since.send_replace(Some(Instant::now()));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.response.lock().as_ref().is_some_and(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.response.lock().as_ref().map_or_else(SizeHint::new, |(body, _)| body.size_hint())
    }
}
