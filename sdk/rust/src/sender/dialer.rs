//! Byte streams to the gateway: TCP, through the proxy that the environment names if there is one, and
//! TLS if the URL asks for it.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use hyper_util::client::{
    legacy::connect::{HttpConnector, proxy::Tunnel},
    proxy::matcher::{Intercept, Matcher},
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time,
};
use tokio_rustls::TlsConnector;
use tower::ServiceExt as _;

use crate::{
    http::with_sources,
    sender::target::{ConnectError, Target},
    tls,
};

/// Longest time for each step of connecting.
pub(crate) const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// A stream of bytes in both directions.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// Settings of connections, which take some time to load, and are loaded when they are needed first.
#[derive(Clone, Default)]
pub(crate) struct Dialer(Arc<Settings>);

struct Settings {
    tls: ClientConfig,
    proxies: OnceLock<Matcher>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { tls: tls::client_config(), proxies: OnceLock::new() }
    }
}

impl Dialer {
    /// Opens a stream. `application_protocol` is what TLS negotiates.
    pub(crate) async fn open(
        &self,
        target: &Target,
        application_protocol: Option<&[u8]>,
    ) -> Result<Box<dyn ByteStream>, ConnectError> {
        let opening = async {
            let tcp = self.open_tcp(target).await?;
            if !target.is_secure {
                return Ok::<Box<dyn ByteStream>, ConnectError>(Box::new(tcp));
            }
            let name = ServerName::try_from(target.host.clone());
            let name = name.map_err(|_| target.invalid("the host is invalid"))?;
            let stream = self.tls(application_protocol).connect(name, tcp).await;
            Ok(Box::new(stream.map_err(|error| ConnectError::Tcp {
                address: target.address(),
                reason: with_sources(&error),
            })?))
        };
        time::timeout(STEP_TIMEOUT, opening).await.map_err(|_| target.timeout())?
    }

    async fn open_tcp(&self, target: &Target) -> Result<TcpStream, ConnectError> {
        let address = target.address();
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        // Divided among the addresses of the host: an address that does not answer leaves time for others.
        connector.set_connect_timeout(Some(STEP_TIMEOUT));
        let uri = target.uri()?;
        let stream = match self.proxy(target)? {
            None => connector
                .oneshot(uri)
                .await
                .map_err(|error| ConnectError::Tcp { address, reason: with_sources(&error) })?,
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), connector);
                if let Some(credentials) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(credentials.clone());
                }
                let proxy = proxy.uri().to_string();
                tunnel.oneshot(uri).await.map_err(|error| ConnectError::Proxy {
                    address,
                    proxy,
                    reason: with_sources(&error),
                })?
            }
        };
        Ok(stream.into_inner())
    }

    fn proxy(&self, target: &Target) -> Result<Option<Intercept>, ConnectError> {
        if target.is_here() {
            return Ok(None);
        }
        let proxies = self.0.proxies.get_or_init(Matcher::from_env);
        let Some(proxy) = proxies.intercept(&target.uri()?) else { return Ok(None) };
        if proxy.uri().scheme_str() == Some("http") {
            return Ok(Some(proxy));
        }
        let reason = "only proxies with a URL of http:// are supported".to_owned();
        Err(ConnectError::Proxy { address: target.address(), proxy: proxy.uri().to_string(), reason })
    }

    fn tls(&self, application_protocol: Option<&[u8]>) -> TlsConnector {
        let mut config = self.0.tls.clone();
        config.alpn_protocols = application_protocol.into_iter().map(<[u8]>::to_vec).collect();
        TlsConnector::from(Arc::new(config))
    }
}
