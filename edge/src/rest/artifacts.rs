//! Artifacts of a run: a single one, or all as an archive. Bytes are passed through as they
//! arrive.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use matyan_proto::artifacts::v1::get_response::Message;
use matyan_proto::artifacts::v1::{Artifact, GetRequest, GetResponse, ZipRequest};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::JsonSchema;
use serde::Deserialize;
use std::io;
use tonic::{Status, Streaming};

use super::answer::Answer;
use super::byte_range::{ByteRange, Selection, is_known, is_range_wanted};
use super::call::Call;
use super::operation::Operation;
use super::shared::Id;
use crate::error::{ApiError, ApiResult};
use crate::services::Services;

/// Characters that are not escaped in an extended header value.
const EXTENDED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/runs/{id}/artifacts/download", "Download one artifact", download),
        Operation::get(
            "/runs/{id}/artifacts/download-all",
            "Download all artifacts of a run as a ZIP archive",
            download_all,
        ),
    ]
}

#[derive(Deserialize, JsonSchema)]
struct ArtifactPath {
    id: String,
    path: String,
}

/// A file of any type.
struct FileDownload(Response);

impl Answer for FileDownload {
    const MEDIA_TYPE: &str = "*/*";

    fn into_response(self) -> Response {
        self.0
    }
}

struct ZipDownload(Response);

impl Answer for ZipDownload {
    const MEDIA_TYPE: &str = "application/zip";

    fn into_response(self) -> Response {
        self.0
    }
}

async fn download(call: Call<ArtifactPath>) -> ApiResult<FileDownload> {
    let ArtifactPath { id: run_id, path } = call.parameters;
    let headers = &call.head.headers;
    let mut request = GetRequest { run_id, path, ..Default::default() };
    let range = ByteRange::of_request(headers);
    if let ByteRange::From { first, last } = range {
        (request.offset, request.length) = (first, last.map(|last| (last - first).saturating_add(1)));
    }
    let (artifact, mut messages) = open(&call.services, &request).await?;
    let etag = etag(&artifact);
    if is_known(headers, &etag) {
        return Ok(FileDownload(without_body(StatusCode::NOT_MODIFIED, &etag)));
    }
    let range = if is_range_wanted(headers, &etag) { range } else { ByteRange::Whole };
    // Without a size, no range can be described.
    let selection = artifact.size.map_or(Selection::Whole, |size| range.select(size));
    let (offset, length) = match selection {
        Selection::Whole => (0, None),
        Selection::Part { first, last } => (first, Some(last - first + 1)),
        Selection::Nothing => {
            let mut response = without_body(StatusCode::RANGE_NOT_SATISFIABLE, &etag);
            let size = artifact.size.unwrap_or_default();
            response.headers_mut().insert(header::CONTENT_RANGE, text(&format!("bytes */{size}")));
            return Ok(FileDownload(response));
        }
    };
    if offset != request.offset || (length.is_none() && request.length.is_some()) {
        (request.offset, request.length) = (offset, length);
        let (again, reopened) = open(&call.services, &request).await?;
        if again != artifact {
            let changed = "the artifact was replaced while it was read: try again";
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, changed));
        }
        messages = reopened;
    }
    let body = chunks(messages, |it| match it.message {
        Some(Message::Chunk(chunk)) => chunk,
        _ => Bytes::new(),
    });
    let mut response = Response::new(body);
    describe(response.headers_mut(), &etag);
    let mut set = |name: HeaderName, value: HeaderValue| response.headers_mut().insert(name, value);
    set(header::CONTENT_TYPE, content_type(&artifact));
    set(header::CONTENT_DISPOSITION, attachment(artifact.path.rsplit('/').next().unwrap_or_default()));
    if let Some(size) = artifact.size {
        set(header::CONTENT_LENGTH, length.unwrap_or(size).into());
        if let Selection::Part { first, last } = selection {
            set(header::CONTENT_RANGE, text(&format!("bytes {first}-{last}/{size}")));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
    }
    Ok(FileDownload(response))
}

/// The description of an artifact, and the messages with its bytes.
async fn open(services: &Services, request: &GetRequest) -> ApiResult<(Artifact, Streaming<GetResponse>)> {
    let mut messages = services.backend().artifacts().get(request.clone()).await?.into_inner();
    let Some(Message::Artifact(artifact)) = messages.message().await?.and_then(|it| it.message) else {
        tracing::error!("first message of an artifact has no description");
        return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error"));
    };
    Ok((artifact, messages))
}

