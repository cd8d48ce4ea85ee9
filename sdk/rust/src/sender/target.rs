//! Addresses of the gateway, and the reasons why it cannot be reached.

use matyan_wire::loopback::is_loopback_host;
use tokio_tungstenite::tungstenite::{
    self,
    http::{StatusCode, Uri},
};

use crate::{http::server_message, server_url::GRPC_PREFIX};

/// The reason why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("invalid gateway URL `{url}`: {reason}")]
    Url { url: String, reason: String },
    #[error("failed to connect to {address}: {reason}")]
    Tcp { address: String, reason: String },
    #[error("failed to connect to {address} through the proxy {proxy}: {reason}")]
    Proxy { address: String, proxy: String, reason: String },
    #[error("{address} does not answer in time")]
    Timeout { address: String },
    #[error("{address} refuses the connection with status {status}: {message}")]
    Refusal { address: String, status: u16, message: String },
    #[error("the gateway does not answer to the name {host}: add it to MATYAN_ALLOWED_HOSTS of the server")]
    HostName { host: String },
    #[error("the WebSocket handshake failed: {0}; {OTHER_PROGRAM}")]
    Handshake(Box<tungstenite::Error>),
    #[cfg(feature = "grpc")]
    #[error("failed to connect to {address} by gRPC: {reason}")]
    Grpc { address: String, reason: String },
}

const OTHER_PROGRAM: &str = "the URL may be that of another program";

/// The next step after a status that waiting hardly helps.
fn correction(status: u16) -> Option<&'static str> {
    match status {
        401 | 403 => Some("set MATYAN_TOKEN to a token that may send data to this project"),
        ..=399 | 404 | 405 => Some(OTHER_PROGRAM),
        _ => None,
    }
}

impl ConnectError {
    /// The refusal of a handshake. A server of Matyan says in the body what is wrong.
    pub(crate) fn refusal(address: String, status: StatusCode, body: &[u8]) -> Self {
        let message = server_message(&String::from_utf8_lossy(body));
        let message = message.or_else(|| correction(status.as_u16()).map(str::to_owned));
        let message =
            message.unwrap_or_else(|| status.canonical_reason().unwrap_or("an unknown status").to_owned());
        Self::Refusal { address, status: status.as_u16(), message }
    }

    /// Whether a person has to correct the URL or the settings of the server. Waiting hardly helps.
    pub(crate) fn needs_correction(&self) -> bool {
        match self {
            Self::Url { .. } | Self::HostName { .. } => true,
            Self::Refusal { status, .. } => correction(*status).is_some(),
            _ => false,
        }
    }
}

/// The parts of the URL of a gateway.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    url: String,
    /// Host, port and path, without a slash at the end.
    pub(crate) base: String,
    pub(crate) host: String,
    port: u16,
    pub(crate) is_secure: bool,
    pub(crate) is_grpc: bool,
}

impl Target {
    pub(crate) fn new(gateway_url: &str) -> Result<Self, ConnectError> {
        let invalid =
            |reason: &str| ConnectError::Url { url: gateway_url.to_owned(), reason: reason.to_owned() };
        let plain_url = gateway_url.strip_prefix(GRPC_PREFIX);
        let is_grpc = plain_url.is_some();
        let (scheme, rest) = plain_url
            .unwrap_or(gateway_url)
            .split_once("://")
            .ok_or_else(|| invalid("use http:// or https://"))?;
        let is_secure = match scheme {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return Err(invalid("use http:// or https://")),
        };
        let base = rest.trim_end_matches('/').to_owned();
        if is_grpc && base.contains('/') {
            return Err(invalid("a URL for gRPC has no path"));
        }
        let uri: Uri = format!("http://{base}").parse().map_err(|_| invalid("it is not a URL"))?;
        let host = uri.host().ok_or_else(|| invalid("it has no host"))?;
        // An address of IPv6 is in brackets in a URL only.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        Ok(Self { url: gateway_url.to_owned(), base, host, port, is_secure, is_grpc })
    }

    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub(crate) fn invalid(&self, reason: &str) -> ConnectError {
        ConnectError::Url { url: self.url.clone(), reason: reason.to_owned() }
    }

    pub(crate) fn timeout(&self) -> ConnectError {
        ConnectError::Timeout { address: self.address() }
    }

    /// URL that only says where to connect.
    pub(crate) fn uri(&self) -> Result<Uri, ConnectError> {
        let scheme = if self.is_secure { "https" } else { "http" };
        let is_ipv6 = self.host.contains(':');
        let (open, close) = if is_ipv6 { ("[", "]") } else { ("", "") };
        let text = format!("{scheme}://{open}{}{close}:{}", self.host, self.port);
        text.parse().map_err(|_| self.invalid("it is not a URL"))
    }

    /// Whether the gateway runs on this machine, which a proxy cannot reach.
    pub(crate) fn is_here(&self) -> bool {
        is_loopback_host(&self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_url_are_found() {
        for (url, base, address, is_secure, is_grpc) in [
            ("http://h:53801", "h:53801", "h:53801", false, false),
            ("https://h/base/", "h/base", "h:443", true, false),
            ("http://[::1]:9", "[::1]:9", "::1:9", false, false),
            ("grpc+http://h:53801/", "h:53801", "h:53801", false, true),
            ("grpc+https://h", "h", "h:443", true, true),
        ] {
            let target = Target::new(url).unwrap();
            assert_eq!((target.base.as_str(), target.address().as_str()), (base, address), "{url}");
            assert_eq!((target.is_secure, target.is_grpc), (is_secure, is_grpc), "{url}");
        }
    }

    #[test]
    fn only_loopback_addresses_are_here() {
        for (url, is_here) in [
            ("http://localhost:1", true),
            ("http://127.9.0.1:1", true),
            ("https://[::1]", true),
            ("http://localhost.example:1", false),
            ("http://10.0.0.1:1", false),
        ] {
            let target = Target::new(url).unwrap();
            assert_eq!(target.is_here(), is_here, "{url}");
            assert!(target.uri().is_ok(), "{url}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_used_is_refused() {
        for url in ["localhost:53801", "ftp://localhost", "grpc://h", "grpc+http://h/p/team", "http://"] {
            let error = Target::new(url).unwrap_err().to_string();
            assert!(error.contains(url), "{error}");
        }
    }
}
