//! Order in which the spools of one run are sent. The spools of an earlier script come before the
//! spools of a later script: the server numbers points without a step, and replaces values, in the
//! order of arrival.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio::time;

use crate::{
    orphans::LeftOwners,
    progress::Delivery,
    sender::{connection, dialer::Dialer},
    spool::{directory::Owner, store::Spool},
};

/// Longest time that a spool waits for an earlier spool that makes no progress although the server can
/// be reached, for example because of a file that cannot be uploaded. Longer than pauses between
/// attempts to connect.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same for a spool with another address, which may belong to another server.
const OTHER_ADDRESS_PATIENCE: Duration = Duration::from_secs(4);
/// The same if nothing answers at that address.
const DEAD_ADDRESS_PATIENCE: Duration = Duration::from_secs(1);
/// Interval between two looks at spools of this process.
const INTERVAL: Duration = Duration::from_millis(20);
/// The same for spools of other processes, which are on disk.
const DISK_INTERVAL: Duration = Duration::from_millis(200);

/// The spools that the I/O thread sends.
#[derive(Clone, Default)]
pub(crate) struct RunOrder {
    /// Spools of each run, in their order.
    runs: Rc<RefCell<HashMap<String, Vec<Rc<QueuedSpool>>>>>,
    left: Rc<RefCell<LeftOwners>>,
}

/// A spool among all spools of its run.
pub(crate) struct QueuedSpool {
    spool: Weak<Spool>,
    created_us: i64,
    number: u32,
    is_waiting: Cell<bool>,
    /// The last spool that has waited too long for this one.
    refusal: RefCell<Option<Refusal>>,
}

/// A decision not to wait any longer. It holds until there is progress.
struct Refusal {
    /// Address of the spool that has waited. A spool for another address waits on its own.
    gateway_url: String,
    stored_items: u64,
}

/// Data that has to be stored first.
enum EarlierData {
    /// The nearest spool of this process.
    Queued(Rc<QueuedSpool>, Arc<Spool>, Delivery),
    /// Spools of other processes.
    Left(Vec<Owner>),
}

/// The time that a spool has waited for the same data.
struct Wait {
    data: (u32, u64),
    progress_at: Instant,
    /// When it was seen that the server can be reached.
    reached_at: Option<Instant>,
    asked_at: Option<Instant>,
}

impl RunOrder {
    /// Whether a handle of this process adds to a run, or has done so.
    pub(crate) fn has_run(&self, run_id: &str) -> bool {
        let runs = self.runs.borrow();
        let spools = runs.get(run_id).into_iter().flatten().filter_map(|queued| queued.spool.upgrade());
        let mut own = spools.filter(|spool| spool.owner().is_own() && spool.is_usable());
        own.next().is_some()
    }

    /// Gives a spool its place.
    pub(crate) fn add(&self, spool: &Arc<Spool>) -> Rc<QueuedSpool> {
        let created_us = spool.owner().created_us;
        let number = spool.number();
        let queued = Rc::new(QueuedSpool {
            spool: Arc::downgrade(spool),
            created_us,
            number,
            is_waiting: Cell::new(true),
            refusal: RefCell::default(),
        });
        let mut runs = self.runs.borrow_mut();
        runs.retain(|_, spools| {
            spools.retain(|queued| queued.spool.strong_count() > 0);
            !spools.is_empty()
        });
        let spools = runs.entry(spool.owner().run_id.clone()).or_default();
        let place = spools.partition_point(|other| (other.created_us, other.number) < (created_us, number));
        spools.insert(place, queued.clone());
        queued
    }

    /// Waits until the spools that earlier handles and processes of the same run have left are stored.
    pub(crate) async fn wait_for_turn(&self, queued: &QueuedSpool, spool: &Spool, dialer: &Dialer) {
        let owner = spool.owner();
        let is_reachable =
            async || connection::connect(&owner.gateway_url, &owner.run_id, dialer).await.is_ok();
        let mut wait = Wait::begin();
        while let Some(earlier) = self.earlier(queued, spool) {
            if earlier.is_in_turn(owner) || wait.data != earlier.amount() {
                wait.data = earlier.amount();
                wait.progress_at = Instant::now();
            }
            let patience = earlier.patience(owner);
            let is_connected = earlier.is_connected();
            if is_connected {
                wait.reached_at.get_or_insert_with(Instant::now);
            } else if wait.reached_at.is_none() && wait.is_time_to_ask(patience) {
                wait.asked_at = Some(Instant::now());
                wait.reached_at = is_reachable().await.then(Instant::now);
            }
            // A caller that waits for this spool sees that its server can be reached.
            spool.progress.update(|delivery| delivery.is_connected = wait.reached_at.is_some());
            // Earlier data gets as much time since the server can be reached.
            if wait.reached_at.is_some_and(|since| since.max(wait.progress_at).elapsed() > patience) {
                if !is_connected && !is_reachable().await {
                    wait.reached_at = None;
                    wait.asked_at = Some(Instant::now());
                } else if !self.refuse(&earlier, owner) {
                    break;
                }
            }
            time::sleep(if matches!(earlier, EarlierData::Left(_)) { DISK_INTERVAL } else { INTERVAL }).await;
        }
        queued.is_waiting.set(false);
    }

