//! Files that are written to while they are uploaded, or that are damaged in the spool.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use matyan_sdk::{Content, Run, http::HttpError};
use serde_json::Value;
use tempfile::TempDir;

use super::{PATIENT, REFERRED_BYTES, artifact, backend, close, content, options, relay, server};

/// Work that a proxy does once.
type Hook = Mutex<Option<Box<dyn FnOnce() + Send>>>;

/// A proxy that stops for `hook` when clients have sent a number of bytes.
fn hooked_proxy(target: &str, bytes: usize, hook: impl FnOnce() + Send + 'static) -> String {
    let target = target.strip_prefix("http://").unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let hook: Arc<Hook> = Arc::new(Mutex::new(Some(Box::new(hook))));
    let passed = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(client) = client else { return };
            let Ok(server) = TcpStream::connect(&target) else { return };
            let from = client.try_clone().unwrap();
            let to = server.try_clone().unwrap();
            let passed = passed.clone();
            let hook = hook.clone();
            thread::spawn(move || {
                pass(from, to, |read| {
                    if passed.fetch_add(read, Ordering::Relaxed) + read >= bytes
                        && let Some(hook) = hook.lock().unwrap().take()
                    {
                        hook();
                    }
                });
            });
            thread::spawn(move || pass(server, client, |_| ()));
        }
    });
    url
}

fn pass(mut from: TcpStream, mut to: TcpStream, before: impl Fn(usize)) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        before(read);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // Either may be closed already.
    drop(from.shutdown(Shutdown::Both));
    drop(to.shutdown(Shutdown::Both));
}

/// Replaces the content of a file in place, without making it shorter in between.
fn overwrite(file: &Path, content: &[u8]) {
    fs::File::options().write(true).open(file).unwrap().write_all_at(content, 0).unwrap();
}

#[test]
fn rule_93_a_file_that_changes_during_its_upload_is_stored_as_one_version() {
    let server = server();
    let files = TempDir::new().unwrap();
    // In one request, and in parts.
    for size in [REFERRED_BYTES, (64 << 20) + 12_345] {
        let spools = TempDir::new().unwrap();
        let file = files.path().join(format!("{size}.bin"));
        fs::write(&file, content(size)).unwrap();
        let changed = file.clone();
        let gateway = hooked_proxy(&server.ingest, size / 16, move || overwrite(&changed, &vec![1; size]));
        let run = Run::new(options(&gateway, spools.path())).unwrap();
        run.log_artifact(Content::File(&file), "model.bin", None).unwrap();
        close(&run);
        let stored = artifact(&backend(&server), run.id(), "model.bin");
        assert!(stored == vec![1; size], "a mixture of two versions");
        let notices = run.notices();
        let is_named = |message: &str| message.contains("was changed after the call");
        assert!(notices.iter().any(|notice| is_named(&notice.message)), "{notices:?}");
        assert_eq!(run.health().dropped, 0);
    }
}

#[test]
fn a_file_that_changes_during_every_attempt_is_given_up_with_the_reason() {
    let server = server();
    let spools = TempDir::new().unwrap();
    let files = TempDir::new().unwrap();
    let file = files.path().join("model.bin");
    fs::write(&file, content(REFERRED_BYTES)).unwrap();
    let is_over = AtomicBool::new(false);
    let run = Run::new(options(&server.ingest, spools.path())).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for byte in (0..=u8::MAX).cycle() {
                overwrite(&file, &[byte]);
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        run.log_artifact(Content::File(&file), "model.bin", None).unwrap();
        let report = run.close(PATIENT, |_| true);
        is_over.store(true, Ordering::Relaxed);
        assert_eq!((report.pending, report.dropped), (0, 1));
    });
    let notices = run.notices();
    let is_named = |message: &str| {
        message.starts_with("model.bin was not uploaded, and is lost")
            && message.contains("was written to during each of 4 attempts")
    };
    assert!(notices.iter().any(|notice| is_named(&notice.message)), "{notices:?}");
    assert!(matches!(backend(&server).artifact(run.id(), "model.bin"), Err(HttpError::NotFound { .. })));
}

/// Path of the content of an upload in a spool, and of its manifest.
fn data_and_manifest(uploads: &Path, artifact: &str) -> [PathBuf; 2] {
    let files = fs::read_dir(uploads).unwrap().map(|entry| entry.unwrap().path());
    let manifest = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "json"))
        .find(|file| {
            let manifest: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
            manifest["path"] == artifact
        })
        .unwrap();
    [manifest.with_extension("data"), manifest]
}

#[test]
fn rule_93_content_that_a_power_failure_has_damaged_is_counted_as_lost() {
    let server = server();
    let spools = TempDir::new().unwrap();
    let (gateway, address) = relay();
    let run = Run::new(options(&gateway, spools.path())).unwrap();
    // Uploads of these are tried again and again, so the others do not begin without a server.
    for number in 0..4 {
        run.log_artifact(Content::Bytes(b"first"), &format!("first/{number}"), None).unwrap();
    }
    for name in ["whole", "short", "zeros", "older"] {
        run.log_artifact(Content::Bytes(&content(300_000)), name, None).unwrap();
    }
    let spool = fs::read_dir(spools.path()).unwrap().next().unwrap().unwrap().path();
    let uploads = spool.join("uploads");
    fs::write(&data_and_manifest(&uploads, "short")[0], []).unwrap();
    fs::write(&data_and_manifest(&uploads, "zeros")[0], vec![0; 300_000]).unwrap();
    let older = &data_and_manifest(&uploads, "older")[1];
    let mut manifest: Value = serde_json::from_slice(&fs::read(older).unwrap()).unwrap();
    assert!(manifest.as_object_mut().unwrap().remove("data").is_some());
    fs::write(older, manifest.to_string()).unwrap();
    *address.lock().unwrap() = server.ingest.clone();
    let report = run.close(PATIENT, |_| true);
    assert_eq!((report.pending, report.dropped), (0, 2));
    let id = run.id();
    let notices = run.notices();
    let backend = backend(&server);
    for (name, reason) in [("short", "has 0 of 300000 bytes"), ("zeros", "has other content")] {
        let is_named = |message: &str| {
            message.starts_with(&format!("{name} was not uploaded, and is lost")) && message.contains(reason)
        };
        assert!(notices.iter().any(|notice| is_named(&notice.message)), "{notices:?}");
    }
    for name in ["whole", "older"] {
        assert!(artifact(&backend, id, name) == content(300_000), "{name}");
    }
    for name in ["short", "zeros"] {
        assert!(matches!(backend.artifact(id, name), Err(HttpError::NotFound { .. })), "{name}");
    }
}
