//! Paths of request URIs: their normal form, and their replacement.

use http::Uri;

/// Path above all paths of the API of this server.
pub(crate) const API: &str = "/api";

/// Path of uploads to a blob store without upload URLs.
pub(crate) const BLOBS: &str = "/api/v1/rest/blobs/";

/// The path with single slashes and without a trailing slash, because both forms name the same
/// resource. Keys of blobs are kept as they are.
pub(crate) fn normalized(uri: &Uri) -> Uri {
    let path = uri.path();
    // Almost all paths are plain and need no allocation.
    let is_plain = !path.contains("//") && (path.len() == 1 || !path.ends_with('/'));
    if is_plain || path.trim_start_matches('/').starts_with(&BLOBS[1..]) && !path.starts_with("//") {
        return uri.clone();
    }
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    with_path(uri, &format!("/{}", segments.join("/")))
}

/// Returns the URI with another path. The authority is kept, because HTTP/2 requests carry the
/// host there.
pub(crate) fn with_path(uri: &Uri, path: &str) -> Uri {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let Ok(path) = format!("{path}{query}").parse() else { return uri.clone() };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalized_except_blob_keys() {
        let check = |path: &str, expected: &str| {
            assert_eq!(normalized(&path.parse().unwrap()).to_string(), expected, "{path}");
        };
        check("/", "/");
        check("/a/b", "/a/b");
        check("/a/b/", "/a/b");
        check("/a/b/?q=/x//y/", "/a/b?q=/x//y/");
        check("//api/v1/ws/runs/r", "/api/v1/ws/runs/r");
        check("/api//v1/rest///tags//5//", "/api/v1/rest/tags/5");
        check("/api/v1/rest/blobs/r/a//b/?s=1", "/api/v1/rest/blobs/r/a//b/?s=1");
        check("https://here:1/a//b/?s=1", "https://here:1/a/b?s=1");
    }
}
