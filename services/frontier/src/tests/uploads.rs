//! Tests of upload URLs, and of uploads through this server.

use std::sync::atomic::Ordering;

use futures::StreamExt;
use matyan_blob::{BlobKey, Blobs, UploadLimits, layers::FaultyBlobs};
use matyan_log::layers::Faults;
use matyan_proto::ingest::v1::{self as pb, store_request::Message as StoreMessage, upload_request::Message};
use std::sync::Arc;
use tonic::{Code, Status};

use super::harness::*;
use crate::Settings;

async fn presign(env: &TestEnv, path: &str) -> pb::PresignResponse {
    presign_sized(env, path, None).await
}

async fn presign_sized(env: &TestEnv, path: &str, size: Option<u64>) -> pb::PresignResponse {
    let request = pb::PresignRequest {
        run_id: "run".into(),
        artifact_path: path.into(),
        content_type: "text/plain".into(),
        size,
    };
    env.client().presign(request).await.unwrap().into_inner()
}

async fn open(env: &TestEnv, path: &str) -> pb::UploadOpen {
    let url = presign(env, path).await.upload_url;
    let (_, token) = url.split_once('?').unwrap();
    pb::UploadOpen {
        key: format!("run/{path}"),
        token: token.to_owned(),
        content_type: "text/plain".into(),
        content_length: None,
    }
}

async fn upload(env: &TestEnv, messages: Vec<Message>) -> Result<u64, Status> {
    let requests = messages.into_iter().map(|message| pb::UploadRequest { message: Some(message) });
    let answer = env.client().upload(tokio_stream::iter(requests.collect::<Vec<_>>())).await?;
    Ok(answer.into_inner().size)
}

fn chunk(text: &str) -> Message {
    Message::Chunk(text.to_owned().into())
}

async fn content(env: &TestEnv, key: &str) -> Option<String> {
    let (_, mut content) = env.blobs.read(&BlobKey::new(key).unwrap(), None).await.unwrap()?;
    let mut bytes = Vec::new();
    while let Some(piece) = content.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    Some(String::from_utf8(bytes).unwrap())
}

/// Whether or not the upload announces a length.
#[tokio::test]
async fn rule_71_a_url_for_a_size_accepts_no_other() {
    let env = TestEnv::new().await;
    let url = presign_sized(&env, "a", Some(5)).await.upload_url;
    let token = url.split_once('?').unwrap().1.to_owned();
    let opened = |content_length| {
        let content_type = "text/plain".into();
        pb::UploadOpen { key: "run/a".into(), token: token.clone(), content_type, content_length }
    };
    for text in ["four", "sixsix", ""] {
        for content_length in [None, Some(text.len() as u64)] {
            let messages = vec![Message::Open(opened(content_length)), chunk(text), Message::Done(true)];
            let status = upload(&env, messages).await.unwrap_err();
            assert_eq!(status.code(), Code::Aborted, "{text} {content_length:?}: {status:?}");
            assert_eq!(content(&env, "run/a").await, None);
        }
    }
    let messages = vec![Message::Open(opened(None)), chunk("fives"), Message::Done(true)];
    assert_eq!(upload(&env, messages).await.unwrap(), 5);
}

#[tokio::test]
async fn rule_71_a_url_for_more_than_the_quota_is_not_signed() {
    let limits = UploadLimits { max_project_bytes: 10, ..UploadLimits::default() };
    let env = TestEnv::new().await;
    let frontier = env.with_blobs_and(env.blobs.clone(), limits);
    let mut client =
        matyan_proto::ingest::v1::ingest_service_client::IngestServiceClient::new(frontier.ingest_server());
    let request = |size| pb::PresignRequest {
        run_id: "run".into(),
        artifact_path: "a".into(),
        size,
        ..Default::default()
    };
    let status = client.presign(request(Some(11))).await.unwrap_err();
    assert!(status.message().contains("`max_project_upload_bytes`"), "{status:?}");
    for size in [None, Some(10)] {
        client.presign(request(size)).await.unwrap();
    }
}

