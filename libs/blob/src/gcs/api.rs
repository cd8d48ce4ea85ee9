//! Requests of Google's JSON API: with a token, tried again a few times, and what their answers mean. Every request may be
//! sent twice: a blob that is written again is the same blob.

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
    Error, Listed, Meta, Result,
    bucket::{ATTEMPTS, Connector, FIRST_WAIT, options, unavailable},
};

/// What RFC 3986 calls unreserved.
pub(super) const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same, and the slash between segments.
pub(super) const PATH: &AsciiSet = &SEGMENT.remove(b'/');

/// What Google says where a bucket is not there, and not only a blob.
const NO_BUCKET: &str = "bucket does not exist";

/// What is told of a failed request.
const SAID_BYTES: usize = 512;

type Credentials = std::sync::Arc<dyn object_store::CredentialProvider<Credential = GcpCredential>>;

pub(super) struct Api {
    base: String,
    pub(super) bucket: String,
    client: HttpClient,
    credentials: Option<Credentials>,
}

/// A request that can be made more than once.
pub(super) struct Call {
    method: Method,
    /// Below the base, or a whole URL.
    target: String,
    query: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Call {
    pub(super) fn new(method: Method, target: String) -> Self {
        Self { method, target, query: String::new(), headers: Vec::new(), body: Bytes::new() }
    }

    /// An empty value is left out.
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

    fn request(&self, base: &str, token: Option<&str>) -> Result<HttpRequest> {
        let base = if self.target.starts_with("http") { "" } else { base };
        let url = format!("{base}{}{}", self.target, self.query);
        let mut request = HttpRequest::new(HttpRequestBody::from(self.body.clone()));
        *request.method_mut() = self.method.clone();
        let wrong = |reason: String| Error::Setup { reason };
        *request.uri_mut() =
            url.parse().map_err(|error| wrong(format!("`{url}` is no URL of GCS: {error}")))?;
        let length = self.body.len().to_string();
        let own = self.headers.iter().map(|(name, value)| (*name, value.clone()));
        let token = token.map(|token| ("authorization", format!("Bearer {token}")));
        for (name, value) in own.chain([("content-length", length)]).chain(token) {
            let value = value.parse().map_err(|_| wrong(format!("the header `{name}` cannot be sent")))?;
            request.headers_mut().insert(name, value);
        }
        Ok(request)
    }
}

impl Api {
    pub(super) fn new(base: &str, bucket: &str, credentials: Option<Credentials>) -> Result<Self> {
        let client = Connector.connect(&options(base.starts_with("http://")));
        let client = client.map_err(|error| unavailable("making a client", error))?;
        Ok(Self { base: base.to_owned(), bucket: bucket.to_owned(), client, credentials })
    }

    /// The answer, whatever it says. Only what may pass by itself is tried again.
    pub(super) async fn send(&self, doing: &'static str, call: &Call) -> Result<HttpResponse> {
        let mut attempt = 1;
        loop {
            let answer = self.client.execute(self.request(call).await?).await;
            if !answer.as_ref().map_or(true, passes_by) || attempt == ATTEMPTS {
                return answer.map_err(|error| unavailable(doing, error));
            }
            tokio::time::sleep(FIRST_WAIT * 4_u32.pow(attempt - 1)).await;
            attempt += 1;
        }
    }

    /// For who tries again himself.
    pub(super) async fn send_once(&self, doing: &'static str, call: &Call) -> Result<HttpResponse> {
        let answer = self.client.execute(self.request(call).await?).await;
        answer.map_err(|error| unavailable(doing, error))
    }

    async fn request(&self, call: &Call) -> Result<HttpRequest> {
        let Some(credentials) = &self.credentials else { return call.request(&self.base, None) };
        let token = credentials.get_credential().await;
        let token = token.map_err(|error| unavailable("asking for credentials", error))?;
        call.request(&self.base, Some(&token.bearer))
    }

    /// The answer, if it says that all is well.
    pub(super) async fn done(&self, doing: &'static str, call: &Call) -> Result<HttpResponse> {
        let answer = self.send(doing, call).await?;
        match answer.status().is_success() {
            true => Ok(answer),
            false => Err(refused(doing, &self.bucket, answer).await),
        }
    }
}

/// Whether the next answer may be another.
pub(super) fn passes_by(answer: &HttpResponse) -> bool {
    matches!(answer.status().as_u16(), 408 | 429 | 500..600)
}

/// What an answer that says that something is not there means to whoever asked for a blob.
pub(super) async fn missing<T>(bucket: &str, answer: HttpResponse) -> Result<Option<T>> {
    match said(answer).await.contains(NO_BUCKET) {
        true => Err(Error::NoBucket { what: "bucket", name: bucket.to_owned() }),
        false => Ok(None),
    }
}

async fn said(answer: HttpResponse) -> String {
    let said = answer.into_body().bytes().await.unwrap_or_default();
    String::from_utf8_lossy(&said[..said.len().min(SAID_BYTES)]).into_owned()
}

/// What an answer that says no asks of whoever called.
pub(super) async fn refused(doing: &'static str, bucket: &str, answer: HttpResponse) -> Error {
    let status = answer.status();
    let said = said(answer).await;
    match status.as_u16() {
        404 => Error::NoBucket { what: "bucket", name: bucket.to_owned() },
        401 | 403 => Error::Setup {
            reason: format!("{doing} is refused: check the credentials and what they may do: {said}"),
        },
        _ => Error::unavailable(format!("{doing} failed: {status} {said}")),
    }
}

pub(super) async fn read<T: DeserializeOwned>(doing: &'static str, answer: HttpResponse) -> Result<T> {
    let bytes = answer.into_body().bytes().await.map_err(|error| unavailable(doing, error))?;
    serde_json::from_slice(&bytes).map_err(|error| unavailable(doing, error))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Object {
    pub(super) name: String,
    /// A number, as text.
    size: String,
    updated: String,
    #[serde(default)]
    pub(super) content_type: String,
}

impl Object {
    pub(super) fn listed(&self) -> Result<Listed> {
        let size = self.size.parse().map_err(|error| unavailable("reading a size", error))?;
        let updated = OffsetDateTime::parse(&self.updated, &Rfc3339);
        let updated = updated.map_err(|error| unavailable("reading a time", error))?;
        // To the second, as a download tells it.
        Ok(Listed { size, modified_us: updated.unix_timestamp() * 1_000_000 })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listing {
    #[serde(default)]
    pub(super) items: Vec<Object>,
    pub(super) next_page_token: Option<String>,
}

/// What a download tells of its blob.
pub(super) fn meta(headers: &HeaderMap) -> Result<Meta> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // `bytes 0-9/1234`, where a range was asked for.
    let size = match text("content-range").rsplit_once('/') {
        Some((_, size)) => size,
        None => text("content-length"),
    };
    let size = size.parse().map_err(|error| unavailable("reading a size", error))?;
    let modified = OffsetDateTime::parse(text("last-modified"), &Rfc2822);
    let modified = modified.map_err(|error| unavailable("reading a time", error))?;
    let content_type = text("content-type").to_owned();
    Ok(Meta { size, content_type, modified_us: modified.unix_timestamp() * 1_000_000 })
}

/// What a blob is where nobody said what it is.
pub(super) fn or_bytes(content_type: &str) -> &str {
    if content_type.is_empty() { "application/octet-stream" } else { content_type }
}
