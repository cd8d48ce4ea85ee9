//! Faults of a real FoundationDB server: killed while commits are in flight, paused for longer
//! than a transaction lives, or unreachable.
//!
//! Each test has its own server. The answers to commits are compared with the data stored
//! afterwards.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use libtest_mimic::{Arguments, Trial};
use matyan_servers::foundationdb::{Cluster, Engine, unavailable_reason};
use matyan_store::conformance::fdb::{open_on, settings};
use matyan_store::fdb::{FdbStore, Network, Settings};
use matyan_store::{
    Batch, Commit, Error, Key, Limits, Range, Scan, Stamp, Store, Transaction, Value, transact,
};
use tokio::sync::watch;

const WRITERS: usize = 8;
const KILLS: usize = 8;

type Test = fn(Arc<Network>) -> BoxFuture<'static, ()>;

const TESTS: &[(&str, Test)] = &[
    ("lost_answers_are_resolved", |network| Box::pin(lost_answers_are_resolved(network))),
    ("two_processes_count_together", |network| Box::pin(two_processes_count_together(network))),
    ("killed_servers_lose_and_duplicate_nothing", |network| Box::pin(killed(network))),
    ("paused_servers_lose_and_duplicate_nothing", |network| Box::pin(paused(network))),
    ("unreachable_servers_are_reported", |network| Box::pin(unreachable_servers_are_reported(network))),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each test has its own server, and the servers would compete for CPU time.
    arguments.test_threads = Some(1);
    let network = unavailable_reason().map_or_else(|| Ok(Arc::new(Network::start().unwrap())), Err);
    let trials = TESTS.iter().map(|(name, test)| trial(name, *test, network.clone())).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &str, test: Test, network: Result<Arc<Network>, String>) -> Trial {
    match network {
        Ok(network) => Trial::test(name, move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(test(network));
            Ok(())
        }),
        Err(reason) => Trial::test(name, || Ok(())).with_kind(reason).with_ignored_flag(true),
    }
}

async fn lost_answers_are_resolved(network: Arc<Network>) {
    let cluster = Cluster::start(Engine::Memory);
    open_on(&cluster, &network).await.check_applied_commit_is_found().await;
    open_on(&cluster, &network).await.check_unapplied_commit_is_fenced().await;
    open_on(&cluster, &network).await.check_tokens_are_removed().await;
}

/// Conflicts between writers in different processes.
async fn two_processes_count_together(network: Arc<Network>) {
    const TURNS: i64 = 50;
    let cluster = Cluster::start(Engine::Memory);
    let settings = settings(&cluster);
    let tasks = (0..4).map(|_| {
        let network = network.clone();
        let settings = settings.clone();
        tokio::spawn(async move {
            let store = FdbStore::open(&network, settings).await.unwrap();
            for _ in 0..TURNS {
                count_up(&store).await;
            }
            store.close().await;
        })
    });
    for task in join_all(tasks).await {
        task.unwrap();
    }
    let store = FdbStore::open(&network, settings).await.unwrap();
    assert_eq!(number(get(&store, "counter").await), 4 * TURNS);
}

async fn count_up(store: &FdbStore) {
    let key = Key::from("counter");
    transact(store, async |mut transaction: Transaction| {
        let count = number(transaction.get(&key).await?);
        transaction.batch().set(key.clone(), (count + 1).to_le_bytes().to_vec());
        Ok::<_, Error>((transaction, ()))
    })
    .await
    .unwrap();
}

/// Repeatedly kills the server while eight writers commit, and restarts it with its persisted
/// data.
async fn killed(network: Arc<Network>) {
    let mut cluster = Cluster::start(Engine::Disk);
    let writers = Writers::start(&network, settings(&cluster)).await;
    for kill in 1..=KILLS {
        writers.wait_for_answers(kill * 40).await;
        cluster.kill();
        cluster.restart();
    }
    writers.wait_for_answers(KILLS * 40 + 40).await;
    writers.compare().await;
}

/// Pauses the server for longer than a transaction lives: commits in flight get true answers, and
/// nothing new is acknowledged during the pause.
async fn paused(network: Arc<Network>) {
    let cluster = Cluster::start(Engine::Memory);
    let writers = Writers::start(&network, settings(&cluster)).await;
    writers.wait_for_answers(40).await;
    let snapshot = writers.store.snapshot().await.unwrap();
    let before = snapshot.version();
    cluster.suspend();
    // A sleep is unavoidable: the state under test is a server that has done nothing for
    // this long.
    tokio::time::sleep(Limits::SNAPSHOT_AGE + Duration::from_secs(3)).await;
    let too_old = snapshot.get(&"count".into()).await.unwrap_err();
    assert!(matches!(too_old, Error::SnapshotTooOld), "{too_old}");
    let silent = writers.store.snapshot().await.err().expect("the server does not answer");
    assert!(matches!(silent, Error::Unavailable { .. }), "{silent}");
    cluster.resume();
    let answered = *writers.answered.borrow();
    writers.wait_for_answers(answered + 40).await;
    let mut late = Batch::default();
    late.expect_unchanged(Range::prefix("quiet"), before).set("late", "1");
    assert_eq!(writers.store.commit(late).await.unwrap(), Commit::Conflict, "the decision is too old");
    writers.compare().await;
}

