//! The same run id in two projects: uploads, references, reads and deletions in one do not
//! affect the other.

use std::time::Duration;

use matyan_blob::{BlobKey, Blobs};
use matyan_proto::{
    admin::v1::{CleanupOrphanBlobsRequest, admin_service_client::AdminServiceClient},
    artifacts::v1::{self as artifacts, artifact_service_client::ArtifactServiceClient, get_response},
    common::v1::{SeriesKey, SeriesType},
    ingest::v1::{self as pb, event::Kind, upload_request::Message},
    objects::v1::{self as objects, object, object_service_client::ObjectServiceClient},
    runs::v1::{DeleteRequest, run_service_client::RunServiceClient},
};
use tonic::Request;

use crate::backend::harness::{Harness, all, create, not_found};

const OTHER: &str = "other";

pub(crate) fn of<T>(project: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if !project.is_empty() {
        request.metadata_mut().insert("matyan-project", project.parse().unwrap());
    }
    request
}

/// Uploads like a client, and returns the reference for the run.
pub(crate) async fn upload(harness: &Harness, project: &str, path: &str, content: &[u8]) -> String {
    let mut client = harness.ingest_client();
    let wanted = pb::PresignRequest { run_id: "r".into(), artifact_path: path.into(), ..Default::default() };
    let response = client.presign(of(project, wanted)).await.unwrap().into_inner();
    let (_, token) = response.upload_url.split_once('?').unwrap();
    let open = pb::UploadOpen {
        key: BlobKey::in_project(project, &response.key).unwrap().to_string(),
        token: token.to_owned(),
        content_length: Some(content.len() as u64),
        ..Default::default()
    };
    let messages = [Message::Open(open), Message::Chunk(content.to_vec().into())];
    let messages = messages.map(|message| pb::UploadRequest { message: Some(message) });
    client.upload(futures::stream::iter(messages)).await.unwrap();
    response.key
}

fn object(name: &str, value: &str) -> Kind {
    let value = matyan_value::cbor::encode(&matyan_value::json::parse(value).unwrap());
    let dtype = name.to_owned();
    let name = name.to_owned();
    Kind::LogObject(pb::LogObject { name, dtype, step: Some(0), value: value.into(), ..Default::default() })
}

/// A text too large for a row.
fn text_of(project: &str) -> String {
    format!("text of {project}").repeat(10_000)
}

