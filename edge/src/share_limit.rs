//! A limit on something that a port holds for its clients, such as connections, calls or memory. One client may have
//! three quarters of it, so that it cannot keep all others out. Who a client is, is up to the caller: an address, so
//! that a proxy, whose clients all have its address, rarely needs more; or a principal.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Display;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

/// Minimum time between two log lines about refusals.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Time between two looks for room, while one waits for it.
const ROOM_CHECK: Duration = Duration::from_millis(100);

/// Reason why there is no room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// As many are open as may be.
    Full,
    /// The client has as many as one client may have.
    ClientFull,
}

/// Clones share their state. `C` identifies a client.
pub(crate) struct ShareLimit<C>(Arc<Shared<C>>);

impl<C> Clone for ShareLimit<C> {
    fn clone(&self) -> Self {
        ShareLimit(self.0.clone())
    }
}

struct Shared<C> {
    /// What is limited, in the plural.
    what: &'static str,
    room: Arc<Semaphore>,
    most_of_client: usize,
    clients: Mutex<Clients<C>>,
}

struct Clients<C> {
    open: HashMap<C, usize>,
    reported: Option<Instant>,
}

impl<C: Clone + Eq + Hash + Display> ShareLimit<C> {
    pub(crate) fn new(what: &'static str, most: usize) -> Self {
        ShareLimit(Arc::new(Shared {
            what,
            room: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            most_of_client: (most - most.div_ceil(4)).max(1),
            clients: Mutex::new(Clients { open: HashMap::new(), reported: None }),
        }))
    }

    /// Returns a permit for one more, which counts for the client, if there is one.
    pub(crate) fn admit(&self, client: Option<C>) -> Result<SharePermit<C>, Refusal> {
        self.admit_many(client, 1)
    }

    /// Returns one permit for this many more.
    pub(crate) fn admit_many(&self, client: Option<C>, count: u32) -> Result<SharePermit<C>, Refusal> {
        let admitted = self.try_admit(client.as_ref(), count);
        if let Err(refusal) = &admitted {
            self.0.report(*refusal, client.as_ref());
        }
        admitted
    }

    /// Like `admit_many`, but waits for up to this time until there is room.
    pub(crate) async fn admit_many_within(
        &self,
        time: Duration,
        client: Option<C>,
        count: u32,
    ) -> Result<SharePermit<C>, Refusal> {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            if let Ok(permit) = self.try_admit(client.as_ref(), count) {
                return Ok(permit);
            }
            sleep(ROOM_CHECK).await;
        }
        self.admit_many(client, count)
    }

    /// The number that one client may have.
    pub(crate) fn most_of_client(&self) -> usize {
        self.0.most_of_client
    }

    /// Like `admit_many`, but reports no refusal.
    pub(crate) fn try_admit(&self, client: Option<&C>, count: u32) -> Result<SharePermit<C>, Refusal> {
        let room = self.0.room.clone().try_acquire_many_owned(count).map_err(|_| Refusal::Full)?;
        if let Some(client) = client {
            self.0.count(client, room.num_permits())?;
        }
        Ok(SharePermit { room, shared: self.0.clone(), client: client.cloned() })
    }
}

impl<C: Clone + Eq + Hash + Display> SharePermit<C> {
    /// Counts for another client from now on, if it may have one more.
    pub(crate) fn transfer(mut self, client: C) -> Result<Self, Refusal> {
        let count = self.room.num_permits();
        let mut clients = self.shared.clients.lock();
        let is_counted = clients.count(&client, count, self.shared.most_of_client);
        if is_counted && let Some(before) = self.client.replace(client.clone()) {
            clients.release(before, count);
        }
        // Both reporting a refusal and dropping the permit lock them again.
        drop(clients);
        if is_counted {
            return Ok(self);
        }
        self.shared.report(Refusal::ClientFull, Some(&client));
        Err(Refusal::ClientFull)
    }
}

impl<C: Clone + Eq + Hash + Display> Shared<C> {
    /// Counts this many more for a client.
    fn count(&self, client: &C, count: usize) -> Result<(), Refusal> {
        let is_counted = self.clients.lock().count(client, count, self.most_of_client);
        if is_counted { Ok(()) } else { Err(Refusal::ClientFull) }
    }

    fn report(&self, refusal: Refusal, client: Option<&C>) {
        let now = Instant::now();
        let mut clients = self.clients.lock();
        if clients.reported.is_some_and(|reported| now - reported < REPORT_INTERVAL) {
            return;
        }
        clients.reported = Some(now);
        drop(clients);
        let Shared { what, most_of_client, .. } = *self;
        let client = client.map(ToString::to_string);
        match refusal {
            Refusal::Full => tracing::warn!(what, client, "refused one more; as many are open as allowed"),
            Refusal::ClientFull => {
                tracing::warn!(
                    what,
                    client,
                    most_of_client,
                    "refused one more; its client has as many as allowed"
                );
            }
        }
    }
}

impl<C: Clone + Eq + Hash> Clients<C> {
    /// Counts this many more for a client. False if it would have more than it may.
    fn count(&mut self, client: &C, count: usize, most: usize) -> bool {
        let open = self.open.get(client).copied().unwrap_or_default().saturating_add(count);
        let is_allowed = open <= most;
        if is_allowed {
            self.open.insert(client.clone(), open);
        }
        is_allowed
    }
}