/// The log and the store may be on the same disk.
#[tokio::test]
async fn uploads_leave_space_on_the_disk() {
    let env = TestEnv::new().await;
    let space = env.blobs.disk_space().await.unwrap();
    assert!(0 < space.free && space.free <= space.total, "{space:?}");
    let wanted = UploadLimits::default().min_free_bytes.min(space.total / 10);
    for (bytes, is_accepted) in [(1, space.free > wanted + 1), (space.free, false)] {
        let open = pb::UploadOpen { content_length: Some(bytes), ..open(&env, "a.txt").await };
        let messages = vec![Message::Open(open), chunk("x")];
        match upload(&env, messages).await {
            Ok(size) => assert!(is_accepted && size == 1),
            Err(status) => {
                assert!(!is_accepted, "{status:?}");
                assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "UNAVAILABLE"));
                assert!(status.message().contains("min_free_bytes"), "{status:?}");
            }
        }
    }
}

#[tokio::test]
async fn uploads_of_a_project_are_limited() {
    let env = TestEnv::with_limits(UploadLimits { max_project_bytes: 10, ..UploadLimits::default() }).await;
    let refused = |answer: Result<u64, Status>| {
        let status = answer.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "TOO_LARGE"));
        assert!(status.message().contains("`max_project_upload_bytes`"), "{status:?}");
    };
    let known = async |path: &str, text: &str| {
        let open = pb::UploadOpen { content_length: Some(text.len() as u64), ..open(&env, path).await };
        upload(&env, vec![Message::Open(open), chunk(text)]).await
    };
    assert_eq!(known("a", "123456").await.unwrap(), 6);
    refused(known("b", "12345").await);
    assert_eq!(content(&env, "run/b").await, None);
    // An upload without a length is refused when it arrives, and leaves nothing.
    let unknown = open(&env, "b").await;
    refused(upload(&env, vec![Message::Open(unknown), chunk("1234"), chunk("5"), Message::Done(true)]).await);
    assert_eq!(content(&env, "run/b").await, None);
    let begin = pb::BeginUploadRequest {
        run_id: "run".into(),
        artifact_path: "c".into(),
        size: 5,
        ..pb::BeginUploadRequest::default()
    };
    let status = env.client().begin_upload(begin).await.unwrap_err();
    assert!(status.message().contains("the project has 6 bytes"), "{status:?}");
    assert_eq!(known("b", "1234").await.unwrap(), 4);
    // A full project gets no more URLs; another project does.
    let request = |path: &str| pb::PresignRequest {
        run_id: "run".into(),
        artifact_path: path.into(),
        content_type: "text/plain".into(),
        ..Default::default()
    };
    let status = env.client().presign(request("d")).await.unwrap_err();
    assert!(status.message().contains("`max_project_upload_bytes`"), "{status:?}");
    assert_eq!(env.refusals("uploads"), 4);
    let mut other = tonic::Request::new(request("d"));
    other.metadata_mut().insert("matyan-project", "team".parse().unwrap());
    env.client().presign(other).await.unwrap();
    // Another process knows the stored size.
    let limits = UploadLimits { max_project_bytes: 10, ..UploadLimits::default() };
    let frontier = env.with_blobs_and(env.blobs.clone(), limits);
    let status =
        matyan_proto::ingest::v1::ingest_service_client::IngestServiceClient::new(frontier.ingest_server())
            .presign(request("d"))
            .await
            .unwrap_err();
    assert!(status.message().contains("the project has 10 bytes"), "{status:?}");
}

