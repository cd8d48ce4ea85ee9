//! Order in which the spools of one run are stored, and the times that their runs get.

use std::{fs, path::Path, time::SystemTime};

use matyan_sdk::{Config, Run, RunOptions, SyncOptions};
use matyan_tests::Server;

use crate::{
    child::Script,
    proxy::Proxy,
    scene::{SpoolRoot, blocking, expect_count, keep_notices, props, series},
};

/// Number of handles or scripts that continue a run, each of which has a spool with a random name.
const PARTS: usize = 8;
/// Number of points of each.
const POINTS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_server_is_stored_in_the_order_of_the_handles() {
    let (proxy, root) = (Proxy::start().await, SpoolRoot::new());
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
async fn sync_stores_scripts_in_the_order_in_which_they_ran() {
    let (server, root) = (Server::up().await, SpoolRoot::new());
    let directory = SpoolRoot::new();
    let output = directory.path().join("count");
    fs::write(&output, "0").unwrap();
    for _ in 0..PARTS {
        let (gateway_url, backend_url) = (server.ingest.as_str(), server.query.as_str());
        let script = Script {
            name: "continue offline",
            gateway_url,
            backend_url,
            run_id: "continued",
            output: &output,
        };
        let mut child = script.start(&root);
        let status = blocking(move || child.wait()).await.expect("a child can be waited for");
        assert!(status.success(), "{status}");
    }
    let config = root.config(&server.ingest);
    let (progress, notices) =
        blocking(move || matyan_sdk::sync(&config, &SyncOptions::default(), |_| true, |_| true)).await;
    keep_notices(&notices);
    assert_eq!((progress.spools, progress.finished), (PARTS, PARTS), "{notices:?}");
    expect_count(&server.query, "continued", "loss", PARTS * POINTS).await;
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
    let (proxy, root) = (Proxy::start().await, SpoolRoot::new());
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
    let (server, root) = (Server::up().await, SpoolRoot::new());
    // It is for a server that does not exist any more.
    let gone = RunOptions { run_id: Some("moved".to_owned()), ..root.options("http://127.0.0.1:1") };
    drop(Run::new(gone.clone()).unwrap());
    let run =
        Run::new(RunOptions { config: Config { gateway_url: server.ingest.clone(), ..gone.config }, ..gone });
    let run = run.unwrap();
    run.track(&series(&run, "loss"), 0.0, None, None);
    drop(run);
    expect_count(&server.query, "moved", "loss", 1).await;
}
