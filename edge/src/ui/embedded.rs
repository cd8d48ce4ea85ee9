//! The UI in the binary. Its files were compressed when the UI was built, and their names contain
//! a hash of their content, so that browsers may keep them forever. The few clients that do not
//! accept gzip get them decompressed.

use std::io::{self, Read};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use include_dir::Dir;

use super::file::{CACHE_FOREVER, checked_name, content_type};
use crate::compression::accepts_encoding;
use crate::error::ApiError;

const INDEX_FILE: &str = "index.html";

/// Extension of compressed files.
const COMPRESSED: &str = "gz";

/// The page of a binary that was built without the UI.
const NOT_BUILT: &str = include_str!("not_built.html");

/// Scripts, styles and images are files of this server, and nothing else is loaded or run.
const POLICY: &str =
    "default-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'";

pub(super) fn index(files: &'static Dir<'static>) -> &'static str {
    files.get_file(INDEX_FILE).and_then(|file| file.contents_utf8()).unwrap_or_else(|| {
        tracing::warn!(
            "this program was built without its web UI; run `make ui-build` and build it again, or serve \
             another UI with --ui-dir"
        );
        NOT_BUILT
    })
}

/// Policy of the page, which pages of `framed_by` may show in a frame.
pub(super) fn policy(framed_by: &[String]) -> HeaderValue {
    let words = [&[POLICY.to_owned()], framed_by].concat().join(" ");
    HeaderValue::from_str(&words).expect("origins are ASCII")
}

pub(super) async fn answer(files: &'static Dir<'static>, name: &str, request: &HeaderMap) -> Response {
    let Some(name) = checked_name(name) else { return ApiError::not_found().into_response() };
    let Some(file) = files.get_file(format!("{name}.{COMPRESSED}")) else {
        return ApiError::not_found().into_response();
    };
    let is_compressed = accepts_encoding(request, "gzip");
    let body = if is_compressed {
        Bytes::from_static(file.contents())
    } else {
        match decompressed(file.contents()).await {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(%error, name, "failed to decompress embedded file");
                return ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
                    .into_response();
            }
        }
    };
    let length = body.len();
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type(&name));
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::CACHE_CONTROL, CACHE_FOREVER);
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if is_compressed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// Decompresses a file outside of the async threads, because that takes milliseconds.
async fn decompressed(bytes: &'static [u8]) -> io::Result<Bytes> {
    tokio::task::spawn_blocking(move || {
        let mut plain = Vec::new();
        GzDecoder::new(bytes).read_to_end(&mut plain).map(|_| plain.into())
    })
    .await
    .map_err(io::Error::other)?
}