#[tokio::test]
async fn a_url_is_for_one_artifact_of_the_run() {
    let env = TestEnv::new().await;
    let answer = presign(&env, "a/b c.txt").await;
    assert!(answer.upload_url.starts_with("/api/v1/rest/blobs/run/a/b%20c.txt?expires="), "{answer:?}");
    assert_eq!((answer.key.as_str(), answer.expires_s), ("run/a/b c.txt", 60));
    assert_eq!(env.metric("matyan_presign_total"), 1.0);
    assert_eq!(env.record_count().await, 0, "the log is not touched");

    for (run_id, path) in [("run", "../x"), ("run", ""), ("", "x"), ("a/b", "x"), ("run", "/x")] {
        let request =
            pb::PresignRequest { run_id: run_id.into(), artifact_path: path.into(), ..Default::default() };
        let status = env.client().presign(request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
    }
}

#[tokio::test]
async fn an_upload_is_stored() {
    let env = TestEnv::new().await;
    let known = pb::UploadOpen { content_length: Some(6), ..open(&env, "known").await };
    assert_eq!(upload(&env, vec![Message::Open(known), chunk("abc"), chunk("def")]).await.unwrap(), 6);
    assert_eq!(content(&env, "run/known").await.unwrap(), "abcdef");

    let unknown = open(&env, "unknown").await;
    assert_eq!(
        upload(&env, vec![Message::Open(unknown), chunk("abc"), Message::Done(true)]).await.unwrap(),
        3
    );
    let empty = open(&env, "empty").await;
    assert_eq!(upload(&env, vec![Message::Open(empty), Message::Done(true)]).await.unwrap(), 0);
    assert_eq!((env.metric("matyan_uploads_total"), env.metric("matyan_upload_bytes_total")), (3.0, 9.0));
}

#[tokio::test]
async fn rule_97_an_interrupted_upload_leaves_nothing() {
    let env = TestEnv::new().await;
    let short = pb::UploadOpen { content_length: Some(6), ..open(&env, "x").await };
    let long = pb::UploadOpen { content_length: Some(2), ..open(&env, "x").await };
    let unknown = open(&env, "x").await;
    for messages in [
        vec![Message::Open(short), chunk("abc")],
        vec![Message::Open(long), chunk("abc")],
        vec![Message::Open(unknown), chunk("abc")],
    ] {
        let status = upload(&env, messages).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::Aborted, "UPLOAD_INCOMPLETE"),
            "{status}"
        );
    }
    assert_eq!(content(&env, "run/x").await, None);
    assert_eq!(env.metric("matyan_uploads_total"), 0.0);
}

#[tokio::test]
async fn the_size_of_uploads_is_limited() {
    let env = TestEnv::with_limits(UploadLimits { max_bytes: 6, ..UploadLimits::default() }).await;
    let fits = vec![Message::Open(open(&env, "fits").await), chunk("abc"), chunk("def"), Message::Done(true)];
    assert_eq!(upload(&env, fits).await.unwrap(), 6);
    let announced = pb::UploadOpen { content_length: Some(7), ..open(&env, "x").await };
    let unknown = open(&env, "x").await;
    for messages in [
        vec![Message::Open(announced)],
        vec![Message::Open(unknown), chunk("abc"), chunk("defg"), Message::Done(true)],
    ] {
        let status = upload(&env, messages).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::ResourceExhausted, "TOO_LARGE"),
            "{status}"
        );
        assert!(status.message().contains("6 bytes"), "{status}");
    }
    assert_eq!(content(&env, "run/x").await, None);
}

#[tokio::test]
async fn a_token_is_valid_for_its_own_blob_until_it_expires() {
    let env = TestEnv::new().await;
    let mine = open(&env, "mine").await;
    let other = pb::UploadOpen { key: "run/other".into(), ..mine.clone() };
    let none = pb::UploadOpen { token: String::new(), ..mine.clone() };
    for open in [other, none] {
        let status = upload(&env, vec![Message::Open(open), Message::Done(true)]).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "PERMISSION_DENIED"));
    }
    env.now_us.fetch_add(61_000_000, Ordering::Relaxed);
    let status = upload(&env, vec![Message::Open(mine), Message::Done(true)]).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn wrong_messages_are_refused() {
    let env = TestEnv::new().await;
    let good = open(&env, "x").await;
    let too_large = Message::Chunk(vec![0; (1 << 20) + 1].into());
    for (messages, code) in [
        (vec![], Code::InvalidArgument),
        (vec![chunk("abc")], Code::InvalidArgument),
        (vec![Message::Open(good.clone()), Message::Open(good.clone())], Code::InvalidArgument),
        (
            vec![Message::Open(pb::UploadOpen { key: "run/../x".into(), ..good.clone() })],
            Code::InvalidArgument,
        ),
        (
            vec![Message::Open(pb::UploadOpen { content_type: "a\nb".into(), ..good.clone() })],
            Code::InvalidArgument,
        ),
        (vec![Message::Open(good), too_large], Code::ResourceExhausted),
    ] {
        assert_eq!(upload(&env, messages).await.unwrap_err().code(), code);
    }
    assert_eq!(content(&env, "run/x").await, None);
}

