//! The client for requests to providers. It follows no redirects, and limits the size and the time of every answer:
//! neither a provider, nor someone who answers in its place, must hold up or fill this server.

use std::{
    fmt,
    sync::{Arc, Once},
    time::Duration,
};

use object_store_http as reqwest;
use reqwest::{
    Method, RequestBuilder, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
    redirect,
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::{
    address::{form, is_trustworthy},
    error::{SetUpError, SignInError, shown},
};

/// Longest answer that is read.
pub(crate) const ANSWER_BYTES: usize = 1 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a request, from its start to the end of its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Starts a request.
type RequestStart = dyn Fn(Method, &str) -> RequestBuilder + Send + Sync;

/// Cheap to clone; clones share connections.
#[derive(Clone)]
pub(crate) struct HttpClient {
    /// Hides the type of the client, which has hundreds of parts. Otherwise the compiler would check for
    /// every rpc of the backend that threads can share each part, which takes ten seconds longer.
    request: Arc<RequestStart>,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

/// The credentials of a request.
#[derive(Clone, Copy)]
pub(crate) enum Credentials<'a> {
    None,
    /// Name and password.
    Basic(&'a str, &'a str),
    Bearer(&'a str),
}

impl HttpClient {
    pub(crate) fn new() -> Result<Self, SetUpError> {
        static TLS: Once = Once::new();
        // An error means that the process has already chosen a provider of cryptography, which is as good.
        TLS.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let client = reqwest::Client::builder()
            // GitHub refuses requests without this header.
            .user_agent(concat!("matyan/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| SetUpError::Client(error.into()))?;
        Ok(Self { request: Arc::new(move |method, url| client.request(method, url)) })
    }

    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        url: &str,
        credentials: Credentials<'_>,
    ) -> Result<T, SignInError> {
        self.json(url, authorized((self.request)(Method::GET, url), credentials)).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        url: &str,
        parameters: &[(&str, &str)],
        credentials: Credentials<'_>,
    ) -> Result<T, SignInError> {
        let request = (self.request)(Method::POST, url).body(form(parameters));
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.json(url, authorized(request, credentials)).await
    }

    async fn json<T: DeserializeOwned>(&self, url: &str, request: RequestBuilder) -> Result<T, SignInError> {
        // Providers choose these addresses themselves.
        if !is_trustworthy(url) {
            return Err(SignInError::malformed(url, "its address is not encrypted"));
        }
        let request = request.header(ACCEPT, "application/json");
        let read = timeout(REQUEST_TIMEOUT, read_answer(url, request));
        let (status, body) = read.await.map_err(|late| SignInError::unreachable(url, late))??;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| SignInError::of_json(url, &error));
        }
        if status.is_redirection() {
            return Err(SignInError::Redirected { url: shown(url) });
        }
        if status.is_server_error() {
            return Err(SignInError::unreachable(url, format!("status {}", status.as_u16())));
        }
        Err(SignInError::Refused { url: shown(url), status: status.as_u16(), reason: reason(&body) })
    }
}

fn authorized(request: RequestBuilder, credentials: Credentials<'_>) -> RequestBuilder {
    match credentials {
        Credentials::None => request,
        Credentials::Basic(name, password) => request.basic_auth(name, Some(password)),
        Credentials::Bearer(token) => request.bearer_auth(token),
    }
}

async fn read_answer(url: &str, request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), SignInError> {
    // The address in an error may contain a code, so the address is left out.
    let unreachable = |error: reqwest::Error| SignInError::unreachable(url, error.without_url());
    let mut response = request.send().await.map_err(unreachable)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > ANSWER_BYTES {
            return Err(SignInError::TooLarge { url: shown(url), limit: ANSWER_BYTES });
        }
        body.extend_from_slice(&chunk);
    }
    Ok((response.status(), body))
}

/// The name of an OAuth error, or the message of an API such as GitHub's, to be used as a part of a sentence.
fn reason(body: &[u8]) -> String {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    match body["error"].as_str().or_else(|| body["message"].as_str()) {
        None => String::new(),
        Some(error) => format!(": {}", shown(error)),
    }
}
