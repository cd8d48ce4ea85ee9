//! Artifacts: lists, range reads, ZIP archives, and payloads by unforgeable URIs.

use std::io::{Cursor, Read};

use matyan_proto::{
    artifacts::v1::{artifact_service_client::ArtifactServiceClient, get_response::Message, *},
    common::v1::{SeriesKey, SeriesType},
    ingest::v1 as pb,
    ingest::v1::event::Kind,
    objects::v1 as objects,
};
use tonic::service::Routes;

use crate::backend::harness::{Harness, all, create, not_found, wrong_field};

type Client = ArtifactServiceClient<Routes>;

fn uploaded(path: &str, key: &str) -> Kind {
    Kind::BlobRef(pb::BlobRef {
        path: path.to_owned(),
        key: key.to_owned(),
        content_type: "text/plain".into(),
        ..Default::default()
    })
}

async fn get(harness: &Harness, request: GetRequest) -> (Artifact, Vec<u8>) {
    let responses = all(Client::new(harness.routes()).get(request).await.unwrap()).await;
    let mut messages = responses.into_iter().map(|response| response.message.unwrap());
    let Some(Message::Artifact(artifact)) = messages.next() else { panic!("the artifact must come first") };
    let mut bytes = Vec::new();
    for message in messages {
        let Message::Chunk(chunk) = message else { panic!("only chunks may follow") };
        bytes.extend_from_slice(&chunk);
    }
    (artifact, bytes)
}

async fn payload(client: &mut Client, request: PayloadRequest) -> (PayloadInfo, Vec<u8>) {
    let mut messages = all(client.payload(request).await.unwrap()).await.into_iter();
    let Some(payload_response::Message::Info(info)) = messages.next().unwrap().message else {
        panic!("the first message is the description");
    };
    let bytes = messages.flat_map(|message| match message.message {
        Some(payload_response::Message::Chunk(chunk)) => chunk,
        other => panic!("{other:?}"),
    });
    (info, bytes.collect())
}

async fn zip(harness: &Harness, run: &str) -> zip::ZipArchive<Cursor<Vec<u8>>> {
    let request = ZipRequest { run_id: run.into() };
    let chunks = all(Client::new(harness.routes()).zip(request).await.unwrap()).await;
    let bytes: Vec<u8> = chunks.iter().flat_map(|response| response.chunk.iter().copied()).collect();
    zip::ZipArchive::new(Cursor::new(bytes)).unwrap()
}

/// New bytes are uploaded before their reference is logged.
#[tokio::test]
async fn an_upload_changes_the_version_of_an_artifact_at_once() {
    let harness = Harness::new().await;
    harness.put_blob("r/a", b"old").await;
    harness.log("r", [create(), uploaded("a", "r/a")]).await;
    harness.applied().await;
    let request = GetRequest { run_id: "r".into(), path: "a".into(), ..Default::default() };
    let version = async |length| {
        let request = GetRequest { length, ..request.clone() };
        let responses = all(Client::new(harness.routes()).get(request).await.unwrap()).await;
        (responses[0].version.clone(), responses.len())
    };
    let old = version(None).await.0;
    let described = version(Some(0)).await;
    assert_eq!(described, (old.clone(), 1));
    harness.put_blob("r/a", b"new").await;
    let new = version(None).await.0;
    assert!(!new.is_empty() && new != old, "{new}");
    harness.end().await;
}

