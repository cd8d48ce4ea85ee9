//! Connection limits as the `object_store` crate takes them.

use std::sync::Once;

use async_trait::async_trait;
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
        ReqwestConnector,
    },
};

use super::connect::{CONNECT_TIMEOUT, READ_TIMEOUT, response_timeout};

pub(crate) fn client_options(allow_http: bool) -> ClientOptions {
    static TLS: Once = Once::new();
    // An error means that a provider is already installed, which works just as well.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use object_store::client::HttpRequestBody;

    use super::*;

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
            let content: HttpRequestBody = vec![0_u8; 8 << 20].into();
            let service = SizedTimeoutService {
                reading: HttpClient::new(SlowService(seconds)),
                sending: HttpClient::new(SlowService(seconds)),
            };
            service.call(HttpRequest::new(content)).await
        };
        assert!(put(200).await.is_ok());
        assert_eq!(put(300).await.unwrap_err().kind(), HttpErrorKind::Timeout);
    }
}
