//! Servers with TLS, and machines whose certificates cannot be read.

use std::{env, path::Path, process::Command};

use matyan_sdk::{
    CloseLimits, Config, Content, Context, Run, RunOptions,
    http::Timeouts,
    reading::{BackendClient, BackendOptions},
};
use matyan_tests::{Server, certificate::CertificateFiles, eventually_blocking};

/// The addresses of the server, if this process is the script.
const SCRIPT: &str = "MATYAN_TEST_TLS";

/// The script: records a run with a value and an artifact, and reads it.
#[test]
fn a_script() {
    #[expect(clippy::disallowed_methods, reason = "the parent test says what to do")]
    let Ok(addresses) = env::var(SCRIPT) else { return };
    let (gateway_url, backend_url) = addresses.split_once('|').expect("two addresses");
    let spools = tempfile::tempdir().expect("the temporary directory is writable");
    let config = Config {
        backend_url: backend_url.to_owned(),
        gateway_url: gateway_url.to_owned(),
        spool_dirs: vec![spools.path().to_owned()],
        ..Config::default()
    };
    let run = Run::new(RunOptions { config, ..RunOptions::default() }).expect("the options are valid");
    let loss = run.series("loss", &Context::default(), "float").expect("the series is valid");
    run.track(&loss, 0.5, Some(1), None);
    run.log_artifact(Content::Bytes(b"content"), "a.txt", None).expect("the artifact is valid");
    let report = run.close(CloseLimits::default(), |_| true);
    assert_eq!(report.pending, 0, "{:?}", run.health());

    let options = BackendOptions {
        timeouts: Timeouts::default(),
        interrupted: || false,
        runtime: matyan_sdk::io_runtime,
    };
    let backend = BackendClient::new(backend_url, options).expect("the address is valid");
    let read = eventually_blocking("the artifact", || {
        let body = backend.artifact(run.id(), "a.txt").and_then(|body| body.into_bytes());
        body.map_err(|error| error.to_string())
    });
    assert_eq!(read, b"content");
}

/// Runs the script in a process that trusts the certificates in a file.
fn run_script(server: &Server, roots: &Path) {
    let script = Command::new(env::current_exe().expect("a running program has a path"))
        .args(["--exact", "tls::a_script", "--nocapture"])
        .env(SCRIPT, format!("{}|{}", server.ingest, server.query))
        .env("SSL_CERT_FILE", roots)
        .env_remove("SSL_CERT_DIR")
        .output()
        .expect("the test program can be started");
    let printed = String::from_utf8_lossy(&script.stdout);
    assert!(script.status.success() && printed.contains("1 passed"), "{script:?}");
}

#[tokio::test]
async fn runs_are_recorded_and_read_over_tls() {
    let files = CertificateFiles::create();
    let server = files.server().await;
    assert!(server.ingest.starts_with("https://"), "{}", server.ingest);
    run_script(&server, &files.certificate);
}

#[tokio::test]
async fn a_server_without_tls_needs_no_certificates() {
    let server = Server::up().await;
    run_script(&server, Path::new("/absent"));
}
