//! The identity of a client that has shown no credential: the part of its address that it cannot choose.
//! `localhost` identifies no client, so no share limits it: it is the address of all clients of a server that
//! is open to its own machine only, or has its proxy there.

use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bits of an IPv6 address that a client chooses itself. The backend counts programs that wait for a token by larger
/// networks: these programs have few places, which they keep for minutes, while calls are many and soon end.
const OWN_BITS: u32 = 64;

/// The address of a client, or of the proxy in front of the server. An extension of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerAddress(pub(crate) IpAddr);

/// The address of a client as far as it is counted: an IPv4 address, or a network of IPv6. Also an
/// extension of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PeerNetwork(IpAddr);

impl PeerNetwork {
    /// `None` for `localhost`, which is not limited.
    pub(crate) fn of(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            IpAddr::V4(Ipv4Addr::LOCALHOST) | IpAddr::V6(Ipv6Addr::LOCALHOST) => None,
            IpAddr::V4(address) => Some(PeerNetwork(address.into())),
            IpAddr::V6(address) => {
                Some(PeerNetwork(Ipv6Addr::from_bits(address.to_bits() >> OWN_BITS << OWN_BITS).into()))
            }
        }
    }
}

impl Display for PeerNetwork {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Option<PeerNetwork> {
        PeerNetwork::of(address.parse().unwrap())
    }

    #[test]
    fn localhost_identifies_no_client() {
        assert_eq!(["127.0.0.1", "::1", "::ffff:127.0.0.1"].map(peer), [None; 3]);
    }

    #[test]
    fn an_ipv6_client_is_counted_by_its_network() {
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:1:2:3"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:10.0.0.1"), peer("10.0.0.1"));
        assert_ne!(peer("10.0.0.2"), peer("10.0.0.1"));
    }
}
