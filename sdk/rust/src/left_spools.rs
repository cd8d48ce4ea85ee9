//! Spools that are on disk: listing, sending and removing them on request.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
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

/// Most spools that are sent at the same time: each needs a lock and a connection. Every server has
/// the same share of them, so that the spools of a server that is away do not hold up the others.
const MOST_SPOOLS: usize = 200;

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
    /// Spools that cannot be sent. A notice gives the reason.
    pub failed: usize,
    /// Spools that are not finished, and have a connection to their server.
    pub connected: usize,
    /// Spools with files that their server refuses for now. It has answered, so it is reachable.
    pub refused: usize,
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

/// Sends the spools that are wanted and that no process uses, including spools that were made offline, until
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
    let servers = options.servers.as_ref();
    let mut waiting: Vec<SpoolInfo> = wanted.filter(is_wanted).collect();
    let url_of =
        |found: &SpoolInfo| servers.map_or(&found.gateway_url, |servers| &servers.gateway_url).clone();
    let share = share(waiting.iter().map(url_of));
    let mut sending: Vec<Arc<Spool>> = Vec::new();
    let mut done = SyncProgress::default();
    loop {
        sending.retain(|spool| {
            let delivery = spool.progress.delivery();
            if delivery.is_finished {
                done.finished += 1;
                done.stored += delivery.stored_items;
            }
            !delivery.is_finished
        });
        let mut taken: HashMap<String, usize> = HashMap::new();
        for spool in &sending {
            *taken.entry(spool.owner().gateway_url.clone()).or_default() += 1;
        }
        // A spool does not overtake an earlier one of its run.
        let mut kept_back = HashSet::new();
        waiting.retain(|found| {
            let taken = taken.entry(url_of(found)).or_default();
            if *taken >= share || kept_back.contains(&found.run_id) {
                kept_back.insert(found.run_id.clone());
                return true;
            }
            match claim(found, config, servers, &notices) {
                // One that another process takes first is in good hands.
                Ok(None) => {}
                Ok(Some(spool)) => {
                    sending.push(spool);
                    *taken += 1;
                }
                Err(reason) => {
                    notices.push(NoticeLevel::Error, reason);
                    done.failed += 1;
                }
            }
            false
        });
        let progress = progress(done, &sending, waiting.len());
        if !report(progress) || progress.finished + progress.failed == progress.spools {
            report_unreachable(&sending, &notices);
            return (progress, notices.take());
        }
        let start = Instant::now();
        for spool in &sending {
            let left = REPORT_INTERVAL.saturating_sub(start.elapsed());
            spool.progress.wait_until(left, |delivery| delivery.is_finished);
        }
    }
}

/// Number of spools that may be sent to each server at the same time.
fn share(urls: impl Iterator<Item = String>) -> usize {
    let servers: HashSet<_> = urls.collect();
    (MOST_SPOOLS / servers.len().max(1)).max(1)
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
) -> Result<Option<Arc<Spool>>, String> {
    let is_ready = servers.map_or(Ok(true), |servers| redirect(&found.path, servers))?;
    if !is_ready {
        return Ok(None);
    }
    let claimed = Spool::claim(&found.path, config, notices.clone());
    let Some(mut spool) = claimed.map_err(|error| not_opened(&found.path, &error))? else { return Ok(None) };
    spool.send_if_offline();
    let spool = Arc::new(spool);
    io_thread::serve(spool.clone(), config);
    Ok(Some(spool))
}

/// Lets a spool be sent to other servers. Returns false if it is in use. It is an error if its own
/// server has stored a part of it: another one would not know what comes before.
fn redirect(path: &Path, servers: &ServerUrls) -> Result<bool, String> {
    let failed = |error| not_opened(path, &error);
    let Some((directory, owner)) = SpoolDirectory::claim(path).map_err(failed)? else { return Ok(false) };
    if cuts::are_acknowledged(path, directory.producer()).map_err(failed)? {
        let run = &owner.run_id;
        let url = &owner.gateway_url;
        return Err(format!(
            "run {run} is not sent to another server: {url} has stored a part of it, and gets the rest"
        ));
    }
    let ServerUrls { backend_url, gateway_url } = servers.clone();
    directory.set_owner(&Owner { backend_url, gateway_url, ..owner }).map_err(failed)?;
    Ok(true)
}

