//! Responses that their clients do not read. A service ends a stream from which nothing is taken for ten
//! minutes, but a client with an HTTP/2 window of zero never gets that end: the transport, which waits for
//! the window, neither polls the body nor drops it. So such a body is dropped here, with all that it holds,
//! and sooner if a service gives the answer up. The transport itself keeps a piece or two for as long as the
//! connection stays open, so pieces are small.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::task::AtomicWaker;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::body_budget::Permits;
use crate::call_limit;

/// Time after which a body that is not read is dropped: a minute after its service has ended it.
pub(crate) const UNREAD: Duration = Duration::from_secs(11 * 60);

/// Time after which an answer of another tracker's service is dropped. It may keep others waiting for their turn, which
/// they do for a minute.
pub(crate) const TRANSLATED_UNREAD: Duration = Duration::from_secs(30);

/// Largest piece that the transport gets, and largest body that it may keep whole.
const PIECE_BYTES: usize = 64 << 10;

/// The body of a response, with the memory of its request, until it ends, is given up by a service, or is not read for too
/// long. A response that is complete does not need its request.
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
    let held = Arc::new(HeldResponse { response: Mutex::new(Some(response)), reader: AtomicWaker::new() });
    let (unread_since, unread) = watch::channel(Some(Instant::now()));
    let answer = call_limit::call_origin().answer;
    // Does not keep the response: it ends at once when its client leaves.
    let watched = Arc::downgrade(&held);
    let dropping = tokio::spawn(async move {
        tokio::select! {
            () = unread_for(limit, unread) => {}
            () = answer.given_up() => {}
        }
        if let Some(held) = watched.upgrade() {
            let response = held.response.lock().take();
            drop(response);
            held.reader.wake();
        }
    });
    Body::new(WatchedBody { held, unread_since, _dropping: AbortOnDropHandle::new(dropping) })
}

struct HeldResponse {
    /// `None` once it is dropped.
    response: Mutex<Option<UnreadResponse>>,
    /// The transport, which may wait for the next frame.
    reader: AtomicWaker,
}

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

/// Returns once a response has not been read for this time. Never returns after its end.
async fn unread_for(limit: Duration, mut unread: watch::Receiver<Option<Instant>>) {
    loop {
        let since = *unread.borrow_and_update();
        let changed = match since {
            Some(since) => timeout_at(since + limit, unread.changed()).await,
            None => Ok(unread.changed().await),
        };
        match changed {
            Ok(Ok(())) => {}
            Ok(Err(_)) => pending().await,
            Err(_) => return,
        }
    }
}

struct WatchedBody {
    held: Arc<HeldResponse>,
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
        self.held.reader.register(context.waker());
        let frame = match &mut *self.held.response.lock() {
            Some(response) => ready!(response.poll_piece(context)),
            None => Some(Err(axum::Error::new("the response was not read for too long"))),
        };
        self.unread_since.send_replace(Some(Instant::now()));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.held
            .response
            .lock()
            .as_ref()
            .is_some_and(|held| held.rest.is_empty() && held.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.held.response.lock().as_ref().map_or_else(SizeHint::new, UnreadResponse::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::time::sleep;

    use super::*;
    use crate::call_limit::CallLimit;
    use crate::settings::Settings;

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

    #[tokio::test(start_paused = true)]
    async fn rule_45_an_answer_that_a_service_gives_up_is_dropped() {
        let calls = CallLimit::new(&Settings::default());
        let held = Arc::new(());
        let stream = futures::stream::repeat_with({
            let held = held.clone();
            move || {
                let _ = &held;
                Ok::<_, std::io::Error>(Bytes::from_static(b"piece"))
            }
        });
        let payer = calls.payer(None);
        let (origin, mut body) = payer
            .enclose(async { (call_limit::call_origin(), drop_if_unread(Body::from_stream(stream), None)) })
            .await;
        body.frame().await.unwrap().unwrap();
        assert_eq!(Arc::strong_count(&held), 2);
        origin.answer.give_up();
        sleep(Duration::from_millis(1)).await;
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(body.frame().await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn rule_45_a_reader_learns_that_its_answer_was_given_up() {
        let payer = CallLimit::new(&Settings::default()).payer(None);
        let silent = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let (origin, mut body) =
            payer.enclose(async { (call_limit::call_origin(), drop_if_unread(silent, None)) }).await;
        let giving_up = async {
            sleep(Duration::from_secs(1)).await;
            origin.answer.give_up();
        };
        let (frame, ()) = tokio::join!(body.frame(), giving_up);
        assert!(frame.unwrap().is_err());
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