async fn log(harness: &Harness, project: &str) {
    let artifact = upload(harness, project, "a.txt", format!("artifact of {project}").as_bytes()).await;
    let image = upload(harness, project, "seq/image/0.png", format!("image of {project}").as_bytes()).await;
    assert_eq!((artifact.as_str(), image.as_str()), ("r/a.txt", "r/seq/image/0.png"));
    let events = [
        create(),
        Kind::BlobRef(pb::BlobRef { path: "a.txt".into(), key: artifact, ..Default::default() }),
        object("image", &format!(r#"{{"format":"png","s3_key":"{image}"}}"#)),
        object("text", &format!(r#"{{"data":"{}"}}"#, text_of(project))),
    ];
    harness.log_in(project, "r", events).await;
    harness.applied().await;
}

fn wanted() -> artifacts::GetRequest {
    artifacts::GetRequest { run_id: "r".into(), path: "a.txt".into(), ..Default::default() }
}

async fn artifact(harness: &Harness, project: &str) -> (String, String) {
    let mut client = ArtifactServiceClient::new(harness.routes());
    let mut uri = String::new();
    let mut content = Vec::new();
    for response in all(client.get(of(project, wanted())).await.unwrap()).await {
        match response.message.unwrap() {
            get_response::Message::Artifact(artifact) => uri = artifact.uri,
            get_response::Message::Chunk(chunk) => content.extend_from_slice(&chunk),
        }
    }
    (uri, String::from_utf8(content).unwrap())
}

async fn first_object(harness: &Harness, project: &str, of_type: SeriesType, name: &str) -> object::Kind {
    let request = objects::BatchRequest {
        run_id: "r".into(),
        r#type: of_type.into(),
        sequences: vec![SeriesKey { name: name.into(), context: String::new() }],
        ..Default::default()
    };
    let mut client = ObjectServiceClient::new(harness.routes());
    let responses = all(client.batch(of(project, request)).await.unwrap()).await;
    let mut steps = responses.into_iter().flat_map(|response| response.sequence.unwrap().steps);
    steps.next().unwrap().objects.remove(0).kind.unwrap()
}

async fn check_readable(harness: &Harness, project: &str, folder: &str) {
    let (uri, content) = artifact(harness, project).await;
    assert_eq!(uri, format!("file:///blobs/{folder}r/a.txt"));
    assert_eq!(content, format!("artifact of {project}"));
    let mut client = ArtifactServiceClient::new(harness.routes());
    let zipped =
        all(client.zip(of(project, artifacts::ZipRequest { run_id: "r".into() })).await.unwrap()).await;
    let zipped: Vec<u8> = zipped.into_iter().flat_map(|response| response.chunk).collect();
    assert!(zipped.windows(content.len()).any(|bytes| bytes == content.as_bytes()));

    let object::Kind::Image(image) = first_object(harness, project, SeriesType::Images, "image").await else {
        panic!("expected an image")
    };
    let request = artifacts::BlobsRequest { uris: vec![image.blob_uri] };
    let elsewhere = if project.is_empty() { OTHER } else { "" };
    let leaked = all(client.blobs(of(elsewhere, request.clone())).await.unwrap()).await;
    assert!(leaked.is_empty(), "a URI is valid in its project only");
    let responses = all(client.blobs(of(project, request)).await.unwrap()).await;
    let bytes: Vec<u8> = responses.into_iter().flat_map(|response| response.chunk).collect();
    assert_eq!(bytes, format!("image of {project}").as_bytes());
    let object::Kind::Text(text) = first_object(harness, project, SeriesType::Texts, "text").await else {
        panic!("expected a text")
    };
    assert_eq!(text.data, text_of(project));
}

async fn blobs_below(harness: &Harness, folder: &str) -> usize {
    harness.blobs.list(folder, None).await.unwrap().blobs.len()
}

/// Waits for the control worker, with a hang guard.
async fn emptied(harness: &Harness, folder: &str) {
    let wait = async {
        while blobs_below(harness, folder).await > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the control worker deletes the blobs");
}

#[tokio::test]
async fn rule_37_blobs_of_projects_are_separate() {
    let harness = Harness::new().await;
    harness.create_project(OTHER).await;
    log(&harness, "").await;
    log(&harness, OTHER).await;
    assert_eq!(
        (blobs_below(&harness, "r/").await, blobs_below(&harness, ".projects/other/r/").await),
        (3, 3)
    );
    check_readable(&harness, "", "").await;
    check_readable(&harness, OTHER, ".projects/other/").await;

    let mut runs = RunServiceClient::new(harness.routes());
    runs.delete(of(OTHER, DeleteRequest { run_id: "r".into() })).await.unwrap();
    emptied(&harness, ".projects/").await;
    let mut client = ArtifactServiceClient::new(harness.routes());
    not_found(client.get(of(OTHER, wanted())).await, "run", "r");
    check_readable(&harness, "", "").await;

    // Blobs uploaded after the delete, one in each project.
    harness.put_blob(".projects/other/r/late", b"late").await;
    harness.put_blob("r/late", b"late").await;
    let mut admin = AdminServiceClient::new(harness.routes());
    let request = CleanupOrphanBlobsRequest::default();
    let cleaned = all(admin.cleanup_orphan_blobs(of(OTHER, request)).await.unwrap()).await;
    let keys: Vec<_> = cleaned.into_iter().flat_map(|response| response.keys).collect();
    assert_eq!(keys, [".projects/other/r/late"]);
    assert_eq!(blobs_below(&harness, "r/").await, 4);
    harness.end().await;
}
