//! Tests of folding with several workers, and while the store is unavailable.

use std::collections::HashSet;

use bytes::Bytes;
use futures::FutureExt as _;
use matyan_model::{quarantine::quarantine_get, run::run_find};
use matyan_store::{Batch, Key, Mutation, Snapshot, Store, Value};
use tokio::sync::Semaphore;

use super::{
    notices::{ALL_BYTES, LIGHT_RUN_BYTES, MIN_NOTICE_BYTES, RUN_BYTES},
    *,
};
use crate::{
    apply::RunWriter,
    tests::harness::{P, TestEnv, TestRecord, record},
};

fn fold_task(env: &TestEnv) -> (FoldNotices, FoldTask) {
    FoldTask::new(env.deps.clone(), Metrics::new(&prometheus::Registry::new()).unwrap())
}

/// Whether the heartbeat of the task eventually reports a problem.
async fn hangs(env: &TestEnv) -> bool {
    let (_notices, task) = fold_task(env);
    let heartbeat = task.heartbeat.clone();
    let stop = CancellationToken::new();
    let folding = tokio::spawn(task.run(stop.clone()));
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(400)).await;
    folding.abort();
    heartbeat.problem().is_some()
}

#[tokio::test]
async fn folding_hangs_only_while_the_store_hangs() {
    let env = TestEnv::new().await;
    assert!(!hangs(&env).await);
    tokio::time::resume();
    env.faults.crash();
    assert!(hangs(&env).await);
}

/// An ingestion worker that folds the blocks that it writes.
struct Worker {
    notices: FoldNotices,
    task: FoldTask,
}

impl Worker {
    fn new(env: &TestEnv) -> Self {
        let (notices, task) = fold_task(env);
        Self { notices, task }
    }

    async fn apply(&mut self, env: &TestEnv, writer: &mut RunWriter, record: TestRecord) {
        let run = RunKey { project: P, project_name: "".into(), id: RunId::new(&record.entry.run_id) };
        let applied = env.apply_with(writer, vec![record]).await;
        self.notices.send(&run, applied.blocks, &UnhandledBlocks::default());
        let notice = self.task.notices.recv().await.unwrap();
        self.task.handle(notice);
        self.end_folds().await;
    }

    async fn end_folds(&mut self) {
        while !self.task.scheduled.is_empty() {
            self.task.step_fold().await;
        }
    }

    async fn fold_due_runs(&mut self) -> u64 {
        self.task.start_search().await;
        while self.task.search.is_some() {
            self.task.step_search().await;
        }
        self.end_folds().await;
        self.task.metrics.folds.runs.get()
    }
}

fn point(offset: u64, run: &str) -> TestRecord {
    record(offset).run(run).define(0, &["loss"]).points(0, &[(Some(offset as i64), 0.5)])
}

/// Number of unfolded blocks of a run.
async fn blocks(env: &TestEnv, run: &str) -> usize {
    let snapshot = env.store().snapshot().await.unwrap();
    let (number, _) = run_find(&*snapshot, P, &RunId::new(run)).await.unwrap().unwrap();
    let listed = snapshot.get(&keys::unfolded(P, number)).await.unwrap().is_some();
    let found = snapshot.scan(&keys::blocks(P, number), Scan::default()).await.unwrap().rows.len();
    assert_eq!(listed, found > 0, "{run}");
    found
}

/// A fold that ends counts all blocks in the store. Notices about some of them still wait.
#[tokio::test]
async fn rule_09_a_block_is_counted_once() {
    let env = TestEnv::new().await;
    let mut worker = Worker::new(&env);
    let mut writer = env.writer("run");
    worker.apply(&env, &mut writer, point(0, "run")).await;
    let key = *worker.task.pending.keys().next().unwrap();
    let run = RunKey { project: P, project_name: "".into(), id: RunId::new("run") };
    for offset in 1..4 {
        let applied = env.apply_with(&mut writer, vec![point(offset, "run")]).await;
        worker.notices.send(&run, applied.blocks, &UnhandledBlocks::default());
    }
    worker.task.finish_fold(key).await.unwrap();
    let counted = |worker: &Worker| worker.task.pending[&key].unfolded.blocks;
    assert_eq!(counted(&worker), 4);
    for _ in 1..4 {
        let notice = worker.task.notices.recv().await.unwrap();
        worker.task.handle(notice);
    }
    assert_eq!(counted(&worker), 4);
    worker.apply(&env, &mut writer, point(4, "run")).await;
    assert_eq!(counted(&worker), 5);
}

