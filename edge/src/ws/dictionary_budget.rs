//! Memory budget for the dictionaries of all JSON sockets of a port. A small dictionary needs no share of
//! it. When the budget is exhausted, a dictionary that grows starts again, under a new producer, and so does the
//! largest dictionary, whose socket may be idle: no frame fails, and a few large dictionaries do not keep all
//! other dictionaries small.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Memory of a dictionary that needs no share: about a thousand series.
const SMALL_BYTES: usize = 64 << 10;

#[derive(Clone)]
pub(super) struct DictionaryBudget(Arc<Shared>);

struct Shared {
    bytes: usize,
    holdings: Mutex<Holdings>,
}

/// The dictionaries that are not small.
#[derive(Default)]
struct Holdings {
    next_id: u64,
    bytes: usize,
    sockets: HashMap<u64, Holding>,
}

struct Holding {
    bytes: usize,
    reclaimed: Arc<Notify>,
}

impl DictionaryBudget {
    pub(super) fn new(bytes: usize) -> Self {
        DictionaryBudget(Arc::new(Shared { bytes, holdings: Mutex::default() }))
    }

    /// The share of a new socket, which is empty.
    pub(super) fn share(&self) -> DictionaryShare {
        let id = {
            let mut holdings = self.0.holdings.lock();
            holdings.next_id += 1;
            holdings.next_id
        };
        DictionaryShare { budget: self.clone(), id, bytes: 0, reclaimed: Arc::default() }
    }
}

impl Holdings {
    fn remove(&mut self, id: u64) {
        self.bytes -= self.sockets.remove(&id).map_or(0, |holding| holding.bytes);
    }
}

/// The share of the dictionary of one socket.
pub(super) struct DictionaryShare {
    budget: DictionaryBudget,
    id: u64,
    /// The memory that the dictionary takes.
    bytes: usize,
    reclaimed: Arc<Notify>,
}

impl DictionaryShare {
    /// Notes how much memory the dictionary takes. Returns false if it has grown over the budget: then it
    /// must start again as soon as no frame needs it.
    pub(super) fn resize(&mut self, bytes: usize) -> bool {
        let before = std::mem::replace(&mut self.bytes, bytes);
        // Most frames name no new series, and most dictionaries are small.
        if bytes == before || bytes.max(before) <= SMALL_BYTES {
            return true;
        }
        let mut holdings = self.budget.0.holdings.lock();
        holdings.remove(self.id);
        if bytes <= SMALL_BYTES {
            return true;
        }
        holdings.bytes += bytes;
        holdings.sockets.insert(self.id, Holding { bytes, reclaimed: self.reclaimed.clone() });
        if bytes <= before || holdings.bytes <= self.budget.0.bytes {
            return true;
        }
        if let Some((id, largest)) = holdings.sockets.iter().max_by_key(|(_, holding)| holding.bytes)
            && *id != self.id
        {
            largest.reclaimed.notify_one();
        }
        false
    }

    /// Waits until the dictionary must start again for the sake of others. Cancel-safe.
    pub(super) async fn reclaimed(&self) {
        self.reclaimed.notified().await;
    }
}

impl Drop for DictionaryShare {
    fn drop(&mut self) {
        self.budget.0.holdings.lock().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;

    const LARGE: usize = 4 * SMALL_BYTES;

    fn held(budget: &DictionaryBudget) -> usize {
        budget.0.holdings.lock().bytes
    }

    #[test]
    fn small_dictionaries_need_no_share() {
        let budget = DictionaryBudget::new(0);
        let mut shares = [(); 100].map(|()| budget.share());
        assert!(shares.iter_mut().all(|share| share.resize(SMALL_BYTES)));
        assert_eq!(held(&budget), 0);
        assert!(!shares[0].resize(SMALL_BYTES + 1));
    }

    #[tokio::test]
    async fn a_dictionary_that_grows_over_the_budget_and_the_largest_start_again() {
        let budget = DictionaryBudget::new(3 * LARGE);
        let mut large = budget.share();
        let mut small = budget.share();
        let mut other = budget.share();
        assert!(large.resize(LARGE) && large.resize(2 * LARGE) && small.resize(LARGE));
        assert_eq!(held(&budget), 3 * LARGE);
        assert!(small.resize(LARGE), "it has not grown");
        assert!(poll!(pin!(large.reclaimed())).is_pending());

        assert!(!other.resize(LARGE / 2));
        assert!(poll!(pin!(large.reclaimed())).is_ready());
        assert!(poll!(pin!(small.reclaimed())).is_pending() && poll!(pin!(other.reclaimed())).is_pending());
        assert_eq!(held(&budget), 3 * LARGE + LARGE / 2, "frames still need it");
        assert!(other.resize(0) && large.resize(0));
        assert_eq!(held(&budget), LARGE);
        assert!(other.resize(LARGE));
    }

    #[tokio::test]
    async fn the_largest_dictionary_does_not_make_others_start_again() {
        let budget = DictionaryBudget::new(2 * LARGE);
        let mut large = budget.share();
        let mut small = budget.share();
        assert!(small.resize(LARGE));
        assert!(!large.resize(2 * LARGE));
        assert!(poll!(pin!(small.reclaimed())).is_pending());
        drop(large);
        assert_eq!(held(&budget), LARGE);
    }
}
