//! Properties of the URL of a server.

pub(crate) use matyan_kept_tokens::GRPC_PREFIX;
use matyan_wire::loopback::is_loopback_host;
use object_store_http::Url;

/// Whether a server is on this machine.
pub(crate) fn is_loopback(url: &str) -> bool {
    let url = Url::parse(url).ok();
    let host = url.as_ref().and_then(Url::host_str);
    host.is_some_and(is_loopback_host)
}
