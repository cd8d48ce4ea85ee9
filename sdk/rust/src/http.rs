//! HTTP client of a Matyan server: requests, streamed bodies, and typed errors.
//!
//! Everything here is asynchronous and runs on the I/O thread; `reading` has the blocking calls for
//! other threads. TLS is rustls with the certificates of the operating system (`SSL_CERT_FILE` and
//! `SSL_CERT_DIR` replace them), and proxies come from the environment. Requests are not retried:
//! the caller knows whether it wants to wait.

mod error;
mod request;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use matyan_value::{
    Value,
    json::{self, JsonError},
};
use object_store_http as reqwest;
use once_cell::race::OnceBox;
pub use reqwest::Method;
use reqwest::{
    StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, LOCATION},
    redirect,
};
use rustls::ClientConfig;

pub use error::HttpError;
pub(crate) use error::{malformed, server_message, with_sources};
pub(crate) use request::RequestToken;
pub use request::{RestRequest, segment};

use crate::{access_token::authorization, tls};
use error::{failure, refusal};

/// Longest error body that is read; an error page of a proxy can be of any size.
const ERROR_BYTES: usize = 64 << 10;
/// Longest answer that is kept as one text. Servers send what may be longer in pieces.
const TEXT_BYTES: usize = 256 << 20;
/// The same for answers that describe an upload: several are in progress while a script runs.
const SHORT_TEXT_BYTES: usize = 1 << 20;

/// Most redirects of one request.
const MAX_REDIRECTS: usize = 10;

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

/// JSON text of an answer, exactly as the server sent it.
///
/// ```
/// # use matyan_sdk::http::JsonText;
/// let answer = JsonText::from(r#"{"version":"0.4.0"}"#.to_owned());
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

/// A client of one server. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    /// For requests that change something or carry a body.
    calls: reqwest::Client,
    /// For requests that read, once there is one.
    reads: Arc<OnceBox<reqwest::Client>>,
    /// For uploads, once there is one.
    uploads: Arc<OnceBox<reqwest::Client>>,
    /// Shared by these clients.
    tls: ClientConfig,
    base: String,
    /// The URL `base`, parsed.
    address: Url,
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
        let (base, address) = checked_url(url)?;
        let mut tls = tls::client_config();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let calls = client(base, timeouts, protected_redirects(is_same_server), &tls)?;
        Ok(Self {
            calls,
            reads: Arc::default(),
            uploads: Arc::default(),
            tls,
            base: base.to_owned(),
            address,
            timeouts,
        })
    }

    /// URL of the server, without a slash at the end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The base URL, parsed.
    pub(crate) fn address(&self) -> &Url {
        &self.address
    }

    /// The limits of this client.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Sends a request and returns its whole answer as text.
    pub async fn text(&self, request: &RestRequest) -> Result<String, HttpError> {
        self.text_up_to(request, TEXT_BYTES).await
    }

    async fn text_up_to(&self, request: &RestRequest, most: usize) -> Result<String, HttpError> {
        let url = self.url(request);
        let answer = async {
            let body = self.open(request).await?;
            body.into_text(most).await
        };
        let limit = if request.is_slow { self.timeouts.silence } else { self.timeouts.request };
        tokio::time::timeout(limit, answer).await.map_err(|_| HttpError::TimedOut { url, after: limit })?
    }

    /// Sends a request and returns its JSON answer.
    pub async fn json(&self, request: &RestRequest) -> Result<JsonText, HttpError> {
        self.text(request).await.map(JsonText)
    }

    /// The same for an answer that is known to be short.
    pub(crate) async fn short_json(&self, request: &RestRequest) -> Result<JsonText, HttpError> {
        self.text_up_to(request, SHORT_TEXT_BYTES).await.map(JsonText)
    }

    /// Sends a request and returns its body as a stream, once the server has answered with
    /// success.
    pub async fn stream(&self, request: &RestRequest) -> Result<BodyStream, HttpError> {
        let limit = self.timeouts.silence;
        tokio::time::timeout(limit, self.open(request))
            .await
            .map_err(|_| HttpError::TimedOut { url: self.url(request), after: limit })?
    }

    /// Uploads a body of known length to a URL, which may belong to another server, and returns
    /// the headers of the answer. A connection fails as too slow only if it makes no progress for the
    /// limit of silence. No redirect is followed: content goes where the gateway wants it, or nowhere.
    pub async fn put(
        &self,
        url: &str,
        headers: HeaderMap,
        length: u64,
        body: reqwest::Body,
    ) -> Result<HeaderMap, HttpError> {
        let uploads = self.uploads()?;
        let request = uploads.put(url).headers(headers).header(reqwest::header::CONTENT_LENGTH, length);
        // The query of the URL is a credential.
        let shown = url.split('?').next().unwrap_or_default();
        let response = request.body(body).send().await.map_err(|error| failure(shown, error))?;
        // Google confirms a part with a redirect status, but without a location.
        if response.status() == StatusCode::PERMANENT_REDIRECT && !response.headers().contains_key(LOCATION) {
            return Ok(response.headers().clone());
        }
        Ok(success(shown, response).await?.headers().clone())
    }

    fn uploads(&self) -> Result<&reqwest::Client, HttpError> {
        self.uploads.get_or_try_init(|| self.client(redirect::Policy::none()))
    }

    fn client(&self, redirects: redirect::Policy) -> Result<Box<reqwest::Client>, HttpError> {
        client(&self.base, self.timeouts, redirects, &self.tls).map(Box::new)
    }

    fn client_of(&self, method: &Method) -> Result<&reqwest::Client, HttpError> {
        if *method != Method::GET {
            return Ok(&self.calls);
        }
        self.reads.get_or_try_init(|| self.client(protected_redirects(|_, _| true)))
    }

    fn url(&self, request: &RestRequest) -> String {
        format!("{}{}", self.base, request.path)
    }

    async fn open(&self, request: &RestRequest) -> Result<BodyStream, HttpError> {
        let url = self.url(request);
        let client = self.client_of(&request.method)?;
        let mut outgoing = client.request(request.method.clone(), format!("{url}{}", request.query));
        if let Some((content_type, body)) = &request.body {
            outgoing = outgoing.header(CONTENT_TYPE, content_type).body(body.clone());
        }
        let token = match &request.token {
            RequestToken::OfServer => authorization(&self.base),
            RequestToken::Absent => None,
            RequestToken::Own(token) => Some(token.clone()),
        };
        if let Some(authorization) = token {
            outgoing = outgoing.header(AUTHORIZATION, authorization);
        }
        let response = outgoing.headers(request.headers.clone()).send().await;
        let response = response.map_err(|error| failure(&url, error))?;
        let response = success(&url, response).await?;
        Ok(BodyStream { response, url, silence: self.timeouts.silence })
    }
}