/// The second worker sees the run at its start, but gets no notices of blocks that the first worker writes.
#[tokio::test]
async fn a_run_is_folded_by_its_writer_or_by_any_worker_once_silent() {
    let env = TestEnv::new().await;
    let mut one = Worker::new(&env);
    let mut other = Worker::new(&env);
    let mut writer = env.writer("live");
    let mut lost = env.writer("lost");
    one.apply(&env, &mut writer, point(0, "live")).await;
    let minutes = |count: i64| env.now_us.fetch_add(count * 60_000_000, Ordering::Relaxed);
    for offset in 1..20 {
        assert_eq!((one.fold_due_runs().await, other.fold_due_runs().await), (0, 0), "at {offset}");
        minutes(2);
        one.apply(&env, &mut writer, point(offset, "live")).await;
        assert!(one.task.pending.len() <= 1 && other.task.pending.len() <= 1);
    }
    assert_eq!(blocks(&env, "live").await, 20);
    // Neither worker gets a notice of this run, and its writer has stopped.
    env.apply_with(&mut lost, vec![point(0, "lost")]).await;
    drop(one);
    for _ in 0..8 {
        minutes(2);
        other.fold_due_runs().await;
    }
    assert_eq!((blocks(&env, "live").await, blocks(&env, "lost").await), (0, 0));
    assert!(other.task.pending.is_empty());
    let read = env.read_run("live").await.unwrap();
    assert_eq!(read.metrics[0].1.steps, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_run_that_was_folded_a_moment_ago_collects_more_blocks() {
    let env = TestEnv::new().await;
    let mut worker = Worker::new(&env);
    let mut writer = env.writer("r");
    let many = |offset: u64| {
        let steps = (0..20_000).map(|at| offset as i64 * 20_000 + at);
        let points: Vec<_> = steps.map(|step| (Some(step), (step as f64).sqrt())).collect();
        record(offset).define(0, &["loss"]).points(0, &points)
    };
    worker.apply(&env, &mut writer, many(0)).await;
    assert_eq!(blocks(&env, "r").await, 0);
    worker.apply(&env, &mut writer, many(1)).await;
    let waiting = blocks(&env, "r").await;
    assert!(waiting > 0);
    worker.apply(&env, &mut writer, many(2)).await;
    assert!(blocks(&env, "r").await > waiting);
    env.now_us.fetch_add(BUSY_US as i64, Ordering::Relaxed);
    worker.apply(&env, &mut writer, many(3)).await;
    assert_eq!(blocks(&env, "r").await, 0);
    let read = env.read_run("r").await.unwrap();
    assert_eq!(read.metrics[0].1.steps, (0..80_000).collect::<Vec<_>>());
}

/// With many workers and live runs, each worker would otherwise read rows of all runs every five minutes.
#[tokio::test]
async fn rule_41_a_worker_watches_few_of_the_runs_of_others() {
    let env = TestEnv::new().await;
    let (_notices, mut task) = fold_task(&env);
    let numbers = (0..20 * MOST_WATCHED as u64).map(|second| RunNumber(second * 1_000_000));
    let watched = |task: &FoldTask| numbers.clone().filter(|number| task.is_watched(*number)).count();
    assert_eq!(watched(&task), 20 * MOST_WATCHED, "nothing was listed before");
    task.unknown = MOST_WATCHED;
    assert_eq!(watched(&task), 20 * MOST_WATCHED);
    task.unknown = 20 * MOST_WATCHED;
    task.listed_us = 1_767_225_600_000_000;
    assert!((MOST_WATCHED / 2..MOST_WATCHED * 2).contains(&watched(&task)), "{}", watched(&task));

    // No run is left out for good.
    let mut unseen: Vec<_> = numbers.clone().take(1_000).collect();
    for _list in 0..400 {
        task.listed_us += LIST_INTERVAL_US as i64 + 1_234;
        unseen.retain(|number| !task.is_watched(*number));
    }
    assert!(unseen.is_empty(), "{} runs were never watched", unseen.len());
}

/// Both workers find the run at the same time, and folding it takes more than one transaction.
#[tokio::test]
async fn rule_17_two_processes_may_fold_the_same_silent_run() {
    const SERIES: u32 = 300;
    let env = TestEnv::new().await;
    let names: Vec<_> = (0..SERIES).map(|series| format!("s{series}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let steps: Vec<_> = (0..1_000).map(|step| (Some(step), 0.5)).collect();
    let wide = (0..SERIES).fold(record(0).define(0, &names), |record, series| record.points(series, &steps));
    env.apply(vec![wide]).await;
    let mut workers = [Worker::new(&env), Worker::new(&env)];
    for worker in &mut workers {
        let unread = worker.task.list_parts().await.unwrap();
        let mut search = FoldSearch { unread, ..FoldSearch::default() };
        while !search.unread.is_empty() || !search.listed.is_empty() {
            worker.task.read_list(&mut search).await.unwrap();
        }
    }
    env.now_us.fetch_add(SILENT_US + 1, Ordering::Relaxed);
    let [one, other] = &mut workers;
    tokio::join!(one.fold_due_runs(), other.fold_due_runs());
    // The task that lost the race notices in its next search that nothing remains.
    tokio::join!(one.fold_due_runs(), other.fold_due_runs());
    assert!(one.task.pending.is_empty() && other.task.pending.is_empty());
    assert_eq!(blocks(&env, "r").await, 0);
    let read = env.read_run("r").await.unwrap();
    let expected: Vec<_> = (0..1_000).collect();
    let complete = read.metrics.iter().filter(|(_, points)| points.steps == expected);
    assert_eq!(complete.count(), SERIES as usize);
}

/// Blocks would pile up, and each of them would be read at every attempt.
#[tokio::test]
async fn rule_40_a_run_that_cannot_be_folded_is_put_in_quarantine() {
    let env = TestEnv::new().await;
    let mut worker = Worker::new(&env);
    let mut damaged = env.writer("damaged");
    let mut sound = env.writer("sound");
    worker.apply(&env, &mut damaged, point(0, "damaged")).await;
    worker.apply(&env, &mut sound, point(0, "sound")).await;
    let snapshot = env.store().snapshot().await.unwrap();
    let (number, _) = run_find(&*snapshot, P, &RunId::new("damaged")).await.unwrap().unwrap();
    let mut batch = Batch::default();
    batch.set(keys::block(P, number, 0), vec![0xff, 7]);
    env.store().commit(batch).await.unwrap();
    env.now_us.fetch_add(SILENT_US + 1, Ordering::Relaxed);
    let quarantine = async || {
        let snapshot = env.store().snapshot().await.unwrap();
        quarantine_get(&*snapshot, P, &RunId::new("damaged")).await.unwrap()
    };
    assert_eq!(worker.fold_due_runs().await, 1);
    assert!(worker.task.pending.is_empty());
    assert_eq!(blocks(&env, "sound").await, 0);
    let started = quarantine().await;
    assert!(started.is_some());
    // The list still has the run, which changes nothing.
    for _ in 0..3 {
        env.now_us.fetch_add(SILENT_US + 1, Ordering::Relaxed);
        worker.fold_due_runs().await;
    }
    assert_eq!(quarantine().await, started);
    // Its writer has it in memory.
    let applied = env.apply_with(&mut damaged, vec![point(1, "damaged")]).await;
    assert_eq!((applied.parked, applied.items), (1, 0));
    assert!(applied.blocks.is_empty());
    assert!(env.parked().await[0].reason.contains("`matyan runs resume damaged`"));
}

#[tokio::test]
async fn rule_39_a_run_that_writes_little_does_not_wait_for_the_folds_of_others() {
    let (sender, mut received) = mpsc::channel(NOTICES);
    let notices = FoldNotices::new(sender, Arc::default());
    let key = RunKey { project: P, project_name: "".into(), id: RunId::new("r") };
    let send = |run: &UnhandledBlocks, bytes: usize| {
        let blocks = vec![Bytes::from(vec![0; bytes])];
        let written = WrittenBlocks { number: RunNumber(1), next_block: 1, is_ended: false, blocks };
        notices.send(&key, vec![written], run);
    };
    let heavy: Vec<_> = (0..ALL_BYTES / RUN_BYTES).map(|_| UnhandledBlocks::default()).collect();
    for run in &heavy {
        send(run, RUN_BYTES - 1);
    }
    let light = UnhandledBlocks::default();
    send(&light, 1);
    send(&light, 1);
    let has_room = async |run| notices.wait_for_room(run).now_or_never().is_some();
    assert!(has_room(&light).await);
    // The blocks of this run are not over its own limit, but the blocks of all runs are over the common
    // limit.
    assert!(!has_room(&heavy[0]).await);
    for _ in 0..LIGHT_RUN_BYTES / MIN_NOTICE_BYTES {
        send(&light, 1);
    }
    assert!(!has_room(&light).await);
    drop(received.recv().await);
    assert!(has_room(&heavy[1]).await && has_room(&light).await);
}

/// Its points would be readable only after the end of the fold before it, which may take many seconds.
#[tokio::test]
async fn rule_39_the_folds_of_runs_take_turns() {
    const SERIES: u32 = 1_500;
    let env = TestEnv::new().await;
    let mut worker = Worker::new(&env);
    let names: Vec<_> = (0..SERIES).map(|series| format!("s{series}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let steps: Vec<_> = (0..500).map(|step| (Some(step), 0.5)).collect();
    let wide = record(0).run("wide").define(0, &names);
    let wide = (0..SERIES).fold(wide, |record, series| record.points(series, &steps));
    let many: Vec<_> = (0..20_000).map(|step| (Some(step), (step as f64).sqrt())).collect();
    let narrow = record(1).run("narrow").define(0, &["loss"]).points(0, &many);
    let waiting = [UnhandledBlocks::default(), UnhandledBlocks::default()];
    for ((run, record), unhandled) in [("wide", wide), ("narrow", narrow)].into_iter().zip(&waiting) {
        let key = RunKey { project: P, project_name: "".into(), id: RunId::new(run) };
        let mut applied = env.apply_with(&mut env.writer(run), vec![record]).await;
        for blocks in &mut applied.blocks {
            blocks.is_ended = true;
        }
        worker.notices.send(&key, applied.blocks, unhandled);
    }
    worker.task.handle_waiting_notices();
    let is_waiting = |at: usize| waiting[at].0.load(Ordering::Relaxed) > 0;
    // The writers of both wait for their own folds.
    assert!(is_waiting(0) && is_waiting(1));
    while is_waiting(1) {
        worker.task.step_fold().await;
    }
    assert!(is_waiting(0), "the fold of the wide run has not ended");
    assert_eq!(blocks(&env, "narrow").await, 0);
    worker.end_folds().await;
    assert!(!is_waiting(0));
    assert_eq!(blocks(&env, "wide").await, 0);
}

/// A notice that is handled between two turns of the fold.
#[tokio::test]
async fn a_run_that_ends_during_its_fold_is_folded_to_its_end() {
    let env = TestEnv::new().await;
    let mut worker = Worker::new(&env);
    let mut writer = env.writer("r");
    let key = RunKey { project: P, project_name: "".into(), id: RunId::new("r") };
    let many: Vec<_> = (0..20_000).map(|step| (Some(step), (step as f64).sqrt())).collect();
    let mut send = async |worker: &mut Worker, record: TestRecord, is_ended: bool| {
        let mut applied = env.apply_with(&mut writer, vec![record]).await;
        for blocks in &mut applied.blocks {
            blocks.is_ended = is_ended;
        }
        worker.notices.send(&key, applied.blocks, &UnhandledBlocks::default());
        worker.task.handle_waiting_notices();
    };
    send(&mut worker, record(0).define(0, &["loss"]).points(0, &many), false).await;
    let begun = worker.task.begin_next().unwrap();
    // It reads the blocks.
    worker.task.take_turn(begun).await;
    send(&mut worker, record(1).define(0, &["loss"]).points(0, &[(Some(20_000), 0.5)]), true).await;
    worker.end_folds().await;
    assert_eq!(blocks(&env, "r").await, 0);
}

/// Three long folds would otherwise block every other one.
#[tokio::test]
async fn rule_39_small_folds_have_places_of_their_own() {
    let env = TestEnv::new().await;
    let mut worker = Worker::new(&env);
    for run in 0..10 {
        let name = format!("run-{run}");
        let key = RunKey { project: P, project_name: "".into(), id: RunId::new(&name) };
        let mut applied = env.apply_with(&mut env.writer(&name), vec![point(0, &name)]).await;
        for blocks in &mut applied.blocks {
            blocks.is_ended = true;
        }
        worker.notices.send(&key, applied.blocks, &UnhandledBlocks::default());
        worker.task.handle_waiting_notices();
    }
    let is_large = |id: &RunId| ["run-0", "run-1", "run-2", "run-3", "run-4", "run-5"].contains(&id.as_str());
    for pending in worker.task.pending.values_mut().filter(|pending| is_large(&pending.id)) {
        pending.unfolded.bytes = SMALL_FOLD_BYTES;
    }
    let mut begun = Vec::new();
    while let Some(fold) = worker.task.begin_next() {
        begun.push(worker.task.pending[&fold.key].id.as_str().to_owned());
        worker.task.take_turn(fold).await;
    }
    assert_eq!(begun, ["run-0", "run-1", "run-2", "run-6", "run-7", "run-8"]);
    worker.end_folds().await;
    assert!(worker.task.pending.is_empty());
}

/// A store on other machines, where the folds of some runs commit nothing until they are released.
struct HeldRemoteStore {
    inner: Arc<dyn Store>,
    /// The rows of these folds.
    held: HashSet<Key>,
    released: Semaphore,
    /// Whether they panic once they are released.
    panics: AtomicBool,
}

#[async_trait::async_trait]
impl Store for HeldRemoteStore {
    async fn snapshot(&self) -> matyan_store::Result<Box<dyn Snapshot>> {
        self.inner.snapshot().await
    }

    async fn commit(&self, batch: Batch) -> matyan_store::Result<Commit> {
        let is_held = |key: &Key| self.held.contains(key);
        let mut mutations = batch.mutations.iter();
        if mutations.any(|mutation| matches!(mutation, Mutation::Set { key, .. } if is_held(key))) {
            // Fails once the semaphore is closed.
            let _ = self.released.acquire().await;
            assert!(!self.panics.load(Ordering::Relaxed), "a test asked for it");
        }
        self.inner.commit(batch).await
    }

    async fn sync(&self) -> matyan_store::Result<()> {
        self.inner.sync().await
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> matyan_store::Result<()> {
        self.inner.changed(key, seen).await
    }

    fn clears_ranges_at_once(&self) -> bool {
        self.inner.clears_ranges_at_once()
    }

    fn is_remote(&self) -> bool {
        true
    }
}

/// A worker with a store on other machines, and ended runs that are due.
struct RemoteFolds {
    env: TestEnv,
    store: Arc<HeldRemoteStore>,
    worker: Worker,
}

impl RemoteFolds {
    /// The folds of the first runs are held.
    async fn new(held: &[&str], others: &[&str]) -> Self {
        let mut env = TestEnv::new().await;
        let mut notices = Vec::new();
        for run in held.iter().chain(others) {
            let mut applied = env.apply_with(&mut env.writer(run), vec![point(0, run)]).await;
            for blocks in &mut applied.blocks {
                blocks.is_ended = true;
            }
            let key = RunKey { project: P, project_name: "".into(), id: RunId::new(*run) };
            notices.push((key, applied.blocks));
        }
        let is_held = |key: &RunKey| held.contains(&key.id.as_str());
        let rows = notices.iter().filter(|(key, _)| is_held(key)).flat_map(|(_, blocks)| blocks);
        let held = rows.map(|blocks| keys::fold(P, blocks.number)).collect();
        let inner = env.deps.store.clone();
        let store = Arc::new(HeldRemoteStore {
            inner,
            held,
            released: Semaphore::new(0),
            panics: AtomicBool::new(false),
        });
        env.deps.store = store.clone();
        let mut worker = Worker::new(&env);
        for (key, blocks) in notices {
            worker.notices.send(&key, blocks, &UnhandledBlocks::default());
        }
        worker.task.handle_waiting_notices();
        Self { env, store, worker }
    }

    /// Ends turns until only as many runs are scheduled.
    async fn fold_all_but(&mut self, left: usize) {
        let task = &mut self.worker.task;
        task.start_turns();
        while task.scheduled.len() > left {
            assert!(task.turns.len() <= TURNS_AT_ONCE);
            let turn = tokio::time::timeout(Duration::from_mins(1), task.turns.join_next()).await;
            task.end_concurrent_turn(turn.expect("a fold has ended").unwrap()).await;
            task.start_turns();
        }
    }
}

#[tokio::test]
async fn rule_39_a_fold_does_not_wait_for_the_network_of_another() {
    let mut folds = RemoteFolds::new(&["slow"], &["a", "b", "c"]).await;
    folds.fold_all_but(1).await;
    for run in ["a", "b", "c"] {
        assert_eq!(blocks(&folds.env, run).await, 0, "{run}");
    }
    assert_eq!(blocks(&folds.env, "slow").await, 1);
    folds.store.released.close();
    folds.fold_all_but(0).await;
    assert_eq!(blocks(&folds.env, "slow").await, 0);
    assert!(folds.worker.task.pending.is_empty());
}

/// However many large folds are due, and however long each of their transactions takes.
#[tokio::test]
async fn rule_39_small_folds_do_not_wait_for_the_turns_of_large_ones() {
    let large = ["large-0", "large-1", "large-2", "large-3", "large-4", "large-5"];
    let small = ["small-0", "small-1", "small-2", "small-3", "small-4", "small-5", "small-6"];
    let mut folds = RemoteFolds::new(&large, &small).await;
    for pending in folds.worker.task.pending.values_mut() {
        if large.contains(&pending.id.as_str()) {
            pending.unfolded.bytes = SMALL_FOLD_BYTES;
        }
    }
    folds.fold_all_but(large.len()).await;
    for run in small {
        assert_eq!(blocks(&folds.env, run).await, 0, "{run}");
    }
    assert_eq!(folds.worker.task.turns.len(), FOLDS_AT_ONCE, "the others have not begun");
    folds.store.released.close();
    folds.fold_all_but(0).await;
    assert!(folds.worker.task.pending.is_empty());
}

#[tokio::test]
async fn folding_hangs_while_no_concurrent_turn_ends() {
    let mut folds = RemoteFolds::new(&["slow"], &[]).await;
    let task = &mut folds.worker.task;
    task.start_turns();
    let turn = task.turns.join_next().await.unwrap();
    task.end_concurrent_turn(turn).await;
    // The blocks are read, and the commit of the next turn hangs.
    task.start_turns();
    let heartbeat = task.heartbeat.clone();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(400)).await;
    task.beat();
    assert!(heartbeat.problem().is_some());
    tokio::time::resume();
    folds.store.released.close();
    folds.fold_all_but(0).await;
    assert!(heartbeat.problem().is_none());
}

/// The handle of the thread reports its panic.
#[tokio::test]
async fn a_fold_that_panics_at_the_end_is_a_panic_of_the_task() {
    let mut folds = RemoteFolds::new(&["slow"], &[]).await;
    let task = &mut folds.worker.task;
    task.start_turns();
    let turn = task.turns.join_next().await.unwrap();
    task.end_concurrent_turn(turn).await;
    // The blocks are read, and the next turn commits.
    task.start_turns();
    folds.store.panics.store(true, Ordering::Relaxed);
    folds.store.released.close();
    let stop = CancellationToken::new();
    stop.cancel();
    let folding = tokio::spawn(folds.worker.task.run(stop));
    assert!(folding.await.unwrap_err().is_panic());
}
