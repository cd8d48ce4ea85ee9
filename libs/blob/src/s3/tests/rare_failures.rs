//! Behavior of the S3 client on failures that a real server produces too rarely for a test.

use std::sync::Arc;

use futures::TryStreamExt;

use super::{
    clock,
    scripted_server::{ScriptedResponse, ScriptedServer, answer},
    settings,
};
use crate::{
    BlobKey, Blobs, Error, MultipartUpload, OpenBucket, Result,
    s3::{Settings, open},
};

async fn open_store(server: &ScriptedServer) -> Arc<dyn Blobs> {
    open_bucket(server).await.blobs
}

async fn open_bucket(server: &ScriptedServer) -> OpenBucket {
    let settings = Settings { endpoint: server.endpoint.clone(), public_endpoint: None, ..settings() };
    open(&settings, clock()).await.unwrap()
}

fn key(key: &str) -> BlobKey {
    BlobKey::new(key).unwrap()
}

fn error(code: &str) -> String {
    format!("<Error><Code>{code}</Code><Message>as S3 says</Message></Error>")
}

#[tokio::test]
async fn a_bulk_delete_reports_each_key_that_it_could_not_delete() {
    fn deleted(key: &str) -> String {
        format!("<Deleted><Key>{key}</Key></Deleted>")
    }
    fn failed(key: &str, code: &str) -> String {
        format!("<Error><Key>{key}</Key><Code>{code}</Code></Error>")
    }
    let result =
        |parts: &[String]| answer(200, "", format!("<DeleteResult>{}</DeleteResult>", parts.concat()));
    let server = ScriptedServer::start(vec![
        result(&[
            deleted("r/gone"),
            failed("r/locked", "AccessDenied"),
            failed("r/busy", "InternalError"),
            failed("r/absent", "NoSuchKey"),
        ]),
        // The retry covers only temporary failures and keys that the response did not
        // mention.
        result(&[deleted("r/busy"), deleted("r/silent")]),
    ])
    .await;
    let keys = ["r/gone", "r/locked", "r/busy", "r/absent", "r/silent"].map(key);
    let left = open_store(&server).await.delete(&keys).await.unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].0 == key("r/locked") && matches!(left[0].1, Error::Setup { .. }), "{left:?}");
    let requests = server.requests().await;
    for (request, asked) in requests.iter().zip([&keys[..], &[key("r/busy"), key("r/silent")]]) {
        assert!(
            request.starts_with("POST /blobs/?delete ") && request.contains("content-md5: "),
            "{request}"
        );
        assert_eq!(request.matches("<Key>").count(), asked.len(), "{request}");
        assert!(asked.iter().all(|key| request.contains(&format!("<Key>{key}</Key>"))), "{request}");
    }
}

