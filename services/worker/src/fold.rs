//! Folds blocks into chunks, on a dedicated thread, because folding is CPU-bound for tens of
//! milliseconds at a time.
//!
//! Writers send the blocks that they have written. A run is folded when it has enough of them,
//! has ended, or has been silent for a while. A fold has many transactions, and the folds of a few runs take
//! turns, so that a run with few points does not wait for the end of a run with many. In a store on other machines,
//! where a fold mostly waits for the network, a few of them have a turn at the same time. The writer of a run waits
//! before it writes more than its share, so that blocks never pile up faster than they are folded; a run that
//! writes little never waits for others. The notices are only hints: the list of runs with blocks is in the
//! store, and is read at the start, after a failure, and every few minutes, to find the blocks that another
//! process has left. Such a search is done in small steps between notices, because writers wait for notices
//! to be handled.
//!
//! A run whose rows are damaged is put in quarantine. Otherwise its blocks would pile up without end.
//!
//! A run is folded by the process that writes it. Other processes get no notices of it, so the
//! lack of notices does not mean that it is silent: a run is silent only if the number of its
//! next block has not changed. Two processes may fold the same run; the row of the fold lets
//! only one of them commit.

mod active_fold;
mod notices;

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use matyan_model::{
    ids::{Project, RunId, RunNumber},
    keys,
    project::projects_list,
    run::{document_get, run_id_get, writing_get},
    series::{FoldStatus, RunRef, StoredBlocks, UnfoldedBlocks},
};
use matyan_store::{Commit, Range, Scan, Transaction};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{
    apply::{RunKey, WrittenBlocks, quarantine_damaged},
    deps::Deps,
    error::Error,
    heartbeat::{BEAT_INTERVAL, Heartbeat},
    metrics::Metrics,
};
use active_fold::ActiveFold;
pub use notices::FoldNotices;
pub(crate) use notices::UnhandledBlocks;
use notices::{CountedBlocks, FoldNotice, NOTICES};

/// Number of folds that take turns. Each keeps its blocks in memory.
const FOLDS_AT_ONCE: usize = 3;
/// Number of further folds, of runs with few unfolded bytes: a few transactions each.
const SMALL_FOLDS_AT_ONCE: usize = 3;
const SMALL_FOLD_BYTES: u64 = 1 << 20;
/// Number of folds that have a turn at the same time, in a store on other machines. Each of these transactions takes
/// up to some 15 MB. One more than the folds of any size, so that a small fold never waits for the turns of large ones.
const TURNS_AT_ONCE: usize = FOLDS_AT_ONCE + 1;
/// Time after a fold in which a run is busy.
const BUSY_US: u64 = 1_000_000;
/// Interval between searches for silent runs.
const SEARCH_INTERVAL: Duration = Duration::from_secs(30);
/// Time without a write after which a run is folded as if it had ended.
const SILENT_US: i64 = 300_000_000;
/// Interval between reads of the list of runs with blocks.
const LIST_INTERVAL_US: u64 = 300_000_000;
/// Runs of other processes that are watched for silence after a list. If there are more, as on a large
/// cluster, each process watches some of them, and others after it reads the list again.
const MOST_WATCHED: usize = 2_000;
/// Rows of the list that are read at a time.
const LIST_PAGE: Scan = Scan { rows: 1_000, keys_only: true, ..Scan::DEFAULT };

/// Handle of the thread that folds.
pub struct FoldThread {
    thread: JoinHandle<()>,
    heartbeat: Heartbeat,
    /// Closed when the thread ends.
    running: watch::Receiver<()>,
}

impl FoldThread {
    /// Starts the thread. It ends when `stop` is canceled, after the current transactions.
    pub fn start(
        deps: Deps,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> std::io::Result<(FoldNotices, Self)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let (notices, task) = FoldTask::new(deps, metrics);
        let heartbeat = task.heartbeat.clone();
        let thread = std::thread::Builder::new().name("fold".to_owned());
        let (held, running) = watch::channel(());
        let thread = thread.spawn(move || {
            let _held = held;
            runtime.block_on(task.run(stop));
        })?;
        Ok((notices, Self { thread, heartbeat, running }))
    }

