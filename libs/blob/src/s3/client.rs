//! The S3 client: the HTTP stack used elsewhere here (hyper, rustls with ring), a small number
//! of attempts, and limits on silence instead of total time; the time to send content depends
//! on its size. Requests are signed with the given clock, without correction: upload URLs are
//! signed with it too, and a wrong clock should show before a training's upload is refused.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_config::{default_provider::credentials::DefaultCredentialsChain, provider_config::ProviderConfig};
use aws_sdk_s3::{
    Client, Config,
    config::{
        BehaviorVersion, Credentials as Keys, IdentityCache, Region, RequestChecksumCalculation,
        SharedCredentialsProvider, SharedHttpClient, StalledStreamProtectionConfig, retry::RetryConfig,
        timeout::TimeoutConfig,
    },
};
use aws_smithy_async::time::TimeSource;
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};

use super::{Credentials, Settings};
use crate::{
    Clock,
    bucket::connect::{ATTEMPTS, CONNECT_TIMEOUT, FIRST_BACKOFF, READ_TIMEOUT, response_timeout},
};

/// Credentials that expire sooner are renewed, because an upload URL expires with the
/// credentials that signed it. The client randomly reduces this by up to a half.
const CREDENTIALS_BUFFER: Duration = Duration::from_secs(15 * 60);

pub(super) async fn credentials(settings: &Settings, clock: Clock) -> SharedCredentialsProvider {
    match &settings.credentials {
        Credentials::Keys { access_key, secret_key } => {
            let keys = Keys::new(access_key, secret_key, None, None, "the settings");
            SharedCredentialsProvider::new(keys)
        }
        Credentials::Default => {
            let region = Region::new(settings.region.clone());
            let config = ProviderConfig::empty()
                .with_region(Some(region.clone()))
                .with_http_client(http_client())
                .with_time_source(ClockTimeSource(clock));
            let chain = DefaultCredentialsChain::builder().configure(config).region(region);
            SharedCredentialsProvider::new(chain.build().await)
        }
    }
}

pub(super) fn connect(
    settings: &Settings,
    endpoint: &str,
    virtual_host: bool,
    credentials: &SharedCredentialsProvider,
    clock: &Clock,
) -> Client {
    let silence = StalledStreamProtectionConfig::enabled().grace_period(READ_TIMEOUT).build();
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http_client())
        .endpoint_url(endpoint.trim_end_matches('/'))
        .force_path_style(!virtual_host)
        .region(Region::new(settings.region.clone()))
        .credentials_provider(credentials.clone())
        .identity_cache(IdentityCache::lazy().buffer_time(CREDENTIALS_BUFFER).build())
        .time_source(ClockTimeSource(clock.clone()))
        .disable_clock_skew_correction(true)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(FIRST_BACKOFF))
        .timeout_config(
            TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build(),
        )
        .stalled_stream_protection(silence)
        // Some S3-compatible servers do not support the newer checksums. Content is
        // signed with its SHA-256 anyway.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .build();
    Client::from_conf(config)
}

/// Configuration of a request with this much content.
pub(super) fn with_content_timeout(content: usize) -> aws_sdk_s3::config::Builder {
    Config::builder().timeout_config(TimeoutConfig::builder().read_timeout(response_timeout(content)).build())
}

/// Configuration of a request that the caller retries.
pub(super) fn without_retries() -> aws_sdk_s3::config::Builder {
    Config::builder().retry_config(RetryConfig::disabled())
}

fn http_client() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

struct ClockTimeSource(Clock);

impl TimeSource for ClockTimeSource {
    fn now(&self) -> SystemTime {
        system_time(&self.0)
    }
}

impl fmt::Debug for ClockTimeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the injected clock")
    }
}

pub(super) fn system_time(clock: &Clock) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(clock().try_into().unwrap_or(0))
}