/// Follows redirects as long as they stay protected: a token that was sent by https is never sent by http, also not to the
/// same host and port. Tokens are not sent to other hosts and ports anyway. `may_lead` says whether a redirect from one URL
/// may lead to another.
fn protected_redirects(may_lead: fn(&Url, &Url) -> bool) -> redirect::Policy {
    redirect::Policy::custom(move |attempt| {
        let from = attempt.previous().last();
        let is_exposed = from.is_some_and(|url| url.scheme() == "https") && attempt.url().scheme() != "https";
        let is_elsewhere = from.is_some_and(|url| !may_lead(url, attempt.url()));
        let is_endless = attempt.previous().len() > MAX_REDIRECTS;
        if is_exposed {
            attempt.error("the server redirects from https to http: let its proxy send X-Forwarded-Proto")
        } else if is_elsewhere {
            attempt.error("the server redirects to another one: use the URL of that one")
        } else if is_endless {
            attempt.error("the server redirects too often")
        } else {
            attempt.follow()
        }
    })
}

/// Whether `to` is on the server of `from` or, if that is http, on the default https port of its host. A hostile server must
/// not make this machine send requests to other servers.
pub(crate) fn is_same_server(from: &Url, to: &Url) -> bool {
    let is_its_https = from.scheme() == "http" && to.scheme() == "https" && to.port().is_none();
    from.host() == to.host() && (from.origin() == to.origin() || is_its_https)
}

fn client(
    base: &str,
    timeouts: Timeouts,
    redirects: redirect::Policy,
    tls: &ClientConfig,
) -> Result<reqwest::Client, HttpError> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("matyan-sdk/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(timeouts.connect)
        .redirect(redirects)
        .tls_backend_preconfigured(tls.clone())
        .tcp_nodelay(true);
    builder
        .build()
        .map_err(|error| HttpError::Unreachable { url: base.to_owned(), reason: with_sources(&error) })
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
            Ok(chunk) => chunk.map_err(|error| failure(&self.url, error)),
            Err(_) => Err(HttpError::TimedOut { url: self.url.clone(), after: self.silence }),
        }
    }

    /// Returns the whole body as text. A body of more than `most` bytes is an error.
    async fn into_text(mut self, most: usize) -> Result<String, HttpError> {
        let mut text = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if text.len() + chunk.len() > most {
                return Err(malformed(&self.url, format!("a text of more than {most} bytes")));
            }
            text.extend_from_slice(&chunk);
        }
        String::from_utf8(text).map_err(|_| malformed(&self.url, "text that is not UTF-8"))
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
    checked_url(url).map(|(cleaned, _)| cleaned.to_owned())
}

/// The base URL of a server without slashes at its end, both as text and parsed.
fn checked_url(url: &str) -> Result<(&str, Url), HttpError> {
    let invalid = || HttpError::InvalidUrl { url: url.to_owned() };
    let cleaned = url.trim().trim_end_matches('/');
    let parsed = Url::parse(cleaned).map_err(|_| invalid())?;
    let is_usable = matches!(parsed.scheme(), "http" | "https")
        && parsed.has_host()
        && parsed.query().is_none()
        && parsed.fragment().is_none();
    if is_usable { Ok((cleaned, parsed)) } else { Err(invalid()) }
}

