//! A limit on something that is held for clients, such as connections, calls or memory. One client may have
//! three quarters of it, so that it cannot keep all others out. The caller decides what counts as a client: a
//! principal, or an address. Even a proxy, whose clients all have its address, rarely needs more than three
//! quarters.
//!
//! A caller may wait for room. Each release admits, under the same lock, the waiting callers that now fit, in the order
//! of their arrival. So no waiting caller fits, and a new caller overtakes only callers that need more, or whose client
//! has its share. No room is reserved for a caller that needs a lot: callers that need less may be admitted first.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

/// Minimum time between two log lines about refusals.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Reason why there is no room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// As many are open as may be.
    Full,
    /// The client has as many as one client may have.
    ClientFull,
}

/// Clones share their state. `C` identifies a client.
pub struct ShareLimit<C>(Arc<Shared<C>>);

impl<C> Clone for ShareLimit<C> {
    fn clone(&self) -> Self {
        ShareLimit(self.0.clone())
    }
}

struct Shared<C> {
    /// Name of the limited things, in the plural.
    what: &'static str,
    /// The number that one client may have, as in `Room`, but readable without the lock.
    most_of_client: usize,
    state: Mutex<State<C>>,
}

struct State<C> {
    room: Room<C>,
    /// Waiting callers by number, in the order of their arrival.
    waiting: BTreeMap<u64, WaitingCaller<C>>,
    next_number: u64,
    reported: Option<Instant>,
}

/// The room that is left, for all and for each client.
struct Room<C> {
    free: usize,
    most_of_client: usize,
    /// The number that each client has; clients that have none are absent.
    taken: HashMap<C, usize>,
}

struct WaitingCaller<C> {
    client: Option<C>,
    count: usize,
    /// Notified once the caller is admitted.
    admitted: Arc<Notify>,
}

impl<C: Clone + Eq + Hash + Display> ShareLimit<C> {
    pub fn new(what: &'static str, most: usize) -> Self {
        let most_of_client = (most - most.div_ceil(4)).max(1);
        let room = Room { free: most, most_of_client, taken: HashMap::new() };
        let state = State { room, waiting: BTreeMap::new(), next_number: 0, reported: None };
        ShareLimit(Arc::new(Shared { what, most_of_client, state: Mutex::new(state) }))
    }

    /// Returns a permit for one more, which counts for the client, if there is one.
    pub fn admit(&self, client: Option<C>) -> Result<SharePermit<C>, Refusal> {
        self.admit_many(client, 1)
    }

    /// Returns one permit for this many units.
    pub fn admit_many(&self, client: Option<C>, count: u32) -> Result<SharePermit<C>, Refusal> {
        let admitted = self.try_admit(client.as_ref(), count);
        if let Err(refusal) = &admitted {
            self.0.report(*refusal, client.as_ref());
        }
        admitted
    }

    /// Like `admit_many`, but waits for up to this time until there is room.
    pub async fn admit_many_within(
        &self,
        time: Duration,
        client: Option<C>,
        count: u32,
    ) -> Result<SharePermit<C>, Refusal> {
        let mut place = match self.admit_or_queue(client.as_ref(), count) {
            Ok(permit) => return Ok(permit),
            Err(place) => place,
        };
        tokio::select! {
            () = place.admitted.notified() => {}
            () = sleep(time) => {}
        }
        // A caller may be admitted just as its time ends.
        match place.leave() {
            Some(permit) => Ok(permit),
            None => self.admit_many(client, count),
        }
    }

    /// The number that one client may have.
    pub fn most_of_client(&self) -> usize {
        self.0.most_of_client
    }

    /// Like `admit_many`, but reports no refusal.
    pub fn try_admit(&self, client: Option<&C>, count: u32) -> Result<SharePermit<C>, Refusal> {
        let count = count as usize;
        self.0.state.lock().room.take(client, count)?;
        Ok(SharePermit { shared: self.0.clone(), client: client.cloned(), count })
    }

    /// Whether a client would have more than its share with this many more.
    pub fn is_beyond_share(&self, client: &C, count: u32) -> bool {
        self.0.state.lock().room.with(client, count as usize) > self.0.most_of_client
    }

