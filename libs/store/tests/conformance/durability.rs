//! Guarantees 5 and 10 under real conditions: processes killed under load, and a full disk.
//!
//! The tests start this program as a child process, which is either killed or, where no file
//! system can be mounted, limited in the size of its files. Power failures are simulated in a
//! unit test, which loses pages of the journal.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test, and a child that prints its answers")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use matyan_store::embedded::{EmbeddedStore, Settings};
use matyan_store::{Batch, Commit, Durability, Error, Key, Range, Scan, Stamp, Store, Value};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::runtime::Runtime;

const WRITERS: u64 = 8;
const KILLS: u64 = 20;

/// Runs the child process of a test if the arguments name one. Returns whether they do.
pub(crate) fn run_child(arguments: &[String]) -> bool {
    match arguments {
        [child, directory] if child == "child-writes" => {
            runtime().block_on(write_forever(Path::new(directory)))
        }
        [child, directory] if child == "child-fills" => {
            runtime().block_on(fill_up_to_size_limit(Path::new(directory)))
        }
        _ => return false,
    }
    true
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("embedded::durable_when_killed", kill_many_times),
        trial("embedded::recovers_when_space_is_available_again", fill_disk),
    ]
}

fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

// The process to be killed

/// Runs eight writers, each counting up and printing every answer as soon as it arrives.
async fn write_forever(directory: &Path) {
    let store = Arc::new(EmbeddedStore::open(directory, Settings::default()).await.unwrap());
    let cursors = cursors(store.as_ref()).await;
    let writers = (0..WRITERS).map(|writer| {
        let store = store.clone();
        let cursor = cursors[&writer];
        tokio::spawn(async move {
            for turn in cursor + 1.. {
                let is_synced = (writer + turn).is_multiple_of(3);
                let Commit::Done { version, .. } =
                    store.commit(turn_batch(writer, turn, is_synced)).await.unwrap()
                else {
                    panic!("only this writer moves its cursor")
                };
                let mut out = std::io::stdout().lock();
                writeln!(out, "{writer} {turn} {} {is_synced}", version.0)
                    .and_then(|()| out.flush())
                    .unwrap();
            }
        })
    });
    futures::future::join_all(writers.collect::<Vec<_>>()).await;
}

fn cursor(turn: u64) -> Value {
    Value::copy_from_slice(&turn.to_be_bytes())
}

fn turn_batch(writer: u64, turn: u64, is_synced: bool) -> Batch {
    let durability = if is_synced { Durability::Synced } else { Durability::Buffered };
    let mut batch = Batch { durability, ..Batch::default() };
    let value = vec![b'v'; usize::try_from(turn * 7_919 % 20_000 / (1 + turn % 9)).unwrap()];
    batch.expect(format!("cursor/{writer}"), (turn > 1).then(|| cursor(turn - 1)));
    batch.set(format!("cursor/{writer}"), cursor(turn)).add("count", 1);
    batch
        .set(format!("left/{writer}/{turn:08}"), value.clone())
        .set(format!("right/{writer}/{turn:08}"), value);
    batch.set_stamped("log/", "", format!("{writer}/{turn:08}"));
    batch
}

async fn cursors(store: &dyn Store) -> BTreeMap<u64, u64> {
    let snapshot = store.snapshot().await.unwrap();
    let mut cursors = BTreeMap::new();
    for writer in 0..WRITERS {
        let value = snapshot.get(&Key::from(format!("cursor/{writer}"))).await.unwrap();
        let turn = value.map_or(0, |value| u64::from_be_bytes(value.as_ref().try_into().unwrap()));
        cursors.insert(writer, turn);
    }
    cursors
}

// The process that kills it

struct AnsweredCommit {
    writer: u64,
    turn: u64,
    version: u64,
    is_synced: bool,
}

fn kill_many_times() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut answered = 0;
    let mut synced = 0;
    for _ in 0..KILLS {
        let answers = answers_until_killed(directory.path(), random.random_range(1..3_000));
        answered += answers.len();
        synced += answers.iter().filter(|answer| answer.is_synced).count();
        runtime.block_on(compare(directory.path(), &answers));
    }
    println!(
        "{KILLS} kills, {answered} commits answered, {synced} of them synced: 0 lost, 0 duplicated, order kept"
    );
}

fn answers_until_killed(directory: &Path, count: usize) -> Vec<AnsweredCommit> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([Path::new("child-writes"), directory])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut answers: Vec<AnsweredCommit> =
        lines.by_ref().take(count).map(|line| parse(&line.unwrap())).collect();
    assert_eq!(answers.len(), count, "the child ended prematurely");
    child.kill().unwrap();
    child.wait().unwrap();
    // Lines printed before the kill count as answered, too. Lines are always written
    // completely.
    answers.extend(lines.map(|line| parse(&line.unwrap())));
    answers
}

fn parse(line: &str) -> AnsweredCommit {
    let fields: Vec<&str> = line.split(' ').collect();
    let [writer, turn, version, is_synced] = fields[..] else { panic!("expected four fields: {line}") };
    AnsweredCommit {
        writer: writer.parse().unwrap(),
        turn: turn.parse().unwrap(),
        version: version.parse().unwrap(),
        is_synced: is_synced.parse().unwrap(),
    }
}

