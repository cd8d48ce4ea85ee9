//! Connections to the gateway: TCP, TLS if the URL asks for it, and the WebSocket handshake.

use std::{sync::Arc, time::Duration};

use rustls::{
    ClientConfig,
    crypto::{CryptoProvider, ring},
    pki_types::ServerName,
};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self,
        client::IntoClientRequest as _,
        error::{ProtocolError, SubProtocolError},
        handshake::client::Request,
        http::{HeaderValue, Uri, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::WebSocketConfig,
    },
};

use crate::{http, sender::binary};

/// Longest time for each step of connecting.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest frame of the server: responses with a thousand rejections are far smaller.
const MOST_FRAME_BYTES: usize = 16 << 20;

/// A socket of either kind.
pub(crate) type Socket = WebSocketStream<Box<dyn Stream>>;

/// A stream of bytes in both directions.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// Protocol that the server has chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Binary,
    /// The server does not know the subprotocol, as Matyan 0.3.
    Json,
}

/// The reason why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("invalid gateway URL `{url}`: {reason}")]
    Url { url: String, reason: String },
    #[error("failed to connect to {address}: {source}")]
    Tcp { address: String, source: std::io::Error },
    #[error("failed to set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("{address} does not answer in time")]
    Timeout { address: String },
    #[error("the gateway refuses the connection with status {0}")]
    Refusal(u16),
    #[error("the WebSocket handshake failed: {0}")]
    Handshake(Box<tungstenite::Error>),
}

/// TLS settings of the process, which take some time to load.
#[derive(Clone, Default)]
pub(crate) struct Tls(Arc<std::sync::OnceLock<Arc<ClientConfig>>>);

impl Tls {
    fn config(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        if let Some(config) = self.0.get() {
            return Ok(config.clone());
        }
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = Arc::new(builder.with_platform_verifier()?.with_no_client_auth());
        Ok(self.0.get_or_init(|| config).clone())
    }
}

/// Connects to the socket of a run.
pub(crate) async fn connect(
    gateway_url: &str,
    run_id: &str,
    tls: &Tls,
) -> Result<(Socket, Protocol), ConnectError> {
    let target = Target::new(gateway_url, run_id)?;
    match target.handshake(tls, true).await {
        Ok(socket) => Ok((socket, Protocol::Binary)),
        Err(ConnectError::Handshake(error)) if is_unknown_subprotocol(&error) => {
            Ok((target.handshake(tls, false).await?, Protocol::Json))
        }
        Err(error) => Err(error),
    }
}

fn is_unknown_subprotocol(error: &tungstenite::Error) -> bool {
    matches!(
        error,
        tungstenite::Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(
            SubProtocolError::NoSubProtocol
        ))
    )
}

/// The parts of a URL.
struct Target {
    uri: Uri,
    host: String,
    port: u16,
    is_secure: bool,
}

impl Target {
    fn new(gateway_url: &str, run_id: &str) -> Result<Self, ConnectError> {
        let invalid =
            |reason: &str| ConnectError::Url { url: gateway_url.to_owned(), reason: reason.to_owned() };
        let (scheme, rest) =
            gateway_url.split_once("://").ok_or_else(|| invalid("use http:// or https://"))?;
        let is_secure = match scheme {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return Err(invalid("use http:// or https://")),
        };
        let scheme = if is_secure { "wss" } else { "ws" };
        let (base, run) = (rest.trim_end_matches('/'), http::segment(run_id));
        let text = format!("{scheme}://{base}/api/v1/ws/runs/{run}");
        let uri: Uri = text.parse().map_err(|_| invalid("it is not a URL"))?;
        let host = uri.host().ok_or_else(|| invalid("it has no host"))?;
        // An address of IPv6 is in brackets in a URL only.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        Ok(Self { uri, host, port, is_secure })
    }

    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn request(&self, is_binary: bool) -> Result<Request, ConnectError> {
        let failed = |error| ConnectError::Handshake(Box::new(error));
        let mut request = self.uri.clone().into_client_request().map_err(failed)?;
        if is_binary {
            let subprotocol = HeaderValue::from_static(binary::SUBPROTOCOL);
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
        }
        Ok(request)
    }

    async fn handshake(&self, tls: &Tls, is_binary: bool) -> Result<Socket, ConnectError> {
        let request = self.request(is_binary)?;
        let timeout = |_| ConnectError::Timeout { address: self.address() };
        let stream = time::timeout(STEP_TIMEOUT, self.stream(tls)).await.map_err(timeout)??;
        let config = WebSocketConfig::default().max_message_size(Some(MOST_FRAME_BYTES));
        let handshake = client_async_with_config(request, stream, Some(config));
        match time::timeout(STEP_TIMEOUT, handshake).await.map_err(timeout)? {
            Ok((socket, _)) => Ok(socket),
            Err(tungstenite::Error::Http(response)) => Err(ConnectError::Refusal(response.status().as_u16())),
            Err(error) => Err(ConnectError::Handshake(Box::new(error))),
        }
    }

    async fn stream(&self, tls: &Tls) -> Result<Box<dyn Stream>, ConnectError> {
        let failed = |source| ConnectError::Tcp { address: self.address(), source };
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(failed)?;
        tcp.set_nodelay(true).map_err(failed)?;
        if !self.is_secure {
            return Ok(Box::new(tcp));
        }
        let invalid =
            |_| ConnectError::Url { url: self.uri.to_string(), reason: "the host is invalid".to_owned() };
        let name = ServerName::try_from(self.host.clone()).map_err(invalid)?;
        let stream = TlsConnector::from(tls.config()?).connect(name, tcp).await.map_err(failed)?;
        Ok(Box::new(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_run_is_appended_to_the_url() {
        for (url, run, expected, address) in [
            ("http://h:53801", "abc", "ws://h:53801/api/v1/ws/runs/abc", "h:53801"),
            ("https://h/base/", "a b", "wss://h/base/api/v1/ws/runs/a%20b", "h:443"),
            ("http://[::1]:9", "r", "ws://[::1]:9/api/v1/ws/runs/r", "::1:9"),
        ] {
            let target = Target::new(url, run).unwrap();
            assert_eq!((target.uri.to_string().as_str(), target.address().as_str()), (expected, address));
        }
    }

    #[test]
    fn a_url_without_scheme_is_refused() {
        assert!(Target::new("localhost:53801", "r").is_err());
        assert!(Target::new("ftp://localhost", "r").is_err());
    }
}
