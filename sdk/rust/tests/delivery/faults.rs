//! Faults of the network and of the server.

use std::{sync::Arc, time::Duration};

use matyan_sdk::CloseLimits;
use matyan_tests::Server;

use crate::{
    proxy::{Fault, Proxy},
    recorder::Recorder,
    scene::{GUARD, SpoolRoot, blocking, expect_count, series},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_a_server_keeps_everything() {
    let (proxy, root) = (Proxy::start().await, SpoolRoot::new());
    let start = std::time::Instant::now();
    let run = Arc::new(root.run(&proxy.url));
    let opened = start.elapsed();
    let loss = series(&run, "loss");
    for step in 0..200_000 {
        run.track(&loss, f64::from(step), None, None);
    }
    assert!(opened < Duration::from_millis(500), "opening took {opened:?}");
    let id = run.id().to_owned();
    let closing = run.clone();
    let start = std::time::Instant::now();
    let report = blocking(move || closing.close(CloseLimits::default(), |_| true)).await;
    assert!(start.elapsed() < Duration::from_secs(10), "closing took {:?}", start.elapsed());
    // The points, the beginning and the end of the run.
    assert_eq!(report.pending, 200_002);
    assert_eq!(report.spool, root.spools().into_iter().next());
    assert!(run.health().last_error.is_some());

    let server = Server::up().await;
    proxy.set_target(&server.ingest);
    root.wait_until_empty().await;
    expect_count(&server.query, &id, "loss", 200_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_again_and_again_gets_everything_once() {
    let (proxy, root, mut server) = (Proxy::start().await, SpoolRoot::new(), Server::up().await);
    proxy.set_target(&server.ingest);
    let run = root.run(&proxy.url);
    let id = run.id().to_owned();
    let tracking = std::thread::spawn(move || track_slowly(&run, 60_000));
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        server.kill();
        server.start().await;
        proxy.set_target(&server.ingest);
    }
    blocking(move || tracking.join().expect("tracking does not panic")).await;
    root.wait_until_empty().await;
    expect_count(&server.query, &id, "loss", 60_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_fails_in_every_way_delivers_everything_once() {
    let (proxy, root, server) = (Proxy::start().await, SpoolRoot::new(), Server::up().await);
    proxy.set_target(&server.ingest);
    let run = root.run(&proxy.url);
    let id = run.id().to_owned();
    let tracking = std::thread::spawn(move || track_slowly(&run, 60_000));
    for round in 0..12 {
        let fault = [Fault::Cut, Fault::HalfClose, Fault::Silence][round % 3];
        proxy.set_fault(fault);
        tokio::time::sleep(Duration::from_millis(200)).await;
        if fault == Fault::Silence {
            // Silent connections are cut, as a firewall cuts them.
            proxy.set_fault(Fault::Cut);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        proxy.set_fault(Fault::None);
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    blocking(move || tracking.join().expect("tracking does not panic")).await;
    root.wait_until_empty().await;
    expect_count(&server.query, &id, "loss", 60_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_producer_is_replaced() {
    let (recorder, root) = (Recorder::start().await, SpoolRoot::new());
    recorder.refuse_first_producer();
    recorder.acknowledge_all();
    let run = root.run(&recorder.url);
    let loss = series(&run, "loss");
    for step in 0..1_000 {
        run.track(&loss, f64::from(step), None, None);
    }
    let run = Arc::new(run);
    let flushed = {
        let run = run.clone();
        blocking(move || run.flush(GUARD)).await
    };
    assert!(flushed, "{:?}", run.health());
    let notices = run.notices();
    assert!(notices.iter().any(|notice| notice.message.contains("new producer")), "{notices:?}");
    drop((run, loss));
    root.wait_until_empty().await;
    assert_ne!(recorder.first_producer(), recorder.last_producer());
    assert!(recorder.steps(&recorder.last_producer()).into_iter().eq(0..1_000));
}

/// Tracks values for a few seconds. The run ends with the call.
fn track_slowly(run: &matyan_sdk::Run, points: u32) {
    let loss = series(run, "loss");
    for step in 0..points {
        run.track(&loss, f64::from(step), None, None);
        if step % 20 == 0 {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}
