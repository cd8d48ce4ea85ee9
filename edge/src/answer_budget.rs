//! Memory for the large answers of a port, until their clients have read them or left: a client may read
//! slowly, or not at all. One client may hold three quarters of it. An answer without room waits ten seconds
//! for the memory of other answers, and is then refused, if possible before it is written. Answers that wait
//! may hold a quarter as much. Answers of a few hundred kilobytes are not counted. A stream holds little more
//! than a message at a time, and its service bounds its own memory. Translators of other trackers have their
//! own budgets, except the translator of MLflow.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body::Body as _;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use tonic::body::Body as GrpcBody;

use crate::call_limit::{self, Permit};
use crate::error::{ApiError, ApiResult};

/// Time in seconds after which a client that is refused should try again.
const RETRY_S: u64 = 5;

/// Takes memory for an answer that holds this many bytes.
pub(crate) async fn take(bytes: usize) -> ApiResult<Option<Permit>> {
    let memory = call_limit::admit_answer(bytes).await;
    memory.map_err(|refused| ApiError::from(refused).retry_after(RETRY_S))
}

/// Takes memory for an answer that was written as a whole. It keeps the memory until it is sent or dropped.
pub(crate) async fn hold_whole(response: Response) -> ApiResult<Response> {
    let bytes = response.body().size_hint().exact().unwrap_or_default();
    let memory = take(usize::try_from(bytes).unwrap_or(usize::MAX)).await?;
    Ok(hold(response, memory))
}

/// Keeps the memory until the response is sent or dropped.
pub(crate) fn hold(response: Response, memory: Option<Permit>) -> Response {
    call_limit::hold(response, memory, Body::new)
}

/// Takes memory for the only message of a gRPC call. It is encoded when its first byte is needed, so its size is known
/// before the response starts. A message of another process arrives in small pieces, and that process holds it.
pub(crate) async fn hold_message(response: http::Response<GrpcBody>) -> http::Response<GrpcBody> {
    if response.body().is_end_stream() {
        return response;
    }
    let (head, mut body) = response.into_parts();
    let first = body.frame().await;
    let bytes = match &first {
        Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
        Some(Err(_)) | None => 0,
    };
    match call_limit::admit_answer(bytes).await {
        Ok(memory) => {
            let frames = stream::iter(first).chain(BodyStream::new(body));
            let response = http::Response::from_parts(head, GrpcBody::new(StreamBody::new(frames)));
            call_limit::hold(response, memory, GrpcBody::new)
        }
        Err(refused) => refused.into_http(),
    }
}
