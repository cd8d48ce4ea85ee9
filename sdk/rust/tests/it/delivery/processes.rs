//! Several processes with one run, and forks at bad moments.

use std::path::Path;

use matyan_sdk::{Run, RunOptions, ServerUrls, SpoolMode, SpoolState, SyncOptions};
use matyan_tests::{Reader, Server, eventually};

use crate::delivery::{
    child::Script,
    scene::{PATIENT, SlowestCall, SpoolRoot, blocking, expect_count, keep_notices, series},
};

const PROCESSES: usize = 8;
pub(crate) const POINTS: usize = 5_000;
#[cfg(unix)]
const LINES: usize = 200;
#[cfg(target_os = "linux")]
const RUNS: usize = 50;

/// Number of forks: 200, or as `MATYAN_FORKS` specifies.
#[cfg(unix)]
fn forks() -> usize {
    #[expect(clippy::disallowed_methods, reason = "the length of a test is its only setting")]
    let asked = std::env::var("MATYAN_FORKS");
    asked.map_or(200, |forks| forks.parse().expect("MATYAN_FORKS is a number"))
}

/// Tracks its own series, and closes the run.
pub(crate) fn share(run: &Run, output: &Path) {
    let name = output.file_name().and_then(|name| name.to_str()).expect("the name is text");
    let series = series(run, name);
    for step in 0..POINTS {
        run.track(&series, step as f64, Some(step as i64), None);
    }
    run.close(PATIENT, |_| true);
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_processes_share_a_run() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    let outputs: Vec<_> = (0..PROCESSES).map(|at| root.path().join(format!("series-{at}"))).collect();
    let children: Vec<_> = outputs
        .iter()
        .map(|output| {
            let gateway_url = server.ingest.as_str();
            Script { name: "share", gateway_url, backend_url: &server.query, run_id: "shared", output }
                .start(&root)
        })
        .collect();
    for mut child in children {
        let status = blocking(move || child.wait()).await.expect("a child can be waited for");
        assert!(status.success(), "{status}");
    }
    root.wait_until_empty().await;
    let reader = Reader::connect(&server.query).await;
    for at in 0..PROCESSES {
        let name = format!("series-{at}");
        eventually("all points can be read", async || {
            let points = reader.points("shared", &name, "").await.map_err(|status| status.to_string())?;
            let is_complete = points.iter().map(|point| point.step).eq(0..POINTS as i64);
            if is_complete { Ok(()) } else { Err(format!("{} points", points.len())) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offline_run_is_sent_by_sync_only() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    track_offline(&root, &server.query, &server.ingest).await;
    let config = root.config(&server.ingest);
    let found = matyan_sdk::spools(&config);
    assert_eq!(found.iter().map(|spool| spool.state).collect::<Vec<_>>(), [SpoolState::Offline]);
    assert_eq!(found[0].run_id, "offline");
    let (progress, notices) =
        blocking(move || matyan_sdk::sync(&config, &SyncOptions::default(), |_| true, |_| true)).await;
    keep_notices(&notices);
    assert_eq!((progress.spools, progress.finished), (1, 1), "{notices:?}");
    // The points, the start and the end of the run.
    assert_eq!(progress.stored, POINTS as u64 + 2);
    root.wait_until_empty().await;
    expect_count(&server.query, "offline", "series-0", POINTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_for_a_wrong_address_is_sent_to_another_one() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    track_offline(&root, "http://127.0.0.1:1", "http://127.0.0.1:1").await;
    let config = root.config(&server.ingest);
    let servers = ServerUrls { backend_url: server.query.clone(), gateway_url: server.ingest.clone() };
    let options = SyncOptions { servers: Some(servers), ..SyncOptions::default() };
    let (progress, notices) = blocking(move || matyan_sdk::sync(&config, &options, |_| true, |_| true)).await;
    keep_notices(&notices);
    assert_eq!((progress.spools, progress.finished), (1, 1), "{notices:?}");
    root.wait_until_empty().await;
    expect_count(&server.query, "offline", "series-0", POINTS).await;
}

/// Runs a script that tracks points of the run `offline`.
async fn track_offline(root: &SpoolRoot, backend_url: &str, gateway_url: &str) {
    let output = root.path().join("series-0");
    let script = Script { name: "offline", gateway_url, backend_url, run_id: "offline", output: &output };
    let mut child = script.start(root);
    let status = blocking(move || child.wait()).await.expect("a child can be waited for");
    assert!(status.success(), "{status}");
}

/// Forks while other threads track, whose locks the library has to cope with. Every child tracks a
/// point and ends without cleaning up.
#[cfg(unix)]
pub(crate) fn fork_while_tracking(run: &Run, output: &Path) {
    use std::sync::atomic::{AtomicBool, Ordering};

    let loss = series(run, "loss");
    let forked = series(run, "forked");
    let is_done = AtomicBool::new(false);
    let calls = SlowestCall::new("forks");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    calls.track(run, &loss, 1, None);
                }
            });
        }
        for fork_number in 0..forks() {
            wait(fork(|| run.track(&forked, fork_number as f64, Some(fork_number as i64), None)));
        }
        is_done.store(true, Ordering::Relaxed);
    });
    let report = run.close(PATIENT, |_| true);
    // This process sends the spools that its children left.
    while std::fs::read_dir(run.config().spool_dirs[0].as_path()).expect("it exists").count() > 0 {
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
    std::fs::write(output, report.pending.to_string()).expect("the file can be written");
}

