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
    bucket::{ATTEMPTS, CONNECT_WITHIN, FIRST_WAIT, READ_WITHIN, answer_within},
};

/// Credentials that expire sooner are renewed, as an upload URL expires with the credentials
/// that signed it. The client randomly reduces this by up to a half.
const SIGNED_FOR: Duration = Duration::from_secs(15 * 60);

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
                .with_http_client(http())
                .with_time_source(Now(clock));
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
    let silence = StalledStreamProtectionConfig::enabled().grace_period(READ_WITHIN).build();
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http())
        .endpoint_url(endpoint.trim_end_matches('/'))
        .force_path_style(!virtual_host)
        .region(Region::new(settings.region.clone()))
        .credentials_provider(credentials.clone())
        .identity_cache(IdentityCache::lazy().buffer_time(SIGNED_FOR).build())
        .time_source(Now(clock.clone()))
        .disable_clock_skew_correction(true)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(FIRST_WAIT))
        .timeout_config(
            TimeoutConfig::builder().connect_timeout(CONNECT_WITHIN).read_timeout(READ_WITHIN).build(),
        )
        .stalled_stream_protection(silence)
        // Some S3-compatible servers do not support the newer checksums. Content is
        // signed with its SHA-256 anyway.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .build();
    Client::from_conf(config)
}

/// Configuration of a request with this much content.
pub(super) fn sending(content: usize) -> aws_sdk_s3::config::Builder {
    Config::builder().timeout_config(TimeoutConfig::builder().read_timeout(answer_within(content)).build())
}

/// Configuration of a request that the caller retries.
pub(super) fn once() -> aws_sdk_s3::config::Builder {
    Config::builder().retry_config(RetryConfig::disabled())
}

fn http() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

struct Now(Clock);

impl TimeSource for Now {
    fn now(&self) -> SystemTime {
        system_time(&self.0)
    }
}

impl fmt::Debug for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the injected clock")
    }
}

pub(super) fn system_time(clock: &Clock) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(clock().try_into().unwrap_or(0))
}
