//! What the URL of a server says.

use std::net::IpAddr;

use object_store_http::Url;

/// Prefix of a gateway URL whose batches are sent by gRPC instead of a WebSocket.
pub(crate) const GRPC_PREFIX: &str = "grpc+";

/// Whether a server is on this machine.
pub(crate) fn is_loopback(url: &str) -> bool {
    let url = Url::parse(url).ok();
    let host = url.as_ref().and_then(Url::host_str);
    host.is_some_and(|host| is_loopback_host(host.trim_matches(['[', ']'])))
}

/// Whether a name or an address, without brackets, is one of this machine.
pub(crate) fn is_loopback_host(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
