//! Order in which the spools of one run are sent. What an earlier script has left comes before what a
//! later one has tracked: the server numbers points without a step, and replaces values, in the order
//! of arrival.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio::time;

use crate::{
    orphans,
    sender::{connection, dialer::Dialer},
    spool::{directory::Owner, store::Spool},
};

/// Longest time that a spool waits for an earlier one that makes no progress although the server can
/// be reached, for example because of a file that cannot be uploaded. Longer than pauses between
/// attempts to connect.
const PATIENCE: Duration = Duration::from_secs(30);
/// Interval between two looks.
const INTERVAL: Duration = Duration::from_millis(20);

/// The spools that the I/O thread sends.
#[derive(Clone, Default)]
pub(crate) struct RunOrder(Rc<RefCell<Vec<Weak<Spool>>>>);

/// Data in the spools before another one.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct EarlierData {
    spools: usize,
    stored_items: u64,
}

impl RunOrder {
    pub(crate) fn add(&self, spool: &Arc<Spool>) {
        let mut spools = self.0.borrow_mut();
        spools.retain(|known| known.strong_count() > 0);
        spools.push(Arc::downgrade(spool));
    }

    /// Waits until the spools that earlier handles and processes of the same run have left are stored.
    pub(crate) async fn wait_for_turn(&self, spool: &Spool, dialer: &Dialer) {
        let owner = spool.owner();
        let (mut before, mut progress_at) = (EarlierData::default(), Instant::now());
        loop {
            let (earlier, is_connected) = self.earlier(spool);
            if earlier.spools == 0 {
                return;
            }
            if std::mem::replace(&mut before, earlier) != earlier {
                progress_at = Instant::now();
            }
            // A caller that waits for this spool sees that its server can be reached.
            spool.progress.update(|delivery| delivery.is_connected = is_connected);
            if progress_at.elapsed() > PATIENCE {
                let is_reachable = is_connected
                    || connection::connect(&owner.gateway_url, &owner.run_id, dialer).await.is_ok();
                if is_reachable {
                    return;
                }
                progress_at = Instant::now();
            }
            time::sleep(INTERVAL).await;
        }
    }

    /// Returns the spools before another one that are not stored, and whether one of them has a
    /// connection.
    fn earlier(&self, spool: &Spool) -> (EarlierData, bool) {
        let owner = spool.owner();
        let (mut data, mut is_connected) = (EarlierData::default(), false);
        for earlier in self.0.borrow().iter().filter_map(Weak::upgrade) {
            if !is_before(&earlier, spool) {
                continue;
            }
            let delivery = earlier.progress.delivery();
            if !delivery.is_finished {
                data.spools += 1;
                data.stored_items += delivery.stored_items;
                is_connected |= delivery.is_connected;
            }
        }
        // Other processes may be sending some. A run that is new has none.
        if data.spools == 0 && (owner.is_resumed || !owner.is_own()) {
            data.spools += usize::from(orphans::has_earlier_spool(&spool.path(), owner));
        }
        (data, is_connected)
    }
}

/// Whether a spool holds earlier data of the same run, and gets no more.
fn is_before(earlier: &Spool, spool: &Spool) -> bool {
    let order = |spool: &Spool| (spool.owner().created_us, spool.number());
    is_same_run(earlier.owner(), spool.owner())
        && earlier.is_closed()
        && earlier.is_usable()
        && order(earlier) < order(spool)
}

pub(crate) fn is_same_run(one: &Owner, other: &Owner) -> bool {
    one.run_id == other.run_id && one.gateway_url == other.gateway_url
}