    /// Heartbeat of its loop.
    pub fn heartbeat(&self) -> Heartbeat {
        self.heartbeat.clone()
    }

    /// Returns when the thread has ended, because it was stopped or panicked. Cancel-safe.
    pub async fn ended(&self) {
        let mut running = self.running.clone();
        while running.changed().await.is_ok() {}
    }

    /// Waits until the thread has ended.
    pub async fn finish(self) {
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the fold thread panicked");
        }
    }
}

struct FoldTask {
    deps: Deps,
    metrics: Metrics,
    heartbeat: Heartbeat,
    notices: mpsc::Receiver<FoldNotice>,
    missed: Arc<AtomicBool>,
    /// Time at which the list was last read.
    listed_us: i64,
    /// Number of runs in the list then that this process did not know.
    unknown: usize,
    pending: HashMap<FoldKey, PendingRun>,
    /// Runs that were folded lately, and when.
    folded: HashMap<FoldKey, i64>,
    search: Option<FoldSearch>,
    /// Runs that are due, and whose folds have not begun.
    due: VecDeque<FoldKey>,
    /// Folds that wait for their turns.
    active: VecDeque<ActiveFold>,
    /// Folds that have a turn, in a store on other machines.
    turns: JoinSet<EndedTurn>,
    /// The runs in `due`, `active` and `turns`, with the blocks for which their writers may wait.
    scheduled: HashMap<FoldKey, Vec<Arc<CountedBlocks>>>,
}

type FoldKey = (Project, RunNumber);
type EndedTurn = (ActiveFold, matyan_store::Result<FoldStatus>);

/// A search for runs to fold for which no notice came.
#[derive(Default)]
struct FoldSearch {
    /// Parts of the list in the store that are yet to be read.
    unread: Vec<(Project, Range)>,
    /// Whether the blocks of each run are counted, because a notice was missed. If not, new runs are only
    /// watched for silence.
    counts_blocks: bool,
    /// Number of runs of the list that this process does not know.
    unknown: usize,
    /// Runs of the list that are yet to be read.
    listed: Vec<FoldKey>,
    /// Runs that are yet to be looked at, once the list was read.
    unseen: Option<Vec<FoldKey>>,
}

/// A run with blocks.
struct PendingRun {
    id: RunId,
    /// Counts of unfolded blocks, as far as this process knows.
    unfolded: UnfoldedBlocks,
    is_ended: bool,
    /// Blocks below this number were counted in the store. A notice about them may come later.
    counted_before: u64,
    /// Number of its next block when it was last touched.
    next_block: u64,
    touched_us: i64,
}

impl FoldTask {
    fn new(deps: Deps, metrics: Metrics) -> (FoldNotices, Self) {
        let (sender, notices) = mpsc::channel(NOTICES);
        let missed = Arc::new(AtomicBool::new(true));
        let heartbeat = Heartbeat::for_long_rounds("folding");
        let task = Self {
            deps,
            metrics,
            heartbeat,
            notices,
            missed: missed.clone(),
            listed_us: i64::MIN,
            unknown: 0,
            pending: HashMap::new(),
            folded: HashMap::new(),
            search: None,
            due: VecDeque::new(),
            active: VecDeque::new(),
            turns: JoinSet::new(),
            scheduled: HashMap::new(),
        };
        (FoldNotices::new(sender, missed), task)
    }

