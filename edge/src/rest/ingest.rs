//! Uploads: presigned URLs, and uploads through the server for a blob store without upload
//! URLs.
//! Bytes are passed on as they arrive; uploads are never buffered.

use axum::Json;
use axum::body::Body;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use matyan_proto::common::v1::Access;
use matyan_proto::ingest::v1::upload_request::Message;
use matyan_proto::ingest::v1::{
    AbortUploadRequest, BeginUploadRequest, BeginUploadResponse, CompleteUploadRequest, PartedUpload,
    PresignPartRequest, PresignPartResponse, PresignRequest, UploadOpen, UploadRequest, UploadResponse,
};
use matyan_proto::limits::CHUNK_BYTES;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::answer::WithETag;
use super::call::{Call, NoParameters};
use super::operation::{BasePath, Operation};
use crate::error::{ApiError, ApiResult, Problem, blamed_field};
use crate::request_origin::origin;

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/artifacts/presign", "Get a URL to upload an artifact to", presign)
            .base(BasePath::Rest)
            .access(Access::Ingest)
            .with_small_body()
            .listing_problems(),
        Operation::post("/artifacts/uploads", "Begin an upload in parts", begin_upload)
            .base(BasePath::Rest)
            .access(Access::Ingest)
            .with_small_body()
            .listing_problems(),
        Operation::post("/artifacts/uploads/part", "Get a URL to send a part to", presign_part)
            .base(BasePath::Rest)
            .access(Access::Ingest)
            .with_small_body()
            .listing_problems(),
        // 404: the upload does not exist any more.
        Operation::post("/artifacts/uploads/complete", "Complete an upload in parts", complete_upload)
            .base(BasePath::Rest)
            .access(Access::Ingest)
            .fails(&["404"])
            .listing_problems(),
        Operation::post("/artifacts/uploads/abort", "Discard an upload in parts", abort_upload)
            .base(BasePath::Rest)
            .access(Access::Ingest)
            .with_small_body()
            .listing_problems(),
        Operation::put("/blobs/{*key}", "Upload to a URL returned by presign", upload)
            .base(BasePath::Rest)
            .access(Access::Signed)
            // 403: the URL was not presigned. 501: the blob store has upload URLs, so this
            // route is unused.
            .fails(&["403", "501"]),
    ]
}

#[derive(Deserialize, JsonSchema)]
struct NewArtifact {
    run_id: String,
    artifact_path: String,
    #[serde(default)]
    content_type: String,
    /// Size of the artifact in bytes, if it is known: the URL then accepts no other size, if the blob store
    /// supports that.
    size: Option<u64>,
}

#[derive(Serialize, JsonSchema)]
struct PresignedUpload {
    upload_url: String,
    s3_key: String,
    headers: Option<HashMap<String, String>>,
}

/// The members are repeated in each request instead of flattened, so that an error names the
/// wrong one.
#[derive(Deserialize, JsonSchema)]
struct NewUpload {
    run_id: String,
    artifact_path: String,
    #[serde(default)]
    content_type: String,
    /// Size of the whole artifact in bytes.
    size: u64,
}

#[derive(Serialize, JsonSchema)]
struct BegunUpload {
    upload_id: String,
    s3_key: String,
    /// Size of every part but the last.
    part_bytes: u64,
    /// Whether parts have to be sent one after another.
    is_sequential: bool,
}

/// An upload in parts that was started.
#[derive(Deserialize, JsonSchema)]
struct ArtifactUpload {
    upload_id: String,
    run_id: String,
    artifact_path: String,
    #[serde(default)]
    content_type: String,
    size: u64,
}

#[derive(Deserialize, JsonSchema)]
struct UploadPart {
    upload_id: String,
    run_id: String,
    artifact_path: String,
    #[serde(default)]
    content_type: String,
    size: u64,
    /// From 1.
    part_number: u32,
}

#[derive(Serialize, JsonSchema)]
struct PresignedPart {
    upload_url: String,
    headers: HashMap<String, String>,
    /// First byte and number of bytes of the part in the artifact.
    offset: u64,
    length: u64,
}

