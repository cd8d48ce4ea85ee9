//! Memory budget for the frames of all sockets of a port, while they are read or wait for the
//! log: memory is bounded in total, and not only per socket.
//!
//! The size of a frame is unknown before it is read. So a large frame takes its memory in steps, as its
//! bytes arrive: a frame that stalls holds little more than it has sent, and does not keep others waiting. With
//! steps alone, many frames could be half read, with no memory left to finish any of them. So a part of the
//! budget is reserved for the ends of frames: a frame without room for its next step waits for that room, or for
//! as much as the largest frame may still need. With room for its end, it is read to the end.
//!
//! The sockets of one client have at most three quarters of both parts, so that other clients do
//! not wait for them. A frame always takes the same room, a step or an end, from its client and from the
//! port: otherwise a frame with room for its end in only one of them could wait for a frame that has such
//! room only in the other.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use matyan_proto::limits::BATCH_BYTES;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::call_limit::Client;
use crate::slow_sender::Demand;

/// Memory that a frame takes at a time.
const STEP_BYTES: usize = 256 << 10;

/// A quarter of a budget is for the ends of frames, and a client leaves a quarter to others.
const PARTS: usize = 4;

/// Memory of a frame; `None` for a small frame that had none when it arrived.
pub(super) type BudgetShare = Option<FrameMemory>;

/// The budget of a port.
pub(super) struct MemoryBudget {
    steps: usize,
    ends: usize,
    port: Arc<FramePool>,
    clients: Mutex<HashMap<Client, Weak<FramePool>>>,
}

/// The budget of a socket: the budget of its port, and its client's part of that budget.
#[derive(Clone)]
pub(super) struct SocketBudget {
    client: Option<Arc<FramePool>>,
    port: Arc<FramePool>,
}

#[derive(Debug)]
struct FramePool {
    steps: Arc<Semaphore>,
    /// Room for a few of the largest frames.
    ends: Arc<Semaphore>,
    demand: Demand,
}

impl MemoryBudget {
    /// At least one frame of maximum size always fits.
    pub(super) fn new(bytes: usize) -> Self {
        let bytes = bytes.clamp(BATCH_BYTES, Semaphore::MAX_PERMITS);
        let ends = (bytes / BATCH_BYTES / PARTS).max(1);
        let steps = bytes - ends * BATCH_BYTES;
        let port = FramePool::new(steps, ends);
        MemoryBudget { steps, ends, port, clients: Mutex::default() }
    }

    /// The budget of a new socket. Unknown clients have no part of their own.
    pub(super) fn of_client(&self, client: Option<Client>) -> SocketBudget {
        SocketBudget { client: client.map(|client| self.client_pool(client)), port: self.port.clone() }
    }

    fn client_pool(&self, client: Client) -> Arc<FramePool> {
        let mut clients = self.clients.lock();
        if let Some(pool) = clients.get(&client).and_then(Weak::upgrade) {
            return pool;
        }
        clients.retain(|_, pool| pool.strong_count() > 0);
        let ends = (self.ends - self.ends.div_ceil(PARTS)).max(1);
        let pool = FramePool::new(self.steps - self.steps.div_ceil(PARTS), ends);
        clients.insert(client, Arc::downgrade(&pool));
        pool
    }
}

impl FramePool {
    fn new(steps: usize, ends: usize) -> Arc<Self> {
        Arc::new(FramePool {
            steps: Arc::new(Semaphore::new(steps)),
            ends: Arc::new(Semaphore::new(ends * BATCH_BYTES)),
            demand: Demand::default(),
        })
    }
}

impl SocketBudget {
    /// Takes memory for a small frame that was read; `None` if too little remains.
    pub(super) fn share(&self, bytes: usize) -> BudgetShare {
        let mut memory = self.frame();
        let is_taken = memory.pools_mut().all(|pool| pool.try_take(bytes));
        is_taken.then_some(memory)
    }

    /// The memory of a new frame, which holds none yet.
    pub(super) fn frame(&self) -> FrameMemory {
        FrameMemory {
            client: self.client.clone().map(PoolMemory::new),
            port: PoolMemory::new(self.port.clone()),
        }
    }
}

