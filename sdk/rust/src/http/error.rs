//! Errors of requests: what the network, the server, or a proxy says when it fails.

use std::{error::Error, fmt, io, path::PathBuf, time::Duration};

use matyan_value::{Value, json};
use object_store_http as reqwest;
use reqwest::StatusCode;

use crate::plain_text::plain_text;

/// Longest piece of an unknown error body that is quoted in a message.
const QUOTED_BYTES: usize = 300;

/// The reason why a request has no result.
///
/// ```
/// # use matyan_sdk::http::HttpError;
/// let error = HttpError::Refused { status: 400, code: "bad_request".into(), message: "no".into() };
/// assert_eq!(error.to_string(), "the server refused the request with status 400: no");
/// assert!(!error.is_temporary());
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The base URL of a server cannot be used: correct it.
    #[error("invalid server URL `{url}`: use http://host:port or https://host:port")]
    InvalidUrl {
        /// The URL as given.
        url: String,
    },
    /// The run, experiment, artifact, or other resource does not exist.
    #[error("not found: {message}")]
    NotFound {
        /// Text from the server.
        message: String,
    },
    /// The project does not exist, or the caller has no right in it: the answers are the same.
    #[error("not found: {message}")]
    NoProject {
        /// Text from the server.
        message: String,
    },
    /// The server answered with an error: correct the request, or retry if `is_temporary`.
    #[error("the server refused the request with status {status}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Code of the error, such as `bad_request` or `INVALID_QUERY`; empty if there is none.
        code: String,
        /// Text from the server.
        message: String,
    },
    /// No connection to the server, or it broke: retry later.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// URL of the request.
        url: String,
        /// Text of the underlying error and its sources.
        reason: String,
    },
    /// No answer in time: retry later.
    #[error("no answer from {url} within {} s", after.as_secs_f64())]
    TimedOut {
        /// URL of the request.
        url: String,
        /// The limit that was exceeded.
        after: Duration,
    },
    /// The answer is not in the documented format: the URL may belong to another program.
    #[error("unexpected answer from {url}: {reason}")]
    Malformed {
        /// URL of the request.
        url: String,
        /// Description of the problem.
        reason: String,
    },
    /// The server does not have this call, because it is older than this client.
    #[error("the server does not support {call}")]
    Unsupported {
        /// Name of the call.
        call: String,
    },
    /// A local file cannot be read or written.
    #[error("cannot access {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The caller interrupted the wait.
    #[error("interrupted")]
    Interrupted,
    /// The I/O thread has ended.
    #[error("the I/O thread has ended")]
    Stopped,
    /// This client has failed: report it.
    #[error("the request has failed ({reason}); this is a defect of Matyan: please report it")]
    Panicked {
        /// Text of the panic.
        reason: String,
    },
}

impl HttpError {
    /// Returns whether the same request may succeed later.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            // 408, 425, and 429 ask for a repetition; everything from 500 is the server's problem.
            Self::Refused { status, .. } => matches!(status, 408 | 425 | 429 | 500..),
            _ => false,
        }
    }
}

pub(crate) fn malformed(url: &str, reason: impl fmt::Display) -> HttpError {
    HttpError::Malformed { url: url.to_owned(), reason: reason.to_string() }
}

pub(super) fn refusal(url: &str, status: StatusCode, body: &str) -> HttpError {
    let (code, message) = envelope(body).unwrap_or_else(|| (String::new(), shortened(status, body)));
    let message = plain_text(&message);
    match status {
        StatusCode::NOT_FOUND => HttpError::NotFound { message: format!("{message} ({url})") },
        StatusCode::NOT_IMPLEMENTED => HttpError::Unsupported { call: url.to_owned() },
        _ => HttpError::Refused { status: status.as_u16(), code, message },
    }
}

/// The message in an error body of a server, in one line.
pub(crate) fn server_message(body: &str) -> Option<String> {
    let (_, message) = envelope(body)?;
    let line: String = message.chars().filter(|character| !character.is_control()).collect();
    Some(line[..line.floor_char_boundary(QUOTED_BYTES)].to_owned())
}

/// Code and message of an error body: from the envelope, or from the `detail` of an older server.
fn envelope(body: &str) -> Option<(String, String)> {
    let Ok(Value::Map(mut members)) = json::parse(body) else { return None };
    let text = |value: Option<Value>| match value {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    };
    if let Some(Value::Map(mut error)) = members.remove("error") {
        let code = text(error.remove("code")).unwrap_or_default();
        return Some((code, text(error.remove("message"))?));
    }
    match members.remove("detail")? {
        Value::Text(detail) => Some((String::new(), detail)),
        other => Some((String::new(), json::value_text(&other, json::JsonStyle::SPACED))),
    }
}

fn shortened(status: StatusCode, body: &str) -> String {
    let body = body.trim();
    // The page of a proxy, or of another program, says no more than the status.
    match (body.is_empty() || body.starts_with('<'), status.canonical_reason()) {
        (true, Some(reason)) => reason.to_owned(),
        _ => body[..body.floor_char_boundary(QUOTED_BYTES)].to_owned(),
    }
}

/// `url` is the URL to show: the URL in `error` may contain a signature.
pub(super) fn failure(url: &str, error: reqwest::Error) -> HttpError {
    if error.is_redirect() {
        // The next attempt would meet the same redirect, so this error is not temporary.
        return malformed(url, with_sources(&error.without_url()));
    }
    HttpError::Unreachable { url: url.to_owned(), reason: with_sources(&error.without_url()) }
}

/// Text of an error and its sources: the outermost one only says that sending failed.
pub(crate) fn with_sources(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    if is_answer_without_tls(error) {
        text.push_str("; the server does not seem to use TLS: if this is meant so, use http:// in its URL");
    }
    text
}

/// Returns whether the first bytes from a server were not TLS.
fn is_answer_without_tls(error: &(dyn Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return matches!(error, rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType));
    }
    // The source of an error with custom content is the source of this content.
    let content = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    content
        .map(|content| content as &(dyn Error + 'static))
        .or_else(|| error.source())
        .is_some_and(is_answer_without_tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_body_is_understood_in_every_form() {
        let check = |body: &str, expected: &str| {
            let error = refusal("http://h", StatusCode::BAD_REQUEST, body);
            let HttpError::Refused { code, message, .. } = error else { panic!("{error}") };
            assert_eq!(format!("{code}|{message}"), expected);
        };
        check(r#"{"error":{"code":"bad_request","message":"no"},"detail":"no"}"#, "bad_request|no");
        check(r#"{"detail":"Not Found"}"#, "|Not Found");
        check(r#"{"detail":[{"msg":"x"}]}"#, r#"|[{"msg": "x"}]"#);
        check(r#"{"error":{"code":"c","message":"\u001b[2Jno"}}"#, "c|\\u{1b}[2Jno");
        check("\u{1b}]0;title\u{7}", "|\\u{1b}]0;title\\u{7}");
        check("<html>", "|Bad Request");
        check("", "|Bad Request");
        check(&"é".repeat(1000), &format!("|{}", "é".repeat(150)));
    }

    #[test]
    fn only_errors_of_the_server_or_network_are_temporary() {
        let refused = |status| refusal("http://h", StatusCode::from_u16(status).unwrap(), "");
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert!(refused(status).is_temporary(), "{status}");
        }
        for status in [400, 401, 403, 404, 409, 413, 422] {
            assert!(!refused(status).is_temporary(), "{status}");
        }
    }
}
