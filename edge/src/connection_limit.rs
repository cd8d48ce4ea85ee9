//! A limit on open connections. One address may have three quarters of them, so that it cannot keep all
//! others out; a proxy, whose clients all have its address, rarely needs more. `localhost` may have all: it is
//! the address of all clients of a server that is open to its own machine only, or has its proxy there.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Minimum time between two log lines about refused connections.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Bits of an IPv6 address that a client chooses itself.
const OWN_BITS: u32 = 64;

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

/// Reason why there is no room for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// As many connections are open as may be.
    Full,
    /// The address of the client has as many as one address may have.
    PeerFull,
}

/// Clones share their state.
#[derive(Clone)]
pub(crate) struct ConnectionLimit(Arc<Shared>);

struct Shared {
    room: Arc<Semaphore>,
    most_of_peer: usize,
    peers: Mutex<Peers>,
}

#[derive(Default)]
struct Peers {
    open: HashMap<PeerNetwork, usize>,
    reported: Option<Instant>,
}

impl ConnectionLimit {
    pub(crate) fn new(connections: usize) -> Self {
        ConnectionLimit(Arc::new(Shared {
            room: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
            most_of_peer: (connections - connections.div_ceil(4)).max(1),
            peers: Mutex::default(),
        }))
    }

    /// Returns a permit for one more connection. One without a peer counts for no address.
    pub(crate) fn admit(&self, peer: Option<PeerNetwork>) -> Result<ConnectionPermit, Refusal> {
        let admitted = self.try_admit(peer);
        if let Err(refusal) = &admitted {
            self.report(*refusal, peer);
        }
        admitted
    }

    fn try_admit(&self, peer: Option<PeerNetwork>) -> Result<ConnectionPermit, Refusal> {
        let room = self.0.room.clone().try_acquire_owned().map_err(|_| Refusal::Full)?;
        if let Some(peer) = peer {
            let mut peers = self.peers();
            let open = peers.open.entry(peer).or_default();
            if *open >= self.0.most_of_peer {
                return Err(Refusal::PeerFull);
            }
            *open += 1;
        }
        Ok(ConnectionPermit { _room: room, limit: self.clone(), peer })
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        // Every change is complete before anything can panic.
        self.0.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, refusal: Refusal, peer: Option<PeerNetwork>) {
        let now = Instant::now();
        let mut peers = self.peers();
        if peers.reported.is_some_and(|reported| now - reported < REPORT_INTERVAL) {
            return;
        }
        peers.reported = Some(now);
        drop(peers);
        let (address, most) = (peer.map(|peer| peer.0.to_string()), self.0.most_of_peer);
        match refusal {
            Refusal::Full => tracing::warn!(address, "refused connection; as many are open as allowed"),
            Refusal::PeerFull => {
                tracing::warn!(address, most, "refused connection; its address has as many as allowed");
            }
        }
    }
}

/// Counts a connection until it is dropped.
pub(crate) struct ConnectionPermit {
    _room: OwnedSemaphorePermit,
    limit: ConnectionLimit,
    peer: Option<PeerNetwork>,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let Some(peer) = self.peer else { return };
        if let Entry::Occupied(mut open) = self.limit.peers().open.entry(peer) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Option<PeerNetwork> {
        PeerNetwork::of(address.parse().unwrap())
    }

    #[test]
    fn localhost_is_not_limited() {
        let limit = ConnectionLimit::new(4);
        let permits = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "127.0.0.1"].map(|it| limit.admit(peer(it)));
        assert!(permits.iter().all(Result::is_ok));
        assert_eq!(limit.admit(peer("127.0.0.1")).err(), Some(Refusal::Full));
    }

    #[test]
    fn an_ipv6_client_is_counted_by_its_network() {
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:1:2:3"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:10.0.0.1"), peer("10.0.0.1"));
        assert_ne!(peer("10.0.0.2"), peer("10.0.0.1"));
    }

    #[test]
    fn an_address_has_at_most_three_quarters_of_the_connections() {
        let limit = ConnectionLimit::new(8);
        let refusal = |address: &str| limit.admit(peer(address)).map(drop);
        let mut permits: Vec<_> = (0..6).map(|_| limit.admit(peer("10.0.0.1")).ok().unwrap()).collect();
        assert_eq!(refusal("10.0.0.1"), Err(Refusal::PeerFull));
        permits.extend((0..2).map(|_| limit.admit(peer("10.0.0.2")).ok().unwrap()));
        assert_eq!(refusal("10.0.0.3"), Err(Refusal::Full));
        permits.swap_remove(0);
        assert_eq!(refusal("10.0.0.1"), Ok(()));
        assert_eq!(refusal("10.0.0.3"), Ok(()));
        drop(permits);
        assert_eq!(limit.peers().open, HashMap::new());
        assert_eq!(limit.0.room.available_permits(), 8);
    }

    #[test]
    fn a_single_connection_is_allowed_to_anyone() {
        let limit = ConnectionLimit::new(1);
        let _permit = limit.admit(peer("10.0.0.1")).ok().unwrap();
        assert_eq!(limit.admit(peer("10.0.0.1")).err(), Some(Refusal::Full));
    }
}