#[tokio::test]
async fn other_blob_stores_accept_no_uploads() {
    let env = TestEnv::build(Settings::default(), false, Faults::scripted(std::time::Duration::ZERO)).await;
    let open = open(&env, "x").await;
    let status = upload(&env, vec![Message::Open(open)]).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unimplemented, "UNIMPLEMENTED"));
}

#[tokio::test]
async fn an_unavailable_blob_store_is_reported() {
    let env = TestEnv::new().await;
    let away = FaultyBlobs::new(env.blobs.clone(), |_| matyan_blob::layers::BlobFault::Refuse);
    let frontier = env.with_blobs(Arc::new(away));
    let request =
        pb::PresignRequest { run_id: "run".into(), artifact_path: "x".into(), ..Default::default() };
    let mut client = pb::ingest_service_client::IngestServiceClient::new(frontier.ingest_server());
    assert_eq!(client.presign(request).await.unwrap_err().code(), Code::Unavailable);
}

const SIZE: u64 = (32 << 20) + 3;

fn parted(upload_id: &str) -> Option<pb::PartedUpload> {
    Some(pb::PartedUpload {
        upload_id: upload_id.into(),
        run_id: "run".into(),
        artifact_path: "large.bin".into(),
        content_type: "text/plain".into(),
        size: SIZE,
        ..pb::PartedUpload::default()
    })
}

async fn send_part(env: &TestEnv, upload_id: &str, part_number: u32) -> Result<pb::UploadResponse, Status> {
    let request = pb::PresignPartRequest { upload: parted(upload_id), part_number };
    let part = env.client().presign_part(request).await?.into_inner();
    let (_, token) = part.upload_url.split_once('?').unwrap();
    let open = pb::UploadOpen {
        key: "run/large.bin".into(),
        token: token.into(),
        content_type: String::new(),
        content_length: Some(part.length),
    };
    let chunks = (0..part.length.div_ceil(1 << 20)).map(|index| {
        let length = (part.length - (index << 20)).min(1 << 20);
        Message::Chunk(vec![b'0' + part_number as u8; length as usize].into())
    });
    let requests = std::iter::once(Message::Open(open)).chain(chunks);
    let requests = requests.map(|message| pb::UploadRequest { message: Some(message) });
    let answer = env.client().upload(tokio_stream::iter(requests.collect::<Vec<_>>())).await?;
    Ok(answer.into_inner())
}

#[tokio::test]
async fn a_large_upload_is_sent_in_parts() {
    let env = TestEnv::new().await;
    let begin = pb::BeginUploadRequest {
        run_id: "run".into(),
        artifact_path: "large.bin".into(),
        content_type: "text/plain".into(),
        size: SIZE,
        ..pb::BeginUploadRequest::default()
    };
    let begun = env.client().begin_upload(begin.clone()).await.unwrap().into_inner();
    assert_eq!(
        (begun.key.as_str(), begun.part_bytes, begun.is_sequential),
        ("run/large.bin", 32 << 20, false)
    );
    let id = begun.upload_id;
    let last = send_part(&env, &id, 2).await.unwrap();
    assert_eq!(last.size, 3);
    let complete = |etags: &[&str]| {
        let etags = etags.iter().map(|etag| (*etag).to_owned()).collect();
        pb::CompleteUploadRequest { upload: parted(&id), etags }
    };
    let refused = env.client().complete_upload(complete(&[&last.etag, &last.etag])).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "UPLOAD_INCOMPLETE"));
    let first = send_part(&env, &id, 1).await.unwrap();
    assert_eq!(content(&env, "run/large.bin").await, None);
    let request = complete(&[&first.etag, &last.etag]);
    env.client().complete_upload(request.clone()).await.unwrap();
    let stored = content(&env, "run/large.bin").await.unwrap();
    assert!(stored.len() as u64 == SIZE && stored.starts_with("111") && stored.ends_with("1222"));

    let again = env.client().complete_upload(request).await.unwrap_err();
    assert_eq!(again.code(), Code::NotFound);
    let late = send_part(&env, &id, 1).await.unwrap_err();
    assert_eq!(late.code(), Code::NotFound);
    env.client().abort_upload(pb::AbortUploadRequest { upload: parted(&id) }).await.unwrap();
}

