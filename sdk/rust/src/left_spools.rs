//! Spools that are on disk: listing, sending and removing them on request.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    config::Config,
    io_thread,
    notice::{Notice, NoticeLevel, Notices},
    spool::{
        cuts,
        directory::{self, Owner, SpoolDirectory},
        store::Spool,
    },
    upload::worker,
};

/// Interval at which progress is reported.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// Why a spool is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpoolState {
    /// Its process runs.
    InUse,
    /// Its process has ended, and the next one sends it.
    Left,
    /// It was made offline, and only `sync` sends it.
    Offline,
    /// Its process ran on another machine, and may still run there.
    Elsewhere,
}

/// A spool on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpoolInfo {
    pub path: PathBuf,
    pub run_id: String,
    pub gateway_url: String,
    /// Microseconds since the Unix epoch.
    pub created_us: i64,
    /// Size on disk of the records, including space that is reserved, and of the files that are not
    /// uploaded yet, as far as they are in the spool.
    pub bytes: u64,
    /// Files that are not uploaded yet.
    pub uploads: usize,
    pub state: SpoolState,
}

/// Choices for `sync`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncOptions {
    /// Whether spools of other machines are sent. On a file system without working locks, nothing
    /// shows that they are in use.
    pub elsewhere: bool,
    /// Servers that the spools are sent to instead of their own, unless these have stored a part.
    pub servers: Option<ServerUrls>,
}

/// Addresses of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrls {
    /// Base of the REST API.
    pub backend_url: String,
    /// Base of ingestion.
    pub gateway_url: String,
}

/// Progress of `sync`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyncProgress {
    /// Spools that are sent.
    pub spools: usize,
    /// Spools that are completely stored.
    pub finished: usize,
    /// Spools that are not finished, and have a connection to their server.
    pub connected: usize,
    /// Events and points that were stored so far.
    pub stored: u64,
}

/// Lists the spools of all directories in the settings, the oldest first.
pub fn spools(config: &Config) -> Vec<SpoolInfo> {
    let paths = config.spool_dirs.iter().flat_map(|root| directory::list(root));
    let mut spools: Vec<_> = paths.filter_map(info).collect();
    spools.sort_by_key(|spool| spool.created_us);
    spools
}

fn info(path: PathBuf) -> Option<SpoolInfo> {
    let owner = directory::read_owner(&path).ok()??;
    let segments = directory::segments(&path).unwrap_or_default();
    Some(SpoolInfo {
        bytes: segments.iter().map(|(_, bytes)| bytes).sum::<u64>() + directory::upload_bytes(&path),
        uploads: worker::pending_in(&directory::uploads(&path)).len(),
        state: state(&owner, &path),
        run_id: owner.run_id,
        gateway_url: owner.gateway_url,
        created_us: owner.created_us,
        path,
    })
}

fn state(owner: &Owner, path: &Path) -> SpoolState {
    if owner.is_elsewhere() {
        SpoolState::Elsewhere
    } else if owner.is_running() || owner.is_own() || directory::is_locked(path) {
        SpoolState::InUse
    } else if owner.is_offline {
        SpoolState::Offline
    } else {
        SpoolState::Left
    }
}

/// Sends the spools that are wanted and that no process uses, also those that were made offline, until
/// they are stored or `report` returns false. It is called every 100 ms. What is not sent stays, and
/// a notice gives the reason for each server.
pub fn sync(
    config: &Config,
    options: &SyncOptions,
    is_wanted: impl Fn(&SpoolInfo) -> bool,
    mut report: impl FnMut(SyncProgress) -> bool,
) -> (SyncProgress, Vec<Notice>) {
    let notices = Notices::default();
    let wanted = spools(config).into_iter().filter(|found| match found.state {
        SpoolState::InUse => false,
        SpoolState::Left | SpoolState::Offline => true,
        SpoolState::Elsewhere => options.elsewhere,
    });
    let wanted = wanted.filter(is_wanted);
    let servers = options.servers.as_ref();
    let claimed: Vec<_> = wanted.filter_map(|found| claim(&found, config, servers, &notices)).collect();
    loop {
        let progress = progress(&claimed);
        if !report(progress) || progress.finished == progress.spools {
            report_unreachable(&claimed, &notices);
            return (progress, notices.take());
        }
        let start = Instant::now();
        for spool in &claimed {
            let left = REPORT_INTERVAL.saturating_sub(start.elapsed());
            spool.progress.wait_until(left, |delivery| delivery.is_finished);
        }
    }
}

/// Removes a spool, with everything in it that was not sent. Returns false if a process uses it, or
/// has just removed it.
pub fn remove_spool(spool: &SpoolInfo) -> io::Result<bool> {
    let Some((directory, _)) = SpoolDirectory::claim(&spool.path)? else { return Ok(false) };
    directory.remove()?;
    Ok(true)
}

fn claim(
    found: &SpoolInfo,
    config: &Config,
    servers: Option<&ServerUrls>,
    notices: &Notices,
) -> Option<Arc<Spool>> {
    let is_ready = servers.map_or(Ok(true), |servers| redirect(&found.path, servers, notices));
    let claimed = is_ready.and_then(|is_ready| match is_ready {
        true => Spool::claim(&found.path, config, notices.clone()),
        false => Ok(None),
    });
    let claimed = claimed.inspect_err(|error| {
        let message = format!("failed to open {}: {error}", found.path.display());
        notices.push(NoticeLevel::Error, message);
    });
    // A spool that another process takes first is in good hands.
    let mut spool = claimed.ok()??;
    spool.send_if_offline();
    let spool = Arc::new(spool);
    io_thread::serve(spool.clone(), config);
    Some(spool)
}