/// The memory that a frame has taken. It is given back when it is dropped.
#[derive(Debug)]
pub(super) struct FrameMemory {
    client: Option<PoolMemory>,
    port: PoolMemory,
}

impl FrameMemory {
    fn pools(&self) -> impl Iterator<Item = &PoolMemory> {
        self.client.iter().chain([&self.port])
    }

    fn pools_mut(&mut self) -> impl Iterator<Item = &mut PoolMemory> {
        self.client.iter_mut().chain([&mut self.port])
    }

    /// Number of bytes, the same in each pool.
    fn bytes(&self) -> usize {
        self.port.bytes()
    }

    /// Whether the frame has memory for this many bytes.
    pub(super) fn covers(&self, bytes: usize) -> bool {
        self.bytes() >= bytes
    }

    /// Waits for memory for this many bytes, or for as much as the largest frame may still need. The memory
    /// of the client comes first: a frame that waits for other frames of its client takes nothing that other
    /// clients need.
    pub(super) async fn grow(mut self, bytes: usize) -> Self {
        let held = self.bytes();
        if held >= bytes {
            return self;
        }
        let rest = BATCH_BYTES.saturating_sub(held);
        let step = (bytes - held).max(STEP_BYTES.min(rest));
        let pools: Vec<_> = self.pools().map(|memory| memory.pool.clone()).collect();
        tokio::select! {
            biased;
            steps = take_step(&pools, step) => {
                for (memory, step) in self.pools_mut().zip(steps) {
                    memory.add_step(step);
                }
            }
            ends = take_end(&pools, rest) => {
                for (memory, end) in self.pools_mut().zip(ends) {
                    memory.end = Some(end);
                }
            }
        }
        self
    }

    /// Gives back what exceeds this many bytes.
    pub(super) fn shrink(&mut self, bytes: usize) {
        for pool in self.pools_mut() {
            pool.shrink(bytes);
        }
    }

    /// Whether others wait for the memory, which this frame then has to give back.
    pub(super) fn must_be_released(&self) -> bool {
        let mut is_needed = false;
        for memory in self.pools() {
            is_needed |= memory.pool.demand.release(memory.released_bytes());
        }
        is_needed
    }
}

#[derive(Debug)]
struct PoolMemory {
    pool: Arc<FramePool>,
    steps: Option<OwnedSemaphorePermit>,
    /// Room for all that the largest frame may still need.
    end: Option<OwnedSemaphorePermit>,
}

impl PoolMemory {
    fn new(pool: Arc<FramePool>) -> Self {
        PoolMemory { pool, steps: None, end: None }
    }

    fn bytes(&self) -> usize {
        [&self.steps, &self.end].into_iter().flatten().map(OwnedSemaphorePermit::num_permits).sum()
    }

    /// Bytes of steps that others can take after a release. Room for an end serves one frame, however large
    /// the room is.
    fn released_bytes(&self) -> usize {
        self.steps.as_ref().map_or(0, OwnedSemaphorePermit::num_permits).max(STEP_BYTES)
    }

    fn try_take(&mut self, bytes: usize) -> bool {
        let permits = permits(bytes);
        self.steps = self.pool.steps.clone().try_acquire_many_owned(permits).ok();
        if self.steps.is_none() {
            self.end = self.pool.ends.clone().try_acquire_many_owned(permits).ok();
        }
        self.steps.is_some() || self.end.is_some()
    }

    fn add_step(&mut self, step: OwnedSemaphorePermit) {
        match &mut self.steps {
            Some(steps) => steps.merge(step),
            None => self.steps = Some(step),
        }
    }

    fn shrink(&mut self, bytes: usize) {
        let steps = shrink(&mut self.steps, bytes);
        shrink(&mut self.end, bytes - steps);
    }
}

/// Takes a step of a frame in each pool. It alone counts as the demand of the frame, which waits for the room for its
/// end at the same time.
async fn take_step(pools: &[Arc<FramePool>], bytes: usize) -> Vec<OwnedSemaphorePermit> {
    let mut taken = Vec::new();
    for pool in pools {
        let _waiting = pool.demand.wait(bytes);
        taken.push(take(&pool.steps, bytes).await);
    }
    taken
}

