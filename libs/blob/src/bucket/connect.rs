//! How the clients of all clouds connect, how often they try, and how the `object_store` crate is told so.

use std::{
    sync::{Arc, Once},
    time::Duration,
};

use async_trait::async_trait;
use object_store::{
    ClientOptions, RetryConfig,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
        ReqwestConnector,
    },
};

use crate::Error;

/// Parts of one upload on their way at once: what hides the time that a distant store takes to answer.
pub(crate) const PARTS_AT_ONCE: usize = 3;

/// To connect. Whatever is tried again takes several times as long.
pub(crate) const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Until an answer begins, and of silence in it. There is no limit for a whole answer: content is as large as it is.
pub(crate) const READ_WITHIN: Duration = Duration::from_secs(60);

/// Bytes a second by which content is still sent.
const SLOWEST: usize = 50_000;

/// Content counts as this, or as a double of it: a client keeps connections apart by how long they wait.
const LEAST: usize = 1 << 20;

/// Until the answer to a request with so much content begins: sending it counts.
pub(crate) fn answer_within(content: usize) -> Duration {
    let content = content.max(LEAST).next_power_of_two();
    READ_WITHIN + Duration::from_secs(content.div_ceil(SLOWEST) as u64)
}

/// One and a few more, so that a caller that waits learns soon that the store is away, and one that can wait comes again.
pub(crate) const ATTEMPTS: u32 = 4;

/// Between the first two attempts; it grows from there.
pub(crate) const FIRST_WAIT: Duration = Duration::from_millis(100);

/// No attempt begins later.
const RETRY_WITHIN: Duration = Duration::from_secs(20);

pub(crate) fn retries() -> RetryConfig {
    let max_retries = ATTEMPTS as usize - 1;
    RetryConfig { max_retries, retry_timeout: RETRY_WITHIN, ..RetryConfig::default() }
}

/// For requests that are made again by whoever makes them.
pub(crate) fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

pub(crate) fn options(allow_http: bool) -> ClientOptions {
    static TLS: Once = Once::new();
    // An error means that somebody has chosen an implementation before, which is as good.
    TLS.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    ClientOptions::new()
        .with_allow_http(allow_http)
        .with_connect_timeout(CONNECT_WITHIN)
        .with_read_timeout(READ_WITHIN)
        .with_timeout_disabled()
}

/// How the `object_store` crate sends: what carries content is waited for by its size.
#[derive(Debug)]
pub(crate) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let reading = ReqwestConnector::default().connect(options)?;
        let sending = ReqwestConnector::default().connect(&options.clone().with_read_timeout_disabled())?;
        Ok(HttpClient::new(Patient { reading, sending }))
    }
}

#[derive(Debug)]
struct Patient {
    reading: HttpClient,
    /// Knows no limit of its own.
    sending: HttpClient,
}

#[async_trait]
impl HttpService for Patient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let content = request.body().content_length();
        if content == 0 {
            return self.reading.execute(request).await;
        }
        // What answers content is small, and read whole before the time is over.
        let answer = async {
            let (head, body) = self.sending.execute(request).await?.into_parts();
            Ok::<_, HttpError>(HttpResponse::from_parts(head, body.bytes().await?.into()))
        };
        let answer = tokio::time::timeout(answer_within(content), answer).await;
        answer.unwrap_or_else(|late| Err(HttpError::new(HttpErrorKind::Timeout, late)))
    }
}

pub(crate) fn unavailable(doing: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let source: Box<dyn std::error::Error + Send + Sync> = source.into();
    Error::Unavailable { reason: format!("{doing} failed: {source}"), source: Some(Arc::from(source)) }
}

#[cfg(test)]
mod tests {
    use object_store::client::HttpRequestBody;

    use super::*;

    #[test]
    fn content_is_waited_for_by_its_size() {
        for (content, seconds) in
            [(0, 81), (1, 81), (1 << 20, 81), (5 << 20, 228), (8 << 20, 228), (9 << 20, 396)]
        {
            assert_eq!(answer_within(content).as_secs(), seconds, "{content}");
        }
    }

    /// Answers after so many seconds.
    #[derive(Debug)]
    struct Slow(u64);

    #[async_trait]
    impl HttpService for Slow {
        async fn call(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
            tokio::time::sleep(Duration::from_secs(self.0)).await;
            Ok(HttpResponse::new(Vec::<u8>::new().into()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_connection_is_waited_for_and_a_dead_one_is_not() {
        let put = async |seconds| {
            let client = || HttpClient::new(Slow(seconds));
            let content: HttpRequestBody = vec![0_u8; 8 << 20].into();
            Patient { reading: client(), sending: client() }.call(HttpRequest::new(content)).await
        };
        assert!(put(200).await.is_ok());
        assert_eq!(put(300).await.unwrap_err().kind(), HttpErrorKind::Timeout);
    }
}
