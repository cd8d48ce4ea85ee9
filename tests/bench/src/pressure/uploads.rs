//! Uploads that keep files or threads of the server busy.

pub(super) mod slow_blobs;
pub(super) mod stalled;

use matyan_tests::Server;
use reqwest::Url;
use serde_json::{Value, json};

use super::clients::http_client;

/// A signed URL for an artifact of a run.
async fn upload_url(server: &Server, run: &str) -> Url {
    let request = json!({"run_id": run, "artifact_path": "file.bin", "content_type": "text/plain"});
    let url = format!("{}/api/v1/rest/artifacts/presign", server.ingest);
    let answer = http_client().post(url).json(&request).send().await.expect("the server answers");
    let signed: Value = answer.json().await.expect("the answer is JSON");
    let url = signed["upload_url"].as_str().expect("the URL is a text");
    url.parse().expect("the server signs URLs")
}