#[derive(Deserialize, JsonSchema)]
struct SentUpload {
    upload_id: String,
    run_id: String,
    artifact_path: String,
    #[serde(default)]
    content_type: String,
    size: u64,
    /// The header `ETag` of the response to each part, in order; empty where there was none.
    etags: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct NoContent {}

/// The whole query is passed on as the token, so its members are only described.
#[derive(Deserialize, JsonSchema)]
struct UploadParameters {
    key: String,
    #[serde(rename = "upload")]
    _upload: Option<String>,
    #[serde(rename = "offset")]
    _offset: Option<String>,
    #[serde(rename = "length")]
    _length: Option<String>,
    #[serde(rename = "expires")]
    _expires: Option<String>,
    #[serde(rename = "signature")]
    _signature: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct UploadSize {
    size: u64,
}

async fn presign(call: Call<NoParameters, Json<NewArtifact>>) -> ApiResult<Json<PresignedUpload>> {
    let Json(NewArtifact { run_id, artifact_path, content_type, size }) = call.body;
    let request = PresignRequest { run_id, artifact_path, content_type, size };
    let answer = call.services.ingest().presign(request).await.map_err(presign_error)?.into_inner();
    let upload_url = absolute(answer.upload_url, &call.head)?;
    let headers = Some(answer.headers).filter(|it| !it.is_empty());
    Ok(Json(PresignedUpload { upload_url, s3_key: answer.key, headers }))
}

/// A relative URL points to this server, as seen by the caller.
fn absolute(url: String, parts: &Parts) -> ApiResult<String> {
    if url.starts_with('/') { Ok(origin(parts)? + &url) } else { Ok(url) }
}

async fn begin_upload(call: Call<NoParameters, Json<NewUpload>>) -> ApiResult<Json<BegunUpload>> {
    let Json(NewUpload { run_id, artifact_path, content_type, size }) = call.body;
    let request = BeginUploadRequest { run_id, artifact_path, content_type, size, part_count: 0 };
    let answer = call.services.ingest().begin_upload(request).await.map_err(presign_error)?.into_inner();
    let BeginUploadResponse { upload_id, key: s3_key, part_bytes, is_sequential } = answer;
    Ok(Json(BegunUpload { upload_id, s3_key, part_bytes, is_sequential }))
}

async fn presign_part(call: Call<NoParameters, Json<UploadPart>>) -> ApiResult<Json<PresignedPart>> {
    let Json(UploadPart { upload_id, run_id, artifact_path, content_type, size, part_number }) = call.body;
    let upload = PartedUpload { upload_id, run_id, artifact_path, content_type, size, part_count: 0 };
    let request = PresignPartRequest { upload: Some(upload), part_number };
    let answer = call.services.ingest().presign_part(request).await.map_err(presign_error)?.into_inner();
    let PresignPartResponse { upload_url, headers, offset, length, .. } = answer;
    Ok(Json(PresignedPart { upload_url: absolute(upload_url, &call.head)?, headers, offset, length }))
}

async fn complete_upload(call: Call<NoParameters, Json<SentUpload>>) -> ApiResult<Json<NoContent>> {
    let Json(SentUpload { upload_id, run_id, artifact_path, content_type, size, etags }) = call.body;
    let upload = PartedUpload { upload_id, run_id, artifact_path, content_type, size, part_count: 0 };
    let request = CompleteUploadRequest { upload: Some(upload), etags };
    call.services.ingest().complete_upload(request).await.map_err(presign_error)?;
    Ok(Json(NoContent {}))
}

async fn abort_upload(call: Call<NoParameters, Json<ArtifactUpload>>) -> ApiResult<Json<NoContent>> {
    let Json(ArtifactUpload { upload_id, run_id, artifact_path, content_type, size }) = call.body;
    let upload = PartedUpload { upload_id, run_id, artifact_path, content_type, size, part_count: 0 };
    let request = AbortUploadRequest { upload: Some(upload) };
    call.services.ingest().abort_upload(request).await.map_err(presign_error)?;
    Ok(Json(NoContent {}))
}

/// Reports an invalid field as a list, like the old gateway.
fn presign_error(status: Status) -> ApiError {
    if status.code() != Code::InvalidArgument {
        return status.into();
    }
    let field = format!("body.{}", blamed_field(&status).unwrap_or_default());
    ApiError::validation_list(&[Problem { field, message: status.message().to_owned() }])
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

async fn upload(call: Call<UploadParameters, Body>) -> ApiResult<WithETag<UploadSize>> {
    let headers = &call.head.headers;
    let open = UploadOpen {
        key: call.parameters.key,
        token: call.head.uri.query().unwrap_or_default().to_owned(),
        content_type: header(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default().to_owned(),
        content_length: header(headers, header::CONTENT_LENGTH.as_str()).and_then(|it| it.parse().ok()),
    };
    // Capacity of one, so that the frontier's pace slows down the client.
    let (pieces, requests) = mpsc::channel(1);
    let mut client = call.services.ingest();
    let uploading = client.upload(ReceiverStream::new(requests));
    let sending = send(open, call.body, pieces);
    tokio::pin!(uploading, sending);
    let answer = tokio::select! {
        answer = &mut uploading => answer,
        sent = &mut sending => match sent {
            Ok(()) => uploading.await,
            // Dropping the call cancels the incomplete upload; nothing is stored.
            Err(BodyInterrupted) => return Err(ApiError::new(StatusCode::BAD_REQUEST, "the body ended early")),
        },
    };
    let UploadResponse { size, etag } = answer?.into_inner();
    // Quoted, because the definition of the header requires quotes.
    let etag = (!etag.is_empty()).then(|| HeaderValue::try_from(format!("\"{etag}\""))).transpose();
    let etag = etag.map_err(|_| {
        ApiError::new(StatusCode::BAD_GATEWAY, "the confirmation of the part is not a valid header")
    })?;
    Ok(WithETag { etag, answer: Json(UploadSize { size }) })
}

/// The client disconnected before the end of its body.
struct BodyInterrupted;

/// Passes the body on in pieces. The channel is closed only if the body is complete.
async fn send(
    open: UploadOpen,
    body: Body,
    pieces: mpsc::Sender<UploadRequest>,
) -> Result<(), BodyInterrupted> {
    let mut messages = std::pin::pin!(messages(open, body));
    while let Some(message) = messages.next().await {
        if pieces.send(UploadRequest { message: Some(message?) }).await.is_err() {
            // The frontier has already answered, and its answer is the result.
            return std::future::pending().await;
        }
    }
    Ok(())
}

fn messages(open: UploadOpen, body: Body) -> impl Stream<Item = Result<Message, BodyInterrupted>> {
    let chunks = body.into_data_stream().flat_map(|data| {
        let pieces = match data {
            Ok(data) => split(data).map(|piece| Ok(Message::Chunk(piece))).collect(),
            Err(_) => vec![Err(BodyInterrupted)],
        };
        futures::stream::iter(pieces)
    });
    // An error ends the sending, so the end mark is only reached after a complete body.
    let end = futures::stream::iter([Ok(Message::Done(true))]);
    futures::stream::iter([Ok(Message::Open(open))]).chain(chunks).chain(end)
}

fn split(mut data: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || (!data.is_empty()).then(|| data.split_to(data.len().min(CHUNK_BYTES))))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use crate::tls::SecureConnection;

    use super::*;

    #[test]
    fn an_upload_url_has_the_scheme_of_the_connection_or_proxy() {
        let check = |secure: bool, forwarded: &str, expected: &str| {
            let mut request = Request::get("/").header(header::HOST, "here:1");
            if !forwarded.is_empty() {
                request = request.header("x-forwarded-proto", forwarded);
            }
            let (mut parts, ()) = request.body(()).unwrap().into_parts();
            if secure {
                parts.extensions.insert(SecureConnection);
            }
            assert_eq!(origin(&parts).unwrap(), expected, "{secure} {forwarded}");
        };
        check(false, "", "http://here:1");
        check(true, "", "https://here:1");
        check(false, "https", "https://here:1");
        check(true, "HTTP, https", "http://here:1");
        check(true, "javascript:x//", "https://here:1");
    }
}