async fn unreachable_servers_are_reported(network: Arc<Network>) {
    let mut cluster = Cluster::start(Engine::Memory);
    let settings = settings(&cluster);
    let store = FdbStore::open(&network, settings.clone()).await.unwrap();
    let missing = Settings { cluster_file: "/nowhere/fdb.cluster".into(), ..settings.clone() };
    let error = FdbStore::open(&network, missing).await.err().expect("the file does not exist");
    assert!(
        matches!(&error, Error::Settings { reason } if reason.contains("/nowhere/fdb.cluster")),
        "{error}"
    );
    let since = store.snapshot().await.unwrap().version();
    cluster.kill();
    fn assert_unavailable(error: Error) {
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    }
    assert_unavailable(FdbStore::open(&network, settings).await.err().expect("the server does not answer"));
    assert_unavailable(store.snapshot().await.err().expect("the server does not answer"));
    let mut batch = Batch::default();
    batch.set("never", "1");
    assert_unavailable(store.commit(batch).await.expect_err("the server does not answer"));
    let mut batch = Batch::default();
    batch.expect_unchanged(Range::prefix("quiet"), since).set("never", "1");
    assert_unavailable(store.commit(batch).await.expect_err("the server does not answer"));
    cluster.restart();
    while store.snapshot().await.is_err() {}
    assert_eq!(get(&store, "never").await, None);
}

/// Tasks that each count up from their last write, and record every answer.
struct Writers {
    store: Arc<FdbStore>,
    tasks: Vec<tokio::task::JoinHandle<u64>>,
    answered: watch::Receiver<usize>,
    stop: watch::Sender<bool>,
}

impl Writers {
    async fn start(network: &Network, settings: Settings) -> Self {
        let store = Arc::new(FdbStore::open(network, settings).await.unwrap());
        let (count, answered) = watch::channel(0);
        let (stop, stopped) = watch::channel(false);
        let tasks = (0..WRITERS)
            .map(|writer| {
                let store = store.clone();
                let count = count.clone();
                let stopped = stopped.clone();
                tokio::spawn(async move { write(writer, &store, &count, &stopped).await })
            })
            .collect();
        Self { store, tasks, answered, stop }
    }

    async fn wait_for_answers(&self, count: usize) {
        self.answered.clone().wait_for(|answered| *answered >= count).await.unwrap();
    }

    /// Asserts that every answered commit is stored completely and exactly once, and that
    /// nothing else is stored.
    async fn compare(self) {
        self.stop.send_replace(true);
        let turns: Vec<u64> = join_all(self.tasks).await.into_iter().map(|turns| turns.unwrap()).collect();
        let store = self.store.as_ref();
        for side in ["left/", "right/"] {
            let found: Vec<Key> = rows(store, side).await.into_iter().map(|(key, _)| key).collect();
            let mut expected = Vec::new();
            for (writer, turns) in turns.iter().enumerate() {
                expected.extend((1..=*turns).map(|turn| Key::from(format!("{side}{writer}/{turn:08}"))));
            }
            assert_eq!(found, expected);
        }
        assert_eq!(number(get(store, "count").await).unsigned_abs(), turns.iter().sum::<u64>());
        let mut logged = BTreeMap::<u8, Vec<u64>>::new();
        for (key, value) in rows(store, "log/").await {
            assert!(Stamp::in_key(&key, 4).is_some());
            logged.entry(value[0]).or_default().push(u64::from_be_bytes(value[1..].try_into().unwrap()));
        }
        for (writer, turns) in turns.iter().enumerate() {
            assert_eq!(logged.remove(&(writer as u8)).unwrap_or_default(), (1..=*turns).collect::<Vec<_>>());
        }
        store.close().await;
    }
}

/// Writes turns until stopped, and returns the number of turns answered. An error means that
/// nothing was written, so the turn is repeated. If that were untrue, the cursor would not have
/// its expected value.
async fn write(
    writer: usize,
    store: &FdbStore,
    count: &watch::Sender<usize>,
    stopped: &watch::Receiver<bool>,
) -> u64 {
    let mut done = 0;
    while !*stopped.borrow() {
        match store.commit(turn_batch(writer, done + 1)).await {
            Ok(Commit::Done { version, stamp }) => {
                assert_eq!(stamp.version(), version);
                done += 1;
                count.send_modify(|count| *count += 1);
            }
            Ok(Commit::Conflict) => {
                panic!("writer {writer} finds a cursor other than {done}, its last answered turn")
            }
            Err(Error::Unavailable { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    done
}

fn turn_batch(writer: usize, turn: u64) -> Batch {
    let cursor = Key::from(format!("cursor/{writer}"));
    let before = turn.checked_sub(1).filter(|before| *before > 0);
    let mut batch = Batch::default();
    batch.expect(cursor.clone(), before.map(|before| Value::from(before.to_be_bytes().to_vec())));
    batch.set(cursor, turn.to_be_bytes().to_vec()).add("count", 1);
    for side in ["left", "right"] {
        batch.set(format!("{side}/{writer}/{turn:08}"), "1");
    }
    let value = [&[writer as u8][..], &turn.to_be_bytes()].concat();
    batch.set_stamped("log/", "", value);
    batch
}

async fn get(store: &dyn Store, key: &'static str) -> Option<Value> {
    store.snapshot().await.unwrap().get(&key.into()).await.unwrap()
}

fn number(value: Option<Value>) -> i64 {
    value.map_or(0, |value| i64::from_le_bytes(value.as_ref().try_into().unwrap()))
}

async fn rows(store: &dyn Store, prefix: &'static str) -> Vec<(Key, Value)> {
    let snapshot = store.snapshot().await.unwrap();
    let scan = Scan { bytes: usize::MAX, ..Scan::default() };
    snapshot.scan(&Range::prefix(prefix), scan).await.unwrap().rows
}
