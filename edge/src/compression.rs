//! Compression of gRPC-web responses with gzip, for browsers on other machines: on the same
//! machine, it takes longer to compress a response than to send it.
//!
//! The layer of tower-http does not flush while its source waits, so the progress of a search would
//! be visible only at its end.

use std::io::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::{Body as HttpBody, Frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;

use crate::deadline;

/// Maximum number of responses that are compressed at the same time; each takes about 300 kB.
/// Additional ones are sent as they are.
const MAX_COMPRESSORS: usize = 32;

/// Input that is compressed before other tasks of the thread run.
const STEP: usize = 64 << 10;

/// Set by proxies, whose clients may be on other machines.
const FORWARDED: [&str; 3] = ["forwarded", "x-forwarded-for", "via"];

/// Extension of requests whose connection comes from this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalConnection;

/// Returns whether a client accepts responses with this encoding.
pub(crate) fn accepts_encoding(headers: &HeaderMap, encoding: &str) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|accepted| {
        let (name, weight) = accepted.split_once(';').unwrap_or((accepted, ""));
        // A weight of 0 means that the encoding is not acceptable.
        let is_refused = weight.trim().strip_prefix("q=").is_some_and(|it| it.parse() == Ok(0.0_f32));
        name.trim().eq_ignore_ascii_case(encoding) && !is_refused
    })
}

/// The compressors of a port. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Compressors {
    free: Arc<Semaphore>,
}

impl Compressors {
    pub(crate) fn new() -> Self {
        Compressors { free: Arc::new(Semaphore::new(MAX_COMPRESSORS)) }
    }

    /// Reserves a compressor if the response to this request should be compressed.
    pub(crate) fn reserve<B>(&self, request: &Request<B>) -> Option<Reservation> {
        let headers = request.headers();
        let content_type = headers.get(header::CONTENT_TYPE)?.as_bytes();
        let is_local = request.extensions().get::<LocalConnection>().is_some();
        let is_wanted = content_type.starts_with(b"application/grpc-web")
            && accepts_encoding(headers, "gzip")
            // Each event of a stream that waits for events would end a block.
            && !deadline::is_open_ended(request.uri().path())
            && (!is_local || is_forwarded(headers));
        let permit = is_wanted.then(|| self.free.clone().try_acquire_owned().ok())??;
        Some(Reservation { _permit: permit })
    }
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    FORWARDED.iter().any(|name| headers.contains_key(*name))
}

/// The right to use a compressor for one response.
pub(crate) struct Reservation {
    _permit: OwnedSemaphorePermit,
}

impl Reservation {
    /// Compresses the body of a gRPC-web response, whose trailers are part of the data.
    pub(crate) fn compress(self, mut response: Response<Body>) -> Response<Body> {
        if response.body().is_end_stream() {
            return response;
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.remove(header::CONTENT_LENGTH);
        response.map(|body| {
            Body::new(CompressedBody {
                body,
                input: Bytes::new(),
                encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())),
                is_flushed: true,
                _reservation: self,
            })
        })
    }
}

/// A body that is sent as far as it is known whenever its source has to wait.
struct CompressedBody {
    body: Body,
    /// Data that is not compressed yet.
    input: Bytes,
    /// `None` after the end.
    encoder: Option<GzEncoder<Vec<u8>>>,
    is_flushed: bool,
    _reservation: Reservation,
}

/// Reads input if there is none. Returns whether there is more.
fn poll_input(body: &mut Body, input: &mut Bytes, context: &mut Context<'_>) -> Poll<Result<bool, Status>> {
    while input.is_empty() {
        match ready!(Pin::new(&mut *body).poll_frame(context)) {
            Some(frame) => *input = frame?.into_data().unwrap_or_default(),
            None => return Poll::Ready(Ok(false)),
        }
    }
    Poll::Ready(Ok(true))
}

impl HttpBody for CompressedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, input, encoder: slot, is_flushed, .. } = &mut *self;
        let Some(encoder) = slot else { return Poll::Ready(None) };
        let polled = poll_input(body, input, context)?;
        let compressed = match polled {
            Poll::Ready(true) => {
                *is_flushed = false;
                encoder.write_all(&input.split_to(input.len().min(STEP)))
            }
            Poll::Ready(false) => encoder.try_finish(),
            Poll::Pending if *is_flushed => return Poll::Pending,
            Poll::Pending => {
                *is_flushed = true;
                encoder.flush()
            }
        };
        compressed.map_err(|error| Status::internal(format!("failed to compress: {error}")))?;
        let output = std::mem::take(encoder.get_mut());
        if polled == Poll::Ready(false) {
            *slot = None;
        }
        if output.is_empty() {
            // The compressor has kept the input.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(output.into()))))
    }
}
