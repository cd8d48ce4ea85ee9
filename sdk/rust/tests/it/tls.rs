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

    let backend = backend(backend_url);
    let read = eventually_blocking("the artifact", || {
        let body = backend.artifact(run.id(), "a.txt").and_then(|body| body.into_bytes());
        body.map_err(|error| error.to_string())
    });
    assert_eq!(read, b"content");
}

/// The script for certificates that do not make the server trusted.
#[test]
fn a_script_that_is_refused() {
    #[expect(clippy::disallowed_methods, reason = "the parent test says what to do")]
    let Ok(addresses) = env::var(SCRIPT) else { return };
    let (_, backend_url) = addresses.split_once('|').expect("two addresses");
    let Err(error) = backend(backend_url).artifact("run", "a.txt") else { panic!("the server is trusted") };
    println!("{error}");
}

fn backend(url: &str) -> BackendClient {
    let options = BackendOptions {
        timeouts: Timeouts::default(),
        interrupted: || false,
        runtime: matyan_sdk::io_runtime,
    };
    BackendClient::new(url, options).expect("the address is valid")
}

/// Runs a script in a process that trusts the certificates in a file, and returns what it prints.
fn run_script(script: &str, server: &Server, roots: &Path) -> String {
    run_script_with_gateway(script, server, &server.ingest, roots)
}

fn run_script_with_gateway(script: &str, server: &Server, gateway_url: &str, roots: &Path) -> String {
    let ended = Command::new(env::current_exe().expect("a running program has a path"))
        .args(["--exact", script, "--nocapture"])
        .env(SCRIPT, format!("{gateway_url}|{}", server.query))
        .env("SSL_CERT_FILE", roots)
        .env_remove("SSL_CERT_DIR")
        .output()
        .expect("the test program can be started");
    let printed = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.status.success() && printed.contains("1 passed"), "{ended:?}");
    printed
}

// Other systems trust no certificates from a file.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn runs_are_recorded_and_read_over_tls() {
    let files = CertificateFiles::create();
    let server = files.server().await;
    assert!(server.ingest.starts_with("https://"), "{}", server.ingest);
    for gateway_url in [server.ingest.clone(), format!("grpc+{}", server.ingest)] {
        run_script_with_gateway("tls::a_script", &server, &gateway_url, &files.certificate);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_that_is_not_trusted_gets_nothing() {
    let files = CertificateFiles::create();
    let server = files.server().await;
    let others = CertificateFiles::create();
    let untrusted = run_script("tls::a_script_that_is_refused", &server, &others.certificate);
    assert!(untrusted.contains("invalid peer certificate"), "{untrusted}");
    let unverified = run_script("tls::a_script_that_is_refused", &server, Path::new("/absent"));
    assert!(unverified.contains("No CA certificates"), "{unverified}");
}

#[tokio::test]
async fn a_server_without_tls_needs_no_certificates() {
    let server = Server::up().await;
    run_script("tls::a_script", &server, Path::new("/absent"));
}
