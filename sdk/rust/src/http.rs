//! HTTP client of a Matyan server: requests, streamed bodies, and typed errors.
//!
//! Everything here is asynchronous and runs on the I/O thread; `reading` has the blocking calls for
//! other threads. TLS is rustls with the certificates of the operating system (`SSL_CERT_FILE` and
//! `SSL_CERT_DIR` replace them), and proxies come from the environment. Requests are not retried:
//! the caller knows whether it wants to wait.

use std::{fmt, path::PathBuf, sync::Once, time::Duration};

use bytes::Bytes;
use matyan_value::{
    Value,
    json::{self, JsonError},
};
use object_store_http as reqwest;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
pub use reqwest::Method;
use reqwest::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};

/// Longest error body that is read; an error page of a proxy can be of any size.
const ERROR_BYTES: usize = 64 << 10;

/// Longest piece of an unknown error body that is quoted in a message.
const QUOTED_BYTES: usize = 300;

/// Characters that need no escape in a path segment or a query value.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Limits on the time that requests take.
///
/// ```
/// # use std::time::Duration;
/// # use matyan_sdk::http::Timeouts;
/// let patient = Timeouts { request: Duration::from_secs(60), ..Timeouts::default() };
/// assert_eq!(patient.connect, Duration::from_secs(5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Time to establish a connection.
    pub connect: Duration,
    /// Time for a plain request, from sending it to the end of its answer.
    pub request: Duration,
    /// Time of silence in a streamed answer. Searches that take longer report progress.
    pub silence: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            request: Duration::from_secs(10),
            silence: Duration::from_secs(120),
        }
    }
}

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
    /// The answer is not in the documented format: the URL may be that of another program.
    #[error("unexpected answer from {url}: {reason}")]
    Malformed {
        /// URL of the request.
        url: String,
        /// Description of the problem.
        reason: String,
    },
    /// The server does not have this call, as it is older than this client.
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
        source: std::io::Error,
    },
    /// The caller interrupted the wait.
    #[error("interrupted")]
    Interrupted,
    /// The I/O thread has ended.
    #[error("the I/O thread has ended")]
    Stopped,
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

/// JSON text of an answer, exactly as the server sent it.
///
/// ```
/// # use matyan_sdk::http::JsonText;
/// let answer = JsonText::from(r#"{"version":"0.1.0"}"#.to_owned());
/// assert!(answer.parse()?.as_map().is_some());
/// # Ok::<(), matyan_value::json::JsonError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonText(String);

impl JsonText {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses the text.
    pub fn parse(&self) -> Result<Value, JsonError> {
        json::parse(&self.0)
    }
}

impl From<String> for JsonText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for JsonText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// One request, relative to the base URL of a server.
///
/// ```
/// # use matyan_sdk::http::RestRequest;
/// let request = RestRequest::get("/api/v1/rest/runs/search/run/").query("q", "run.active and True");
/// assert_eq!(request.target(), "/api/v1/rest/runs/search/run/?q=run.active%20and%20True");
/// ```
#[derive(Clone, Debug)]
pub struct RestRequest {
    method: Method,
    path: String,
    query: String,
    body: Option<(HeaderValue, Bytes)>,
    headers: HeaderMap,
    /// The answer takes the server long, as it reads a lot of data.
    is_slow: bool,
}

impl RestRequest {
    /// A request without a body. The path begins with `/` and is escaped already; see `segment`.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        let (query, body, headers) = Default::default();
        Self { method, path: path.into(), query, body, headers, is_slow: false }
    }

    /// A request that reads.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// A request with a JSON body.
    pub fn json(method: Method, path: impl Into<String>, json: impl Into<Bytes>) -> Self {
        Self::new(method, path).body(HeaderValue::from_static("application/json"), json)
    }

    /// Adds a query parameter.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        let separator = if self.query.is_empty() { '?' } else { '&' };
        self.query.push(separator);
        self.query.extend(utf8_percent_encode(name, ESCAPED));
        self.query.push('=');
        self.query.extend(utf8_percent_encode(value, ESCAPED));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, content_type: HeaderValue, body: impl Into<Bytes>) -> Self {
        self.body = Some((content_type, body.into()));
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Allows the whole answer the time of a search.
    #[must_use]
    pub fn slow(mut self) -> Self {
        self.is_slow = true;
        self
    }

    /// Path and query.
    pub fn target(&self) -> String {
        format!("{}{}", self.path, self.query)
    }
}