    /// Returns a permit, or a place in the queue.
    fn admit_or_queue(&self, client: Option<&C>, count: u32) -> Result<SharePermit<C>, QueuePlace<C>> {
        let count = count as usize;
        let mut state = self.0.state.lock();
        let is_admitted = state.room.take(client, count).is_ok();
        let shared = self.0.clone();
        let client = client.cloned();
        if is_admitted {
            return Ok(SharePermit { shared, client, count });
        }
        let number = state.next_number;
        state.next_number += 1;
        let admitted = Arc::new(Notify::new());
        let caller = WaitingCaller { client: client.clone(), count, admitted: admitted.clone() };
        state.waiting.insert(number, caller);
        Err(QueuePlace { number: Some(number), admitted, shared, client, count })
    }
}

impl<C: Clone + Eq + Hash + Display> SharePermit<C> {
    /// Counts for another client from now on, if it may have one more.
    pub fn transfer(mut self, client: C) -> Result<Self, Refusal> {
        let mut state = self.shared.state.lock();
        let counted = state.room.count(&client, self.count);
        if counted.is_ok()
            && let Some(before) = self.client.replace(client.clone())
        {
            state.room.uncount(&before, self.count);
            state.admit_waiting();
        }
        // Both reporting a refusal and dropping the permit lock it again.
        drop(state);
        if let Err(refusal) = counted {
            self.shared.report(refusal, Some(&client));
            return Err(refusal);
        }
        Ok(self)
    }
}

impl<C: Display> Shared<C> {
    fn report(&self, refusal: Refusal, client: Option<&C>) {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.reported.is_some_and(|reported| now - reported < REPORT_INTERVAL) {
            return;
        }
        state.reported = Some(now);
        drop(state);
        let Self { what, most_of_client, .. } = *self;
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

impl<C: Clone + Eq + Hash> State<C> {
    /// Admits the waiting callers that now fit.
    fn admit_waiting(&mut self) {
        let State { room, waiting, .. } = self;
        let admitted =
            waiting.extract_if(.., |_, caller| room.take(caller.client.as_ref(), caller.count).is_ok());
        for (_, caller) in admitted {
            caller.admitted.notify_one();
        }
    }
}

impl<C: Clone + Eq + Hash> Room<C> {
    /// Takes this much, and counts it for the client.
    fn take(&mut self, client: Option<&C>, count: usize) -> Result<(), Refusal> {
        let free = self.free.checked_sub(count).ok_or(Refusal::Full)?;
        if let Some(client) = client {
            self.count(client, count)?;
        }
        self.free = free;
        Ok(())
    }

    fn give_back(&mut self, client: Option<&C>, count: usize) {
        self.free += count;
        if let Some(client) = client {
            self.uncount(client, count);
        }
    }

    /// The number that a client would have with this many more.
    fn with(&self, client: &C, count: usize) -> usize {
        self.taken.get(client).copied().unwrap_or_default().saturating_add(count)
    }

    /// Counts this many more for a client, unless it would have more than it may.
    fn count(&mut self, client: &C, count: usize) -> Result<(), Refusal> {
        let taken = self.with(client, count);
        if taken > self.most_of_client {
            return Err(Refusal::ClientFull);
        }
        self.taken.insert(client.clone(), taken);
        Ok(())
    }

    /// Counts this many less for a client.
    fn uncount(&mut self, client: &C, count: usize) {
        if let Some(taken) = self.taken.get_mut(client) {
            *taken -= count;
            if *taken == 0 {
                self.taken.remove(client);
            }
        }
    }
}

/// The place of a caller that waits for room, until it is dropped.
struct QueuePlace<C: Clone + Eq + Hash> {
    /// `None` once the caller has left the queue.
    number: Option<u64>,
    admitted: Arc<Notify>,
    shared: Arc<Shared<C>>,
    client: Option<C>,
    count: usize,
}

impl<C: Clone + Eq + Hash> QueuePlace<C> {
    /// Leaves the queue. Returns the permit of a caller that was admitted.
    fn leave(&mut self) -> Option<SharePermit<C>> {
        let number = self.number.take()?;
        let is_admitted = self.shared.state.lock().waiting.remove(&number).is_none();
        is_admitted.then(|| SharePermit {
            shared: self.shared.clone(),
            client: self.client.take(),
            count: self.count,
        })
    }
}

impl<C: Clone + Eq + Hash> Drop for QueuePlace<C> {
    fn drop(&mut self) {
        // The room of a caller that was admitted and leaves goes to the next one.
        drop(self.leave());
    }
}

/// Counts for its client until it is dropped.
pub struct SharePermit<C: Clone + Eq + Hash> {
    shared: Arc<Shared<C>>,
    client: Option<C>,
    count: usize,
}

impl<C: Clone + Eq + Hash> SharePermit<C> {
    /// Divides the permit. Returns a permit for this much, or for all that there is.
    #[must_use]
    pub fn split(&mut self, count: usize) -> Self {
        let count = count.min(self.count);
        self.count -= count;
        Self { shared: self.shared.clone(), client: self.client.clone(), count }
    }
}

impl<C: Clone + Eq + Hash> Drop for SharePermit<C> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.room.give_back(self.client.as_ref(), self.count);
        state.admit_waiting();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures::poll;

    use super::*;

    /// Maximum wait in most of these tests.
    const TIME: Duration = Duration::from_secs(10);

    fn free(limit: &ShareLimit<char>) -> usize {
        limit.0.state.lock().room.free
    }

    fn taken(limit: &ShareLimit<char>) -> HashMap<char, usize> {
        limit.0.state.lock().room.taken.clone()
    }

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
        assert_eq!(taken(&limit), HashMap::new());
        assert_eq!(free(&limit), 8);
    }

