//! Uploads to a real server: through faults, and across the end of the process that started them.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking, and the lint also applies to helpers")]

mod changing_files;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use matyan_sdk::{
    CloseLimits, Config, Content, Context, Map, NoticeLevel, Object, Payload, Run, RunOptions, Samples,
    SyncOptions, UploadError, Value,
    http::{HttpError, Timeouts},
    reading::{BackendClient, BackendOptions, SearchTarget, Tree},
};
use matyan_tests::{Server, eventually_blocking};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A guard against hanging only.
const GUARD: Duration = Duration::from_secs(120);
const PATIENT: CloseLimits = CloseLimits { reachable: GUARD, unreachable: GUARD };

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().unwrap())
}

fn server() -> Server {
    runtime().block_on(Server::up())
}

fn backend(server: &Server) -> BackendClient {
    let options = BackendOptions {
        timeouts: Timeouts::default(),
        interrupted: || false,
        runtime: matyan_sdk::io_runtime,
    };
    BackendClient::new(&server.query, options).unwrap()
}

fn options(gateway_url: &str, spools: &Path) -> RunOptions {
    let config = Config {
        gateway_url: gateway_url.to_owned(),
        spool_dirs: vec![spools.to_owned()],
        ..Config::default()
    };
    RunOptions { config, ..RunOptions::default() }
}

fn close(run: &Run) {
    let report = run.close(PATIENT, |_| true);
    assert_eq!(report.pending, 0, "{:?}", run.health());
}