async fn compare(directory: &Path, answers: &[AnsweredCommit]) {
    let store = EmbeddedStore::open(directory, Settings::default()).await.unwrap();
    let cursors = cursors(&store).await;

    // No synced commits are lost, and of the buffered ones only the last.
    let (stored, lost): (Vec<&AnsweredCommit>, Vec<&AnsweredCommit>) =
        answers.iter().partition(|answer| answer.turn <= cursors[&answer.writer]);
    assert!(lost.iter().all(|answer| !answer.is_synced));
    let last_stored = stored.iter().map(|answer| answer.version).max();
    assert!(lost.iter().all(|answer| Some(answer.version) > last_stored));

    // Every batch is stored completely and exactly once, and nothing else is stored.
    let turns =
        |writer: &u64| (1..=cursors[writer]).map(|turn| format!("{writer}/{turn:08}")).collect::<Vec<_>>();
    let expected: BTreeSet<String> = cursors.keys().flat_map(turns).collect();
    for side in ["left/", "right/"] {
        let found: BTreeSet<String> =
            rows(&store, side).await.iter().map(|(key, _)| name(&key[side.len()..])).collect();
        assert_eq!(found, expected);
    }
    let count = rows(&store, "count").await;
    let count = count.first().map_or(0, |(_, value)| i64::from_le_bytes(value.as_ref().try_into().unwrap()));
    assert_eq!(usize::try_from(count).unwrap(), expected.len());

    // In stamp order, each writer counts up, even across restarts.
    let log = rows(&store, "log/").await;
    assert!(log.iter().all(|(key, _)| Stamp::in_key(key, 4).is_some()));
    for writer in cursors.keys() {
        let own = format!("{writer}/");
        let logged: Vec<String> =
            log.iter().map(|(_, value)| name(value)).filter(|turn| turn.starts_with(&own)).collect();
        assert_eq!(logged, turns(writer));
    }
    store.close().await.unwrap();
}

fn name(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn rows(store: &dyn Store, prefix: &'static str) -> Vec<(Key, Value)> {
    let snapshot = store.snapshot().await.unwrap();
    let scan = Scan { bytes: usize::MAX, ..Scan::default() };
    snapshot.scan(&Range::prefix(prefix), scan).await.unwrap().rows
}

// The full disk

/// Fills a file system of 24 MB that grows later; where none can be mounted, a process with
/// files limited to 4 MB.
fn fill_disk() {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(directory.path()) else {
        println!("cannot mount a file system here; limiting file sizes instead");
        return fill_in_limited_child(directory.path());
    };
    runtime().block_on(fill(&disk.path.join("store"), || disk.remount("400m")));
    println!("the store recovered from a full tmpfs");
}

struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    fn mount(path: &Path) -> Option<Self> {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "none"]).arg(path).status();
        mount.is_ok_and(|status| status.success()).then(|| Self { path: path.to_owned() })
    }

    fn remount(&self, size: &str) {
        let options = format!("remount,size={size}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.path).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A remaining mount disappears with the machine, and the test already has its
        // result.
        drop(Command::new("umount").arg("--lazy").arg(&self.path).status());
    }
}

/// Runs the child from a shell, because the signal sent at the limit must be ignored from the
/// start.
fn fill_in_limited_child(directory: &Path) {
    let status = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" child-fills \"$1\""])
        .args([std::env::current_exe().unwrap().as_path(), directory])
        .status();
    assert!(status.unwrap().success());
}

fn limit_file_size(bytes: &str) {
    let pid = std::process::id().to_string();
    let status = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:")]).status();
    assert!(status.unwrap().success());
}

async fn fill_up_to_size_limit(directory: &Path) {
    let store = EmbeddedStore::open(directory, Settings::default()).await.unwrap();
    store.close().await.unwrap();
    limit_file_size("4194304");
    fill(directory, || limit_file_size("unlimited")).await;
    println!("the store recovered from a file size limit");
}

/// Writes until the disk is full, keeps trying without success, gets space, and continues:
/// every answer was true.
async fn fill(directory: &Path, make_room: impl FnOnce()) {
    let store = EmbeddedStore::open(directory, Settings::default()).await.unwrap();
    let mut stored = Vec::new();
    let mut refused = 0;
    let mut number = 0_u64;
    while refused < 20 {
        let is_synced = number.is_multiple_of(3);
        match set(&store, number, is_synced).await {
            Ok(()) => stored.push(number),
            Err(error) => {
                assert!(matches!(error, Error::Unavailable { .. }), "{error}");
                refused += 1;
            }
        }
        number += 1;
    }
    let before = stored.len();
    assert!(before > 100, "only {before} commits fit");
    make_room();
    while set(&store, number, true).await.is_err() {
        number += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stored.push(number);
    for number in number + 1..number + 1_000 {
        set(&store, number, false).await.unwrap();
        stored.push(number);
    }
    println!("{before} commits until the disk was full, {refused} refused, {} after", stored.len() - before);
    let expected: Vec<Key> = stored.into_iter().map(key).collect();
    assert_eq!(keys(&store).await, expected);
    store.close().await.unwrap();
    // Until its thread has dropped the snapshot of the last read, the store is in use.
    let mut opened = EmbeddedStore::open(directory, Settings::default()).await;
    for _ in 0..1_000 {
        if !matches!(opened, Err(Error::InUse { .. })) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        opened = EmbeddedStore::open(directory, Settings::default()).await;
    }
    let store = opened.unwrap();
    assert_eq!(keys(&store).await, expected);
    store.close().await.unwrap();
}

fn key(number: u64) -> Key {
    Key::from(format!("n/{number:08}"))
}

async fn keys(store: &dyn Store) -> Vec<Key> {
    rows(store, "n/").await.into_iter().map(|(key, _)| key).collect()
}

async fn set(store: &EmbeddedStore, number: u64, is_synced: bool) -> Result<(), Error> {
    let durability = if is_synced { Durability::Synced } else { Durability::Buffered };
    let mut batch = Batch { durability, ..Batch::default() };
    // Random bytes, which do not compress.
    let mut value = vec![0; 10_000];
    StdRng::seed_from_u64(number).fill(&mut value[..]);
    batch.set(key(number), value);
    store.commit(batch).await.map(|_| ())
}
