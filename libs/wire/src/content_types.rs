//! Content types of files by their names, and by their first bytes. Clients use these tables for uploads, and servers use
//! them for files that browsers show.

use std::{borrow::Cow, path::Path};

use crate::headers::UNKNOWN_TYPE;

/// Content types by extension.
const BY_EXTENSION: &[(&str, &str)] = &[
    ("bmp", "image/bmp"),
    ("css", "text/css"),
    ("csv", "text/csv"),
    ("diff", "text/plain"),
    ("eot", "application/vnd.ms-fontobject"),
    ("flac", "audio/flac"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("htm", "text/html"),
    ("html", "text/html"),
    ("ico", "image/x-icon"),
    ("ipynb", "application/x-ipynb+json"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript"),
    ("json", "application/json"),
    ("jsonl", "application/jsonl"),
    ("log", "text/plain"),
    ("map", "application/json"),
    ("md", "text/markdown"),
    ("mjs", "text/javascript"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("ogg", "audio/ogg"),
    ("otf", "font/otf"),
    ("parquet", "application/vnd.apache.parquet"),
    ("patch", "text/plain"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("py", "text/x-python"),
    ("sh", "text/x-shellscript"),
    ("svg", "image/svg+xml"),
    ("tar", "application/x-tar"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("toml", "application/toml"),
    ("tsv", "text/tab-separated-values"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xml", "application/xml"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("zip", "application/zip"),
];

/// Content types by their first bytes, for names without a known extension.
///
/// The crate `infer`, which the backend uses for images, audio and video, is no replacement: it does not know Parquet, has
/// other names for WAV and FLAC than the table by extension, and would call text with a tag `text/html`.
const BY_START: &[(&[u8], &str)] = &[
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"PAR1", "application/vnd.apache.parquet"),
];

/// Number of bytes at the start of a file that are enough to know its content type.
pub const START_BYTES: usize = 16;

/// The content type of a file by its name, or else by its first bytes.
///
/// ```
/// use matyan_wire::content_types::of_content;
///
/// assert_eq!(of_content("plots/a.PNG", b""), "image/png");
/// assert_eq!(of_content("picture", b"\x89PNG\r\n\x1a\n"), "image/png");
/// assert_eq!(of_content("model.unknown", b""), "application/octet-stream");
/// ```
pub fn of_content(name: &str, start: &[u8]) -> &'static str {
    by_extension(name).or_else(|| by_start(start)).unwrap_or(UNKNOWN_TYPE)
}

/// The content type of a file by its name.
pub fn of_name(name: &str) -> &'static str {
    by_extension(name).unwrap_or(UNKNOWN_TYPE)
}

/// A content type as browsers should get it: text without a charset is UTF-8.
///
/// ```
/// use matyan_wire::content_types::with_charset;
///
/// assert_eq!(with_charset("text/css"), "text/css; charset=utf-8");
/// assert_eq!(with_charset("text/csv; charset=latin-1"), "text/csv; charset=latin-1");
/// assert_eq!(with_charset("image/png"), "image/png");
/// ```
pub fn with_charset(content_type: &str) -> Cow<'_, str> {
    if content_type.starts_with("text/") && !content_type.contains("charset") {
        format!("{content_type}; charset=utf-8").into()
    } else {
        content_type.into()
    }
}

fn by_extension(name: &str) -> Option<&'static str> {
    let extension = Path::new(name).extension()?.to_str()?.to_ascii_lowercase();
    let found = BY_EXTENSION.iter().find(|(known, _)| *known == extension)?;
    Some(found.1)
}

fn by_start(start: &[u8]) -> Option<&'static str> {
    match start {
        [b'R', b'I', b'F', b'F', _, _, _, _, kind @ ..] if kind.starts_with(b"WAVE") => Some("audio/wav"),
        [b'R', b'I', b'F', b'F', _, _, _, _, kind @ ..] if kind.starts_with(b"WEBP") => Some("image/webp"),
        _ => {
            let found = BY_START.iter().find(|(known, _)| start.starts_with(known))?;
            Some(found.1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_is_known_by_name_or_by_content() {
        let check = |name: &str, start: &[u8], expected: &str| assert_eq!(of_content(name, start), expected);
        check("a/b.PNG", b"", "image/png");
        check("config.yaml", b"\x89PNG\r\n\x1a\n", "application/yaml");
        check("picture", b"\x89PNG\r\n\x1a\nxxxx", "image/png");
        check("sound", b"RIFF\x01\x02\x03\x04WAVE", "audio/wav");
        check("sound", b"RIFF\x01\x02\x03\x04WEBP", "image/webp");
        check("model.pt", b"PK\x03\x04", "application/zip");
        check("model.unknown", b"", UNKNOWN_TYPE);
        check("", b"", UNKNOWN_TYPE);
    }

    #[test]
    fn only_an_extension_at_the_end_names_a_type() {
        let check = |name: &str, expected: &str| assert_eq!(of_name(name), expected, "{name}");
        check("a/b.min.JS", "text/javascript");
        check("Inter.ttf", "font/ttf");
        check("js", UNKNOWN_TYPE);
        check("a.js/b", UNKNOWN_TYPE);
        check("x.unknown", UNKNOWN_TYPE);
    }

    #[test]
    fn the_tables_are_sorted_and_plain() {
        assert!(BY_EXTENSION.is_sorted_by(|one, other| one.0 < other.0));
        let starts = BY_START.iter().map(|(start, _)| start.len());
        assert!(starts.max() <= Some(START_BYTES));
        let by_extension = BY_EXTENSION.iter().map(|(_, named)| named);
        let by_start = BY_START.iter().map(|(_, named)| named);
        for named in by_extension.chain(by_start) {
            assert!(
                named.is_ascii() && named.contains('/') && !named.contains(char::is_whitespace),
                "{named}"
            );
        }
    }
}