/// An artifact, once it is applied.
fn artifact(backend: &BackendClient, run_id: &str, path: &str) -> Vec<u8> {
    eventually_blocking("the artifact", || {
        let body = backend.artifact(run_id, path).and_then(|body| body.into_bytes());
        body.map_err(|error: HttpError| error.to_string())
    })
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

#[test]
fn artifacts_of_every_size_arrive_with_their_type_and_hash() {
    let server = server();
    let spools = TempDir::new().unwrap();
    let files = TempDir::new().unwrap();
    let run = Run::new(options(&server.ingest, spools.path())).unwrap();
    // The largest one is uploaded from its own place.
    let sizes = [0, 1, 300_000, 20 << 20];
    for size in sizes {
        let file = files.path().join(format!("{size}.bin"));
        std::fs::write(&file, content(size)).unwrap();
        run.log_artifact(Content::File(&file), &format!("sizes/{size}.bin"), None).unwrap();
    }
    let small = files.path().join("config.yaml");
    std::fs::write(&small, "a: 1").unwrap();
    run.log_artifact(Content::File(&small), "run-config", None).unwrap();
    // The content is the content of the file at the time of the call.
    std::fs::write(&small, "changed").unwrap();
    close(&run);
    let backend = backend(&server);
    for size in sizes {
        assert!(artifact(&backend, run.id(), &format!("sizes/{size}.bin")) == content(size), "{size}");
    }
    assert_eq!(artifact(&backend, run.id(), "run-config"), b"a: 1");
    assert!(std::fs::read_dir(spools.path()).unwrap().next().is_none(), "nothing is left");
    assert_eq!(run.notices(), []);
}

#[test]
fn files_are_uploaded_next_to_points_that_are_sent_by_grpc() {
    let server = server();
    let spools = TempDir::new().unwrap();
    let run = Run::new(options(&format!("grpc+{}", server.ingest), spools.path())).unwrap();
    let loss = run.series("loss", &Context::default(), "float").unwrap();
    run.track(&loss, 0.5, None, None);
    run.log_artifact(Content::Bytes(&content(300_000)), "weights.bin", None).unwrap();
    close(&run);
    assert!(artifact(&backend(&server), run.id(), "weights.bin") == content(300_000));
    assert_eq!(run.notices(), []);
}

#[test]
fn wrong_arguments_and_missing_files_fail_at_the_call() {
    let spools = TempDir::new().unwrap();
    let options = RunOptions { offline: true, ..options("http://127.0.0.1:9", spools.path()) };
    let run = Run::new(options).unwrap();
    let missing = run.log_artifact(Content::File("/does/not/exist".as_ref()), "a", None);
    assert!(matches!(missing, Err(UploadError::File { .. })), "{missing:?}");
    let directory = run.log_artifact(Content::File(spools.path()), "a", None);
    assert!(matches!(directory, Err(UploadError::File { .. })), "{directory:?}");
    let outside = run.log_artifact(Content::Bytes(b""), "../a", None);
    assert!(matches!(outside, Err(UploadError::Argument(_))), "{outside:?}");
}

/// Objects without a step, at the time of the call.
fn object<'a>(name: &'a str, context: &'a Context, dtype: &'a str, values: &'a [Map]) -> Object<'a> {
    Object { name, context, dtype, step: None, epoch: None, time_us: None, values }
}

#[test]
fn objects_appear_with_their_payloads() {
    let server = server();
    let spools = TempDir::new().unwrap();
    let run = Run::new(options(&server.ingest, spools.path())).unwrap();
    let contexts = [r#"{"subset":"train"}"#, r#"{"subset":"val"}"#].map(|text| Context::parse(text).unwrap());
    let pixels: Vec<u8> = content(4 * 3 * 3);
    for context in &contexts {
        for step in 0..3 {
            let value =
                Map::from([("caption".to_owned(), Value::Text(format!("{} {step}", context.canonical())))]);
            let object = Object {
                name: "é/img",
                context,
                dtype: "image",
                step: Some(step),
                epoch: None,
                time_us: None,
                values: &[value],
            };
            let payload = Payload::Pixels { bytes: &pixels, width: 4, height: 3, channels: 3 };
            run.log_payloads(&object, &[Some(payload)]).unwrap();
        }
    }
    let samples = [0.0, 0.5, -1.0, 0.25];
    let values = [Map::new()];
    let context = Context::default();
    let object = object("sound", &context, "audio", &values);
    let payload = Payload::Audio { samples: Samples::F32(&samples), rate: 8000, channels: 1 };
    run.log_payloads(&object, &[Some(payload)]).unwrap();
    close(&run);

    let backend = backend(&server);
    let traces = r#"[{"name": "é/img", "context": {"subset": "train"}}, {"name": "é/img", "context": {"subset": "val"}}]"#;
    let found: Vec<Tree> = eventually_blocking("all images", || {
        let found =
            backend.object_batch(run.id(), SearchTarget::Images, traces, &[]).and_then(Iterator::collect);
        let found: Vec<Tree> = found.map_err(|error: HttpError| error.to_string())?;
        let is_complete =
            |trace: &Tree| matches!(trace.member("values"), Some(Tree::List(steps)) if steps.len() == 3);
        if found.len() == 2 && found.iter().all(is_complete) { Ok(found) } else { Err(format!("{found:?}")) }
    });
    let items = found.iter().flat_map(|trace| match trace.member("values") {
        Some(Tree::List(steps)) => steps.clone(),
        other => panic!("{other:?}"),
    });
    let items: Vec<Tree> = items
        .map(|step| match step {
            Tree::List(items) => items[0].clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(items[0].member("width"), Some(&Tree::Integer(4)));
    assert_eq!(items[0].member("format").and_then(Tree::as_text), Some("PNG"));
    let uris: Vec<String> = items
        .iter()
        .map(|item| item.member("blob_uri").and_then(Tree::as_text).unwrap().to_owned())
        .collect();
    for blob in backend.blobs(SearchTarget::Images, &uris).unwrap() {
        let (_, png) = blob.unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut decoded = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut decoded).unwrap();
        assert_eq!(decoded, pixels);
    }
    let sounds =
        backend.object_batch(run.id(), SearchTarget::Audios, r#"[{"name": "sound", "context": {}}]"#, &[]);
    assert_eq!(sounds.unwrap().count(), 1);
}

#[test]
fn a_list_of_objects_appears_with_all_of_its_payloads() {
    let server = server();
    let spools = TempDir::new().unwrap();
    let run = Run::new(options(&server.ingest, spools.path())).unwrap();
    let context = Context::default();
    // More objects than are uploaded at the same time, and an object without a payload.
    let values: Vec<Map> =
        (0..9).map(|number| Map::from([("caption".to_owned(), Value::Text(format!("{number}")))])).collect();
    let pixels: Vec<Vec<u8>> = (0..9).map(|number| vec![number; 3]).collect();
    let payloads: Vec<Option<Payload<'_>>> = pixels
        .iter()
        .map(|bytes| (bytes[0] != 4).then_some(Payload::Pixels { bytes, width: 1, height: 1, channels: 3 }))
        .collect();
    let list = Object { step: Some(3), ..object("list", &context, "image", &values) };
    run.log_payloads(&list, &payloads).unwrap();
    close(&run);

    let backend = backend(&server);
    let items: Vec<Tree> = eventually_blocking("the list", || {
        let traces = r#"[{"name": "list", "context": {}}]"#;
        let all = [("index_density", "100")];
        let found = backend.object_batch(run.id(), SearchTarget::Images, traces, &all);
        let found: Vec<Tree> =
            found.and_then(Iterator::collect).map_err(|error: HttpError| error.to_string())?;
        let steps = found.first().and_then(|trace| trace.member("values"));
        match steps {
            Some(Tree::List(steps)) => match &steps[..] {
                [Tree::List(items)] => Ok(items.clone()),
                other => Err(format!("{other:?}")),
            },
            other => Err(format!("{other:?}")),
        }
    });
    let captions: Vec<&str> =
        items.iter().filter_map(|item| item.member("caption").and_then(Tree::as_text)).collect();
    assert_eq!(captions, ["0", "1", "2", "3", "4", "5", "6", "7", "8"]);
    let uris: Vec<String> = items
        .iter()
        .filter_map(|item| item.member("blob_uri").and_then(Tree::as_text).map(str::to_owned))
        .filter(|uri| !uri.is_empty())
        .collect();
    assert_eq!(uris.len(), 8);
    assert_eq!(backend.blobs(SearchTarget::Images, &uris).unwrap().count(), 8);
}

/// A proxy that cuts its first connections after a number of bytes.
fn faulty_proxy(target: SocketAddr, faults: usize, bytes: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = connections.clone();
    thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(client) = client else { return };
            let number = counter.fetch_add(1, Ordering::Relaxed);
            let Ok(server) = TcpStream::connect(target) else { return };
            let limit = if number < faults { bytes } else { usize::MAX };
            let from = client.try_clone().unwrap();
            let to = server.try_clone().unwrap();
            thread::spawn(move || copy(from, to, limit));
            thread::spawn(move || copy(server, client, usize::MAX));
        }
    });
    (format!("http://{address}"), connections)
}

fn copy(mut from: TcpStream, mut to: TcpStream, mut limit: usize) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let sent = read.min(limit);
        if to.write_all(&buffer[..sent]).is_err() {
            break;
        }
        limit -= sent;
        if limit == 0 {
            break;
        }
    }
    // Either may be closed already.
    drop(from.shutdown(Shutdown::Both));
    drop(to.shutdown(Shutdown::Both));
}