fn not_opened(path: &Path, error: &io::Error) -> String {
    format!("failed to open {}: {error}", path.display())
}

fn report_unreachable(spools: &[Arc<Spool>], notices: &Notices) {
    let mut errors = BTreeMap::new();
    let mut refusals = BTreeSet::new();
    for spool in spools {
        let delivery = spool.progress.delivery();
        let url = &spool.owner().gateway_url;
        if !delivery.is_finished && delivery.is_upload_refused() {
            let reasons = delivery.failed_uploads.values().map(|failure| &failure.reason);
            refusals.extend(reasons.map(|reason| format!("{url}: {reason}")));
        } else if !delivery.is_finished && !delivery.is_connected {
            errors.insert(url.clone(), delivery.error().map(str::to_owned));
        }
    }
    for refusal in refusals {
        notices.push(NoticeLevel::Error, refusal);
    }
    for (url, error) in errors {
        let reason = error.unwrap_or_else(|| "it does not answer".to_owned());
        notices.push(NoticeLevel::Error, format!("no connection to {url}: {reason}"));
    }
}

/// Adds the spools that are sent, and the spools that wait, to the progress.
fn progress(done: SyncProgress, sending: &[Arc<Spool>], waiting: usize) -> SyncProgress {
    let spools = done.finished + done.failed + sending.len() + waiting;
    let mut progress = SyncProgress { spools, ..done };
    for spool in sending {
        let delivery = spool.progress.delivery();
        progress.finished += usize::from(delivery.is_finished);
        progress.connected += usize::from(delivery.is_connected && !delivery.is_finished);
        progress.refused += usize::from(!delivery.is_finished && delivery.is_upload_refused());
        progress.stored += delivery.stored_items;
    }
    progress
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::{
        numbering::{Numbering, RunOrigin},
        sender::outbox::{Outbox, RejectedItems},
    };

    #[test]
    fn batches_are_not_taken_for_repeats_if_the_journal_is_gone() {
        let root = TempDir::new().unwrap();
        let config = Config { spool_dirs: vec![root.path().to_owned()], ..Config::default() };
        for is_gone in [false, true] {
            let owner = Owner::of_this_process("run", "http://h:1", "http://h:2", 1);
            let numbering = Numbering::of_run("http://h:1", "run", RunOrigin::New);
            let spool = Spool::create(&config, owner, numbering, Notices::default(), None).unwrap();
            assert!(spool.append_event(1, 0, &[8; 100]));
            spool.close();
            let path = spool.path();
            let producer = spool.producer();
            let mut outbox = Outbox::open(Arc::new(spool)).unwrap();
            outbox.next_frame().unwrap().unwrap();
            assert_eq!(outbox.acknowledge(1, None, RejectedItems::default()), Ok(true));
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
            let numbering = Numbering::of_run("http://old:1", "run", RunOrigin::New);
            let spool = Spool::create(&config, owner, numbering, Notices::default(), None).unwrap();
            for _ in 0..10 {
                assert!(spool.append_event(1, 0, &[8; 100]));
            }
            spool.close();
            let path = spool.path();
            let spool = Arc::new(spool);
            if let Some(sequence) = acknowledged {
                let mut outbox = Outbox::open(spool.clone()).unwrap();
                assert_eq!(outbox.next_frame().unwrap().unwrap().cut.sequence, 1);
                assert_eq!(outbox.acknowledge(sequence, None, RejectedItems::default()), Ok(sequence > 0));
            }
            drop(spool);
            let is_redirected = acknowledged != Some(1);
            assert_eq!(redirect(&path, &servers).is_ok_and(|is_free| is_free), is_redirected);
            let spool = Spool::claim(&path, &config, Notices::default()).unwrap().unwrap();
            let expected = if is_redirected { "http://new:1" } else { "http://old:1" };
            assert_eq!(spool.owner().gateway_url, expected);
        }
    }
}