    async fn run(mut self, stop: CancellationToken) {
        let mut searches = tokio::time::interval(SEARCH_INTERVAL);
        searches.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut beats = tokio::time::interval(BEAT_INTERVAL);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_searching = self.search.is_some();
            // All turns that may begin in a store on other machines have begun.
            let is_folding = !self.is_remote() && !self.scheduled.is_empty();
            tokio::select! {
                // Stopping and heartbeats take precedence.
                biased;
                () = stop.cancelled() => break,
                _ = beats.tick() => self.beat(),
                _ = searches.tick(), if !is_searching => self.start_search().await,
                Some(turn) = self.turns.join_next() => self.end_concurrent_turn(turn).await,
                Some(notice) = self.notices.recv() => self.handle(notice),
                () = tokio::task::yield_now(), if is_searching || is_folding => {}
            }
            self.handle_waiting_notices();
            self.step_search().await;
            if self.is_remote() { self.start_turns() } else { self.step_fold().await }
        }
        self.finish_turns().await;
    }

    /// Waits for the turns that have begun. If one of them panics, so does the thread, after the others.
    async fn finish_turns(&mut self) {
        let mut panicked = None;
        while let Some(turn) = self.turns.join_next().await {
            panicked = panicked.or(turn.err());
        }
        if let Some(error) = panicked {
            std::panic::resume_unwind(error.into_panic());
        }
    }

    fn is_remote(&self) -> bool {
        self.deps.store.is_remote()
    }

    /// Beats, except during concurrent turns: only their ends show that the folds are making progress.
    fn beat(&self) {
        if self.turns.is_empty() {
            self.heartbeat.beat();
        }
    }

    /// Writers wait for notices to be handled, and a transaction of a fold takes long.
    fn handle_waiting_notices(&mut self) {
        for _ in 0..NOTICES {
            let Ok(notice) = self.notices.try_recv() else { return };
            self.handle(notice);
        }
    }

    fn handle(&mut self, notice: FoldNotice) {
        let FoldNotice { run, blocks, counted } = notice;
        let counted = Arc::new(counted);
        for blocks in blocks {
            let key = self.count_blocks(&run, blocks);
            self.schedule(key, Some(&counted));
        }
    }

    /// Schedules the fold of a run, if it is due.
    fn schedule(&mut self, key: FoldKey, counted: Option<&Arc<CountedBlocks>>) {
        if !self.is_due(key) && !self.scheduled.contains_key(&key) {
            return;
        }
        let waiting = match self.scheduled.entry(key) {
            Entry::Occupied(scheduled) => scheduled.into_mut(),
            Entry::Vacant(unscheduled) => {
                self.due.push_back(key);
                unscheduled.insert(Vec::new())
            }
        };
        waiting.extend(counted.cloned());
    }

    fn is_due(&self, key: FoldKey) -> bool {
        self.pending
            .get(&key)
            .is_some_and(|pending| pending.is_ended || pending.unfolded.is_due(self.is_busy(key)))
    }

    fn count_blocks(&mut self, run: &RunKey, blocks: WrittenBlocks) -> FoldKey {
        let key = (run.project, blocks.number);
        let touched_us = self.deps.now_us();
        let pending = self.pending.entry(key).or_insert_with(|| PendingRun {
            id: run.id.clone(),
            unfolded: UnfoldedBlocks::default(),
            is_ended: false,
            counted_before: 0,
            next_block: 0,
            touched_us,
        });
        pending.next_block = blocks.next_block;
        pending.touched_us = touched_us;
        pending.is_ended |= blocks.is_ended;
        let first = blocks.next_block.saturating_sub(blocks.blocks.len() as u64);
        for (number, block) in (first..).zip(&blocks.blocks) {
            if number < pending.counted_before {
                continue;
            }
            if let Err(error) = pending.unfolded.add(block) {
                tracing::error!(run = pending.id.as_str(), %error, "failed to decode newly written block");
            }
        }
        key
    }

    /// Starts a search: reads the list in the store if a notice was missed or the interval has passed.
    async fn start_search(&mut self) {
        let counts_blocks = self.missed.swap(false, Ordering::Relaxed);
        let now_us = self.deps.now_us();
        self.folded.retain(|_, folded_us| now_us.abs_diff(*folded_us) < BUSY_US);
        let mut search = FoldSearch { counts_blocks, ..FoldSearch::default() };
        if counts_blocks || now_us.abs_diff(self.listed_us) >= LIST_INTERVAL_US {
            match self.list_parts().await {
                Ok(parts) => {
                    search.unread = parts;
                    self.listed_us = now_us;
                }
                Err(error) => self.fail_to_list(counts_blocks, &error),
            }
        }
        self.search = Some(search);
    }

    fn fail_to_list(&mut self, counts_blocks: bool, error: &Error) {
        tracing::warn!(%error, "failed to list runs to fold; will retry");
        self.missed.fetch_or(counts_blocks, Ordering::Relaxed);
        self.listed_us = i64::MIN;
    }

    async fn list_parts(&self) -> Result<Vec<(Project, Range)>, Error> {
        let projects = projects_list(&*self.deps.store.snapshot().await?).await?;
        Ok(projects.iter().map(|project| (project.number, keys::unfolded_all(project.number))).collect())
    }

    /// Does a step of the search: reads a page of the list, or looks at one run. A run that cannot be folded
    /// does not stop the others.
    async fn step_search(&mut self) {
        let Some(mut search) = self.search.take() else { return };
        self.beat();
        if !search.listed.is_empty() || !search.unread.is_empty() {
            if let Err(error) = self.read_list(&mut search).await {
                self.fail_to_list(search.counts_blocks, &error);
                search.unread.clear();
                search.listed.clear();
            }
            self.search = Some(search);
            return;
        }
        let unseen = search.unseen.get_or_insert_with(|| self.pending.keys().copied().collect());
        let Some(key) = unseen.pop() else { return };
        self.search = Some(search);
        match self.end_if_silent(key).await {
            Ok(()) => self.schedule(key, None),
            Err(error) => self.fail(key, error).await,
        }
    }

    /// Marks a silent run as ended, or drops it if another process is writing it.
    async fn end_if_silent(&mut self, key: FoldKey) -> Result<(), Error> {
        let silent_before = self.deps.now_us().saturating_sub(SILENT_US);
        let Some(pending) = self.pending.get_mut(&key) else { return Ok(()) };
        if pending.is_ended || pending.touched_us >= silent_before {
            return Ok(());
        }
        let writing = writing_get(&*self.deps.store.snapshot().await?, key.0, key.1).await?;
        pending.is_ended = pending.next_block == writing.next_block;
        if !pending.is_ended {
            self.pending.remove(&key);
        }
        Ok(())
    }

    /// Reads the next run of the list, or the next page of the list.
    async fn read_list(&mut self, search: &mut FoldSearch) -> Result<(), Error> {
        if let Some(key) = search.listed.pop() {
            return match self.read_run(key, search.counts_blocks).await {
                Err(error) if !error.is_temporary() => {
                    self.fail(key, error).await;
                    Ok(())
                }
                read => read,
            };
        }
        let Some((project, range)) = search.unread.pop() else { return Ok(()) };
        let prefix = keys::unfolded_all(project).start;
        let snapshot = self.deps.store.snapshot().await?;
        let page = snapshot.scan(&range, LIST_PAGE).await?;
        for (key, _) in &page.rows {
            let (number,): (u64,) = keys::tail(&prefix, key)?;
            let key = (project, RunNumber(number));
            let is_unknown = !self.pending.contains_key(&key);
            search.unknown += usize::from(is_unknown);
            if search.counts_blocks || is_unknown && self.is_watched(key.1) {
                search.listed.push(key);
            }
        }
        let rest = page.rows.last().filter(|_| page.more).map(|(last, _)| range.after(last));
        search.unread.extend(rest.map(|rest| (project, rest)));
        if search.unread.is_empty() {
            self.unknown = search.unknown;
        }
        Ok(())
    }

    /// Whether a run of this list is watched. The time at which the list was read decides, so that each process
    /// watches other runs.
    fn is_watched(&self, number: RunNumber) -> bool {
        let share = self.unknown.div_ceil(MOST_WATCHED).max(1) as u64;
        let hash = (number.0 ^ self.listed_us.cast_unsigned()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (hash >> 32).is_multiple_of(share)
    }

    async fn read_run(&mut self, key: FoldKey, counts_blocks: bool) -> Result<(), Error> {
        // A known run keeps its time, so that reading the list does not delay the moment
        // when it counts as silent.
        let known = self.pending.get(&key).map(|pending| (pending.next_block, pending.touched_us));
        if known.is_some() && !counts_blocks {
            return Ok(());
        }
        let (project, number) = key;
        let snapshot = self.deps.store.snapshot().await?;
        let Some(id) = run_id_get(&*snapshot, project, number).await? else { return Ok(()) };
        let mut unfolded = UnfoldedBlocks::default();
        let mut is_ended = false;
        let mut counted_before = 0;
        if counts_blocks {
            let document = document_get(&*snapshot, project, number).await?;
            let stored = StoredBlocks::count(&*snapshot, RunRef { project, number }).await?;
            is_ended = stored.is_folding || document.is_some_and(|document| !document.props.active);
            unfolded = stored.unfolded;
            counted_before = stored.next_block;
        }
        let (next_block, touched_us) = match known {
            Some(known) => known,
            None => (writing_get(&*snapshot, project, number).await?.next_block, self.deps.now_us()),
        };
        let pending = PendingRun { id, unfolded, is_ended, counted_before, next_block, touched_us };
        self.pending.insert(key, pending);
        Ok(())
    }

    /// Keeps the counts of a run after a temporary error, so that the next search retries. After any other
    /// error, the run is damaged: its writer would continue, and each notice would retry in vain.
    async fn fail(&mut self, (project, number): FoldKey, error: Error) {
        let id = self.pending.get(&(project, number)).map(|pending| pending.id.clone());
        let run = id.as_ref().map(RunId::as_str);
        if error.is_temporary() {
            return tracing::warn!(run, number = number.0, %error, "failed to fold run; will retry");
        }
        tracing::error!(run, number = number.0, %error, "failed to fold run");
        self.pending.remove(&(project, number));
        let Error::Store(matyan_store::Error::Corrupt { reason, .. }) = error else { return };
        if let Err(error) = self.quarantine((project, number), id, &reason).await {
            tracing::warn!(number = number.0, %error, "failed to put run in quarantine; will retry");
        }
    }

    async fn quarantine(
        &self,
        (project, number): FoldKey,
        id: Option<RunId>,
        reason: &str,
    ) -> Result<(), matyan_store::Error> {
        let id = match id {
            None => run_id_get(&*self.deps.store.snapshot().await?, project, number).await?,
            id => id,
        };
        match id {
            Some(id) => {
                let run = (project, number, &id);
                quarantine_damaged(&self.deps, &self.metrics.transactions, run, reason).await
            }
            None => Ok(()),
        }
    }

    /// Begins the next fold, and does a transaction of the fold whose turn it is.
    async fn step_fold(&mut self) {
        if let Some(begun) = self.begin_next() {
            self.take_turn(begun).await;
        }
        if let Some(fold) = self.active.pop_front() {
            self.take_turn(fold).await;
        }
    }

    async fn take_turn(&mut self, mut fold: ActiveFold) {
        self.heartbeat.beat();
        let status = fold.turn(&*self.deps.store, self.deps.now_us()).await;
        self.end_turn(fold, status).await;
    }

    /// Begins folds, and starts the turns of as many as may have one at the same time.
    fn start_turns(&mut self) {
        while let Some(begun) = self.begin_next() {
            self.active.push_back(begun);
        }
        while self.turns.len() < TURNS_AT_ONCE
            && let Some(mut fold) = self.active.pop_front()
        {
            let store = Arc::clone(&self.deps.store);
            let now_us = self.deps.now_us();
            self.turns.spawn(async move {
                let status = fold.turn(&*store, now_us).await;
                (fold, status)
            });
        }
    }

    async fn end_concurrent_turn(&mut self, turn: Result<EndedTurn, JoinError>) {
        match turn {
            Ok((fold, status)) => self.end_turn(fold, status).await,
            // Turns are never aborted, and a panic ends the thread, wherever it happened.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Continues after a turn. A run that cannot be folded does not stop the others.
    async fn end_turn(&mut self, fold: ActiveFold, status: matyan_store::Result<FoldStatus>) {
        self.heartbeat.beat();
        let ActiveFold { key, is_ended, started, .. } = fold;
        let ended = match status {
            Ok(FoldStatus::InProgress) => return self.active.push_back(fold),
            Ok(FoldStatus::Done | FoldStatus::Superseded) => {
                self.finish_and_reschedule(key, is_ended, started).await
            }
            Ok(FoldStatus::RunDead) => {
                self.pending.remove(&key);
                self.scheduled.remove(&key);
                Ok(())
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = ended {
            if let Some(pending) = self.pending.get_mut(&key) {
                pending.is_ended |= is_ended;
            }
            self.scheduled.remove(&key);
            self.fail(key, error).await;
        }
    }

    /// Begins the first due fold that may begin now.
    fn begin_next(&mut self) -> Option<ActiveFold> {
        while let Some(key) = self.next_due() {
            let begun = self.begin_fold(key);
            if begun.is_some() {
                return begun;
            }
        }
        None
    }

    /// Takes the first due run whose fold may begin now.
    fn next_due(&mut self) -> Option<FoldKey> {
        let begun = self.active.len() + self.turns.len();
        let room = (FOLDS_AT_ONCE + SMALL_FOLDS_AT_ONCE).checked_sub(begun)?;
        let is_small = |key: &FoldKey| {
            self.pending.get(key).is_none_or(|pending| pending.unfolded.bytes < SMALL_FOLD_BYTES)
        };
        let first = match room {
            0 => return None,
            // The last places are for small folds.
            1..=SMALL_FOLDS_AT_ONCE => self.due.iter().position(is_small)?,
            _ => 0,
        };
        self.due.remove(first)
    }

    /// Begins the fold of a run, unless the run is no longer due. From then on, an end is a new one: it may be
    /// reported while the fold is in progress.
    fn begin_fold(&mut self, key: FoldKey) -> Option<ActiveFold> {
        let is_due = self.is_due(key);
        let Some(pending) = self.pending.get_mut(&key).filter(|_| is_due) else {
            self.scheduled.remove(&key);
            return None;
        };
        let is_ended = std::mem::take(&mut pending.is_ended);
        Some(ActiveFold::new(key, &pending.id, is_ended))
    }

    /// Finishes the fold of a run, and schedules another fold of the run if it is due again.
    async fn finish_and_reschedule(
        &mut self,
        key: FoldKey,
        is_ended: bool,
        started: Instant,
    ) -> Result<(), Error> {
        self.metrics.folds.runs.inc();
        self.metrics.folds.seconds.observe(started.elapsed().as_secs_f64());
        if !is_ended {
            self.folded.insert(key, self.deps.now_us());
        }
        let finished = self.finish_fold(key).await;
        if finished.is_err()
            && let Some(pending) = self.pending.get_mut(&key)
        {
            pending.is_ended |= is_ended;
        }
        finished?;
        if self.is_due(key) {
            self.due.push_back(key);
        } else {
            self.scheduled.remove(&key);
        }
        Ok(())
    }

    /// Whether a run was folded so lately that the next fold can wait for more points.
    fn is_busy(&self, key: FoldKey) -> bool {
        let now_us = self.deps.now_us();
        self.folded.get(&key).is_some_and(|folded_us| now_us.abs_diff(*folded_us) < BUSY_US)
    }

    /// Cleans up after a fold: removes the run from the list if it has no blocks left, and recounts its
    /// blocks if some are left.
    async fn finish_fold(&mut self, key: FoldKey) -> Result<(), Error> {
        let (project, number) = key;
        let run = RunRef { project, number };
        let mut transaction = Transaction::new(self.deps.store.snapshot().await?);
        transaction.set_buffered();
        let mut stored = StoredBlocks::count(transaction.unchecked(), run).await?;
        if stored.is_empty {
            // Checked by the commit: a writer may add a block before it.
            let later = keys::blocks_between(project, number, stored.next_block, u64::MAX);
            transaction.scan(&later, Scan { rows: 1, ..Scan::default() }).await?;
            transaction.batch().clear(keys::unfolded(project, number));
            if let Commit::Done { .. } = self.deps.store.commit(transaction.into_batch()).await? {
                self.pending.remove(&key);
                return Ok(());
            }
            stored = StoredBlocks::count(&*self.deps.store.snapshot().await?, run).await?;
        }
        if let Some(pending) = self.pending.get_mut(&key) {
            pending.unfolded = stored.unfolded;
            pending.is_ended |= stored.is_folding;
            pending.counted_before = stored.next_block;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