    #[test]
    fn a_permit_for_many_counts_as_many() {
        let limit = ShareLimit::new("bytes", 8);
        assert_eq!(limit.admit_many(Some('a'), 7).err(), Some(Refusal::ClientFull));
        assert_eq!(taken(&limit), HashMap::new(), "a refused client is not remembered");
        let large = limit.admit_many(Some('a'), 5).ok().unwrap();
        assert_eq!(limit.admit_many(Some('a'), 2).err(), Some(Refusal::ClientFull));
        let small = limit.admit_many(Some('a'), 1).ok().unwrap();
        assert_eq!(limit.admit_many(Some('b'), 3).err(), Some(Refusal::Full));
        let other = limit.admit_many(Some('b'), 2).ok().unwrap();
        drop(large);
        assert_eq!(taken(&limit), HashMap::from([('a', 1), ('b', 2)]));
        drop((small, other));
        assert_eq!(taken(&limit), HashMap::new());
        assert_eq!(free(&limit), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_caller_gets_the_room_of_others() {
        let limit = ShareLimit::new("bytes", 8);
        let held = limit.admit_many(Some('a'), 6).ok().unwrap();
        let started = Instant::now();
        assert_eq!(limit.admit_many_within(TIME, Some('a'), 1).await.err(), Some(Refusal::ClientFull));
        assert_eq!(limit.admit_many_within(TIME, Some('b'), 3).await.err(), Some(Refusal::Full));
        assert!(started.elapsed() >= 2 * TIME, "{:?}", started.elapsed());
        let release = async {
            sleep(TIME / 2).await;
            drop(held);
        };
        let (own, other, ()) = tokio::join!(
            limit.admit_many_within(TIME, Some('a'), 6),
            limit.admit_many_within(TIME, Some('b'), 2),
            release,
        );
        drop((own.ok().unwrap(), other.ok().unwrap()));
        assert_eq!(free(&limit), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_caller_is_admitted_at_the_time_of_a_release() {
        let limit = ShareLimit::new("bytes", 8);
        let held = limit.admit_many(Some('a'), 5).unwrap();
        // No multiple of an interval at which a caller might look again.
        let release = async {
            sleep(Duration::from_millis(1_234)).await;
            drop(held);
            Instant::now()
        };
        let wait = async |client: char, count: u32| {
            let permit = limit.admit_many_within(TIME, Some(client), count).await.unwrap();
            (permit, Instant::now())
        };
        // The first caller waits for its share, and the second for room.
        let (released, (own, own_admitted), (other, other_admitted)) =
            tokio::join!(release, wait('a', 3), wait('b', 4));
        assert_eq!([own_admitted, other_admitted], [released; 2]);
        assert_eq!(taken(&limit), HashMap::from([('a', 3), ('b', 4)]));
        drop((own, other));
        assert_eq!(free(&limit), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_stops_waiting_keeps_no_room() {
        let limit = ShareLimit::new("bytes", 8);
        for was_admitted in [false, true] {
            let held = limit.admit_many(None, 8).unwrap();
            let mut leaving = Box::pin(limit.admit_many_within(TIME, Some('a'), 6));
            let mut next = Box::pin(limit.admit_many_within(TIME, Some('b'), 6));
            assert!(poll!(&mut leaving).is_pending());
            assert!(poll!(&mut next).is_pending());
            if was_admitted {
                drop(held);
                drop(leaving);
            } else {
                drop(leaving);
                drop(held);
            }
            let Poll::Ready(Ok(permit)) = poll!(&mut next) else { panic!("there is room: {was_admitted}") };
            drop(permit);
            assert_eq!((free(&limit), taken(&limit)), (8, HashMap::new()));
            assert!(limit.0.state.lock().waiting.is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_callers_are_admitted_in_the_order_of_their_arrival() {
        let limit = ShareLimit::new("bytes", 8);
        let held = limit.admit_many(None, 7).unwrap();
        let mut waiting = ['a', 'b', 'c'].map(|it| Box::pin(limit.admit_many_within(TIME, Some(it), 4)));
        for caller in &mut waiting {
            assert!(poll!(caller).is_pending());
        }
        // This caller needs less than the waiting callers.
        let small = limit.admit(Some('d')).unwrap();
        drop(held);
        let [first, second, third] = &mut waiting;
        assert!(poll!(third).is_pending());
        assert!(poll!(second).is_pending());
        let Poll::Ready(Ok(permit)) = poll!(first) else { panic!("the first is admitted") };
        assert_eq!(taken(&limit), HashMap::from([('a', 4), ('d', 1)]));
        drop(small);
        let [_, second, third] = &mut waiting;
        assert!(poll!(third).is_pending());
        assert!(matches!(poll!(second), Poll::Ready(Ok(_))));
        drop(permit);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_callers_that_wait_on_several_threads_are_all_admitted() {
        let limit = ShareLimit::new("bytes", 8);
        let callers = ['a', 'b', 'c', 'd', 'e', 'f'].map(|client| {
            let limit = limit.clone();
            tokio::spawn(async move {
                for round in 0..500 {
                    let permit = limit.admit_many_within(6 * TIME, Some(client), 1 + round % 6).await;
                    tokio::task::yield_now().await;
                    drop(permit.unwrap());
                }
            })
        });
        for caller in callers {
            caller.await.unwrap();
        }
        assert_eq!((free(&limit), taken(&limit)), (8, HashMap::new()));
    }

    #[test]
    fn a_permit_counts_for_one_client_at_a_time() {
        let limit = ShareLimit::new("connections", 4);
        let own: Vec<_> = (0..3).map(|_| limit.admit(Some('b')).ok().unwrap()).collect();
        let permit = limit.admit(Some('a')).ok().unwrap();
        assert_eq!(permit.transfer('b').err(), Some(Refusal::ClientFull));
        assert_eq!(taken(&limit), HashMap::from([('b', 3)]), "a refused permit is gone");
        drop(own);
        let permit = limit.admit(Some('a')).ok().unwrap().transfer('b').ok().unwrap();
        assert_eq!(taken(&limit), HashMap::from([('b', 1)]));
        assert_eq!(free(&limit), 3);
        let unknown = limit.admit(None).ok().unwrap().transfer('b').ok().unwrap();
        assert_eq!(taken(&limit), HashMap::from([('b', 2)]));
        drop((permit, unknown));
        assert_eq!(taken(&limit), HashMap::new());
    }

    #[test]
    fn a_single_permit_is_for_any_client() {
        let limit = ShareLimit::new("connections", 1);
        let _permit = limit.admit(Some('a')).ok().unwrap();
        assert_eq!(limit.admit(Some('a')).err(), Some(Refusal::Full));
    }

    #[test]
    fn a_call_without_a_client_may_use_all_permits() {
        let limit = ShareLimit::<char>::new("connections", 4);
        let permits = [(); 4].map(|()| limit.admit(None));
        assert!(permits.iter().all(Result::is_ok));
        assert_eq!(limit.admit(None).err(), Some(Refusal::Full));
    }
}
