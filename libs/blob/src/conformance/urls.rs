//! Guarantee *url*.

use std::sync::Arc;

use super::{
    Fixture,
    tools::{key, put, read, read_all},
};
use crate::PresignedUpload;

const STRANGE: &str = "run/a b/ü#?%.png";

pub(super) async fn works(fixture: Arc<dyn Fixture>) {
    let blobs = fixture.open().await;
    let upload = blobs.presign(&key(STRANGE), "image/png", None).await.unwrap();
    assert!(fixture.upload(&upload, Some("image/png"), "first".into()).await);
    let (meta, bytes) = read(&*blobs, STRANGE, None).await.unwrap();
    assert_eq!((meta.content_type.as_str(), bytes.as_slice()), ("image/png", b"first".as_slice()));
}

pub(super) async fn of_another_key_is_refused(fixture: Arc<dyn Fixture>) {
    let blobs = fixture.open().await;
    put(&*blobs, "run/other", "untouched").await;
    let upload = blobs.presign(&key(STRANGE), "image/png", None).await.unwrap();
    let other = blobs.presign(&key("run/other"), "image/png", None).await.unwrap();

    // The address of one upload with the signature of the other.
    let (address, _) = other.url.split_once('?').unwrap();
    let (_, token) = upload.url.split_once('?').unwrap();
    let forged = PresignedUpload { url: format!("{address}?{token}"), ..upload.clone() };
    assert!(!fixture.upload(&forged, Some("image/png"), "forged".into()).await);
    let unsigned = PresignedUpload { url: address.to_owned(), ..upload };
    assert!(!fixture.upload(&unsigned, Some("image/png"), "unsigned".into()).await);
    assert_eq!(read_all(&*blobs, "run/other").await.unwrap(), b"untouched");
}

pub(super) async fn content_type_is_optional(fixture: Arc<dyn Fixture>) {
    let blobs = fixture.open().await;
    for (at, content_type) in
        [("run/none", None), ("run/same", Some("image/png")), ("run/other", Some("text/css"))]
    {
        let upload = blobs.presign(&key(at), "image/png", None).await.unwrap();
        assert!(fixture.upload(&upload, content_type, at.to_owned().into()).await, "{at}");
        let (meta, bytes) = read(&*blobs, at, None).await.unwrap();
        assert_eq!(bytes, at.as_bytes());
        if let Some(content_type) = content_type {
            assert_eq!(meta.content_type, content_type);
        }
    }
}

pub(super) async fn size_is_signed(fixture: Arc<dyn Fixture>) {
    let blobs = fixture.open().await;
    let upload = blobs.presign(&key("run/sized"), "image/png", Some(5)).await.unwrap();
    for other in ["", "four", "sixsix"] {
        assert!(!fixture.upload(&upload, Some("image/png"), other.into()).await, "{other}");
    }
    assert_eq!(read_all(&*blobs, "run/sized").await, None);
    assert!(fixture.upload(&upload, Some("image/png"), "fives".into()).await);
    assert_eq!(read_all(&*blobs, "run/sized").await.unwrap(), b"fives");
    let empty = blobs.presign(&key("run/empty"), "", Some(0)).await.unwrap();
    assert!(fixture.upload(&empty, None, "".into()).await);
}

pub(super) async fn expires(fixture: Arc<dyn Fixture>) {
    let blobs = fixture.open().await;
    let upload = fixture.presign_expired(&key("run/late")).await;
    assert!(!fixture.upload(&upload, None, "late".into()).await);
    assert_eq!(read_all(&*blobs, "run/late").await, None);
}