#[tokio::test]
async fn artifacts_are_read_individually_in_ranges_and_as_an_archive() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let large: Vec<u8> = (0..3_000_000_u32).map(|number| number as u8).collect();
    harness.put_blob("r/a/large.bin", &large).await;
    harness.put_blob("r/empty", b"").await;
    harness.put_blob("r/odd", "größe".as_bytes()).await;
    harness.put_blob("r/seq/x/0.png", b"payload").await;
    let events = [
        create(),
        uploaded("a/large.bin", "r/a/large.bin"),
        uploaded("empty", "r/empty"),
        uploaded("../../odd ü.txt", "r/odd"),
        uploaded("gone.txt", "r/gone.txt"),
        uploaded("seq/x/0.png", "r/seq/x/0.png"),
    ];
    harness.log("r", events).await;
    harness.applied().await;
    let request = ListRequest { run_id: "r".into(), ..Default::default() };
    let listed = all(client.list(request).await.unwrap()).await;
    let listed: Vec<_> = listed.into_iter().flat_map(|message| message.artifacts).collect();
    let paths: Vec<_> = listed.iter().map(|artifact| artifact.path.as_str()).collect();
    assert_eq!(paths, ["../../odd ü.txt", "a/large.bin", "empty", "gone.txt"]);

    let whole = GetRequest { run_id: "r".into(), path: "a/large.bin".into(), ..Default::default() };
    let (artifact, bytes) = get(&harness, whole.clone()).await;
    assert!(artifact.size == Some(3_000_000) && bytes == large);
    let range = GetRequest { offset: 1_000_000, length: Some(500), ..whole.clone() };
    assert_eq!(get(&harness, range).await.1, large[1_000_000..1_000_500]);
    let past_end = GetRequest { offset: 2_999_999, length: Some(u64::MAX), ..whole.clone() };
    assert_eq!(get(&harness, past_end).await.1, large[2_999_999..]);
    let other = |path: &str| GetRequest { path: path.to_owned(), ..whole.clone() };
    for path in ["", "no", "seq/x/0.png", &"x".repeat(20_000)] {
        not_found(client.get(other(path)).await, "artifact", path);
    }
    not_found(client.get(other("gone.txt")).await, "blob", "r/gone.txt");

    let mut archive = zip(&harness, "r").await;
    let names: Vec<_> = archive.file_names().map(|name| name.unwrap().into_owned()).collect();
    assert_eq!(names, ["odd ü.txt", "a/large.bin", "empty"]);
    assert!(String::from_utf8_lossy(archive.comment()).contains("gone.txt"));
    for (name, content) in [("odd ü.txt", "größe".as_bytes()), ("a/large.bin", &large[..]), ("empty", b"")]
    {
        let mut file = archive.by_name(name).unwrap();
        assert_eq!(file.unix_mode().map(|mode| mode & 0o777), Some(0o600));
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert!(bytes == content, "{name}");
    }
    not_found(client.zip(ZipRequest { run_id: "missing".into() }).await, "run", "missing");
    harness.create(&["without"]).await;
    not_found(client.zip(ZipRequest { run_id: "without".into() }).await, "artifact", "without");
    harness.end().await;
}

