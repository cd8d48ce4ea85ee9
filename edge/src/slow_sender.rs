//! Senders that hold memory for which others wait. A sender that is too slow loses its memory, but only as
//! many senders lose theirs as others need. While nobody waits for its memory, a sender may take as long as
//! it likes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep};

/// Time over which a rate is measured. A sender that others wait for is cut off after one to two of them, or sooner if
/// it was too slow before they waited.
pub(crate) const WINDOW: Duration = Duration::from_secs(2);

/// Time over which a sender that was too slow is measured next, while nobody waits for its memory: a
/// connection that begins to wait should not have to wait for the end of a whole window.
const SHORT_WINDOW: Duration = Duration::from_millis(250);

/// Minimum number of bytes per second, for a sender that others wait for.
const BYTES_PER_SECOND: u128 = 50_000;

/// Bytes of a memory budget that are waited for. Clones share their state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Demand(Arc<Mutex<DemandedBytes>>);

#[derive(Debug, Default, PartialEq)]
struct DemandedBytes {
    waiting: usize,
    /// The part of them that senders which were too slow give back.
    released: usize,
}

impl Demand {
    /// Counts bytes that someone waits for, until the result is dropped.
    pub(crate) fn wait(&self, bytes: usize) -> WaitingBytes {
        self.0.lock().waiting += bytes;
        WaitingBytes { demand: self.clone(), bytes }
    }

    /// Whether anyone waits.
    pub(crate) fn exists(&self) -> bool {
        self.0.lock().waiting > 0
    }

    /// Counts bytes that a sender gives back, unless enough is given back already: then it returns false.
    pub(crate) fn release(&self, bytes: usize) -> bool {
        let mut demanded = self.0.lock();
        let lacking = demanded.waiting - demanded.released;
        demanded.released += bytes.min(lacking);
        lacking > 0
    }
}

pub(crate) struct WaitingBytes {
    demand: Demand,
    bytes: usize,
}

impl Drop for WaitingBytes {
    fn drop(&mut self) {
        let mut demanded = self.demand.0.lock();
        demanded.waiting -= self.bytes;
        // The others have not yet received the memory that was given back for them.
        demanded.released = demanded.released.saturating_sub(self.bytes).min(demanded.waiting);
    }
}

/// The rate at which a sender has sent recently.
#[derive(Default)]
pub(crate) struct SendRate {
    window: Option<Pin<Box<Sleep>>>,
    /// Whether the window is a short one.
    is_short: bool,
    bytes: usize,
}

impl SendRate {
    pub(crate) fn received(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Ready if too little has arrived in a window, and others wait at its end for the memory of the sender. A
    /// sender that may be blocked is not judged. Polled while nothing arrives.
    pub(crate) fn poll_too_slow(
        &mut self,
        context: &mut Context<'_>,
        may_be_blocked: bool,
        must_release: impl Fn() -> bool,
    ) -> Poll<()> {
        let window = self.window.get_or_insert_with(|| Box::pin(sleep(WINDOW)));
        while window.as_mut().poll(context).is_ready() {
            // If the server has not read for a while, nothing is known about the sender.
            let is_known = !may_be_blocked && window.deadline().elapsed() < WINDOW;
            let bytes = std::mem::take(&mut self.bytes);
            let is_slow = is_known && is_too_little(bytes, if self.is_short { SHORT_WINDOW } else { WINDOW });
            if is_slow && must_release() {
                return Poll::Ready(());
            }
            self.is_short = is_slow;
            window.as_mut().reset(Instant::now() + if is_slow { SHORT_WINDOW } else { WINDOW });
        }
        Poll::Pending
    }
}

fn is_too_little(bytes: usize, time: Duration) -> bool {
    (bytes as u128) < BYTES_PER_SECOND * time.as_millis() / 1_000
}

/// The error of a sender that has lost its memory.
pub(crate) fn too_slow() -> io::Error {
    let message = format!(
        "others wait for the memory of this body, and less than {} kB/s of it arrived: send it again",
        BYTES_PER_SECOND / 1_000
    );
    io::Error::new(io::ErrorKind::TimedOut, message)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::timeout;

    use super::*;

    const HELD: usize = 1_000;

    /// Bytes in a window that are enough.
    const WINDOW_BYTES: usize = 100_000;

    #[tokio::test(start_paused = true)]
    async fn as_many_slow_senders_are_cut_off_as_others_need() {
        let demand = Demand::default();
        let is_cut_off = async |received: usize| {
            let mut rate = SendRate::default();
            rate.received(received);
            let too_slow = poll_fn(|context| rate.poll_too_slow(context, false, || demand.release(HELD)));
            timeout(3 * WINDOW / 2, too_slow).await.is_ok()
        };
        assert!(!is_cut_off(0).await, "no other waits");
        let first = demand.wait(HELD);
        let second = demand.wait(1);
        assert!(!is_cut_off(WINDOW_BYTES).await, "it is fast");
        assert!(is_cut_off(WINDOW_BYTES - 1).await && is_cut_off(0).await);
        assert!(!is_cut_off(0).await, "two of them give back enough");
        drop(first);
        assert_eq!(*demand.0.lock(), DemandedBytes { waiting: 1, released: 1 });
        let third = demand.wait(HELD);
        assert!(is_cut_off(0).await);
        assert!(!is_cut_off(0).await, "it gives back the rest");
        drop((second, third));
        assert_eq!(*demand.0.lock(), DemandedBytes::default());
    }

    /// A sender is slow for minutes before anyone needs its memory.
    #[tokio::test(start_paused = true)]
    async fn a_sender_that_was_slow_before_is_cut_off_soon() {
        let demand = Demand::default();
        let mut rate = SendRate::default();
        let mut too_slow =
            Box::pin(poll_fn(|context| rate.poll_too_slow(context, false, || demand.release(HELD))));
        // Not at the end of a window.
        assert!(timeout(60 * WINDOW + WINDOW / 3, &mut too_slow).await.is_err(), "no other waits");
        let _waiting = demand.wait(HELD);
        let begun = Instant::now();
        too_slow.await;
        assert!(begun.elapsed() <= SHORT_WINDOW + Duration::from_millis(1), "{:?}", begun.elapsed());
    }

    /// A sender that continues in time is measured over whole windows again.
    #[tokio::test(start_paused = true)]
    async fn a_sender_that_has_recovered_keeps_its_memory() {
        let demand = Demand::default();
        let mut rate = SendRate::default();
        let wait = async |rate: &mut SendRate, time| {
            let too_slow = poll_fn(|context| rate.poll_too_slow(context, false, || demand.release(HELD)));
            timeout(time, too_slow).await.is_ok()
        };
        assert!(!wait(&mut rate, WINDOW + SHORT_WINDOW / 2).await, "no other waits");
        let _waiting = demand.wait(HELD);
        rate.received(WINDOW_BYTES);
        assert!(
            !wait(&mut rate, WINDOW).await,
            "it has sent enough for a short window, and a long one began"
        );
        assert!(wait(&mut rate, WINDOW).await, "it sends no more");
    }
}