#[test]
fn a_broken_network_costs_only_time() {
    let server = server();
    let spools = TempDir::new().unwrap();
    let target = server.ingest.strip_prefix("http://").unwrap().parse().unwrap();
    let (gateway, connections) = faulty_proxy(target, 6, 100_000);
    let run = Run::new(options(&gateway, spools.path())).unwrap();
    for number in 0..6 {
        run.log_artifact(Content::Bytes(&content(500_000 + number)), &format!("f/{number}"), None).unwrap();
    }
    close(&run);
    assert!(connections.load(Ordering::Relaxed) > 6);
    let backend = backend(&server);
    for number in 0..6 {
        assert!(artifact(&backend, run.id(), &format!("f/{number}")) == content(500_000 + number));
    }
}

#[test]
fn rule_93_a_large_file_is_sent_in_parts_and_continues_after_interruptions() {
    let server = server();
    let spools = TempDir::new().unwrap();
    let files = TempDir::new().unwrap();
    let target = server.ingest.strip_prefix("http://").unwrap().parse().unwrap();
    // Too few bytes for a part, so none of these connections carries one.
    let (gateway, connections) = faulty_proxy(target, 4, 20 << 20);
    let large = content((64 << 20) + 12_345);
    let file = files.path().join("model.bin");
    std::fs::write(&file, &large).unwrap();
    let run = Run::new(options(&gateway, spools.path())).unwrap();
    run.log_artifact(Content::File(&file), "model.bin", None).unwrap();
    close(&run);
    assert!(connections.load(Ordering::Relaxed) > 4);
    assert!(artifact(&backend(&server), run.id(), "model.bin") == large);
    assert!(std::fs::read_dir(spools.path()).unwrap().next().is_none(), "nothing is left");
    assert_eq!(run.notices(), []);
}

