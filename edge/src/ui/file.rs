//! One file of a directory, in the best encoding that the browser accepts, with headers for
//! caching. Compressed files are part of the directory; nothing is compressed here. Files are
//! read in chunks, and never from outside the directory: the operating system resolves paths
//! relative to it, so that neither `..` nor a link can escape it.

use std::io;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use cap_std::fs::{Dir, Metadata};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use matyan_wire::content_types;
use percent_encoding::percent_decode_str;
use tokio_util::io::ReaderStream;

use crate::compression::accepts_encoding;
use crate::error::ApiError;

/// Chunk size for reading and sending.
const CHUNK_BYTES: usize = 64 * 1024;

/// Cached for a year without revalidation.
pub(super) const CACHE_FOREVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// Cached, but revalidated each time.
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

/// Extensions of compressed files, best first, each with its name in HTTP.
const ENCODINGS: [(&str, &str); 2] = [("br", "br"), ("gz", "gzip")];

/// A request for a file.
pub(super) struct FileRequest<'a> {
    /// Path relative to the bundle's directory, as in the URL.
    pub(super) name: &'a str,
    /// The URL names the file's version.
    pub(super) is_versioned: bool,
    pub(super) headers: &'a HeaderMap,
}

pub(super) async fn answer(dir: &Arc<Dir>, request: FileRequest<'_>) -> Response {
    let Some(name) = checked_name(request.name) else { return ApiError::not_found().into_response() };
    let dir = Arc::clone(dir);
    let candidates = candidates(&name, request.headers);
    let content_type = content_type(&name);
    // Opening a file blocks the thread.
    let opened = tokio::task::spawn_blocking(move || open(&dir, &candidates)).await;
    match opened.map_err(io::Error::other).and_then(|opened| opened) {
        Ok(Some(file)) => file.answer(&request, content_type),
        Ok(None) => ApiError::not_found().into_response(),
        Err(error) => {
            tracing::error!(%error, name, "failed to read UI file");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error").into_response()
        }
    }
}

/// The decoded name, if all its segments are plain. The directory handle confines access
/// anyway; this check also hides dotfiles.
pub(super) fn checked_name(name: &str) -> Option<String> {
    let name = percent_decode_str(name).decode_utf8().ok()?;
    let is_plain =
        |segment: &str| !segment.is_empty() && !segment.starts_with('.') && !segment.contains(['\\', '\0']);
    name.split('/').all(is_plain).then(|| name.into_owned())
}

/// The names to try, in order, each with its encoding.
fn candidates(name: &str, headers: &HeaderMap) -> Vec<(String, Option<&'static str>)> {
    let accepted = ENCODINGS.into_iter().filter(|(_, encoding)| accepts_encoding(headers, encoding));
    let compressed = accepted.map(|(extension, encoding)| (format!("{name}.{extension}"), Some(encoding)));
    compressed.chain([(name.to_owned(), None)]).collect()
}

pub(super) fn content_type(name: &str) -> HeaderValue {
    let content_type = content_types::with_charset(content_types::of_name(name));
    HeaderValue::from_str(&content_type).expect("all types of the table are plain ASCII")
}

/// An existing file.
struct OpenFile {
    file: cap_std::fs::File,
    encoding: Option<&'static str>,
    bytes: u64,
    tag: HeaderValue,
}

/// Opens the first of `candidates` that is a file in `dir`.
fn open(dir: &Dir, candidates: &[(String, Option<&'static str>)]) -> io::Result<Option<OpenFile>> {
    for (name, encoding) in candidates {
        let file = match dir.open(name) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        // A directory is treated like a missing file.
        if metadata.is_file() {
            let tag = entity_tag(&metadata, *encoding);
            return Ok(Some(OpenFile { file, encoding: *encoding, bytes: metadata.len(), tag }));
        }
    }
    Ok(None)
}

/// To the caller, a link that leads out of the directory, and a name that the file system does
/// not support, are also missing files.
fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied | InvalidFilename | InvalidInput)
}

/// An entity tag that changes with the file. Each encoding has its own tag.
fn entity_tag(metadata: &Metadata, encoding: Option<&str>) -> HeaderValue {
    let changed = metadata.modified().ok().and_then(|time| time.into_std().duration_since(UNIX_EPOCH).ok());
    let changed = changed.unwrap_or_default().as_nanos();
    let tag = format!("W/\"{:x}-{changed:x}-{}\"", metadata.len(), encoding.unwrap_or_default());
    HeaderValue::from_str(&tag).expect("the tag is plain ASCII")
}

impl OpenFile {
    fn answer(self, request: &FileRequest<'_>, content_type: HeaderValue) -> Response {
        let is_cached = is_cached(request.headers, &self.tag);
        let mut response = Response::new(Body::empty());
        let mut set = |name: HeaderName, value: HeaderValue| response.headers_mut().insert(name, value);
        set(header::CACHE_CONTROL, if request.is_versioned { CACHE_FOREVER } else { REVALIDATE });
        set(header::ETAG, self.tag);
        // Caches must keep the encodings of a file apart.
        set(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        if is_cached {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        set(header::CONTENT_TYPE, content_type);
        set(header::CONTENT_LENGTH, self.bytes.into());
        set(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(encoding) = self.encoding {
            set(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        let file = tokio::fs::File::from_std(self.file.into_std());
        *response.body_mut() = Body::from_stream(ReaderStream::with_capacity(file, CHUNK_BYTES));
        response
    }
}

/// Returns whether the browser has cached exactly this version and encoding.
fn is_cached(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known
        .flat_map(|value| value.split(','))
        .any(|it| it.trim() == "*" || it.trim().as_bytes() == tag.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_names_are_rejected() {
        for name in
            ["", "a/", "/a", "a//b", "..", "a/../b", "%2e%2e/a", ".git", "a\\b", "a%5cb", "a%00", "%ff"]
        {
            assert_eq!(checked_name(name), None, "{name}");
        }
        assert_eq!(checked_name("static/js/a~b%20c.js").as_deref(), Some("static/js/a~b c.js"));
    }

    #[test]
    fn encodings_follow_the_accept_header() {
        let check = |accepted: &'static str, expected: &[&str]| {
            let headers =
                HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(accepted))]);
            let names: Vec<String> = candidates("a.js", &headers).into_iter().map(|(name, _)| name).collect();
            assert_eq!(names, expected, "{accepted}");
        };
        check("gzip, deflate, br, zstd", &["a.js.br", "a.js.gz", "a.js"]);
        check("GZIP;q=0.5", &["a.js.gz", "a.js"]);
        check("gzip;q=0, br;q=0.0", &["a.js"]);
        check("identity", &["a.js"]);
    }

    #[test]
    fn content_types_follow_the_extension() {
        let check = |name: &str, expected: &str| assert_eq!(content_type(name), expected, "{name}");
        check("a/b.min.JS", "text/javascript; charset=utf-8");
        check("x.css", "text/css; charset=utf-8");
        check("Inter.ttf", "font/ttf");
        check("js", "application/octet-stream");
        check("x.unknown", "application/octet-stream");
    }
}
