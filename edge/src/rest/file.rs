//! One file as an answer: whole, or the part that a request asks for. Bytes are passed through as
//! they arrive.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use matyan_wire::{content_types::with_charset, headers::UNKNOWN_TYPE};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};
use std::io;
use tonic::{Status, Streaming};

use super::answer::{Answer, by_status};
use super::byte_range::{ByteRange, Selection, is_known, is_range_wanted};
use super::call::Dialect;
use crate::error::{ApiError, ApiResult};

/// Characters that are not escaped in an extended header value.
const EXTENDED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A file of any type.
pub(super) struct FileDownload(Response);

impl Answer for FileDownload {
    const MEDIA_TYPE: &str = "*/*";

    fn into_response(self) -> Response {
        self.0
    }

    fn describe(_: Dialect, _: &mut SchemaGenerator) -> Map<String, Value> {
        let file = |description: &str| {
            let content = json!({(Self::MEDIA_TYPE): {"schema": {}}});
            json!({"description": description, "content": content})
        };
        let mut answers = by_status(StatusCode::OK, file("the whole file"));
        answers.extend(by_status(StatusCode::PARTIAL_CONTENT, file("the part that `Range` asks for")));
        let empty = [
            (StatusCode::NOT_MODIFIED, "the caller has this version: `If-None-Match` names its `ETag`"),
            (StatusCode::RANGE_NOT_SATISFIABLE, "`Range` begins after the end; `Content-Range` has the size"),
        ];
        for (status, description) in empty {
            answers.extend(by_status(status, json!({"description": description})));
        }
        answers
    }
}

/// A file as it is now.
#[derive(PartialEq)]
pub(super) struct FileInfo {
    pub(super) size: Option<u64>,
    /// As the blob store reports it; empty if it reports none.
    pub(super) version: String,
    /// Empty if unknown.
    pub(super) media_type: String,
    /// The name under which a browser saves the file, instead of showing it.
    pub(super) name: Option<String>,
    /// `Cache-Control`; private, because not every user may be allowed to read the file.
    pub(super) caching: &'static str,
}

/// A file that can be opened at any position.
pub(super) trait FileSource: Sync {
    /// The description, and the bytes from `offset` on; with a length of 0, only the description.
    fn open(
        &self,
        offset: u64,
        length: Option<u64>,
    ) -> impl Future<Output = ApiResult<(FileInfo, Body)>> + Send;
}

/// Answers a request with these headers.
pub(super) async fn answer(headers: &HeaderMap, source: &impl FileSource) -> ApiResult<FileDownload> {
    let range = ByteRange::of_request(headers);
    let opened = match range {
        // Whether and what to send depends on the file, so only its description is read.
        _ if headers.contains_key(header::IF_NONE_MATCH) => (0, Some(0)),
        ByteRange::Suffix { .. } => (0, Some(0)),
        ByteRange::From { first, last } => (first, last.map(|last| (last - first).saturating_add(1))),
        ByteRange::Whole => (0, None),
    };
    let (file, mut body) = source.open(opened.0, opened.1).await?;
    let etag = file.etag();
    if etag.as_ref().is_some_and(|etag| is_known(headers, etag)) {
        return Ok(FileDownload(without_body(StatusCode::NOT_MODIFIED, &file)));
    }
    let range = if is_range_wanted(headers, etag.as_deref()) { range } else { ByteRange::Whole };
    // Without a size, no range can be described.
    let selection = file.size.map_or(Selection::Whole, |size| range.select(size));
    let (offset, length) = match selection {
        Selection::Whole => (0, None),
        Selection::Part { first, last } => (first, Some(last - first + 1)),
        Selection::Nothing => {
            let mut response = without_body(StatusCode::RANGE_NOT_SATISFIABLE, &file);
            let size = file.size.unwrap_or_default();
            response.headers_mut().insert(header::CONTENT_RANGE, text(&format!("bytes */{size}")));
            return Ok(FileDownload(response));
        }
    };
    if offset != opened.0 || (length.is_none() && opened.1.is_some()) || opened.1 == Some(0) {
        let (again, reopened) = source.open(offset, length).await?;
        if again != file {
            let changed = "the file was replaced while it was read: try again";
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, changed));
        }
        body = reopened;
    }
    let mut response = Response::new(body);
    describe(response.headers_mut(), &file);
    let mut set = |name: HeaderName, value: HeaderValue| response.headers_mut().insert(name, value);
    set(header::CONTENT_TYPE, content_type(&file.media_type));
    if let Some(name) = &file.name {
        set(header::CONTENT_DISPOSITION, attachment(name));
    }
    if let Some(size) = file.size {
        set(header::CONTENT_LENGTH, length.unwrap_or(size).into());
        if let Selection::Part { first, last } = selection {
            set(header::CONTENT_RANGE, text(&format!("bytes {first}-{last}/{size}")));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
    }
    Ok(FileDownload(response))
}

/// The answer if a service sends bytes without a description.
pub(super) fn no_description(file: &'static str) -> ApiError {
    tracing::error!(file, "the first message of a file has no description");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
}

impl FileInfo {
    /// The version as a quoted tag; versions may have their own quotes.
    pub(super) fn etag(&self) -> Option<String> {
        let version: String =
            self.version.chars().filter(|it| it.is_ascii_alphanumeric() || *it == '-').collect();
        let size = self.size.unwrap_or_default();
        (!version.is_empty()).then(|| format!("\"{version}-{size:x}\""))
    }
}

/// Headers of every answer about a file.
fn describe(headers: &mut HeaderMap, file: &FileInfo) {
    if let Some(etag) = file.etag() {
        headers.insert(header::ETAG, text(&etag));
    }
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(file.caching));
}

fn without_body(status: StatusCode, file: &FileInfo) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    describe(response.headers_mut(), file);
    response
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("numbers and quotes are valid in a header")
}

fn content_type(named: &str) -> HeaderValue {
    let unknown = HeaderValue::from_static(UNKNOWN_TYPE);
    match named {
        "" => unknown,
        named => HeaderValue::from_str(&with_charset(named)).unwrap_or(unknown),
    }
}

/// A header for a file name with any characters: plain ASCII for all clients, and the exact
/// name for clients that support RFC 6266.
pub(super) fn attachment(name: &str) -> HeaderValue {
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

/// The bytes of messages as a body.
pub(super) fn body<M: Send + 'static>(messages: Streaming<M>, chunk: fn(M) -> Bytes) -> Body {
    Body::from_stream(pieces(messages, chunk))
}

/// A failure in the middle aborts the connection, because a truncated file must not look
/// complete.
pub(super) fn pieces<M: Send + 'static>(
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
            assert_eq!(content_type(named), expected);
        };
        check("", "application/octet-stream");
        check("image/png", "image/png");
        check("text/plain", "text/plain; charset=utf-8");
        check("text/csv; charset=latin-1", "text/csv; charset=latin-1");
        check("bad\nvalue", "application/octet-stream");
    }
}
