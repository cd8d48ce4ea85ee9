//! Hosts that are this machine on every machine that reads their names. Clients and servers treat them alike:
//! a token may be sent to them without TLS, and an address with such a host is of no use to others.

use core::net::IpAddr;

/// Whether the host of a URL, with or without brackets, is this machine.
///
/// ```
/// use matyan_wire::loopback::is_loopback_host;
///
/// for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "::1", "[::1]"] {
///     assert!(is_loopback_host(host), "{host}");
/// }
/// for host in ["", "localhost.example", "10.0.0.7", "[2001:db8::1]", "127.0.0.1.example"] {
///     assert!(!is_loopback_host(host), "{host}");
/// }
/// ```
pub fn is_loopback_host(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}