#[tokio::test]
async fn a_bulk_delete_that_fails_reports_every_key_with_the_reason() {
    let server = ScriptedServer::start(vec![answer(403, "", error("InvalidAccessKeyId"))]).await;
    let left = open_store(&server).await.delete(&[key("a"), key("b")]).await.unwrap();
    assert_eq!(left.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(left.iter().all(|(_, error)| error.to_string().contains("S3_ACCESS_KEY")), "{left:?}");
    assert_eq!(server.requests().await.len(), 1, "a wrong key is not retried");
}

fn busy() -> ScriptedResponse {
    answer(503, "", error("SlowDown"))
}

#[tokio::test]
async fn temporary_failures_are_retried() {
    let server = ScriptedServer::start(vec![busy(), busy(), answer(200, "", "<ListBucketResult/>")]).await;
    assert!(open_store(&server).await.list("", None).await.unwrap().blobs.is_empty());
    assert_eq!(server.requests().await.len(), 3);
}

#[tokio::test]
async fn a_failing_bulk_delete_has_as_many_attempts_as_any_other_request() {
    let gone = answer(200, "", "<DeleteResult><Deleted><Key>a</Key></Deleted></DeleteResult>");
    let server = ScriptedServer::start(vec![busy(), busy(), busy(), busy(), gone]).await;
    let left = open_store(&server).await.delete(&[key("a")]).await.unwrap();
    assert!(left.len() == 1 && left[0].1.is_temporary(), "{left:?}");
    assert_eq!(server.request_count(), 4);
}

#[tokio::test]
async fn a_bucket_in_another_region_is_named() {
    let elsewhere = answer(301, "x-amz-bucket-region: us-west-2\r\n", error("PermanentRedirect"));
    let server = ScriptedServer::start(vec![elsewhere]).await;
    let error = open_store(&server).await.list("", None).await.unwrap_err();
    assert!(matches!(&error, Error::Setup { reason } if reason.contains("S3_REGION=us-west-2")), "{error}");
}

const READ_HEADERS: &str = "last-modified: Tue, 14 Nov 2023 22:13:20 GMT\r\n";

fn broken(headers: &str, body: &str, cut: usize) -> ScriptedResponse {
    ScriptedResponse { cut: Some(cut), ..answer(200, &format!("{READ_HEADERS}{headers}"), body) }
}

async fn read(server: &ScriptedServer) -> Result<String> {
    let (_, content) = open_store(server).await.read(&key("r/x"), None).await?.unwrap();
    let content: Vec<_> = content.try_collect().await?;
    Ok(String::from_utf8(content.concat()).unwrap())
}

#[tokio::test]
async fn a_broken_read_resumes_with_the_same_version() {
    let rest = format!("{READ_HEADERS}etag: \"one\"\r\ncontent-range: bytes 4-9/10\r\n");
    let server = ScriptedServer::start(vec![
        broken("etag: \"one\"\r\n", "0123456789", 4),
        answer(206, &rest, "456789"),
    ])
    .await;
    assert_eq!(read(&server).await.unwrap(), "0123456789");
    let again = server.requests().await.remove(1).to_lowercase();
    assert!(again.contains("range: bytes=4-9\r\n") && again.contains("if-match: \"one\"\r\n"), "{again}");
}

#[tokio::test]
async fn a_broken_read_is_resumed_as_long_as_it_makes_progress() {
    let whole = "0123456789";
    let first = broken("etag: \"one\"\r\n", whole, 1);
    let server = ScriptedServer::start(
        [first]
            .into_iter()
            .chain((1..10).map(|start| {
                let headers = format!("etag: \"one\"\r\ncontent-range: bytes {start}-9/10\r\n");
                broken(&headers, &whole[start..], 1)
            }))
            .collect(),
    )
    .await;
    assert_eq!(read(&server).await.unwrap(), whole);
    assert_eq!(server.request_count(), 10);
}

#[tokio::test]
async fn a_read_that_resumes_at_another_offset_is_an_error() {
    for (status, range, body) in [(200, "", "0123456789"), (206, "content-range: bytes 0-5/10\r\n", "012345")]
    {
        let again = answer(status, &format!("{READ_HEADERS}{range}"), body);
        let server = ScriptedServer::start(vec![broken("etag: \"one\"\r\n", "0123456789", 4), again]).await;
        assert!(read(&server).await.unwrap_err().is_temporary());
    }
}

#[tokio::test]
async fn a_broken_read_is_never_mixed_with_another_version() {
    let replaced = answer(412, "", error("PreconditionFailed"));
    let server = ScriptedServer::start(vec![broken("etag: \"one\"\r\n", "0123456789", 4), replaced]).await;
    assert!(read(&server).await.unwrap_err().is_temporary());
    // Without a version, the read cannot be resumed safely, so there is no second request.
    let rest = answer(206, &format!("{READ_HEADERS}content-range: bytes 4-9/10\r\n"), "456789");
    let server = ScriptedServer::start(vec![broken("", "0123456789", 4), rest]).await;
    assert!(read(&server).await.unwrap_err().is_temporary());
    assert_eq!(server.request_count(), 1);
}

/// S3 dates a blob by the start of its upload, and the search for orphaned blobs goes by the
/// date.
#[tokio::test]
async fn an_upload_that_began_long_ago_is_repeated() {
    let upload =
        MultipartUpload { key: key("r/a"), id: "id".to_owned(), content_type: String::new(), size: 5 };
    for (date, is_accepted) in
        [("Fri, 10 Nov 2023 22:13:20 GMT", false), ("Mon, 13 Nov 2023 22:13:20 GMT", true)]
    {
        let completed = "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>";
        let head = answer(200, &format!("last-modified: {date}\r\n"), "12345");
        let server = ScriptedServer::start(vec![answer(200, "", completed), head]).await;
        let outcome = open_bucket(&server).await.multipart.complete(&upload, &["e".to_owned()]).await;
        if is_accepted {
            outcome.unwrap()
        } else {
            assert!(matches!(outcome, Err(Error::NoUpload)), "{outcome:?}")
        }
    }
}
