//! What the URL of a server says.

use matyan_wire::loopback::is_loopback_host;
use object_store_http::Url;

/// Prefix of a gateway URL whose batches are sent by gRPC instead of a WebSocket.
pub(crate) const GRPC_PREFIX: &str = "grpc+";

/// Whether a server is on this machine.
pub(crate) fn is_loopback(url: &str) -> bool {
    let url = Url::parse(url).ok();
    let host = url.as_ref().and_then(Url::host_str);
    host.is_some_and(is_loopback_host)
}
