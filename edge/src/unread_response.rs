//! Responses that their clients do not read. A service ends a stream from which nothing is taken for ten
//! minutes, but a client with an HTTP/2 window of zero never gets that end: the transport, which waits for
//! the window, neither polls the body nor drops it. So such a body is dropped here, with all that it holds. The
//! transport itself keeps a piece or two for as long as the connection stays open, so pieces are small.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::body_budget::Permits;

/// Time after which a body that is not read is dropped: a minute after its service has ended it.
pub(crate) const UNREAD: Duration = Duration::from_secs(11 * 60);

/// Time after which an answer of another tracker's service is dropped. It may keep others waiting for their turn, which
/// they do for a minute.
pub(crate) const TRANSLATED_UNREAD: Duration = Duration::from_secs(30);

/// Largest piece that the transport gets, and largest body that it may keep whole.
const PIECE_BYTES: usize = 64 << 10;

/// The body of a response, with the memory of its request, until it ends or is not read for too long. A
/// response that is complete does not need its request.
pub(crate) fn drop_if_unread(body: Body, request: Option<Permits>) -> Body {
    drop_if_unread_for(UNREAD, body, request)
}

/// Like `drop_if_unread`, with another time.
pub(crate) fn drop_if_unread_for(limit: Duration, body: Body, request: Option<Permits>) -> Body {
    let size = body.size_hint().exact();
    if size.is_some_and(|bytes| bytes <= PIECE_BYTES as u64) {
        return body;
    }
    let request = request.filter(|_| size.is_none());
    let response = UnreadResponse { body, rest: Bytes::new(), _request: request };
    let response = Arc::new(HeldResponse(Mutex::new(Some(response))));
    let (unread_since, unread) = watch::channel(Some(Instant::now()));
    // Not the response itself: it ends at once when its client leaves.
    let dropping = tokio::spawn(drop_when_unread(limit, Arc::downgrade(&response), unread));
    Body::new(WatchedBody { response, unread_since, _dropping: AbortOnDropHandle::new(dropping) })
}

/// `None` once it is dropped.
struct HeldResponse(Mutex<Option<UnreadResponse>>);

struct UnreadResponse {
    body: Body,
    /// The part of its last frame that the transport has not got.
    rest: Bytes,
    _request: Option<Permits>,
}

impl UnreadResponse {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) if data.len() > PIECE_BYTES => self.rest = data,
                Some(Ok(Ok(data))) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        // A copy: a slice would keep all of the frame.
        Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(&piece)))))
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

async fn drop_when_unread(
    limit: Duration,
    response: Weak<HeldResponse>,
    mut unread: watch::Receiver<Option<Instant>>,
) {
    loop {
        let since = *unread.borrow_and_update();
        let changed = match since {
            Some(since) => timeout_at(since + limit, unread.changed()).await,
            None => Ok(unread.changed().await),
        };
        match changed {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => return drop(response.upgrade().and_then(|response| response.0.lock().take())),
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
        let frame = match &mut *self.response.0.lock() {
            Some(response) => ready!(response.poll_piece(context)),
            None => Some(Err(axum::Error::new("the response was not read for too long"))),
        };
        self.unread_since.send_replace(Some(Instant::now()));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.response.0.lock().as_ref().is_some_and(|held| held.rest.is_empty() && held.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.response.0.lock().as_ref().map_or_else(SizeHint::new, UnreadResponse::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_for_which_others_wait_is_dropped_sooner() {
        let whole = Body::from(vec![0; 3 * PIECE_BYTES]);
        let mut body = drop_if_unread_for(TRANSLATED_UNREAD, whole, None);
        for _ in 0..2 {
            sleep(TRANSLATED_UNREAD * 9 / 10).await;
            body.frame().await.unwrap().unwrap();
        }
        sleep(TRANSLATED_UNREAD * 11 / 10).await;
        assert!(body.frame().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn the_transport_gets_small_pieces() {
        let sent: Vec<u8> = (0..3 * PIECE_BYTES + 7).map(|at| at as u8).collect();
        let frames = [&sent[..2 * PIECE_BYTES + 1], &sent[2 * PIECE_BYTES + 1..]];
        let stream = frames.map(|frame| Ok::<_, std::io::Error>(Bytes::copy_from_slice(frame)));
        for body in [Body::from(sent.clone()), Body::from_stream(futures::stream::iter(stream))] {
            let exact = body.size_hint().exact();
            let mut body = drop_if_unread(body, None);
            let mut got = Vec::new();
            while let Some(frame) = body.frame().await {
                got.extend(frame.unwrap().into_data().unwrap());
                assert!(!body.is_end_stream() || got.len() == sent.len());
                let left = (sent.len() - got.len()) as u64;
                assert_eq!(body.size_hint().exact(), exact.map(|_| left));
            }
            assert!(got == sent);
        }
    }
}
