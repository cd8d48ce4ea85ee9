//! Requests of HTTP/1.1 that are answered before their body was read: a wrong path, a body that is too
//! large. Clients keep connections for their next request, so the rest of the body is either read and
//! dropped, or the response says that the connection closes. Otherwise the transport would close it
//! without a word, and the client's next request would fail.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, StatusCode, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::time::timeout;

/// Largest rest of a body that is read and dropped.
const REST_BYTES: u64 = 64 << 10;

/// The body of a request, once its handler has dropped it.
pub(crate) struct UnreadRequest(Arc<Mutex<Option<Body>>>);

impl UnreadRequest {
    /// Replaces the body of a request. Returns `None` if the request has no body, and for HTTP/2,
    /// whose streams end alone.
    pub(crate) fn watch(request: &mut Request<Body>) -> Option<Self> {
        if request.version() > Version::HTTP_11 || request.body().is_end_stream() {
            return None;
        }
        let dropped = Arc::new(Mutex::new(None));
        let body = std::mem::take(request.body_mut());
        *request.body_mut() = Body::new(WatchedRequest { body, dropped: dropped.clone() });
        Some(Self(dropped))
    }

    /// Reads the rest of a body that the handler has dropped, if it is small and arrives in time, or announces that the
    /// connection closes.
    pub(crate) async fn finish(self, response: &mut Response, wait: Duration) {
        let dropped = self.0.lock().take();
        // A handler that still has the body reads it while it sends the response.
        let Some(body) = dropped.filter(|body| !body.is_end_stream()) else { return };
        let is_late = response.status() == StatusCode::GATEWAY_TIMEOUT;
        if is_late || !read_rest(body, wait).await {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// Returns whether the whole rest was read.
async fn read_rest(mut body: Body, wait: Duration) -> bool {
    if body.size_hint().lower() > REST_BYTES {
        return false;
    }
    let read = async {
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            if bytes > REST_BYTES {
                return false;
            }
        }
        true
    };
    timeout(wait, read).await.unwrap_or(false)
}

struct WatchedRequest {
    body: Body,
    dropped: Arc<Mutex<Option<Body>>>,
}

impl HttpBody for WatchedRequest {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for WatchedRequest {
    fn drop(&mut self) {
        let body = std::mem::take(&mut self.body);
        *self.dropped.lock() = Some(body);
    }
}