/// Lets a spool be sent to other servers. Returns false if it is in use, or if its own server has
/// stored a part of it: another one would not know what comes before.
fn redirect(path: &Path, servers: &ServerUrls, notices: &Notices) -> io::Result<bool> {
    let Some((directory, owner)) = SpoolDirectory::claim(path)? else { return Ok(false) };
    if cuts::are_acknowledged(path, directory.producer())? {
        let (run, url) = (&owner.run_id, &owner.gateway_url);
        let message = format!(
            "run {run} is not sent to another server: {url} has stored a part of it, and gets the rest"
        );
        notices.push(NoticeLevel::Error, message);
        return Ok(false);
    }
    let ServerUrls { backend_url, gateway_url } = servers.clone();
    directory.set_owner(&Owner { backend_url, gateway_url, ..owner })?;
    Ok(true)
}

fn report_unreachable(spools: &[Arc<Spool>], notices: &Notices) {
    let mut errors = BTreeMap::new();
    for spool in spools {
        let delivery = spool.progress.delivery();
        if !delivery.is_finished && !delivery.is_connected {
            errors.insert(spool.owner().gateway_url.clone(), delivery.last_error);
        }
    }
    for (url, error) in errors {
        let reason = error.unwrap_or_else(|| "it does not answer".to_owned());
        notices.push(NoticeLevel::Error, format!("no connection to {url}: {reason}"));
    }
}

fn progress(spools: &[Arc<Spool>]) -> SyncProgress {
    let mut progress = SyncProgress { spools: spools.len(), ..SyncProgress::default() };
    for spool in spools {
        let delivery = spool.progress.delivery();
        progress.finished += usize::from(delivery.is_finished);
        progress.connected += usize::from(delivery.is_connected && !delivery.is_finished);
        progress.stored += delivery.stored_items;
    }
    progress
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::{numbering::Numbering, sender::outbox::Outbox};

    #[test]
    fn batches_are_not_taken_for_repeats_if_the_journal_is_gone() {
        let root = TempDir::new().unwrap();
        let config = Config { spool_dirs: vec![root.path().to_owned()], ..Config::default() };
        for is_gone in [false, true] {
            let owner = Owner::of_this_process("run", "http://h:1", "http://h:2", 1);
            let numbering = Numbering::of_run("http://h:1", "run", true);
            let spool = Spool::create(&config, owner, numbering, Notices::default(), None).unwrap();
            assert!(spool.append_event(1, 0, &[8; 100]));
            spool.close();
            let (path, producer) = (spool.path(), spool.producer());
            let mut outbox = Outbox::open(Arc::new(spool)).unwrap();
            outbox.next_frame().unwrap().unwrap();
            outbox.acknowledge(1, None);
            drop(outbox);
            if is_gone {
                std::fs::remove_file(path.join(cuts::FILE)).unwrap();
            }
            let notices = Notices::default();
            let spool = Arc::new(Spool::claim(&path, &config, notices.clone()).unwrap().unwrap());
            let mut outbox = Outbox::open(spool.clone()).unwrap();
            assert_eq!(outbox.next_frame().unwrap().is_some(), is_gone, "what is acknowledged is not sent");
            assert_eq!(spool.producer() != producer, is_gone);
            assert_eq!(notices.take().len(), usize::from(is_gone));
        }
    }

    #[test]
    fn only_a_spool_of_which_nothing_is_stored_gets_other_servers() {
        let root = TempDir::new().unwrap();
        let config = Config { spool_dirs: vec![root.path().to_owned()], ..Config::default() };
        let servers = ServerUrls { backend_url: "http://new:2".into(), gateway_url: "http://new:1".into() };
        for acknowledged in [None, Some(0), Some(1)] {
            let owner = Owner::of_this_process("run", "http://old:1", "http://old:2", 1);
            let numbering = Numbering::of_run("http://old:1", "run", true);
            let spool = Spool::create(&config, owner, numbering, Notices::default(), None).unwrap();
            (0..10).for_each(|_| assert!(spool.append_event(1, 0, &[8; 100])));
            spool.close();
            let path = spool.path();
            let spool = Arc::new(spool);
            if let Some(sequence) = acknowledged {
                let mut outbox = Outbox::open(spool.clone()).unwrap();
                assert_eq!(outbox.next_frame().unwrap().unwrap().cut.sequence, 1);
                outbox.acknowledge(sequence, None);
            }
            drop(spool);
            let notices = Notices::default();
            let is_redirected = acknowledged != Some(1);
            assert_eq!(redirect(&path, &servers, &notices).unwrap(), is_redirected);
            assert_eq!(notices.take().len(), usize::from(!is_redirected));
            let spool = Spool::claim(&path, &config, Notices::default()).unwrap().unwrap();
            let expected = if is_redirected { "http://new:1" } else { "http://old:1" };
            assert_eq!(spool.owner().gateway_url, expected);
        }
    }
}