/// Takes room for the end of a frame in each pool.
async fn take_end(pools: &[Arc<FramePool>], bytes: usize) -> Vec<OwnedSemaphorePermit> {
    let mut taken = Vec::new();
    for pool in pools {
        taken.push(take(&pool.ends, bytes).await);
    }
    taken
}

async fn take(memory: &Arc<Semaphore>, bytes: usize) -> OwnedSemaphorePermit {
    let taken = memory.clone().acquire_many_owned(permits(bytes)).await;
    taken.expect("the semaphore is never closed")
}

/// Returns how much is left.
fn shrink(memory: &mut Option<OwnedSemaphorePermit>, most: usize) -> usize {
    let Some(mut all) = memory.take() else { return 0 };
    let kept = all.num_permits().min(most);
    // The rest is given back when it is dropped.
    *memory = all.split(kept).filter(|kept| kept.num_permits() > 0);
    kept
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
impl SocketBudget {
    /// Number of bytes that are left in the port.
    pub(super) fn left(&self) -> usize {
        self.port.steps.available_permits() + self.port.ends.available_permits()
    }

    /// Counts a frame that waits for this many bytes.
    pub(super) fn wait(&self, bytes: usize) -> crate::slow_sender::WaitingBytes {
        self.port.demand.wait(bytes)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::task::unconstrained;

    use super::*;
    use crate::peer_network::PeerNetwork;

    fn network(address: &str) -> Option<Client> {
        PeerNetwork::of(address.parse().unwrap()).map(Client::Network)
    }

    fn principal(name: &str) -> Option<Client> {
        Some(Client::Principal(name.into()))
    }

    async fn read(budget: &SocketBudget, bytes: usize) -> FrameMemory {
        let mut memory = budget.frame();
        while !memory.covers(bytes) {
            let next = (memory.port.bytes() + STEP_BYTES).min(bytes);
            memory = memory.grow(next).await;
        }
        memory
    }

    #[tokio::test]
    async fn a_frame_holds_what_it_has_sent() {
        let socket = MemoryBudget::new(16 * BATCH_BYTES).of_client(None);
        let before = socket.left();
        let memory = read(&socket, STEP_BYTES + 1).await;
        assert_eq!(before - socket.left(), 2 * STEP_BYTES);
        drop(memory);
        assert_eq!(socket.left(), before);
    }

    /// All frames are half read. Without memory for their ends, none of them could be read any further.
    #[tokio::test]
    async fn half_read_frames_end_one_after_another() {
        let socket = MemoryBudget::new(4 * BATCH_BYTES).of_client(None);
        let mut half = Vec::new();
        for _ in 0..6 {
            half.push(read(&socket, BATCH_BYTES / 2).await);
        }
        assert_eq!(socket.left(), BATCH_BYTES);
        let mut half = half.into_iter().map(|memory| Box::pin(memory.grow(BATCH_BYTES / 2 + 1)));
        let ending = [half.next().unwrap().await, half.next().unwrap().await];
        assert!(ending.iter().all(|memory| memory.covers(BATCH_BYTES)), "they do not wait again");
        let mut next = half.next().unwrap();
        assert!(next.as_mut().now_or_never().is_none());
        drop(ending);
        drop(next.await);
        drop(half);
        assert_eq!(socket.left(), 4 * BATCH_BYTES);
    }

    /// The frames of a client wait for the port, each with a step of the client, which is then used up. A frame
    /// with room for its end does not wait for any of them.
    #[tokio::test]
    async fn a_frame_has_room_for_its_end_of_its_client_and_in_the_port() {
        let budget = MemoryBudget::new(4 * BATCH_BYTES);
        let others = budget.of_client(network("10.0.0.2"));
        let socket = budget.of_client(network("10.0.0.1"));
        let mut stalled = vec![read(&socket, 3 * BATCH_BYTES / 4).await];
        for _ in 0..3 {
            stalled.push(read(&others, 3 * BATCH_BYTES / 4).await);
        }
        assert_eq!(socket.left(), BATCH_BYTES, "the rest is for the end of a frame");
        let first = socket.frame().grow(STEP_BYTES).await;
        let mut waiting = Vec::new();
        for _ in 0..2 * BATCH_BYTES / STEP_BYTES {
            let mut frame = Box::pin(unconstrained(socket.frame().grow(STEP_BYTES)));
            assert!(frame.as_mut().now_or_never().is_none());
            waiting.push(frame);
        }
        assert!(first.covers(BATCH_BYTES), "it would wait for one of them");
        drop(first);
        for frame in waiting {
            drop(frame.await);
        }
        assert_eq!(socket.left(), BATCH_BYTES);
    }

    /// All steps are held by frames that wait, so each of these frames goes on with the room for its end.
    #[tokio::test]
    async fn room_for_an_end_is_given_back_to_one_frame() {
        let socket = MemoryBudget::new(2 * BATCH_BYTES).of_client(None);
        let mut waiting = Vec::new();
        for _ in 0..4 {
            waiting.push(read(&socket, BATCH_BYTES / 4).await);
        }
        let first = socket.frame().grow(STEP_BYTES).await;
        assert!(first.covers(BATCH_BYTES) && !first.must_be_released());
        let grow = |memory: FrameMemory| Box::pin(unconstrained(memory.grow(BATCH_BYTES / 4 + 1)));
        let mut waiting: Vec<_> = waiting.into_iter().map(grow).collect();
        for frame in &mut waiting {
            assert!(frame.as_mut().now_or_never().is_none());
        }
        assert!(first.must_be_released());
        drop(first);
        let second = waiting.remove(0).await;
        assert!(second.covers(BATCH_BYTES));
        assert!(second.must_be_released(), "three frames still wait");
        drop(second);
        for frame in waiting {
            drop(frame.await);
        }
        assert_eq!(socket.left(), 2 * BATCH_BYTES);
    }

    #[tokio::test]
    async fn the_end_of_a_frame_is_given_back_before_its_steps() {
        let socket = MemoryBudget::new(2 * BATCH_BYTES).of_client(None);
        let _others = read(&socket, BATCH_BYTES - STEP_BYTES).await;
        let mut memory = read(&socket, 2 * STEP_BYTES).await;
        assert_eq!(socket.left(), STEP_BYTES, "it has room for the largest frame");
        memory.shrink(STEP_BYTES);
        assert_eq!(socket.port.ends.available_permits(), BATCH_BYTES);
        memory.shrink(1);
        assert_eq!(socket.left(), BATCH_BYTES + STEP_BYTES - 1);
    }

    /// One client takes all that it can get, with frames that never end.
    async fn check_memory_for_others(one: Option<Client>, another: Option<Client>) {
        let budget = MemoryBudget::new(16 * BATCH_BYTES);
        let greedy = budget.of_client(one);
        let mut stalled = Vec::new();
        let read_now = |budget| unconstrained(read(budget, BATCH_BYTES)).now_or_never();
        while let Some(memory) = read_now(&greedy) {
            stalled.push(memory);
        }
        assert_eq!(stalled.len(), 12);
        let other = budget.of_client(another);
        assert!(read_now(&other).is_some(), "it waits for the first client");
        assert!(other.share(1).is_some() && greedy.share(1).is_none());
        drop(stalled);
        assert!(read_now(&greedy).is_some());
    }

    #[tokio::test]
    async fn rule_88_a_network_or_a_principal_leaves_memory_to_others() {
        check_memory_for_others(network("10.0.0.1"), network("10.0.0.2")).await;
        check_memory_for_others(principal("ana"), principal("bo")).await;
    }

    #[test]
    fn clients_without_sockets_are_forgotten() {
        let budget = MemoryBudget::new(0);
        drop(budget.of_client(network("10.0.0.1")));
        let _second = budget.of_client(network("10.0.0.2"));
        assert_eq!(budget.clients.lock().len(), 1);
    }
}