/// Reads the error from an unsuccessful answer.
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

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::access_token::AccessToken;

    /// Answers one request, and returns what was sent.
    async fn answer(listener: &TcpListener, answer: String) -> String {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut received = vec![0; 4_096];
        let length = connection.read(&mut received).await.unwrap();
        connection.write_all(answer.as_bytes()).await.unwrap();
        received.truncate(length);
        String::from_utf8(received).unwrap()
    }

    #[tokio::test]
    async fn rule_74_no_upload_follows_a_redirect() {
        let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", gateway.local_addr().unwrap());
        let location = format!("http://{}/metadata", elsewhere.local_addr().unwrap());
        let head = format!(
            "HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let client = HttpClient::new(&url, Timeouts::default()).unwrap();
        let target = format!("{url}/blob?token");
        let put = client.put(&target, HeaderMap::new(), 1, "x".into());
        let (sent, outcome) = tokio::join!(answer(&gateway, head), put);
        assert!(sent.starts_with("PUT /blob?token "), "{sent}");
        assert!(matches!(outcome, Err(HttpError::Refused { status: 302, .. })), "{outcome:?}");
        // A connection would be there before the answer.
        assert!(futures::FutureExt::now_or_never(elsewhere.accept()).is_none());
    }

    #[tokio::test]
    async fn rule_74_no_call_follows_a_redirect_to_another_server() {
        let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", gateway.local_addr().unwrap());
        let location = format!("http://{}/metadata", elsewhere.local_addr().unwrap());
        let client = HttpClient::new(&url, Timeouts::default()).unwrap();
        let request = RestRequest::json(Method::POST, "/presign", "{}");
        for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
            let head = format!(
                "HTTP/1.1 {status}\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            let (_, outcome) = tokio::join!(answer(&gateway, head), client.text(&request));
            let error = outcome.unwrap_err();
            assert!(!error.is_temporary(), "{status}: {error}");
            let error = error.to_string();
            assert!(error.contains("redirects to another one"), "{status}: {error}");
            assert!(futures::FutureExt::now_or_never(elsewhere.accept()).is_none(), "{status}");
        }
    }

    #[test]
    fn a_redirect_stays_on_a_server_or_leads_to_its_https() {
        let is_same_server =
            |from: &str, to: &str| is_same_server(&Url::parse(from).unwrap(), &Url::parse(to).unwrap());
        assert!(is_same_server("http://h:1/a", "http://h:1/a/"));
        assert!(is_same_server("http://h/a", "https://h/a"));
        assert!(is_same_server("http://h:1/a", "https://h/a"));
        assert!(!is_same_server("http://h:1/a", "http://h:2/a"));
        assert!(!is_same_server("http://h/a", "https://h:6443/a"));
        assert!(!is_same_server("http://h/a", "https://i/a"));
        assert!(!is_same_server("https://h/a", "http://h/a"));
    }

    /// The URL of an upload is a credential itself. A gateway has named its server, which must not get the token.
    #[tokio::test]
    async fn rule_74_no_upload_carries_a_token() {
        let gateway = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let [url, other] = [&gateway, &elsewhere].map(|it| format!("http://{}", it.local_addr().unwrap()));
        AccessToken::new("mtk_of-the-gateway").unwrap().use_for(&url);
        AccessToken::new("mtk_of-the-other-server").unwrap().use_for(&other);
        let client = HttpClient::new(&url, Timeouts::default()).unwrap();
        let success = || "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned();
        for (server, base) in [(&gateway, &url), (&elsewhere, &other)] {
            let target = format!("{base}/blob?signature");
            let put = client.put(&target, HeaderMap::new(), 1, "x".into());
            let (sent, outcome) = tokio::join!(answer(server, success()), put);
            assert!(outcome.is_ok(), "{outcome:?}");
            assert!(sent.starts_with("PUT /blob?signature "), "{sent}");
            let sent = sent.to_lowercase();
            assert!(!sent.contains("authorization") && !sent.contains("mtk_"), "{sent}");
        }
        let request = RestRequest::get("/text".to_owned());
        let (sent, text) = tokio::join!(answer(&gateway, success()), client.text(&request));
        assert!(text.is_ok(), "{text:?}");
        assert!(sent.to_lowercase().contains("authorization: bearer mtk_of-the-gateway\r\n"), "{sent}");
    }

    #[tokio::test]
    async fn a_text_has_a_limit() {
        for (most, is_short) in [(5, true), (4, false)] {
            let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", server.local_addr().unwrap());
            let client = HttpClient::new(&url, Timeouts::default()).unwrap();
            let request = RestRequest::get("/text".to_owned());
            let read = async { client.open(&request).await?.into_text(most).await };
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello".to_owned();
            let (_, text) = tokio::join!(answer(&server, head), read);
            assert_eq!(text.is_ok(), is_short, "{text:?}");
        }
    }
}
