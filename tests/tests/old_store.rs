//! A data directory written by an older version opens in this one, and every answer about it is
//! the same.

use std::path::{Path, PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use matyan_tests::{eventually, server::Server};
use serde_json::Value;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/store-of-format-2")
}

fn unpack(into: &Path) {
    let archive =
        std::fs::File::open(fixture().join("data.tar.gz")).expect("the fixture is in the repository");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    archive.unpack(into).expect("the directory is writable");
}

/// Sends a recorded request, and returns the status and body of the response.
async fn replay(server: &Server, recorded: &Value) -> Result<(u64, String), String> {
    let text = |name: &str| recorded[name].as_str().expect("a request has a method and a path").to_owned();
    let method = text("method").parse().expect("a method");
    let url = format!("{}/api/v1/rest{}", server.query, text("path"));
    let mut request = reqwest::Client::new().request(method, url);
    if !recorded["body"].is_null() {
        request = request.json(&recorded["body"]);
    }
    let response = request.send().await.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    let body = response.bytes().await.map_err(|error| error.to_string())?;
    Ok((status.into(), BASE64_STANDARD.encode(body)))
}

#[tokio::test]
async fn rule_44_an_older_store_and_log_open_here() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    unpack(directory.path());
    let server = Server::up_on(&directory.path().join("data")).await;
    let recorded = std::fs::read_to_string(fixture().join("answers.json")).expect("the fixture is readable");
    let recorded: Vec<Value> = serde_json::from_str(&recorded).expect("the fixture is JSON");
    assert!(recorded.len() > 20);
    for request in &recorded {
        let expected = (request["status"].as_u64(), request["answer"].as_str());
        // Records that were in the log when the old server was killed are applied in the background.
        eventually(&format!("the recorded answer of {}", request["path"]), async || {
            let (status, body) = replay(&server, request).await?;
            let is_equal = (Some(status), Some(body.as_str())) == expected;
            is_equal.then_some(()).ok_or_else(|| format!("{status}: {body}"))
        })
        .await;
    }
}
