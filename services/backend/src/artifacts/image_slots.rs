//! Slots for decoding images, which need a lot of memory and time, so that there are only a few. A slot that becomes
//! free goes to the waiting caller that holds the fewest. If several hold as few, it goes to the caller whose last turn
//! is the longest ago. So a gallery of one caller uses all slots, but gets no second one while another caller waits.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::server::error::{Error, Result};

/// Number of images that are decoded at a time, in this process.
const DECODED_AT_A_TIME: usize = 2;

/// Clones share their state.
#[derive(Clone, Default)]
pub(super) struct ImageSlots(Arc<Mutex<Slots>>);

/// The right to decode an image, until it is dropped.
pub(super) struct ImageSlot {
    slots: ImageSlots,
    caller: String,
}

#[derive(Default)]
struct Slots {
    held: HashMap<String, usize>,
    /// In the order of the calls. There are no more than calls are admitted.
    waiting: VecDeque<WaitingImage>,
    /// Numbers of the last turns of callers that hold a slot or wait for one.
    last_turns: HashMap<String, u64>,
    turns: u64,
}

struct WaitingImage {
    caller: String,
    turn: oneshot::Sender<ImageSlot>,
}

impl ImageSlots {
    /// Waits for a slot. Callers without access control have the same name.
    pub(super) async fn take(&self, caller: &str) -> Result<ImageSlot> {
        let (turn, taken) = oneshot::channel();
        self.0.lock().waiting.push_back(WaitingImage { caller: caller.to_owned(), turn });
        self.give();
        taken.await.map_err(|_| Error::Stopping)
    }

    /// Gives free slots to images that wait.
    fn give(&self) {
        loop {
            // Without the lock afterwards, because a slot that its client does not take any more comes back at once.
            let next = self.0.lock().take_next();
            let Some(WaitingImage { caller, turn }) = next else { return };
            drop(turn.send(ImageSlot { slots: self.clone(), caller }));
        }
    }
}

impl Drop for ImageSlot {
    fn drop(&mut self) {
        self.slots.0.lock().release(&self.caller);
        self.slots.give();
    }
}

impl Slots {
    /// Takes the image whose turn it is out of the queue, if a slot is free.
    fn take_next(&mut self) -> Option<WaitingImage> {
        if self.held.values().sum::<usize>() >= DECODED_AT_A_TIME {
            return None;
        }
        self.waiting.retain(|image| !image.turn.is_closed());
        let next = (0..self.waiting.len()).min_by_key(|at| self.rank(&self.waiting[*at].caller));
        let image = self.waiting.remove(next?)?;
        self.turns += 1;
        self.last_turns.insert(image.caller.clone(), self.turns);
        *self.held.entry(image.caller.clone()).or_default() += 1;
        Some(image)
    }

    /// The lower, the earlier: slots that the caller holds, and its last turn.
    fn rank(&self, caller: &str) -> (usize, u64) {
        let held = self.held.get(caller).copied().unwrap_or_default();
        (held, self.last_turns.get(caller).copied().unwrap_or_default())
    }

    fn release(&mut self, caller: &str) {
        if let Some(held) = self.held.get_mut(caller) {
            *held -= 1;
        }
        self.held.retain(|_, held| *held > 0);
        let Self { held, waiting, last_turns, .. } = self;
        last_turns
            .retain(|known, _| held.contains_key(known) || waiting.iter().any(|it| it.caller == *known));
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, future::BoxFuture};

    use super::*;

    type Waiting = BoxFuture<'static, Result<ImageSlot>>;

    /// Asks for a slot, and takes it if it is free.
    fn ask(slots: &ImageSlots, caller: &'static str) -> (Waiting, Option<ImageSlot>) {
        let slots = slots.clone();
        let mut waiting: Waiting = Box::pin(async move { slots.take(caller).await });
        let taken = taken(&mut waiting);
        (waiting, taken)
    }

    fn taken(waiting: &mut Waiting) -> Option<ImageSlot> {
        waiting.now_or_never().map(|taken| taken.expect("the slots are open"))
    }

    #[test]
    fn a_slot_goes_to_a_caller_that_has_none() {
        let slots = ImageSlots::default();
        let (_, first) = ask(&slots, "gallery");
        let (_, second) = ask(&slots, "gallery");
        assert!(first.is_some() && second.is_some(), "one caller uses all slots if no other wants one");
        let (mut third, none) = ask(&slots, "gallery");
        assert!(none.is_none());
        let (mut other, none) = ask(&slots, "other");
        assert!(none.is_none());
        drop(first);
        assert!(taken(&mut third).is_none(), "the caller still has a slot");
        let of_other = taken(&mut other).expect("the other caller has none");
        drop(of_other);
        assert!(taken(&mut third).is_some());
    }

    #[test]
    fn callers_take_turns() {
        let slots = ImageSlots::default();
        let (_, of_a) = ask(&slots, "a");
        let (_, of_b) = ask(&slots, "b");
        let (mut next_of_a, _) = ask(&slots, "a");
        let (mut next_of_b, _) = ask(&slots, "b");
        let (mut next_of_c, _) = ask(&slots, "c");
        drop(of_a);
        assert!(taken(&mut next_of_a).is_none(), "another caller has not had its first turn");
        let of_c = taken(&mut next_of_c).expect("it is the turn of the last caller");
        drop(of_c);
        assert!(taken(&mut next_of_b).is_none(), "it has the other slot");
        assert!(taken(&mut next_of_a).is_some());
        drop(of_b);
        assert!(taken(&mut next_of_b).is_some());
    }

    #[test]
    fn a_client_that_leaves_keeps_no_slot() {
        let slots = ImageSlots::default();
        let held = ["a", "a"].map(|caller| ask(&slots, caller).1.expect("a slot is free"));
        let (gone, _) = ask(&slots, "b");
        let (mut waiting, _) = ask(&slots, "c");
        drop(gone);
        drop(held);
        assert!(taken(&mut waiting).is_some());
        assert!(slots.0.lock().held.is_empty() && slots.0.lock().last_turns.is_empty());
    }
}