#[tokio::test]
async fn payload_uris_cannot_be_forged() {
    let harness = Harness::new().await;
    let mut of_objects = objects::object_service_client::ObjectServiceClient::new(harness.routes());
    let first = vec![1; 2_000_000];
    let second = vec![2; 10];
    harness.put_blob("r/seq/one.png", &first).await;
    harness.put_blob("r/seq/two.png", &second).await;
    let image = |step, key: &str| {
        let value = format!(r#"{{"format":"png","s3_key":"{key}"}}"#);
        let value = matyan_value::cbor::encode(&matyan_value::json::parse(&value).unwrap());
        Kind::LogObject(pb::LogObject {
            name: "i".into(),
            dtype: "image".into(),
            step: Some(step),
            value: value.into(),
            ..Default::default()
        })
    };
    let events = [create(), image(0, "r/seq/one.png"), image(1, "r/seq/two.png"), image(2, "r/seq/gone.png")];
    harness.log("r", events).await;
    harness.applied().await;
    let request = objects::BatchRequest {
        run_id: "r".into(),
        r#type: SeriesType::Images.into(),
        sequences: vec![SeriesKey { name: "i".into(), context: String::new() }],
        ..Default::default()
    };
    let responses = all(of_objects.batch(request).await.unwrap()).await;
    let steps = responses.into_iter().flat_map(|response| response.sequence.unwrap().steps);
    let uris: Vec<String> = steps
        .map(|step| match step.objects[0].kind.clone().unwrap() {
            objects::object::Kind::Image(image) => image.blob_uri,
            other => panic!("{other:?}"),
        })
        .collect();
    // A signature moved to another name, a truncated URI, an extended one, a plain key, an
    // empty one.
    let mut forged = uris[0][..28].to_owned();
    forged.push_str(&uris[1][28..]);
    let wrong =
        [forged, uris[0][..20].into(), format!("{}AA", uris[0]), "r/seq/one.png".into(), String::new()];
    let mut client = Client::new(harness.routes());
    let whole = |uri: &str| PayloadRequest { uri: uri.to_owned(), ..PayloadRequest::default() };
    for uri in wrong.iter().chain([&uris[2]]) {
        not_found(client.payload(whole(uri)).await, "payload", uri);
        let request = ThumbnailRequest { uri: uri.clone(), size: 100 };
        not_found(client.thumbnail(request).await, "payload", uri);
    }
    let request = PayloadRequest { offset: 5, length: Some(3), ..whole(&uris[1]) };
    let (info, bytes) = payload(&mut client, request).await;
    assert_eq!((info.size, bytes), (10, vec![2; 3]));
    assert_eq!(info.media_type, "application/octet-stream");
    let (info, bytes) = payload(&mut client, whole(&uris[0])).await;
    assert!(info.size == 2_000_000 && bytes == first && !info.version.is_empty());
    let not_an_image = ThumbnailRequest { uri: uris[1].clone(), size: 100 };
    wrong_field(client.thumbnail(not_an_image).await, "uri");

    let mut png = Cursor::new(Vec::new());
    image::DynamicImage::new_rgb8(400, 200).write_to(&mut png, image::ImageFormat::Png).unwrap();
    harness.put_blob("r/seq/two.png", png.get_ref()).await;
    let thumbnail = |size| ThumbnailRequest { uri: uris[1].clone(), size };
    let reduced = client.thumbnail(thumbnail(100)).await.unwrap().into_inner();
    let reduced = image::load_from_memory(&reduced.png).unwrap();
    assert_eq!((reduced.width(), reduced.height()), (100, 50));
    let (info, _) = payload(&mut client, PayloadRequest { length: Some(0), ..whole(&uris[1]) }).await;
    assert_eq!(info.media_type, "image/png");
    for size in [15, 1_025] {
        wrong_field(client.thumbnail(thumbnail(size)).await, "size");
    }
    harness.put_blob("r/seq/two.png", &second).await;

    let requested: Vec<String> = wrong.into_iter().chain(uris).collect();
    let responses = all(client.blobs(BlobsRequest { uris: requested }).await.unwrap()).await;
    let mut found = std::collections::BTreeMap::<u32, (Vec<u8>, bool)>::new();
    for response in responses {
        let entry = found.entry(response.index).or_default();
        entry.0.extend_from_slice(&response.chunk);
        entry.1 = response.last;
    }
    let expected = [(5, (first, true)), (6, (second, true)), (7, (Vec::new(), true))];
    assert!(found == expected.into(), "forged URIs are skipped, and a missing payload is empty");
    harness.end().await;
}

#[tokio::test]
async fn some_artifacts_of_a_run_are_listed() {
    let harness = Harness::new().await;
    let paths = ["a", "d/e", "d/f", "d/f/g", "de", "seq/x/0.png", "seq/x/1.png", "z"];
    let events = paths.map(|path| uploaded(path, &format!("r/{path}")));
    harness.log("r", std::iter::once(create()).chain(events)).await;
    harness.applied().await;
    let mut client = Client::new(harness.routes());
    for (path_prefix, after, limit, expected) in [
        ("", "", 0, "a d/e d/f d/f/g de z"),
        ("", "", 2, "a d/e"),
        ("", "d/e", 2, "d/f d/f/g"),
        ("", "de", 2, "z"),
        ("", "z", 2, ""),
        ("", "d/\u{10ffff}", 0, "de z"),
        ("d/", "", 0, "d/e d/f d/f/g"),
        ("d/", "a", 1, "d/e"),
        ("d/", "d/e", 1, "d/f"),
        ("d/", "de", 1, ""),
        ("seq/", "", 0, ""),
        ("s", "seq/x/0.png", 5, ""),
    ] {
        let request =
            ListRequest { run_id: "r".into(), path_prefix: path_prefix.into(), after: after.into(), limit };
        let listed = all(client.list(request).await.unwrap()).await;
        let paths: Vec<String> =
            listed.into_iter().flat_map(|message| message.artifacts).map(|artifact| artifact.path).collect();
        assert_eq!(paths.join(" "), expected, "{path_prefix:?} {after:?} {limit}");
    }
    for (path_prefix, after, field) in [(2_000, 0, "path_prefix"), (0, 2_000, "after")] {
        let request = ListRequest {
            run_id: "r".into(),
            path_prefix: "x".repeat(path_prefix),
            after: "x".repeat(after),
            limit: 1,
        };
        wrong_field(client.list(request).await, field);
    }
    harness.end().await;
}

#[tokio::test]
async fn an_artifact_or_a_folder_is_deleted() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let paths = ["a", "a b", "d/e", "d/f/g", "de"];
    let events = paths.map(|path| uploaded(path, &format!("r/{path}")));
    harness.log("r", std::iter::once(create()).chain(events)).await;
    harness.applied().await;
    let left = async || {
        let request = ListRequest { run_id: "r".into(), ..Default::default() };
        let listed = Client::new(harness.routes()).list(request).await.unwrap();
        let listed = all(listed).await.into_iter().flat_map(|message| message.artifacts);
        listed.map(|artifact| artifact.path).collect::<Vec<_>>()
    };
    let request = |path: &str| DeleteRequest { run_id: "r".into(), path: path.into() };
    assert_eq!(client.delete(request("d")).await.unwrap().into_inner().deleted, 2);
    assert_eq!(left().await, ["a", "a b", "de"]);
    assert_eq!(client.delete(request("a")).await.unwrap().into_inner().deleted, 1);
    assert_eq!(left().await, ["a b", "de"]);
    not_found(client.delete(request("d")).await, "artifact", "d");
    not_found(client.delete(DeleteRequest { run_id: "x".into(), path: "a".into() }).await, "run", "x");
    wrong_field(client.delete(request("")).await, "path");
    harness.end().await;
}