/// The version of an artifact: its hash if the client has sent one, the time at which it was logged,
/// and its size.
fn etag(artifact: &Artifact) -> String {
    let hash = artifact.content_hash.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    format!("\"{hash}-{:x}-{:x}\"", artifact.logged_us, artifact.size.unwrap_or_default())
}

/// Headers of every answer about an artifact. The file may be replaced, so copies are checked again
/// before they are used, and may be of a run that not every user can read.
fn describe(headers: &mut HeaderMap, etag: &str) {
    headers.insert(header::ETAG, text(etag));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
}

fn without_body(status: StatusCode, etag: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    describe(response.headers_mut(), etag);
    response
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("numbers and quotes are valid in a header")
}

fn content_type(artifact: &Artifact) -> HeaderValue {
    let octets = HeaderValue::from_static("application/octet-stream");
    let named = artifact.content_type.as_str();
    let charset =
        if named.starts_with("text/") && !named.contains("charset") { "; charset=utf-8" } else { "" };
    match named {
        "" => octets,
        named => HeaderValue::from_str(&format!("{named}{charset}")).unwrap_or(octets),
    }
}

/// A header for a file name with any characters: plain ASCII for all clients, and the exact
/// name for those that support RFC 6266.
fn attachment(name: &str) -> HeaderValue {
    let plain: String = name
        .chars()
        .map(|it| if it.is_ascii_graphic() && !"\"\\%".contains(it) || it == ' ' { it } else { '_' })
        .collect();
    let exact = if plain == name {
        String::new()
    } else {
        format!("; filename*=UTF-8''{}", utf8_percent_encode(name, EXTENDED))
    };
    HeaderValue::from_str(&format!("attachment; filename=\"{plain}\"{exact}"))
        .expect("the header is plain ASCII")
}

async fn download_all(call: Call<Id>) -> ApiResult<ZipDownload> {
    let run_id = call.parameters.id;
    let request = ZipRequest { run_id: run_id.clone() };
    let mut messages = call.services.backend().artifacts().zip(request).await?.into_inner();
    // The first message is awaited before the status line, so that an unknown run is a 404.
    let first = messages.message().await?.map(|it| it.chunk).unwrap_or_default();
    let first = stream::iter([Ok::<_, io::Error>(first)]);
    let body = Body::from_stream(first.chain(pieces(messages, |it| it.chunk)));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(ZipDownload::MEDIA_TYPE));
    headers.insert(header::CONTENT_DISPOSITION, attachment(&format!("{run_id}-artifacts.zip")));
    Ok(ZipDownload(response))
}

fn chunks<M: Send + 'static>(messages: Streaming<M>, chunk: fn(M) -> Bytes) -> Body {
    Body::from_stream(pieces(messages, chunk))
}

/// A failure in the middle aborts the connection, because a truncated file must not look
/// complete.
fn pieces<M: Send + 'static>(
    messages: Streaming<M>,
    chunk: fn(M) -> Bytes,
) -> impl futures::Stream<Item = io::Result<Bytes>> + Send {
    messages.map(move |message| {
        message.map(chunk).map_err(|status: Status| {
            tracing::warn!(code = ?status.code(), message = status.message(), "download aborted");
            io::Error::other(status)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_file_name_fits_in_a_header() {
        let check = |name: &str, expected: &str| assert_eq!(attachment(name), expected);
        check("model v1.pt", "attachment; filename=\"model v1.pt\"");
        check("größe.png", "attachment; filename=\"gr__e.png\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.png");
        check("a\"b\\c\n", "attachment; filename=\"a_b_c_\"; filename*=UTF-8''a%22b%5Cc%0A");
    }

    #[test]
    fn text_has_a_charset() {
        let check = |named: &str, expected: &str| {
            let artifact = Artifact { content_type: named.into(), ..Default::default() };
            assert_eq!(content_type(&artifact), expected);
        };
        check("", "application/octet-stream");
        check("image/png", "image/png");
        check("text/plain", "text/plain; charset=utf-8");
        check("text/csv; charset=latin-1", "text/csv; charset=latin-1");
        check("bad\nvalue", "application/octet-stream");
    }
}