/// Escapes text, such as a run id, for use as one segment of a path.
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// A client of one server. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    inner: reqwest::Client,
    base: String,
    timeouts: Timeouts,
}

impl HttpClient {
    /// A client of the server at this URL, without connecting. Slashes at the end of the URL are
    /// ignored; a path is kept, so that the URL of a project can be given.
    ///
    /// ```
    /// # use matyan_sdk::http::{HttpClient, Timeouts};
    /// let client = HttpClient::new("http://localhost:53800/", Timeouts::default())?;
    /// assert_eq!(client.base(), "http://localhost:53800");
    /// # Ok::<(), matyan_sdk::http::HttpError>(())
    /// ```
    pub fn new(url: &str, timeouts: Timeouts) -> Result<Self, HttpError> {
        static TLS: Once = Once::new();
        // An error means that the process has already chosen a provider, which is as good.
        TLS.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let base = clean_url(url)?;
        let builder = reqwest::Client::builder()
            .user_agent(concat!("matyan-sdk/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(timeouts.connect)
            .tcp_nodelay(true);
        let inner = builder
            .build()
            .map_err(|error| HttpError::Unreachable { url: base.clone(), reason: with_sources(&error) })?;
        Ok(Self { inner, base, timeouts })
    }

    /// URL of the server, without a slash at the end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The limits of this client.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Sends a request and returns its whole answer as text.
    pub async fn text(&self, request: &RestRequest) -> Result<String, HttpError> {
        let url = self.url(request);
        let answer = async {
            let mut body = self.open(request).await?;
            let mut text = Vec::new();
            while let Some(chunk) = body.chunk().await? {
                text.extend_from_slice(&chunk);
            }
            String::from_utf8(text).map_err(|_| malformed(&url, "text that is not UTF-8"))
        };
        let limit = if request.is_slow { self.timeouts.silence } else { self.timeouts.request };
        let late = || HttpError::TimedOut { url: url.clone(), after: limit };
        tokio::time::timeout(limit, answer).await.map_err(|_| late())?
    }

    /// Sends a request and returns its JSON answer.
    pub async fn json(&self, request: &RestRequest) -> Result<JsonText, HttpError> {
        self.text(request).await.map(JsonText)
    }

    /// Sends a request and returns its body as a stream, once the server has answered with
    /// success.
    pub async fn stream(&self, request: &RestRequest) -> Result<BodyStream, HttpError> {
        let limit = self.timeouts.silence;
        let late = || HttpError::TimedOut { url: self.url(request), after: limit };
        tokio::time::timeout(limit, self.open(request)).await.map_err(|_| late())?
    }

    /// Uploads a body of known length to a URL, which may be that of another server. Only a
    /// connection without any progress for the limit of silence fails as too slow.
    pub async fn put(
        &self,
        url: &str,
        headers: HeaderMap,
        length: u64,
        body: reqwest::Body,
    ) -> Result<(), HttpError> {
        let request = self.inner.put(url).headers(headers).header(reqwest::header::CONTENT_LENGTH, length);
        let response = request.body(body).send().await.map_err(|error| failure(url, &error))?;
        success(url, response).await.map(drop)
    }

    fn url(&self, request: &RestRequest) -> String {
        format!("{}{}", self.base, request.path)
    }

    async fn open(&self, request: &RestRequest) -> Result<BodyStream, HttpError> {
        let url = self.url(request);
        let mut outgoing = self.inner.request(request.method.clone(), format!("{url}{}", request.query));
        if let Some((content_type, body)) = &request.body {
            outgoing = outgoing.header(CONTENT_TYPE, content_type).body(body.clone());
        }
        let response = outgoing.headers(request.headers.clone()).send().await;
        let response = response.map_err(|error| failure(&url, &error))?;
        let response = success(&url, response).await?;
        Ok(BodyStream { response, url, silence: self.timeouts.silence })
    }
}

/// The body of a successful answer, in the pieces in which it arrives.
#[derive(Debug)]
pub struct BodyStream {
    response: reqwest::Response,
    url: String,
    silence: Duration,
}

impl BodyStream {
    /// Returns the next piece, or `None` after the complete body.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        match tokio::time::timeout(self.silence, self.response.chunk()).await {
            Ok(chunk) => chunk.map_err(|error| failure(&self.url, &error)),
            Err(_) => Err(HttpError::TimedOut { url: self.url.clone(), after: self.silence }),
        }
    }