/// A relay whose URL stays the same while the server with this address comes and goes.
fn relay() -> (String, Arc<Mutex<String>>) {
    let address = Arc::new(Mutex::new("127.0.0.1:1".to_owned()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let current = address.clone();
    thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(client) = client else { return };
            let target: String = current.lock().unwrap().trim_start_matches("http://").to_owned();
            let Ok(server) = TcpStream::connect(target) else { continue };
            let from = client.try_clone().unwrap();
            let to = server.try_clone().unwrap();
            thread::spawn(move || copy(from, to, usize::MAX));
            thread::spawn(move || copy(server, client, usize::MAX));
        }
    });
    (url, address)
}

#[test]
fn uploads_wait_for_an_absent_server() {
    let mut server = server();
    let spools = TempDir::new().unwrap();
    let (gateway, address) = relay();
    server.kill();
    let run = Run::new(options(&gateway, spools.path())).unwrap();
    run.log_artifact(Content::Bytes(b"late"), "late.txt", None).unwrap();
    eventually_blocking("the sender has failed", || run.health().last_error.ok_or("no error yet"));
    assert_eq!(run.health().pending_uploads, 1);
    runtime().block_on(server.start());
    *address.lock().unwrap() = server.ingest.clone();
    close(&run);
    assert_eq!(artifact(&backend(&server), run.id(), "late.txt"), b"late");
    assert_eq!(run.health().pending_uploads, 0);
}

/// Larger than the files that are copied at the call.
const REFERRED_BYTES: usize = (16 << 20) + 1;

#[test]
fn a_file_that_changes_before_it_is_uploaded_is_reported() {
    let server = server();
    let spools = TempDir::new().unwrap();
    let files = TempDir::new().unwrap();
    let (gateway, address) = relay();
    let file = files.path().join("model.bin");
    std::fs::write(&file, content(REFERRED_BYTES)).unwrap();
    let run = Run::new(options(&gateway, spools.path())).unwrap();
    run.log_artifact(Content::File(&file), "model.bin", None).unwrap();
    // The same size: only the time says that it is another content.
    std::fs::write(&file, vec![1; REFERRED_BYTES]).unwrap();
    *address.lock().unwrap() = server.ingest.clone();
    close(&run);
    let notices = run.notices();
    let is_named = |message: &str| message.contains("model.bin was changed after the call");
    assert!(notices.iter().any(|notice| is_named(&notice.message)), "{notices:?}");
}

