//! Uploads: presigned URLs, and uploads through the server for a blob store without upload
//! URLs.
//! Bytes are passed on as they arrive; uploads are never buffered.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::response::IntoResponse;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};
use matyan_proto::ingest::v1::upload_request::Message;
use matyan_proto::ingest::v1::{PresignRequest, UploadOpen, UploadRequest};
use matyan_proto::limits::CHUNK_BYTES;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::call::Call;
use super::request_schema::{Member, RequestSchema};
use super::response_schema::ResponseSchema;
use super::table::{Answer, BasePath, Operation, Parameter, ParameterKind};
use crate::error::{ApiError, Problem, blamed_field};
use crate::services::Services;
use crate::tls::SecureConnection;

/// Path of uploads to a blob store without upload URLs.
pub(crate) const BLOBS: &str = "/api/v1/rest/blobs/";

const PRESIGN: RequestSchema = RequestSchema::Record(&[
    Member::required("run_id", RequestSchema::Text),
    Member::required("artifact_path", RequestSchema::Text),
    Member::optional("content_type", RequestSchema::Text),
]);

const PRESIGNED: ResponseSchema = ResponseSchema::Record(&[
    ("upload_url", ResponseSchema::Text),
    ("s3_key", ResponseSchema::Text),
    ("headers", ResponseSchema::MapOrNull(&ResponseSchema::Text)),
]);

const UPLOADED: ResponseSchema = ResponseSchema::Record(&[("size", ResponseSchema::Int)]);

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(
            Method::POST,
            "/artifacts/presign",
            "Get a URL to upload an artifact to",
            |services, call| Box::pin(presign(services, call)),
        )
        .base(BasePath::Rest)
        .json(&PRESIGN)
        .answers(&PRESIGNED)
        .listing_problems(),
        Operation::new(
            Method::PUT,
            "/blobs/{*key}",
            "Upload to a URL returned by presign",
            |services, call| Box::pin(upload(services, call)),
        )
        .base(BasePath::Rest)
        .query(&[
            Parameter::new("expires", ParameterKind::Text, None),
            Parameter::new("signature", ParameterKind::Text, None),
        ])
        .raw()
        // 403: the URL was not presigned. 501: the blob store has upload URLs, so this
        // route is unused.
        .fails(&["403", "501"])
        .answers(&UPLOADED),
    ]
}

async fn presign(services: Arc<Services>, call: Call) -> Answer {
    let text = |name| call.member(name).unwrap_or_default().to_owned();
    let request = PresignRequest {
        run_id: text("run_id"),
        artifact_path: text("artifact_path"),
        content_type: text("content_type"),
    };
    let answer = services.ingest().presign(request).await.map_err(presign_error)?.into_inner();
    let mut upload_url = answer.upload_url;
    // A relative URL points to this server, as seen by the caller.
    if upload_url.starts_with('/') {
        upload_url.insert_str(0, &origin(&call.parts)?);
    }
    let headers = if answer.headers.is_empty() { Value::Null } else { json!(answer.headers) };
    Ok(Json(json!({"upload_url": upload_url, "s3_key": answer.key, "headers": headers})).into_response())
}

/// Reports an invalid field as a list, as the old gateway did.
fn presign_error(status: Status) -> ApiError {
    if status.code() != Code::InvalidArgument {
        return status.into();
    }
    let field = format!("body.{}", blamed_field(&status).unwrap_or_default());
    ApiError::validation_list(&[Problem { field, message: status.message().to_owned() }])
}

/// Scheme and host under which the caller reached this server, so that the caller can reach it
/// again. A proxy's header takes precedence over the connection's own scheme.
fn origin(parts: &Parts) -> Result<String, ApiError> {
    let forwarded = header(&parts.headers, "x-forwarded-proto").and_then(|it| it.split(',').next());
    let was_forwarded_as = |scheme: &str| forwarded.is_some_and(|it| it.trim().eq_ignore_ascii_case(scheme));
    let is_tls = parts.extensions.get::<SecureConnection>().is_some();
    let scheme =
        if was_forwarded_as("https") || is_tls && !was_forwarded_as("http") { "https" } else { "http" };
    let host = header(&parts.headers, header::HOST.as_str()).or(parts.uri.authority().map(|it| it.as_str()));
    let host =
        host.ok_or_else(|| ApiError::new(StatusCode::BAD_REQUEST, "the request has no Host header"))?;
    Ok(format!("{scheme}://{host}"))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

async fn upload(services: Arc<Services>, call: Call) -> Answer {
    let headers = &call.parts.headers;
    let open = UploadOpen {
        key: call.path("key"),
        token: call.parts.uri.query().unwrap_or_default().to_owned(),
        content_type: header(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default().to_owned(),
        content_length: header(headers, header::CONTENT_LENGTH.as_str()).and_then(|it| it.parse().ok()),
    };
    // Capacity of one, so that the frontier's pace slows down the client.
    let (pieces, requests) = mpsc::channel(1);
    let mut client = services.ingest();
    let uploading = client.upload(ReceiverStream::new(requests));
    let sending = send(open, call.take_raw(), pieces);
    tokio::pin!(uploading, sending);
    let answer = tokio::select! {
        answer = &mut uploading => answer,
        sent = &mut sending => match sent {
            Ok(()) => uploading.await,
            // Dropping the call cancels the incomplete upload; nothing is stored.
            Err(BodyInterrupted) => return Err(ApiError::new(StatusCode::BAD_REQUEST, "the body ended early")),
        },
    };
    Ok(Json(json!({"size": answer?.into_inner().size})).into_response())
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