    /// Stops waiting for data, and for all data for other addresses at which nothing has answered meanwhile.
    /// Returns false if there is nothing else to wait for.
    fn refuse(&self, earlier: &EarlierData, waiting: &Owner) -> bool {
        let EarlierData::Queued(refused, _, delivery) = earlier else { return false };
        refused.refuse(waiting, delivery);
        let runs = self.runs.borrow();
        for queued in runs.get(&waiting.run_id).into_iter().flatten() {
            let Some(spool) = queued.spool.upgrade() else { continue };
            let delivery = spool.progress.delivery();
            if spool.owner().gateway_url != waiting.gateway_url && queued.is_unreachable(&delivery) {
                queued.refuse(waiting, &delivery);
            }
        }
        true
    }

    fn earlier(&self, queued: &QueuedSpool, spool: &Spool) -> Option<EarlierData> {
        let owner = spool.owner();
        let runs = self.runs.borrow();
        let spools = runs.get(&owner.run_id).map(Vec::as_slice).unwrap_or_default();
        let is_earlier =
            |other: &QueuedSpool| (other.created_us, other.number) < (queued.created_us, queued.number);
        let place = spools.partition_point(|other| is_earlier(other));
        for earlier in spools[..place].iter().rev() {
            // One that gets more is not waited for.
            let known = earlier.spool.upgrade().filter(|spool| spool.is_closed() && spool.is_usable());
            let Some(known) = known else { continue };
            let delivery = known.progress.delivery();
            if !delivery.is_finished && !earlier.is_refused(owner, &delivery) {
                return Some(EarlierData::Queued(earlier.clone(), known, delivery));
            }
        }
        // Other processes may be sending some. A run that is new has none.
        if !owner.is_resumed && owner.is_own() {
            return None;
        }
        let queued = spools.iter().filter_map(|queued| queued.spool.upgrade());
        let queued: Vec<_> = queued.map(|spool| spool.path()).collect();
        let left = self.left.borrow_mut().earlier(&spool.path(), owner, &queued);
        (!left.is_empty()).then_some(EarlierData::Left(left))
    }
}

impl QueuedSpool {
    /// Whether its server has not answered. A spool that waits has asked its server as well.
    fn is_unreachable(&self, delivery: &Delivery) -> bool {
        !delivery.is_connected && (delivery.last_error.is_some() || self.is_waiting.get())
    }

    fn refuse(&self, waiting: &Owner, delivery: &Delivery) {
        let gateway_url = waiting.gateway_url.clone();
        let stored_items = delivery.stored_items;
        *self.refusal.borrow_mut() = Some(Refusal { gateway_url, stored_items });
    }

    /// Whether the spool of this owner need not wait for it.
    fn is_refused(&self, waiting: &Owner, delivery: &Delivery) -> bool {
        self.refusal.borrow().as_ref().is_some_and(|refusal| {
            refusal.gateway_url == waiting.gateway_url && refusal.stored_items == delivery.stored_items
        })
    }
}

impl EarlierData {
    /// Changes when some of it is stored.
    fn amount(&self) -> (u32, u64) {
        match self {
            Self::Queued(queued, _, delivery) => (queued.number, delivery.stored_items),
            Self::Left(owners) => (0, owners.len() as u64),
        }
    }

    /// Whether it waits for its own turn to reach the same server.
    fn is_in_turn(&self, waiting: &Owner) -> bool {
        let Self::Queued(queued, spool, delivery) = self else { return false };
        queued.is_waiting.get() && (delivery.is_connected || spool.owner().gateway_url == waiting.gateway_url)
    }

    fn is_connected(&self) -> bool {
        matches!(self, Self::Queued(_, _, delivery) if delivery.is_connected)
    }

    /// Time that the spool of this owner waits for progress.
    fn patience(&self, waiting: &Owner) -> Duration {
        let is_same = |owner: &Owner| owner.gateway_url == waiting.gateway_url;
        match self {
            Self::Queued(_, spool, _) if is_same(spool.owner()) => PATIENCE,
            Self::Queued(queued, _, delivery) if queued.is_unreachable(delivery) => DEAD_ADDRESS_PATIENCE,
            Self::Left(owners) if owners.iter().any(is_same) => PATIENCE,
            Self::Queued(..) | Self::Left(_) => OTHER_ADDRESS_PATIENCE,
        }
    }
}

impl Wait {
    fn begin() -> Self {
        Self { data: (0, 0), progress_at: Instant::now(), reached_at: None, asked_at: None }
    }

    /// Whether the server is asked now if it can be reached. Usually, the earlier spool shows that.
    fn is_time_to_ask(&self, patience: Duration) -> bool {
        let since = match self.asked_at {
            None if patience < PATIENCE => return true,
            None => self.progress_at,
            Some(asked_at) => asked_at,
        };
        since.elapsed() > patience
    }
}
