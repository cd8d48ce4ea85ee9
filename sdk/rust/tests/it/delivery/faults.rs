//! Faults of the network and of the server.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use matyan_sdk::{CloseLimits, Run};
use matyan_tests::{Reader, Server, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::delivery::{
    child::Script,
    proxy::{Fault, Proxy, start_tunnels},
    recorder::Recorder,
    scene::{
        GUARD, PATIENT, SlowestCall, SpoolRoot, blocking, expect_count, series, take_notices, taken_notices,
    },
};

/// Points of a script that tracks without a server.
const OUTAGE_POINTS: u32 = 2_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_a_server_keeps_everything() {
    let proxy = Proxy::start().await;
    let root = SpoolRoot::new();
    let run = Arc::new(root.run(&proxy.url));
    let loss = series(&run, "loss");
    let calls = SlowestCall::new("without a server");
    for step in 0..200_000 {
        calls.track(&run, &loss, step, None);
    }
    let id = run.id().to_owned();
    let closing = run.clone();
    // It returns although nothing can be sent.
    let report = blocking(move || closing.close(CloseLimits::default(), |_| true)).await;
    assert!(!run.health().connected);
    // The points, the start and the end of the run.
    assert_eq!(report.pending, 200_002);
    assert_eq!(report.spool, root.spools().into_iter().next());
    assert!(run.health().last_error.is_some());

    let server = Server::up().await;
    proxy.set_target(&server.ingest);
    root.wait_until_empty().await;
    expect_count(&server.query, &id, "loss", 200_000).await;
}

/// Tracks without a server, then waits until everything is stored. Records how far the memory rises
/// above its size at the start, in bytes.
pub(crate) fn outlast_an_outage(run: &Run, output: &Path) {
    let loss = series(run, "loss");
    let before = own_memory();
    let mut peak = 0;
    let calls = SlowestCall::new("an outage");
    for step in 0..OUTAGE_POINTS {
        calls.track(run, &loss, step, None);
        if step % 10_000 == 0 {
            peak = peak.max(own_memory());
        }
    }
    fs::write(output.with_extension("tracked"), "").expect("the file can be written");
    let report = run.close(PATIENT, |_| {
        peak = peak.max(own_memory());
        true
    });
    assert_eq!((report.pending, report.dropped), (0, 0));
    fs::write(output, peak.saturating_sub(before).to_string()).expect("the file can be written");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_what_waits_for_the_server() {
    let proxy = Proxy::start().await;
    let root = SpoolRoot::new();
    let results = SpoolRoot::new();
    let server = Server::up().await;
    let output = results.path().join("memory");
    let gateway_url = proxy.url.as_str();
    let backend_url = server.query.as_str();
    let script = Script { name: "outage", gateway_url, backend_url, run_id: "outage", output: &output };
    let mut child = script.start(&root);
    eventually("the script has tracked everything", async || {
        if output.with_extension("tracked").exists() { Ok(()) } else { Err(child.try_wait()) }
    })
    .await;
    proxy.set_target(&server.ingest);
    let status = blocking(move || child.wait()).await.expect("a child can be waited for");
    assert!(status.success(), "{status}");
    let peak = fs::read_to_string(output).expect("the script wrote it");
    println!("outlasted an outage: {peak} bytes above the beginning");
    // A point takes 32 bytes in the spool.
    let waiting = OUTAGE_POINTS as usize * 32;
    assert!(peak.parse::<usize>().expect("a number") < waiting / 2, "{peak} bytes of {waiting}");
    expect_count(&server.query, "outage", "loss", OUTAGE_POINTS as usize).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_93_a_server_that_is_killed_again_and_again_gets_everything_once() {
    let proxy = Proxy::start().await;
    let root = SpoolRoot::new();
    let mut server = Server::up().await;
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
async fn rule_93_a_server_that_is_away_for_a_minute_gets_everything_once() {
    let proxy = Proxy::start().await;
    let root = SpoolRoot::new();
    let mut server = Server::up().await;
    proxy.set_target(&server.ingest);
    let run = root.run(&proxy.url);
    let id = run.id().to_owned();
    let loss = series(&run, "loss");
    let (stop, stopped) = mpsc::channel::<()>();
    let tracking = std::thread::spawn(move || {
        let mut count = 0;
        let calls = SlowestCall::new("a server that is away for a minute");
        while stopped.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout) {
            calls.track(&run, &loss, count, None);
            count += 1;
        }
        count as usize
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.kill();
    // In real time: the pauses of the client grow to 15 s, and it reports an outage after 30 s. Neither has a setting, and
    // the client keeps its own time.
    tokio::time::sleep(Duration::from_secs(60)).await;
    server.start().await;
    proxy.set_target(&server.ingest);
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(stop);
    let count = blocking(move || tracking.join().expect("tracking does not panic")).await;
    root.wait_until_empty().await;
    expect_count(&server.query, &id, "loss", count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_its_data_stores_what_follows() {
    let proxy = Proxy::start().await;
    let root = SpoolRoot::new();
    let mut server = Server::up().await;
    proxy.set_target(&server.ingest);
    let run = Arc::new(root.run(&proxy.url));
    let id = run.id().to_owned();
    let loss = series(&run, "loss");
    run.track(&loss, 0.0, None, None);
    let flushing = run.clone();
    assert!(blocking(move || flushing.flush(GUARD)).await);
    server.kill();
    fs::remove_dir_all(server.data_dir()).expect("the server is not running");
    server.start().await;
    proxy.set_target(&server.ingest);
    let calls = SlowestCall::new("a server that lost its data");
    for step in 1..1000 {
        calls.track(&run, &loss, step, None);
    }
    let closing = run.clone();
    let report = blocking(move || closing.close(PATIENT, |_| true)).await;
    assert_eq!((report.pending, report.dropped), (0, 0));
    let reader = Reader::connect(&server.query).await;
    let points = eventually("the points can be read", async || {
        let points = reader.points(&id, "loss", "").await.map_err(|status| status.to_string())?;
        if points.len() >= 999 { Ok(points) } else { Err(format!("{} points", points.len())) }
    })
    .await;
    assert!(points.iter().map(|point| point.step).eq(1..1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_93_a_network_that_fails_in_every_way_delivers_everything_once() {
    deliver_through_faults("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_93_a_network_that_fails_in_every_way_delivers_everything_once_by_grpc() {
    deliver_through_faults("grpc+").await;
}

/// `prefix` is the prefix of the gateway's URL.
async fn deliver_through_faults(prefix: &str) {
    let proxy = Proxy::start().await;
    let root = SpoolRoot::new();
    let server = Server::up().await;
    proxy.set_target(&server.ingest);
    let run = root.run(&format!("{prefix}{}", proxy.url));
    let id = run.id().to_owned();
    let tracking = std::thread::spawn(move || track_slowly(&run, 60_000));
    for round in 0..12 {
        let fault = [Fault::Cut, Fault::HalfClose, Fault::Silence, Fault::Delay][round % 4];
        proxy.set_fault(fault);
        tokio::time::sleep(Duration::from_millis(200)).await;
        if fault == Fault::Silence {
            // Silent connections are cut, like connections through a firewall.
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
async fn a_gateway_that_only_a_proxy_can_reach_is_reached_through_it() {
    let server = Server::up_with(&["--allowed-hosts", "gateway.invalid"]).await;
    let root = SpoolRoot::new();
    let address = server.ingest.trim_start_matches("http://").parse().expect("a server has an address");
    let (proxy_url, destinations) = start_tunnels(address).await;
    // Output files are named after series.
    let output = root.path().join("loss");
    for (run_id, gateway_url) in
        [("socket", "http://gateway.invalid:53801"), ("grpc", "grpc+http://gateway.invalid:53801")]
    {
        let script =
            Script { name: "share", gateway_url, backend_url: &server.query, run_id, output: &output };
        let mut child =
            script.start_with(&root, &[("http_proxy", proxy_url.as_str()), ("no_proxy", "127.0.0.1")]);
        let status = blocking(move || child.wait()).await.expect("a child can be waited for");
        assert!(status.success(), "{status}");
        expect_count(&server.query, run_id, "loss", super::processes::POINTS).await;
    }
    let destinations = destinations.lock().expect("nothing panics with the lock").clone();
    assert!(destinations.len() >= 2, "{destinations:?}");
    assert!(destinations.iter().all(|it| it == "gateway.invalid:53801"), "{destinations:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_producer_is_replaced() {
    let recorder = Recorder::start().await;
    let root = SpoolRoot::new();
    recorder.refuse_first_producer();
    recorder.acknowledge_all();
    let run = root.run(&recorder.url);
    let loss = series(&run, "loss");
    let calls = SlowestCall::new("a refused producer");
    for step in 0..1_000 {
        calls.track(&run, &loss, step, None);
    }
    let run = Arc::new(run);
    let flushed = {
        let run = run.clone();
        blocking(move || run.flush(GUARD)).await
    };
    assert!(flushed, "{:?}", run.health());
    let notices = take_notices(&run);
    assert!(notices.iter().any(|notice| notice.message.contains("new producer")), "{notices:?}");
    drop((run, loss));
    root.wait_until_empty().await;
    assert_ne!(recorder.first_producer(), recorder.last_producer());
    assert!(recorder.steps(&recorder.last_producer()).into_iter().eq(0..1_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_server_is_reported_once() {
    let root = SpoolRoot::new();
    let count_reports = async |recorder: Recorder| {
        recorder.acknowledge_all();
        let run = Arc::new(root.run(&recorder.url));
        run.track(&series(&run, "loss"), 0.0, None, None);
        let flushing = run.clone();
        assert!(blocking(move || flushing.flush(GUARD)).await, "{:?}", run.health());
        let notices = taken_notices(&run);
        notices.iter().filter(|notice| notice.message.contains("older than this client")).count()
    };
    assert_eq!(count_reports(Recorder::start().await).await, 0);
    let older = Recorder::of_version("0.0.1").await;
    assert_eq!(count_reports(older.clone()).await, 1);
    assert_eq!(count_reports(older).await, 1);
}

/// A backend that accepts connections and never answers: whether a resumed run had lines before
/// stays unknown.
#[tokio::test(flavor = "multi_thread")]
async fn only_terminal_lines_wait_for_the_backend() {
    let recorder = Recorder::start().await;
    let root = SpoolRoot::new();
    recorder.acknowledge_all();
    let backend = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = root.options(&recorder.url);
    options.config.backend_url = format!("http://{}", backend.local_addr().unwrap());
    options.run_id = Some("with a silent backend".to_owned());
    let run = Run::new(options).unwrap();
    let loss = series(&run, "loss");
    run.track(&loss, 0.0, Some(0), None);
    run.terminal_line("a line", 0).unwrap();
    run.track(&loss, 1.0, Some(1), None);
    eventually("the first point arrives", async || match recorder.steps(&recorder.first_producer()) {
        steps if steps.is_empty() => Err("none"),
        steps => {
            assert_eq!(steps, [0]);
            Ok(())
        }
    })
    .await;
    assert_eq!(recorder.lines(), Vec::<i64>::new());

    // A number that no line before can have.
    drop(backend);
    drop((run, loss));
    root.wait_until_empty().await;
    assert_eq!(recorder.steps(&recorder.last_producer()), [0, 1]);
    assert!(recorder.lines().iter().all(|line| *line > 1_000_000_000), "{:?}", recorder.lines());
    assert!(!recorder.lines().is_empty());
}

/// A proxy that refuses the request for the number of lines must not make them replace others.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_refuses_leaves_earlier_lines_alone() {
    let recorder = Recorder::start().await;
    let root = SpoolRoot::new();
    recorder.acknowledge_all();
    let backend = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = root.options(&recorder.url);
    options.config.backend_url = format!("http://{}", backend.local_addr().unwrap());
    options.run_id = Some("with a refusing backend".to_owned());
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = backend.accept().await {
            let mut request = [0; 4096];
            assert!(connection.read(&mut request).await.unwrap() > 0);
            let refusal = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            connection.write_all(refusal).await.unwrap();
        }
    });
    let run = Run::new(options).unwrap();
    run.terminal_line("a line", 0).unwrap();
    let run = Arc::new(run);
    let flushed = {
        let run = run.clone();
        blocking(move || run.flush(GUARD)).await
    };
    assert!(flushed, "{:?}", run.health());
    assert!(recorder.lines().iter().all(|line| *line > 1_000_000_000), "{:?}", recorder.lines());
    assert_eq!(recorder.lines().len(), 1);
    let notices = take_notices(&run);
    assert!(
        notices.iter().any(|notice| notice.message.contains("terminal lines are numbered from")),
        "{notices:?}"
    );
}

/// Memory of this process without mapped files, in bytes.
fn own_memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("the kernel reports it");
    line.trim_end_matches("kB").trim().parse::<usize>().expect("a number") * 1_024
}

/// Tracks values for a few seconds, and then ends the run.
fn track_slowly(run: &Run, points: u32) {
    let loss = series(run, "loss");
    let calls = SlowestCall::new("an unreliable network");
    for step in 0..points {
        calls.track(run, &loss, step, None);
        if step % 20 == 0 {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

/// Acknowledges each batch, between sequences that are acknowledged already.
fn wrong_acknowledgements(sequence: u64) -> Vec<u64> {
    vec![0, sequence - 1, sequence, 1, sequence]
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_93_wrong_acknowledgements_neither_skip_nor_repeat_a_batch() {
    let recorder = Recorder::start().await;
    recorder.acknowledge_as(wrong_acknowledgements);
    let root = SpoolRoot::new();
    let run = Arc::new(root.run(&recorder.url));
    // Only the first batch is in flight now.
    let flushing = run.clone();
    assert!(blocking(move || flushing.flush(GUARD)).await, "{:?}", run.health());
    let loss = series(&run, "loss");
    for step in 0..2_000_i32 {
        run.track(&loss, f64::from(step), Some(step.into()), None);
        if step % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    let closing = run.clone();
    let report = blocking(move || closing.close(PATIENT, |_| true)).await;
    assert_eq!((report.pending, report.dropped), (0, 0), "{:?}", run.health());
    assert_eq!(recorder.connections(), 1);
    assert!(recorder.steps(&recorder.first_producer()).into_iter().eq(0..2_000));
}

/// Attempts after which the pauses are seconds long.
const FIRST_ATTEMPTS: usize = 6;
/// Attempts that a caller waits for.
const AWAITED_ATTEMPTS: usize = 8;

/// A call that waits for the server for as long as the function returns true.
type Wait = fn(&Run, &mut dyn FnMut() -> bool);

fn flush_while(run: &Run, keep_waiting: &mut dyn FnMut() -> bool) {
    run.flush_while(GUARD, keep_waiting);
}

fn close_while(run: &Run, keep_waiting: &mut dyn FnMut() -> bool) {
    run.close(PATIENT, |_| keep_waiting());
}

/// A server that is back gets the data at once if a caller waits. Attempts are compared with the attempts of a run for
/// which no caller waits, because a limit in seconds would depend on the machine.
#[tokio::test(flavor = "multi_thread")]
async fn flush_and_close_do_not_wait_for_the_pause_between_attempts() {
    let server = Server::up().await;
    let waits: [Wait; 2] = [flush_while, close_while];
    for wait in waits {
        let root = SpoolRoot::new();
        let proxy = Arc::new(Proxy::start().await);
        let other_proxy = Proxy::start().await;
        let run = Arc::new(root.run(&proxy.url));
        let other_run = root.run(&other_proxy.url);
        run.track(&series(&run, "loss"), 0.0, Some(0), None);
        other_run.track(&series(&other_run, "loss"), 0.0, Some(0), None);
        let (before, other_before) = eventually("both runs pause for long", async || {
            let attempts = (proxy.attempts(), other_proxy.attempts());
            if attempts.0.min(attempts.1) >= FIRST_ATTEMPTS { Ok(attempts) } else { Err(attempts) }
        })
        .await;
        let waiting = run.clone();
        let counted = proxy.clone();
        blocking(move || wait(&waiting, &mut || counted.attempts() < before + AWAITED_ATTEMPTS)).await;
        let attempts = proxy.attempts() - before;
        let other_attempts = other_proxy.attempts() - other_before;
        assert!(attempts >= AWAITED_ATTEMPTS, "{attempts}");
        assert!(other_attempts * 2 < attempts, "{other_attempts} attempts, and {attempts} for a caller");
        // Now the server is back.
        proxy.set_target(&server.ingest);
        let closing = run.clone();
        let report = blocking(move || closing.close(PATIENT, |_| true)).await;
        assert_eq!((report.pending, report.dropped), (0, 0), "{:?}", run.health());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_46_an_unknown_project_is_reported_at_once() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    let run = root.run(&format!("{}/p/absent", server.ingest));
    run.track(&series(&run, "loss"), 0.5, Some(0), None);
    let notice = eventually("the refusal is reported", async || {
        take_notices(&run).pop().ok_or_else(|| format!("{:?}", run.health()))
    })
    .await;
    assert!(notice.message.contains("the project `absent` does not exist"), "{notice:?}");
    assert!(notice.message.contains("kept in"), "{notice:?}");
}
