//! Artifacts of a run: a single one, or all as an archive. Bytes are passed through as they
//! arrive.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderName, HeaderValue, header};
use matyan_proto::artifacts::v1::get_response::Message;
use matyan_proto::artifacts::v1::{Artifact, GetRequest, ZipRequest};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::JsonSchema;
use serde::Deserialize;
use std::io;
use tonic::{Status, Streaming};

use super::answer::Answer;
use super::call::Call;
use super::operation::Operation;
use super::shared::Id;
use crate::error::{ApiError, ApiResult};

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
    let request = GetRequest { run_id, path, ..Default::default() };
    let mut messages = call.services.backend().artifacts().get(request).await?.into_inner();
    let Some(Message::Artifact(artifact)) = messages.message().await?.and_then(|it| it.message) else {
        tracing::error!("first message of an artifact has no description");
        return Err(ApiError::new(http::StatusCode::INTERNAL_SERVER_ERROR, "Internal server error"));
    };
    let body = chunks(messages, |it| match it.message {
        Some(Message::Chunk(chunk)) => chunk,
        _ => Bytes::new(),
    });
    let mut response = Response::new(body);
    let mut set = |name: HeaderName, value: HeaderValue| response.headers_mut().insert(name, value);
    set(header::CONTENT_TYPE, content_type(&artifact));
    set(header::CONTENT_DISPOSITION, attachment(artifact.path.rsplit('/').next().unwrap_or_default()));
    if let Some(size) = artifact.size {
        set(header::CONTENT_LENGTH, size.into());
    }
    Ok(FileDownload(response))
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
