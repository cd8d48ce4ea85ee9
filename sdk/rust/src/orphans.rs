//! Spools that other processes left: forked children that ended by `_exit`, and scripts that were
//! killed. The process that finds one sends it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use crate::{
    config::Config,
    notice::Notices,
    sender::backoff::random_below,
    spool::{directory, store::Spool},
};

/// Longest wait before the spool of a process that this one did not fork is taken, so that not
/// every script of a user reads it at the same moment.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Interval between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
/// The same while more spools wait than are sent at the same time.
const SHORT_INTERVAL: Duration = Duration::from_millis(50);
/// Most spools of others that are sent at the same time.
const MOST_SPOOLS: usize = 32;

/// Repeated search for spools without a living owner.
#[derive(Default)]
pub(crate) struct OrphanScan {
    /// When a spool may be taken.
    due: HashMap<PathBuf, Instant>,
    taken: Vec<Weak<Spool>>,
    /// There was one more that could have been taken.
    is_limited: bool,
}

impl OrphanScan {
    /// Time until the next look.
    pub(crate) fn interval(&self) -> Duration {
        if self.is_limited { SHORT_INTERVAL } else { INTERVAL }
    }

    /// Spools that were taken and are not stored completely yet.
    pub(crate) fn taken(&self) -> Vec<Weak<Spool>> {
        self.taken.clone()
    }

    /// Takes spools whose time has come.
    pub(crate) fn take_due(&mut self, configs: &[Config]) -> Vec<Arc<Spool>> {
        self.taken.retain(|spool| spool.upgrade().is_some_and(|spool| spool.is_usable()));
        let in_config = |config| spools_of(config).into_iter().map(move |path| (config, path));
        let found: Vec<(&Config, PathBuf)> = configs.iter().flat_map(in_config).collect();
        self.due.retain(|path, _| found.iter().any(|(_, found)| found == path));
        let mut spools = Vec::new();
        self.is_limited = false;
        for (config, path) in found {
            if !self.is_due(&path) {
                continue;
            }
            if self.taken.len() >= MOST_SPOOLS {
                self.is_limited = true;
                break;
            }
            if let Ok(Some(spool)) = Spool::claim(&path, config, Notices::of_process()) {
                let spool = Arc::new(spool);
                self.taken.push(Arc::downgrade(&spool));
                spools.push(spool);
            }
        }
        spools
    }

    fn is_due(&mut self, path: &Path) -> bool {
        if let Some(due) = self.due.get(path) {
            return due.elapsed() > Duration::ZERO;
        }
        let Ok(Some(owner)) = directory::read_owner(path) else { return false };
        if owner.is_offline || owner.is_elsewhere() || owner.is_own() || owner.is_running() {
            return false;
        }
        let wait = if owner.is_child() { Duration::ZERO } else { random_below(LONGEST_WAIT) };
        self.due.insert(path.to_owned(), Instant::now() + wait);
        owner.is_child()
    }
}

/// Returns the number of spools of a run that children of this process have left, and that are not
/// stored yet.
pub(crate) fn left_by_children(config: &Config, run_id: &str) -> usize {
    let is_left = |path: &PathBuf| {
        let owner = directory::read_owner(path).ok().flatten();
        owner.is_some_and(|owner| {
            owner.run_id == run_id && owner.is_child() && !owner.is_offline && !owner.is_running()
        })
    };
    spools_of(config).iter().filter(|path| is_left(path)).count()
}

fn spools_of(config: &Config) -> Vec<PathBuf> {
    config.spool_dirs.iter().flat_map(|root| directory::list(root)).collect()
}
