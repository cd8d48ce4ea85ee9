//! Requests to Google's JSON API, with tokens and retries, and the interpretation of its responses.
//! Every request may be sent twice: a repeated write does not change a blob.

use bytes::Bytes;
use object_store::{
    HeaderMap,
    client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody, HttpResponse},
    gcp::GcpCredential,
    signer::Method,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, de::DeserializeOwned};
use time::{
    OffsetDateTime,
    format_description::well_known::{Rfc2822, Rfc3339},
};

use crate::{
    BlobMeta, Error, ListedBlob, Result,
    bucket::{
        connect::{ATTEMPTS, FIRST_BACKOFF, unavailable},
        object_store_client::{SizedTimeoutConnector, client_options},
    },
};

/// Unreserved characters of RFC 3986.
pub(super) const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Like `SEGMENT`, plus the slash between segments.
pub(super) const PATH: &AsciiSet = &SEGMENT.remove(b'/');

/// Text that distinguishes Google's 404 for a missing bucket from its 404 for a missing blob.
const NO_BUCKET: &str = "bucket does not exist";

/// Longest excerpt of a response body in an error.
const MAX_EXCERPT_BYTES: usize = 512;

type Credentials = std::sync::Arc<dyn object_store::CredentialProvider<Credential = GcpCredential>>;

pub(super) struct Api {
    base: String,
    pub(super) bucket: String,
    client: HttpClient,
    credentials: Option<Credentials>,
}

/// A request that can be sent more than once.
pub(super) struct ApiRequest {
    method: Method,
    /// A path below the base URL, or a complete URL.
    target: String,
    query: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl ApiRequest {
    pub(super) fn new(method: Method, target: String) -> Self {
        Self { method, target, query: String::new(), headers: Vec::new(), body: Bytes::new() }
    }

    /// Adds a query parameter unless its value is empty.
    pub(super) fn query(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            let mark = if self.query.is_empty() { '?' } else { '&' };
            self.query += &format!("{mark}{name}={}", utf8_percent_encode(value, SEGMENT));
        }
    }

    pub(super) fn header(&mut self, name: &'static str, value: &str) {
        self.headers.push((name, value.to_owned()));
    }

    pub(super) fn body(&mut self, body: Bytes) {
        self.body = body;
    }

    pub(super) fn json(&mut self, value: &serde_json::Value) {
        self.header("content-type", "application/json");
        self.body = value.to_string().into();
    }

    /// The request line, which `new` accepts as a target.
    pub(super) fn target_and_query(self) -> String {
        self.target + &self.query
    }