#[test]
fn a_file_that_disappears_before_it_is_uploaded_is_reported_and_counted() {
    let server = server();
    let spools = TempDir::new().unwrap();
    let files = TempDir::new().unwrap();
    let (gateway, address) = relay();
    let file = files.path().join("model.bin");
    std::fs::write(&file, content(REFERRED_BYTES)).unwrap();
    let run = Run::new(options(&gateway, spools.path())).unwrap();
    run.log_artifact(Content::File(&file), "model.bin", None).unwrap();
    std::fs::remove_file(&file).unwrap();
    *address.lock().unwrap() = server.ingest.clone();
    let report = run.close(PATIENT, |_| true);
    assert_eq!((report.pending, report.dropped), (0, 1));
    let notices = run.notices();
    let is_named = |message: &str| message.starts_with("model.bin was not uploaded, and is lost");
    assert!(notices.iter().any(|notice| is_named(&notice.message)), "{notices:?}");
}

#[test]
fn files_that_wait_are_bounded_like_records() {
    let server = server();
    let spools = TempDir::new().unwrap();
    let files = TempDir::new().unwrap();
    let (gateway, address) = relay();
    let file = files.path().join("table.csv");
    std::fs::write(&file, content(300_000)).unwrap();
    let mut limited = options(&gateway, spools.path());
    limited.config.spool_bytes = 512 << 10;
    let run = Run::new(limited).unwrap();
    run.log_artifact(Content::Bytes(&content(400_000)), "first.bin", None).unwrap();
    run.log_artifact(Content::Bytes(&content(300_000)), "second.bin", None).unwrap();
    assert_eq!((run.health().pending_uploads, run.health().dropped), (1, 1));
    let notices = run.notices();
    assert!(notices.iter().any(|notice| notice.message.contains("is full")), "{notices:?}");
    // It is not copied, but uploaded from where it is.
    run.log_artifact(Content::File(&file), "table.csv", None).unwrap();
    assert_eq!(run.health().pending_uploads, 2);
    *address.lock().unwrap() = server.ingest.clone();
    eventually_blocking("nothing waits any more", || match run.health().pending_uploads {
        0 => Ok(()),
        left => Err(left),
    });
    // An upload gives its space back just after it stops being pending.
    let dropped = eventually_blocking("there is space again", || {
        let before = run.health().dropped;
        run.log_artifact(Content::Bytes(&content(400_000)), "third.bin", None).unwrap();
        let dropped = run.health().dropped;
        if dropped == before { Ok(dropped) } else { Err(dropped) }
    });
    let report = run.close(PATIENT, |_| true);
    assert_eq!((report.pending, report.dropped), (0, dropped));
    let backend = backend(&server);
    for (path, length) in [("first.bin", 400_000), ("table.csv", 300_000), ("third.bin", 400_000)] {
        assert_eq!(artifact(&backend, run.id(), path), content(length), "{path}");
    }
}

