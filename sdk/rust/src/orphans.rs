//! Spools that other processes left: forked children that ended by `_exit`, and scripts that were
//! killed. Whoever finds one sends it.

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
    spool::{
        directory::{self, Owner},
        store::Spool,
    },
    sys::process,
};

/// Longest wait before the spool of a process that this one did not fork is taken, so that not
/// every script of a user reads it at the same moment.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Most spools of others that are sent at the same time.
const MOST_SPOOLS: usize = 8;

/// Repeated search for spools without a living owner.
#[derive(Default)]
pub(crate) struct OrphanScan {
    /// When a spool may be taken.
    due: HashMap<PathBuf, Instant>,
    taken: Vec<Weak<Spool>>,
}

impl OrphanScan {
    /// Takes spools whose time has come.
    pub(crate) fn take_due(&mut self, configs: &[Config]) -> Vec<Arc<Spool>> {
        self.taken.retain(|spool| spool.upgrade().is_some_and(|spool| spool.is_usable()));
        let in_config = |config| spools_of(config).into_iter().map(move |path| (config, path));
        let found: Vec<(&Config, PathBuf)> = configs.iter().flat_map(in_config).collect();
        self.due.retain(|path, _| found.iter().any(|(_, found)| found == path));
        let mut spools = Vec::new();
        for (config, path) in found {
            if self.taken.len() >= MOST_SPOOLS {
                break;
            }
            if self.is_due(&path)
                && let Ok(Some(spool)) = Spool::claim(&path, config, Notices::default())
            {
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
        if owner.is_offline || owner.is_elsewhere() || is_own(&owner) || owner.is_running() {
            return false;
        }
        let wait = if owner.is_child() { Duration::ZERO } else { random_below(LONGEST_WAIT) };
        self.due.insert(path.to_owned(), Instant::now() + wait);
        owner.is_child()
    }
}

fn spools_of(config: &Config) -> Vec<PathBuf> {
    config.spool_dirs.iter().flat_map(|root| directory::list(root)).collect()
}

/// Whether this process made the spool, which it still sends itself.
fn is_own(owner: &Owner) -> bool {
    owner.process.pid == std::process::id() && owner.process.started == process::started()
}
