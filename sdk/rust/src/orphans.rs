//! Spools that other processes left: forked children that ended by `_exit`, and scripts that were
//! killed. The process that finds one sends it.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use crate::{
    clock,
    config::Config,
    notice::Notices,
    numbering::Numbering,
    sender::backoff::random_below,
    spool::{
        directory::{self, Owner},
        store::Spool,
    },
};

/// Longest wait before the spool of a process that this one did not fork is taken, so that not
/// every script of a user reads it at the same moment.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Interval between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
/// The same while more spools wait than are sent at the same time.
const SHORT_INTERVAL: Duration = Duration::from_millis(200);
/// Most spools of processes that this one did not start that are sent at the same time. Those whose
/// server is away take a place for as long as it is.
const MOST_SPOOLS: usize = 32;
/// The same for processes that it has started. Each takes a descriptor.
const MOST_CHILDREN: usize = 256;

/// Repeated search for spools without a living owner.
pub(crate) struct OrphanScan {
    /// Time that spools wait whose processes this one did not fork. It is the same for all of them, so that
    /// the spools of one run are taken in their order.
    wait: Duration,
    /// Spools that may be taken, now or later.
    due: HashMap<PathBuf, Due>,
    taken: Vec<TakenSpool>,
    /// There was one more that could have been taken.
    is_limited: bool,
}

#[derive(Clone, Copy)]
struct Due {
    at: Instant,
    created_us: i64,
    /// Whether this process started the owner, or has its run open.
    is_child: bool,
}

struct TakenSpool {
    spool: Weak<Spool>,
    is_child: bool,
}

impl Default for OrphanScan {
    fn default() -> Self {
        let wait = random_below(LONGEST_WAIT);
        Self { wait, due: HashMap::new(), taken: Vec::new(), is_limited: false }
    }
}

impl OrphanScan {
    /// Time until the next look.
    pub(crate) fn interval(&self) -> Duration {
        if self.is_limited { SHORT_INTERVAL } else { INTERVAL }
    }

    /// Spools that were taken and are not stored completely yet.
    pub(crate) fn taken(&self) -> Vec<Weak<Spool>> {
        self.taken.iter().map(|taken| taken.spool.clone()).collect()
    }

    /// Takes spools whose time has come. What was recorded offline is taken if later data of its run is
    /// sent here.
    pub(crate) fn take_due(
        &mut self,
        configs: &[Config],
        is_sent_here: impl Fn(&str) -> bool,
    ) -> Vec<Arc<Spool>> {
        self.taken.retain(|taken| taken.spool.upgrade().is_some_and(|spool| spool.is_usable()));
        let found: Vec<(&Config, PathBuf)> = configs
            .iter()
            .flat_map(|config| spools_of(config).into_iter().map(move |path| (config, path)))
            .collect();
        // There may be thousands.
        let existing: HashSet<&PathBuf> = found.iter().map(|(_, path)| path).collect();
        self.due.retain(|path, _| existing.contains(path));
        let mut spools = Vec::new();
        self.is_limited = false;
        let due = |(config, path): (_, PathBuf)| Some((self.due(&path, &is_sent_here)?, config, path));
        let mut due: Vec<(Due, &Config, PathBuf)> = found.into_iter().filter_map(due).collect();
        due.retain(|(due, ..)| due.at <= Instant::now());
        due.sort_by_key(|(due, ..)| due.created_us);
        for (Due { is_child, .. }, config, path) in due {
            let most = if is_child { MOST_CHILDREN } else { MOST_SPOOLS };
            if self.taken.iter().filter(|taken| taken.is_child == is_child).count() >= most {
                self.is_limited = true;
                continue;
            }
            if let Ok(Some(mut spool)) = Spool::claim(&path, config, Notices::of_process()) {
                spool.send_if_offline();
                let spool = Arc::new(spool);
                self.taken.push(TakenSpool { spool: Arc::downgrade(&spool), is_child });
                spools.push(spool);
            }
        }
        spools
    }

    /// Returns when a spool may be taken. `None` if it is not left behind, or not ours to send.
    fn due(&mut self, path: &Path, is_sent_here: impl Fn(&str) -> bool) -> Option<Due> {
        if let Some(due) = self.due.get(path) {
            return Some(*due);
        }
        let owner = directory::read_owner(path).ok().flatten()?;
        if owner.is_elsewhere() || owner.is_own() || owner.is_running() {
            return None;
        }
        if owner.is_offline && !is_sent_here(&owner.run_id) {
            return None;
        }
        let is_child = owner.is_child() || Numbering::is_open(&owner.run_id);
        let wait = if is_child { Duration::ZERO } else { self.wait };
        let due = Due { at: Instant::now() + wait, created_us: owner.created_us, is_child };
        self.due.insert(path.to_owned(), due);
        Some(due)
    }
}

/// Returns the number of spools of a run that processes of this machine have left for a gateway, and
/// that are not stored yet. The spools of workers that a fork server has started have no other mark than
/// the run.
pub(crate) fn left_spools(config: &Config, run_id: &str, gateway_url: &str) -> usize {
    let left = spools_of(config);
    left.iter()
        .filter(|path| {
            left_owner(path, run_id)
                .as_ref()
                .is_some_and(|owner| owner.gateway_url == gateway_url && !owner.is_offline)
        })
        .count()
}

/// Spools next to the spools that are sent, by run, so that each is read once however many spools of a
/// run wait for their turn.
#[derive(Default)]
pub(crate) struct LeftOwners(HashMap<PathBuf, OwnerListing>);

/// The spools of a directory.
struct OwnerListing {
    taken_us: i64,
    by_run: HashMap<String, Vec<PathBuf>>,
}

impl LeftOwners {
    /// Returns the owners of spools next to this spool that earlier processes of the same run have left,
    /// perhaps offline or for another address of the server. Leaves out those in `known`.
    pub(crate) fn earlier(&mut self, spool: &Path, own: &Owner, known: &[PathBuf]) -> Vec<Owner> {
        let root = spool.parent().unwrap_or(spool);
        let listing = self.0.entry(root.to_owned()).or_insert_with(|| OwnerListing::take(root));
        // It has all that was there when the spool was made.
        if listing.taken_us <= own.created_us {
            *listing = OwnerListing::take(root);
        }
        let Some(paths) = listing.by_run.get_mut(&own.run_id) else { return Vec::new() };
        let mut owners = Vec::new();
        paths.retain(|path| {
            let owner = directory::read_owner(path).ok().flatten();
            owners.extend(
                owner
                    .clone()
                    .filter(is_over)
                    .filter(|owner| owner.created_us < own.created_us && !known.contains(path)),
            );
            owner.is_some()
        });
        owners
    }
}

impl OwnerListing {
    fn take(root: &Path) -> Self {
        let mut listing = Self { taken_us: clock::now_us(), by_run: HashMap::new() };
        for path in directory::list(root) {
            if let Ok(Some(owner)) = directory::read_owner(&path) {
                listing.by_run.entry(owner.run_id).or_default().push(path);
            }
        }
        listing
    }
}

fn is_over(owner: &Owner) -> bool {
    !owner.is_own() && !owner.is_running() && !owner.is_elsewhere()
}

fn left_owner(path: &Path, run_id: &str) -> Option<Owner> {
    let owner = directory::read_owner(path).ok()??;
    (owner.run_id == run_id && is_over(&owner)).then_some(owner)
}

fn spools_of(config: &Config) -> Vec<PathBuf> {
    config.spool_dirs.iter().flat_map(|root| directory::list(root)).collect()
}
