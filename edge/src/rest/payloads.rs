//! Payloads of objects by the URIs that reads of objects return, for pages that show them.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use matyan_proto::artifacts::v1::payload_response::Message;
use matyan_proto::artifacts::v1::{PayloadRequest, PayloadResponse, ThumbnailRequest};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

use super::answer::Answer;
use super::byte_range::is_known;
use super::call::Call;
use super::file::{self, FileDownload, FileInfo, FileSource, body, no_description};
use super::operation::Operation;
use crate::error::ApiResult;
use crate::security_headers::sandbox_policy;
use crate::services::Services;

/// A URI is for one object, which is rarely logged again: a browser uses its copy for five minutes,
/// and while it asks whether there is another.
const CACHING: &str = "private, max-age=300, stale-while-revalidate=86400";

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/payloads/{uri}", "Read the payload of an object", payload),
        Operation::get("/payloads/{uri}/page", "Show a logged page, without any rights", page),
        Operation::get("/payloads/{uri}/thumbnail", "Read a reduced image as PNG", thumbnail),
    ]
}

#[derive(Deserialize, JsonSchema)]
struct PayloadUri {
    /// As in the `blob_uri` of an object.
    uri: String,
}

#[derive(Deserialize, JsonSchema)]
struct ThumbnailParameters {
    /// As in the `blob_uri` of an object.
    uri: String,
    /// Maximum number of pixels of the longer side, 16 to 1,024.
    #[serde(default = "default_size")]
    size: u32,
}

fn default_size() -> u32 {
    256
}

struct PayloadSource {
    services: Arc<Services>,
    uri: String,
}

impl FileSource for PayloadSource {
    async fn open(&self, offset: u64, length: Option<u64>) -> ApiResult<(FileInfo, Body)> {
        let request = PayloadRequest { uri: self.uri.clone(), offset, length };
        let mut messages = self.services.backend().artifacts().payload(request).await?.into_inner();
        let Some(PayloadResponse { message: Some(Message::Info(info)) }) = messages.message().await? else {
            return Err(no_description("payload"));
        };
        let body = body(messages, |it| match it.message {
            Some(Message::Chunk(chunk)) => chunk,
            _ => Bytes::new(),
        });
        let size = Some(info.size);
        let version = info.version;
        let media_type = info.media_type;
        Ok((FileInfo { size, version, media_type, name: None, caching: CACHING }, body))
    }
}

async fn payload(call: Call<PayloadUri>) -> ApiResult<FileDownload> {
    let source = PayloadSource { services: call.services, uri: call.parameters.uri };
    file::answer(&call.head.headers, &source).await
}

/// A logged page. Anyone who logs runs can write one, so it must not use the rights of its reader: the browser
/// gives it its own origin, and lets it load and send nothing. In its own window, it could still open
/// pages of other servers, or look like a page of this server, so the browser saves it as a file instead.
struct LoggedPage(Response);

impl Answer for LoggedPage {
    const MEDIA_TYPE: &str = "text/html";

    fn into_response(self) -> Response {
        self.0
    }
}

async fn page(call: Call<PayloadUri>) -> ApiResult<LoggedPage> {
    let policy = sandbox_policy(&call.services.settings().cors_origins);
    let is_alone = call.head.headers.get("sec-fetch-dest").is_some_and(|purpose| purpose == "document");
    let source = PayloadSource { services: call.services, uri: call.parameters.uri };
    let mut response = file::answer(&call.head.headers, &source).await?.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    if is_alone {
        let saved = HeaderValue::from_static("attachment; filename=\"page.html\"");
        headers.insert(header::CONTENT_DISPOSITION, saved);
    }
    Ok(LoggedPage(response))
}

struct Thumbnail(Response);

impl Answer for Thumbnail {
    const MEDIA_TYPE: &str = "image/png";

    fn into_response(self) -> Response {
        self.0
    }
}

async fn thumbnail(call: Call<ThumbnailParameters>) -> ApiResult<Thumbnail> {
    let ThumbnailParameters { uri, size } = call.parameters;
    let reduced = call.services.backend().artifacts().thumbnail(ThumbnailRequest { uri, size }).await?;
    let reduced = reduced.into_inner();
    let length = Some(reduced.png.len() as u64);
    let version = reduced.version;
    let media_type = Thumbnail::MEDIA_TYPE.to_owned();
    let info = FileInfo { size: length, version, media_type, name: None, caching: CACHING };
    let etag = info.etag();
    let is_known = etag.as_ref().is_some_and(|etag| is_known(&call.head.headers, etag));
    let mut response = Response::new(if is_known { Body::empty() } else { Body::from(reduced.png) });
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(Thumbnail::MEDIA_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHING));
    if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(&etag).ok()) {
        headers.insert(header::ETAG, etag);
    }
    Ok(Thumbnail(response))
}
