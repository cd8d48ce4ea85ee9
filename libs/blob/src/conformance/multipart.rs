//! Guarantees of `MultipartUploads`.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Fixture,
    tools::{key, put, read, read_all},
};
use crate::{Error, MultipartUpload, OpenBucket, PresignedUpload};

const AT: &str = "run/a b/ü#?%.bin";

/// Two parts; the second is short.
const SIZE: usize = (32 << 20) + 5;

fn content() -> Bytes {
    (0..SIZE).map(|at| (at / 3 % 251) as u8).collect()
}

async fn begin(bucket: &OpenBucket) -> MultipartUpload {
    let id = bucket.multipart.begin(&key(AT), "image/png", SIZE as u64).await.unwrap();
    let upload =
        MultipartUpload { key: key(AT), id, content_type: "image/png".to_owned(), size: SIZE as u64 };
    assert_eq!(upload.part_count(), 2);
    upload
}

/// Sends a part the way a client does. `None` if it was refused.
async fn send(
    fixture: &dyn Fixture,
    bucket: &OpenBucket,
    upload: &MultipartUpload,
    number: u32,
    content: &Bytes,
) -> Option<String> {
    let part = upload.part(number).unwrap();
    let presigned = bucket.multipart.presign_part(upload, &part).await.unwrap();
    let start = part.offset as usize;
    let end = (part.offset + part.length) as usize;
    fixture.upload_part(&presigned, content.slice(start..end)).await
}

pub(super) async fn invisible_until_complete(fixture: Arc<dyn Fixture>) {
    let bucket = fixture.open_bucket().await;
    put(&*bucket.blobs, AT, "old").await;
    let upload = begin(&bucket).await;
    let content = content();
    let mut etags = Vec::new();
    for number in [1, 2] {
        etags.push(send(&*fixture, &bucket, &upload, number, &content).await.unwrap());
        if !bucket.multipart.is_sequential() {
            assert_eq!(read_all(&*bucket.blobs, AT).await.unwrap(), b"old");
        }
    }
    // Another process completes it.
    let bucket = fixture.open_bucket().await;
    bucket.multipart.complete(&upload, &etags).await.unwrap();
    let (meta, bytes) = read(&*bucket.blobs, AT, None).await.unwrap();
    assert_eq!((meta.size, meta.content_type.as_str()), (SIZE as u64, "image/png"));
    assert!(bytes == content);
}

pub(super) async fn invisible_after_abort(fixture: Arc<dyn Fixture>) {
    let bucket = fixture.open_bucket().await;
    let upload = begin(&bucket).await;
    let content = content();
    send(&*fixture, &bucket, &upload, 1, &content).await.unwrap();
    for _ in 0..2 {
        bucket.multipart.abort(&upload).await.unwrap();
    }
    assert_eq!(read_all(&*bucket.blobs, AT).await, None);
    assert!(bucket.blobs.list("run/", None).await.unwrap().blobs.is_empty());
}

pub(super) async fn parts_in_any_order_and_repeated(fixture: Arc<dyn Fixture>) {
    let bucket = fixture.open_bucket().await;
    let upload = begin(&bucket).await;
    let content = content();
    let other: Bytes = vec![b'x'; SIZE].into();
    send(&*fixture, &bucket, &upload, 1, &other).await.unwrap();
    let last = send(&*fixture, &bucket, &upload, 2, &content).await.unwrap();
    let first = send(&*fixture, &bucket, &upload, 1, &content).await.unwrap();
    bucket.multipart.complete(&upload, &[first, last]).await.unwrap();
    assert!(read_all(&*bucket.blobs, AT).await.unwrap() == content);
}

pub(super) async fn missing_part_is_reported(fixture: Arc<dyn Fixture>) {
    let bucket = fixture.open_bucket().await;
    put(&*bucket.blobs, AT, "old").await;
    let upload = begin(&bucket).await;
    let content = content();
    let first = send(&*fixture, &bucket, &upload, 1, &content).await.unwrap();
    let guessed = bucket.multipart.complete(&upload, &[first, "0".repeat(64)]).await;
    assert!(matches!(guessed, Err(Error::PartsMissing { .. })), "{guessed:?}");
    assert_eq!(read_all(&*bucket.blobs, AT).await.unwrap(), b"old");
}

pub(super) async fn unknown_upload_is_reported(fixture: Arc<dyn Fixture>) {
    let bucket = fixture.open_bucket().await;
    let upload = begin(&bucket).await;
    let content = content();
    let mut etags = Vec::new();
    for number in [1, 2] {
        etags.push(send(&*fixture, &bucket, &upload, number, &content).await.unwrap());
    }
    bucket.multipart.abort(&upload).await.unwrap();
    let completed = bucket.multipart.complete(&upload, &etags).await;
    assert!(matches!(completed, Err(Error::NoUpload)), "{completed:?}");
}

pub(super) async fn url_of_another_part_is_refused(fixture: Arc<dyn Fixture>) {
    let bucket = fixture.open_bucket().await;
    let upload = begin(&bucket).await;
    let content = content();
    let [first, last] = [1, 2].map(|number| upload.part(number).unwrap()).map(|part| {
        let bucket = bucket.clone();
        let upload = upload.clone();
        async move { bucket.multipart.presign_part(&upload, &part).await.unwrap() }
    });
    let first = first.await;
    let last = last.await;
    let url = first.url.replace(&signature(&first), &signature(&last));
    let forged = PresignedUpload { url, ..first };
    // A server may refuse a long body before its end.
    assert_eq!(fixture.upload_part(&forged, content.slice(..5)).await, None);
}

fn signature(upload: &PresignedUpload) -> String {
    let name = if upload.url.contains("X-Amz-Signature") { "X-Amz-Signature=" } else { "signature=" };
    let (_, rest) = upload.url.split_once(name).unwrap();
    rest.split('&').next().unwrap().to_owned()
}