fn unsized_upload(upload_id: &str, part_count: u32) -> Option<pb::PartedUpload> {
    Some(pb::PartedUpload { upload_id: upload_id.into(), size: 0, part_count, ..parted(upload_id).unwrap() })
}

/// Sends a text as a part to the URL that a client gets for the part.
async fn send_unsized(env: &TestEnv, upload_id: &str, part_number: u32, text: &str) -> pb::UploadResponse {
    let request = pb::PresignPartRequest { upload: unsized_upload(upload_id, 2), part_number };
    let part = env.client().presign_part(request).await.unwrap().into_inner();
    assert_eq!((part.offset, part.length), (0, 0));
    let (path, token) = part.upload_url.split_once('?').unwrap();
    let open = pb::UploadOpen {
        key: path.strip_prefix("/api/v1/rest/blobs/").unwrap().to_owned(),
        token: token.to_owned(),
        content_type: String::new(),
        content_length: Some(text.len() as u64),
    };
    let messages = [Message::Open(open), chunk(text)];
    let requests = messages.map(|message| pb::UploadRequest { message: Some(message) });
    env.client().upload(tokio_stream::iter(requests)).await.unwrap().into_inner()
}

#[tokio::test]
async fn parts_of_an_unknown_size_are_joined() {
    let env = TestEnv::new().await;
    let begin = pb::BeginUploadRequest {
        run_id: "run".into(),
        artifact_path: "large.bin".into(),
        content_type: "text/plain".into(),
        part_count: 2,
        ..pb::BeginUploadRequest::default()
    };
    let begun = env.client().begin_upload(begin).await.unwrap().into_inner();
    assert_eq!((begun.key.as_str(), begun.part_bytes, begun.is_sequential), ("run/large.bin", 0, false));
    let id = begun.upload_id;
    let complete = || pb::CompleteUploadRequest { upload: unsized_upload(&id, 2), etags: Vec::new() };
    let last = send_unsized(&env, &id, 2, "world").await;
    assert!(!last.etag.is_empty(), "clients expect a tag");
    let refused = env.client().complete_upload(complete()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "UPLOAD_INCOMPLETE"));
    send_unsized(&env, &id, 1, "hello, ").await;
    assert_eq!(content(&env, "run/large.bin").await, None);
    let completed = env.client().complete_upload(complete()).await.unwrap().into_inner();
    assert_eq!((completed.key.as_str(), completed.size), ("run/large.bin", 12));
    assert_eq!(content(&env, "run/large.bin").await.unwrap(), "hello, world");
    // The answer may have been lost.
    assert_eq!(env.client().complete_upload(complete()).await.unwrap().into_inner().size, 12);
    let outside = pb::AbortUploadRequest { upload: unsized_upload("../..", 2) };
    assert_eq!(env.client().abort_upload(outside).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_bad_upload_in_parts_is_refused_by_field() {
    let env = TestEnv::new().await;
    let check = |status: Status, field: &str| {
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(&format!("`{field}`")), "{status:?}");
    };
    for size in [0, u64::MAX] {
        let begin = pb::BeginUploadRequest {
            run_id: "run".into(),
            artifact_path: "x".into(),
            size,
            ..pb::BeginUploadRequest::default()
        };
        check(env.client().begin_upload(begin).await.unwrap_err(), "size");
    }
    for (size, part_count) in [(1, 1), (0, 10_001)] {
        let begin = pb::BeginUploadRequest {
            run_id: "run".into(),
            artifact_path: "x".into(),
            size,
            part_count,
            ..pb::BeginUploadRequest::default()
        };
        check(env.client().begin_upload(begin).await.unwrap_err(), "part_count");
    }
    let part = |id: &str, part_number| pb::PresignPartRequest { upload: parted(id), part_number };
    check(env.client().presign_part(part("", 1)).await.unwrap_err(), "upload_id");
    let id = "0".repeat(32);
    for number in [0, 3] {
        check(env.client().presign_part(part(&id, number)).await.unwrap_err(), "part_number");
    }
    check(env.client().presign_part(pb::PresignPartRequest::default()).await.unwrap_err(), "upload");
    let complete = pb::CompleteUploadRequest { upload: parted(&id), etags: vec![String::new()] };
    check(env.client().complete_upload(complete).await.unwrap_err(), "etags");
    // An invalid id names no file either.
    let outside = env.client().abort_upload(pb::AbortUploadRequest { upload: parted("../../format") }).await;
    assert_eq!(outside.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn an_upload_in_parts_respects_the_limit_in_every_call() {
    let env = TestEnv::with_limits(UploadLimits { max_bytes: SIZE - 1, ..UploadLimits::default() }).await;
    let begin = pb::BeginUploadRequest {
        run_id: "run".into(),
        artifact_path: "large.bin".into(),
        size: SIZE,
        ..pb::BeginUploadRequest::default()
    };
    let refused = env.client().begin_upload(begin.clone()).await.unwrap_err();
    assert_eq!(reason(&refused), "TOO_LARGE");
    let begun = env.client().begin_upload(pb::BeginUploadRequest { size: 1, ..begin }).await.unwrap();
    let refused = send_part(&env, &begun.into_inner().upload_id, 1).await.unwrap_err();
    assert_eq!(reason(&refused), "TOO_LARGE");
}

async fn store(env: &TestEnv, path: &str, size: Option<u64>, rest: Vec<StoreMessage>) -> Result<u64, Status> {
    let open = pb::StoreOpen {
        run_id: "run".into(),
        artifact_path: path.into(),
        content_type: "text/plain".into(),
        size,
    };
    let messages = std::iter::once(StoreMessage::Open(open)).chain(rest);
    let requests = messages.map(|message| pb::StoreRequest { message: Some(message) });
    let answer = env.client().store(tokio_stream::iter(requests.collect::<Vec<_>>())).await?.into_inner();
    assert_eq!(answer.key, format!("run/{path}"));
    Ok(answer.size)
}

/// Without a URL, and only if the whole artifact has arrived.
#[tokio::test]
async fn an_artifact_is_stored_by_its_path() {
    let env = TestEnv::new().await;
    let piece = |text: &str| StoreMessage::Chunk(text.to_owned().into());
    let all = vec![piece("four"), piece("five5"), StoreMessage::Done(true)];
    assert_eq!(store(&env, "a/b.txt", None, all).await.unwrap(), 9);
    assert_eq!(content(&env, "run/a/b.txt").await.as_deref(), Some("fourfive5"));
    assert_eq!(store(&env, "a/b.txt", Some(4), vec![piece("four")]).await.unwrap(), 4);
    assert_eq!(content(&env, "run/a/b.txt").await.as_deref(), Some("four"), "the last call wins");

    let status = store(&env, "c", None, vec![piece("four")]).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted, "there is no end mark: {status:?}");
    let status = store(&env, "c", Some(5), vec![piece("four"), StoreMessage::Done(true)]).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted, "there are fewer bytes: {status:?}");
    assert_eq!(content(&env, "run/c").await, None);
    for path in ["", "../c", "/c"] {
        let status = store(&env, path, None, vec![StoreMessage::Done(true)]).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{path}: {status:?}");
    }
    let unopened = pb::StoreRequest { message: Some(piece("x")) };
    let status = env.client().store(tokio_stream::iter([unopened])).await.unwrap_err();
    assert!(status.message().contains("`open`"), "{status:?}");
}
