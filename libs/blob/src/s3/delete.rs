//! Deleting many at once. S3 answers well and tells each key that stays; a key that it tells nothing of counts as staying.

use std::collections::HashSet;

use aws_sdk_s3::{
    config::http::HttpRequest,
    types::{Delete, ObjectIdentifier},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};

use super::{client, failure::Refusal, stored::Stored};
use crate::{BlobKey, Error};

const DOING: &str = "deleting";

/// Each key that is still there, and why.
pub(super) async fn delete(stored: &Stored, keys: &[BlobKey]) -> Vec<(BlobKey, Error)> {
    let object = |key: &BlobKey| ObjectIdentifier::builder().key(key.as_str()).build();
    let objects: Result<_, _> = keys.iter().map(object).collect();
    let delete = Delete::builder().set_objects(Some(objects.expect("each has a key")));
    let request = stored.client.delete_objects().bucket(&stored.place.bucket);
    let request = request.delete(delete.build().expect("it has objects"));
    let request = request.customize().config_override(client::once()).mutate_request(sign_with_md5);
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) => {
            let error = stored.place.failure(DOING, error);
            return keys.iter().map(|key| (key.clone(), error.clone())).collect();
        }
    };
    let gone: HashSet<_> = answer.deleted().iter().filter_map(|deleted| deleted.key()).collect();
    let reason = |key: &BlobKey| {
        let Some(error) = answer.errors().iter().find(|error| error.key() == Some(key.as_str())) else {
            return Some(Error::unavailable("the store did not say that it is gone"));
        };
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let refusal =
            Refusal { code: text(error.code()), message: text(error.message()), ..Refusal::default() };
        // That it is not there is what was asked for.
        (refusal.code != "NoSuchKey").then(|| stored.place.refused(DOING, &refusal))
    };
    let left = keys.iter().filter(|key| !gone.contains(key.as_str()));
    left.filter_map(|key| Some((key.clone(), reason(key)?))).collect()
}

/// S3 once asked for this header; Amazon takes newer checksums, which the client sends, and others still insist.
fn sign_with_md5(request: &mut HttpRequest) {
    if let Some(body) = request.body().bytes() {
        let digest = STANDARD.encode(Md5::digest(body));
        request.headers_mut().insert("content-md5", digest);
    }
}
