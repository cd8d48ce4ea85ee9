//! Connection limits and retries shared by the clients of all clouds, and their translation for
//! the `object_store` crate.

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

/// Parts of one upload in flight at the same time, to hide the latency of a distant store.
pub(crate) const CONCURRENT_PARTS: usize = 3;

/// Connect timeout of one attempt. With retries, a call takes several times as long.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for a response to begin, and longest silence within it. The total time is
/// unlimited, as content may be of any size.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Slowest upload speed that is tolerated, in bytes per second.
const MIN_BYTES_PER_SECOND: usize = 50_000;

/// Content sizes are rounded up to this or a power of two above it: the client pools
/// connections by their timeout.
const MIN_CONTENT_BYTES: usize = 1 << 20;

/// Timeout for the response to a request with this much content, including the time to send it.
pub(crate) fn response_timeout(content: usize) -> Duration {
    let content = content.max(MIN_CONTENT_BYTES).next_power_of_two();
    READ_TIMEOUT + Duration::from_secs(content.div_ceil(MIN_BYTES_PER_SECOND) as u64)
}

/// The first attempt and the retries. Few enough that a waiting caller soon learns that the
/// store is unavailable; background work retries anyway.
pub(crate) const ATTEMPTS: u32 = 4;

/// Delay before the second attempt; it grows from there.
pub(crate) const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// No attempt begins later than this.
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) fn retry_config() -> RetryConfig {
    let max_retries = ATTEMPTS as usize - 1;
    RetryConfig { max_retries, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() }
}

/// For requests that the caller retries.
pub(crate) fn without_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

pub(crate) fn client_options(allow_http: bool) -> ClientOptions {
    static TLS: Once = Once::new();
    // An error means that a provider is already installed, which serves as well.
    TLS.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    ClientOptions::new()
        .with_allow_http(allow_http)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_read_timeout(READ_TIMEOUT)
        .with_timeout_disabled()
}

/// Connects the `object_store` crate with a response timeout that depends on the size of the
/// request.
#[derive(Debug)]
pub(crate) struct SizedTimeoutConnector;

impl HttpConnector for SizedTimeoutConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let reading = ReqwestConnector::default().connect(options)?;
        // The read timeout would also run while the content is being sent.
        let sending = ReqwestConnector::default().connect(&options.clone().with_read_timeout_disabled())?;
        Ok(HttpClient::new(SizedTimeoutService { reading, sending }))
    }
}

#[derive(Debug)]
struct SizedTimeoutService {
    reading: HttpClient,
    /// Has no timeout; `call` applies one by content size.
    sending: HttpClient,
}

#[async_trait]
impl HttpService for SizedTimeoutService {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let content = request.body().content_length();
        if content == 0 {
            return self.reading.execute(request).await;
        }
        // The response to an upload is small, so its body is read within the same
        // timeout.
        let answer = async {
            let (head, body) = self.sending.execute(request).await?.into_parts();
            Ok::<_, HttpError>(HttpResponse::from_parts(head, body.bytes().await?.into()))
        };
        let answer = tokio::time::timeout(response_timeout(content), answer).await;
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
    fn the_timeout_grows_with_the_content() {
        for (content, seconds) in
            [(0, 81), (1, 81), (1 << 20, 81), (5 << 20, 228), (8 << 20, 228), (9 << 20, 396)]
        {
            assert_eq!(response_timeout(content).as_secs(), seconds, "{content}");
        }
    }

    /// Responds after this many seconds.
    #[derive(Debug)]
    struct SlowService(u64);

    #[async_trait]
    impl HttpService for SlowService {
        async fn call(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
            tokio::time::sleep(Duration::from_secs(self.0)).await;
            Ok(HttpResponse::new(Vec::<u8>::new().into()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_upload_succeeds_and_a_stalled_one_times_out() {
        let put = async |seconds| {
            let client = || HttpClient::new(SlowService(seconds));
            let content: HttpRequestBody = vec![0_u8; 8 << 20].into();
            SizedTimeoutService { reading: client(), sending: client() }.call(HttpRequest::new(content)).await
        };
        assert!(put(200).await.is_ok());
        assert_eq!(put(300).await.unwrap_err().kind(), HttpErrorKind::Timeout);
    }
}