/// Forks a child that ends without cleaning up after it has called a function. Returns its id.
#[cfg(unix)]
#[expect(unsafe_code, reason = "the standard library cannot fork")]
fn fork(call: impl FnOnce()) -> i32 {
    // SAFETY: the child calls nothing but the library under test and `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        call();
        // SAFETY: it ends the process.
        unsafe { libc::_exit(0) };
    }
    assert!(child > 0, "fork failed");
    child
}

/// Waits for a child, which must succeed.
#[cfg(unix)]
#[expect(unsafe_code, reason = "the child was not started by the standard library")]
fn wait(child: i32) {
    let mut status = 0;
    // SAFETY: the pointer is valid.
    let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((ended, status), (child, 0));
}

/// Stores lines in this process and in children that run at the same time. Writes how many spools
/// are left when the run is closed.
#[cfg(unix)]
pub(crate) fn print_in_children(run: &Run, output: &Path) {
    let print = |writer: usize, first: usize| {
        let point = series(run, &format!("writer-{writer}"));
        for line in 0..LINES {
            run.terminal_line(&format!("{writer} {line}"), (first + line) as i64).expect("the line is short");
            run.track(&point, line as f64, Some(line as i64), None);
        }
    };
    print(0, 0);
    // Children count on from where their parent is.
    let children: Vec<_> = (1..=PROCESSES).map(|writer| fork(|| print(writer, LINES))).collect();
    print(PROCESSES + 1, LINES);
    children.into_iter().for_each(wait);
    let report = run.close(PATIENT, |_| true);
    assert_eq!((report.pending, report.child_spools), (0, 0));
    // A spool that is stored completely loses its owner first.
    let entries = std::fs::read_dir(run.config().spool_dirs[0].as_path()).expect("it exists");
    let left = entries.flatten().filter(|entry| entry.path().join("owner").exists()).count();
    std::fs::write(output, left.to_string()).expect("the file can be written");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn rule_93_lines_of_forked_children_are_stored_once_when_the_run_is_closed() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    let output = root.path().with_extension("lines");
    let script = Script {
        name: "lines",
        gateway_url: &server.ingest,
        backend_url: &server.query,
        run_id: "lines",
        output: &output,
    };
    // The run has lines of an earlier process then.
    for round in 1..=2 {
        let mut child = script.start(&root);
        let status = blocking(move || child.wait()).await.expect("a child can be waited for");
        assert!(status.success(), "{status}");
        assert_eq!(std::fs::read_to_string(&output).expect("the script wrote it"), "0", "spools are left");
        let reader = Reader::connect(&server.query).await;
        let count = round * (PROCESSES + 2) * LINES;
        let lines = eventually("all lines can be read", async || {
            let lines = reader.lines("lines").await.map_err(|status| status.to_string())?;
            if lines.len() >= count { Ok(lines) } else { Err(format!("{} of {count} lines", lines.len())) }
        })
        .await;
        let mut found: Vec<_> = lines.into_iter().map(|(_, line)| line).collect();
        let lines =
            (0..PROCESSES + 2).flat_map(|writer| (0..LINES).map(move |line| format!("{writer} {line}")));
        let mut expected: Vec<_> = (0..round).flat_map(|_| lines.clone()).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }
    std::fs::remove_file(output).expect("the file exists");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn an_offline_run_that_is_gone_needs_no_descriptor() {
    for mode in [SpoolMode::Mapped, SpoolMode::Written] {
        let root = SpoolRoot::new();
        let count = || std::fs::read_dir("/proc/self/fd").expect("it can be read").count();
        let offline = || {
            let mut options = RunOptions { offline: true, ..root.options("http://127.0.0.1:1") };
            options.config.spool_mode = Some(mode);
            let run = Run::new(options).expect("the options are valid");
            run.track(&series(&run, "loss"), 0.5, Some(0), None);
            run
        };
        let kept = offline();
        let before = count();
        for _ in 0..50 {
            offline().close(PATIENT, |_| true);
        }
        eventually("the descriptors are free", async || match count() {
            open if open <= before => Ok(()),
            open => Err(open - before),
        })
        .await;
        // The run that is left can still be tracked, and all are on disk.
        kept.track(&series(&kept, "loss"), 0.5, Some(1), None);
        assert_eq!(kept.health().dropped, 0);
        assert_eq!(root.spools().len(), 51);
    }
}

/// Number of descriptors of files in a directory. Tests that run at the same time have others.
#[cfg(target_os = "linux")]
fn descriptors_in(directory: &Path) -> usize {
    let directory = directory.canonicalize().expect("it exists");
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("it can be read").filter_map(Result::ok);
    let files = descriptors.filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok());
    files.filter(|file| file.starts_with(&directory)).count()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn rule_91_a_closed_offline_run_needs_no_descriptor() {
    const CLOSED: usize = 50;
    for mode in [SpoolMode::Mapped, SpoolMode::Written] {
        let root = SpoolRoot::new();
        let count = || descriptors_in(root.path());
        // The thread that looks for left spools opens their files for moments.
        let none_is_open = async || {
            eventually("no descriptor is open", async || match count() {
                0 => Ok(()),
                open => Err(open),
            })
            .await;
        };
        let track = |run: &Run| run.track(&series(run, "loss"), 0.5, None, None);
        let offline = || {
            let mut options = RunOptions { offline: true, ..root.options("http://127.0.0.1:1") };
            options.config.spool_mode = Some(mode);
            let run = Run::new(options).expect("the options are valid");
            track(&run);
            run
        };
        let mut closed = Vec::new();
        for _ in 0..CLOSED {
            let run = offline();
            assert!(count() > 0, "an open run has its lock");
            let report = run.close(PATIENT, |_| true);
            // A run, its value and its end.
            assert_eq!((report.pending, report.dropped), (3, 0));
            closed.push(run);
        }
        none_is_open().await;
        // What is tracked later is in another spool.
        track(&closed[0]);
        assert_eq!(closed[0].health().dropped, 0);
        assert_eq!(root.spools().len(), CLOSED + 1);
        assert_eq!(closed[0].close(PATIENT, |_| true).dropped, 0);
        none_is_open().await;
    }
}

/// Opens more runs than there are descriptors for.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the limit is set through libc")]
pub(crate) fn open_many_runs(first: &Run, output: &Path) {
    let count = || std::fs::read_dir("/proc/self/fd").expect("it can be read").count();
    assert!(first.flush(crate::delivery::scene::GUARD));
    let before = count();
    let open = || {
        let options = RunOptions { config: first.config().clone(), ..RunOptions::default() };
        let run = Run::new(options).expect("the options are valid");
        run.track(&series(&run, "loss"), 0.0, Some(0), None);
        run
    };
    let mut runs: Vec<_> = (0..RUNS).map(|_| open()).collect();
    assert!(runs.iter().all(|run| run.flush(crate::delivery::scene::GUARD)));
    let each = (count() - before) as f64 / RUNS as f64;
    let limit = libc::rlimit { rlim_cur: count() as u64 + 8, rlim_max: count() as u64 + 8 };
    // SAFETY: the pointer is valid.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    runs.extend((0..RUNS).map(|_| open()));
    let failed = runs.iter().filter(|run| run.health().dropped > 0).count();
    let named =
        runs.iter().flat_map(Run::notices).filter(|it| it.message.contains("Too many open files")).count();
    // Descriptors become free, and what follows is recorded again.
    let last = runs.pop().expect("there are many");
    drop(runs);
    let series = series(&last, "later");
    let is_recorded = || {
        let before = last.health().dropped;
        last.track(&series, 1.0, Some(1), None);
        last.health().dropped == before
    };
    while !is_recorded() {
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
    last.close(PATIENT, |_| true);
    std::fs::write(output, format!("{each:.1} {failed} {named}")).expect("a descriptor is free");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn an_open_run_needs_two_descriptors_and_a_lack_of_them_is_no_error() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    let output = root.path().with_extension("descriptors");
    let script = Script {
        name: "descriptors",
        gateway_url: &server.ingest,
        backend_url: &server.query,
        run_id: "many",
        output: &output,
    };
    let mut child = script.start(&root);
    let status = blocking(move || child.wait()).await.expect("a child can be waited for");
    assert!(status.success(), "{status}");
    let text = std::fs::read_to_string(&output).expect("the script wrote it");
    let numbers: Vec<f64> = text.split(' ').map(|number| number.parse().expect("a number")).collect();
    assert!(numbers[0] <= 2.1, "{} descriptors for each run", numbers[0]);
    assert!(numbers[1] > 0.0 && numbers[2] > 0.0, "{text}");
    std::fs::remove_file(output).expect("the file exists");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn rule_93_forks_while_threads_track_lose_nothing() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    let output = root.path().with_extension("forks");
    let script = Script {
        name: "fork",
        gateway_url: &server.ingest,
        backend_url: &server.query,
        run_id: "forks",
        output: &output,
    };
    let mut child = script.start(&root);
    let status = blocking(move || child.wait()).await.expect("a child can be waited for");
    assert!(status.success(), "{status}");
    assert_eq!(std::fs::read_to_string(&output).expect("the script wrote it"), "0");
    std::fs::remove_file(output).expect("the file exists");
    let reader = Reader::connect(&server.query).await;
    eventually("every child's point can be read", async || {
        let points = reader.points("forks", "forked", "").await.map_err(|status| status.to_string())?;
        let is_complete = points.iter().map(|point| point.step).eq(0..forks() as i64);
        if is_complete { Ok(()) } else { Err(format!("{} points", points.len())) }
    })
    .await;
}
