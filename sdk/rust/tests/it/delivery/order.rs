//! Order in which the spools of one run are stored, and the times that their runs get.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use matyan_sdk::{CloseLimits, Config, Run, RunOptions, SyncOptions};
use matyan_tests::Server;

use crate::delivery::{
    child::Script,
    proxy::Proxy,
    scene::{PATIENT, SpoolRoot, blocking, expect_count, keep_notices, props, series},
};

/// Number of handles or scripts that continue a run, each of which has a spool with a random name.
const PARTS: usize = 8;
/// The same for a script that opens very many.
const HANDLES: usize = 400;
/// Number of points of each.
const POINTS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn rule_93_what_waits_for_a_server_is_stored_in_the_order_of_the_handles() {
    let proxy = Proxy::start().await;
    let root = SpoolRoot::new();
    let options = RunOptions { run_id: Some("continued".to_owned()), ..root.options(&proxy.url) };
    for part in 0..PARTS {
        let run = Run::new(options.clone()).unwrap();
        let loss = series(&run, "loss");
        for point in 0..POINTS {
            run.track(&loss, (part * POINTS + point) as f64, None, None);
        }
    }
    assert_eq!(root.spools().len(), PARTS);
    let server = Server::up().await;
    proxy.set_target(&server.ingest);
    root.wait_until_empty().await;
    expect_count(&server.query, "continued", "loss", PARTS * POINTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_93_sync_stores_scripts_in_the_order_in_which_they_ran() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    let directory = SpoolRoot::new();
    let output = directory.path().join("count");
    fs::write(&output, "0").unwrap();
    for _ in 0..PARTS {
        run_offline(&root, &server, "continue offline", &output).await;
    }
    let config = root.config(&server.ingest);
    let (progress, notices) =
        blocking(move || matyan_sdk::sync(&config, &SyncOptions::default(), |_| true, |_| true)).await;
    keep_notices(&notices);
    assert_eq!((progress.spools, progress.finished), (PARTS, PARTS), "{notices:?}");
    expect_count(&server.query, "continued", "loss", PARTS * POINTS).await;
}

async fn run_offline(root: &SpoolRoot, server: &Server, name: &str, output: &Path) {
    let gateway_url = server.ingest.as_str();
    let backend_url = server.query.as_str();
    let mut child = Script { name, gateway_url, backend_url, run_id: "continued", output }.start(root);
    let status = blocking(move || child.wait()).await.expect("a child can be waited for");
    assert!(status.success(), "{status}");
}

/// Tracks as many values as other scripts have left in `count`, counting on.
pub(crate) fn continue_counting(run: &Run, count: &Path) {
    let first: usize = fs::read_to_string(count).expect("it exists").parse().expect("a number");
    let loss = series(run, "loss");
    for value in first..first + POINTS {
        run.track(&loss, value as f64, None, None);
    }
    fs::write(count, (first + POINTS).to_string()).expect("the file can be written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_keeps_the_time_at_which_it_was_recorded() {
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let proxy = Proxy::start().await;
    let root = SpoolRoot::new();
    let began = now();
    let run = root.run(&proxy.url);
    let id = run.id().to_owned();
    run.track(&series(&run, "loss"), 0.0, None, None);
    drop(run);
    let ended = now();
    let server = Server::up().await;
    proxy.set_target(&server.ingest);
    root.wait_until_empty().await;
    let props = props(&server, &id, |props| !props["end_time"].is_null()).await;
    let time = |name: &str| props[name].as_f64().unwrap();
    // Times are rounded to microseconds.
    let expected = began - 1e-5..ended + 1e-5;
    assert!(expected.contains(&time("creation_time")), "{props} {expected:?}");
    assert!(expected.contains(&time("end_time")), "{props} {expected:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_spool_that_cannot_be_stored_does_not_stop_the_run() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    // These spools are for servers that no longer exist.
    let gone = RunOptions { run_id: Some("moved".to_owned()), ..root.options("http://127.0.0.1:1") };
    for port in 1..=PARTS {
        let config = Config { gateway_url: format!("http://127.0.0.1:{port}"), ..gone.config.clone() };
        drop(Run::new(RunOptions { config, ..gone.clone() }).unwrap());
    }
    let config =
        Config { gateway_url: server.ingest.clone(), backend_url: server.query.clone(), ..gone.config };
    let here = RunOptions { config, ..gone };
    for value in 0..PARTS {
        let run = Run::new(here.clone()).unwrap();
        run.track(&series(&run, "loss"), value as f64, None, None);
        // Shorter than all waits for another address together.
        let limits = CloseLimits { unreachable: Duration::from_secs(3), ..PATIENT };
        let report = blocking(move || run.close(limits, |_| true)).await;
        assert_eq!((report.pending, report.child_spools), (0, 0), "{report:?}");
    }
    expect_count(&server.query, "moved", "loss", PARTS).await;
    assert_eq!(root.spools().len(), PARTS);
}

/// Every waiting spool knows the others of its run without reading them again and again.
#[tokio::test(flavor = "multi_thread")]
async fn rule_93_hundreds_of_handles_of_a_run_are_stored_in_their_order() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    let directory = SpoolRoot::new();
    let output = directory.path().join("count");
    fs::write(&output, "0").unwrap();
    run_offline(&root, &server, "handles offline", &output).await;
    assert_eq!(root.spools().len(), HANDLES + 1);
    let config = root.config(&server.ingest);
    let (progress, notices) =
        blocking(move || matyan_sdk::sync(&config, &SyncOptions::default(), |_| true, |_| true)).await;
    keep_notices(&notices);
    assert_eq!((progress.spools, progress.finished), (HANDLES + 1, HANDLES + 1), "{notices:?}");
    expect_count(&server.query, "continued", "loss", HANDLES * POINTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spools_of_a_server_that_is_away_do_not_keep_back_those_of_another() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    let directory = SpoolRoot::new();
    let output = directory.path().join("count");
    fs::write(&output, "0").unwrap();
    let nowhere = "http://127.0.0.1:1";
    let away = Script {
        name: "handles offline",
        gateway_url: nowhere,
        backend_url: nowhere,
        run_id: "away",
        output: &output,
    };
    let mut child = away.start(&root);
    let status = blocking(move || child.wait()).await.expect("a child can be waited for");
    assert!(status.success(), "{status}");
    fs::write(&output, "0").unwrap();
    run_offline(&root, &server, "continue offline", &output).await;
    let config = root.config(&server.ingest);
    let (progress, _) = blocking(move || {
        matyan_sdk::sync(&config, &SyncOptions::default(), |_| true, |progress| progress.finished == 0)
    })
    .await;
    assert_eq!((progress.spools, progress.finished, progress.failed), (HANDLES + 2, 1, 0));
    expect_count(&server.query, "continued", "loss", POINTS).await;
}

/// Continues the run by many handles.
pub(crate) fn continue_by_handles(run: &Run, count: &Path) {
    for _ in 0..HANDLES {
        let run_id = Some(run.id().to_owned());
        let config = run.config().clone();
        let options = RunOptions { run_id, config, offline: true, ..RunOptions::default() };
        continue_counting(&Run::new(options).expect("the options are valid"), count);
    }
}