    /// Headers of the answer.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// URL of the request, for messages.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// Checks the base URL of a server and removes slashes at its end.
///
/// ```
/// # use matyan_sdk::http::clean_url;
/// assert_eq!(clean_url(" http://host:1/ ")?, "http://host:1");
/// assert_eq!(clean_url("https://host/team/")?, "https://host/team");
/// assert!(clean_url("host:1").is_err());
/// # Ok::<(), matyan_sdk::http::HttpError>(())
/// ```
pub fn clean_url(url: &str) -> Result<String, HttpError> {
    let invalid = || HttpError::InvalidUrl { url: url.to_owned() };
    let cleaned = url.trim().trim_end_matches('/');
    let parsed = reqwest::Url::parse(cleaned).map_err(|_| invalid())?;
    let is_usable = matches!(parsed.scheme(), "http" | "https")
        && parsed.has_host()
        && parsed.query().is_none()
        && parsed.fragment().is_none();
    if is_usable { Ok(cleaned.to_owned()) } else { Err(invalid()) }
}

pub(crate) fn malformed(url: &str, reason: impl fmt::Display) -> HttpError {
    HttpError::Malformed { url: url.to_owned(), reason: reason.to_string() }
}

/// Reads the error of an answer that is no success.
async fn success(url: &str, mut response: reqwest::Response) -> Result<reqwest::Response, HttpError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let mut body = Vec::new();
    // The status alone is an answer, so a body that breaks off is not another error.
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > ERROR_BYTES {
            break;
        }
    }
    Err(refusal(url, status, &String::from_utf8_lossy(&body)))
}

fn refusal(url: &str, status: StatusCode, body: &str) -> HttpError {
    let (code, message) = envelope(body).unwrap_or_else(|| (String::new(), shortened(status, body)));
    match status {
        StatusCode::NOT_FOUND => HttpError::NotFound { message: format!("{message} ({url})") },
        StatusCode::NOT_IMPLEMENTED => HttpError::Unsupported { call: url.to_owned() },
        _ => HttpError::Refused { status: status.as_u16(), code, message },
    }
}

/// Code and message of an error body: those of the envelope, or the `detail` of an older server.
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
    match (body.is_empty(), status.canonical_reason()) {
        (true, Some(reason)) => reason.to_owned(),
        _ => body[..body.floor_char_boundary(QUOTED_BYTES)].to_owned(),
    }
}

fn failure(url: &str, error: &reqwest::Error) -> HttpError {
    HttpError::Unreachable { url: url.to_owned(), reason: with_sources(error) }
}

/// Text of an error and its sources: the outermost one only says that sending failed.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
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
        check("<html>", "|<html>");
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

    #[test]
    fn segments_and_queries_are_escaped() {
        assert_eq!(segment("a/b c?é"), "a%2Fb%20c%3F%C3%A9");
        let request = RestRequest::get("/x/").query("a", "1&2").query("b", "");
        assert_eq!(request.target(), "/x/?a=1%262&b=");
    }
}