impl<C: Eq + Hash> Clients<C> {
    /// Counts this many less for a client.
    fn release(&mut self, client: C, count: usize) {
        if let Entry::Occupied(mut open) = self.open.entry(client) {
            *open.get_mut() -= count;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}

/// Counts for its client until it is dropped.
pub(crate) struct SharePermit<C: Eq + Hash> {
    room: OwnedSemaphorePermit,
    shared: Arc<Shared<C>>,
    client: Option<C>,
}

impl<C: Eq + Hash> Drop for SharePermit<C> {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            self.shared.clients.lock().release(client, self.room.num_permits());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_at_most_three_quarters() {
        let limit = ShareLimit::new("connections", 8);
        let refusal = |client: char| limit.admit(Some(client)).map(drop);
        let mut permits: Vec<_> = (0..6).map(|_| limit.admit(Some('a')).ok().unwrap()).collect();
        assert_eq!(refusal('a'), Err(Refusal::ClientFull));
        permits.extend((0..2).map(|_| limit.admit(Some('b')).ok().unwrap()));
        assert_eq!(refusal('c'), Err(Refusal::Full));
        permits.swap_remove(0);
        assert_eq!(refusal('a'), Ok(()));
        assert_eq!(refusal('c'), Ok(()));
        drop(permits);
        assert_eq!(limit.0.clients.lock().open, HashMap::new());
        assert_eq!(limit.0.room.available_permits(), 8);
    }

    #[test]
    fn a_permit_for_many_counts_as_many() {
        let limit = ShareLimit::new("bytes", 8);
        assert_eq!(limit.admit_many(Some('a'), 7).err(), Some(Refusal::ClientFull));
        assert_eq!(limit.0.clients.lock().open, HashMap::new(), "a refused client is not remembered");
        let large = limit.admit_many(Some('a'), 5).ok().unwrap();
        assert_eq!(limit.admit_many(Some('a'), 2).err(), Some(Refusal::ClientFull));
        let small = limit.admit_many(Some('a'), 1).ok().unwrap();
        assert_eq!(limit.admit_many(Some('b'), 3).err(), Some(Refusal::Full));
        let other = limit.admit_many(Some('b'), 2).ok().unwrap();
        drop(large);
        assert_eq!(limit.0.clients.lock().open, HashMap::from([('a', 1), ('b', 2)]));
        drop((small, other));
        assert_eq!(limit.0.clients.lock().open, HashMap::new());
        assert_eq!(limit.0.room.available_permits(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_waits_gets_the_room_of_others() {
        let limit = ShareLimit::new("bytes", 8);
        let held = limit.admit_many(Some('a'), 6).ok().unwrap();
        let time = Duration::from_secs(10);
        let started = Instant::now();
        assert_eq!(limit.admit_many_within(time, Some('a'), 1).await.err(), Some(Refusal::ClientFull));
        assert_eq!(limit.admit_many_within(time, Some('b'), 3).await.err(), Some(Refusal::Full));
        assert!(started.elapsed() >= 2 * time, "{:?}", started.elapsed());
        let release = async {
            sleep(time / 2).await;
            drop(held);
        };
        let (own, other, ()) = tokio::join!(
            limit.admit_many_within(time, Some('a'), 6),
            limit.admit_many_within(time, Some('b'), 2),
            release,
        );
        drop((own.ok().unwrap(), other.ok().unwrap()));
        assert_eq!(limit.0.room.available_permits(), 8);
    }

    #[test]
    fn a_permit_counts_for_one_client_at_a_time() {
        let limit = ShareLimit::new("connections", 4);
        let own: Vec<_> = (0..3).map(|_| limit.admit(Some('b')).ok().unwrap()).collect();
        let permit = limit.admit(Some('a')).ok().unwrap();
        assert_eq!(permit.transfer('b').err(), Some(Refusal::ClientFull));
        assert_eq!(limit.0.clients.lock().open, HashMap::from([('b', 3)]), "a refused permit is gone");
        drop(own);
        let permit = limit.admit(Some('a')).ok().unwrap().transfer('b').ok().unwrap();
        assert_eq!(limit.0.clients.lock().open, HashMap::from([('b', 1)]));
        assert_eq!(limit.0.room.available_permits(), 3);
        let unknown = limit.admit(None).ok().unwrap().transfer('b').ok().unwrap();
        assert_eq!(limit.0.clients.lock().open, HashMap::from([('b', 2)]));
        drop((permit, unknown));
        assert_eq!(limit.0.clients.lock().open, HashMap::new());
    }

    #[test]
    fn a_single_one_is_allowed_to_anyone() {
        let limit = ShareLimit::new("connections", 1);
        let _permit = limit.admit(Some('a')).ok().unwrap();
        assert_eq!(limit.admit(Some('a')).err(), Some(Refusal::Full));
    }

    #[test]
    fn without_a_client_all_is_allowed() {
        let limit = ShareLimit::<char>::new("connections", 4);
        let permits = [(); 4].map(|()| limit.admit(None));
        assert!(permits.iter().all(Result::is_ok));
        assert_eq!(limit.admit(None).err(), Some(Refusal::Full));
    }
}