#[test]
fn a_list_of_which_a_file_is_missing_is_not_shown() {
    let server = server();
    let spools = TempDir::new().unwrap();
    let files = TempDir::new().unwrap();
    let (gateway, address) = relay();
    let file = files.path().join("clip.wav");
    std::fs::write(&file, content(REFERRED_BYTES)).unwrap();
    let run = Run::new(options(&gateway, spools.path())).unwrap();
    let context = Context::default();
    let values = [Map::new(), Map::new()];
    let payloads = [Content::File(&file), Content::Bytes(b"small")]
        .map(|content| Some(Payload::Encoded { content, format: "wav" }));
    run.log_payloads(&object("broken", &context, "audio", &values), &payloads).unwrap();
    std::fs::remove_file(&file).unwrap();
    run.log_payloads(&object("whole", &context, "audio", &values[1..]), &payloads[1..]).unwrap();
    *address.lock().unwrap() = server.ingest.clone();
    close(&run);
    let notices = run.notices();
    assert!(notices.iter().any(|it| it.message.contains("is not shown")), "{notices:?}");
    let backend = backend(&server);
    let count = |name: &str| {
        let traces = format!(r#"[{{"name": "{name}", "context": {{}}}}]"#);
        let found = backend.object_batch(run.id(), SearchTarget::Audios, &traces, &[]);
        found.and_then(Iterator::collect::<Result<Vec<Tree>, _>>).map(|traces| traces.len())
    };
    eventually_blocking("the complete list is shown", || match count("whole") {
        Ok(1) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(count("broken").unwrap(), 0);
}

#[test]
fn objects_without_steps_are_numbered_by_their_calls() {
    let server = server();
    let spools = TempDir::new().unwrap();
    let run = Run::new(options(&server.ingest, spools.path())).unwrap();
    let context = Context::default();
    // The first one takes longest to encode and to upload.
    for side in [1_500, 400, 100, 1] {
        let values = [Map::from([("caption".to_owned(), Value::Integer(side.into()))])];
        let pixels = content(side as usize * side as usize * 3);
        let payload = Payload::Pixels { bytes: &pixels, width: side, height: side, channels: 3 };
        run.log_payloads(&object("img", &context, "image", &values), &[Some(payload)]).unwrap();
    }
    close(&run);
    let backend = backend(&server);
    let sides = eventually_blocking("all images", || {
        let traces = r#"[{"name": "img", "context": {}}]"#;
        let found = backend.object_batch(run.id(), SearchTarget::Images, traces, &[]);
        let found: Vec<Tree> =
            found.and_then(Iterator::collect).map_err(|error: HttpError| error.to_string())?;
        let Some(Tree::List(steps)) = found.first().and_then(|trace| trace.member("values")) else {
            return Err(format!("{found:?}"));
        };
        let side = |step: &Tree| match step {
            Tree::List(items) => items[0].member("width").cloned(),
            _ => None,
        };
        if steps.len() == 4 {
            Ok(steps.iter().map(side).collect::<Vec<_>>())
        } else {
            Err(format!("{steps:?}"))
        }
    });
    assert_eq!(sides, [1_500, 400, 100, 1].map(|side| Some(Tree::Integer(side))));
}

#[test]
fn objects_that_no_server_accepts_are_refused_at_the_call() {
    let spools = TempDir::new().unwrap();
    let options = RunOptions { offline: true, ..options("http://127.0.0.1:9", spools.path()) };
    let run = Run::new(options).unwrap();
    let context = Context::default();
    let caption = Value::Text("x".repeat(16 << 20));
    let values = [Map::from([("caption".to_owned(), caption)])];
    let payload = Payload::Encoded { content: Content::Bytes(b"x"), format: "png" };
    let refused = run.log_payloads(&object("img", &context, "image", &values), &[Some(payload)]);
    assert!(matches!(refused, Err(UploadError::Argument(_))), "{refused:?}");
    assert_eq!(run.health().pending_uploads, 0);
}

/// Variable by which this program knows that it is the script: gateway, backend, directory, and run.
const SCRIPT: &str = "MATYAN_SDK_UPLOADING_SCRIPT";
/// Artifacts, and images, of each script.
const FILES: usize = 6;

/// Number of scripts that are killed: 10, or as `MATYAN_KILLS` specifies.
fn kills() -> usize {
    #[expect(clippy::disallowed_methods, reason = "the length of a test is its only setting")]
    let asked = std::env::var("MATYAN_KILLS");
    asked.map_or(10, |kills| kills.parse().expect("MATYAN_KILLS is a number"))
}

/// Logs artifacts and images, reports that, and waits to be killed.
#[expect(clippy::print_stdout, reason = "the test reads it")]
fn script(gateway: &str, backend: &str, spools: &str, run_id: &str) -> ! {
    let mut options = RunOptions { run_id: Some(run_id.to_owned()), ..options(gateway, spools.as_ref()) };
    options.config.backend_url = backend.to_owned();
    let run = Run::new(options).unwrap();
    let context = Context::default();
    let values = [Map::new()];
    for number in 0..FILES {
        run.log_artifact(Content::Bytes(&content(200_000 + number)), &format!("f/{number}"), None).unwrap();
        let object = object("img", &context, "image", &values);
        let payload = Payload::Pixels { bytes: &content(30_000), width: 100, height: 100, channels: 3 };
        run.log_payloads(&object, &[Some(payload)]).unwrap();
    }
    println!("LOGGED");
    loop {
        thread::park();
    }
}

#[test]
fn rule_93_a_killed_script_loses_no_upload_and_announces_none_twice() {
    #[expect(clippy::disallowed_methods, reason = "the script is this program with another setting")]
    if let Ok(setup) = std::env::var(SCRIPT) {
        let [gateway, backend, spools, run_id] = setup.split('|').collect::<Vec<_>>()[..] else {
            panic!("{setup}")
        };
        script(gateway, backend, spools, run_id);
    }
    let server = server();
    let spools = TempDir::new().unwrap();
    let name = "uploads::rule_93_a_killed_script_loses_no_upload_and_announces_none_twice";
    let runs: Vec<String> = (0..kills()).map(|number| format!("run-{number}")).collect();
    for (number, run_id) in runs.iter().enumerate() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(SCRIPT, format!("{}|{}|{}|{run_id}", server.ingest, server.query, spools.path().display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("LOGGED")));
        // At another moment of the uploads each time.
        thread::park_timeout(Duration::from_millis(12 * number as u64 % 240));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let config = options(&server.ingest, spools.path()).config;
    let (progress, notices) = matyan_sdk::sync(&config, &SyncOptions::default(), |_| true, |_| true);
    assert_eq!(progress.finished, progress.spools, "{notices:?}");
    let backend = backend(&server);
    let mut stored = 0;
    let mut announced = 0;
    for run_id in &runs {
        for number in 0..FILES {
            assert!(artifact(&backend, run_id, &format!("f/{number}")) == content(200_000 + number));
            stored += 1;
        }
        // The server assigns the steps, so a second announcement would be a seventh step.
        let traces = r#"[{"name": "img", "context": {}}]"#;
        let steps = eventually_blocking("all images", || {
            let found =
                backend.object_batch(run_id, SearchTarget::Images, traces, &[("record_density", "0")]);
            let found: Result<Vec<Tree>, _> = found.and_then(Iterator::collect);
            match found
                .map_err(|error| error.to_string())?
                .first()
                .and_then(|trace| trace.member("iters").cloned())
            {
                Some(Tree::List(steps)) if steps.len() >= FILES => Ok(steps),
                other => Err(format!("{other:?}")),
            }
        });
        assert_eq!(steps.len(), FILES, "{run_id}");
        announced += steps.len();
    }
    let tracked = runs.len() * FILES;
    println!(
        "{} kills of scripts that upload: {tracked} artifacts and {tracked} images logged, {stored} and {announced} \
         stored, {} lost, {} doubled",
        runs.len(),
        (2 * tracked).saturating_sub(stored + announced),
        announced.saturating_sub(tracked),
    );
    assert!(std::fs::read_dir(spools.path()).unwrap().next().is_none(), "nothing is left");
}

#[test]
fn an_upload_that_the_server_refuses_is_reported_and_holds_nothing_up() {
    let server = server();
    let spools = TempDir::new().unwrap();
    let run = Run::new(options(&server.ingest, spools.path())).unwrap();
    run.log_artifact(Content::Bytes(b"x"), "a.txt", Some("not\u{7}valid")).unwrap();
    run.log_artifact(Content::Bytes(b"y"), "b.txt", None).unwrap();
    close(&run);
    let notices = run.notices();
    assert!(
        notices
            .iter()
            .any(|it| it.level == NoticeLevel::Error && it.message.starts_with("a.txt was not uploaded")),
        "{notices:?}"
    );
    let backend = backend(&server);
    assert_eq!(artifact(&backend, run.id(), "b.txt"), b"y");
    assert!(matches!(backend.artifact(run.id(), "a.txt"), Err(HttpError::NotFound { .. })));
}
