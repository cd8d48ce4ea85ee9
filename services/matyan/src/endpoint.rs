//! Addresses of other servers, in the form that clients need.

use std::time::Duration;

use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

/// The address of a server that listens on this machine with the default settings. Clients connect to it by default.
pub(crate) const DEFAULT_SERVER: &str = "http://127.0.0.1:53800";

/// Idle connections are probed with keep-alive pings, so that no call waits for a server that has
/// disappeared.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
pub(crate) enum EndpointError {
    #[error("invalid server address `{0}`: use an address such as http://127.0.0.1:53800")]
    Address(String),
    #[error(
        "failed to read the certificates that this machine trusts; set SSL_CERT_FILE to a file of certificates"
    )]
    Roots { source: tonic::transport::Error },
}

/// Returns the endpoint of a server, for calls over gRPC.
pub(crate) fn endpoint(server: &str) -> Result<Endpoint, EndpointError> {
    let endpoint =
        Channel::from_shared(server.to_owned()).map_err(|_| EndpointError::Address(server.to_owned()))?;
    let endpoint = match endpoint.uri().scheme_str() {
        Some("http") => endpoint,
        Some("https") => {
            let tls = endpoint.tls_config(ClientTlsConfig::new().with_native_roots());
            tls.map_err(|source| EndpointError::Roots { source })?
        }
        _ => return Err(EndpointError::Address(server.to_owned())),
    };
    Ok(endpoint
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}