    fn to_http_request(&self, base: &str, token: Option<&str>) -> Result<HttpRequest> {
        // Session URLs of resumable uploads are absolute.
        let base = if self.target.starts_with("http") { "" } else { base };
        let url = format!("{base}{}{}", self.target, self.query);
        let mut request = HttpRequest::new(HttpRequestBody::from(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() =
            url.parse().map_err(|error| setup_error(format!("invalid GCS URL `{url}`: {error}")))?;
        let length = self.body.len().to_string();
        let own = self.headers.iter().map(|(name, value)| (*name, value.clone()));
        let token = token.map(|token| ("authorization", format!("Bearer {token}")));
        for (name, value) in own.chain([("content-length", length)]).chain(token) {
            let value = value.parse().map_err(|_| {
                setup_error(format!("the value of the header `{name}` is not a valid header value"))
            })?;
            request.headers_mut().insert(name, value);
        }
        Ok(request)
    }
}

impl Api {
    pub(super) fn new(base: &str, bucket: &str, credentials: Option<Credentials>) -> Result<Self> {
        let client = SizedTimeoutConnector.connect(&client_options(base.starts_with("http://")));
        let client = client.map_err(|error| unavailable("creating an HTTP client", error))?;
        Ok(Self { base: base.to_owned(), bucket: bucket.to_owned(), client, credentials })
    }

    /// Returns the response, even if its status is an error. Retries temporary failures only.
    pub(super) async fn send(&self, doing: &'static str, request: &ApiRequest) -> Result<HttpResponse> {
        let mut attempt = 1;
        loop {
            let answer = self.client.execute(self.authorize(request).await?).await;
            if !answer.as_ref().map_or(true, is_temporary) || attempt == ATTEMPTS {
                return answer.map_err(|error| unavailable(doing, error));
            }
            tokio::time::sleep(FIRST_BACKOFF * 4_u32.pow(attempt - 1)).await;
            attempt += 1;
        }
    }

    /// Makes a single attempt, for callers that do their own retries.
    pub(super) async fn send_once(&self, doing: &'static str, request: &ApiRequest) -> Result<HttpResponse> {
        let answer = self.client.execute(self.authorize(request).await?).await;
        answer.map_err(|error| unavailable(doing, error))
    }

    async fn authorize(&self, request: &ApiRequest) -> Result<HttpRequest> {
        let Some(credentials) = &self.credentials else { return request.to_http_request(&self.base, None) };
        let token = credentials.get_credential().await;
        let token = token.map_err(|error| unavailable("requesting credentials", error))?;
        request.to_http_request(&self.base, Some(&token.bearer))
    }

    /// Returns the response if its status is a success.
    pub(super) async fn send_checked(
        &self,
        doing: &'static str,
        request: &ApiRequest,
    ) -> Result<HttpResponse> {
        let answer = self.send(doing, request).await?;
        if answer.status().is_success() {
            Ok(answer)
        } else {
            Err(failure(doing, &self.bucket, answer).await)
        }
    }
}

/// Whether a retry may succeed.
pub(super) fn is_temporary(answer: &HttpResponse) -> bool {
    matches!(answer.status().as_u16(), 408 | 429 | 500..600)
}

/// Interprets a 404 for a blob: `None` if the blob is missing, an error if the bucket is.
pub(super) async fn check_bucket_exists<T>(bucket: &str, answer: HttpResponse) -> Result<Option<T>> {
    if error_excerpt(answer).await.contains(NO_BUCKET) {
        Err(Error::NoBucket { what: "bucket", name: bucket.to_owned() })
    } else {
        Ok(None)
    }
}

async fn error_excerpt(answer: HttpResponse) -> String {
    let said = answer.into_body().bytes().await.unwrap_or_default();
    String::from_utf8_lossy(&said[..said.len().min(MAX_EXCERPT_BYTES)]).into_owned()
}

/// Maps a failure response to the error that names the caller's next step.
pub(super) async fn failure(doing: &'static str, bucket: &str, answer: HttpResponse) -> Error {
    let status = answer.status();
    let said = error_excerpt(answer).await;
    match status.as_u16() {
        404 => Error::NoBucket { what: "bucket", name: bucket.to_owned() },
        401 | 403 => Error::Setup {
            reason: format!("{doing} was refused: check the credentials and their permissions: {said}"),
        },
        413 | 414 => Error::Rejected { reason: format!("{doing} failed: {status} {said}") },
        400 | 422 => Error::doubtful(format!("{doing} failed: {status} {said}")),
        _ => Error::unavailable(format!("{doing} failed: {status} {said}")),
    }
}

pub(super) async fn decode_json<T: DeserializeOwned>(doing: &'static str, answer: HttpResponse) -> Result<T> {
    let bytes = answer.into_body().bytes().await.map_err(|error| unavailable(doing, error))?;
    serde_json::from_slice(&bytes).map_err(|error| unavailable(doing, error))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectResource {
    pub(super) name: String,
    /// A number as text.
    size: String,
    updated: String,
    #[serde(default)]
    pub(super) content_type: String,
    #[serde(default)]
    pub(super) generation: String,
}

impl ObjectResource {
    pub(super) fn listed_blob(&self) -> Result<ListedBlob> {
        let size = self.size.parse().map_err(|error| unavailable("reading a size", error))?;
        let updated = OffsetDateTime::parse(&self.updated, &Rfc3339);
        let updated = updated.map_err(|error| unavailable("reading a time", error))?;
        // Truncated to seconds, the precision of a download's header.
        Ok(ListedBlob { size, modified_us: updated.unix_timestamp() * 1_000_000 })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectListing {
    #[serde(default)]
    pub(super) items: Vec<ObjectResource>,
    pub(super) next_page_token: Option<String>,
}

/// Reads a blob's metadata from the response headers of a download.
pub(super) fn blob_meta(headers: &HeaderMap) -> Result<BlobMeta> {
    // `bytes 0-9/1234` in the response to a range request.
    let size = match header_text(headers, "content-range").rsplit_once('/') {
        Some((_, size)) => size,
        None => header_text(headers, "content-length"),
    };
    let size = size.parse().map_err(|error| unavailable("reading a size", error))?;
    let modified = OffsetDateTime::parse(header_text(headers, "last-modified"), &Rfc2822);
    let modified = modified.map_err(|error| unavailable("reading a time", error))?;
    Ok(BlobMeta {
        size,
        content_type: header_text(headers, "content-type").to_owned(),
        modified_us: modified.unix_timestamp() * 1_000_000,
        version: header_text(headers, "x-goog-generation").to_owned(),
    })
}

/// The value of a header; empty if it is missing.
fn header_text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn setup_error(reason: String) -> Error {
    Error::Setup { reason }
}

/// Returns the content type, or the generic one if none was given.
pub(super) fn or_default_type(content_type: &str) -> &str {
    if content_type.is_empty() { "application/octet-stream" } else { content_type }
}
