//! Several processes with one run, and forks at bad moments.

use std::path::Path;

use matyan_sdk::{Run, SpoolState};
use matyan_tests::{Reader, Server, eventually};

use crate::{
    child::Script,
    scene::{PATIENT, SpoolRoot, blocking, expect_count, series},
};

const PROCESSES: usize = 8;
const POINTS: usize = 5_000;
#[cfg(unix)]
const FORKS: usize = 1_000;

/// Tracks a series of its own, and closes the run.
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
    let (server, root) = (Server::up().await, SpoolRoot::new());
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
    let (server, root) = (Server::up().await, SpoolRoot::new());
    let output = root.path().join("series-0");
    let script = Script {
        name: "offline",
        gateway_url: &server.ingest,
        backend_url: &server.query,
        run_id: "offline",
        output: &output,
    };
    let mut child = script.start(&root);
    let status = blocking(move || child.wait()).await.expect("a child can be waited for");
    assert!(status.success(), "{status}");

    let config = root.config(&server.ingest);
    let found = matyan_sdk::spools(&config);
    assert_eq!(found.iter().map(|spool| spool.state).collect::<Vec<_>>(), [SpoolState::Offline]);
    assert_eq!(found[0].run_id, "offline");
    let (progress, notices) = blocking(move || matyan_sdk::sync(&config, false, |_| true)).await;
    assert_eq!((progress.spools, progress.finished), (1, 1), "{notices:?}");
    // The points, the beginning and the end of the run.
    assert_eq!(progress.stored, POINTS as u64 + 2);
    root.wait_until_empty().await;
    expect_count(&server.query, "offline", "series-0", POINTS).await;
}

/// Forks while other threads track. Every child tracks a point and ends without cleaning up.
#[cfg(unix)]
#[expect(unsafe_code, reason = "the standard library cannot fork")]
pub(crate) fn fork_while_tracking(run: &Run, output: &Path) {
    use std::sync::atomic::{AtomicBool, Ordering};

    let (loss, forked) = (series(run, "loss"), series(run, "forked"));
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    run.track(&loss, 1.0, None, None);
                }
            });
        }
        for fork in 0..FORKS {
            // SAFETY: the child calls nothing but the library under test, which has to cope with
            // locks that other threads held, and `_exit`.
            match unsafe { libc::fork() } {
                0 => {
                    run.track(&forked, fork as f64, Some(fork as i64), None);
                    // SAFETY: it ends the process.
                    unsafe { libc::_exit(0) };
                }
                child => {
                    assert!(child > 0, "fork failed");
                    let mut status = 0;
                    // SAFETY: the pointer is valid.
                    let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
                    assert_eq!((ended, status), (child, 0));
                }
            }
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

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_forks_while_threads_track_lose_nothing() {
    let (server, root) = (Server::up().await, SpoolRoot::new());
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
        let is_complete = points.iter().map(|point| point.step).eq(0..FORKS as i64);
        if is_complete { Ok(()) } else { Err(format!("{} points", points.len())) }
    })
    .await;
}
