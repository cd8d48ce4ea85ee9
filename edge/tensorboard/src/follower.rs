//! A follower of a directory: it reads the data that writers of event files add, and publishes it, each run in parts
//! and several runs at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    path::PathBuf,
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use matyan_channels::Channels;
use tokio::{task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    error::FollowError,
    run::RunState,
    scan::{Scan, scan},
    settings::FollowSettings,
};

/// Time between two scans of the directory.
const INTERVAL: Duration = Duration::from_millis(500);

/// The longest time between two attempts to reach a server.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Runs that are read and published at the same time. Each holds one file, and a part of this file in memory.
const CONCURRENT_RUNS: usize = 8;

/// Different problems that are reported, so that a directory of broken files does not flood a log.
const MAX_PROBLEMS: usize = 1_000;

/// A notice for the user of a follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FollowNotice {
    Progress(FollowProgress),
    /// Data that is left out, with its file or run.
    Problem(String),
    /// The server cannot be reached. Reported once until the server can be reached again.
    Waiting(String),
}

/// The data that was published since the last notice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FollowProgress {
    /// Ids of runs that were started.
    pub begun: Vec<String>,
    pub points: u64,
    pub objects: u64,
}

/// A follower of one directory.
#[derive(Debug)]
pub struct Follower {
    channels: Channels,
    settings: FollowSettings,
    /// The runs by their folders below the directory.
    runs: BTreeMap<PathBuf, RunState>,
    reported: BTreeSet<String>,
}

/// The result of one scan of the directory.
#[derive(Debug, Default)]
struct Turn {
    progress: FollowProgress,
    problems: Vec<String>,
    has_more: bool,
}

impl Follower {
    pub fn new(channels: Channels, settings: FollowSettings) -> Self {
        Self { channels, settings, runs: BTreeMap::new(), reported: BTreeSet::new() }
    }

    /// Publishes all data that is in the directory. If it fails, a later call continues where this call has stopped.
    pub async fn catch_up(&mut self, mut notify: impl FnMut(FollowNotice)) -> Result<(), FollowError> {
        while self.turn(&mut notify).await? {}
        self.save().await
    }

    /// Publishes all present and future data, until it is stopped. Waits for a server that cannot be reached.
    pub async fn follow(
        &mut self,
        stop: &CancellationToken,
        mut notify: impl FnMut(FollowNotice),
    ) -> Result<(), FollowError> {
        let mut failures = 0;
        loop {
            let Some(turn) = stop.run_until_cancelled(self.turn(&mut notify)).await else { break };
            let pause = match turn {
                Ok(true) => {
                    failures = 0;
                    continue;
                }
                Ok(false) => {
                    failures = 0;
                    INTERVAL
                }
                Err(FollowError::Temporary(status)) => {
                    if failures == 0 {
                        notify(FollowNotice::Waiting(status.message().to_owned()));
                    }
                    failures += 1;
                    (INTERVAL * failures).min(LONGEST_PAUSE)
                }
                Err(refused) => return Err(refused),
            };
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                break;
            }
        }
        if let Err(error) = self.save().await {
            let problem =
                format!("failed to store the positions of files: {error}; some data will be read again");
            notify(FollowNotice::Problem(problem));
        }
        Ok(())
    }

    /// Scans the directory once, and publishes a part of the new data of each run. Returns whether there may be more.
    async fn turn(&mut self, notify: &mut impl FnMut(FollowNotice)) -> Result<bool, FollowError> {
        let mut turn = Turn::default();
        let ended = self.advance_runs(&mut turn).await;
        let Turn { progress, problems, has_more } = turn;
        if progress != FollowProgress::default() {
            notify(FollowNotice::Progress(progress));
        }
        for problem in problems {
            if self.reported.len() < MAX_PROBLEMS && self.reported.insert(problem.clone()) {
                notify(FollowNotice::Problem(problem));
            }
        }
        ended.map(|()| has_more)
    }

    async fn advance_runs(&mut self, turn: &mut Turn) -> Result<(), FollowError> {
        let root = self.settings.root.clone();
        let scanned = spawn_blocking(move || scan(&root)).await;
        let Scan { folders, problems } = scanned.expect("looking for files does not panic");
        turn.problems.extend(problems);
        let mut known = mem::take(&mut self.runs);
        for (folder, files) in &folders {
            let run = known.remove(folder).filter(|run| run.is_of(files));
            let run = run.unwrap_or_else(|| RunState::new(folder, files));
            self.runs.insert(folder.clone(), run);
        }
        let Self { channels, settings, runs, .. } = self;
        let runs = folders.iter().zip(runs.values_mut());
        // A future of a run takes memory, so only a run with work has one.
        let work: Vec<_> = runs.filter(|((_, files), run)| run.has_work(files)).collect();
        let mut work = work.into_iter();
        let mut advances = FuturesUnordered::new();
        loop {
            while advances.len() < CONCURRENT_RUNS
                && let Some(((folder, files), run)) = work.next()
            {
                advances.push(run.advance(channels, settings, folder, files));
            }
            let Some(advanced) = advances.next().await else { return Ok(()) };
            let advance = advanced?;
            turn.progress.begun.extend(advance.begun);
            turn.progress.points += advance.points;
            turn.progress.objects += advance.objects;
            turn.problems.extend(advance.problems);
            turn.has_more |= advance.has_more;
        }
    }

    /// Writes the positions of all runs.
    async fn save(&mut self) -> Result<(), FollowError> {
        for run in self.runs.values_mut() {
            run.save(&self.channels).await?;
        }
        Ok(())
    }
}
